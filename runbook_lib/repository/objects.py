"""The objects below one location of an S3 store, each body sent with its MD5."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import StoredFile, canonical_json
from runbook_lib.errors import RepositoryError
from runbook_lib.files import content_digest
from runbook_lib.repository.s3 import Location

__all__ = ["MANIFEST", "Objects"]

MANIFEST = ".runbook-manifest.json"
PART_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024


class Objects:
    """The objects below one location of a store; errors are the client's own."""

    def __init__(self, client: Any, location: Location) -> None:
        self.client = client
        self.location = location

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self.location.bucket, "Key": self.location.key(path)}

    def has_bucket(self) -> bool:
        """Whether the bucket is there."""
        from botocore.exceptions import ClientError

        try:
            self.client.head_bucket(Bucket=self.location.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def ensure_bucket(self) -> None:
        """Create the bucket if it is missing."""
        if not self.has_bucket():
            self.client.create_bucket(Bucket=self.location.bucket)

    def listing(self) -> dict[str, tuple[int, str]]:
        """Size and tag of every object, by its path; folder markers are no objects of ours."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.location.bucket, Prefix=self.location.prefix
        )
        return {
            one["Key"].removeprefix(self.location.prefix): (one["Size"], one["ETag"])
            for page in pages
            for one in page.get("Contents", [])
            if not one["Key"].endswith("/")
        }

    def manifest(self) -> dict[str, Any] | None:
        """The manifest; None when what lies there is none."""
        body = self.client.get_object(**self._at(MANIFEST))["Body"].read()
        try:
            found = json.loads(body)
        except ValueError:
            return None
        return found if isinstance(found, dict) and {"digest", "files"} <= found.keys() else None

    def put_manifest(self, files: tuple[StoredFile, ...]) -> None:
        """Write the manifest: from here on the content counts as whole."""
        tags = self.listing()
        rows = [file.model_dump() | {"etag": tags[file.path][1]} for file in files]
        body = canonical_json({"version": 1, "digest": content_digest(files), "files": rows})
        self.client.put_object(**self._at(MANIFEST), Body=body, ContentMD5=_md5(body))

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        self.client.delete_object(**self._at(path))

    def claimed_sha256(self, path: str) -> str:
        """The digest that the push of an object wrote down; empty when something else stored it."""
        head = self.client.head_object(**self._at(path))
        return str(head.get("Metadata", {}).get("sha256", ""))

    def sha256(self, path: str) -> str:
        """The digest of an object's bytes as they come back."""
        digest = hashlib.sha256()
        for chunk in self.client.get_object(**self._at(path))["Body"].iter_chunks(CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()

    def send(self, path: Path, file: StoredFile) -> Iterator[int]:
        """Store one file, each body with its MD5; yields the bytes sent."""
        about = {**self._at(file.path), "Metadata": {"sha256": file.sha256}}
        if file.size <= PART_BYTES:
            body = b"".join(_parts(path, file))
            self.client.put_object(**about, Body=body, ContentMD5=_md5(body))
            yield file.size
            return
        upload = self.client.create_multipart_upload(**about)["UploadId"]
        where = {**self._at(file.path), "UploadId": upload}
        try:
            done = []
            for number, body in enumerate(_parts(path, file), 1):
                answer = self.client.upload_part(
                    **where, PartNumber=number, Body=body, ContentMD5=_md5(body)
                )
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
                yield len(body)
            self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
        except BaseException:
            self._abort(where)
            raise

    def _abort(self, where: dict[str, str]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        # Parts of a cut upload cost space; a store that is gone can't be asked to drop them.
        try:
            self.client.abort_multipart_upload(**where)
        except (BotoCoreError, ClientError):
            return


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _parts(path: Path, file: StoredFile) -> Iterator[bytes]:
    """A file's bytes part by part; the last one only when the whole is what was listed.

    Raises:
        RepositoryError: it changed since it was listed, or can't be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            body = handle.read(PART_BYTES)
            while True:
                digest.update(body)
                after = handle.read(PART_BYTES)
                if not after and digest.hexdigest() != file.sha256:
                    raise RepositoryError(
                        f"{path} changed while it was being pushed.",
                        fix="Push again when nothing writes to the folder.",
                    )
                yield body
                if not after:
                    return
                body = after
    except OSError as error:
        raise RepositoryError(f"{path} could not be read.", why=str(error)) from error
