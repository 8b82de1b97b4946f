"""The beginning of a TensorRT plan file: whether it is one, and which TensorRT wrote it.

What is public of it is what NVIDIA's own `trtexec --getPlanVersionOnly` reads (NVIDIA/TensorRT,
samples/common/sampleEngines.cpp): the tag "ftrt", a serialisation version, and with version 0 the four
numbers of TensorRT in the bytes 24 to 27. Where the SM stands is not public: it is not read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PlanFile", "read_plan"]

TAG = b"ftrt"
HEAD = 28
VERSION_AT = 24


@dataclass(frozen=True)
class PlanFile:
    """One rank's file: `fault` says why it can't be loaded; `tensorrt` is empty where it isn't told."""

    name: str
    size: int = 0
    tensorrt: str = ""
    fault: str = ""


def read_plan(path: Path) -> PlanFile:
    """Look at a rank's file; loads nothing and reads 28 bytes."""
    name = path.name
    if not path.is_file():
        broken = path.is_symlink()
        return PlanFile(name, fault="a link that leads to no file" if broken else "missing")
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(HEAD)
    except OSError as error:
        return PlanFile(name, fault=f"can't be read: {error.strerror}")
    if len(head) < HEAD:
        return PlanFile(name, size, fault=f"cut off: it has {size} bytes")
    if not head.startswith(TAG):
        return PlanFile(name, size, fault="no TensorRT plan: it does not begin with its tag")
    (serialization,) = struct.unpack_from("<I", head, len(TAG))
    numbers = ".".join(map(str, head[VERSION_AT:HEAD]))
    return PlanFile(name, size, tensorrt="" if serialization else numbers)
