"""Page 06: what explains the trouble, best first; or the live figures of a healthy server."""

from __future__ import annotations

import math
from collections.abc import Mapping

from runbook_lib.artifacts import Diagnosis
from runbook_lib.ui.figures.bars import Bar, lying, top_for
from runbook_lib.ui.style import (
    BAD,
    GOOD,
    NEUTRAL,
    Figure,
    figure,
    log_axis,
    note,
    rows_axis,
    rows_height,
    value_axis,
)
from runbook_lib.ui.words import count, plain, plural

__all__ = ["evidence_figure"]

GAUGES, DRAWN = 16, 12
LIKELY = 0.5
SCORES = (0, 0.25, 0.5, 0.75, 1)


def evidence_figure(diagnosis: Diagnosis, server: Mapping[str, float]) -> Figure:
    """The findings with how well each explains the evidence (0 to 1), or the server's figures.

    Args:
        diagnosis: findings, best first; none means healthy.
        server: live figures by name, unit in the name, as the server reports them.
    """
    if diagnosis.findings:
        return _findings(diagnosis)
    return _gauges(diagnosis, server)


def _findings(diagnosis: Diagnosis) -> Figure:
    shown = diagnosis.findings[:DRAWN]
    bars = [
        Bar(
            row,
            one.score,
            f"{one.score:.2f}, {plural(len(one.evidence), 'line')}",
            hover=f"{one.title}: {one.cause}",
            color=BAD if one.score >= LIKELY else NEUTRAL,
        )
        for row, one in enumerate(shown)
    ]
    best, rows = shown[0], rows_axis([one.title for one in shown], 32)
    more = (
        f"; the {DRAWN} best of {len(diagnosis.findings):,} drawn"
        if len(diagnosis.findings) > DRAWN
        else ""
    )
    left = (
        f"; {plural(len(diagnosis.not_explained), 'line')} not explained"
        if diagnosis.not_explained
        else ""
    )
    return figure(
        [lying(bars)],
        finding=best.title,
        basis=f"{best.cause.rstrip('.')}. {_sources(diagnosis)}{left}{more}",
        said=f"Score of {plural(len(diagnosis.findings), 'finding')} (0 to 1): "
        + ", ".join(f"{one.title} {one.score:.2f}" for one in diagnosis.findings)
        + f"{left}.",
        xaxis=value_axis(
            "score: how well it explains the evidence (0 to 1)",
            top=top_for(bars, 1.0),
            tickvals=SCORES,
        ),
        yaxis=rows,
        height=rows_height(rows, least=36),
        barmode="overlay",
    )


def _sources(diagnosis: Diagnosis) -> str:
    return f"n = {plural(len(diagnosis.sources), 'source')} read"


def _gauges(diagnosis: Diagnosis, server: Mapping[str, float]) -> Figure:
    """Figures of many units on one log scale: dots, since a bar on a log scale has no length."""
    known = {name: value for name, value in server.items() if math.isfinite(value)}
    shown = sorted(known.items(), key=lambda pair: (-pair[1], pair[0]))[:GAUGES]
    positive = [value for _, value in shown if value > 0]
    low = 10 ** (math.floor(math.log10(min(positive, default=1.0))) - 1)
    high = max(positive, default=1.0)
    places = [max(value, low) for _, value in shown]
    room = 10 ** (math.log10(high / low) * 0.28 + 0.2)
    left = low / (high * room / low) ** 0.03
    rows = rows_axis([name for name, _ in shown], 36)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": places,
        "y": list(range(len(shown))),
        "marker": {"color": [GOOD if value > 0 else NEUTRAL for _, value in shown], "size": 11},
        "hovertext": [f"{plain(name)}: {value:g}" for name, value in shown],
        "hoverinfo": "text",
    }
    more = f", the {GAUGES} largest of {len(known):,} drawn" if len(known) > GAUGES else ""
    values = ", ".join(f"{name} {count(value)}" for name, value in shown)
    empty = "No figure of the server was given"
    return figure(
        [dots] if shown else [],
        finding=f"Nothing wrong was found in {plural(len(diagnosis.sources), 'source')}",
        basis=f"The server's own figures, n = {len(known):,}{more}; the unit is in each name"
        if shown
        else empty,
        said=f"Healthy, no finding in {plural(len(diagnosis.sources), 'source')}. "
        + (
            f"Figures of the server, each in the unit of its name: {values}."
            if shown
            else f"{empty}."
        ),
        xaxis=log_axis(
            "value, log scale; what is not above 0 stands at the left edge", left, high * room
        ),
        yaxis=rows,
        height=rows_height(rows),
        annotations=[
            note(count(value), x=math.log10(place), y=row, xanchor="left", xshift=10)
            for row, ((_, value), place) in enumerate(zip(shown, places, strict=True))
        ],
    )
