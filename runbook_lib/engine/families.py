"""Which model families each track takes: converter, quantisations, and how they may be split.

The record stands in `data/families.json`, each entry with its source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FAMILIES", "ApiSupport", "EngineSupport", "Family"]

DATA = Path(__file__).resolve().parent / "data" / "families.json"


@dataclass(frozen=True)
class EngineSupport:
    """What the engine track makes of a family.

    `converted` are the quantisations without calibration, `calibrated` those of quantize.py;
    `contrib` says that its converter is among those that others gave.
    """

    converter: str
    since: str
    converted: tuple[str, ...]
    calibrated: tuple[str, ...]
    basis: str
    source: str
    contrib: bool = False
    tensor: bool = True
    pipeline: bool = True
    expert_parallel: bool = True
    oldest_sm: int = 0


@dataclass(frozen=True)
class ApiSupport:
    """What the PyTorch backend reads of a family.

    `chunks` says whether long prompts may be read in parts, `reuse_since` from which release blocks
    of a known prompt are kept (empty: from the first).
    """

    since: str
    formats: tuple[str, ...]
    basis: str
    source: str
    chunks: bool = True
    reuse_since: str = ""


@dataclass(frozen=True)
class Family:
    """A model family and its tracks; `experts` marks a mixture of experts."""

    name: str
    engine: EngineSupport | None
    llmapi: ApiSupport | None
    experts: bool


def _family(name: str, row: Mapping[str, Any]) -> Family:
    engine, llmapi = row.get("engine"), row.get("llmapi")
    return Family(
        name,
        EngineSupport(**_tuples(engine)) if engine else None,
        ApiSupport(**_tuples(llmapi)) if llmapi else None,
        row.get("experts", False),
    )


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(one) if isinstance(one, list) else one for name, one in row.items()}


FAMILIES: Mapping[str, Family] = {
    name: _family(name, row) for name, row in json.loads(DATA.read_bytes())["families"].items()
}
