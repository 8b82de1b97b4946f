"""Where each field of a `config.pbtxt` stands, so that one can be changed and the rest left alone.

What a field means is left to Triton's own messages; this only knows the shape of the text:

    name: "m"                       a value
    input [ { … }, { … } ]          several blocks, or several values
    dynamic_batching { … }          a block; < … > means the same
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Node", "line_column", "placeholders", "read_source"]

TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"|(?P<blank>\s+|\#[^\n]*)|(?P<word>-?\s*[\w.+-]+|\$\{[^}\n]*\})|(?P<sign>.)"
)
PLACEHOLDER = re.compile(r"\$\{[^}\n]*\}")
CLOSES = {"{": "}", "<": ">"}


@dataclass(frozen=True)
class Node:
    """One field, or one element of a list: `value` is its text, or `block` what stands in braces.

    All spans are (start, end) offsets in the text; `block` lies inside the braces.
    """

    name: str
    start: int
    end: int
    value: tuple[int, int] | None = None
    block: tuple[int, int] | None = None
    children: tuple[Node, ...] = ()
    listed: bool = False


def read_source(text: str) -> tuple[Node, ...]:
    """The fields of a text that Triton's parser takes, in their order.

    Raises:
        ValueError: its shape is another one; a text that parses never does that.
    """
    reader = _Reader(text, [one for one in TOKEN.finditer(text) if one.lastgroup != "blank"])
    fields = tuple(reader.fields(""))
    if reader.at < len(reader.tokens):
        raise ValueError("a bracket closes nothing")
    return fields


def placeholders(text: str) -> list[tuple[str, str]]:
    """Each `${name}` that nobody filled, with its line:column; those in comments do no harm."""
    return [
        (one[0], line_column(text, token.start() + one.start()))
        for token in TOKEN.finditer(text)
        if token.lastgroup != "blank"
        for one in PLACEHOLDER.finditer(token[0])
    ]


def line_column(text: str, offset: int) -> str:
    """`line:column` of an offset, both from 1."""
    line = text.count("\n", 0, offset) + 1
    return f"{line}:{offset - text.rfind(chr(10), 0, offset)}"


@dataclass
class _Reader:
    text: str
    tokens: list[re.Match[str]]
    at: int = field(default=0)

    def _is(self, *signs: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][0] in signs

    def _take(self) -> re.Match[str]:
        if self.at == len(self.tokens):
            raise ValueError("the text ends inside a field")
        self.at += 1
        return self.tokens[self.at - 1]

    def fields(self, closing: str) -> Iterator[Node]:
        while self.at < len(self.tokens) and not self._is(closing or "\0", "}", ">"):
            name = self._take()
            if self._is(":"):
                self._take()
            yield from self._values(name)
            while self._is(",", ";"):
                self._take()

    def _values(self, name: re.Match[str]) -> Iterator[Node]:
        if not self._is("["):
            yield self._value(name[0], name.start(), listed=False)
            return
        self._take()
        while not self._is("]"):
            start = self.tokens[self.at].start() if self.at < len(self.tokens) else 0
            yield self._value(name[0], start, listed=True)
            while self._is(","):
                self._take()
        self._take()

    def _value(self, name: str, start: int, *, listed: bool) -> Node:
        first = self._take()
        if (closing := CLOSES.get(first[0])) is not None:
            children = tuple(self.fields(closing))
            last = self._take()
            if last[0] != closing:
                raise ValueError(f"{first[0]} is closed by {last[0]}")
            block = (first.end(), last.start())
            return Node(name, start, last.end(), None, block, children, listed)
        last = first
        while first.lastgroup == "string" and self._next_is_string():
            last = self._take()  # strings that stand side by side are one
        return Node(name, start, last.end(), (first.start(), last.end()), None, (), listed)

    def _next_is_string(self) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].lastgroup == "string"
