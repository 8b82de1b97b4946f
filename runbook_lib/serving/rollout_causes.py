"""Name what holds a rollout up: rules over a snapshot, the most specific first.

`rollout_causes.json` is the table. Most rules are words to look for in the lines that hold; the
few that compare objects with each other stand in `rollout_comparisons`. A line belongs to the
first rule that it shows, what is only a symptom is folded under its cause, and what no rule
knows is no cause.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from runbook_lib.serving.rollout_comparisons import compared
from runbook_lib.serving.rollout_lines import Line, clean, lines
from runbook_lib.serving.rollout_snapshot import Snapshot
from runbook_lib.serving.rollout_state import failed_job, waiting_for

__all__ = ["Cause", "Heals", "Rule", "cause_of_refusal", "causes", "explained", "rules"]

Heals = Literal["never", "maybe", "harmless"]
TABLE = Path(__file__).with_name("rollout_causes.json")
SHOWN = 3


@dataclass(frozen=True)
class Cause:
    """One named cause: what it is seen in, what to do, and whether waiting can help.

    `seen` is how often, `times` and `seconds` how often and how long it must be seen before
    nobody need wait any longer; with `grows` it must also be seen anew meanwhile.
    """

    id: str
    object: str
    title: str
    why: str
    evidence: tuple[Line, ...]
    fix: str
    confirm: str
    heals: Heals
    seen: int = 1
    times: int = 1
    seconds: float = 0.0
    grows: bool = False
    consequence_of: str = ""

    @property
    def final(self) -> bool:
        """Whether it can't heal and was seen often enough; for how long, the one who waits knows."""
        return self.heals == "never" and self.seen >= self.times and not self.consequence_of

    def __str__(self) -> str:
        rows = (
            ("because", self.why),
            *(("seen in", str(line)) for line in self.evidence),
            ("confirm", self.confirm),
            ("fix", self.fix),
        )
        return "\n".join([f"{self.title} [{self.id}]", *(f"  {key}: {said}" for key, said in rows)])


@dataclass(frozen=True)
class Pattern:
    """Words to look for, and in whose mouth."""

    sources: frozenset[str]
    words: re.Pattern[str]
    role: str

    def shown_by(self, line: Line) -> re.Match[str] | None:
        """The match, where this line shows it."""
        wrong_role = self.role and (self.role == "init") != line.init
        if line.source not in self.sources or wrong_role:
            return None
        return self.words.search(line.text)


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    id: str
    title: str
    why: str
    fix: str
    confirm: str
    heals: Heals
    times: int
    seconds: float
    grows: bool
    symptom: bool
    never_alone: bool
    patterns: tuple[Pattern, ...]


@functools.cache
def rules() -> tuple[Rule, ...]:
    """The table that comes with the package, in the order of rank."""
    return tuple(
        Rule(
            entry["id"],
            entry["title"],
            entry["why"],
            entry["fix"],
            entry["confirm"],
            entry["heals"],
            entry.get("times", 1),
            entry.get("seconds", 0.0),
            entry.get("grows", False),
            entry.get("symptom", False),
            entry.get("never_alone", False),
            tuple(
                Pattern(
                    frozenset(one["in"]),
                    re.compile(one["pattern"], re.IGNORECASE),
                    one.get("role", ""),
                )
                for one in entry["shows"]
            ),
        )
        for entry in json.loads(TABLE.read_text(encoding="utf-8"))["rules"]
    )


def causes(snapshot: Snapshot, now: datetime) -> list[Cause]:
    """What holds the rollout up, best explanation first; nothing for a healthy one.

    A ready service has only causes that do no harm to it, such as an autoscaler without metrics.
    """
    return explained(snapshot, now)[0]


