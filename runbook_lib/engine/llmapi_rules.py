"""Rules of the llmapi track: what the PyTorch backend and its Triton model can't do."""

from __future__ import annotations

from runbook_lib.engine.engine_rules import NOTES, beams_are_streamed
from runbook_lib.engine.wish import Rule

__all__ = ["API_RULES"]

ENTRIES = ("ensemble", "tensorrt_llm")
MODEL = "TensorRT-LLM triton_backend/all_models/llmapi/tensorrt_llm"

API_RULES = (
    Rule(
        "api-builder",
        lambda wish: (
            wish.profile.builder_cmd is not None
            or any(one is False for one in wish.profile.builder_flags.values())
            or wish.profile.optimization_level is not None
        ),
        "builder_cmd, optimization_level and switches of builder_flags that are off can't be had: the"
        " llmapi track builds nothing",
        "leave them out",
    ),
    Rule(
        "api-entry-model",
        lambda wish: wish.profile.entry_model not in ENTRIES,
        "entry_model {entry_model!r}: a repository of the llmapi track has no such model",
        f"leave entry_model out; there are {' and '.join(ENTRIES)}",
        MODEL,
    ),
    Rule(
        "api-float32",
        lambda wish: wish.profile.dtype == "float32",
        "dtype float32: the PyTorch backend computes in 16 bits or fewer",
        "dtype bfloat16 or float16",
        NOTES + "0.17.0, PyTorch workflow",
    ),
    Rule(
        "api-beam-streaming",
        beams_are_streamed,
        "max_beam_width {max_beam_width} with streaming: the Triton model has no input for beams,"
        " and a beam that was sent may not be the best in the end",
        "streaming: false, or max_beam_width 1",
        f"{MODEL}/config.pbtxt",
    ),
)
