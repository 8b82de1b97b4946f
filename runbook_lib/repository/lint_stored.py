"""Judges a repository where it is stored: its listing is read, and of its files only small texts.

Every other file is stood for by an empty one of its size, so that weights and engines stay where
they are.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.findings import LintFinding, LintResult
from runbook_lib.repository.lint import lint
from runbook_lib.repository.manifest import OURS
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.stores import Entry, Store, open_store

__all__ = ["is_stored", "lint_stored"]

TEXTS = {".pbtxt", ".py", ".txt", ".json", ".jinja", ".yaml", ".yml"}
LARGEST = 16 * 2**20  # bytes of a text that is read: a large tokenizer.json has 10 MB
READERS = 16


def is_stored(location: str) -> bool:
    """Whether a location is a URI of a store, no path of this machine."""
    return "://" in location and not location.startswith("file://")


def lint_stored(
    uri: str, *, backends: str = "cpu", credentials: S3Access | None = None
) -> LintResult:
    """As `lint`, of a repository in a store.

    Raises:
        RepositoryError, PreflightError, ServiceError: the store can't be read; the words are its own.
        UsageError: `backends` names nothing.
    """
    store = open_store(uri, credentials)
    with store.explained("Reading from"):
        entries = {path: one for path, one in store.list().items() if path not in OURS}
    with tempfile.TemporaryDirectory(prefix="runbook-lint-") as folder:
        root = Path(folder) / "models"
        root.mkdir()
        _lay_out(store, entries, root)
        result = lint(root, backends=backends)
    here = str(root)
    found = [
        replace(one, message=one.message.replace(here, uri), fix=one.fix.replace(here, uri))
        for one in result.findings
    ]
    return LintResult(uri, (*found, *_of_the_uri(uri)))


def _lay_out(store: Store, entries: dict[str, Entry], root: Path) -> None:
    """Texts with their content, the rest as holes of their size."""
    texts = []
    for path, entry in entries.items():
        target = _inside(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.size <= LARGEST and PurePosixPath(path).suffix in TEXTS:
            texts.append(path)
        else:
            target.touch()
            os.truncate(target, entry.size)

    def read(path: str) -> None:
        _inside(root, path).write_bytes(b"".join(store.read(path)))

    with store.explained("Reading from"), ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, texts))


def _inside(root: Path, path: str) -> Path:
    """The place of an object's name; names that lead out of the folder are refused."""
    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/") or not parts:
        raise RepositoryError(
            f"The store holds an object called {path!r}.",
            why="A name with .. or a leading slash leads out of the repository.",
            fix="Remove it from the store.",
        )
    return root.joinpath(*parts)


def _of_the_uri(uri: str) -> list[LintFinding]:
    if uri.endswith("/"):
        return []
    return [
        LintFinding(
            "",
            "trailing_slash",
            "warning",
            "The URI does not end with /: KServe's downloader then takes everything whose name begins "
            "like it, neighbours included.",
            f"Write {uri}/",
        )
    ]
