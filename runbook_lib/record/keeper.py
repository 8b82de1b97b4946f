"""Keeps a running notebook on disk: each cell's own status, masked, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import nbformat
from papermill.engines import NotebookExecutionManager
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io, write_ipynb

from runbook_lib.errors import RecordError
from runbook_lib.files import write_whole
from runbook_lib.record.masking import masked, secret_values
from runbook_lib.record.outcome import Status, is_to_run, judge

__all__ = ["Event", "Keeper"]


@dataclass(frozen=True)
class Event:
    """A cell began or ended: `index` of `total` code cells have ended so far."""

    index: int
    total: int
    description: str
    status: str


class Keeper(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's manager, with statuses that are never guessed.

    Until a run reaches its end the file says that it was cut off: that is what is left of it when
    this process is killed.
    """

    def __init__(
        self,
        nb: Any,
        output_path: str | None,
        *,
        record: Path | None = None,
        input_path: Any = None,
        on_event: Callable[[Event], None] | None = None,
        **known: Any,
    ) -> None:
        super().__init__(nb, output_path=output_path, **known)
        self.input_path = input_path
        self.destination = record or _local(output_path)
        self.on_event = on_event
        self.secrets = secret_values(os.environ)
        self.ended = 0
        self.total = sum(is_to_run(cell) for cell in nb.cells)

    def notebook_start(self, **_: Any) -> None:
        """Forget every earlier run of this notebook, and save it."""
        self.set_timer()
        self.nb.metadata.pop("widgets", None)
        facts = self.nb.metadata.setdefault("papermill", nbformat.from_dict({}))
        place = self.destination or self.output_path
        facts.update(
            start_time=self.start_time.isoformat(), end_time=None, duration=None, exception=None
        )
        facts.update(input_path=_name(self.input_path), output_path=_name(place))
        for cell in self.nb.cells:
            _forget(cell)
        self.page_ended("interrupted", "the process that ran it ended before the page did")
        self.save()

    def cell_start(self, cell: Any, cell_index: int | None = None, **_: Any) -> None:
        """Say that a cell is at work, in the file as well."""
        facts = cell.metadata.papermill
        facts.update(start_time=self.now().isoformat(), status=self.RUNNING, exception=False)
        if is_to_run(cell):
            _stamp(cell, "interrupted", "the process that ran it ended before the cell did")
            self.save()
            self.tell(cell_index or 0, self.RUNNING)

    def cell_ended(self, index: int, status: Status, reason: str = "") -> None:
        """Say how a cell ended, and save the notebook."""
        cell = self.nb.cells[index]
        ended, facts = self.now(), cell.metadata.papermill
        red = status != "completed"
        facts.update(end_time=ended.isoformat(), exception=red)
        facts.update(status=self.FAILED if red else self.COMPLETED)
        if facts.get("start_time"):
            facts.duration = (ended - type(ended).fromisoformat(facts.start_time)).total_seconds()
        if self.pbar:
            self.pbar.update(1)
        if is_to_run(cell):
            _stamp(cell, status, reason)
            self.ended += 1
            self.save()
            self.tell(index, status)

    def page_ended(self, status: Status, reason: str = "") -> None:
        """Say how the page ended; saved with the next save."""
        _stamp(self.nb, status, reason)

    def notebook_complete(self, **_: Any) -> None:
        """Write the end: green when the file alone proves it, else red with the first cause."""
        ended = self.now()
        outcome = judge(self.nb)
        self.page_ended(outcome.status, outcome.reason)
        facts = self.nb.metadata.papermill
        facts.update(end_time=ended.isoformat(), exception=not outcome.ok)
        facts.duration = (ended - self.start_time).total_seconds()
        self.cleanup_pbar()
        self.save()

    def result(self) -> Any:
        """The notebook for papermill, masked.

        Raises:
            PapermillExecutionError: the page is red and saved.
        """
        outcome = judge(self.nb)
        kept = self.masked()
        if outcome.ok:
            return kept
        saved = self.destination is not None or self.output_path
        if saved or not _papermill_sees(kept):
            raise _red(kept)
        return kept  # papermill writes it, and raises

    def masked(self) -> Any:
        """The notebook as it may be kept."""
        return nbformat.from_dict(masked(self.nb, self.secrets)) if self.secrets else self.nb

    def save(self, **_: Any) -> None:
        """Write the notebook, masked, in one step.

        Raises:
            RecordError: it can't be written; what was there before is whole.
        """
        self.last_save_time = self.now()
        kept = self.masked()
        if self.destination is None:
            if self.output_path:
                write_ipynb(kept, self.output_path)
            return
        try:
            write_whole(self.destination, nbformat.writes(kept) + "\n")
        except OSError as error:
            raise RecordError(
                f"The notebook {self.destination.name} can't be saved.",
                why=f"{error.strerror} in {self.destination.parent}. What was saved before is whole.",
                fix="Free some space or mend the folder's permissions, then run it again.",
            ) from None

    def tell(self, index: int, status: str) -> None:
        """Pass an event on."""
        if self.on_event is not None:
            text = self.get_cell_description(self.nb.cells[index]) or self.heading(index)
            self.on_event(Event(self.ended, self.total, text, status))

    def heading(self, index: int) -> str:
        """The last Markdown heading above a cell, empty when there is none."""
        lines = [
            line
            for cell in self.nb.cells[:index]
            if cell.cell_type == "markdown"
            for line in cell.source.splitlines()
            if line.startswith("#")
        ]
        return lines[-1].lstrip("# ").strip() if lines else ""


