"""The GPUs of this machine, as nvidia-smi tells them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

__all__ = ["LocalGpu", "gpus_here"]

ASK = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")


@dataclass(frozen=True)
class LocalGpu:
    """A GPU that is here: `NVIDIA H100 80GB HBM3`, `sm90`, `580.95.05`."""

    name: str
    sm: str
    driver: str


def gpus_here() -> list[LocalGpu]:
    """Every GPU; none where nvidia-smi is not there, or tells none."""
    try:
        done = subprocess.run(ASK, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
    return [
        LocalGpu(row[0], f"sm{row[1].replace('.', '')}", row[2])
        for row in rows
        if done.returncode == 0 and len(row) == 3 and row[1].replace(".", "").isdecimal()
    ]
