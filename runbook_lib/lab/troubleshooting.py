"""The live lab's evidence, and a drill: a server that is broken on purpose, to be diagnosed."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Diagnosis, ModelRepository, Replica, Service
from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.live import collect
from runbook_lib.errors import RunbookError, ServiceError
from runbook_lib.lab.lab import current
from runbook_lib.serving.supervise import stop

__all__ = [
    "Drilled",
    "evidence_of",
    "load_of",
    "require_healthy",
    "require_named",
    "run",
    "sources_of",
    "table",
]

SERVER = "triton-drill"
SHOWN_GAUGE = re.compile(
    r"nv_trt_llm_(?P<family>request|kv_cache_block)_metrics\{.*_type=\"(?P<kind>\w+)\""
)


def evidence_of(service: Service) -> Evidence:
    """What each replica of the service says of itself; a dead one still has its log."""
    found = [_evidence_of(replica) for replica in service.replicas]
    return functools.reduce(Evidence.joined, found)


def _evidence_of(replica: Replica) -> Evidence:
    found = collect(replica.http, replica.metrics, Path(replica.log))
    named = {f"{replica.name} {source}": said for source, said in found.sources.items()}
    # A server that says nothing is a finding, not a gap: nothing else would tell of it.
    if not found.models:
        reason = found.sources.get("repository index", "it lists no model")
        gone = Line(
            "repository index", f"{replica.name} at {replica.http} does not answer: {reason}"
        )
        return dataclasses.replace(found, lines=(gone, *found.lines), sources=named)
    return dataclasses.replace(found, sources=named)


def sources_of(evidence: Evidence) -> Any:
    """What was read of each source, and how many lines of it tell of trouble."""
    from runbook_lib.ui import table as make

    rows = [
        ["WARN" if said.startswith("not read") else "PASS", source, said]
        for source, said in evidence.sources.items()
    ]
    lines = f"{len(evidence.lines)} lines kept, {len(evidence.models)} models answered for"
    return make(["", "source", "came of it"], rows, caption=lines)


def require_healthy(diagnosis: Diagnosis) -> str:
    """End the page red when the live service has a finding: a green page means a healthy service.

    Raises:
        ServiceError: the best finding, with its cause and fix.
    """
    if not diagnosis.findings:
        return "The service is healthy: nothing that is read tells of trouble."
    best = diagnosis.findings[0]
    raise ServiceError(
        f"{best.title} [{best.id}].",
        why=f"{best.cause} Seen in: {best.evidence[0]}",
        fix=best.fix,
        page=best.page,
    )


def load_of(evidence: Evidence) -> dict[str, float]:
    """The gauges a reader looks at first: requests, KV blocks, and where time went (ms per inference)."""
    found = ((SHOWN_GAUGE.match(name), value) for name, value in evidence.metrics.items())
    shown = {
        f"{match['family'].replace('_', ' ')} {match['kind']}": value
        for match, value in found
        if match
    }
    for model in evidence.statistics:
        count = model.get("inference_stats", {}).get("success", {}).get("count", 0)
        for part in ("queue", "compute_infer") if count else ():
            nanoseconds = model["inference_stats"].get(part, {}).get("ns", 0)
            shown[f"{model['name']} {part} ms"] = nanoseconds / count / 1e6
    return shown


@dataclass(frozen=True)
class Drilled:
    """One thing broken on purpose, and what the diagnosis made of it."""

    broken: str
    expected: str
    named: str
    evidence: str

    @property
    def right(self) -> bool:
        """Whether the best finding is the cause that was made."""
        return self.named == self.expected


def _other_cpu(repository: Path) -> None:
    path = repository / "tensorrt_llm" / "1" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["lab"]["isa"] = "sm90"
    path.write_text(json.dumps(config), encoding="utf-8")


def _no_backend(repository: Path) -> None:
    path = repository / "tensorrt_llm" / "config.pbtxt"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('backend: "python"', 'backend: "tensorrtllm"'), encoding="utf-8")


def _cut_engine(repository: Path) -> None:
    path = repository / "tensorrt_llm" / "1" / "rank0.engine"
    path.write_bytes(path.read_bytes()[:-100_000])


@dataclass(frozen=True)
class Fault:
    """One way to break a repository, and the finding that must name it."""

    broken: str
    expected: str
    breaks: Callable[[Path], None]


FAULTS = (
    Fault("an engine of another processor", "engine-gpu-arch-mismatch", _other_cpu),
    Fault("a backend this image lacks", "runtime-library-load", _no_backend),
    Fault("an engine file cut on the way", "checkpoint-conversion", _cut_engine),
)


def run(repository: ModelRepository) -> list[Drilled]:
    """Break a copy of the repository in each way, serve it apart on this machine, and diagnose it blind.

    Nothing for a repository that no Triton of this machine can serve.
    """
    if not _is_of_the_lab(Path(repository.path)):
        return []
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        return list(pool.map(lambda fault: _drill(repository, fault), FAULTS))


def _is_of_the_lab(repository: Path) -> bool:
    config = repository / "tensorrt_llm" / "1" / "config.json"
    return config.is_file() and "lab" in json.loads(config.read_bytes())


def _drill(repository: ModelRepository, fault: Fault) -> Drilled:
    lab, server = current(), f"{SERVER}-{fault.expected}"
    folder = lab.folder / server
    shutil.rmtree(folder, ignore_errors=True)
    # Real copies: the layout's engine may be a hard link to the kept one.
    shutil.copytree(repository.path, folder, copy_function=shutil.copyfile)
    fault.breaks(folder)
    log = lab.folder / f"{server}.log"
    since = log.stat().st_size if log.exists() else 0
    running, _ = lab.serve(str(folder), server, strict=False, timeout=60)
    try:
        evidence = collect(running.facts["http"], running.facts["metrics"], log, since=since)
    finally:
        stop(running)
        shutil.rmtree(folder, ignore_errors=True)
    found = diagnose(evidence).findings
    if not found:
        return Drilled(fault.broken, fault.expected, "nothing", "")
    return Drilled(fault.broken, fault.expected, found[0].id, found[0].evidence[0])


def table(drills: list[Drilled]) -> Any:
    """What was broken and what was named."""
    from runbook_lib.ui import table as make

    rows = [
        [
            "PASS" if one.right else "FAIL",
            one.broken,
            one.named,
            one.evidence.partition("\n")[0][:200],
        ]
        for one in drills
    ]
    return make(["", "broken on purpose", "named", "the line that shows it"], rows)


def require_named(drills: list[Drilled]) -> str:
    """End the page red when a cause was not named.

    Raises:
        RunbookError: a drill was misdiagnosed.
    """
    if not drills:
        return "Nothing was broken on purpose: it was not asked for, or the engine is none of the lab's."
    if wrong := [one for one in drills if not one.right]:
        raise RunbookError(
            "The diagnosis did not name what was broken on purpose.",
            why="; ".join(f"{one.broken}: named {one.named}" for one in wrong),
            fix="The rules need this case: keep the record and report it.",
        )
    return f"{len(drills)} of {len(drills)} causes named."
