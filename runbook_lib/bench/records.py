"""What is kept of every request and of a whole load."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runbook_lib.bench.settings import LoadSettings

__all__ = ["CHUNKS", "Arrival", "LoadRun", "RequestRecord"]

CHUNKS = "chunks"
"""The token source of a server that gives no counts: a chunk with text counts as one, flagged."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Everything that one read of the socket brought: `tokens` in `events` at `at_ns`.

    Events that came in one read share its time: nobody can tell them apart.
    """

    at_ns: int
    tokens: int
    events: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request; times in ns of `time.perf_counter_ns`, `scheduled_ns` is the intended start.

    `sent_ns` is taken before the request is handed to the socket, `end_ns` after the last byte or
    the failure. `arrivals` has only reads that completed an event. A failed request has an
    `error_kind` and the `error` in the server's words, and `status` 0 where there was no answer.
    `tokens_in` is None where the server doesn't say. `text` is the beginning of the output.
    """

    index: int
    scheduled_ns: int
    sent_ns: int
    end_ns: int
    status: int
    arrivals: tuple[Arrival, ...] = ()
    tokens_in: int | None = None
    token_source: str = ""
    error_kind: str = ""
    error: str = ""
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether the whole answer came, with at least one token and no error in it."""
        return not self.error_kind

    @property
    def tokens_out(self) -> int:
        """Output tokens by the server's counts (or chunks, see `token_source`)."""
        return sum(arrival.tokens for arrival in self.arrivals)


@dataclass(frozen=True)
class LoadRun:
    """A load that was sent: one record a request, in order of their index, warm-up left out.

    `cpu_seconds` is the processor time of this whole process over `wall_seconds`, first to last
    request. `server` is what the server counted meanwhile (`runbook_lib.bench.server`).
    `stopped_early` says why fewer requests were sent than asked; empty otherwise.
    """

    url: str
    model: str
    load: LoadSettings
    records: tuple[RequestRecord, ...]
    start_ns: int
    started_at: datetime
    wall_seconds: float
    cpu_seconds: float
    distinct_prompts: int
    server: dict[str, float] = field(default_factory=dict)
    stopped_early: str = ""

    @property
    def succeeded(self) -> tuple[RequestRecord, ...]:
        """The records of the requests that were answered whole."""
        return tuple(record for record in self.records if record.ok)
