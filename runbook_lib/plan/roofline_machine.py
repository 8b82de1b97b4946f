"""A device's ceilings for a roofline: bandwidth, arithmetic and link, of a GPU or a slice of one."""

from __future__ import annotations

from dataclasses import dataclass

from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device, gpu

__all__ = ["KNOWN", "Machine", "machine"]

# What the matrices are multiplied in: weight-only formats are unpacked to 16 bits first.
COMPUTED_IN = {
    "none": "16-bit",
    "int8_wo": "16-bit",
    "int4_wo": "16-bit",
    "int4_awq": "16-bit",
    "int4_gptq": "16-bit",
    "int8_sq": "8-bit",
    "fp8": "8-bit",
    "w4a8_awq": "8-bit",
    "nvfp4": "4-bit",
}
KNOWN = (*COMPUTED_IN, "mxfp4")
MULTIPLIER = {"16-bit": "float16", "4-bit": "fp4"}
NVLINK = "NVLink"
SLICES = 7  # compute slices of a GPU that MIG divides; an A30 has 4


@dataclass(frozen=True)
class Machine:
    """A device's ceilings: bytes/s of memory and link (one direction), FLOP/s dense."""

    name: str
    bandwidth: float
    flops: float
    flops_16: float
    width: str
    link: float
    nvlink: bool


def machine(device: Device, quantization: str) -> Machine:
    """The ceilings of a device for matrices quantised in this way.

    A MIG slice has the share of the bandwidth that it has of the memory, and of the FLOPs that its
    name says (`3g`: 3 of 7, of 4 on an A30).

    Raises:
        PlanError: no source gives the device's bandwidth or its FLOPs for this precision.
    """
    name = device.slice_of or device.name
    whole = gpu(name)
    share = part = 1.0
    if device.slice_of:
        share = min(1.0, device.memory_bytes / whole.memory_bytes)
        part = int(device.name.partition(":")[2].partition("g")[0]) / (
            4 if whole.name == "A30" else SLICES
        )
    width = _width(quantization, whole.architecture)
    key = MULTIPLIER.get(width) or ("int8" if quantization == "int8_sq" else "fp8")
    peak, plain = whole.dense_tflops.get(key), whole.dense_tflops.get("float16")
    missing = [
        what
        for what, figure in (
            ("memory bandwidth", whole.bandwidth_gb_s),
            (f"{key} FLOPs", peak),
            ("float16 FLOPs", plain),
        )
        if not figure
    ]
    if missing:
        raise PlanError(
            f"The speed of {device.name} with quantisation {quantization} can't be estimated.",
            why=f"No source for its {' and '.join(dict.fromkeys(missing))}, or it has none.",
            fix="Name another GPU or quantisation; whether it fits is planned without this.",
            page="00_plan",
        )
    assert whole.bandwidth_gb_s
    assert peak
    assert plain
    return Machine(
        name=whole.name,
        bandwidth=whole.bandwidth_gb_s * 1e9 * share,
        flops=peak * 1e12 * part,
        flops_16=plain * 1e12 * part,
        width=width,
        link=(whole.link_gb_s_per_direction or 0) * 1e9,
        nvlink=whole.link.startswith(NVLINK),
    )


def _width(quantization: str, architecture: str) -> str:
    """What matrices quantised in this way are multiplied in on an architecture.

    MXFP4 weights meet 8-bit activations on Blackwell and 16-bit ones before it.
    """
    if quantization == "mxfp4":
        return "8-bit" if architecture == "Blackwell" else "16-bit"
    return COMPUTED_IN[quantization]
