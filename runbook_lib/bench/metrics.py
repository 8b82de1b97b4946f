"""What is measured, by definition, and how a load becomes a `Measurement` (pure).

For a request with intended start `s`, sending `a`, arrivals of tokens `t1 … tk`, `n1` tokens in the
first arrival and `n` in all, each by `time.perf_counter_ns`:

ttft    t1 - a; from `s` for an open loop, so that a late client can't hide (coordinated omission).
        Arrivals without a token don't count.
e2e     tk - a; from `s` for an open loop. The last byte may come later (`total_ms` of the CSV).
tpot    (tk - t1) / (n - n1): one figure a request; undefined, never 0, where n = n1.
itl     the gap between neighbouring arrivals; one that brings k tokens counts as k gaps of 1/k, and
        the share of these is reported. Events that came in one read of the socket are one arrival.
rates   successful requests, by the fraction of their time that lies in the window, and tokens, by
        their arrival in it, per second of the steady window.

These are the definitions of NVIDIA's NIM benchmarking guide (TTFT without empty responses, ITL
without the first token) and of the OpenTelemetry GenAI conventions (`time_per_output_token` after
the first token, successful requests only). Percentiles are Hyndman-Fan type 7, as numpy's.
Failed requests count in `failed` and `errors`, never in a latency or a rate.

The steady window begins with the end of the first answer, when requests no longer go in step. That
of a closed loop ends with the first answer after the last sending, when the load begins to drain;
that of an open loop with its last intended start. A load too short for it is taken whole.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runbook_lib.artifacts import Interval, Measurement
from runbook_lib.bench.findings import find
from runbook_lib.bench.intervals import mean_interval, percentile_interval, rate_interval
from runbook_lib.bench.records import CHUNKS, Arrival, LoadRun, RequestRecord
from runbook_lib.errors import LoadError

__all__ = ["Window", "e2e_ms", "itl_ms", "measure", "steady_window", "tpot_ms", "ttft_ms"]

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_PARTS = 10
_MS = 1e6


@dataclass(frozen=True)
class Window:
    """The part of a load that rates are taken from, in ns of the load's clock."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.start_ns) / 1e9


def ttft_ms(record: RequestRecord, *, scheduled: bool = False) -> float:
    """Milliseconds to the first token, from sending or from the intended start."""
    start = record.scheduled_ns if scheduled else record.sent_ns
    return (_with_tokens(record)[0].at_ns - start) / _MS


def e2e_ms(record: RequestRecord, *, scheduled: bool = False) -> float:
    """Milliseconds to the last token, from sending or from the intended start."""
    start = record.scheduled_ns if scheduled else record.sent_ns
    return (_with_tokens(record)[-1].at_ns - start) / _MS


def tpot_ms(record: RequestRecord) -> float | None:
    """Milliseconds a token after the first arrival; None where there is no later token."""
    arrivals = _with_tokens(record)
    later = record.tokens_out - arrivals[0].tokens
    return (arrivals[-1].at_ns - arrivals[0].at_ns) / later / _MS if later else None


def itl_ms(records: Sequence[RequestRecord]) -> list[float]:
    """Gaps between tokens of all records in ms, in the order of their arrival."""
    gaps = [
        (later.at_ns, (later.at_ns - earlier.at_ns) / later.tokens / _MS, later.tokens)
        for record in records
        for earlier, later in itertools.pairwise(_with_tokens(record))
    ]
    return [gap for _, gap, tokens in sorted(gaps) for _ in range(tokens)]


def steady_window(run: LoadRun) -> Window:
    """The part of a load without its ramp and its drain (see the module's text)."""
    ends = [record.end_ns for record in run.records]
    last = max(record.scheduled_ns for record in run.records)
    drain = last if run.load.arrival == "poisson" else min(end for end in ends if end >= last)
    begin = min(ends)
    return Window(begin, drain) if begin < drain else Window(run.start_ns, max(ends))


