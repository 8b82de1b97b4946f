"""Whatever lies in a folder, the lint ends with findings and never with an error of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib import cli
from runbook_lib.repository.lint import LintResult, lint

CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
CONFIG = 'backend: "python"\ninput { name: "a" data_type: TYPE_FP32 dims: 1 }\n'
WORDS = [
    "backend",
    "platform",
    "python",
    "ensemble",
    "input",
    "output",
    "name",
    "data_type",
    "dims",
    "reshape",
    "shape",
    "step",
    "model_name",
    "input_map",
    "key",
    "value",
    "instance_group",
    "kind",
    "count",
    "gpus",
    "parameters",
    "string_value",
    "version_policy",
    "specific",
    "versions",
    "latest",
    "all",
    "model_warmup",
    "inputs",
    "zero_data",
    "sequence_batching",
    "state",
    "direct",
    "control_input",
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    ":",
    ",",
    ";",
    '"a"',
    '""',
    '"python"',
    '"ensemble"',
    "TYPE_FP32",
    "TYPE_STRING",
    "KIND_CPU",
    "0",
    "1",
    "-1",
    "4",
    "99999999999",
    "#",
]
PYTHON = [
    *[
        "class",
        "TritonPythonModel:",
        "def",
        "execute(self):",
        "initialize",
        "auto_complete_config",
        "return",
        "raise",
    ],
    *[
        "import",
        "torch",
        "from",
        ".",
        "import",
        "x",
        "if",
        "else:",
        "try:",
        "except:",
        "for",
        "a",
        "in",
        "b:",
        "while",
        "True:",
        "[1][9]",
        "{}",
    ],
    *[
        "(lambda:",
        "x)",
        "yield",
        "await",
        "async",
        "self.x",
        "=",
        "1",
        "args['x']",
        "json.loads(",
        ")",
        "@",
        "**",
        "*",
        "/",
        "%",
        "f'{x}'",
        "del",
    ],
    "global",
    "\n",
    "\n    ",
    "\n        ",
]


def model(root: Path, config: str | bytes = CONFIG, code: str | bytes = CODE) -> Path:
    folder = root / "m"
    (folder / "1").mkdir(parents=True)
    for path, text in ((folder / "config.pbtxt", config), (folder / "1" / "model.py", code)):
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return root


def rules(result: LintResult) -> set[str]:
    json.dumps(result.to_dict())
    assert str(result)
    return {one.rule for one in result.findings if one.severity == "error"}


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_any_words_in_a_configuration(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    rules(lint(model(tmp_path_factory.mktemp("r"), text)))


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_in_any_file(
    tmp_path_factory: pytest.TempPathFactory, config: bytes, code: bytes
) -> None:
    rules(lint(model(tmp_path_factory.mktemp("r"), config, code)))
    rules(lint(model(tmp_path_factory.mktemp("r"), CONFIG, code)))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(PYTHON), max_size=40).map(" ".join))
def test_any_words_in_code(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    rules(lint(model(tmp_path_factory.mktemp("r"), code=text)))
    rules(lint(model(tmp_path_factory.mktemp("r"), code=CODE + text)))


def test_code_that_is_nested_too_deep_to_parse(tmp_path: Path) -> None:
    assert rules(lint(model(tmp_path / "a", code="x = " + "(" * 5000 + ")" * 5000 + "\n" + CODE)))
    rules(lint(model(tmp_path / "b", code="x = " + "-" * 20_000 + "1\n" + CODE)))
    rules(lint(model(tmp_path / "c", code="x = " + "1 + " * 20_000 + "1\n" + CODE)))


def test_a_configuration_that_is_nested_too_deep(tmp_path: Path) -> None:
    assert "config" in rules(lint(model(tmp_path, "input { " * 20_000)))


def test_a_configuration_of_fifty_megabytes_ends_soon(tmp_path: Path) -> None:
    assert "config" in rules(lint(model(tmp_path, b"x" * 50_000_000)))


def test_code_that_never_ends_is_not_followed_for_ever(tmp_path: Path) -> None:
    turns = "def f(n):\n    f(n)\n    f(n)\n    f(n)\n\n\nf(1)\nwhile True:\n    f(2)\n"
    rules(lint(model(tmp_path, code=turns + CODE)))


def test_code_that_makes_something_huge_is_not_run(tmp_path: Path) -> None:
    huge = "x = 'a' * 10 ** 12\ny = 9 ** 9 ** 9\nz = 1 << 10 ** 12\nw = [0] * 10 ** 12\n"
    assert lint(model(tmp_path, code=huge + CODE)).ok


def test_links_that_go_round_in_a_circle(tmp_path: Path) -> None:
    model(tmp_path)
    (tmp_path / "m" / "1" / "up").symlink_to("..")
    (tmp_path / "m" / "1" / "self").symlink_to("self")
    assert lint(tmp_path).ok
    (tmp_path / "loop").symlink_to("loop")
    assert rules(lint(tmp_path)) == {"broken_link"}


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    model(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).mkdir()
    result = lint(tmp_path)
    assert "not_a_model" in rules(result)
    assert "caf" in str(result)
    told = CliRunner().invoke(cli.runbook, ["repo", "lint", str(tmp_path), "--json"])
    assert "caf" in told.output


def test_pipes_and_sockets_are_not_waited_for(tmp_path: Path) -> None:
    model(tmp_path)
    (tmp_path / "m" / "1" / "model.py").unlink()
    os.mkfifo(tmp_path / "m" / "1" / "model.py")
    assert "model_py" in rules(lint(tmp_path))
    (tmp_path / "m" / "config.pbtxt").unlink()
    os.mkfifo(tmp_path / "m" / "config.pbtxt")
    assert rules(lint(tmp_path))


def test_the_code_is_never_imported(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"import beside\nopen({str(mark)!r}, 'w')\n" + CODE
    model(tmp_path / "r", code=code)
    (tmp_path / "r" / "m" / "1" / "beside.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert lint(tmp_path / "r").ok
    assert not mark.exists()
    assert "beside" not in sys.modules
