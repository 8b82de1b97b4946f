"""The engine of a profile, built by programs that stand in for TensorRT-LLM's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runbook_lib.engine import build_run
from runbook_lib.engine.build_profile import LocalBuilder
from runbook_lib.engine.identity import engine_files, inspect_engine
from runbook_lib.engine.runner import ProcessRunner
from runbook_lib.errors import BuildError, EngineMismatchError, PlanError, PreflightError
from runbook_lib.targets.engine_check import check_engine


@pytest.fixture
def build(profile, tools, tmp_path):
    told = []

    def made(changes=None, *, rebuild=False):
        value = profile.model_copy(update=changes or {})
        log = tmp_path / "logs" / "build.log"
        return LocalBuilder(ProcessRunner()).build(value, log, told.append, rebuild=rebuild)

    made.told = told
    return made


def store(tmp_path):
    (found,) = (tmp_path / "cache").rglob("engines")
    return found


def left_over(tmp_path):
    return [one.name for one in store(tmp_path).iterdir() if not one.name.endswith(".lock")]


def test_an_engine_of_a_profile_knows_where_it_belongs(build, profile):
    made = build()
    assert (made.identity.target, made.identity.compiler) == ("sm90", "TensorRT-LLM 1.2.1")
    assert made.identity.limits == profile.limits
    assert [one.name for one in made.phases] == ["convert", "compile", "serialize"]
    assert made.peak_memory_bytes >= 7000 * 2**20
    assert made.peak_disk_bytes > 4096
    facts = inspect_engine(Path(made.path), engine_files(Path(made.path)))
    assert facts.built_on == {"sm": "sm90", "gpu": "NVIDIA H100 80GB HBM3", "runner": "process"}
    assert check_engine(Path(made.path), profile=profile).ok
    assert not [one for one in build.told if "not as the profile asks" in one]


def test_a_cache_that_a_tool_made_otherwise_than_asked_is_told(build, samples, tools):
    config = samples.config("1.2.0", kv="FP8", max_batch_size=8) | {"version": "1.2.1"}
    script = (tools / "trtllm-build").read_text()
    line = 'json.dump(config, open(out + "/config.json", "w"))'
    quantised = f'config["pretrained_config"]["quantization"] = {config["pretrained_config"]["quantization"]!r}'
    (tools / "trtllm-build").write_text(script.replace(line, f"{quantised}\n{line}"))
    build()
    assert any("its KV cache is fp8; the profile asks for float16" in one for one in build.told)


def test_the_same_profile_is_built_once_and_other_weights_again(build, weights):
    assert not build().reused
    assert build().reused
    (weights / "model.safetensors").write_bytes(b"others")
    assert not build().reused
    assert not build(rebuild=True).reused


def test_the_hubs_links_count_as_what_they_lead_to(build, weights, tmp_path):
    (tmp_path / "blob").write_bytes(b"one")
    (weights / "model.safetensors").unlink()
    (weights / "model.safetensors").symlink_to(tmp_path / "blob")
    build()
    (tmp_path / "blob").write_bytes(b"two")
    assert not build().reused


def test_the_log_is_told_with_steps_and_percents(build, tmp_path):
    build()
    assert "Step 2 of 2: trtllm-build" in build.told
    assert build.told.count("convert_checkpoint 50 %") == 1
    assert "$ trtllm-build --checkpoint_dir" in (tmp_path / "logs" / "build.log").read_text()


def test_another_gpu_than_the_profiles_is_refused_before_anything_runs(build, tmp_path):
    with pytest.raises(EngineMismatchError, match=r"sm90.*L40S"):
        build({"gpu": "L40S"})
    assert not list((tmp_path / "cache").rglob("engines"))


def test_without_nvidia_smi_the_sm_is_that_of_the_log_or_unknown(build, tools, monkeypatch):
    (tools / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert build().identity.target == "unknown"
    said = "print('[TRT-LLM] [I] Compute capability: (8, 9)')"
    monkeypatch.setenv("IN_THE_BUILD", said)
    assert build(rebuild=True).identity.target == "sm89"


def test_a_machine_with_several_kinds_of_gpus_does_not_guess(build, tools):
    text = "echo 'NVIDIA H100, 9.0, 580'; echo 'NVIDIA L40S, 8.9, 580'"
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    assert build({"gpu": "L40S"}).identity.target == "unknown"


def test_weights_that_are_not_here_are_named(build, tmp_path):
    with pytest.raises(PreflightError, match="nowhere"):
        build({"weights": "/nowhere/llama"})
    with pytest.raises(PlanError, match="builds no engine"):
        build({"track": "llmapi"})


def test_an_engine_without_a_rank_never_takes_the_old_ones_place(build, monkeypatch, tmp_path):
    first = build()
    lost = (
        "real = open; open = lambda p, m='r': real('/dev/null' if p.endswith('.engine') else p, m)"
    )
    monkeypatch.setenv("IN_THE_BUILD", lost)
    with pytest.raises(BuildError, match="not whole") as caught:
        build(rebuild=True)
    assert "rank0.engine: missing" in caught.value.why
    assert build().engine_digest == first.engine_digest
    assert left_over(tmp_path) == [Path(first.path).name]


def test_what_the_network_did_is_tried_again_and_nothing_else(build, tools, monkeypatch, tmp_path):
    monkeypatch.setattr(build_run, "PAUSES", (0.0, 0.0))
    flaky = f"""#!/bin/sh
