"""The deployment guide's patterns as presets: which fields each sets, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.artifacts_plan import Choice, Shape
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile

__all__ = ["choices", "preset_names", "then"]

DATA = Path(__file__).resolve().parent / "presets.json"


@cache
def _presets() -> dict[str, dict[str, Any]]:
    return dict(json.loads(DATA.read_bytes())["presets"])


def preset_names() -> list[str]:
    """Every preset."""
    return list(_presets())


def _preset(name: str) -> dict[str, Any]:
    if name not in _presets():
        raise PlanError(
            f"There is no preset {name!r}.",
            fix="; ".join(f"{key}: {one['pattern']}" for key, one in _presets().items()) + ".",
        )
    return _presets()[name]


def then(name: str) -> tuple[str, ...]:
    """What a preset demands beside its fields.

    Raises:
        PlanError: there is no such preset.
    """
    return tuple(_preset(name)["then"])


def choices(
    name: str, profile: DeploymentProfile, *, target: str, held: int, shape: Shape | None
) -> tuple[Choice, ...]:
    """The fields that a preset sets in a profile, each with its reason; those unchanged too.

    Args:
        name: the preset.
        profile: what it is applied to.
        target: what the engine is compiled for, such as `sm90`.
        held: longest sequences that the device holds with the profile as it is.
        shape: the limits that are tight to the traffic; None without one.

    Raises:
        PlanError: there is no such preset, it is not for this profile, or it needs a traffic.
    """
    rows = _preset(name)["fields"]
    _check(name, profile, held=held, shape=shape)
    made = []
    for row in rows:
        was = _value(profile, row["field"])
        value = _chosen(row, was, target=target, held=held, shape=shape)
        made.append(Choice(field=row["field"], value=value, was=was, reason=row["reason"]))
        if row["field"] == "dtype" and value != was == profile.kv_cache_dtype:
            reason = "the cache is in the dtype of the activations"
            made.append(Choice(field="kv_cache_dtype", value=value, was=was, reason=reason))
    return tuple(made)


def _check(name: str, profile: DeploymentProfile, *, held: int, shape: Shape | None) -> None:
    problems, preset = [], _preset(name)
    rows = preset["fields"]
    if profile.track == "lab":
        problems.append("presets are for GPUs, and this profile is of the lab")
    elif preset.get("of_slice") and ":" not in (profile.gpu or ""):
        problems.append("it is for a MIG slice: name one, such as --gpu A100-SXM-80GB:3g.40gb")
    if shape is None and any("shape" in row for row in rows):
        problems.append("it takes its limits from a traffic: give one with --traffic")
    if not held and any("held" in row for row in rows):
        problems.append("not one longest sequence fits: shorten the lengths or quantise first")
    if problems:
        raise PlanError(
            f"The preset {name} can't be used here.",
            why="; ".join(problems),
            fix=f"Choose another: {', '.join(preset_names())}.",
        )


def _value(profile: DeploymentProfile, field: str) -> str | int:
    found = getattr(profile, f"effective_{field}", None) or getattr(profile, field)
    assert isinstance(found, str | int)
    return found


def _chosen(
    row: Mapping[str, Any], was: str | int, *, target: str, held: int, shape: Shape | None
) -> str | int:
    if "held" in row:
        return min(int(was), held)
    if "shape" in row and shape is not None:
        own = {"max_output_len": shape.max_output_len}
        return own.get(row["field"]) or int(getattr(shape.limits, row["field"]))
    if "at_most" in row:
        return min(int(was), int(row["at_most"]))
    if "at_least" in row:
        return max(int(was), int(row["at_least"]))
    sm = target.removeprefix("sm")
    if "from_sm" in row and not (sm.isdecimal() and int(sm) >= row["from_sm"]):
        return str(row["otherwise"])
    value: str | int = row["value"]
    return value
