"""What the lines of a build tell: phases that ended, how far it is, its memory, what may pass."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Phase

__all__ = ["is_transient", "memory_of", "percent_of", "phase_of", "sm_of"]

DATA = Path(__file__).resolve().parent / "data" / "build_lines.json"
MIB = 2**20


@cache
def _rows(kind: str) -> tuple[tuple[re.Pattern[str], dict[str, Any]], ...]:
    rows = json.loads(DATA.read_bytes())[kind]
    return tuple((re.compile(row["pattern"]), row) for row in rows)


def _found(kind: str, line: str) -> tuple[dict[str, str], dict[str, Any]] | None:
    for pattern, row in _rows(kind):
        if match := pattern.search(line):
            return match.groupdict(), row
    return None


def phase_of(line: str) -> Phase | None:
    """The phase that a line says has ended, with its seconds."""
    if (found := _found("phases", line)) is None:
        return None
    said, row = found
    name = said.get("name") or row["name"]
    if (clock := said.get("clock")) is not None:
        hours, minutes, seconds = map(int, clock.split(":"))
        return Phase(name=name, seconds=hours * 3600 + minutes * 60 + seconds)
    try:
        return Phase(name=name, seconds=float(said["seconds"]))
    except ValueError:  # "1.2.3"
        return None


def percent_of(line: str) -> int | None:
    """How far the line says a part is, 0 to 100."""
    found = _found("percent", line)
    percent = int(found[0]["percent"]) if found else None
    return percent if percent is not None and percent <= 100 else None


def memory_of(line: str) -> int | None:
    """The builder's own word on its peak memory, its children's with it, in bytes."""
    if (found := _found("memory", line)) is None:
        return None
    try:
        return round(sum(float(text) for text in found[0].values() if text) * MIB)
    except ValueError:
        return None


def sm_of(line: str) -> str | None:
    """The SM that the builder says it compiles for: `sm90`."""
    found = _found("sm", line)
    return f"sm{found[0]['major']}{found[0]['minor']}" if found else None


def is_transient(lines: Iterable[str]) -> bool:
    """Whether the last words of a step that failed are of something that may go well the next time."""
    return any(_found("transient", line) is not None for line in lines)
