"""`runbook diagnose` from files, folders, bundles and standard input."""

import io
import json

import pytest
from click.testing import CliRunner

from runbook_lib.cli_diagnose import diagnose
from runbook_lib.errors import DiagnosisError, UsageError

TAG = "E0116 Version tag does not match. Note: Current Version: 226, Serialized Engine Version: 228"


@pytest.fixture
def run():
    """The command's exit code and what it prints; an error of ours is raised."""

    def running(*arguments, **given):
        ended = CliRunner().invoke(
            diagnose, [str(one) for one in arguments], standalone_mode=False, **given
        )
        if ended.exception:
            raise ended.exception
        return ended.return_value, ended.stdout

    return running


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "server.log"
    path.write_text(f"I0116 calm\n{TAG}\n")
    return path


def test_the_best_finding_comes_first_as_json(run, log):
    code, said = run("--evidence", log, "--json")
    [found] = json.loads(said)["findings"]
    assert code == 1
    assert found["id"] == "engine-trt-version-mismatch"
    assert found["evidence"] == [f"server.log:2: {TAG}"]
    assert {"title", "cause", "confirm", "fix", "score", "costs", "page"} <= set(found)


def test_text_from_a_terminal_is_read_from_standard_input(run):
    code, said = run("--evidence", "-", input=TAG)
    assert code == 1
    assert "stdin:1: E0116" in said


def test_bytes_that_are_no_text_are_read_all_the_same(run, monkeypatch, tmp_path):
    path = tmp_path / "odd.log"
    path.write_bytes(b"\xff\x00\xfe" + TAG.encode() + b"\xc3")
    assert run("--evidence", path)[0] == 1


def test_healthy_evidence_ends_with_0_and_no_finding(run, tmp_path):
    path = tmp_path / "calm.log"
    path.write_text("I0116 model_lifecycle.cc:818] successfully loaded 'ensemble'\n")
    code, said = run("--evidence", path, "--json")
    assert (code, json.loads(said)["findings"]) == (0, [])


def test_an_error_that_no_rule_explains_is_no_green(run, tmp_path):
    path = tmp_path / "odd.log"
    path.write_text("E0116 12:00:00.1 1 odd.cc:1] the moon is in the wrong quarter\n")
    code, said = run("--evidence", path, "--json")
    assert code == 1
    assert json.loads(said)["findings"] == []
    assert "moon" in json.loads(said)["not_explained"][0]


def test_evidence_is_collected_masked_and_read_by_a_colleague(run, log, tmp_path):
    log.write_text(f"{TAG}\nAWS_SECRET_ACCESS_KEY=hunter2hunter2\n")
    run("--evidence", log, "--collect", tmp_path / "out.tgz")
    code, said = run("--evidence", tmp_path / "out.tgz", "--json")
    assert code == 1
    assert "hunter2" not in said


def test_several_sources_are_judged_together(run, log, tmp_path):
    other = tmp_path / "events.txt"
    other.write_text(
        "Warning  FailedScheduling  0/3 nodes are available: 3 Insufficient nvidia.com/gpu"
    )
    found = json.loads(run("--evidence", log, "--evidence", other, "--json")[1])["findings"]
    assert {one["id"] for one in found} == {"engine-trt-version-mismatch", "pod-unschedulable"}


def test_a_repository_is_judged_by_its_lint(run, tmp_path):
    (tmp_path / "repo" / "model").mkdir(parents=True)
    (tmp_path / "repo" / "model" / "config.pbtxt").write_text('backend: "python"\nnonsense: 1\n')
    code, said = run("--evidence", tmp_path / "repo", "--json")
    assert code == 1
    assert json.loads(said)["findings"][0]["id"] == "model-config-invalid"


def test_an_engine_that_is_not_whole_is_told(run, tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "config.json").write_text("{}")
    assert run("--evidence", tmp_path / "engine")[0] == 1


def test_an_engine_that_the_server_refuses_is_told_in_its_words(run, tmp_path):
    model = {"architecture": "LlamaForCausalLM", "dtype": "float16", "mapping": {"tp_size": 1}}
    built = {
        "max_num_tokens": 64,
        "kv_cache_type": "CONTINUOUS",
        "plugin_config": {"gpt_attention_plugin": "auto", "remove_input_padding": True},
    }
    config = {"version": "1.2.1", "pretrained_config": model, "build_config": built}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "rank0.engine").write_bytes(b"ftrt")
    code, said = run("--evidence", tmp_path, "--json")
    assert code == 1
    told = "\n".join(line for one in json.loads(said)["findings"] for line in one["evidence"])
    assert "rank0.engine: cut off" in told
    assert "the server says: Assertion failed: Failed to deserialize cuda engine." in told
    assert "a paged KV cache, not continuous" in told


def test_a_folder_that_is_neither_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DiagnosisError, match="neither an engine nor a repository"):
        run("--evidence", tmp_path / "empty")


def test_without_anything_named_it_says_what_can_be(run):
    with pytest.raises(UsageError, match="Nothing to diagnose"):
        run()


def test_a_ticket_and_tools_get_their_own_forms(run, log):
    assert run("--evidence", log, "--format", "markdown")[1].startswith("## Diagnosis")
    assert json.loads(run("--evidence", log, "--format", "sarif")[1])["version"] == "2.1.0"


def test_a_server_that_is_not_there_is_told_and_is_no_green(run):
    code, said = run("--url", "http://127.0.0.1:9", "--json")
    assert code == 1
    assert "repository index" in json.loads(said)["sources"]
    assert io.StringIO(said).readline()
