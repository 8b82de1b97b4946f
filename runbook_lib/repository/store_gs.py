"""The store behind `gs://`: Google Cloud Storage, with whatever credentials gcloud's tools use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import AlreadyThereError, RepositoryError, ServiceError
from runbook_lib.repository.bodies import Body, FilePart, whole
from runbook_lib.repository.prefixes import beside_prefix, prefix_of
from runbook_lib.repository.store_retry import in_parallel, retried
from runbook_lib.repository.stores import Entry, needs_extra

__all__ = ["GsStore"]

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
PIECE = 8 * 1024 * 1024
AT_ONCE = 32  # objects that Google makes one of
TIMEOUT = (5.0, 60.0)
BUSY, SILENT = 60.0, 5.0
FIXES = {
    401: "Log in: gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS.",
    403: "Give the account roles/storage.objectAdmin on the bucket, or use another one "
    "(GOOGLE_APPLICATION_CREDENTIALS).",
    404: "Create the bucket, or correct the URI: gcloud storage buckets create gs://{bucket}",
}


class GsStore:
    """Objects below a prefix of a bucket; see `Store`.

    A large file is sent as objects beside the place, one a part, of which the store then makes one.
    """

    most_parts = 1_000_000

    def __init__(self, bucket: str, prefix: str, client: Any = None) -> None:
        self.bucket_name, self.prefix = bucket, prefix
        self.uri = f"gs://{bucket}/{prefix}"
        self._given = client

    @classmethod
    def at(cls, uri: str) -> GsStore:
        """The store of a URI.

        Raises:
            RepositoryError: it names no bucket, or no prefix.
            PreflightError: the client library is not installed.
        """
        bucket, _, rest = uri.removeprefix("gs://").partition("/")
        if not BUCKET.fullmatch(bucket):
            raise RepositoryError(f"{uri} names no usable bucket.", fix="Give gs://BUCKET/PREFIX/.")
        with needs_extra("gs", uri):
            import google.cloud.storage  # noqa: F401
        return cls(bucket, prefix_of(uri, rest))

    @cached_property
    def client(self) -> Any:
        """Google's client; an emulator (STORAGE_EMULATOR_HOST) asks for no credentials."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        if self._given:
            return self._given
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            nobody: Any = AnonymousCredentials  # untyped
            return Client(project="emulator", credentials=nobody())
        return Client()

    @property
    def _bucket(self) -> Any:
        return self.client.bucket(self.bucket_name)

    def blob(self, path: str) -> Any:
        """The library's object of a path."""
        return self._bucket.blob(self.prefix + path)

    def again(self, call: Any, *words: Any, **named: Any) -> Any:
        """What a call of the library returns, tried again while it may help."""
        given = {"timeout": TIMEOUT, "retry": None, **named}
        return retried(partial(call, *words, **given), self.patience)

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """See `Store`."""
        import google.auth.exceptions as of_auth
        import requests
        from google.api_core.exceptions import GoogleAPICallError
        from google.cloud.storage.exceptions import InvalidResponse

        what = f"{doing} {self.uri} failed"
        try:
            yield
        except GoogleAPICallError as error:
            raise self._refused(f"{what}.", error, int(error.code or 0)) from error
        except InvalidResponse as error:
            raise self._refused(f"{what}.", error, error.response.status_code) from error
        except of_auth.TransportError as error:
            raise _silent(what, error) from error
        except of_auth.GoogleAuthError as error:
            raise RepositoryError(
                f"{what}: no credentials that Google takes.", why=str(error), fix=FIXES[401]
            ) from error
        except requests.exceptions.RequestException as error:
            raise _silent(what, error) from error

    def _refused(self, what: str, error: Exception, status: int) -> RepositoryError:
        usual = "Read the store's words above."
        if status >= 500:
            usual = "Look at the store's log and its free disk space, then push again."
        fix = FIXES.get(status, usual).format(bucket=self.bucket_name)
        return RepositoryError(what, why=f"Google Cloud Storage: {error}", fix=fix)

    def patience(self, error: Exception) -> float:
        """See `Store`."""
        import requests
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import TransportError

        if isinstance(error, GoogleAPICallError):
            status = int(error.code or 0)
            return BUSY if status in {408, 429, 503} else SILENT * (status >= 500)
        if isinstance(error, requests.exceptions.SSLError):
            return 0.0
        again = requests.exceptions.ConnectionError | requests.exceptions.Timeout | TransportError
        return SILENT if isinstance(error, again) else 0.0

    def has_root(self) -> bool:
        """See `Store`; by its objects, for which an account needs no right to the bucket itself."""
        from google.api_core.exceptions import NotFound

        try:
            self.again(lambda **how: list(self._listed(max_results=1, **how)))
        except NotFound:
            return False
        return True

    def make_root(self) -> None:
        """See `Store`."""
        if not self.has_root():
            self.again(self.client.create_bucket, self.bucket_name)

    def _listed(self, **how: Any) -> Any:
        fields = "items(name,size,generation,metadata),nextPageToken"
        return self.client.list_blobs(self.bucket_name, prefix=self.prefix, fields=fields, **how)

    def list(self) -> dict[str, Entry]:
        """See `Store`."""
        return {path: entry for path, (entry, _) in self.known().items()}

    def known(self) -> dict[str, tuple[Entry, str]]:
        """Every object by its path, with the digest that a push stored with it."""
        found = self.again(lambda **how: [*self._listed(**how)])
        return {
            one.name.removeprefix(self.prefix): (
                Entry(int(one.size), str(one.generation)),
                (one.metadata or {}).get("sha256", ""),
            )
            for one in found
            if not one.name.endswith("/")
        }

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """See `Store`."""
        from google.api_core.exceptions import NotFound, RequestRangeNotSatisfiable

        blob = self.blob(path)
        while True:
            try:
                piece = self.again(
                    blob.download_as_bytes, start=start, end=start + PIECE - 1, checksum=None
                )
            except NotFound:
                raise KeyError(path) from None
            except RequestRangeNotSatisfiable:
                return  # behind its end, as every byte of an empty object is
            yield piece
            start += len(piece)
            if len(piece) < PIECE:
                return

    def claimed_sha256(self, path: str) -> str:
        """See `Store`."""
        blob = self.blob(path)
        self.again(blob.reload)
        return str((blob.metadata or {}).get("sha256", ""))

    def put(self, path: str, body: Body, *, absent: bool = False) -> None:
        """See `Store`; the store compares the bytes with their CRC32C."""
        from google.api_core.exceptions import PreconditionFailed

        blob, data = self.blob(path), whole(body)
        blob.metadata = {"sha256": body.sha256}
        when = {"if_generation_match": 0} if absent else {}
        kind = {"content_type": "application/octet-stream", "checksum": "crc32c"}
        try:
            self.again(blob.upload_from_string, data, **kind, **when)
        except PreconditionFailed as error:
            if not absent:
                raise
            raise AlreadyThereError(f"{self.uri}{path} is there.") from error

    def begin(self, path: str, file: StoredFile) -> _Composed:
        """See `Store`."""
        return _Composed(self, path, file)

    def compose(self, blobs: Iterable[Any], path: str, sha256: str) -> None:
        """Make one object of up to 32 others."""
        blob = self.blob(path)
        blob.metadata = {"sha256": sha256}
        blob.content_type = "application/octet-stream"
        self.again(blob.compose, [*blobs])

    def promote(self, name: str, path: str) -> None:
        """See `Store`."""
        source, target, token = self.beside().blob(name), self.blob(path), None
        while True:
            token, _, _ = self.again(target.rewrite, source, token=token)
            if token is None:
                return

    def delete(self, paths: Iterable[str]) -> None:
        """See `Store`."""
        for _ in in_parallel(partial(self._delete, path) for path in paths):
            pass

    def _delete(self, path: str) -> None:
        from google.api_core.exceptions import NotFound

        try:
            self.again(self.blob(path).delete)
        except NotFound:
            return

    def beside(self) -> GsStore:
        """See `Store`."""
        return GsStore(self.bucket_name, beside_prefix(self.prefix), self.client)

    def forget(self) -> None:
        """See `Store`."""
        beside = self.beside()
        beside.delete(beside.list())


