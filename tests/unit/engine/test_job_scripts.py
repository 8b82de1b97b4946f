"""The program that runs a step in a container: real processes, as a container would start it."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from runbook_lib.artifacts import StoredFile
from runbook_lib.engine.build_lines import phase_of
from runbook_lib.engine.job import SCRIPTS
from runbook_lib.engine.job_scripts import store_engine
from runbook_lib.files import content_digest, list_files

RUN_STEP = str(SCRIPTS / "run_step.py")


def argv_of(work, step, *argv):
    return [sys.executable, RUN_STEP, "--work", str(work), "--step", step, "--", *argv]


def run(work, step, *argv):
    return subprocess.run(argv_of(work, step, *argv), capture_output=True, text=True)


def script(text):
    return (sys.executable, "-c", text)


def phases_in(text):
    found = (phase_of(line) for line in text.splitlines())
    return [(one.name, one.seconds) for one in found if one]


def marker(work, step):
    return json.loads((work / ".steps" / f"{step}.json").read_text("utf-8"))


def test_a_step_is_run_once_and_its_phases_are_told_again(tmp_path):
    count = "open('calls', 'a').write('x'); print('[lab-build] phase ir done 1.250')"
    step = script(f"import os; os.chdir({str(tmp_path)!r}); {count}")
    first, second = run(tmp_path, "convert", *step), run(tmp_path, "convert", *step)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (tmp_path / "calls").read_text() == "x"
    assert phases_in(first.stdout) == phases_in(second.stdout) == [("ir", 1.25)]
    assert "was done before and is kept" in second.stdout


def test_a_step_that_tells_no_phases_is_one(tmp_path):
    done = run(tmp_path, "quantize", *script("print('hello')"))
    assert [name for name, _ in phases_in(done.stdout)] == ["quantize"]
    assert marker(tmp_path, "quantize")["phases"][0]["name"] == "quantize"


def test_the_gpu_of_a_step_goes_into_the_receipt(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA L40S, 8.9'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    run(work, "convert", *script("pass"))
    told = {"gpu": "NVIDIA L40S", "sm": "sm89"}
    assert marker(work, "convert")["built_on"] == told
    assert store_engine.receipt_of(work, "sha256:in", "sha256:out")["built_on"] == told


def test_other_words_are_another_step(tmp_path):
    run(tmp_path, "convert", *script("pass"))
    assert "was done before" not in run(tmp_path, "convert", *script("print(1)")).stdout


def test_words_reach_the_program_unchanged(tmp_path):
    words = ["--work", "a b", "$HOME", "$(id)", "--", "-x", "ü"]
    done = run(
        tmp_path, "say", *script("import json, sys; print(json.dumps(sys.argv[1:]))"), *words
    )
    assert json.loads(done.stdout.splitlines()[0]) == words


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("raise SystemExit(3)", 3, "ended with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "ended by SIGKILL"),
    ],
)
def test_a_step_that_fails_is_not_marked_and_its_code_is_handed_on(tmp_path, text, code, told):
    done = run(tmp_path, "convert", *script(text))
    assert done.returncode == code
    assert told in done.stdout
    assert not list((tmp_path / ".steps").iterdir())


def test_a_program_that_is_not_there_is_told(tmp_path):
    done = run(tmp_path, "build", "trtllm-build-x")
    assert done.returncode == 127
    assert "trtllm-build-x can't be started" in done.stdout


def test_what_a_cut_step_left_is_removed_and_what_others_made_stays(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "part").touch()
    make = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir()"
    run(tmp_path, "convert", *script(make), str(tmp_path / "checkpoint"))
    (tmp_path / "engine").mkdir()
    (tmp_path / ".engine.part").touch()
    # mkdir would fail on an engine that is there.
    assert run(tmp_path, "build", *script(make), str(tmp_path / "engine")).returncode == 0
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [".steps", "checkpoint", "engine", "weights"]
    assert (tmp_path / "weights" / "part").exists()


def test_half_a_line_goes_through_before_the_step_ends(tmp_path):
    text = "import sys, time; sys.stdout.write('50 %\\r'); sys.stdout.flush(); time.sleep(60)"
    process = subprocess.Popen(argv_of(tmp_path, "build", *script(text)), stdout=subprocess.PIPE)
    try:
        assert os.read(process.stdout.fileno(), 100) == b"50 %\r"
        # A pod that is deleted ends with its step, within its grace.
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


# -- what the other program stores -----------------------------------------------------------------


def test_digests_and_lists_are_those_of_the_library(tmp_path):
    for name, text in {"config.json": "{}", "ü/rank0.engine": "blob", "a.txt": ""}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    theirs = store_engine.files_of(tmp_path)
    ours = list_files(tmp_path)
    assert tuple(StoredFile(**one) for one in theirs) == ours
    assert store_engine.digest_of_files(theirs) == content_digest(ours)


def test_a_link_can_t_be_stored(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(store_engine.Refused):
        store_engine.files_of(tmp_path)


def test_a_receipt_tells_the_steps_in_their_order_without_the_weights(tmp_path):
    for step in ("weights", "convert", "build"):
        run(tmp_path, step, *script(f"print('{step}')"), str(tmp_path / step))
    receipt = store_engine.receipt_of(tmp_path, "sha256:in", "sha256:out")
    assert [phase["name"] for phase in receipt["phases"]] == ["convert", "build"]
    assert [argv[-1] for argv in receipt["commands"]] == ["WORK/convert", "WORK/build"]
    assert (receipt["inputs"], receipt["digest"]) == ("sha256:in", "sha256:out")
    assert datetime.fromisoformat(receipt["built_at"]).tzinfo is not None


def test_the_programs_run_on_their_own():
    for path in sorted(Path(SCRIPTS).glob("[!_]*.py")):
        argv = [sys.executable, "-S", "-I", str(path), "--help"]
        assert subprocess.run(argv, capture_output=True).returncode == 0
