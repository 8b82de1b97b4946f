"""What a release, a GPU, a family or a track can't do: tables of rules, each with what to do instead.

Checked before anything is run; every rule that applies is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.artifacts import Track
from runbook_lib.engine.engine_rules import ENGINE_RULES
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.family_rules import API_FAMILY_RULES, ENGINE_FAMILY_RULES, FAMILY_RULES
from runbook_lib.engine.gpu_rules import (
    API_GPU_RULES,
    ENGINE_GPU_RULES,
    FIRST_FOR_SM,
    GPU_RULES,
)
from runbook_lib.engine.llmapi_rules import API_RULES
from runbook_lib.engine.wish import Rule, Wish
from runbook_lib.errors import PlanError
from runbook_lib.profile_schema import nearest

__all__ = ["RULES", "check", "refused"]

RULES: Mapping[Track, tuple[Rule, ...]] = {
    "engine": (
        *(*ENGINE_RULES, *FAMILY_RULES, *ENGINE_FAMILY_RULES),
        *(*GPU_RULES, *ENGINE_GPU_RULES),
    ),
    "llmapi": (*API_RULES, *FAMILY_RULES, *API_FAMILY_RULES, *GPU_RULES, *API_GPU_RULES),
}


def refused(wish: Wish) -> list[Rule]:
    """The rules of its track that a wish breaks."""
    return [rule for rule in RULES[wish.profile.track] if rule.applies(wish)]


def check(wish: Wish) -> None:
    """Refuse a wish that can't be done.

    Raises:
        PlanError: every reason, and what to do instead.
    """
    rules = refused(wish)
    if not rules:
        return
    words = _words(wish)
    profile = wish.profile
    raise PlanError(
        f"There are no commands for {profile.profile or profile.model_name}"
        f" with TensorRT-LLM {wish.version}.",
        why="; ".join(rule.told.format_map(words) for rule in rules),
        fix="; ".join(dict.fromkeys(rule.instead.format_map(words) for rule in rules)),
        page="00_plan",
    )


def _words(wish: Wish) -> dict[str, object]:
    profile = wish.profile
    fields = profile.model_dump()
    flags = profile.builder_flags
    fields["builder_flags"] = ", ".join(f"{name}: {one}" for name, one in flags.items())
    first = FIRST_FOR_SM.get(wish.sm or 0, "")
    near = nearest(profile.model_family, FAMILIES)
    hint = f"did you mean {near[0]}? " if near else ""
    about = {"release": wish.version, "sm": wish.sm, "first": first, "near": hint}
    return fields | about | _family_words(wish)


def _family_words(wish: Wish) -> dict[str, object]:
    family = wish.family
    if family is None:
        return {}
    engine, llmapi = family.engine, family.llmapi
    if wish.profile.track == "llmapi":
        formats = llmapi.formats if llmapi else ()
        return {"since": llmapi.since if llmapi else "", "formats": ", ".join(formats)}
    formats = tuple(dict.fromkeys((*engine.converted, *engine.calibrated))) if engine else ()
    return {"since": engine.since if engine else "", "formats": ", ".join(formats)}
