"""Asks a real Triton about the trees that have no verdict yet, and keeps what it said.

python -m tests.data.lint_trees [ROUND …]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.data.lint_trees import verdicts
from tests.data.lint_trees.ask import Verdict, ask
from tests.data.lint_trees.draft import digest


def main(wanted: list[str]) -> int:
    known = verdicts.read()
    cases = {case.id: case for case in verdicts.cases() if not wanted or case.round in wanted}
    fresh = [
        case for case in cases.values() if known.get(case.id, {}).get("tree") != digest(case.tree())
    ]
    # A part of each kind first, so that a run that is cut short has asked about all kinds.
    fresh.sort(key=lambda case: (case.number % 5, case.id))
    sys.stdout.write(f"{len(cases)} trees, {len(fresh)} without a verdict\n")

    def keep(name: str, verdict: Verdict) -> None:
        known[name] = {
            "tree": digest(cases[name].tree()),
            "loads": verdict.loads,
            "says": verdict.says,
        }
        if len(known) % 20 == 0:
            verdicts.keep(known)
            sys.stdout.write(f"{len(known)}\n")
            sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="lint-trees-") as folder:
        ask(fresh, Path(folder), told=keep)
    verdicts.keep(known)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
