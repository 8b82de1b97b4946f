"""Page 04: how the latencies of all requests are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runbook_lib.bench.intervals import percentile_interval
from runbook_lib.ui.style import MUTED, PALETTE, Figure, figure, line_at, log_axis, note
from runbook_lib.ui.words import milliseconds, plural

__all__ = ["latency_figure"]

KINDS = (
    ("ttft_ms", "TTFT", "time to the first token", "solid"),
    ("itl_ms", "ITL", "time between tokens", "dash"),
    ("e2e_ms", "E2E", "time to the last token", "dashdot"),
)
MARKS = {"p50": (0.50, "circle"), "p95": (0.95, "diamond")}
DRAWN = 160
"""Ranks drawn per curve where there are more samples; the marked percentiles use every sample."""


def latency_figure(columns: Mapping[str, Sequence[float]], *, source: str = "") -> Figure:
    """The share of requests (ITL: of tokens) that were answered within a time, ms, log scale.

    A percentile is marked only where the sample can carry it (p50 from 6, p95 from 72 samples).

    Args:
        columns: `ttft_ms`, `itl_ms`, `e2e_ms`; a missing or empty one is left out (`columns_of`).
        source: the load and the service, for the subtitle.
    """
    traces: list[Figure] = []
    said, sizes, thinned = [], [], False
    for number, (key, short, words, dash) in enumerate(KINDS):
        samples = columns.get(key) or ()
        if not len(samples):
            continue
        marks = {name: percentile_interval(samples, p).value for name, (p, _) in MARKS.items()}
        figures = [
            f"{name} {milliseconds(value)}" for name, value in marks.items() if value is not None
        ]
        traces += _curve(
            samples, f"{short}  {' · '.join(figures)}".strip(), PALETTE[number], dash, marks
        )
        said.append(
            f"{words} {', '.join(figures) or 'too few samples for a percentile'} (n = {len(samples):,})"
        )
        sizes.append(f"{short} {len(samples):,}")
        thinned |= len(samples) > DRAWN
    drawn = (
        f"; curves drawn through {DRAWN} ranks, percentiles from every sample" if thinned else ""
    )
    sizes_text = f"n: {', '.join(sizes)}{drawn}" if sizes else "n = 0"
    return figure(
        traces,
        finding=_finding(columns),
        basis=". ".join(part for part in (source, sizes_text) if part),
        said=f"Latencies in ms: {'; '.join(said) or 'no request was answered'}.",
        xaxis=_time_axis(columns),
        yaxis={
            "title": {"text": "share answered within"},
            "range": [0, 1.04],
            "tickformat": ".0%",
            **SHARES,
        },
        shapes=[line_at(y=p, dash="dot", color=MUTED) for p, _ in MARKS.values()],
        annotations=[
            note(name, x=1, y=p, xref="paper", xanchor="left", xshift=4)
            for name, (p, _) in MARKS.items()
        ],
        right=44,
    )


SHARES = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["0 %", "25 %", "50 %", "75 %", "100 %"]}


def _finding(columns: Mapping[str, Sequence[float]]) -> str:
    first, whole = columns.get("ttft_ms") or (), columns.get("e2e_ms") or ()
    chosen, words = (first, "the first token") if len(first) else (whole, "the whole answer")
    for p, many in ((0.95, "95 of 100"), (0.50, "Half of the")):
        value = percentile_interval(chosen, p).value if len(chosen) else None
        if value is not None:
            return f"{many} requests had {words} within {milliseconds(value)}"
    return f"{plural(len(chosen), 'answered request')}: too few for a percentile"


def _curve(
    samples: Sequence[float], name: str, color: str, dash: str, marks: Mapping[str, float | None]
) -> list[Figure]:
    ordered = np.sort(np.asarray(samples, np.float64))
    size = len(ordered)
    ranks = np.unique(np.linspace(0, size - 1, min(size, DRAWN)).round().astype(int))
    shares = (ranks + 1) / size
    curve = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [_positive(ordered[0]), *(_positive(value) for value in ordered[ranks])],
        "y": [0.0, *(round(float(share), 4) for share in shares)],
        "line": {"color": color, "width": 2.5, "dash": dash, "shape": "hv"},
        "hovertemplate": "%{y:.1%} within %{x:.4g} ms<extra></extra>",
    }
    known = [(value, *MARKS[mark]) for mark, value in marks.items() if value is not None]
    points = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": [_positive(value) for value, _, _ in known],
        "y": [p for _, p, _ in known],
        "marker": {"color": color, "size": 9, "symbol": [symbol for _, _, symbol in known]},
        "hoverinfo": "skip",
    }
    return [curve, points] if known else [curve]


def _positive(value: float) -> float:
    """To four digits, and never 0, which a log scale can't show: 1 µs stands for less."""
    return max(float(f"{value:.4g}"), 0.001)


def _time_axis(columns: Mapping[str, Sequence[float]]) -> Figure:
    every = [_positive(value) for key, *_ in KINDS for value in _ends(columns.get(key) or ())]
    return log_axis(
        "ms, log scale", min(every, default=1.0) / 1.25, max(every, default=10.0) * 1.25
    )


def _ends(samples: Sequence[float]) -> tuple[float, ...]:
    return (min(samples), max(samples)) if len(samples) else ()
