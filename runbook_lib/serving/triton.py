"""A local Triton process: how it is started, when it is ready, what it says."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib.errors import ServiceError
from runbook_lib.serving.supervise import (
    Owner,
    Running,
    ServerSpec,
    free_ports,
    log_tail,
    start,
    stop,
    wait_healthy,
)

__all__ = [
    "S3Credentials",
    "TritonInstall",
    "generate",
    "get_json",
    "is_ready",
    "post_json",
    "start_triton",
]


@dataclass(frozen=True)
class TritonInstall:
    """Where a Triton server and what it needs lie on this machine."""

    server: Path
    backends: Path
    python_bin: Path
    site_packages: Path
    libraries: tuple[Path, ...]
    version: str

    def environment(self) -> dict[str, str]:
        """What the server process needs; the Python stub takes NumPy from the first python on PATH."""
        inherited = {
            key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR", "TZ") if key in os.environ
        }
        return inherited | {
            "PATH": f"{self.python_bin}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(self.site_packages),
            "LD_LIBRARY_PATH": ":".join(str(path) for path in self.libraries),
            "PYTHONUNBUFFERED": "1",
        }


@dataclass(frozen=True)
class S3Credentials:
    """Keys for an object store; never shown and never on a command line."""

    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def __repr__(self) -> str:
        return "S3Credentials(…)"

    def environment(self) -> dict[str, str]:
        """The variables Triton's S3 reader takes."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }


def start_triton(
    install: TritonInstall,
    repository: str,
    folder: Path,
    *,
    name: str = "triton-0",
    credentials: S3Credentials | None = None,
    owner: Owner | None,
    timeout: float = 120.0,
    ports: tuple[int, int, int] | None = None,
    facts: Mapping[str, str] | None = None,
    strict: bool = True,
    options: Sequence[str] = (),
) -> tuple[Running, float]:
    """Start a server on a repository (folder or URI in Triton's own form) and wait until it is ready.

    Ports are loopback and chosen free. A port that somebody took in between is tried again with others.

    Args:
        facts: more to write down about the server, as what it serves.
        strict: wait until every model is ready; else only until the server lives, whatever its models do.
        options: more of the server's own command line.

    Returns:
        The running server (`facts`: http, grpc, metrics URLs, repository) and the seconds to ready.

    Raises:
        ServiceError: it ended or was not ready in time; the message carries Triton's own words.
    """
    for attempt in range(3):
        chosen = ports if ports and attempt == 0 else tuple(free_ports(3))
        spec = _spec(
            install,
            repository,
            folder,
            name,
            credentials=credentials,
            ports=chosen,
            strict=strict,
            options=options,
            more=facts or {},
        )
        began_at = _size(folder / f"{name}.log")
        running = start(spec, folder, owner)
        try:
            seconds = wait_healthy(
                running,
                partial(_is_up, running.facts, "ready" if strict else "live"),
                timeout=timeout,
                what=f"Triton ({name})",
            )
            if _port_was_taken(running.log, began_at):
                raise ServiceError(f"Triton ({name}) lost a port to another server.")
        except ServiceError as error:
            stop(running)
            if attempt < 2 and _port_was_taken(running.log, began_at):
                continue
            raise _explained(error, running.log, began_at) from None
        return running, seconds
    raise AssertionError("the third attempt returns or raises")


