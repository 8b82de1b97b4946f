"""The store behind `s3://`: AWS S3, and whatever speaks like it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import AlreadyThereError, RepositoryError
from runbook_lib.repository.bodies import Body
from runbook_lib.repository.prefixes import beside_prefix
from runbook_lib.repository.s3 import Location, S3Access, open_session, parse_uri
from runbook_lib.repository.s3_errors import code_of, explained, patience, status_of
from runbook_lib.repository.s3_multipart import Multipart
from runbook_lib.repository.s3_wire import Wire, listed
from runbook_lib.repository.store_retry import retried
from runbook_lib.repository.stores import Entry

__all__ = ["S3Store"]

MOST_PARTS = 10_000
AT_ONCE = 1000  # keys in one request to delete
LARGEST_COPY = 5 * 1024**3
COPY_PART = 1024**3
NOTES = "uploads/"


class _Way:
    """The connections to one bucket, made when they are needed; locations of it share them."""

    def __init__(self, access: S3Access, bucket: str) -> None:
        self.access, self.bucket = access, bucket

    @cached_property
    def session(self) -> tuple[Any, Any]:
        return open_session(self.access)

    @cached_property
    def wire(self) -> Wire:
        return Wire(*self.session, self.bucket)


class S3Store:
    """Objects below a prefix of a bucket; see `Store`."""

    most_parts = MOST_PARTS

    def __init__(self, location: Location, access: S3Access, way: _Way | None = None) -> None:
        self.location = location
        self.access = access
        self.uri = location.uri
        self.way = way or _Way(access, location.bucket)

    @classmethod
    def at(cls, uri: str, access: S3Access | None) -> S3Store:
        """The store of an S3 URI; an endpoint inside the URI is the one that is meant."""
        location = parse_uri(uri)
        access = access or S3Access.from_environment()
        if location.endpoint:
            access = replace(access, endpoint=location.endpoint)
        return cls(location, access)

    @property
    def client(self) -> Any:
        """The boto3 client: for what is asked seldom."""
        return self.way.session[0]

    @property
    def wire(self) -> Wire:
        """The short way to the bucket: for what is asked often."""
        return self.way.wire

    def explained(self, doing: str) -> AbstractContextManager[None]:
        """See `Store`."""
        return explained(doing, self.location, self.access)

    def patience(self, error: Exception) -> float:
        """See `Store`."""
        return patience(error)

    def _again(self, call: Any, *words: Any, **named: Any) -> Any:
        return retried(partial(call, *words, **named), self.patience)

    def named(self, path: str) -> dict[str, str]:
        """How boto3 is told which object is meant."""
        return {"Bucket": self.location.bucket, "Key": self.location.key(path)}

    def has_root(self) -> bool:
        """See `Store`."""
        from botocore.exceptions import ClientError

        try:
            self._again(self.client.head_bucket, Bucket=self.location.bucket)
        except ClientError as error:
            if status_of(error) == 404:
                return False
            raise
        return True

    def make_root(self) -> None:
        """See `Store`."""
        if not self.has_root():
            region = self.access.region
            elsewhere = region != "us-east-1" and not self.access.endpoint
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            about = where if elsewhere else {}
            self.client.create_bucket(Bucket=self.location.bucket, **about)

    def list(self) -> dict[str, Entry]:
        """See `Store`."""
        found: dict[str, Entry] = {}
        query = {"list-type": "2", "prefix": self.location.prefix, "encoding-type": "url"}
        while True:
            rows, goes_on = listed(self._again(self.wire.ask, "GET", "", query).content)
            found |= {
                key.removeprefix(self.location.prefix): Entry(size, tag)
                for key, size, tag in rows
                if not key.endswith("/")
            }
            if not goes_on:
                return found
            query["continuation-token"] = goes_on

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """See `Store`."""
        from botocore.exceptions import ClientError

        try:
            yield from self.wire.stream(self.location.key(path), start)
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise KeyError(path) from error
            raise

    def claimed_sha256(self, path: str) -> str:
        """See `Store`."""
        head = self._again(self.wire.ask, "HEAD", self.location.key(path))
        return str(head.headers.get("x-amz-meta-sha256", ""))

    def put(self, path: str, body: Body, *, absent: bool = False) -> None:
        """See `Store`."""
        from botocore.exceptions import ClientError

        headers = {"x-amz-meta-sha256": body.sha256}
        if absent:
            headers["If-None-Match"] = "*"
        try:
            self._again(self.wire.send, self.location.key(path), body, headers=headers)
        except ClientError as error:
            if absent and status_of(error) in {409, 412}:
                raise AlreadyThereError(f"{self.uri}{path} is there.") from error
            raise

    def begin(self, path: str, file: StoredFile) -> Multipart:
        """See `Store`."""
        name = hashlib.sha256(path.encode()).hexdigest()[:16]
        note = f"{NOTES}{file.sha256}.{name}"
        return Multipart(
            self.client, self.wire, self.named(path), file.sha256, (self.beside(), note)
        )

    def promote(self, name: str, path: str) -> None:
        """See `Store`."""
        where = self.beside().named(name)
        size = int(self._again(self.client.head_object, **where)["ContentLength"])
        if size <= LARGEST_COPY:
            self._again(self.client.copy_object, **self.named(path), CopySource=where)
            return
        about = {**self.named(path), "Metadata": {"sha256": self.beside().claimed_sha256(name)}}
        upload = self.client.create_multipart_upload(**about)["UploadId"]
        target, done = {**self.named(path), "UploadId": upload}, []
        for number, start in enumerate(range(0, size, COPY_PART), 1):
            answer = self._again(
                self.client.upload_part_copy,
                **target,
                PartNumber=number,
                CopySource=where,
                CopySourceRange=f"bytes={start}-{min(start + COPY_PART, size) - 1}",
            )
            done.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        self._again(
            self.client.complete_multipart_upload, **target, MultipartUpload={"Parts": done}
        )

    def delete(self, paths: Iterable[str]) -> None:
        """See `Store`."""
        keys = [{"Key": self.location.key(path)} for path in paths]
        for start in range(0, len(keys), AT_ONCE):
            answer = self._again(
                self.client.delete_objects,
                Bucket=self.location.bucket,
                Delete={"Objects": keys[start : start + AT_ONCE], "Quiet": True},
            )
            if errors := answer.get("Errors"):
                raise RepositoryError(
                    f"{len(errors)} objects below {self.uri} could not be removed.",
                    why=f"{errors[0].get('Key')}: {errors[0].get('Message')}",
                    fix="Give the key the right to delete there.",
                )

    def beside(self) -> S3Store:
        """See `Store`."""
        waiting = beside_prefix(self.location.prefix)
        return S3Store(replace(self.location, prefix=waiting), self.access, self.way)

    def forget(self) -> None:
        """See `Store`."""
        beside = self.beside()
        left = beside.list()
        for name in left:
            if name.startswith(NOTES):
                Multipart.abort(self.client, self.location.bucket, b"".join(beside.read(name)))
        if left:
            beside.delete(left)
