"""What each release of the llmapi track accepts: trtllm-serve, arguments of LLM(), ModelOpt's script.

The record stands in `data/llmapi.json`, each entry with its source and how near that source is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.engine.releases import Tool, tool_by_version, version_key
from runbook_lib.errors import PlanError

__all__ = ["VERSIONS", "ApiRelease", "api_release"]

DATA = Path(__file__).resolve().parent / "data" / "llmapi.json"
FIRST = (1, 0, 0, 0)


@dataclass(frozen=True)
class ApiRelease:
    """One release: Triton's image with it if one is known, ModelOpt's tag, and its tools."""

    version: str
    image: str | None
    modelopt: str
    tools: Mapping[str, Tool] = field(repr=False)

    def since(self, version: str) -> bool:
        """Whether this is `version` or a later one."""
        return version_key(self.version) >= version_key(version)


def api_release(version: str) -> ApiRelease:
    """The record of a release.

    Raises:
        PlanError: it has no llmapi track yet, or is not known here; what to take instead.
    """
    key = version_key(version)
    for known in VERSIONS:
        if version_key(known) == key:
            return _releases()[known]
    if key < FIRST:
        raise PlanError(
            f"TensorRT-LLM {version} has no llmapi track.",
            why="The PyTorch backend is stable since 1.0; before, it was an experiment.",
            fix=f"Take track engine, or {VERSIONS[0]} or later.",
            page="00_plan",
        )
    earlier = [known for known in VERSIONS if version_key(known) < key]
    raise PlanError(
        f"TensorRT-LLM {version} is not known here.",
        why=f"Known for the llmapi track are {', '.join(VERSIONS)}.",
        fix=f"The nearest known release is {earlier[-1] if earlier else VERSIONS[0]}.",
        page="00_plan",
    )


@cache
def _data() -> dict[str, Any]:
    return dict(json.loads(DATA.read_bytes()))


@cache
def _releases() -> dict[str, ApiRelease]:
    tools = {name: tool_by_version(rows) for name, rows in _data()["tools"].items()}
    return {
        version: ApiRelease(
            version,
            row["image"],
            row["modelopt"],
            {name: one[version] for name, one in tools.items()},
        )
        for version, row in _data()["releases"].items()
    }


VERSIONS: tuple[str, ...] = tuple(_data()["releases"])
