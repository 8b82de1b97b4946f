"""What one step of an engine reads, computes and sends on each GPU: the roofline's terms.

A step takes a number of tokens through the layers: one of each running sequence, and the prompts
that join. Attention data parallelism keeps all but the experts whole on each rank, and shares the
sequences out instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

from runbook_lib.plan.facts import BYTES, ModelFacts
from runbook_lib.plan.facts_model import BITS, EXPERTS_ONLY
from runbook_lib.plan.roofline_machine import Machine

__all__ = ["Deployment", "Step", "Traffic", "step_of"]


@dataclass(frozen=True)
class Deployment:
    """A model on its devices, as a roofline sees it.

    `kv_dtype` is the type of the cache; `attention_dp` shares sequences, not heads, between ranks;
    `pytorch` says which of TensorRT-LLM's two runtimes it is.
    """

    model: ModelFacts
    machine: Machine
    dtype: str
    quantization: str
    kv_dtype: str
    tp: int = 1
    pp: int = 1
    attention_dp: bool = False
    pytorch: bool = False

    @property
    def heads_over(self) -> int:
        """Ranks that attention and the dense matrices are split over."""
        return 1 if self.attention_dp else self.tp

    @property
    def sequences_over(self) -> int:
        """Ranks that the sequences are shared between."""
        return self.tp if self.attention_dp else 1

    def held(self) -> float:
        """Bytes of the weights on one rank."""
        if not self.attention_dp:
            return self.model.weight_bytes(
                self.dtype, self.quantization, tp=self.tp, pp=self.pp, ep=1
            )
        whole = self.model.weight_bytes(self.dtype, self.quantization, pp=self.pp)
        experts = _experts(self) / self.pp
        return whole - experts * (1 - 1 / self.tp)

    def kept(self, tokens: int) -> float:
        """Bytes of the cache that one sequence of so many tokens takes on a rank that holds it."""
        return self.model.kv_bytes(
            tokens, self.kv_dtype, tp=self.heads_over, pp=self.pp, windows=True
        )


@dataclass(frozen=True)
class Traffic:
    """What one step carries.

    Args:
        tokens: through the layers, on all ranks together.
        sequences: that get a token, on all ranks together.
        per_rank: the share of both on the fullest rank (1 / ranks where sequences are shared out).
        context: tokens that each sequence looks back to.
        prompt_tokens: of `tokens`, those of prompts.
        prompt: length of one prompt.
    """

    tokens: float
    sequences: float
    per_rank: float = 1.0
    context: float = 0.0
    prompt_tokens: float = 0.0
    prompt: float = 0.0


@dataclass(frozen=True)
class Step:
    """The work of one step on one rank of one pipeline stage, and the ceilings that it meets.

    Every field is a number, or an array of as many as there are steps: the arithmetic is the same.
    Bytes, FLOPs; `messages` is the number of collective operations, `sent` their bytes over the
    link; `is_*` are 0 or 1.
    """

    weights: Any
    experts_all: Any
    expert_idle: Any
    tokens: Any
    compute: Any
    compute_experts: Any
    compute_head: Any
    passed: Any
    cache: Any
    cache_compute: Any
    prompt_compute: Any
    messages: Any
    sent: Any
    layers: Any
    mixtures: Any
    sequences: Any
    bandwidth: Any
    flops: Any
    flops_16: Any
    link: Any
    is_8: Any
    is_4: Any
    is_unpacked: Any
    is_nvlink: Any
    is_pytorch: Any
    is_pipeline: Any

    @classmethod
    def stacked(cls, steps: Iterable[Step], stack: Callable[[list[float]], Any]) -> Self:
        """Many steps as one, each field through `stack` (such as `numpy.array`)."""
        rows = list(steps)
        return cls(
            **{one.name: stack([getattr(row, one.name) for row in rows]) for one in fields(cls)}
        )


def step_of(deployed: Deployment, carried: Traffic) -> Step:
    """The work of a step that carries this traffic."""
    model, made, tp, pp = deployed.model, deployed.machine, deployed.tp, deployed.pp
    over = deployed.heads_over
    dense, experts, ends = _dense(deployed), _experts(deployed), model.head / over
    plain = BYTES[deployed.dtype]
    tokens = carried.tokens * carried.per_rank
    sequences = carried.sequences * carried.per_rank
    mixed = [layer for layer in model.stack if layer.experts]
    routed = sum(layer.active_experts * layer.expert for layer in mixed)
    inner = sum(
        layer.active_experts * (model.hidden + layer.expert // (3 * model.hidden))
        for layer in mixed
    )
    looked_back = sum(
        min(carried.context, layer.window or carried.context) for layer in model.stack
    )
    prompt_back = sum(
        min(carried.prompt / 2, layer.window or carried.prompt) for layer in model.stack
    )
    elements = model.heads * model.head_dim
    return Step(
        weights=(dense + ends * plain) / pp,
        experts_all=experts / tp / pp,
        expert_idle=1 - max((one.active_experts / one.experts for one in mixed), default=1.0),
        tokens=carried.tokens,
        compute=2 * tokens * _matrices(model) / over / pp,
        compute_experts=2 * carried.tokens * routed / tp / pp,
        compute_head=2 * sequences * ends / pp,
        passed=2 * (tokens * model.layers * model.hidden + carried.tokens * inner / tp) / pp,
        cache=sequences * looked_back * model.cache_per_layer(over) * BYTES[deployed.kv_dtype] / pp,
        cache_compute=4
        * sequences
        * looked_back
        * (model.heads * model.latent or elements)
        / over
        / pp,
        prompt_compute=4
        * carried.prompt_tokens
        * carried.per_rank
        * prompt_back
        * elements
        / over
        / pp,
        **_communication(deployed, carried.tokens, len(mixed)),
        layers=model.layers / pp,
        mixtures=len(mixed) / pp,
        sequences=carried.sequences,
        bandwidth=made.bandwidth,
        flops=made.flops,
        flops_16=made.flops_16,
        link=made.link or 1.0,
        is_8=float(made.width == "8-bit"),
        is_4=float(made.width == "4-bit"),
        is_unpacked=float(
            made.width == "16-bit" and model.in_force(deployed.quantization) != "none"
        ),
        is_nvlink=float(made.nvlink),
        is_pytorch=float(deployed.pytorch),
        is_pipeline=float(pp > 1),
    )


def _packed(deployed: Deployment) -> tuple[float, float]:
    """Bytes of a parameter of the experts, and of the other matrices."""
    plain, used = BYTES[deployed.dtype], deployed.model.in_force(deployed.quantization)
    packed = plain if used == "none" else BITS[used] / 8
    return packed, plain if used in EXPERTS_ONLY else packed


def _matrices(model: ModelFacts) -> float:
    return sum(layer.split + layer.keys + layer.copied for layer in model.stack)


def _dense(deployed: Deployment) -> float:
    """Bytes of a rank's layers, all stages together, without their experts."""
    over, plain = deployed.heads_over, BYTES[deployed.dtype]
    _, packed = _packed(deployed)
    keys = min(over, deployed.model.kv_heads)
    return sum(
        (layer.split / over + layer.keys / keys + layer.copied) * packed + layer.plain * plain
        for layer in deployed.model.stack
    )


