"""What each TensorRT-LLM release of the engine track accepts: flags, templates, places of its scripts.

The record stands in `data/releases.json` and `data/converters.json`, each entry with its source
and how near that source is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.errors import PlanError

__all__ = [
    "LAST_CANDIDATE",
    "VERSIONS",
    "Flag",
    "Move",
    "Release",
    "Template",
    "Tool",
    "moves",
    "release",
    "tool_by_version",
    "version_key",
]

DATA = Path(__file__).resolve().parent / "data"
BUILD = "trtllm-build"
FIRST_CANDIDATE = (1, 3, 0, 0)  # from here trtllm-build warns that it is deprecated
LAST_CANDIDATE = (1, 3, 0, 20)  # the last release candidate that has trtllm-build
FINAL = 1_000_000  # a final release comes after all of its candidates


@dataclass(frozen=True)
class Flag:
    """One option of a tool: `bare` is what it means without a value, `many` that it takes several."""

    type: str
    choices: tuple[Any, ...] = ()
    default: Any = None
    aliases: tuple[str, ...] = ()
    bare: str | None = None
    many: bool = False

    def problem(self, value: str | None) -> str:
        """Why the tool would refuse a value; empty when it takes it."""
        if self.type == "switch":
            return "" if value is None else "takes no value"
        if value is None:
            return "" if self.bare is not None else "needs a value"
        if self.type in {"int", "float"}:
            number = int if self.type == "int" else float
            try:
                number(value)
            except ValueError:
                return f"takes a number, not {value!r}"
        if self.choices and value not in map(str, self.choices):
            return f"takes {', '.join(map(str, self.choices))}, not {value!r}"
        return ""


@dataclass(frozen=True)
class Tool:
    """A command line of one release, with how near its source is (`basis`) and which it is."""

    flags: Mapping[str, Flag]
    basis: str
    source: str

    def name_of(self, word: str) -> str | None:
        """The flag that a word means: its name or one of its aliases; None where there is none."""
        if word in self.flags:
            return word
        return next((name for name, one in self.flags.items() if word in one.aliases), None)


@dataclass(frozen=True)
class Template:
    """The names that a model's template can be filled with, and those that it must be."""

    names: frozenset[str]
    mandatory: frozenset[str]


@dataclass(frozen=True)
class Move:
    """A flag that went, was renamed, or means something else since a release."""

    tool: str
    flag: str
    release: str
    what: str
    source: str
    instead: str = ""

    def __str__(self) -> str:
        said = f"{self.release}: {self.tool} {self.flag}: {self.what}"
        return f"{said}; instead: {self.instead}" if self.instead else said


@dataclass(frozen=True)
class Release:
    """One release: its tools, its templates, and where its scripts are (`clone` before 0.17)."""

    version: str
    image: str | None
    templates_basis: str
    tools: Mapping[str, Tool] = field(repr=False)
    templates: Mapping[str, Template] = field(repr=False)
    places: Mapping[str, str] = field(repr=False)

    @property
    def build(self) -> Tool:
        """`trtllm-build`."""
        return self.tools[BUILD]

    def since(self, version: str) -> bool:
        """Whether this is `version` or a later one."""
        return version_key(self.version) >= version_key(version)

    def place(
        self, part: str, work: str, converter: str = "{converter}", *, contrib: bool = False
    ) -> str:
        """Where a script is: in the image, or in the checkout of the backend below `work`.

        Args:
            part: converter, quantize, templates, fill or launch.
            work: the folder of the checkout.
            converter: whose converter.
            contrib: whether others gave that converter; since 0.20 those stand apart.
        """
        path = self.places[part].replace("{converter}", converter)
        path = path.replace("/models/core/", "/models/contrib/") if contrib else path
        return path if path.startswith("/") else f"{work}/tensorrtllm_backend/{path}"


