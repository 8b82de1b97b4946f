"""The store behind `as://` and `https://ACCOUNT.blob…`: Azure's blobs.

Credentials are those that Azure's own tools take: AZURE_STORAGE_CONNECTION_STRING, a key or a SAS
token in AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, else a login, an identity or a role.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import AlreadyThereError, RepositoryError, ServiceError
from runbook_lib.repository.bodies import Body, FilePart, whole
from runbook_lib.repository.prefixes import beside_prefix, prefix_of
from runbook_lib.repository.store_retry import in_parallel, retried
from runbook_lib.repository.stores import Entry, needs_extra

__all__ = ["AzureStore", "kserve_uri"]

# As Triton writes it, and as KServe does; the second also with the host of a sovereign cloud.
AS = re.compile(r"as://([a-z0-9]{3,24})/([a-z0-9][a-z0-9-]{1,61}[a-z0-9])/?(.*)")
HTTPS = re.compile(
    r"https://([a-z0-9]{3,24})\.(blob\.core\.[a-z.]+)/([a-z0-9][a-z0-9-]{1,61}[a-z0-9])/?(.*)"
)
HOST = "blob.core.windows.net"
TIMES: Any = {"connection_timeout": 5, "read_timeout": 60, "retry_total": 0}
BUSY, SILENT = 60.0, 5.0
FIXES = {
    401: "Log in (az login), or set AZURE_STORAGE_KEY or AZURE_STORAGE_CONNECTION_STRING.",
    403: "Check the key or SAS token and this machine's clock; an identity needs the role Storage "
    "Blob Data Contributor on the container.",
    404: "Create the container, or correct the URI: az storage container create -n {container}",
}


class AzureStore:
    """Blobs below a prefix of a container; see `Store`."""

    most_parts = 50_000

    def __init__(self, where: tuple[str, str, str], prefix: str, client: Any = None) -> None:
        self.account, self.host, self.container = where
        self.prefix = prefix
        self.uri = f"as://{self.account}/{self.container}/{prefix}"
        self._given = client

    @classmethod
    def at(cls, uri: str) -> AzureStore:
        """The store of a URI.

        Raises:
            RepositoryError: it names no account, no container, or no prefix.
            PreflightError: the client library is not installed.
        """
        if found := AS.fullmatch(uri):
            where, rest = (found[1], HOST, found[2]), found[3]
        elif found := HTTPS.fullmatch(uri):
            where, rest = (found[1], found[2], found[3]), found[4]
        else:
            raise RepositoryError(
                f"{uri} names no Azure container.",
                why="An account has small letters and digits, a container also hyphens.",
                fix="Give as://ACCOUNT/CONTAINER/PREFIX/.",
            )
        with needs_extra("azure", uri):
            import azure.storage.blob  # noqa: F401
        return cls(where, prefix_of(uri, rest))

    @cached_property
    def client(self) -> Any:
        """The client of the container."""
        return self._given or _service(self.account, self.host, os.environ).get_container_client(
            self.container
        )

    def blob(self, path: str) -> Any:
        """The library's object of a path."""
        return self.client.get_blob_client(self.prefix + path)

    def again(self, call: Any, *words: Any, **named: Any) -> Any:
        """What a call of the library returns, tried again while it may help."""
        return retried(partial(call, *words, **named), self.patience)

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """See `Store`."""
        from azure.core import exceptions as of_azure

        what = f"{doing} {self.uri} failed"
        try:
            yield
        except of_azure.HttpResponseError as error:
            raise self._refused(f"{what}.", error) from error
        except of_azure.AzureError as error:
            raise ServiceError(
                f"{what}: Azure does not answer.",
                why=str(error).partition("\n")[0],
                fix="Check the account's name, the network, the proxy and its certificates "
                "(REQUESTS_CA_BUNDLE); a push goes on where it was cut.",
            ) from error

    def _refused(self, what: str, error: Any) -> RepositoryError:
        status = int(error.status_code or 401)
        usual = "Read the store's words above."
        if status >= 500:
            usual = "Look at the store's log and its free disk space, then push again."
        code = getattr(error, "error_code", None) or ""
        if "clock" in str(error).lower() or code == "RequestExpired":
            usual = "This machine's clock is wrong: set it (timedatectl set-ntp true)."
        fix = FIXES.get(status, usual).format(container=self.container)
        words = str(error.message).partition("\n")[0]
        return RepositoryError(what, why=f"Azure: {code} {words}".replace("  ", " "), fix=fix)

    def patience(self, error: Exception) -> float:
        """See `Store`."""
        from azure.core import exceptions as of_azure

        if isinstance(error, of_azure.HttpResponseError):
            status = int(error.status_code or 0)
            return BUSY if status in {408, 429, 503} else SILENT * (status >= 500)
        if "SSL" in str(error):
            return 0.0
        again = of_azure.ServiceRequestError | of_azure.ServiceResponseError
        return SILENT if isinstance(error, again) else 0.0

    def has_root(self) -> bool:
        """See `Store`."""
        return bool(self.again(self.client.exists))

    def make_root(self) -> None:
        """See `Store`."""
        if not self.has_root():
            self.again(self.client.create_container)

    def list(self) -> dict[str, Entry]:
        """See `Store`."""
        found = self.again(lambda: [*self.client.list_blobs(name_starts_with=self.prefix)])
        return {
            one.name.removeprefix(self.prefix): Entry(one.size, one.etag)
            for one in found
            if not one.name.endswith("/")
        }

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """See `Store`."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            answer = self.again(
                self.blob(path).download_blob, offset=start or None, max_concurrency=1
            )
        except ResourceNotFoundError:
            raise KeyError(path) from None
        yield from answer.chunks()

    def claimed_sha256(self, path: str) -> str:
        """See `Store`."""
        about = self.again(self.blob(path).get_blob_properties)
        return str(about.metadata.get("sha256", ""))

    def put(self, path: str, body: Body, *, absent: bool = False) -> None:
        """See `Store`; the store compares the bytes with their MD5."""
        from azure.core.exceptions import ResourceExistsError

        data, about = whole(body), {"sha256": body.sha256}
        how = {"overwrite": not absent, "metadata": about, "validate_content": True}
        try:
            self.again(self.blob(path).upload_blob, data, max_concurrency=1, **how)
        except ResourceExistsError as error:
            raise AlreadyThereError(f"{self.uri}{path} is there.") from error

    def begin(self, path: str, file: StoredFile) -> _Blocks:
        """See `Store`."""
        return _Blocks(self, self.blob(path), file)

    def promote(self, name: str, path: str) -> None:
        """See `Store`."""
        target = self.blob(path)
        about = self.again(target.start_copy_from_url, self.beside().blob(name).url)
        state = about["copy_status"]
        while state == "pending":
            time.sleep(0.5)
            state = self.again(target.get_blob_properties).copy.status
        if state != "success":
            raise RepositoryError(f"{self.uri}{path} could not be put in place.", why=str(state))

    def delete(self, paths: Iterable[str]) -> None:
        """See `Store`."""
        for _ in in_parallel(partial(self._delete, path) for path in paths):
            pass

    def _delete(self, path: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        with suppress(ResourceNotFoundError):
            self.again(self.blob(path).delete_blob)

    def beside(self) -> AzureStore:
        """See `Store`."""
        where = (self.account, self.host, self.container)
        return AzureStore(where, beside_prefix(self.prefix), self.client)

    def forget(self) -> None:
        """See `Store`; blocks that belong to no blob go by themselves within a week."""
        beside = self.beside()
        beside.delete(beside.list())


class _Blocks:
    """A large file as blocks of one blob; see `Upload`. Each is named by number and digest."""

    def __init__(self, store: AzureStore, blob: Any, file: StoredFile) -> None:
        self.store, self.blob, self.file = store, blob, file
        self.there = self._uncommitted()
        self.names: dict[int, str] = {}

    def _uncommitted(self) -> dict[str, int]:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            _, found = self.store.again(self.blob.get_block_list, "uncommitted")
        except ResourceNotFoundError:
            return {}
        return {one.id: one.size for one in found}

    def send(self, number: int, part: FilePart) -> int:
        """See `Upload`."""
        self.names[number] = name = f"{number:06}-{part.sha256[:48]}"
        if self.there.get(name) == part.size:
            return 0
        self.store.again(self.blob.stage_block, name, whole(part), validate_content=True)
        return part.size

    def finish(self) -> None:
        """See `Upload`."""
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(self.names[number]) for number in sorted(self.names)]
        self.store.again(self.blob.commit_block_list, blocks, metadata={"sha256": self.file.sha256})


def _service(account: str, host: str, environ: Mapping[str, str]) -> Any:
    from azure.storage.blob import BlobServiceClient

    said = environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    if said and re.search(rf"(^|;)AccountName={account}(;|$)", said):
        return BlobServiceClient.from_connection_string(said, **TIMES)
    names = ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_TOKEN")
    mine = environ.get("AZURE_STORAGE_ACCOUNT", account) == account
    found: Any = next((environ[name] for name in names if mine and environ.get(name)), None)
    if found is None:
        with needs_extra("azure", f"as://{account}/"):
            from azure.identity import DefaultAzureCredential

            found = DefaultAzureCredential()
    return BlobServiceClient(f"https://{account}.{host}", credential=found, **TIMES)


def kserve_uri(store: AzureStore) -> str:
    """The form of an Azure location that KServe's `storageUri` takes."""
    return f"https://{store.account}.{store.host}/{store.container}/{store.prefix}"
