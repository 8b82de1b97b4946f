"""The commands that do one stage each: plan, engine, repo, deploy, bench, tradeoffs."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_lib import cli_engine
from runbook_lib.cli_deploy import DEPLOYING
from runbook_lib.cli_parts import APPROVE, AS_JSON, PROFILE, bar, in_force, say

__all__ = ["STAGES"]


@click.command()
@PROFILE
@click.option("--gpu", help="Plan for this GPU instead of the profile's.")
@click.option("--trtllm", help="Plan for this TensorRT-LLM release instead of the profile's.")
@AS_JSON
def plan(profile: str, gpu: str | None, trtllm: str | None, as_json: bool) -> int:
    """Say whether a profile fits, in which shapes, with which commands."""
    from runbook_lib.study.planning import plan_profile

    made = plan_profile(in_force(profile, gpu=gpu, trtllm_version=trtllm))
    say(made.model_dump(mode="json"), str(made), as_json)
    return 0 if made.fits else 1


@click.group()
def engine() -> None:
    """Build engines, and print the commands that build them."""


cli_engine.add_to(engine)


@engine.command("build")
@PROFILE
@click.option("--rebuild", is_flag=True, help="Build again although the receipt holds.")
@AS_JSON
def engine_build(profile: str, rebuild: bool, as_json: bool) -> None:
    """Build the engine of a lab profile, or keep the one whose receipt holds."""
    from runbook_lib.lab.engines import build
    from runbook_lib.places import cache_dir

    value = in_force(profile)
    with bar("Building") as told:
        log = cache_dir() / "logs" / f"build-{value.model_name}.log"
        made = build(value, log, told, rebuild=rebuild)
    say(made.model_dump(mode="json"), str(made), as_json)


@click.group()
def repo() -> None:
    """Lay out, check and store model repositories."""


@repo.command("lint")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--backends", default="cpu", show_default=True, help="cpu, trtllm, or a list with commas."
)
@AS_JSON
def repo_lint(path: Path, backends: str, as_json: bool) -> int:
    """Say whether Triton would load every model of a repository, and what to change."""
    from runbook_lib.repository.lint import lint

    result = lint(path, backends=backends)
    say(result.to_dict(), str(result), as_json)
    return 0 if result.ok else 1


@repo.command("fix")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="New folder, by default FOLDER-fixed."
)
@click.option("--backends", default="cpu", show_default=True, help="As for lint.")
@AS_JSON
def repo_fix(folder: Path, output: Path | None, backends: str, as_json: bool) -> int:
    """Write a repaired copy of a repository that Triton refuses, and show what was changed.

    Only what can mean one thing is repaired; what is left is told, and the command then ends with 1.
    """
    from runbook_lib.repository.fix import fix
    from runbook_lib.repository.fix_source import default_output

    fixed = fix(folder, output or default_output(folder), backends=backends)
    say(fixed.to_dict(), str(fixed), as_json)
    return 0 if fixed.ok else 1


@repo.command("skeleton")
@click.argument("folder", type=click.Path(path_type=Path))
@AS_JSON
def repo_skeleton(folder: Path, as_json: bool) -> None:
    """Write the guide's three-model example in a form that Triton loads and serves."""
    from runbook_lib.repository.skeleton import skeleton

    files = [str(path) for path in skeleton(folder)]
    say({"ok": True, "files": files}, f"{len(files)} files in {folder}", as_json)


@repo.command("push")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("uri")
@click.option("--replace", is_flag=True, help="Replace another content under the same URI.")
@AS_JSON
def repo_push(folder: Path, uri: str, replace: bool, as_json: bool) -> None:
    """Send a repository to an object store; a half push is never taken as whole."""
    from runbook_lib.lab.repositories import push_at_hand

    with bar("Pushing") as told:
        pushed = push_at_hand(folder, uri, replace=replace, on_line=told)
    say(pushed.to_dict(), str(pushed), as_json)


@repo.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("uri")
@AS_JSON
def repo_verify(folder: Path, uri: str, as_json: bool) -> int:
    """Compare a stored repository with a folder, byte for byte by digest."""
    from runbook_lib.lab.repositories import access_at_hand
    from runbook_lib.repository.store import verify

    problems = [str(one) for one in verify(folder, uri, credentials=access_at_hand())]
    text = "\n".join(problems) or f"{uri} holds exactly what {folder} holds."
    say({"ok": not problems, "problems": problems}, text, as_json)
    return 1 if problems else 0


@click.command()
@click.argument("url")
@click.option(
    "--load", "load_name", default="load/lab-closed", show_default=True, help="Load profile."
)
@click.option("--model", default="ensemble", show_default=True, help="Model of the server to ask.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for every request as CSV.")
@AS_JSON
def bench(url: str, load_name: str, model: str, output: Path | None, as_json: bool) -> int:
    """Put a load on a Triton server and tell TTFT, ITL and throughput with intervals."""
    from runbook_lib.study.loads import bench_url

    with bar("Load") as told:
        found = bench_url(url, model, load_name, output, told.share)
    say(found.model_dump(mode="json"), str(found), as_json)
    return 1 if found.failed else 0


@click.command("tradeoffs")
@PROFILE
@click.option("--requests", type=click.IntRange(1), default=200, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 4096), default=4, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=48, show_default=True)
@click.option("--remeasure", is_flag=True, help="Measure again although a receipt holds.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("trtllm_tradeoffs.csv"),
    show_default=True,
    help="CSV file that the rows are added to; the guide's columns first.",
)
@APPROVE
@AS_JSON
def weigh(  # noqa: PLR0917 - click passes an argument for each option
    profile: str,
    requests: int,
    concurrency: int,
    max_tokens: int,
    remeasure: bool,
    output: Path,
    approve: str,
    as_json: bool,
) -> int:
    """Build the engines of a lab profile, measure each the same way, and say which to take."""
    from runbook_lib.lab.lab import at_hand
    from runbook_lib.places import cache_dir
    from runbook_lib.record.approval import ChangePlan, decide
    from runbook_lib.study import loads, tradeoffs
    from runbook_lib.study.guide_csv import append_rows, check_file
    from runbook_lib.targets.lab import LabTarget

    value = in_force(profile)
    asked = {"requests": requests, "concurrency": concurrency, "max_tokens": max_tokens, "seed": 7}
    load, cells = loads.study_load(asked), tradeoffs.cells_of(value)
    check_file(output)
    intended = ChangePlan(
        "tradeoffs", tuple(tradeoffs.changes_of(LabTarget(), cells, load, remeasure=remeasure))
    )
    click.echo(str(intended), err=True)
    decide(intended, approve, value.approve, [])
    with bar("Weighing") as told, at_hand("tradeoffs"):
        found = tradeoffs.study(
            LabTarget(),
            value,
            load,
            loads.prompts(asked["seed"]),
            cache_dir() / "logs",
            remeasure=remeasure,
            on_cell=lambda number, label: told(f"{number + 1} of {len(cells)}: {label}"),
        )
    append_rows(output, found.rows)
    say(found.model_dump(mode="json"), f"{tradeoffs.table(found)}\n{found.reason}", as_json)
    return 1 if any(row.status == "failed" for row in found.rows) else 0


STAGES = (plan, engine, repo, *DEPLOYING, bench, weigh)
