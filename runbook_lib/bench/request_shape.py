"""The request that a model takes, by what its metadata declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.bench.answers import TOKEN_KEYS
from runbook_lib.bench.settings import LoadSettings

__all__ = ["RequestShape", "request_shape"]


@dataclass(frozen=True)
class RequestShape:
    """Where requests go and what they hold beside the prompt.

    Triton's generate extension takes a flat JSON object, and refuses a key that is no input of the
    model; so optional ones are sent only if the model declares them.
    """

    path: str
    fields: Mapping[str, Any]
    streaming: bool

    def body(self, prompt: str) -> bytes:
        """The body of one request, the same bytes for the same prompt."""
        return json.dumps({"text_input": prompt, **self.fields}, ensure_ascii=False).encode()


def request_shape(model: str, load: LoadSettings, metadata: Mapping[str, Any]) -> RequestShape:
    """The request for a model whose `GET /v2/models/<model>` gave `metadata`.

    Without metadata (empty) the inputs of NVIDIA's `ensemble` template are taken; the `llmapi`
    model names the same ones otherwise.
    """
    inputs = _names(metadata, "inputs") or {"max_tokens", "stream"}
    outputs = _names(metadata, "outputs")
    fields: dict[str, Any] = {}
    fields[_first(inputs, "max_tokens", "sampling_param_max_tokens")] = load.max_tokens
    stream = _first(inputs, "stream", "streaming")
    if stream in inputs:
        fields[stream] = load.streaming
    if "return_num_input_tokens" in inputs:
        fields["return_num_input_tokens"] = True
    counts_by_itself = outputs & set(TOKEN_KEYS) - {"num_output_tokens"}
    if "return_num_output_tokens" in inputs and not counts_by_itself:
        fields["return_num_output_tokens"] = True
    verb = "generate_stream" if load.streaming else "generate"
    return RequestShape(f"/v2/models/{model}/{verb}", fields, load.streaming)


def _names(metadata: Mapping[str, Any], side: str) -> set[str]:
    tensors = metadata.get(side)
    if not isinstance(tensors, list):
        return set()
    return {str(tensor.get("name")) for tensor in tensors if isinstance(tensor, dict)}


def _first(known: set[str], *names: str) -> str:
    return next((name for name in names if name in known), names[0])
