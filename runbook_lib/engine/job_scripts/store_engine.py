"""Store the engine that a build made: every file with its SHA-256, a manifest last.

    store_engine.py --work DIR --result s3://BUCKET/PREFIX/ --inputs DIGEST [--replace]

The store then holds what `runbook repo push` of the same folder would have stored, so that reading,
verifying and fetching know one form only. A receipt goes with the engine: what it was made from, by
which commands, and how long each phase took. What is stored already is not sent again.

Keys, region and endpoint come from the variables that every AWS tool reads.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Refused", "Store", "main", "manifest_of", "receipt_of"]

MANIFEST = ".runbook-manifest.json"
RECEIPT = "receipt.json"
MARKERS = ".steps"
WEIGHTS = "weights"
PART_BYTES = 64 * 1024 * 1024
ATTEMPTS = 5
# Where the initializer's image of the lab keeps boto3; others have it where Python looks.
PACKAGES = "/opt/storage-initializer/lib"


class Refused(Exception):  # noqa: N818 - it ends this program in words, and is no fault of it
    """Why the engine can't be stored, in words."""


class Store:
    """The objects below one prefix."""

    def __init__(self, client: Any, uri: str) -> None:
        self.client = client
        self.bucket, _, self.prefix = uri.removeprefix("s3://").partition("/")

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + path}

    def listing(self) -> dict[str, dict[str, Any]]:
        """Size and tag of every object, by its path below the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        return {
            one["Key"][len(self.prefix) :]: {"size": one["Size"], "etag": one["ETag"]}
            for page in pages
            for one in page.get("Contents", ())
            if not one["Key"].endswith("/")
        }

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON object; empty when it is none."""
        try:
            found = json.loads(self.client.get_object(**self._at(path))["Body"].read())
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def claimed_sha256(self, path: str) -> str:
        """The digest that was stored with an object."""
        head = self.client.head_object(**self._at(path))
        return str(head.get("Metadata", {}).get("sha256", ""))

    def delete(self, path: str) -> None:
        """Remove an object."""
        self.client.delete_object(**self._at(path))

    def put(self, path: str, body: bytes, **about: Any) -> None:
        """Store one body, with its MD5."""
        self.client.put_object(**self._at(path), **about, Body=body, ContentMD5=_md5(body))

    def send(self, path: str, file: Path, sha256: str) -> None:
        """Store one file; a large one in parts."""
        about = {"Metadata": {"sha256": sha256}}
        if file.stat().st_size <= PART_BYTES:
            self.put(path, file.read_bytes(), **about)
            return
        upload = self.client.create_multipart_upload(**self._at(path), **about)["UploadId"]
        where, done = {**self._at(path), "UploadId": upload}, []
        try:
            for number, body in enumerate(_parts(file), 1):
                answer = self.client.upload_part(
                    **where, PartNumber=number, Body=body, ContentMD5=_md5(body)
                )
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
            self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
        except BaseException:
            # Parts of a cut upload cost space; why it was cut is what is told.
            with suppress(Exception):
                self.client.abort_multipart_upload(**where)
            raise


def main(words: list[str]) -> int:
    """0 when the store holds the engine, 1 with the reason when it doesn't."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--result", required=True)
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--replace", action="store_true")
    given = parser.parse_args(words)
    sys.path.append(PACKAGES)
    from botocore.exceptions import BotoCoreError, ClientError

    began = time.monotonic()
    try:
        _store(given.work, Store(_client(), given.result), given)
    except Refused as error:
        _say(f"[runbook] error: {error}")
        return 1
    except (BotoCoreError, ClientError) as error:
        _say(f"[runbook] error: storing in {given.result}: {error}")
        return 1
    _say(f"[runbook] phase upload done {time.monotonic() - began:.3f}")
    return 0


def _store(work: Path, store: Store, given: argparse.Namespace) -> None:
    engine = work / "engine"
    if not (engine / "config.json").is_file():
        raise Refused("the build ended without an error, and without an engine")
    there = store.listing()
    if MANIFEST in there and not given.replace:
        made_from = store.read_json(RECEIPT).get("inputs") if RECEIPT in there else None
        if made_from != given.inputs:
            raise Refused(f"{given.result} holds another content: give the engine its own prefix")
        _say(f"[runbook] {given.result} holds an engine of these inputs: it is kept")
        return
    receipt = receipt_of(work, given.inputs, digest_of_files(files_of(engine)))
    (engine / RECEIPT).write_text(json.dumps(receipt, indent=2), encoding="utf-8")
    files = files_of(engine)
    store.delete(MANIFEST)
    for path in sorted(set(there) - {MANIFEST} - {one["path"] for one in files}):
        store.delete(path)
    for one in files:
        same = there.get(one["path"], {}).get("size") == one["size"]
        if same and store.claimed_sha256(one["path"]) == one["sha256"]:
            continue
        _say(f"[runbook] storing {one['path']} ({one['size']} bytes)")
        store.send(one["path"], engine / one["path"], one["sha256"])
    store.put(MANIFEST, manifest_of(files, store.listing()))
    _say(f"[runbook] stored in {given.result}: {digest_of_files(files)}")


def files_of(folder: Path) -> list[dict[str, Any]]:
    """Every file below a folder with its digest and size, ordered by path."""
    found: list[dict[str, Any]] = []
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise Refused(f"{path} is a symbolic link, and an object store has none")
        if path.is_file():
            name, size = path.relative_to(folder).as_posix(), path.stat().st_size
            found.append({"path": name, "sha256": _sha256(path), "size": size})
    return sorted(found, key=lambda one: str(one["path"]))


def digest_of_files(files: list[dict[str, Any]]) -> str:
    """One digest over names and contents."""
    body = _canonical([[one["path"], one["sha256"]] for one in files])
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def receipt_of(work: Path, inputs: str, digest: str) -> dict[str, Any]:
    """What the engine was made from and how, by the markers of the steps that made it.

    Fetching the weights is no part of that: it depends on the network.
    """
    markers = [json.loads(path.read_bytes()) for path in (work / MARKERS).glob("*.json")]
    made = [one for one in markers if one["step"] != WEIGHTS]
    steps = sorted(made, key=lambda one: int(one["number"]))
    return {
        "inputs": inputs,
        "digest": digest,
        "seconds": round(sum(one["seconds"] for one in steps), 3),
        "phases": [phase for one in steps for phase in one["phases"]],
        "commands": [[word.replace(str(work), "WORK") for word in one["argv"]] for one in steps],
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "built_on": next((one["built_on"] for one in steps if one.get("built_on")), {}),
    }


def manifest_of(files: list[dict[str, Any]], there: dict[str, dict[str, Any]]) -> bytes:
    """The manifest of stored files."""
    rows = [{**one, "etag": there[one["path"]]["etag"]} for one in files]
    return _canonical({"version": 1, "digest": digest_of_files(files), "files": rows})


def _client() -> Any:
    import boto3
    from botocore.config import Config

    # Stores that are not AWS know neither virtual hosts nor the newest checksum trailers; the
    # variables are passed over by a boto3 that is too old for trailers.
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        os.environ[name] = "when_required"
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or None
    settings = Config(
        signature_version="s3v4",
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    return boto3.client("s3", endpoint_url=endpoint, config=settings)


def _canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _parts(file: Path) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while body := handle.read(PART_BYTES):
            yield body


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
