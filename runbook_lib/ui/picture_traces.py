"""Bars and scatters of a plotly figure, drawn onto matplotlib's axes."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import RecordError
from runbook_lib.ui.style import INK, PALETTE, TEXT, Figure
from runbook_lib.ui.words import BREAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "DASHES",
    "POINTS_PER_PIXEL",
    "Drawn",
    "color",
    "draw_traces",
    "known",
    "spoken",
    "undrawable",
]

POINTS_PER_PIXEL = 0.72
"""Points per CSS pixel on a canvas of 100 CSS pixels an inch."""

DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": (0, (5, 3)),
    "dot": (0, (1.5, 2)),
    "dashdot": (0, (5, 2, 1.5, 2)),
}
SYMBOLS = {
    "circle": "o",
    "circle-open": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "x": "X",
}
STEPS: dict[str, Any] = {"hv": "steps-post", "vh": "steps-pre", "linear": "default"}


@dataclass(frozen=True)
class Drawn:
    """What the legend needs of a trace; without a name it stays out of it."""

    handle: Any
    name: str


def draw_traces(axes: Axes, traces: Sequence[Figure], layout: Mapping[str, Any]) -> list[Drawn]:
    """Draw every trace.

    Raises:
        RecordError: a trace is neither bar nor scatter, or has a mode that isn't drawn here.
    """
    ways: dict[str, Callable[[Axes, Figure, str], Any]] = {
        "bar": _Bars(traces, str(layout.get("barmode", "group"))),
        "scatter": _scatter,
    }
    drawn = []
    for number, trace in enumerate(traces):
        kind = str(trace.get("type", "scatter"))
        if kind not in ways:
            raise undrawable(f"a trace of the kind {kind!r}")
        handle = ways[kind](axes, trace, PALETTE[number % len(PALETTE)])
        name = trace.get("name", "") if trace.get("showlegend", True) else ""
        drawn.append(Drawn(handle, str(name or "")))
    return drawn


def undrawable(what: str) -> RecordError:
    """The error for a part of a figure that has no picture: it must not vanish from the record."""
    return RecordError(
        f"The figure has {what}; no picture can be made of it.",
        why="Every figure is kept with a picture, which is drawn of bars, lines, markers and notes only.",
        fix="Draw it with those, or teach runbook_lib/ui/picture_traces.py the new part.",
    )


def known(table: Mapping[str, Any], word: str, what: str) -> Any:
    """What plotly's word for a dash, a symbol or a step means to matplotlib.

    Raises:
        RecordError: it isn't in the table.
    """
    if word not in table:
        raise undrawable(f"the {what} {word!r}")
    return table[word]


def spoken(text: object) -> str:
    """Plotly's text as plain text: entities read, `<br>` as a line's end."""
    return html.unescape(str(text).replace(BREAK, "\n"))


def color(name: str) -> Any:
    """Plotly's colour as matplotlib's: names and `#rrggbb` are the same, `rgba()` is not."""
    if not name.startswith("rgb"):
        return name
    parts = [float(part) for part in name[name.index("(") + 1 : name.rindex(")")].split(",")]
    return (*(part / 255 for part in parts[:3]), *parts[3:4])


def _column(values: Any) -> list[Any]:
    """A column of a trace: a list, or the packed form that plotly makes of NumPy arrays."""
    if values is None:
        return []
    if isinstance(values, Mapping):
        import numpy as np

        packed = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
        return [float(value) for value in packed]
    return list(values)


def _each(value: Any, length: int) -> list[Any]:
    """One value for every point: plotly takes a single one for all."""
    return list(value) if isinstance(value, list | tuple) else [value] * length


class _Bars:
    """Bars that stand beside, on, or over each other, as plotly's barmode says."""

    def __init__(self, traces: Sequence[Figure], mode: str) -> None:
        self.mode = mode
        self.all = sum(trace.get("type") == "bar" for trace in traces)
        self.drawn = 0
        self.tops: dict[Any, float] = {}

    def __call__(self, axes: Axes, trace: Figure, otherwise: str) -> Any:
        lying = trace.get("orientation") == "h"
        places = _column(trace.get("y" if lying else "x"))
        values = _column(trace.get("x" if lying else "y"))
        marker = trace.get("marker") or {}
        colors = [color(one or otherwise) for one in _each(marker.get("color"), len(values))]
        thick = float(trace.get("width") or 0.7)
        if self.mode == "group" and self.all > 1:
            thick = 0.8 / self.all
            places = [
                place + (self.drawn + 0.5) * thick - 0.4
                for place in self._numbers(axes, places, lying)
            ]
        starts = self._starts(trace, places, values)
        draw = axes.barh if lying else axes.bar
        bars = draw(places, values, thick, starts, color=colors, linewidth=0)
        self.drawn += 1
        _bar_texts(axes, trace, places, starts, values)
        return bars

    def _numbers(self, axes: Axes, places: list[Any], lying: bool) -> list[float]:
        if not places or not isinstance(places[0], str):
            return places
        axis: Axis = axes.yaxis if lying else axes.xaxis
        axis.update_units(places)
        return [float(axis.convert_units(place)) for place in places]

    def _starts(self, trace: Figure, places: list[Any], values: list[Any]) -> list[float]:
        if (base := trace.get("base")) is not None:
            return [float(one) for one in _each(base, len(values))]
        if self.mode not in {"stack", "relative"}:
            return [0.0] * len(values)
        starts = [self.tops.get(place, 0.0) for place in places]
        self.tops.update(
            {
                place: start + value
                for place, start, value in zip(places, starts, values, strict=True)
            }
        )
        return starts


