"""What was collected: lines with where they were read, and what servers say of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbook_lib.artifacts import Finding

__all__ = ["Evidence", "Line"]


@dataclass(frozen=True)
class Line:
    """One line, or one message of several, with where it was read; numbers count from 1."""

    source: str
    text: str
    number: int = 0


@dataclass(frozen=True)
class Evidence:
    """Everything that was collected; `sources` says for each source what came of it.

    `named` holds what a collector could name itself, from objects that are no lines of text.
    """

    lines: tuple[Line, ...] = ()
    models: tuple[dict[str, Any], ...] = ()
    statistics: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    named: tuple[Finding, ...] = ()

    def joined(self, other: Evidence) -> Evidence:
        """This evidence and another, as one."""
        return Evidence(
            self.lines + other.lines,
            self.models + other.models,
            self.statistics + other.statistics,
            self.metrics | other.metrics,
            self.sources | other.sources,
            self.named + other.named,
        )
