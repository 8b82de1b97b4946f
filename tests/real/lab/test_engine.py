"""The lab's engines: what the compiler's runtime does with a damaged one, and what our check refuses."""

import json
import shutil
import subprocess
import textwrap
import zipfile

import pytest

from runbook_lib.lab import engines, environment
from runbook_lib.lab.builder_commands import BUILDER, MODEL
from runbook_lib.lab.scoring import exact_match, load_questions
from runbook_lib.profile import load_profile

LIMITS = {"max_batch_size": 4, "max_input_len": 64, "max_seq_len": 96, "max_num_tokens": 128}
CARD_RIGHT, CARD_ASKED = 100, 112


def stage(script, *words):
    """A program of the builder, run by the lab's own interpreter."""
    python = str(environment.ensure().python)
    argv = [python, str(BUILDER / script), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True)


def converted(folder, *words):
    options = ("--dtype", "float16", "--kv_cache_dtype", "f16", *words)
    return stage("convert_checkpoint.py", "--model_dir", MODEL, "--output_dir", folder, *options)


def built(checkpoint, folder, **changed):
    limits = [word for name, value in (LIMITS | changed).items() for word in (f"--{name}", value)]
    return stage("build_engine.py", "--checkpoint_dir", checkpoint, "--output_dir", folder, *limits)


def fine(done):
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "float16"
    fine(converted(folder))
    return folder


@pytest.fixture(scope="module")
def engine(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "float16"
    fine(built(checkpoint, folder))
    return folder


@pytest.fixture
def copy(engine, tmp_path):
    return shutil.copytree(engine, tmp_path / "copy")


def problems(folder):
    done = stage("engine_runtime.py", "check", folder)
    told = json.loads(done.stdout)
    assert (done.returncode == 0) == told["ok"] == (not told["problems"])
    return told["problems"]


def alter(folder, change):
    """Change the config.json of an engine."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# -- what our check refuses ----------------------------------------------------------------------


def test_an_engine_as_it_was_built_has_no_problem(engine):
    assert problems(engine) == []


def test_an_engine_of_another_compiler_is_refused_with_both_versions(copy):
    alter(copy, lambda config: config["lab"].update(openvino="2026.1.0"))
    now = json.loads((copy / "config.json").read_text())["lab"]["openvino_genai"][:8]
    (told,) = problems(copy)
    assert told == f"the engine was built with openvino 2026.1.0, this runtime is {now}"


def test_an_engine_of_another_processor_is_refused_with_both_names(copy):
    mine = json.loads((copy / "config.json").read_text())["lab"]["isa"]
    alter(copy, lambda config: config["lab"].update(isa="sm90"))
    (told,) = problems(copy)
    assert told == f"the engine was built for isa sm90, this CPU has {mine}"


DAMAGE = {
    "cut": lambda data: data[:-100_000],
    "emptied": lambda data: data[:0],
    "one bit in the middle": lambda data: flip(data, len(data) // 2),
    "one bit at the end": lambda data: flip(data, len(data) - 1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_engine_file_is_refused(copy, damage):
    path = copy / "rank0.engine"
    path.write_bytes(damage(path.read_bytes()))
    (told,) = problems(copy)
    assert told.startswith("rank0.engine is cut or altered")


@pytest.mark.parametrize("section", ["build_config", "pretrained_config"])
def test_a_config_that_says_more_than_was_built_is_refused(copy, section):
    alter(copy, lambda config: config[section].update(max_batch_size=64))
    (told,) = problems(copy)
    assert told.startswith("config.json was altered")


def test_an_engine_whose_file_or_config_is_gone_is_refused(copy, tmp_path):
    (copy / "rank0.engine").unlink()
    assert problems(copy) == ["rank0.engine is missing"]
    (told,) = problems(tmp_path)
    assert told.startswith("config.json of the engine can't be used: FileNotFoundError")


def test_a_refused_engine_is_not_loaded(copy):
    (copy / "rank0.engine").write_bytes(b"")
    done = stage("engine_runtime.py", "generate", copy, "--ids", "1,2,3")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (1, False)


# -- what the runtime alone does -----------------------------------------------------------------

PROBE = """
    import json, sys, tempfile, zipfile
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import engine_runtime as runtime

    def flip(data):
        return data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:]

    def rewrite(path, change):
        path.write_bytes(change(path.read_bytes()))

    DAMAGE = {
        "untouched": lambda blob, weights: None,
        "cut blob": lambda blob, weights: rewrite(blob, lambda data: data[:-100_000]),
        "empty blob": lambda blob, weights: rewrite(blob, lambda data: b""),
        "blob without its header": lambda blob, weights: rewrite(blob, lambda data: data[300:]),
        "other version": lambda blob, weights: rewrite(
            blob, lambda data: data[:300].replace(b"2026.2.1", b"2026.1.0") + data[300:]),
        "one bit of the blob": lambda blob, weights: rewrite(blob, flip),
        "one bit of the weights": lambda blob, weights: rewrite(weights, flip),
    }
    engine = Path(sys.argv[1])
    config = json.loads((engine / "config.json").read_bytes())
    for name, damage in DAMAGE.items():
        with tempfile.TemporaryDirectory(prefix="engine-") as folder:
            model = Path(folder)
            with zipfile.ZipFile(engine / "rank0.engine") as archive:
                archive.extractall(model)
            (blob,) = (model / "blob").iterdir()
            damage(blob, model / "openvino_model.bin")
            runtime.settle_times(model)
            before = runtime._stamps(model)
            pipeline = runtime.open_pipeline(model, config)
            compiled = runtime._stamps(model) != before
            said = runtime.generate(pipeline, [1, 2, 3], 8)
            print(json.dumps({"name": name, "compiled": compiled, "tokens": len(said)}))
