"""Accuracy of the lab's model as a number: exact match on held-out questions, perplexity (pure).

The questions and texts lie in the model's folder; its `MODEL_CARD.md` tells how they were kept apart
from training and what the float32 model reaches on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Accuracy",
    "Question",
    "exact_match",
    "load_perplexity_texts",
    "load_questions",
    "normalised",
    "perplexity",
    "wilson",
]

MODEL = Path(__file__).resolve().parent / "model"
Z_95 = 1.959963984540054
"""The 0.975 quantile of the normal distribution."""


@dataclass(frozen=True)
class Question:
    """A held-out question: `prompt` is what the model is given, `answer` the one right answer.

    `keywords` are the answer's words that carry its meaning, in lower case.
    """

    id: str
    question: str
    prompt: str
    answer: str
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """`hits` of `n` answers are right: `share`, with its Wilson 95 % interval `low` to `high`."""

    n: int
    hits: int
    share: float
    low: float
    high: float


def load_questions() -> list[Question]:
    """The held-out questions of the embedded model, in the file's order."""
    lines = (MODEL / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [Question(**row | {"keywords": tuple(row["keywords"])}) for row in rows]


def load_perplexity_texts() -> list[str]:
    """The held-out sentences; each is scored by itself, from `<s>` before it to `</s>` after it."""
    return (MODEL / "perplexity.txt").read_text(encoding="utf-8").splitlines()


def exact_match(answers: Mapping[str, str]) -> Accuracy:
    """Score answers, by question id, against all held-out questions after `normalised`.

    A question without an answer counts as wrong: leaving out the hard ones raises no figure.

    Raises:
        ValueError: an id is no question's.
    """
    right = {one.id: one.answer for one in load_questions()}
    strange = sorted(set(answers) - set(right))
    if strange:
        raise ValueError(f"No held-out question has the id {', '.join(strange)}.")
    hits = sum(normalised(text) == normalised(right[known]) for known, text in answers.items())
    low, high = wilson(hits, len(right))
    return Accuracy(len(right), hits, hits / len(right), low, high)


def normalised(text: str) -> str:
    """An answer without what doesn't make it wrong.

    Lower case; runs of white space become one space, none at the ends; then `.`, `,`, `;`, `:`,
    `!` and `?` are cut from the end. Punctuation inside and at the start stays, since `--workers`
    and `/mnt/models` live by it.
    """
    return " ".join(text.lower().split()).rstrip(".,;:!? ")


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927, JASA 22, 209-212).

    Raises:
        ValueError: `n` is not positive, or `hits` is not within 0 to `n`.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"{hits} hits of {n} is no share.")
    share, z2 = hits / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half)


def perplexity(logprobs: Sequence[float]) -> float:
    """Perplexity of tokens from their natural log-probabilities: e to the minus mean.

    Returns:
        1 for a text foreseen with certainty; infinity when one token was held impossible.

    Raises:
        ValueError: there is no token, or a value is above 0 or not a number.
    """
    if not logprobs:
        raise ValueError("Perplexity needs at least one token.")
    if not all(value <= 0 for value in logprobs):
        raise ValueError("A log-probability is above 0 or not a number.")
    mean = math.fsum(logprobs) / len(logprobs)
    try:
        return math.exp(-mean)
    except OverflowError:
        return math.inf
