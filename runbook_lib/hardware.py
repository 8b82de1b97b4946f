"""GPUs and their MIG slices: SM, memory, bandwidth, throughput, and their names in Kubernetes.

The figures stand in `hardware.json`, each GPU with its source; what no source gives is absent.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.errors import ProfileError

__all__ = ["Device", "Gpu", "MigSlice", "Overheads", "device", "gpu", "gpu_names", "overheads"]

DATA = Path(__file__).resolve().parent / "hardware.json"
SLICE = re.compile(r"^\d+g\.(?P<gigabytes>\d+)gb")


@dataclass(frozen=True)
class Device:
    """What one rank of a service runs on: a GPU, a slice of one, or the lab's machine.

    `target` is what an engine is compiled for (`sm90`; the ISA level in the lab), `basis` says
    what `memory_bytes` rests on, `slice_of` names the GPU of a MIG slice. `usable_bytes` is what
    CUDA told of one, 0 where none was measured.
    """

    name: str
    memory_bytes: int
    target: str
    basis: str = ""
    slice_of: str = ""
    usable_bytes: int = 0
    usable_basis: str = ""

    @property
    def room(self) -> int:
        """Bytes to plan with: as measured, else as the source says."""
        return self.usable_bytes or self.memory_bytes

    @property
    def room_basis(self) -> str:
        """What `room` rests on."""
        return self.usable_basis or self.basis


@dataclass(frozen=True)
class MigSlice:
    """One MIG profile of a GPU, such as `1g.10gb`, and how many of it the GPU has at most."""

    name: str
    count: int

    @property
    def memory_bytes(self) -> int:
        """The gigabytes (10^9) of its name; a driver reports a little more (9728 MiB for 10 GB)."""
        found = SLICE.match(self.name)
        assert found is not None, self.name
        return int(found["gigabytes"]) * 10**9

    @property
    def resource(self) -> str:
        """The resource a pod asks for where the device plugin's strategy is `mixed`."""
        return f"nvidia.com/mig-{self.name.replace('+', '.')}"

    def labels(self) -> dict[str, str]:
        """Labels that GPU feature discovery gives a node of this slice under strategy `mixed`."""
        return {"nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "mixed"}


@dataclass(frozen=True)
class Gpu:
    """One GPU model. Bandwidth in GB/s, throughput in dense TFLOPS (int8: TOPS) per precision."""

    name: str
    compute_capability: str
    architecture: str
    memory_bytes: int
    memory_basis: str
    bandwidth_gb_s: float | None
    dense_tflops: dict[str, float]
    link: str
    link_gb_s_per_direction: float | None
    mig: tuple[MigSlice, ...]
    source: str
    note: str = ""
    usable_bytes: int = 0
    usable_basis: str = ""

    @property
    def sm(self) -> str:
        """The SM as engines name it: `sm90`."""
        return "sm" + self.compute_capability.replace(".", "")

    @property
    def resource(self) -> str:
        """The resource a pod asks for."""
        return "nvidia.com/gpu"

    def labels(self) -> dict[str, str]:
        """Labels that GPU feature discovery gives every node whose SM is this one."""
        major, _, minor = self.compute_capability.partition(".")
        return {"nvidia.com/gpu.compute.major": major, "nvidia.com/gpu.compute.minor": minor}

    def slice(self, name: str) -> MigSlice:
        """A MIG slice by its name.

        Raises:
            ProfileError: this GPU has no such slice; those that it has are named.
        """
        for one in self.mig:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.mig)
        raise ProfileError(
            f"{self.name} has no MIG slice {name!r}.",
            why="" if known else f"{self.name} can't be sliced.",
            fix=f"It has {known}." if known else "Name the whole GPU.",
        )


@dataclass(frozen=True)
class Overheads:
    """Memory that a runtime takes beside weights, cache and activations, in bytes.

    `nccl_bytes` is by number of ranks. The source calls the figures unofficial corrections.
    """

    runtime_bytes: int
    nccl_bytes: dict[int, int]
    source: str

    def nccl(self, ranks: int) -> int:
        """NCCL's buffers on each of `ranks` GPUs: of the next larger group that was measured."""
        larger = [size for size in sorted(self.nccl_bytes) if size >= ranks]
        return 0 if ranks == 1 else self.nccl_bytes[larger[0] if larger else max(self.nccl_bytes)]


@cache
def _data() -> dict[str, Any]:
    return dict(json.loads(DATA.read_bytes()))


@cache
def _gpus() -> dict[str, Gpu]:
    rows = (
        row | {"mig": tuple(MigSlice(name, count) for name, count in row["mig"].items())}
        for row in _data()["gpus"]
    )
    return {row["name"]: Gpu(**row) for row in rows}


def gpu_names() -> list[str]:
    """Every GPU that is known."""
    return list(_gpus())


def gpu(name: str) -> Gpu:
    """A GPU by its name, or by a beginning that only one name has; case does not matter.

    Raises:
        ProfileError: unknown or ambiguous; the nearest names are given.
    """
    word = name.strip().lower()
    exact = [one for known, one in _gpus().items() if known.lower() == word]
    if exact:
        return exact[0]
    begun = [known for known in _gpus() if word and known.lower().startswith(word)]
    if len(begun) == 1:
        return _gpus()[begun[0]]
    if begun:
        raise ProfileError(
            f"{name!r} can be {len(begun)} GPUs.", fix=f"Say which: {', '.join(begun)}."
        )
    lower = {known.lower(): known for known in _gpus()}
    near = [lower[one] for one in difflib.get_close_matches(word, lower, n=3, cutoff=0.4)]
    raise ProfileError(
        f"There is no GPU {name!r} in what is known here.",
        fix=f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(_gpus())}.",
    )


def device(name: str) -> Device:
    """The device of a profile's `gpu`: `H100-SXM-80GB`, or a slice, `A100-SXM-40GB:1g.5gb`.

    Raises:
        ProfileError: the GPU or the slice is unknown.
    """
    whole, _, part = name.partition(":")
    found = gpu(whole)
    if not part:
        return Device(
            found.name,
            found.memory_bytes,
            found.sm,
            found.memory_basis,
            usable_bytes=found.usable_bytes,
            usable_basis=found.usable_basis,
        )
    piece = found.slice(part)
    basis = "nominal gigabytes (10^9) of the slice's name"
    return Device(f"{found.name}:{piece.name}", piece.memory_bytes, found.sm, basis, found.name)


@cache
def overheads() -> Overheads:
    """Memory beside weights, cache and activations on an NVIDIA GPU."""
    row = _data()["overheads"]
    by_ranks = {int(ranks): size for ranks, size in row["nccl_bytes"].items()}
    return Overheads(row["runtime_bytes"], by_ranks, row["source"])
