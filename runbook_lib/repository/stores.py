"""What every store can do, and the store that a URI names.

    file:///FOLDER, or a path                       a folder of this machine
    s3://BUCKET/PREFIX/                             S3 and what speaks like it; Triton's forms with
                                                    an endpoint (s3://http://HOST:PORT/…) too
    gs://BUCKET/PREFIX/                             Google Cloud Storage
    as://ACCOUNT/CONTAINER/PREFIX/                  Azure, as Triton writes it
    https://ACCOUNT.blob.core.windows.net/…         Azure, as KServe writes it

A path is relative to the location, with slashes, and never ends with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import PreflightError, RepositoryError
from runbook_lib.repository.bodies import Body, FilePart
from runbook_lib.repository.s3 import S3Access

__all__ = ["Entry", "Store", "Upload", "needs_extra", "open_store"]

BLOB_HOST = ".blob.core."
SCHEMES = "file://, s3://, gs://, as:// and https://ACCOUNT.blob.core.windows.net"


class Entry(NamedTuple):
    """One stored object: its bytes, and a tag that changes when it is written again."""

    size: int
    tag: str


class Upload(Protocol):
    """A large file on its way in parts; what an earlier try sent is not sent again."""

    def send(self, number: int, part: FilePart) -> int:
        """Store one part, numbered from 1, unless it is there; the bytes that were sent."""
        ...

    def finish(self) -> None:
        """Make the object of its parts."""
        ...


class Store(Protocol):
    """The objects below one location. Methods raise the client library's own errors.

    Attributes:
        uri: the location, with its final slash.
        most_parts: of how many parts an upload may be.
    """

    uri: str
    most_parts: int

    def explained(self, doing: str) -> AbstractContextManager[None]:
        """Turn the library's errors inside the block into ours; `doing` as in "Pushing to"."""
        ...

    def patience(self, error: Exception) -> float:
        """For how many seconds to try again after an error; 0 where that can't help."""
        ...

    def has_root(self) -> bool:
        """Whether the bucket, container or folder is there."""
        ...

    def make_root(self) -> None:
        """Make the bucket, container or folder if it is missing."""
        ...

    def list(self) -> dict[str, Entry]:
        """Every object by its path; folder markers are none."""
        ...

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """An object's bytes from one on, in pieces; KeyError where there is none."""
        ...

    def claimed_sha256(self, path: str) -> str:
        """The digest that a push stored with an object; empty when something else stored it."""
        ...

    def put(self, path: str, body: Body, *, absent: bool = False) -> None:
        """Store one body, checked by the store against its digest.

        Raises:
            AlreadyThereError: `absent` was asked for and it is there.
            RepositoryError: the file changed while it was read, or other bytes arrived.
        """
        ...

    def begin(self, path: str, file: StoredFile) -> Upload:
        """Start, or take up again, the upload of a large file."""
        ...

    def promote(self, name: str, path: str) -> None:
        """Copy an object that waits beside to its place here, within the store."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    def beside(self) -> Store:
        """Where a content waits that shall replace the one here; no reader of this one sees it."""
        ...

    def forget(self) -> None:
        """Drop what waits beside, and the uploads that were cut."""
        ...


@contextmanager
def needs_extra(extra: str, uri: str) -> Iterator[None]:
    """Say which extra brings a client library that an import inside the block did not find.

    Raises:
        PreflightError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise PreflightError(
            f"{uri} needs a client library that is not installed.",
            why=str(error),
            fix=f'pip install "trtllm-runbooks[{extra}]"   (in a checkout: uv sync --extra {extra})',
        ) from error


def open_store(uri: str, credentials: S3Access | None = None) -> Store:
    """The store of a URI. Nothing is asked of it yet.

    Args:
        uri: see the module.
        credentials: for `s3://`; others, and S3 without, use what the provider's tools use.

    Raises:
        RepositoryError: no store has such a URI.
        PreflightError: the extra of that store is not installed, or no credentials are at hand.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        from runbook_lib.repository.store_file import FileStore

        return FileStore.at(rest if separator else uri)
    if scheme == "s3":
        from runbook_lib.repository.store_s3 import S3Store

        return S3Store.at(uri, credentials)
    if scheme == "gs":
        from runbook_lib.repository.store_gs import GsStore

        return GsStore.at(uri)
    if scheme == "as" or (scheme == "https" and BLOB_HOST in rest.partition("/")[0]):
        from runbook_lib.repository.store_azure import AzureStore

        return AzureStore.at(uri)
    raise RepositoryError(
        f"{uri} names no store that is known here.",
        why=f"The scheme is {scheme}; known are {SCHEMES}.",
        fix="Correct the URI.",
    )
