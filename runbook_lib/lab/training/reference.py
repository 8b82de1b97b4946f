"""The lab's model once more, in plain NumPy and written apart from the trained one, to check it.

Reads the Hugging Face-shaped folder as any other runtime would; knows nothing of JAX.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["answer", "forward", "read_folder", "token_logprobs"]

Floats = npt.NDArray[np.float32]


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Floats]]:
    """`config.json` and the float32 tensors of `model.safetensors` by name.

    The layout is safetensors': eight bytes of header length, a JSON header, then the data.
    """
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    tensors: dict[str, Floats] = {}
    for name, about in header.items():
        if name != "__metadata__":
            begin, end = about["data_offsets"]
            flat = np.frombuffer(raw[start + begin : start + end], "<f4")
            tensors[name] = flat.reshape(about["shape"])
    return json.loads((folder / "config.json").read_text("utf-8")), tensors


def forward(config: Mapping[str, Any], tensors: Mapping[str, Floats], ids: Sequence[int]) -> Floats:
    """Scores of the next token at each place of one sequence: (time, vocabulary)."""
    x = tensors["model.embed_tokens.weight"][list(ids)]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        part = {
            name.removeprefix(at): value for name, value in tensors.items() if name.startswith(at)
        }
        x = x + _attention(config, part, _norm(config, x, part["input_layernorm.weight"]))
        x = x + _mlp(part, _norm(config, x, part["post_attention_layernorm.weight"]))
    last = _norm(config, x, tensors["model.norm.weight"])
    scores: Floats = last @ tensors["lm_head.weight"].T
    return scores


def answer(
    config: Mapping[str, Any], tensors: Mapping[str, Floats], prompt: Sequence[int], limit: int
) -> list[int]:
    """The greedy tokens after a prompt, without the end token, at most `limit` of them."""
    ids = list(prompt)
    while len(ids) < len(prompt) + limit:
        following = int(forward(config, tensors, ids)[-1].argmax())
        if following == config["eos_token_id"]:
            break
        ids.append(following)
    return ids[len(prompt) :]


def token_logprobs(
    config: Mapping[str, Any], tensors: Mapping[str, Floats], ids: Sequence[int]
) -> list[float]:
    """Natural log-probability of each token of a sequence but the first."""
    scores = forward(config, tensors, ids)[:-1].astype(np.float64)
    highest = scores.max(-1, keepdims=True)
    total = highest[:, 0] + np.log(np.exp(scores - highest).sum(-1))
    return [
        float(row[token] - norm) for row, token, norm in zip(scores, ids[1:], total, strict=True)
    ]


def _norm(config: Mapping[str, Any], x: Floats, weight: Floats) -> Floats:
    scale = np.sqrt((x**2).mean(-1, keepdims=True) + np.float32(config["rms_norm_eps"]))
    normed: Floats = x / scale * weight
    return normed


def _mlp(part: Mapping[str, Floats], x: Floats) -> Floats:
    gate = x @ part["mlp.gate_proj.weight"].T
    inner = gate / (1 + np.exp(-gate)) * (x @ part["mlp.up_proj.weight"].T)
    out: Floats = inner @ part["mlp.down_proj.weight"].T
    return out


def _attention(config: Mapping[str, Any], part: Mapping[str, Floats], x: Floats) -> Floats:
    """One head after the other; a key-value head serves a run of query heads (GQA)."""
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads
    query, key, value = (x @ part[f"self_attn.{name}_proj.weight"].T for name in "qkv")
    mixed = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        of = head * shared // heads
        lent = slice(of * size, (of + 1) * size)
        score = _rope(config, query[:, own]) @ _rope(config, key[:, lent]).T / np.float32(size**0.5)
        score[np.triu_indices(len(x), 1)] = -np.inf
        share = np.exp(score - score.max(-1, keepdims=True))
        mixed.append(share / share.sum(-1, keepdims=True) @ value[:, lent])
    out: Floats = np.concatenate(mixed, -1) @ part["self_attn.o_proj.weight"].T
    return out


def _rope(config: Mapping[str, Any], x: Floats) -> Floats:
    """Rotate each pair (i, i + half) as a complex number, Hugging Face's pairing."""
    half = x.shape[1] // 2
    turns = np.outer(np.arange(len(x)), config["rope_theta"] ** (-np.arange(half) / half))
    turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * turns)
    return np.concatenate([turned.real, turned.imag], -1).astype(np.float32)