def _bar_texts(
    axes: Axes, trace: Figure, places: list[Any], starts: list[float], values: list[Any]
) -> None:
    if trace.get("text") is None or trace.get("textposition") == "none":
        return
    lying, outside = trace.get("orientation") == "h", trace.get("textposition") == "outside"
    texts = _each(trace["text"], len(values))
    for place, start, value, text in zip(places, starts, values, texts, strict=True):
        along = start + value if outside else start + value / 2
        gap = 4 * POINTS_PER_PIXEL if outside else 0
        axes.annotate(
            spoken(text),
            (along, place) if lying else (place, along),
            xytext=(gap, 0) if lying else (0, gap),
            textcoords="offset points",
            ha=("left" if outside else "center") if lying else "center",
            va="center" if lying or not outside else "bottom",
            fontsize=TEXT * POINTS_PER_PIXEL,
            color=INK if outside else "white",
            annotation_clip=False,
            zorder=5,
        )


def _scatter(axes: Axes, trace: Figure, otherwise: str) -> Any:
    mode = str(trace.get("mode", "lines"))
    if not set(mode.split("+")) <= {"lines", "markers"}:
        raise undrawable(f"a scatter of the mode {mode!r}")
    x, y = _column(trace.get("x")), _column(trace.get("y"))
    line, marker = trace.get("line") or {}, trace.get("marker") or {}
    if trace.get("fill"):
        ground = color(trace.get("fillcolor", "rgba(0,0,0,0.1)"))
        paint = axes.fill if trace["fill"] == "toself" else axes.fill_between
        paint(x, y, color=ground, linewidth=0, zorder=1.5)
    if "lines" in mode:
        steps = known(STEPS, str(line.get("shape", "linear")), "line shape")
        axes.plot(x, y, **_line_style(line, otherwise), drawstyle=steps, zorder=3)
    if "markers" in mode:
        _markers(axes, x, y, marker, otherwise)
    _error_bars(axes, x, y, trace, otherwise)
    return _handle(mode, line, marker, otherwise)


def _line_style(line: Mapping[str, Any], otherwise: str) -> Figure:
    return {
        "color": color(line.get("color", otherwise)),
        "linestyle": known(DASHES, str(line.get("dash", "solid")), "dash"),
        "linewidth": line.get("width", 2) * POINTS_PER_PIXEL,
    }


def _handle(mode: str, line: Mapping[str, Any], marker: Mapping[str, Any], otherwise: str) -> Any:
    """The sign of a scatter in the legend, of one size whatever its marks have."""
    from matplotlib.lines import Line2D

    sign = Line2D([], [], linestyle="none")
    if "lines" in mode:
        sign.set(**_line_style(line, otherwise))
    if "markers" in mode:
        symbol, ink = (_each(marker.get(key), 1) or [None] for key in ("symbol", "color"))
        shape = str(symbol[0] or "circle")
        sign.set(marker=known(SYMBOLS, shape, "symbol"), markersize=9 * POINTS_PER_PIXEL)
        sign.set(markeredgecolor=color(ink[0] or otherwise))
        sign.set(markerfacecolor="none" if shape.endswith("-open") else color(ink[0] or otherwise))
    return sign


def _markers(
    axes: Axes, x: list[Any], y: list[Any], marker: Mapping[str, Any], otherwise: str
) -> None:
    """Markers, one call a symbol, since matplotlib takes one symbol a call."""
    sizes = [float(size or 6) * POINTS_PER_PIXEL for size in _each(marker.get("size", 6), len(x))]
    inks = [color(one or otherwise) for one in _each(marker.get("color"), len(x))]
    symbols = [str(symbol or "circle") for symbol in _each(marker.get("symbol"), len(x))]
    edge = marker.get("line") or {}
    for symbol in dict.fromkeys(symbols):
        chosen = [index for index, one in enumerate(symbols) if one == symbol]
        some, hollow = [inks[index] for index in chosen], symbol.endswith("-open")
        axes.scatter(
            [x[index] for index in chosen],
            [y[index] for index in chosen],
            [sizes[index] ** 2 for index in chosen],
            marker=known(SYMBOLS, symbol, "symbol"),
            facecolors="none" if hollow else some,
            edgecolors=some if hollow else color(edge.get("color", "white")),
            linewidths=edge.get("width", int(hollow)) * POINTS_PER_PIXEL,
            zorder=4,
        )


def _error_bars(axes: Axes, x: list[Any], y: list[Any], trace: Figure, otherwise: str) -> None:
    for letter in ("x", "y"):
        spec = trace.get(f"error_{letter}")
        if not spec or spec.get("visible") is False:
            continue
        high = _column(spec.get("array"))
        low = _column(spec.get("arrayminus")) or high
        # No interval is no bar: matplotlib wants a length, so it gets none that can be seen.
        bounds: Any = [[value or 0.0 for value in low], [value or 0.0 for value in high]]
        axes.errorbar(
            x,
            y,
            xerr=bounds if letter == "x" else None,
            yerr=bounds if letter == "y" else None,
            fmt="none",
            ecolor=color(spec.get("color", otherwise)),
            elinewidth=spec.get("thickness", 1.5) * POINTS_PER_PIXEL,
            capsize=spec.get("width", 4) * POINTS_PER_PIXEL,
            zorder=3.5,
        )
