"""What an engine directory says of itself: its `config.json`, its plan files, and its build's receipt.

`config.json` names neither the SM nor the TensorRT that the engine is compiled for. TensorRT's version
stands at the beginning of each plan file. The SM is known only from the receipt of a build that ran
here, and only while that receipt holds for the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import EngineIdentity, Limits, StoredFile
from runbook_lib.engine.build_receipt import RECEIPT, built_on, read_receipt
from runbook_lib.engine.identity_config import EngineConfig, read_config
from runbook_lib.engine.identity_plan import PlanFile, read_plan
from runbook_lib.errors import BuildError
from runbook_lib.files import content_digest, list_files

__all__ = ["EngineFacts", "engine_files", "identity_of", "inspect_engine"]

RANK = re.compile(r"(?:.*_)?rank(?P<rank>\d+)\.engine")
SUSPICIOUS = 2  # ranks of one build differ less than this many times in size


@dataclass(frozen=True)
class EngineFacts:
    """An engine directory as it describes itself.

    Attributes:
        sm: `sm90`, from a receipt that holds; empty where none does.
        tensorrt: of the plan files; empty where they don't tell, or tell different ones.
        ranks: the file of each rank, present or not.
        receipt: `holds`, `broken` (files changed since the build), or empty where there is none.
        digest: of every file; empty where the files were not read.
        faults: why it can't be loaded anywhere, each with what it is about.
    """

    version: str
    architecture: str
    dtype: str
    quantization: str
    kv_cache_dtype: str
    kv_cache_type: str
    tp_size: int
    pp_size: int
    cp_size: int
    limits: dict[str, int]
    plugins: dict[str, Any]
    extras: dict[str, Any]
    ranks: tuple[PlanFile, ...]
    lab: bool
    tensorrt: str = ""
    sm: str = ""
    built_on: dict[str, str] = field(default_factory=dict)
    receipt: str = ""
    digest: str = ""
    size_bytes: int = 0
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of rank files that are not there."""
        return tuple(one.name for one in self.ranks if one.fault == "missing")

    @property
    def world_size(self) -> int:
        """How many ranks it has, each on a GPU of its own."""
        return self.tp_size * self.pp_size * self.cp_size

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"missing": list(self.missing), "ok": not self.faults}

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self._rows())
        return "\n".join(f"{label:<{width}}  {text}" for label, text in self._rows() if text)

    def _rows(self) -> list[tuple[str, str]]:
        by = "TensorRT-LLM before 0.8" if not self.version else f"TensorRT-LLM {self.version}"
        where = self.built_on.get("gpu", "")
        cp = f", cp {self.cp_size}" if self.cp_size > 1 else ""
        return [
            ("built by", self.version if self.lab else by),
            ("TensorRT", "" if self.lab else self.tensorrt or "not told by the plan files"),
            ("compiled for", "" if self.lab else _target(self.sm, where)),
            ("model", f"{self.architecture}, {self.dtype}, quantisation {self.quantization}"),
            ("KV cache", f"{self.kv_cache_dtype} {self.kv_cache_type}".strip()),
            ("ranks", f"tp {self.tp_size}, pp {self.pp_size}{cp}"),
            ("limits", ", ".join(f"{name} {value}" for name, value in self.limits.items())),
            ("plugins", ", ".join(f"{name} {value}" for name, value in self.plugins.items())),
            ("also", ", ".join(f"{name} {value}" for name, value in self.extras.items())),
            ("files", f"{self.size_bytes:,} bytes, {self.digest or 'not read'}"),
            ("receipt", {"holds": "holds", "broken": "BROKEN"}.get(self.receipt, "none")),
            ("faults", "; ".join(self.faults) or "none"),
            ("notes", "; ".join(self.notes)),
        ]


def _target(sm: str, where: str) -> str:
    if not sm:
        return "not known: no receipt of a build holds here, and the files don't tell"
    return f"{sm} ({where})" if where else sm


def engine_files(folder: Path) -> tuple[StoredFile, ...]:
    """Every file of an engine with its digest, but the receipt, which speaks of the others."""
    return list_files(folder, leave_out=[RECEIPT])


