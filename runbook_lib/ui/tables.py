"""Small tables as HTML with a text twin."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.ui.words import count

__all__ = ["Table", "table"]

BADGES = {
    "PASS": ("#d7f0e5", "#00523b"),
    "WARN": ("#fdf0d0", "#6b4700"),
    "FAIL": ("#fbdcd0", "#8a2c00"),
}
"""Ground and ink of a verdict; the word itself stays, for where styles are stripped."""
COLUMN = 60
CELL = "padding:3px 10px;vertical-align:top;overflow-wrap:break-word;"


@dataclass(frozen=True)
class Table:
    """Rows under headers; as the last value of a cell it displays itself.

    Numbers stand to the right, None is an en dash (not measured), and a cell PASS, WARN or FAIL
    becomes a badge. Every text is escaped.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    caption: str = ""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        del include, exclude
        return {"text/html": self.html(), "text/plain": str(self)}

    def html(self) -> str:
        """The table as HTML that needs no style sheet and takes the page's colours."""
        caption = (
            f"<caption style='text-align:left'>{html.escape(self.caption)}</caption>"
            if self.caption
            else ""
        )
        head = ""
        if any(self.headers):
            numeric = [self._numeric(column) for column in range(len(self.headers))]
            cells = [
                _html_head(text, right=right)
                for text, right in zip(self.headers, numeric, strict=True)
            ]
            head = f"<thead><tr>{''.join(cells)}</tr></thead>"
        rows = "".join(f"<tr>{''.join(_html_cell(cell) for cell in row)}</tr>" for row in self.rows)
        return (
            "<div style='overflow-x:auto'><table style='border-collapse:collapse'>"
            f"{caption}{head}<tbody>{rows}</tbody></table></div>"
        )

    def __str__(self) -> str:
        shown = [list(self.headers)] if any(self.headers) else []
        lines = [
            [textwrap.wrap(_text(cell), COLUMN) or [""] for cell in row]
            for row in [*shown, *self.rows]
        ]
        widths = [
            max((len(part) for row in lines for part in row[column]), default=0)
            for column in range(len(self.headers))
        ]
        right = [self._numeric(column) for column in range(len(self.headers))]
        text = [line for row in lines for line in _text_lines(row, widths, right)]
        if shown:
            text.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.caption, *text] if self.caption else text)

    __repr__ = __str__

    def _numeric(self, column: int) -> bool:
        """Whether a column holds numbers and gaps only."""
        cells = [row[column] for row in self.rows]
        return any(_is_number(cell) for cell in cells) and all(
            cell is None or _is_number(cell) for cell in cells
        )


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> Table:
    """A small table.

    Args:
        headers: one a column; all empty leaves the head out.
        rows: cells as text, numbers, or None for what was not measured.
        caption: a line above it.

    Raises:
        ValueError: a row has another number of cells than there are headers.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"The row {row!r} has {len(row)} cells for {len(headers)} headers.")
    return Table(tuple(headers), tuple(tuple(row) for row in rows), caption)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _text(cell: object) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return count(cell) if isinstance(cell, int | float) else str(cell)


def _html_head(text: str, *, right: bool) -> str:
    side = "right" if right else "left"
    return f"<th scope='col' style='{CELL}text-align:{side}'>{html.escape(text)}</th>"


def _html_cell(cell: object) -> str:
    text = html.escape(_text(cell)).replace("\n", "<br>")
    if isinstance(cell, str) and cell in BADGES:
        ground, ink = BADGES[cell]
        look = f"background-color:{ground};color:{ink};padding:1px 8px;font-weight:bold"
        text = f"<span style='{look};white-space:nowrap'>{text}</span>"
    return f"<td style='{CELL}text-align:{'right' if _is_number(cell) else 'left'}'>{text}</td>"


def _text_lines(
    row: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]
) -> list[str]:
    lines = []
    for number in range(max((len(cell) for cell in row), default=0)):
        parts = [cell[number] if number < len(cell) else "" for cell in row]
        padded = [
            part.rjust(width) if numeric else part.ljust(width)
            for part, width, numeric in zip(parts, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines
