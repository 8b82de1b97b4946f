"""The logs of a Job's containers, one behind the other as they run, told by the thread that waits.

A stream that says nothing blocks its reader. Each is read by a thread of its own, which hands its
lines over: whoever is told a line is told by the caller's thread, and the wait can look at the Job
and at the clock meanwhile.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

from runbook_lib.artifacts import Phase
from runbook_lib.engine.build_lines import phase_of
from runbook_lib.engine.job_failure import containers_of
from runbook_lib.errors import RunbookError
from runbook_lib.kube.client import Kube
from runbook_lib.kube.hangup import Hangup

__all__ = ["JobLogs"]

Manifest = dict[str, Any]
Key = tuple[str, str]

TAIL_LINES = 12
STARTED = {"running", "terminated"}


class JobLogs:
    """What the containers of a Job say, in the order in which they run."""

    def __init__(
        self, kube: Kube, namespace: str, log: Path, on_line: Callable[[str], None]
    ) -> None:
        self._kube, self._namespace, self._path, self._on_line = kube, namespace, log, on_line
        self._record: IO[str] | None = None
        self._read: set[Key] = set()
        self._current: Key | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._hangup = Hangup()
        self._phases: dict[str, list[Phase]] = {}
        self.said: dict[Key, deque[str]] = {}

    def __enter__(self) -> Self:
        self._record = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._hangup.hang_up()
        if self._record is not None:
            self._record.close()

    def advance(self, pods: Sequence[Manifest], seconds: float) -> None:
        """Tell what comes within some seconds; when a container's log ends, the next one begins."""
        until = time.monotonic() + seconds
        while True:
            if self._current is None and (following := self._next(pods)) is not None:
                self._begin(*following)
            left = until - time.monotonic()
            if left <= 0:
                return
            if self._current is None:
                time.sleep(left)
                return
            try:
                self._take(self._lines.get(timeout=left))
            except queue.Empty:
                return

    def done(self, pods: Sequence[Manifest]) -> bool:
        """Whether everything that was said has been told."""
        return self._current is None and self._next(pods) is None

    def phases(self, pod: str) -> tuple[Phase, ...]:
        """The phases that a pod's containers told."""
        return tuple(self._phases.get(pod, ()))

    def last(self) -> str:
        """The last line of all."""
        lines = [line for said in self.said.values() for line in said if line.strip()]
        return lines[-1] if lines else ""

    def _next(self, pods: Sequence[Manifest]) -> tuple[Manifest, str] | None:
        for pod in sorted(pods, key=lambda one: str(one["metadata"]["creationTimestamp"])):
            for spec, state in containers_of(pod):
                key = (pod["metadata"]["name"], spec["name"])
                if key not in self._read and STARTED & state.keys():
                    return pod, spec["name"]
        return None

    def _begin(self, pod: Manifest, container: str) -> None:
        name = str(pod["metadata"]["name"])
        self._current = (name, container)
        self.said[self._current] = deque(maxlen=TAIL_LINES)
        self._lines = queue.SimpleQueue()
        self._write(f"== {name} {container}")
        self._on_line(f"Step {container} on {pod['spec'].get('nodeName', '')}")
        arguments = (name, container, self._lines)
        threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, pod: str, container: str, lines: queue.SimpleQueue[str | None]) -> None:
        try:
            said = self._kube.follow_logs(
                pod, self._namespace, container=container, hangup=self._hangup
            )
            for line in said:
                lines.put(line)
        except RunbookError as error:
            lines.put(f"[runbook] the log of {pod} {container} could not be read: {error.what}")
        lines.put(None)

    def _take(self, line: str | None) -> None:
        assert self._current is not None
        if line is None:
            self._read.add(self._current)
            self._current = None
            return
        self.said[self._current].append(line)
        self._write(line)
        if (phase := phase_of(line)) is not None:
            self._phases.setdefault(self._current[0], []).append(phase)
        self._on_line(line)

    def _write(self, line: str) -> None:
        assert self._record is not None
        self._record.write(f"{line}\n")
        self._record.flush()
