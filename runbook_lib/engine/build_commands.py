"""The steps that make an engine: get the scripts, convert or quantise the checkpoint, build."""

from __future__ import annotations

from runbook_lib.engine.command import Command, enabled, options
from runbook_lib.engine.families import FAMILIES, EngineSupport
from runbook_lib.engine.releases import Release
from runbook_lib.engine.wish import FLOATS, WEIGHT_ONLY, is_converted
from runbook_lib.profile import DeploymentProfile

__all__ = ["build", "checkpoint", "scripts"]

CALIBRATION_TEXTS = 512
AWQ_TEXTS = 32  # quantize.py lowers a larger number to this
AWQ_BLOCK = 128


def scripts(release: Release, work: str) -> list[Command]:
    """What fetches the scripts of a release whose image has none; its weights stay unfetched."""
    if "clone" not in release.places:
        return []
    checkout = ("--depth", "1", "--branch", f"v{release.version}")
    nested = ("--recurse-submodules", "--shallow-submodules")
    target = (release.places["clone"], f"{work}/tensorrtllm_backend")
    argv = ("env", "GIT_LFS_SKIP_SMUDGE=1", "git", "clone", *checkout, *nested, *target)
    return [Command("get_scripts", argv)]


def checkpoint(profile: DeploymentProfile, release: Release, weights: str, work: str) -> Command:
    """Precision, quantisation, KV type and parallelism are written into the checkpoint."""
    target = f"{work}/checkpoint"
    support = FAMILIES[profile.model_family].engine
    if support is not None and is_converted(profile):
        return _conversion(profile, release, support, weights, work)
    script = release.place("quantize", work)
    files = options(model_dir=weights, output_dir=target, dtype=profile.dtype)
    words = (*files, *_calibration(profile), *_split(profile))
    return Command("quantize", ("python3", script, *words))


def _conversion(
    profile: DeploymentProfile, release: Release, support: EngineSupport, weights: str, work: str
) -> Command:
    script = release.place("converter", work, support.converter, contrib=support.contrib)
    precision = WEIGHT_ONLY.get(profile.quantization)
    if support.converter == "gemma":
        words = _gemma(profile, weights, f"{work}/checkpoint", precision)
        return Command("convert_checkpoint", ("python3", script, *words))
    files = options(model_dir=weights, output_dir=f"{work}/checkpoint", dtype=profile.dtype)
    packed = ("--use_weight_only", "--weight_only_precision", precision) if precision else ()
    split = (*_split(profile), *_experts(profile))
    return Command("convert_checkpoint", ("python3", script, *files, *split, *packed))


def _gemma(
    profile: DeploymentProfile, weights: str, target: str, precision: str | None
) -> tuple[str, ...]:
    """Gemma's converter has words of its own, and splits layers only."""
    return (
        *("--ckpt-type", "hf", "--model-dir", weights, "--output-model-dir", target),
        *("--dtype", profile.dtype, "--world-size", str(profile.tensor_parallel_size)),
        *(("--use-weight-only-with-precision", precision) if precision else ()),
    )


def _split(profile: DeploymentProfile) -> tuple[str, ...]:
    context = profile.context_parallel_size
    return (
        *options(tp_size=profile.tensor_parallel_size, pp_size=profile.pipeline_parallel_size),
        *(options(cp_size=context) if context > 1 else ()),
    )


def _experts(profile: DeploymentProfile) -> tuple[str, ...]:
    if not FAMILIES[profile.model_family].experts:
        return ()
    return options(
        moe_tp_size=profile.effective_moe_tensor_parallel_size,
        moe_ep_size=profile.effective_moe_expert_parallel_size,
    )


def build(profile: DeploymentProfile, release: Release, work: str) -> Command:
    """Every limit is written out, because the defaults moved between releases."""
    files = options(checkpoint_dir=f"{work}/checkpoint", output_dir=f"{work}/engine")
    limits = options(**profile.limits.model_dump())
    return Command("trtllm-build", ("trtllm-build", *files, *limits, *_switches(profile, release)))


def _calibration(profile: DeploymentProfile) -> tuple[str, ...]:
    qformat = "full_prec" if profile.quantization == "none" else profile.quantization
    awq = "awq" in qformat
    return (
        *options(qformat=qformat, calib_size=AWQ_TEXTS if awq else CALIBRATION_TEXTS),
        *(
            ()
            if profile.kv_cache_dtype in FLOATS
            else options(kv_cache_dtype=profile.kv_cache_dtype)
        ),
        *(options(awq_block_size=AWQ_BLOCK) if awq else ()),
    )


def _switches(profile: DeploymentProfile, release: Release) -> tuple[str, ...]:
    flags = profile.builder_flags
    fmha = flags.get("use_context_fmha", True)
    # FP8 and FP4 matrices are fastest in TensorRT itself; the plugin is for 16-bit types.
    plugin = flags.get("use_gemm_plugin", True) and profile.quantization not in {"fp8", "nvfp4"}
    paged = options(kv_cache_type="paged")
    if release.build.name_of("--kv_cache_type") is None:
        paged = options(paged_kv_cache="enable")
    # An FP8 cache is read in FP8 by the context kernels only where the activations are FP8 too.
    eight = profile.quantization == profile.kv_cache_dtype == "fp8" and fmha
    level = profile.optimization_level
    return (
        *options(gpt_attention_plugin="auto", gemm_plugin="auto" if plugin else "disable"),
        *options(context_fmha=enabled(fmha), use_paged_context_fmha=enabled(profile.paged_context)),
        *(options(use_fp8_context_fmha="enable") if eight else ()),
        *options(remove_input_padding="enable"),
        *paged,
        *(() if level is None else options(builder_opt=level)),
        *options(workers=profile.world_size),
    )
