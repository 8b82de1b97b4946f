from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from runbook_lib.cli_stages import engine
from runbook_lib.errors import PlanError

GUIDE = "trtllm-build --model /weights/llama-7b --dtype fp16 --max_output_len 512"


def run(*words):
    said = CliRunner().invoke(engine, words)
    if said.exception and not isinstance(said.exception, SystemExit):
        raise said.exception
    assert said.exit_code == 0, said.output
    return said


def test_commands_are_lines_that_can_be_pasted_and_notes_stand_apart():
    said = run("commands", "llama-7b", "--trtllm", "0.20.0")
    lines = said.stdout.splitlines()
    assert len(lines) == 9
    assert lines[1].startswith("trtllm-build --checkpoint_dir WORK/checkpoint")
    assert "note: " in said.stderr


def test_commands_as_json_are_steps_with_argv():
    made = json.loads(run("commands", "llama-7b", "--json").stdout)
    assert {frozenset(one) for one in made} == {frozenset({"step", "argv"})}
    assert [one["step"] for one in made[:2]] == ["convert_checkpoint", "trtllm-build"]


def test_commands_are_explained_flag_by_flag():
    said = run("commands", "llama-7b", "--trtllm", "0.13.0", "--explain").stdout
    assert "in-flight batching needs a paged KV cache [new: added]" in said
    made = json.loads(run("commands", "llama-7b", "--explain", "--json").stdout)
    reasons = {one["name"]: one["why"] for one in made[1]["why"]}
    assert "prompt and answer together" in reasons["--max_seq_len"]


def test_two_releases_are_compared_with_and_without_a_profile():
    found = json.loads(run("diff", "0.12.0", "0.13.0", "llama-7b", "--json").stdout)
    assert any("kv_cache_type" in line for line in found["commands"])
    assert "commands" not in json.loads(run("diff", "0.12.0", "0.13.0", "--json").stdout)
    assert "0.12.0 → 0.13.0" in run("diff", "0.12.0", "0.13.0").stdout


def test_the_guides_line_is_translated():
    found = json.loads(run("translate", GUIDE, "--trtllm", "1.2.1", "--json").stdout)
    assert [one["step"] for one in found["commands"]] == ["convert_checkpoint", "trtllm-build"]
    assert [one["flag"] for one in found["notes"]] == ["--model", "--dtype", "--max_output_len"]
    assert "went into --max_seq_len" in run("translate", GUIDE).stdout


def test_the_commands_of_the_llmapi_track_are_steps_with_argv_too():
    made = json.loads(run("commands", "qwen3-30b-a3b-llmapi", "--json").stdout)
    assert {frozenset(one) for one in made} == {frozenset({"step", "argv"})}
    assert [one["step"] for one in made[-2:]] == ["write_serve_options", "serve"]
    said = run("commands", "qwen3-30b-a3b-llmapi", "--explain")
    assert "launch_triton_server.py forbids" in said.stdout
    assert "run one of them" in said.stderr


def test_an_llmapi_profile_is_compared_and_the_guides_line_served():
    found = json.loads(run("diff", "1.2.1", "1.3.0rc23", "qwen3-30b-a3b-llmapi", "--json").stdout)
    assert any("--branch v1.3.0rc23" in line for line in found["commands"])
    found = json.loads(run("translate", GUIDE, "--trtllm", "1.3.0rc21", "--json").stdout)
    assert found["commands"][-1]["argv"][:2] == ["trtllm-serve", "serve"]


def test_a_release_without_engines_is_refused():
    with pytest.raises(PlanError):
        run("commands", "llama-7b", "--trtllm", "1.3.0rc21")


def test_nothing_of_the_engine_is_loaded_before_it_is_asked_for():
    code = "import sys, runbook_lib.cli; print([m for m in sys.modules if '.engine' in m])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
