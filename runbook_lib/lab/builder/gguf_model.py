"""Write a Llama with its tokenizer as GGUF, the form from which OpenVINO GenAI makes its IR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from checkpoint import Weights
from numpy.typing import NDArray
from stage import StageError

__all__ = ["write_gguf"]

NORMAL, CONTROL = 1, 3
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, config: dict[str, Any], weights: Weights, tokenizer: Path) -> None:
    """Write hyper-parameters, tokenizer and tensors; matrices in float16, norms in float32.

    Raises:
        StageError: the tokenizer is missing, or its vocabulary is not the model's.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer, config, tokenizer)
    for name, tensor in weights.items():
        writer.add_tensor(*_named(name, tensor, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, config: dict[str, Any], path: Path) -> None:
    try:
        known = json.loads(path.read_bytes())
        vocabulary, merges = known["model"]["vocab"], known["model"]["merges"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{path} is no byte-level BPE tokenizer: {error}") from None
    if len(vocabulary) != config["vocab_size"]:
        raise StageError(
            f"{path} has {len(vocabulary)} tokens, config.json says {config['vocab_size']}"
        )
    special = {token["content"] for token in known["added_tokens"] if token["special"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def _named(
    name: str, tensor: NDArray[np.float32], config: dict[str, Any]
) -> tuple[str, NDArray[Any]]:
    known = {
        "model.embed_tokens.weight": "token_embd",
        "lm_head.weight": "output",
        "model.norm.weight": "output_norm",
    }
    if name in known:
        short = known[name]
    else:
        _, _, layer, rest = name.split(".", 3)
        part = rest.removesuffix(".weight")
        short = f"blk.{layer}.{NAMES[part]}"
        if part.endswith("q_proj"):
            tensor = _interleaved(tensor, config["num_attention_heads"])
        if part.endswith("k_proj"):
            tensor = _interleaved(tensor, config["num_key_value_heads"])
    stored = tensor if tensor.ndim == 1 else tensor.astype(np.float16)
    return f"{short}.weight", np.ascontiguousarray(stored)


def _interleaved(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in GGUF's RoPE order: pairs side by side, where Hugging Face has them half a head apart."""
    rows, columns = tensor.shape
    return (
        tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )
