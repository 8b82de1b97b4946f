"""Text in, text out in one model: NVIDIA's `tensorrt_llm_bls`, calling the other three.

The calls are made from threads, since waiting for the engine's next response blocks; so one
instance serves many requests at once. The tensors are those of the ensemble. A streamed character
whose tokens come in several responses is sent when it is whole.
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
    "length_penalty": "len_penalty",
    "stream": "streaming",
}
"""Inputs of the engine that are called otherwise here; the rest has one name."""
PREPROCESSED = {
    "INPUT_ID": "input_ids",
    "REQUEST_INPUT_LEN": "input_lengths",
    "REQUEST_OUTPUT_LEN": "request_output_len",
    "BAD_WORDS_IDS": "bad_words_list",
    "STOP_WORDS_IDS": "stop_words_list",
    "OUT_END_ID": "end_id",
    "OUT_PAD_ID": "pad_id",
}
LENGTHS = {"output_lengths": "sequence_length"}
UNFINISHED = "\ufffd"
"""What the bytes of a half character are decoded to."""
LONGEST_CHARACTER = 8
"""Tokens that are waited for; more than the four bytes of any character."""
TO_POSTPROCESSING = {"output_ids": "TOKENS_BATCH", "sequence_length": "SEQUENCE_LENGTH"}

CANCELLATION_CHECK_PERIOD = 0.1
"""Seconds between two looks, while responses come, for a client that left."""


class TritonPythonModel:
    """Runs preprocessing, the engine and postprocessing for each request."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read which model is the engine, and which of its tensors are asked for."""
        config = json.loads(args["model_config"])
        self.engine = config["parameters"]["tensorrt_llm_model_name"]["string_value"]
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        outputs = [tensor["name"] for tensor in config["output"]]
        self.generated = {
            LENGTHS.get(name, name): name for name in outputs if name != "text_output"
        }
        self.to_engine = {
            tensor["name"]: TO_ENGINE.get(tensor["name"], tensor["name"])
            for tensor in config["input"]
            if tensor["name"] not in TO_PREPROCESSING
        }
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
        asked = [*_renamed(encoded, PREPROCESSED), *_renamed(inputs, self.to_engine)]
        pending = _Pending()
        for generated in self._generate(asked, sender):
            text = pending.text(generated) if self.decoupled else _decode(generated)
            yield [text, *_renamed(generated, self.generated)]
        if pending.tokens is not None:  # the answer ended inside a character
            lengths = pb_utils.Tensor("output_lengths", np.zeros((1, 1), np.int32))
            yield [_text_output(pending.decoded()), lengths]

    def _generate(self, asked: list[Any], sender: Any) -> Iterator[dict[str, Any]]:
        names = ["output_ids", *self.generated]
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


class _Pending:
    """Tokens of one answer whose text is not sent yet, because it may end inside a character."""

    def __init__(self) -> None:
        self.tokens: Any = None

    def text(self, generated: dict[str, Any]) -> Any:
        tokens = generated["output_ids"].as_numpy()
        lengths = generated["sequence_length"].as_numpy()
        if lengths.shape != (1, 1):  # several beams or texts: each stands by itself
            return _decode(generated)
        tokens = tokens[:, :, : lengths[0, 0]]
        held = self.tokens
        self.tokens = tokens if held is None else np.concatenate([held, tokens], axis=2)
        decoded = self.decoded()
        whole = not decoded[0, 0].decode("utf-8").endswith(UNFINISHED)
        if whole or self.tokens.shape[2] > LONGEST_CHARACTER:
            self.tokens = None
            return _text_output(decoded)
        return _text_output(np.array([[b""]], np.object_))

    def decoded(self) -> Any:
        lengths = np.array([[self.tokens.shape[2]]], np.int32)
        tensors = [
            pb_utils.Tensor("TOKENS_BATCH", self.tokens.astype(np.int32)),
            pb_utils.Tensor("SEQUENCE_LENGTH", lengths),
        ]
        return _call("postprocessing", tensors, ["OUTPUT"])["OUTPUT"].as_numpy()


def _decode(generated: dict[str, Any]) -> Any:
    tensors = _renamed(generated, TO_POSTPROCESSING)
    return _text_output(_call("postprocessing", tensors, ["OUTPUT"])["OUTPUT"].as_numpy())


def _text_output(texts: Any) -> Any:
    return pb_utils.Tensor("text_output", texts)


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
