"""Text in, text out in one model: NVIDIA's `tensorrt_llm_bls`, calling the other three.

The calls are made from threads, since waiting for the engine's next response blocks; so one
instance serves many requests at once. The tensors are those of the ensemble.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

MOST_AT_ONCE = 256
"""Requests served at once; threads start as they are needed and further requests wait."""

TO_PREPROCESSING = {
    "text_input": "QUERY",
    "max_tokens": "REQUEST_OUTPUT_LEN",
    "bad_words": "BAD_WORDS_DICT",
    "stop_words": "STOP_WORDS_DICT",
    "end_id": "END_ID",
    "pad_id": "PAD_ID",
}
TO_ENGINE = {
    "top_k": "runtime_top_k",
    "top_p": "runtime_top_p",
    "temperature": "temperature",
    "seed": "seed",
    "beam_width": "beam_width",
    "return_log_probs": "return_log_probs",
    "return_num_input_tokens": "return_num_input_tokens",
    "return_num_output_tokens": "return_num_output_tokens",
    "stream": "streaming",
}
PREPROCESSED = {
    "INPUT_ID": "input_ids",
    "REQUEST_INPUT_LEN": "input_lengths",
    "REQUEST_OUTPUT_LEN": "request_output_len",
    "BAD_WORDS_IDS": "bad_words_list",
    "STOP_WORDS_IDS": "stop_words_list",
    "OUT_END_ID": "end_id",
    "OUT_PAD_ID": "pad_id",
}
GENERATED = {
    "sequence_length": "output_lengths",
    "cum_log_probs": "cum_log_probs",
    "output_log_probs": "output_log_probs",
    "batch_index": "batch_index",
    "num_input_tokens": "num_input_tokens",
    "num_output_tokens": "num_output_tokens",
}
TO_POSTPROCESSING = {"output_ids": "TOKENS_BATCH", "sequence_length": "SEQUENCE_LENGTH"}


class TritonPythonModel:
    """Runs preprocessing, the engine and postprocessing for each request."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read which model is the engine."""
        config = json.loads(args["model_config"])
        self.engine = config["parameters"]["tensorrt_llm_model_name"]["string_value"]
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self.pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="bls")

    def execute(self, requests: list[Any]) -> None:
        """Hand each request to a thread; the answers go through its response sender."""
        for request in requests:
            inputs = {tensor.name(): tensor for tensor in request.inputs()}
            self.pool.submit(self._serve, inputs, request.get_response_sender())

    def finalize(self) -> None:
        """Let the requests that run come to their end."""
        self.pool.shutdown()

    def _serve(self, inputs: dict[str, Any], sender: Any) -> None:
        try:
            for outputs in self._answers(inputs):
                sender.send(pb_utils.InferenceResponse(outputs))
                if sender.is_cancelled():
                    break
            sender.send(flags=FINAL)
        except pb_utils.TritonModelException as error:
            problem = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            sender.send(pb_utils.InferenceResponse(error=problem), FINAL)

    def _answers(self, inputs: dict[str, Any]) -> Iterator[list[Any]]:
        encoded = _call("preprocessing", _renamed(inputs, TO_PREPROCESSING), list(PREPROCESSED))
        asked = [*_renamed(encoded, PREPROCESSED), *_renamed(inputs, TO_ENGINE)]
        names = ["output_ids", *GENERATED]
        request = pb_utils.InferenceRequest(
            model_name=self.engine, inputs=asked, requested_output_names=names
        )
        responses = request.exec(decoupled=True) if self.decoupled else [request.exec()]
        for response in responses:
            generated = _outputs(response)
            if generated:
                text = _call("postprocessing", _renamed(generated, TO_POSTPROCESSING), ["OUTPUT"])
                named = _renamed(text, {"OUTPUT": "text_output"})
                yield [*named, *_renamed(generated, GENERATED)]


def _call(model: str, inputs: list[Any], outputs: list[str]) -> dict[str, Any]:
    request = pb_utils.InferenceRequest(
        model_name=model, inputs=inputs, requested_output_names=outputs
    )
    return _outputs(request.exec())


def _outputs(response: Any) -> dict[str, Any]:
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return {tensor.name(): tensor for tensor in response.output_tensors()}


def _renamed(tensors: dict[str, Any], names: dict[str, str]) -> list[Any]:
    return [
        pb_utils.Tensor(new, tensors[old].as_numpy())
        for old, new in names.items()
        if old in tensors
    ]
