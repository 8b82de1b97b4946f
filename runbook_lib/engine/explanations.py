"""Why each flag of a command is there, and what changed about it since the release before."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from runbook_lib.engine.command import Command
from runbook_lib.engine.differences import changes
from runbook_lib.engine.releases import VERSIONS, Release, moves, release

__all__ = ["Explained", "Reason", "explain"]

BEFORE_THE_FIRST = "0.11.0"
KEY = re.compile(r"(?:^|(?<!\\),)(\w+):")
WHY = {
    "--branch": "scripts and release belong together",
    "--recurse-submodules": "the converters lie in the TensorRT-LLM submodule",
    "--model_dir": "the Hugging Face checkpoint goes in here, never into trtllm-build",
    "--output_dir": "what the next step reads",
    "--dtype": "the type of the weights is written into the checkpoint; its default moved in 0.15",
    "--tp_size": "how layers are shared is written into the checkpoint",
    "--pp_size": "how layers follow each other is written into the checkpoint",
    "--use_weight_only": "weights are stored in fewer bits, without calibration",
    "--weight_only_precision": "how many bits",
    "--qformat": "quantisation happens here, with calibration",
    "--calib_size": "texts to calibrate with; AWQ takes no more than 32",
    "--kv_cache_dtype": "the type of the KV cache is calibrated with the weights",
    "--awq_block_size": "weights that share a scale",
    "--checkpoint_dir": "precision and parallelism come from here",
    "--max_batch_size": "a limit; its default moved (256, then 2048)",
    "--max_input_len": "a limit; its default is 1024",
    "--max_seq_len": "a limit: prompt and answer together; it replaced --max_output_len in 0.12",
    "--max_num_tokens": "a limit: tokens in one step; it sizes the activations",
    "--max_beam_width": "a limit; above 1 only for beam search",
    "--gpt_attention_plugin": "in-flight batching needs the attention plugin",
    "--gemm_plugin": "auto for 16-bit matrices, disable for FP8 and FP4: TensorRT has faster ones",
    "--context_fmha": "fused attention over the prompt",
    "--use_paged_context_fmha": "KV reuse and chunked context need it; its default moved",
    "--use_fp8_context_fmha": "an FP8 cache under FP8 weights is read in FP8; its default moved",
    "--remove_input_padding": "in-flight batching packs prompts without padding",
    "--kv_cache_type": "in-flight batching needs a paged KV cache",
    "--paged_kv_cache": "in-flight batching needs a paged KV cache; --kv_cache_type since 0.13",
    "--builder_opt": "the profile's optimization_level; the flag is gone since 0.14",
    "--workers": "one rank's engine is built beside the other",
    "--world_size": "ranks to start: one for each part of the model",
    "--model_repo": "the repository filled before",
    "-i": "the file is changed in place",
    "triton_max_batch_size": "Triton's own limit, that of the engine",
    "logits_datatype": "the template can't be read without it since 0.17",
    "tokenizer_dir": "the checkpoint's tokenizer",
    "preprocessing_instance_count": "the template can't be read without it",
    "postprocessing_instance_count": "the template can't be read without it",
    "add_special_tokens": "the model's own start sign is put before a prompt",
    "skip_special_tokens": "signs that mean no text stay out of it",
    "max_queue_delay_microseconds": "no waiting for a fuller batch: the engine batches in flight",
    "max_queue_size": "0 is no limit",
    "triton_backend": "the C++ backend, not the Python one",
    "decoupled_mode": "streaming needs it, and decides it",
    "engine_dir": "where trtllm-build wrote",
    "batching_strategy": "new requests join while others run",
    "max_beam_width": "that of the engine",
    "kv_cache_free_gpu_mem_fraction": "of the memory that weights and activations leave",
    "enable_kv_cache_reuse": "blocks of a known prompt are kept; needs paged context FMHA",
    "enable_chunked_context": "written out, because its default moved in 0.16",
    "exclude_input_in_output": "answers come without their prompt",
    "encoder_input_features_data_type": "the template can't be read without it since 0.15",
    "prompt_embedding_table_data_type": "the template can't be read without it since 1.0",
}


@dataclass(frozen=True)
class Reason:
    """Why a flag or template name is there; `changed` is what changed about it in this release."""

    name: str
    why: str
    changed: str = ""

    def __str__(self) -> str:
        return f"{self.name:<32} {self.why}{self.changed and f' [new: {self.changed}]'}"


@dataclass(frozen=True)
class Explained:
    """A command with a reason for each of its flags."""

    command: Command
    reasons: tuple[Reason, ...]

    def to_dict(self) -> dict[str, Any]:
        """The command and its reasons as plain data."""
        reasons = [asdict(one) for one in self.reasons]
        return self.command.to_dict() | {"why": reasons}

    def __str__(self) -> str:
        return "\n".join([str(self.command), *(f"    {one}" for one in self.reasons)])


def explain(commands: Iterable[Command], found: Release) -> list[Explained]:
    """Each command with the reason for each flag, and what changed since the release before."""
    news = _news(found)
    return [
        Explained(one, tuple(_reason(one, name, news) for name in _names(one))) for one in commands
    ]


def _names(command: Command) -> list[str]:
    names = [word for word in command.argv if word in WHY and word.startswith("-")]
    if command.step == "fill_templates":
        names += KEY.findall(command.argv[-1])
    return names


def _reason(command: Command, name: str, news: dict[tuple[str, str], str]) -> Reason:
    return Reason(name, WHY[name], news.get((_where(command), name), ""))


def _where(command: Command) -> str:
    """What the record of releases calls a command's tool, or the model whose template is filled."""
    if command.step == "fill_templates":
        return command.argv[-2].split("/")[-2]
    if command.step == "convert_checkpoint":
        return command.argv[1].split("/")[-2]
    return command.step


def _news(found: Release) -> dict[tuple[str, str], str]:
    """What is new in a release by (tool or model, name)."""
    number = VERSIONS.index(found.version)
    told = {}
    if number:
        for one in changes(release(VERSIONS[number - 1]), found):
            told[one.where, one.name] = one.what or one.kind
    for move in moves(VERSIONS[number - 1] if number else BEFORE_THE_FIRST, found.version):
        told["tensorrt_llm" if move.tool == "templates" else move.tool, move.flag] = move.what
    return told
