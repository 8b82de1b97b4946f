"""Where Triton's parser of `config.pbtxt` and Python's part: both are protobuf's, in two languages.

Found by giving both the same texts; the rest of a text is left to Python's.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import parse_config
from runbook_lib.repository.findings import CONFIG

__all__ = ["parse", "without_comments"]

STRING = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
TOKEN = re.compile(rf"({STRING})|#[^\n]*")
# Python's parser takes any escape in a string, Triton's only C's.
BAD_ESCAPE = re.compile(r"""\\(?:\\|[^abfnrtvxXuU?'"0-7\\])""")
# Python's takes any of Unicode's spaces between words, Triton's these.
BAD_SPACE = re.compile(r"[^\x21-\x7e \t\r\n\v\f]")
# Triton's takes any bytes in a string, Python's only those that are UTF-8.
NUMBERED = re.compile(r"\\(?:[0-7]{1,3}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")
# Triton's takes a space between a minus and its number.
APART = re.compile(r"([\[:,\s]-)[ \t]+(?=[\d.])")


def parse(text: str, where: str) -> Any:
    """The configuration of a text that Triton's own parser would take.

    Raises:
        RepositoryError: it would not; `why` begins with line and column where they are known.
    """
    for found in TOKEN.finditer(text):
        escapes = (one[0] for one in BAD_ESCAPE.finditer(found[1] or ""))
        if bad := next((one for one in escapes if one != r"\\"), ""):
            place = _place(text, found.start())
            raise _refused(where, f"{place} : a string with {bad}; write \\\\ for a backslash")
    bare = TOKEN.sub(lambda found: " " * len(found[0]), text)
    if space := BAD_SPACE.search(bare):
        raise _refused(where, f"{_place(text, space.start())} : the character {space[0]!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that are none in Python's own strings
        try:
            return parse_config(APART.sub(r"\1", text), where=where)
        except RepositoryError as error:
            if "codec can't" not in error.why:
                raise
            return parse_config(NUMBERED.sub("?", text), where=where)


def without_comments(text: str) -> str:
    """The text without its comments."""
    return TOKEN.sub(lambda found: found[1] or "", text)


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"{line}:{at - text.rfind(chr(10), 0, at)}"


def _refused(where: str, why: str) -> RepositoryError:
    what = f"{where} is not a Triton model configuration."
    return RepositoryError(what, why=why, fix=f"Correct the line of {CONFIG} named above.")
