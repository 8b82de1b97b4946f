"""The traffic that a profile is planned for: lengths from a file, or what a load profile sends."""

from __future__ import annotations

from pathlib import Path

from runbook_lib.errors import PlanError
from runbook_lib.plan.shapes import Request, Traffic
from runbook_lib.plan.traffic import read_traffic
from runbook_lib.profile import DeploymentProfile, LoadProfile, load_profile

__all__ = ["planned_traffic"]

LARGEST = 256 * 2**20


def planned_traffic(profile: DeploymentProfile, named: str = "") -> Traffic | None:
    """The traffic that is named, else that of the profile's load; None without either.

    Args:
        profile: whose load, and whose longest prompt where a load doesn't say how long its are.
        named: a file of lengths, or a load profile.

    Raises:
        PlanError: the file can't be read, or isn't one of lengths.
        ProfileError: there is no such load profile.
    """
    path = Path(named)
    if named and path.is_file() and path.suffix not in {".yaml", ".yml"}:
        return read_traffic(_text(path), path.name)
    if named and path.suffix.lower() in {".csv", ".jsonl", ".json"}:
        raise PlanError(f"There is no file {named}.", fix="Name a file of lengths, or a load.")
    load = named or profile.load
    if not load:
        return None
    return _of_load(load_profile(load, kind=LoadProfile).value, profile)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise PlanError(
                f"{path} is larger than {LARGEST // 2**20} MiB.",
                fix="Give a sample of the requests: some ten thousand are enough.",
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"{path} can't be read.",
            why=str(error),
            fix="Give CSV with a header, or JSON lines, as UTF-8 text that you may read.",
        ) from None


def _of_load(load: LoadProfile, profile: DeploymentProfile) -> Traffic:
    """A load states what it asks for, and not how many tokens its prompts have."""
    note = f"{load.profile} states no prompt lengths: each is counted at max_input_len."
    request = Request(profile.max_input_len, load.max_tokens)
    return Traffic(load.profile, (request,) * load.requests, load.concurrency, (note,))
