"""When a load is pointless: nothing succeeds, or nothing is heard any more (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PATIENCE_S", "Health"]

PATIENCE_S = 25.0
"""Silence after which a load ends, so that a command on a dead endpoint ends within 30 s."""

_LEAST_TRIES = 10


@dataclass
class Health:
    """Counts what a load met, and says when to give up.

    Args:
        concurrency: requests in flight of a closed loop, else 1.
        started: seconds, of any clock that all calls share.
        streaming: only a stream shows signs of life before its end.
    """

    concurrency: int
    started: float
    streaming: bool
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    _busy_since: float = 0.0
    _alive: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._alive = self.started

    def began(self, now: float) -> None:
        """A request was sent."""
        if not self.in_flight:
            self._busy_since = now
        self.in_flight += 1

    def heard(self, now: float) -> None:
        """A part of an answer came."""
        self._alive = now

    def ended(self, now: float, *, ok: bool) -> None:
        """A request was answered or failed."""
        self.in_flight -= 1
        self.failed += not ok
        if ok:
            self.succeeded += 1
            self._alive = now

    def verdict(self, now: float) -> str:
        """Why to give up; empty while there is hope.

        All of the first `max(10, concurrency)` requests failed, or nothing but failures came for
        `PATIENCE_S`, or requests in flight have been silent for that long. Answers that are not
        streamed may take longer: their timeout judges them.
        """
        if not self.succeeded and self.failed >= max(_LEAST_TRIES, self.concurrency):
            return f"all of the first {self.failed} requests failed, warm-up included"
        if not self.succeeded and self.failed and now - self._alive > PATIENCE_S:
            return f"nothing succeeded in {now - self._alive:.0f} s"
        silent = now - max(self._alive, self._busy_since)
        if self.streaming and self.in_flight and silent > PATIENCE_S:
            return f"{self.in_flight} requests in flight were silent for {silent:.0f} s"
        return ""
