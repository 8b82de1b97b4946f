"""What this CPU can run, by the engine runtime's own word: what an SM is to a GPU engine."""

from __future__ import annotations

import runpy
from functools import cache

from runbook_lib.errors import PreflightError
from runbook_lib.lab.builder_commands import BUILDER

__all__ = ["isa_level"]


@cache
def isa_level() -> str:
    """The best instruction set of this CPU that the lab's compiler has kernels for.

    Raises:
        PreflightError: it has none (AVX2 is the least).
    """
    # The runtime stands alone, beside the model that Triton loads; it is no module of this package.
    levels: list[str] = runpy.run_path(str(BUILDER / "engine_runtime.py"))["isa_levels"]()
    if not levels:
        raise PreflightError(
            "This CPU can't run the lab's engine.",
            why="OpenVINO's paged attention needs AVX2.",
            fix="Use a machine with an x86_64 processor of 2013 or later.",
        )
    return levels[0]
