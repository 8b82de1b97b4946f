"""Judge an executed notebook from its file alone: what ran, what ended well, what did not.

A code cell ended well when the kernel answered it (nbclient stamps
`metadata.execution["shell.execute_reply"]` with the reply and with nothing else) and it left no
error. Everything else that papermill writes down, its `exception` and `status` too, says
"completed" after a killed kernel, a timeout and Ctrl-C, and is not read here. An error is red also
in a cell tagged `raises-exception`: a page that shall show an error catches it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

__all__ = ["SKIP_TAG", "CellOutcome", "Outcome", "Status", "is_to_run", "judge", "judge_file"]

Status = Literal["completed", "failed", "timed_out", "kernel_died", "interrupted", "not_run"]
SKIP_TAG: Final = "skip-execution"

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WORDS: Final[Mapping[Status, str]] = {
    "completed": "completed",
    "failed": "failed",
    "timed_out": "ran past its time limit",
    "kernel_died": "lost its kernel",
    "interrupted": "was interrupted",
    "not_run": "did not run",
}


@dataclass(frozen=True)
class CellOutcome:
    """How one code cell ended; `index` counts all cells of the notebook from 0."""

    index: int
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a page ended: the code cells that had to run, in their order."""

    status: Status
    cells: tuple[CellOutcome, ...] = ()
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether every cell that had to run ended well, and the page too."""
        return self.status == "completed"

    @property
    def failing(self) -> CellOutcome | None:
        """The first cell that did not end well."""
        return next((cell for cell in self.cells if cell.status != "completed"), None)

    def text(self) -> str:
        """The failing cell and why, in a line or two."""
        if self.ok:
            return f"all {len(self.cells)} cells completed"
        cell = self.failing
        place = "the page" if cell is None or cell.status == "not_run" else f"cell {cell.index}"
        reason = self.reason or (cell.reason if cell else "")
        return f"{place} {_WORDS[self.status]}{': ' if reason else ''}{reason}"


def is_to_run(cell: Mapping[str, Any]) -> bool:
    """Whether a cell has code that a run must execute."""
    source = cell.get("source", "")
    text = source if isinstance(source, str) else "".join(source)
    tags = cell.get("metadata", {}).get("tags", [])
    return cell.get("cell_type") == "code" and bool(text.strip()) and SKIP_TAG not in tags


def judge_file(path: Path) -> Outcome:
    """How the notebook in a file ended; a file that is no notebook, or a part of one, is red."""
    try:
        return judge(json.loads(path.read_bytes()))
    except OSError as error:
        return Outcome("failed", reason=f"{path.name} can't be read: {error.strerror}")
    except (ValueError, AttributeError, TypeError):
        return Outcome("failed", reason=f"{path.name} is not a whole notebook")


def judge(notebook: Mapping[str, Any]) -> Outcome:
    """How an executed notebook ended, whoever ran it.

    What the engine wrote into `metadata.runbook` can make a page red, never green.
    A page without a single cell that had to run is completed.

    Raises:
        AttributeError, TypeError: it does not have a notebook's form.
    """
    if not isinstance(notebook.get("cells"), list):
        return Outcome("failed", reason="it has no cells: not a notebook of format 4")
    listed = enumerate(notebook["cells"])
    cells = tuple(_judge_cell(index, cell) for index, cell in listed if is_to_run(cell))
    status, reason = _written(notebook)
    red = [cell for cell in cells if cell.status != "completed"]
    if red:
        worst = next((cell for cell in red if cell.status != "not_run"), red[0])
        if status in {"completed", "not_run"}:
            status, reason = worst.status, worst.reason
        return Outcome(status, cells, reason or worst.reason)
    return Outcome(status, cells, reason)


def _judge_cell(index: int, cell: Mapping[str, Any]) -> CellOutcome:
    status, reason = _written(cell)
    error = next(
        (one for one in cell.get("outputs", []) if one.get("output_type") == "error"), None
    )
    execution = cell.get("metadata", {}).get("execution", {})
    if status != "completed":
        return CellOutcome(index, status, reason or _told(error))
    if error is not None:
        return CellOutcome(index, "failed", _told(error))
    if "shell.execute_reply" in execution:
        return CellOutcome(index, "completed")
    begun = "iopub.execute_input" in execution or cell.get("execution_count") is not None
    if begun:
        return CellOutcome(index, "interrupted", "it began, and the kernel never answered")
    return CellOutcome(index, "not_run")


def _written(node: Mapping[str, Any]) -> tuple[Status, str]:
    """The status that the engine wrote, `completed` where it wrote none."""
    known = node.get("metadata", {}).get("runbook", {})
    known = known if isinstance(known, Mapping) else {}
    status = known.get("status", "completed")
    reason = str(known.get("reason", ""))
    return (
        (status, reason) if status in get_args(Status) else ("failed", f"unknown status {status!r}")
    )


def _told(error: Mapping[str, Any] | None) -> str:
    """An error output in one line of at most 1500 characters."""
    if error is None:
        return ""
    text = f"{error.get('ename', '')}: {error.get('evalue', '')}".strip(": ")
    return _ANSI.sub("", " ".join(text.split()))[:1500]
