"""From signals to findings: how much speaks for each cause, and what is only its consequence."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.artifacts import Diagnosis, Finding
from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.rulebook import WEIGHTS, Rule, Rulebook, rulebook
from runbook_lib.diagnose.thinking import thoughts

__all__ = ["diagnose"]

QUIET = Path(__file__).with_name("quiet.json")
ENOUGH = 0.5  # from here on it is a finding
MOST = 0.99
LITTLE = 0.2  # what a line that is said on healthy starts too can add
ALONE = 3  # lines; with no more in view a line was picked for what it says
SHOWN = 3
CLOSE = 0.2
EXCERPT = 400
INDEX = "repository index"
TROUBLE = re.compile(
    r"^E\d{4} |\[E\]|\berror|fail|exception|traceback|fatal|unavailable|killed|crashloop|denied|refused",
    re.IGNORECASE,
)
ERROR_LEVEL = re.compile(r"E\d{4} |\[TensorRT-LLM\]\[ERROR\]|\[TRT(-LLM)?\] \[E\]")
CONSEQUENCE = re.compile(
    r"depends on '[^']+' which has no loaded version|failed to load all models", re.IGNORECASE
)
WELL = re.compile(
    r"successfully loaded|model_lifecycle\.cc:\d+\] loading: |\| READY|Started \w+Service",
    re.IGNORECASE,
)


@dataclass
class Case:
    """What speaks for one cause: the weight of each signal once, and the lines."""

    rule: Rule
    weights: dict[str, float] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def add(self, key: str, weight: float, line: Line) -> None:
        """A signal counts once, by its strongest line; so do two in the same line in part."""
        self.weights[key] = max(self.weights.get(key, 0.0), weight)
        if all(line.text not in one.text for one in self.lines):
            self.lines.append(line)

    @property
    def score(self) -> float:
        """Signals as independent witnesses, of which each may be wrong."""
        doubt = functools.reduce(
            lambda left, weight: left * (1 - weight), self.weights.values(), 1.0
        )
        return min(1 - doubt, MOST)


def diagnose(evidence: Evidence, book: Rulebook | None = None) -> Diagnosis:
    """Findings, best first. Healthy evidence gives none.

    A finding whose cause is the consequence of another one is folded under that one. What no rule
    explains is listed as such, never guessed.
    """
    book = book or rulebook()
    cases = _cases(evidence, book)
    likely = sorted(
        (case for case in cases.values() if case.score >= ENOUGH),
        key=lambda case: (-round(case.score, 2), case.lines[0].number),
    )
    found = [_finding(case, likely) for case in likely if not _explained(case, likely)]
    findings = _with_named(evidence.named, found)
    explained = {line.text for case in likely for line in case.lines}
    return Diagnosis(
        findings=tuple(findings),
        not_explained=_left_over(evidence, explained),
        sources=evidence.sources,
    )


def _cases(evidence: Evidence, book: Rulebook) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    quiet = _quiet()
    troubled = any(
        TROUBLE.search(one.text) and not quiet.search(one.text) for one in evidence.lines
    )
    healthy = not troubled and any(WELL.search(one.text) for one in evidence.lines)
    alone = len({one.number for one in evidence.lines}) <= ALONE
    for line in evidence.lines:
        calm = bool(quiet.search(line.text))
        for rule, signal in book.shown_by(line.text):
            weight = LITTLE if calm else WEIGHTS[signal.weight]
            if (signal.when == "alone" and not alone) or (signal.when == "in_trouble" and healthy):
                weight = LITTLE
            if line.source == INDEX and weight > LITTLE:
                weight = max(weight, 0.9)
            cases.setdefault(rule.id, Case(rule)).add(signal.pattern, weight, line)
    for thought in thoughts(evidence):
        if thought.id in book.rules:
            case = cases.setdefault(thought.id, Case(book.rules[thought.id]))
            case.add(thought.why, thought.weight, thought.line)
    return cases


@functools.cache
def _quiet() -> re.Pattern[str]:
    """What servers say on healthy starts too."""
    lines = json.loads(QUIET.read_text(encoding="utf-8"))["lines"]
    return re.compile("|".join(lines), re.IGNORECASE)


def _explained(case: Case, likely: list[Case]) -> bool:
    """Whether a cause that is about as well shown leads to this one."""
    return any(
        case.rule.id in other.rule.explains and other.score >= case.score - CLOSE
        for other in likely
    )


def _finding(case: Case, likely: list[Case]) -> Finding:
    rule = case.rule
    folded = [one for one in likely if one.rule.id in rule.explains]
    return Finding(
        id=rule.id,
        title=rule.title,
        cause=rule.cause,
        confirm=rule.confirm,
        fix=rule.fix,
        costs=rule.costs,
        page=rule.page,
        score=round(case.score, 2),
        evidence=tuple(_said(line) for line in case.lines[:SHOWN]),
        consequences=tuple(f"{one.rule.title}: {_said(one.lines[0])}" for one in folded),
    )


def _said(line: Line) -> str:
    place = f"{line.source}:{line.number}" if line.number else line.source
    return f"{place}: {line.text[:EXCERPT]}"


def _with_named(named: tuple[Finding, ...], found: list[Finding]) -> list[Finding]:
    """What collectors named themselves and what lines showed, each cause once, best first."""
    by_id = {one.id: one for one in found}
    merged = []
    for one in named:
        other = by_id.pop(one.id, None)
        seen = (*one.evidence, *(other.evidence if other else ()))
        merged.append(one.model_copy(update={"evidence": tuple(dict.fromkeys(seen))}))
    return sorted([*merged, *by_id.values()], key=lambda one: -one.score)


def _left_over(evidence: Evidence, explained: set[str]) -> tuple[str, ...]:
    """What no rule knows: models that are not ready, error lines, and sources that can't be read."""
    unready = [
        f"{line.source}: {line.text[:EXCERPT]}"
        for line in evidence.lines
        if (line.source == INDEX or ERROR_LEVEL.search(line.text))
        and line.text not in explained
        and not _quiet().search(line.text)
        and not CONSEQUENCE.search(line.text)
    ]
    unread = [
        f"{name} {said}" for name, said in evidence.sources.items() if said.startswith("not read")
    ]
    return tuple(dict.fromkeys(unready + unread))
