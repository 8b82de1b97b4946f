"""Signed requests to one bucket, without the layers that a boto3 call goes through.

A boto3 call costs about 2.5 ms of this machine's time, and a repository may have many small files.
Signature, connections, TLS and proxies are botocore's own, so that what works for one works for the
other.
"""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from runbook_lib.errors import RepositoryError, RunbookError
from runbook_lib.repository.bodies import Body, FilePart, changed
from runbook_lib.repository.s3 import CONNECT_SECONDS, CONNECTIONS, LOOPBACK, READ_SECONDS
from runbook_lib.repository.s3_errors import DIGESTS, client_error, code_of

__all__ = ["Wire", "checksum", "listed", "md5_of"]

# The SHA-256 of no bytes at all.
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
CHUNK_BYTES = 1024 * 1024


class Wire:
    """The way to one bucket; errors are those of a boto3 client.

    Args:
        client: a boto3 client, which knows where the bucket answers.
        credentials: botocore's, which renew themselves.
        bucket: its name.
    """

    def __init__(self, client: Any, credentials: Any, bucket: str) -> None:
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        # What the client would ask, with the bucket in the host or in the path.
        signed = client.generate_presigned_url("head_bucket", Params={"Bucket": bucket})
        self.base = signed.partition("?")[0].rstrip("/")
        local = urlsplit(self.base).hostname in LOOPBACK
        self.session = URLLib3Session(
            verify=_ca_bundle() or True,
            proxies={} if local else get_environ_proxies(self.base),
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            max_pool_connections=CONNECTIONS,
        )
        self.signer = _signer(credentials, client.meta.region_name)

    def ask(
        self,
        method: str,
        key: str,
        query: dict[str, str] | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        stream: bool = False,
    ) -> Any:
        """An answer of the store; its content is read unless it shall be streamed.

        Raises:
            botocore.exceptions.ClientError: the store refused.
            botocore.exceptions.HTTPClientError: it did not answer.
        """
        from botocore.awsrequest import AWSRequest

        url = f"{self.base}/{quote(key, safe='/~')}" if key else f"{self.base}/"
        if query:
            url += f"?{urlencode(query, quote_via=quote, safe='~')}"
        digest = body.sha256 if body else NOTHING
        about = dict(headers or {})
        if body:
            about["Content-Length"] = str(body.size)
            about["x-amz-checksum-sha256"] = checksum(digest)
        request = AWSRequest(method, url, headers=about, stream_output=stream)
        request.context["sha256"] = digest
        prepared = self.signer.signed(request)
        if body:
            prepared.body = iter(body)
        answer = self._send(prepared)
        if answer.status_code >= 300:
            said = answer.content
            raise client_error(answer.status_code, answer.headers, said, f"{method} {key}")
        return answer

    def send(
        self,
        key: str,
        body: Body,
        query: dict[str, str] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Store a body, which the store compares with its digest.

        Raises:
            RepositoryError: the file changed while it was read, or the store has other bytes.
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: as `ask`.
        """
        from botocore.exceptions import ClientError

        try:
            answer = self.ask("PUT", key, query, headers=headers, body=body)
        except ClientError as error:
            if code_of(error) in DIGESTS and isinstance(body, FilePart) and body.is_other_now():
                raise changed(body.path) from error
            raise
        about = answer.headers
        if "x-amz-checksum-sha256" in about or "x-amz-server-side-encryption" in about:
            return answer
        # A store that passes over digests has the MD5 as its tag.
        tag = about.get("ETag", "").strip('"')
        if re.fullmatch("[0-9a-f]{32}", tag) and tag != md5_of(body):
            raise RepositoryError(
                f"The store has other bytes of {key} than were sent.",
                fix="Push again; if it stays, look at the network and the store's disk.",
            )
        return answer

    def _send(self, prepared: Any) -> Any:
        from botocore.exceptions import HTTPClientError

        try:
            return self.session.send(prepared)
        except HTTPClientError as error:
            # What went wrong while the body was read is no fault of the network.
            if isinstance(cause := error.kwargs.get("error"), RunbookError):
                raise cause from error
            raise

    def stream(self, key: str, start: int) -> Iterator[bytes]:
        """An object's bytes from one on."""
        from botocore.exceptions import ResponseStreamingError
        from urllib3.exceptions import HTTPError

        behind = {"Range": f"bytes={start}-"} if start else {}
        answer = self.ask("GET", key, headers=behind, stream=True)
        left = int(answer.headers.get("Content-Length", -1))
        try:
            for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=False):
                left -= len(chunk)
                yield chunk
        except HTTPError as error:
            raise ResponseStreamingError(error=error) from error
        finally:
            answer.raw.close()
            answer.raw.release_conn()
        if left > 0:
            raise ResponseStreamingError(error=f"{left} bytes of {key} did not come")


def _ca_bundle() -> str | None:
    import botocore.session

    found = botocore.session.Session().get_config_variable("ca_bundle")
    return str(found) if found else None


def _signer(credentials: Any, region: str) -> Any:
    """Signs with the digest that is known already, and reads no body itself."""
    from botocore.auth import S3SigV4Auth
    from botocore.exceptions import NoCredentialsError

    class Signer(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return str(request.context["sha256"])

        def signed(self, request: Any) -> Any:
            if credentials is None:
                raise NoCredentialsError
            # Keys of a role end within the hour; what found them renews them.
            signer = Signer(credentials.get_frozen_credentials(), "s3", region)
            signer.add_auth(request)
            return request.prepare()

    return Signer(None, "s3", region)


def checksum(sha256: str) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def md5_of(body: Body) -> str:
    """The MD5 of a body, hexadecimal: what most stores take for an object's tag."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in body:
        digest.update(chunk)
    return digest.hexdigest()


def listed(body: bytes) -> tuple[list[tuple[str, int, str]], str]:
    """Key, size and tag of each object of a page of a listing, and the token of the next page."""
    # expat fetches nothing from outside, and botocore reads the store's answers with it too.
    root = ET.fromstring(body)  # noqa: S314
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    key, size, tag = f"{space}Key", f"{space}Size", f"{space}ETag"
    rows = [
        (unquote_plus(one.findtext(key, "")), int(one.findtext(size, "0")), one.findtext(tag, ""))
        for one in root.iterfind(f"{space}Contents")
    ]
    return rows, root.findtext(f"{space}NextContinuationToken", "")
