"""Plan a profile of any track: model facts, device, fit, and the commands that would follow."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from runbook_lib.artifacts_plan import Choice, Estimate, Plan, Speed
from runbook_lib.engine.commands import Command, commands, release_of
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.notes import notes
from runbook_lib.engine.serve_commands import repository
from runbook_lib.engine.template import own_commands, translation_notes
from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device, device, gpu, gpu_names
from runbook_lib.lab import environment
from runbook_lib.lab.builder_commands import build_commands, weights_folder
from runbook_lib.lab.cpu import isa_level
from runbook_lib.lab.engines import past_builds
from runbook_lib.plan.cost import build_estimates, check_price, million_tokens
from runbook_lib.plan.facts import ModelFacts, known_config, model_facts
from runbook_lib.plan.fit import plan
from runbook_lib.plan.fit_memory import memory_of
from runbook_lib.plan.presets import choices, then
from runbook_lib.plan.shapes import Traffic, traffic_fit
from runbook_lib.plan.speed import speed
from runbook_lib.profile import DeploymentProfile
from runbook_lib.study.planned_traffic import planned_traffic

__all__ = ["plan_profile"]

DEFAULT_GPU = "H100-SXM-80GB"
WORK = "WORK"
MEMORY = Path("/proc/meminfo")


def plan_profile(
    profile: DeploymentProfile,
    *,
    traffic: str = "",
    price_per_hour: float | None = None,
    preset: str = "",
) -> Plan:
    """Whether a profile fits where it is to run, and what would be run; nothing is changed.

    Args:
        profile: what is asked for.
        traffic: CSV or JSON lines of lengths, or a load profile; by default the profile's load.
        price_per_hour: of one GPU, in any currency; without it no cost is told.
        preset: a pattern of the deployment guide to apply first.

    Raises:
        PlanError: the model is not known, can't be split as asked, or the release can't do it; the
            traffic can't be read; there is no such preset, or it can't be used.
        ProfileError: there is no such GPU or load profile.
    """
    check_price(price_per_hour)
    facts, where = model_facts(_config(profile)), _device(profile)
    _check_family(profile, facts)
    lengths = planned_traffic(profile, traffic)
    chosen = _choices(profile, facts, where, lengths, preset) if preset else ()
    asked = _changed(profile, chosen)
    commands_of = [one.argv for one in _commands(asked)]
    made = plan(asked, facts, where, commands=commands_of, among=_among(asked, where))
    met = None if lengths is None else traffic_fit(asked, facts, where, lengths)
    made = made.model_copy(
        update={
            "fits": made.fits and (met is None or met.fits),
            "traffic": met,
            "preset": preset,
            "choices": chosen,
        }
    )
    fast, missing = _speed(asked, facts, where, made)
    told = [] if asked.track == "lab" else [*notes(asked), *_line_notes(asked)]
    follows = then(preset) if preset else ()
    return made.model_copy(
        update={
            "speed": fast,
            "estimates": _estimates(asked, facts, price_per_hour, fast),
            "notes": (*made.notes, *missing, *follows, *told, *_assumed(asked)),
        }
    )


def _check_family(profile: DeploymentProfile, facts: ModelFacts) -> None:
    """The family chooses the converter: that of another model writes nonsense, or fails."""
    words = {name.replace("_", ""): name for name in FAMILIES}
    found = facts.architecture.removesuffix("ForCausalLM").removesuffix("ForConditionalGeneration")
    meant = words.get(found.lower())
    alike = ({meant, profile.model_family} - {"llama", "codellama", "mistral"}) == set()
    if profile.track == "lab" or meant in {None, profile.model_family} or alike:
        return
    raise PlanError(
        f"{profile.model_name} is no model of the family {profile.model_family}.",
        why=f"Its config.json says {facts.architecture}; the family decides which converter is run.",
        fix=f"Set model_family: {meant} in the profile.",
        page="00_plan",
    )


def _speed(
    profile: DeploymentProfile, facts: ModelFacts, where: Device, made: Plan
) -> tuple[Speed | None, list[str]]:
    """The speed, or why none is estimated; the lab is measured, not estimated."""
    if profile.track == "lab" or not made.max_concurrent_sequences:
        return None, []
    try:
        return speed(profile, facts, where, made), []
    except PlanError as error:
        return None, [f"{error.what} {error.why}".strip()]


def _choices(
    profile: DeploymentProfile,
    facts: ModelFacts,
    where: Device,
    lengths: Traffic | None,
    preset: str,
) -> tuple[Choice, ...]:
    shape = None
    if lengths is not None:
        shapes = traffic_fit(profile, facts, where, lengths).shapes
        shape = next((one for one in shapes if one.keeps != "p99"), shapes[-1])
    held = memory_of(profile, facts, where).sequences
    return choices(preset, profile, target=where.target, held=held, shape=shape)


def _changed(profile: DeploymentProfile, chosen: tuple[Choice, ...]) -> DeploymentProfile:
    """The profile with a preset's fields; what follows from another field is found anew."""
    if not chosen:
        return profile
    fields = {one.field: one.value for one in chosen if one.value != one.was}
    try:
        return DeploymentProfile.model_validate({**profile.model_dump(), **fields})
    except ValidationError as error:
        raise PlanError(
            "The preset can't be used with this profile.",
            why="; ".join(one["msg"] for one in error.errors(include_url=False)),
            fix="Change the fields that it names, or choose another preset.",
        ) from None


