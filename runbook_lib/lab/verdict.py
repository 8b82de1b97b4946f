"""Asks the lab's real Triton whether it loads a repository, and keeps its own words."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import PreflightError, ServiceError
from runbook_lib.lab import environment
from runbook_lib.serving.supervise import Owner, log_tail, stop
from runbook_lib.serving.triton import post_json, start_triton

__all__ = ["ModelVerdict", "Verdict", "ask_triton"]

WAITED = 120.0  # s; a model without its code makes Triton wait for ever


@dataclass(frozen=True)
class ModelVerdict:
    """What the server says of one model folder; `says` is empty when it loads."""

    model: str
    loads: bool
    says: str


@dataclass(frozen=True)
class Verdict:
    """What the server says of a repository; `says` is told when it never came up."""

    version: str
    models: tuple[ModelVerdict, ...]
    says: str = ""

    @property
    def ok(self) -> bool:
        """Whether it loads every model, as a start with strict readiness wants."""
        return not self.says and all(one.loads for one in self.models)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data, for `--json`."""
        return {"ok": self.ok} | asdict(self)

    def __str__(self) -> str:
        name = f"Triton {self.version} itself"
        if self.says:
            return f"{name} does not come up: {self.says}"
        bad = [one for one in self.models if not one.loads]
        if not bad:
            return f"{name} loads every model."
        return "\n".join([f"{name} refuses it:", *(f"  {one.model}: {one.says}" for one in bad)])


def ask_triton(models: Path, *, timeout: float = WAITED) -> Verdict:
    """Start a Triton on a repository and read what it says of each model.

    Raises:
        PreflightError: this machine has no Triton; the fix says how to get it.
    """
    found = environment.find()
    if found is None:
        raise PreflightError(
            "There is no Triton on this machine to ask.",
            why="--ask-triton starts the one of the lab's environment, which was not made here.",
            fix="runbook lab up   (Linux x86_64; makes it once, about 620 MB), then the same again",
        )
    install = found.triton
    with tempfile.TemporaryDirectory(prefix="runbook-ask-") as folder:
        try:
            server, _ = start_triton(
                install,
                str(models.resolve()),
                Path(folder),
                owner=Owner.this_process(),
                strict=False,
                timeout=timeout,
            )
        except ServiceError as error:
            return Verdict(install.version, (), f"{error.what} {error.why}".strip())
        try:
            index = post_json(f"{server.facts['http']}/v2/repository/index", {})
            refused = _polls(server.log)
        finally:
            stop(server)
    names = sorted(path.name for path in models.iterdir() if path.is_dir())
    return Verdict(install.version, tuple(_of_model(name, index, refused) for name in names))


def _of_model(name: str, index: list[dict[str, str]], refused: dict[str, str]) -> ModelVerdict:
    states = [one for one in index if one["name"] == name and one.get("state")]
    bad = [one for one in states if one["state"] != "READY"]
    if states and not bad:
        return ModelVerdict(name, loads=True, says="")
    says = next((one["reason"] for one in bad if one.get("reason")), "")
    return ModelVerdict(name, loads=False, says=says or refused.get(name, "it loads no version"))


def _polls(log: Path) -> dict[str, str]:
    """Why configurations were refused, which the server tells in its log only."""
    told = {}
    for line in log_tail(log, lines=100_000, size=10_000_000).splitlines():
        _, found, rest = line.partition("Poll failed for model directory '")
        if found:
            name, _, reason = rest.partition("': ")
            told[name] = reason.rstrip('"')
    return told
