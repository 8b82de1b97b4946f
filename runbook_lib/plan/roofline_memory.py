"""How many sequences the memory holds at once, as a benchmark at full load fills it."""

from __future__ import annotations

from runbook_lib.hardware import Device, gpu, overheads
from runbook_lib.plan.roofline_work import Deployment

__all__ = ["MOST", "holds"]

MOST = 4096  # sequences that trtllm-bench lets run at once (tensorrt_llm/bench/build/tuning.py)
SHARE = 0.92  # of the free memory for the cache: between the default 0.90 and the benchmarks' 0.95
GIB = 2**30 / 1e9
USABLE = 0.995  # of the GiB of an HBM GPU's name: what drivers report of B200, B300, GB200, GB300
HBM = 900  # GB/s from which a GPU's memory is HBM, which keeps no room back for its error codes


def holds(deployed: Deployment, device: Device, tokens: int) -> int:
    """Sequences of so many tokens that run at once, 0 where the weights leave no room.

    A memory that is known by its name alone counts in GiB where it is HBM.
    """
    memory = float(device.memory_bytes)
    hbm = (gpu(deployed.machine.name).bandwidth_gb_s or 0) >= HBM
    if device.basis.startswith("nominal") and hbm and not device.slice_of:
        memory *= GIB * USABLE
    known = overheads()
    runtime = known.runtime_bytes + known.nccl(deployed.tp * deployed.pp)
    room = (memory - runtime - deployed.held()) * SHARE
    if room <= 0:
        return 0
    each = deployed.kept(tokens)
    return int(min(room / each * deployed.sequences_over, MOST))
