"""The digests of a record: written last, compared offline, so that a change is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import RecordError
from runbook_lib.files import list_files, write_whole

__all__ = ["MANIFEST", "Problem", "verify_folder", "write_manifest"]

MANIFEST: Final = "digests.json"
LINK: Final = "(there is a symbolic link)"


@dataclass(frozen=True)
class Problem:
    """One file that is not as the record says."""

    path: str
    kind: Literal["missing", "changed", "added"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}{' ' if self.detail else ''}{self.detail}"


def write_manifest(folder: Path) -> Path:
    """Write `digests.json`: each file's SHA-256 and size in bytes by its relative POSIX path.

    Raises:
        RecordError: the folder holds a symbolic link, or the file can't be written.
    """
    linked = _links(folder)
    if linked:
        raise RecordError(
            f"The record {folder.name} holds a symbolic link: {linked[0]}.",
            why="What a link points to is not part of the record, so no digest can vouch for it.",
            fix="Copy the file into the record instead.",
        )
    files = {one.path: {"sha256": one.sha256, "size": one.size} for one in _listed(folder)}
    path = folder / MANIFEST
    try:
        write_whole(path, json.dumps({"version": 1, "files": files}, indent=1) + "\n")
    except OSError as error:
        raise RecordError(
            f"The digests of {folder.name} can't be written.",
            why=str(error.strerror),
            fix="Free some space, then run the page again with --resume.",
        ) from None
    return path


def verify_folder(folder: Path) -> list[Problem]:
    """Every file that is missing, changed or added since the digests were written.

    Raises:
        RecordError: there are no digests, or they can't be read.
    """
    told = _read(folder / MANIFEST)
    linked = set(_links(folder))
    try:
        found = {one.path: one for one in _listed(folder)}
    except OSError as error:
        raise RecordError(
            f"The record {folder.name} can't be read.",
            why=f"{error.strerror}: {error.filename}",
            fix="Mend the folder's permissions, or get the record from where it was first kept.",
        ) from None
    missing = [
        Problem(path, "missing", LINK if path in linked else "")
        for path in told.keys() - found.keys()
    ]
    changed = [
        Problem(path, "changed", _difference(told[path], found[path]))
        for path in told.keys() & found.keys()
        if told[path] != {"sha256": found[path].sha256, "size": found[path].size}
    ]
    added = [Problem(path, "added") for path in found.keys() - told.keys()]
    links = [Problem(path, "added", LINK) for path in linked - told.keys()]
    return sorted([*missing, *changed, *added, *links], key=lambda one: one.path)


def _listed(folder: Path) -> tuple[StoredFile, ...]:
    return list_files(folder, leave_out=[MANIFEST])


def _links(folder: Path) -> list[str]:
    return sorted(
        one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_symlink()
    )


def _difference(told: Mapping[str, Any], found: StoredFile) -> str:
    if told.get("size") != found.size:
        return f"({told.get('size')} bytes were recorded, {found.size} are there)"
    return "(same size, other bytes)"


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_bytes())
        files = known["files"]
        if not all(isinstance(entry, dict) for entry in files.values()):
            raise TypeError
    except FileNotFoundError:
        raise RecordError(
            f"{path.parent.name} has no {path.name}.",
            why="It is written last: this run did not reach its end, or the file was removed.",
            fix="Run it again with --resume, or get the record from where it was first kept.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RecordError(
            f"{path} can't be read.",
            why="It is not the JSON that a run writes: it was cut or changed.",
            fix="Get the record from where it was first kept.",
        ) from None
    return dict(files)
