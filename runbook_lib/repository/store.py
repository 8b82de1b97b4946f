"""Sends a model repository to a store and proves that it is there.

A manifest at the repository's root names every file with its SHA-256. It is written after
everything is stored, so a half push is never taken as whole. Each object carries its SHA-256 too: a
push that was cut finds by it what is stored already and sends only the rest.

Another content that shall be replaced stays whole, with its manifest, until the new one lies beside
it and was read back by its digests. Then the manifest is removed, the files are put in place within
the store, and the new manifest is written. A push that is cut in between goes on from what lies
beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import NotStoredError, RepositoryError
from runbook_lib.files import content_digest
from runbook_lib.repository.manifest import LOCK, MANIFEST, Manifest, find_manifest, put_manifest
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store_lock import held
from runbook_lib.repository.store_retry import in_parallel, retried
from runbook_lib.repository.store_send import Progress, Told, send_all
from runbook_lib.repository.store_tree import Tree, read_tree
from runbook_lib.repository.stores import Entry, Store, open_store

__all__ = ["Pushed", "push", "read_manifest", "stored_sha256"]

# Below it, beside the place, each file of a content that shall replace another, by its digest.
WAITING = "files/"


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    uri: str
    digest: str
    files: int
    bytes: int
    skipped: int
    removed: int

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for `--json` and for the record."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.files and not self.removed:
            return f"{self.uri} holds all {self.skipped} files already ({self.digest[:19]})."
        more = f", {self.skipped} were there" if self.skipped else ""
        more += f", {self.removed} stale removed" if self.removed else ""
        size = f"{self.bytes / 1e6:.1f} MB"
        return f"{self.files} files ({size}) sent to {self.uri}{more} ({self.digest[:19]})."


def push(
    folder: Path,
    uri: str,
    *,
    credentials: S3Access | None = None,
    replace: bool = False,
    create_bucket: bool = False,
    on_progress: Told | None = None,
) -> Pushed:
    """Store a repository under a URI, whole or recognisably unfinished.

    Args:
        folder: the repository.
        uri: see `open_store`.
        credentials: for `s3://`.
        replace: allow another content there to be replaced; its other objects are removed.
        create_bucket: create the bucket, container or folder when it is missing.
        on_progress: told the share done, 0 to 1, and what is being sent, at which rate.

    Raises:
        RepositoryError: another content lies there, another push is under way, or the store
            refused.
        ServiceError: the store does not answer, or no longer; pushing again goes on from there.
    """
    store, tree = open_store(uri, credentials), read_tree(folder)
    with store.explained("Pushing to"):
        if create_bucket:
            store.make_root()
        work = _Push(store, tree, on_progress)
        work.look(replace=replace)
        if work.is_done:
            return work.result()
        with held(store, lambda line: work.progress.told(0.0, line)) as check:
            work.look(replace=replace)
            work.do(check)
    return work.result()


class _Push:
    """One push: what is there, what must be sent, and what was done."""

    def __init__(self, store: Store, tree: Tree, told: Told | None) -> None:
        self.store, self.tree, self.told = store, tree, told
        self.beside = store.beside()
        self.there: dict[str, Entry] | None = None
        self.manifest: Manifest | None = None
        self.missing: list[StoredFile] = []
        self.stale: list[str] = []
        self.progress = Progress(0, told)
        self.digest = content_digest(tree.files)

    def look(self, *, replace: bool) -> None:
        """Find what is there.

        Raises:
            RepositoryError: another content, which may not be replaced.
        """
        there = self.store.list()
        there.pop(LOCK, None)
        if there == self.there:
            return
        self.there = there
        self.manifest = find_manifest(self.store) if MANIFEST in there else None
        self.stale = sorted(set(there) - {file.path for file in self.tree.files} - {MANIFEST})
        if not replace:
            self._refuse_other_content()
        self.missing, unsure = [], []
        for file in self.tree.files:
            stored = self._stored(file)
            if stored is None:
                unsure.append(partial(self._claimed, file))
            elif stored != file.sha256:
                self.missing.append(file)
        self.missing += [file for file, sha256 in in_parallel(unsure) if sha256 != file.sha256]

    def _stored(self, file: StoredFile) -> str | None:
        """The digest of what lies in a file's place; empty for none, None if only it can tell."""
        entry = (self.there or {}).get(file.path)
        if entry is None:
            return ""
        known = self.manifest.sha256_in(file.path, entry) if self.manifest else ""
        return known or (None if entry.size == file.size else "")

    def _claimed(self, file: StoredFile) -> tuple[StoredFile, str]:
        return file, self.store.claimed_sha256(file.path)

    def _refuse_other_content(self) -> None:
        if self.manifest is not None and self.manifest.digest != self.digest:
            theirs = self.manifest.digest
        elif self.stale:
            theirs = f"unknown: {len(self.stale)} other objects, such as {self.stale[0]}"
        else:
            return
        raise RepositoryError(
            f"{self.store.uri} holds another content.",
            why=f"There: {theirs}. Here: {self.digest}.",
            fix="Push to another prefix, or replace what lies there: --replace",
        )

    @property
    def is_done(self) -> bool:
        """Whether the store holds exactly this."""
        holds = self.manifest is not None and self.manifest.digest == self.digest
        return holds and not self.missing and not self.stale

    def do(self, check: Callable[[], None]) -> None:
        """Send, and write the manifest last; `check` raises when another push took over."""
        waiting = {f"{WAITING}{file.sha256}": file for file in self.missing}
        if not self._replaces:
            # What a push that was cut has sent already; the rest goes straight to its place.
            known = self.beside.list() if self.missing else {}
            waiting = {name: file for name, file in waiting.items() if name in known}
        straight = {
            file.path: file for file in self.missing if f"{WAITING}{file.sha256}" not in waiting
        }
        self._send_aside(waiting)
        check()
        self._put_in_place(waiting, straight)
        check()
        self.there = self.manifest = None
        put_manifest(self.store, self.tree.files)
        self.store.forget()

    @property
    def _replaces(self) -> bool:
        return self.manifest is not None and self.manifest.digest != self.digest

    def _send_aside(self, waiting: dict[str, StoredFile]) -> None:
        """Bring files beside the place and read them back: until then the old content is whole.

        Raises:
            RepositoryError: one is not what was sent; the old content was left as it is.
        """
        known = self.beside.list() if waiting else {}
        todo = {name: file for name, file in waiting.items() if name not in known}
        self._send(self.beside, todo)
        calls = (partial(_is_stored, self.beside, name, waiting[name]) for name in waiting)
        wrong = [name for name, holds in in_parallel(calls) if not holds]
        if wrong:
            self.beside.delete(wrong)
            raise RepositoryError(
                f"{waiting[wrong[0]].path} came to {self.beside.uri} with other bytes than were "
                "sent.",
                why=f"{len(wrong)} files; {self.store.uri} was left as it is.",
                fix="Push again; if it stays, look at the store's disk.",
            )

    def _put_in_place(
        self, waiting: dict[str, StoredFile], straight: dict[str, StoredFile]
    ) -> None:
        if MANIFEST in (self.there or {}):
            self.store.delete([MANIFEST])
        self._send(self.store, straight)
        names = [(f"{WAITING}{file.sha256}", file.path) for file in self.missing]
        promoted = (
            partial(self.store.promote, name, path) for name, path in names if name in waiting
        )
        for _ in in_parallel(promoted):
            pass
        if self.stale:
            self.store.delete(self.stale)

    def _send(self, store: Store, files: dict[str, StoredFile]) -> None:
        if files:
            self.progress = Progress(sum(file.size for file in files.values()), self.told)
            for _ in send_all(store, self.tree, files, self.progress):
                pass

    def result(self) -> Pushed:
        """What was done."""
        return Pushed(
            uri=self.store.uri,
            digest=self.digest,
            files=len(self.missing),
            bytes=sum(file.size for file in self.missing),
            skipped=len(self.tree.files) - len(self.missing),
            removed=len(self.stale),
        )


def stored_sha256(store: Store, path: str) -> str:
    """The digest of an object's bytes as they come back."""

    def read() -> str:
        digest = hashlib.sha256()
        for chunk in store.read(path):
            digest.update(chunk)
        return digest.hexdigest()

    return retried(read, store.patience)


def _is_stored(store: Store, name: str, file: StoredFile) -> tuple[str, bool]:
    return name, stored_sha256(store, name) == file.sha256


def read_manifest(uri: str, *, credentials: S3Access | None = None) -> tuple[StoredFile, ...]:
    """Every file of a stored repository, as the push that stored it wrote down.

    Raises:
        NotStoredError: nothing whole lies there.
        RepositoryError: the store refused. ServiceError: it does not answer.
    """
    store = open_store(uri, credentials)
    with store.explained("Reading"):
        manifest = find_manifest(store) if store.has_root() else None
    if manifest is None:
        raise NotStoredError(
            f"{store.uri} holds no whole repository.",
            why=f"Its {MANIFEST} is missing: nothing was pushed there, or a push was cut.",
            fix="Push it: page 02, or `runbook repo push DIR URI`.",
            page="02_model_repository",
        )
    return manifest.files
