"""The house style: one look for every figure, on screen and in print.

A figure is plotly's JSON form (a dict), so that making one imports nothing. Colours are those of
Okabe and Ito (2008), told apart by people who see colours differently; the ground is opaque white,
so that a figure reads the same on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib.ui.words import BREAK, wrapped

__all__ = [
    "BAD",
    "FONT_WIDTH",
    "GOOD",
    "INK",
    "MUTED",
    "NEUTRAL",
    "PALETTE",
    "RULE",
    "SUBTITLE_MARK",
    "WIDTH",
    "Figure",
    "figure",
    "line_at",
    "log_axis",
    "note",
    "rows_axis",
    "rows_height",
    "value_axis",
]

Figure = dict[str, Any]
"""Plotly's JSON form: `{"data": [...], "layout": {...}}`."""

INK, MUTED, RULE, GRID, PAPER = "#1f2933", "#52606d", "#b8c0c8", "#e4e7eb", "#ffffff"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY = "#e69f00", "#56b4e9", "#9aa5b1"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
GOOD, BAD, NEUTRAL = BLUE, VERMILLION, GREY

WIDTH = 860
"""Width of the PNG in CSS pixels; in a notebook a figure takes the width of its cell."""
NARROW = 620
"""The narrowest cell for which texts are broken; in a wider one they only gain room."""
FONT_WIDTH = 0.58
"""Mean width of a character over the font's size: Helvetica's is less, DejaVu Sans's is this."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

TITLE, SUBTITLE, TEXT = 17, 13, 12
TITLE_BREAK, SUBTITLE_BREAK = 66, 88
LINE = 1.3
"""Of every line of a title, in its font's size: plotly's own."""

SUBTITLE_MARK = f'<span style="font-size:{SUBTITLE}px;font-weight:400;fill:{MUTED}">'
"""Opens each line of a subtitle. Plotly's own subtitle moves a title of two lines out of the figure."""

AXIS: Figure = {
    "automargin": True,
    "gridcolor": GRID,
    "linecolor": RULE,
    "zeroline": False,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": RULE,
    "separatethousands": True,
    "title": {"font": {"size": TEXT}, "standoff": 8},
}
TEMPLATE: Figure = {
    "layout": {
        "autosize": True,
        "colorway": list(PALETTE),
        "font": {"family": "Helvetica, Arial, DejaVu Sans, sans-serif", "size": TEXT, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "hoverlabel": {"align": "left"},
        "title": {
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 12 + round(0.8 * TITLE), "l": 12},
            "font": {"size": TITLE, "weight": 600},
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "bottom",
            "font": {"size": TEXT},
            "itemwidth": 40,
        },
        "xaxis": AXIS,
        "yaxis": AXIS,
    }
}


def figure(
    traces: Sequence[Figure],
    *,
    finding: str,
    basis: str,
    said: str,
    xaxis: Figure,
    yaxis: Figure,
    height: int = 300,
    right: int = 24,
    **layout: Any,
) -> Figure:
    """A figure in the house style.

    Args:
        traces: plotly traces; one with a name and `showlegend` not False enters the legend.
        finding: the title: what the figure found, one sentence.
        basis: the subtitle: units, sample size, source.
        said: the text twin: one sentence for who can't see the figure.
        xaxis: plotly's axis, see `value_axis` and `rows_axis`.
        yaxis: likewise.
        height: of the plot itself, CSS pixels; the texts come on top.
        right: room beside the plot, CSS pixels.
        layout: further keys of plotly's layout (`shapes`, `annotations`, `barmode`).
    """
    if not traces:
        return _empty(finding, basis, said)
    title, subtitle = wrapped(finding, TITLE_BREAK), wrapped(basis, SUBTITLE_BREAK)
    words = _titled(title, subtitle)
    top = round(20 + (words.count(BREAK) + 1) * TITLE * LINE + _legend_rows(traces) * 24)
    return {
        "data": list(traces),
        "layout": {
            "template": TEMPLATE,
            "title": {"text": words},
            "xaxis": xaxis,
            "yaxis": yaxis,
            "height": top + height + 64,
            "margin": {"t": top, "b": 56, "l": 24, "r": right},
            "meta": {"text": said},
            "showlegend": _legend_rows(traces) > 0,
            **layout,
        },
    }


