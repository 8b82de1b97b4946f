"""An S3 object store: where it answers, what a URI names, and its refusals in plain words.

`boto3` is imported when a client is made: nothing here slows the command line's start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.errors import PreflightError, RepositoryError, RunbookError, ServiceError

__all__ = ["Location", "S3Access", "explained", "open_client", "parse_uri", "triton_uri"]

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What Triton's own pattern for S3 paths takes; with another character it reads the host as a bucket.
PREFIX = re.compile(r"[0-9a-zA-Z._-]+(/[0-9a-zA-Z._-]+)*")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 30, 2
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class S3Access:
    """Where an object store answers, and with which keys; the keys are never shown.

    Attributes:
        endpoint: `http://HOST:PORT`, or empty for AWS itself.
        access_key: the key's name.
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
        if missing := [name for name in KEYS if not given.get(name)]:
            raise PreflightError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
                why="The object store asks for keys.",
                fix="\n".join(f"export {name}=…" for name in missing)
                + "\nFor a store that is not AWS also: export AWS_ENDPOINT_URL=http://HOST:PORT",
            )
        return cls(
            endpoint=given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL") or "",
            access_key=given["AWS_ACCESS_KEY_ID"],
            secret_key=given["AWS_SECRET_ACCESS_KEY"],
            region=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1",
            session_token=given.get("AWS_SESSION_TOKEN", ""),
        )


@dataclass(frozen=True)
class Location:
    """A bucket and a prefix in it; the prefix ends with a slash."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """The URI with its final slash: without it KServe also downloads `<prefix>-other/`."""
        return f"s3://{self.bucket}/{self.prefix}"

    def key(self, path: str) -> str:
        """The object's key of a path below this location."""
        return self.prefix + path


def parse_uri(uri: str) -> Location:
    """The location that `s3://bucket/prefix/` names; the final slash may be missing.

    Raises:
        RepositoryError: another scheme, no bucket, no prefix, or characters that Triton can't read.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme != "s3":
        raise RepositoryError(
            f"{uri} is not an S3 URI.",
            why=f"The scheme is {scheme if separator else 'missing'}; only s3:// is wired now.",
            fix="Give s3://BUCKET/PREFIX/; gs:// and Azure stores have no push here yet.",
        )
    bucket, _, prefix = rest.partition("/")
    prefix = re.sub("/+", "/", prefix).strip("/")
    if not BUCKET.fullmatch(bucket):
        raise RepositoryError(
            f"{uri} names no usable bucket.",
            why="A bucket has 3 to 63 characters: small letters, digits, dots and hyphens.",
            fix="Give s3://BUCKET/PREFIX/.",
        )
    if not prefix:
        raise RepositoryError(
            f"{uri} names a whole bucket.",
            why="A repository has a prefix of its own, so that nothing else in the bucket is touched.",
            fix=f"Give a prefix, for example s3://{bucket}/triton/llama-7b/",
        )
    if not PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise RepositoryError(
            f"{uri} has a prefix that Triton can't read.",
            why="Triton takes letters, digits, dots, hyphens and underscores between the slashes.",
            fix="Choose a prefix of those characters.",
        )
    return Location(bucket, prefix + "/")


def triton_uri(uri: str, access: S3Access) -> str:
    """The form of an S3 URI that Triton's `--model-repository` takes.

    For a store that is not AWS Triton wants the endpoint inside the URI, with its port.
    """
    location = parse_uri(uri)
    path = f"{location.bucket}/{location.prefix.rstrip('/')}"
    if not access.endpoint:
        return f"s3://{path}"
    parts = urlsplit(access.endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"s3://{parts.scheme}://{parts.hostname}:{port}/{path}"


def open_client(access: S3Access) -> Any:
    """A boto3 client that gives up on a dead store within about 10 seconds.

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
    # body carries its MD5 instead, which all of them check.
    settings = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        s3={"addressing_style": "path" if access.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A store on this machine is never reached through the network's proxy.
        proxies={} if urlsplit(access.endpoint).hostname in LOOPBACK else None,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=access.endpoint or None,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        aws_session_token=access.session_token or None,
        region_name=access.region,
        config=settings,
    )


@contextmanager
def explained(doing: str, location: Location, access: S3Access) -> Iterator[None]:
    """Turn the store's refusals and network failures into errors with a cause and a fix.

    Args:
        doing: what the block does, as in "Pushing to".
        location: what it does it to.
        access: the store.

    Raises:
        RepositoryError: the store answered and refused. ServiceError: it did not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _refused(error, f"{doing} {location.uri} failed.", location, access) from error
    except BotoCoreError as error:
        raise ServiceError(
            f"{doing} {location.uri} failed: the object store does not answer.",
            why=f"{access.name}: {error}",
            fix="See that the store is up and its endpoint is right, then try again; a push goes on "
            "where it was cut.",
        ) from error


def _refused(error: Any, what: str, location: Location, access: S3Access) -> RunbookError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    words = f"{access.name}: {error}"
    if code == "NoSuchBucket":
        return RepositoryError(
            what,
            why=f"{access.name} has no bucket {location.bucket}.",
            fix=f"Create it, or correct the URI: aws s3 mb s3://{location.bucket}",
        )
    if status in {401, 403}:
        return RepositoryError(
            what,
            why=words,
            fix="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, this machine's clock, and that "
            f"the key may list, read and write {location.uri}.",
        )
    if code in {"BadDigest", "InvalidDigest"}:
        fix = "The bytes changed on their way; push again."
    elif status >= 500:
        fix = "Look at the store's log and its free disk space, then push again."
    else:
        fix = "Read the store's words above."
    return RepositoryError(what, why=words, fix=fix)
