"""Builds by tiny shell commands: real processes, no compiler."""

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook_lib.artifacts import EngineIdentity, Limits
from runbook_lib.engine.build import build_once, kept_engine, past_build_seconds
from runbook_lib.engine.commands import Command
from runbook_lib.errors import BuildError

LIMITS = Limits(max_batch_size=1, max_input_len=1, max_seq_len=2, max_num_tokens=2)
GOOD = 'mkdir "$0/engine" && echo "{}" > "$0/engine/config.json" && echo blob > "$0/engine/rank0.engine"'


def identity(folder, files):
    json.loads((folder / "config.json").read_bytes())
    return EngineIdentity(
        track="lab",
        target="avx512",
        compiler="sh",
        dtype="float16",
        kv_cache_dtype="u8",
        limits=LIMITS,
    )


@pytest.fixture
def place(tmp_path):
    return {"store": tmp_path / "engines", "log": tmp_path / "logs" / "build.log"}


def shell(*scripts):
    """Each script as a command of its own; `$0` is the work folder."""
    return lambda work: [
        Command(f"step{number}", ("sh", "-c", script, str(work)))
        for number, script in enumerate(scripts, 1)
    ]


def build(place, *scripts, inputs="a", **options):
    commands = shell(*(scripts or (GOOD,)))
    return build_once(commands, identity, inputs={"weights": inputs}, **place, **options)


def kept(place, inputs="a"):
    return kept_engine({"weights": inputs}, identity, store=place["store"])


def nothing_is_left(place):
    return [path.name for path in place["store"].iterdir() if not path.name.endswith(".lock")] == []


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid):
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


# -- building and keeping ------------------------------------------------------------------------


def test_a_build_gives_an_engine_with_its_files_and_what_it_took(place):
    before = datetime.now(UTC).replace(microsecond=0)
    made = build(place)
    assert [(file.path, file.size) for file in made.files] == [
        ("config.json", 3),
        ("rank0.engine", 5),
    ]
    assert made.size_bytes == 8
    assert not made.reused
    assert made.built_at >= before
    assert 0 <= made.build_seconds < 10
    assert [phase.name for phase in made.phases] == ["step1"]
    assert made.commands == (("sh", "-c", GOOD, "WORK"),)


def test_a_second_build_of_the_same_inputs_runs_nothing(place):
    first, told = build(place), []
    second = build(place, "exit 1", on_line=told.append)
    assert second.reused
    assert second.engine_digest == first.engine_digest
    assert second.built_at == first.built_at
    assert "The receipt of" in told[0]
    assert kept(place) == second.model_copy(update={"created": kept(place).created})


def test_other_inputs_are_another_engine(place):
    one, other = build(place), build(place, inputs="b")
    assert one.path != other.path
    assert one.inputs_digest != other.inputs_digest
    assert kept(place) is not None
    assert kept(place, "c") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "rank0.engine").write_text("bloc\n"),
        lambda folder: (folder / "rank0.engine").unlink(),
        lambda folder: (folder / "rank0.engine").rename(folder / "rank1.engine"),
        lambda folder: (folder / "stranger").write_text(""),
        lambda folder: (folder / "receipt.json").unlink(),
    ],
    ids=["altered", "lost", "renamed", "more", "no receipt"],
)
def test_an_engine_that_was_changed_is_built_again(change, place):
    first = build(place)
    change(Path(first.path))
    assert kept(place) is None
    again = build(place)
    assert not again.reused
    assert again.engine_digest == first.engine_digest
    assert build(place).reused


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}", "no seconds", "no time", "words"])
def test_a_damaged_receipt_holds_nothing_and_ends_nothing(damage, place):
    receipt = Path(build(place).path) / "receipt.json"
    known = json.loads(receipt.read_text())
    damaged = {
        "no seconds": {name: known[name] for name in known if name != "seconds"},
        "no time": known | {"built_at": "yesterday"},
        "words": known | {"phases": "none"},
    }
    receipt.write_text(json.dumps(damaged[damage]) if damage in damaged else damage)
    assert kept(place) is None
    assert not build(place).reused


