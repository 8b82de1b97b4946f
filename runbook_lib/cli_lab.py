"""`runbook lab …`: the embedded lab, and the test cluster that it can have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runbook_lib.cli_parts import AS_JSON, bar, completing, say

__all__ = ["lab"]

NAME = click.option("--name", default="default", show_default=True, help="Name of the lab.")


def _kserve_versions() -> list[str]:
    from runbook_lib.lab.cluster.parts import kserve_versions

    return list(kserve_versions())


@click.group()
def lab() -> None:
    """The embedded lab: real S3 and real Triton on this machine, and a real Kubernetes on demand."""


@lab.command("setup")
@AS_JSON
def lab_setup(as_json: bool) -> None:
    """Make the lab's own environment (once; about 620 MB on disk)."""
    from runbook_lib.lab.environment import ensure

    ready = ensure(lambda line: click.echo(line, err=True))
    say(
        {"ok": True, "root": str(ready.root), "triton": ready.triton.version},
        f"Lab ready: {ready.root}",
        as_json,
    )


@lab.command("up")
@NAME
@click.option(
    "--cluster",
    "with_cluster",
    is_flag=True,
    help="A Kubernetes with KServe too (root on Linux; the first time builds for about 20 minutes).",
)
@click.option(
    "--kserve",
    metavar="VERSION",
    shell_complete=completing(_kserve_versions),
    help="The cluster's KServe; implies --cluster.",
)
@AS_JSON
def lab_up(name: str, with_cluster: bool, kserve: str | None, as_json: bool) -> None:
    """Start the lab and leave it up until `runbook lab down`."""
    from runbook_lib.lab.lab import Lab
    from runbook_lib.places import notebooks_dir

    one = Lab(name)
    if with_cluster or kserve is not None:
        from runbook_lib.lab.cluster import cluster

        with bar("Starting the lab and its cluster") as told:
            cluster.up(one, kserve=kserve, on_line=told)
    else:
        with bar("Starting the lab") as told:
            one.up(told)
    status = _status(one)
    prefix = "" if name == "default" else f"RUNBOOK_LAB={name} "
    lines = [
        f"The lab {name!r} is up: S3 at {status['servers'][0]['endpoint']}",
        f"Open the pages:  {prefix}{Path(sys.executable).parent / 'jupyter'} lab {notebooks_dir()}",
        f"Stop it with:    runbook lab down{'' if name == 'default' else f' --name {name}'}",
    ]
    say(status, "\n".join([*lines, *_about(status["cluster"])]), as_json)


@lab.command("down")
@NAME
@click.option("--data", is_flag=True, help="Remove its data, logs and keys too.")
@AS_JSON
def lab_down(name: str, data: bool, as_json: bool) -> None:
    """Stop this lab's servers and its cluster, and nobody else's."""
    from runbook_lib.lab.lab import Lab

    stopped = Lab(name).down(data=data)
    say(
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

    status = _status(Lab(name))
    lines = [
        f"{one['name']:<12} process {one['process']:<8} {one.get('endpoint') or one.get('http')}  {one['log']}"
        for one in status["servers"]
    ]
    lines = lines or [f"The lab {name!r} is down."]
    say(status, "\n".join([*lines, *_about(status["cluster"])]), as_json)
    # A cluster that lost a part is no cluster that is up.
    whole = status["cluster"] is None or status["cluster"]["up"]
    return 0 if status["up"] and whole else 1


def _status(one: Any) -> dict[str, Any]:
    """The lab's servers and, where it has one, its cluster's parts."""
    from runbook_lib.lab.cluster import cluster

    told = cluster.status(one)
    has_one = any(part["alive"] for part in told["parts"])
    return {**one.status(), "cluster": told if has_one else None}


def _about(told: dict[str, Any] | None) -> list[str]:
    if told is None:
        return []
    memory = sum(part["memory_bytes"] for part in told["parts"]) / 1e6
    lines = [
        f"  {part['name']:<24} "
        + (
            f"process {part['process']:<8} {part['memory_bytes'] / 1e6:6.0f} MB"
            if part["alive"]
            else f"ended; its log: {part['log']}"
        )
        for part in told["parts"]
    ]
    if not told["up"]:
        return ["", "The cluster is not whole: runbook lab up --cluster heals it.", *lines]
    versions = told["versions"]
    return [
        "",
        f"The cluster is up: Kubernetes {versions['kubernetes']}, KServe {versions['kserve']} ({memory:.0f} MB)",
        *lines,
        f"  export KUBECONFIG={told['kubeconfig']}",
        f"  S3 for the host and for pods: {told['s3_endpoint']}",
    ]
