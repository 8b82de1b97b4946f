"""A lab by name: its object store and its Triton servers, and nobody else's.

A lab that a run starts is owned by that run and ends with it; one from `runbook lab up` stays
until `runbook lab down`. Two labs share nothing: folder, ports, keys and data are each its own.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import LabError, UsageError
from runbook_lib.files import locked, write_whole
from runbook_lib.lab import environment
from runbook_lib.lab.s3 import ObjectStore, start_s3
from runbook_lib.places import cache_dir
from runbook_lib.serving.supervise import Owner, Running, clean_up, find, listing, stop
from runbook_lib.serving.triton import start_triton

__all__ = ["DEFAULT", "Lab", "at_hand", "current", "forget_old_labs"]

DEFAULT = "default"
NAME_VARIABLE = "RUNBOOK_LAB"
OWNER_VARIABLE = "RUNBOOK_LAB_OWNER"
LOG_BYTES = 4_000_000


@dataclass(frozen=True)
class Lab:
    """One lab; making the value starts nothing."""

    name: str = DEFAULT
    owner: Owner | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", self.name):
            raise UsageError(
                f"{self.name!r} can't be the name of a lab.",
                why="It becomes the name of a folder.",
                fix="Use small letters, digits, '.' and '-' (at most 63), starting with a letter or digit.",
            )

    @property
    def folder(self) -> Path:
        """Everything this lab writes: state, logs, keys, data."""
        return cache_dir() / "labs" / self.name

    def up(self, on_line: Callable[[str], None] = lambda _: None) -> ObjectStore:
        """Set up what is missing and start the object store; a lab that is up stays as it is.

        Raises:
            PreflightError: this machine lacks something; each thing has its command.
            LabError: a part did not start.
        """
        environment.ensure(on_line)
        with locked(self.folder):
            return start_s3(self.folder, self.owner)

    def is_up(self) -> bool:
        """Whether its object store lives."""
        return find(self.folder, "s3") is not None

    def servers(self) -> list[Running]:
        """Its living servers."""
        return listing(self.folder)

    def serve(
        self,
        repository: str,
        server: str,
        *,
        facts: Mapping[str, str] | None = None,
        strict: bool = True,
        timeout: float = 120.0,
    ) -> tuple[Running, float]:
        """Start a Triton of this lab on a repository in Triton's own URI form.

        Raises:
            ServiceError: it did not become ready; in Triton's words.
        """
        store = self.up()
        # Servers of other names may start meanwhile; `down` waits for all of them.
        with locked(self.folder, shared=True), locked(self.folder, f"{server}.lock"):
            return start_triton(
                environment.ensure().triton,
                repository,
                self.folder,
                name=server,
                credentials=store.credentials,
                owner=self.owner,
                facts=facts,
                strict=strict,
                timeout=timeout,
            )

    def down(self, *, data: bool = False) -> list[str]:
        """Stop its cluster and its servers, the object store last; with `data` its folder goes too.

        Returns:
            The names of what was stopped.

        Raises:
            LabError: something of its cluster is left; each thing is named.
        """
        if not self.folder.is_dir():
            return []
        from runbook_lib.lab.cluster import cluster

        ended = cluster.down(self)
        with locked(self.folder):
            running = sorted(self.servers(), key=lambda one: one.name == "s3")
            for one in running:
                stop(one)
            clean_up(self.folder)
        if data:
            shutil.rmtree(self.folder)
        return [*ended, *(one.name for one in running)]

    def save_logs(self, folder: Path) -> None:
        """Copy what its servers said into a folder, the last megabytes of each."""
        for log in sorted(self.folder.glob("*.log")):
            with log.open("rb") as said:
                said.seek(max(0, log.stat().st_size - LOG_BYTES))
                write_whole(folder / log.name, said.read())

    def status(self) -> dict[str, Any]:
        """What lives, since which owner, and where it answers; no keys."""
        parts = [
            {
                "name": one.name,
                "process": one.server.pid,
                "alive": one.alive(),
                "owner": one.owner.pid if one.owner else None,
                "log": str(one.log),
                **one.facts,
            }
            for one in self.servers()
        ]
        return {"lab": self.name, "up": self.is_up(), "folder": str(self.folder), "servers": parts}

    def variables(self) -> dict[str, str]:
        """What a page's kernel needs to find this lab."""
        owner = {OWNER_VARIABLE: self.owner.text()} if self.owner else {}
        return {NAME_VARIABLE: self.name, **owner}


def current() -> Lab:
    """The lab of this run if there is one, else the one named `default`."""
    owner = Owner.parse(os.environ.get(OWNER_VARIABLE, ""))
    if owner is not None and not owner.alive():
        raise LabError(
            "The run that owned this lab has ended.",
            fix="Start a new run, or unset RUNBOOK_LAB and RUNBOOK_LAB_OWNER to use the default lab.",
        )
    return Lab(os.environ.get(NAME_VARIABLE) or DEFAULT, owner)


@contextmanager
def at_hand(name: str, on_line: Callable[[str], None] = lambda _: None) -> Iterator[Lab]:
    """The lab that `current()` names where it is up, else one called `name` that ends with this block.

    Inside the block `current()` is that lab, here and in every process started from here.

    Raises:
        PreflightError, LabError: as `Lab.up`.
    """
    known = current()
    lab = known if known.is_up() else Lab(name, Owner.this_process())
    forget_old_labs()
    before = {key: os.environ.get(key) for key in (NAME_VARIABLE, OWNER_VARIABLE)}
    try:
        lab.up(on_line)
        os.environ.update(lab.variables())
        yield lab
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        if lab is not known:
            lab.down()


def known_labs() -> list[Lab]:
    """Every lab that has a folder."""
    root = cache_dir() / "labs"
    return (
        [Lab(path.name) for path in sorted(root.glob("*")) if path.is_dir()]
        if root.is_dir()
        else []
    )


def forget_old_labs(*, days: float = 7.0) -> None:
    """Remove the folders of labs that ended runs left, after some days."""
    for lab in known_labs():
        old = time.time() - lab.folder.stat().st_mtime > days * 86_400
        if lab.name.startswith("run-") and old and not lab.servers():
            shutil.rmtree(lab.folder, ignore_errors=True)
