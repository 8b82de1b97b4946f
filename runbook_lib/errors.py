"""Every error that a user of the runbooks can meet.

    RunbookError                    what happened, why, how to fix it, where to go next
    ├── ProfileError                a profile, parameter or value is wrong (nothing was changed)
    ├── PreflightError              something the step needs is missing (nothing was changed)
    ├── ApprovalError               a change was not approved, or another plan was
    ├── PlanError                   the plan can't work: it does not fit, or the version can't do it
    ├── BuildError                  an engine build failed or was refused
    │   └── EngineMismatchError     an engine does not belong to this machine, runtime or profile
    ├── RepositoryError             a model repository is wrong, or could not be stored whole
    │   ├── NotStoredError          nothing whole is stored under a URI
    │   └── AlreadyThereError       an object that should be made lies there already
    ├── ServiceError                a server did not start, become ready, or answer
    │   └── RolloutError            a rollout is refused, can't become ready, or was not in time; its cause
    ├── LoadError                   a benchmark could not measure what it was asked to
    ├── LabError                    a part of the embedded lab could not be set up or started
    ├── DiagnosisError              a rule or a piece of evidence can't be used
    ├── RecordError                 a record is missing, incomplete or was changed
    └── UsageError                  the command can't mean anything: exit code 2, all others end with 1

A RunbookError shows as a few lines of text, or a box in a notebook, never as a traceback.
"""

from __future__ import annotations

import html

__all__ = [
    "AlreadyThereError",
    "ApprovalError",
    "BuildError",
    "DiagnosisError",
    "EngineMismatchError",
    "LabError",
    "LoadError",
    "NotStoredError",
    "PlanError",
    "PreflightError",
    "ProfileError",
    "RecordError",
    "RepositoryError",
    "RolloutError",
    "RunbookError",
    "ServiceError",
    "UsageError",
]


class RunbookError(Exception):
    """What happened, why, and how to fix it.

    Args:
        what: what happened, one sentence, naming the object.
        why: the cause, as far as it is known.
        fix: what to do, ideally a command that can be pasted.
        page: the notebook to open next, for example `"06_troubleshoot"`.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "", page: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.page = page

    def __reduce__(self) -> tuple[object, ...]:
        state = {"what": self.what, "why": self.why, "fix": self.fix, "page": self.page}
        return (type(self), (self.what,), state)

    def __str__(self) -> str:
        return "\n".join(f"{label}{text}" for label, text in self._lines())

    def to_dict(self) -> dict[str, str]:
        """The error as plain data, for `--json` and for the record."""
        facts = {"error": type(self).__name__, "what": self.what}
        rest = {"why": self.why, "fix": self.fix, "page": self.page}
        return facts | {key: text for key, text in rest.items() if text}

    def _lines(self) -> list[tuple[str, str]]:
        rows = [("", self.what), ("  why:  ", self.why), ("  fix:  ", self.fix)]
        if self.page:
            rows.append(("  next: ", f"notebooks/{self.page}.ipynb"))
        return [(label, text) for label, text in rows if text]

    def _render_traceback_(self) -> list[str]:
        """What IPython prints instead of a traceback; the log keeps the traceback."""
        head, *rest = str(self).splitlines()
        return [f"{type(self).__name__}: {head}", *rest]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<div><b>{html.escape(label.strip() or type(self).__name__)}</b> {html.escape(text)}</div>"
            for label, text in self._lines()
        )
        return f'<div style="border-left:4px solid #b3261e;padding:4px 10px">{rows}</div>'


class UsageError(RunbookError):
    """The command was called in a way that can't mean anything."""

    exit_code = 2


class ProfileError(RunbookError):
    """A profile, a parameter or a value in one is wrong."""


class PreflightError(RunbookError):
    """Something that the step needs is missing."""


class ApprovalError(RunbookError):
    """A change was not approved, or the approval names another plan."""


class PlanError(RunbookError):
    """The plan can't work as asked."""


class BuildError(RunbookError):
    """An engine build failed or was refused."""


class EngineMismatchError(BuildError):
    """An engine does not belong to this machine, runtime or profile."""


class RepositoryError(RunbookError):
    """A model repository is wrong, or could not be stored whole."""


class NotStoredError(RepositoryError):
    """Nothing whole is stored under a URI; the store itself answered."""


class AlreadyThereError(RepositoryError):
    """An object that should be made at a store lies there already."""


class ServiceError(RunbookError):
    """A server did not start, become ready, or answer."""


class RolloutError(ServiceError):
    """A rollout can't become ready, or was not in time.

    Args:
        cause: the id of what holds it up; empty where nothing known does.
    """

    def __init__(
        self, what: str, *, why: str = "", fix: str = "", page: str = "", cause: str = ""
    ) -> None:
        super().__init__(what, why=why, fix=fix, page=page)
        self.cause = cause

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.what,), vars(self).copy())

    def to_dict(self) -> dict[str, str]:
        """The error as plain data, with its cause where it is known."""
        return super().to_dict() | ({"cause": self.cause} if self.cause else {})


class LoadError(RunbookError):
    """A benchmark could not measure what it was asked to."""


class LabError(RunbookError):
    """A part of the embedded lab could not be set up or started."""


class DiagnosisError(RunbookError):
    """A rule or a piece of evidence can't be used."""


class RecordError(RunbookError):
    """A record is missing, incomplete, or was changed."""
