"""How far the lint agrees with the verdicts, by round and kind.

python -m tests.data.lint_trees.agree [ROUND …]
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from runbook_lib.repository.lint import LintResult, lint
from tests.data.lint_trees import verdicts
from tests.data.lint_trees.draft import Case, digest, write


def judged(case: Case) -> LintResult:
    """What the lint says of a tree."""
    with tempfile.TemporaryDirectory(prefix="lint-") as folder:
        return lint(write(case.tree(), Path(folder) / "models", "t_"))


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's formula."""
    if not of:
        return 0.0, 1.0
    z, share = 1.96, right / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return (middle - spread) / scale, (middle + spread) / scale


def main(wanted: Iterable[str]) -> int:
    known, rounds = verdicts.read(), set(wanted)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for case in verdicts.judged_cases():
        said = known.get(case.id)
        if not said or (rounds and case.round not in rounds) or said["tree"] != digest(case.tree()):
            continue
        result = judged(case)
        right = result.ok == said["loads"]
        for row in (f"{case.round} {case.kind}", f"{case.round} all"):
            counts[row][0] += right
            counts[row][1] += 1
            counts[row][2] += said["loads"]
        if not right:
            rules = sorted({one.rule for one in result.findings if one.severity == "error"})
            sys.stdout.write(f"{case.id}: {said['loads']} {said['says']} | {rules}\n")
    for row, (right, of, loads) in sorted(counts.items()):
        low, high = wilson(right, of)
        sys.stdout.write(f"{row}: {right}/{of} ({low:.1%}-{high:.1%}), {loads} load\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
