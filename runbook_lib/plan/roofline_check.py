"""What a roofline can't be asked."""

from __future__ import annotations

from runbook_lib.errors import PlanError, ProfileError
from runbook_lib.hardware import Device, gpu
from runbook_lib.plan.facts import BYTES, ModelFacts
from runbook_lib.plan.roofline_machine import KNOWN

__all__ = ["check"]

RUNTIMES = ("engine", "pytorch")
TYPES = ("float16", "bfloat16")


def check(
    model: ModelFacts,
    device: Device,
    *,
    types: tuple[str, str],
    quantization: str,
    figures: dict[str, int],
    runtime: str | None,
) -> None:
    """End with everything that is wrong about what is asked.

    Raises:
        PlanError: a figure, a type or a word is none, or the model can't be split so.
    """
    problems = [
        f"{name} is {figure!r}, not a whole number from 1"
        for name, figure in figures.items()
        if type(figure) is not int or figure < 1
    ]
    if (dtype := types[0]) not in TYPES:
        problems.append(f"the type {dtype!r} is not {' or '.join(TYPES)}")
    if types[1] not in BYTES:
        problems.append(f"the type {types[1]!r} of the cache is not known")
    if (used := model.in_force(quantization)) not in KNOWN:
        problems.append(f"the speed of the quantisation {used!r} is not known")
    if runtime is not None and runtime not in RUNTIMES:
        problems.append(f"the runtime {runtime!r} is not {' or '.join(RUNTIMES)}")
    if not problems:
        problems = _split_problems(model, device, figures["tp"], figures["pp"])
    if problems:
        raise PlanError(
            f"The speed on {device.name} can't be estimated.",
            why="; ".join(problems),
            fix="Mend what is named.",
            page="00_plan",
        )


def _split_problems(model: ModelFacts, device: Device, tp: int, pp: int) -> list[str]:
    problems = []
    if model.heads % tp:
        problems.append(f"tp {tp} does not divide the {model.heads} attention heads")
    if pp > model.layers:
        problems.append(f"pp {pp} is more than the {model.layers} layers")
    try:
        whole = gpu(device.slice_of or device.name)
    except ProfileError as unknown:
        return [*problems, unknown.what]
    if tp * pp > 1 and (device.slice_of or not whole.link_gb_s_per_direction):
        problems.append(f"no link between {tp * pp} of {device.name} is known")
    return problems
