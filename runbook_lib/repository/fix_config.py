"""Repairs of a `config.pbtxt` as text: comments, spacing and what is not wrong stay as they are."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["config_diff", "repair_bytes", "repair_text", "written_name"]

BOM = b"\xef\xbb\xbf"
# A string, a comment, a placeholder, a word or number, or one sign.
TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*|\$\{[^}\n]*\}|[\w.+-]+|[^\s]'
)
NUMBERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
# The names that requests carry, and the one that is often made of the wire's BYTES.
WIRE_NAMES = {name: f"TYPE_{name}" for name in (*NUMBERS, "BOOL", "FP16", "FP32", "FP64", "BF16")}
WIRE_NAMES |= dict.fromkeys(("BYTES", "STRING", "TYPE_BYTES", "TYPE_STR"), "TYPE_STRING")
STEP = ("ensemble_scheduling", "step")


@dataclass
class _Block:
    """One message of the text: the fields that lead to it, and its scalar values."""

    path: tuple[str, ...]
    fields: list[tuple[str, re.Match[str]]] = field(default_factory=list)
    listed: str = ""

    def value(self, key: str) -> re.Match[str] | None:
        """The token of a field that is written once."""
        found = [token for name, token in self.fields if name == key]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: str
    words: str


def repair_bytes(data: bytes) -> tuple[bytes, list[str]]:
    """Take out the byte order mark, which Triton refuses, and Windows' line ends."""
    words = []
    if data.startswith(BOM):
        data = data.removeprefix(BOM)
        words.append("byte order mark taken out")
    if b"\r\n" in data:
        data = data.replace(b"\r\n", b"\n")
        words.append("line ends CRLF made LF")
    return data, words


def repair_text(
    text: str, name: str, has_version_0: Callable[[str], bool]
) -> tuple[str, list[str]]:
    """Correct data types, steps without a version, and the name.

    Args:
        text: the configuration, which need not parse.
        name: the model's folder.
        has_version_0: whether a model has a version 0, which a step without a version means.

    Returns:
        The text, and in words what was changed in it.
    """
    edits = sorted(_edits(text, name, has_version_0), key=lambda one: one.start)
    for edit in reversed(edits):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text, list(dict.fromkeys(edit.words for edit in edits))


def written_name(text: str) -> str:
    """The model's name in a configuration; empty when it names none."""
    found = [token for block in _blocks(text) if not block.path and (token := block.value("name"))]
    return found[0][0][1:-1] if found else ""


def config_diff(old: str, new: str, before: bytes, after: bytes) -> str:
    """What became of a text file, as git writes it; empty when nothing did."""
    if old == new and before == after:
        return ""
    head = f"diff --git a/{old} b/{new}\n"
    if old != new:
        head += f"rename from {old}\nrename to {new}\n"
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{old}", f"b/{new}")
    ends = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return head + "".join(ends)


def _lines(data: bytes) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", data.decode("utf-8", "replace"))


def _edits(text: str, name: str, has_version_0: Callable[[str], bool]) -> Iterator[_Edit]:
    for block in _blocks(text):
        for key, token in block.fields:
            if key == "data_type" and (right := WIRE_NAMES.get(token[0])):
                yield _Edit(*token.span(), right, f"data type {token[0]} written as {right}")
        if block.path == STEP:
            yield from _version(text, block, has_version_0)
        if not block.path and (named := block.value("name")) and _is_another(named[0], name):
            words = f"name {named[0]} made the folder's"
            yield _Edit(*named.span(), json.dumps(name, ensure_ascii=False), words)


def _is_another(quoted: str, name: str) -> bool:
    """Whether a string is a name, and not the one given; an unfilled placeholder is none."""
    return quoted[0] in "\"'" and "${" not in quoted and quoted[1:-1] not in {"", name}


def _version(text: str, step: _Block, has_version_0: Callable[[str], bool]) -> Iterator[_Edit]:
    """The newest version for a step that names none, on a line of its own where its part has one."""
    part = step.value("model_name")
    if part is None or any(key == "model_version" for key, _ in step.fields):
        return
    if has_version_0(part[0][1:-1]):
        return
    before = text[text.rfind("\n", 0, part.start()) + 1 : part.start()]
    alone = re.fullmatch(r"(\s*)model_name\s*:\s*", before)
    between = f"\n{alone[1]}" if alone else " "
    words = f"the step {part[0][1:-1]} takes the newest version: model_version: -1"
    yield _Edit(part.end(), part.end(), f"{between}model_version: -1", words)


def _blocks(text: str) -> Iterator[_Block]:
    """Every message that is closed, the outermost last."""
    stack, key, valued = [_Block(())], "", False
    for token in TOKEN.finditer(text):
        word, top = token[0], stack[-1]
        if word[0] == "#" or word in {",", ";"}:
            continue
        if word in {"{", "<"}:
            stack.append(_Block((*top.path, key)))
            key, valued = "", False
        elif word in {"}", ">"}:
            if len(stack) == 1:
                return
            yield stack.pop()
            key = stack[-1].listed
        elif word == "[":
            top.listed, valued = key, False
        elif word == "]":
            top.listed = key = ""
        elif word == ":":
            valued = True
        elif valued or top.listed:
            top.fields.append((key, token))
            key, valued = top.listed, False
        elif word[0] in "\"'" and top.fields:
            top.fields.pop()  # a string in two pieces: left as it is
        else:
            key = word
    if len(stack) == 1:
        yield stack[0]
