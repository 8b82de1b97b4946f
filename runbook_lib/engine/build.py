"""Run the commands of a build, once for each set of inputs.

An engine is kept under the digest of everything it was made from. A second build of the same
inputs finds the first one's receipt, checks every file against it, and runs nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Engine, EngineIdentity, Phase, digest_of, utc_now
from runbook_lib.engine.commands import Command
from runbook_lib.errors import BuildError
from runbook_lib.files import content_digest, list_files, locked, write_whole

__all__ = ["build_once", "kept_engine", "past_build_seconds"]

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
RECEIPT = "receipt.json"
PHASE = re.compile(r"\[[a-z-]+\] phase (?P<name>\S+) done (?P<seconds>[0-9.]+)")


def build_once(
    commands: Callable[[Path], Sequence[Command]],
    identity: Callable[[Path], EngineIdentity],
    *,
    inputs: Mapping[str, Any],
    store: Path,
    log: Path,
    on_line: Callable[[str], None] = lambda _: None,
    timeout: float = 3600.0,
    rebuild: bool = False,
) -> Engine:
    """The engine of these inputs: the one in `store` whose receipt holds, else a new one.

    Args:
        commands: the commands that build into a work folder; the engine is its subfolder `engine`.
        identity: reads an engine directory's identity.
        inputs: everything the result depends on, as plain values; their digest is the engine's key.
        store: folder of all kept engines. Two builds of one key take turns.
        log: where the commands' whole output goes.
        on_line: is told each line of that output.
        timeout: seconds for all commands together.
        rebuild: build again although a receipt holds; the old engine stays until the new one is whole.

    Raises:
        BuildError: a command failed, was stopped, or took too long; nothing half-built is kept.
    """
    key, folder = _place(inputs, store)
    with locked(store, f"{folder.name}.lock"):
        if not rebuild and (kept := _kept(folder, key, identity)) is not None:
            on_line(f"The receipt of {kept.built_at:%Y-%m-%d %H:%M} UTC holds: nothing is built.")
            return kept
        on_line(f"Building {folder.name}")
        _build(commands, folder, key, log=log, on_line=on_line, timeout=timeout)
        built = _kept(folder, key, identity)
    if built is None:
        raise BuildError(
            f"The engine in {folder} is not what its commands just built.",
            why="A file differs from the digest taken when the build ended.",
            fix="Look for a failing disk or another process that writes there, then build again.",
        )
    return built.model_copy(update={"reused": False})


def kept_engine(
    inputs: Mapping[str, Any], identity: Callable[[Path], EngineIdentity], *, store: Path
) -> Engine | None:
    """The engine of these inputs if a receipt holds; builds nothing."""
    key, folder = _place(inputs, store)
    return _kept(folder, key, identity)


def past_build_seconds(store: Path) -> list[float]:
    """How long each kept engine took to build, in seconds, by its receipt."""
    found: list[float] = []
    for path in sorted(store.glob(f"*/{RECEIPT}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(float(json.loads(path.read_bytes())["seconds"]))
    return found


def _place(inputs: Mapping[str, Any], store: Path) -> tuple[str, Path]:
    key = digest_of(dict(inputs))
    return key, store / key.removeprefix("sha256:")[:16]


def _kept(folder: Path, key: str, identity: Callable[[Path], EngineIdentity]) -> Engine | None:
    """The engine of a folder when its receipt names these inputs and every file is as it was."""
    try:
        receipt = json.loads((folder / RECEIPT).read_bytes())
    except (OSError, ValueError):
        return None
    files = list_files(folder, leave_out=[RECEIPT])
    digest = content_digest(files)
    try:
        if (receipt["inputs"], receipt["digest"]) != (key, digest):
            return None
        return Engine(
            path=str(folder),
            identity=identity(folder),
            files=files,
            engine_digest=digest,
            size_bytes=sum(file.size for file in files),
            build_seconds=receipt["seconds"],
            phases=tuple(Phase(**phase) for phase in receipt["phases"]),
            commands=tuple(tuple(argv) for argv in receipt["commands"]),
            inputs_digest=key,
            built_at=datetime.fromisoformat(receipt["built_at"]),
            reused=True,
        )
    except (KeyError, TypeError, ValueError):  # no digest covers the receipt itself
        return None


def _build(
    commands: Callable[[Path], Sequence[Command]],
    folder: Path,
    key: str,
    *,
    log: Path,
    on_line: Callable[[str], None],
    timeout: float,
) -> None:
    began, phases = time.monotonic(), list[Phase]()
    log.parent.mkdir(parents=True, exist_ok=True)
    # What a killed build of this key left, which the lock now says is nobody's.
    for left in folder.parent.glob(f".{folder.name}.*/"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        work = Path(name)
        steps = commands(work)
        for step in steps:
            phases += _run(step, log, on_line, timeout - (time.monotonic() - began))
        seconds = time.monotonic() - began
        engine = work / "engine"
        if not (engine / "config.json").is_file():
            raise BuildError(
                "The build ended without an error, and without an engine.",
                why=f"{engine / 'config.json'} is missing.",
                fix=f"Read what the commands said: {log}",
            )
        receipt = {
            "inputs": key,
            "digest": content_digest(list_files(engine)),
            "seconds": round(seconds, 3),
            "phases": [phase.model_dump() for phase in phases],
            "commands": [[word.replace(name, "WORK") for word in step.argv] for step in steps],
            "built_at": utc_now().isoformat(),
        }
        write_whole(engine / RECEIPT, json.dumps(receipt, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        engine.rename(folder)


def _run(step: Command, log: Path, on_line: Callable[[str], None], timeout: float) -> list[Phase]:
    """Run one command to its end; its own phase lines, or else the command as one phase."""
    phases: list[Phase] = []
    said: deque[str] = deque(maxlen=12)
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as record:
        record.write(f"$ {shlex.join(step.argv)}\n")
        with _start(step) as process, _ended_after(timeout, process) as timed_out:
            assert process.stdout is not None
            for raw in process.stdout:
                line = raw.rstrip("\n")
                record.write(raw)
                said.append(line)
                if found := PHASE.search(line):
                    phases.append(Phase(name=found["name"], seconds=float(found["seconds"])))
                on_line(line)
            code = process.wait()
    if timed_out.is_set() and code != 0:
        raise BuildError(
            f"The build step {step.step} took longer than the {timeout:.0f} s left for it.",
            why=_last(said),
            fix=f"Give it more time, or read the log: {log}",
            page="06_troubleshoot",
        )
    if code != 0:
        raise BuildError(
            f"The build step {step.step} failed ({_ending(code)}).",
            why=_last(said),
            fix=f"The whole log: {log}",
            page="06_troubleshoot",
        )
    return phases or [Phase(name=step.step, seconds=round(time.monotonic() - began, 3))]


def _start(step: Command) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            step.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call and no lock
        )
    except OSError as error:
        raise BuildError(
            f"The build step {step.step} can't start: {step.argv[0]} ({error.strerror}).",
            why="The program is not on this machine's PATH."
            if isinstance(error, FileNotFoundError)
            else "",
            fix="TensorRT-LLM's tools are in its release container: run the build there (same image as the server).",
        ) from None


def _die_with_parent() -> None:
    """A killed run leaves no compiler behind (Linux; elsewhere the command just runs on)."""
    with suppress(OSError, AttributeError):
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _ended_after(timeout: float, process: subprocess.Popen[str]) -> Iterator[threading.Event]:
    """End a command when its time is over, and in any case at the end; the event says which."""
    timed_out = threading.Event()

    def end() -> None:
        timed_out.set()
        _kill(process)

    timer = threading.Timer(max(timeout, 0.0), end)
    timer.start()
    try:
        yield timed_out
    finally:
        timer.cancel()
        _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End the command and everything it started.

    Its group outlives it while one of its own children runs, and such a child holds the pipe open.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return (
        f"{name}; the kernel's out-of-memory killer ends a process like this"
        if code == -9
        else name
    )


def _last(said: Iterable[str]) -> str:
    lines = [line.strip() for line in said if line.strip()]
    return "\n".join(lines[-4:])
