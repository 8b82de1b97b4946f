"""Server-sent events out of raw bytes, however the network cut them."""

from __future__ import annotations

import re

__all__ = ["EventParser"]

_LINE_END = re.compile(rb"\r\n|\r|\n")


class EventParser:
    """Gives the `data` of each event as soon as its blank line has come.

    Follows the event stream grammar of the HTML standard (section 9.2): lines end with LF, CR or
    CRLF, one space after the colon is dropped, several `data` lines are joined by LF, comments and
    other fields are skipped, an event without data is none.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of all events that this chunk completes."""
        if self._after_cr and chunk:
            # CR ended its line at once; an LF that follows in the next chunk belongs to it.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if chunk.endswith(b"\r"):
            self._after_cr = True
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        return [event for line in lines if (event := self._line(line)) is not None]

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended: the stream was cut if nothing follows."""
        return bool(self._rest or self._data)

    def _line(self, line: bytes) -> bytes | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        event = b"\n".join(self._data) if self._data else None
        self._data = []
        return event
