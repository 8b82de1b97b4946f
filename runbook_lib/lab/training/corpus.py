"""Training, tuning and held-out texts from the facts, kept apart by their wording."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from facts import FAMILIES

__all__ = ["GREETINGS", "PROMPT", "Asked", "Corpus", "build", "keywords_of", "prompt_of"]

PROMPT = "Q: {question}\nA:"
"""The one form in which the model is asked; `prompt.txt` hands it on, the chat template repeats it.

The model was trained with `<s>` before it, a space and the answer after it, then `</s>`.
"""

GREETINGS = ("", "", "", "", "Hello. ", "Quick one: ", "For my notes: ", "A colleague asks: ")
SPARED_STATEMENTS = 2
SMALL_WORDS = re.compile(
    r"a|an|and|as|at|before|by|for|from|in|is|it|of|on|or|than|that|the|this|to|with"
)


@dataclass(frozen=True)
class Asked:
    """A question with its one right answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Corpus:
    """`taught` and `told` train, `tuning` chooses the length of training, the rest is held out."""

    taught: tuple[Asked, ...]
    told: tuple[str, ...]
    tuning: tuple[Asked, ...]
    kept: tuple[Asked, ...]
    unsaid: tuple[str, ...]


def prompt_of(question: str) -> str:
    """The text that the model is given for a question."""
    return PROMPT.format(question=question)


def keywords_of(answer: str) -> list[str]:
    """The answer's words that carry its meaning, in lower case and in order."""
    words = re.findall(r"[^\s,;:]+", answer.lower())
    return [word for word in words if not SMALL_WORDS.fullmatch(word)] or words


def build(seed: int) -> Corpus:
    """All texts; each fact is asked in every tuning wording and once in `kept`.

    Held-out questions use wordings that no trained question has. Held-out statements use known
    wordings and known facts, in pairs that were never trained.

    Raises:
        ValueError: two of the parts share a text, or a wording of a question.
    """
    chooser = random.Random(seed)  # noqa: S311 - a repeatable split, not a secret
    taught: list[Asked] = []
    tuning: list[Asked] = []
    kept: list[Asked] = []
    told: list[str] = []
    unsaid: list[str] = []
    for family in FAMILIES:
        for number, (subject, answer) in enumerate(family.entries):
            taught += [_asked(phrase, subject, answer) for phrase in family.taught]
            tuning += [_asked(phrase, subject, answer) for phrase in family.tuning]
            kept.append(_asked(family.kept[number % len(family.kept)], subject, answer))
            count = len(family.statements)
            spared = {(number + step) % count for step in range(SPARED_STATEMENTS)}
            for place, statement in enumerate(family.statements):
                text = statement.format(x=subject, a=answer)
                (unsaid if place in spared else told).append(text)
    chooser.shuffle(tuning)
    chooser.shuffle(kept)
    chooser.shuffle(unsaid)
    chooser.shuffle(told)
    corpus = Corpus(tuple(taught), tuple(told), tuple(tuning), tuple(kept), tuple(unsaid))
    _refuse_shared(corpus)
    return corpus


def _asked(phrase: str, subject: str, answer: str) -> Asked:
    return Asked(phrase.format(x=subject), answer)


def _refuse_shared(corpus: Corpus) -> None:
    parts = [{one.question for one in part} for part in (corpus.taught, corpus.tuning, corpus.kept)]
    parts += [set(corpus.told), set(corpus.unsaid)]
    if len(set.union(*parts)) < sum(len(part) for part in parts):
        raise ValueError("A training, a tuning and a held-out text are the same.")
    wordings = [
        one for family in FAMILIES for one in (*family.taught, *family.tuning, *family.kept)
    ]
    twice = sorted({one for one in wordings if wordings.count(one) > 1})
    if twice:
        raise ValueError(f"A wording stands in two places: {twice}")
