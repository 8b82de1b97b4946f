"""Page 01: where a build's time went, and what came out."""

from __future__ import annotations

from runbook_lib.artifacts import Engine, Phase
from runbook_lib.ui.figures.bars import Bar, lying, top_for
from runbook_lib.ui.style import (
    NEUTRAL,
    PALETTE,
    Figure,
    figure,
    rows_axis,
    rows_height,
    value_axis,
)
from runbook_lib.ui.words import percent, plural, seconds, size

__all__ = ["build_figure"]


def build_figure(engine: Engine) -> Figure:
    """The phases of a build one after the other, seconds from its start, with the engine's size."""
    phases = list(engine.phases) or [Phase(name="build", seconds=engine.build_seconds)]
    rest = engine.build_seconds - sum(phase.seconds for phase in phases)
    if rest > 0.01 * engine.build_seconds:
        phases.append(Phase(name="between phases", seconds=rest))
    bars, start = [], 0.0
    for row, phase in enumerate(phases):
        color = NEUTRAL if phase.name == "between phases" else PALETTE[0]
        bars.append(
            Bar(
                row,
                phase.seconds,
                seconds(phase.seconds),
                start,
                f"{phase.name}: {phase.seconds:g} s",
                color,
            )
        )
        start += phase.seconds
    identity = engine.identity
    built = engine.built_at.strftime("%Y-%m-%d %H:%M UTC")
    came_out = f"{size(engine.size_bytes)} in {plural(len(engine.files), 'file')}"
    made_for = f"{identity.compiler} for {identity.target}, {identity.dtype}, quantization {identity.quantization}"
    finding = _finding(engine, phases)
    rows = rows_axis([phase.name for phase in phases])
    return figure(
        [lying(bars)],
        finding=finding,
        basis=f"Engine of {came_out}. {made_for}. n = 1 build, {built}",
        said=f"{finding}: "
        + ", ".join(f"{phase.name} {seconds(phase.seconds)}" for phase in phases)
        + f" (n = 1 build); the engine is {came_out}.",
        xaxis=value_axis("seconds since the build began", top=top_for(bars)),
        yaxis=rows,
        height=rows_height(rows, least=36),
        barmode="overlay",
    )


def _finding(engine: Engine, phases: list[Phase]) -> str:
    verb = "Kept, not built again: the build took" if engine.reused else "Built in"
    took = f"{verb} {seconds(engine.build_seconds)}"
    longest = max(phases, key=lambda phase: phase.seconds)
    if len(phases) == 1 or engine.build_seconds <= 0:
        return took
    return f"{took}, {percent(longest.seconds / engine.build_seconds)} of it in {longest.name}"
