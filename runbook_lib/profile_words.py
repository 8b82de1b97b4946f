"""The words of a profile: which each track knows, which mean the same, which variables set a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.artifacts import Track

__all__ = [
    "FLOATS",
    "GPU_WORDS",
    "GUIDE_VARIABLES",
    "QUANTIZATION",
    "QUANTIZED",
    "SHORT",
    "WORDS",
    "canonical",
    "pages_context",
    "runtime_conflicts",
]

# The deployment guide's environment variables, and the field that each sets.
GUIDE_VARIABLES = {
    "MODEL_REPOSITORY": "model_repository",
    "TENSOR_PARALLEL_SIZE": "tensor_parallel_size",
    "PIPELINE_PARALLEL_SIZE": "pipeline_parallel_size",
    "MAX_BATCH_SIZE": "max_batch_size",
    "MAX_INPUT_LEN": "max_input_len",
    "MAX_OUTPUT_LEN": "max_output_len",
    "MAX_BEAM_WIDTH": "max_beam_width",
    "KV_CACHE_PRECISION": "kv_cache_dtype",
}

FLOATS = ("float16", "bfloat16", "float32")
EIGHT_BIT_FLOATS = ("fp8", "nvfp4")  # quantisations whose activations an FP8 cache is read with
QUANTIZED = (
    "none",
    "int8_wo",
    "int4_wo",
    "int8_sq",
    "int4_awq",
    "int4_gptq",
    "w4a8_awq",
    "fp8",
    "nvfp4",
)
GPU_WORDS = {
    "dtype": FLOATS,
    "quantization": QUANTIZED,
    "kv_cache_dtype": (*FLOATS, "int8", "fp8"),
}
# The words each track knows. The lab's are those of its builder's command line; a test compares them.
WORDS: dict[Track, dict[str, tuple[str, ...]]] = {
    "engine": GPU_WORDS,
    "llmapi": GPU_WORDS,
    "lab": {
        "dtype": FLOATS,
        "quantization": ("none", "int8", "int4", "int4_awq"),
        "kv_cache_dtype": ("f32", "f16", "u8"),
    },
}
SHORT = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32"}
LAB_KV = {
    "fp16": "f16",
    "float16": "f16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp32": "f32",
    "float32": "f32",
}
QUANTIZATION = {"awq": "int4_awq", "gptq": "int4_gptq", "": "none"}


def runtime_conflicts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Guide variables in `runtime_env` that differ from the field they stand for: (variable, field)."""
    stated = values.get("runtime_env")
    if not isinstance(stated, Mapping):
        return []
    track = values.get("track", "engine")
    return [
        (name, field)
        for name, field in GUIDE_VARIABLES.items()
        if name in stated
        and field in values
        and canonical(field, str(stated[name]), track)
        != str(canonical(field, values[field], track))
    ]


def pages_context(quantization: str, cache: str) -> bool:
    """Whether attention reads prompts from a paged KV cache of this type; KV reuse needs it.

    Not from INT8, nor from FP8 under other activations: older builders refuse that, later ones turn
    it off (tensorrt_llm/builder.py).
    """
    return cache != "int8" and (cache != "fp8" or quantization in EIGHT_BIT_FLOATS)


def canonical(field: str, value: Any, track: object) -> Any:
    """One word for one meaning; anything that is no known word is returned as it is."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if field == "dtype":
        return SHORT.get(word, value)
    if field == "quantization":
        return (QUANTIZATION if track != "lab" else {"": "none"}).get(word, value)
    if field == "kv_cache_dtype":
        return (LAB_KV if track == "lab" else SHORT).get(word, value)
    return value
