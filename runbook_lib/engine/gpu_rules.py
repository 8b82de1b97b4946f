"""Rules of the GPUs: which precisions they have, and which release knows them."""

from __future__ import annotations

from runbook_lib.engine.wish import Rule, Wish

__all__ = ["API_GPU_RULES", "ENGINE_GPU_RULES", "FIRST_FOR_SM", "GPU_RULES", "VOLTA"]

VOLTA, AMPERE, ADA, BLACKWELL, RTX_BLACKWELL = 70, 80, 89, 100, 120
# The release that first supports an SM; support for all others is older than 0.12.
FIRST_FOR_SM = {100: "0.17.0", 103: "1.1.0", 120: "0.20.0", 121: "1.0.0"}

MATRIX = "TensorRT-LLM docs/source/reference/support-matrix.md"
HARDWARE = "TensorRT-LLM docs/source/features/quantization.md@09d4c79b, hardware support matrix"
NOTES = "TensorRT-LLM docs/source/release-notes.md, "
PACKED = ("int4_awq", "int4_gptq", "w4a8_awq")
INTEGERS = (*PACKED, "int8_wo", "int4_wo", "int8_sq")


def _is_too_new(wish: Wish) -> bool:
    first = FIRST_FOR_SM.get(wish.sm or 0)
    return first is not None and wish.before(first)


GPU_RULES = (
    Rule(
        "mig-ranks",
        lambda wish: ":" in (wish.profile.gpu or "") and wish.profile.world_size > 1,
        "{gpu}: MIG slices can't exchange data, so a model can't be split over them",
        "one rank, or whole GPUs",
        "NVIDIA MIG user guide",
    ),
    Rule(
        "gpu-too-new",
        _is_too_new,
        "{gpu} (sm{sm}) is newer than {release}",
        "{first} or later",
        NOTES + "0.17.0, 0.20.0, 1.0 and 1.1",
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
        "int8_sq (engine track) or int4_awq, or L4, L40S, H100 and later",
        MATRIX,
    ),
    Rule(
        "fp8-cache",
        lambda wish: wish.profile.kv_cache_dtype == "fp8" and wish.on_older_than(ADA),
        "{gpu} (sm{sm}) is not to be relied on for an FP8 KV cache; it came with Ada and Hopper",
        "kv_cache_dtype int8 (engine track) or {dtype}, or L4, L40S, H100 and later",
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
        "nvfp4",
        lambda wish: wish.profile.quantization == "nvfp4" and wish.on_older_than(BLACKWELL),
        "{gpu} (sm{sm}) has no NVFP4; it came with Blackwell",
        "fp8 or int4_awq, or B200 and later",
        NOTES + "0.17.0",
    ),
)


def _integers_on_blackwell(wish: Wish) -> bool:
    profile = wish.profile
    integers = profile.quantization in INTEGERS or profile.kv_cache_dtype == "int8"
    return wish.sm is not None and BLACKWELL <= wish.sm < RTX_BLACKWELL and integers


ENGINE_GPU_RULES = (
    Rule(
        "blackwell-integers",
        _integers_on_blackwell,
        "{gpu} (sm{sm}): trtllm-build refuses INT8 and INT4 there, in weights and in the KV cache",
        "fp8 or nvfp4, and kv_cache_dtype fp8 or {dtype}",
        "tensorrt_llm/builder.py of 1.x",
    ),
    Rule(
        "int8-cache",
        lambda wish: wish.profile.kv_cache_dtype == "int8" and wish.on_older_than(AMPERE),
        "{gpu} (sm{sm}) is not known to have an INT8 KV cache; Ampere has it",
        "kv_cache_dtype {dtype}, or A10 and later",
        MATRIX,
    ),
    Rule(
        "volta-paged",
        lambda wish: wish.sm == VOLTA and wish.profile.paged_context,
        "{gpu}: there is no paged context attention on Volta",
        "builder_flags: use_context_fmha: false",
        "cpp/tensorrt_llm/plugins/gptAttentionCommon/gptAttentionCommon.cpp",
    ),
    Rule(
        "gpu-gone",
        lambda wish: wish.sm == VOLTA and not wish.before("0.15.0"),
        "{gpu}: {release} has no support for Volta",
        "0.14.0, or a newer GPU",
        NOTES + "0.15.0",
    ),
    Rule(
        "rtx-ranks",
        lambda wish: (
            wish.sm == RTX_BLACKWELL and wish.profile.world_size > 1 and wish.version == "0.20.0"
        ),
        "{gpu}: {release} runs it as a single GPU only",
        "0.21.0 or later, or one rank",
        NOTES + "0.20.0, known issues",
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
)

API_GPU_RULES = (
    Rule(
        "api-gpu",
        lambda wish: wish.on_older_than(AMPERE),
        "{gpu} (sm{sm}) is older than the PyTorch backend serves",
        "A10 and later, or track engine with 0.14.0",
        HARDWARE,
    ),
    Rule(
        "api-packed",
        lambda wish: (
            wish.profile.quantization in PACKED and wish.sm is not None and wish.sm >= BLACKWELL
        ),
        "{gpu} (sm{sm}): the PyTorch backend has no 4-bit integer weights on Blackwell",
        "nvfp4 or fp8",
        HARDWARE,
    ),
)