def _titled(title: str, subtitle: str) -> str:
    lines = [f"{SUBTITLE_MARK}{line}</span>" for line in subtitle.split(BREAK) if line]
    return BREAK.join([title, *lines])


def _empty(finding: str, basis: str, said: str) -> Figure:
    """A figure of nothing says so, instead of showing axes that look like a result."""
    hidden = {"visible": False, "range": [0, 1]}
    nowhere: Figure = {"type": "scatter", "mode": "markers", "x": [], "y": [], "showlegend": False}
    words = note("nothing to draw", x=0, y=0.5, xref="paper", yref="paper", xanchor="left")
    drawn = figure(
        [nowhere], finding=finding, basis=basis, said=said, xaxis=hidden, yaxis=hidden, height=0
    )
    return {**drawn, "layout": {**drawn["layout"], "annotations": [words]}}


def _legend_rows(traces: Sequence[Mapping[str, Any]]) -> int:
    names = [str(trace.get("name", "")) for trace in traces if trace.get("showlegend", True)]
    names = [name for name in names if name]
    if not names:
        return 0
    widths = [len(name) * TEXT * FONT_WIDTH + 45 for name in names]
    if sum(widths) <= NARROW:
        return 1
    return -(-len(names) // max(1, int(NARROW // max(widths))))


def value_axis(title: str, *, top: float | None = None, **more: Any) -> Figure:
    """An axis of figures that starts at 0, with its unit in the title."""
    bounds = {} if top is None else {"range": [0, top or 1]}
    return {"title": {"text": wrapped(title, 70)}, **bounds, **more}


def log_axis(title: str, low: float, high: float, **more: Any) -> Figure:
    """A logarithmic axis around positive figures, with ticks at 1, 2 and 5 where there is room."""
    steps = (1, 2, 5) if high / low < 5_000 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = 1 + (last - first) // 9
    ticks = [step * 10.0**decade for decade in range(first, last + 1, every) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    return {
        "title": {"text": wrapped(title, 70)},
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [_tick(tick) for tick in ticks],
        **more,
    }


def _tick(value: float) -> str:
    if 1e-3 <= value < 1e6:
        return f"{value:,.10g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10{str(int(exponent)).translate(RAISED)}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def rows_axis(labels: Sequence[str], width: int = 24) -> Figure:
    """An axis of named rows, first on top, at 0, 1, 2 …: two equal names stay two rows.

    Many rows leave each one line, a few three (`rows_height` makes room for them).
    """
    lines = 3 if len(labels) <= 8 else 2 if len(labels) <= 16 else 1
    width = width if lines > 1 else max(width, 40)
    shown = [wrapped(label, width, lines) or "(no name)" for label in labels]
    return {
        "tickvals": list(range(len(shown))),
        "ticktext": shown,
        "range": [max(len(shown), 1) - 0.5, -0.5],
        "showgrid": False,
        "ticks": "",
        "ticklabelstandoff": 6,
    }


def rows_height(axis: Figure, *, least: int = 26) -> int:
    """Height of a plot with this `rows_axis`, CSS pixels: every label has its lines."""
    labels = axis["ticktext"]
    lines = max((label.count(BREAK) + 1 for label in labels), default=1)
    return max(70, len(labels) * max(least, lines * 17 + 4))


def line_at(
    *, x: float | None = None, y: float | None = None, dash: str = "dash", color: str = INK
) -> Figure:
    """A reference line over the whole plot, at a value of either axis (a linear one)."""
    line = {"color": color, "width": 1.2, "dash": dash}
    if x is not None:
        return {
            "type": "line",
            "x0": x,
            "x1": x,
            "xref": "x",
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": line,
        }
    return {
        "type": "line",
        "y0": y,
        "y1": y,
        "yref": "y",
        "x0": 0,
        "x1": 1,
        "xref": "paper",
        "line": line,
    }


def note(text: str, *, x: float, y: float, **more: Any) -> Figure:
    """A text in the plot, at values of both axes unless `xref` or `yref` say `paper`."""
    base: Figure = {"text": text, "x": x, "y": y, "xref": "x", "yref": "y", "showarrow": False}
    return {**base, "font": {"size": TEXT, "color": MUTED}, **more}
