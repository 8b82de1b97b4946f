"""One generation as asked for: its tensors read, its limits checked, its sampling decided.

Defaults and refusals follow TensorRT-LLM (`executor::Request`, `LlmRequest::validate`,
`SamplingConfig::validate`, the Triton backend) in substance and in words. One difference: where
TensorRT-LLM shortens a request that would pass `max_seq_len` and only logs a warning, the request
is refused here, with the warning's first sentence, so that no output is cut silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from words import StopWatch, grammar_without, split_words

__all__ = ["Generation", "Limits", "RequestError", "read_request"]

Tensor = npt.NDArray[np.generic]


class RequestError(ValueError):
    """The request can't be served; the text goes to the client."""


@dataclass(frozen=True)
class Limits:
    """What the engine was built for, and what this deployment allows."""

    max_input_len: int
    max_seq_len: int
    max_batch_size: int
    vocabulary: list[bytes]
    streaming: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], vocabulary: list[bytes], streaming: bool) -> Limits:
        """Read the limits from an engine's `config.json`."""
        build = config["build_config"]
        return cls(
            int(build["max_input_len"]),
            int(build["max_seq_len"]),
            int(build["max_batch_size"]),
            vocabulary,
            streaming,
        )


@dataclass(frozen=True)
class Generation:
    """One prompt to continue. `options` are openvino_genai's GenerationConfig fields."""

    batch_index: int
    prompt: npt.NDArray[np.int64]
    options: dict[str, Any]
    grammar: str
    end_id: int
    stop: StopWatch | None
    streaming: bool
    log_probs: bool
    count_input: bool
    count_output: bool


def read_request(read: Callable[[str], Tensor | None], limits: Limits) -> list[Generation]:
    """The generations that a request asks for, one a row of its batch.

    Args:
        read: gives an input tensor by name, batch dimension first, or None.
        limits: the engine's.

    Raises:
        RequestError: a value is wrong or a limit is passed.
    """
    ids = read("input_ids")
    if ids is None or ids.shape[-1] == 0:
        raise RequestError("Assertion failed: !mInputTokenIds.empty()")
    if len(ids) > 1 and not limits.streaming:
        raise RequestError(
            "Batch size > 1 requires the tensorrt_llm backend to be using decoupled "
            "transaction policy"
        )
    return [_Row(read, row, limits).generation(ids[row]) for row in range(len(ids))]


class _Row:
    """One row of a request's tensors."""

    def __init__(self, read: Callable[[str], Tensor | None], row: int, limits: Limits) -> None:
        self._read, self._index, self._limits = read, row, limits

    def generation(self, ids: Tensor) -> Generation:
        prompt = ids[: self._scalar("input_lengths", 0)].astype(np.int64)
        new_tokens = self._scalar("request_output_len", 0)
        self._check_lengths(prompt, new_tokens)
        self._check_beam()
        streaming = bool(self._scalar("streaming", False))
        if streaming and not self._limits.streaming:
            raise RequestError(
                "Streaming is only supported if model is deployed using decoupled mode."
            )
        end_id = self._end_id()
        log_probs = bool(self._scalar("return_log_probs", False))
        stop = self._words("stop_words_list")
        return Generation(
            batch_index=self._index,
            prompt=prompt,
            options={
                "max_new_tokens": new_tokens,
                "logprobs": int(log_probs),
                **({"ignore_eos": True} if end_id < 0 else {"eos_token_id": end_id}),
                **self._sampling(),
            },
            grammar=self._grammar(end_id),
            end_id=end_id,
            stop=StopWatch(stop, self._limits.vocabulary) if stop else None,
            streaming=streaming,
            log_probs=log_probs,
            count_input=bool(self._scalar("return_num_input_tokens", False)),
            count_output=bool(self._scalar("return_num_output_tokens", False)),
        )

    def _check_lengths(self, prompt: npt.NDArray[np.int64], new_tokens: int) -> None:
        limits, size = self._limits, len(prompt)
        if not size:
            raise RequestError("Assertion failed: !mInputTokenIds.empty()")
        if prompt.min() < 0 or prompt.max() >= len(limits.vocabulary):
            raise RequestError(
                f"Input token ids must be within [0, {len(limits.vocabulary)}), "
                f"found {prompt.min()} to {prompt.max()}."
            )
        if new_tokens <= 0:
            raise RequestError(
                f"Assertion failed: mMaxNewTokens > 0 (request_output_len is {new_tokens})"
            )
        if size > limits.max_input_len:
            raise RequestError(
                f"Prompt length ({size}) exceeds maximum input length ({limits.max_input_len})."
            )
        if size + new_tokens > limits.max_seq_len:
            raise RequestError(
                f"Prompt length + number of requested output tokens ({size} + {new_tokens}) "
                f"exceeds maximum sequence length ({limits.max_seq_len})."
            )

    def _check_beam(self) -> None:
        width = self._scalar("beam_width", 1)
        if width < 1:
            raise RequestError(
                f"Requested beam width {width} is incorrect. Must be > 0. To de-activate beam "
                "searching set beamWidth to 1."
            )
        if width > 1:
            raise RequestError(
                f"Requested beam width {width} is larger than configured max beam width 1"
            )

    def _end_id(self) -> int:
        end_id, size = self._scalar("end_id", -1), len(self._limits.vocabulary)
        if not -1 <= end_id < size:
            raise RequestError(f"EndId ({end_id}) is not within acceptable range [-1, {size}).")
        return int(end_id)

    def _sampling(self) -> dict[str, Any]:
        # TensorRT-LLM's rules: neither top_k nor top_p means greedy, top_p 0 beside a top_k
        # means 1, temperature 0 is greedy, the seed is 0 unless given.
        top_k, top_p = self._scalar("runtime_top_k", 0), self._scalar("runtime_top_p", 0.0)
        temperature = self._scalar("temperature", 1.0)
        for name, value, valid in (
            ("topK", top_k, top_k >= 0),
            ("topP", top_p, 0 <= top_p <= 1),
            ("temperature", temperature, 0 <= temperature < float("inf")),
        ):
            if not valid:
                raise RequestError(f"Incorrect sampling config: {name} ({value:g})")
        if top_k == 1 or temperature == 0 or (top_k == 0 and top_p == 0):
            return {"do_sample": False}
        return {
            "do_sample": True,
            "temperature": temperature,
            "top_p": top_p or 1.0,
            "rng_seed": self._scalar("seed", 0),
            **({"top_k": top_k} if top_k else {}),
        }

    def _grammar(self, end_id: int) -> str:
        words = self._words("bad_words_list")
        if not words:
            return ""
        if end_id < 0:
            raise RequestError("bad_words can't be kept out without an end_id.")
        vocabulary = self._limits.vocabulary
        joined = [b"".join(vocabulary[token] for token in word) for word in words]
        if not all(joined):
            raise RequestError("A special token can't be one of bad_words.")
        try:
            return grammar_without([text.decode("utf-8") for text in joined])
        except UnicodeDecodeError:
            raise RequestError("Each of bad_words must be whole UTF-8 characters.") from None

    def _words(self, name: str) -> list[list[int]]:
        tensor = self._read(name)
        words = [] if tensor is None else split_words(tensor[self._index].tolist())
        size = len(self._limits.vocabulary)
        if any(not 0 <= token < size for word in words for token in word):
            raise RequestError(f"{name} holds a token id that is not within [0, {size}).")
        return words

    def _scalar(self, name: str, default: Any) -> Any:
        tensor = self._read(name)
        return default if tensor is None else tensor.reshape(-1)[self._index].item()
