"""Files that are whole or not there: digests of folders, folders made in one step, locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.artifacts import StoredFile, digest_of, utc_now

__all__ = ["content_digest", "list_files", "locked", "sha256_of", "whole_folder", "write_whole"]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def list_files(folder: Path, *, leave_out: Iterable[str] = ()) -> tuple[StoredFile, ...]:
    """Every regular file below a folder with digest and size, ordered by its POSIX path.

    Symbolic links are not followed and not listed. `leave_out` names relative paths.
    """
    out = set(leave_out)
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    named = sorted((path.relative_to(folder).as_posix(), path) for path in found)
    return tuple(
        StoredFile(path=name, sha256=sha256_of(path), size=path.stat().st_size)
        for name, path in named
        if name not in out
    )


def content_digest(files: Iterable[StoredFile]) -> str:
    """One digest over names and contents: equal exactly when the folders hold the same."""
    return digest_of([[file.path, file.sha256] for file in sorted(files, key=lambda one: one.path)])


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """A folder to fill, put in place of `destination` only when the block ends well."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
        old = destination.with_name(f".{destination.name}.{os.getpid()}.old")
        if destination.exists():
            destination.rename(old)
        work.rename(destination)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def locked(
    folder: Path,
    name: str = "lock",
    *,
    shared: bool = False,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Hold a lock file: two that start, stop or build the same thing take turns.

    Several may hold it `shared` at once; one that holds it alone waits for all of them. `on_wait` is
    told who holds it, where that must be waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with (folder / f".{name}").open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            on_wait(f"Waiting: {handle.read(200) or 'another process'} holds {folder / name}")
            fcntl.flock(handle, kind)
        if not shared:
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {platform.node()} since {utc_now():%H:%M} UTC")
            handle.flush()
        yield