def explained(snapshot: Snapshot, now: datetime) -> tuple[list[Cause], list[Line]]:
    """The causes, and what Kubernetes or KServe said that no rule knows."""
    said = lines(snapshot)
    by_comparing = {one.id: one for one in compared(snapshot, said, now)}
    taken = {line for one in by_comparing.values() for line in one.lines}
    left = [line for line in said if line not in taken]
    found = []
    for rule in rules():
        shown, words = _shown(rule, left)
        if (one := by_comparing.get(rule.id)) is not None:
            shown, words = list(one.lines), dict(one.words)
        if shown:
            left = [line for line in left if line not in shown]
            witnesses = [*shown[: SHOWN - 1], *_last_words(said, shown[0])]
            told = witnesses if rule.symptom else shown
            found.append((rule, _cause(rule, told, snapshot, words)))
    if not waiting_for(snapshot):
        return [cause for rule, cause in found if rule.heals == "harmless"], []
    return _folded(found), [line for line in left if line.source != "log"]


def cause_of_refusal(said: str, *, kind: str, namespace: str, name: str) -> Cause | None:
    """The cause of an object that the API server refused; None where no rule knows the words."""
    line = Line("refusal", f"{kind}/{name}", clean(said), count=1_000)
    snapshot = Snapshot("InferenceService", namespace, name)
    for rule in rules():
        shown, words = _shown(rule, [line])
        if shown:
            return _cause(rule, shown, snapshot, words)
    return None


def _last_words(said: Sequence[Line], about: Line) -> list[Line]:
    """The last line that an object's container logged: where no rule knows it, a reader may."""
    logged = [line for line in said if line.source == "log" and not line.init]
    if not about.object.startswith("Job/"):
        logged = [line for line in logged if line.object == about.object and line != about]
    return logged[-1:]


def _shown(rule: Rule, said: Iterable[Line]) -> tuple[list[Line], dict[str, str]]:
    """The lines that show a rule, and what their words name."""
    shown: list[Line] = []
    words: dict[str, str] = {}
    for line in said:
        matches = (pattern.shown_by(line) for pattern in rule.patterns)
        if (match := next(filter(None, matches), None)) is not None:
            shown.append(line)
            words = match.groupdict() | words
    return shown, words


def _cause(rule: Rule, shown: Sequence[Line], on: Snapshot, words: Mapping[str, str]) -> Cause:
    first = shown[0]
    known = {
        "namespace": on.namespace,
        "name": on.name,
        "object_name": first.object.partition("/")[2],
        "container": first.container or "kserve-container",
        "uri": on.storage_uri,
        "runtime": _runtime(on),
        **words,
    }
    return Cause(
        id=rule.id,
        object=first.object,
        title=rule.title,
        why=rule.why.format_map(known),
        evidence=tuple(shown[:SHOWN]),
        fix=rule.fix.format_map(known),
        confirm=rule.confirm.format_map(known),
        heals=rule.heals,
        seen=max(line.count for line in shown),
        # A job that has failed for good is not tried again.
        times=1 if failed_job(on) else rule.times,
        seconds=0 if failed_job(on) else rule.seconds,
        grows=rule.grows,
    )


def _runtime(snapshot: Snapshot) -> str:
    predictor = (snapshot.target or {}).get("spec", {}).get("predictor", {})
    return str(predictor.get("model", {}).get("runtime", "that it names"))


def _folded(found: Sequence[tuple[Rule, Cause]]) -> list[Cause]:
    """Symptoms under what brings them about; harmless things last."""
    real = [cause for rule, cause in found if rule.heals != "harmless" and not rule.symptom]
    symptoms = [(rule, cause) for rule, cause in found if rule.symptom]
    harmless = [cause for rule, cause in found if rule.heals == "harmless"]
    if not real:
        alone = [cause for rule, cause in symptoms if not rule.never_alone]
        real = alone[:1]
    if not real:
        return harmless
    under = [replace(cause, consequence_of=real[0].id) for _, cause in symptoms if cause != real[0]]
    return [*real, *under, *harmless]
