"""Receipts of pages: what a page's result depended on, so that one that still holds is not run again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Engine, ModelRepository, Service, digest_of
from runbook_lib.errors import RunbookError
from runbook_lib.files import content_digest, list_files, write_whole
from runbook_lib.parameters import PAGES, Page
from runbook_lib.profile import load_profile
from runbook_lib.record.run import Run
from runbook_lib.serving.triton import is_ready

__all__ = ["page_key", "receipt_holds", "write_receipt"]


def page_key(source: Path, page: Page, values: dict[str, Any], run: Run) -> str:
    """What a page's result depends on: its text, its parameters, the profile, what came before."""
    before = [one.makes for one in PAGES[: PAGES.index(page)]]
    inputs = [_artifact_digest(run, made) for made in before]
    profile = load_profile(str(values["profile"]), env=os.environ).digest
    asked = {name: value for name, value in values.items() if name not in {"run", "approve"}}
    return digest_of([hashlib.sha256(source.read_bytes()).hexdigest(), asked, profile, inputs])


def _artifact_digest(run: Run, name: str) -> str:
    """Of what it says, not of when it was made; empty where it isn't there."""
    path = run.artifacts / f"{name}.json"
    if not path.exists():
        return ""
    text = path.read_bytes()
    try:
        known = dict(json.loads(text))
    except (ValueError, TypeError):
        return hashlib.sha256(text).hexdigest()  # damaged, and so another one than before
    known.pop("created", None)
    return digest_of(known)


def receipt_holds(run: Run, page: Page, key: str) -> bool:
    """Whether a page ran before with these inputs, and what it made is still as it was."""
    path = run.folder / "receipts" / f"{page.name}.json"
    try:
        receipt = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    made = _artifact_digest(run, page.makes)
    if not made or receipt != {"key": key, "made": made}:
        return False
    look = STILL_THERE.get(page.name)
    try:
        return look is None or look(run)
    except RunbookError:
        return False  # the page itself says what is wrong with it


def _still_built(run: Run) -> bool:
    """An engine is only held where it lies as it was built: a cache may be cleared."""
    engine = Engine.read(run.artifacts)
    kept = list_files(Path(engine.path), leave_out=["receipt.json"])
    return content_digest(kept) == engine.engine_digest


def _still_stored(run: Run) -> bool:
    """A repository is only held when it still is laid out and stored."""
    from runbook_lib.lab.repositories import access_for, publish_changes

    repository = ModelRepository.read(run.artifacts)
    store = access_for(repository.uri)
    return Path(repository.path).is_dir() and not publish_changes(repository, store)


def _still_served(run: Run) -> bool:
    """A deployment is only held when its servers still answer."""
    return all(is_ready(replica.http) for replica in Service.read(run.artifacts).replicas)


STILL_THERE: dict[str, Callable[[Run], bool]] = {
    "01_build_engine": _still_built,
    "02_model_repository": _still_stored,
    "03_deploy": _still_served,
}
"""What a page made outside the record, which the record can't vouch for."""


def write_receipt(run: Run, page: Page, key: str) -> None:
    """Keep what a page that ended green depended on, and the digest of what it made."""
    receipt = {"key": key, "made": _artifact_digest(run, page.makes)}
    write_whole(run.folder / "receipts" / f"{page.name}.json", json.dumps(receipt))
