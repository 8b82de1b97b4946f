"""Shapes from traffic: limits as tight as the lengths of real requests allow.

A request is an input and an output length in tokens. The kept requests are the shortest ones by
their total, so limits for a larger share never get tighter, and no kept request is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.artifacts_plan import Shape, TrafficFit
from runbook_lib.hardware import Device
from runbook_lib.plan.facts_model import ModelFacts
from runbook_lib.plan.fit_memory import memory_of
from runbook_lib.profile import DeploymentProfile
from runbook_lib.values import Limits

__all__ = ["Request", "Traffic", "limits_for", "traffic_fit"]

SHARES = (("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
STEP = 64  # max_num_tokens in multiples of this: what matrix kernels take without padding


@dataclass(frozen=True)
class Request:
    """Tokens of one prompt and of its answer."""

    input: int
    output: int

    @property
    def total(self) -> int:
        """Tokens of both."""
        return self.input + self.output


@dataclass(frozen=True)
class Traffic:
    """Requests by their lengths, where they are from, and how many are in flight if that is known."""

    source: str
    requests: tuple[Request, ...]
    concurrency: int | None = None
    notes: tuple[str, ...] = ()


def limits_for(requests: Sequence[Request], share: float, batch: int) -> tuple[Limits, int]:
    """The tightest limits that refuse none of the shortest `share` of the requests.

    Args:
        requests: lengths, at least one.
        share: of the requests to keep, above 0 to 1.
        batch: sequences in flight.

    Returns:
        The limits, and the longest answer that is kept.
    """
    kept = sorted(requests, key=lambda one: (one.total, one.input))
    kept = kept[: math.ceil(share * len(kept) - 1e-9)]
    longest_input, longest = max(one.input for one in kept), kept[-1].total
    step = min(longest_input + batch, batch * longest)
    limits = Limits(
        max_batch_size=batch,
        max_input_len=longest_input,
        max_seq_len=longest,
        max_num_tokens=-(-max(step, longest_input) // STEP) * STEP,
    )
    return limits, max(one.output for one in kept)


def traffic_fit(
    profile: DeploymentProfile, model: ModelFacts, device: Device, traffic: Traffic
) -> TrafficFit:
    """How a traffic meets the profile, and the shapes that would be tight to it.

    It fits where the profile does, no request is longer than the limits, and as many as are in
    flight (not more than `max_batch_size`) have room at once; where that isn't known, one is enough.
    """
    memory, requests = memory_of(profile, model, device), traffic.requests
    lengths = [one.total for one in requests]
    refused = _share_refused(requests, profile.max_input_len, profile.effective_max_seq_len)
    held, wanted = memory.held(lengths), min(traffic.concurrency or 1, memory.batch)
    return TrafficFit(
        source=traffic.source,
        requests=len(requests),
        mean_input=sum(one.input for one in requests) / len(requests),
        mean_tokens=sum(lengths) / len(lengths),
        longest_input=max(one.input for one in requests),
        longest_total=max(lengths),
        refused=refused,
        sequences=held,
        concurrency=traffic.concurrency,
        fits=memory.fits and refused == 0 and held >= wanted,
        shapes=tuple(_shapes(profile, model, device, traffic)),
        notes=traffic.notes,
    )


def _shapes(
    profile: DeploymentProfile, model: ModelFacts, device: Device, traffic: Traffic
) -> list[Shape]:
    """Shapes for each share; equal ones once, under the largest share."""
    before = memory_of(profile, model, device)
    shapes: dict[Limits, Shape] = {}
    for keeps, share in SHARES:
        batch = traffic.concurrency or profile.max_batch_size
        limits, longest_output = limits_for(traffic.requests, share, batch)
        if traffic.concurrency is None:
            kept = [one.total for one in traffic.requests if _accepted(one, limits)]
            shaped = _shaped(profile, limits, longest_output)
            held = memory_of(shaped, model, device).held(kept)
            limits, longest_output = limits_for(traffic.requests, share, min(batch, max(held, 1)))
        after = memory_of(_shaped(profile, limits, longest_output), model, device)
        shapes[limits] = Shape(
            keeps=keeps,
            limits=limits,
            max_output_len=longest_output,
            cut_off=_share_refused(traffic.requests, limits.max_input_len, limits.max_seq_len),
            saved_bytes=before.whole_batch - after.whole_batch,
        )
    return list(shapes.values())


def _shaped(profile: DeploymentProfile, limits: Limits, longest_output: int) -> DeploymentProfile:
    fields = {name: value for name, value in limits if name != "max_beam_width"}
    return profile.model_copy(update={**fields, "max_output_len": longest_output})


def _accepted(one: Request, limits: Limits) -> bool:
    return one.input <= limits.max_input_len and one.total <= limits.max_seq_len


def _share_refused(requests: Sequence[Request], longest_input: int, longest: int) -> float:
    refused = sum(one.input > longest_input or one.total > longest for one in requests)
    return refused / len(requests)
