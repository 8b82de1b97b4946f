"""Answers that stay open, ended from another thread than the one that reads them."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

__all__ = ["Hangup"]


class Hangup:
    """Holds open answers; once it hangs up they end, and so does every later one."""

    def __init__(self) -> None:
        self._held: set[Any] = set()
        self._lock = threading.Lock()
        self.done = False

    def hold(self, answer: Any) -> None:
        """Count an answer in while it is read."""
        with self._lock:
            self._held.add(answer)
            if self.done:
                _end(answer)

    def release(self, answer: Any) -> None:
        """It has been read to its end; its reader closes it."""
        with self._lock:
            self._held.discard(answer)

    def hang_up(self) -> None:
        """End all of them: whoever reads sees the connection closed."""
        with self._lock:
            self.done = True
            for answer in self._held:
                _end(answer)


def _end(answer: Any) -> None:
    # Closing would wait for the reader; what is at its end by itself can't be shut down.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        answer.shutdown()
