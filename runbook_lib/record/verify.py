"""Check a record offline: every file against its digest, every page by its own cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.record.digests import verify_folder
from runbook_lib.record.outcome import judge_file
from runbook_lib.record.run import Run

__all__ = ["Verification", "verify_record"]


@dataclass(frozen=True)
class Verification:
    """What was found wrong; `ok` is about the bytes, `status` about how the run ended."""

    record: str
    problems: tuple[str, ...]
    status: str

    @property
    def ok(self) -> bool:
        """Whether the record is untouched and tells the truth about its pages."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "ok": self.ok,
            "record": self.record,
            "status": self.status,
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        head = f"{self.record}: {'untouched' if self.ok else 'NOT as it was written'}; the run {self.status}; unsigned"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


def verify_record(folder: Path) -> Verification:
    """Compare a record with the digests written at its end, and its status with its notebooks.

    Raises:
        RecordError: the folder is not a run's, or has no digests (the run did not reach its end).
    """
    run = Run.open(folder)
    problems = [str(one) for one in verify_folder(run.folder)]
    about = run.about()
    problems += _untrue(run, about.get("pages", {}))
    return Verification(run.id, tuple(problems), str(about.get("status")))


def _untrue(run: Run, pages: Any) -> list[str]:
    """Each page that is told as green while its notebook is not."""
    if not isinstance(pages, dict) or not all(isinstance(told, dict) for told in pages.values()):
        return ["run.json tells nothing readable about its pages"]
    told = {page: known.get("status") for page, known in pages.items()}
    return [
        f"{page} is told as {status}, its notebook is not green: {outcome.text()}"
        for page, status in told.items()
        if status in {"completed", "held"}
        and not (outcome := judge_file(run.folder / f"{page}.ipynb")).ok
    ]
