"""Will it fit: the plan of a profile on a device, and what the planner has to say about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runbook_lib.artifacts import digest_of
from runbook_lib.artifacts_plan import Plan
from runbook_lib.hardware import Device
from runbook_lib.plan.facts_model import ModelFacts
from runbook_lib.plan.fit_memory import Memory, memory_of, parts
from runbook_lib.plan.fit_search import placements, shrinks
from runbook_lib.plan.fit_split import check_precision, check_split
from runbook_lib.profile import DeploymentProfile

__all__ = ["plan"]

UNIT = 10**9
NODE = 8  # GPUs of a usual node that share a fast link


def plan(
    profile: DeploymentProfile,
    model: ModelFacts,
    device: Device,
    *,
    commands: Sequence[Sequence[str]] = (),
    among: Iterable[Device] = (),
) -> Plan:
    """Whether a profile fits on a device, how many sequences it holds, and what would make it fit.

    Memory is that of the fullest rank. What `fits` means stands at `Plan`. No times are estimated:
    nothing here rests on a measurement.

    Args:
        profile: what is asked for.
        model: the model's size.
        device: what one rank runs on.
        commands: the commands that would follow, shown in the plan.
        among: kinds of devices to look for the smallest set in.

    Raises:
        PlanError: the model can't be split as the profile asks, or the device lacks its precision;
            every reason at once.
    """
    check_split(profile, model, device)
    check_precision(profile, model, device)
    memory, kinds = memory_of(profile, model, device), list(among)
    tp, pp = profile.tensor_parallel_size, profile.pipeline_parallel_size
    return Plan(
        profile=profile.profile,
        profile_digest=digest_of(profile.model_dump(mode="json")),
        track=profile.track,
        model=profile.model_name,
        device=device.name,
        device_bytes=device.room,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        devices=profile.world_size,
        fits=memory.fits,
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        kv_bytes_per_token=model.kv_bytes_per_token(profile.kv_cache_dtype, tp=tp, pp=pp),
        max_concurrent_sequences=memory.sequences,
        limits=profile.limits,
        memory=parts(profile, model, memory),
        commands=tuple(tuple(argv) for argv in commands),
        shrinks=shrinks(profile, model, device),
        placements=placements(profile, model, kinds),
        whole_batch=placements(profile, model, kinds, sequences=profile.max_batch_size),
        notes=tuple(_notes(profile, model, device, memory)),
    )


def _notes(
    profile: DeploymentProfile, model: ModelFacts, device: Device, memory: Memory
) -> list[str]:
    basis = device.room_basis
    notes = [f"Memory of {device.name}: {basis}."] if basis else []
    longest, tp = profile.effective_max_seq_len, profile.tensor_parallel_size
    if longest > model.positions:
        notes.append(
            f"max_seq_len {longest} goes past the {model.positions} positions that the model was trained on: "
            "answers get worse there."
        )
    if model.padded_vocab(tp) != model.vocab:
        notes.append(
            f"The vocabulary of {model.vocab:,} words is padded to {model.padded_vocab(tp):,} for {tp} ranks."
        )
    if model.architecture.endswith("ForConditionalGeneration"):
        notes.append("The vision tower beside the language model is not counted.")
    if profile.context_parallel_size > 1:
        notes.append(
            f"context_parallel_size {profile.context_parallel_size}: memory and speed are counted as if each"
            " rank had whole sequences, for no source tells what a rank keeps of them."
        )
    if profile.world_size > NODE:
        notes.append(
            f"{profile.world_size} GPUs are more than a node of {NODE}: fit and speed take their link to be the node's."
        )
    if profile.quantization == "none" and model.stored != "none":
        notes.append(f"The checkpoint comes in {model.stored}, and is counted so.")
    if any(layer.window for layer in model.stack):
        notes.append(
            "Layers with a window are counted as if they kept all tokens: that is what the runtime "
            "does until max_attention_window tells it otherwise."
        )
    if profile.kv_cache_dtype in {"fp8", "int8"}:
        notes.append(
            f"Keys and values in {profile.kv_cache_dtype} are rounded: measure the accuracy against a cache in "
            f"{profile.dtype} on your own tasks (page 05) before you serve it."
        )
    if profile.kv_cache_dtype == "u8":
        notes.append("The scales of the u8 cache are not counted.")
    room = _room(device, memory)
    return [*notes, room] if room else notes


def _room(device: Device, memory: Memory) -> str:
    """What there is to say where not every sequence can be at its longest."""
    if memory.free <= 0:
        missing = -memory.free / UNIT
        return (
            f"Weights, activations and runtime alone are {missing:.1f} GB more than {device.name} has: "
            "quantise, or split over more GPUs."
        )
    if memory.sequences == 0:
        return "Not one sequence of max_seq_len fits into the KV cache: shorten max_input_len or max_output_len."
    if memory.sequences < memory.batch and not memory.lab:
        return (
            f"The KV cache holds {memory.sequences} sequences of {memory.longest} tokens, not {memory.batch}: "
            "the engine runs, and lets the others wait. "
            f"Lower max_batch_size to {memory.sequences}, or the lengths to your traffic."
        )
    return ""
