"""`runbook engine build|inspect|check`: engines made, read, and judged."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_lib.cli_parts import (
    APPROVE,
    AS_JSON,
    PROFILE,
    bar,
    completing,
    in_force,
    profile_completions,
    say,
)

if TYPE_CHECKING:
    from runbook_lib.profile import DeploymentProfile
    from runbook_lib.targets.kserve import KServeTarget

__all__ = ["BUILDER_CMD", "ENGINES", "WithPlaceholders", "ended_by_sigterm"]

FOLDER = click.argument("folder", type=click.Path(path_type=Path))


class WithPlaceholders(click.Command):
    """A command whose help ends with what a template of a build command may say."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Read from the templates' own table, which is loaded only here."""
        from runbook_lib.engine.template import PLACEHOLDERS

        with formatter.section("Placeholders of --builder-cmd"):
            formatter.write_dl([(f"{{{name}}}", told) for name, told in PLACEHOLDERS.items()])
        super().format_epilog(ctx, formatter)


BUILDER_CMD = click.option(
    "--builder-cmd",
    metavar="TEMPLATE",
    help="A build command of your own, with {placeholders}; no shell takes part. A trtllm-build line "
    "of any release, and the guide's, is translated for the profile's.",
)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a step like Ctrl-C, so that it takes everything with it that it started."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command("build", cls=WithPlaceholders)
@PROFILE
@BUILDER_CMD
@click.option(
    "--runner",
    type=click.Choice(["process", "podman", "job"]),
    default="process",
    show_default=True,
    help="On this machine, in a container of the serving image (podman or docker), or as a Job of the "
    "cluster of $KUBECONFIG.",
)
@click.option("--rebuild", is_flag=True, help="Build again although the receipt holds.")
@APPROVE
@AS_JSON
def build(  # noqa: PLR0917 - click passes an argument for each option
    profile: str,
    builder_cmd: str | None,
    runner: str,
    rebuild: bool,
    approve: str,
    as_json: bool,
) -> None:
    """Build the engine of a profile, or keep the one whose receipt holds.

    A Job changes the cluster: it needs --approve.
    """
    from runbook_lib.places import cache_dir
    from runbook_lib.targets.builders import builder_for

    value = in_force(profile, builder_cmd=builder_cmd)
    job = runner == "job"
    builder = _approved_job(value, approve, rebuild) if job else builder_for(value, runner)
    with ended_by_sigterm(), bar("Building") as told:
        log = cache_dir() / "logs" / f"build-{value.model_name}.log"
        made = builder.build(value, log, told, rebuild=rebuild)
    say(made.model_dump(mode="json"), str(made), as_json)


def _approved_job(value: DeploymentProfile, approve: str, rebuild: bool) -> KServeTarget:
    """The cluster, once its change is approved."""
    from runbook_lib.record.approval import ChangePlan, decide
    from runbook_lib.targets.kserve import KServeTarget

    cluster = KServeTarget.connect()
    intended = ChangePlan("build", tuple(cluster.build_changes(value, rebuild=rebuild)))
    click.echo(str(intended), err=True)
    decide(intended, approve, value.approve, [])
    return cluster


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
