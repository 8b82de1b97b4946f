"""Known secret values, taken out of everything that a record keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["MASK", "masked", "secret_values"]

MASK: Final = "[masked]"
_NAMES = re.compile(
    r"SECRET|TOKEN(?!IZ)|PASSWORD|PASSWD|ACCESS_KEY|API_?KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE
)
_SHORTEST: Final = 6


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of variables whose names say that they are secret, longest first.

    Values under 6 characters are left out, as masking them would take apart ordinary words, and
    so are paths: a variable such as `..._TOKEN_FILE` names a place, not the secret.
    """
    found = {
        value
        for name, value in environment.items()
        if _NAMES.search(name) and len(value) >= _SHORTEST and not value.startswith("/")
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def masked(value: Any, secrets: Iterable[str]) -> Any:
    """A copy of plain data with every secret replaced in its strings; keys are kept."""
    known = tuple(secrets)
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {name: masked(one, known) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one, known) for one in value]
    return value
