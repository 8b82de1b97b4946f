"""Text in, text out in one model: NVIDIA's `tensorrt_llm_bls`, calling the other three.

The calls are made from threads, since waiting for the engine's next response blocks; so one
instance serves many requests at once. The tensors are those of the ensemble.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

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

CANCELLATION_CHECK_PERIOD = 0.1
"""Seconds between two looks, while responses come, for a client that left."""


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
            self.pool.submit(
                self._serve, inputs, request.parameters(), request.get_response_sender()
            )

    def finalize(self) -> None:
        """Let the requests that run come to their end."""
        self.pool.shutdown()

    def _serve(self, inputs: dict[str, Any], parameters: str, sender: Any) -> None:
        try:
            for outputs in self._answers(inputs, parameters, sender):
                sender.send(pb_utils.InferenceResponse(outputs), 0 if self.decoupled else FINAL)
            if self.decoupled:
                sender.send(flags=FINAL)
        except pb_utils.TritonModelException as error:
            problem = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            sender.send(pb_utils.InferenceResponse(error=problem), FINAL)

    def _answers(self, inputs: dict[str, Any], parameters: str, sender: Any) -> Iterator[list[Any]]:
        # The parameters go along, so that preprocessing finds the ones that nothing reads.
        encoded = _call(
            "preprocessing", _renamed(inputs, TO_PREPROCESSING), list(PREPROCESSED), parameters
        )
        asked = [*_renamed(encoded, PREPROCESSED), *_renamed(inputs, TO_ENGINE)]
        for generated in self._generate(asked, sender):
            text = _call("postprocessing", _renamed(generated, TO_POSTPROCESSING), ["OUTPUT"])
            named = _renamed(text, {"OUTPUT": "text_output"})
            yield [*named, *_renamed(generated, GENERATED)]

    def _generate(self, asked: list[Any], sender: Any) -> Iterator[dict[str, Any]]:
        names = ["output_ids", *GENERATED]
        if not self.decoupled:
            yield _call(self.engine, asked, names)
            return
        request = pb_utils.InferenceRequest(
            request_id=uuid.uuid4().hex,
            model_name=self.engine,
            inputs=asked,
            requested_output_names=names,
        )
        looked = time.monotonic()
        for response in request.exec(decoupled=True):
            generated = _outputs(response)
            if generated:
                yield generated
            if time.monotonic() - looked > CANCELLATION_CHECK_PERIOD:
                looked = time.monotonic()
                if sender.is_cancelled():
                    self._stop(request.request_id(), asked)

    def _stop(self, request_id: str, asked: list[Any]) -> None:
        # Triton does not pass a cancellation on to the requests that a model makes.
        stop = pb_utils.Tensor("stop", np.array([[True]]))
        request = pb_utils.InferenceRequest(
            request_id=request_id,
            model_name=self.engine,
            inputs=[*asked, stop],
            requested_output_names=["output_ids"],
        )
        for _ in request.exec(decoupled=True):
            pass


def _call(
    model: str, inputs: list[Any], outputs: list[str], parameters: str = "{}"
) -> dict[str, Any]:
    request = pb_utils.InferenceRequest(
        model_name=model,
        inputs=inputs,
        requested_output_names=outputs,
        parameters={name: str(value) for name, value in json.loads(parameters or "{}").items()},
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
