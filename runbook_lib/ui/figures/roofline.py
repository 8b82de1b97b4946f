"""Page 00: how fast a deployment will be, against how many sequences run at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from runbook_lib.ui.style import BAD, GOOD, INK, Figure, figure, log_axis
from runbook_lib.ui.words import listed, plain, plural

__all__ = ["roofline_figure"]

BAND, EDGE = "rgba(0,114,178,0.14)", "rgba(0,114,178,0.35)"
BOUNDS = {
    "memory": "reading weights and cache",
    "compute": "arithmetic",
    "communication": "messages between GPUs",
    "overhead": "launching and scheduling",
}
LEAST = 1e-3
"""A log scale has no 0: a token in a thousand seconds stands for less."""


def roofline_figure(
    batches: Sequence[int],
    low: Sequence[float],
    middle: Sequence[float],
    high: Sequence[float],
    *,
    chosen: int,
    knee: int,
    deployed: str,
    input_len: int,
    output_len: int,
    bound: str,
    nearest: int,
    extrapolated: Sequence[str] = (),
) -> Figure:
    """Output tokens per second of a replica against the sequences at once, with the interval.

    Args:
        batches: sequences at once, from 1 to what the memory holds.
        low: tokens/s at each of them, the interval's lower end.
        middle: the estimate.
        high: the upper end.
        chosen: the batch of the profile, one of `batches`.
        knee: the batch up to which batching is nearly free.
        deployed: model and devices in a few words.
        input_len: tokens of each prompt.
        output_len: tokens of each answer.
        bound: what takes most of the time at `chosen`: a key of `BOUNDS`.
        nearest: how many published points are the most like this deployment.
        extrapolated: what no published point covers.
    """
    at = list(batches).index(chosen)
    spent = f"most of the time goes into {BOUNDS[bound]}"
    finding = (
        f"About {_rate(middle[at])} tokens/s with {chosen:,} at once, "
        f"between {_rate(low[at])} and {_rate(high[at])}"
    )
    ground = f"n = {plural(nearest, 'published point')} nearest"
    strange = f". Extrapolated: {listed(list(extrapolated))}" if extrapolated else ""
    return figure(
        [
            _band(batches, low, high),
            _line(batches, middle),
            _knee(batches, middle, knee),
            _mark(chosen, middle[at], f"the profile: {chosen:,} at once", "circle", INK),
        ],
        finding=finding,
        basis=f"{deployed}, prompts of {input_len:,} and answers of {output_len:,} tokens. "
        f"Estimated, not measured ({ground}){strange}",
        said=f"Output tokens per second against sequences at once from {batches[0]:,} to {batches[-1]:,}: "
        f"{finding}; batching is nearly free up to {knee:,}, and {spent}.",
        xaxis=log_axis("sequences at once, log scale", 0.9, max(batches[-1], 2) * 1.15),
        yaxis=log_axis(
            "output tokens/s of a replica, log scale",
            max(min(low), LEAST) / 1.3,
            max(*high, LEAST) * 1.3,
        ),
    )


def _rate(value: float) -> str:
    """Two figures: no estimate is worth more."""
    return f"{float(f'{value:.2g}'):,.10g}"


def _band(batches: Sequence[int], low: Sequence[float], high: Sequence[float]) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "interval: 9 of 10 left-out points lay in theirs",
        "x": [*batches, *reversed(batches)],
        "y": [_positive(value) for value in (*high, *reversed(low))],
        "line": {"color": EDGE, "width": 1},
        "fill": "toself",
        "fillcolor": BAND,
        "hoverinfo": "skip",
    }


def _line(batches: Sequence[int], middle: Sequence[float]) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "estimate",
        "x": list(batches),
        "y": [_positive(value) for value in middle],
        "line": {"color": GOOD, "width": 2.5},
        "hovertemplate": "about %{y:.2s} tokens/s with %{x:,} at once<extra></extra>",
    }


def _knee(batches: Sequence[int], middle: Sequence[float], knee: int) -> Figure:
    """A mark on the line where the knee is, between the drawn batches if need be."""
    name = f"batching is nearly free up to {knee:,}"
    for (left, below), (right, above) in pairwise(zip(batches, middle, strict=True)):
        if left <= knee <= right:
            share = (knee - left) / (right - left)
            return _mark(knee, below + share * (above - below), name, "diamond", BAD)
    return _mark(batches[-1], middle[-1], name, "diamond", BAD)


def _mark(batch: int, value: float, name: str, symbol: str, color: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": [batch],
        "y": [_positive(value)],
        "marker": {"color": color, "size": 11, "symbol": symbol},
        "hoverinfo": "name",
    }


def _positive(value: float) -> float:
    return max(float(f"{value:.4g}"), LEAST)
