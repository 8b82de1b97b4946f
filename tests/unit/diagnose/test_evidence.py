import json
import time
from http.client import IncompleteRead

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.diagnose import evidence as module
from runbook_lib.diagnose.evidence import Evidence, Line, collect, from_text

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault

READY = {"name": "ensemble", "version": "1", "state": "READY"}
LOST = {"name": "tokenizer", "version": "1", "state": "UNAVAILABLE", "reason": "no such file"}


@pytest.fixture
def server(tmp_path):
    """A server's answers as files: what is read does not depend on who gives it."""

    def answering(index="[]", statistics="{}", metrics=None):
        for name, text in (("repository/index", index), ("models/stats", statistics)):
            path = tmp_path / "v2" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if metrics is not None:
            (tmp_path / "metrics").write_text(metrics)
        return tmp_path.as_uri()

    return answering


def texts(found):
    return [line.text for line in found.lines]


# -- a live server ---------------------------------------------------------------------------------


def test_a_model_that_is_not_loaded_is_a_line_of_the_index(server):
    found = collect(server(json.dumps([READY, LOST])))
    assert found.models == (READY, LOST)
    assert found.lines == (Line("repository index", "tokenizer is UNAVAILABLE: no such file"),)
    assert found.sources == {"repository index": "read", "statistics": "read"}


@pytest.mark.parametrize("reason", ["", "unloaded", None])
def test_a_model_that_was_taken_out_on_purpose_is_no_trouble(reason, server):
    assert collect(server(json.dumps([LOST | {"reason": reason}]))).lines == ()


def test_statistics_and_metrics_are_read(server):
    known = {"model_stats": [{"name": "ensemble", "inference_stats": {}}]}
    url = server(statistics=json.dumps(known), metrics='# HELP x\na{b="c d"} 2\nbad\nbad x\n')
    found = collect(url, f"{url}/metrics")
    assert found.statistics == tuple(known["model_stats"])
    assert found.metrics == {'a{b="c d"}': 2.0}
    assert found.sources["metrics"] == "read"


@pytest.mark.parametrize("answer", ["<html>", "{", "nan"])
def test_an_answer_that_is_no_json_is_named_and_the_rest_is_used(answer, server):
    found = collect(server(answer, '{"model_stats": [{"name": "m"}]}'))
    if answer != "nan":
        assert found.sources["repository index"] == "not read: no JSON"
    assert found.models == ()
    assert found.statistics == ({"name": "m"},)


@pytest.mark.parametrize("answer", ["null", "3", '"x"', "{}", "[1, null]", '{"model_stats": {}}'])
def test_an_answer_of_another_shape_holds_no_models(answer, server):
    found = collect(server(answer, answer))
    assert (found.models, found.statistics, found.lines) == ((), (), ())


def test_a_server_that_is_not_there_is_named_and_ends_nothing(tmp_path):
    found = collect((tmp_path / "none").as_uri(), "nonsense", tmp_path / "none.log")
    assert set(found.sources) == {"repository index", "statistics", "metrics", "log"}
    assert all(said.startswith("not read: ") for said in found.sources.values())


@pytest.mark.parametrize("fault", [IncompleteRead(b""), TimeoutError("timed out"), OSError("gone")])
def test_a_connection_that_breaks_is_named_and_ends_nothing(fault, monkeypatch):
    def broken(*_, **__):
        raise fault

    monkeypatch.setattr(module.urllib.request, "urlopen", broken)
    found = collect("http://127.0.0.1:1")
    assert all(said.startswith("not read: ") for said in found.sources.values())


# -- logs ------------------------------------------------------------------------------------------


def from_log(path, **changed):
    return collect("nonsense", log=path, **changed)


def test_only_lines_that_tell_of_trouble_are_kept_of_a_log(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("I0301 loading\nE0301 it broke\nI0301 failed to load 'x'\nready\n")
    found = from_log(log)
    assert found.lines == (
        Line("log", "E0301 it broke"),
        Line("log", "I0301 failed to load 'x'"),
    )
    assert found.sources["log"] == "4 lines, 2 that tell of trouble"


def test_a_log_is_read_from_where_the_reader_stands(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("E0301 old\nE0302 new\n")
    assert texts(from_log(log, since=10)) == ["E0302 new"]


def test_a_log_that_was_begun_anew_is_read_whole(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("E0302 new\n")
    assert texts(from_log(log, since=5000)) == ["E0302 new"]


def test_of_a_large_log_the_end_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOG_BYTES", 100)
    log = tmp_path / "server.log"
    log.write_text("E0301 first\n" + "x\n" * 200 + "E0302 last\n")
    assert texts(from_log(log)) == ["E0302 last"]


def test_bytes_that_are_no_text_end_nothing(tmp_path):
    log = tmp_path / "server.log"
    log.write_bytes(b"\xff\xfeE0301\x00\nerror \xc3\n")
    assert texts(from_log(log)) == ["error \N{REPLACEMENT CHARACTER}"]


# -- texts -----------------------------------------------------------------------------------------


def test_a_line_that_is_said_again_is_kept_once():
    found = from_text("pasted", "error a\nerror b\nerror a\n")
    assert texts(found) == ["error a", "error b"]
    assert found.sources == {"pasted": "24 characters"}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("\x1b[31merror\x1b[0m red", "error red"),
        ("\x1b]0;title\x07error titled", "error titled"),
        ("\x1b]8;;http://x\x1b\\error\x1b]8;;\x1b\\ linked", "error linked"),
        ("error \x9b31m one byte", "error 31m one byte"),
        ("error \u202egnihton", "error gnihton"),
        ("error\x07\x00\x7f bell", "error bell"),
        ("\terror\ttab ", "error\ttab"),
    ],
)
def test_what_steers_a_terminal_is_taken_out(said, kept):
    assert texts(from_text("log", said)) == [kept]


@FEW_EXAMPLES
@given(st.text())
def test_no_text_brings_control_characters_into_a_finding(said):
    for line in texts(from_text("log", f"error {said}")):
        assert not any(ord(sign) < 32 and sign != "\t" for sign in line)
        assert not any(0x7F <= ord(sign) < 0xA0 for sign in line)
        assert len(line) <= module.LINE_LENGTH


@pytest.mark.parametrize("part", ["x", "error", "\x1b[1;", "\x1b]0;", "\x1b", "9"])
def test_a_hostile_line_of_a_megabyte_is_cut_in_little_time(part):
    line = "error \x1b]" + part * (1_000_000 // len(part))
    began = time.process_time()
    found = from_text("log", line)
    assert time.process_time() - began < 1
    assert len(found.lines[0].text) <= module.LINE_LENGTH


def test_two_collections_are_one():
    one = Evidence((Line("a", "x"),), ({"name": "m"},), (), {"g": 1.0}, {"a": "read"})
    other = Evidence((Line("b", "y"),), (), ({"name": "s"},), {"h": 2.0}, {"b": "read"})
    both = one.joined(other)
    assert texts(both) == ["x", "y"]
    assert (both.models, both.statistics) == (({"name": "m"},), ({"name": "s"},))
    assert (both.metrics, both.sources) == ({"g": 1.0, "h": 2.0}, {"a": "read", "b": "read"})
