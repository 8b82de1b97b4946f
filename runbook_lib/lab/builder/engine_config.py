"""What an engine is built for: its limits, checked, and its config.json. Decides only."""

from __future__ import annotations

from typing import Any

from engine_runtime import BLOCK_TOKENS, kv_blocks
from stage import StageError

__all__ = ["LIMITS", "check_limits", "computes_in", "describe_engine", "kv_bytes"]

LIMITS = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens")
# A u8 row carries a float32 scale and zero point beside its numbers.
ROW_BYTES = {"f32": (4, 0), "f16": (2, 0), "u8": (1, 8)}
CAPABILITY = {"float16": ("FP16", "f16"), "bfloat16": ("BF16", "bf16")}


def check_limits(limits: dict[str, int], checkpoint: dict[str, Any], memory_free: int) -> None:
    """Refuse limits that contradict each other, the model, or the memory.

    Args:
        limits: every name of `LIMITS`.
        checkpoint: the checkpoint's config.json.
        memory_free: bytes.

    Raises:
        StageError: which limit, and what it may be.
    """
    for name in LIMITS:
        if limits[name] < 1:
            raise StageError(f"--{name} must be at least 1, not {limits[name]}")
    longest, positions = limits["max_seq_len"], checkpoint["max_position_embeddings"]
    if longest > positions:
        raise StageError(f"--max_seq_len {longest} is more than the model's {positions} positions")
    if limits["max_input_len"] >= longest:
        raise StageError(
            f"--max_input_len {limits['max_input_len']} leaves no room to answer "
            f"within --max_seq_len {longest}"
        )
    if limits["max_num_tokens"] < limits["max_batch_size"]:
        raise StageError(
            f"--max_num_tokens {limits['max_num_tokens']} is less than --max_batch_size "
            f"{limits['max_batch_size']}: one step could not hold a token of each sequence"
        )
    if (needed := kv_bytes(limits, checkpoint)) > memory_free:
        raise StageError(
            f"the KV cache of --max_batch_size {limits['max_batch_size']} times --max_seq_len "
            f"{longest} takes {needed / 1e9:.1f} GB; {memory_free / 1e9:.1f} GB are free"
        )


def kv_bytes(limits: dict[str, int], checkpoint: dict[str, Any]) -> int:
    """Bytes of the KV cache, which the runtime takes whole when it loads."""
    head = checkpoint["hidden_size"] // checkpoint["num_attention_heads"]
    each, extra = ROW_BYTES[checkpoint["quantization"]["kv_cache_quant_algo"]]
    rows = 2 * checkpoint["num_hidden_layers"] * checkpoint["num_key_value_heads"]
    return int(kv_blocks(limits) * BLOCK_TOKENS * rows * (head * each + extra))


def computes_in(dtype: str, capabilities: list[str]) -> str:
    """The precision in which the CPU multiplies: that of the matrices if it can, else float32."""
    needed, hint = CAPABILITY.get(dtype, ("", ""))
    return hint if needed in capabilities else "f32"


def describe_engine(
    limits: dict[str, int],
    checkpoint: dict[str, Any],
    machine: dict[str, Any],
    optimization_level: int,
) -> dict[str, Any]:
    """An engine's config.json, in the shape of TensorRT-LLM's; `lab` holds what it is bound to.

    Args:
        limits: every name of `LIMITS`.
        checkpoint: the checkpoint's config.json.
        machine: `isa`, `openvino`, `openvino_genai`, and `runs`, the precisions of this CPU.
        optimization_level: 0 or 1.

    Raises:
        StageError: level 0 of float weights, which is the very engine of level 1.
    """
    if not optimization_level and checkpoint["quantization"]["quant_algo"] is None:
        raise StageError(
            "--optimization_level 0 keeps activations unquantised; without quantised weights they "
            "always are: take 1, or a checkpoint of int8 or int4 weights"
        )
    bound = {key: machine[key] for key in ("isa", "openvino", "openvino_genai")}
    return {
        "version": f"lab openvino {machine['openvino']}",
        "pretrained_config": checkpoint,
        "build_config": {
            **limits,
            "max_beam_width": 1,
            "optimization_level": optimization_level,
        },
        "lab": {**bound, "computes_in": computes_in(checkpoint["dtype"], machine["runs"])},
    }
