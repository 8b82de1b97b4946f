"""The lab's Triton is asked about a repository, and its own words are told beside the lint's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from runbook_lib.lab.verdict import ask_triton
from runbook_lib.repository.skeleton import skeleton

CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def model(root: Path, name: str, config: str, code: str = CODE) -> None:
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(config)
    (root / name / "1" / "model.py").write_text(code)


def lint(*words: str) -> tuple[int, dict]:
    command = [str(Path(sys.executable).with_name("runbook")), "repo", "lint", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


def test_each_model_gets_the_servers_own_words(tmp_path: Path) -> None:
    skeleton(tmp_path / "models")
    model(tmp_path / "models", "negative", 'backend: "python"\nmax_batch_size: -1\n')
    model(tmp_path / "models", "late", 'backend: "python"\n', "raise RuntimeError('too late')\n")
    verdict = ask_triton(tmp_path / "models")
    said = {one.model: one.says for one in verdict.models if not one.loads}
    assert not verdict.ok
    assert set(said) == {"negative", "late"}
    assert said["negative"] == "'max_batch_size' must be non-negative value for negative"
    assert "RuntimeError: too late" in said["late"]
    assert all(words in str(verdict) for words in said.values())


def test_a_server_that_never_comes_up_is_told_as_that(tmp_path: Path) -> None:
    model(tmp_path / "models", "waits", 'backend: "python"\n')
    (tmp_path / "models" / "waits" / "1" / "model.py").unlink()
    verdict = ask_triton(tmp_path / "models", timeout=8)
    assert not verdict.ok
    assert "was not ready within 8 s" in str(verdict)


def test_where_both_agree_the_answer_has_both(tmp_path: Path) -> None:
    skeleton(tmp_path / "models")
    code, told = lint(str(tmp_path / "models"), "--ask-triton")
    assert code == 0
    assert told["ok"]
    assert told["triton"]["ok"]
    assert told["triton"]["agrees"]


def test_where_they_part_the_exit_code_is_the_servers(tmp_path: Path) -> None:
    hidden = "import enum\n\n\nclass TritonPythonModel(enum.Enum):\n    A = 1\n"
    model(tmp_path / "models", "m", 'backend: "python"\n', hidden)
    code, told = lint(str(tmp_path / "models"), "--ask-triton")
    assert told["ok"]
    assert (code, told["triton"]["ok"], told["triton"]["agrees"]) == (1, False, False)
