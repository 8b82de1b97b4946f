"""The speed of a plan: the roofline's estimate at the lengths and the batch that it will run with."""

from __future__ import annotations

from functools import partial

from runbook_lib.artifacts_plan import Estimate, Plan, Rate, Speed
from runbook_lib.hardware import Device
from runbook_lib.plan.facts_model import ModelFacts
from runbook_lib.plan.roofline import Span, curve, estimate
from runbook_lib.profile import DeploymentProfile

__all__ = ["speed"]

RUNTIMES = {"engine": "engine", "llmapi": "pytorch"}
BASIS = "a roofline fitted to published throughput, its interval from points left out of the fit"


def speed(profile: DeploymentProfile, model: ModelFacts, device: Device, made: Plan) -> Speed:
    """How fast the plan will be with as many sequences at once as it holds.

    Each has the traffic's mean lengths, or where there is none the limits' longest.

    Args:
        profile: what is planned.
        model: the model's size.
        device: what one rank runs on.
        made: the plan, with its traffic.

    Raises:
        PlanError: no source tells the device's speed in this precision, or nothing has room.
    """
    lengths, held = _load(profile, made)
    of_batch = partial(
        estimate,
        model,
        device,
        dtype=profile.dtype,
        quantization=profile.quantization,
        kv_dtype=profile.kv_cache_dtype,
        input_len=lengths[0],
        output_len=lengths[1],
        tp=profile.tensor_parallel_size,
        pp=profile.pipeline_parallel_size,
        trtllm=profile.trtllm_version,
        runtime=RUNTIMES[profile.track],
    )
    found = of_batch(batch=max(1, min(profile.max_batch_size, held)))
    at = {batch: of_batch(batch=batch).output_tokens_per_s for batch in curve(found)}
    return Speed(
        input_len=found.input_len,
        output_len=found.output_len,
        batch=found.batch,
        prefill=_told("first token of a prompt alone", "s", found.prefill_seconds),
        decode=_told("time between two tokens", "s", found.decode_seconds_per_token),
        throughput=_told("output tokens", "tokens/s", found.output_tokens_per_s),
        bound=found.bound,
        shares=found.shares,
        knee=found.knee,
        nearest=found.nearest,
        rates=tuple(
            Rate(batch=batch, low=one.low, value=one.middle, high=one.high)
            for batch, one in at.items()
        ),
        beyond=found.extrapolated,
    )


def _load(profile: DeploymentProfile, made: Plan) -> tuple[tuple[int, int], int]:
    """Tokens of a prompt and of its answer, and how many such sequences the plan holds at once."""
    met = made.traffic
    if met is None:
        return (profile.max_input_len, profile.max_output_len), made.max_concurrent_sequences
    mean = max(1, round(met.mean_input))
    return (mean, max(1, round(met.mean_tokens) - mean)), met.sequences


def _told(name: str, unit: str, span: Span) -> Estimate:
    return Estimate(
        name=name, unit=unit, value=span.middle, low=span.low, high=span.high, basis=BASIS
    )
