"""More than 2,000 trees that a real Triton 2.51 has judged: the lint says the same of each.

What Triton said is data; that it still says so is tried in tests/real. To ask it about new trees:
`python -m tests.data.lint_trees`.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.data.lint_trees import verdicts
from tests.data.lint_trees.agree import judged
from tests.data.lint_trees.draft import digest
from tests.data.lint_trees.explained import EXPLAINED

CASES = {case.id: case for case in verdicts.judged_cases()}
KNOWN = verdicts.read()


def test_each_tree_is_the_one_that_was_judged():
    assert len(KNOWN) >= 2000
    assert set(KNOWN) == set(CASES)
    changed = [name for name in KNOWN if KNOWN[name]["tree"] != digest(CASES[name].tree())]
    assert changed == []


def test_the_trees_are_many_different_ones_of_every_kind():
    kinds = Counter(case.kind for case in CASES.values())
    assert len(kinds) >= 50
    assert min(kinds.values()) >= 3
    assert len({one["tree"] for one in KNOWN.values()}) >= 1900
    assert 500 <= sum(one["loads"] for one in KNOWN.values()) <= len(KNOWN) - 500


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES.values()}))
def test_the_lint_says_what_triton_said(kind):
    apart = {
        name: KNOWN[name] | {"lint": json.dumps(result.to_dict()["findings"])}
        for name, case in CASES.items()
        if case.kind == kind
        and name not in EXPLAINED
        and (result := judged(case)).ok != KNOWN[name]["loads"]
    }
    assert apart == {}


def test_every_tree_that_is_explained_is_one_where_they_part():
    together = [name for name in EXPLAINED if judged(CASES[name]).ok == KNOWN[name]["loads"]]
    assert together == []
    assert len(EXPLAINED) <= len(KNOWN) / 100
