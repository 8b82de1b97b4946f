"""What is sent to a store: bytes, or a piece of a file that is read when it is sent, and again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runbook_lib.errors import RepositoryError

__all__ = ["Body", "FilePart", "Given", "changed", "whole"]

CHUNK_BYTES = 1024 * 1024


class Body(Protocol):
    """Bytes to send; each iteration gives all of them from the start, in pieces."""

    @property
    def size(self) -> int:
        """How many bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Their digest, hexadecimal."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Given:
    """A body that is at hand."""

    data: bytes

    @property
    def size(self) -> int:
        """How many bytes."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """Their digest, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        yield self.data


@dataclass(frozen=True)
class FilePart:
    """A piece of a file, or all of it; never held in memory as a whole.

    Attributes:
        path: the file.
        start: where the piece begins.
        size: how many bytes it has.
        sha256: its digest, hexadecimal.
    """

    path: Path
    start: int
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, start: int, size: int) -> FilePart:
        """A piece whose digest is found by reading it."""
        digest = hashlib.sha256()
        for chunk in cls(path, start, size, ""):
            digest.update(chunk)
        return cls(path, start, size, digest.hexdigest())

    def is_other_now(self) -> bool:
        """Whether the file has other bytes there than the digest tells."""
        return FilePart.of(self.path, self.start, self.size).sha256 != self.sha256

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        try:
            with self.path.open("rb", buffering=0) as handle:
                handle.seek(self.start)
                while left:
                    if not (chunk := handle.read(min(left, CHUNK_BYTES))):
                        raise changed(self.path)
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise RepositoryError(f"{self.path} could not be read.", why=str(error)) from error


def changed(path: Path) -> RepositoryError:
    """The file is not what it was when the push began."""
    return RepositoryError(
        f"{path} changed while it was being pushed.",
        fix="Push again when nothing writes to the folder.",
    )


def whole(body: Body) -> bytes:
    """All of a body at once, compared with its digest before anything is sent.

    Raises:
        RepositoryError: the file changed since its digest was found.
    """
    data = b"".join(body)
    if hashlib.sha256(data).hexdigest() != body.sha256 and isinstance(body, FilePart):
        raise changed(body.path)
    return data
