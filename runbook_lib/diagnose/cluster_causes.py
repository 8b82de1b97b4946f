"""One name for one cause: what a rollout calls it, and the label under which the rules know it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

__all__ = ["label_of"]

DATA = Path(__file__).with_name("cluster_causes.json")


def label_of(cause: str) -> str:
    """The label of a cause that a rollout named; its own name where there is no wider one."""
    return _labels().get(cause, cause)


@functools.cache
def _labels() -> dict[str, str]:
    return dict(json.loads(DATA.read_bytes())["labels"])
