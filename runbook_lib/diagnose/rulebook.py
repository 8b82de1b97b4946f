"""The rules: for each cause the signals that show it. Data, one file a cause; a team may add a folder."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from runbook_lib.errors import DiagnosisError
from runbook_lib.values import Value

__all__ = ["WEIGHTS", "Rule", "Rulebook", "Signal", "load", "rulebook"]

RULES = Path(__file__).with_name("rules")
# How much one line in which a signal stands says for its cause: it names the cause, it suggests
# it, or it only adds to what others say.
WEIGHTS = {"names": 0.9, "suggests": 0.55, "hints": 0.2}
MEMORY = 64 << 20  # bytes of automaton; beyond it RE2 goes on in linear time, more slowly


class Signal(Value):
    """Words that speak for a cause.

    `when` says on what condition: `alone`, nothing much else is in view; `in_trouble`, something
    else went wrong too.
    """

    pattern: str = Field(min_length=1)
    weight: Literal["names", "suggests", "hints"]
    when: Literal["", "alone", "in_trouble"] = ""


class Example(Value):
    """Words that were really said, and where."""

    text: str
    source: str


class Rule(Value):
    """One cause: the words that show it, and what a user does about it.

    `explains` names the causes that are mere consequences where this one is found too. Each
    example must show the cause, and no near miss may.
    """

    id: str = Field(min_length=1)
    title: str = Field(min_length=1)
    cause: str = Field(min_length=1)
    confirm: str = Field(min_length=1)
    fix: str = Field(min_length=1)
    costs: str = Field(min_length=1)
    page: str
    explains: tuple[str, ...]
    signals: tuple[Signal, ...] = Field(min_length=1)
    examples: tuple[Example, ...]
    near_misses: tuple[str, ...]


@dataclass(frozen=True)
class Rulebook:
    """Rules, and all their patterns as one automaton: linear in the text, whatever it holds."""

    rules: Mapping[str, Rule]
    owners: tuple[tuple[Rule, Signal], ...]
    automaton: Any

    def shown_by(self, text: str) -> list[tuple[Rule, Signal]]:
        """Every signal that stands in a line."""
        return [self.owners[index] for index in sorted(self.automaton.Match(text, False) or ())]

    def shows(self, text: str) -> bool:
        """Whether any signal stands in a line."""
        return bool(self.automaton.Match(text, False))


@functools.cache
def rulebook(extra: Path | None = None) -> Rulebook:
    """The package's rules, and those of a team's own folder beside them.

    Raises:
        DiagnosisError: a file can't be used; every problem of every file at once.
    """
    return load([RULES, *([extra] if extra else [])])


def load(folders: Iterable[Path]) -> Rulebook:
    """The rules of some folders; a later file takes the place of an earlier one of the same id.

    Raises:
        DiagnosisError: a folder or a file can't be used; every problem at once.
    """
    rules: dict[str, Rule] = {}
    problems: list[str] = []
    for folder in folders:
        files = sorted(folder.glob("*.json"))
        if not files:
            problems.append(f"{folder} holds no rule (*.json)")
        for file in files:
            try:
                rule = Rule.model_validate_json(file.read_bytes())
                _automaton(signal.pattern for signal in rule.signals)
            except (OSError, ValueError) as error:
                problems.append(f"{file.name}: {error}")
            else:
                rules[rule.id] = rule
    if problems:
        raise DiagnosisError(
            f"{len(problems)} of the rules can't be used.",
            why="; ".join(problems),
            fix="Correct the file: each rule of the package shows the form.",
        )
    owners = tuple((rule, signal) for rule in rules.values() for signal in rule.signals)
    return Rulebook(rules, owners, _automaton(signal.pattern for _, signal in owners))


def _automaton(patterns: Iterable[str]) -> Any:
    """RE2 takes no time that grows faster than the text; it tries a pattern where its words stand."""
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = MEMORY
    found = re2.Filter()
    for pattern in patterns:
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            said = error.args[0]
            why = said.decode() if isinstance(said, bytes) else said
            raise ValueError(f"pattern {pattern!r}: {why}") from error
        found.Add(pattern, options)
    found.Compile()
    return found