def inspect_engine(folder: Path, files: tuple[StoredFile, ...] | None = None) -> EngineFacts:
    """Read an engine directory; loads nothing.

    Args:
        folder: the directory.
        files: its files (`engine_files`), read whole for their digests; without them nothing of the
            receipt is believed.

    Raises:
        BuildError: `config.json` is missing, or not an engine's.
    """
    config = read_config(folder)
    ranks = _ranks(folder, config)
    receipt = read_receipt(folder) if files is not None else None
    where = None if files is None else built_on(receipt, files)
    standing = "" if receipt is None or "digest" not in receipt else "broken"
    faults = _faults(ranks)
    if standing and where is None:
        faults.append(f"the files are not those of {RECEIPT}: they changed since the build")
    told = {one.tensorrt for one in ranks if one.tensorrt}
    shared = {name: getattr(config, name) for name in SHARED}
    return EngineFacts(
        **shared,
        ranks=ranks,
        tensorrt=told.pop() if len(told) == 1 else "",
        sm=(where or {}).get("sm", ""),
        built_on=where or {},
        receipt="holds" if where is not None else standing,
        digest=content_digest(files) if files is not None else "",
        size_bytes=sum(one.size for one in files or ranks),
        faults=tuple(faults),
        notes=(*config.notes, *_notes(folder, config, ranks)),
    )


SHARED = (
    *("version", "architecture", "dtype", "quantization", "kv_cache_dtype", "kv_cache_type"),
    *("tp_size", "pp_size", "cp_size", "limits", "plugins", "extras", "lab"),
)


def identity_of(
    folder: Path, files: tuple[StoredFile, ...] | None = None, *, limits: Limits | None = None
) -> EngineIdentity:
    """The identity that the stages behind the build read; the SM is `unknown` without a receipt.

    Args:
        folder: the engine directory.
        files: its files (`engine_files`), where they were read already.
        limits: those that it was asked for, where its config.json does not tell one.

    Raises:
        BuildError: it is no engine, a rank is missing or empty, or a limit is not known.
    """
    facts = inspect_engine(folder, engine_files(folder) if files is None else files)
    known = (limits.model_dump() if limits else {}) | facts.limits
    absent = [name for name in Limits.model_fields if name not in known]
    lost = [f"{one.name}: {one.fault}" for one in facts.ranks if one.fault and not one.size]
    if lost or absent or facts.receipt == "broken":
        changed = [one for one in facts.faults if "changed" in one]
        told = [f"build_config.{name} is missing" for name in absent]
        raise BuildError(
            f"The engine in {folder} is not whole.",
            why="; ".join([*lost, *changed, *told]),
            fix="Build it again: page 01.",
            page="01_build_engine",
        )
    return EngineIdentity(
        track="engine",
        target=facts.sm or "unknown",
        compiler=f"TensorRT-LLM {facts.version}",
        dtype=facts.dtype,
        quantization=facts.quantization,
        kv_cache_dtype=facts.kv_cache_dtype,
        tp_size=facts.tp_size,
        pp_size=facts.pp_size,
        cp_size=facts.cp_size,
        limits=Limits(**{name: known[name] for name in Limits.model_fields}),
    )


def _ranks(folder: Path, config: EngineConfig) -> tuple[PlanFile, ...]:
    names = _names(folder) if config.old else {}
    wanted = range(config.tp_size * config.pp_size * config.cp_size)
    found = (read_plan(folder / names.get(rank, f"rank{rank}.engine")) for rank in wanted)
    if config.lab:  # its file is no plan
        return tuple(PlanFile(one.name, one.size, fault=_missing(one)) for one in found)
    return tuple(found)


def _missing(one: PlanFile) -> str:
    return one.fault if one.fault == "missing" else ""


def _names(folder: Path) -> dict[int, str]:
    """Each rank's file by its number: build.py put model, type and parallelism into the name."""
    found = ((RANK.fullmatch(path.name), path.name) for path in sorted(folder.glob("*.engine")))
    return {int(match["rank"]): name for match, name in found if match}


def _faults(ranks: Iterable[PlanFile]) -> list[str]:
    told = [f"{one.name}: {one.fault}" for one in ranks if one.fault]
    versions = {one.name: one.tensorrt for one in ranks if one.tensorrt}
    if len(set(versions.values())) > 1:
        by = ", ".join(f"{name} of {version}" for name, version in versions.items())
        told.append(f"ranks of different builds: {by} (TensorRT)")
    return told


def _notes(folder: Path, config: EngineConfig, ranks: tuple[PlanFile, ...]) -> list[str]:
    told = []
    known = {one.name for one in ranks}
    if not config.lab and (stray := sorted(set(_names(folder).values()) - known)):
        told.append(f"{', '.join(stray):.200} of another build: this one has {len(ranks)} ranks")
    sizes = [one.size for one in ranks if not one.fault]
    if sizes and max(sizes) > SUSPICIOUS * min(sizes):
        small = min((one for one in ranks if not one.fault), key=lambda one: one.size)
        told.append(f"{small.name} has {small.size:,} bytes, another rank {max(sizes):,}: cut off?")
    links = sorted(path.name for path in folder.iterdir() if path.is_symlink())
    if links:
        told.append(f"{', '.join(links):.200}: links, of which the digest says nothing")
    return told
