"""Which of several engines are worth having: the Pareto front, and one to take. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.artifacts import Interval, TradeOffRow

__all__ = ["OBJECTIVES", "choose", "mark_front"]

OBJECTIVES = ("build time, lower", "p95 latency, lower", "tokens/s, higher")
Point = tuple[float, float, float]
"""The three objectives of a row, each the better the lower."""


def mark_front(rows: Sequence[TradeOffRow]) -> tuple[TradeOffRow, ...]:
    """The rows, each told whether it is on the Pareto front of the three objectives.

    A row is on the front when no other is at least as good in all three and better in one.
    Rows that failed or lack a figure are never on it.
    """
    points = [_point(row) for row in rows]
    known = [point for point in points if point is not None]
    return tuple(
        row.model_copy(update={"pareto": mine is not None and _on_front(mine, known)})
        for row, mine in zip(rows, points, strict=True)
    )


def _on_front(mine: Point, points: Sequence[Point]) -> bool:
    return not any(_dominates(other, mine) for other in points)


def _point(row: TradeOffRow) -> Point | None:
    p95, rate = row.p95_total_ms, row.tokens_per_second
    if row.status != "measured" or row.build_time_s is None or p95 is None or rate is None:
        return None
    if p95.value is None or rate.value is None:
        return None
    return (row.build_time_s, p95.value, -rate.value)


def _dominates(one: Point, other: Point) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(mine <= theirs for mine, theirs in pairs) and any(
        mine < theirs for mine, theirs in pairs
    )


def choose(rows: Sequence[TradeOffRow]) -> tuple[str, str]:
    """The engine to take, with the reason: the fastest whose accuracy is not below the first one's.

    "Not below" means that its 95 % interval reaches the first engine's accuracy. Engines whose
    throughput intervals overlap are told apart by build time.

    Returns:
        The label and the reason; an empty label when nothing was measured.
    """
    measured = [row for row in rows if _point(row) is not None]
    if not measured:
        thin = any(row.status == "measured" for row in rows)
        return "", (
            "The samples are too few for a p95: send more requests."
            if thin
            else "No engine could be measured."
        )
    reference = measured[0]
    kept = [row for row in measured if _as_accurate(row.accuracy, reference.accuracy)]
    lost = [row.label for row in measured if row not in kept]
    fastest = max(kept, key=_rate)
    peers = [row for row in kept if _overlap(row.tokens_per_second, fastest.tokens_per_second)]
    best = min(peers, key=lambda row: row.build_time_s or 0.0)
    reason = f"{best.label} has the highest throughput without a measurable loss of accuracy"
    if len(peers) > 1:
        reason = f"{best.label} builds fastest among {len(peers)} engines of equal throughput (intervals overlap)"
    if lost:
        reason += f"; left out for lower accuracy: {', '.join(lost)}"
    return best.label, reason + "."


def _rate(row: TradeOffRow) -> float:
    return (row.tokens_per_second.value or 0.0) if row.tokens_per_second else 0.0


def _as_accurate(mine: Interval | None, reference: Interval | None) -> bool:
    if mine is None or reference is None or mine.high is None or reference.value is None:
        return True
    return mine.high >= reference.value


def _overlap(one: Interval | None, other: Interval | None) -> bool:
    if one is None or other is None or one == other:
        return True
    if one.high is None or other.low is None:
        return False
    return one.high >= other.low
