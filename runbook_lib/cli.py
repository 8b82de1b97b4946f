"""The command line. Thin: each command is one call into the library.

Exit codes: 0 fine, 1 what was checked is bad or the run failed, 2 the command can't mean anything.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from runbook_lib.cli_lab import lab
from runbook_lib.cli_parts import AS_JSON, completing, profile_completions, say
from runbook_lib.cli_stages import STAGES
from runbook_lib.errors import RunbookError, UsageError

__all__ = ["main"]

OWN_OPTION = {"profile": "--profile", "target": "--target", "run": "--resume"}
OUTPUTS = click.option(
    "--outputs", type=click.Path(path_type=Path), help="Folder of records (./outputs)."
)


def main() -> NoReturn:
    """Run the command and end with its exit code."""
    try:
        code = runbook.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit("Interrupted.")
    except click.ClickException as error:
        _tell_programs({"error": "UsageError", "what": error.format_message()})
        error.show()
        sys.exit(error.exit_code)
    except RunbookError as error:
        _tell_programs(error.to_dict())
        click.secho(str(error), err=True, fg="red" if _in_colour() else None)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    sys.exit(code or 0)


def _tell_programs(error: dict[str, str]) -> None:
    """With `--json`, standard output is JSON however the command ends."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"ok": False, **error}))


def _in_colour() -> bool:
    dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not dumb


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trtllm-runbooks")
def runbook() -> None:
    """Take a model from weights to a measured TensorRT-LLM service, one page at a time."""


def _pages() -> list[str]:
    from runbook_lib.parameters import PAGES

    return [page.name for page in PAGES]


for stage in STAGES:
    runbook.add_command(stage)
runbook.add_command(lab)


# -- pages ---------------------------------------------------------------------------------------


@runbook.command("list")
@AS_JSON
def list_pages(as_json: bool) -> None:
    """Show the pages in order, and the profiles."""
    from runbook_lib.parameters import PAGES

    names = profile_completions()
    rows = [{"page": page.name, "effect": page.effect, "changes": page.changes} for page in PAGES]
    lines = [f"{row['page']:<20} {row['effect']}" for row in rows]
    say(
        {"pages": rows, "profiles": names},
        "\n".join([*lines, "", "profiles: " + ", ".join(names)]),
        as_json,
    )


@runbook.command()
@click.argument("notebook", shell_complete=completing(_pages))
@AS_JSON
def describe(notebook: str, as_json: bool) -> None:
    """Show what a page does, and its parameters."""
    from dataclasses import asdict

    from runbook_lib.parameters import page_named

    page = page_named(notebook)
    lines = [
        f"{page.name}: {page.title}",
        page.effect,
        f"Changes: {page.changes}. Takes about {page.seconds} s.",
        "",
    ]
    lines += [
        f"  {one.name:<12} {one.type:<6} {one.default!r:<12} {one.help}" for one in page.parameters
    ]
    say(asdict(page), "\n".join(lines), as_json)


@runbook.command()
@click.argument(
    "pages", nargs=-1, required=True, shell_complete=completing(lambda: ["all", *_pages()])
)
@click.option(
    "--profile",
    default="lab/tiny",
    show_default=True,
    shell_complete=completing(profile_completions),
)
@click.option("--target", type=click.Choice(["lab", "kserve"]), default="lab", show_default=True)
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A page's parameter.")
@click.option(
    "--approve", multiple=True, metavar="DIGEST|auto", help="Approve this plan (may be repeated)."
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="Go on in this run: what still holds is not run again.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and show what would run.")
@click.option(
    "--cell-timeout", type=float, default=900.0, show_default=True, help="Seconds for one cell."
)
@OUTPUTS
@AS_JSON
def run(
    pages: tuple[str, ...],
    profile: str,
    target: str,
    assignments: tuple[str, ...],
    approve: tuple[str, ...],
    resume: Path | None,
    dry_run: bool,
    cell_timeout: float,
    outputs: Path | None,
    as_json: bool,
) -> int:
    """Run pages in order and leave a record: `runbook run all --profile lab/tiny`."""
    from runbook_lib.parameters import parse_assignments
    from runbook_lib.places import outputs_dir
    from runbook_lib.record.orchestrate import Order, planned, run_pages
    from runbook_lib.record.progress import Terminal
    from runbook_lib.record.summary import summary

    names = _pages() if "all" in pages else list(pages)
    values = parse_assignments(names, dict(_pair(one) for one in assignments))
    order = Order(
        pages=tuple(names),
        profile=profile,
        target=target,
        approve=",".join(approve),
        parameters=values,
        outputs=outputs.absolute() if outputs else outputs_dir(),
        resume=resume,
        cell_timeout=cell_timeout,
    )
    if dry_run:
        steps = [{"page": page.name, "parameters": given} for page, given in planned(order)]
        text = "\n".join(f"{step['page']:<20} {json.dumps(step['parameters'])}" for step in steps)
        say({"ok": True, "would_run": steps}, text, as_json)
        return 0
    with Terminal(sys.stderr) as terminal:
        report = run_pages(order, terminal)
    told = summary(report)
    say({"ok": report.ok, **told.data}, told.text, as_json)
    return 0 if report.ok else 1


def _pair(assignment: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals or not name:
        raise UsageError(f"-p {assignment} is not NAME=VALUE.")
    if option := OWN_OPTION.get(name):
        # The record is named, and its receipts are kept, by what the option says.
        raise UsageError(f"-p {assignment} can't be given so.", fix=f"Say {option} {value}")
    return name, value


# -- records -------------------------------------------------------------------------------------


@runbook.group()
def record() -> None:
    """Look after records."""


@record.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@OUTPUTS
@AS_JSON
def record_verify(folder: Path, outputs: Path | None, as_json: bool) -> int:
    """Check every file of a record against its digests, and how its pages ended."""
    from runbook_lib.places import outputs_dir
    from runbook_lib.record.verify import verify_record

    found = folder if folder.is_dir() else (outputs or outputs_dir()) / folder
    result = verify_record(found)
    say(result.to_dict(), str(result), as_json)
    return 0 if result.ok else 1


def _completion_of(shell: str) -> str:
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    assert known is not None
    return known(runbook, {}, "runbook", "_RUNBOOK_COMPLETE").source()


@runbook.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: `eval "$(runbook completion bash)"`."""
    click.echo(_completion_of(shell))


@runbook.command()
@click.argument("kind", type=click.Choice(["deployment", "load", "mig"]))
@click.option("--json", is_flag=True, expose_value=False, help="It is JSON in any case.")
def schema(kind: str) -> None:
    """Print the JSON schema of a kind of profile, for editors."""
    from runbook_lib.profile import DeploymentProfile, LoadProfile, MigProfile, json_schema

    kinds: dict[str, Any] = {
        "deployment": DeploymentProfile,
        "load": LoadProfile,
        "mig": MigProfile,
    }
    click.echo(json.dumps(json_schema(kinds[kind]), indent=2))
