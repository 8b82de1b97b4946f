"""Run pages one after the other into one record, and stop at the first that is not green."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runbook_lib.artifacts import digest_of, utc_now
from runbook_lib.errors import ProfileError, RunbookError
from runbook_lib.files import write_whole
from runbook_lib.parameters import Page, page_named, validate
from runbook_lib.places import notebooks_dir
from runbook_lib.profile import load_profile
from runbook_lib.record.run import Run

__all__ = ["Order", "PageResult", "RunReport", "run_pages"]


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
    if order.target != "lab":
        raise ProfileError(
            f"These pages can't run on {order.target} yet.",
            why="Only the embedded lab is wired to the pages in this version.",
            fix="--target lab",
        )
    chosen: list[tuple[Page, dict[str, Any]]] = []
    for name in order.pages:
        page = page_named(name)
        names = {one.name for one in page.parameters}
        given = {
            "profile": order.profile,
            "target": order.target,
            "approve": order.approve,
            **order.parameters,
        }
        chosen.append(
            (page, validate(page, {key: value for key, value in given.items() if key in names}))
        )
    return chosen


def run_pages(order: Order, on_event: Callable[[str, Any], None] = lambda *_: None) -> RunReport:
    """Run an order's pages and leave a record, green or red.

    The lab that the run starts ends with it, however the run ends. With `resume`, a page whose
    receipt still holds (same page, parameters and inputs, result unchanged) is not run again.

    Raises:
        ProfileError, UsageError: the order is wrong; nothing was started.
        LabError, PreflightError: the lab could not be started.
    """
    chosen = planned(order)
    run = Run.open(order.resume) if order.resume else Run.create(order.outputs, order.profile)
    on_event("run", run)
    run.note(target=order.target, status="running")
    lab = _lab_for(run)
    results: list[PageResult] = []
    try:
        on_event("lab", lab.name)
        lab.up(lambda line: on_event("line", line))
        os.environ.update(lab.variables())
        for page, values in chosen:
            failed = any(one.status == "failed" for one in results)
            result = (
                PageResult(page.name, "not_run", 0.0)
                if failed
                else _one_page(page, values, run, order, on_event)
            )
            results.append(result)
            on_event("page_done", result)
    except BaseException as error:
        reason = error.what if isinstance(error, RunbookError) else type(error).__name__
        results += [
            PageResult(page.name, "not_run", 0.0, reason) for page, _ in chosen[len(results) :]
        ]
        raise
    finally:
        if lab.owner is not None:
            lab.down()
        _close(run, results)
    return RunReport(run, tuple(results))


def _lab_for(run: Run) -> Any:
    """The default lab when it is up, else a lab of the run's own that ends with this process."""
    from runbook_lib.lab.lab import DEFAULT, Lab, forget_old_labs
    from runbook_lib.serving.supervise import Owner

    if Lab(DEFAULT).is_up():
        return Lab(DEFAULT)
    forget_old_labs()
    digest = hashlib.sha256(str(run.folder).encode()).hexdigest()[:12]
    return Lab(f"run-{digest}", Owner.this_process())


def _one_page(
    page: Page, values: dict[str, Any], run: Run, order: Order, on_event: Callable[[str, Any], None]
) -> PageResult:
    from runbook_lib.record.export import to_html
    from runbook_lib.record.runner import run_notebook

    began = time.monotonic()
    source = notebooks_dir() / f"{page.name}.ipynb"
    key = _page_key(source, page, values, run)
    if order.resume and _receipt_holds(run, page, key):
        return PageResult(page.name, "held", 0.0, "its receipt holds")
    on_event("page", page)
    done = run.folder / f"{page.name}.ipynb"
    outcome = run_notebook(
        source,
        done,
        parameters=values | {"run": str(run.folder)},
        cwd=run.folder,
        cell_timeout=order.cell_timeout,
        total_timeout=order.page_timeout,
        on_event=lambda event: on_event("cell", event),
    )
    to_html(done, done.with_suffix(".html"))
    seconds = round(time.monotonic() - began, 2)
    if not outcome.ok:
        return PageResult(page.name, "failed", seconds, outcome.text())
    _write_receipt(run, page, key)
    return PageResult(page.name, "completed", seconds)


def _page_key(source: Path, page: Page, values: dict[str, Any], run: Run) -> str:
    """What a page's result depends on: its text, its parameters, the profile, what came before."""
    from runbook_lib.parameters import PAGES

    before = [one.makes for one in PAGES[: PAGES.index(page)]]
    inputs = [_artifact_digest(run, made) for made in before]
    profile = load_profile(str(values["profile"]), env=os.environ).digest
    asked = {name: value for name, value in values.items() if name not in {"run", "approve"}}
    return digest_of([hashlib.sha256(source.read_bytes()).hexdigest(), asked, profile, inputs])


def _artifact_digest(run: Run, name: str) -> str:
    path = run.artifacts / f"{name}.json"
    if not path.exists():
        return ""
    known = json.loads(path.read_bytes())
    known.pop("created", None)
    return digest_of(known)


def _receipt_holds(run: Run, page: Page, key: str) -> bool:
    path = run.folder / "receipts" / f"{page.name}.json"
    if not path.exists():
        return False
    receipt = json.loads(path.read_bytes())
    if receipt != {"key": key, "made": _artifact_digest(run, page.makes)}:
        return False
    return page.name != "03_deploy" or _still_served(run)


def _still_served(run: Run) -> bool:
    """A deployment is only held when its servers still answer."""
    from runbook_lib.artifacts import Service
    from runbook_lib.serving.triton import is_ready

    return all(is_ready(replica.http) for replica in Service.read(run.artifacts).replicas)


def _write_receipt(run: Run, page: Page, key: str) -> None:
    receipt = {"key": key, "made": _artifact_digest(run, page.makes)}
    write_whole(run.folder / "receipts" / f"{page.name}.json", json.dumps(receipt))


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
    run.note(
        status="completed" if ok else "failed", ended=utc_now().isoformat(), pages=known | pages
    )
    write_index(run)
    write_manifest(run.folder)