echo try >> {tmp_path}/tries
test "$(wc -l < {tmp_path}/tries)" -ge 3 || {{ echo 'Could not resolve host: github.com'; exit 128; }}
exec {tools}/real "$@"
"""
    (tools / "python3").rename(tools / "real")
    (tools / "python3").write_text(flaky)
    (tools / "python3").chmod(0o755)
    assert not build().reused
    assert sum("trying again" in line for line in build.told) == 2
    (tools / "python3").write_text(f"#!/bin/sh\necho try >> {tmp_path}/others\nexit 3\n")
    with pytest.raises(BuildError, match="exit code 3"):
        build(rebuild=True)
    assert (tmp_path / "others").read_text() == "try\n"


def test_the_guides_template_builds_the_engine_that_it_means(build, weights):
    line = (
        f"trtllm-build --model {weights} --dtype {{dtype}} --max_batch_size 4 --max_output_len 99"
    )
    made = build({"builder_cmd": line})
    limits = made.identity.limits
    assert (limits.max_batch_size, limits.max_seq_len) == (4, 2048 + 99)
    assert any("--max_output_len" in one and "moved" in one for one in build.told)
    warned = [one for one in build.told if one.startswith("warning: not as the profile asks")]
    assert "max_batch_size is 4; the profile asks for 8" in warned[0]


def test_a_builder_of_the_users_own_is_run_where_the_user_is(build, tools, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limits = " ".join(f"--{name} {{{name}}}" for name in build_run_limits())
    made = build(
        {"builder_cmd": f"bin/trtllm-mine --output_dir {{output_dir}} {limits}"} | mine(tools)
    )
    assert made.commands[0][0] == "bin/trtllm-mine"
    assert made.commands[0][2] == "WORK/engine"
    assert made.identity.limits.max_batch_size == 8


def build_run_limits():
    return ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "max_beam_width")


def mine(tools):
    (tools / "trtllm-mine").write_bytes((tools / "trtllm-build").read_bytes())
    (tools / "trtllm-mine").chmod(0o755)
    return {}


SCRIPT = """
import sys
from runbook_lib.cli import main
sys.argv = ["runbook", "engine", "build", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_cancelled_takes_everything_with_it(number, profile, tools, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(profile.model_dump(include={"model_name", "weights", "gpu"})))
    sleeper = "import subprocess; subprocess.Popen(['sleep', '77']); time.sleep(77)"
    env = os.environ | {"IN_THE_BUILD": f"open({str(tmp_path / 'at')!r}, 'w'); {sleeper}"}
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], env=env)
    deadline = time.monotonic() + 60
    while not (tmp_path / "at").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(number)
    assert running.wait(timeout=30) != 0
    assert left_over(tmp_path) == []
    assert pids_of("sleep", "77") == []


def pids_of(*words):
    wanted = "\0".join(words) + "\0"
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if path.read_text() == wanted else []
        except OSError:
            continue
    return found


def test_a_second_build_waits_and_says_who_holds_the_first(profile, tools, tmp_path):
    path, at, go = tmp_path / "mine.yaml", tmp_path / "at", tmp_path / "go"
    path.write_text(json.dumps(profile.model_dump(include={"model_name", "weights", "gpu"})))
    held = f"open({str(at)!r}, 'w')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
    argv = [sys.executable, "-c", SCRIPT, str(path)]
    first = subprocess.Popen(argv, env=os.environ | {"IN_THE_BUILD": held}, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not at.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    told = []

    def listen(line):
        told.append(line)
        if line.startswith("Waiting:"):
            go.touch()

    builder = LocalBuilder(ProcessRunner())
    made = builder.build(profile_of(path), tmp_path / "log", listen, rebuild=False)
    assert first.wait(timeout=30) == 0
    first.stdout.close()
    assert made.reused
    assert any(f"Waiting: process {first.pid} on " in line for line in told)


def profile_of(path):
    from runbook_lib.profile import load_profile

    return load_profile(str(path), env={}, overrides={}).value
