"""Run pages one after the other into one record, and stop at the first that is not green."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runbook_lib.artifacts import utc_now
from runbook_lib.errors import RecordError, RunbookError
from runbook_lib.parameters import Page, page_named, validate
from runbook_lib.places import notebooks_dir
from runbook_lib.profile import load_profile, profiles_dir
from runbook_lib.record.receipts import page_key, receipt_holds, write_receipt
from runbook_lib.record.run import Run

if TYPE_CHECKING:
    from runbook_lib.lab.lab import Lab

__all__ = ["Order", "PageResult", "RunReport", "planned", "run_pages"]

OnEvent = Callable[[str, Any], None]
PROFILES = "RUNBOOK_PROFILES"


@dataclass(frozen=True)
class Order:
    """What somebody asked to be run."""

    pages: tuple[str, ...]
    profile: str
    target: str = "lab"
    approve: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Path = Path("outputs")
    resume: Path | None = None
    cell_timeout: float = 900.0
    page_timeout: float = 3600.0


@dataclass(frozen=True)
class PageResult:
    """How one page ended."""

    page: str
    status: Literal["completed", "held", "failed", "not_run"]
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class RunReport:
    """How a run ended, and where its record lies."""

    run: Run
    results: tuple[PageResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every page is green."""
        return all(one.status in {"completed", "held"} for one in self.results)


def planned(order: Order) -> list[tuple[Page, dict[str, Any]]]:
    """Each page with its checked parameters; nothing is started.

    Raises:
        ProfileError: the profile or a parameter is wrong.
        UsageError: there is no such page.
    """
    load_profile(order.profile, env=os.environ)
    chosen: list[tuple[Page, dict[str, Any]]] = []
    for name in order.pages:
        page = page_named(name)
        names = {one.name for one in page.parameters}
        given = {
            "profile": _reference(order.profile),
            "target": order.target,
            "approve": order.approve,
            **order.parameters,
        }
        chosen.append(
            (page, validate(page, {key: value for key, value in given.items() if key in names}))
        )
    return chosen


def _reference(profile: str) -> str:
    """A profile's file by its whole path: pages run in another folder than this one."""
    own_file = profile.endswith((".yaml", ".yml")) and Path(profile).is_file()
    return str(Path(profile).absolute()) if own_file else profile


@contextmanager
def _same_profiles() -> Iterator[None]:
    """Pages look for profiles where this process does, `profiles` of the present folder included."""
    before = os.environ.get(PROFILES)
    os.environ[PROFILES] = str(profiles_dir())
    try:
        yield
    finally:
        os.environ.pop(PROFILES)
        if before is not None:
            os.environ[PROFILES] = before


def run_pages(order: Order, on_event: OnEvent = lambda *_: None) -> RunReport:
    """Run an order's pages and leave a record, green or red.

    The lab that the run starts ends with it, however the run ends. With `resume`, a page whose
    receipt still holds (same page, parameters and inputs, result unchanged) is not run again.

    Raises:
        ProfileError, UsageError: the order is wrong; nothing was started.
        PreflightError: the target can't be reached.
        LabError, PreflightError: the lab could not be started.
        RecordError: the record can't be written, or another process works in it.
    """
    from runbook_lib.targets import target_named

    chosen = planned(order)
    target_named(order.target)  # a target that can't be reached is told before a record begins
    profile = _reference(order.profile)
    run = Run.open(order.resume) if order.resume else Run.create(order.outputs, profile)
    with _alone(run):
        return _run_in(run, order, chosen, on_event)


def _run_in(
    run: Run, order: Order, chosen: Sequence[tuple[Page, dict[str, Any]]], on_event: OnEvent
) -> RunReport:
    from runbook_lib.lab.lab import at_hand
    from runbook_lib.record.interruption import interruptible

    on_event("run", run)
    with _written(run):
        run.unseal()
        track = load_profile(order.profile, env=os.environ).value.track
        run.note(target=order.target, track=track, status="running")
        run.keep_spare()
    course = _Course(run, order, on_event)
    try:
        on_event("lab", "")
        told = partial(on_event, "line")
        with interruptible(), _same_profiles(), at_hand(_lab_name(run), told) as lab:
            _pages_of(chosen, course, lab)
    except BaseException as error:
        course.cut_short([page for page, _ in chosen], error)
        with suppress(RecordError):  # what ended the run is told, not what came of it
            _close(run, course.results)
        raise
    _close(run, course.results)
    return RunReport(run, tuple(course.results))


