"""Text of logs, terminals and tickets as lines that can be matched: cleaned, unwrapped, joined.

Log text is data: what steers a terminal is taken out, and nothing in it is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["clean", "logical_lines", "wrapped_lines"]

LONGEST = 20_000  # characters of a line that are looked at
GROUP = 12  # lines that one message is taken to go on for
NARROW = 60  # no terminal that wraps is narrower
SLACK = 14  # a wrap at words ends this near to the edge

# Colours and titles of terminals, and whatever else steers one or turns the direction of text.
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
SPACES = re.compile(r"\s+")
QUOTED = re.compile(r"^(?:> ?)+")
# What Docker keeps a line in on disk.
KEPT = re.compile(r'^\{"log": ?"((?:[^"\\]|\\.)*)", ?"stream":')
# What container runtimes, kubectl, docker compose, syslog and collectors put before each line.
PREFIX = re.compile(
    r"^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w.-]{1,80} [\w./-]{1,40}(?:\[\d{1,8}\])?: "
    r"|\[pod/[^\]]{1,200}\] |[\w.-]{1,60} {1,20}\| |\d{4}-\d\d-\d\dT[\d:.,]{5,18}(?:Z|[+-]\d\d:?\d\d)? )"
    r"(?:(?:stdout|stderr) [FP] )?"
)
ESCAPED = re.compile(r"(?<!\\)\\n")
RULED = re.compile(r"^[+|][-=+| ]+$")


def clean(line: str) -> str:
    """One line without terminal control, escapes of JSON, quote marks and repeated blanks."""
    text = _message(line)
    if "\\" in text:
        text = ESCAPED.sub(" ", text).replace("\\t", " ").replace('\\"', '"')
    return SPACES.sub(" ", text).strip()


def _message(line: str) -> str:
    """A line without what was put before it; its own indentation stays."""
    text = QUOTED.sub("", CONTROL.sub("", line[:LONGEST]))
    if kept := KEPT.match(text):
        text = kept[1].removesuffix("\\n").replace('\\"', '"')
    return PREFIX.sub("", text)


def logical_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that says something, and of each message that goes on for several.

    A message goes on in lines that are indented, or in cells of a table below an empty first one.
    Numbers count from 1.
    """
    group: list[str] = []
    start = 0
    for number, raw in _unescaped(lines):
        line = clean(raw)
        if not line or RULED.match(line):
            continue
        said, goes_on = _cell(line) if line.startswith("|") else (line, _message(raw)[:1] in " \t")
        yield number, said
        if goes_on and group and len(group) < GROUP:
            group.append(said)
            continue
        yield from _joined(start, group)
        group, start = [said], number
    yield from _joined(start, group)


def _unescaped(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """A log inside a JSON string is one line with several in it."""
    for number, line in enumerate(lines, 1):
        for part in ESCAPED.split(line) if line.count("\\n") > 1 else (line,):
            yield number, part


def _joined(number: int, group: list[str]) -> Iterator[tuple[int, str]]:
    if len(group) > 1:
        yield number, " ".join(group)
        yield number, "".join(group)


def _cell(line: str) -> tuple[str, bool]:
    """A row of a table: its text, and whether it goes on with the row above."""
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if not cells[0] and any(cells):
        return next(cell for cell in reversed(cells) if cell), True
    return " ".join(cell for cell in cells if cell), False


def wrapped_lines(lines: list[str]) -> Iterator[tuple[int, str]]:
    """What stood in one line before a terminal or a mail wrapped it at its width.

    It is taken for wrapped where two lines or more end near the same, widest column. Whether that
    was between words or within one nobody knows: both readings are given.
    """
    widths = [len(line.rstrip()) for line in lines]
    widest = max(widths, default=0)
    near = sum(width >= widest - SLACK for width in widths)
    if widest < NARROW or near < min(2, len(lines) - 1):
        return
    start = 0
    group: list[str] = []
    for number, (line, width) in enumerate(zip(lines, widths, strict=True), 1):
        group.append(QUOTED.sub("", line))
        start = start or number
        if width >= widest - SLACK and number < len(lines):
            continue
        if len(group) > 1:
            yield start, clean(" ".join(group))
            yield start, clean("".join(group))
        start, group = 0, []
