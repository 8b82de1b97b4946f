"""The requests of a load as plain columns, for the figures that show every one of them."""

from __future__ import annotations

from typing import Any

from runbook_lib.bench.metrics import e2e_ms, itl_ms, ttft_ms
from runbook_lib.bench.records import LoadRun, RequestRecord

__all__ = ["Columns", "columns_of"]

Columns = dict[str, list[Any]]


def columns_of(run: LoadRun) -> Columns:
    """A load as columns, all in ms.

    Returns:
        The latencies of the answered requests as a Measurement defines them, `ttft_ms`, `itl_ms`
        and `e2e_ms` (from the intended start under Poisson arrivals); and for every request, after
        the load's start, `scheduled_ms`, `sent_ms`, `first_token_ms` (None without a token) and
        `end_ms`, with `ok`.
    """
    good = sorted(run.succeeded, key=lambda record: record.sent_ns)
    streamed = good if run.load.streaming else []
    open_loop = run.load.arrival == "poisson"
    columns: Columns = {
        "ttft_ms": [ttft_ms(record, scheduled=open_loop) for record in streamed],
        "itl_ms": itl_ms(streamed),
        "e2e_ms": [e2e_ms(record, scheduled=open_loop) for record in good],
    }
    times = {"scheduled_ms": "scheduled_ns", "sent_ms": "sent_ns", "end_ms": "end_ns"}
    for name, field in times.items():
        columns[name] = [(getattr(record, field) - run.start_ns) / 1e6 for record in run.records]
    columns["first_token_ms"] = [_first_token(record, run.start_ns) for record in run.records]
    columns["ok"] = [record.ok for record in run.records]
    return columns


def _first_token(record: RequestRecord, start_ns: int) -> float | None:
    seen = next((arrival.at_ns for arrival in record.arrivals if arrival.tokens), None)
    return None if seen is None else (seen - start_ns) / 1e6
