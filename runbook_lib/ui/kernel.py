"""Whether anybody can see or press what a page shows."""

from __future__ import annotations

import os
import sys

__all__ = ["in_kernel", "interactive"]


def in_kernel() -> bool:
    """Whether this runs in a notebook's kernel (not in a terminal, a test or the command line)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def interactive() -> bool:
    """Whether somebody sits in front of the page: a kernel, and no engine that runs it headless."""
    return in_kernel() and os.environ.get("RUNBOOK_HEADLESS") != "1"
