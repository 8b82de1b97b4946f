"""The gate: what changes something outside the run's folder names its plan, and is approved by digest."""

from __future__ import annotations

import getpass
import html
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runbook_lib.artifacts import digest_of, utc_now
from runbook_lib.changes import Change
from runbook_lib.errors import ApprovalError, RecordError

__all__ = ["Approval", "ChangePlan", "by_button", "decide", "given_before", "remember"]

SHORT = 12


@dataclass(frozen=True)
class ChangePlan:
    """Everything that a page would change, in order; its digest is what gets approved."""

    page: str
    changes: tuple[Change, ...]

    @property
    def digest(self) -> str:
        """`sha256:` over the page and its changes; holds no time, port or temporary name."""
        return digest_of([self.page, [asdict(change) for change in self.changes]])

    @property
    def short(self) -> str:
        """The part of the digest that people type."""
        return self.digest.removeprefix("sha256:")[:SHORT]

    def __str__(self) -> str:
        if not self.changes:
            return f"Nothing changes (plan {self.short})"
        lines = [f"{one.verb:<8} {one.what}  {one.detail}".rstrip() for one in self.changes]
        return "\n".join([*lines, f"plan {self.short}"])

    def _repr_pretty_(self, printer: object, _cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]  # IPython's printer has no stubs

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(cell)}</td>"
                for cell in (one.verb, one.what, one.detail)
            )
            + "</tr>"
            for one in self.changes
        )
        body = f"<table>{rows}</table>" if rows else "<p>Nothing changes.</p>"
        return f"{body}<p>plan <code>{self.short}</code></p>"


@dataclass(frozen=True)
class Approval:
    """Who approved which plan, when, and by what right."""

    page: str
    plan: str
    by: str
    how: str
    at: str

    def __str__(self) -> str:
        return f"Plan {self.plan.removeprefix('sha256:')[:SHORT]} approved by {self.by} ({self.how}) at {self.at}"

    def _repr_pretty_(self, printer: object, _cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]  # IPython's printer has no stubs


def who() -> str:
    """The user that acts, with the CI job when there is one."""
    job = os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user} for {job}" if job else user


def decide(plan: ChangePlan, approve: str, policy: str, before: Sequence[Approval]) -> Approval:
    """The approval of a plan, or the reason why there is none.

    Args:
        approve: the page's parameter: empty, `auto`, or digests separated by commas.
        policy: the profile's word: `ask` or `auto`.
        before: approvals given in this run, as by the button.

    Raises:
        ApprovalError: nobody approved this very plan.
    """
    for known in before:
        if known.plan == plan.digest:
            return known
    given = [word.strip().removeprefix("sha256:") for word in approve.split(",") if word.strip()]
    at = utc_now().isoformat()
    if any(
        len(word) >= SHORT and plan.digest.removeprefix("sha256:").startswith(word)
        for word in given
    ):
        return Approval(plan.page, plan.digest, who(), "digest given as a parameter", at)
    if not plan.changes:
        return Approval(plan.page, plan.digest, who(), "nothing changes", at)
    # `auto` may stand beside the digests of other pages of the same run.
    if policy == "auto" and (not given or "auto" in given):
        return Approval(plan.page, plan.digest, who(), "policy `approve: auto` of the profile", at)
    if "auto" in given:
        raise _refused(
            plan, "approve=auto is not allowed: this profile's policy is `approve: ask`."
        )
    if given:
        raise _refused(
            plan,
            f"The approval names {', '.join(given)}: another plan, or one that has changed since.",
        )
    raise _refused(plan, "This profile's policy is `approve: ask`, and nobody has approved yet.")


def by_button(plan: ChangePlan) -> Approval:
    """The approval that a press of the page's button gives."""
    return Approval(plan.page, plan.digest, who(), "button in JupyterLab", utc_now().isoformat())


def _refused(plan: ChangePlan, why: str) -> ApprovalError:
    return ApprovalError(
        f"Plan {plan.short} of {plan.page} is not approved; nothing was changed.",
        why=why,
        fix=f"Read the plan above, then run again with: --approve {plan.short}   (in JupyterLab: press Approve)",
    )


def remember(file: Path, approval: Approval) -> None:
    """Add an approval to the run's list."""
    if approval in given_before(file):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(asdict(approval)) + "\n")


def given_before(file: Path) -> list[Approval]:
    """The approvals of a run, oldest first.

    Raises:
        RecordError: a line is no approval; nobody can say what it was meant to approve.
    """
    if not file.exists():
        return []
    lines = enumerate(file.read_bytes().splitlines(), 1)
    return [_approval(file, number, line) for number, line in lines if line.strip()]


def _approval(file: Path, number: int, line: bytes) -> Approval:
    try:
        return Approval(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise RecordError(
            f"Line {number} of {file} is no approval.",
            why=str(error),
            fix="Start a new run, or take the line out and approve again.",
        ) from None
