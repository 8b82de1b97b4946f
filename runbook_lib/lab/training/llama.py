"""A Llama in JAX, as Hugging Face lays it out: RMSNorm, RoPE (rotate-half), GQA, SwiGLU.

Parameters are a dict by their Hugging Face names, matrices as (out, in).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["CONFIG", "Config", "Weights", "initial", "logits"]

Weights = dict[str, jax.Array]


@dataclass(frozen=True)
class Config:
    """Shapes of the model."""

    vocab_size: int = 1024
    hidden_size: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    intermediate_size: int = 352
    positions: int = 512
    rope_theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads


CONFIG = Config()


def initial(config: Config, seed: int) -> Weights:
    """Random weights; matrices with a deviation of 0.02, the ones that write to the stream with less."""
    draw = np.random.default_rng(seed)
    wide, narrow, kv = (
        config.hidden_size,
        config.intermediate_size,
        config.kv_heads * config.head_size,
    )
    weights: dict[str, np.ndarray] = {}

    def matrix(name: str, rows: int, columns: int, scale: float = 0.02) -> None:
        weights[name] = (draw.standard_normal((rows, columns)) * scale).astype(np.float32)

    matrix("model.embed_tokens.weight", config.vocab_size, wide)
    matrix("lm_head.weight", config.vocab_size, wide)
    weights["model.norm.weight"] = np.ones(wide, np.float32)
    quiet = 0.02 / np.sqrt(2 * config.layers)
    for layer in range(config.layers):
        at = f"model.layers.{layer}."
        matrix(f"{at}self_attn.q_proj.weight", wide, wide)
        matrix(f"{at}self_attn.k_proj.weight", kv, wide)
        matrix(f"{at}self_attn.v_proj.weight", kv, wide)
        matrix(f"{at}self_attn.o_proj.weight", wide, wide, quiet)
        matrix(f"{at}mlp.gate_proj.weight", narrow, wide)
        matrix(f"{at}mlp.up_proj.weight", narrow, wide)
        matrix(f"{at}mlp.down_proj.weight", wide, narrow, quiet)
        weights[f"{at}input_layernorm.weight"] = np.ones(wide, np.float32)
        weights[f"{at}post_attention_layernorm.weight"] = np.ones(wide, np.float32)
    return {name: jnp.asarray(value) for name, value in weights.items()}


def _norm(x: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def _rotate(x: jax.Array, config: Config) -> jax.Array:
    """RoPE over (batch, heads, time, head size), the first half paired with the second."""
    half = config.head_size // 2
    frequency = config.rope_theta ** (-jnp.arange(half) / half)
    angle = jnp.arange(x.shape[2])[:, None] * frequency[None, :]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    left, right = x[..., :half], x[..., half:]
    return jnp.concatenate([left * cosine - right * sine, right * cosine + left * sine], axis=-1)


def _attend(x: jax.Array, weights: Weights, at: str, config: Config) -> jax.Array:
    batch, time, _ = x.shape

    def heads(name: str, count: int) -> jax.Array:
        flat = x @ weights[f"{at}self_attn.{name}_proj.weight"].T
        return flat.reshape(batch, time, count, config.head_size).transpose(0, 2, 1, 3)

    query, key = (
        _rotate(heads("q", config.heads), config),
        _rotate(heads("k", config.kv_heads), config),
    )
    value = heads("v", config.kv_heads)
    group = config.heads // config.kv_heads
    key, value = jnp.repeat(key, group, axis=1), jnp.repeat(value, group, axis=1)
    score = query @ key.transpose(0, 1, 3, 2) / jnp.sqrt(config.head_size)
    score = jnp.where(jnp.tril(jnp.ones((time, time), bool)), score, -1e9)
    mixed = (jax.nn.softmax(score, axis=-1) @ value).transpose(0, 2, 1, 3).reshape(batch, time, -1)
    return mixed @ weights[f"{at}self_attn.o_proj.weight"].T


def logits(weights: Weights, ids: jax.Array, config: Config) -> jax.Array:
    """Scores of the next token at each place: (batch, time) ids to (batch, time, vocabulary)."""
    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config.layers):
        at = f"model.layers.{layer}."
        x = x + _attend(
            _norm(x, weights[f"{at}input_layernorm.weight"], config.epsilon), weights, at, config
        )
        inner = _norm(x, weights[f"{at}post_attention_layernorm.weight"], config.epsilon)
        gate = jax.nn.silu(inner @ weights[f"{at}mlp.gate_proj.weight"].T)
        up = inner @ weights[f"{at}mlp.up_proj.weight"].T
        x = x + (gate * up) @ weights[f"{at}mlp.down_proj.weight"].T
    x = _norm(x, weights["model.norm.weight"], config.epsilon)
    return x @ weights["lm_head.weight"].T
