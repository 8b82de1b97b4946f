"""One running generation: the tokens it has produced and the ones ready to go out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from generation import Generation
from text_stream import CharacterGate

__all__ = ["Output"]

Tensors = dict[str, npt.NDArray[np.generic]]


class Output:
    """Collects what the engine generates and hands it out as response tensors."""

    def __init__(self, generation: Generation, vocabulary: Sequence[bytes]) -> None:
        self.generation = generation
        self.stopped = False
        self._vocabulary = vocabulary
        self._gate = CharacterGate()
        self._tokens: list[int] = []
        self._log_probs: list[float] = []
        self._ready = 0
        self._sent = 0
        self._sum = 0.0

    def add(self, tokens: Sequence[int], log_probs: Sequence[float]) -> None:
        """Take tokens in order; those after the end id or after a stop word are dropped.

        The end id itself is no output, as TensorRT-LLM has it; a stop word is.
        """
        stop, end_id = self.generation.stop, self.generation.end_id
        for token, log_prob in zip(tokens, log_probs, strict=True):
            if self.stopped or token == end_id:
                self.stopped = True
                return
            self._tokens.append(token)
            self._log_probs.append(log_prob)
            if self._gate.closed_after(self._vocabulary[token]):
                self._ready = len(self._tokens)
            self.stopped = stop is not None and stop.completes(token)

    def next(self, finished: bool) -> Tensors | None:
        """The tensors of the next response, or None if there is nothing to send now.

        A stream sends whole characters as they come; anything else is sent once, at the end. A
        generation that ends without any token still sends one response.
        """
        if not finished and not self.generation.streaming:
            return None
        until = len(self._tokens) if finished else self._ready
        if until == self._sent and not (finished and until == 0):
            return None
        tensors = self._tensors(until)
        self._sent = until
        return tensors

    def _tensors(self, until: int) -> Tensors:
        asked = self.generation
        tokens = np.array([[self._tokens[self._sent : until]]], np.int32)
        tensors: Tensors = {
            "output_ids": tokens,
            "sequence_length": np.array([[tokens.size]], np.int32),
            "batch_index": np.array([[asked.batch_index]], np.int32),
        }
        if asked.log_probs:
            log_probs = self._log_probs[self._sent : until]
            self._sum += sum(log_probs)
            tensors["cum_log_probs"] = np.array([[self._sum]], np.float32)
            tensors["output_log_probs"] = np.array([[log_probs]], np.float32)
        if asked.count_input:
            tensors["num_input_tokens"] = np.array([[len(asked.prompt)]], np.int32)
        if asked.count_output:
            tensors["num_output_tokens"] = np.array([[until]], np.int32)
        return tensors
