"""The command line. Thin: each command is one call into the library.

Exit codes: 0 fine, 1 what was checked is bad or the run failed, 2 the command can't mean anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from runbook_lib.errors import RunbookError, UsageError

__all__ = ["main"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
OUTPUTS = click.option(
    "--outputs", type=click.Path(path_type=Path), help="Folder of records (./outputs)."
)
PROFILE = click.argument("profile", shell_complete=lambda *_: _profiles())


def main() -> NoReturn:
    """Run the command and end with its exit code."""
    try:
        code = runbook.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit("Interrupted.")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RunbookError as error:
        if "--json" in sys.argv:
            click.echo(json.dumps({"ok": False, **error.to_dict()}))
        click.secho(str(error), err=True, fg="red" if sys.stderr.isatty() else None)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trtllm-runbooks")
def runbook() -> None:
    """Take a model from weights to a measured TensorRT-LLM service, one page at a time."""


def _say(value: Any, text: str, as_json: bool) -> None:
    click.echo(json.dumps(value, indent=2, default=str) if as_json else text)


def _profiles() -> list[str]:
    from runbook_lib.profile import profile_names

    return profile_names()


def _pages() -> list[str]:
    from runbook_lib.parameters import PAGES

    return [page.name for page in PAGES]


# -- pages ---------------------------------------------------------------------------------------


@runbook.command("list")
@AS_JSON
def list_pages(as_json: bool) -> None:
    """Show the pages in order, and the profiles."""
    from runbook_lib.parameters import PAGES

    names = _profiles()
    rows = [{"page": page.name, "effect": page.effect, "changes": page.changes} for page in PAGES]
    lines = [f"{row['page']:<20} {row['effect']}" for row in rows]
    _say(
        {"pages": rows, "profiles": names},
        "\n".join([*lines, "", "profiles: " + ", ".join(names)]),
        as_json,
    )


@runbook.command()
@click.argument("notebook", shell_complete=lambda *_: _pages())
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
    _say(asdict(page), "\n".join(lines), as_json)


@runbook.command()
@click.argument("pages", nargs=-1, required=True, shell_complete=lambda *_: ["all", *_pages()])
@click.option(
    "--profile", default="lab/tiny", show_default=True, shell_complete=lambda *_: _profiles()
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
        _say({"ok": True, "would_run": steps}, text, as_json)
        return 0
    report = run_pages(order, Terminal(sys.stderr))
    told = summary(report)
    _say({"ok": report.ok, **told.data}, told.text, as_json)
    return 0 if report.ok else 1


def _pair(assignment: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals or not name:
        raise UsageError(f"-p {assignment} is not NAME=VALUE.")
    return name, value


# -- single stages -------------------------------------------------------------------------------


@runbook.command()
@PROFILE
@click.option("--gpu", help="Plan for this GPU instead of the profile's.")
@click.option("--trtllm", help="Plan for this TensorRT-LLM release instead of the profile's.")
@AS_JSON
def plan(profile: str, gpu: str | None, trtllm: str | None, as_json: bool) -> int:
    """Say whether a profile fits, in which shapes, with which commands."""
    from runbook_lib.study.stages import plan_profile

    made = plan_profile(_effective(profile, gpu=gpu, trtllm_version=trtllm))
    _say(made.model_dump(mode="json"), str(made), as_json)
    return 0 if made.fits else 1


def _effective(profile: str, **overrides: str | None) -> Any:
    import os

    from runbook_lib.profile import load_profile

    given = {name: value for name, value in overrides.items() if value is not None}
    return load_profile(profile, env=os.environ, overrides=given)


@runbook.group()
def engine() -> None:
    """Build engines."""


@engine.command("build")
@PROFILE
@click.option("--rebuild", is_flag=True, help="Build again although the receipt holds.")
@AS_JSON
def engine_build(profile: str, rebuild: bool, as_json: bool) -> None:
    """Build the engine of a profile, or keep the one whose receipt holds."""
    from runbook_lib.study.stages import build_engine

    with _bar("Building") as told:
        made = build_engine(_effective(profile).value, on_line=told, rebuild=rebuild)
    _say(made.model_dump(mode="json"), str(made), as_json)


@runbook.group()
def repo() -> None:
    """Lay out, check and store model repositories."""


@repo.command("lint")
@click.argument("path")
@click.option(
    "--backends", default="cpu", show_default=True, help="cpu, trtllm, or a list with commas."
)
@AS_JSON
def repo_lint(path: str, backends: str, as_json: bool) -> int:
    """Say whether Triton would load every model of a repository, and what to change."""
    from runbook_lib.repository.lint import lint

    result = lint(Path(path), backends=backends)
    _say(result.to_dict(), str(result), as_json)
    return 0 if result.ok else 1


@repo.command("skeleton")
@click.argument("folder", type=click.Path(path_type=Path))
@AS_JSON
def repo_skeleton(folder: Path, as_json: bool) -> None:
    """Write the guide's three-model example in a form that Triton loads and serves."""
    from runbook_lib.repository.skeleton import skeleton

    files = skeleton(folder)
    _say(
        {"ok": True, "files": [str(path) for path in files]},
        f"{len(files)} files in {folder}",
        as_json,
    )


