"""What an S3 store's refusals and silences mean, in plain words, and which are worth another try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runbook_lib.errors import RepositoryError, RunbookError, ServiceError
from runbook_lib.repository.s3 import Location, S3Access

__all__ = ["DIGESTS", "client_error", "code_of", "explained", "patience", "status_of"]

# Seconds in which another try may help: a store that is busy says so; one that is gone is told soon.
BUSY, SILENT = 60.0, 5.0
BUSY_CODES = {"SlowDown", "Throttling", "RequestTimeout", "ServiceUnavailable", "InternalError"}
DIGESTS = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}


def client_error(status: int, headers: Any, body: bytes, operation: str) -> Exception:
    """The error that boto3 would have raised for an answer."""
    from botocore.exceptions import ClientError

    def said(tag: str) -> str:
        found = re.search(rf"<{tag}>(.*?)</{tag}>".encode(), body, re.DOTALL)
        return found[1].decode("utf-8", "replace") if found else ""

    error = {
        "Code": said("Code") or str(status),
        "Message": said("Message") or "no more was said",
        "Region": said("Region") or headers.get("x-amz-bucket-region", ""),
    }
    about = {"HTTPStatusCode": status, "HTTPHeaders": dict(headers)}
    made: Exception = ClientError({"Error": error, "ResponseMetadata": about}, operation)
    return made


def code_of(error: Exception) -> str:
    """The store's own word for an error; empty for what it did not say."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def status_of(error: Exception) -> int:
    """The HTTP status of an error; 0 where no answer came."""
    about = getattr(error, "response", {}).get("ResponseMetadata", {})
    return int(about.get("HTTPStatusCode", 0))


def patience(error: Exception) -> float:
    """For how many seconds another try may help; 0 where it can't."""
    from botocore import exceptions as of_botocore

    if isinstance(error, of_botocore.ClientError):
        if code_of(error) in BUSY_CODES - {"InternalError"} or status_of(error) in {429, 503}:
            return BUSY
        return SILENT if status_of(error) >= 500 else 0
    if isinstance(error, of_botocore.SSLError | of_botocore.ProxyConnectionError):
        return 0
    again = of_botocore.HTTPClientError | of_botocore.ConnectionError
    return SILENT if isinstance(error, again) else 0


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
    from botocore import exceptions as of_botocore

    what = f"{doing} {location.uri} failed"
    try:
        yield
    except of_botocore.ClientError as error:
        raise _refused(error, f"{what}.", location, access) from error
    except of_botocore.SSLError as error:
        raise ServiceError(
            f"{what}: no TLS with {access.name}.",
            why=str(error),
            fix="A store that speaks plain HTTP has an endpoint with http://. For a certificate of "
            "your own: export AWS_CA_BUNDLE=FILE.pem",
        ) from error
    except (of_botocore.NoCredentialsError, of_botocore.PartialCredentialsError) as error:
        raise RepositoryError(
            f"{what}: no credentials are at hand.",
            why=str(error),
            fix="export AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…, or AWS_PROFILE=…",
        ) from error
    except of_botocore.BotoCoreError as error:
        raise ServiceError(
            f"{what}: the object store does not answer.",
            why=f"{access.name}: {error}",
            fix="See that the store is up and its endpoint is right, then try again; a push goes on "
            "where it was cut.",
        ) from error


def _refused(error: Any, what: str, location: Location, access: S3Access) -> RunbookError:
    code = code_of(error)
    why = f"{access.name}: {error}"
    if code == "NoSuchBucket":
        why = f"{access.name} has no bucket {location.bucket}."
    region = error.response.get("Error", {}).get("Region") or "REGION"
    fix = _fix(code, status_of(error)).format(
        uri=location.uri, bucket=location.bucket, store=access.name, mine=access.region, its=region
    )
    return RepositoryError(what, why=why, fix=fix)


# The first that holds of a code or a status.
FIXES: tuple[tuple[set[str], range, str], ...] = (
    (
        {"NoSuchBucket"},
        range(0),
        "Create it, or correct the URI: aws s3 mb s3://{bucket}",
    ),
    (
        {"RequestTimeTooSkewed", "RequestExpired"},
        range(0),
        "This machine's clock is wrong: set it (timedatectl set-ntp true), then try again.",
    ),
    (
        {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"},
        range(301, 308),
        "The bucket lies in another region than {mine}: export AWS_REGION={its}",
    ),
    (
        {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"},
        range(0),
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the store does not take them.",
    ),
    (
        set(),
        range(401, 404),
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the clock, and the key's right to {uri}.",
    ),
    (DIGESTS, range(0), "The bytes changed on their way; push again."),
    (
        set(),
        range(404, 406),
        "See that {store} is an S3 endpoint and not another of its ports or pages.",
    ),
    (
        set(),
        range(500, 600),
        "Look at the store's log and its free disk space, then push again.",
    ),
)


def _fix(code: str, status: int) -> str:
    fitting = (fix for codes, statuses, fix in FIXES if code in codes or status in statuses)
    return next(fitting, "Read the store's words above.")
