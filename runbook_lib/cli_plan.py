"""`runbook plan`: whether a profile fits, in which shapes, with which commands, at what cost."""

from __future__ import annotations

import click

from runbook_lib.cli_parts import AS_JSON, PROFILE, completing, in_force, say

__all__ = ["plan"]

SHOWN = 2  # commands on the screen: conversion and build


def _preset_completions() -> list[str]:
    from runbook_lib.plan.presets import preset_names

    return preset_names()


@click.command()
@PROFILE
@click.option("--gpu", help="Plan for this GPU (or MIG slice) instead of the profile's.")
@click.option("--trtllm", help="Plan for this TensorRT-LLM release instead of the profile's.")
@click.option(
    "--traffic",
    default="",
    metavar="FILE|LOAD",
    help="CSV or JSON lines of prompt and answer lengths, or a load profile.",
)
@click.option("--price-per-hour", type=float, help="Of one GPU, in your currency: tells the cost.")
@click.option(
    "--preset",
    default="",
    help="Apply a pattern of the deployment guide first.",
    shell_complete=completing(_preset_completions),
)
@AS_JSON
def plan(
    profile: str,
    *,
    gpu: str | None,
    trtllm: str | None,
    traffic: str,
    price_per_hour: float | None,
    preset: str,
    as_json: bool,
) -> int:
    """Say whether a profile fits, in which shapes, with which commands, at what cost.

    Exit 1: it can't run, or the traffic doesn't fit. Fewer than max_batch_size longest sequences in
    the KV cache are no failure: what has no room waits.
    """
    from runbook_lib.study.planning import plan_profile

    asked = in_force(profile, gpu=gpu, trtllm_version=trtllm)
    made = plan_profile(asked, traffic=traffic, price_per_hour=price_per_hour, preset=preset)
    short = made.model_copy(update={"commands": made.commands[:SHOWN]})
    more = len(made.commands) - len(short.commands)
    rest = f"\n{more} more commands: runbook engine commands {profile}" if more else ""
    say(made.model_dump(mode="json"), f"{short}{rest}", as_json)
    return 0 if made.fits else 1
