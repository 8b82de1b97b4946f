"""An example of business logic scripting: tokenizer, engine, tokenizer.

The engine of this example answers with the prompt's own tokens, so that the repository loads and
serves on any machine. What is real: the calls between models, the tensors, the limit by
`max_tokens`, and `output_lengths` counted in tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


def run_engine(ids: list[int], max_tokens: int) -> list[int]:
    """The tokens that follow `ids`, at most `max_tokens`.

    The real engine goes here: a model `tensorrt_llm` beside this one with `backend: "tensorrtllm"`
    and the built engine in its version folder, called with `ask` exactly as the tokenizer is.
    """
    return ids[:max_tokens]


class TritonPythonModel:
    """Answers `text_input` and `max_tokens` with `text_output` and `output_lengths`."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[object]:
        """One response a request; a bad request gets an error, the others their answer."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> object:
        texts = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()
        limits = pb_utils.get_input_tensor_by_name(request, "max_tokens").as_numpy()
        if (limits < 1).any():
            error = pb_utils.TritonError(
                "max_tokens must be at least 1", pb_utils.TritonError.INVALID_ARG
            )
            return pb_utils.InferenceResponse(error=error)
        try:
            rows = [
                _generate(text, limit)
                for text, limit in zip(texts[:, 0], limits[:, 0].tolist(), strict=True)
            ]
        except pb_utils.TritonModelException as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("text_output", np.array([[row[0]] for row in rows], np.object_)),
                pb_utils.Tensor("output_lengths", np.array([[row[1]] for row in rows], np.int32)),
            ]
        )


def _generate(text: bytes, max_tokens: int) -> tuple[bytes, int]:
    ids = ask("tokenizer", "text", np.array([[text]], np.object_), "token_ids")
    tokens = run_engine(ids[0].tolist(), max_tokens)
    if not tokens:
        return b"", 0
    answer = ask("tokenizer", "token_ids", np.array([tokens], np.int32), "text")
    return bytes(answer[0][0]), len(tokens)


def ask(model: str, name: str, values: Any, wanted: str) -> Any:
    """One output of another model of this repository.

    Raises:
        TritonModelException: it answered with an error, whose words are kept.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=[wanted],
        inputs=[pb_utils.Tensor(name, values)],
    )
    response = request.exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return pb_utils.get_output_tensor_by_name(response, wanted).as_numpy()
