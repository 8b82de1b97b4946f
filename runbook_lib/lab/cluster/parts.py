"""The parts that are built from Go modules: versions, programs, and where each one's build lies.

The versions stand in `parts.json`; beside them each part has a go.mod and a go.sum, so that Go
checks every byte that it compiles. KServe is built in its own module, whose go.sum counts; the sum
of that module itself stands in `parts.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.errors import UsageError
from runbook_lib.places import cache_dir
from runbook_lib.values import digest_of

__all__ = [
    "GO_NEEDED",
    "MODULES",
    "Part",
    "default_kserve",
    "kserve_part",
    "kserve_types",
    "kserve_versions",
    "parts",
]

HERE = Path(__file__).resolve().parent
MODULES = HERE / "modules"


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((HERE / "parts.json").read_text(encoding="utf-8"))
    return data


GO_NEEDED = str(_data()["go"])


@dataclass(frozen=True)
class Part:
    """One Go module at one version: its programs, and files that are kept from its source.

    `own_sum` is the sum of a module that is built in its own tree; the other parts are built in a
    module of ours, whose go.sum holds all sums.
    """

    name: str
    version: str
    module: str
    programs: Mapping[str, str]
    files: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    own_sum: str = ""

    @property
    def folder(self) -> Path:
        """Where it lies once it is built: another version or another sum is another folder."""
        sums = [(MODULES / self.name / name) for name in ("go.mod", "go.sum")]
        texts = [self.own_sum] if self.own_sum else [one.read_text("utf-8") for one in sums]
        inputs = [self.module, dict(self.programs), list(self.files), dict(self.settings), texts]
        digest = digest_of(inputs).removeprefix("sha256:")[:12]
        return cache_dir() / "cluster" / "bin" / f"{self.name}-{self.version}-{digest}"

    def program(self, name: str) -> Path:
        """The path of one of its programs."""
        return self.folder / name

    def kept(self, pattern: str) -> list[Path]:
        """Files kept from its source, by a pattern of their name there."""
        return sorted((self.folder / "files").glob(pattern))


def kserve_types(version: str) -> Part:
    """Only the files of KServe at one version, which no compiler is needed for.

    Raises:
        UsageError: no such version is known.
    """
    return replace(kserve_part(version), programs={})


def _part(name: str, entry: Mapping[str, Any], version: str, own_sum: str = "") -> Part:
    return Part(
        name=name,
        version=version,
        module=entry["module"],
        programs=entry["programs"],
        files=tuple(entry.get("files", ())),
        settings=entry.get("settings", {}),
        own_sum=own_sum,
    )


def parts() -> dict[str, Part]:
    """Every part but KServe, by name."""
    return {name: _part(name, entry, entry["version"]) for name, entry in _data()["parts"].items()}


def default_kserve() -> str:
    """The version of KServe that a cluster has when none is named."""
    return str(_data()["kserve"]["default"])


def kserve_versions() -> tuple[str, ...]:
    """The versions of KServe that can be built."""
    return tuple(_data()["kserve"]["sums"])


def kserve_part(version: str) -> Part:
    """KServe at one version.

    Raises:
        UsageError: no such version can be built here.
    """
    entry = _data()["kserve"]
    if version not in entry["sums"]:
        raise UsageError(
            f"The test cluster has no KServe {version}.",
            why=f"It is built from its Go module; known are {', '.join(kserve_versions())}.",
            fix=f"Name one of them, or none for {default_kserve()}.",
        )
    return _part("kserve", entry, version, entry["sums"][version])
