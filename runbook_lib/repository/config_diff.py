"""What differs between two configurations: field by field as Triton reads them, and line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import parse_config

__all__ = ["ConfigDiff", "Difference", "diff_configs", "diff_files", "read_config"]

KEYS = ("name", "model_name")


@dataclass(frozen=True)
class Difference:
    """One field that means something else; empty where a side does not set it."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}: {self.old or 'not set'} → {self.new or 'not set'}"


@dataclass(frozen=True)
class ConfigDiff:
    """Two configurations beside each other.

    Attributes:
        fields: what Triton would read differently; empty when only the writing differs.
        unified: the lines that differ.
    """

    fields: tuple[Difference, ...]
    unified: str

    def to_dict(self) -> dict[str, Any]:
        """The differences as plain data, for `--json`."""
        told = [{"path": one.path, "old": one.old, "new": one.new} for one in self.fields]
        return {"ok": not self.fields, "fields": told, "unified": self.unified}

    def __str__(self) -> str:
        said = [str(one) for one in self.fields] or ["Triton reads the same from both."]
        return "\n".join([*said, *filter(None, [self.unified.rstrip("\n")])])


def diff_configs(old: str, new: str, *, names: tuple[str, str] = ("old", "new")) -> ConfigDiff:
    """Compare two texts; `names` says how to call them.

    Raises:
        RepositoryError: one of them is no configuration.
    """
    before, after = (
        parse_config(text, where=name) for text, name in zip((old, new), names, strict=True)
    )
    mine, theirs = dict(_flat(before)), dict(_flat(after))
    paths = [*mine, *(path for path in theirs if path not in mine)]
    fields = tuple(
        Difference(path, mine.get(path, ""), theirs.get(path, ""))
        for path in paths
        if mine.get(path) != theirs.get(path)
    )
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), *names
    )
    return ConfigDiff(
        fields, "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    )


def diff_files(old: Path, new: Path) -> ConfigDiff:
    """Compare two files.

    Raises:
        RepositoryError: one of them can't be read, or is no configuration.
    """
    return diff_configs(read_config(old), read_config(new), names=(str(old), str(new)))


def read_config(path: Path) -> str:
    """The text of a configuration.

    Raises:
        RepositoryError: it can't be read.
    """
    try:
        return path.read_bytes().decode("utf-8")  # its line ends are kept
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(
            f"{path} can't be read.", why=str(error), fix="Give a model's config.pbtxt."
        ) from error


def _flat(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every field that is set, by its path; elements of a list by their name."""
    for described, held in message.ListFields():
        here = f"{path}{described.name}"
        if described.message_type is None:
            many = described.is_repeated
            yield here, _shown(described, held, many=many)
        elif described.message_type.GetOptions().map_entry:
            for key in sorted(held):
                if described.message_type.fields_by_name["value"].message_type is None:
                    yield f"{here}.{key}", str(held[key])
                else:
                    yield from _flat(held[key], f"{here}.{key}.")
        elif described.is_repeated:
            for number, one in enumerate(held):
                yield from _flat(one, f"{here}.{_name_of(one) or number}.")
        else:
            yield here, "set"
            yield from _flat(held, f"{here}.")


def _name_of(one: Any) -> str:
    return next((str(getattr(one, key)) for key in KEYS if getattr(one, key, "")), "")


def _shown(described: Any, held: Any, *, many: bool) -> str:
    if many:
        return f"[{', '.join(_shown(described, one, many=False) for one in held)}]"
    if described.enum_type is not None:
        return str(described.enum_type.values_by_number[held].name)
    return str(held).lower() if isinstance(held, bool) else repr(held) if held == "" else str(held)
