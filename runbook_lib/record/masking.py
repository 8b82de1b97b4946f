"""Known secret values, taken out of everything that a record keeps."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "masked", "secret_values"]

MASK: Final = "[masked]"
_SECRET = re.compile(
    r"SECRET|TOKEN(?!IZ)|PASSWORD|PASSWD|PASSPHRASE|_PASS$|API_?KEY|_KEY$|ACCESS_KEY|PRIVATE_KEY"
    r"|CREDENTIAL|CONNECTION_STRING",
    re.IGNORECASE,
)
_PLACE = re.compile(r"_(FILE|PATH|DIR|FOLDER)$", re.IGNORECASE)
_SHORTEST: Final = 6
_FORMAT_WORDS: Final = (
    "cells metadata outputs source nbformat_minor kernelspec display_name language_info papermill "
    "cell_type markdown output_type stream stdout stderr display_data execute_result traceback "
    "execution_count iopub.status.busy shell.execute_reply text/plain application/json image/png "
    "pending running completed failed timed_out kernel_died interrupted not_run skip-execution "
    "exception start_time end_time duration input_path output_path parameters runbook status reason"
)  # to mask one of these, or a part, would break the notebook file


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of variables whose names say that they are secret, longest first.

    Each also as it looks in JSON, in Python's `repr`, in HTML, in a URL and in base64. Left out are
    values under 6 characters, as masking them would take apart ordinary words, counts of tokens
    (`MAX_NUM_TOKENS=131072`), and paths: `..._TOKEN_FILE` names a place, not the secret.
    """
    found = {
        form
        for name, value in environment.items()
        if _SECRET.search(name) and not _is_plain(name, value)
        for form in _forms(value)
        if len(form) >= _SHORTEST
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def _is_plain(name: str, value: str) -> bool:
    """Whether a value with a secret's name is none."""
    count = value.isdecimal() and "TOKENS" in name.upper()
    return len(value) < _SHORTEST or value in _FORMAT_WORDS or count or _is_path(name, value)


def _is_path(name: str, value: str) -> bool:
    """Whether a value names a place: by its variable's name, or because that place is there.

    A secret may begin with a slash too.
    """
    if _PLACE.search(name):
        return True
    if not value.startswith(("/", "~/")):
        return False
    folder = Path(value).expanduser().parent
    return folder != Path("/") and _is_folder(folder)


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def _forms(value: str) -> set[str]:
    """A secret as it is, and as the usual encodings write it."""
    raw = value.encode(errors="surrogateescape")
    return {
        value,
        value.strip(),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        html.escape(value),
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
        base64.b64encode(raw).decode().rstrip("="),
    }


def masked(value: Any, secrets: Iterable[str]) -> Any:
    """A copy of plain data with every secret replaced in its strings, keys of mappings included."""
    known = tuple(secrets)
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {masked(name, known): masked(one, known) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked(one, known) for one in value]
    return value
