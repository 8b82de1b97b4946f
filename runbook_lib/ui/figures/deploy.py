"""Page 03: how long each replica took to be ready, and whether one built its engine again."""

from __future__ import annotations

from runbook_lib.artifacts import Replica, Service
from runbook_lib.ui.figures.bars import Bar, lying, top_for
from runbook_lib.ui.style import (
    BAD,
    GOOD,
    NEUTRAL,
    Figure,
    figure,
    rows_axis,
    rows_height,
    value_axis,
)
from runbook_lib.ui.words import plural, seconds

__all__ = ["replicas_figure"]

DRAWN = 24

KINDS = (
    (False, GOOD, "loaded the stored engine"),
    (True, BAD, "built its engine again"),
    (None, NEUTRAL, "not known whether it built"),
)


def replicas_figure(service: Service) -> Figure:
    """Seconds from start to ready, per replica, coloured by whether it built its engine again."""
    slowest = sorted(service.replicas, key=lambda one: -one.ready_seconds)[:DRAWN]
    shown = [one for one in service.replicas if one in slowest]
    rows = rows_axis([one.name for one in shown])
    traces, every = [], []
    for rebuilt, color, words in KINDS:
        bars = [
            Bar(
                row,
                one.ready_seconds,
                seconds(one.ready_seconds),
                hover=f"{one.name} {words}: {one.http}",
                color=color,
            )
            for row, one in enumerate(shown)
            if one.rebuilt is rebuilt
        ]
        every += bars
        if bars:
            traces.append(lying(bars, words))
    finding = _finding(service.replicas)
    drawn = f", the {DRAWN} slowest drawn" if len(shown) < len(service.replicas) else ""
    return figure(
        traces,
        finding=finding,
        basis=f"{service.target}: {service.entry_model} from {service.repository_uri}. "
        f"n = {plural(len(service.replicas), 'start')}{drawn}",
        said=_said(service, finding),
        xaxis=value_axis("seconds from start to ready", top=top_for(every)),
        yaxis=rows,
        height=rows_height(rows, least=36 if len(shown) <= 8 else 22),
        barmode="overlay",
    )


def _said(service: Service, finding: str) -> str:
    times = ", ".join(f"{one.name} {one.ready_seconds:.1f} s" for one in service.replicas)
    return (
        f"{finding} (n = {len(service.replicas)}; from start to ready: {times})."
        if times
        else f"{finding} (n = 0)."
    )


def _finding(replicas: tuple[Replica, ...]) -> str:
    if not replicas:
        return "No replica is running"
    slowest = seconds(max(one.ready_seconds for one in replicas))
    ready = f"{plural(len(replicas), 'replica')} ready within {slowest}"
    building = sum(one.rebuilt is True for one in replicas)
    if building:
        return f"{ready}; {building:,} built the engine again"
    known = all(one.rebuilt is False for one in replicas)
    return f"{ready}; {'none built an engine' if known else 'whether one built an engine is not known'}"
