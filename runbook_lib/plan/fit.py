"""Will it fit: the memory of a deployment on each device, part by part, and what to shrink."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.artifacts import MemoryPart, Plan, digest_of
from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device, overheads
from runbook_lib.plan.facts import BYTES, ModelFacts
from runbook_lib.profile import DeploymentProfile

__all__ = ["plan"]

POOL = 0.9  # share of the free memory that the KV cache takes: TensorRT-LLM's default
BLOCK = 32  # tokens in a block of the paged KV cache: trtllm-build's default since 0.19
UNIT = 10**9


def plan(
    profile: DeploymentProfile,
    model: ModelFacts,
    device: Device,
    *,
    commands: Sequence[Sequence[str]] = (),
) -> Plan:
    """Whether a profile fits on a device with every sequence at its longest, and how many it holds.

    Memory is that of the fullest rank. `fits` means that `max_batch_size` sequences of
    `max_seq_len` tokens have room at once; an engine that doesn't fit in this sense may still run
    with fewer in flight, and the notes say with how many. No times are estimated: nothing here
    rests on a measurement.

    Args:
        profile: what is asked for.
        model: the model's size.
        device: what one rank runs on.
        commands: the commands that would follow, shown in the plan.

    Raises:
        PlanError: the model can't be split as the profile asks.
    """
    _check_split(profile, model, device)
    parts = _parts(profile, model)
    cache = next(part for part in parts if part.name == "KV cache")
    free = device.memory_bytes - sum(part.bytes for part in parts if part is not cache)
    sequences = _sequences(profile, model, free)
    fits = sequences >= profile.max_batch_size
    return Plan(
        profile=profile.profile,
        profile_digest=digest_of(profile.model_dump(mode="json")),
        track=profile.track,
        model=profile.model_name,
        device=device.name,
        device_bytes=device.memory_bytes,
        fits=fits,
        parameters=model.parameters,
        kv_bytes_per_token=_kv_per_token(profile, model),
        max_concurrent_sequences=sequences,
        limits=profile.limits,
        memory=parts,
        commands=tuple(tuple(argv) for argv in commands),
        notes=tuple(_notes(profile, model, device, free=free, sequences=sequences)),
    )


def _kv_per_token(profile: DeploymentProfile, model: ModelFacts) -> int:
    tp, pp = profile.tensor_parallel_size, profile.pipeline_parallel_size
    return model.kv_bytes_per_token(profile.kv_cache_dtype, tp=tp, pp=pp)


def _per_sequence(profile: DeploymentProfile, model: ModelFacts) -> int:
    """Bytes of the cache that one sequence (all its beams) takes at its longest, in whole blocks."""
    longest = -(-profile.effective_max_seq_len // BLOCK) * BLOCK
    return longest * profile.max_beam_width * _kv_per_token(profile, model)


def _sequences(profile: DeploymentProfile, model: ModelFacts, free: int) -> int:
    """Longest sequences that the KV cache holds.

    TensorRT-LLM fills the free memory with it; the lab takes what the limits ask for, no more.
    """
    room = int(max(free, 0) * POOL) // _per_sequence(profile, model)
    return min(room, profile.max_batch_size) if profile.track == "lab" else room


def _parts(profile: DeploymentProfile, model: ModelFacts) -> tuple[MemoryPart, ...]:
    tp, pp, lab = (
        profile.tensor_parallel_size,
        profile.pipeline_parallel_size,
        profile.track == "lab",
    )
    weights = model.weight_bytes(profile.dtype, profile.quantization, tp=tp, pp=pp, lab=lab)
    parts = [
        MemoryPart(
            name="weights",
            bytes=weights,
            note=f"{model.parameters:,} parameters, {profile.dtype}, quantisation {profile.quantization}; exact count",
        ),
        MemoryPart(
            name="KV cache",
            bytes=profile.max_batch_size * _per_sequence(profile, model),
            note=f"{profile.max_batch_size} sequences of {profile.effective_max_seq_len} tokens at once, "
            f"{profile.kv_cache_dtype}, in blocks of {BLOCK}; exact",
        ),
        MemoryPart(
            name="activations",
            bytes=_activations(profile, model),
            note=f"the widest layer for {profile.effective_max_num_tokens} tokens, and float32 logits; "
            "a lower bound: a compiler's workspace is known after the build",
        ),
    ]
    if not lab:
        known = overheads()
        parts.append(
            MemoryPart(
                name="runtime",
                bytes=known.runtime_bytes + known.nccl(profile.world_size),
                note=f"context, libraries, NCCL; {known.source}",
            )
        )
    return tuple(parts)


def _activations(profile: DeploymentProfile, model: ModelFacts) -> int:
    """The residual stream, its copy, and both inner halves of the widest layer, and the logits."""
    tp = profile.tensor_parallel_size
    wide = 2 * model.hidden + 2 * -(-model.intermediate // tp)
    logits = profile.max_batch_size * profile.max_beam_width * model.vocab * 4
    computed_in = "float32" if profile.track == "lab" else profile.dtype
    return int(profile.effective_max_num_tokens * wide * BYTES[computed_in]) + logits


def _check_split(profile: DeploymentProfile, model: ModelFacts, device: Device) -> None:
    tp, pp = profile.tensor_parallel_size, profile.pipeline_parallel_size
    problems = []
    if model.heads % tp:
        problems.append(
            f"tensor_parallel_size {tp} does not divide the {model.heads} attention heads"
        )
    if model.kv_heads % tp and tp % model.kv_heads:
        problems.append(
            f"tensor_parallel_size {tp} and the {model.kv_heads} KV heads do not divide each other"
        )
    if pp > model.layers:
        problems.append(f"pipeline_parallel_size {pp} is more than the {model.layers} layers")
    if device.slice_of and profile.world_size > 1:
        problems.append(
            f"{profile.world_size} ranks on MIG slices: slices have no link between them"
        )
    if problems:
        raise PlanError(
            f"{profile.model_name} can't be split as {profile.profile or 'the profile'} asks.",
            why="; ".join(problems),
            fix="Choose a tensor_parallel_size that divides the heads, or fewer ranks.",
        )


def _notes(
    profile: DeploymentProfile, model: ModelFacts, device: Device, *, free: int, sequences: int
) -> list[str]:
    notes = [] if not device.basis else [f"Memory of {device.name}: {device.basis}."]
    longest = profile.effective_max_seq_len
    if longest > model.positions:
        notes.append(
            f"max_seq_len {longest} goes past the {model.positions} positions that the model was trained on: "
            "answers get worse there."
        )
    if free <= 0:
        notes.append(
            f"Weights, activations and runtime alone are {-free / UNIT:.1f} GB more than {device.name} has: "
            "quantise, or split over more GPUs."
        )
    elif sequences == 0:
        notes.append(
            "Not one sequence of max_seq_len fits into the KV cache: shorten max_input_len or max_output_len."
        )
    elif sequences < profile.max_batch_size:
        notes.append(
            f"The KV cache holds {sequences} sequences of {longest} tokens, not {profile.max_batch_size}: the engine "
            f"runs, and lets the others wait. Lower max_batch_size to {sequences}, or the lengths to your traffic."
        )
    if profile.kv_cache_dtype == "u8":
        notes.append("The scales of the u8 cache are not counted.")
    return notes
