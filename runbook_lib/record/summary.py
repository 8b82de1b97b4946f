"""The ten lines at the end of a run, from the artifacts it made."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Diagnosis, Engine, Measurement, Service, TradeOff
from runbook_lib.artifacts_plan import Plan
from runbook_lib.errors import RecordError
from runbook_lib.record.orchestrate import RunReport

__all__ = ["Summary", "summary"]


@dataclass(frozen=True)
class Summary:
    """The same facts for people and for programs."""

    text: str
    data: dict[str, Any]


def summary(report: RunReport) -> Summary:
    """Model, engine, URL, latencies, throughput, best trade-off, record, and how to open it.

    Only what this run made is told; a failed run tells where and why instead.
    """
    folder = report.run.artifacts
    lines: list[tuple[str, str]] = []
    status = {one.page: one.status for one in report.results}
    for page, label, read in READERS:
        # What an earlier try of this record left says nothing about a page that is red now.
        if status.get(page) in {"failed", "not_run"}:
            continue
        with suppress(RecordError):
            lines.append((label, read(folder)))
    record = os.path.relpath(report.run.folder)
    lines += [("record", record), ("open it", f"{record}/index.html   (or: jupyter lab {record})")]
    if failed := [one for one in report.results if one.status == "failed"]:
        lines.append(("FAILED", f"{failed[0].page}: {failed[0].reason}"))
    text = "\n".join(f"{label:<9} {value}" for label, value in lines)
    data = {label.replace(" ", "_").lower(): value for label, value in lines}
    return Summary(text, {**data, "pages": status, "folder": str(report.run.folder)})


def _plan(folder: Path) -> str:
    plan = Plan.read(folder)
    return f"{plan.model}  {plan.parameters / 1e6:.2f} M parameters  profile {plan.profile}"


def _engine(folder: Path) -> str:
    engine = Engine.read(folder)
    identity = engine.identity
    how = (
        "receipt held, nothing built" if engine.reused else f"built in {engine.build_seconds:.1f} s"
    )
    return (
        f"{identity.dtype}/{identity.quantization}, KV {identity.kv_cache_dtype}, {identity.target}, "
        f"{engine.size_bytes / 1e6:.1f} MB, {how}  {engine.engine_digest[7:19]}"
    )


def _service(folder: Path) -> str:
    service = Service.read(folder)
    how = {one.rebuilt for one in service.replicas}
    engine = "nothing rebuilt" if how == {False} else "not known whether rebuilt"
    if True in how:
        engine = "the engine was compiled again"
    stays = (
        "ends with the run" if service.target == "lab" else "stays until runbook undeploy PROFILE"
    )
    return f"{service.url}  {len(service.replicas)} replicas, {engine} ({service.target}; {stays})"


def _latency(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        found = Measurement.read(folder)
        figures: dict[str, Any] = getattr(found, name)
        p50, p95 = (figures[share].text("ms", 2) for share in ("p50", "p95"))
        return f"p50 {p50}   p95 {p95}   n = {found.requests - found.failed}"

    return read


def _rate(folder: Path) -> str:
    found = Measurement.read(folder)
    return (
        f"{found.tokens_per_second.text('tokens/s', 0)} at concurrency {found.concurrency}, "
        f"{found.requests_per_second.text('requests/s', 1)}, {found.failed} failed"
    )


def _best(folder: Path) -> str:
    study = TradeOff.read(folder)
    row = next((one for one in study.rows if one.label == study.best), None)
    if (
        row is None
        or row.build_time_s is None
        or row.p95_total_ms is None
        or row.tokens_per_second is None
    ):
        return study.reason
    accuracy = (
        f", accuracy {row.accuracy.value:.0%}"
        if row.accuracy and row.accuracy.value is not None
        else ""
    )
    return (
        f"{row.label}: build {row.build_time_s:.1f} s, p95 {row.p95_total_ms.text('ms')}, "
        f"{row.tokens_per_second.text('tokens/s', 0)}{accuracy}"
    )


def _health(folder: Path) -> str:
    found = Diagnosis.read(folder).findings
    if not found:
        return "the service has no finding"
    return f"{len(found)} findings, first: {found[0].title}"


READERS: tuple[tuple[str, str, Callable[[Path], str]], ...] = (
    ("00_plan", "model", _plan),
    ("01_build_engine", "engine", _engine),
    ("03_deploy", "URL", _service),
    ("04_benchmark", "TTFT", _latency("ttft_ms")),
    ("04_benchmark", "ITL", _latency("itl_ms")),
    ("04_benchmark", "tokens/s", _rate),
    ("05_tradeoffs", "best", _best),
    ("06_troubleshoot", "health", _health),
)