@repo.command("push")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("uri")
@click.option("--replace", is_flag=True, help="Replace another content under the same URI.")
@AS_JSON
def repo_push(folder: Path, uri: str, replace: bool, as_json: bool) -> None:
    """Send a repository to an object store; the manifest goes last, so a half push is never whole."""
    from runbook_lib.repository.store import push
    from runbook_lib.study.stages import object_store

    with _bar("Pushing") as told:
        pushed = push(folder, uri, credentials=object_store(), replace=replace, on_progress=told)
    _say(pushed.to_dict(), str(pushed), as_json)


@repo.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("uri")
@AS_JSON
def repo_verify(folder: Path, uri: str, as_json: bool) -> int:
    """Compare a stored repository with a folder, byte for byte by digest."""
    from runbook_lib.repository.store import verify
    from runbook_lib.study.stages import object_store

    problems = verify(folder, uri, credentials=object_store())
    text = "\n".join(str(one) for one in problems) or f"{uri} holds exactly what {folder} holds."
    _say({"ok": not problems, "problems": [str(one) for one in problems]}, text, as_json)
    return 1 if problems else 0


# -- the lab -------------------------------------------------------------------------------------

NAME = click.option("--name", default="default", show_default=True, help="Name of the lab.")


@runbook.group()
def lab() -> None:
    """The embedded lab: real S3 and real Triton on this machine."""


@lab.command("setup")
@AS_JSON
def lab_setup(as_json: bool) -> None:
    """Make the lab's own environment (once; about 620 MB on disk)."""
    from runbook_lib.lab.environment import ensure

    ready = ensure(lambda line: click.echo(line, err=True))
    _say(
        {"ok": True, "root": str(ready.root), "triton": ready.triton.version},
        f"Lab ready: {ready.root}",
        as_json,
    )


@lab.command("up")
@NAME
@AS_JSON
def lab_up(name: str, as_json: bool) -> None:
    """Start the lab and leave it up until `runbook lab down`."""
    from runbook_lib.lab.lab import Lab
    from runbook_lib.places import notebooks_dir

    one = Lab(name)
    with _bar("Starting the lab") as told:
        one.up(told)
    status = one.status()
    prefix = "" if name == "default" else f"RUNBOOK_LAB={name} "
    text = (
        f"The lab {name!r} is up: S3 at {status['servers'][0]['endpoint']}\n"
        f"Open the pages:  {prefix}{Path(sys.executable).parent / 'jupyter'} lab {notebooks_dir()}\n"
        f"Stop it with:    runbook lab down{'' if name == 'default' else f' --name {name}'}"
    )
    _say(status, text, as_json)


@lab.command("down")
@NAME
@click.option("--data", is_flag=True, help="Remove its data, logs and keys too.")
@AS_JSON
def lab_down(name: str, data: bool, as_json: bool) -> None:
    """Stop this lab's servers, and nobody else's."""
    from runbook_lib.lab.lab import Lab

    stopped = Lab(name).down(data=data)
    _say(
        {"lab": name, "stopped": stopped},
        f"Stopped: {', '.join(stopped) or 'nothing was running'}",
        as_json,
    )


@lab.command("status")
@NAME
@AS_JSON
def lab_status(name: str, as_json: bool) -> int:
    """Show what lives in this lab and where it answers."""
    from runbook_lib.lab.lab import Lab

    status = Lab(name).status()
    lines = [
        f"{one['name']:<12} process {one['process']:<8} {one.get('endpoint') or one.get('http')}  {one['log']}"
        for one in status["servers"]
    ]
    _say(status, "\n".join(lines) or f"The lab {name!r} is down.", as_json)
    return 0 if status["up"] else 1


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
    _say(result.to_dict(), str(result), as_json)
    return 0 if result.ok else 1


def _bar(label: str) -> Any:
    from runbook_lib.record.progress import Spinner

    return Spinner(label, sys.stderr)


Command = Callable[..., Any]
