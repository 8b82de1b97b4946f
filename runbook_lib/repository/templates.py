"""The models of the TensorRT-LLM layout, release by release: their tensors, wiring and parameters.

    ensemble ── preprocessing ── tensorrt_llm ── postprocessing        track engine
    tensorrt_llm_bls: the same three, called by one model
    ensemble ── tensorrt_llm                                           track llmapi

The record stands in `data/trtllm_templates.json` and `data/trtllm_parameters.json`, with sources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from runbook_lib.errors import RepositoryError

__all__ = [
    "Contract",
    "Parameter",
    "Tensor",
    "contract",
    "known_parameters",
    "parameters_of",
    "wiring",
]

DATA = Path(__file__).resolve().parent / "data"
ROW = re.compile(r"([A-Z0-9]+)\[([^\]]*)\]((?: \w+)*)")
LLMAPI_SINCE = "1.0.0"
Built = Literal["engine", "llmapi"]


@dataclass(frozen=True)
class Tensor:
    """One input or output; `dims` without the batch, `scalar` reshaped to no dimension."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False
    ragged: bool = False
    scalar: bool = False

    def __str__(self) -> str:
        words = [f'name: "{self.name}"', f"data_type: {self.data_type}"]
        words.append(f"dims: [ {', '.join(map(str, self.dims))} ]")
        words += ["reshape: { shape: [ ] }"] * self.scalar
        words += ["allow_ragged_batch: true"] * self.ragged
        words += ["optional: true"] * self.optional
        return f"{{ {' '.join(words)} }}"


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Parameter:
    """One entry of `parameters`: the type of its string, its bounds, and what it means.

    Attributes:
        type: bool, int, ints (one or several), float, word, path or text.
        default: what holds where it is missing; empty where the backend has no single answer.
        choices: the words that it may be; empty for any.
        since, until: the releases whose template has it.
    """

    name: str
    type: str
    means: str
    default: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    since: str = "0.12.0"
    until: str = ""

    def problem(self, value: str) -> str:
        """Why the backend would not take a value; empty when it does."""
        if self.type == "bool" and value.lower() not in {"true", "false", "0", "1"}:
            return f"must be true or false, not {value!r}"
        if self.choices and value not in self.choices:
            return f"must be {' or '.join(self.choices)}, not {value!r}"
        if self.type in {"int", "ints", "float"}:
            return self._number_problem(value)
        return ""

    def _number_problem(self, value: str) -> str:
        kind = float if self.type == "float" else int
        try:
            numbers = [kind(one) for one in (value.split(",") if self.type == "ints" else [value])]
        except ValueError:
            return f"must be a number, not {value!r}"
        if self.least is not None and min(numbers) < self.least:
            return f"must be at least {self.least:g}, not {value}"
        if self.above is not None and min(numbers) <= self.above:
            return f"must be above {self.above:g}, not {value}"
        if self.most is not None and max(numbers) > self.most:
            return f"must be at most {self.most:g}, not {value}"
        return ""


def contract(track: Built, version: str, model: str) -> Contract:
    """The tensors of a model as a release has them.

    Raises:
        RepositoryError: the release has no such layout, or is not known here.
    """
    key = _checked(track, version)
    rows = _data()[track]["models"][model]
    return Contract(*(tuple(_tensors(rows[side], key)) for side in ("inputs", "outputs")))


def wiring(track: Built, version: str) -> dict[str, dict[str, dict[str, str]]]:
    """The ensemble's steps in their order: for each, its tensors and the ensemble's they carry.

    Only what both sides have in that release is connected.
    """
    own = _names(contract(track, version, "ensemble"))
    found: dict[str, dict[str, dict[str, str]]] = {}
    for model, sides in _data()[track]["wiring"].items():
        its = _names(contract(track, version, model))
        found[model] = {
            side: {
                inner: outer
                for inner, outer in pairs.items()
                if inner in its and (outer.startswith("_") or outer in own)
            }
            for side, pairs in sides.items()
        }
    return found


def parameters_of(model: str, version: str) -> dict[str, Parameter]:
    """The parameters that a model's template has in a release."""
    key = _key(version)
    return {
        name: one
        for name, one in known_parameters(model).items()
        if _in_force(key, one.since, one.until)
    }


@cache
def known_parameters(model: str) -> dict[str, Parameter]:
    """The parameters of a model in any release; empty for a model that is not of this layout."""
    rows = json.loads((DATA / "trtllm_parameters.json").read_bytes())["models"].get(model, {})
    return {
        name: Parameter(**{**row, "name": name, "choices": tuple(row.get("choices", ()))})
        for name, row in rows.items()
    }


def _names(its: Contract) -> set[str]:
    return {one.name for one in (*its.inputs, *its.outputs)}


def _tensors(rows: Iterable[list[str]], key: tuple[int, ...]) -> Iterable[Tensor]:
    for name, told, *reach in rows:
        if reach and not _in_force(key, *reach):
            continue
        found = ROW.fullmatch(told)
        assert found is not None, told
        flags = dict.fromkeys(found[3].split(), True)
        dims = tuple(int(one) for one in found[2].split(","))
        yield Tensor(name, f"TYPE_{found[1]}", dims, **flags)


def _in_force(key: tuple[int, ...], since: str, until: str = "") -> bool:
    return _key(since) <= key and (not until or key <= _key(until))


def _key(version: str) -> tuple[int, ...]:
    """A version as numbers; a release candidate counts as its release."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        raise RepositoryError(f"{version!r} is no TensorRT-LLM release.", fix="Say one like 1.2.1.")
    return tuple(int(part or 0) for part in found.groups())


def _checked(track: Built, version: str) -> tuple[int, ...]:
    key, data = _key(version), _data()
    first = LLMAPI_SINCE if track == "llmapi" else data["first"]
    if key < _key(first):
        raise RepositoryError(
            f"TensorRT-LLM {version} has no layout of the {track} track here.",
            why=f"The first release that is known is {first}.",
            fix=f"Take {first} or a later release.",
        )
    if track == "engine" and key[:2] > _key(data["last"])[:2]:
        raise RepositoryError(
            f"TensorRT-LLM {version} has no layout of the engine track here.",
            why=f"{data['last']} is the last stable release with engines.",
            fix=f"Set track: llmapi, or take {data['last']}.",
        )
    return key


@cache
def _data() -> Mapping[str, Any]:
    return dict(json.loads((DATA / "trtllm_templates.json").read_bytes()))