def test_a_receipt_of_other_inputs_does_not_hold(place):
    one, other = build(place), build(place, inputs="b")
    receipt = (Path(other.path) / "receipt.json").read_bytes()
    (Path(one.path) / "receipt.json").write_bytes(receipt)
    assert kept(place) is None


def test_an_engine_can_be_built_again_although_its_receipt_holds(place):
    build(place)
    assert not build(place, rebuild=True).reused


def test_the_old_engine_stays_when_building_again_fails(place):
    first = build(place)
    with pytest.raises(BuildError):
        build(place, "exit 1", rebuild=True)
    assert kept(place).engine_digest == first.engine_digest


def test_what_a_killed_build_left_is_taken_away_and_what_others_left_is_not(place):
    folder = Path(build(place).path)
    mine = folder.with_name(f".{folder.name}.x1y2")
    other = folder.with_name(".0000000000000000.x1y2")
    for one in (mine, other):
        (one / "engine").mkdir(parents=True)
    build(place, rebuild=True)
    assert (mine.exists(), other.exists()) == (False, True)
    mine.mkdir()
    assert build(place).reused
    assert (mine.exists(), other.exists()) == (False, True)


def test_phases_are_those_that_the_command_tells(place):
    said = 'echo "[build] phase compile done 2.25 s"; echo "[build] phase pack done 0.5 s"'
    made = build(place, f"{said}; {GOOD}", "echo quiet")
    named = [(phase.name, phase.seconds) for phase in made.phases]
    assert named[:2] == [("compile", 2.25), ("pack", 0.5)]
    assert named[2][0] == "step2"


# -- failing -------------------------------------------------------------------------------------


def test_a_command_that_fails_keeps_nothing_and_says_its_last_words(place):
    with pytest.raises(BuildError, match=r"step2 failed \(exit code 3\)") as caught:
        build(place, GOOD, "echo one; echo; echo the cause >&2; exit 3", "touch never")
    assert caught.value.why == "one\nthe cause"
    assert str(place["log"]) in caught.value.fix
    assert caught.value.page == "06_troubleshoot"
    assert nothing_is_left(place)
    assert kept(place) is None
    assert not build(place).reused


def test_a_build_that_makes_no_engine_is_none(place):
    with pytest.raises(BuildError, match="without an engine"):
        build(place, 'mkdir "$0/engine"')
    assert nothing_is_left(place)


def test_a_program_that_is_not_there_says_where_it_would_be(place):
    with pytest.raises(BuildError, match="no-such-program") as caught:
        build_once(lambda _: [Command("build", ("no-such-program",))], identity, inputs={}, **place)
    assert "PATH" in caught.value.why
    assert nothing_is_left(place)


@pytest.mark.parametrize(
    ("name", "words"), [("KILL", "SIGKILL; the kernel's out-of-memory killer"), ("TERM", "SIGTERM")]
)
def test_a_command_that_is_killed_names_the_signal(name, words, place):
    with pytest.raises(BuildError, match="step1 failed") as caught:
        build(place, f"kill -{name} $$")
    assert words in caught.value.what
    assert nothing_is_left(place)


def test_a_build_that_takes_too_long_is_ended_with_everything_it_started(place, tmp_path):
    began = time.monotonic()
    with pytest.raises(BuildError, match="took longer than"):
        build(place, f"sleep 60 & echo $! > {tmp_path}/pid; wait", timeout=1)
    assert time.monotonic() - began < 10
    assert gone(int((tmp_path / "pid").read_text()))
    assert nothing_is_left(place)


@pytest.mark.parametrize("_", range(5))
def test_an_overdue_command_is_never_taken_for_one_that_was_killed(_, place):
    with pytest.raises(BuildError, match="took longer than"):
        build(place, "sleep 60", timeout=0.02)


def test_the_time_is_for_all_commands_together(place):
    with pytest.raises(BuildError, match="step2 took longer"):
        build(place, f"{GOOD}; sleep 0.3", "sleep 60", timeout=1)


