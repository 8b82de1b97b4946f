"""Lying bars with their value beside them: the form that several pages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.ui.style import FONT_WIDTH, PALETTE, TEXT, Figure
from runbook_lib.ui.words import plain

__all__ = ["Bar", "lying", "top_for"]

PLOT = 360
"""The narrowest plot between labels and edge, CSS pixels: in it every text must have its place."""


@dataclass(frozen=True)
class Bar:
    """One bar: its row, where it starts and how long it is, both in the axis's unit."""

    row: int
    length: float
    text: str = ""
    start: float = 0.0
    hover: str = ""
    color: str = PALETTE[0]


def lying(bars: Sequence[Bar], name: str = "", *, thick: float = 0.62) -> Figure:
    """One trace of lying bars; with a name it enters the legend."""
    return {
        "type": "bar",
        "orientation": "h",
        "y": [bar.row for bar in bars],
        "x": [bar.length for bar in bars],
        "base": [bar.start for bar in bars],
        "width": thick,
        "text": [plain(bar.text) for bar in bars],
        "textposition": "outside",
        "textfont": {"size": TEXT},
        "constraintext": "none",
        "cliponaxis": False,
        "hovertext": [plain(bar.hover or bar.text) for bar in bars],
        "hoverinfo": "text",
        "marker": {
            "color": [bar.color for bar in bars]
            if len({bar.color for bar in bars}) > 1
            else bars[0].color
        },
        **({"name": plain(name)} if name else {"showlegend": False}),
    }


def top_for(bars: Sequence[Bar], least: float = 0.0) -> float:
    """Where an axis must end so that every bar's text still stands in the plot."""
    ends = [least]
    for bar in bars:
        share = min((len(bar.text) * TEXT * FONT_WIDTH + 12) / PLOT, 0.75)
        ends.append((bar.start + bar.length) / (1 - share))
    return max(ends) or 1.0
