"""The training loop: AdamW with a warm-up and a cosine decay."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from corpus import Corpus
from llama import CONFIG, Weights, initial, logits
from text import batches
from tokenizers import Tokenizer

__all__ = ["learn"]

PEAK_RATE = 3e-3
WARM_UP = 100
TOLD_EVERY = 50
AVERAGED = 20


def learn(
    corpus: Corpus, tokenizer: Tokenizer, steps: int, seed: int, tell: Callable[[str], None]
) -> tuple[Weights, float]:
    """Train from random weights; returns the weights and the mean loss of the last steps."""
    weights = initial(CONFIG, seed)
    schedule = optax.warmup_cosine_decay_schedule(0.0, PEAK_RATE, WARM_UP, steps, 1e-5)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.05)
    )
    state = optimizer.init(weights)

    def change(
        weights: Weights, state: optax.OptState, ids: jax.Array, mask: jax.Array
    ) -> tuple[Weights, optax.OptState, jax.Array]:
        loss, gradient = jax.value_and_grad(_loss)(weights, ids, mask)
        updates, state = optimizer.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state, loss

    step = jax.jit(change)
    began, losses = time.monotonic(), []
    for number, (ids, mask) in enumerate(batches(corpus, tokenizer, steps, seed)):
        weights, state, loss = step(weights, state, ids, mask)
        losses.append(float(loss))
        if number % TOLD_EVERY == 0:
            tell(f"step {number} loss {losses[-1]:.4f} {time.monotonic() - began:.0f} s")
    last = losses[-AVERAGED:]
    return weights, sum(last) / len(last)


def _loss(weights: Weights, ids: jax.Array, mask: jax.Array) -> jax.Array:
    scores = jax.nn.log_softmax(logits(weights, ids[:, :-1], CONFIG))
    chosen = jnp.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0]
    return -(chosen * mask).sum() / mask.sum()
