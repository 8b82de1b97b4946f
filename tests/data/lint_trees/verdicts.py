"""The set of trees, and what Triton 2.51 said about each: a line of JSON a tree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.data.lint_trees import round_a_code, round_b_code, round_c
from tests.data.lint_trees.draft import Case

VERDICTS = Path(__file__).with_name("verdicts.jsonl")
ROUNDS = {"A": (round_a_code.A, 200), "B": (round_b_code.B, 200), "C": (round_c.C, 0)}


def judged_cases() -> list[Case]:
    """Every tree that has a verdict."""
    known = read()
    return [case for case in cases() if case.id in known]


def cases() -> list[Case]:
    """Every tree that the recipes make."""
    return [case for made, pairs in ROUNDS.values() for case in made.cases(pairs)]


def read() -> dict[str, dict[str, Any]]:
    """What Triton said, by the tree's id."""
    if not VERDICTS.is_file():
        return {}
    lines = VERDICTS.read_text("utf-8").splitlines()
    return {one.pop("id"): one for one in map(json.loads, lines)}


def keep(known: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the verdicts, in the order of the set."""
    order = {case.id: place for place, case in enumerate(cases())}
    lines = [
        json.dumps({"id": name} | dict(known[name]), ensure_ascii=False)
        for name in sorted(known, key=lambda name: order.get(name, 0))
        if name in order
    ]
    VERDICTS.write_text("\n".join(lines) + "\n", "utf-8")
