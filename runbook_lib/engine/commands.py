"""The commands that take a checkpoint to a served engine, for every release of the engine track.

Flags, template names and places are those that the release is recorded with in `releases.py`; what
it can't do is refused by the table in `rules.py`.
"""

from __future__ import annotations

from runbook_lib.engine.build_commands import build, checkpoint, scripts
from runbook_lib.engine.command import Command
from runbook_lib.engine.releases import VERSIONS, Release, release
from runbook_lib.engine.rules import VOLTA, WITHOUT_FLAG, check
from runbook_lib.engine.serve_commands import repository, template_paths
from runbook_lib.engine.wish import CONVERTERS, FLOATS, Wish, is_converted
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile

__all__ = ["VERSIONS", "Command", "build_commands", "commands", "notes", "release_of"]


def commands(profile: DeploymentProfile, *, weights: str, work: str) -> list[Command]:
    """The commands from a Hugging Face checkpoint to a running Triton, in order.

    Args:
        profile: an engine profile; its `trtllm_version` says for which release.
        weights: the checkpoint's folder, which holds the tokenizer too.
        work: folder that gets `checkpoint`, `engine` and `repository`; before 0.17 also the scripts.

    Raises:
        PlanError: the release, the model or a wish of the profile is not known here, or the
            release or the GPU can't do it; every reason at once.
        ProfileError: there is no such GPU.
    """
    made = build_commands(profile, weights=weights, work=work)
    return [*made, *repository(profile, release_of(profile), weights, work)]


def build_commands(profile: DeploymentProfile, *, weights: str, work: str) -> list[Command]:
    """The first of `commands`: up to the engine.

    Raises:
        PlanError: as `commands`.
        ProfileError: there is no such GPU.
    """
    found = release_of(profile)
    check(Wish(profile, found, template_paths(weights, work)))
    made = [checkpoint(profile, found, weights, work), build(profile, found, work)]
    return [*scripts(found, work), *made]


def release_of(profile: DeploymentProfile) -> Release:
    """The record of a profile's release.

    Raises:
        PlanError: its track builds no engines of TensorRT-LLM, or the release is not known here.
    """
    if profile.track != "engine" or profile.trtllm_version is None:
        raise PlanError(
            f"There are no commands for {profile.profile or profile.model_name}.",
            why=f"its track is {profile.track}; these commands are those of the engine track",
            fix="Change the profile's track to engine.",
            page="00_plan",
        )
    return release(profile.trtllm_version)


def notes(profile: DeploymentProfile) -> list[str]:
    """What the commands can't express, or take for granted, in sentences for the plan."""
    found = release_of(profile)
    return [*_flag_notes(profile), *_model_notes(profile), *_release_notes(profile, found)]


def _flag_notes(profile: DeploymentProfile) -> list[str]:
    flags = profile.builder_flags
    told = [
        f"builder_flags.{name}: {flags[name]!r} has no flag in trtllm-build since 0.8; it has no effect."
        for name in WITHOUT_FLAG
        if name in flags
    ]
    if flags.get("use_context_fmha", True):
        told.append(
            "With padding removal and context FMHA a prompt is limited by "
            "min(max_seq_len - 1, max_num_tokens); max_input_len alone does not cut it."
        )
    return told


def _model_notes(profile: DeploymentProfile) -> list[str]:
    told = []
    if profile.quantization == "int4_gptq":
        told.append("The checkpoint must be quantised by GPTQ already, with desc_act off.")
    if profile.kv_cache_dtype not in FLOATS:
        told.append(
            f"A {profile.kv_cache_dtype} KV cache changes answers: check the accuracy on your traffic."
        )
    return told


def _release_notes(profile: DeploymentProfile, found: Release) -> list[str]:
    told = []
    if "clone" in found.places:
        told.append(
            f"The image of {found.version} has no scripts: the commands fetch those of the "
            "backend's tag, which needs git and the network."
        )
    used = {
        "trtllm-build": found.build.basis,
        "the templates": found.templates_basis,
        **_checkpoint_tool(profile, found),
    }
    if weak := [name for name, basis in used.items() if basis == "inferred"]:
        told.append(
            f"No source of {found.version} was at hand for {', '.join(weak)}: the commands rest on "
            "the releases before and after it. Compare with --help in the image first."
        )
    if Wish(profile, found).sm == VOLTA:
        told.append(f"{profile.gpu}: support for Volta ended with 0.14.")
    return told


def _checkpoint_tool(profile: DeploymentProfile, found: Release) -> dict[str, str]:
    if is_converted(profile):
        family = CONVERTERS.get(profile.model_family, "llama")
        return {"convert_checkpoint.py": found.tools[family].basis}
    return {"quantize.py": found.tools["quantize"].basis}
