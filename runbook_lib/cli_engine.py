"""`runbook engine`: the commands of a release, building, and what an engine directory says."""

from __future__ import annotations

import os
from typing import Any

import click

from runbook_lib.cli_build import ENGINES
from runbook_lib.cli_parts import AS_JSON, completing, profile_completions, say

__all__ = ["engine"]

PROFILE = click.argument("profile", shell_complete=completing(profile_completions))
WORK = "WORK"


@click.group()
def engine() -> None:
    """Build engines, and print the commands that build them."""


def _in_force(profile: str, trtllm: str | None) -> Any:
    from runbook_lib.profile import load_profile

    overrides = {} if trtllm is None else {"trtllm_version": trtllm}
    return load_profile(profile, env=os.environ, overrides=overrides).value


def _told(notes: list[str]) -> None:
    """Notes go to stderr: stdout holds commands that can be pasted, or JSON."""
    for note in notes:
        click.echo(f"note: {note}", err=True)


@engine.command("commands")
@PROFILE
@click.option("--trtllm", help="Release instead of the profile's.")
@click.option("--explain", is_flag=True, help="Say why each flag is there and what is new.")
@AS_JSON
def engine_commands(profile: str, trtllm: str | None, explain: bool, as_json: bool) -> None:
    """Print the commands from a checkpoint to a running server, for one release."""
    from runbook_lib.engine import commands, explanations, notes

    value = _in_force(profile, trtllm)
    made = commands.commands(value, weights=value.weights, work=WORK)
    _told(notes.notes(value))
    if explain:
        explained = explanations.explain(made, value)
        text = "\n".join(map(str, explained))
        say([one.to_dict() for one in explained], text, as_json)
        return
    say([one.to_dict() for one in made], "\n".join(map(str, made)), as_json)


@engine.command("diff")
@click.argument("before", metavar="V1")
@click.argument("after", metavar="V2")
@click.argument("profile", required=False, shell_complete=completing(profile_completions))
@AS_JSON
def engine_diff(before: str, after: str, profile: str | None, as_json: bool) -> None:
    """Say what changes between two releases, and what becomes of a profile's commands."""
    from runbook_lib.engine.differences import difference

    value = None if profile is None else _in_force(profile, before)
    found = difference(before, after, value)
    say(found.to_dict(), str(found), as_json)


@engine.command("translate")
@click.argument("command")
@click.option("--trtllm", help="Release to translate for; by default the last that has engines.")
@AS_JSON
def engine_translate(command: str, trtllm: str | None, as_json: bool) -> None:
    """Say what a trtllm-build line of the guide, or of an older release, is today."""
    from runbook_lib.engine.releases import VERSIONS
    from runbook_lib.engine.translation import translate

    found = translate(command, trtllm or VERSIONS[-1])
    say(found.to_dict(), str(found), as_json)


for one in ENGINES:
    engine.add_command(one)
