"""Asks a real Triton, in explicit model control, for its verdict on many small trees.

A tree loads when every model folder in it has a version that is ready and none that is not. Where
a server dies or waits for ever, the trees that it held are asked again one by one.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import ServiceError
from runbook_lib.lab import environment
from runbook_lib.serving.supervise import Owner, Running, stop
from runbook_lib.serving.triton import start_triton
from tests.data.lint_trees.draft import PARTS, Case, Tree, folders, write

WAITED = 20.0  # s; a model of these trees loads in 2 s, on a busy machine in 10
MOST_HUNG = 40  # loads that never end each keep one of the server's threads
PLAIN = "!$&'()*+,;=:@[]{}^|~%#"  # Triton's HTTP server takes a name as it stands
POLLED = "failed to poll from model repository"
WAITS, DIES = "waits for ever", "the server dies"
Named = tuple[str, Tree]


@dataclass(frozen=True)
class Verdict:
    """Whether every model loads, and the server's own words where one does not."""

    loads: bool
    says: str = ""


@contextmanager
def server(root: Path, folder: Path) -> Iterator[Running]:
    """A real Triton that loads from `root` what it is told to."""
    running, _ = start_triton(
        environment.ensure().triton,
        str(root),
        folder,
        name=f"triton-{time.monotonic_ns()}",
        owner=Owner.this_process(),
        strict=False,
        options=[
            "--model-control-mode=explicit",
            "--http-thread-count=64",
            "--model-load-thread-count=64",
        ],
    )
    try:
        yield running
    finally:
        _end(running)


def _end(running: Running) -> None:
    try:
        stop(running)
    except ServiceError:
        running.alive()


def ask(
    cases: Iterable[Case], work: Path, *, width: int = 14, told: Callable[[str, Verdict], None]
) -> None:
    """Ask for every case's verdict, `width` at a time."""
    waiting = [(case.id, case.tree()) for case in cases]
    doubted: list[Named] = []
    while waiting:
        waiting = _Round(waiting, work, told, doubted).run(width)
    while doubted:
        one_by_one = _Round(doubted, work, told, [])
        doubted = one_by_one.run(1)
        for name, _ in one_by_one.doubted:
            told(name, Verdict(False, WAITS if one_by_one.hung else DIES))


class _Round:
    """One server's life: it is asked until nothing is left, or it dies."""

    def __init__(
        self,
        waiting: list[Named],
        work: Path,
        told: Callable[[str, Verdict], None],
        doubted: list[Named],
    ) -> None:
        self.left, self.doubted, self.told, self.work = list(waiting), doubted, told, work
        self.root = work / "models"
        self.lock, self.hung = threading.Lock(), 0
        self.alone = False
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        for part in PARTS.values():
            write(part, self.root)

    def run(self, width: int) -> list[Named]:
        """Returns those that nobody has asked yet."""
        self.alone = width == 1
        with server(self.root, self.work) as running, ThreadPoolExecutor(max(width, 4)) as pool:
            list(pool.map(lambda part: _load(running.facts["http"], part), PARTS))
            list(pool.map(lambda number: self._work_off(running, number), range(width)))
        return self.left

    def _work_off(self, running: Running, number: int) -> None:
        while running.alive() and self.hung < MOST_HUNG and not (self.alone and self.doubted):
            with self.lock:
                if not self.left:
                    return
                name, tree = self.left.pop(0)
            prefix = f"t{number}x{time.monotonic_ns() % 10**9}_"
            try:
                verdict = _ask_one(running, self.root, tree, prefix)
            except (OSError, http.client.HTTPException):
                time.sleep(1)  # a server that dies takes a moment
                log = running.log.read_text("utf-8", "replace")
                with self.lock:
                    self.hung += running.alive()
                if running.alive() and f"file not found in '{self.root}/{prefix}" in log:
                    self.told(name, Verdict(False, WAITS))
                else:
                    self.doubted.append((name, tree))
            else:
                self.told(name, verdict)


def _ask_one(running: Running, root: Path, tree: Tree, prefix: str) -> Verdict:
    url = running.facts["http"]
    mine = {path: content for path, content in tree.items() if path.partition("/")[0] not in PARTS}
    write(mine, root, prefix)
    names = folders(mine, prefix)
    said = {name: _load(url, name) for name in names}
    for name, words in said.items():
        if POLLED in words:
            said[name] = _polled(running, name) or words
    index = _index(url)
    verdict = _verdict(names, index, said, prefix)
    for name in names:
        _post(url, f"models/{urllib.parse.quote(name, safe=PLAIN)}/unload")
    for name in names:
        path = root / name
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
    return verdict


def _polled(running: Running, name: str) -> str:
    """Why a configuration was refused, which only the log tells."""
    log = running.log.read_text("utf-8", "replace")
    found = re.search(rf"Poll failed for model directory '{re.escape(name)}': (.*)", log)
    return found[1] if found else ""


def _index(url: str) -> list[dict[str, str]]:
    """The server's list; empty while a model's words are no UTF-8, which it can't tell then."""
    for _ in range(4):
        if text := _post(url, "index"):
            return list(json.loads(text))
        time.sleep(0.5)
    return []


def _verdict(
    names: list[str], index: list[dict[str, str]], said: dict[str, str], prefix: str
) -> Verdict:
    for name in names:
        states = [one for one in index if one["name"] == name and one.get("state")]
        bad = [one for one in states if one["state"] != "READY"]
        if bad or (index and not states) or said[name]:
            reason = next((one["reason"] for one in bad if one.get("reason")), "") or said[name]
            return Verdict(False, shortened(f"{name}: {reason or 'no model of that name'}", prefix))
    return Verdict(True)


def shortened(text: str, prefix: str = "") -> str:
    """The server's words without what differs from run to run."""
    text = text.replace(prefix, "~") if prefix else text
    text = re.sub(r"(?:/[\w.~-]+)*/models/", "", text)
    text = re.sub(r"\s+", " ", re.sub(r"0x[0-9a-f]+|line \d+", "…", text))
    return text[:150]


def _load(url: str, name: str) -> str:
    return _post(url, f"models/{urllib.parse.quote(name, safe=PLAIN)}/load", told=True)


def _post(url: str, path: str, *, told: bool = False) -> str:
    """The answer; with `told`, only the words of a refusal."""
    request = urllib.request.Request(f"{url}/v2/repository/{path}", b"{}")
    try:
        with urllib.request.urlopen(request, timeout=WAITED) as answer:
            text = answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        words = error.read().decode("utf-8", "replace")
        return words if told else ""
    return "" if told else text
