"""The papermill engine `runbook`: `papermill --engine runbook in.ipynb out.ipynb`, any notebook.

Papermill loads this module while it is itself being imported, so nothing of papermill is imported
before a notebook is run, and the class has papermill's engine methods without inheriting them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from runbook_lib.errors import RunbookError
from runbook_lib.record.interruption import Interrupted, interruptible

__all__ = ["CELL_TIMEOUT", "RunbookEngine"]

CELL_TIMEOUT: Final = 600.0


class RunbookEngine:
    """Runs a notebook and tells the truth about it: green only when every cell ended well."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        *,
        record: Path | None = None,
        input_path: Any = None,
        kernel_cwd: Path | None = None,
        cell_timeout: float | None = None,
        execution_timeout: float | None = None,
        total_timeout: float | None = None,
        start_timeout: float = 60,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        stdout_file: Any = None,
        stderr_file: Any = None,
        on_event: Callable[[Any], None] | None = None,
        **_: Any,
    ) -> Any:
        """Run a prepared notebook, saving it after each cell.

        An error ends the page and makes it red, in a cell tagged `raises-exception` too, and
        whatever `allow_errors` says: a page that shall show an error catches it.

        Args:
            nb: the notebook, parameters injected.
            kernel_name: the kernel to start.
            output_path: where papermill saves the notebook; None when it does so itself at the end.
            record: where to save it instead; papermill then never writes over it.
            input_path: where the notebook came from; only its name is kept.
            kernel_cwd: the kernel's working directory, else this process's own.
            cell_timeout: seconds a cell may take unless its metadata says
                `{"runbook": {"timeout": seconds}}`; else papermill's `--execution-timeout`, else 600.
            execution_timeout: papermill's name for it.
            total_timeout: seconds that all cells together may take.
            start_timeout: seconds until the kernel must be ready.
            progress_bar: papermill's bar on stderr.
            log_output: whether cell outputs also go to papermill's log.
            autosave_cell_every: seconds between saves while a cell runs; 0 for never.
            stdout_file: where papermill copies what cells print.
            stderr_file: likewise for standard error.
            on_event: told an `Event` when a cell begins and when it ends.

        Raises:
            PapermillExecutionError: a cell failed, timed out or lost its kernel.
            Interrupted: Ctrl-C or SIGTERM; the notebook is saved and the kernel is gone.
            RecordError: the notebook can't be saved; what was saved before is whole.
        """
        from runbook_lib.record.client import RunbookClient
        from runbook_lib.record.keeper import Keeper

        keeper = Keeper(
            nb,
            output_path,
            record=record,
            input_path=input_path,
            on_event=on_event,
            log_output=log_output,
            progress_bar=progress_bar,
            autosave_cell_every=autosave_cell_every,
        )
        keeper.notebook_start()
        client = RunbookClient(
            keeper,
            cell_timeout=cell_timeout or execution_timeout or CELL_TIMEOUT,
            total_timeout=total_timeout,
            startup_timeout=int(start_timeout),
            kernel_name=kernel_name,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        )
        with interruptible():
            _run(client, keeper, {} if kernel_cwd is None else {"cwd": str(kernel_cwd)})
        return keeper.result()

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """The kernel's name: the one asked for, else the notebook's own."""
        from papermill.utils import nb_kernel_name

        return str(nb_kernel_name(nb, name))

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """The language: the one asked for, else the notebook's own."""
        from papermill.utils import nb_language

        return str(nb_language(nb, language))


def _run(client: Any, keeper: Any, start: dict[str, str]) -> None:
    try:
        client.execute(**start)
    except Interrupted as error:
        keeper.page_ended("interrupted", str(error))
        with suppress(RunbookError):
            keeper.notebook_complete()
        raise
    except RunbookError:
        keeper.cleanup_pbar()
        raise
    except Exception as error:
        keeper.page_ended(*client.verdict(error))
    keeper.notebook_complete()
