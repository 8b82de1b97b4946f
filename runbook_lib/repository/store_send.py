"""Sends files to a store: many at once, large ones in parts, and tells how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from runbook_lib.artifacts import StoredFile
from runbook_lib.repository.bodies import FilePart, changed
from runbook_lib.repository.store_retry import in_parallel
from runbook_lib.repository.store_tree import Tree
from runbook_lib.repository.stores import Store, Upload

__all__ = ["PART_BYTES", "Progress", "Told", "send_all"]

PART_BYTES = 8 * 1024 * 1024
MEBIBYTE = 1024 * 1024

Told = Callable[[float, str], None]


class Progress:
    """How much is done, how fast, and how long the rest takes at that rate.

    Args:
        total: bytes in all.
        told: is given the share and a line.
    """

    def __init__(self, total: int, told: Told | None) -> None:
        self.total = total
        self.done = 0
        self.told = told or (lambda _share, _line: None)
        self.began = time.monotonic()
        self.turn = threading.Lock()

    def add(self, count: int, path: str) -> None:
        """So many more bytes are done."""
        with self.turn:
            self.done += count
            share = min(self.done / self.total, 1.0) if self.total else 1.0
            rate = self.done / max(time.monotonic() - self.began, 0.001)
            left = f", {_spoken((self.total - self.done) / rate)} left" if rate else ""
            self.told(share, f"{path}  {rate / 1e6:.0f} MB/s{left}")


def _spoken(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def send_all(
    store: Store, tree: Tree, files: dict[str, StoredFile], progress: Progress
) -> Iterator[str]:
    """Store files; yields the name of each one that is there whole.

    Args:
        store: where to.
        tree: the folder that they come from.
        files: what to store, by its name at the store.
        progress: is told.

    Raises:
        RepositoryError: a file changed since it was listed.
    """
    progress.add(0, "sending")
    for name, path, sent, whole in in_parallel(_calls(store, tree, files)):
        progress.add(sent, path)
        if whole:
            yield name


Sent = tuple[str, str, int, bool]  # name at the store, path, bytes, whether the file is whole now


def _calls(store: Store, tree: Tree, files: dict[str, StoredFile]) -> Iterable[Callable[[], Sent]]:
    for name, file in files.items():
        if file.size <= PART_BYTES:
            yield partial(_send_small, store, tree, name, file)
        else:
            yield from _large(store, tree, name, file)


def _send_small(store: Store, tree: Tree, name: str, file: StoredFile) -> Sent:
    store.put(name, tree.body(file))
    return name, file.path, file.size, True


def _large(store: Store, tree: Tree, name: str, file: StoredFile) -> Iterator[Callable[[], Sent]]:
    """The parts of one file; the last one that ends makes the file of them."""
    size = part_size(file.size, store.most_parts)
    starts = range(0, file.size, size)
    left, turn = len(starts), threading.Lock()
    upload = store.begin(name, file)

    def send(number: int, start: int) -> Sent:
        nonlocal left
        count = min(size, file.size - start)
        _send_part(upload, number, tree.folder / file.path, start, count)
        with turn:
            left -= 1
            whole = not left
        if whole:
            # No part knows the others: that they are still one file is told by its times.
            if tree.has_changed(file):
                raise changed(tree.folder / file.path)
            upload.finish()
        return name, file.path, count, whole

    for number, start in enumerate(starts, 1):
        yield partial(send, number, start)


def _send_part(upload: Upload, number: int, path: Path, start: int, count: int) -> None:
    upload.send(number, FilePart.of(path, start, count))


def part_size(size: int, most_parts: int) -> int:
    """Bytes of each part of a file: no more parts than the store takes, in whole mebibytes."""
    needed = -(-size // most_parts)
    return max(PART_BYTES, -(-needed // MEBIBYTE) * MEBIBYTE)
