"""Progress of a step as one output: a bar that updates in place, and the same in words.

It is no widget: the record keeps its last state, and nothing of it can hang a headless run.
"""

from __future__ import annotations

import html
import threading
from time import monotonic
from types import TracebackType
from typing import Any, Self

from runbook_lib.ui.kernel import in_kernel
from runbook_lib.ui.words import seconds

__all__ = ["Progress", "progress"]

INTERVAL = 0.25
"""Seconds between two drawings: more often can't be read and only fills the channel."""
RUNNING, DONE, FAILED = "#0072b2", "#009e73", "#d55e00"
LONGEST = 100
"""Characters of a note: a line of a log must not push the page about."""
LARGEST = 4000
"""Characters of a table below a note."""
STEADY = 2.0
"""Seconds after which the time left is worth a guess."""


class Progress:
    """A step under way; a context manager that draws itself where there is a notebook.

    Elsewhere it is silent. `update` may be called from another thread.
    """

    def __init__(self, label: str, total: float | None) -> None:
        self.label = label
        self.total = total
        self.done = 0.0
        self.at_work = ""
        self._began = monotonic()
        self._drawn = self._began
        self._handle: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._began = self._drawn = monotonic()
        if in_kernel():
            from IPython.display import display

            self._handle = display(
                self._bundle(RUNNING, self._running()), raw=True, display_id=True
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took = seconds(monotonic() - self._began)
        with self._lock:
            if kind is None:
                self.done = self.total or self.done
                self._draw(DONE, f"{self.label}: done{self._counted()} in {took}")
            else:
                ending = "interrupted" if kind is KeyboardInterrupt else "failed"
                self._draw(FAILED, f"{self.label}: {ending}{self._counted()} after {took}")

    def update(self, done: float, note: str = "") -> None:
        """Say how much is done in all (not since the last call), and what is at work."""
        with self._lock:
            self.done, self.at_work = done, note
            self._draw_in_time()

    def note(self, text: str) -> None:
        """Say what is at work, with the count as it is: a line of a log, or a line and a table."""
        with self._lock:
            self.at_work = text
            self._draw_in_time()

    def _draw_in_time(self) -> None:
        if monotonic() - self._drawn >= INTERVAL:
            self._drawn = monotonic()
            self._draw(RUNNING, self._running())

    def _draw(self, color: str, text: str) -> None:
        if self._handle is not None:
            self._handle.update(self._bundle(color, text), raw=True)

    def _share(self) -> float:
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0

    def _counted(self) -> str:
        if self.total:
            return f" {self.done:,.10g}/{self.total:,.10g}"
        return f" {self.done:,.10g}" if self.done else ""

    def _running(self) -> str:
        went = monotonic() - self._began
        percent = f" {self._share():.0%}".replace("%", " %") if self.total else ""
        left = ""
        if went >= STEADY and 0 < self._share() < 1:
            left = f", about {seconds(went / self._share() - went)} left"
        words = " ".join(self.at_work.partition("\n")[0].split())
        note = f" · {words[:LONGEST]}{'…' if len(words) > LONGEST else ''}" if words else ""
        return f"{self.label}:{percent}{self._counted()} in {seconds(went)}{left}{note}"

    def _bundle(self, color: str, text: str) -> dict[str, str]:
        share = 100 if color == DONE else round(self._share() * 100)
        value = (
            f" aria-valuenow='{share}' aria-valuemin='0' aria-valuemax='100'" if self.total else ""
        )
        bar = (
            f"<div role='progressbar' aria-label='{html.escape(self.label)}'{value} "
            "style='max-width:480px;height:8px;background-color:#d5dae0'>"
            f"<div style='width:{share}%;height:8px;background-color:{color}'></div></div>"
        )
        return {
            "text/html": f"{bar}<div>{html.escape(text)}</div>{self._table()}",
            "text/plain": text,
        }

    def _table(self) -> str:
        """What a note of several lines has below its first."""
        below = self.at_work.partition("\n")[2]
        return f"<pre style='font-size:90%'>{html.escape(below[:LARGEST])}</pre>" if below else ""


def progress(label: str, total: float | None = None) -> Progress:
    """Draw how far a step has come, in place.

    Used as `with progress("Building", total=4) as bar: bar.update(1, "weights")`.

    Args:
        label: what is done, one or two words.
        total: how much there is to do; None where nobody knows.
    """
    return Progress(label, total)
