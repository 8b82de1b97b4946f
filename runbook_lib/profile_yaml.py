"""Read a profile's YAML as plain values with the line of each; whatever could surprise is refused.

Anchors, aliases, merge keys and tags are refused: a profile is read by people, by editors and by
other tools, and says each thing where it stands.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import ProfileError

__all__ = ["MAX_BYTES", "Document", "Loc", "edited", "parse", "read_text"]

MAX_BYTES = 64 * 1024
CORE = "tag:yaml.org,2002:"
AS_TEXT = {f"{CORE}str", f"{CORE}timestamp"}
SCALARS = {f"{CORE}{name}" for name in ("int", "float", "bool", "null")}
Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """The values of one YAML file, and the line (from 1) of each key and list item by its path."""

    values: dict[str, Any]
    lines: dict[Loc, int]


def read_text(path: Path, shown: str) -> str:
    """The text of a profile file.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        ProfileError: it is no file, not UTF-8, or larger than 64 KiB.
    """
    if not path.is_file():
        raise ProfileError(f"{shown} is not a file.", fix="`runbook list` shows the profiles.")
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{shown} can't be read.", why=str(error.strerror)) from None
    if len(data) > MAX_BYTES:
        raise ProfileError(
            f"{shown} is larger than {MAX_BYTES // 1024} KiB: that is no profile.",
            fix="Name the YAML file of a profile.",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ProfileError(
            f"{shown}:{line} is not UTF-8 text.",
            why=f"Byte 0x{data[error.start]:02x} can't stand there.",
            fix="Save the file as UTF-8.",
        ) from None


def parse(text: str, shown: str) -> Document:
    """The values of a profile's text.

    Raises:
        ProfileError: not YAML, not one mapping, a key twice, or an anchor, alias, merge key or tag.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    reader = YAML(typ="safe", pure=True)
    try:
        node = reader.compose(text)
        if node is None:
            raise ProfileError(f"{shown} is empty.", fix="Give it at least `model_name: …`.")
        lines: dict[Loc, int] = {}
        values = _Walk(reader.constructor, shown, lines).value(node, ())
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        why = " ".join(part for part in (error.context, error.problem) if part)
        raise ProfileError(f"{shown}{line} is not YAML.", why=why) from None
    except (YAMLError, ValueError) as error:
        raise ProfileError(f"{shown} is not YAML.", why=str(error).splitlines()[0]) from None
    except RecursionError:
        raise ProfileError(f"{shown} is nested too deeply to be a profile.") from None
    if not isinstance(values, dict):
        raise ProfileError(
            f"{shown} is no profile: it holds a {_called(values)}, not `key: value` lines.",
            fix="Start from profiles/lab/tiny.yaml.",
        )
    return Document(values, lines)


def _called(value: object) -> str:
    return "list" if isinstance(value, list) else f"single value ({value!r:.40})"


@dataclass(frozen=True)
class _Walk:
    """Turns composed nodes into plain values and notes their lines."""

    constructor: Any
    shown: str
    lines: dict[Loc, int]

    def value(self, node: Any, loc: Loc) -> Any:
        line = node.start_mark.line + 1
        if node.anchor:
            raise self._refused(
                line,
                f"an anchor or alias ({node.anchor})",
                "Write the value out where it is meant.",
            )
        if str(node.tag) == f"{CORE}map":
            return self._mapping(node, loc)
        if str(node.tag) == f"{CORE}seq":
            return [self._item(child, (*loc, number)) for number, child in enumerate(node.value)]
        if str(node.tag) in AS_TEXT:
            return str(node.value)
        if str(node.tag) in SCALARS:
            return self.constructor.construct_object(node)
        raise self._refused(
            line, f"the tag {node.tag}", "A profile holds plain text, numbers, lists and mappings."
        )

    def _item(self, node: Any, loc: Loc) -> Any:
        self.lines[loc] = node.start_mark.line + 1
        return self.value(node, loc)

    def _mapping(self, node: Any, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if str(key_node.tag) in AS_TEXT else None
            if not isinstance(key, str) or key_node.anchor:
                raise self._refused(
                    line, f"the key {str(key_node.value)[:40]!r}", "Keys are plain words."
                )
            if key in values:
                raise ProfileError(
                    f"{self.shown}:{line} states {key} again; it stands in line {self.lines[(*loc, key)]} already.",
                    fix="Keep one of the two.",
                )
            self.lines[(*loc, key)] = line
            values[key] = self.value(child, (*loc, key))
        return values

    def _refused(self, line: int, what: str, fix: str) -> ProfileError:
        return ProfileError(f"{self.shown}:{line} holds {what}, which a profile may not.", fix=fix)


def edited(text: str, changes: Mapping[str, object]) -> str:
    """A profile's text with fields set, or taken out where None; everything else stays as it stood."""
    from ruamel.yaml import YAML

    writer = YAML(typ="rt")
    writer.preserve_quotes = True
    writer.width = 4096
    offset = 2 if re.search(r"^ +- ", text, re.MULTILINE) else 0
    writer.indent(mapping=2, sequence=2 + offset, offset=offset)
    tree = writer.load(text)
    for field, value in changes.items():
        if value is None:
            tree.pop(field, None)
        else:
            tree[field] = value
    out = io.StringIO()
    writer.dump(tree, out)
    return out.getvalue().replace("\n", "\r\n" if "\r\n" in text else "\n")
