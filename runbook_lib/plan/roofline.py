"""How fast a deployment will be: prefill, decode and tokens per second, each as an interval.

A roofline: each step takes as long as its memory traffic, its arithmetic and its messages need on
that machine, with factors fitted to the throughput that TensorRT-LLM's documentation publishes.
How far such estimates were off where a model, GPU or release had been left out of the fit is in
`roofline.json` and in tests/bench/results/roofline.json; the intervals are made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device
from runbook_lib.plan.facts import ModelFacts
from runbook_lib.plan.roofline_check import check
from runbook_lib.plan.roofline_interval import band, nearest, novelties, strangeness
from runbook_lib.plan.roofline_machine import machine
from runbook_lib.plan.roofline_memory import holds
from runbook_lib.plan.roofline_points import Point, alone, published, steady, together
from runbook_lib.plan.roofline_time import Parts, calibration, ceiling, factors, parts
from runbook_lib.plan.roofline_work import Deployment, Step, step_of

__all__ = ["Estimate", "Span", "curve", "estimate"]

NEARLY_FREE = 2.0  # up to the knee, a batch takes less than this times the time of one sequence


@dataclass(frozen=True)
class Span:
    """A figure with its interval: nine of ten left-out points lay between `low` and `high`."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Span:
        """All three, so many times."""
        return Span(self.low * factor, self.middle * factor, self.high * factor)

    def over(self, dividend: float) -> Span:
        """The rate of a dividend, where this is its time."""
        return Span(dividend / self.high, dividend / self.middle, dividend / self.low)


@dataclass(frozen=True)
class Estimate:
    """How fast one replica (all its `tp` x `pp` GPUs) is with `batch` sequences at once.

    `prefill_seconds` is one prompt alone, `decode_seconds_per_token` the pause between two tokens
    of a sequence while no prompt joins, `output_tokens_per_s` all sequences together with the
    prompts of those that follow. `bound` is what takes most of the time (`memory`, `compute`,
    `communication` or `overhead`), `shares` the share of each part. `room` is the sequences that
    the memory holds, `knee` the batch up to which batching is nearly free. `nearest` published
    points share the most with this deployment, namely `shared`; `extrapolated` says in words what
    no published point covers. With few sequences at once the faster end of an interval goes towards
    what the hardware can do at best, as published points say little about launching.
    """

    device: str
    batch: int
    room: int
    input_len: int
    output_len: int
    prefill_seconds: Span
    decode_seconds_per_token: Span
    output_tokens_per_s: Span
    bound: str
    shares: dict[str, float]
    knee: int
    nearest: int
    shared: tuple[str, ...]
    extrapolated: tuple[str, ...]


def estimate(
    model: ModelFacts,
    device: Device,
    *,
    dtype: str,
    quantization: str,
    kv_dtype: str,
    input_len: int,
    output_len: int,
    tp: int = 1,
    pp: int = 1,
    batch: int | None = None,
    trtllm: str | None = None,
    runtime: str | None = None,
    attention_dp: bool = False,
) -> Estimate:
    """How fast a model is on its devices, with intervals from the errors of left-out points.

    Args:
        model: the model's size.
        device: what one rank runs on.
        dtype: type of what is not quantised.
        quantization: of the weights, as in a profile.
        kv_dtype: type of the KV cache.
        input_len: tokens of each prompt.
        output_len: tokens of each answer.
        tp: tensor-parallel ranks.
        pp: pipeline stages.
        batch: sequences at once; None for what the memory holds. More than that wait.
        trtllm: release, such as `1.0.0`; None widens the intervals to an unknown one's.
        runtime: `engine` or `pytorch`; None for that which the release takes by default.
        attention_dp: whether ranks share the sequences out instead of the heads.

    Raises:
        PlanError: a figure is no such figure, the model can't be split so, the weights leave no
            room, or no source tells the device's speed; what is wrong with the figures all at once.
    """
    check(
        model,
        device,
        types=(dtype, kv_dtype),
        quantization=quantization,
        figures={
            "input_len": input_len,
            "output_len": output_len,
            "tp": tp,
            "pp": pp,
            "batch": 1 if batch is None else batch,
        },
        runtime=runtime,
    )
    deployed = Deployment(
        model=model,
        machine=machine(device, model.in_force(quantization)),
        dtype=dtype,
        quantization=quantization,
        kv_dtype=kv_dtype,
        tp=tp,
        pp=pp,
        attention_dp=attention_dp and tp > 1,
        pytorch=_is_pytorch(runtime, trtllm),
    )
    room = holds(deployed, device, input_len + output_len)
    if room < 1:
        raise PlanError(
            f"Not one sequence of {input_len + output_len:,} tokens has room on {device.name}.",
            why="The weights and the runtime take the memory.",
            fix="Quantise, split over more GPUs, or shorten the lengths.",
            page="00_plan",
        )
    running = room if batch is None else min(batch, room)
    load = _Load(running, room, input_len, output_len)
    return _estimate(deployed, device, load, trtllm)


def curve(found: Estimate, *, points: int = 24) -> tuple[int, ...]:
    """Batches, from 1 to the room, at which a figure shows how an estimate grows."""
    steps = (found.room ** (at / (points - 1)) for at in range(points))
    return tuple(sorted({round(step) for step in steps} | {found.batch}))


