"""Changes fields of a `config.pbtxt`; comments, order and every other letter stay as they are.

    max_batch_size                              a field
    dynamic_batching.max_queue_delay_microseconds
    input.text_input.optional                   of a list, by name, model or key; or by number
    parameters.max_beam_width                   a parameter's string

The value is set in Triton's own message and in the text; both must then mean the same.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.errors import RepositoryError, UsageError
from runbook_lib.files import write_whole
from runbook_lib.repository.config import near, parse_config, quoted
from runbook_lib.repository.config_diff import ConfigDiff, diff_configs, read_config
from runbook_lib.repository.config_source import Node, read_source

__all__ = ["edit_config", "edit_file"]

KEYS = ("name", "model_name", "key")
Step = tuple[str, str]  # a field, and which of its elements; empty for a field that is one


def edit_config(text: str, changes: Mapping[str, str], *, where: str) -> str:
    """The text with each field set to its value; a field that is not there is added.

    Args:
        changes: path of the field to the value as it is written, strings without quotes.

    Raises:
        RepositoryError: the text is no configuration, a path leads nowhere (with the nearest name),
            or a value has another type than its field.
    """
    for path, value in changes.items():
        wanted = parse_config(text, where=where)
        steps, written = _set(wanted, path, value, where)
        text = _written(text, steps, written)
        if parse_config(text, where=where) != wanted:
            raise RepositoryError(
                f"{where}: {path} can't be changed in place.",
                why="The text with the new value would mean something else.",
                fix="Change it by hand.",
            )
    return text


def edit_file(path: Path, changes: Sequence[str]) -> ConfigDiff:
    """Set fields of a file, each given as `FIELD=VALUE`; all of them or none.

    Returns:
        What changed.

    Raises:
        UsageError: a change has no `=`. RepositoryError: as `edit_config`, or the file can't be
            read or written.
    """
    pairs = dict(one.partition("=")[::2] for one in changes if "=" in one)
    if wrong := [one for one in changes if "=" not in one]:
        raise UsageError(f"{wrong[0]!r} sets nothing.", fix="Write FIELD=VALUE.")
    old = read_config(path)
    new = edit_config(old, pairs, where=str(path))
    try:
        write_whole(path, new)
    except OSError as error:
        raise RepositoryError(
            f"{path} could not be written.", why=str(error), fix="Let it be written, or make room."
        ) from error
    return diff_configs(old, new, names=(str(path), str(path)))


# -- in the message ----------------------------------------------------------------------------------


def _set(message: Any, path: str, value: str, where: str) -> tuple[list[Step], str]:
    """Set a field; the way to it, and its value as text.

    The way through a map is written as the text writes it, by `key` and `value`.
    """
    names, steps = path.split("."), list[Step]()
    if names[0] == "parameters" and len(names) == 2:
        names.append("string_value")
    while names:
        name = names.pop(0)
        described = _described(message, name, path, where)
        held = getattr(message, name)
        if described.message_type is None:
            if names or described.is_repeated:
                break
            written = _set_scalar(message, described, value, path, where)
            return [*steps, (name, "")], written
        if not described.is_repeated:
            message = held
            steps.append((name, ""))
        elif names:
            which = names.pop(0)
            steps.append((name, which))
            if described.message_type.GetOptions().map_entry:
                message = held[which]
                steps.append(("value", ""))
            else:
                message = _element(held, name, which, path, where)
    raise RepositoryError(
        f"{where}: {path} is no single value.",
        fix="Name a field that holds one, such as max_batch_size or input.NAME.optional.",
    )


def _described(message: Any, name: str, path: str, where: str) -> Any:
    known = message.DESCRIPTOR.fields_by_name
    if name not in known:
        raise RepositoryError(
            f"{where}: {path} is no field: there is no {name} in a {message.DESCRIPTOR.name}.",
            fix=near(name, known),
        )
    return known[name]


def _element(held: Any, name: str, which: str, path: str, where: str) -> Any:
    if which.isdecimal() and int(which) < len(held):
        return held[int(which)]
    keys = [key for key in KEYS if held and key in held[0].DESCRIPTOR.fields_by_name]
    known = {getattr(one, keys[0]): one for one in held} if keys else {}
    if which not in known:
        raise RepositoryError(
            f"{where}: {path} is not there: {name} has no {which}.",
            fix=near(which, [*known, *map(str, range(len(held)))]),
        )
    return known[which]


def _set_scalar(message: Any, described: Any, value: str, path: str, where: str) -> str:
    is_text = described.cpp_type == described.CPPTYPE_STRING
    words = described.enum_type.values_by_name if described.enum_type else {}
    try:
        setattr(message, described.name, value if is_text else _plain(value, words))
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        fix = near(value, words) if words else "Give a value of the field's type."
        what = f"{where}: {path} can't be {value!r}."
        raise RepositoryError(what, why=str(error), fix=fix) from None
    return quoted(value) if is_text else value


def _plain(value: str, words: Mapping[str, Any]) -> Any:
    if words:
        return words[value].number
    return (
        {"true": True, "false": False}[value]
        if value in {"true", "false"}
        else ast.literal_eval(value)
    )


# -- in the text -------------------------------------------------------------------------------------


def _written(text: str, steps: Sequence[Step], written: str) -> str:
    nodes, block = read_source(text), (0, len(text))
    for depth, (name, which) in enumerate(steps):
        found = [node for node in nodes if node.name == name]
        node = _chosen(text, found, which)
        if node is None:
            return _inserted(text, block, nodes, _spelt(steps[depth:], written))
        if node.block is None:
            start, end = node.value or (node.start, node.end)
            return text[:start] + written + text[end:]
        nodes, block = node.children, node.block
    return text


def _chosen(text: str, found: Sequence[Node], which: str) -> Node | None:
    for node in found:
        keys = [text[slice(*one.value)] for one in node.children if one.name in KEYS and one.value]
        if not which or any(key[1:-1] == which for key in keys):
            return node
    if which.isdecimal() and int(which) < len(found):
        return found[int(which)]
    return None


def _spelt(steps: Sequence[Step], written: str) -> str:
    """A field with the blocks around it, as it is added."""
    (name, which), *rest = steps
    if not rest:
        return f"{name}: {written}"
    key = f"key: {quoted(which)} " if which else ""
    colon = ":" if name == "value" else ""
    return f"{name}{colon} {{ {key}{_spelt(rest, written)} }}"


def _inserted(text: str, block: tuple[int, int], nodes: Sequence[Node], added: str) -> str:
    """The text with a field behind the last one of a block, on a line of its own where they have one."""
    start, end = block
    if not nodes:
        return f"{text[:start]} {added} {text[end:].lstrip(' ')}"
    last = nodes[-1]
    line = text.rfind("\n", 0, last.start) + 1
    before = text[line : last.start]
    between = f"\n{before}" if not before.strip() else " "
    place = _end_of_line(text, _end(text, last), end) if between[0] == "\n" else _end(text, last)
    return text[:place] + between + added + text[place:]


def _end(text: str, last: Node) -> int:
    """Behind the last field, and behind the bracket of the list that it ends."""
    return text.index("]", last.end) + 1 if last.listed else last.end


def _end_of_line(text: str, place: int, end: int) -> int:
    """Behind what else stands on the line: a comment belongs to its field."""
    stop = text.find("\n", place, end)
    rest = text[place : end if stop < 0 else stop]
    return place + len(rest.rstrip()) if rest.lstrip(" ,;\t").startswith("#") else place
