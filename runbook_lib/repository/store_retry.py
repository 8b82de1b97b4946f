"""Trying again, with jitter and an end; and many things at once, with a bound."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["THREADS", "in_parallel", "retried"]

T = TypeVar("T")

THREADS = 8
FIRST_WAIT, LONGEST_WAIT = 0.2, 8.0  # seconds


def retried(call: Callable[[], T], patience: Callable[[Exception], float]) -> T:
    """What a call returns, tried again while its errors are worth it.

    Each wait is drawn from zero to a bound that doubles, so that many clients which were cut at
    once do not return at once.

    Args:
        call: done again from its start.
        patience: for how many seconds after the first try an error is worth another one.

    Raises:
        Exception: the call's last.
    """
    began, bound = time.monotonic(), FIRST_WAIT
    while True:
        try:
            return call()
        except Exception as error:
            pause = random.uniform(0, bound)  # noqa: S311 - no secret is drawn
            if time.monotonic() - began + pause >= patience(error):
                raise
        time.sleep(pause)
        bound = min(2 * bound, LONGEST_WAIT)


def in_parallel(calls: Iterable[Callable[[], T]], threads: int = THREADS) -> Iterator[T]:
    """What the calls return, as they end; no more are drawn than threads can begin soon.

    The first error ends it: what has not begun is dropped, what runs is waited for.
    """
    with ThreadPoolExecutor(threads, "store") as pool:
        pending: set[Future[T]] = set()
        try:
            for call in calls:
                pending.add(pool.submit(call))
                if len(pending) >= 2 * threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        finally:
            for one in pending:
                one.cancel()
