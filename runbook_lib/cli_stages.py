"""The commands of the stages: those on a load here, the others from their own modules."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_lib.cli_build import BUILDER_CMD, WithPlaceholders, ended_by_sigterm
from runbook_lib.cli_deploy import DEPLOYING
from runbook_lib.cli_diagnose import diagnose
from runbook_lib.cli_engine import engine
from runbook_lib.cli_parts import APPROVE, AS_JSON, PROFILE, bar, in_force, say
from runbook_lib.cli_plan import plan
from runbook_lib.cli_repo import repo

__all__ = ["STAGES"]


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


@click.command("tradeoffs", cls=WithPlaceholders)
@PROFILE
@BUILDER_CMD
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
    builder_cmd: str | None,
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

    value = in_force(profile, builder_cmd=builder_cmd)
    asked = {"requests": requests, "concurrency": concurrency, "max_tokens": max_tokens, "seed": 7}
    load, cells = loads.study_load(asked), tradeoffs.cells_of(value)
    check_file(output)
    intended = ChangePlan(
        "tradeoffs", tuple(tradeoffs.changes_of(LabTarget(), cells, load, remeasure=remeasure))
    )
    click.echo(str(intended), err=True)
    decide(intended, approve, value.approve, [])
    with ended_by_sigterm(), bar("Weighing") as told, at_hand("tradeoffs"):
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


STAGES = (plan, engine, repo, *DEPLOYING, bench, weigh, diagnose)
