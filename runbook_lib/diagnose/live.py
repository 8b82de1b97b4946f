"""Collect what a live Triton says of itself: index, statistics, metrics, log. Reads only."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.reading import kept_lines
from runbook_lib.diagnose.text import clean
from runbook_lib.masking import mask_secrets

__all__ = ["collect"]

LOG_BYTES = 2_000_000


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
            mask_secrets(
                clean(f"{model.get('name')} is {model.get('state')}: {model.get('reason')}")
            ),
        )
        for model in models
        if model.get("reason") not in (None, "", "unloaded")
    ]
    if log is not None:
        lines += _from_log(log, since, sources)
    return Evidence(tuple(lines), models, statistics, gauges, sources)


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
    lines = text.splitlines()
    found = kept_lines("log", lines)
    sources["log"] = f"{len(lines)} lines, {len(found)} kept"
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
