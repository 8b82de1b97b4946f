"""Read texts as evidence: of any size, keeping what may matter."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.rulebook import Rulebook, rulebook
from runbook_lib.diagnose.text import logical_lines, wrapped_lines
from runbook_lib.errors import DiagnosisError
from runbook_lib.masking import mask_secrets

__all__ = ["from_file", "from_text", "kept_lines"]

ENDS = 200  # lines at the beginning and at the end that are kept whatever they say
MOST = 5_000  # lines that are kept of one source
UNWRAPPED = 2_000  # lines up to which a text is looked at as one that a terminal wrapped
CHUNK = 1 << 20
NUMBERS = re.compile(r"\d+|0x[0-9a-f]+")


def from_text(name: str, text: str, book: Rulebook | None = None) -> Evidence:
    """Evidence from a pasted or saved text."""
    lines = text.splitlines()
    kept = kept_lines(name, lines, book)
    return Evidence(tuple(kept), sources={name: f"{len(lines)} lines, {len(kept)} kept"})


def from_file(path: Path, book: Rulebook | None = None) -> Evidence:
    """Evidence from a file of any size, read once and never held whole.

    Raises:
        DiagnosisError: it can't be read.
    """
    try:
        with path.open("rb") as handle:
            kept = kept_lines(path.name, _lines(handle), book)
    except OSError as error:
        raise DiagnosisError(
            f"{path} can't be read.", why=str(error.strerror), fix="Check the path and its rights."
        ) from error
    return Evidence(tuple(kept), sources={path.name: f"{len(kept)} lines kept"})


def _lines(handle: IO[bytes]) -> Iterator[str]:
    """Lines of a file; one longer than a chunk is cut into lines, so that none fills the memory."""
    while piece := handle.readline(CHUNK):
        yield piece.decode("utf-8", "replace")


def kept_lines(source: str, lines: Iterable[str], book: Rulebook | None = None) -> list[Line]:
    """The lines that show a signal, the first and the last, and messages of several lines as one.

    A line that differs from one before only in its numbers is kept once.
    """
    book = book or rulebook()
    head = list(itertools.islice(iter(lines := iter(lines)), UNWRAPPED))
    kept: list[Line] = []
    tail: deque[Line] = deque(maxlen=ENDS)
    seen: set[str] = set()
    for number, text in logical_lines(_without_keys(itertools.chain(head, lines))):
        line = Line(source, text, number)
        shape = NUMBERS.sub("0", text)
        if number <= ENDS or (shape not in seen and len(kept) < MOST and book.shows(text)):
            kept.append(line)
        else:
            tail.append(line)
        if len(seen) < MOST:
            seen.add(shape)
    if len(head) < UNWRAPPED:
        joined = [
            Line(source, text, number) for number, text in wrapped_lines(list(_without_keys(head)))
        ]
        kept += [one for one in joined if book.shows(one.text)]
    masked = [Line(source, mask_secrets(one.text), one.number) for one in [*kept, *tail]]
    return list(dict.fromkeys(masked))


def _without_keys(lines: Iterable[str]) -> Iterator[str]:
    """Lines without the inside of private keys, which has no looks of its own."""
    inside = False
    for line in lines:
        inside = (inside or "PRIVATE KEY-----" in line) and "-----END" not in line
        yield "" if inside else line
