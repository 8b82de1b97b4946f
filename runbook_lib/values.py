"""Frozen values: one JSON form, a digest over it, and a rendering that people can read.

Sizes are bytes, durations seconds unless the name says `_ms`, times UTC.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from runbook_lib.errors import RecordError

__all__ = [
    "Artifact",
    "EngineIdentity",
    "Interval",
    "Limits",
    "Phase",
    "Shown",
    "StoredFile",
    "Track",
    "Value",
    "canonical_json",
    "digest_of",
    "in_lines",
    "size_text",
    "utc_now",
]

Track = Literal["engine", "llmapi", "lab"]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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


def in_lines(texts: Iterable[str]) -> str:
    """The texts, each on a line of its own."""
    return "\n".join(texts)


def size_text(count: int) -> str:
    """A number of bytes as people read it: `85.9 GB`, in powers of ten."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_:
            return f"{count / bytes_:{'.3g' if count < 100 * bytes_ else '.0f'}} {unit}"
    return f"{count} bytes"


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

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self)


class EngineIdentity(Value):
    """What an engine belongs to: it runs nowhere else.

    `target` is the SM (`sm90`) for TensorRT-LLM and the ISA level (`avx512`) in the lab;
    `compiler` names the runtime that built it with its version; `optimization_level` is None where
    the compiler has none.
    """

    track: Track
    target: str
    compiler: str
    dtype: str
    quantization: str = "none"
    kv_cache_dtype: str
    tp_size: int = Field(default=1, gt=0)
    pp_size: int = Field(default=1, gt=0)
    cp_size: int = Field(default=1, gt=0)
    optimization_level: int | None = None
    limits: Limits

    @property
    def sm(self) -> str:
        """The SM, such as `sm90`; empty in the lab, and where nobody wrote it down."""
        return self.target if re.fullmatch(r"sm\d{2,3}a?", self.target) else ""

    def __str__(self) -> str:
        split = {"tp": self.tp_size, "pp": self.pp_size, "cp": self.cp_size}
        told = [f", {name} {size}" for name, size in split.items() if size > 1 or name != "cp"]
        ranks = "".join(told) if max(split.values()) > 1 else ""
        level = self.optimization_level
        return (
            f"{self.target}, {self.compiler}, {self.dtype}, quantisation {self.quantization}, "
            f"KV cache {self.kv_cache_dtype}{ranks}"
            f"{'' if level is None else f', optimisation level {level}'}"
        )


class Phase(Value):
    """One timed phase of a longer step."""

    name: str
    seconds: float


class StoredFile(Value):
    """One file by its POSIX path below the root it was listed from."""

    path: str
    sha256: str
    size: int


class Shown(Value):
    """A value that renders itself: a table in a notebook, lines in a terminal."""

    def facts(self) -> list[tuple[str, str]]:
        """What a reader wants to see first, as (label, text); a text may have several lines."""
        raise NotImplementedError  # every kind says what matters about it

    def _told(self) -> list[tuple[str, str]]:
        """The facts that say something: a label alone would read as a fault."""
        return [(label, text) for label, text in self.facts() if text]

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(text).replace(chr(10), '<br>')}</td></tr>"
            for label, text in self._told()
        )
        return f"<table>{cells}</table>"

    def __str__(self) -> str:
        rows = self._told()
        width = max((len(label) for label, _ in rows), default=0)
        lines = [
            f"{label if first else '':<{width}}  {line}"
            for label, text in rows
            for first, line in _numbered(text)
        ]
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(type(self).__name__ if cycle else str(self))


def _numbered(text: str) -> list[tuple[bool, str]]:
    """The lines of a text; what a model or a server said must not steer the terminal."""
    lines = [CONTROL.sub("\N{REPLACEMENT CHARACTER}", line) for line in text.splitlines()]
    return [(number == 0, line) for number, line in enumerate(lines or [""])]


class Artifact(Shown):
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
        except (OSError, ValidationError) as error:
            raise RecordError(
                f"{path} is not a {cls.kind} that this version can read.",
                why=_first_problem(error),
                fix="Run the page that makes it again.",
                page=cls.made_by,
            ) from error


def _first_problem(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{where}: {first['msg']}"
