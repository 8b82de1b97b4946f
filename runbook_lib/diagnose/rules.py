"""Name the cause: rules over evidence, best explanation first, consequences folded under it."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.artifacts import Diagnosis, Finding
from runbook_lib.diagnose.evidence import Evidence, Line

__all__ = ["diagnose"]

RULES = Path(__file__).with_name("rules.json")
CONSEQUENCE = re.compile(
    r"depends on '[^']+' which has no loaded version|failed to load all models", re.IGNORECASE
)
SHOWN = 3
ERROR_LEVEL = re.compile(r"E\d{4} ")  # how Triton begins a line of that level


@dataclass(frozen=True)
class Rule:
    """One cause and the words that show it."""

    id: str
    title: str
    patterns: tuple[re.Pattern[str], ...]
    cause: str
    confirm: str
    fix: str
    page: str

    def shown_by(self, lines: tuple[Line, ...]) -> list[Line]:
        """The lines in which one of the patterns stands."""
        return [
            line
            for line in lines
            if any(pattern.search(_own_words(line.text)) for pattern in self.patterns)
        ]


def _own_words(text: str) -> str:
    """What a line says beyond naming another model's failure: it may repeat that one's cause."""
    found = CONSEQUENCE.search(text)
    return text[found.end() :] if found else text


@functools.cache
def rules() -> tuple[Rule, ...]:
    """The rules that come with the package, in order of how specific they are."""
    return tuple(
        Rule(
            entry["id"],
            entry["title"],
            tuple(re.compile(pattern, re.IGNORECASE) for pattern in entry["patterns"]),
            entry["cause"],
            entry["confirm"],
            entry["fix"],
            entry["page"],
        )
        for entry in json.loads(RULES.read_text(encoding="utf-8"))["rules"]
    )


def diagnose(evidence: Evidence) -> Diagnosis:
    """Findings, best first. Healthy evidence gives none.

    A line goes to the first rule that it shows; a model that failed only because another one did
    is a consequence and no finding. What no rule explains is listed as such, never guessed.
    """
    lines = tuple(sorted(evidence.lines, key=lambda line: bool(CONSEQUENCE.search(line.text))))
    findings = list(evidence.named)
    explained: set[str] = set()
    for rule in rules():
        shown = [line for line in rule.shown_by(lines) if line.text not in explained]
        if shown:
            explained |= {line.text for line in shown}
            findings.append(_finding(rule, shown))
    findings.sort(key=lambda one: -one.score)
    return Diagnosis(
        findings=tuple(findings),
        not_explained=_left_over(evidence, explained),
        sources=evidence.sources,
    )


def _finding(rule: Rule, shown: list[Line]) -> Finding:
    """The server's own index is a stronger witness than a line somewhere in a log."""
    score = 0.95 if any(line.source == "repository index" for line in shown) else 0.8
    return Finding(
        id=rule.id,
        title=rule.title,
        cause=rule.cause,
        confirm=rule.confirm,
        fix=rule.fix,
        page=rule.page,
        score=score,
        evidence=tuple(f"{line.source}: {line.text}" for line in shown[:SHOWN]),
    )


def _left_over(evidence: Evidence, explained: set[str]) -> tuple[str, ...]:
    """What no rule knows: models that are not ready, error lines, and sources that can't be read."""
    unready = [
        f"{line.source}: {line.text}"
        for line in evidence.lines
        if (line.source == "repository index" or ERROR_LEVEL.match(line.text))
        and line.text not in explained
        and not CONSEQUENCE.search(line.text)
    ]
    unread = [
        f"{name} {said}" for name, said in evidence.sources.items() if said.startswith("not read")
    ]
    return tuple(unready + unread)
