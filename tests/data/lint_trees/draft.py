"""Model repositories as data: what a tree is, a model before it is written, and who mutates it.

A tree is a path for each file; `~` in a path and in a text stands for a prefix of the tree's own,
so that one server can hold many trees side by side.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Content = str | bytes | Link | None
Tree = dict[str, Content]  # None is a folder without files
Random = random.Random

CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
# Answers every request with its outputs as zeros, so that a warm-up can pass.
ANSWERS = """\
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.outputs = json.loads(args["model_config"])["output"]

    def execute(self, requests):
        made = []
        for _ in requests:
            tensors = []
            for one in self.outputs:
                kind = pb_utils.triton_string_to_numpy(one["data_type"])
                tensors.append(pb_utils.Tensor(one["name"], np.zeros([1, 1], dtype=kind)))
            made.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return made
"""
TYPES = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "STRING",
    "BF16",
]


def tensor(name: str, kind: str = "TYPE_STRING", dims: str = "[ 1 ]", more: str = "") -> str:
    return f'{{ name: "{name}" data_type: {kind} dims: {dims} {more} }}'


@dataclass
class Draft:
    """One model before it is written: parts of its `config.pbtxt`, and its files."""

    name: str = "~m"
    head: dict[str, str] = field(
        default_factory=lambda: {"backend": '"python"', "max_batch_size": "4"}
    )
    inputs: list[str] = field(default_factory=lambda: [tensor("a")])
    outputs: list[str] = field(default_factory=lambda: [tensor("b")])
    more: list[str] = field(default_factory=list)
    files: Tree = field(default_factory=lambda: {"1/model.py": CODE})
    text: str | bytes | None = None
    config: str | None = "config.pbtxt"

    def render(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.head.items()]
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            if tensors:
                lines.append(f"{kind} [\n  " + ",\n  ".join(tensors) + "\n]")
        return "\n".join([*lines, *self.more]) + "\n"

    def tree(self) -> Tree:
        made: Tree = {f"{self.name}/{path}": content for path, content in self.files.items()}
        if self.config:
            made[f"{self.name}/{self.config}"] = self.render() if self.text is None else self.text
        return made or {self.name: None}


def some_model(rng: Random, name: str = "~m") -> Draft:
    """A model that Triton loads; which one is chosen by chance."""
    draft = Draft(name)
    draft.head["max_batch_size"] = str(rng.choice([0, 1, 4, 4, 8, 64]))
    for tensors, letter in ((draft.inputs, "a"), (draft.outputs, "b")):
        tensors[:] = [
            tensor(
                f"{letter}{number or ''}",
                f"TYPE_{rng.choice(TYPES)}",
                rng.choice(["[ 1 ]", "[ -1 ]", "[ 3, 4 ]", "[ -1, 8 ]", "1"]),
            )
            for number in range(rng.choice([1, 1, 2, 3]))
        ]
    if rng.random() < 0.3:
        draft.head = {"name": f'"{name}"', **draft.head}
    if rng.random() < 0.2:
        draft.more.append("instance_group [ { kind: KIND_CPU } ]")
    if rng.random() < 0.2:
        draft.more.append('parameters { key: "p" value { string_value: "x" } }')
    if rng.random() < 0.1:
        draft.files["README.md"] = "about\n"
    return draft


# -- models that many trees share; a server loads each once ----------------------------------------


def _shared(name: str, inputs: list[str], outputs: list[str], *more: str, batch: int = 4) -> Tree:
    draft = Draft(name, inputs=inputs, outputs=outputs, more=list(more))
    draft.head["max_batch_size"] = str(batch)
    return draft.tree()


PARTS: dict[str, Tree] = {
    "part": _shared("part", [tensor("a")], [tensor("b")]),
    "ints": _shared("ints", [tensor("a", "TYPE_INT32")], [tensor("b", "TYPE_INT32")]),
    "join": _shared("join", [tensor("a"), tensor("c")], [tensor("b")]),
    "fork": _shared("fork", [tensor("a")], [tensor("b"), tensor("d")]),
    "wide": _shared("wide", [tensor("a", dims="[ 2, -1 ]")], [tensor("b", dims="[ 2, -1 ]")]),
    "maybe": _shared("maybe", [tensor("a"), tensor("c", more="optional: true")], [tensor("b")]),
    "plain": _shared(
        "plain", [tensor("a", dims="[ -1, 1 ]")], [tensor("b", dims="[ -1, 1 ]")], batch=0
    ),
    "stream": _shared(
        "stream", [tensor("a")], [tensor("b")], "model_transaction_policy { decoupled: true }"
    ),
}


def maps(kind: str, pairs: str) -> str:
    return " ".join(
        '{}_map {{ key: "{}" value: "{}" }}'.format(kind, *pair.split("="))
        for pair in pairs.split()
    )


def step(part: str, given: str, made: str, version: str = "model_version: -1") -> str:
    return f'{{ model_name: "{part}" {version} {maps("input", given)} {maps("output", made)} }}'


@dataclass
class Ensemble:
    """An ensemble before it is written."""

    steps: list[str]
    inputs: list[str] = field(default_factory=lambda: [tensor("x")])
    outputs: list[str] = field(default_factory=lambda: [tensor("y")])
    head: dict[str, str] = field(
        default_factory=lambda: {"platform": '"ensemble"', "max_batch_size": "4"}
    )
    more: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=lambda: ["part"])
    name: str = "~e"
    files: Tree = field(default_factory=lambda: {"1/placeholder.txt": "x"})

    def tree(self) -> Tree:
        scheduling = f"ensemble_scheduling {{ step [ {', '.join(self.steps)} ] }}"
        draft = Draft(
            self.name,
            dict(self.head),
            self.inputs,
            self.outputs,
            [*self.more, scheduling] if self.steps else self.more,
            dict(self.files),
        )
        tree = draft.tree()
        for part in self.parts:
            tree |= PARTS[part]
        return tree


# -- who makes trees --------------------------------------------------------------------------------

Change = Callable[[Random, Draft], None]
Whole = Callable[[Random], Tree]


@dataclass(frozen=True)
class Case:
    """One tree of the set: which round it belongs to, what kind of thing it tries, how it is made."""

    round: str
    kind: str
    recipe: str
    number: int
    make: Whole

    @property
    def id(self) -> str:
        return f"{self.round}:{self.recipe}:{self.number}"

    def tree(self) -> Tree:
        return self.make(random.Random(self.id))


class Round:
    """The recipes of one round, in the order in which they were written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: dict[str, tuple[str, Change, int]] = {}
        self.wholes: dict[str, tuple[str, Whole, int]] = {}

    def change(self, kind: str, draws: int = 8) -> Callable[[Change], Change]:
        """A recipe that changes one model that loads."""

        def keep(made: Change) -> Change:
            self.changes[made.__name__] = (kind, made, draws)
            return made

        return keep

    def whole(self, kind: str, draws: int = 8) -> Callable[[Whole], Whole]:
        """A recipe that makes a whole tree."""

        def keep(made: Whole) -> Whole:
            self.wholes[made.__name__] = (kind, made, draws)
            return made

        return keep

    def cases(self, pairs: int) -> Iterator[Case]:
        """Every recipe by itself, then pairs of changes of one model."""
        for name, (kind, change, draws) in self.changes.items():
            for number in range(draws):
                yield Case(self.name, kind, name, number, _changed(change))
        for name, (kind, whole, draws) in self.wholes.items():
            for number in range(draws):
                yield Case(self.name, kind, name, number, whole)
        names = sorted(self.changes)
        for number in range(pairs):
            one, two = random.Random(f"{self.name} pair {number}").sample(names, 2)
            both = _changed(self.changes[one][1], self.changes[two][1])
            yield Case(self.name, "two changes", f"{one}+{two}", number, both)


def _changed(*changes: Change) -> Whole:
    def make(rng: Random) -> Tree:
        draft = some_model(rng)
        for change in changes:
            change(rng, draft)
        return draft.tree()

    return make


# -- from a tree to files -----------------------------------------------------------------------------


def digest(tree: Mapping[str, Content]) -> str:
    """What a tree is; a verdict holds for exactly this one."""
    text = repr(sorted(tree.items(), key=lambda item: item[0]))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write(tree: Mapping[str, Content], root: Path, prefix: str = "") -> Path:
    """Write a tree into a folder, `~` replaced by the prefix."""
    for path, content in tree.items():
        target = root / os.fsdecode(os.fsencode(path.replace("~", prefix)))
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            target.symlink_to(content.target.replace("~", prefix))
            continue
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        target.write_bytes(data.replace(b"~", prefix.encode()))
    return root


def folders(tree: Mapping[str, Content], prefix: str) -> list[str]:
    """The names of a tree's model folders."""
    tops = {
        path.partition("/")[0]
        for path, content in tree.items()
        if "/" in path or content is None or isinstance(content, Link)
    }
    return sorted(name.replace("~", prefix) for name in tops)
