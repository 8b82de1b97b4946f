"""What a reader must know before trusting the figures of a load (pure): plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from runbook_lib.artifacts import Interval
from runbook_lib.bench.intervals import least_samples
from runbook_lib.bench.records import CHUNKS, Arrival, LoadRun, RequestRecord

__all__ = ["find"]

Figures = Mapping[str, Mapping[str, Interval]]

_CPU_FULL = 0.9
_LATE_MS = 5.0
_COUNT_SLACK = 5
"""Requests, and per cent of them: Triton counts an answer shortly after it has sent it."""

_WORTH_TELLING = 0.01
_LEAST_SECONDS = 2.0


def find(run: LoadRun, figures: Figures, *, window_seconds: float) -> tuple[str, ...]:
    """All findings of a load, the gravest first.

    Args:
        run: the load.
        figures: `ttft_ms`, `itl_ms`, `tpot_ms` and `e2e_ms`, each by percentile.
        window_seconds: length of the steady window.
    """
    return (
        *_failures(run),
        *_token_counts(run),
        *_client(run),
        *_company(run),
        *_samples(figures, window_seconds),
        *_outputs(run),
        *_load_shape(run),
    )


def _failures(run: LoadRun) -> Iterator[str]:
    if run.stopped_early:
        yield f"The load was stopped early: {run.stopped_early}."
    failed = [record for record in run.records if not record.ok]
    if not failed:
        return
    (kind, words), count = Counter((one.error_kind, one.error) for one in failed).most_common(1)[0]
    share = len(failed) / len(run.records)
    yield (
        f"{len(failed)} of {len(run.records)} requests failed ({share:.1%}); {count} said "
        f"{kind}: {words}. Latencies and rates are those of the others."
    )
    if share > 1 - 0.95:
        yield "Counting a failure as an endless answer, p95 of every latency is infinite."


def _token_counts(run: LoadRun) -> Iterator[str]:
    good = run.succeeded
    if any(record.token_source == CHUNKS for record in good):
        yield (
            "The server gives no token counts: chunks were counted, tokens/s and TPOT are left out, "
            "and ITL is the gap between chunks."
        )
    over = sum(record.tokens_out > run.load.max_tokens for record in good)
    if over:
        yield (
            f"{over} answers count more tokens than max_tokens = {run.load.max_tokens}: the server's "
            "counts are not tokens per response (running totals?), so don't trust tokens/s, TPOT "
            "and ITL."
        )


def _client(run: LoadRun) -> Iterator[str]:
    busy = run.cpu_seconds / run.wall_seconds if run.wall_seconds else 0.0
    if busy > _CPU_FULL:
        yield (
            f"This client was busy for {busy:.0%} of a processor core: it measured itself. Send less "
            "from one process."
        )
    if run.load.arrival == "poisson":
        errors = sorted((one.sent_ns - one.scheduled_ns) / 1e6 for one in run.records)
        late = errors[int(0.99 * (len(errors) - 1))]
        if late > _LATE_MS:
            yield (
                f"The client was late: 1 % of the requests left {late:.1f} ms or more after their "
                "schedule (latencies count from the schedule)."
            )


def _company(run: LoadRun) -> Iterator[str]:
    sent, served = len(run.records), run.server.get(f"{run.model}.success", 0.0)
    if served > sent + max(_COUNT_SLACK, _COUNT_SLACK / 100 * sent):
        yield (
            f"The server answered {served:.0f} requests while this client sent {sent}: something else "
            "loads it too."
        )


def _samples(figures: Figures, window_seconds: float) -> Iterator[str]:
    for name in ("ttft_ms", "e2e_ms"):
        rows = figures[name]
        missing = [p for p, one in rows.items() if one.value is None and p != "mean" and one.n]
        if missing:
            least = least_samples(int(missing[0][1:]) / 100)
            yield (
                f"{_title(name)}: {rows[missing[0]].n} samples are too few for "
                f"{', '.join(missing)} ({missing[0]} needs {least})."
            )
        unbounded = [p for p, one in rows.items() if one.value is not None and one.low is None]
        if unbounded:
            yield (
                f"{_title(name)}: the samples depend on each other so much that {', '.join(unbounded)} "
                "can't be bounded; send more requests."
            )
    if window_seconds < _LEAST_SECONDS:
        yield f"The load was steady for only {window_seconds:.2f} s; rates of so short a time vary."


def _outputs(run: LoadRun) -> Iterator[str]:
    good = run.succeeded
    cut = sum(record.tokens_out == run.load.max_tokens for record in good)
    if cut:
        yield f"{cut / len(good):.0%} of the outputs were cut off at max_tokens = {run.load.max_tokens}."
    if not run.load.streaming:
        yield "The answers were not streamed, so TTFT, ITL and TPOT were not measured."
        return
    later = [arrival.tokens for record in good for arrival in _after_first(record)]
    together = sum(tokens for tokens in later if tokens > 1)
    if later and together / sum(later) > _WORTH_TELLING:
        yield (
            f"{together / sum(later):.0%} of the tokens came several at once; their ITL is the gap "
            "divided by their number."
        )


def _load_shape(run: LoadRun) -> Iterator[str]:
    if run.load.arrival == "closed":
        yield (
            "A closed loop waits for the server before it sends more, so it hides queueing; a Poisson "
            "load shows it."
        )
    if run.distinct_prompts < len(run.records):
        yield (
            f"{len(run.records)} requests shared {run.distinct_prompts} prompts; a server that caches "
            "prompts answers repeated ones faster."
        )


def _after_first(record: RequestRecord) -> list[Arrival]:
    return [arrival for arrival in record.arrivals if arrival.tokens][1:]


def _title(name: str) -> str:
    return {"ttft_ms": "TTFT", "e2e_ms": "End-to-end latency"}[name]
