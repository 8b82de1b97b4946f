"""Run one notebook in this process and say how it ended, whatever happened to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.errors import RecordError, RunbookError
from runbook_lib.record.engine import CELL_TIMEOUT
from runbook_lib.record.interruption import Interrupted
from runbook_lib.record.outcome import Outcome, judge_file

if TYPE_CHECKING:
    from runbook_lib.record.keeper import Event

__all__ = ["run_notebook"]


def run_notebook(
    source: Path,
    dest: Path,
    *,
    parameters: Mapping[str, object],
    cwd: Path | None = None,
    cell_timeout: float = CELL_TIMEOUT,
    total_timeout: float = 3600.0,
    on_event: Callable[[Event], None] | None = None,
) -> Outcome:
    """Execute `source` with parameters and keep the result as `dest`, green or red.

    Args:
        source: the notebook to run; it is not changed.
        dest: the executed notebook, saved after each cell.
        parameters: values for its `parameters` cell.
        cwd: the kernel's working directory; this process stays where it is.
        cell_timeout: seconds a cell may take unless its metadata says otherwise.
        total_timeout: seconds that all its cells together may take.
        on_event: told when a cell begins and when it ends.

    Returns:
        How it ended, read from the file that was kept. A red page is an answer, not an exception,
        and so are Ctrl-C and SIGTERM.

    Raises:
        RecordError: the source can't be read, or the result can't be saved.
    """
    import papermill

    try:
        papermill.execute_notebook(
            _literal(source.absolute()),
            None,
            parameters=dict(parameters),
            engine_name="runbook",
            kernel_cwd=cwd,
            progress_bar=False,
            record=dest.absolute(),
            cell_timeout=cell_timeout,
            total_timeout=total_timeout,
            on_event=on_event,
        )
    except (papermill.PapermillExecutionError, Interrupted):
        pass
    except RunbookError:
        raise
    except Exception as error:
        raise RecordError(
            f"The notebook {source.name} can't be run.",
            why=f"{type(error).__name__}: {error}",
            fix="Check that it is a notebook, and that its kernel is installed (jupyter kernelspec list).",
        ) from error
    return judge_file(dest)


def _literal(path: Path) -> str:
    """A path as papermill must be given it: it fills {names} in paths with parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")
