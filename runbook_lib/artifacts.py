"""The typed results that one page hands to the next.

    Plan → Engine → ModelRepository → Service → Measurement → TradeOff / Diagnosis

The plan stands in `artifacts_plan`, the others here.
Each is a frozen value with a versioned JSON form (`write`, `read`), a digest over that form, and a
rendering for a notebook. Sizes are bytes, durations seconds unless the name says `_ms`, times UTC.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from runbook_lib.values import (
    Artifact,
    EngineIdentity,
    Interval,
    Limits,
    Phase,
    Shown,
    StoredFile,
    Track,
    Value,
    canonical_json,
    digest_of,
    in_lines,
    size_text,
    utc_now,
)

__all__ = [
    "Artifact",
    "Diagnosis",
    "Engine",
    "EngineIdentity",
    "Finding",
    "Interval",
    "Limits",
    "Measurement",
    "ModelRepository",
    "Phase",
    "Replica",
    "Service",
    "StoredFile",
    "Track",
    "TradeOff",
    "TradeOffRow",
    "canonical_json",
    "digest_of",
    "utc_now",
]


class Engine(Artifact):
    """A built engine directory, with the identity that says where it may run."""

    kind = "engine"
    made_by = "01_build_engine"

    path: str
    identity: EngineIdentity
    files: tuple[StoredFile, ...]
    engine_digest: str
    size_bytes: int = Field(ge=0)
    build_seconds: float = Field(ge=0)
    phases: tuple[Phase, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    inputs_digest: str
    built_at: AwareDatetime
    reused: bool = False
    peak_memory_bytes: int | None = None
    peak_disk_bytes: int | None = None

    def facts(self) -> list[tuple[str, str]]:
        """What it is, where it belongs, and what it took."""
        how = "kept, its receipt holds" if self.reused else "built now"
        ended = self.built_at.astimezone(UTC)
        return [
            ("engine", f"{self.engine_digest[:19]}, {size_text(self.size_bytes)}, {how}"),
            ("belongs to", str(self.identity)),
            ("limits", str(self.identity.limits)),
            ("build", f"{self.build_seconds:.1f} s, ended {ended:%Y-%m-%d %H:%M} UTC"),
            ("phases", ", ".join(f"{one.name} {one.seconds:.2f} s" for one in self.phases)),
            ("most memory", size_text(self.peak_memory_bytes) if self.peak_memory_bytes else ""),
            ("most disk", size_text(self.peak_disk_bytes) if self.peak_disk_bytes else ""),
            ("folder", self.path),
        ]


class ModelRepository(Artifact):
    """A Triton model repository, laid out, linted, and stored under `uri`."""

    kind = "repository"
    made_by = "02_model_repository"

    path: str
    uri: str
    entry_model: str
    models: tuple[str, ...]
    files: tuple[StoredFile, ...]
    size_bytes: int = Field(ge=0)
    content_digest: str
    engine_digest: str
    identity: EngineIdentity | None = None
    warnings: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Where it goes, what it holds, and what will hurt."""
        return [
            ("stored under", self.uri),
            ("models", ", ".join(self.models) + f"; clients ask {self.entry_model}"),
            (
                "holds",
                f"{len(self.files)} files, {size_text(self.size_bytes)}, {self.content_digest[:19]}",
            ),
            ("engine", self.engine_digest[:19]),
            ("warnings", in_lines(self.warnings) or "none"),
            ("folder", self.path),
        ]


class Replica(Shown):
    """One server process or pod that answers for a service."""

    name: str
    http: str
    grpc: str
    metrics: str
    ready_seconds: float
    log: str = ""
    engine_digest: str = ""
    rebuilt: bool | None = None

    def facts(self) -> list[tuple[str, str]]:
        """Where it answers, and which engine it serves."""
        how = {False: "loaded as built", True: "compiled again", None: "not known how"}
        return [
            (self.name, f"ready after {self.ready_seconds:.1f} s"),
            ("HTTP", self.http),
            ("gRPC", self.grpc),
            ("metrics", self.metrics),
            ("engine", f"{self.engine_digest[:19]}, {how[self.rebuilt]}"),
            ("log", self.log),
        ]


