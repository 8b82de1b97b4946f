"""A command as argv, and the words that its options are made of."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

__all__ = ["Command", "enabled", "options", "written"]

WRITE = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2], 'utf-8')"


@dataclass(frozen=True)
class Command:
    """One command: the step it belongs to, and its words; no shell takes part."""

    step: str
    argv: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The command as plain data."""
        return {"step": self.step, "argv": list(self.argv)}

    def __str__(self) -> str:
        return shlex.join(self.argv)


def options(**values: str | int) -> tuple[str, ...]:
    """`--name value` for each."""
    return tuple(word for name, value in values.items() for word in (f"--{name}", str(value)))


def enabled(switch: object) -> str:
    """The word that the builder takes for a switch."""
    return "enable" if switch else "disable"


def written(step: str, path: str, text: str) -> Command:
    """A file written by a command like any other: the last two words are its path and its text."""
    return Command(step, ("python3", "-c", WRITE, path, text))
