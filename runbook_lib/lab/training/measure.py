"""How good the trained model is, in float32: exact match of greedy answers, perplexity, agreement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import reference
from corpus import Asked, prompt_of
from llama import CONFIG, Weights, logits
from text import EOS, PAD
from tokenizers import Tokenizer

__all__ = ["agreement", "greedy", "hits", "perplexity"]

ANSWER_TOKENS = 32


def greedy(weights: Weights, tokenizer: Tokenizer, asked: Sequence[Asked]) -> list[str]:
    """Greedy answers, all questions at once."""
    prompts = [tokenizer.encode(prompt_of(one.question)).ids for one in asked]
    width = max(map(len, prompts)) + ANSWER_TOKENS
    ids = np.full((len(asked), width), PAD, np.int32)
    ends = np.array([len(prompt) for prompt in prompts])
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    done = np.zeros(len(asked), bool)
    score = jax.jit(lambda ids, ends: logits(weights, ids, CONFIG)[jnp.arange(len(ends)), ends - 1])
    for _ in range(ANSWER_TOKENS):
        following = np.asarray(score(ids, ends)).argmax(-1)
        done |= following == EOS
        rows = np.flatnonzero(~done)
        if not rows.size:
            break
        ids[rows, ends[rows]] = following[rows]
        ends[rows] += 1
    return [
        tokenizer.decode(ids[row, len(prompt) : ends[row]].tolist()).strip()
        for row, prompt in enumerate(prompts)
    ]


def hits(weights: Weights, tokenizer: Tokenizer, asked: Sequence[Asked]) -> int:
    """Number of greedy answers that are exactly right."""
    texts = greedy(weights, tokenizer, asked)
    return sum(text == one.answer for text, one in zip(texts, asked, strict=True))


def perplexity(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[float, int]:
    """Perplexity over texts, each from `<s>` to `</s>`, and the tokens scored, from the stored files."""
    config, tensors = reference.read_folder(folder)
    scored = [
        reference.token_logprobs(config, tensors, [*tokenizer.encode(text).ids, EOS])
        for text in texts
    ]
    flat = np.concatenate(scored)
    return float(np.exp(-flat.mean())), len(flat)


def agreement(
    folder: Path, weights: Weights, tokenizer: Tokenizer, asked: Sequence[Asked]
) -> float:
    """Largest difference of any logit between the trained model and the NumPy one on stored files."""
    config, tensors = reference.read_folder(folder)
    worst = 0.0
    for one in asked:
        ids = tokenizer.encode(prompt_of(one.question)).ids
        trained = np.asarray(logits(weights, jnp.asarray([ids]), CONFIG))[0]
        worst = max(worst, float(np.abs(trained - reference.forward(config, tensors, ids)).max()))
    return worst
