"""Keep one server process: start it, write down who it is, end it when its owner is gone.

Runs as a process of its own (`python keeper.py SPEC.json`), standard library only, so that it
starts in milliseconds and a server never outlives the run that started it: not after Ctrl-C, and
not after `kill -9` of the run, of this keeper or of the server itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["children_of", "descendants_of", "keep", "process_start", "write_json"]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def process_start(pid: int) -> str:
    """What tells a process from a later one with the same number: boot id and start tick.

    Empty when there is no such process (or it is a zombie).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else f"{boot}:{fields[19]}"


def children_of(pid: int) -> list[int]:
    """The direct children of a process, as the kernel lists them."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text(encoding="ascii").split()]
    return found


def descendants_of(pid: int) -> list[int]:
    """Every process below this one, nearest first."""
    below = children_of(pid)
    for child in below:
        below += [grand for grand in children_of(child) if grand not in below]
    return below


def write_json(path: Path, value: object) -> None:
    """Write whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)


def remove_all(patterns: list[str]) -> None:
    """Remove what a server leaves outside its own folder: files, sockets and folders, by patterns."""
    for pattern in patterns:
        for name in glob.glob(pattern):  # noqa: PTH207 - a pattern of absolute paths
            path = Path(name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _open_owner(owner: dict[str, Any] | None) -> int | None:
    """A file descriptor that becomes readable when the owner ends; -1 when it is gone already."""
    if owner is None:
        return None
    try:
        descriptor = os.pidfd_open(owner["pid"])
    except ProcessLookupError:
        return -1
    return descriptor if process_start(owner["pid"]) == owner["started"] else -1


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    """Ask the server to stop, then insist; take along whatever it started."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    for _ in range(50):
        left = descendants_of(os.getpid())
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _watch(child: subprocess.Popen[bytes], owner: int | None, wake: int) -> str:
    """Wait for the first of: the server ended, its owner ended, we were asked to stop."""
    server = os.pidfd_open(child.pid)
    watched = [server, wake] + ([owner] if owner is not None else [])
    ready, _, _ = select.select(watched, [], [])
    os.close(server)
    if wake in ready:
        return "stopped"
    return "ended by itself" if server in ready else "its owner ended"


def keep(spec: dict[str, Any]) -> None:
    """Run the server of a spec until it, its owner, or our time ends."""
    state = Path(spec["state"])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    owner = _open_owner(spec["owner"])
    if owner == -1:
        write_json(state, {"phase": "ended", "reason": "its owner ended", "code": None})
        return
    me = os.getpid()
    with Path(spec["log"]).open("ab") as log:
        try:
            child = subprocess.Popen(
                spec["argv"],
                env=spec["env"],
                cwd=spec["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _die_with_parent(me),  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            write_json(state, {"phase": "ended", "reason": str(error), "code": 127})
            return
    refs = {
        role: {"pid": pid, "started": process_start(pid)}
        for role, pid in (("keeper", me), ("server", child.pid))
    }
    facts = {
        "name": spec["name"],
        "facts": spec["facts"],
        "log": spec["log"],
        "owner": spec["owner"],
        "leftovers": spec["leftovers"],
    }
    write_json(state, {"phase": "running", **facts, **refs})
    reason = _watch(child, owner, reader)
    _end(child, spec["stop_seconds"])
    remove_all(spec["leftovers"])
    write_json(state, {"phase": "ended", **facts, "reason": reason, "code": child.returncode})


if __name__ == "__main__":
    keep(json.loads(sys.stdin.read()))