def _forget(cell: Any) -> None:
    """Drop what an earlier run left in a cell: its reply stamp would pass for this run's."""
    cell.metadata.papermill = nbformat.from_dict(
        {
            "exception": None,
            "start_time": None,
            "end_time": None,
            "duration": None,
            "status": "pending",
        }
    )
    if cell.cell_type != "code":
        return
    cell.metadata.pop("execution", None)
    cell.execution_count = None
    cell.outputs = []
    if is_to_run(cell):
        _stamp(cell, "not_run", "")


def _stamp(node: Any, status: Status, reason: str) -> None:
    known = node.metadata.setdefault("runbook", nbformat.from_dict({}))
    known.status = status
    known.pop("reason", None)
    if reason:
        known.reason = reason


def _name(path: Any) -> str | None:
    """A path's last part: a record names no folder of the machine it was made on."""
    return PurePath(str(path)).name if isinstance(path, str | PurePath) else None


def _local(path: str | None) -> Path | None:
    """Where papermill's own path lies on this machine, None for a remote one or none."""
    if path is None:
        return None
    handler = papermill_io.get_handler(path)
    return Path(handler._cwd or Path.cwd(), path) if isinstance(handler, LocalHandler) else None  # noqa: SLF001


def _red(nb: Any) -> PapermillExecutionError:
    outcome = judge(nb)
    index = outcome.failing.index if outcome.failing else max(len(nb.cells) - 1, 0)
    cell = nb.cells[index]
    error = next((one for one in cell.get("outputs", []) if one.output_type == "error"), None)
    trace = list(error.traceback) if error is not None else []
    return PapermillExecutionError(
        cell_index=index,
        exec_count=cell.get("execution_count"),
        source=cell.source,
        ename=error.ename if error is not None else outcome.status,
        evalue=error.evalue if error is not None else outcome.text(),
        traceback=[*trace, outcome.text()],
    )


def _papermill_sees(nb: Any) -> bool:
    """Whether papermill itself will find this red page red, and so write it and raise.

    It forgives an error named SystemExit with value 0: such an error gets a value that it does not.
    """
    errors = [
        output
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    for error in errors:
        if error.evalue in {"", "0"}:
            error.evalue = f"{error.evalue} (a cell may not end the page)".strip()
    return bool(errors) or any(cell.metadata.papermill.exception for cell in nb.cells)
