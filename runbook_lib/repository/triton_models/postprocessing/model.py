"""Token ids to text: the last step of the ensemble, with the tensors of NVIDIA's template.

Each response is decoded by itself, as the part of a text that it is: some tokenizers (Llama 2, Mistral)
write a space as the first sign of a word's token and leave it out at the beginning of what they
decode, so that streamed words would run together. Here they are decoded behind a word, which is
then taken off again. What this can't mend is a character whose tokens come in several responses:
`tensorrt_llm_bls` waits for the whole of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

SPACE = "\u2581"
"""How a tokenizer of SentencePiece's kind writes a space."""


class TritonPythonModel:
    """Decodes `TOKENS_BATCH` `[batch, beam, n]`, of which `SEQUENCE_LENGTH` tokens count."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; a relative `tokenizer_dir` starts at this version's folder."""
        parameters = json.loads(args["model_config"])["parameters"]
        version = Path(args["model_repository"]) / args["model_version"]
        folder = version / parameters["tokenizer_dir"]["string_value"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        skipped = parameters.get("skip_special_tokens", {}).get("string_value", "true")
        self.skips_special_tokens = skipped.lower() in ("true", "1")
        self.before = self._word_before()

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[object]:
        """One response a request: the text of each beam, special tokens left out."""
        return [self._decode(request) for request in requests]

    def _decode(self, request: pb_utils.InferenceRequest) -> object:
        tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        texts = [
            [self._text(beam[:length].tolist()) for beam, length in zip(beams, counts, strict=True)]
            for beams, counts in zip(tokens, lengths, strict=True)
        ]
        encoded = np.array([[text.encode("utf-8") for text in row] for row in texts], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", encoded)])

    def _text(self, ids: list[int]) -> str:
        if not ids:
            return ""
        whole = self._decoded([*self.before, *ids])
        return whole[len(self._decoded(self.before)) :] if self.before else whole

    def _decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=self.skips_special_tokens))

    def _word_before(self) -> list[int]:
        """The word that is decoded before each part; none for a tokenizer that keeps its spaces."""
        words = self.tokenizer.get_vocab()
        found = next((words[SPACE + sign] for sign in "aeinost" if SPACE + sign in words), None)
        loses = found is not None and not self._decoded([found]).startswith(" ")
        return [found] if found is not None and loses else []