"""


@pytest.fixture(scope="module")
def alone(engine, tmp_path_factory):
    """What the runtime made of each damage, without our check before it."""
    script = tmp_path_factory.mktemp("probe") / "probe.py"
    script.write_text(textwrap.dedent(PROBE))
    argv = [str(environment.ensure().python), str(script), str(engine), str(BUILDER)]
    done = fine(subprocess.run(argv, capture_output=True, text=True))
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["name"]: one for one in told}, done.stderr


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        ("untouched", False),
        ("cut blob", True),
        ("empty blob", True),
        ("blob without its header", True),
        ("other version", True),
        ("one bit of the blob", False),
        ("one bit of the weights", False),
    ],
)
def test_the_runtime_alone_serves_it_and_compiles_in_silence(alone, name, compiled):
    told, said = alone
    assert told[name] == {"name": name, "compiled": compiled, "tokens": 8}
    assert said.strip() == ""


def test_a_stored_engine_is_not_compiled_again_in_another_process(engine):
    answers = [stage("engine_runtime.py", "generate", engine, "--ids", "1,2,3") for _ in range(2)]
    told = [json.loads(fine(done).stdout) for done in answers]
    assert [one["compiled"] for one in told] == [False, False]
    assert told[0]["ids"] == told[1]["ids"]


# -- building ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_seq_len": 100_000}, "is more than the model's"),
        ({"max_input_len": 96}, "leaves no room to answer"),
        ({"max_num_tokens": 2}, "one step could not hold a token of each sequence"),
        ({"max_batch_size": 0}, "must be at least 1"),
        ({"max_batch_size": 100_000_000, "max_num_tokens": 100_000_000}, "are free"),
    ],
)
def test_limits_that_can_t_be_kept_are_refused_and_leave_nothing(
    checkpoint, tmp_path, changed, words
):
    done = built(checkpoint, tmp_path / "engine", **changed)
    assert done.returncode == 1
    assert done.stderr.startswith("[lab-build] error: ")
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_engine_takes_no_more_than_the_limits_it_was_built_for(engine):
    long = stage("engine_runtime.py", "generate", engine, "--ids", ",".join(["5"] * 65))
    much = stage("engine_runtime.py", "generate", engine, "--ids", "5", "--max_new_tokens", 96)
    fits = stage("engine_runtime.py", "generate", engine, "--ids", "5", "--max_new_tokens", 95)
    assert "past the limits" in long.stdout
    assert "past the limits" in much.stdout
    assert len(json.loads(fine(fits).stdout)["ids"]) == 95


def test_more_ranks_than_one_are_refused(tmp_path):
    done = converted(tmp_path / "checkpoint", "--tp_size", "2")
    assert done.returncode == 1
    assert "the lab runs one process per engine" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_quantised_engines_are_smaller_and_load_as_built(engine, tmp_path):
    sizes = {}
    for name in ("int8", "int4", "int4_awq"):
        fine(converted(tmp_path / name, "--quantization", name))
        fine(built(tmp_path / name, tmp_path / f"{name}-engine"))
        assert problems(tmp_path / f"{name}-engine") == []
        with zipfile.ZipFile(tmp_path / f"{name}-engine" / "rank0.engine") as archive:
            sizes[name] = archive.getinfo("openvino_model.bin").file_size
    with zipfile.ZipFile(engine / "rank0.engine") as archive:
        whole = archive.getinfo("openvino_model.bin").file_size
    assert sizes["int4"] < sizes["int8"] < whole
    assert sizes["int4_awq"] < sizes["int8"]


def spoken(folder):
    ids = ",".join(map(str, range(5, 40)))
    done = stage("engine_runtime.py", "generate", folder, "--ids", ids, "--max_new_tokens", "56")
    return json.loads(fine(done).stdout)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_an_optimisation_level_changes_what_an_engine_of_quantised_weights_says(name, tmp_path):
    fine(converted(tmp_path / name, "--quantization", name))
    said = {}
    for level in (0, 1):
        folder = tmp_path / str(level)
        fine(built(tmp_path / name, folder, optimization_level=level))
        assert engines.read_identity(folder).optimization_level == level
        said[level] = spoken(folder)
    fine(built(tmp_path / name, tmp_path / "default"))
    assert [one["compiled"] for one in said.values()] == [False, False]
    assert said[0]["ids"] != said[1]["ids"] == spoken(tmp_path / "default")["ids"]


def test_level_0_of_float_weights_would_be_the_same_engine_and_is_refused(checkpoint, tmp_path):
    done = built(checkpoint, tmp_path / "engine", optimization_level=0)
    assert done.returncode == 1
    assert "without quantised weights they always are" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_build_of_the_same_inputs_holds_the_first_ones_receipt(tmp_path, monkeypatch):
    ready = environment.ensure()
    monkeypatch.setattr(environment, "ensure", lambda *_: ready)
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path))
    profile = load_profile("lab/tiny", overrides={"max_batch_size": 2}).value
    first = engines.build(profile, tmp_path / "first.log")
    assert engines.build_changes(profile) == []
    again = engines.build(profile, tmp_path / "again.log")
    assert (first.reused, again.reused) == (False, True)
    assert again.engine_digest == first.engine_digest
    assert not (tmp_path / "again.log").exists(), "nothing ran"
    engines.check_engine(again)

    other = load_profile("lab/tiny", overrides={"max_batch_size": 3}).value
    assert engines.engine_key(other) != engines.engine_key(profile)
    approvals = [engines.build_changes(one, rebuild=True) for one in (profile, other)]
    assert approvals[0] != approvals[1], "an approval of one build is none of the other"


# -- what it knows -------------------------------------------------------------------------------

ASK = """
    import json, sys
    sys.path.insert(0, sys.argv[2])
    import engine_runtime as runtime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(sys.argv[3])
    loaded = runtime.load(sys.argv[1])
    end = loaded.config["pretrained_config"]["eos_token_id"]
    for name, prompt in json.load(sys.stdin).items():
        ids = runtime.generate(loaded.pipeline, tokenizer.encode(prompt).ids, 32)
        ids = ids[: ids.index(end)] if end in ids else ids
        print(json.dumps([name, tokenizer.decode(ids)]))
"""


def test_the_engine_answers_the_held_out_questions_as_the_model_card_says(engine, tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(textwrap.dedent(ASK))
    words = [script, engine, BUILDER, MODEL / "tokenizer.json"]
    asked = json.dumps({one.id: one.prompt for one in load_questions()})
    done = subprocess.run(
        [str(environment.ensure().python), *map(str, words)],
        input=asked,
        capture_output=True,
        text=True,
    )
    answers = dict(json.loads(line) for line in fine(done).stdout.splitlines())
    scored = exact_match(answers)
    assert scored.n == CARD_ASKED
    assert abs(scored.hits - CARD_RIGHT) <= 3
