"""Executes a notebook's cells: judged one by one, with time limits, no widgets, capped outputs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import nbformat
from jupyter_core.utils import ensure_async, ensure_event_loop
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient

from runbook_lib.record.interruption import Interrupted
from runbook_lib.record.keeper import Keeper
from runbook_lib.record.outcome import Status, is_to_run

__all__ = ["RunbookClient"]

GRACE: Final = 2.0  # seconds an interrupted kernel gets to say where it was
STREAM_LIMIT: Final = 256 * 1024  # characters of printed text a cell may keep
OUTPUT_LIMIT: Final = 4 * 1024 * 1024  # characters of one displayed output
WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"
_LONGEST_SOCKET: Final = 90  # characters; a Unix socket's path ends at 108 bytes


class RunbookClient(PapermillNotebookClient):  # type: ignore[misc]
    """Papermill's client with its own idea of when a cell has ended well."""

    def __init__(
        self, keeper: Keeper, *, cell_timeout: float, total_timeout: float | None, **known: Any
    ) -> None:
        super().__init__(
            keeper, timeout_func=self._limit, force_raise_errors=True, iopub_timeout=60, **known
        )
        self.keeper = keeper
        self.cell_timeout = cell_timeout
        self.total_timeout = total_timeout
        self.deadline = time.monotonic() + total_timeout if total_timeout else float("inf")
        self.message_id: str | None = None
        self.kept = self.dropped = 0

    def execute(self, **kwargs: Any) -> Any:
        """Start the kernel, run the cells up to the first that does not end well, stop the kernel."""
        environment = os.environ | {"RUNBOOK_HEADLESS": "1"}
        with _socket_folder() as folder:
            self.sockets = folder
            with self._kernel(env=environment, **kwargs):
                self.papermill_execute_cells()
        return self.nb

    def papermill_execute_cells(self) -> None:
        """Run the cells in order; the first that is not green ends the page."""
        for index, cell in enumerate(self.nb.cells):
            if is_to_run(cell) and time.monotonic() >= self.deadline:
                self.keeper.page_ended("timed_out", self._total_text())
                return
            self.keeper.cell_start(cell, index)
            status, reason = self._one(cell, index)
            self.keeper.cell_ended(index, status, reason)
            if status != "completed":
                self.keeper.page_ended(status, reason)
                return
        info = self.wait_for_reply(self.kc.kernel_info())
        self.nb.metadata["language_info"] = info["content"]["language_info"]
        self.keeper.page_ended("completed")

    def _one(self, cell: Any, index: int) -> tuple[Status, str]:
        self.message_id, self.kept, self.dropped = None, 0, 0
        try:
            self.execute_cell(cell, index)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            status, reason = self.verdict(error)
            if status == "timed_out":
                self._interrupt(cell, index)
            self._note_dropped(cell)
            return status, reason
        except Interrupted as error:
            self._interrupt(cell, index)
            self._note_dropped(cell)
            self.keeper.cell_ended(index, "interrupted", str(error))
            raise
        self._note_dropped(cell)
        if not is_to_run(cell):
            return "completed", ""
        if "shell.execute_reply" not in cell.metadata.get("execution", {}):
            return "kernel_died", "the kernel never answered"
        failed = any(output.output_type == "error" for output in cell.outputs)
        return ("failed", "") if failed else ("completed", "")

    def verdict(self, error: Exception) -> tuple[Status, str]:
        """What an exception of nbclient's says about the cell, or about the page."""
        if isinstance(error, CellExecutionError):
            return "failed", f"{error.ename}: {error.evalue}"[:300]
        if isinstance(error, CellTimeoutError):
            over = time.monotonic() >= self.deadline
            return (
                "timed_out",
                self._total_text() if over else "the limit for this cell was reached",
            )
        if isinstance(error, DeadKernelError):
            return "kernel_died", self._exit_text()
        return "failed", f"{type(error).__name__}: {error}"[:300]

    def _limit(self, cell: Any) -> float:
        """Seconds a cell may take: its own limit or the default, never past the page's."""
        own = cell.metadata.get("runbook", {}).get("timeout", self.cell_timeout)
        return max(min(float(own), self.deadline - time.monotonic()), 0.01)

    def _total_text(self) -> str:
        return f"the limit of {self.total_timeout:g} s for all cells together was reached"

    def _exit_text(self) -> str:
        """How the kernel's process ended, as far as the system tells."""
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        if code is None:
            return "the kernel did not answer any more"
        if code >= 0:
            return f"the kernel's process ended itself with exit code {code}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"the kernel's process was ended by {signal.Signals(-code).name}{hint}"

    # --- the kernel's life -------------------------------------------------------------------

    @contextmanager
    def _kernel(self, **kwargs: Any) -> Iterator[None]:
        """A kernel that is gone afterwards, with everything it started in its process group."""
        self.reset_execution_trackers()
        group: int | None = None
        with self.setup_kernel(**kwargs):
            group = self.km.provisioner.pgid
            try:
                yield
            finally:
                if self.nb.metadata.runbook.status not in {"completed", "failed"}:
                    self.shutdown_kernel = "immediate"
                    _kill(group)

    def create_kernel_manager(self) -> Any:
        """A kernel manager over Unix sockets in a private folder: nobody else can connect."""
        manager = super().create_kernel_manager()
        if self.sockets is not None:
            manager.transport = "ipc"
            manager.ip = str(self.sockets / "kernel")
        return manager

    def _interrupt(self, cell: Any, index: int) -> None:
        """Interrupt the kernel, and keep what it still says within two seconds: where it was."""
        loop = ensure_event_loop()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        if self.message_id is None:
            return
        with suppress(TimeoutError, DeadKernelError, RuntimeError):
            loop.run_until_complete(self._last_words(self.message_id, cell, index))

    async def _last_words(self, message_id: str, cell: Any, index: int) -> None:
        await ensure_async(self.km.interrupt_kernel())
        await asyncio.wait_for(self._async_poll_output_msg(message_id, cell, index), GRACE)

    # --- what a cell puts out ----------------------------------------------------------------

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Remember which request is being answered."""
        self.message_id = msg["parent_header"].get("msg_id")
        return super().process_message(msg, cell, cell_index)

    def handle_comm_msg(self, outs: Any, msg: Any, cell_index: int) -> None:
        """Answer no widget: nbclient's imitation of one makes cells hang (nbclient issue 312)."""

    def output(self, outs: Any, msg: Any, display_id: str | None, cell_index: int) -> Any:
        """Add an output: printed text joined to what stands before it, size within the limits."""
        out = super().output(outs, msg, display_id, cell_index)
        if out is None:
            return None
        if out.output_type == "stream":
            self._join(outs, out)
        else:
            _trim(out)
        return out

    def _update_display_id(self, display_id: str, msg: Any) -> None:
        super()._update_display_id(display_id, msg)
        for cell, places in self._display_id_map.get(display_id, {}).items():
            for place in places:
                _trim(self.nb.cells[cell].outputs[place])

    def _join(self, outs: Any, out: Any) -> None:
        """Keep a piece of printed text up to the cell's limit, in one output with its neighbour.

        A secret that was printed in two pieces is whole again, and so is masked.
        """
        kept = out.text[: max(STREAM_LIMIT - self.kept, 0)]
        self.kept += len(kept)
        self.dropped += len(out.text) - len(kept)
        before = outs[-2] if len(outs) > 1 else None
        if not kept:
            outs.pop()
        elif before is not None and before.output_type == "stream" and before.name == out.name:
            outs.pop()
            before.text = _overwritten(before.text + kept)
        else:
            outs[-1] = nbformat.v4.new_output("stream", name=out.name, text=_overwritten(kept))

    def _note_dropped(self, cell: Any) -> None:
        if self.dropped:
            text = f"[{self.dropped:,} more characters were printed and are not kept]\n"
            cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=text))


def _overwritten(text: str) -> str:
    """Text as a terminal leaves it: a lone carriage return starts its line again."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(_last_of(line) for line in lines)


def _last_of(line: str) -> str:
    """The last thing written on a line, with the return that lets the next piece replace it."""
    head, _, end = line.rpartition("\r")
    return line if not head else (end or head.rpartition("\r")[2] + "\r")


def _trim(out: Any) -> None:
    """Drop a widget's view, which shows nothing in a record, and what is far too large."""
    data = out.get("data")
    if not data:
        return
    data.pop(WIDGET_VIEW, None)
    for kind, value in list(data.items()):
        size = len(value) if isinstance(value, str) else len(nbformat.json.dumps(value))
        if size > OUTPUT_LIMIT:
            del data[kind]
            data["text/plain"] = f"[an output of {size:,} characters ({kind}) is not kept]"


def _kill(group: int | None) -> None:
    if group is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


@contextmanager
def _socket_folder() -> Iterator[Path | None]:
    """A private folder for the kernel's sockets; None where its path would be too long for one."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-"))
    try:
        yield folder if len(str(folder)) < _LONGEST_SOCKET else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
