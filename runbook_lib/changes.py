"""What a page looks at, and what it would change, before anything does. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Change", "Check"]


@dataclass(frozen=True)
class Check:
    """One read-only look before a page starts."""

    name: str
    verdict: Literal["PASS", "WARN", "FAIL"]
    found: str
    hint: str = ""


@dataclass(frozen=True)
class Change:
    """One thing that would change: a verb, what it happens to, and by what."""

    verb: str
    what: str
    detail: str = ""
