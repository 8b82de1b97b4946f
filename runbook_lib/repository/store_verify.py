"""Compares what a store holds with a folder: every byte, by digest, and every name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import RepositoryError
from runbook_lib.files import content_digest
from runbook_lib.repository.manifest import MANIFEST, OURS, find_manifest
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import stored_sha256
from runbook_lib.repository.store_retry import in_parallel
from runbook_lib.repository.store_send import Progress, Told
from runbook_lib.repository.store_tree import read_tree
from runbook_lib.repository.stores import Entry, Store, open_store

__all__ = ["Problem", "verify"]


@dataclass(frozen=True)
class Problem:
    """One way in which a store's content is not the folder's."""

    kind: Literal["missing", "truncated", "changed", "unreadable", "extra", "unfinished"]
    path: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """The problem as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}{f' ({self.detail})' if self.detail else ''}"


def verify(
    folder: Path,
    uri: str,
    *,
    credentials: S3Access | None = None,
    on_progress: Told | None = None,
) -> list[Problem]:
    """Read every object back and compare its SHA-256 with the folder's; empty when all agree.

    Args:
        folder: what should be there.
        uri: see `open_store`.
        credentials: for `s3://`.
        on_progress: told the share done, 0 to 1, and what was read, at which rate.

    Raises:
        RepositoryError: the store refused. ServiceError: it does not answer.
    """
    store, files = open_store(uri, credentials), read_tree(folder, sure=True).files
    with store.explained("Reading"):
        if not store.has_root():
            return [Problem("missing", file.path, "no such bucket") for file in files]
        there = store.list()
        problems = _of_manifest(store, there, files)
        progress = Progress(sum(file.size for file in files), on_progress)
        calls = (partial(_of_file, store, file, there.get(file.path)) for file in files)
        for file, problem in in_parallel(calls):
            progress.add(file.size, file.path)
            problems += [problem] if problem else []
    names = {file.path for file in files} | OURS
    problems += [Problem("extra", path) for path in set(there) - names]
    return sorted(problems, key=lambda one: (one.path not in OURS, one.path))


def _of_manifest(
    store: Store, there: dict[str, Entry], files: tuple[StoredFile, ...]
) -> list[Problem]:
    manifest = find_manifest(store) if MANIFEST in there else None
    if manifest is None:
        return [Problem("unfinished", MANIFEST, "the push did not end")] if there else []
    if manifest.digest != content_digest(files):
        return [Problem("changed", MANIFEST, "it names another content")]
    return []


def _of_file(
    store: Store, file: StoredFile, entry: Entry | None
) -> tuple[StoredFile, Problem | None]:
    if entry is None:
        return file, Problem("missing", file.path)
    if entry.size < file.size:
        detail = f"stored {entry.size} of {file.size} bytes"
        return file, Problem("truncated", file.path, detail)
    try:
        with store.explained("Reading"):
            found = stored_sha256(store, file.path)
    except KeyError:
        return file, Problem("missing", file.path, "listed, and gone when it was read")
    except RepositoryError as error:
        # It answers, and does not give this one: as a store does whose own disk has rotted.
        return file, Problem("unreadable", file.path, error.why)
    if found == file.sha256:
        return file, None
    detail = f"stored {found[:12]}, here {file.sha256[:12]}"
    return file, Problem("changed", file.path, detail)
