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
        files: every file.
        tags: each one's tag at the store when it was pushed.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        fields = StoredFile.model_fields
        rows = value["files"]
        self.digest = str(value["digest"])
        self.files = tuple(StoredFile(**{name: one[name] for name in fields}) for one in rows)
        self.tags = {str(one["path"]): str(one.get("etag", "")) for one in rows}

    def sha256_in(self, path: str, entry: Entry) -> str:
        """The digest of an object that nobody wrote since; else empty."""
        return self._known.get((path, entry.size, entry.tag), "")

    @property
    def _known(self) -> dict[tuple[str, int, str], str]:
        if not hasattr(self, "_by_tag"):
            self._by_tag = {
                (one.path, one.size, self.tags[one.path]): one.sha256 for one in self.files
            }
        return self._by_tag


def find_manifest(store: Store) -> Manifest | None:
    """The manifest of a location; None where there is none, or it is none of ours."""
    try:
        body = retried(lambda: b"".join(store.read(MANIFEST)), store.patience)
        return Manifest(json.loads(body))
    except (KeyError, TypeError, ValueError):
        return None


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
    rows = [file.model_dump() | {"etag": there[file.path].tag} for file in files]
    body = canonical_json({"version": 1, "digest": content_digest(files), "files": rows})
    store.put(MANIFEST, Given(body))
