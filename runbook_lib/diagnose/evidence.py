"""Collect what a live Triton says of itself: index, statistics, metrics, log. Reads only."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Finding

__all__ = ["Evidence", "Line", "collect", "from_text"]

LOG_BYTES = 2_000_000
LINE_LENGTH = 2_000
SAYS_TROUBLE = re.compile(
    r"^E\d{4} |\[E\]|error\b|fail|unavailable|exception|not healthy|exited|refused|denied|status: [45]"
    r"|\bunable|\binvalid|incompatible|incorrect|mismatch|\bunknown enum|exceed|truncated|altered|corrupt|damaged"
    r"|could ?n[o']t|can ?not|can't|does ?n[o']t|not (found|loaded|match|whole)|missing"
    r"|\bno (model|module|such)|nosuch|too (large|small|long|many)|engine (needs|was built|supports)"
    r"|only supported|at least one|\bexpected|must (be|specify)",
    re.IGNORECASE,
)
# Colours and titles of terminals, and whatever else steers one or turns the direction of text.
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True)
class Line:
    """One line that may show a cause, with where it was read."""

    source: str
    text: str


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


def collect(
    http: str, metrics: str = "", log: Path | None = None, *, since: int = 0, timeout: float = 5.0
) -> Evidence:
    """What a server says of itself; a source that can't be read is named and the rest is used.

    Args:
        http: its HTTP URL.
        metrics: its metrics URL; empty: none is read.
        log: its log file, read from byte `since`, at most the last 2 MB.
    """
    sources: dict[str, str] = {}
    models = _listed(_json(f"{http}/v2/repository/index", {}, sources, "repository index", timeout))
    known = _json(f"{http}/v2/models/stats", None, sources, "statistics", timeout)
    statistics = _listed(known.get("model_stats") if isinstance(known, dict) else None)
    gauges = _metrics(_text(metrics, sources, "metrics", timeout)) if metrics else {}
    lines = [
        Line(
            "repository index",
            _clean(f"{model.get('name')} is {model.get('state')}: {model.get('reason')}"),
        )
        for model in models
        if model.get("reason") not in (None, "", "unloaded")
    ]
    if log is not None:
        lines += _from_log(log, since, sources)
    return Evidence(tuple(lines), models, statistics, gauges, sources)


def from_text(name: str, text: str) -> Evidence:
    """Evidence from a pasted or saved text."""
    return Evidence(
        tuple(_troubled(name, text.splitlines())), sources={name: f"{len(text)} characters"}
    )


def _troubled(source: str, lines: Iterable[str]) -> list[Line]:
    cleaned = (_clean(line) for line in lines)
    return [Line(source, line) for line in dict.fromkeys(cleaned) if SAYS_TROUBLE.search(line)]


def _clean(line: str) -> str:
    """Log text is data: terminal control is taken out, and very long lines are cut."""
    return CONTROL.sub("", line).strip()[:LINE_LENGTH]


def _from_log(log: Path, since: int, sources: dict[str, str]) -> list[Line]:
    try:
        size = log.stat().st_size
        with log.open("rb") as handle:
            # A log that is shorter than before was begun anew: all of it is news.
            handle.seek(max(since if since <= size else 0, size - LOG_BYTES))
            text = handle.read().decode("utf-8", "replace")
    except OSError as error:
        sources["log"] = f"not read: {error.strerror}"
        return []
    found = _troubled("log", text.splitlines())
    sources["log"] = f"{len(text.splitlines())} lines, {len(found)} that tell of trouble"
    return found


def _json(
    url: str, body: dict[str, Any] | None, sources: dict[str, str], name: str, timeout: float
) -> Any:
    text = _text(url, sources, name, timeout, None if body is None else json.dumps(body).encode())
    try:
        return json.loads(text) if text else None
    except ValueError:
        sources[name] = "not read: no JSON"
        return None


def _text(
    url: str, sources: dict[str, str], name: str, timeout: float, data: bytes | None = None
) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout) as answer:
            text: str = answer.read(20_000_000).decode("utf-8", "replace")
    except (OSError, HTTPException, ValueError) as error:
        sources[name] = f"not read: {getattr(error, 'reason', error)}"
        return ""
    sources[name] = "read"
    return text


def _listed(value: object) -> tuple[dict[str, Any], ...]:
    return tuple(one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _metrics(text: str) -> dict[str, float]:
    """Prometheus text as `name{labels}` → value."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                found[name] = float(value)
            except ValueError:
                continue
    return found
