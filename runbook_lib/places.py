"""Where things live: notebooks and profiles (checkout or wheel), records, and the cache."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir", "notebooks_dir", "outputs_dir", "shipped"]

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The folder `notebooks` or `profiles`: of the checkout, else the copy inside the wheel."""
    checkout = PACKAGE.parent / name
    if (PACKAGE.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return PACKAGE / "_shipped" / name


def notebooks_dir() -> Path:
    """The pages as they were shipped: never executed in place."""
    return shipped("notebooks")


def outputs_dir() -> Path:
    """Where records go: `$RUNBOOK_OUTPUTS`, else `outputs` below the present folder."""
    return Path(os.environ.get("RUNBOOK_OUTPUTS") or "outputs").absolute()


def cache_dir() -> Path:
    """What can be made again: `$RUNBOOK_CACHE`, else `trtllm-runbooks` in the user's cache folder."""
    if given := os.environ.get("RUNBOOK_CACHE"):
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "trtllm-runbooks"
