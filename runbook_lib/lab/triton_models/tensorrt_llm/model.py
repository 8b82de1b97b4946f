"""The lab's engine behind the tensors of NVIDIA's `tensorrt_llm` model.

`execute` reads a request and queues it; the engine's own thread answers through the request's
response sender (see `engine_loop.py`). With `decoupled: true` a stream gets a response as soon
as tokens with whole characters are there, without it each request gets exactly one response.
A request with `stop` true and the id of another one cancels that one.
`sequence_length` counts the tokens of its response, so a stream's sum is the total. The output
never holds the prompt.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import engine_runtime
import triton_python_backend_utils as pb_utils
from engine_loop import EngineLoop
from gauges import Gauges
from generation import Limits, RequestError, read_request
from output import Tensors
from text_stream import token_bytes

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Loads the engine beside it and serves it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Check and load the engine; relative paths start at this version's folder."""
        config = json.loads(args["model_config"])
        values = {key: one["string_value"] for key, one in config["parameters"].items()}
        version = Path(args["model_repository"]) / args["model_version"]
        engine = version / values["gpt_model_path"]
        try:
            loaded = engine_runtime.load(engine)
            vocabulary = token_bytes(version / values["tokenizer_dir"] / "tokenizer.json")
        except (engine_runtime.EngineError, ValueError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self.limits = Limits.of(loaded.config, vocabulary, decoupled)
        digest = hashlib.sha256((engine / "rank0.engine").read_bytes()).hexdigest()
        how = "after compiling" if loaded.compiled else "as built"
        pb_utils.Logger.log_info(f"engine sha256 {digest} loaded {how}")
        gauges = Gauges(args["model_name"], args["model_version"], loaded.config)
        self.loop = EngineLoop(
            loaded.pipeline,
            vocabulary,
            self.limits.max_batch_size,
            reload=lambda: engine_runtime.load(engine).pipeline,
            cancel_period=int(values["cancellation_check_period_ms"]) / 1000,
            report=gauges.set,
            report_period=int(values["stats_check_period_ms"]) / 1000,
        )

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; a wrong one is answered with an error at once."""
        for request in requests:
            client = _Client(request)
            read = _reader(request)
            try:
                if read("stop") is not None and read("stop").any():
                    self._stop(client)
                else:
                    self.loop.submit(client, read_request(read, self.limits))
            except RequestError as error:
                client.fail(str(error), last=True)

    def _stop(self, client: _Client) -> None:
        if not client.request_id:
            raise RequestError("Trying to stop a request but request ID is not provided")
        self.loop.stop(client.request_id)
        client.send({}, last=True)

    def finalize(self) -> None:
        """Stop the engine's thread."""
        self.loop.close()


class _Client:
    """Where the responses to one Triton request go."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self.request_id = str(request.request_id())

    def send(self, tensors: Tensors | None, *, last: bool) -> None:
        flags = FINAL if last else 0
        if tensors is None:
            self._sender.send(flags=flags)
            return
        outputs = [pb_utils.Tensor(name, value) for name, value in tensors.items()]
        self._sender.send(pb_utils.InferenceResponse(outputs), flags)

    def fail(self, error: str, *, last: bool, cancelled: bool = False) -> None:
        code = pb_utils.TritonError.CANCELLED if cancelled else pb_utils.TritonError.INVALID_ARG
        problem = pb_utils.TritonError(error, code)
        self._sender.send(pb_utils.InferenceResponse(error=problem), FINAL if last else 0)

    def gone(self) -> bool:
        return bool(self._sender.is_cancelled())


def _reader(request: Any) -> Any:
    def read(name: str) -> Any:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()

    return read