@dataclass(frozen=True)
class _Load:
    batch: int
    room: int
    input_len: int
    output_len: int

    def step(self, deployed: Deployment, *, batch: int | None = None, prompts: bool = True) -> Step:
        """The mean step, at this batch or another."""
        lengths = self.input_len, self.output_len
        carried = steady(deployed, batch or self.batch, *lengths, prompts=prompts)
        return step_of(deployed, carried)


def _estimate(deployed: Deployment, device: Device, load: _Load, trtllm: str | None) -> Estimate:
    prompt = step_of(deployed, alone(load.input_len))
    mean, decode = load.step(deployed), load.step(deployed, prompts=False)
    whole = parts(mean, factors())
    beyond = _beyond(deployed, load)
    new = novelties(deployed, trtllm, sliced=bool(device.slice_of))
    if beyond:
        new.append("several")
    kind = "moe" if deployed.model.experts else "dense"
    errors = band(new, kind, calibration()["log_errors"])
    count, shared = nearest(deployed, trtllm)
    shares = _shares(whole)
    if shares["overhead"] > _covered(mean):
        beyond.append(
            f"launching and scheduling take {shares['overhead']:.0%} of a step, "
            "more than in 19 of 20 published points"
        )
    return Estimate(
        device=device.name,
        batch=load.batch,
        room=load.room,
        input_len=load.input_len,
        output_len=load.output_len,
        prefill_seconds=_seconds(prompt, errors).times(deployed.pp),
        decode_seconds_per_token=_seconds(decode, errors).times(deployed.pp),
        output_tokens_per_s=_seconds(mean, errors).over(together(deployed, load.batch)),
        bound=_bound(whole, shares),
        shares=shares,
        knee=_knee(deployed, load),
        nearest=count,
        shared=shared,
        extrapolated=(*strangeness(deployed, trtllm, device=device.name), *beyond),
    )


def _seconds(step: Step, errors: tuple[float, float]) -> Span:
    """Seconds of a step and their interval, which never goes below what the hardware can do.

    Where launching and scheduling take more of the step than in the published points, nothing tells
    how much of it is hidden: the more, the nearer the interval begins to what the hardware can do.
    """
    spent, least = parts(step, factors()), ceiling(step)
    middle, covered = float(spent.total), _covered(step)
    unknown = max(float(spent.overhead) / middle - covered, 0.0) / (1 - covered)
    low = max(middle * math.exp(errors[0]), least)
    return Span(low ** (1 - unknown) * least**unknown, middle, middle * math.exp(errors[1]))


def _covered(step: Step) -> float:
    """The share of a step in launching that 19 of 20 published points of the runtime stay below."""
    found = calibration()["overhead_covered"]["pytorch" if step.is_pytorch else "engine"]
    return float(found)


def _shares(spent: Parts) -> dict[str, float]:
    """Share of a step's time by part, rounded to a thousandth."""
    seconds = {
        "matrices": spent.matrices,
        "cache": spent.cache,
        "attention": spent.attention,
        "communication": spent.communication,
        "overhead": spent.overhead,
    }
    total = sum(seconds.values())
    return {name: round(one / total, 3) for name, one in seconds.items()}


def _bound(spent: Parts, shares: dict[str, float]) -> str:
    reading = spent.weights >= spent.compute
    by = {
        "memory": shares["cache"] + shares["matrices"] * reading,
        "compute": shares["attention"] + shares["matrices"] * (not reading),
        "communication": shares["communication"],
        "overhead": shares["overhead"],
    }
    return max(by, key=lambda name: by[name])


def _knee(deployed: Deployment, load: _Load) -> int:
    """The largest batch whose step takes less than twice the time of a step of one sequence."""

    def seconds(batch: int) -> float:
        return float(parts(load.step(deployed, batch=batch), factors()).total)

    most = NEARLY_FREE * seconds(1)
    low, high = 1, load.room + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seconds(middle) >= most else (middle, high)
    return low


def _is_pytorch(runtime: str | None, trtllm: str | None) -> bool:
    """PyTorch is the default from 1.0."""
    if runtime is not None:
        return runtime == "pytorch"
    return trtllm is not None and not trtllm.startswith("0.")


def _beyond(deployed: Deployment, load: _Load) -> list[str]:
    """Figures of the load that lie outside what the published points span."""
    points = _under_load()
    found = {
        "sequences at once": (load.batch, _published_batches()),
        "tokens of a prompt": (load.input_len, [point.input_len for point in points]),
        "tokens of an answer": (load.output_len, [point.output_len for point in points]),
        "GPUs": (
            deployed.tp * deployed.pp,
            [point.deployed.tp * point.deployed.pp for point in points],
        ),
    }
    return [
        f"{figure:,} {name}: published points have {min(span):,} to {max(span):,}"
        for name, (figure, span) in found.items()
        if not min(span) <= figure <= max(span)
    ]


def _under_load() -> list[Point]:
    return [point for point in published() if not point.first_token]


def _published_batches() -> list[int]:
    return [point.batch for point in _under_load()]
