"""The manifest at a stored folder's root: every file with its digest, written when all are there.

Triton takes no notice of a loose file beside the models. While a push is under way a second one,
the lock, lies beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from runbook_lib.artifacts import StoredFile, canonical_json
from runbook_lib.errors import RepositoryError
from runbook_lib.files import content_digest
from runbook_lib.repository.bodies import Given
from runbook_lib.repository.store_retry import retried
from runbook_lib.repository.stores import Entry, Store

__all__ = ["LOCK", "MANIFEST", "OURS", "Manifest", "find_manifest", "put_manifest"]

MANIFEST = ".runbook-manifest.json"
LOCK = ".runbook-push.json"
OURS = {MANIFEST, LOCK}


class Manifest:
    """What a push wrote down.

    Attributes:
        digest: over names and contents.
        rows: size, tag at the store when it was pushed, and digest of each file, by its path.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        self.digest = str(value["digest"])
        self.rows: dict[str, tuple[int, str, str]] = dict(value["files"])

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file, in the order of the manifest."""
        return tuple(
            StoredFile(path=path, sha256=sha256, size=size)
            for path, (size, _, sha256) in self.rows.items()
        )

    def sha256_in(self, path: str, entry: Entry) -> str:
        """The digest of an object that nobody wrote since; else empty."""
        size, tag, sha256 = self.rows.get(path, (-1, "", ""))
        return sha256 if (size, tag) == entry else ""


def find_manifest(store: Store) -> Manifest | None:
    """The manifest of a location; None where there is none, or it is none of ours."""
    try:
        body = retried(lambda: b"".join(store.read(MANIFEST)), store.patience)
        return Manifest(json.loads(body, object_hook=_row))
    except (KeyError, TypeError, ValueError):
        return None


def _row(one: dict[str, Any]) -> Any:
    """A file's row in its short form, while it is read: of many they would take much memory."""
    if "path" not in one:
        return one
    return str(one["path"]), (int(one["size"]), str(one.get("etag", "")), str(one["sha256"]))


def put_manifest(store: Store, files: Iterable[StoredFile]) -> None:
    """Write the manifest: from here on the content counts as whole.

    Raises:
        RepositoryError: a file is not there, or not of its size: something else wrote there.
    """
    files, there = tuple(files), store.list()
    for file in files:
        if file.path not in there or there[file.path].size != file.size:
            raise RepositoryError(
                f"{store.uri}{file.path} is not what was stored there a moment ago.",
                why="Something else writes below this URI.",
                fix="End it, then push again.",
            )
    store.put(MANIFEST, Given(_written(files, there)))


def _written(files: tuple[StoredFile, ...], there: dict[str, Entry]) -> bytes:
    """The manifest's text, row by row: of many files there is never a second copy in memory."""
    head = canonical_json({"digest": content_digest(files), "files": [], "version": 1})
    before, after = head.split(b"[]")
    rows = b",".join(
        canonical_json(file.model_dump() | {"etag": there[file.path].tag}) for file in files
    )
    return b"[".join((before, rows)) + b"]" + after
