"""Lines as they were said, whatever a terminal, a container or a ticket made of them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.diagnose.text import clean, logical_lines, wrapped_lines

FEW_EXAMPLES = settings(max_examples=60, deadline=None)


def logical(text):
    return [said for _, said in logical_lines(text.splitlines())]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("\x1b[31merror\x1b[0m red", "error red"),
        ("\x1b]0;title\x07error titled", "error titled"),
        ("\x1b]8;;http://x\x1b\\error\x1b]8;;\x1b\\ linked", "error linked"),
        ("er\u202eror", "error"),
        ("a\u200bb\x08c", "abc"),
        ("> > ERROR: quoted", "ERROR: quoted"),
        ("2024-05-01T10:00:00.123456789Z stderr F ERROR: cri", "ERROR: cri"),
        ("[pod/llama-0/kserve-container] ERROR: kubectl", "ERROR: kubectl"),
        ("triton-1  | ERROR: compose", "ERROR: compose"),
        ('{"log": "ERROR: \\"x\\" is gone"}', '{"log": "ERROR: "x" is gone"}'),
        ("  many    blanks\t here ", "many blanks here"),
    ],
)
def test_what_is_not_the_message_is_taken_out(said, kept):
    assert clean(said) == kept


def test_an_indented_line_goes_on_with_the_one_before():
    found = logical("failed calling\n   webhook\n   x509: no\nnext")
    assert "failed calling webhook x509: no" in found
    assert "next" in found


def test_a_cell_of_a_table_goes_on_below_an_empty_one():
    table = "| tensorrt_llm | 1 | UNAVAILABLE: version tag does |\n|  |  | not match |\n+---+"
    assert "tensorrt_llm 1 UNAVAILABLE: version tag does not match" in logical(table)


def test_a_log_inside_a_json_string_is_as_many_lines_as_it_was():
    assert logical('{"log": "first\\nsecond\\nthird"}')[1] == "second"


@pytest.mark.parametrize("width", [60, 80, 132])
def test_a_line_that_a_terminal_wrapped_is_read_as_one(width):
    message = (
        "E0116 03:59 assertion failed: " + "the version tag of this engine does not match " * 6
    )
    lines = [message[at : at + width] for at in range(0, len(message), width)]
    assert message.strip() in [said.strip() for _, said in wrapped_lines(lines)]


def test_lines_of_different_widths_were_not_wrapped():
    assert list(wrapped_lines(["short", "a longer line", "mid"])) == []


@given(st.lists(st.text(max_size=200), max_size=30))
@FEW_EXAMPLES
def test_any_text_gives_lines_without_control_and_numbers_within_it(lines):
    for number, said in [*logical_lines(lines), *wrapped_lines(lines)]:
        assert 1 <= number <= len(lines)
        assert said.isprintable() or not any(ord(one) < 32 or ord(one) == 127 for one in said)


@pytest.mark.parametrize("part", ["\x1b]", "> ", "| ", "\\n", "[pod/", "a ", " "])
def test_a_hostile_line_of_a_megabyte_costs_little(part):
    line = part * (1_000_000 // len(part))
    began = time.process_time()
    list(logical_lines([line]))
    list(wrapped_lines([line, line]))
    assert time.process_time() - began < 2
