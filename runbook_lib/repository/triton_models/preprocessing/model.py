"""Text to token ids: the first step of the ensemble, with the tensors of NVIDIA's template.

A word of `BAD_WORDS_DICT` or `STOP_WORDS_DICT` becomes a token sequence; the sequences of one
request travel as one `[2, n]` matrix, token ids above, the end offset of each word below, padded
with 0 and -1. An empty string means no word, since clients send `[""]` for none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout")

Ints = npt.NDArray[np.int32]


class TritonPythonModel:
    """Encodes `QUERY` and the words, and fills in `END_ID` and `PAD_ID` from the tokenizer."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; a relative `tokenizer_dir` starts at this version's folder."""
        parameters = json.loads(args["model_config"])["parameters"]
        version = Path(args["model_repository"]) / args["model_version"]
        folder = version / parameters["tokenizer_dir"]["string_value"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = parameters.get("add_special_tokens", {}).get("string_value", "true")
        self.adds_special_tokens = added.lower() in ("true", "1")
        names = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        self.end_id = self._id_of(names.get("eos_token"))
        self.pad_id = self._id_of(names.get("pad_token") or names.get("eos_token"))

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[object]:
        """One response a request; a bad request gets an error, the others their answer."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> object:
        unknown = [name for name in json.loads(request.parameters() or "{}") if not reserved(name)]
        if unknown:
            return _refusal(f"unexpected inference input '{unknown[0]}'")
        try:
            tensors = self._encode(request)
        except UnicodeDecodeError as error:
            return _refusal(f"a text input is not valid UTF-8: {error}")
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in tensors.items()]
        )

    def _encode(self, request: pb_utils.InferenceRequest) -> dict[str, npt.NDArray[np.generic]]:
        texts = [_text(row[0]) for row in _tensor(request, "QUERY")]
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=self.adds_special_tokens)
        rows = [encoding.ids for encoding in encodings]
        end_id = self._scalar(request, "END_ID", self.end_id, len(rows))
        pad_id = self._scalar(request, "PAD_ID", self.pad_id, len(rows))
        lengths = np.array([[len(row)] for row in rows], np.int32)
        ids = np.repeat(pad_id, max(len(row) for row in rows), axis=1)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row)] = row
        return {
            "INPUT_ID": ids,
            "REQUEST_INPUT_LEN": lengths,
            "REQUEST_OUTPUT_LEN": _tensor(request, "REQUEST_OUTPUT_LEN"),
            "BAD_WORDS_IDS": self._words(request, "BAD_WORDS_DICT", len(rows)),
            "STOP_WORDS_IDS": self._words(request, "STOP_WORDS_DICT", len(rows)),
            "OUT_END_ID": end_id,
            "OUT_PAD_ID": pad_id,
        }

    def _words(self, request: pb_utils.InferenceRequest, name: str, rows: int) -> Ints:
        given = _tensor(request, name)
        batch = [[]] * rows if given is None else [[_text(word) for word in row] for row in given]
        encoded = [
            [self.tokenizer.encode(word, add_special_tokens=False).ids for word in row if word]
            for row in batch
        ]
        return word_matrix(encoded)

    def _scalar(
        self, request: pb_utils.InferenceRequest, name: str, default: int, rows: int
    ) -> Ints:
        given = _tensor(request, name)
        if given is None:
            return np.full((rows, 1), default, np.int32)
        return np.asarray(given, np.int32)

    def _id_of(self, token: str | dict[str, str] | None) -> int:
        if token is None:
            return -1  # no token ends an answer: it goes on to its limit
        text = token if isinstance(token, str) else token["content"]
        found = self.tokenizer.token_to_id(text)
        if found is None:
            raise pb_utils.TritonModelException(f"the tokenizer has no token {text!r}")
        return int(found)


def reserved(parameter: str) -> bool:
    """Whether a request parameter may be there: Triton's own, or one that clients always send.

    Triton's `/generate` turns every unknown key of the request's JSON into a parameter, which no
    model then reads; refused, a misspelt key is found instead of having no effect.
    """
    return parameter.startswith("triton_") or parameter in RESERVED


def word_matrix(batch: list[list[list[int]]]) -> Ints:
    """The words of each row as one `[rows, 2, n]` matrix, in TensorRT-LLM's word-list form."""
    flat = [[token for word in row for token in word] for row in batch]
    ends = [np.cumsum([len(word) for word in row], dtype=np.int32) for row in batch]
    matrix = np.zeros((len(batch), 2, max(len(row) for row in flat)), np.int32)
    matrix[:, 1, :] = -1
    for target, tokens, offsets in zip(matrix, flat, ends, strict=True):
        target[0, : len(tokens)] = tokens
        target[1, : len(offsets)] = offsets
    return matrix


def _refusal(text: str) -> object:
    error = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)


def _tensor(request: pb_utils.InferenceRequest, name: str) -> Any:
    found = pb_utils.get_input_tensor_by_name(request, name)
    return None if found is None else found.as_numpy()


def _text(value: bytes) -> str:
    return value.decode("utf-8")
