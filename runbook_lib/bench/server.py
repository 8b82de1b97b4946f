"""What Triton counted while a load ran: statistics, and gauges at half time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook_lib.bench.client import read_json, read_text

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Snapshot", "changes", "parse_metrics", "read_server"]

_TIMES = ("queue", "compute_input", "compute_infer", "compute_output")
_GAUGES = ("nv_trt_llm_", "nv_inference_pending_request_count", "nv_gpu_", "nv_cpu_")
_COUNTERS = ("nv_energy_consumption",)
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Snapshot:
    """`statistics`: figure → running total, per model. `metrics`: sample → value."""

    statistics: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


async def read_server(session: aiohttp.ClientSession, url: str, metrics_url: str) -> Snapshot:
    """Read Triton's statistics of all models and its metrics page; what is missing stays empty."""
    statistics, page = await asyncio.gather(
        read_json(session, f"{url.rstrip('/')}/v2/models/stats"),
        read_text(session, metrics_url) if metrics_url else _nothing(),
    )
    return Snapshot(_totals(statistics), parse_metrics(page))


def changes(before: Snapshot, after: Snapshot, amid: Snapshot | None) -> dict[str, float]:
    """What the server did between two snapshots.

    Returns:
        Per model that worked: `<model>.success`, `.fail` (requests), `.executions`, and
        `.<phase>_ms` for queue, compute_input, compute_infer and compute_output (mean ms of a
        request). Counters of the metrics page as differences; its gauges as read at half time.
    """
    grown = {
        key: value - before.statistics.get(key, 0.0) for key, value in after.statistics.items()
    }
    found: dict[str, float] = {}
    for model in sorted({key.rpartition(".")[0] for key in grown}):
        if grown[f"{model}.success"] or grown[f"{model}.fail"]:
            found |= _of_model(model, grown)
    for name, value in after.metrics.items():
        if name.startswith(_COUNTERS):
            found[name] = value - before.metrics.get(name, 0.0)
    gauges = amid.metrics if amid else {}
    return found | {name: value for name, value in gauges.items() if name.startswith(_GAUGES)}


def parse_metrics(page: str) -> dict[str, float]:
    """Samples of a Prometheus text page as `name{label,label}` (label values only) → value."""
    found = {}
    for line in page.splitlines():
        match = _SAMPLE.match(line)
        if match is None:
            continue
        name, labels, value = match.groups()
        values = ",".join(text for _, text in _LABEL.findall(labels or ""))
        number = _number(value)
        if number is not None:
            found[f"{name}{{{values}}}" if values else name] = number
    return found


async def _nothing() -> str:
    return ""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _of_model(model: str, grown: Mapping[str, float]) -> dict[str, float]:
    kept = ("success", "fail", "executions")
    found = {f"{model}.{name}": grown[f"{model}.{name}"] for name in kept}
    for phase in _TIMES:
        count = grown[f"{model}.{phase}_count"]
        if count > 0:
            found[f"{model}.{phase}_ms"] = grown[f"{model}.{phase}_ns"] / count / 1e6
    return found


def _totals(statistics: Mapping[str, Any]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for model in statistics.get("model_stats") or []:
        name, parts = str(model.get("name")), model.get("inference_stats") or {}
        row = {kind: _part(parts, kind, "count") for kind in ("success", "fail")}
        row["executions"] = float(model.get("execution_count") or 0)
        for phase in _TIMES:
            row[f"{phase}_count"] = _part(parts, phase, "count")
            row[f"{phase}_ns"] = _part(parts, phase, "ns")
        for key, value in row.items():
            totals[f"{name}.{key}"] = totals.get(f"{name}.{key}", 0.0) + value
    return totals


def _part(parts: Mapping[str, Any], kind: str, figure: str) -> float:
    return float((parts.get(kind) or {}).get(figure) or 0)
