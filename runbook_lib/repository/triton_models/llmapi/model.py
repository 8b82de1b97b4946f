"""Serves a checkpoint by TensorRT-LLM's LLM API: the model `tensorrt_llm` of the llmapi track.

`model.yaml` beside this file holds the arguments of `tensorrt_llm.LLM`; a `model` that is a folder
here is taken from here. All requests run in one event loop, and the LLM API batches them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
import yaml

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SAMPLING = "sampling_param_"
EXCLUDE = "sampling_param_exclude_input_from_output"
CANCELLATION_CHECK_PERIOD = 0.1
"""Seconds between two looks, while responses come, for a client that left."""


class TritonPythonModel:
    """Answers `text_input` with `text_output` and `output_lengths`, whole or part by part."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the checkpoint."""
        config = json.loads(args["model_config"])
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        version = Path(args["model_repository"]) / args["model_version"]
        arguments = yaml.safe_load((version / "model.yaml").read_text("utf-8"))
        here = version / str(arguments["model"])
        if here.is_dir():
            arguments["model"] = str(here)
        # Only now: the import opens the GPUs.
        from tensorrt_llm import LLM, SamplingParams

        self.sampling_params = SamplingParams
        self.running: dict[str, Any] = {}
        self.llm = LLM(**arguments)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="llm", daemon=True)
        self.thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand each request to the event loop; the answers go through its response sender."""
        for request in requests:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            serving = self._serve(inputs, request.request_id(), request.get_response_sender())
            asyncio.run_coroutine_threadsafe(serving, self.loop)

    def finalize(self) -> None:
        """Let the GPUs go."""
        self.llm.shutdown()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def _serve(self, inputs: dict[str, Any], request_id: str, sender: Any) -> None:
        try:
            if _flag(inputs, "stop"):
                self._stop(request_id)
            else:
                await self._generate(inputs, request_id, sender)
        except Exception as error:  # whatever it is, the client must hear of it
            asked_wrongly = isinstance(error, (ValueError, TypeError))
            # Such as a prompt that is too long; its class moved between releases.
            asked_wrongly |= type(error).__name__ == "RequestError"
            errors = pb_utils.TritonError
            code = errors.INVALID_ARG if asked_wrongly else errors.INTERNAL
            problem = pb_utils.TritonError(f"{type(error).__name__}: {error}", code)
            sender.send(pb_utils.InferenceResponse(error=problem), FINAL)
            return
        if self.decoupled:
            sender.send(flags=FINAL)
        elif _flag(inputs, "stop"):
            sender.send(pb_utils.InferenceResponse(_outputs("", 0, 0)), FINAL)

    def _stop(self, request_id: str) -> None:
        if not request_id:
            raise ValueError("a request is stopped by its request id, and none was given")
        if (answer := self.running.get(request_id)) is not None:
            answer.abort()

    async def _generate(self, inputs: dict[str, Any], request_id: str, sender: Any) -> None:
        texts = [one.decode("utf-8") for one in inputs["text_input"].reshape(-1)]
        if len(texts) != 1:
            raise ValueError("send one text a request")
        streams = _flag(inputs, "streaming")
        if streams and not self.decoupled:
            raise ValueError("this model was laid out without streaming")
        answer = self.llm.generate_async(
            texts[0], self.sampling_params(**_sampling(inputs)), streaming=streams
        )
        if request_id:
            self.running[request_id] = answer
        watching = asyncio.ensure_future(_abort_when_cancelled(answer, sender))
        try:
            if streams:
                async for part in answer:
                    self._send(part, inputs, sender, whole=False)
            else:
                self._send(await answer, inputs, sender, whole=True)
        finally:
            watching.cancel()
            self.running.pop(request_id, None)

    def _send(self, part: Any, inputs: dict[str, Any], sender: Any, *, whole: bool) -> None:
        best = part.outputs[0]
        text = best.text if whole else best.text_diff
        tokens = best.token_ids if whole else best.token_ids_diff
        if whole and not _flag(inputs, EXCLUDE, default=True):
            text = part.prompt + text
        tensors = _outputs(text, len(tokens), len(part.prompt_token_ids))
        for name in ("finish_reason", "stop_reason"):
            if _flag(inputs, f"return_{name}"):
                said = getattr(best, name)
                tensors.append(_texts(name, "" if said is None else str(said)))
        if _flag(inputs, "return_cumulative_logprob"):
            value = np.array([best.cumulative_logprob or 0.0], np.float32)
            tensors.append(pb_utils.Tensor("cumulative_logprob", value))
        sender.send(pb_utils.InferenceResponse(tensors), 0 if self.decoupled else FINAL)


async def _abort_when_cancelled(answer: Any, sender: Any) -> None:
    while not sender.is_cancelled():  # noqa: ASYNC110 - Triton tells nobody, it must be asked
        await asyncio.sleep(CANCELLATION_CHECK_PERIOD)
    answer.abort()


def _sampling(inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of SamplingParams that a request brings."""
    found: dict[str, Any] = {}
    for name, value in inputs.items():
        if not name.startswith(SAMPLING) or name == EXCLUDE:
            continue
        key = name.removeprefix(SAMPLING)
        if key == "stop":
            words = [one.decode("utf-8") for one in value.reshape(-1)]
            found[key] = [one for one in words if one] or None
        else:
            found[key] = value.reshape(-1)[0].item()
    return found


def _flag(inputs: dict[str, Any], name: str, *, default: bool = False) -> bool:
    return bool(inputs[name].reshape(-1)[0]) if name in inputs else default


def _outputs(text: str, tokens: int, prompt_tokens: int) -> list[Any]:
    return [
        _texts("text_output", text),
        pb_utils.Tensor("output_lengths", np.array([tokens], np.int32)),
        pb_utils.Tensor("num_input_tokens", np.array([prompt_tokens], np.int32)),
    ]


def _texts(name: str, text: str) -> Any:
    return pb_utils.Tensor(name, np.array([text.encode("utf-8")], np.object_))
