"""Ctrl-C and SIGTERM as one exception, raised once, so that what must be saved can be saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["Interrupted", "interruptible"]

PATIENCE: Final = 10.0  # seconds in which a repeated signal does not disturb the saving
_WATCHED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """Somebody asked the run to end."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` at Ctrl-C, SIGTERM and a closed terminal.

    A second signal within ten seconds is not heard, so that the saving comes to its end; a later
    one is, in case the saving hangs. A signal that this process was started to ignore (`nohup`)
    stays ignored. Signals reach a process's main thread only: in another thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = float("-inf")

    def end(number: int, _: FrameType | None) -> None:
        nonlocal heard
        if time.monotonic() - heard < PATIENCE:
            return
        heard = time.monotonic()
        raise Interrupted("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    found = {number: signal.getsignal(number) for number in _WATCHED}
    before = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
