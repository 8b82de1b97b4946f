#!/usr/bin/python3
"""Build an engine inside a cluster: weights in, an engine in an object store out.

    lab-build --model_dir DIR|s3://BUCKET/PREFIX/ --output s3://BUCKET/PREFIX/ --work DIR \
        -- convert_checkpoint OPTION… build_engine OPTION…

Fetches the weights, runs the builder's two stages, and stores the engine with a manifest, written
last, that holds the SHA-256 of each file and what the engine was made from. An output that holds
that very engine is kept. Keys and endpoint come from the variables that every AWS tool reads.

Exit codes: 0 built or kept, 2 usage, 10 the weights, 11 convert, 12 build, 13 the output's store,
14 the output holds something else.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["LabBuildError", "Place", "main", "manifest_of", "split_stages"]

BUILDER = Path("/opt/lab/builder")
PACKAGES = "/opt/storage-initializer/lib"
MANIFEST = ".runbook-manifest.json"
OF_AN_ENGINE = re.compile(r"config\.json|rank\d+\.engine")
STAGES = ("convert_checkpoint", "build_engine")
USAGE, DOWNLOAD, CONVERT, BUILD, PUSH, OTHER = 2, 10, 11, 12, 13, 14
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class LabBuildError(Exception):
    """Why it can't go on, in words, and the exit code that tells which part it was."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True)
