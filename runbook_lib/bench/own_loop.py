"""Run a coroutine in an event loop of its own thread, so that a notebook's loop does not matter."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["run_in_own_loop"]

T = TypeVar("T")

_TICK_S = 0.1


def run_in_own_loop(work: Callable[[], Coroutine[Any, Any, T]], tick: Callable[[], None]) -> T:
    """Run `work()` to its end and return its result; `tick` is called here ten times a second.

    An exception here, such as Ctrl-C or one of `tick`, cancels the work, waits until it has cleaned
    up, and is raised.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(work())
    result: Future[T] = Future()
    thread = threading.Thread(target=_drive, args=(loop, task, result), name="load", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_TICK_S)
            tick()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the work has ended by itself
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    return result.result()


def _drive(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T], result: Future[T]) -> None:
    try:
        result.set_result(loop.run_until_complete(task))
    except BaseException as error:
        result.set_exception(error)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
