"""The typed results that one page hands to the next.

    Plan → Engine → ModelRepository → Service → Measurement → TradeOff / Diagnosis

Each is a frozen value with a versioned JSON form (`write`, `read`), a digest over that form, and a
rendering for a notebook. Sizes are bytes, durations seconds unless the name says `_ms`, times UTC.
"""

from __future__ import annotations

import hashlib
import html
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from runbook_lib.errors import RecordError

__all__ = [
    "Artifact",
    "Diagnosis",
    "Engine",
    "EngineIdentity",
    "Estimate",
    "Finding",
    "Interval",
    "Limits",
    "Measurement",
    "MemoryPart",
    "ModelRepository",
    "Phase",
    "Plan",
    "Replica",
    "Service",
    "StoredFile",
    "TradeOff",
    "TradeOffRow",
    "canonical_json",
    "digest_of",
    "utc_now",
]

Track = Literal["engine", "llmapi", "lab"]


def utc_now() -> datetime:
    """The present time, UTC, to the second: how every artifact and receipt stamps itself."""
    return datetime.now(UTC).replace(microsecond=0)


def canonical_json(value: object) -> bytes:
    """One byte string for one value: keys sorted, no spaces, UTF-8, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest_of(value: object) -> str:
    """`sha256:` of the canonical JSON of a plain value."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


class Value(BaseModel):
    """A frozen part of an artifact; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(Value):
    """A figure with the bounds of its confidence interval and the sample behind it.

    `value` is None where the sample can't carry the figure (never 0 for "not measured").
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int = 0

    def text(self, unit: str = "", digits: int = 1) -> str:
        """The figure as people read it: `12.3 ms (11.9–12.8)`, or `n too small`."""
        if self.value is None:
            return f"n too small ({self.n})"
        bounds = ""
        if self.low is not None and self.high is not None:
            bounds = f" ({self.low:.{digits}f}–{self.high:.{digits}f})"
        return f"{self.value:.{digits}f}{' ' + unit if unit else ''}{bounds}"


class Limits(Value):
    """The shapes an engine is built for, in TensorRT-LLM's words (tokens, sequences)."""

    max_batch_size: int = Field(gt=0)
    max_input_len: int = Field(gt=0)
    max_seq_len: int = Field(gt=0)
    max_num_tokens: int = Field(gt=0)
    max_beam_width: int = Field(default=1, gt=0)


class EngineIdentity(Value):
    """What an engine belongs to: it runs nowhere else.

    `target` is the SM (`sm90`) for TensorRT-LLM and the ISA level (`avx512`) in the lab;
    `compiler` names the runtime that built it with its version.
    """

    track: Track
    target: str
    compiler: str
    dtype: str
    quantization: str = "none"
    kv_cache_dtype: str
    tp_size: int = Field(default=1, gt=0)
    pp_size: int = Field(default=1, gt=0)
    limits: Limits


class Phase(Value):
    """One timed phase of a longer step."""

    name: str
    seconds: float


class StoredFile(Value):
    """One file by its POSIX path below the root it was listed from."""

    path: str
    sha256: str
    size: int


class Artifact(Value):
    """Base of what pages hand on: saved as `<kind>.json`, versioned, rendered in a notebook."""

    kind: ClassVar[str] = "artifact"
    made_by: ClassVar[str] = ""
    schema_version: Literal[1] = 1
    created: AwareDatetime = Field(default_factory=utc_now)

    def digest(self) -> str:
        """`sha256:` over the JSON form, without the time it was made."""
        return digest_of(self.model_dump(mode="json", exclude={"created"}))

    def write(self, folder: Path, name: str = "") -> Path:
        """Write `<kind>.json` (or `<name>.json`) whole or not at all, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name or self.kind}.json"
        part = path.with_suffix(".json.part")
        part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(path)
        return path

    @classmethod
    def read(cls, folder: Path, name: str = "") -> Self:
        """Read `<kind>.json` (or `<name>.json`) from a run's artifact folder.

        Raises:
            RecordError: it is missing, or not what this version wrote.
        """
        path = folder / f"{name or cls.kind}.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise RecordError(
                f"This run has no {cls.kind} yet ({path} is missing).",
                why="The page that makes it has not been run, or ended with an error.",
                fix=f"Run the page that makes the {cls.kind} first; `runbook list` names it.",
                page=cls.made_by,
            ) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise RecordError(
                f"{path} is not a {cls.kind} that this version can read.",
                why=f"{where}: {first['msg']}",
                fix="Run the page that makes it again.",
                page=cls.made_by,
            ) from error

    def facts(self) -> list[tuple[str, str]]:
        """What a reader wants to see first, as (label, text)."""
        shown = self.model_dump(mode="json", exclude={"schema_version"})
        return [(key, _short(value)) for key, value in shown.items()]

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for label, text in self.facts()
        )
        return f"<table>{cells}</table>"

    def __str__(self) -> str:
        rows = self.facts()
        width = max((len(label) for label, _ in rows), default=0)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(type(self).__name__ if cycle else str(self))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else text[:157] + "…"


class MemoryPart(Value):
    """One part of the memory that a deployment needs on each device."""

    name: str
    bytes: int = Field(ge=0)
    note: str = ""


class Estimate(Value):
    """A predicted figure with honest bounds and what it rests on."""

    name: str
    unit: str
    value: float
    low: float
    high: float
    basis: str


class Plan(Artifact):
    """Whether a profile fits, in which shapes, and what the following pages will cost."""

    kind = "plan"
    made_by = "00_plan"

    profile: str
    profile_digest: str
    track: Track
    model: str
    device: str
    device_bytes: int = Field(ge=0)
    fits: bool
    parameters: int = Field(ge=0)
    kv_bytes_per_token: int = Field(ge=0)
    max_concurrent_sequences: int = Field(ge=0)
    limits: Limits
    memory: tuple[MemoryPart, ...]
    commands: tuple[tuple[str, ...], ...]
    estimates: tuple[Estimate, ...] = ()
    notes: tuple[str, ...] = ()


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
    warnings: tuple[str, ...] = ()


class Replica(Value):
    """One server process or pod that answers for a service."""

    name: str
    http: str
    grpc: str
    metrics: str
    ready_seconds: float
    log: str = ""
    engine_digest: str = ""
    rebuilt: bool | None = None


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


class Diagnosis(Artifact):
    """What is wrong with a service, best explanation first; empty when it is healthy."""

    kind = "diagnosis"
    made_by = "06_troubleshoot"

    findings: tuple[Finding, ...] = ()
    not_explained: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
