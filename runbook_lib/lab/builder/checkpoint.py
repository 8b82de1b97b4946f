"""A Hugging Face Llama folder, checked whole before anything is converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from stage import StageError

__all__ = ["Weights", "read_config", "read_weights"]

Weights = dict[str, NDArray[np.float32]]
STORED = {"F32": np.float32, "F16": np.float16}
NEEDED: dict[str, type[int] | tuple[type[int], type[float]]] = {
    "vocab_size": int,
    "hidden_size": int,
    "intermediate_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "num_key_value_heads": int,
    "max_position_embeddings": int,
    "rms_norm_eps": (int, float),
    "rope_theta": (int, float),
}
# What other members of the family have and this builder does not make.
PLAIN: dict[str, tuple[Any, ...]] = {
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "rope_scaling": (None,),
}


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        StageError: missing, no JSON, another architecture, or a key that is missing or wrong.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
        architectures = config.get("architectures")
    except FileNotFoundError:
        raise StageError(f"{path} is missing: --model_dir must be a Hugging Face folder") from None
    except (ValueError, AttributeError) as error:
        raise StageError(f"{path} is no JSON object: {error}") from None
    if architectures != ["LlamaForCausalLM"]:
        raise StageError(f"{path}: the lab builds LlamaForCausalLM, not {architectures}")
    for key, kinds in NEEDED.items():
        value = config.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool) or value <= 0:
            raise StageError(f"{path}: {key} must be a number above 0, not {value!r}")
    for key in ("bos_token_id", "eos_token_id"):
        if type(config.get(key)) is not int or not 0 <= config[key] < config["vocab_size"]:
            raise StageError(f"{path}: {key} must be one token's number, not {config.get(key)!r}")
    for key, plain in PLAIN.items():
        if config.get(key) not in plain:
            raise StageError(f"{path}: the lab does not build {key} {config[key]!r}")
    _check_heads(path, config)
    return dict(config)


def _check_heads(path: Path, config: dict[str, Any]) -> None:
    wide, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    if heads % kv_heads or wide % heads:
        raise StageError(
            f"{path}: hidden_size {wide} must divide by num_attention_heads {heads}, "
            f"and that by num_key_value_heads {kv_heads}"
        )
    if config.get("head_dim") not in (None, wide // heads):
        raise StageError(f"{path}: head_dim {config['head_dim']} is not {wide} / {heads}")


def read_weights(folder: Path, config: dict[str, Any]) -> Weights:
    """Every tensor of model.safetensors as float32, each with the shape that the config asks for.

    Raises:
        StageError: the file is missing, cut or corrupt, or its tensors are not the model's.
    """
    path = folder / "model.safetensors"
    try:
        stored = deserialize(path.read_bytes())
    except FileNotFoundError:
        raise StageError(f"{path} is missing") from None
    except SafetensorError as error:
        raise StageError(f"{path} is cut or corrupt ({error}): fetch it again") from None
    found = {name: _as_float32(path, name, tensor) for name, tensor in stored}
    if config.get("tie_word_embeddings") and "model.embed_tokens.weight" in found:
        found["lm_head.weight"] = found["model.embed_tokens.weight"]
    wanted = _shapes(config)
    if missing := sorted(wanted.keys() - found.keys()):
        raise StageError(f"{path} lacks {len(missing)} tensors, first {missing[0]}")
    if strange := sorted(found.keys() - wanted.keys()):
        raise StageError(f"{path} holds tensors that a plain Llama has not, first {strange[0]}")
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise StageError(f"{path}: {name} is {found[name].shape}, config.json says {shape}")
        if not np.isfinite(found[name]).all():
            raise StageError(f"{path}: {name} holds values that are no finite numbers")
    return found


def _as_float32(path: Path, name: str, tensor: dict[str, Any]) -> NDArray[np.float32]:
    if tensor["dtype"] == "BF16":  # the upper half of a float32; NumPy has no type of that name
        flat = (np.frombuffer(tensor["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif tensor["dtype"] in STORED:
        flat = np.frombuffer(tensor["data"], STORED[tensor["dtype"]]).astype(np.float32)
    else:
        raise StageError(f"{path}: {name} is {tensor['dtype']}; the lab reads F32, F16 and BF16")
    return flat.reshape(tensor["shape"])


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    wide, inner, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    narrow = wide // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, wide),
        "lm_head.weight": (words, wide),
        "model.norm.weight": (wide,),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (wide, wide),
            f"{at}self_attn.k_proj.weight": (narrow, wide),
            f"{at}self_attn.v_proj.weight": (narrow, wide),
            f"{at}self_attn.o_proj.weight": (wide, wide),
            f"{at}mlp.gate_proj.weight": (inner, wide),
            f"{at}mlp.up_proj.weight": (inner, wide),
            f"{at}mlp.down_proj.weight": (wide, inner),
            f"{at}input_layernorm.weight": (wide,),
            f"{at}post_attention_layernorm.weight": (wide,),
        }
    return shapes
