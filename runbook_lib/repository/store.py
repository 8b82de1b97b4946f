"""Sends a model repository to an object store and proves that it is there.

A manifest object at the repository's root names every file with its SHA-256. It is removed before
anything changes and written after everything is stored, so a half push is never taken as whole.
Triton ignores a loose file beside the models. Each object carries its SHA-256 as metadata too: a
push that was cut finds by it what is stored already and sends only the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import RepositoryError
from runbook_lib.files import content_digest, list_files
from runbook_lib.repository.objects import MANIFEST, Objects
from runbook_lib.repository.s3 import (
    Location,
    S3Access,
    explained,
    open_client,
    parse_uri,
    triton_uri,
)

__all__ = [
    "MANIFEST",
    "Problem",
    "Pushed",
    "S3Access",
    "push",
    "read_manifest",
    "triton_uri",
    "verify",
]

Told = Callable[[float, str], None]


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    uri: str
    digest: str
    files: int
    bytes: int
    skipped: int
    removed: int

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for `--json` and for the record."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.files and not self.removed:
            return f"{self.uri} holds all {self.skipped} files already ({self.digest[:19]})."
        more = f", {self.skipped} were there" if self.skipped else ""
        more += f", {self.removed} stale removed" if self.removed else ""
        size = f"{self.bytes / 1e6:.1f} MB"
        return f"{self.files} files ({size}) sent to {self.uri}{more} ({self.digest[:19]})."


@dataclass(frozen=True)
class Problem:
    """One way in which a store's content is not the folder's."""

    kind: Literal["missing", "changed", "added", "unfinished"]
    path: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """The problem as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}{f' ({self.detail})' if self.detail else ''}"


def push(
    folder: Path,
    uri: str,
    *,
    credentials: S3Access,
    replace: bool = False,
    create_bucket: bool = False,
    on_progress: Told | None = None,
) -> Pushed:
    """Store a repository under a URI, whole or recognisably unfinished.

    Args:
        folder: the repository.
        uri: `s3://bucket/prefix/`.
        credentials: the store and its keys.
        replace: allow another content there to be replaced; its other objects are removed.
        create_bucket: create the bucket when it is missing.
        on_progress: told the share done, 0 to 1, and what is being sent.

    Raises:
        RepositoryError: another content lies there, or the store refused.
        ServiceError: the store does not answer, or no longer; pushing again goes on from there.
    """
    location, files = parse_uri(uri), _local_files(folder)
    with explained("Pushing to", location, credentials):
        store = Objects(open_client(credentials), location)
        if create_bucket:
            store.ensure_bucket()
        there = store.listing()
        manifest = store.manifest() if MANIFEST in there else None
        missing, stale = _compare(store, files, there, manifest)
        if not replace:
            _refuse_other_content(location, files, manifest, stale)
        if manifest is not None and not missing and not stale and _holds(manifest, files):
            return Pushed(location.uri, content_digest(files), 0, 0, len(files), 0)
        store.delete(MANIFEST)
        for path in stale:
            store.delete(path)
        _send_all(store, folder, missing, on_progress or (lambda _share, _text: None))
        store.put_manifest(files)
    return Pushed(
        uri=location.uri,
        digest=content_digest(files),
        files=len(missing),
        bytes=sum(file.size for file in missing),
        skipped=len(files) - len(missing),
        removed=len(stale),
    )


def verify(folder: Path, uri: str, *, credentials: S3Access) -> list[Problem]:
    """Read every object back and compare its SHA-256 with the folder's; empty when all agree.

    Raises:
        RepositoryError: the store refused. ServiceError: it does not answer.
    """
    location, files = parse_uri(uri), _local_files(folder)
    with explained("Reading", location, credentials):
        store = Objects(open_client(credentials), location)
        if not store.has_bucket():
            return [Problem("missing", file.path, "no such bucket") for file in files]
        there = store.listing()
        manifest = store.manifest() if MANIFEST in there else None
        problems = []
        if there and manifest is None:
            problems.append(Problem("unfinished", MANIFEST, "the push did not end"))
        elif manifest is not None and not _holds(manifest, files):
            problems.append(Problem("changed", MANIFEST, "it names another content"))
        for file in files:
            if file.path not in there:
                problems.append(Problem("missing", file.path))
            elif (found := store.sha256(file.path)) != file.sha256:
                detail = f"stored {found[:12]}, here {file.sha256[:12]}"
                problems.append(Problem("changed", file.path, detail))
    added = set(there) - {file.path for file in files} - {MANIFEST}
    return problems + [Problem("added", path) for path in sorted(added)]