def measure(
    run: LoadRun, *, load_profile: str = "", engine_digest: str = "", data: str = ""
) -> Measurement:
    """The figures of a load, with intervals, and all that a reader must know about them.

    Args:
        run: from `run_load`.
        load_profile: its name.
        engine_digest: of the engine that answered, where known.
        data: where the CSV of every request lies, relative to the record.

    Raises:
        LoadError: no request succeeded, so there is nothing to measure.
    """
    good = sorted(run.succeeded, key=lambda record: record.sent_ns)
    if not good:
        raise LoadError(
            f"None of {len(run.records)} requests succeeded, so nothing was measured.",
            why="; ".join(sorted({record.error for record in run.records}))[:500],
            page="06_troubleshoot",
        )
    open_loop = run.load.arrival == "poisson"
    window = steady_window(run)
    by_server = all(record.token_source != CHUNKS for record in good)
    streamed = good if run.load.streaming else []
    figures = {
        "ttft_ms": _figures([ttft_ms(record, scheduled=open_loop) for record in streamed]),
        "itl_ms": _figures(itl_ms(streamed)),
        "tpot_ms": _figures(
            [t for one in streamed if (t := tpot_ms(one)) is not None and by_server]
        ),
        "e2e_ms": _figures([e2e_ms(record, scheduled=open_loop) for record in good]),
    }
    tokens = _token_rate(good, window) if by_server else Interval(value=None, n=len(good))
    failures = [record for record in run.records if not record.ok]
    return Measurement(
        load_profile=load_profile,
        arrival=run.load.arrival,
        url=run.url,
        model=run.model,
        engine_digest=engine_digest,
        concurrency=run.load.concurrency,
        rate=run.load.rate,
        max_tokens=run.load.max_tokens,
        requests=len(run.records),
        failed=len(failures),
        errors=dict(Counter(record.error_kind for record in failures).most_common()),
        seconds=run.wall_seconds,
        token_source=_token_source(good),
        tokens_in=sum(record.tokens_in or 0 for record in good),
        tokens_out=sum(record.tokens_out for record in good),
        tokens_per_second=tokens,
        requests_per_second=_request_rate(good, window),
        findings=find(run, figures, window_seconds=window.seconds),
        server=run.server,
        data=data,
        **figures,
    )


def _with_tokens(record: RequestRecord) -> list[Arrival]:
    return [arrival for arrival in record.arrivals if arrival.tokens]


def _figures(samples: Sequence[float]) -> dict[str, Interval]:
    figures = {"mean": mean_interval(samples)}
    return figures | {name: percentile_interval(samples, p) for name, p in PERCENTILES.items()}


def _token_source(records: Sequence[RequestRecord]) -> str:
    sources = sorted({record.token_source for record in records})
    return " and ".join(one if one == CHUNKS else f"server:{one}" for one in sources)


def _token_rate(records: Sequence[RequestRecord], window: Window) -> Interval:
    events = [(arrival.at_ns, float(arrival.tokens)) for one in records for arrival in one.arrivals]
    return _rate([(at, at, amount) for at, amount in events], window, len(records))


def _request_rate(records: Sequence[RequestRecord], window: Window) -> Interval:
    spans = [(record.sent_ns, record.end_ns, 1.0) for record in records]
    return _rate(spans, window, len(records))


def _rate(spans: Sequence[tuple[int, int, float]], window: Window, n: int) -> Interval:
    """Amounts spread evenly over their spans, summed in equal parts of the window."""
    length = window.end_ns - window.start_ns
    if length <= 0:
        return Interval(value=None, n=n)
    amounts = [0.0] * _PARTS
    for start, end, amount in spans:
        for part, share in _shares(
            (start - window.start_ns) / length, (end - window.start_ns) / length
        ):
            amounts[part] += amount * share
    return rate_interval(amounts, window.seconds, n)


def _shares(start: float, end: float) -> Iterator[tuple[int, float]]:
    """How much of the span `start`..`end` lies in each part of 0..1; a moment is in one part."""
    if end <= start:
        if 0 <= start < 1:
            yield int(start * _PARTS), 1.0
        return
    for part in range(_PARTS):
        inside = min(end, (part + 1) / _PARTS) - max(start, part / _PARTS)
        if inside > 0:
            yield part, inside / (end - start)
