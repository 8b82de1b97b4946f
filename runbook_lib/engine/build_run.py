"""One step of a build: started, listened to, ended with everything that it started, tried again."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from runbook_lib.artifacts import Phase
from runbook_lib.engine.build_lines import (
    is_transient,
    memory_of,
    percent_of,
    phase_of,
    sm_of,
)
from runbook_lib.engine.build_peaks import Peaks
from runbook_lib.engine.command import Command
from runbook_lib.engine.runner import Runner
from runbook_lib.errors import BuildError

__all__ = ["Run"]

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
TAIL = 12
PAUSES = (2.0, 8.0)  # seconds before the second and the third try


@dataclass
class Run:
    """The steps of one build as they are run: what they said, took and told.

    Attributes:
        runner: where they run.
        work: the work folder.
        log: where their whole output goes.
        on_line: is told each line; of a progress bar only its percents.
        until: monotonic time at which the build is over.
        phases: that ended, in order. memory, disk: peaks in bytes. sm: as the builder told it.
    """

    runner: Runner
    work: Path
    log: Path
    on_line: Callable[[str], None]
    until: float
    phases: list[Phase] = field(default_factory=list)
    memory: int = 0
    disk: int = 0
    sm: str = ""

    def step(self, step: Command) -> None:
        """Run a step to its end; again where only the network failed it.

        Raises:
            BuildError: it can't start, failed, was killed, or the time is over.
        """
        for pause in (*PAUSES, None):
            code, said = self._once(step)
            if code == 0:
                return
            if pause is None or not is_transient(said):
                raise self._failed(step, code, said)
            self.on_line(f"{step.step}: {_last(said, 1)}; trying again in {pause:.0f} s")
            time.sleep(min(pause, max(self.until - time.monotonic(), 0)))

    def _once(self, step: Command) -> tuple[int, list[str]]:
        left = self.until - time.monotonic()
        began, told = time.monotonic(), list[Phase]()
        said: deque[str] = deque(maxlen=TAIL)
        with self.log.open("a", encoding="utf-8") as record:
            words = self.runner.words(step, self.work)
            record.write(f"$ {shlex.join(words)}\n")
            with (
                self._started(step, words) as process,
                _ended_after(left, process, self.runner) as timed_out,
                Peaks(lambda: self.runner.root(process.pid), self.work) as peaks,
            ):
                self._listen(step, process, record, said, told)
                code = process.wait()
        self.memory, self.disk = max(self.memory, peaks.memory), max(self.disk, peaks.disk)
        if timed_out.is_set() and code != 0:
            raise BuildError(
                f"The build step {step.step} took longer than the {left:.0f} s left for it.",
                why=_last(said),
                fix=f"Give it more time, or read the log: {self.log}",
                page="06_troubleshoot",
            )
        if code == 0:
            whole = Phase(name=step.step, seconds=round(time.monotonic() - began, 3))
            self.phases += told or [whole]
        return code, list(said)

    def _listen(
        self,
        step: Command,
        process: subprocess.Popen[str],
        record: IO[str],
        said: deque[str],
        told: list[Phase],
    ) -> None:
        assert process.stdout is not None
        shown = None
        for raw in process.stdout:
            line = raw.rstrip("\n")
            if (percent := percent_of(line)) is not None:
                if percent == shown:  # a bar redraws itself many times a second
                    continue
                shown = percent
            record.write(raw)
            said.append(line)
            if (phase := phase_of(line)) is not None:
                told.append(phase)
            self.memory = max(self.memory, memory_of(line) or 0)
            self.sm = self.sm or sm_of(line) or ""
            self.on_line(line if percent is None else f"{step.step} {percent} %")

    def _started(self, step: Command, words: tuple[str, ...]) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                cwd=self.runner.folder(step, self.work),
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call and no lock
            )
        except OSError as error:
            absent = isinstance(error, FileNotFoundError)
            raise BuildError(
                f"The build step {step.step} can't start: {words[0]} ({error.strerror}).",
                why="The program is not on this machine's PATH." if absent else "",
                fix=self.runner.missing(),
            ) from None

    def _failed(self, step: Command, code: int, said: list[str]) -> BuildError:
        return BuildError(
            f"The build step {step.step} failed ({_ending(code)}).",
            why=_last(said),
            fix=f"The whole log: {self.log}",
            page="06_troubleshoot",
        )


def _die_with_parent() -> None:
    """A killed run leaves no compiler behind (Linux; elsewhere the command just runs on)."""
    with suppress(OSError, AttributeError):
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _ended_after(
    timeout: float, process: subprocess.Popen[str], runner: Runner
) -> Iterator[threading.Event]:
    """End a command when its time is over, and in any case at the end; the event says which."""
    timed_out = threading.Event()

    def end() -> None:
        timed_out.set()
        _kill(process)
        runner.end()

    timer = threading.Timer(max(timeout, 0.0), end)
    timer.start()
    try:
        yield timed_out
    finally:
        timer.cancel()
        _kill(process)
        runner.end()


def _kill(process: subprocess.Popen[str]) -> None:
    """End the command and everything it started.

    Its group outlives it while one of its own children runs, and such a child holds the pipe open.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        killed = "; the kernel's out-of-memory killer ends a process like this"
        return f"exit code {code}{killed if code == 128 + signal.SIGKILL else ''}"
    name = signal.Signals(-code).name
    return (
        f"{name}; the kernel's out-of-memory killer ends a process like this"
        if code == -9
        else name
    )


def _last(said: Iterable[str], count: int = 4) -> str:
    lines = [line.strip() for line in said if line.strip()]
    return "\n".join(lines[-count:])