def _pages_of(chosen: Sequence[tuple[Page, dict[str, Any]]], course: _Course, lab: Lab) -> None:
    """Run the pages, and keep what the lab's servers said meanwhile."""
    try:
        for page, values in chosen:
            course.go_on(page, values)
    except BaseException:
        with suppress(OSError):
            lab.save_logs(course.run.logs)
        raise
    with _written(course.run):
        lab.save_logs(course.run.logs)


def _lab_name(run: Run) -> str:
    """A lab of the run's own; the same name when the run is resumed, so its data is found again."""
    return f"run-{hashlib.sha256(str(run.folder).encode()).hexdigest()[:12]}"


@dataclass
class _Course:
    """A run on its way, page after page."""

    run: Run
    order: Order
    on_event: OnEvent
    results: list[PageResult] = field(default_factory=list)
    at_work: str = ""

    def go_on(self, page: Page, values: dict[str, Any]) -> None:
        """Run a page, hold it where its receipt does, or leave it after one that failed."""
        source = notebooks_dir() / f"{page.name}.ipynb"
        key = page_key(source, page, values, self.run)
        if any(one.status == "failed" for one in self.results):
            result = PageResult(page.name, "not_run", 0.0)
        elif self.order.resume and receipt_holds(self.run, page, key):
            result = PageResult(page.name, "held", 0.0, "its receipt holds")
        else:
            self.on_event("page", page)
            self.at_work = page.name
            result = self._executed(source, page, values)
            if result.status == "completed":
                with _written(self.run):
                    write_receipt(self.run, page, key)
        self.results.append(result)
        self.on_event("page_done", result)

    def cut_short(self, pages: Sequence[Page], error: BaseException) -> None:
        """Write down how the pages that are left ended: the one at work failed, the others never ran."""
        reason = error.what if isinstance(error, RunbookError) else str(error)
        for page in pages[len(self.results) :]:
            status: Literal["failed", "not_run"] = (
                "failed" if page.name == self.at_work else "not_run"
            )
            self.results.append(PageResult(page.name, status, 0.0, reason or type(error).__name__))

    def _executed(self, source: Path, page: Page, values: dict[str, Any]) -> PageResult:
        from runbook_lib.record.export import to_html
        from runbook_lib.record.runner import run_notebook

        began = time.monotonic()
        done = self.run.folder / source.name
        outcome = run_notebook(
            source,
            done,
            parameters=values | {"run": str(self.run.folder)},
            cwd=self.run.folder,
            cell_timeout=self.order.cell_timeout,
            total_timeout=self.order.page_timeout,
            on_event=lambda event: self.on_event("cell", event),
        )
        to_html(done, done.with_suffix(".html"))
        seconds = round(time.monotonic() - began, 2)
        if not outcome.ok:
            return PageResult(page.name, "failed", seconds, outcome.text())
        return PageResult(page.name, "completed", seconds)


def _close(run: Run, results: Sequence[PageResult]) -> None:
    """Write how it ended, the index page and the digests of everything, last."""
    from runbook_lib.record.digests import write_manifest
    from runbook_lib.record.index import write_index

    ok = bool(results) and all(one.status in {"completed", "held"} for one in results)
    pages = {
        one.page: {"status": one.status, "seconds": one.seconds, "reason": one.reason}
        for one in results
    }
    known = run.about().get("pages", {})
    with _written(run):
        run.free_spare()
        run.note(
            status="completed" if ok else "failed", ended=utc_now().isoformat(), pages=known | pages
        )
        write_index(run)
    write_manifest(run.folder)


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Nobody else works in this run's folder meanwhile.

    Raises:
        RecordError: another process does.
    """
    # The folder itself is locked: no file is left, and the end of this process is the end of it.
    folder = os.open(run.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(folder, run)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, run: Run) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecordError(
            f"{run.id} is at work in another process.",
            why="Two in one record would write over each other.",
            fix="Wait until it has ended, or start a new run without --resume.",
        ) from None


@contextmanager
def _written(run: Run) -> Iterator[None]:
    """Something is written into the record.

    Raises:
        RecordError: it can't be.
    """
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"The record {run.id} can't be written to its end.",
            why=str(error.strerror),
            fix="Free some space or mend the folder's permissions, then go on with --resume.",
        ) from None
