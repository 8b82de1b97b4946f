"""An S3 object store: where it answers, with which credentials, and what a URI names.

`boto3` is imported when a client is made: nothing here slows the command line's start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.errors import PreflightError, RepositoryError
from runbook_lib.repository.prefixes import prefix_of

__all__ = [
    "LOOPBACK",
    "Location",
    "S3Access",
    "open_client",
    "open_session",
    "parse_uri",
    "triton_uri",
]

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# As Triton's own pattern: an endpoint has its port, and is plain HTTP unless it says otherwise.
ENDPOINT = re.compile(r"(http://|https://|)([0-9a-zA-Z.-]+:[0-9]+)/(.*)")
CONNECT_SECONDS, READ_SECONDS, CONNECTIONS = 5, 30, 16
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class S3Access:
    """Where an object store answers, and with which keys; the keys are never shown.

    Attributes:
        endpoint: `http://HOST:PORT`, or empty for AWS itself.
        access_key: the key's name; empty to use what every AWS tool finds by itself: a profile,
            a web identity, the machine's role.
        secret_key: the key's secret.
        region: the store's region; most stores that are not AWS ignore it.
        session_token: what belongs to temporary keys, else empty.
    """

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    session_token: str = ""

    def __repr__(self) -> str:
        return f"S3Access({self.endpoint or 'AWS'}, …)"

    @property
    def name(self) -> str:
        """How to call the store in a message."""
        return self.endpoint or f"AWS S3 ({self.region})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> S3Access:
        """Access by the variables that every AWS tool reads.

        Args:
            environ: the variables; this process's own when not given.

        Raises:
            PreflightError: a key is missing; it is named.
        """
        given = os.environ if environ is None else environ
        missing = [name for name in KEYS if not given.get(name)]
        if missing and not (len(missing) == len(KEYS) and environ is None and _finds_credentials()):
            raise PreflightError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
                why="The object store asks for keys, and no AWS profile or role is at hand.",
                fix="\n".join(f"export {name}=…" for name in missing)
                + "\nFor a store that is not AWS also: export AWS_ENDPOINT_URL=http://HOST:PORT",
            )
        return cls(
            endpoint=given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL") or "",
            access_key=given.get("AWS_ACCESS_KEY_ID", ""),
            secret_key=given.get("AWS_SECRET_ACCESS_KEY", ""),
            region=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1",
            session_token=given.get("AWS_SESSION_TOKEN", ""),
        )


def _finds_credentials() -> bool:
    import botocore.session

    return botocore.session.Session().get_credentials() is not None


@dataclass(frozen=True)
class Location:
    """A bucket and a prefix in it; the prefix ends with a slash.

    Attributes:
        bucket: the bucket.
        prefix: the prefix.
        endpoint: where the store answers, if the URI itself said so.
    """

    bucket: str
    prefix: str
    endpoint: str = ""

    @property
    def uri(self) -> str:
        """The URI with its final slash: without it KServe also downloads `<prefix>-other/`."""
        where = f"{self.endpoint}/" if self.endpoint else ""
        return f"s3://{where}{self.bucket}/{self.prefix}"

    def key(self, path: str) -> str:
        """The object's key of a path below this location."""
        return self.prefix + path


def parse_uri(uri: str) -> Location:
    """The location that `s3://bucket/prefix/` names; the final slash may be missing.

    The endpoint may stand inside, as Triton takes it: `s3://http://HOST:PORT/bucket/prefix/`.

    Raises:
        RepositoryError: another scheme, no bucket, no prefix, or characters that Triton can't read.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme != "s3":
        raise RepositoryError(
            f"{uri} is not an S3 URI.",
            why=f"The scheme is {scheme if separator else 'missing'}.",
            fix="Give s3://BUCKET/PREFIX/.",
        )
    endpoint = ""
    if inside := ENDPOINT.fullmatch(rest):
        endpoint, rest = f"{inside[1] or 'http://'}{inside[2]}", inside[3]
    bucket, _, prefix = rest.partition("/")
    if not BUCKET.fullmatch(bucket):
        raise RepositoryError(
            f"{uri} names no usable bucket.",
            why="A bucket has 3 to 63 characters: small letters, digits, dots and hyphens.",
            fix="Give s3://BUCKET/PREFIX/.",
        )
    return Location(bucket, prefix_of(uri, prefix), endpoint)


def triton_uri(uri: str, access: S3Access) -> str:
    """The form of an S3 URI that Triton's `--model-repository` takes.

    For a store that is not AWS Triton wants the endpoint inside the URI, with its port.
    """
    location = parse_uri(uri)
    path = f"{location.bucket}/{location.prefix.rstrip('/')}"
    if not (endpoint := location.endpoint or access.endpoint):
        return f"s3://{path}"
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"s3://{parts.scheme}://{parts.hostname}:{port}/{path}"


def open_session(access: S3Access) -> tuple[Any, Any]:
    """A boto3 client that tries each request once, and the credentials that it signs with.

    Raises:
        RepositoryError: the endpoint is no URL.
    """
    if access.endpoint and not re.fullmatch(r"https?://[^/\s]+/?", access.endpoint):
        raise RepositoryError(
            f"{access.endpoint} is not the URL of an object store.",
            fix="Give http://HOST:PORT or https://HOST.",
        )
    import boto3
    from botocore.config import Config

    # Stores that are not AWS know neither virtual hosts nor the newest checksum trailers; every
    # body carries its own digest instead.
    settings = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path" if access.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A store on this machine is never reached through the network's proxy.
        proxies={} if urlsplit(access.endpoint).hostname in LOOPBACK else None,
    )
    session = boto3.session.Session(
        aws_access_key_id=access.access_key or None,
        aws_secret_access_key=access.secret_key or None,
        aws_session_token=access.session_token or None,
        region_name=access.region,
    )
    client = session.client("s3", endpoint_url=access.endpoint or None, config=settings)
    return client, session.get_credentials()


def open_client(access: S3Access) -> Any:
    """The client alone; as `open_session`."""
    return open_session(access)[0]