def test_a_child_left_behind_holds_nobody_up_beyond_the_time(place, tmp_path):
    began = time.monotonic()
    made = build(place, f"{GOOD}; sleep 60 & echo $! > {tmp_path}/pid", timeout=1)
    assert time.monotonic() - began < 10
    assert made.size_bytes == 8
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_child_left_behind_in_silence_is_ended(place, tmp_path):
    build(place, f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/pid; {GOOD}")
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_listener_that_fails_ends_the_command(place, tmp_path):
    def interrupted(line):
        if line == "at work":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(place, f"echo $$ > {tmp_path}/pid; echo at work; exec sleep 60", on_line=interrupted)
    assert gone(int((tmp_path / "pid").read_text()))
    assert nothing_is_left(place)


# -- together ------------------------------------------------------------------------------------


def test_two_at_once_take_turns_and_build_once(place, tmp_path):
    script = f"echo run >> {tmp_path}/runs; sleep 0.3; {GOOD}"
    made = []
    builders = [
        threading.Thread(target=lambda: made.append(build(place, script))) for _ in range(3)
    ]
    for one in builders:
        one.start()
    for one in builders:
        one.join()
    assert (tmp_path / "runs").read_text() == "run\n"
    assert sorted(one.reused for one in made) == [False, True, True]


# -- what is written down --------------------------------------------------------------------------


def test_the_log_keeps_every_command_with_all_it_said(place):
    told = []
    build(place, "echo out; echo err >&2", f"printf 'half'; {GOOD}", on_line=told.append)
    lines = place["log"].read_text().splitlines()
    assert [line for line in lines if not line.startswith("$ ")] == ["out", "err", "half"]
    assert [line.partition(" -c")[0] for line in lines if line.startswith("$ ")] == ["$ sh", "$ sh"]
    said = [line for line in told[1:] if not line.startswith("Step ")]
    assert said == ["out", "err", "half"]
    build(place, "echo later", GOOD, rebuild=True)
    assert {"out", "later"} <= set(place["log"].read_text().splitlines())


def test_the_log_of_a_failed_build_is_kept(place):
    with pytest.raises(BuildError):
        build(place, "echo the cause; exit 1")
    assert "the cause" in place["log"].read_text()


def test_bytes_that_are_no_text_end_no_build(place):
    build(place, f"printf '\\377\\n'; {GOOD}")
    assert "\N{REPLACEMENT CHARACTER}" in place["log"].read_text()


def test_no_secret_of_the_environment_gets_into_the_receipt(place, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    made = build(place, f'test "${{#HF_TOKEN}}" = 14 && {GOOD}', inputs="hf_very_secret")
    assert "hf_very_secret" not in (Path(made.path) / "receipt.json").read_text()
    assert "hf_very_secret" not in made.model_dump_json()


def test_the_receipt_does_not_depend_on_where_it_was_built(place):
    receipt = json.loads((Path(build(place).path) / "receipt.json").read_text())
    known = {"inputs", "digest", "seconds", "phases", "commands", "built_at", "built_on", "peaks"}
    assert set(receipt) == known
    assert str(place["store"]) not in json.dumps(receipt)


def test_past_builds_tell_how_long_they_took(place):
    assert past_build_seconds(place["store"]) == []
    took = sorted(build(place, inputs=name).build_seconds for name in "abc")
    assert sorted(past_build_seconds(place["store"])) == took


def test_a_damaged_receipt_tells_no_time(place):
    made = build(place)
    (Path(made.path) / "receipt.json").write_text('{"seconds": "long"}')
    assert past_build_seconds(place["store"]) == []


def test_the_inputs_order_is_none_of_the_engines(place):
    commands = shell(GOOD)
    one = build_once(commands, identity, inputs={"a": 1, "b": 2}, **place)
    assert build_once(commands, identity, inputs={"b": 2, "a": 1}, **place).path == one.path
    assert Path(one.path).name == one.inputs_digest[7:23]
