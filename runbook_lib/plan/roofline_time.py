"""Seconds of a step from its work: the ceilings of the machine, and how close kernels come to them.

The few factors are fitted to published throughput (`roofline.json`); what each means stands here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.plan.roofline_work import Step

__all__ = ["DATA", "Factors", "Parts", "calibration", "ceiling", "factors", "parts"]

DATA = Path(__file__).resolve().parent / "roofline.json"


@dataclass(frozen=True)
class Factors:
    """How close kernels come to a machine's ceilings. Shares of 1, or seconds where so named.

    Args:
        weights_read: share of the memory bandwidth at which weights are read.
        cache_read: share of it at which attention reads the cache.
        compute_16: share of the FLOP/s that 16-bit matrices reach.
        compute_8: of 8-bit ones.
        compute_4: of 4-bit ones.
        experts: what of that share remains in the many small matrices of experts.
        unpacking: what of it remains where weights of fewer bits are unpacked to 16 first.
        attention: share of the 16-bit FLOP/s that attention reaches.
        passes: times that each activation crosses the memory between kernels.
        nvlink: share of the link's bandwidth that collectives reach over NVLink.
        pcie: over PCIe.
        message_seconds: of one collective, however small.
        layer_seconds: of one layer, however small: launches that nothing hides.
        mixture_seconds: what routing to experts adds to a layer.
        step_engine_seconds: of one step in the TensorRT runtime, however small.
        step_pytorch_seconds: in the PyTorch runtime.
        sequence_engine_seconds: of each running sequence in a step: scheduling, sampling.
        sequence_pytorch_seconds: in the PyTorch runtime.
        pipeline: share of the time that stages of a pipeline are busy.
        overlap: how sharply the slower of reading and computing hides the other: the exponent of
            their norm, less 1.
    """

    weights_read: float
    cache_read: float
    compute_16: float
    compute_8: float
    compute_4: float
    experts: float
    unpacking: float
    attention: float
    passes: float
    nvlink: float
    pcie: float
    message_seconds: float
    layer_seconds: float
    mixture_seconds: float
    step_engine_seconds: float
    step_pytorch_seconds: float
    sequence_engine_seconds: float
    sequence_pytorch_seconds: float
    pipeline: float
    overlap: float


@dataclass(frozen=True)
class Parts:
    """Seconds of a step on one pipeline stage, by what they are spent on.

    `weights` and `compute` overlap: `matrices` is what both together take.
    """

    weights: Any
    compute: Any
    matrices: Any
    cache: Any
    attention: Any
    communication: Any
    overhead: Any
    busy: Any

    @property
    def total(self) -> Any:
        """Seconds of the step: a pipeline's stages wait for each other part of the time."""
        spent = self.matrices + self.cache + self.attention + self.communication + self.overhead
        return spent / self.busy


def parts(step: Step, known: Factors) -> Parts:
    """Seconds of a step. Fields of the step may be arrays: then those of the answer are, too."""
    read = step.bandwidth * known.weights_read
    share = (
        known.compute_16 * (1 - step.is_8 - step.is_4)
        + known.compute_8 * step.is_8
        + known.compute_4 * step.is_4
    ) * (1 - step.is_unpacked * (1 - known.unpacking))
    used = 1 - step.expert_idle**step.tokens
    weights = (step.weights + step.experts_all * used) / read
    compute = (step.compute + step.compute_experts / known.experts) / (
        step.flops * share
    ) + step.compute_head / (step.flops_16 * known.compute_16)
    norm = 1 + known.overlap
    plain = step.flops_16 * known.attention
    link = step.link * (known.nvlink * step.is_nvlink + known.pcie * (1 - step.is_nvlink))
    fetched = step.cache / (step.bandwidth * known.cache_read)
    return Parts(
        weights=weights,
        compute=compute,
        matrices=(weights**norm + compute**norm) ** (1 / norm) + known.passes * step.passed / read,
        cache=(fetched**2 + (step.cache_compute / plain) ** 2) ** 0.5,
        attention=step.prompt_compute / plain,
        communication=step.messages * known.message_seconds + step.sent / link,
        overhead=_of(step, known.step_engine_seconds, known.step_pytorch_seconds)
        + step.sequences * _of(step, known.sequence_engine_seconds, known.sequence_pytorch_seconds)
        + step.layers * known.layer_seconds
        + step.mixtures * known.mixture_seconds,
        busy=1 - step.is_pipeline * (1 - known.pipeline),
    )


def ceiling(step: Step) -> float:
    """Seconds that no kernel can go below: the memory, the arithmetic or the link at their best."""
    read = step.weights + step.experts_all * (1 - step.expert_idle**step.tokens) + step.cache
    plain = step.compute_head + step.cache_compute + step.prompt_compute
    computed = (step.compute + step.compute_experts) / step.flops + plain / step.flops_16
    return float(max(read / step.bandwidth, computed, step.sent / step.link))


def _of(step: Step, engine: float, pytorch: float) -> Any:
    return engine * (1 - step.is_pytorch) + pytorch * step.is_pytorch


@cache
def calibration() -> dict[str, Any]:
    """The fitted factors, the quantiles of the left-out errors, and the score."""
    return dict(json.loads(DATA.read_bytes()))


def factors() -> Factors:
    """The factors that were fitted to all published points."""
    return Factors(**calibration()["factors"])