def read_manifest(uri: str, *, credentials: S3Access) -> tuple[StoredFile, ...]:
    """Every file of a stored repository, as the push that stored it wrote down.

    Raises:
        RepositoryError: nothing whole lies there, or the store refused.
        ServiceError: the store does not answer.
    """
    location = parse_uri(uri)
    with explained("Reading", location, credentials):
        store = Objects(open_client(credentials), location)
        there = store.has_bucket() and MANIFEST in store.listing()
        manifest = store.manifest() if there else None
    if manifest is None:
        raise RepositoryError(
            f"{location.uri} holds no whole repository.",
            why=f"Its {MANIFEST} is missing: nothing was pushed there, or a push was cut.",
            fix="Push it: page 02, or `runbook repo push DIR URI`.",
            page="02_model_repository",
        )
    fields = StoredFile.model_fields
    return tuple(StoredFile(**{name: one[name] for name in fields}) for one in manifest["files"])


def _local_files(folder: Path) -> tuple[StoredFile, ...]:
    if not folder.is_dir():
        raise RepositoryError(
            f"{folder} is not a folder.", fix="Give the folder of a model repository."
        )
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    if links:
        raise RepositoryError(
            f"{links[0]} is a symbolic link.",
            why="An object store has none, and what it points to may change.",
            fix=f"Copy the files themselves: cp -rL {folder} COPY",
        )
    files = list_files(folder)
    if not files:
        raise RepositoryError(f"{folder} holds no files.", fix="Lay out the repository first.")
    if any(file.path == MANIFEST for file in files):
        raise RepositoryError(
            f"{folder / MANIFEST} stands in the way of the manifest that a push writes.",
            fix=f"rm {folder / MANIFEST}",
        )
    return files


def _holds(manifest: dict[str, Any], files: tuple[StoredFile, ...]) -> bool:
    return bool(manifest.get("digest") == content_digest(files))


def _compare(
    store: Objects,
    files: tuple[StoredFile, ...],
    there: dict[str, tuple[int, str]],
    manifest: dict[str, Any] | None,
) -> tuple[list[StoredFile], list[str]]:
    """Files that must be sent, and objects that belong to another content."""
    known = {one["path"]: one for one in (manifest or {}).get("files", [])}
    missing, stale = [], []
    for file in files:
        if file.path not in there:
            missing.append(file)
            continue
        size, tag = there[file.path]
        entry = known.get(file.path)
        # An object overwritten by hand has another tag than the manifest wrote down.
        if entry and (entry["size"], entry["etag"]) == (size, tag):
            stored = str(entry["sha256"])
        else:
            stored = store.claimed_sha256(file.path) if size == file.size else ""
        if stored != file.sha256:
            missing.append(file)
    mine = {file.path for file in files} | {MANIFEST}
    stale = sorted(set(there) - mine)
    return missing, stale


def _refuse_other_content(
    location: Location,
    files: tuple[StoredFile, ...],
    manifest: dict[str, Any] | None,
    stale: list[str],
) -> None:
    if manifest is not None and not _holds(manifest, files):
        theirs = str(manifest.get("digest", "unknown"))
    elif stale:
        theirs = f"unknown: {len(stale)} other objects, such as {stale[0]}"
    else:
        return
    raise RepositoryError(
        f"{location.uri} holds another content.",
        why=f"There: {theirs}. Here: {content_digest(files)}.",
        fix="Push to another prefix, or replace what lies there: --replace",
    )


def _send_all(store: Objects, folder: Path, files: list[StoredFile], told: Told) -> None:
    total, done = sum(file.size for file in files) or 1, 0
    for file in files:
        told(done / total, file.path)
        for sent in store.send(folder / file.path, file):
            done += sent
            told(done / total, file.path)
