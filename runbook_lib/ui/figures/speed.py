"""Page 00: the roofline of a plan, or why there is none."""

from __future__ import annotations

from runbook_lib.artifacts_plan import Plan
from runbook_lib.ui.figures.roofline import roofline_figure
from runbook_lib.ui.style import Figure, figure

__all__ = ["speed_figure"]


def speed_figure(plan: Plan) -> Figure:
    """Tokens per second of one copy of the model by sequences at once; a plan without says why."""
    found = plan.speed
    if found is None:
        return _nothing(plan)
    return roofline_figure(
        [one.batch for one in found.rates],
        [one.low for one in found.rates],
        [one.value for one in found.rates],
        [one.high for one in found.rates],
        chosen=found.batch,
        knee=found.knee,
        deployed=f"{plan.model} on {plan.devices} x {plan.device}",
        input_len=found.input_len,
        output_len=found.output_len,
        bound=found.bound,
        nearest=found.nearest,
        extrapolated=found.beyond,
    )


def _nothing(plan: Plan) -> Figure:
    why = "the lab is measured on page 04" if plan.track == "lab" else "the plan's notes say why"
    finding, where = f"No speed is estimated: {why}", f"{plan.profile} on {plan.device}"
    return figure([], finding=finding, basis=where, said=f"{finding}.", xaxis={}, yaxis={})
