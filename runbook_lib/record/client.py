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
from contextvars import Context
from pathlib import Path
from typing import Any, Final

import nbformat
from jupyter_core.utils import ensure_async, ensure_event_loop, run_sync
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient

from runbook_lib.errors import RunbookError
from runbook_lib.record.interruption import Interrupted
from runbook_lib.record.keeper import Keeper
from runbook_lib.record.masking import masked
from runbook_lib.record.outcome import Status, is_to_run
from runbook_lib.record.outputs import (
    CELL_LIMIT,
    MOST_OUTPUTS,
    STREAM_LIMIT,
    overwritten,
    shorten,
    trim,
)

__all__ = ["RunbookClient"]

GRACE: Final = 2.0  # seconds an interrupted kernel gets to say where it was
IOPUB_GRACE: Final = 60  # seconds until the outputs of a cell that was answered must be here
REASON: Final = 1500  # characters of a reason: what, why and how to fix it
_LONGEST_SOCKET: Final = 90  # characters; a Unix socket's path ends at 108 bytes


class RunbookClient(PapermillNotebookClient):  # type: ignore[misc]
    """Papermill's client with its own idea of when a cell has ended well."""

    def __init__(
        self, keeper: Keeper, *, cell_timeout: float, total_timeout: float | None, **known: Any
    ) -> None:
        super().__init__(
            keeper,
            timeout_func=self._limit,
            force_raise_errors=True,
            iopub_timeout=IOPUB_GRACE,
            **known,
        )
        self.keeper = keeper
        self.cell_timeout = cell_timeout
        self.total_timeout = total_timeout
        self.deadline = time.monotonic() + total_timeout if total_timeout else float("inf")
        self.unlogged: dict[str, str] = {}  # the begun last line of what a cell prints, by stream
        self._new_cell()

    def _new_cell(self) -> None:
        self.message_id: str | None = None
        self.reply = ""  # the status that the kernel's reply carried
        self.shown = 0  # characters of displayed outputs that are kept
        self.unprinted = self.unshown = 0  # characters and outputs that are not

    def execute(self, **kwargs: Any) -> Any:
        """Start the kernel, run the cells up to the first that does not end well, stop the kernel.

        In an empty context, where jupyter_core finds no event loop and makes one for this run.
        """
        Context().run(self._execute, kwargs)
        return self.nb

    def _execute(self, kwargs: dict[str, Any]) -> None:
        environment = os.environ | {"RUNBOOK_HEADLESS": "1"}
        try:
            with _socket_folder() as folder:
                self.sockets = folder
                with self._kernel(env=environment, **kwargs):
                    self.papermill_execute_cells()
        finally:
            _close_loop()

    def papermill_execute_cells(self) -> None:
        """Run the cells in order; the first that is not green ends the page."""
        self._learn_language()
        for index, cell in enumerate(self.nb.cells):
            if is_to_run(cell) and time.monotonic() >= self.deadline:
                self.keeper.page_ended("timed_out", self._total_text())
                return
            self.keeper.cell_start(cell, index)
            status, reason = self._one(cell, index)
            self._log_rest()
            self.keeper.cell_ended(index, status, reason)
            if status != "completed":
                self.keeper.page_ended(status, reason)
                return
        self.keeper.page_ended("completed")

    async def _ask_language(self) -> None:
        """Ask before the first cell: after the last one a kernel need not be there any more."""
        message = await ensure_async(self.kc.kernel_info())
        reply = await asyncio.wait_for(self.async_wait_for_reply(message), self.startup_timeout)
        self.nb.metadata["language_info"] = reply["content"]["language_info"]

    _learn_language = run_sync(_ask_language)

    def _one(self, cell: Any, index: int) -> tuple[Status, str]:
        """Run a cell, and say how it ended."""
        self._new_cell()
        try:
            self.execute_cell(cell, index)
        except Interrupted as error:
            self._interrupt(cell, index)
            self._note_dropped(cell)
            self.keeper.cell_ended(index, "interrupted", str(error))
            raise
        except RunbookError:  # the notebook could not be saved meanwhile
            raise
        except Exception as error:
            status, reason = self.verdict(error)
            if status == "timed_out":
                self._interrupt(cell, index)
        else:
            status, reason = self._ended(cell)
        self._note_dropped(cell)
        return status, reason

    def _ended(self, cell: Any) -> tuple[Status, str]:
        """How a cell ended that nbclient has no complaint about."""
        if not is_to_run(cell):
            return "completed", ""
        if "shell.execute_reply" not in cell.metadata.get("execution", {}):
            return "kernel_died", "the kernel never answered"
        if self.reply != "ok":
            return "failed", f"the kernel answered {self.reply!r}"
        failed = any(output.output_type == "error" for output in cell.outputs)
        return ("failed", "") if failed else ("completed", "")

    async def _check_raise_for_error(self, cell: Any, cell_index: int, exec_reply: Any) -> None:
        """Remember the reply's status: nbclient takes `aborted` for success."""
        self.reply = exec_reply["content"]["status"] if exec_reply else ""
        await super()._check_raise_for_error(cell, cell_index, exec_reply)

    def verdict(self, error: Exception) -> tuple[Status, str]:
        """What an exception says about the cell, or about the page when it came between cells."""
        if isinstance(error, CellExecutionError):
            return "failed", f"{error.ename}: {error.evalue}"[:REASON]
        if isinstance(error, CellTimeoutError):
            return "timed_out", self._timeout_text(str(error))
        if isinstance(error, DeadKernelError):
            return "kernel_died", self._exit_text()
        return "failed", f"{type(error).__name__}: {error}"[:REASON]

    def _timeout_text(self, told: str) -> str:
        if "IOPub" in told:
            return f"the kernel answered, but not all it put out arrived within {IOPUB_GRACE} s"
        if time.monotonic() >= self.deadline:
            return self._total_text()
        return "the limit for this cell was reached"

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
        try:
            with self.setup_kernel(**kwargs):
                try:
                    yield
                finally:
                    if self.nb.metadata.runbook.status not in {"completed", "failed"}:
                        self.shutdown_kernel = "immediate"
                        self._kill()
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Be rid of a kernel whose start, or whose end, was cut short."""
        self._kill()
        if _settle() and self.km is not None:  # settled first: a cleanup cut short ends itself then
            self.shutdown_kernel = "immediate"
            with suppress(RuntimeError, OSError):
                self._cleanup_kernel()

    def _kill(self) -> None:
        """Kill the kernel's process group, if it is still there."""
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # a kernel leads a session of its own

    def create_kernel_manager(self) -> Any:
        """A kernel manager over Unix sockets in a private folder: nobody else can connect."""
        manager = super().create_kernel_manager()
        if self.sockets is not None:
            manager.transport = "ipc"
            manager.ip = str(self.sockets / "kernel")
        return manager

    def _interrupt(self, cell: Any, index: int) -> None:
        """Interrupt the kernel, and keep what it still says within two seconds: where it was."""
        if self.message_id is None or not _settle():
            return
        with suppress(TimeoutError, DeadKernelError, RuntimeError):
            ensure_event_loop().run_until_complete(self._last_words(self.message_id, cell, index))

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
        full = len(outs) >= MOST_OUTPUTS and not self.clear_before_next_output
        if full and msg["msg_type"] not in {"stream", "error"}:
            self.unshown += 1
            return None
        out = super().output(outs, msg, display_id, cell_index)
        if out is None:
            return None
        if out.output_type == "stream":
            self._join(outs, out)
        elif out.output_type == "error":
            shorten(out)
        else:
            self.shown = trim(out, CELL_LIMIT - self.shown) + (self.shown if len(outs) > 1 else 0)
        return out

    def _update_display_id(self, display_id: str, msg: Any) -> None:
        super()._update_display_id(display_id, msg)
        for cell, places in self._display_id_map.get(display_id, {}).items():
            for place in places:
                trim(self.nb.cells[cell].outputs[place])

    def _join(self, outs: Any, out: Any) -> None:
        """Keep a piece of printed text up to the cell's limit, in one output with its neighbour.

        A secret that was printed in two pieces is whole again, and so is masked.
        """
        outs.pop()
        last = outs[-1] if outs else None
        if last is None or last.output_type != "stream" or last.name != out.name:
            last = nbformat.v4.new_output("stream", name=out.name, text="")
        text = overwritten(last.text + out.text)
        kept = text[: self._room_beside(outs, last)]
        self.unprinted += len(text) - len(kept)
        last.text = kept
        if kept and (not outs or outs[-1] is not last):
            outs.append(last)

    def _room_beside(self, outs: Any, last: Any) -> int:
        """How long one printed output may be beside the others; none is left when there are too many."""
        if len(outs) >= MOST_OUTPUTS and outs[-1] is not last:
            return 0
        others = (len(one.text) for one in outs if one.output_type == "stream" and one is not last)
        return max(STREAM_LIMIT - sum(others), 0)

    def _note_dropped(self, cell: Any) -> None:
        """Say in the cell what is missing from it."""
        lost = {"characters were printed": self.unprinted, "outputs were shown": self.unshown}
        text = "".join(
            f"[{count:,} more {what} and are not kept]\n" for what, count in lost.items() if count
        )
        if text:
            cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=text))

    # --- papermill's log and its files of what cells print ------------------------------------

    def log_output_message(self, output: Any) -> None:
        """Copy an output there, masked; printed text by whole lines, as no secret may be cut in two."""
        if output.output_type != "stream":
            super().log_output_message(nbformat.from_dict(masked(output, self.keeper.secrets)))
            return
        text = self.unlogged.pop(output.name, "") + output.text
        end = max(text.rfind("\n"), text.rfind("\r")) + 1 if len(text) < STREAM_LIMIT else len(text)
        self.unlogged[output.name] = text[end:]
        self._log(output.name, text[:end])

    def _log(self, name: str, text: str) -> None:
        if text:
            kept = masked(text, self.keeper.secrets)
            super().log_output_message(nbformat.v4.new_output("stream", name=name, text=kept))

    def _log_rest(self) -> None:
        """Copy what a cell left of a last line."""
        for name, text in self.unlogged.items():
            self._log(name, text)
        self.unlogged.clear()


def _settle() -> bool:
    """End what an interruption left behind in this run's loop; False inside a running loop."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return False  # a notebook runs another one: that loop and its tasks are not ours
    loop = ensure_event_loop()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    return True


def _close_loop() -> None:
    if _settle():
        ensure_event_loop().close()
        asyncio.set_event_loop(None)


@contextmanager
def _socket_folder() -> Iterator[Path | None]:
    """A private folder for the kernel's sockets; None where its path would be too long for one."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-"))
    try:
        yield folder if len(str(folder)) < _LONGEST_SOCKET else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