class Place:
    """A bucket and a prefix in it; the prefix ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Place:
        """The place that `s3://bucket/prefix/` names.

        Raises:
            LabBuildError: it names none.
        """
        found = re.fullmatch(r"s3://([^/]+)/+([^/].*?)/*", uri)
        if found is None:
            raise LabBuildError(USAGE, f"{uri} names no place: give s3://BUCKET/PREFIX/")
        return cls(found[1], f"{found[2]}/")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


class Store:
    """The objects below one place; a refusal ends the program with the code given."""

    def __init__(self, place: Place, code: int) -> None:
        self.place, self.code = place, code
        self._client = _open_client()

    def listing(self) -> dict[str, dict[str, Any]]:
        """Size and tag of each object, by its path below the place."""
        asked = {"Bucket": self.place.bucket, "Prefix": self.place.prefix}
        with self._told("listing"):
            pages = list(self._client.get_paginator("list_objects_v2").paginate(**asked))
        return {
            one["Key"].removeprefix(self.place.prefix): {"size": one["Size"], "etag": one["ETag"]}
            for page in pages
            for one in page.get("Contents", ())
            if not one["Key"].endswith("/")
        }

    def read(self, path: str) -> bytes:
        """The bytes of an object."""
        with self._told(f"reading {path} of"):
            return bytes(self._client.get_object(**self._at(path))["Body"].read())

    def fetch(self, path: str, target: Path) -> None:
        """Write an object's bytes to a file."""
        with self._told(f"reading {path} of"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as handle:
                self._client.download_fileobj(*self._at(path).values(), handle)

    def put(self, path: str, body: bytes, **about: Any) -> None:
        """Store an object; the store checks its MD5."""
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        with self._told(f"writing {path} to"):
            self._client.put_object(**self._at(path), Body=body, ContentMD5=md5, **about)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._told(f"removing {path} from"):
            self._client.delete_object(**self._at(path))

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": self.place.prefix + path}

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
            raise LabBuildError(self.code, f"{doing} {self.place} failed: {error}") from None


def _open_client() -> Any:
    sys.path.insert(0, PACKAGES)
    import boto3
    from botocore.config import Config

    elsewhere = any(os.environ.get(name) for name in ENDPOINTS)
    # Stores that are not AWS know neither virtual hosts nor the newest checksum trailers.
    settings = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 3, "mode": "standard"},
        s3={"addressing_style": "path" if elsewhere else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.session.Session().client("s3", region_name=region, config=settings)


def main(words: list[str]) -> int:
    """Build or keep; the exit code."""
    # The first process of a container ignores the signal otherwise, and is killed half a minute on.
    signal.signal(signal.SIGTERM, _stop)
    try:
        options = _read(words)
        _build(options)
    except LabBuildError as failure:
        sys.stderr.write(f"[lab-build] error: {failure}\n")
        return failure.code
    return 0


def _say(words: str) -> None:
    """A line in the form of the builder's own stages."""
    sys.stdout.write(f"[lab-build] {words}\n")
    sys.stdout.flush()


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _read(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab-build", usage=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--model_dir", required=True, help="a Hugging Face folder, or s3://…/")
    parser.add_argument("--output", required=True, help="s3://BUCKET/PREFIX/ of the engine")
    parser.add_argument("--work", type=Path, required=True, help="a folder that can be written to")
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    options.stages = split_stages(words[cut + 1 :])
    options.output = Place.parse(options.output)
    if options.model_dir.startswith("s3://"):
        options.model_dir = Place.parse(options.model_dir)
    elif not Path(options.model_dir).is_dir():
        raise LabBuildError(DOWNLOAD, f"--model_dir {options.model_dir} is no folder")
    return options


def split_stages(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of each stage, each after the stage's own name.

    Raises:
        LabBuildError: a name is missing, or options stand before the first.
    """
    convert, build = STAGES
    if not words or words[0] != convert or build not in words:
        raise LabBuildError(USAGE, f"after -- give: {convert} OPTION… {build} OPTION…")
    cut = list(words).index(build)
    return list(words[1:cut]), list(words[cut + 1 :])


def _build(options: argparse.Namespace) -> None:
    model, output = options.model_dir, Store(options.output, PUSH)
    weights = _objects(model) if isinstance(model, Place) else _weights(Path(model))
    # As plain JSON, since it is compared with what a manifest says.
    made_from = json.loads(_plain({"weights": weights, "stages": options.stages, **_builder()}))
    if _is_kept(output, made_from):
        _say(f"kept: {options.output} holds this engine already")
        return
    work = options.work
    for name in ("model", "checkpoint", "engine"):
        shutil.rmtree(work / name, ignore_errors=True)
    if isinstance(model, Place):
        with _phase("download"):
            _download(model, weights, work / "model")
        model = work / "model"
    folders = [
        ["--model_dir", str(model), "--output_dir", str(work / "checkpoint")],
        ["--checkpoint_dir", str(work / "checkpoint"), "--output_dir", str(work / "engine")],
    ]
    for name, words, own, code in zip(
        STAGES, options.stages, folders, (CONVERT, BUILD), strict=True
    ):
        _run([sys.executable, str(BUILDER / f"{name}.py"), *words, *own], code)
    with _phase("push"):
        _push(work / "engine", output, made_from)
    _say(f"built: {options.output}")


@contextmanager
def _phase(name: str) -> Iterator[None]:
    began = time.monotonic()
    _say(f"phase {name} start")
    yield
    _say(f"phase {name} done {time.monotonic() - began:.3f}")


def _objects(place: Place) -> dict[str, Any]:
    found = Store(place, DOWNLOAD).listing()
    if not found:
        raise LabBuildError(DOWNLOAD, f"{place} holds no objects")
    return found


def _weights(folder: Path) -> dict[str, Any]:
    try:
        return _files(folder)
    except OSError as error:
        raise LabBuildError(DOWNLOAD, f"--model_dir {folder} can't be read: {error}") from None


def _files(folder: Path) -> dict[str, Any]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _builder() -> dict[str, Any]:
    """What else an engine depends on: the builder, its compiler, and this CPU."""
    sys.path.insert(0, str(BUILDER))
    from engine_runtime import isa_levels, versions  # type: ignore[import-not-found]

    levels = isa_levels()
    programs = {path.name: _sha256(path) for path in sorted(BUILDER.glob("*.py"))}
    return {"isa": levels[:1], **versions(), "builder": programs}


def _is_kept(output: Store, made_from: dict[str, Any]) -> bool:
    """Whether the output holds this very engine, whole.

    Raises:
        LabBuildError: it holds another one, or objects that are no engine's.
    """
    there = output.listing()
    if strange := sorted(path for path in there.keys() - {MANIFEST} if not _of_an_engine(path)):
        raise LabBuildError(OTHER, f"{output.place} holds other objects, such as {strange[0]}")
    if MANIFEST not in there:
        return False
    try:
        manifest = json.loads(output.read(MANIFEST))
        files = {one["path"]: (one["size"], one["etag"]) for one in manifest["files"]}
        theirs = dict(manifest["made_from"])
    except (ValueError, KeyError, TypeError):
        raise LabBuildError(OTHER, f"{output.place}{MANIFEST} is not an engine's") from None
    if other := [key for key in made_from if theirs.get(key) != made_from[key]]:
        raise LabBuildError(OTHER, f"{output.place} holds an engine of other {', '.join(other)}")
    whole = {path: (one["size"], one["etag"]) for path, one in there.items() if path != MANIFEST}
    return whole == files


def _of_an_engine(path: str) -> bool:
    return OF_AN_ENGINE.fullmatch(path) is not None


def _download(place: Place, weights: dict[str, Any], folder: Path) -> None:
    store = Store(place, DOWNLOAD)
    for path, about in weights.items():
        store.fetch(path, folder / path)
        if (size := (folder / path).stat().st_size) != about["size"]:
            raise LabBuildError(DOWNLOAD, f"{place}{path} has {about['size']} bytes, {size} came")
    if store.listing() != weights:
        raise LabBuildError(DOWNLOAD, f"{place} changed while it was fetched: start again")


def _run(command: list[str], code: int) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode < 0:
        number = -done.returncode
        reason = "; more memory than the container may have?" if number == signal.SIGKILL else ""
        raise LabBuildError(code, f"{Path(command[1]).stem} was ended by signal {number}{reason}")
    if done.returncode:
        raise LabBuildError(code, f"{Path(command[1]).stem} failed; its reason stands above")


def _push(engine: Path, output: Store, made_from: dict[str, Any]) -> None:
    """The manifest goes first and comes last: a cut push is never taken as whole."""
    output.delete(MANIFEST)
    digests = _files(engine)
    for path, digest in digests.items():
        output.put(path, (engine / path).read_bytes(), Metadata={"sha256": digest})
    there = output.listing()
    for path in there.keys() - digests.keys():
        output.delete(path)  # of an engine whose push was cut
    rows = [{"path": path, "sha256": digest, **there[path]} for path, digest in digests.items()]
    output.put(MANIFEST, manifest_of(rows, made_from))


def manifest_of(rows: Sequence[dict[str, Any]], made_from: dict[str, Any]) -> bytes:
    """The manifest of stored files, in the form that a repository's push writes too."""
    rows = sorted(rows, key=lambda row: row["path"])
    content = _plain([[row["path"], row["sha256"]] for row in rows])
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return _plain({"version": 1, "digest": digest, "files": rows, "made_from": made_from})


def _plain(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
