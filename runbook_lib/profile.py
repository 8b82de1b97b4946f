"""Load a profile: find it, compose it from its layers, and know where each value came from.

The stronger layer wins: command line, then environment (the guide's variables), then the profile,
then what it extends, then the default.
"""

from __future__ import annotations

import html
import os
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from runbook_lib.artifacts import digest_of
from runbook_lib.errors import ProfileError
from runbook_lib.places import shipped
from runbook_lib.profile_kinds import LoadProfile, MigProfile
from runbook_lib.profile_layers import KIND_NAMES, Layers, validated
from runbook_lib.profile_schema import DeploymentProfile, Section, TradeOffCell, nearest
from runbook_lib.profile_words import GUIDE_VARIABLES, runtime_conflicts
from runbook_lib.profile_yaml import Document, edited, parse, read_text

__all__ = [
    "DeploymentProfile",
    "Effective",
    "LoadProfile",
    "MigProfile",
    "TradeOffCell",
    "json_schema",
    "load_profile",
    "profile_names",
    "profiles_dir",
    "update_profile",
]

P = TypeVar("P", bound=Section)
FOLDER_KINDS: dict[str, type[Section]] = {"load": LoadProfile, "mig": MigProfile}
OWN = ("profile", "extends")  # what a profile never takes over from the one it extends
DEPTH = 8
WIDTH = 100


@dataclass(frozen=True)
class Effective(Generic[P]):
    """A profile with every value in force, and where each came from."""

    value: P
    origins: dict[str, str]

    @property
    def digest(self) -> str:
        """`sha256:` over the values in force, wherever they came from."""
        return digest_of(self.value.model_dump(mode="json"))

    def table(self) -> list[tuple[str, str, str]]:
        """Each field with its value and its origin, as text."""
        return [
            (name, _shown(self.value, name), self.origins[name])
            for name in type(self.value).model_fields
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<24} {value:<40} {origin}" for name, value, origin in self.table())

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row)
            + "</tr>"
            for row in self.table()
        )
        return f"<table><tr><th>value</th><th>in force</th><th>where it came from</th></tr>{cells}</table>"


