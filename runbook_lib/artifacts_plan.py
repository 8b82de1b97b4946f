"""The plan, page 00's result: does it fit, how many sequences at once, what to change, what it costs.

Memory is that of the fullest device; sizes are bytes, lengths tokens.
"""

from __future__ import annotations

import shlex

from pydantic import Field

from runbook_lib.values import Artifact, Limits, Track, Value, in_lines, size_text

__all__ = [
    "Choice",
    "Estimate",
    "MemoryPart",
    "Placement",
    "Plan",
    "Rate",
    "Shape",
    "Shrink",
    "Speed",
    "TrafficFit",
]

SHOWN = 4  # ways to shrink, or sets of GPUs, that a screen shows; JSON has them all


class MemoryPart(Value):
    """One part of the memory that a deployment takes on each device."""

    name: str
    bytes: int = Field(ge=0)
    note: str = ""


class Estimate(Value):
    """A predicted figure with honest bounds and what it rests on."""

    name: str
    unit: str
    value: float
    low: float
    high: float
    basis: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.value:g} {self.unit} ({self.low:g} to {self.high:g}; {self.basis})"
        )


class Shrink(Value):
    """One change that makes the deployment smaller, and what it gives.

    `saved_bytes` is of what is needed on each device; `sequences` of `max_seq_len` then run at once.
    """

    change: str
    fields: dict[str, str | int] = Field(default_factory=dict)
    saved_bytes: int = Field(ge=0)
    fits: bool
    sequences: int = Field(ge=0)
    note: str = ""

    def __str__(self) -> str:
        verdict = f"{self.sequences} sequences fit" if self.fits else "still does not fit"
        note = f"; {self.note}" if self.note else ""
        return f"{self.change}: {size_text(self.saved_bytes)} less, {verdict}{note}"


