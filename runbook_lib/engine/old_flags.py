"""What the flags of build commands meant that one command had for everything, up to 0.7 and in the guide."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from runbook_lib.errors import UsageError

__all__ = ["API_FIELDS", "FIELDS", "MEANINGS", "Meaning", "split"]

BUILDERS = ("trtllm-build", "build.py")
CHECKPOINT = "belongs to the checkpoint step"
LIMIT = "a limit of trtllm-build"
NEGATIVE = re.compile(r"^-\d")

# A flag with a value that is a field of a profile: the field, and where it went.
FIELDS = {
    "--dtype": (
        "dtype",
        f"{CHECKPOINT} (--dtype); trtllm-build takes the type from the checkpoint",
    ),
    "--quantization": ("quantization", f"{CHECKPOINT} (--qformat or --use_weight_only)"),
    "--qformat": ("quantization", f"{CHECKPOINT} (quantize.py --qformat)"),
    "--kv_cache_dtype": (
        "kv_cache_dtype",
        f"{CHECKPOINT} (quantize.py --kv_cache_dtype); --kv_cache_type means paged or not",
    ),
    "--tp_size": (
        "tensor_parallel_size",
        f"{CHECKPOINT} (--tp_size); trtllm-build had it up to 0.11, without effect but for Phi",
    ),
    "--pp_size": ("pipeline_parallel_size", f"{CHECKPOINT} (--pp_size)"),
    "--world_size": (
        "tensor_parallel_size",
        f"{CHECKPOINT} (--tp_size and --pp_size, whose product it is)",
    ),
    "--cp_size": ("context_parallel_size", f"{CHECKPOINT} (--cp_size, since 0.16)"),
    "--moe_tp_size": ("moe_tensor_parallel_size", f"{CHECKPOINT} (--moe_tp_size)"),
    "--moe_ep_size": ("moe_expert_parallel_size", f"{CHECKPOINT} (--moe_ep_size)"),
    "--max_batch_size": ("max_batch_size", LIMIT),
    "--max_input_len": (
        "max_input_len",
        f"{LIMIT}; with padding removal and context FMHA it alone cuts no prompt",
    ),
    "--max_output_len": (
        "max_output_len",
        "went into --max_seq_len, which is prompt and answer together (removed in 0.12)",
    ),
    "--max_seq_len": ("max_seq_len", f"{LIMIT}: prompt and answer together"),
    "--max_decoder_seq_len": ("max_seq_len", "another name of --max_seq_len"),
    "--max_num_tokens": ("max_num_tokens", f"{LIMIT}: tokens in one step"),
    "--max_beam_width": ("max_beam_width", LIMIT),
}

_LIMIT = "a limit of model.yaml and of trtllm-serve"
# Where a field of a profile goes on the llmapi track.
API_FIELDS = {
    "weights": "the checkpoint is served itself: model of model.yaml, MODEL of trtllm-serve",
    "dtype": "dtype of model.yaml, and of the file for trtllm-serve --extra_llm_api_options",
    "quantization": "ModelOpt's hf_ptq.py --qformat; serving reads it from the checkpoint",
    "kv_cache_dtype": "kv_cache_config.dtype of model.yaml, and hf_ptq.py --kv_cache_qformat",
    "tensor_parallel_size": "tensor_parallel_size of model.yaml, --tp_size of trtllm-serve",
    "pipeline_parallel_size": "pipeline_parallel_size of model.yaml, --pp_size of trtllm-serve",
    "context_parallel_size": "has no word on the llmapi track",
    "moe_tensor_parallel_size": "moe_tensor_parallel_size of model.yaml",
    "moe_expert_parallel_size": "moe_expert_parallel_size of model.yaml, --ep_size of trtllm-serve",
    "max_batch_size": f"{_LIMIT} (max_batch_size)",
    "max_input_len": "a limit of model.yaml (max_input_len)",
    "max_output_len": f"went into max_seq_len, {_LIMIT}: prompt and answer together",
    "max_seq_len": f"{_LIMIT} (max_seq_len): prompt and answer together",
    "max_num_tokens": f"{_LIMIT} (max_num_tokens): tokens in one step",
    "max_beam_width": f"{_LIMIT} (max_beam_width)",
}


@dataclass(frozen=True)
class Meaning:
    """What a switch meant: a switch of the builder, or fields by its value.

    `*` stands for any other value; a `weak` one says nothing where another flag said it already.
    """

    told: str
    switch: str = ""
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kind: str = "moved"
    weak: bool = False


def _quantised(word: str, told: str) -> Meaning:
    return Meaning(f"{CHECKPOINT} ({told})", fields={"*": {"quantization": word}})


def _cached(word: str) -> Meaning:
    told = f"{CHECKPOINT} (quantize.py --kv_cache_dtype {word})"
    return Meaning(told, fields={"*": {"kv_cache_dtype": word}})


_FMHA = "is --context_fmha, with its paged form --use_paged_context_fmha"
_WEIGHT_ONLY = {
    "int8": {"quantization": "int8_wo"},
    "int4": {"quantization": "int4_wo"},
    "int4_awq": {"quantization": "int4_awq"},
    "int4_gptq": {"quantization": "int4_gptq"},
}
MEANINGS = {
    "--use_gpt_attention_plugin": Meaning(
        "is --gpt_attention_plugin since 0.8; auto takes the checkpoint's type",
        "use_gpt_attention_plugin",
    ),
    "--use_gemm_plugin": Meaning(
        "is --gemm_plugin since 0.8; auto takes the checkpoint's type", "use_gemm_plugin"
    ),
    "--use_context_fmha": Meaning(
        f"{_FMHA}; it never was an option: 0.8 to 0.10 took it silently for "
        "--use_context_fmha_for_generation, all others refuse it",
        "use_context_fmha",
    ),
    "--context_fmha": Meaning("as it was; its paged form follows it", "use_context_fmha"),
    "--enable_context_fmha": Meaning(f"{_FMHA} since 0.8", "use_context_fmha"),
    "--remove_input_padding": Meaning(
        "as it was since 0.8: enable or disable", "remove_input_padding"
    ),
    "--enable_ragged_kv_cache": Meaning(
        "no flag: a paged KV cache is always ragged", "enable_ragged_kv_cache", kind="gone"
    ),
    "--use_inflight_batching": Meaning(
        "no flag: the attention plugin, padding removal and a paged KV cache make it", kind="gone"
    ),
    "--paged_kv_cache": Meaning(
        "is --kv_cache_type paged since 0.13; --paged_kv_cache is a deprecated alias there",
        "paged_kv_cache",
    ),
    "--use_weight_only": Meaning(
        f"{CHECKPOINT} (--use_weight_only)", fields={"*": {"quantization": "int8_wo"}}, weak=True
    ),
    "--weight_only_precision": Meaning(
        f"{CHECKPOINT} (--weight_only_precision, or quantize.py --qformat)", fields=_WEIGHT_ONLY
    ),
    "--use_smooth_quant": _quantised("int8_sq", "quantize.py --qformat int8_sq"),
    "--smoothquant": _quantised("int8_sq", "quantize.py --qformat int8_sq"),
    "--enable_fp8": _quantised("fp8", "quantize.py --qformat fp8"),
    "--use_fp8": _quantised("fp8", "quantize.py --qformat fp8"),
    "--int8_kv_cache": _cached("int8"),
    "--fp8_kv_cache": _cached("fp8"),
}


def split(line: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each flag of a build command with its values; a word that belongs to none stands alone.

    Raises:
        UsageError: the line is no build command.
    """
    words = _words(line)
    flag, values = "", list[str]()
    for word in words:
        if not word.startswith("-") or NEGATIVE.match(word):
            # A placeholder after a value is a word of its own: the guide's {quantization_arg}.
            if flag and not (values and word.startswith("{")):
                values.append(word)
                continue
            if flag:
                yield flag, tuple(values)
            yield word, ()
            flag, values = "", []
            continue
        if flag:
            yield flag, tuple(values)
        flag, _, value = word.partition("=")
        values = [value] if value else []
    if flag:
        yield flag, tuple(values)


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line.replace("\\\n", " "))
    except ValueError as error:
        raise UsageError("The command can't be split into words.", why=str(error)) from None
    for number, word in enumerate(words):
        if PurePosixPath(word).name in BUILDERS:
            return words[number + 1 :]
    raise UsageError(
        f"{line!r} is no build command.",
        why="A line with trtllm-build (or an old build.py) is translated.",
        fix='runbook engine translate "trtllm-build --model … --max_batch_size …"',
    )
