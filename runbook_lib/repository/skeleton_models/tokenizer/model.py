"""An example tokenizer: one token a character, its id the character's code point.

Replace `encode` and `decode` by the model's own tokenizer: put its tokenizer.json beside this
file and load it in `initialize`, which is told where that is (`model_repository`, `model_version`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


def encode(text: str) -> list[int]:
    """The token ids of a text."""
    return [ord(character) for character in text]


def decode(ids: list[int]) -> str:
    """The text of token ids; an id that is no character becomes U+FFFD."""
    return "".join(chr(one) if 0 <= one < 0x110000 else "\ufffd" for one in ids)


class TritonPythonModel:
    """Answers `text` with `token_ids`, and `token_ids` with `text`."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[object]:
        """One response a request, in the order of the requests."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> object:
        text = pb_utils.get_input_tensor_by_name(request, "text")
        ids = pb_utils.get_input_tensor_by_name(request, "token_ids")
        if (text is None) == (ids is None):
            return _refusal("send either text or token_ids")
        if ids is not None:
            decoded = [[decode(row.tolist()).encode()] for row in ids.as_numpy()]
            return _response("text", np.array(decoded, np.object_))
        # A batch is one matrix: rows of different length would need padding, which the caller
        # could not tell from tokens. So one text a request; Triton still batches requests.
        if len(text.as_numpy()) != 1:
            return _refusal("send one text a request")
        try:
            encoded = encode(text.as_numpy()[0][0].decode())
        except UnicodeDecodeError as error:
            return _refusal(f"text is not valid UTF-8: {error}")
        return _response("token_ids", np.array([encoded], np.int32))


def _response(name: str, values: Any) -> object:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, values)])


def _refusal(text: str) -> object:
    error = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)