class Service(Artifact):
    """A deployed service that answered its smoke test."""

    kind = "service"
    made_by = "03_deploy"

    target: Literal["lab", "kserve"]
    url: str
    entry_model: str
    repository_uri: str
    engine_digest: str
    tokenizer: str
    replicas: tuple[Replica, ...]
    smoke_prompt: str = ""
    smoke_answer: str = ""
    notes: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Where it answers, what it serves, and what it said."""
        return [
            ("URL", f"{self.url}/v2/models/{self.entry_model}/generate"),
            ("repository", self.repository_uri),
            ("replicas", in_lines(f"{one.name} {one.http}" for one in self.replicas)),
            ("asked", self.smoke_prompt),
            ("answered", self.smoke_answer),
            ("notes", in_lines(self.notes)),
        ]


class Measurement(Artifact):
    """One load against one service; every latency in ms, with its interval and sample size.

    `ttft_ms`, `itl_ms`, `e2e_ms` and `tpot_ms` map a percentile (`p50`, `p90`, `p95`, `p99`) or
    `mean` to its figure. Definitions stand in `runbook_lib.bench.metrics`.
    """

    kind = "measurement"
    made_by = "04_benchmark"

    load_profile: str
    arrival: Literal["closed", "poisson"]
    url: str
    model: str
    engine_digest: str = ""
    concurrency: int | None = None
    rate: float | None = None
    max_tokens: int
    requests: int
    failed: int
    errors: dict[str, int] = Field(default_factory=dict)
    seconds: float
    token_source: str
    tokens_in: int
    tokens_out: int
    tokens_per_second: Interval
    requests_per_second: Interval
    ttft_ms: dict[str, Interval]
    itl_ms: dict[str, Interval]
    tpot_ms: dict[str, Interval]
    e2e_ms: dict[str, Interval]
    findings: tuple[str, ...] = ()
    server: dict[str, float] = Field(default_factory=dict)
    data: str = ""

    def facts(self) -> list[tuple[str, str]]:
        """The latencies with their intervals, the rates, and everything that weakens them."""
        load = f"{self.concurrency} in flight" if self.arrival == "closed" else f"{self.rate:g}/s"
        families = (("TTFT", self.ttft_ms), ("ITL", self.itl_ms), ("E2E", self.e2e_ms))
        return [
            ("load", f"{self.arrival}, {load}, {self.requests} requests, {self.failed} failed"),
            ("tokens", f"{self.tokens_per_second.text('tokens/s', 0)}, {self.tokens_out} out"),
            ("requests", self.requests_per_second.text("requests/s")),
            *((name, _percentiles(figures)) for name, figures in families),
            ("counted by", self.token_source),
            ("know that", in_lines(self.findings) or "nothing weakens these figures"),
        ]


class TradeOffRow(Value):
    """One engine of a study: what it took to build it and what it gave."""

    label: str
    profile: dict[str, Any]
    status: Literal["measured", "failed"]
    cause: str = ""
    reused: bool = False
    measured_at: AwareDatetime | None = None
    engine_digest: str = ""
    build_time_s: float | None = None
    engine_bytes: int | None = None
    p95_total_ms: Interval | None = None
    mean_ttft_ms: Interval | None = None
    tokens_per_second: Interval | None = None
    requests_per_second: Interval | None = None
    accuracy: Interval | None = None
    perplexity: float | None = None
    pareto: bool = False


class TradeOff(Artifact):
    """Several engines of one model, built and measured under the same load."""

    kind = "tradeoff"
    made_by = "05_tradeoffs"

    load_profile: str
    objectives: tuple[str, ...]
    rows: tuple[TradeOffRow, ...]
    best: str = ""
    reason: str = ""
    csv: str = ""

    def facts(self) -> list[tuple[str, str]]:
        """Which engine to take, and why."""
        failed = [row for row in self.rows if row.status == "failed"]
        return [
            ("take", self.best or "none"),
            ("because", self.reason),
            ("load", self.load_profile),
            ("engines", ", ".join(row.label for row in self.rows)),
            ("on the front", ", ".join(row.label for row in self.rows if row.pareto) or "none"),
            ("failed", in_lines(f"{row.label}: {row.cause}" for row in failed) or "none"),
        ]


class Finding(Value):
    """One named cause, with the line that shows it and what to do about it."""

    id: str
    title: str
    cause: str
    confirm: str
    fix: str
    evidence: tuple[str, ...]
    score: float = Field(ge=0, le=1)
    page: str = ""
    costs: str = ""
    variant: str = ""
    consequences: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = (
            ("because", self.cause),
            ("seen in", in_lines(self.evidence)),
            ("confirm", self.confirm),
            ("fix", self.fix),
            ("costs", self.costs),
            ("leads to", in_lines(self.consequences)),
        )
        return in_lines(
            [f"{self.title} [{self.id}, {self.score:.2f}]", *(f"  {k}: {v}" for k, v in rows if v)]
        )


class Diagnosis(Artifact):
    """What is wrong with a service, best explanation first; empty when it is healthy."""

    kind = "diagnosis"
    made_by = "06_troubleshoot"

    findings: tuple[Finding, ...] = ()
    not_explained: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether nothing that was read tells of trouble; a source that can't be read tells nothing."""
        unread = {f"{name} {said}" for name, said in self.sources.items()}
        return not self.findings and unread.issuperset(self.not_explained)

    def facts(self) -> list[tuple[str, str]]:
        """The findings, best first; then what is left open."""
        found = [(f"finding {number}", str(one)) for number, one in enumerate(self.findings, 1)]
        return [
            *(found or [("findings", "none: nothing that is read tells of trouble")]),
            ("not explained", in_lines(self.not_explained) or "nothing"),
            ("read", ", ".join(f"{name}: {said}" for name, said in self.sources.items())),
        ]


def _percentiles(figures: dict[str, Interval]) -> str:
    shown = {name: one for name, one in figures.items() if name in {"p50", "p95", "p99"}}
    return " · ".join(f"{name} {one.text('ms', 2)}" for name, one in shown.items())
