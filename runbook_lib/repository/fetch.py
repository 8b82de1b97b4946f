"""Reads a stored folder back: whole and as it was stored, or not at all.

What a fetch that was cut has read stays beside the destination; the next one reads only the rest,
also of a file that was half there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import RepositoryError
from runbook_lib.files import content_digest, list_files, locked, sha256_of
from runbook_lib.repository.s3 import Location, S3Access, explained, open_client, parse_uri
from runbook_lib.repository.store import Told, read_manifest

__all__ = ["Fetched", "fetch"]

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
    credentials: S3Access,
    replace: bool = False,
    on_progress: Told | None = None,
) -> Fetched:
    """Bring a stored folder here; every file is compared with the manifest's SHA-256.

    Args:
        uri: `s3://bucket/prefix/`.
        folder: where it goes; what is there already and the same is kept.
        credentials: the store and its keys.
        replace: allow a folder with another content to be replaced.
        on_progress: told the share done, 0 to 1, and what is being read.

    Raises:
        RepositoryError: nothing whole is stored there, it is not what its manifest says, or
            `folder` holds something else.
        ServiceError: the store does not answer; fetching again goes on from there.
    """
    location, told = parse_uri(uri), on_progress or (lambda _share, _text: None)
    files = read_manifest(uri, credentials=credentials)
    _check_paths(location, files)
    digest = content_digest(files)
    with locked(folder.parent, f"{folder.name}.fetch.lock"):
        if _holds(folder, digest):
            return Fetched(location.uri, str(folder), digest, len(files), 0)
        if not replace:
            _refuse_other_content(folder, location)
        part = folder.with_name(f".{folder.name}.fetch")
        with explained("Reading", location, credentials), _writing(part):
            read = _read_all(_Source(open_client(credentials), location), part, files, told)
        _drop_others(part, files)
        if not _holds(part, digest):
            raise RepositoryError(
                f"{part} is not what was just written there.",
                why="A file differs from its digest; nothing was put in place.",
                fix="Look for a failing disk or another process that writes there; fetch again.",
            )
        _put_in_place(part, folder)
    return Fetched(location.uri, str(folder), digest, len(files), read)


def _check_paths(location: Location, files: tuple[StoredFile, ...]) -> None:
    """A manifest is data from outside: it must not name a file elsewhere."""
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or str(path) != file.path or "\0" in file.path:
            raise RepositoryError(
                f"The manifest of {location.uri} names {file.path!r}, which lies outside of it.",
                why="It was not written by a push.",
                fix="Don't use this prefix; store the content again.",
            )


def _holds(folder: Path, digest: str) -> bool:
    return folder.is_dir() and content_digest(list_files(folder)) == digest


def _refuse_other_content(folder: Path, location: Location) -> None:
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty:
        raise RepositoryError(
            f"{folder} holds something else than {location.uri}.",
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


@dataclass(frozen=True)
class _Source:
    """The objects of a location, from any byte on."""

    client: Any
    location: Location

    def read(self, path: str, start: int) -> Iterator[bytes]:
        where = {"Bucket": self.location.bucket, "Key": self.location.key(path)}
        behind = {"Range": f"bytes={start}-"} if start else {}
        body = self.client.get_object(**where, **behind)["Body"]
        yield from body.iter_chunks(CHUNK_BYTES)


def _read_all(source: _Source, part: Path, files: tuple[StoredFile, ...], told: Told) -> int:
    """Every file that is not there yet; the bytes that came."""
    total, done, came = sum(file.size for file in files) or 1, 0, 0
    for file in files:
        told(done / total, file.path)
        target = part / file.path
        if not _is(target, file):
            there = _size_below(target, file.size)
            for count in _read_one(source, target, file, there):
                came += count
                there += count
                told((done + there) / total, file.path)
        done += file.size
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


def _read_one(source: _Source, target: Path, file: StoredFile, there: int) -> Iterator[int]:
    """Read a file behind what is there of it; yields the bytes of each piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("a+b") as handle:
        handle.seek(0)
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
        for chunk in source.read(file.path, there):
            handle.write(chunk)
            digest.update(chunk)
            yield len(chunk)
    if digest.hexdigest() != file.sha256:
        target.unlink()
        raise RepositoryError(
            f"{source.location.uri}{file.path} is not what its manifest says.",
            why=f"read {digest.hexdigest()[:12]}, stored as {file.sha256[:12]}",
            fix="Fetch again; if it stays so, the object was changed: build or push it again.",
        )


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
