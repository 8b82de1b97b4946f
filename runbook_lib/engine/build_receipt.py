"""The receipt that a build leaves beside its engine: what it was made from, where, and what it took."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import StoredFile
from runbook_lib.engine.identity_config import read_json
from runbook_lib.files import content_digest

__all__ = ["RECEIPT", "built_on", "read_receipt"]

RECEIPT = "receipt.json"
SM = re.compile(r"sm\d{1,4}", re.ASCII)


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """What the receipt says; None where there is none that can be read."""
    try:
        found = read_json(folder / RECEIPT)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def built_on(receipt: dict[str, Any] | None, files: Iterable[StoredFile]) -> dict[str, str] | None:
    """Where these very files were built; None where no receipt holds for them.

    Args:
        receipt: what lies beside them.
        files: the engine's own, without the receipt.
    """
    if receipt is None or receipt.get("digest") != content_digest(files):
        return None
    found = receipt.get("built_on")
    told = found if isinstance(found, dict) else {}
    plain = {
        name: value
        for name, value in told.items()
        if isinstance(value, str) and f"{name}{value}".isprintable()
    }
    if not SM.fullmatch(plain.get("sm", "sm0")):
        del plain["sm"]
    return plain
