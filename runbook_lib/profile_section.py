"""What every part of a profile is made of: closed, frozen sections, and problems told together."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

__all__ = ["FieldProblems", "Section"]


class FieldProblems(ValueError):  # noqa: N818 - it carries several
    """Everything that is wrong about a profile's values taken together, as (path, sentence)."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {text}" for path, text in self.problems))


class Section(BaseModel):
    """Base of all profiles: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