def _spec(
    install: TritonInstall,
    repository: str,
    folder: Path,
    name: str,
    *,
    credentials: S3Credentials | None,
    ports: tuple[int, ...],
    strict: bool,
    options: Sequence[str],
    more: Mapping[str, str],
) -> ServerSpec:
    http, grpc, metrics = ports
    argv = [
        str(install.server),
        f"--model-repository={repository}",
        f"--backend-directory={install.backends}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics}",
        "--exit-timeout-secs=5",
        f"--exit-on-error={str(strict).lower()}",
        "--allow-gpu-metrics=false",
        "--metrics-interval-ms=500",
        f"--backend-config=python,shm-region-prefix-name={_shared_memory(http)}",
        *options,
    ]
    facts = dict(more) | {
        "http": f"http://127.0.0.1:{http}",
        "grpc": f"127.0.0.1:{grpc}",
        "metrics": f"http://127.0.0.1:{metrics}/metrics",
        "repository": repository,
    }
    localized = folder / f"{name}.models"
    shutil.rmtree(localized, ignore_errors=True)
    localized.mkdir()
    environment = install.environment() | (credentials.environment() if credentials else {})
    # Without it Triton copies an object store's models to /tmp, and leaves them there when killed.
    environment["TRITON_AWS_MOUNT_DIRECTORY"] = str(localized)
    leftovers = [f"/dev/shm/{_shared_memory(http)}*", str(localized)]  # noqa: S108 - where Triton puts it
    return ServerSpec(name, argv, environment, folder, facts, leftovers, stop_seconds=8.0)


def _is_up(facts: Mapping[str, Any], path: str) -> bool:
    """Ready, and its metrics answer: Triton starts them last, and ends where it can't."""
    return is_ready(facts["http"], path=path) and _answers(facts["metrics"])


def _shared_memory(http_port: int) -> str:
    return f"runbook-{http_port}-"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _this_time(log: Path, began_at: int) -> str:
    try:
        with log.open("rb") as handle:
            handle.seek(began_at)
            return handle.read(1_000_000).decode("utf-8", "replace")
    except OSError:
        return ""


def _port_was_taken(log: Path, began_at: int) -> bool:
    text = _this_time(log, began_at)
    return any(
        words in text
        for words in ("Socket '", "Address already in use", "failed to bind", "already in use")
    )


def _explained(error: ServiceError, log: Path, began_at: int) -> ServiceError:
    """Triton's own reason (the model table or the error lines) instead of the last lines only."""
    lines = _this_time(log, began_at).splitlines()
    reasons = [
        line
        for line in lines
        if "failed to load" in line or line.startswith("E") or "UNAVAILABLE" in line
    ]
    why = "\n".join(dict.fromkeys(line.strip()[:400] for line in reasons[-6:])) or log_tail(log)
    return ServiceError(error.what, why=why, fix=error.fix, page="06_troubleshoot")


def is_ready(url: str, *, path: str = "ready", timeout: float = 2.0) -> bool:
    """Whether the server says that it and all its models are ready (with `live`: that it lives)."""
    return _answers(f"{url}/v2/health/{path}", timeout=timeout)


def _answers(url: str, *, timeout: float = 2.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def get_json(url: str, *, timeout: float = 10.0) -> Any:
    """GET a JSON answer.

    Raises:
        ServiceError: no answer, or one that tells of an error (its words are the reason).
    """
    return _ask(urllib.request.Request(url), timeout)


def post_json(url: str, body: Mapping[str, Any], *, timeout: float = 60.0) -> Any:
    """POST JSON and read the JSON answer; raises as `get_json`."""
    data = json.dumps(body).encode()
    return _ask(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout)


def generate(
    url: str, model: str, prompt: str, *, max_tokens: int, timeout: float = 60.0
) -> dict[str, Any]:
    """One answer through the generate extension: the flat body that Triton wants."""
    body = {"text_input": prompt, "max_tokens": max_tokens}
    answer = post_json(f"{url}/v2/models/{model}/generate", body, timeout=timeout)
    return dict(answer)


def _ask(request: urllib.request.Request, timeout: float) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        words = error.read().decode("utf-8", "replace")[:600]
        raise ServiceError(
            f"{request.full_url} answered {error.code}.", why=words, page="06_troubleshoot"
        ) from None
    except (OSError, urllib.error.URLError) as error:
        raise ServiceError(
            f"{request.full_url} does not answer.",
            why=str(getattr(error, "reason", error)),
            fix="Is the service up? `runbook lab status`",
            page="06_troubleshoot",
        ) from None
    return json.loads(text) if text else {}