def version_key(version: str) -> tuple[int, int, int, int]:
    """A version as numbers that compare: `1.3.0rc21` comes before `1.3.0`; `0.12` is `0.12.0`."""
    found = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?(?:rc(\d+))?", version)
    if found is None:
        raise PlanError(
            f"{version!r} is no TensorRT-LLM release.", fix=f"Say one of {', '.join(VERSIONS)}."
        )
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), int(patch or 0), int(candidate) if candidate else FINAL


def release(version: str) -> Release:
    """The record of a release.

    Raises:
        PlanError: it has no engine track any more, or is not known here; what to take instead.
    """
    key = version_key(version)
    for known in VERSIONS:
        if version_key(known) == key:
            return _releases()[known]
    if key > LAST_CANDIDATE:
        candidate = key[:3] == FIRST_CANDIDATE[:3]
        has_none = "builds no engines." if candidate else "is not known here."
        raise PlanError(
            f"TensorRT-LLM {version} {has_none}",
            why="trtllm-build and the converters were removed in 1.3.0rc21.",
            fix=f"Take track llmapi, or {VERSIONS[-1]}, the last release with engines.",
            page="00_plan",
        )
    why = f"Known are {', '.join(VERSIONS)}."
    if key >= FIRST_CANDIDATE:
        why = f"The candidates of 1.3.0 were not recorded; their trtllm-build is deprecated. {why}"
    raise PlanError(
        f"TensorRT-LLM {version} is not known here.",
        why=why,
        fix=f"The nearest known release is {_nearest(key)}.",
        page="00_plan",
    )


def moves(after: str, upto: str) -> list[Move]:
    """What moved or changed its meaning after one release, up to and with another."""
    low, high = version_key(after), version_key(upto)
    return [one for one in _moves() if low < version_key(one.release) <= high]


def _nearest(key: tuple[int, int, int, int]) -> str:
    earlier = [known for known in VERSIONS if version_key(known) < key]
    later = [known for known in VERSIONS if version_key(known) > key]
    if earlier and version_key(earlier[-1])[:2] == key[:2]:
        return earlier[-1]
    return later[0] if later else earlier[-1]


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / "releases.json").read_bytes())
    further = json.loads((DATA / "converters.json").read_bytes())
    return data | {"tools": data["tools"] | further["tools"]}


@cache
def _moves() -> tuple[Move, ...]:
    rows = [Move(**row) for row in _data()["moves"]]
    return tuple(sorted(rows, key=lambda one: version_key(one.release)))


@cache
def _releases() -> dict[str, Release]:
    """Every release, each made from what changed since the one before."""
    data, made = _data(), {}
    tools = {name: tool_by_version(rows) for name, rows in data["tools"].items()}
    templates: dict[str, Template] = {}
    places: dict[str, str] = {}
    for version in VERSIONS:
        present = {name: one[version] for name, one in tools.items() if version in one}
        templates = templates | _templates(data["templates"][version])
        places = data["places"].get(version, places)
        image = data["containers"].get(version)
        basis = data["templates"][version]["basis"]
        made[version] = Release(version, image, basis, present, templates, places)
    return made


def tool_by_version(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Tool]:
    """A tool of each release, from entries that say what changed since the one before."""
    flags: dict[str, Flag] = {}
    made = {}
    for version, entry in rows.items():
        flags = _changed(flags, entry)
        made[version] = Tool(flags, entry["basis"], entry["source"])
    return made


def _changed(before: Mapping[str, Flag], entry: Mapping[str, Any]) -> dict[str, Flag]:
    gone = set(entry.get("gone", ()))
    kept = {name: one for name, one in before.items() if name not in gone}
    return kept | {name: _flag(row) for name, row in entry.get("flags", {}).items()}


def _flag(row: Mapping[str, Any]) -> Flag:
    lists = {name: tuple(row.get(name, ())) for name in ("choices", "aliases")}
    return Flag(**{**row, **lists})


def _templates(entry: Mapping[str, Any]) -> dict[str, Template]:
    return {
        model: Template(frozenset(row["names"]), frozenset(row["mandatory"]))
        for model, row in entry.get("models", {}).items()
    }


VERSIONS: tuple[str, ...] = tuple(_data()["templates"])
