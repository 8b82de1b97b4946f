"""Rules of the engine track: what its builder, converters and templates can't do."""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.engine.releases import release
from runbook_lib.engine.wish import FLOATS, Rule, Wish

__all__ = ["ENGINE_RULES", "WITHOUT_FLAG", "beams_are_streamed"]

NEEDED = ("use_gpt_attention_plugin", "remove_input_padding", "enable_ragged_kv_cache")
PAGED = ("paged_kv_cache", "use_paged_context_fmha")
SWITCHES = (*NEEDED, *PAGED, "use_context_fmha", "use_gemm_plugin")
WITHOUT_FLAG = ("workspace_size_mb",)
MOST_BEAMS = 256

BACKEND = "Triton's tensorrtllm backend: in-flight batching"
NOTES = "TensorRT-LLM docs/source/release-notes.md, "
QUANTIZE = "examples/quantization/quantize.py and tensorrt_llm/quantization/quantize_by_modelopt.py"


def beams_are_streamed(wish: Wish) -> bool:
    """Whether answers of several beams are to be streamed."""
    return wish.profile.max_beam_width > 1 and wish.profile.streaming


def _flags(wish: Wish) -> Mapping[str, bool | int | str]:
    return wish.profile.builder_flags


def _unknown_flags(wish: Wish) -> bool:
    return bool(set(_flags(wish)) - {*SWITCHES, *WITHOUT_FLAG})


def _words_for_switches(wish: Wish) -> bool:
    return any(not isinstance(_flags(wish).get(name, True), bool) for name in SWITCHES)


def _needed_are_off(wish: Wish) -> bool:
    return any(_flags(wish).get(name) is False for name in NEEDED)


def _paging_is_off(wish: Wish) -> bool:
    flags = _flags(wish)
    unfused = flags.get("use_context_fmha") is False and flags.get("use_paged_context_fmha") is True
    return unfused or any(flags.get(name) is False for name in PAGED)


def _reads_gptq(wish: Wish) -> bool:
    family = wish.family
    known = family is not None and family.engine is not None
    return known and wish.profile.quantization == "int4_gptq"


ENGINE_RULES = (
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
        "paged-context",
        _paging_is_off,
        "builder_flags: the repository filled here keeps blocks of known prompts, which needs a"
        " paged KV cache and paged context attention ({builder_flags})",
        "leave paged_kv_cache and use_paged_context_fmha on or out; use_context_fmha: false drops"
        " paged context and reuse together",
        "cpp/tensorrt_llm/batch_manager: block reuse needs paged context FMHA",
    ),
    Rule(
        "gptq-cache",
        lambda wish: _reads_gptq(wish) and wish.profile.kv_cache_dtype not in FLOATS,
        "a GPTQ checkpoint is converted, not calibrated; its KV cache stays in dtype",
        "kv_cache_dtype {dtype}, or quantization int4_awq",
        "examples/models/core/llama/convert_checkpoint.py",
    ),
    Rule(
        "gptq-release",
        lambda wish: _reads_gptq(wish) and wish.before("0.16.0"),
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
            wish.profile.quantization == "nvfp4"
            and "nvfp4" not in release(wish.version).tools["quantize"].flags["--qformat"].choices
        ),
        "quantize.py of {release} is not known to have nvfp4",
        "1.2.0 or later, or fp8",
        QUANTIZE,
    ),
    Rule(
        "builder-level",
        lambda wish: (
            wish.profile.optimization_level is not None
            and release(wish.version).build.name_of("--builder_opt") is None
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
        "beam-streaming",
        beams_are_streamed,
        "max_beam_width {max_beam_width} with streaming: before 0.13 the runtime has it not, and"
        " since then each answer holds all tokens so far, which the repository filled here would"
        " send again and again",
        "streaming: false, or max_beam_width 1",
        NOTES + "0.13.0",
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
)
