"""Progress for people: a line that redraws itself in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = ["Spinner", "Terminal"]

WIDTH = 24
FULL, EMPTY = "█", "·"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f-\x9f]")


def _live(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class _Line:
    """One line, and a table below it: redrawn at most ten times a second where that is possible."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = _live(stream)
        self.drawn = 0.0
        self.below = 0

    def draw(self, text: str, table: Sequence[str] = (), *, force: bool = False) -> None:
        now = time.monotonic()
        if self.live and (force or now - self.drawn > 0.1):
            self.drawn = now
            columns, rows = shutil.get_terminal_size()
            # One line each, whatever a builder or a server says: a line end or a colour would break it.
            shown = [CONTROL.sub(" ", one)[: columns - 1] for one in (text, *table)]
            del shown[max(rows - 1, 1) :]  # what scrolled away could not be drawn again
            self.stream.write(self._back() + "\n".join(shown))
            self.below = len(shown) - 1
            self.stream.flush()

    def _back(self) -> str:
        """To the first column of the first line, with nothing in it and below."""
        up = f"\x1b[{self.below}F\x1b[0J" if self.below else "\r\x1b[2K"
        self.below = 0
        return up

    def clear(self) -> None:
        """Take away what was drawn last, so that an error begins on a line of its own."""
        if self.live:
            self.stream.write(self._back())
            self.stream.flush()

    def end(self, text: str) -> None:
        self.stream.write(f"{self._back()}{text}\n" if self.live else f"{text}\n")
        self.stream.flush()


class Terminal:
    """Draws a run: one line a page, with cells, seconds and the step at work."""

    def __init__(self, stream: TextIO) -> None:
        self.line = _Line(stream)
        self.page = ""
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.line.clear()

    def __call__(self, kind: str, what: Any) -> None:
        """Take an event of `run_pages`."""
        if kind == "run":
            self.line.end(f"record    {os.path.relpath(what.folder)}")
        elif kind == "lab":
            self.line.draw(f"starting the lab {what}", force=True)
        elif kind == "line":
            self.line.draw(what)
        elif kind == "page":
            self.page, self.began = what.name, time.monotonic()
            self.line.draw(f"{self.page:<20} starting", force=True)
        elif kind == "cell":
            self._cell(what)
        elif kind == "page_done":
            self._done(what)

    def _cell(self, event: Any) -> None:
        share = event.index / max(event.total, 1)
        bar = FULL * round(share * WIDTH) + EMPTY * (WIDTH - round(share * WIDTH))
        seconds = time.monotonic() - self.began
        self.line.draw(
            f"{self.page:<20} {bar} {event.index}/{event.total} {seconds:5.1f} s  {event.description}"
        )

    def _done(self, result: Any) -> None:
        words = {"completed": "ok", "held": "held", "failed": "FAILED", "not_run": "not run"}
        self.line.end(f"{result.page:<20} {words[result.status]:<8} {result.seconds:6.1f} s")


class Spinner:
    """A single step that takes longer than a second: what it says, and for how long."""

    def __init__(self, label: str, stream: TextIO) -> None:
        self.label = label
        self.line = _Line(stream)
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        self.line.draw(f"{self.label} …", force=True)
        return self

    def __call__(self, *told: Any) -> None:
        """Show the last word of the step; what has several lines is a word and a table."""
        text, *table = " ".join(str(one) for one in told).split("\n")
        self.line.draw(f"{self.label} {time.monotonic() - self.began:5.1f} s  {text}", table)

    def share(self, done: float, note: str = "") -> None:
        """Show how much is done, and what is at work."""
        self(f"{done:,.10g}", note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self.began
        if kind is not None:
            self.line.clear()
        elif self.line.live or seconds > 1:
            self.line.end(f"{self.label}: {seconds:.1f} s")
