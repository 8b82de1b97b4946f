"""How much of what a cell puts out a record keeps."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = [
    "CELL_LIMIT",
    "ERROR_LIMIT",
    "MOST_OUTPUTS",
    "OUTPUT_LIMIT",
    "STREAM_LIMIT",
    "overwritten",
    "shorten",
    "trim",
]

STREAM_LIMIT: Final = 256 * 1024  # characters of printed text a cell may keep
OUTPUT_LIMIT: Final = 4 * 1024 * 1024  # characters of one displayed output
CELL_LIMIT: Final = 16 * 1024 * 1024  # characters of all displayed outputs of a cell
MOST_OUTPUTS: Final = 1000  # outputs a cell may keep
ERROR_LIMIT: Final = 64 * 1024  # characters of an error's text, and of each part of its traceback
WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"


def overwritten(text: str) -> str:
    """Text as a terminal leaves it: a lone carriage return starts its line again."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(_last_of(line) for line in lines)


def _last_of(line: str) -> str:
    """The last thing written on a line, with the return that lets the next piece replace it."""
    if "\r" not in line:
        return line
    head, _, end = line.rpartition("\r")
    return end or head.rpartition("\r")[2] + "\r"


def trim(out: Any, room: int = OUTPUT_LIMIT) -> int:
    """Drop a widget's view, which shows nothing in a record, and what is far too large.

    Returns:
        How many characters are kept.
    """
    data = out.get("data") or {}
    data.pop(WIDGET_VIEW, None)
    for kind, value in list(data.items()):
        size = _length(value)
        if size > min(OUTPUT_LIMIT, room):
            del data[kind]
            data["text/plain"] = f"[an output of {size:,} characters ({kind}) is not kept]"
    return sum(_length(value) for value in data.values())


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def shorten(out: Any) -> None:
    """Cut an error whose text alone is huge; its head says what it is."""
    out.evalue = out.evalue[:ERROR_LIMIT]
    out.traceback = [part[:ERROR_LIMIT] for part in out.traceback[:MOST_OUTPUTS]]
