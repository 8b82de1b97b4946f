"""What a release, a GPU or a converter can't do: one table, each rule with what to do instead.

Checked before anything is run; every rule that applies is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.engine.releases import Release
from runbook_lib.engine.wish import CONVERTERS, FLOATS, Rule, Wish, is_converted
from runbook_lib.errors import PlanError

__all__ = ["NEEDED", "RULES", "VOLTA", "WITHOUT_FLAG", "check", "refused"]

NEEDED = ("use_gpt_attention_plugin", "remove_input_padding", "enable_ragged_kv_cache")
SWITCHES = (*NEEDED, "use_context_fmha", "use_gemm_plugin")
WITHOUT_FLAG = ("workspace_size_mb",)
MOST_BEAMS = 256
VOLTA, AMPERE, ADA, BLACKWELL, RTX_BLACKWELL = 70, 80, 89, 100, 120
# The release that first supports an SM; support for all others is older than 0.12.
FIRST_FOR_SM = {100: "0.17.0", 103: "1.1.0", 120: "0.20.0", 121: "1.0.0"}

BACKEND = "Triton's tensorrtllm backend: in-flight batching"
MATRIX = "TensorRT-LLM docs/source/reference/support-matrix.md"
NOTES = "TensorRT-LLM docs/source/release-notes.md, "
QUANTIZE = "examples/quantization/quantize.py and tensorrt_llm/quantization/quantize_by_modelopt.py"
PHI = "examples/models/core/phi/convert_checkpoint.py"


def _is_phi(wish: Wish) -> bool:
    return CONVERTERS.get(wish.profile.model_family) == "phi"


def _qformats(release: Release) -> tuple[object, ...]:
    return release.tools["quantize"].flags["--qformat"].choices


def _flags(wish: Wish) -> Mapping[str, bool | int | str]:
    return wish.profile.builder_flags


def _unknown_flags(wish: Wish) -> bool:
    return bool(set(_flags(wish)) - {*SWITCHES, *WITHOUT_FLAG})


def _words_for_switches(wish: Wish) -> bool:
    return any(not isinstance(_flags(wish).get(name, True), bool) for name in SWITCHES)


def _needed_are_off(wish: Wish) -> bool:
    return any(_flags(wish).get(name) is False for name in NEEDED)


def _is_too_new(wish: Wish) -> bool:
    first = FIRST_FOR_SM.get(wish.sm or 0)
    return first is not None and wish.before(first)


RULES = (
    Rule(
        "own-command",
        lambda wish: wish.profile.builder_cmd is not None,
        "builder_cmd replaces these commands",
        "leave builder_cmd out to have them",
    ),
    Rule(
        "entry-model",
        lambda wish: wish.profile.entry_model != "ensemble",
        "entry_model {entry_model!r}: the repository filled here is entered by `ensemble`",
        "leave entry_model out",
    ),
    Rule(
        "builder-flags-unknown",
        _unknown_flags,
        "builder_flags names switches that are not known here ({builder_flags})",
        f"known: {', '.join(sorted({*SWITCHES, *WITHOUT_FLAG}))}",
    ),
    Rule(
        "builder-flags-words",
        _words_for_switches,
        "switches of builder_flags must be true or false ({builder_flags})",
        "say true or false",
    ),
    Rule(
        "builder-flags-needed",
        _needed_are_off,
        f"builder_flags: {', '.join(NEEDED)} can't be off, for in-flight batching needs it",
        "leave them on",
        BACKEND,
    ),
    Rule(
        "family",
        lambda wish: wish.profile.model_family not in CONVERTERS,
        "model_family {model_family!r} has no converter known here",
        f"known: {', '.join(CONVERTERS)}",
    ),
    Rule(
        "phi-stages",
        lambda wish: _is_phi(wish) and wish.profile.pipeline_parallel_size > 1,
        "the phi converter can't split a model into pipeline stages",
        "use tensor parallelism",
        PHI,
    ),
    Rule(
        "phi-gptq",
        lambda wish: _is_phi(wish) and wish.profile.quantization == "int4_gptq",
        "the phi converter reads no GPTQ checkpoints",
        "use int4_wo",
        PHI,
    ),
    Rule(
        "phi-calibration",
        lambda wish: (
            _is_phi(wish)
            and wish.profile.quantization != "int4_gptq"
            and not is_converted(wish.profile)
        ),
        "quantize.py knows no PhiForCausalLM",
        "use none, int8_wo or int4_wo, and a KV cache in dtype",
        QUANTIZE,
    ),
    Rule(
        "gptq-cache",
        lambda wish: (
            wish.profile.quantization == "int4_gptq" and wish.profile.kv_cache_dtype not in FLOATS
        ),
        "a GPTQ checkpoint is converted, not calibrated; its KV cache stays in dtype",
        "kv_cache_dtype {dtype}, or quantization int4_awq",
        "examples/models/core/llama/convert_checkpoint.py",
    ),
    Rule(
        "gptq-release",
        lambda wish: (
            wish.profile.quantization == "int4_gptq" and not _is_phi(wish) and wish.before("0.16.0")
        ),
        "{release} reads no GPTQ checkpoints of Hugging Face",
        "0.16.0 or later, or int4_awq or int4_wo",
        NOTES + "0.16.0",
    ),
    Rule(
        "codellama-fp8",
        lambda wish: (
            wish.profile.model_family == "codellama"
            and wish.profile.quantization == "fp8"
            and wish.before("0.14.0")
        ),
        "{release} has no FP8 for CodeLlama",
        "0.14.0 or later, or int8_sq",
        NOTES + "0.14.0",
    ),
    Rule(
        "qformat-release",
        lambda wish: (
            wish.profile.quantization == "nvfp4" and "nvfp4" not in _qformats(wish.release)
        ),
        "quantize.py of {release} is not known to have nvfp4",
        "1.2.0 or later, or fp8",
        QUANTIZE,
    ),
    Rule(
        "builder-level",
        lambda wish: (
            wish.profile.optimization_level is not None
            and wish.release.build.name_of("--builder_opt") is None
        ),
        "optimization_level: trtllm-build lost --builder_opt in 0.14",
        "leave optimization_level out",
        NOTES + "0.14.0",
    ),
    Rule(
        "beams",
        lambda wish: wish.profile.max_beam_width > MOST_BEAMS,
        "max_beam_width {max_beam_width} is past the most that the runtime has",
        f"at most {MOST_BEAMS}",
        NOTES + "0.15.0",
    ),
    Rule(
        "separators",
        lambda wish: (
            wish.before("0.16.0") and any(sign in path for path in wish.paths for sign in ",:")
        ),
        "fill_template.py of {release} can't write a path that holds a comma or a colon",
        "another path, or 0.16.0 or later",
        "tools/fill_template.py of the releases",
    ),
    Rule(
        "mig-ranks",
        lambda wish: ":" in (wish.profile.gpu or "") and wish.profile.world_size > 1,
        "{gpu}: MIG slices can't exchange data, so a model can't be split over them",
        "one rank, or whole GPUs",
        "NVIDIA MIG user guide",
    ),
    Rule(
        "gpu-gone",
        lambda wish: wish.sm == VOLTA and not wish.before("0.15.0"),
        "{gpu}: {release} has no support for Volta",
        "0.14.0, or a newer GPU",
        NOTES + "0.15.0",
    ),
    Rule(
        "gpu-too-new",
        _is_too_new,
        "{gpu} (sm{sm}) is newer than {release}",
        "{first} or later",
        NOTES + "0.17.0, 0.20.0, 1.0 and 1.1",
    ),
    Rule(
        "rtx-ranks",
        lambda wish: (
            wish.sm == RTX_BLACKWELL
            and wish.profile.world_size > 1
            and wish.release.version == "0.20.0"
        ),
        "{gpu}: {release} runs it as a single GPU only",
        "0.21.0 or later, or one rank",
        NOTES + "0.20.0, known issues",
    ),
    Rule(
        "bfloat16",
        lambda wish: wish.profile.dtype == "bfloat16" and wish.on_older_than(AMPERE),
        "{gpu} (sm{sm}) has no bfloat16",
        "dtype float16",
        MATRIX,
    ),
    Rule(
        "fp8",
        lambda wish: wish.profile.quantization == "fp8" and wish.on_older_than(ADA),
        "{gpu} (sm{sm}) has no FP8; it came with Ada and Hopper",
        "int8_sq or int4_awq, or L4, L40S, H100 and later",
        MATRIX,
    ),
    Rule(
        "fp8-cache",
        lambda wish: wish.profile.kv_cache_dtype == "fp8" and wish.on_older_than(ADA),
        "{gpu} (sm{sm}) has no FP8 KV cache in an engine",
        "kv_cache_dtype int8, or L4, L40S, H100 and later",
        MATRIX,
    ),
    Rule(
        "w4a8",
        lambda wish: wish.profile.quantization == "w4a8_awq" and wish.on_older_than(ADA),
        "{gpu} (sm{sm}) can't multiply 4-bit weights with FP8 activations",
        "int4_awq, or L4, L40S, H100 and later",
        MATRIX,
    ),
    Rule(
        "w4a8-bfloat16",
        lambda wish: (
            wish.profile.quantization == "w4a8_awq"
            and wish.profile.dtype == "bfloat16"
            and wish.sm == ADA
            and wish.before("0.16.0")
        ),
        "{release} has no w4a8_awq for bfloat16 on Ada",
        "dtype float16, or 0.16.0 or later",
        NOTES + "0.16.0",
    ),
    Rule(
        "nvfp4",
        lambda wish: wish.profile.quantization == "nvfp4" and wish.on_older_than(BLACKWELL),
        "{gpu} (sm{sm}) has no NVFP4; it came with Blackwell",
        "fp8 or int4_awq, or B200 and later",
        NOTES + "0.17.0",
    ),
)


def refused(wish: Wish) -> list[Rule]:
    """The rules that a wish breaks."""
    return [rule for rule in RULES if rule.applies(wish)]


def check(wish: Wish) -> None:
    """Refuse a wish that can't be done.

    Raises:
        PlanError: every reason, and what to do instead.
    """
    rules = refused(wish)
    if not rules:
        return
    words = _words(wish)
    profile = wish.profile
    raise PlanError(
        f"There are no commands for {profile.profile or profile.model_name}"
        f" with TensorRT-LLM {wish.release.version}.",
        why="; ".join(rule.told.format_map(words) for rule in rules),
        fix="; ".join(dict.fromkeys(rule.instead.format_map(words) for rule in rules)),
        page="00_plan",
    )


def _words(wish: Wish) -> dict[str, object]:
    fields = wish.profile.model_dump()
    fields["builder_flags"] = ", ".join(f"{name}: {one}" for name, one in _flags(wish).items())
    first = FIRST_FOR_SM.get(wish.sm or 0, "")
    return fields | {"release": wish.release.version, "sm": wish.sm, "first": first}
