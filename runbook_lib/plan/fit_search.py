"""What to change where a profile doesn't fit, and on which sets of GPUs it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from runbook_lib.artifacts_plan import Placement, Shrink
from runbook_lib.hardware import Device
from runbook_lib.plan.facts_model import ModelFacts
from runbook_lib.plan.fit_memory import BLOCK, Memory, memory_of
from runbook_lib.plan.fit_split import can_compute, split_problems
from runbook_lib.profile import DeploymentProfile

__all__ = ["placements", "shrinks"]

MOST_RANKS = 16
MOST_TENSOR = 8  # GPUs of one node that share a fast link
FEW = 8  # sequences in flight below which a GPU is mostly idle
ACCURACY = "measure the accuracy on your own tasks before you serve it"
# How much a change disturbs: limits alone, then the figures that answers are computed in, then hardware.
LIMITS, PRECISION, HARDWARE = 0, 1, 2


@dataclass(frozen=True)
class _Change:
    text: str
    disturbs: int
    note: str = ""
    fields: dict[str, str | int] = field(default_factory=dict)


def placements(
    profile: DeploymentProfile, model: ModelFacts, devices: Iterable[Device], *, sequences: int = 1
) -> tuple[Placement, ...]:
    """For each kind of device the fewest that hold so many longest sequences, smallest set first.

    Tensor parallelism goes before pipeline parallelism for the same number, as it shortens each
    step. Kinds that lack the precision, or of which 16 are too few, are left out.
    """
    found = [(one, _fewest(profile, model, one, sequences)) for one in devices]
    sets = [(place, one.room) for one, place in found if place is not None]
    sets.sort(key=lambda pair: (pair[0].devices, pair[1], pair[0].device))
    return tuple(place for place, _ in sets)


def _fewest(
    profile: DeploymentProfile, model: ModelFacts, device: Device, sequences: int
) -> Placement | None:
    if not can_compute(profile, model, device):
        return None
    for tp, pp in _splits(1 if device.slice_of else MOST_RANKS):
        if split_problems(tp, pp, model, device):
            continue
        ranks: dict[str, int] = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp}
        memory = memory_of(_split(profile, ranks), model, device)
        if memory.sequences >= sequences:
            return Placement(device=device.name, sequences=memory.sequences, **ranks)
    return None


def _split(profile: DeploymentProfile, fields: Mapping[str, str | int]) -> DeploymentProfile:
    """The profile with other fields; where they say its ranks, nothing else splits it."""
    alone: dict[str, str | int | None] = {}
    if "tensor_parallel_size" in fields:
        alone = {
            "context_parallel_size": 1,
            "moe_tensor_parallel_size": None,
            "moe_expert_parallel_size": None,
        }
    return profile.model_copy(update={**alone, **fields})


def _splits(most: int) -> Iterator[tuple[int, int]]:
    """(tp, pp) by their product, the larger tp first."""
    for ranks in range(1, most + 1):
        for tp in range(min(ranks, MOST_TENSOR), 0, -1):
            if ranks % tp == 0:
                yield tp, ranks // tp


def shrinks(profile: DeploymentProfile, model: ModelFacts, device: Device) -> tuple[Shrink, ...]:
    """Changes that make the deployment smaller, best first; none where the whole batch has room.

    First those after which it fits, then those after which the whole batch does, then those that
    disturb least (limits, then precision, then few more GPUs), then those that hold and save most.
    What is saved is counted with one longest sequence where not even that fits, else with all.
    """
    now = memory_of(profile, model, device)
    if now.fits and now.sequences >= now.batch:
        return ()
    ranked = []
    for change in _changes(profile, model, device, now):
        made = _split(profile, change.fields)
        after = memory_of(made, model, device)
        if not change.fields:
            after = _with_windows(after, made, model)
        saved = now.whole_batch - after.whole_batch if now.fits else now.least - after.least
        if saved > 0 and can_compute(made, model, device):
            waits = after.sequences < after.batch
            key = (not after.fits, waits, change.disturbs, -after.sequences, -saved)
            ranked.append((key, _told(change, after, saved)))
    return tuple(one for _, one in sorted(ranked, key=lambda pair: pair[0]))


def _told(change: _Change, after: Memory, saved: int) -> Shrink:
    return Shrink(
        change=change.text,
        fields=change.fields,
        saved_bytes=saved,
        fits=after.fits,
        sequences=after.sequences,
        note=change.note,
    )


def _changes(
    profile: DeploymentProfile, model: ModelFacts, device: Device, now: Memory
) -> Iterator[_Change]:
    yield from _limits(profile, now)
    yield from _precisions(profile, model)
    if any(layer.window for layer in model.stack):
        yield _Change(
            "the layers' windows in max_attention_window of the runtime",
            LIMITS,
            "TensorRT-LLM keeps all tokens in every layer until it is told",
        )
    yield from _ranks(profile, model, device)


def _limits(profile: DeploymentProfile, now: Memory) -> Iterator[_Change]:
    if profile.max_beam_width > 1:
        yield _set("max_beam_width", 1, LIMITS, "beam search is off then")
    if not now.fits and now.batch > FEW:
        yield _set("max_batch_size", FEW, LIMITS, "more requests wait in the queue")
    budget = max(profile.max_input_len, 2048)
    if profile.effective_max_num_tokens > budget and profile.track == "engine":
        yield _set("max_num_tokens", budget, LIMITS, "long prompts take more steps")
    for name in ("max_input_len", "max_output_len"):
        if profile.max_seq_len is None and (half := getattr(profile, name) // 2) >= BLOCK:
            yield _set(name, half, LIMITS, "longer requests are refused")


def _precisions(profile: DeploymentProfile, model: ModelFacts) -> Iterator[_Change]:
    lab = profile.track == "lab"
    caches = ("u8",) if lab else ("fp8", "int8")
    weights = ("int8", "int4") if lab else ("fp8", "int8_wo", "nvfp4", "int4_awq")
    for word in caches:
        if profile.kv_cache_dtype != word:
            yield _set("kv_cache_dtype", word, PRECISION, ACCURACY)
    for word in weights:
        if model.in_force(profile.quantization) != word:
            yield _set("quantization", word, PRECISION, ACCURACY)


def _ranks(profile: DeploymentProfile, model: ModelFacts, device: Device) -> Iterator[_Change]:
    pp = profile.pipeline_parallel_size
    for tp in (2, 4, 8):
        larger = profile.tensor_parallel_size < tp
        if larger and profile.track != "lab" and not split_problems(tp, pp, model, device):
            yield _set("tensor_parallel_size", tp, HARDWARE + tp, f"takes {tp * pp} GPUs")


def _set(name: str, value: str | int, disturbs: int, note: str) -> _Change:
    return _Change(f"{name} {value}", disturbs, note, {name: value})


def _with_windows(memory: Memory, profile: DeploymentProfile, model: ModelFacts) -> Memory:
    """The memory where layers keep only their window: a block then counts for less."""
    tp, pp, kv = (
        profile.tensor_parallel_size,
        profile.pipeline_parallel_size,
        profile.kv_cache_dtype,
    )
    longest = -(-memory.longest // BLOCK) * BLOCK
    kept = model.kv_bytes(longest, kv, tp=tp, pp=pp, windows=True) * profile.max_beam_width
    return replace(memory, block=-(-kept * BLOCK // longest))