def _shown(value: Section, name: str) -> str:
    held = getattr(value, name)
    if held is None and (derived := getattr(value, f"effective_{name}", None)) is not None:
        return str(derived)
    if name == "tradeoffs":
        return ", ".join(cell.label for cell in held)
    if isinstance(held, tuple):
        return ", ".join(str(one) for one in held)
    if isinstance(held, dict):
        return ", ".join(f"{key}={one}" for key, one in held.items())
    text = "" if held is None else " ".join(str(held).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


# -- finding -------------------------------------------------------------------------------------


def profiles_dir() -> Path:
    """`$RUNBOOK_PROFILES`, else `profiles` in the present folder, else those that were shipped."""
    if given := os.environ.get("RUNBOOK_PROFILES"):
        return Path(given).absolute()
    here = Path("profiles").absolute()
    return here if here.is_dir() else shipped("profiles")


def profile_names(kind: type[Section] = DeploymentProfile) -> list[str]:
    """`folder/name` of every profile of a kind: load/ and mig/ hold their own, all others deployments."""
    return [name for name in _all_names(profiles_dir()) if _kind_of(name) is kind]


def _all_names(root: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in root.glob("*/*.yaml"))


def _kind_of(name: str) -> type[Section]:
    return FOLDER_KINDS.get(name.partition("/")[0], DeploymentProfile)


def _find(ref: str, kind: type[Section]) -> Path:
    """The file of a reference: a path, `folder/name`, or a bare name unique among its kind."""
    root = profiles_dir()
    if ref.endswith((".yaml", ".yml")):
        found = [path for path in (Path(ref), root / ref) if path.is_file()]
        if found:
            return found[0].absolute()
    word = ref.removesuffix(".yaml")
    known = _all_names(root)
    matches = [name for name in known if word in {name, name.partition("/")[2]}]
    fitting = [name for name in matches if _kind_of(name) is kind]
    if len(fitting) == 1:
        return root / f"{fitting[0]}.yaml"
    if fitting:
        raise ProfileError(
            f"{ref!r} names {len(fitting)} profiles: {', '.join(fitting)}.",
            fix=f"Say which: {fitting[0]}",
        )
    if matches:
        other = KIND_NAMES[_kind_of(matches[0])]
        raise ProfileError(
            f"{matches[0]} is a {other}, not a {KIND_NAMES[kind]}.", fix=_offer(profile_names(kind))
        )
    near = nearest(word, [*known, *(name.partition("/")[2] for name in known)], 3)
    raise ProfileError(
        f"There is no {KIND_NAMES[kind]} {ref!r} in {root}.",
        fix=f"Did you mean {' or '.join(near)}?" if near else _offer(profile_names(kind)),
    )


def _offer(names: Sequence[str]) -> str:
    return (
        f"There are {', '.join(names)}."
        if names
        else "`RUNBOOK_PROFILES` names another folder of profiles."
    )


def _label(path: Path) -> str:
    """A file's name in messages and records: `profiles/lab/tiny.yaml`, or the path as it is."""
    root = profiles_dir()
    return (
        f"profiles/{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else str(path)
    )


def _name(path: Path) -> str:
    root = profiles_dir()
    return (
        path.relative_to(root).with_suffix("").as_posix()
        if path.is_relative_to(root)
        else path.stem
    )


# -- composing --------------------------------------------------------------------------------------


def _chain(path: Path, text: str | None) -> list[tuple[Path, Document]]:
    """A profile and what it extends, the profile first.

    Raises:
        ProfileError: a cycle, a chain too long, or a reference that leaves its folder.
    """
    chain: list[tuple[Path, Document]] = []
    following: Path | None = path
    while following is not None:
        if any(following == known for known, _ in chain):
            names = " → ".join(_name(known) for known, _ in [*chain, (following, None)])
            raise ProfileError(
                f"{_label(path)} extends itself: {names}.", fix="Cut one of the `extends` lines."
            )
        if len(chain) == DEPTH:
            raise ProfileError(f"{_label(path)} extends more than {DEPTH - 1} profiles in a row.")
        shown = _label(following)
        document = parse(
            text if text is not None and not chain else read_text(following, shown), shown
        )
        chain.append((following, document))
        following = _extended(document, following)
    return chain


def _extended(document: Document, path: Path) -> Path | None:
    given = document.values.get("extends")
    if not isinstance(given, str):
        return None
    where = f"{_label(path)}:{document.lines['extends',]}"
    if given.startswith(("/", "~")) or ".." in Path(given).parts:
        raise ProfileError(
            f"{where}: extends {given!r} leaves the folder of profiles.",
            fix="Name a file beside it or `folder/name` among the profiles.",
        )
    root = profiles_dir()
    plain = given if given.endswith((".yaml", ".yml")) else f"{given}.yaml"
    for folder in (path.parent, root):
        found = folder / plain
        if found.is_file():
            if not found.resolve().is_relative_to(folder.resolve()):
                raise ProfileError(
                    f"{where}: extends {given!r} is a link out of the folder of profiles."
                )
            return found
    near = nearest(given, [*_all_names(root), *(one.stem for one in path.parent.glob("*.yaml"))])
    raise ProfileError(
        f"{where}: extends {given!r}, and there is no such profile.",
        fix=f"Did you mean {near[0]}?"
        if near
        else "Name a file beside it or `folder/name` among the profiles.",
    )


@cache
def _type_of(kind: type[Section], field: str) -> type | None:
    """int, float, bool or str of a plain field; None where a text can't give the value."""
    hint = get_type_hints(kind).get(field)
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    for plain in (bool, int, float):
        if plain in options:
            return plain
    return str if hint is not None and get_origin(hint) not in {dict, tuple} else None


def _parsed(kind: type[Section], field: str, text: str) -> Any:
    wanted = _type_of(kind, field)
    try:
        if wanted is bool:
            return {"true": True, "false": False}.get(text.strip().lower(), text)
        return wanted(text.strip()) if wanted in {int, float} else text
    except ValueError:
        return text


# -- loading -------------------------------------------------------------------------------------


@overload
def load_profile(
    ref: str, *, env: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> Effective[DeploymentProfile]: ...
@overload
def load_profile(
    ref: str,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    kind: type[P],
) -> Effective[P]: ...
def load_profile(
    ref: str,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    kind: type[Section] = DeploymentProfile,
) -> Effective[Any]:
    """A profile with every value in force.

    Args:
        ref: a path, `folder/name`, or a bare name unique among the profiles of its kind.
        env: environment whose guide variables (MAX_BATCH_SIZE, …) take part; empty ones don't.
        overrides: fields set on the command line; a text is read as the field's type.
        kind: DeploymentProfile, LoadProfile or MigProfile.

    Raises:
        ProfileError: not found, not readable, or wrong; every problem at once, with its line.
    """
    return _loaded(_find(ref, kind), kind, env or {}, overrides or {})


def _loaded(
    path: Path,
    kind: type[P],
    env: Mapping[str, str],
    overrides: Mapping[str, object],
    text: str | None = None,
) -> Effective[P]:
    layers = Layers()
    (_, own), *extended = _chain(path, text)
    for file, document in reversed(extended):
        inherited = {name: value for name, value in document.values.items() if name not in OWN}
        layers.put_document(Document(inherited, document.lines), f"extends {_name(file)}.yaml")
    layers.put_document(own, _label(path))
    _put_stated_variables(layers)
    layers.values.setdefault("profile", _name(path))
    for variable, field in GUIDE_VARIABLES.items():
        if kind is DeploymentProfile and (given := env.get(variable, "").strip()):
            _override(layers, field, _parsed(kind, field, given), f"environment {variable}")
    for field, wanted in overrides.items():
        value = _parsed(kind, field, wanted) if isinstance(wanted, str) else wanted
        _override(layers, field, value, "command line")
    value = validated(kind, layers)
    return Effective(
        value, {name: layers.where((name,)) or "default" for name in kind.model_fields}
    )


def _put_stated_variables(layers: Layers) -> None:
    """A guide variable in `runtime_env` alone sets its field, as the same line above it would."""
    stated = layers.values.get("runtime_env")
    if not isinstance(stated, dict):
        return
    for variable, field in GUIDE_VARIABLES.items():
        if variable in stated and field not in layers.values:
            origin = layers.where(("runtime_env", variable))
            layers.put(
                field, _parsed(DeploymentProfile, field, str(stated[variable])), {(field,): origin}
            )


def _override(layers: Layers, field: str, value: Any, origin: str) -> None:
    """A layer above the files: the profile's own `runtime_env` follows it."""
    stated = layers.values.get("runtime_env")
    variables = [name for name, one in GUIDE_VARIABLES.items() if one == field]
    if isinstance(stated, dict) and not runtime_conflicts(layers.values):
        layers.values["runtime_env"] = {
            name: text for name, text in stated.items() if name not in variables
        }
    layers.put(field, value, {(field,): origin})


# -- schema and editing --------------------------------------------------------------------------


def json_schema(kind: type[Section] = DeploymentProfile) -> dict[str, Any]:
    """The JSON schema of a kind of profile, for editors (`yaml-language-server`)."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND_NAMES[kind].capitalize(),
    }
    return {**kind.model_json_schema(), **head}


def update_profile(path: Path, changes: Mapping[str, object]) -> str:
    """Change fields of a profile file and keep its comments; None takes a field out.

    Returns:
        The change as a unified diff; empty when there is none.

    Raises:
        ProfileError: the file or the result is wrong; the file is as it was.
    """
    import difflib

    from runbook_lib.files import write_whole

    file = path.resolve()
    shown = _label(path.absolute())
    before = read_text(file, shown)
    parse(before, shown)
    after = edited(before, changes)
    _loaded(path.absolute(), FOLDER_KINDS.get(file.parent.name, DeploymentProfile), {}, {}, after)
    diff = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), shown, shown
    )
    if after != before:
        write_whole(file, after)
    return "".join(diff)
