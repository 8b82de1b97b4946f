"""Reads a stored folder back: whole and as it was stored, or not at all.

What a fetch that was cut has read stays beside the destination; the next one reads only the rest,
also of a file that was half there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import RepositoryError
from runbook_lib.files import content_digest, list_files, locked, sha256_of
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import read_manifest
from runbook_lib.repository.store_retry import in_parallel, retried
from runbook_lib.repository.store_send import Progress, Told
from runbook_lib.repository.stores import Store, open_store

__all__ = ["Fetched", "fetch", "fetch_files"]

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Fetched:
    """What a fetch did; `bytes` are those that came over the network."""

    uri: str
    folder: str
    digest: str
    files: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for `--json` and for the record."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.bytes:
            return f"{self.folder} holds all {self.files} files of {self.uri} already."
        size = f"{self.bytes / 1e6:.1f} MB"
        return (
            f"{self.files} files ({size} read) of {self.uri} in {self.folder} ({self.digest[:19]})."
        )


def fetch(
    uri: str,
    folder: Path,
    *,
    credentials: S3Access | None = None,
    replace: bool = False,
    on_progress: Told | None = None,
) -> Fetched:
    """Bring a stored folder here; every file is compared with the manifest's SHA-256.

    Args:
        uri: see `open_store`.
        folder: where it goes; what is there already and the same is kept.
        credentials: for `s3://`.
        replace: allow a folder with another content to be replaced.
        on_progress: told the share done, 0 to 1, and what is being read, at which rate.

    Raises:
        RepositoryError: nothing whole is stored there, it is not what its manifest says, or
            `folder` holds something else.
        ServiceError: the store does not answer; fetching again goes on from there.
    """
    store = open_store(uri, credentials)
    files = read_manifest(uri, credentials=credentials)
    _check_paths(store.uri, files)
    digest = content_digest(files)
    with locked(folder.parent, f"{folder.name}.fetch.lock"):
        if _holds(folder, digest):
            return Fetched(store.uri, str(folder), digest, len(files), 0)
        if not replace:
            _refuse_other_content(folder, store.uri)
        part = folder.with_name(f".{folder.name}.fetch")
        with store.explained("Reading"), _writing(part):
            _check_room(part, files)
            read = _read_all(
                store, part, files, Progress(sum(one.size for one in files), on_progress)
            )
        _drop_others(part, files)
        if not _holds(part, digest):
            raise RepositoryError(
                f"{part} is not what was just written there.",
                why="A file differs from its digest; nothing was put in place.",
                fix="Look for a failing disk or another process that writes there; fetch again.",
            )
        _put_in_place(part, folder)
    return Fetched(store.uri, str(folder), digest, len(files), read)


def fetch_files(
    uri: str,
    folder: Path,
    files: Sequence[StoredFile],
    *,
    credentials: S3Access | None = None,
) -> None:
    """Bring some files of a stored folder here, each compared with the SHA-256 that is known of it.

    Raises:
        RepositoryError: one is missing or another one. ServiceError: the store does not answer.
    """
    store, wanted = open_store(uri, credentials), tuple(files)
    _check_paths(store.uri, wanted)
    with store.explained("Reading"), _writing(folder):
        _read_all(store, folder, wanted, Progress(sum(one.size for one in wanted), None))


def _check_paths(uri: str, files: tuple[StoredFile, ...]) -> None:
    """A manifest is data from outside: it must not name a file elsewhere."""
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or str(path) != file.path or "\0" in file.path:
            raise RepositoryError(
                f"The manifest of {uri} names {file.path!r}, which lies outside of it.",
                why="It was not written by a push.",
                fix="Don't use this prefix; store the content again.",
            )


def _holds(folder: Path, digest: str) -> bool:
    return folder.is_dir() and content_digest(list_files(folder)) == digest


def _refuse_other_content(folder: Path, uri: str) -> None:
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty:
        raise RepositoryError(
            f"{folder} holds something else than {uri}.",
            why="It would be replaced.",
            fix="Name a new folder, or remove this one.",
        )


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RepositoryError(
            f"{error.filename or part} could not be written.",
            why=error.strerror or str(error),
            fix="Make room, or fetch into another folder; what was read is kept and not read again.",
        ) from error


def _check_room(part: Path, files: tuple[StoredFile, ...]) -> None:
    """A disk that can't hold the rest is told before anything is read."""
    part.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    needed = sum(file.size for file in files) - there
    free = shutil.disk_usage(part).free
    if needed > free:
        raise RepositoryError(
            f"{part.parent} has no room for what shall be read.",
            why=f"{needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free.",
            fix="Make room, or fetch into another folder.",
        )


def _read_all(store: Store, part: Path, files: tuple[StoredFile, ...], progress: Progress) -> int:
    """Every file that is not there yet; the bytes that came."""
    calls = (partial(_read_file, store, part, file, progress) for file in files)
    return sum(in_parallel(calls))


def _read_file(store: Store, part: Path, file: StoredFile, progress: Progress) -> int:
    target = part / file.path
    if _is(target, file):
        progress.add(file.size, file.path)
        return 0
    progress.add(_size_below(target, file.size), file.path)
    came = 0

    def read() -> None:
        nonlocal came
        # What came before the network failed is kept: it goes on behind it.
        for count in _read_one(store, target, file, _size_below(target, file.size)):
            came += count
            progress.add(count, file.path)

    retried(read, store.patience)
    return came


def _is(path: Path, file: StoredFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _size_below(target: Path, size: int) -> int:
    """How much of a file is there; one that is no beginning is dropped."""
    there = target.stat().st_size if target.is_file() else 0
    if there < size:
        return there
    target.unlink(missing_ok=True)
    return 0


def _read_one(store: Store, target: Path, file: StoredFile, there: int) -> Iterator[int]:
    """Read a file behind what is there of it; yields the bytes of each piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("a+b") as handle:
        handle.seek(0)
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
        for chunk in _pieces(store, file, there):
            handle.write(chunk)
            digest.update(chunk)
            yield len(chunk)
    if digest.hexdigest() != file.sha256:
        target.unlink()
        raise RepositoryError(
            f"{store.uri}{file.path} is not what its manifest says.",
            why=f"read {digest.hexdigest()[:12]}, stored as {file.sha256[:12]}",
            fix="Fetch again; if it stays so, the object was changed: build or push it again.",
        )


def _pieces(store: Store, file: StoredFile, there: int) -> Iterator[bytes]:
    if there == file.size:
        return
    try:
        yield from store.read(file.path, there)
    except KeyError:
        raise RepositoryError(
            f"Reading {store.uri}{file.path} failed: it is gone.",
            why="The manifest names it, and the store has it no more.",
            fix="Push the content again.",
        ) from None


def _drop_others(part: Path, files: tuple[StoredFile, ...]) -> None:
    """What a cut fetch of another content left."""
    wanted = {file.path for file in files}
    for path in part.rglob("*"):
        if path.is_file() and path.relative_to(part).as_posix() not in wanted:
            path.unlink()


def _put_in_place(part: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
