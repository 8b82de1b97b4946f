"""The memory of a deployment on its fullest device, part by part, and what the KV cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from runbook_lib.artifacts_plan import MemoryPart
from runbook_lib.hardware import Device, overheads
from runbook_lib.plan.facts_model import BYTES, ModelFacts
from runbook_lib.profile import DeploymentProfile
from runbook_lib.values import size_text

__all__ = ["BLOCK", "Memory", "memory_of", "parts"]

POOL = 0.9  # share of the free memory that the KV cache takes: TensorRT-LLM's default
BLOCK = 32  # tokens in a block of the paged KV cache: trtllm-build's default since 0.19
# TensorRT's execution memory against the widest layer's tensors, in the two logs that state it:
# 2.4 times in docs/source/reference/memory.md, 1.5 times in benchmarks/Suite.md (both 8192 tokens).
WORKSPACE = 2.4
# Runtime and decoder buffers for each sequence and word of the vocabulary: 1.14 and 4.35 GiB for
# 4096 sequences and 50,400 words in benchmarks/Suite.md.
BYTES_PER_LOGIT = 29
LAB_BYTES_PER_LOGIT = 4
TAIL = 2.326  # standard deviations that leave out 1 of 100 moments


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device; a block is one of the cache with all beams of a sequence."""

    device: int
    weights: int
    activations: int
    runtime: int
    block: int
    longest: int
    batch: int
    lab: bool = False

    @property
    def fixed(self) -> int:
        """All but the KV cache."""
        return self.weights + self.activations + self.runtime

    @property
    def free(self) -> int:
        """What is left for the KV cache; negative where the rest alone is too large."""
        return self.device - self.fixed

    @property
    def pool(self) -> int:
        """The KV cache: a share of what is left."""
        return int(max(self.free, 0) * POOL)

    def sequence(self, tokens: int) -> int:
        """Bytes of the cache that a sequence of so many tokens takes, in whole blocks."""
        return -(-tokens // BLOCK) * self.block

    @property
    def sequences(self) -> int:
        """Longest sequences that the KV cache holds; the lab allots no more than its batch."""
        room = self.pool // self.sequence(self.longest)
        return min(room, self.batch) if self.lab else room

    @property
    def fits(self) -> bool:
        """Whether it runs: with one sequence at its longest; in the lab with the whole batch."""
        return self.sequences >= (self.batch if self.lab else 1)

    @property
    def cache(self) -> int:
        """The KV cache as it is allotted, or what the least would take where it doesn't fit."""
        if self.lab:
            return self.batch * self.sequence(self.longest)
        return self.pool if self.fits else self.least - self.fixed

    @property
    def least(self) -> int:
        """Bytes with one sequence at its longest: what it takes to run at all."""
        return self.fixed + ceil(self.sequence(self.longest) / POOL)

    @property
    def whole_batch(self) -> int:
        """Bytes with every sequence of the batch at its longest."""
        return self.fixed + ceil(self.batch * self.sequence(self.longest) / POOL)

    def held(self, lengths: Sequence[int]) -> int:
        """Sequences of such lengths that have room at once, in 99 of 100 moments.

        Each counts at its full length, as the scheduler that never evicts reserves it: the largest
        n with `n * mean + 2.326 * sd * sqrt(n)` bytes in the cache, and never fewer than if all
        were as the longest.
        """
        sizes = [self.sequence(length) for length in lengths]
        mean = sum(sizes) / len(sizes)
        spread = TAIL * sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes))
        root = (sqrt(spread**2 + 4 * mean * self.pool) - spread) / (2 * mean)
        return max(int(root**2), self.pool // max(sizes))


def memory_of(profile: DeploymentProfile, model: ModelFacts, device: Device) -> Memory:
    """The memory that a profile takes on each device.

    Context parallelism is taken to leave the cache of each rank as it is, which it may lessen.
    """
    tp, pp = profile.tensor_parallel_size, profile.pipeline_parallel_size
    lab, ep = profile.track == "lab", profile.effective_moe_expert_parallel_size
    known = overheads()
    kept = model.kv_bytes_per_token(profile.kv_cache_dtype, tp=tp, pp=pp)
    return Memory(
        device=device.room,
        weights=model.weight_bytes(
            profile.dtype, profile.quantization, tp=tp, pp=pp, ep=ep, lab=lab
        ),
        activations=_activations(profile, model),
        runtime=0 if lab else known.runtime_bytes + known.nccl(profile.world_size),
        block=BLOCK * profile.max_beam_width * kept,
        longest=profile.effective_max_seq_len,
        batch=profile.max_batch_size,
        lab=lab,
    )


def _activations(profile: DeploymentProfile, model: ModelFacts) -> int:
    """The residual stream, its copy, and both inner halves of the widest layer; and the logits."""
    lab = profile.track == "lab"
    wide = 2 * model.hidden + 2 * -(-model.intermediate // profile.tensor_parallel_size)
    computed_in = BYTES["float32"] if lab else WORKSPACE * BYTES[profile.dtype]
    logits = profile.max_batch_size * profile.max_beam_width * model.vocab
    each = LAB_BYTES_PER_LOGIT if lab else BYTES_PER_LOGIT
    return int(profile.effective_max_num_tokens * wide * computed_in) + logits * each


def parts(profile: DeploymentProfile, model: ModelFacts, memory: Memory) -> tuple[MemoryPart, ...]:
    """The parts for people, each with what it rests on; the runtime only where it counts."""
    quantised = model.in_force(profile.quantization)
    found = [
        MemoryPart(
            name="weights",
            bytes=memory.weights,
            note=f"{profile.dtype}, quantisation {quantised}; exact count",
        ),
        MemoryPart(name="KV cache", bytes=memory.cache, note=_cache_note(profile, memory)),
        MemoryPart(
            name="activations", bytes=memory.activations, note=_activations_note(profile, memory)
        ),
    ]
    if not memory.lab:
        note = "context, libraries, NCCL; ai-dynamo/aiconfigurator's figures"
        found.append(MemoryPart(name="runtime", bytes=memory.runtime, note=note))
    return tuple(found)


def _cache_note(profile: DeploymentProfile, memory: Memory) -> str:
    kept = f"{profile.kv_cache_dtype}, blocks of {BLOCK} tokens"
    whole = size_text(memory.batch * memory.sequence(memory.longest))
    if memory.lab:
        return f"{memory.batch} sequences of {memory.longest} tokens, {kept}; exact"
    if not memory.fits:
        return f"one sequence of {memory.longest} tokens, {kept}; the least"
    return f"{POOL:.0%} of what is left, {kept}; {memory.batch} longest sequences: {whole}"


def _activations_note(profile: DeploymentProfile, memory: Memory) -> str:
    step = f"max_num_tokens {profile.effective_max_num_tokens}, and the decoder's buffers"
    return f"{step}; a lower bound" if memory.lab else f"{step}; from two published logs"
