"""Plan a profile of any track: model facts, device, fit, and the commands that would follow."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from runbook_lib.artifacts import Estimate, Plan
from runbook_lib.engine.commands import Command, commands, notes
from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device, device
from runbook_lib.lab import environment
from runbook_lib.lab.builder_commands import build_commands, weights_folder
from runbook_lib.lab.cpu import isa_level
from runbook_lib.lab.engines import past_builds
from runbook_lib.plan.facts import known_config, model_facts
from runbook_lib.plan.fit import plan
from runbook_lib.profile import DeploymentProfile

__all__ = ["plan_profile"]

DEFAULT_GPU = "H100-SXM-80GB"
MEMORY = Path("/proc/meminfo")


def plan_profile(profile: DeploymentProfile) -> Plan:
    """Whether a profile fits where it is to run, and what would be run; nothing is changed.

    Raises:
        PlanError: the model is not known, can't be split as asked, or the release can't do it.
        ProfileError: there is no such GPU.
    """
    facts = model_facts(_config(profile))
    made = plan(profile, facts, _device(profile), commands=[one.argv for one in _commands(profile)])
    told = notes(profile) if profile.track == "engine" else []
    estimates = _estimates(profile) if profile.track == "lab" else ()
    return made.model_copy(
        update={"notes": (*made.notes, *told, *_assumed(profile)), "estimates": estimates}
    )


def _config(profile: DeploymentProfile) -> dict[str, Any]:
    """The model's config.json: from its weights where they are at hand, else what is known by name."""
    folder = weights_folder(profile) if profile.track == "lab" else Path(profile.weights)
    path = folder / "config.json"
    if profile.track != "lab" and not path.is_file():
        return known_config(profile.model_name)
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise PlanError(
            f"{path} can't be planned with.",
            why=f"{type(error).__name__}: {error}",
            fix="`weights` in the profile must name a Hugging Face folder.",
            page="00_plan",
        ) from None


def _device(profile: DeploymentProfile) -> Device:
    if profile.track != "lab":
        return device(profile.gpu or DEFAULT_GPU)
    return Device("this machine", _memory_free(), isa_level(), "free memory when the plan was made")


def _memory_free() -> int:
    for line in MEMORY.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise PlanError(f"{MEMORY} does not say how much memory is free.")


def _estimates(profile: DeploymentProfile) -> tuple[Estimate, ...]:
    """Build times to come, from the builds that this machine has done; none without any."""
    built = past_builds()
    if not built:
        return ()
    basis = f"median, fastest and slowest of n = {len(built)} builds on this machine"
    count = 1 + len(profile.tradeoffs)
    names = (("build of one engine", 1), (f"builds of the {count} engines to weigh", count))
    return tuple(
        Estimate(
            name=name,
            unit="s",
            value=round(times * median(built), 1),
            low=round(times * min(built), 1),
            high=round(times * max(built), 1),
            basis=basis,
        )
        for name, times in names
    )


def _commands(profile: DeploymentProfile) -> list[Command]:
    work = Path("WORK")
    if profile.track == "lab":
        return build_commands(profile, environment.expected(), work)
    if profile.track == "llmapi":
        return []
    return commands(profile, weights=profile.weights, work=str(work))


def _assumed(profile: DeploymentProfile) -> list[str]:
    if profile.track == "llmapi":
        return ["The llmapi track builds no engine; its commands are not written here yet."]
    if profile.track == "lab" and not past_builds():
        return ["No engine was built on this machine yet, so no build time is foretold."]
    if profile.track == "engine" and profile.gpu is None:
        return [f"The profile names no GPU: planned for {DEFAULT_GPU}. Say which with --gpu."]
    return []
