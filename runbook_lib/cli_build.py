"""`runbook engine build|inspect|check`: engines made, read, and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runbook_lib.cli_parts import (
    AS_JSON,
    PROFILE,
    bar,
    completing,
    in_force,
    profile_completions,
    say,
)

__all__ = ["ENGINES"]

FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.command("build")
@PROFILE
@click.option("--rebuild", is_flag=True, help="Build again although the receipt holds.")
@AS_JSON
def build(profile: str, rebuild: bool, as_json: bool) -> None:
    """Build the engine of a lab profile, or keep the one whose receipt holds."""
    from runbook_lib.lab.engines import build as build_engine
    from runbook_lib.places import cache_dir

    value = in_force(profile)
    with bar("Building") as told:
        log = cache_dir() / "logs" / f"build-{value.model_name}.log"
        made = build_engine(value, log, told, rebuild=rebuild)
    say(made.model_dump(mode="json"), str(made), as_json)


@click.command("inspect")
@FOLDER
@AS_JSON
def inspect(folder: Path, as_json: bool) -> int:
    """Show what an engine directory says of itself: versions, SM, precision, ranks, limits, digest."""
    facts = _facts(folder)
    say(facts.to_dict(), str(facts), as_json)
    return 1 if facts.faults else 0


@click.command("check")
@FOLDER
@click.option(
    "--node-labels",
    type=click.Path(path_type=Path),
    help="Labels of the node, or of several: kubectl get node NAME -o yaml > FILE.",
)
@click.option(
    "--profile", shell_complete=completing(profile_completions), help="Profile that it is for."
)
@click.option("--image", help="Image that is to serve it.")
@click.option("--against", type=click.Path(path_type=Path), help="Another engine directory.")
@AS_JSON
def check(  # noqa: PLR0917 - click passes an argument for each option
    folder: Path,
    node_labels: Path | None,
    profile: str | None,
    image: str | None,
    against: Path | None,
    as_json: bool,
) -> int:
    """Say whether an engine belongs to a node, a profile, an image; without these, to this machine.

    Every mismatch at once, with what the server would say when it loads. Loads nothing. What nobody
    can tell is no yes: exit code 1.
    """
    from runbook_lib.targets.engine_check import check_engine

    value = None if profile is None else in_force(profile)
    with bar("Reading") as told:
        found = check_engine(
            folder, profile=value, node_labels=node_labels, image=image, on_line=told
        )
        other = None if against is None else _facts(against)
    problems = [one.to_dict() for one in found.mismatches]
    answer: dict[str, Any] = {"ok": found.ok, "problems": problems}
    text = str(found)
    if other is not None:
        from runbook_lib.engine.identity_compare import differences

        apart = differences(found.facts, other)
        same = found.facts.digest == other.digest
        answer |= {
            "ok": found.ok and not apart,
            "differences": [vars(one) for one in apart],
            "same_files": same,
        }
        bytes_told = "The same files." if same else "The same engine by identity, other files."
        text = "\n".join([text, *map(str, apart)] if apart else [text, bytes_told])
    say(answer, text, as_json)
    return 0 if answer["ok"] else 1


def _facts(folder: Path) -> Any:
    from runbook_lib.engine.identity import engine_files, inspect_engine

    return inspect_engine(folder, engine_files(folder) if folder.is_dir() else ())


ENGINES = (build, inspect, check)
