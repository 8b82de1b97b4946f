"""The commands that take a checkpoint to a server, for every release of both tracks.

Flags, template names and places are those that a release is recorded with; what it can't do is
refused by the tables in `rules.py`.
"""

from __future__ import annotations

from runbook_lib.engine.build_commands import build, checkpoint, scripts
from runbook_lib.engine.command import Command
from runbook_lib.engine.llmapi_commands import api_commands
from runbook_lib.engine.llmapi_releases import api_release
from runbook_lib.engine.releases import VERSIONS, Release, release
from runbook_lib.engine.rules import check
from runbook_lib.engine.serve_commands import repository, template_paths
from runbook_lib.engine.wish import Wish
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile

__all__ = ["VERSIONS", "Command", "build_commands", "commands", "release_of"]


def commands(profile: DeploymentProfile, *, weights: str, work: str) -> list[Command]:
    """The commands from a Hugging Face checkpoint to a running server, in order.

    On the llmapi track `launch` (Triton) and `serve` (trtllm-serve) are two ways: run one of them.

    Args:
        profile: an engine or llmapi profile; its `trtllm_version` says for which release.
        weights: the checkpoint's folder, which holds the tokenizer too.
        work: folder that gets the checkpoint, the engine, the repository and fetched scripts.

    Raises:
        PlanError: the release, the model or a wish of the profile is not known here, or the
            release or the GPU can't do it; every reason at once.
        ProfileError: there is no such GPU.
    """
    if profile.track == "llmapi" and profile.trtllm_version is not None:
        served = api_release(profile.trtllm_version)
        check(Wish(profile, served.version))
        return api_commands(profile, served, weights, work)
    made = build_commands(profile, weights=weights, work=work)
    return [*made, *repository(profile, release_of(profile), weights, work)]


def build_commands(profile: DeploymentProfile, *, weights: str, work: str) -> list[Command]:
    """The first of `commands` on the engine track: up to the engine.

    Raises:
        PlanError: as `commands`, or the track builds no engines.
        ProfileError: there is no such GPU.
    """
    found = release_of(profile)
    check(Wish(profile, found.version, template_paths(weights, work)))
    made = [checkpoint(profile, found, weights, work), build(profile, found, work)]
    return [*scripts(found, work), *made]


def release_of(profile: DeploymentProfile) -> Release:
    """The record of an engine profile's release.

    Raises:
        PlanError: its track builds no engines of TensorRT-LLM, or the release is not known here.
    """
    if profile.track != "engine" or profile.trtllm_version is None:
        raise PlanError(
            f"There are no commands for {profile.profile or profile.model_name}.",
            why=f"its track is {profile.track}; only the engine track builds engines",
            fix="Change the profile's track to engine.",
            page="00_plan",
        )
    return release(profile.trtllm_version)
