"""Run the commands of a build, once for each set of inputs.

An engine is kept under the digest of everything it was made from. A second build of the same
inputs finds the first one's receipt, checks every file against it, and runs nothing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Engine, EngineIdentity, Phase, StoredFile, digest_of, utc_now
from runbook_lib.engine.build_receipt import RECEIPT
from runbook_lib.engine.build_run import Run
from runbook_lib.engine.command import Command
from runbook_lib.engine.runner import ProcessRunner, Runner
from runbook_lib.errors import BuildError
from runbook_lib.files import content_digest, list_files, locked, write_whole

__all__ = ["Identity", "build_once", "kept_engine", "past_build_seconds"]

Identity = Callable[[Path, tuple[StoredFile, ...]], EngineIdentity]


def build_once(
    commands: Callable[[Path], Sequence[Command]],
    identity: Identity,
    *,
    inputs: Mapping[str, Any],
    store: Path,
    log: Path,
    on_line: Callable[[str], None] = lambda _: None,
    timeout: float = 3600.0,
    rebuild: bool = False,
    runner: Runner | None = None,
    where: Mapping[str, str] | None = None,
) -> Engine:
    """The engine of these inputs: the one in `store` whose receipt holds, else a new one.

    Args:
        commands: the commands that build into a work folder; the engine is its subfolder `engine`.
        identity: reads an engine directory's identity, given its files.
        inputs: everything the result depends on, as plain values; their digest is the engine's key.
        store: folder of all kept engines. Two builds of one key take turns.
        log: where the commands' whole output goes.
        on_line: is told each line of that output.
        timeout: seconds for all commands together.
        rebuild: build again although a receipt holds; the old engine stays until the new one is whole.
        runner: where the commands run; by default as processes of this machine.
        where: what the receipt tells of this machine, such as `sm` and `gpu`.

    Raises:
        BuildError: a command failed, was stopped, or took too long; nothing half-built is kept.
    """
    key, folder = _place(inputs, store)
    with locked(store, f"{folder.name}.lock", on_wait=on_line):
        # What a killed build of this key left, which the lock now says is nobody's.
        for left in store.glob(f".{folder.name}.*/"):
            shutil.rmtree(left, ignore_errors=True)
        if not rebuild and (kept := _kept(folder, key, identity)) is not None:
            on_line(f"The receipt of {kept.built_at:%Y-%m-%d %H:%M} UTC holds: nothing is built.")
            return kept
        on_line(f"Building {folder.name}")
        _build(
            commands,
            identity,
            folder,
            key,
            runner or ProcessRunner(),
            log=log,
            on_line=on_line,
            timeout=timeout,
            where=where or {},
        )
        built = _kept(folder, key, identity)
    if built is None:
        raise BuildError(
            f"The engine in {folder} is not what its commands just built.",
            why="A file differs from the digest taken when the build ended.",
            fix="Look for a failing disk or another process that writes there, then build again.",
        )
    return built.model_copy(update={"reused": False})


def kept_engine(inputs: Mapping[str, Any], identity: Identity, *, store: Path) -> Engine | None:
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


def _kept(folder: Path, key: str, identity: Identity) -> Engine | None:
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
            identity=identity(folder, files),
            files=files,
            engine_digest=digest,
            size_bytes=sum(file.size for file in files),
            build_seconds=receipt["seconds"],
            phases=tuple(Phase(**phase) for phase in receipt["phases"]),
            commands=tuple(tuple(argv) for argv in receipt["commands"]),
            inputs_digest=key,
            built_at=datetime.fromisoformat(receipt["built_at"]),
            reused=True,
            **_peaks(receipt),
        )
    except (KeyError, TypeError, ValueError, BuildError):  # no digest covers the receipt itself
        return None


def _peaks(receipt: Mapping[str, Any]) -> dict[str, int | None]:
    """Peaks that were seen; one of 0 was not."""
    found = receipt.get("peaks")
    told = found if isinstance(found, dict) else {}
    return {f"peak_{name}": told.get(name) or None for name in ("memory_bytes", "disk_bytes")}


def _build(
    commands: Callable[[Path], Sequence[Command]],
    identity: Identity,
    folder: Path,
    key: str,
    runner: Runner,
    *,
    log: Path,
    on_line: Callable[[str], None],
    timeout: float,
    where: Mapping[str, str],
) -> None:
    began = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        work = Path(name)
        run = Run(runner, work, log, on_line, until=began + timeout)
        for step in runner.prepare(folder.name):
            run.step(step)
        steps = commands(work)
        for number, step in enumerate(steps, 1):
            on_line(f"Step {number} of {len(steps)}: {step.step}")
            run.step(step)
        engine = work / "engine"
        if not (engine / "config.json").is_file():
            raise BuildError(
                "The build ended without an error, and without an engine.",
                why=f"{engine / 'config.json'} is missing.",
                fix=f"Read what the commands said: {log}",
            )
        files = list_files(engine, leave_out=[RECEIPT])
        receipt = {
            "inputs": key,
            "digest": content_digest(files),
            "seconds": round(time.monotonic() - began, 3),
            "phases": [phase.model_dump() for phase in run.phases],
            "commands": [[word.replace(name, "WORK") for word in step.argv] for step in steps],
            "built_at": utc_now().isoformat(),
            "built_on": {**({"sm": run.sm} if run.sm else {}), **where, **runner.about()},
            "peaks": {"memory_bytes": run.memory, "disk_bytes": run.disk},
        }
        write_whole(engine / RECEIPT, json.dumps(receipt, indent=2))
        identity(
            engine, files
        )  # refuses what is no whole engine before it takes the old one's place
        shutil.rmtree(folder, ignore_errors=True)
        engine.rename(folder)
