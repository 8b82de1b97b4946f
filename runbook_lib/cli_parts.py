"""What the commands share: JSON or text, a line of progress, and what a shell completes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

__all__ = [
    "APPROVE",
    "AS_JSON",
    "PROFILE",
    "bar",
    "completing",
    "in_force",
    "profile_completions",
    "say",
]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def say(value: Any, text: str, as_json: bool) -> None:
    """Print the value as JSON, or the text."""
    click.echo(json.dumps(value, indent=2, default=str) if as_json else text)


def bar(label: str) -> Any:
    """A step that may take longer than a second: what it says, and for how long."""
    from runbook_lib.record.progress import Spinner

    return Spinner(label, sys.stderr)


def profile_completions() -> list[str]:
    """Names of deployment profiles."""
    from runbook_lib.profile import profile_names

    return profile_names()


def completing(names: Callable[[], list[str]]) -> Callable[[Any, Any, str], list[str]]:
    """What a shell is offered: the names that go on from what was typed; click leaves that to us."""
    return lambda _context, _parameter, typed: [name for name in names() if name.startswith(typed)]


PROFILE = click.argument("profile", shell_complete=completing(profile_completions))
APPROVE = click.option(
    "--approve", default="", metavar="DIGEST|auto", help="Approve what would change."
)


def in_force(profile: str, **overrides: str | None) -> Any:
    """The profile with the guide's variables and the command's own options in force."""
    from runbook_lib.profile import load_profile

    given = {name: value for name, value in overrides.items() if value is not None}
    return load_profile(profile, env=os.environ, overrides=given).value
