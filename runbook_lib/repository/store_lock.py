"""One push at a time below a location: an object that only one can make, and that is kept fresh.

A push whose machine died leaves its lock. Another one takes it over at once when it can see that
the process is gone, else after it has watched the lock go without a sign of life.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import utc_now
from runbook_lib.errors import AlreadyThereError, RepositoryError
from runbook_lib.repository.bodies import Given
from runbook_lib.repository.manifest import LOCK
from runbook_lib.repository.stores import Store

__all__ = ["held"]

SIGN_OF_LIFE, PATIENCE = 5.0, 20.0  # seconds
# The tokens of the locks that this process holds.
HELD: set[str] = set()


@contextmanager
def held(store: Store, told: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Hold the lock; yields a check that raises when another push has taken it.

    Raises:
        RepositoryError: another push is under way.
    """
    mine: dict[str, Any] = {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid()}
    mine |= {"began": _began(os.getpid()), "since": _now(), "token": secrets.token_hex(8)}
    _take(store, mine, told)
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(store, mine, over), daemon=True)
    thread.start()

    def check() -> None:
        if _read(store).get("token") != mine["token"]:
            raise _under_way(store, _read(store))

    HELD.add(mine["token"])
    try:
        yield check
    finally:
        HELD.discard(mine["token"])
        over.set()
        thread.join()
        with contextlib.suppress(Exception):  # the store may be gone; what ended the push is told
            if _read(store).get("token") == mine["token"]:
                store.delete([LOCK])


def _take(store: Store, mine: dict[str, Any], told: Callable[[str], None]) -> None:
    try:
        return _put(store, mine, absent=True)
    except AlreadyThereError:
        theirs = _read(store)
    dead = _is_dead(theirs)
    if not dead and (_lives_here(theirs) or _shows_life(store, theirs, told)):
        raise _under_way(store, theirs)
    with contextlib.suppress(AlreadyThereError):
        store.delete([LOCK])
        return _put(store, mine, absent=True)
    raise _under_way(store, _read(store))


def _put(store: Store, mine: dict[str, Any], *, absent: bool = False) -> None:
    store.put(LOCK, Given(json.dumps(mine).encode()), absent=absent)


def _read(store: Store) -> dict[str, Any]:
    try:
        found = json.loads(b"".join(store.read(LOCK)))
    except (KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(store: Store, mine: dict[str, Any], over: threading.Event) -> None:
    """Show life until the push is over. A store that does not answer is the push's own affair."""
    while not over.wait(SIGN_OF_LIFE):
        with contextlib.suppress(Exception):
            if _read(store).get("token") == mine["token"]:
                _put(store, mine | {"at": _now()})


def _shows_life(store: Store, theirs: dict[str, Any], told: Callable[[str], None]) -> bool:
    told(f"waiting whether the push of {theirs.get('host')} still lives")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(min(1.0, PATIENCE / 4))
        if (now := _read(store)) != theirs:
            return bool(now)
    return False


def _lives_here(theirs: dict[str, Any]) -> bool:
    """Whether the other push is seen at work on this machine."""
    if theirs.get("boot") != _boot() or not _boot():
        return False
    if theirs.get("pid") == os.getpid():
        return theirs.get("token") in HELD
    return _began(int(theirs.get("pid", 0))) == theirs.get("began") != ""


def _is_dead(theirs: dict[str, Any]) -> bool:
    """Whether the other push ran on this machine and is gone."""
    same = theirs.get("boot") == _boot() != "" and theirs.get("host") == socket.gethostname()
    return not theirs or (same and not _lives_here(theirs))


def _now() -> str:
    return utc_now().isoformat(timespec="seconds")


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return ""


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty for one that is gone."""
    with contextlib.suppress(OSError, IndexError):
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return said.rpartition(")")[2].split()[19]
    return ""


def _under_way(store: Store, theirs: dict[str, Any]) -> RepositoryError:
    who = f"process {theirs.get('pid')} on {theirs.get('host')}, since {theirs.get('since')}"
    return RepositoryError(
        f"Another push to {store.uri} is under way.",
        why=f"It is {who}." if theirs else "It has taken this one's place.",
        fix="Wait for its end, then push again: only what is missing is sent.",
    )
