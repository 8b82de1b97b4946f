"""What the commands can't express, or take for granted, in sentences for the plan."""

from __future__ import annotations

from runbook_lib.engine.commands import release_of
from runbook_lib.engine.engine_rules import WITHOUT_FLAG
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.gpu_rules import VOLTA
from runbook_lib.engine.llmapi_commands import HUB
from runbook_lib.engine.llmapi_releases import ApiRelease, api_release
from runbook_lib.engine.releases import Release
from runbook_lib.engine.wish import FLOATS, Wish, is_converted
from runbook_lib.profile import DeploymentProfile

__all__ = ["notes"]

OLD_OPENAI = ("1.2.0", "1.2.1")  # images that ship an openai package older than they import
TOKENS_SINCE = "1.3.0rc20"  # from 1.3 the Triton model sends each token; before, one event


def notes(profile: DeploymentProfile) -> list[str]:
    """Notes on a profile's commands, for its track and release.

    Raises:
        PlanError: the release is not known on the profile's track.
    """
    if profile.track == "llmapi" and profile.trtllm_version is not None:
        return [*_model_notes(profile), *_api_notes(profile, api_release(profile.trtllm_version))]
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
    if flags.get("use_context_fmha", True) and not profile.paged_context:
        told.append(
            f"A {profile.kv_cache_dtype} KV cache under quantization {profile.quantization} has no paged"
            " context attention: blocks of known prompts are not reused."
        )
    return told


def _model_notes(profile: DeploymentProfile) -> list[str]:
    told = []
    hub = profile.track == "llmapi" and profile.weights.startswith(HUB)
    if "://" in profile.weights and not hub:
        told.append(f"{profile.weights} stands in the commands for the folder it is copied to.")
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
    told += _weak(found.version, used)
    if Wish(profile, found.version).sm == VOLTA:
        told.append(f"{profile.gpu}: support for Volta ended with 0.14.")
    return told


def _checkpoint_tool(profile: DeploymentProfile, found: Release) -> dict[str, str]:
    family = FAMILIES.get(profile.model_family)
    if not is_converted(profile):
        return {"quantize.py": found.tools["quantize"].basis}
    tool = found.tools.get(family.engine.converter) if family and family.engine else None
    return {"convert_checkpoint.py": tool.basis} if tool else {}


def _weak(version: str, used: dict[str, str]) -> list[str]:
    weak = [name for name, basis in used.items() if basis == "inferred"]
    told = (
        f"No source of {version} was at hand for {', '.join(weak)}: the commands rest on "
        "the releases before and after it. Compare with --help in the image first."
    )
    return [told] if weak else []


def _api_notes(profile: DeploymentProfile, found: ApiRelease) -> list[str]:
    told = ["launch (Triton) and serve (trtllm-serve) are two ways to serve: run one of them."]
    told.append("The model repository is fetched at the release's tag: git and the network.")
    told.append(
        "That repository is entered by tensorrt_llm; `runbook repo init` lays out one whose "
        "ensemble has the same tensors as on the engine track."
    )
    if profile.builder_flags:
        told.append("builder_flags have no effect: the llmapi track builds nothing.")
    if found.image is None:
        told.append(
            f"No Triton image with {found.version} is known: launch needs one of your own; "
            "trtllm-serve is in nvcr.io/nvidia/tensorrt-llm/release."
        )
    if found.version in OLD_OPENAI:
        told.append(
            f"{found.image} ships an openai package that is too old where loading ends with "
            "cannot import name 'PartReasoningText': pip install -U openai in it first."
        )
    if profile.streaming and not found.since(TOKENS_SINCE):
        told.append(
            f"The Triton model of {found.version} streams an answer as one event, not token by "
            "token (1.3 does); trtllm-serve streams tokens."
        )
    if found.version == "1.0.0" and _fuses_eagerly(profile):
        told.append(
            "1.0 has an issue with pipeline parallelism under FP8 and NVFP4 weights of Llama: serve "
            "with TRTLLM_LLAMA_EAGER_FUSION_DISABLED=1."
        )
    if profile.max_beam_width > 1:
        told.append("Only trtllm-serve takes requests with beams; the Triton model has no input.")
    tools = ["trtllm-serve", "model.yaml"]
    if profile.quantization not in {"none", "int4_gptq"}:
        tools.append("hf_ptq")
    return told + _weak(found.version, {name: found.tools[name].basis for name in tools})


def _fuses_eagerly(profile: DeploymentProfile) -> bool:
    eight = profile.quantization in {"fp8", "nvfp4"}
    return profile.model_family == "llama" and profile.pipeline_parallel_size > 1 and eight
