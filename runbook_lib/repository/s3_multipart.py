"""An S3 upload in parts, which a later try goes on with."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from runbook_lib.repository.bodies import FilePart, Given
from runbook_lib.repository.s3_errors import code_of, patience
from runbook_lib.repository.s3_wire import Wire, checksum, md5_of
from runbook_lib.repository.store_retry import retried

if TYPE_CHECKING:
    from runbook_lib.repository.stores import Store

__all__ = ["Multipart"]


class Multipart:
    """An upload in parts; see `Upload`.

    Its number at the store is noted beside the location, under the digest of the whole, so that
    only the same file is ever completed with it.

    Args:
        client: a boto3 client.
        wire: the short way to the bucket.
        where: `Bucket` and `Key` of the object.
        sha256: the whole file's digest.
        note: the store of the notes, and this one's name there.
    """

    def __init__(
        self, client: Any, wire: Wire, where: dict[str, str], sha256: str, note: tuple[Store, str]
    ) -> None:
        self.client, self.wire, self.where = client, wire, where
        self.notes, self.note = note
        self.done: dict[int, dict[str, Any]] = {}
        self.id = self._noted()
        self.there = self._parts() if self.id else {}
        if not self.id:
            answer = self._again(
                client.create_multipart_upload,
                **where,
                Metadata={"sha256": sha256},
                ChecksumAlgorithm="SHA256",
            )
            self.id = answer["UploadId"]
            about = {"Key": where["Key"], "UploadId": self.id}
            self.notes.put(self.note, Given(json.dumps(about).encode()))

    @staticmethod
    def abort(client: Any, bucket: str, note: bytes) -> None:
        """End the upload that a note names, so that its parts cost no more space."""
        from botocore.exceptions import ClientError

        # One that is gone, or a note that is none, costs nothing.
        with suppress(ClientError, ValueError, KeyError):
            about = json.loads(note)
            client.abort_multipart_upload(
                Bucket=bucket, Key=about["Key"], UploadId=about["UploadId"]
            )

    def _again(self, call: Any, *words: Any, **named: Any) -> Any:
        return retried(partial(call, *words, **named), patience)

    def _noted(self) -> str:
        try:
            return str(json.loads(b"".join(self.notes.read(self.note)))["UploadId"])
        except (KeyError, ValueError):
            return ""

    def _parts(self) -> dict[int, tuple[int, str]]:
        """Size and tag of each part that the store has; the upload's number is dropped if it is gone."""
        from botocore.exceptions import ClientError

        pages = self.client.get_paginator("list_parts").paginate(**self.where, UploadId=self.id)
        try:
            return {
                one["PartNumber"]: (one["Size"], one["ETag"].strip('"'))
                for page in pages
                for one in page.get("Parts", ())
            }
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            self.id = ""
            return {}

    def send(self, number: int, part: FilePart) -> int:
        """See `Upload`."""
        # Where the store encrypts with a key of its own the tag is no MD5: then it is sent again.
        size, tag = self.there.get(number, (-1, ""))
        same = size == part.size and tag == md5_of(part)
        if not same:
            query = {"partNumber": str(number), "uploadId": self.id}
            answer = self._again(self.wire.send, self.where["Key"], part, query)
            tag = answer.headers["ETag"].strip('"')
        self.done[number] = {
            "PartNumber": number,
            "ETag": f'"{tag}"',
            "ChecksumSHA256": checksum(part.sha256),
        }
        return 0 if same else part.size

    def finish(self) -> None:
        """See `Upload`."""
        self._again(
            self.client.complete_multipart_upload,
            **self.where,
            UploadId=self.id,
            MultipartUpload={"Parts": [self.done[number] for number in sorted(self.done)]},
        )
        self.notes.delete([self.note])
