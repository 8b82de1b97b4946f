"""The store behind `file://` and a plain path: a folder of this machine, or one that is mounted."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import AlreadyThereError, RepositoryError
from runbook_lib.repository.bodies import Body, FilePart, changed
from runbook_lib.repository.stores import Entry

__all__ = ["FileStore"]

CHUNK_BYTES = 1024 * 1024
PART = ".runbook-part"


class FileStore:
    """Files below a folder; see `Store`. A file is there whole or not at all."""

    most_parts = 1_000_000

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"file://{folder.as_posix()}/"

    @classmethod
    def at(cls, path: str) -> FileStore:
        """The store of a path, or of what stands behind `file://`.

        Raises:
            RepositoryError: it is empty, or the root of everything.
        """
        folder = Path(os.path.abspath(unquote(path))) if path else Path("/")  # noqa: PTH100 - links stay
        if folder == Path("/"):
            raise RepositoryError(
                f"file://{path} names no folder of its own.", fix="Give file:///FOLDER/."
            )
        return cls(folder)

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """See `Store`."""
        try:
            yield
        except OSError as error:
            raise RepositoryError(
                f"{doing} {self.uri} failed.",
                why=f"{error.filename or self.folder}: {error.strerror or error}",
                fix="See that the folder is there, may be written, and has room (disk space); a "
                "push goes on where it was cut.",
            ) from error

    def patience(self, error: Exception) -> float:
        """See `Store`."""
        del error
        return 0.0

    def has_root(self) -> bool:
        """See `Store`."""
        return self.folder.parent.is_dir()

    def make_root(self) -> None:
        """See `Store`."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def list(self) -> dict[str, Entry]:
        """See `Store`."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if not name.endswith(PART):
                    path = Path(folder, name)
                    about = path.stat()
                    tag = f"{about.st_size}-{about.st_mtime_ns}-{about.st_ino}"
                    relative = path.relative_to(self.folder).as_posix()
                    found[relative] = Entry(about.st_size, tag)
        return found

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """See `Store`."""
        try:
            handle = (self.folder / path).open("rb")
        except FileNotFoundError:
            raise KeyError(path) from None
        with handle:
            handle.seek(start)
            while chunk := handle.read(CHUNK_BYTES):
                yield chunk

    def claimed_sha256(self, path: str) -> str:
        """See `Store`; a file carries no claim, so it is read."""
        digest = hashlib.sha256()
        for chunk in self.read(path):
            digest.update(chunk)
        return digest.hexdigest()

    def put(self, path: str, body: Body, *, absent: bool = False) -> None:
        """See `Store`."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Of this writer's own: two may write at once, and the last one that ends is there whole.
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}{PART}")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as handle:
                for chunk in body:
                    handle.write(chunk)
                    digest.update(chunk)
                handle.flush()
                os.fsync(handle.fileno())
            if digest.hexdigest() != body.sha256:
                raise changed(body.path if isinstance(body, FilePart) else target)
            if absent:
                os.link(part, target)
            else:
                part.replace(target)
        except FileExistsError:
            raise AlreadyThereError(f"{self.uri}{path} is there.") from None
        finally:
            part.unlink(missing_ok=True)

    def begin(self, path: str, file: StoredFile) -> _InPlace:
        """See `Store`."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return _InPlace(
            target, target.with_name(f"{target.name}.{file.sha256[:16]}{PART}"), file.size
        )

    def promote(self, name: str, path: str) -> None:
        """See `Store`; a link first, so that no bytes are written twice."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}{PART}")
        waiting = self.beside().folder / name
        part.unlink(missing_ok=True)
        try:
            os.link(waiting, part)
        except OSError:
            shutil.copyfile(waiting, part)
        part.replace(target)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Store`; folders that are empty then go too."""
        for path in paths:
            target = self.folder / path
            target.unlink(missing_ok=True)
            for folder in target.parents:
                if folder == self.folder.parent or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()

    def beside(self) -> FileStore:
        """See `Store`."""
        return FileStore(self.folder.parent / ".runbook-incoming" / self.folder.name)

    def forget(self) -> None:
        """See `Store`."""
        waiting = self.beside().folder
        shutil.rmtree(waiting, ignore_errors=True)
        with suppress(OSError):  # of another content, beside this one
            waiting.parent.rmdir()
        for part in self.folder.rglob(f"*{PART}"):
            part.unlink(missing_ok=True)


class _InPlace:
    """A large file that is written part by part; see `Upload`."""

    def __init__(self, target: Path, part: Path, size: int) -> None:
        self.target, self.part = target, part
        self.resumed = part.is_file() and part.stat().st_size == size
        if not self.resumed:
            with part.open("wb") as handle:
                handle.truncate(size)

    def send(self, number: int, part: FilePart) -> int:
        """See `Upload`."""
        del number
        here = FilePart(self.part, part.start, part.size, part.sha256)
        if self.resumed and not here.is_other_now():
            return 0
        with self.part.open("r+b") as handle:
            handle.seek(part.start)
            for chunk in part:
                handle.write(chunk)
        return part.size

    def finish(self) -> None:
        """See `Upload`."""
        with self.part.open("rb") as handle:
            os.fsync(handle.fileno())
        self.part.replace(self.target)
