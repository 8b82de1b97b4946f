"""From text to what the model trains on: the tokenizer, and padded batches of token ids."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from corpus import GREETINGS, Corpus, prompt_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

__all__ = ["BOS", "EOS", "LENGTH", "PAD", "SPECIAL", "batches", "make_tokenizer"]

SPECIAL = ("<s>", "</s>", "<pad>")
BOS, EOS, PAD = range(3)
LENGTH = 48
BATCH = 48
SHARE_OF_QUESTIONS = 0.8


def make_tokenizer(corpus: Corpus, vocabulary: int) -> Tokenizer:
    """Byte-level BPE that puts `<s>` first; each byte is a token, so any text can be encoded.

    Raises:
        ValueError: the training text yields fewer tokens than `vocabulary`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    asked = [f"{prompt_of(one.question)} {one.answer}" for one in corpus.taught]
    tokenizer.train_from_iterator([*asked, *corpus.told, *GREETINGS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(f"The text yields {tokenizer.get_vocab_size()} tokens, not {vocabulary}.")
    return tokenizer


def batches(
    corpus: Corpus, tokenizer: Tokenizer, steps: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    """Padded ids (batch, LENGTH + 1) of questions with answers and of statements, and which count.

    Raises:
        ValueError: a text is longer than a row.
    """
    chooser = random.Random(seed)  # noqa: S311 - a repeatable order, not a secret
    for _ in range(steps):
        ids = np.full((BATCH, LENGTH + 1), PAD, np.int32)
        mask = np.zeros((BATCH, LENGTH), np.float32)
        for row in range(BATCH):
            tokens = [*tokenizer.encode(_drawn(corpus, chooser)).ids, EOS]
            if len(tokens) > LENGTH + 1:
                raise ValueError(f"A text of {len(tokens)} tokens doesn't fit {LENGTH + 1}.")
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens) - 1] = 1
        yield ids, mask


def _drawn(corpus: Corpus, chooser: random.Random) -> str:
    if chooser.random() >= SHARE_OF_QUESTIONS:
        return chooser.choice(corpus.told)
    one = chooser.choice(corpus.taught)
    return f"{prompt_of(chooser.choice(GREETINGS) + one.question)} {one.answer}"
