"""Token ids to text: the last step of the ensemble, with the tensors of NVIDIA's template.

Each response is decoded by itself. That is right for a stream too, since the engine's model
sends tokens on only when their bytes are whole characters (see its `text_stream.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer


class TritonPythonModel:
    """Decodes `TOKENS_BATCH` `[batch, beam, n]`, of which `SEQUENCE_LENGTH` tokens count."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; a relative `tokenizer_dir` starts at this version's folder."""
        parameters = json.loads(args["model_config"])["parameters"]
        version = Path(args["model_repository"]) / args["model_version"]
        folder = version / parameters["tokenizer_dir"]["string_value"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[object]:
        """One response a request: the text of each beam, special tokens left out."""
        return [self._decode(request) for request in requests]

    def _decode(self, request: pb_utils.InferenceRequest) -> object:
        tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        texts = [
            [
                self.tokenizer.decode(beam[:length].tolist(), skip_special_tokens=True)
                for beam, length in zip(beams, counts, strict=True)
            ]
            for beams, counts in zip(tokens, lengths, strict=True)
        ]
        encoded = np.array([[text.encode("utf-8") for text in row] for row in texts], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", encoded)])
