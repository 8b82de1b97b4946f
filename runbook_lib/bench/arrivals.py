"""When each request of a load is meant to start."""

from __future__ import annotations

import numpy as np

from runbook_lib.bench.settings import LoadSettings

__all__ = ["start_offsets_ns"]


def start_offsets_ns(load: LoadSettings) -> tuple[int, ...]:
    """Intended starts after the load's start, in ns, ascending; empty for a closed loop.

    A closed loop has no schedule: its next request starts when an earlier one ends. A Poisson load
    has independent exponential gaps of mean `1 / rate` seconds, also before the first request; the
    same seed gives the same times.
    """
    if load.rate is None:
        return ()
    gaps = np.random.default_rng(load.seed).exponential(1e9 / load.rate, load.requests)
    return tuple(int(offset) for offset in np.cumsum(gaps))
