"""What the lint of a model repository finds, and the model that its rules look at."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

__all__ = ["CONFIG", "LintFinding", "LintResult", "Model"]

CONFIG = "config.pbtxt"
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class LintFinding:
    """One thing in a repository that Triton refuses (`error`) or that will surprise (`warning`).

    `model` is empty when it concerns the whole repository.
    """

    model: str
    rule: str
    severity: Severity
    message: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """The finding as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        where = f"{self.model}: " if self.model else ""
        return f"{self.severity}: {where}{self.message} [{self.rule}]\n  fix: {self.fix}"


@dataclass(frozen=True)
class LintResult:
    """Every finding of one repository, errors first."""

    path: str
    findings: tuple[LintFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether Triton loads every model."""
        return not any(one.severity == "error" for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for `--json`."""
        return {"ok": self.ok, "findings": [one.to_dict() for one in self.findings]}

    def __str__(self) -> str:
        errors = sum(one.severity == "error" for one in self.findings)
        rest = len(self.findings) - errors
        verdict = "Triton loads every model" if self.ok else f"Triton refuses it: {errors} errors"
        head = f"{self.path}: {verdict}{f', {rest} warnings' if rest else ''}."
        return "\n".join([head, *(str(one) for one in self.findings)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(type(self).__name__ if cycle else str(self))


@dataclass
class Model:
    """One model folder as Triton sees it, with what was found in it.

    Attributes:
        path: the model's folder.
        config: the parsed configuration; None when there is none or it can't be read.
        backend: the backend that Triton chooses; empty for an ensemble, or when it finds none.
        platform: the platform that Triton completes.
        file: the file of a version that the backend opens.
        on_cpu: it is judged for the CPU server, whose version and parts are known.
        completes_itself: its code adds tensors to the configuration, so only Triton knows them all.
        decoupled: it gives any number of answers a request, by itself or by a part.
    """

    path: Path
    config: Any = None
    backend: str = ""
    platform: str = ""
    file: str = ""
    on_cpu: bool = True
    completes_itself: bool = False
    decoupled: bool = False
    findings: list[LintFinding] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name, which is the model's."""
        return self.path.name

    @property
    def is_ensemble(self) -> bool:
        """Whether the configuration says so."""
        return self.config is not None and self.config.platform == "ensemble"

    @property
    def fails(self) -> bool:
        """Whether Triton refuses it."""
        return any(one.severity == "error" for one in self.findings)

    def error(self, rule: str, message: str, fix: str) -> None:
        """Note what Triton refuses."""
        self.findings.append(LintFinding(self.name, rule, "error", message, fix))

    def warn(self, rule: str, message: str, fix: str) -> None:
        """Note what Triton accepts and a person should know."""
        self.findings.append(LintFinding(self.name, rule, "warning", message, fix))

    @cached_property
    def folders(self) -> list[str]:
        """The folders in it, by name."""
        return sorted(path.name for path in self.path.iterdir() if path.is_dir())

    @cached_property
    def available(self) -> set[int]:
        """The versions that Triton counts: it reads `1a` as 1, and passes over `latest` and `01`."""
        numbers = (re.match(r"\s*([+-]?\d+)", name) for name in self.folders)
        return {
            int(found[1])
            for found in numbers
            if found and not (len(found.string) > 1 and found.string.startswith("0"))
        }

    @property
    def loaded(self) -> list[int]:
        """The versions that the version policy loads."""
        policy = None if self.config is None else self.config.version_policy
        if policy is not None and policy.HasField("specific"):
            return sorted(self.available & set(policy.specific.versions))
        if policy is not None and policy.HasField("all"):
            return sorted(self.available)
        latest = policy is not None and policy.HasField("latest")
        count = policy.latest.num_versions if policy is not None and latest else 1
        return sorted(self.available)[-count:] if count else []
