"""The layers of a profile put over each other, and their judgement: each problem with its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from runbook_lib.errors import ProfileError
from runbook_lib.profile_kinds import LoadProfile, MigProfile
from runbook_lib.profile_schema import DeploymentProfile, FieldProblems, Section, nearest
from runbook_lib.profile_words import GUIDE_VARIABLES, runtime_conflicts
from runbook_lib.profile_yaml import Document, Loc

__all__ = ["KIND_NAMES", "Layers", "validated"]

P = TypeVar("P", bound=Section)
KIND_NAMES: dict[type[Section], str] = {
    DeploymentProfile: "deployment profile",
    LoadProfile: "load profile",
    MigProfile: "MIG profile",
}
MERGED = ("builder_flags", "runtime_env", "kserve")


class Layers:
    """Values with the origin of each, the stronger layer put over the weaker."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[Loc, str] = {}

    def put(self, field: str, value: Any, origins: Mapping[Loc, str]) -> None:
        """Set a field; of two mappings in `MERGED` each key is set on its own."""
        below = self.values.get(field)
        if field in MERGED and isinstance(below, dict) and isinstance(value, dict):
            value = {**below, **value}
        else:
            self.origins = {loc: text for loc, text in self.origins.items() if loc[0] != field}
        self.values[field] = value
        self.origins.update(origins)

    def put_document(self, document: Document, shown: str) -> None:
        """Set everything that a file states."""
        for field, value in document.values.items():
            origins = {
                loc: f"{shown}:{line}" for loc, line in document.lines.items() if loc[0] == field
            }
            self.put(field, value, origins)

    def where(self, loc: Loc) -> str:
        """The origin of a value, or of the nearest thing around it."""
        for end in range(len(loc), 0, -1):
            if found := self.origins.get(loc[:end]):
                return found
        return ""


def validated(kind: type[P], layers: Layers) -> P:
    """The profile of the layers.

    Raises:
        ProfileError: everything that is wrong, each with its place.
    """
    problems = [
        f"{layers.where(('runtime_env', name))} {name} = {layers.values['runtime_env'][name]!r}, but "
        f"{layers.where((field,))} {field} = {layers.values[field]!r}: say it once"
        for name, field in runtime_conflicts(layers.values)
    ]
    values = _without_variables(layers.values) if problems else dict(layers.values)
    try:
        value = kind.model_validate(values)
        if not problems:
            return value
    except ValidationError as error:
        problems += _told(error, kind, layers)
        problems += [
            one for one in _second_look(kind, values, error, layers) if one not in problems
        ]
    known = [
        origin.partition(":")[0].removeprefix("extends ") for origin in layers.origins.values()
    ]
    shown = known[0] if known else f"The {KIND_NAMES[kind]}"
    head = (
        f"{shown} has {len(problems)} problems." if len(problems) > 1 else f"{shown} has a problem."
    )
    raise ProfileError(
        head,
        why="\n        ".join(problems),
        fix="Correct the lines named above; nothing was changed.",
    )


def _without_variables(values: Mapping[str, Any]) -> dict[str, Any]:
    env = {
        name: text for name, text in values["runtime_env"].items() if name not in GUIDE_VARIABLES
    }
    return {**values, "runtime_env": env}


def _second_look(
    kind: type[P], values: dict[str, Any], first: ValidationError, layers: Layers
) -> list[str]:
    """What else is wrong once the wrong fields are left out: one reading shows every problem."""
    wrong = {str(one["loc"][0]) for one in first.errors(include_url=False) if one["loc"]}
    if not wrong or "track" in wrong:
        return []
    try:
        kind.model_validate({name: value for name, value in values.items() if name not in wrong})
    except ValidationError as error:
        found = [one for one in error.errors(include_url=False) if one["type"] != "missing"]
        return [text for one in found for text in _sentences(one, kind, layers)]
    return []


def _told(error: ValidationError, kind: type[Section], layers: Layers) -> list[str]:
    texts = [
        text for one in error.errors(include_url=False) for text in _sentences(one, kind, layers)
    ]
    return list(dict.fromkeys(texts))


def _sentences(one: Any, kind: type[Section], layers: Layers) -> Iterable[str]:
    inner = one.get("ctx", {}).get("error")
    if isinstance(inner, FieldProblems):
        above = "".join(f"{part}." for part in one["loc"])
        for below, text in inner.problems:
            path = above + below
            loc: Loc = tuple(int(part) if part.isdigit() else part for part in path.split("."))
            yield f"{_placed(layers, loc)}{path}: {text}"
        return
    loc, path = tuple(one["loc"]), ".".join(str(part) for part in one["loc"])
    place = _placed(layers, loc)
    if one["type"] == "missing":
        yield f"{place}{path} is missing"
    elif one["type"] == "extra_forbidden":
        near = nearest(str(loc[-1]), kind.model_fields)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{place}{path} is no key of a {KIND_NAMES[kind]}{hint}"
    else:
        wanted = one["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        yield f"{place}{path}: {one['input']!r} ({_type_name(one['input'])}) given, {wanted} wanted"


def _placed(layers: Layers, loc: Loc) -> str:
    where = layers.where(loc)
    return f"{where} " if where else ""


def _type_name(value: object) -> str:
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true/false",
        list: "list",
        dict: "mapping",
    }
    return names.get(type(value), "nothing" if value is None else type(value).__name__)
