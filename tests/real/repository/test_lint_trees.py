"""A real Triton says of a sample of the trees what it said when they were made."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib.errors import ServiceError
from runbook_lib.lab import environment
from runbook_lib.serving.supervise import Owner, stop
from runbook_lib.serving.triton import start_triton
from tests.data.lint_trees import verdicts
from tests.data.lint_trees.ask import DIES, WAITS, Verdict, ask
from tests.data.lint_trees.draft import write

KNOWN = verdicts.read()
# By what the trees are, so that the sample is a fixed one and of every kind. What never ends is
# tried elsewhere: each would take its 20 seconds.
CASES = sorted(
    (case for case in verdicts.judged_cases() if KNOWN[case.id]["says"] not in {WAITS, DIES}),
    key=lambda case: (KNOWN[case.id]["tree"], case.id),
)
SAMPLE = CASES[:300]
STRICT = CASES[300:306]


@pytest.mark.timeout(600)
def test_triton_still_says_what_it_said(tmp_path: Path) -> None:
    said: dict[str, Verdict] = {}
    ask(SAMPLE, tmp_path, told=said.__setitem__)
    assert {name: verdict.loads for name, verdict in said.items()} == {
        case.id: KNOWN[case.id]["loads"] for case in SAMPLE
    }


@pytest.mark.parametrize("case", STRICT, ids=lambda case: case.id)
def test_a_strict_start_gives_the_verdict_of_an_explicit_load(case, tmp_path: Path) -> None:
    models = write(case.tree(), tmp_path / "models", "t_")
    try:
        server, _ = start_triton(
            environment.ensure().triton,
            str(models),
            tmp_path,
            owner=Owner.this_process(),
            timeout=40,
        )
    except ServiceError:
        loads = False
    else:
        stop(server)
        loads = True
    assert loads == KNOWN[case.id]["loads"]
