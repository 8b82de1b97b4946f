"""Page 00: what the deployment needs of the device, and how many sequences then run at once."""

from __future__ import annotations

from runbook_lib.artifacts_plan import Plan
from runbook_lib.ui.figures.bars import Bar, lying, top_for
from runbook_lib.ui.style import (
    BAD,
    GOOD,
    INK,
    NEUTRAL,
    PALETTE,
    Figure,
    figure,
    rows_axis,
    rows_height,
    value_axis,
)
from runbook_lib.ui.words import count, percent, plural, size, size_unit

__all__ = ["concurrency_figure", "memory_figure"]

OFF_SCALE = 40
"""A device this many times larger than the need isn't drawn: the parts couldn't be seen beside it."""
POINTS = 160


def memory_figure(plan: Plan) -> Figure:
    """The parts of the memory a deployment takes, each starting where the one before ends.

    Their sum stands below them, and below that the device's memory, all in bytes.
    """
    needed = sum(part.bytes for part in plan.memory)
    drawn = 0 < plan.device_bytes <= OFF_SCALE * max(needed, 1)
    unit, factor = size_unit(max(needed, plan.device_bytes if drawn else 0))
    bars, start = [], 0.0
    for row, part in enumerate(plan.memory):
        hover = f"{part.name}: {size(part.bytes)}. {part.note}".strip()
        bars.append(Bar(row, part.bytes / factor, size(part.bytes), start, hover, PALETTE[0]))
        start += part.bytes / factor
    bars.append(
        Bar(
            len(bars),
            start,
            size(needed),
            hover="all parts together",
            color=INK if plan.fits else BAD,
        )
    )
    labels = [*(part.name for part in plan.memory), "together"]
    if drawn:
        bars.append(
            Bar(len(bars), plan.device_bytes / factor, size(plan.device_bytes), color=NEUTRAL)
        )
        labels.append(f"{plan.device} has")
    device = f"{size(plan.device_bytes)} of {plan.device}"
    rows = rows_axis(labels)
    scale = (
        ""
        if drawn or not plan.device_bytes
        else f"; the device has {_times(plan.device_bytes, needed)} that, not drawn"
    )
    return figure(
        [lying(bars)],
        finding=_memory_finding(plan, needed),
        basis=f"{plan.profile}: {plan.model}, {plural(plan.parameters, 'parameter')}. Calculated, per device{scale}",
        said=f"Memory for {plan.model}, {plural(len(plan.memory), 'part')}: "
        + ", ".join(f"{part.name} {size(part.bytes)}" for part in plan.memory)
        + f"; together {size(needed)} of the {device}, which {'fits' if plan.fits else 'does not fit'}.",
        xaxis=value_axis(f"{unit} per device", top=top_for(bars)),
        yaxis=rows,
        height=rows_height(rows, least=36),
        barmode="overlay",
    )


def _times(device: int, needed: int) -> str:
    return f"{count(round(device / needed))} times" if needed else "more than"


def _memory_finding(plan: Plan, needed: int) -> str:
    if needed > plan.device_bytes:
        missing = size(needed - plan.device_bytes)
        return f"It does not fit: {size(needed)} needed, {missing} more than {plan.device} has"
    verdict = "It fits" if plan.fits else "It does not fit"
    if not plan.fits and plan.traffic is not None:
        verdict = "It fits, but not this traffic"
    cache = sum(part.bytes for part in plan.memory if part.name == "KV cache")
    share = percent(needed / plan.device_bytes) if plan.device_bytes else "all"
    return f"{verdict}: {size(needed - cache)} beside {size(cache)} of KV cache, {share} of {plan.device}"


def concurrency_figure(plan: Plan) -> Figure:
    """How many sequences run at once, against the length (prompt and answer) that each has, tokens.

    The memory for the KV cache is what the plan says: `max_concurrent_sequences` of `max_seq_len`.
    """
    longest, batch = plan.limits.max_seq_len, plan.limits.max_batch_size
    pool = plan.max_concurrent_sequences * longest
    lengths = sorted({max(1, round(longest * step / POINTS)) for step in range(1, POINTS + 1)})
    by_memory = [round(pool / length, 2) for length in lengths]
    together = [min(batch, pool // length) for length in lengths]
    off_scale = plan.max_concurrent_sequences > 5 * batch
    top = 1.4 * max(batch, 1 if off_scale else plan.max_concurrent_sequences)
    runs = {
        "type": "scatter",
        "mode": "lines",
        "x": lengths,
        "y": together,
        "name": "run at once",
        "line": {"color": GOOD, "width": 3},
        "fill": "tozeroy",
        "fillcolor": "rgba(0,114,178,0.12)",
    }
    memory = {
        "type": "scatter",
        "mode": "lines",
        "x": lengths,
        "y": by_memory,
        "name": "the KV cache has room for",
        "line": {"color": BAD, "width": 2, "dash": "dash"},
    }
    met = _traffic_point(plan, top)
    limit = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, longest],
        "y": [batch, batch],
        "name": f"max_batch_size = {batch:,}",
        "line": {"color": INK, "width": 1.5, "dash": "dot"},
    }
    per_token = size(plan.kv_bytes_per_token)
    above = "; what memory has room for lies above the plot" if off_scale else ""
    finding = _concurrency_finding(plan)
    return figure(
        [runs, *([] if off_scale else [memory]), limit, *met],
        finding=finding,
        basis=f"{plan.profile} on {plan.device}: KV cache {per_token} per token. Calculated{above}",
        said=f"Sequences at once against their length from {lengths[0]:,} to {longest:,} tokens: {finding}.",
        xaxis=value_axis("length of each sequence, prompt and answer (tokens)", top=longest * 1.02),
        yaxis=value_axis("sequences at once", top=top),
    )


def _traffic_point(plan: Plan, top: float) -> list[Figure]:
    """How many sequences of the traffic run at once, at their mean length; none off the plot."""
    if plan.traffic is None or not 0 < (held := plan.traffic.sequences) <= top:
        return []
    point: Figure = {
        "type": "scatter",
        "mode": "markers",
        "x": [round(plan.traffic.mean_tokens, 1)],
        "y": [held],
        "name": "the traffic's lengths, 99 of 100 moments",
        "marker": {"color": PALETTE[2], "size": 11, "symbol": "diamond"},
    }
    return [point]


def _concurrency_finding(plan: Plan) -> str:
    longest, batch, room = (
        plan.limits.max_seq_len,
        plan.limits.max_batch_size,
        plan.max_concurrent_sequences,
    )
    if room == 0:
        return f"Not one sequence of {longest:,} tokens has room beside the weights"
    if room >= batch:
        return f"All {batch:,} sequences of a batch may reach {longest:,} tokens: memory has room for {room:,}"
    return f"Memory ends concurrency: {room:,} of {batch:,} sequences may reach {longest:,} tokens"