def _experts(deployed: Deployment) -> float:
    """Bytes of all experts of all layers."""
    packed, plain = _packed(deployed)[0], BYTES[deployed.dtype]
    return sum(
        layer.experts * (layer.expert * packed + layer.expert_plain * plain)
        for layer in deployed.model.stack
    )


def _communication(deployed: Deployment, tokens: float, mixed: int) -> dict[str, float]:
    """Collective operations of a step and the bytes that a rank sends in them.

    With split heads each layer ends its two halves in an all-reduce of 16-bit activations, which
    sends `2 * (tp - 1) / tp` of the message. With attention data parallelism each mixture gathers
    the tokens as its matrices take them, and scatters the sums.
    """
    model, tp = deployed.model, deployed.tp
    if tp == 1:
        return {"messages": 0.0, "sent": 0.0}
    message = tokens * model.hidden * (tp - 1) / tp / deployed.pp
    if deployed.attention_dp:
        gathered = {"16-bit": 2.0, "8-bit": 1.0, "4-bit": BITS["nvfp4"] / 8}
        each = gathered[deployed.machine.width] + 2
        return {"messages": 2 * mixed / deployed.pp, "sent": message * each * mixed}
    return {"messages": 2 * model.layers / deployed.pp, "sent": message * 8 * model.layers}
