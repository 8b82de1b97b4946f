"""`runbook plan`: whether a profile fits, in which shapes, with which commands."""

from __future__ import annotations

import click

from runbook_lib.cli_parts import AS_JSON, PROFILE, in_force, say

__all__ = ["plan"]


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
