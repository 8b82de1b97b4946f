"""Reading, changing and comparing a `config.pbtxt`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.cli import runbook
from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import format_config, parse_config, quoted
from runbook_lib.repository.config_diff import diff_configs
from runbook_lib.repository.config_edit import edit_config
from runbook_lib.repository.config_source import placeholders, read_source
from runbook_lib.repository.templates_text import TemplateSettings, config_texts

TEXT = """\
# Who asks for this: the chat team.
name: "m"  # the folder
backend: "python"
max_batch_size: 8   # measured in May
input [
  # the prompt
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] }
]
output { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] }
dynamic_batching {
  max_queue_delay_microseconds: 100  # under the budget
}
instance_group [ { count: 1 kind: KIND_CPU } ]
parameters { key: "tokenizer_dir" value: { string_value: "tok" "enizer" } }
"""
LINES = TEXT.splitlines()


def edited(path: str, value: str, text: str = TEXT) -> str:
    return edit_config(text, {path: value}, where="m/config.pbtxt")


def changed_lines(new: str) -> list[str]:
    """The lines of a changed text that the old one did not have; everything else is there."""
    fresh = [line for line in new.splitlines() if line not in LINES]
    assert len([line for line in LINES if line not in new.splitlines()]) <= 1
    return fresh


# -- edits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("max_batch_size", "16", "max_batch_size: 16   # measured in May"),
        ("name", 'a "quoted" name', 'name: "a \\"quoted\\" name"  # the folder'),
        (
            "dynamic_batching.max_queue_delay_microseconds",
            "5",
            "  max_queue_delay_microseconds: 5  # under the budget",
        ),
        (
            "dynamic_batching.preserve_ordering",
            "true",
            "  preserve_ordering: true",
        ),
        (
            "input.max_tokens.optional",
            "true",
            '  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] optional: true }',
        ),
        (
            "input.0.data_type",
            "TYPE_INT8",
            '  { name: "text_input" data_type: TYPE_INT8 dims: [ 1 ] },',
        ),
        ("instance_group.0.count", "4", "instance_group [ { count: 4 kind: KIND_CPU } ]"),
        (
            "parameters.tokenizer_dir",
            "/t",
            'parameters { key: "tokenizer_dir" value: { string_value: "/t" } }',
        ),
        (
            "parameters.kv_cache_free_gpu_mem_fraction",
            "0.8",
            'parameters { key: "kv_cache_free_gpu_mem_fraction" value: { string_value: "0.8" } }',
        ),
        (
            "model_transaction_policy.decoupled",
            "true",
            "model_transaction_policy { decoupled: true }",
        ),
        (
            "version_policy.latest.num_versions",
            "2",
            "version_policy { latest { num_versions: 2 } }",
        ),
    ],
)
def test_one_field_is_changed_and_every_other_letter_stays(
    path: str, value: str, line: str
) -> None:
    assert changed_lines(edited(path, value)) == [line]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("max_batchsize", "1", "Did you mean max_batch_size?"),
        ("input.text_inptu.optional", "true", "Did you mean text_input?"),
        ("input.text_input.optionl", "true", "Did you mean optional?"),
        ("input.text_input", "x", "Name a field that holds one"),
        ("input", "x", "Name a field that holds one"),
        ("input.text_input.dims", "3", "Name a field that holds one"),
        ("max_batch_size.x", "1", "Name a field that holds one"),
        ("input.text_input.data_type", "TYPE_STRIN", "Did you mean TYPE_STRING?"),
        ("max_batch_size", "many", "Give a value of the field's type"),
        ("max_batch_size", "3000000000", "Give a value of the field's type"),
        ("model_transaction_policy.decoupled", "2.5", "Give a value of the field's type"),
    ],
)
def test_a_path_or_value_that_is_none_is_refused_with_the_nearest(
    path: str, value: str, said: str
) -> None:
    with pytest.raises(RepositoryError) as refused:
        edited(path, value)
    assert said in refused.value.fix


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(0, 2**31 - 1),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    delay=st.integers(0, 2**63),
    parameter=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
def test_any_values_are_read_back_and_the_comments_are_kept(
    batch: int, name: str, delay: int, parameter: str
) -> None:
    wanted = {
        "max_batch_size": str(batch),
        "name": name,
        "dynamic_batching.max_queue_delay_microseconds": str(delay),
        "parameters.tokenizer_dir": parameter,
        "parameters.another": parameter,
    }
    new = edit_config(TEXT, wanted, where="m")
    read = parse_config(new, where="m")
    assert (read.max_batch_size, read.name) == (batch, name)
    assert read.dynamic_batching.max_queue_delay_microseconds == delay
    assert {read.parameters[one].string_value for one in ("tokenizer_dir", "another")} == {
        parameter
    }
    for line in LINES:
        assert line.partition("#")[2] in new


@pytest.mark.parametrize("track", ["engine", "llmapi"])
def test_the_shape_of_what_is_generated_is_read_as_triton_reads_it(track: str) -> None:
    texts = config_texts(track, TemplateSettings("1.2.1", 8, True, "/e"))  # type: ignore[arg-type]
    for text in texts.values():
        parsed = parse_config(text, where="one")
        inputs = [node for node in read_source(text) if node.name == "input"]
        assert len(inputs) == len(parsed.input)
        assert read_source(format_config(parsed))


# -- what can't be read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ('name: "m"\nmax_batchsize: 3', "2:1", "Did you mean max_batch_size?"),
        ("input { datatype: TYPE_INT32 }", "1:9", "Did you mean data_type?"),
        ("input { data_type: TYPE_BYTES }", "1:20", "TYPE_STRING"),
        ("input { data_type: TYPE_INT3 }", "1:20", "Did you mean TYPE_INT32?"),
        ("instance_group { kind: KIND_CPUS }", "1:24", "Did you mean KIND_CPU?"),
        ("#\n\nmax_batch_size: ${batch}", "3:17", "Give the placeholder a value"),
        ('max_batch_size: "8"', "1:17", "Correct the line"),
    ],
)
def test_what_is_unknown_is_refused_with_line_column_and_the_nearest(
    text: str, place: str, said: str
) -> None:
    with pytest.raises(RepositoryError) as refused:
        parse_config(text, where="m/config.pbtxt")
    assert refused.value.why.startswith(f"{place} ")
    assert said in refused.value.fix


def test_every_placeholder_that_nobody_filled_is_told_but_not_those_in_comments() -> None:
    text = '# ${old}\nname: "${a}" max_batch_size: ${b}\nparameters { key: "k${c}" }'
    assert placeholders(text) == [("${a}", "2:8"), ("${b}", "2:30"), ("${c}", "3:21")]


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_a_string_is_written_so_that_it_is_read_back(value: str) -> None:
    assert parse_config(f"name: {quoted(value)}", where="m").name == value


# -- differences -----------------------------------------------------------------------------------


def test_a_difference_in_writing_only_is_none_in_meaning() -> None:
    found = diff_configs(TEXT, format_config(parse_config(TEXT, where="m")))
    assert found.fields == ()
    assert "-# Who asks for this" in found.unified


def test_what_differs_is_named_by_its_path() -> None:
    new = TEXT.replace("TYPE_INT32", "TYPE_INT64").replace("max_batch_size: 8", "max_batch_size: 9")
    new = (
        new.replace("instance_group [ { count: 1 kind: KIND_CPU } ]\n", "")
        + "response_cache { enable: true }"
    )
    told = [str(one) for one in diff_configs(TEXT, new).fields]
    assert told == [
        "max_batch_size: 8 → 9",
        "input.max_tokens.data_type: TYPE_INT32 → TYPE_INT64",
        "instance_group.0.count: 1 → not set",
        "instance_group.0.kind: KIND_CPU → not set",
        "response_cache: not set → set",
        "response_cache.enable: not set → true",
    ]


# -- the commands ----------------------------------------------------------------------------------


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(runbook, ["repo", *arguments], standalone_mode=False)


def test_the_command_changes_a_file_and_shows_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(TEXT)
    run = ran("edit", str(path), "max_batch_size=2", "parameters.tokenizer_dir=here", "--json")
    told = json.loads(run.stdout)
    assert {one["path"] for one in told["fields"]} == {
        "max_batch_size",
        "parameters.tokenizer_dir.string_value",
    }
    assert "# measured in May" in path.read_text()


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(TEXT)
    for wrong in ("nothing=1", "max_batch_size"):
        assert ran("edit", str(path), "max_batch_size=2", wrong).exception
    assert path.read_text() == TEXT


def test_line_ends_of_windows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    ran("edit", str(path), "max_batch_size=2", "dynamic_batching.preserve_ordering=true")
    data = path.read_bytes()
    assert data.count(b"\r\n") == len(LINES)
    assert b"max_batch_size: 2   # measured in May\r\n" in data


def test_the_command_compares_two_files(tmp_path: Path) -> None:
    for name, text in (("a", TEXT), ("b", TEXT.replace("8 ", "9 "))):
        (tmp_path / name).write_text(text)
    run = ran("diff", str(tmp_path / "a"), str(tmp_path / "b"))
    assert run.return_value == 1
    assert "max_batch_size: 8 → 9" in run.output
    assert ran("diff", str(tmp_path / "a"), str(tmp_path / "a")).return_value == 0
