"""Triton's `config.pbtxt`: templates filled, text parsed and written.

What a name means is asked of the messages that tritonclient brings, Triton's own.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from runbook_lib.errors import RepositoryError

__all__ = ["fill_template", "format_config", "near", "parse_config", "quoted"]


def fill_template(text: str, values: Mapping[str, str], *, where: str) -> str:
    """Put values in place of `${name}`.

    Args:
        text: the template; `$$` stands for one dollar sign.
        values: a value for each placeholder; values that the text does not use are ignored.
        where: how to call the text in an error, for example `"ensemble/config.pbtxt"`.

    Raises:
        RepositoryError: a placeholder has no value. NVIDIA's fill_template.py leaves it in the
            file instead, and Triton then fails at load with a text-format error.
    """
    template = string.Template(text)
    if not template.is_valid():
        raise RepositoryError(
            f"{where} has a $ that is no placeholder.",
            why="A placeholder is written ${name}.",
            fix="Write $$ for a dollar sign.",
        )
    missing = sorted(set(template.get_identifiers()) - set(values))
    if missing:
        names = ", ".join(f"${{{name}}}" for name in missing)
        raise RepositoryError(
            f"{where} has placeholders without a value: {names}.",
            why="Triton does not fill placeholders and would refuse the file.",
            fix="Give each a value in the layout settings.",
        )
    return template.substitute(values)


def parse_config(text: str, *, where: str) -> Any:
    """Parse a `config.pbtxt` into Triton's `inference.ModelConfig` message.

    Raises:
        RepositoryError: the text is not one; the parser's line and column are in `why`, and the
            nearest name that is known in `fix`.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(
            f"{where} is not a Triton model configuration.",
            why=str(error),
            fix=_hint(text, error),
        ) from error


def near(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, as advice; else all of them."""
    words = list(known)
    if found := difflib.get_close_matches(word, words, n=1, cutoff=0.5):
        return f"Did you mean {found[0]}?"
    return f"Known are {', '.join(words)}." if words else "There is none."


UNKNOWN_FIELD = re.compile(r'type "([\w.]+)" (?:has no field|does not have a field) named "(\w+)"')
UNKNOWN_WORD = re.compile(r'[Ee]num type "([\w.]+)" has no value (?:named|with name) "?(\w+)')
WIRE_NAMES = {"TYPE_BYTES", "BYTES", "STRING"}


def _hint(text: str, error: Any) -> str:
    """What to write instead of what the parser does not know."""
    from tritonclient.grpc import model_config_pb2

    pool, said = model_config_pb2.DESCRIPTOR.pool, str(error)
    lines = text.split("\n")
    number = error.GetLine() or 1
    if number <= len(lines) and "${" in lines[number - 1]:
        return "Give the placeholder a value: Triton fills none."
    if found := UNKNOWN_FIELD.search(said):
        return near(found[2], pool.FindMessageTypeByName(found[1]).fields_by_name)
    if found := UNKNOWN_WORD.search(said):
        if found[2] in WIRE_NAMES:
            return "Write TYPE_STRING: BYTES is its name on the wire only."
        return near(found[2], pool.FindEnumTypeByName(found[1]).values_by_name)
    return "Correct the line named there; string tensors are TYPE_STRING in this file."


def format_config(config: Any) -> str:
    """The text of a `config.pbtxt` for a parsed configuration; parsing it gives the same."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def quoted(value: str) -> str:
    """A string as a `config.pbtxt` writes it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return f'"{"".join(escapes.get(sign, sign) for sign in value)}"'
