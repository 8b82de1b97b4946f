import json
from http.client import IncompleteRead

import pytest

from runbook_lib.diagnose import live as module
from runbook_lib.diagnose.evidence import Line
from runbook_lib.diagnose.live import collect

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


def test_a_log_is_evidence_with_its_line_numbers(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("I0301 loading\n\nE0301 it broke\n")
    found = from_log(log)
    assert found.lines == (Line("log", "I0301 loading", 1), Line("log", "E0301 it broke", 3))
    assert found.sources["log"] == "3 lines, 2 kept"


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
    kept = texts(from_log(log))
    assert kept[-1] == "E0302 last"
    assert "E0301 first" not in kept


def test_bytes_that_are_no_text_end_nothing(tmp_path):
    log = tmp_path / "server.log"
    log.write_bytes(b"\xff\xfeE0301\x00\nerror \xc3\n")
    assert texts(from_log(log)) == [
        "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}E0301",
        "error \N{REPLACEMENT CHARACTER}",
    ]
