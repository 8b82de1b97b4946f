"""Page 05: what each engine cost to build and what it gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from runbook_lib.artifacts import Interval, TradeOff, TradeOffRow
from runbook_lib.ui.figures.labels import Mark, place_labels
from runbook_lib.ui.style import GOOD, GREY, MUTED, Figure, figure, note
from runbook_lib.ui.words import count, listed, milliseconds, plain, plural, seconds

__all__ = ["pareto_figure"]

HEIGHT = 380
WIDTHS = (480.0, 580.0, 700.0, 850.0, 1000.0)
"""Widths of the plot, from a narrow cell to a wide one: labels must have room in each."""
SMALLEST, LARGEST = 10.0, 36.0
ALL_NAMED = 14
"""With more rows only those of the front are named and carry their intervals."""
WHISKER = "#7b8794"
LONGEST = 26


@dataclass(frozen=True)
class Point:
    """A measured row by what is drawn of it."""

    row: TradeOffRow
    p95: Interval
    rate: Interval
    x: float
    y: float


def pareto_figure(tradeoff: TradeOff) -> Figure:
    """p95 of the whole answer (ms) against tokens per second; a mark's area is the build time.

    Rows on the Pareto front over all objectives are filled, the others hollow; the line joins
    those of the front that no other beats in this very plane. Rows that failed are named below the title.
    """
    points = _points(tradeoff)
    ranges = [
        _range([end for point in points for end in _ends(point.p95)]),
        _range([end for point in points for end in _ends(point.rate)]),
    ]
    diameters = _diameters(points)
    finding = _finding(tradeoff, points)
    return figure(
        _traces(points, diameters),
        finding=finding,
        basis=_basis(tradeoff, points),
        said=_said(tradeoff, points, finding),
        xaxis={
            "title": {"text": "p95 of the whole answer (ms); left is better"},
            "range": ranges[0],
        },
        yaxis={"title": {"text": "tokens per second; up is better"}, "range": ranges[1]},
        height=HEIGHT,
        legend={"itemsizing": "constant"},
        annotations=_labels(tradeoff, points, diameters, ranges),
    )


def _points(tradeoff: TradeOff) -> list[Point]:
    points = []
    for row in tradeoff.rows:
        p95, rate = row.p95_total_ms, row.tokens_per_second
        if p95 and rate and p95.value is not None and rate.value is not None:
            points.append(Point(row, p95, rate, p95.value, rate.value))
    # The first to be labelled finds the best place: the choice, then the rest of the front.
    return sorted(
        points, key=lambda point: (point.row.label != tradeoff.best, not point.row.pareto)
    )


def _range(values: Sequence[float]) -> list[float]:
    """Around all values with room for labels; not from 0, since positions are compared, not lengths."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.15 or abs(high) * 0.2 or 1.0
    return [low - room, high + room]


def _ends(interval: Interval) -> list[float]:
    return [end for end in (interval.low, interval.value, interval.high) if end is not None]


def _diameters(points: Sequence[Point]) -> list[float]:
    longest = max((point.row.build_time_s or 0.0 for point in points), default=0.0)
    return [
        max(SMALLEST, LARGEST * ((point.row.build_time_s or 0.0) / longest) ** 0.5)
        if longest
        else SMALLEST
        for point in points
    ]


def _traces(points: Sequence[Point], diameters: Sequence[float]) -> list[Figure]:
    front, few = _plane_front(points), len(points) <= ALL_NAMED
    traces: list[Figure] = []
    if len(front) > 1:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "showlegend": False,
                "hoverinfo": "skip",
                "x": [point.x for point in front],
                "y": [point.y for point in front],
                "line": {"color": GOOD, "width": 1.5, "dash": "dot"},
            }
        )
    for pareto, name, color, symbol in (
        (False, "another is better or equal in everything", GREY, "circle-open"),
        (True, "Pareto front", GOOD, "circle"),
    ):
        chosen = [place for place, point in enumerate(points) if point.row.pareto is pareto]
        if chosen:
            some = [points[place] for place in chosen]
            traces.append(
                _marks(
                    some,
                    [diameters[place] for place in chosen],
                    name,
                    color,
                    symbol,
                    barred=pareto or few,
                )
            )
    return traces


def _plane_front(points: Sequence[Point]) -> list[Point]:
    """The Pareto rows that no other point beats in p95 and tokens per second, by p95."""
    best, front = float("-inf"), []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if point.y > best:
            best = point.y
            front += [point] if point.row.pareto else []
    return front


def _marks(
    points: Sequence[Point],
    sizes: Sequence[float],
    name: str,
    color: str,
    symbol: str,
    *,
    barred: bool,
) -> Figure:
    marker: Figure = {
        "size": [round(one, 1) for one in sizes],
        "color": color,
        "symbol": symbol,
        "opacity": 1,
    }
    marker["line"] = {"color": "white" if symbol == "circle" else color, "width": 1.5}
    bars = {
        "error_x": _bars([point.p95 for point in points]),
        "error_y": _bars([point.rate for point in points]),
    }
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "marker": marker,
        "hovertext": [plain(_words(point)) for point in points],
        "hoverinfo": "text",
        **(bars if barred else {}),
    }


