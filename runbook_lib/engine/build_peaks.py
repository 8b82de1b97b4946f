"""The most memory and disk that a build step took, looked at while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Peaks", "folder_bytes"]

EVERY = 0.25
DISK_EVERY = 8  # looks: a folder is walked every two seconds
PROC = Path("/proc")


class Peaks:
    """Watches the processes of a step and its work folder until the block ends.

    Memory is the sum of what each process holds resident, so that shared pages count in each; it is 0
    where there is no /proc.
    """

    def __init__(self, root: Callable[[], int | None], folder: Path) -> None:
        self._root, self._folder = root, folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.memory = 0
        self.disk = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.disk = max(self.disk, folder_bytes(self._folder))

    def _watch(self) -> None:
        looks = 0
        while not self._over.is_set():
            root = self._root()
            self.memory = max(self.memory, _resident(root) if root else 0)
            if looks % DISK_EVERY == 0:
                self.disk = max(self.disk, folder_bytes(self._folder))
            looks += 1
            self._over.wait(EVERY)


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of everything below a folder; what goes away meanwhile counts nothing."""
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    total += about.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except OSError:
            continue
    return total


def _resident(root: int) -> int:
    """Resident bytes of a process, its session, and everything that they started."""
    about = {pid: known for pid in _pids() if (known := _stat(pid)) is not None}
    mine = {pid for pid, (_, session, _) in about.items() if root in {pid, session}}
    grew = True
    while grew:
        more = {pid for pid, (parent, _, _) in about.items() if parent in mine} - mine
        mine |= more
        grew = bool(more)
    return sum(about[pid][2] for pid in mine) * os.sysconf("SC_PAGE_SIZE")


def _pids() -> list[int]:
    try:
        return [int(one.name) for one in PROC.iterdir() if one.name.isdecimal()]
    except OSError:
        return []


def _stat(pid: int) -> tuple[int, int, int] | None:
    """A process's parent, session and resident pages."""
    try:
        fields = (PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return int(fields[1]), int(fields[3]), int(fields[21])
    except (OSError, ValueError, IndexError):
        return None