class _Composed:
    """A large file as objects beside the place; see `Upload`. Each is named by the whole's digest."""

    def __init__(self, store: GsStore, path: str, file: StoredFile) -> None:
        self.store, self.path, self.sha256 = store, path, file.sha256
        self.beside = store.beside()
        self.there = self.beside.known()
        self.numbers: set[int] = set()

    def _name(self, level: int, number: int) -> str:
        return f"parts/{self.sha256}.{level}.{number:06}"

    def send(self, number: int, part: FilePart) -> int:
        """See `Upload`."""
        self.numbers.add(number)
        name = self._name(0, number)
        entry, sha256 = self.there.get(name, (Entry(-1, ""), ""))
        if entry.size == part.size and sha256 == part.sha256:
            return 0
        self.beside.put(name, part)
        return part.size

    def finish(self) -> None:
        """See `Upload`."""
        names = [self._name(0, number) for number in sorted(self.numbers)]
        made, level = list(names), 0
        while len(names) > AT_ONCE:
            level += 1
            groups = [names[at : at + AT_ONCE] for at in range(0, len(names), AT_ONCE)]
            names = [self._name(level, number) for number in range(len(groups))]
            for group, name in zip(groups, names, strict=True):
                self.beside.compose(map(self.beside.blob, group), name, self.sha256)
            made += names
        self.store.compose(map(self.beside.blob, names), self.path, self.sha256)
        self.beside.delete(made)


def _silent(what: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"{what}: Google Cloud Storage does not answer.",
        why=str(error),
        fix="Check the network, the proxy and its certificates (REQUESTS_CA_BUNDLE), and "
        "STORAGE_EMULATOR_HOST if it is set; a push goes on where it was cut.",
    )
