"""A page at work: its effective values, the artifacts it may read, the gate, and its end."""

from __future__ import annotations

import functools
import html
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runbook_lib.artifacts import Artifact
from runbook_lib.changes import Change, Check
from runbook_lib.errors import PreflightError, RecordError
from runbook_lib.parameters import PAGES, Page, page_named, validate
from runbook_lib.places import outputs_dir
from runbook_lib.profile import DeploymentProfile, Effective, load_profile
from runbook_lib.record.approval import (
    Approval,
    ChangePlan,
    by_button,
    decide,
    given_before,
    remember,
)
from runbook_lib.record.run import Run

if TYPE_CHECKING:
    from runbook_lib.targets import Target

__all__ = ["OpenPage", "headless", "open_page"]

Kind = TypeVar("Kind", bound=Artifact)


def headless() -> bool:
    """Whether nobody sits in front of the page: the engine says so."""
    return os.environ.get("RUNBOOK_HEADLESS") == "1"


@dataclass
class OpenPage:
    """One page of one run, opened with checked parameters."""

    page: Page
    run: Run
    values: dict[str, Any]
    effective: Effective[DeploymentProfile]
    began: float = field(default_factory=time.monotonic)

    @property
    def profile(self) -> DeploymentProfile:
        """The deployment profile with every value in force."""
        return self.effective.value

    @functools.cached_property
    def target(self) -> Target:
        """Where this page acts: the lab or a cluster.

        Raises:
            PreflightError: the cluster can't be reached.
        """
        from runbook_lib.targets import target_named

        return target_named(str(self.values["target"]))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def artifact(self, kind: type[Kind], name: str = "") -> Kind:
        """What an earlier page of this run made.

        Raises:
            RecordError: it did not; the page that makes it is named.
        """
        return kind.read(self.run.artifacts, name)

    def keep(self, made: Kind, name: str = "") -> Kind:
        """Hand an artifact on to the next pages."""
        made.write(self.run.artifacts, name)
        return made

    def preflight(self, checks: Sequence[Check]) -> Any:
        """Show what was looked at; a failed check ends the page before anything changes.

        Raises:
            PreflightError: a check failed; each with its hint.
        """
        from runbook_lib.ui import table

        rows = [[one.verdict, one.name, one.found, one.hint] for one in checks]
        shown = table(["", "check", "found", "hint"], rows)
        if failed := [one for one in checks if one.verdict == "FAIL"]:
            raise PreflightError(
                f"{self.page.name} can't start; nothing was changed.",
                why="; ".join(f"{one.name}: {one.found}" for one in failed),
                fix="; ".join(one.hint for one in failed if one.hint),
                page="06_troubleshoot",
            )
        return shown

    def propose(self, changes: Sequence[Change]) -> ChangePlan:
        """The plan of what this page would change outside the run's folder."""
        return ChangePlan(self.page.name, tuple(changes))

    def gate(self, plan: ChangePlan) -> Approval:
        """Pass only with an approval of this very plan; it goes into the record.

        Raises:
            ApprovalError: there is none. In JupyterLab a button to give it is shown first.
        """
        file = self.run.folder / "approvals.jsonl"
        try:
            approval = decide(
                plan, str(self.values.get("approve", "")), self.profile.approve, given_before(file)
            )
        except Exception:
            if not headless():
                self._offer_button(plan, file)
            raise
        remember(file, approval)
        return approval

    def _offer_button(self, plan: ChangePlan, file: Path) -> None:
        from runbook_lib.ui.forms import approve_button

        approve_button(plan.short, lambda: remember(file, by_button(plan)))

    def finish(self) -> Any:
        """The end of the page: what it made, where it lies, where to go next."""
        from runbook_lib.ui import table

        number = [page.name for page in PAGES].index(self.page.name)
        following = PAGES[number + 1].name if number + 1 < len(PAGES) else ""
        rows = [
            ["page", f"{self.page.name} done in {time.monotonic() - self.began:.1f} s"],
            [
                "made",
                str((self.run.artifacts / f"{self.page.makes}.json").relative_to(self.run.folder)),
            ],
            ["record", self.run.id],
            ["next", f"{following}.ipynb" if following else f"runbook record verify {self.run.id}"],
        ]
        return table(["", ""], rows)

    def _rows(self) -> list[tuple[str, str, str]]:
        """Each value in force with its origin; the page's own parameters first."""
        defaults = {one.name: one.default for one in self.page.parameters}
        own = [
            (name, str(value), "default" if value == defaults[name] else "parameter")
            for name, value in self.values.items()
            if name != "run"
        ]
        return [("run", self.run.id, ""), *own, *self.effective.table()]

    def __str__(self) -> str:
        return "\n".join(
            f"{name:<24} {value:<40} {origin}".rstrip() for name, value, origin in self._rows()
        )

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """What somebody chose, open; what is as it comes, folded."""
        chosen = [row for row in self._rows() if row[2] != "default"]
        rest = [row for row in self._rows() if row[2] == "default"]
        return (
            f"{self._made_in()}{_value_table(chosen)}"
            f"<details><summary>{len(rest)} values are defaults</summary>{_value_table(rest)}</details>"
        )

    def _made_in(self) -> str:
        if self.profile.track != "lab":
            return ""
        return (
            "<p><b>Made in the lab</b>: real Triton, S3, tensors and tokens; "
            "the engine is compiled for this CPU by OpenVINO, not by TensorRT-LLM for a GPU.</p>"
        )


def _value_table(rows: Sequence[tuple[str, str, str]]) -> str:
    left = "style='text-align:left'"
    cells = "".join(
        "<tr>" + "".join(f"<td {left}>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    heads = "".join(
        f"<th {left}>{head}</th>" for head in ("value", "in force", "where it came from")
    )
    return f"<table><tr>{heads}</tr>{cells}</table>"


def open_page(name: str, **values: Any) -> OpenPage:
    """Open a page with the values of its parameters cell.

    The run is the folder given, else the newest of the profile below the outputs folder, else a
    new one. A finished record is never written into: a new run goes on from its artifacts.
    Environment variables of the guide (MAX_BATCH_SIZE, …) take part in the profile.

    Raises:
        ProfileError: a parameter or the profile is wrong; nothing was changed.
        RecordError: the run that was named is no run, or a finished record.
    """
    page = page_named(name)
    checked = validate(page, values)
    effective = load_profile(str(checked["profile"]), env=os.environ)
    return OpenPage(page, _run_of(page, checked), checked, effective)


def _run_of(page: Page, values: dict[str, Any]) -> Run:
    """The run to work in: never one that is sealed, since a page writes into it."""
    if values["run"]:
        named = Run.open(Path(values["run"]))
        if named.sealed:
            raise RecordError(
                f"{named.id} is a finished record.",
                why="A page writes into its run, and the record's digests would no longer hold.",
                fix=f"runbook run {page.name} --resume {named.folder}   (or leave `run` empty)",
            )
        return named
    outputs, profile = outputs_dir(), str(values["profile"])
    newest = None if page is PAGES[0] else Run.newest(outputs, profile)
    if newest is None:
        return Run.create(outputs, profile)
    return newest.continued() if newest.sealed else newest
