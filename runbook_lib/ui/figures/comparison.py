"""Page 04: the same service under several loads, with the interval of every figure."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.artifacts import Interval, Measurement
from runbook_lib.ui.style import PALETTE, Figure, figure, log_axis, rows_axis
from runbook_lib.ui.words import milliseconds, plural

__all__ = ["load_comparison_figure"]

KINDS = (("ttft_ms", "TTFT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E"))
PERCENTILES = ("p50", "p95")
LEAST = 0.001
"""A log scale has no 0: 1 µs stands for less."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")


def load_comparison_figure(measurements: Sequence[Measurement]) -> Figure:
    """Median and p95 of TTFT, ITL and E2E per load, ms on a log scale, with 95 % intervals.

    A figure that its sample can't carry is left out; one without an interval has no bar.
    """
    rows = [
        (f"{short} {name}", key, name)
        for key, short in KINDS
        for name in PERCENTILES
        if any(_figure(one, key, name).value is not None for one in measurements)
    ]
    names = _names(measurements)
    traces = [
        _trace(one, names[place], place, len(measurements), rows)
        for place, one in enumerate(measurements)
    ]
    finding = _finding(measurements, names)
    return figure(
        [trace for trace in traces if trace["x"]],
        finding=finding,
        basis=f"{_sizes(measurements)}. Bars are 95 % intervals; a figure whose sample is too small is left out",
        said=f"Latency in ms under {plural(len(measurements), 'load')}: "
        + (_words(measurements, names, rows) or finding)
        + ".",
        xaxis=_time_axis(measurements),
        yaxis={**rows_axis([label for label, _, _ in rows]), "zeroline": False},
        height=max(120, len(rows) * max(34, 16 * len(measurements))),
    )


def _figure(one: Measurement, key: str, name: str) -> Interval:
    figures: dict[str, Interval] = getattr(one, key)
    return figures.get(name, Interval(value=None))


def _time_axis(measurements: Sequence[Measurement]) -> Figure:
    known = [
        _figure(one, key, name) for one in measurements for key, _ in KINDS for name in PERCENTILES
    ]
    ends = [
        max(end, LEAST)
        for one in known
        for end in (one.value, one.low, one.high)
        if end is not None
    ]
    return log_axis("ms, log scale", min(ends, default=1.0) / 1.3, max(ends, default=10.0) * 1.3)


def _names(measurements: Sequence[Measurement]) -> list[str]:
    """One name a load, with its profile where the arrivals alone don't tell them apart."""
    names = [_name(one) for one in measurements]
    return [
        f"{name} ({one.load_profile})" if names.count(name) > 1 else name
        for name, one in zip(names, measurements, strict=True)
    ]


def _sizes(measurements: Sequence[Measurement]) -> str:
    answered = [one.requests - one.failed for one in measurements]
    if not answered:
        return "n = 0"
    span = (
        f"{min(answered):,}"
        if min(answered) == max(answered)
        else f"{min(answered):,} to {max(answered):,}"
    )
    return f"n = {span} answered requests{' each' if len(answered) > 1 else ''}"


def _name(one: Measurement) -> str:
    if one.arrival == "closed":
        return f"closed loop, {one.concurrency or 1:,} at once"
    return f"Poisson, {one.rate or 0:.3g} a second"


def _trace(
    one: Measurement, name: str, place: int, loads: int, rows: Sequence[tuple[str, str, str]]
) -> Figure:
    shown = [(row, _figure(one, key, what)) for row, (_, key, what) in enumerate(rows)]
    known = [
        (row, interval, interval.value) for row, interval in shown if interval.value is not None
    ]
    aside = (place - (loads - 1) / 2) * min(0.26, 0.8 / loads)
    color = PALETTE[place % len(PALETTE)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [max(value, LEAST) for _, _, value in known],
        "y": [row + aside for row, _, _ in known],
        "marker": {"color": color, "size": 9, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_reach(interval.high, value) for _, interval, value in known],
            "arrayminus": [_reach(value, interval.low) for _, interval, value in known],
            "color": color,
            "thickness": 1.5,
            "width": 4,
        },
        "hovertext": [
            f"{name}: {interval.text('ms')}, n = {interval.n:,}" for _, interval, _ in known
        ],
        "hoverinfo": "text",
    }


def _reach(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else max(high - low, 0.0)


def _finding(measurements: Sequence[Measurement], names: Sequence[str]) -> str:
    """The first two loads by the p95 of TTFT (E2E where nothing was streamed)."""
    for key, short in (("ttft_ms", "TTFT"), ("e2e_ms", "E2E")):
        figures = [
            (_figure(one, key, "p95"), name) for one, name in zip(measurements, names, strict=True)
        ]
        known = [(one, one.value, name) for one, name in figures if one.value is not None]
        if len(known) >= 2:
            (first, low, a), (second, high, b) = sorted(known[:2], key=lambda pair: pair[1])
            if first.high is None or second.low is None:
                return f"p95 {short}: {milliseconds(low)} under {a}, {milliseconds(high)} under {b}"
            if first.high >= second.low:
                return f"p95 {short} does not differ beyond its intervals: {milliseconds(low)} and {milliseconds(high)}"
            return f"p95 {short} is {milliseconds(high)} under {b}, {milliseconds(low)} under {a}"
    return f"{plural(len(measurements), 'load')}: too few samples to compare the p95"


def _words(
    measurements: Sequence[Measurement], names: Sequence[str], rows: Sequence[tuple[str, str, str]]
) -> str:
    said = []
    for one, name in zip(measurements, names, strict=True):
        figures = [f"{label} {_figure(one, key, what).text('ms')}" for label, key, what in rows]
        said.append(f"{name} (n = {one.requests - one.failed:,}): {', '.join(figures)}")
    return "; ".join(said)
