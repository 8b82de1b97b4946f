"""What a server's answer says: tokens, text, or an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "error_words", "read_answer"]

TOKEN_KEYS = ("output_lengths", "sequence_length", "num_output_tokens")
"""Outputs that count the tokens of one response, best known first.

In TensorRT-LLM's Triton backend each is the number of tokens of this response, so a stream's sum is
its total (`fillTritonResponse` in `model_instance_state.cc` takes `outputTokensSize` of the one
response).
"""

_WORDS = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: `tokens` is None where the server gives no count; `error` where it failed."""

    tokens: int | None = None
    tokens_in: int | None = None
    source: str = ""
    text: str = ""
    error: str = ""
    readable: bool = True


def read_answer(data: bytes) -> Answer:
    """Read one JSON response of `generate`, or the data of one event of `generate_stream`."""
    try:
        value = json.loads(data)
    except ValueError:
        return Answer(readable=False, error=_shown(data))
    if not isinstance(value, dict):
        return Answer(readable=False, error=_shown(data))
    if "error" in value:
        return Answer(error=str(value["error"]) or "an error without words")
    source = next((key for key in TOKEN_KEYS if _count(value.get(key)) is not None), "")
    return Answer(
        tokens=_count(value.get(source)) if source else None,
        tokens_in=_count(value.get("num_input_tokens")),
        source=source,
        text=_text(value.get("text_output")),
    )


def error_words(body: bytes) -> str:
    """The server's message in the body of a refusal, as JSON, as an event, or as it stands."""
    first = body.strip().removeprefix(b"data:").strip()
    answer = read_answer(first)
    return answer.error if answer.readable and answer.error else _shown(body)


def _shown(data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
    return text[:_WORDS] + ("…" if len(text) > _WORDS else "")


def _count(value: Any) -> int | None:
    """A number, or the sum of a tensor that arrives as nested lists; None where there is none."""
    if isinstance(value, list):
        parts = [_count(part) for part in value]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(_text(part) for part in value)
    return value if isinstance(value, str) else ""