def _bars(intervals: Sequence[Interval]) -> Figure:
    known = [(one.value or 0.0, one.low, one.high) for one in intervals]
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if high is None else max(high - value, 0.0) for value, _, high in known],
        "arrayminus": [0.0 if low is None else max(value - low, 0.0) for value, low, _ in known],
        "color": WHISKER,
        "thickness": 1,
        "width": 3,
    }


def _labels(
    tradeoff: TradeOff,
    points: Sequence[Point],
    diameters: Sequence[float],
    ranges: Sequence[Sequence[float]],
) -> list[Figure]:
    across, up = (partial(_share, bounds) for bounds in ranges)
    few = len(points) <= ALL_NAMED
    named = [_label(point.row, tradeoff.best, every=few) for point in points]
    marks = [
        Mark(
            (across(point.x), up(point.y)),
            diameter / 2,
            [across(end) for end in _ends(point.p95)] if few or point.row.pareto else (),
            [up(end) for end in _ends(point.rate)] if few or point.row.pareto else (),
        )
        for point, diameter in zip(points, diameters, strict=True)
    ]
    notes = []
    for one in place_labels(marks, named, widths=WIDTHS, height=HEIGHT):
        point = points[one.point]
        where: Figure = {"xshift": one.right, "yshift": one.up}
        if one.far:
            where = {"ax": one.right, "ay": -one.up, "showarrow": True, "arrowhead": 0}
            where |= {"arrowwidth": 0.8, "arrowcolor": MUTED, "standoff": marks[one.point].radius}
        text = plain(named[one.point])
        notes.append(note(text, x=point.x, y=point.y, xanchor="center", yanchor="middle", **where))
    return notes


def _share(bounds: Sequence[float], value: float) -> float:
    return (value - bounds[0]) / (bounds[1] - bounds[0])


def _label(row: TradeOffRow, best: str, *, every: bool) -> str:
    if not (every or row.pareto or row.label == best):
        return ""
    label = row.label if len(row.label) <= LONGEST else row.label[: LONGEST - 1] + "…"
    return f"{label} (best)" if row.label == best else label


def _finding(tradeoff: TradeOff, points: Sequence[Point]) -> str:
    if not points:
        return f"None of {plural(len(tradeoff.rows), 'engine')} could be measured"
    best = next((point for point in points if point.row.label == tradeoff.best), None)
    if best is not None:
        return f"{best.row.label} is the choice: {count(round(best.y, 1))} tokens/s, p95 {milliseconds(best.x)}"
    front = sum(point.row.pareto for point in points)
    return f"On the Pareto front: {front:,} of {plural(len(points), 'measured engine')}"


def _basis(tradeoff: TradeOff, points: Sequence[Point]) -> str:
    failed = [row.label for row in tradeoff.rows if row.status == "failed"]
    parts = [
        f"Load {tradeoff.load_profile}, the same for all. Area of a mark: build time{_build_range(points)}"
    ]
    if any(point.p95.low is not None or point.rate.low is not None for point in points):
        parts.append(
            "bars: 95 % intervals"
            if len(points) <= ALL_NAMED
            else "bars: 95 % intervals of the front"
        )
    if points:
        sizes = [point.p95.n for point in points]
        each = (
            f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        )
        parts.append(f"n = {each} requests each")
    if failed:
        parts.append(f"failed: {listed(failed[:4])}{' and more' if len(failed) > 4 else ''}")
    if missing := len(tradeoff.rows) - len(points) - len(failed):
        parts.append(f"{missing:,} without p95 or rate")
    return "; ".join(parts)


def _build_range(points: Sequence[Point]) -> str:
    times = [point.row.build_time_s for point in points if point.row.build_time_s is not None]
    if not times:
        return " (not measured)"
    return (
        f", {seconds(min(times))} to {seconds(max(times))}"
        if max(times) > min(times)
        else f", {seconds(times[0])}"
    )


def _words(point: Point) -> str:
    row = point.row
    built = (
        "build not measured"
        if row.build_time_s is None
        else f"built in {seconds(row.build_time_s)}"
    )
    return f"{row.label}: p95 {point.p95.text('ms')}, {point.rate.text('tokens/s')}, {built}"


def _said(tradeoff: TradeOff, points: Sequence[Point], finding: str) -> str:
    failed = sum(row.status == "failed" for row in tradeoff.rows)
    rows = "; ".join(_words(point) for point in points)
    end = f". {failed:,} failed" if failed else ""
    load = f"{plural(len(points), 'engine')} under load {tradeoff.load_profile}"
    return f"{finding}. {load}{': ' + rows if rows else ''}{end}."