def _among(profile: DeploymentProfile, where: Device) -> list[Device]:
    """Kinds of devices to look for the smallest set in: every GPU, and the slices of the plan's own."""
    if profile.track == "lab":
        return []
    own = gpu(where.slice_of or where.name)
    slices = [one.name for one in own.mig if "+" not in one.name and "-" not in one.name]
    return [device(name) for name in gpu_names()] + [device(f"{own.name}:{one}") for one in slices]


def _config(profile: DeploymentProfile) -> dict[str, Any]:
    """The model's config.json: from its weights where they are at hand, else what is known by name."""
    folder = weights_folder(profile) if profile.track == "lab" else Path(profile.weights)
    path = folder / "config.json"
    if profile.track != "lab" and not path.is_file():
        return known_config(profile.model_name)
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
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


def _estimates(
    profile: DeploymentProfile, facts: ModelFacts, price: float | None, fast: Speed | None
) -> tuple[Estimate, ...]:
    if profile.track == "lab":
        return _lab_estimates(profile)
    quantised = facts.in_force(profile.quantization) != "none"
    ranks = profile.world_size
    found: list[Estimate] = []
    if profile.track == "engine":
        found += build_estimates(facts.parameters, ranks=ranks, quantised=quantised, price=price)
    if price is not None and fast is not None:
        found.append(million_tokens(fast.throughput, ranks=ranks, price=price))
    return tuple(found)


def _lab_estimates(profile: DeploymentProfile) -> tuple[Estimate, ...]:
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
    if profile.track == "lab":
        return build_commands(profile, environment.expected(), Path(WORK))
    own = None
    if profile.track == "engine":
        own = own_commands(profile, weights=profile.weights, work=WORK)
    if own is None:
        return commands(profile, weights=profile.weights, work=WORK)
    return [*own, *repository(profile, release_of(profile), profile.weights, WORK)]


def _line_notes(profile: DeploymentProfile) -> list[str]:
    """What became of a builder line of the profile's own; one that is run as it stands has no notes."""
    if profile.track != "engine" or profile.builder_cmd is None:
        return []
    told = translation_notes(profile)
    return told or ["builder_cmd is run as it stands: nothing here knows what its engine will be."]


def _assumed(profile: DeploymentProfile) -> list[str]:
    if profile.track == "lab" and not past_builds():
        return ["No engine was built on this machine yet, so no build time is foretold."]
    if profile.track != "lab" and profile.gpu is None:
        return [f"The profile names no GPU: planned for {DEFAULT_GPU}. Say which with --gpu."]
    return []
