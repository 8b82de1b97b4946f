"""Ctrl-C and SIGTERM as one exception, raised once, so that what must be saved can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "interruptible"]

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Somebody asked the run to end."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` at the first Ctrl-C or SIGTERM, and let no second one disturb the saving.

    Signals reach a process's main thread only: in another thread this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _WATCHED}

    def end(number: int, _: FrameType | None) -> None:
        for one in _WATCHED:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted("Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    for number in _WATCHED:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