class Placement(Value):
    """A set of like GPUs that a deployment runs on, and how many longest sequences that holds."""

    device: str
    tensor_parallel_size: int = Field(gt=0)
    pipeline_parallel_size: int = Field(gt=0)
    sequences: int = Field(ge=0)

    @property
    def devices(self) -> int:
        """GPUs, or slices, of the set."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def __str__(self) -> str:
        ranks = f"tp {self.tensor_parallel_size}, pp {self.pipeline_parallel_size}"
        return f"{self.devices} x {self.device} ({ranks}): {self.sequences} sequences"


class Shape(Value):
    """Limits as tight as a share of the traffic allows.

    `cut_off` is the share of the requests that the limits then refuse; `saved_bytes` is what the
    engine's memory for activations and for `max_batch_size` longest sequences shrinks by.
    """

    keeps: str
    limits: Limits
    max_output_len: int = Field(gt=0)
    cut_off: float = Field(ge=0, le=1)
    saved_bytes: int

    def __str__(self) -> str:
        saved = size_text(abs(self.saved_bytes))
        change = f"saves {saved}" if self.saved_bytes >= 0 else f"takes {saved} more"
        return f"{self.keeps}: {self.limits}; {self.cut_off:.2%} cut off, {change}"


class TrafficFit(Value):
    """How a traffic's lengths meet the profile: what is refused, and how much runs at once.

    `sequences` of these lengths have room in the KV cache in 99 of 100 moments, each counted at the
    length that it will reach. `concurrency` is what the traffic itself has in flight, where it says.
    """

    source: str
    requests: int = Field(gt=0)
    mean_input: float
    mean_tokens: float
    longest_input: int
    longest_total: int
    refused: float = Field(ge=0, le=1)
    sequences: int = Field(ge=0)
    concurrency: int | None = None
    fits: bool
    shapes: tuple[Shape, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        asked = "" if self.concurrency is None else f", {self.concurrency} asked for"
        lengths = (
            f"{self.mean_tokens:,.0f} tokens on average, "
            f"at most {self.longest_input:,} in and {self.longest_total:,} in all"
        )
        return in_lines(
            [
                f"{self.source}: {self.requests:,} requests of {lengths}",
                f"{self.sequences:,} of them run at once{asked}; the limits refuse {self.refused:.2%}",
                *map(str, self.shapes),
                *self.notes,
            ]
        )


class Rate(Value):
    """Output tokens per second of one copy of the model with so many sequences at once."""

    batch: int = Field(gt=0)
    low: float
    value: float
    high: float


class Speed(Value):
    """How fast one copy of the model will be, estimated; every figure has its interval.

    `bound` is what takes most of a step (`memory`, `compute`, `communication` or `overhead`),
    `shares` the share of each part; up to `knee` sequences a batch is nearly free. `nearest` is how
    many published points are like this plan, `rates` are the throughput at other batches, and
    `beyond` says what no published point covers.
    """

    input_len: int = Field(gt=0)
    output_len: int = Field(gt=0)
    batch: int = Field(gt=0)
    prefill: Estimate
    decode: Estimate
    throughput: Estimate
    bound: str
    shares: dict[str, float]
    knee: int
    nearest: int
    rates: tuple[Rate, ...]
    beyond: tuple[str, ...] = ()

    def __str__(self) -> str:
        figures = (
            f"{one.name}: {_short(one.value)} {one.unit} ({_short(one.low)} to {_short(one.high)})"
            for one in (self.prefill, self.decode, self.throughput)
        )
        load = f"{self.batch} sequences of {self.input_len} and {self.output_len} tokens"
        step = f"a step is bound by {self.bound}; batching is nearly free up to {self.knee}"
        beyond = (f"outside what is published: {one}" for one in self.beyond)
        return in_lines([f"{load}, {self.throughput.basis}", *figures, step, *beyond])


class Choice(Value):
    """A field that a preset sets, and why."""

    field: str
    value: str | int
    was: str | int
    reason: str

    def __str__(self) -> str:
        kept = "as it was" if self.value == self.was else f"was {self.was}"
        return f"{self.field} {self.value} ({kept}): {self.reason}"


class Plan(Artifact):
    """Whether a profile fits, in which shapes, and what the following pages will cost.

    `fits` means that it runs: weights, activations, runtime and one sequence of `max_seq_len` have
    room on each device, and so has the traffic where one was given. It does not mean that
    `max_batch_size` sequences may all be at their longest: the KV cache is paged, and what has no
    room waits. `max_concurrent_sequences` says how many may. The lab allots the whole batch at
    once, so there `fits` means all of it. `placements` are the smallest sets of each kind of GPU
    that it runs on, `whole_batch` those that hold the batch at its longest.
    """

    kind = "plan"
    made_by = "00_plan"

    profile: str
    profile_digest: str
    track: Track
    model: str
    device: str
    device_bytes: int = Field(ge=0)
    tensor_parallel_size: int = Field(default=1, gt=0)
    pipeline_parallel_size: int = Field(default=1, gt=0)
    devices: int = Field(default=1, gt=0)
    fits: bool
    parameters: int = Field(ge=0)
    active_parameters: int = Field(default=0, ge=0)
    kv_bytes_per_token: int = Field(ge=0)
    max_concurrent_sequences: int = Field(ge=0)
    limits: Limits
    memory: tuple[MemoryPart, ...]
    commands: tuple[tuple[str, ...], ...]
    estimates: tuple[Estimate, ...] = ()
    speed: Speed | None = None
    traffic: TrafficFit | None = None
    shrinks: tuple[Shrink, ...] = ()
    placements: tuple[Placement, ...] = ()
    whole_batch: tuple[Placement, ...] = ()
    preset: str = ""
    choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """The verdict first, then what it rests on."""
        return [
            ("fits", self._verdict()),
            ("model", f"{self.model}, {self._parameters()}"),
            ("device", self._where()),
            ("limits", str(self.limits)),
            (
                "memory",
                in_lines(
                    f"{one.name}: {size_text(one.bytes)}{f' ({one.note})' if one.note else ''}"
                    for one in self.memory
                ),
            ),
            ("KV cache", f"{self.kv_bytes_per_token:,} bytes per token on each device"),
            ("traffic", "" if self.traffic is None else str(self.traffic)),
            ("to shrink", in_lines(map(str, self.shrinks[:SHOWN]))),
            ("runs on", in_lines(map(str, self.placements[:SHOWN]))),
            ("holds its batch", in_lines(map(str, self.whole_batch[:SHOWN]))),
            (f"preset {self.preset}", in_lines(map(str, self.choices))),
            ("speed", "" if self.speed is None else str(self.speed)),
            ("would take", in_lines(str(one) for one in self.estimates)),
            ("commands", in_lines(shlex.join(argv) for argv in self.commands)),
            ("notes", in_lines(self.notes)),
        ]

    def _verdict(self) -> str:
        room = (
            f"{self.max_concurrent_sequences} sequences of {self.limits.max_seq_len} tokens at once"
        )
        return (
            f"{'yes' if self.fits else 'NO'}: {room}, {self.limits.max_batch_size} may be in flight"
        )

    def _parameters(self) -> str:
        active = self.active_parameters
        used = f", {active:,} used for a token" if 0 < active < self.parameters else ""
        return f"{self.parameters:,} parameters{used}"

    def _where(self) -> str:
        size = size_text(self.device_bytes)
        if self.devices == 1:
            return f"{self.device}, {size}"
        ranks = f"tp {self.tensor_parallel_size}, pp {self.pipeline_parallel_size}"
        return f"{self.devices} x {self.device}, {size} each, {ranks}"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
