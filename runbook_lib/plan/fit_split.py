"""Whether a model can be split over ranks as asked, and on which GPUs its precision runs."""

from __future__ import annotations

from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device
from runbook_lib.plan.facts_model import ModelFacts
from runbook_lib.profile import DeploymentProfile

__all__ = ["can_compute", "check_precision", "check_split", "split_problems"]

# The least SM of each word. FP8 since Ada: TensorRT-LLM docs/source/reference/support-matrix.md;
# NVFP4 since Blackwell: docs/source/features/quantization.md; bfloat16 since Ampere, as the
# release notes of 0.16 end Volta.
LEAST_SM = {"fp8": 89, "w4a8_awq": 89, "nvfp4": 100, "mxfp4": 90}
AMPERE = 80
# trtllm-build refuses integers on SM 100 to 119, in weights and cache: tensorrt_llm/builder.py of 1.x.
# The PyTorch backend has the packed ones before SM 100 and the others nowhere:
# docs/source/features/quantization.md.
BLACKWELL, RTX_BLACKWELL = 100, 120
PACKED = {"int4_awq", "int4_gptq", "w4a8_awq"}
PLAIN = {"int8_wo", "int4_wo", "int8_sq", "int8"}


def split_problems(tp: int, pp: int, model: ModelFacts, device: Device) -> list[str]:
    """What keeps a model from being split over `tp` x `pp` ranks on devices of this kind."""
    problems = []
    if model.heads % tp:
        problems.append(
            f"tensor_parallel_size {tp} does not divide the {model.heads} attention heads"
        )
    if not model.latent and model.kv_heads % tp and tp % model.kv_heads:
        problems.append(
            f"tensor_parallel_size {tp} and the {model.kv_heads} KV heads do not divide each other"
        )
    for name, size in (("hidden size", model.hidden), ("inner size", model.intermediate)):
        if size % tp:
            problems.append(f"tensor_parallel_size {tp} does not divide the {name} {size}")
    if pp > model.layers:
        problems.append(f"pipeline_parallel_size {pp} is more than the {model.layers} layers")
    if device.slice_of and tp * pp > 1:
        problems.append(f"{tp * pp} ranks on MIG slices: slices have no link between them")
    return problems


def _expert_problems(profile: DeploymentProfile, model: ModelFacts) -> list[str]:
    """What keeps the experts from being split: whole ones over groups, each one within a group."""
    stated = {
        name: size
        for name in ("moe_expert_parallel_size", "moe_tensor_parallel_size")
        if (size := getattr(profile, name)) not in {None, 1}
    }
    if not model.experts:
        return [f"{name} {size}: the model has no experts" for name, size in stated.items()]
    groups, shared = (
        profile.effective_moe_expert_parallel_size,
        profile.effective_moe_tensor_parallel_size,
    )
    inner = max(layer.expert for layer in model.stack) // (3 * model.hidden)
    problems = []
    if model.experts % groups:
        problems.append(
            f"moe_expert_parallel_size {groups} does not divide the {model.experts} experts"
        )
    if inner % shared:
        problems.append(
            f"{shared} ranks that share each expert do not divide its inner size {inner}"
        )
    return problems


def check_split(profile: DeploymentProfile, model: ModelFacts, device: Device) -> None:
    """Refuse a split that can't work.

    Raises:
        PlanError: every reason at once.
    """
    tp, pp = profile.tensor_parallel_size, profile.pipeline_parallel_size
    problems = [*split_problems(tp, pp, model, device), *_expert_problems(profile, model)]
    if device.slice_of and tp * pp < profile.world_size:
        problems.append(
            f"{profile.world_size} ranks on MIG slices: slices have no link between them"
        )
    if problems:
        raise PlanError(
            f"{profile.model_name} can't be split as {profile.profile or 'the profile'} asks.",
            why="; ".join(problems),
            fix="Choose a tensor_parallel_size that divides the heads, or fewer ranks.",
        )


def check_precision(profile: DeploymentProfile, model: ModelFacts, device: Device) -> None:
    """Refuse a precision that the device lacks, be it the profile's or that of the checkpoint.

    Raises:
        PlanError: every such word at once.
    """
    sm = device.target.removeprefix("sm")
    words = {
        "quantization": model.in_force(profile.quantization),
        "kv_cache_dtype": profile.kv_cache_dtype,
    }
    problems = [
        f"{name} {word} needs SM {LEAST_SM[word]}, and {device.name} has {sm}"
        for name, word in words.items()
        if sm.isdecimal() and int(sm) < LEAST_SM.get(word, 0)
    ]
    if problems:
        raise PlanError(
            f"{device.name} can't compute {profile.model_name} in the precision asked for.",
            why="; ".join(problems),
            fix="Name a later GPU, or another precision; a checkpoint that comes quantised can be had in 16 bits.",
            page="00_plan",
        )


def _refused(profile: DeploymentProfile, sm: int) -> set[str]:
    """Integers that the profile's track does not take on an SM."""
    if profile.track == "engine":
        return PACKED | PLAIN if BLACKWELL <= sm < RTX_BLACKWELL else set()
    return PACKED | PLAIN if sm >= BLACKWELL else PLAIN


def can_compute(profile: DeploymentProfile, model: ModelFacts, device: Device) -> bool:
    """Whether devices of this kind have the profile's precisions; the lab's CPU has its own."""
    sm = device.target.removeprefix("sm")
    if not sm.isdecimal():
        return True
    words = (model.in_force(profile.quantization), profile.kv_cache_dtype)
    if _refused(profile, int(sm)) & {*words}:
        return False
    return int(sm) >= max(AMPERE, *(LEAST_SM.get(word, 0) for word in words))
