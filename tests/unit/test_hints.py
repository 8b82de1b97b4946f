"""Every `runbook …` that a text tells somebody to type is a command, and so are its options."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from runbook_lib.cli import runbook

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "runbook_lib"
# Where a command begins: a line, a code span, a tag, a colon, a path; an environment before it.
TYPED = re.compile(
    r"(?:^|[`>(:/])[ \t]*(?:[A-Z_]+=\S+ +)*runbook +([a-z][^`\"'<()#\n]*)", re.MULTILINE
)
SPAN = re.compile(r"^```.*?^```|`[^`\n]+(?:\n[^`\n]+)?`", re.MULTILINE | re.DOTALL)


def typed_in(text: str) -> list[str]:
    """What follows `runbook` in a text, to the end of the command."""
    return [re.split(r" {3,}|&&|;|\. ", one)[0].strip(" .,") for one in TYPED.findall(text)]


def code_in(text: str) -> str:
    """The code spans and blocks of Markdown, which prose about a runbook is none of."""
    return "\n".join(one.replace("```", "\n") for one in SPAN.findall(text))


def strings_of(source: str) -> Iterator[str]:
    """Every string of Python code; of docstrings the code spans, of f-strings the fixed text."""
    tree = ast.parse(source)
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else " … " for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in inside:
                yield node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield code_in(str(node.value.value))


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_in(one)


def texts_of(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from strings_of(text)
    elif path.suffix == ".json":
        yield from strings_in(json.loads(text))
    elif path.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            source = "".join(cell["source"])
            yield from [code_in(source)] if cell["cell_type"] == "markdown" else strings_of(source)
    else:
        yield code_in(text) if path.suffix == ".md" else text


def sources() -> list[Path]:
    named = [
        ROOT / "README.md",
        ROOT / "Makefile",
        ROOT / ".ci/setup",
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]
    named += [path for ending in ("py", "json", "md") for path in PACKAGE.rglob(f"*.{ending}")]
    return sorted(path for path in named if "_shipped" not in path.parts and path.is_file())


HINTS = sorted(
    {
        (path.relative_to(ROOT).as_posix(), typed)
        for path in sources()
        for text in texts_of(path)
        for typed in typed_in(text)
    }
)


def wrong_in(typed: str) -> str:
    """What of a command does not exist; alternatives stand between bars."""
    group: click.Group = runbook
    command: click.Command = runbook
    for alternative in typed.split("|"):
        words = [word.rstrip(":,.") for word in alternative.split()]
        if words and re.fullmatch("[a-z]+", words[0]):
            found = group.commands.get(words[0]) or runbook.commands.get(words[0])
            if found is None:
                return f"no command {words[0]}"
            command = found
            if isinstance(command, click.Group):
                group = command
                if len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
                    if words[1] not in group.commands:
                        return f"no command {words[0]} {words[1]}"
                    command = group.commands[words[1]]
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        unknown = set(re.findall(r"(?<!\S)\[?(--?[a-z][\w-]*)", alternative)) - known - {"--help"}
        if unknown:
            return f"no option {', '.join(sorted(unknown))} of {command.name}"
    return ""


@pytest.mark.parametrize(("where", "typed"), HINTS)
def test_a_command_that_somebody_is_told_to_type_exists(where: str, typed: str) -> None:
    assert not wrong_in(typed), f"{where}: runbook {typed}"


def test_the_hints_are_found_where_they_stand() -> None:
    told = {where for where, _ in HINTS}
    assert {"README.md", "Makefile", "runbook_lib/diagnose/rules/model-repo-layout.json"} <= told
    assert ("notebooks/02_model_repository.ipynb", "repo skeleton DIR") in HINTS
    assert ("runbook_lib/diagnose/rules/model-repo-layout.json", "repo lint REPOSITORY") in HINTS
    assert ("runbook_lib/cli_deploy.py", "lab up") in HINTS
    assert len(HINTS) > 30


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("runbook repo fix DIR   writes it anew", ["repo fix DIR"]),
        ("Stop it with:    runbook lab down", ["lab down"]),
        ('eval "$(runbook completion bash)"', ["completion bash"]),
        ("GPU_TYPE=H100 runbook plan lab/tiny  # this", ["plan lab/tiny"]),
        ("Use `runbook list`, or `runbook plan P`.", ["list", "plan P"]),
        ("the first page of the runbook is a page", []),
        ("papermill --engine runbook notebooks/00_plan.ipynb", []),
    ],
)
def test_a_command_is_told_from_prose(text: str, typed: list[str]) -> None:
    assert typed_in(text) == typed


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ("lint DIR", "no command lint"),
        ("repo mend DIR", "no command repo mend"),
        ("list | forget", "no command forget"),
        ("engine diff V1 V2 | forge", "no command forge"),
        ("repo lint DIR --hard", "no option --hard of lint"),
        ("run all|PAGE [--faster]", "no option --faster of run"),
        ("engine diff V1 V2 | translate X | list", ""),
        ("repo lint DIR --backends trtllm", ""),
        ("repo", ""),
    ],
)
def test_a_wrong_command_is_seen(typed: str, wrong: str) -> None:
    assert wrong_in(typed) == wrong
