"""Start a server, know whether it lives, and stop it and nothing else.

A server is started through a keeper process (`runbook_lib.serving.keeper`) that ends it when its
owner ends. Who a server is stands in a state file: process number, boot and start tick, so that a
stale file never leads to a stranger's process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.errors import ServiceError
from runbook_lib.serving import keeper

__all__ = [
    "Owner",
    "Running",
    "ServerSpec",
    "clean_up",
    "find",
    "free_ports",
    "listing",
    "log_tail",
    "start",
    "stop",
    "wait_healthy",
]


@dataclass(frozen=True)
class Owner:
    """The process whose end ends a server."""

    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Owner:
        """The process that runs this line."""
        return cls(os.getpid(), keeper.process_start(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """From `text()`; None for an empty text (nobody owns it: it stays until it is stopped)."""
        pid, _, started = text.partition("@")
        return cls(int(pid), started) if started else None

    def text(self) -> str:
        """A form for an environment variable."""
        return f"{self.pid}@{self.started}"

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return bool(self.started) and keeper.process_start(self.pid) == self.started


@dataclass(frozen=True)
class ServerSpec:
    """One server to start. `facts` (ports, URIs) are written down; `env` never is.

    `leftovers` are patterns of what it leaves outside, and are removed when it has ended.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    leftovers: Sequence[str] = ()
    stop_seconds: float = 10.0


@dataclass(frozen=True)
class Running:
    """A server that was alive when it was looked up."""

    name: str
    server: Owner
    keeper: Owner
    owner: Owner | None
    log: Path
    facts: Mapping[str, Any]
    leftovers: tuple[str, ...] = ()

    def alive(self) -> bool:
        """Whether the server process itself still runs."""
        return self.server.alive()


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports that nobody listens on now, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for sock in held:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in held]
    finally:
        for sock in held:
            sock.close()


def start(spec: ServerSpec, folder: Path, owner: Owner | None) -> Running:
    """Start a server and its keeper; the caller then waits for its health.

    Raises:
        ServiceError: one of that name runs already, or the program could not be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (known := find(folder, spec.name)) is not None:
        raise ServiceError(
            f"{spec.name} runs already (process {known.server.pid}).",
            fix="Use the one that runs, or stop it first: `runbook lab down`.",
        )
    state, log = folder / f"{spec.name}.json", folder / f"{spec.name}.log"
    state.unlink(missing_ok=True)
    owner_fact = None if owner is None else {"pid": owner.pid, "started": owner.started}
    order = {
        "name": spec.name,
        "argv": list(spec.argv),
        "env": dict(spec.env),
        "cwd": str(spec.cwd),
        "facts": dict(spec.facts),
        "leftovers": list(spec.leftovers),
        "state": str(state),
        "log": str(log),
        "owner": owner_fact,
        "stop_seconds": spec.stop_seconds,
    }
    # The order goes through a pipe: the server's environment may hold keys, and a file would keep them.
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            cwd=spec.cwd,
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(order).encode())
    process.stdin.close()
    _reap_later(process)
    return _await_state(spec.name, folder, process)


def _reap_later(process: subprocess.Popen[bytes]) -> None:
    """Collect the keeper when it ends, so that a long-lived caller gathers no zombies."""
    import threading

    threading.Thread(target=process.wait, daemon=True).start()


def _await_state(name: str, folder: Path, process: subprocess.Popen[bytes]) -> Running:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (running := find(folder, name)) is not None:
            return running
        state = _read(folder / f"{name}.json")
        if state.get("phase") == "ended" or process.poll() is not None:
            break
        time.sleep(0.01)
    state = _read(folder / f"{name}.json")
    raise ServiceError(
        f"{name} did not start.",
        why="\n".join(
            filter(None, [str(state.get("reason", "")), log_tail(folder / f"{name}.log")])
        ),
        fix=f"Read {folder / f'{name}.log'}.",
        page="06_troubleshoot",
    )


def find(folder: Path, name: str) -> Running | None:
    """The server of that name if it (or at least its keeper) lives; None when nothing is left of it."""
    state = _read(folder / f"{name}.json")
    if state.get("phase") != "running":
        return None
    server, watcher = Owner(**state["server"]), Owner(**state["keeper"])
    if not server.alive() and not watcher.alive():
        return None
    owner = Owner(**state["owner"]) if state["owner"] else None
    left = tuple(state.get("leftovers", ()))
    return Running(name, server, watcher, owner, Path(state["log"]), state["facts"], left)


def listing(folder: Path) -> list[Running]:
    """Every living server of a folder, by name."""
    names = sorted(path.stem for path in folder.glob("*.json"))
    return [running for name in names if (running := find(folder, name)) is not None]


def clean_up(folder: Path) -> None:
    """Remove what the ended servers of a folder left behind, however they ended."""
    for path in sorted(folder.glob("*.json")):
        state = _read(path)
        if "leftovers" in state and find(folder, path.stem) is None:
            keeper.remove_all(state["leftovers"])


def stop(running: Running, *, timeout: float = 20.0) -> None:
    """End a server: asked first, then killed; returns when it is gone.

    Raises:
        ServiceError: it still runs after the time.
    """
    target = running.keeper if running.keeper.alive() else running.server
    deadline = time.monotonic() + timeout
    _signal(target, signal.SIGTERM)
    while running.server.alive() or running.keeper.alive():
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{running.name} (process {running.server.pid}) does not end.",
                fix=f"Look at {running.log}; as a last resort: kill -9 {running.server.pid}",
            )
        if not running.keeper.alive():
            _signal(running.server, signal.SIGKILL)
        time.sleep(0.02)
    keeper.remove_all(list(running.leftovers))


def _signal(process: Owner, number: signal.Signals) -> None:
    """Signal that very process; a stranger with its number is left alone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive():
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def wait_healthy(
    running: Running, healthy: Callable[[], bool], *, timeout: float, what: str
) -> float:
    """Wait until `healthy()`; ends early when the server dies.

    Returns:
        Seconds waited.

    Raises:
        ServiceError: it died (with the last lines of its log), or the time was up.
    """
    began = time.monotonic()
    while not healthy():
        waited = time.monotonic() - began
        if not running.alive():
            raise ServiceError(
                f"{what} ended after {waited:.1f} s, before it was ready.",
                why=log_tail(running.log),
                fix=f"The whole log: {running.log}",
                page="06_troubleshoot",
            )
        if waited > timeout:
            raise ServiceError(
                f"{what} was not ready within {timeout:.0f} s.",
                why=log_tail(running.log),
                fix=f"The whole log: {running.log}",
                page="06_troubleshoot",
            )
        time.sleep(0.05)
    return time.monotonic() - began


def log_tail(log: Path, lines: int = 8, size: int = 8192) -> str:
    """The last lines of a log file, without control characters."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - size))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return ""
    kept = [line for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(
        "".join(char for char in line if char.isprintable() or char == "\t") for line in kept
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
