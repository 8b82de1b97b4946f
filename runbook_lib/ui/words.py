"""How figures, tables and progress put sizes, times, counts and long names into words."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

__all__ = [
    "BREAK",
    "count",
    "listed",
    "milliseconds",
    "percent",
    "plain",
    "plural",
    "seconds",
    "size",
    "size_unit",
    "wrapped",
]

BREAK = "<br>"
"""A line's end in the text of a figure."""

UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def size_unit(largest: float) -> tuple[str, int]:
    """The unit in which bytes up to `largest` read well, and its size in bytes."""
    return next(((unit, factor) for unit, factor in UNITS if largest >= factor), ("B", 1))


def size(count_of_bytes: float) -> str:
    """A number of bytes: `0 B`, `14.2 GiB`."""
    unit, factor = size_unit(count_of_bytes)
    return f"{count_of_bytes:.0f} B" if factor == 1 else f"{count_of_bytes / factor:.1f} {unit}"


def seconds(value: float) -> str:
    """A duration in seconds: `45 ms`, `12.3 s`, `3 min 20 s`, `2 h 05 min`."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    if value < 3599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def milliseconds(value: float) -> str:
    """A latency given in ms: `0.85 ms`, `12.3 ms`, `1.24 s`."""
    if value >= 1000:
        return f"{value / 1000:,.2f} s"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms"


def count(value: float) -> str:
    """A number for people: `10,000`, `0.25`, `1.2e+09`; never more than four digits of a fraction."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.1f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share between 0 and 1 as percent; a part that rounds to nothing says `<1 %`."""
    rounded = round(share * 100)
    if share > 0 and rounded == 0:
        return "<1 %"
    return ">99 %" if share < 1 and rounded == 100 else f"{rounded} %"


def plural(number: int, noun: str) -> str:
    """A number with its noun: `1 file`, `10,000 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(text: str) -> str:
    """Text for a figure that can't become markup there, on one line."""
    return html.escape(" ".join(text.split()), quote=False)


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """Text for a figure: escaped, broken at `width` characters, cut with `…` after `lines`."""
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    parts = textwrap.wrap(text, width, max_lines=lines, placeholder=" …", break_on_hyphens=False)
    return BREAK.join(plain(part) for part in parts)


def listed(names: Sequence[str]) -> str:
    """Names as a phrase: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
