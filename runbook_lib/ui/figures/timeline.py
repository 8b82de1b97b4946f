"""Page 04: every request of a load as a bar in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib.ui.style import BAD, NEUTRAL, PALETTE, Figure, figure
from runbook_lib.ui.words import plural, seconds

__all__ = ["timeline_figure"]

ROWS = 120
"""Requests drawn; of more, so many in a row from the middle: what ran together stays together."""
SECONDS = 1000.0

WAITED, FIRST, ANSWER, FAILED = (
    "late: waited for the client",
    "to the first token",
    "to the last token",
    "failed",
)
COLORS = {WAITED: NEUTRAL, FIRST: PALETTE[4], ANSWER: PALETTE[0], FAILED: BAD}


def timeline_figure(columns: Mapping[str, Sequence[Any]], *, source: str = "") -> Figure:
    """When each request waited, was being read, and was answered; seconds after the load's start.

    Args:
        columns: per request `scheduled_ms`, `sent_ms`, `first_token_ms` (or None), `end_ms`, all
            after the load's start, and `ok` (`columns_of`).
        source: the load and the service, for the subtitle.
    """
    starts, ends = columns["scheduled_ms"], columns["end_ms"]
    order = sorted(range(len(starts)), key=lambda index: (starts[index], index))
    begin = max(0, (len(order) - ROWS) // 2)
    chosen = order[begin : begin + ROWS]
    parts: dict[str, list[tuple[int, float, float]]] = {name: [] for name in COLORS}
    for row, index in enumerate(chosen):
        for name, start, end in _spans(columns, index):
            parts[name].append((row, start, end))
    failed = sum(not ok for ok in columns["ok"])
    lasted, most = (
        seconds(max(ends, default=0.0) / SECONDS),
        _most_at_once(columns["sent_ms"], ends),
    )
    requests = plural(len(order), "request")
    drawn = f"; drawn: {begin + 1:,} to {begin + ROWS:,}" if len(order) > ROWS else ""
    size = f"n = {requests} in order of their intended start{drawn}"
    finding = f"{requests} in {lasted}, at most {most:,} at once; {f'{failed:,}' if failed else 'none'} failed"
    return figure(
        [_trace(name, spans) for name, spans in parts.items() if spans],
        finding=finding,
        basis=". ".join(part for part in (source, size) if part),
        said=f"Requests over time in seconds ({size}): {finding}.",
        xaxis={
            "title": {"text": "seconds after the load's start"},
            "range": _window(columns, chosen),
        },
        yaxis={
            "title": {"text": "requests"},
            "range": [max(len(chosen), 1) - 0.5, -0.5],
            "showticklabels": False,
            "ticks": "",
            "showgrid": False,
        },
        height=max(120, min(len(chosen) * 10, 360)),
        barmode="overlay",
    )


def _spans(columns: Mapping[str, Sequence[Any]], index: int) -> list[tuple[str, float, float]]:
    scheduled, sent, end = (
        float(columns[name][index]) for name in ("scheduled_ms", "sent_ms", "end_ms")
    )
    first = columns["first_token_ms"][index]
    spans = [(WAITED, scheduled, sent)] if sent - scheduled >= 1 else []
    if not columns["ok"][index]:
        return [*spans, (FAILED, sent, end)]
    if first is None:
        return [*spans, (ANSWER, sent, end)]
    return [*spans, (FIRST, sent, float(first)), (ANSWER, float(first), end)]


def _window(columns: Mapping[str, Sequence[Any]], chosen: Sequence[int]) -> list[float]:
    first = min((columns["scheduled_ms"][index] for index in chosen), default=0.0) / SECONDS
    last = max((columns["end_ms"][index] for index in chosen), default=1.0) / SECONDS
    edge = (last - first) * 0.01 or 1.0
    return [max(first - edge, 0.0), last + edge]


def _trace(name: str, spans: list[tuple[int, float, float]]) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [row for row, _, _ in spans],
        "x": [round((end - begin) / SECONDS, 4) for _, begin, end in spans],
        "base": [round(begin / SECONDS, 4) for _, begin, _ in spans],
        "width": 0.8,
        "marker": {"color": COLORS[name], "line": {"width": 0}},
        "hovertemplate": name + ": %{x:.3f} s from %{base:.3f} s<extra></extra>",
    }


def _most_at_once(sent: Sequence[float], ends: Sequence[float]) -> int:
    changes = sorted([(end, -1) for end in ends] + [(start, 1) for start in sent])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most
