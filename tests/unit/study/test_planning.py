import json

import pytest

from runbook_lib.errors import PlanError, ProfileError
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.study import planning
from runbook_lib.study.planning import plan_profile


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path / "cache"))


def profile(name, **overrides):
    return load_profile(name, overrides=overrides).value


def built(monkeypatch, *seconds):
    monkeypatch.setattr(planning, "past_builds", lambda: list(seconds))


def test_a_profile_of_the_lab_is_planned_for_this_machine():
    made = plan_profile(profile("lab/tiny"))
    assert made.fits
    assert (made.track, made.device, made.profile) == ("lab", "this machine", "lab/tiny")
    assert 1e6 < made.parameters < 1e8
    assert made.device_bytes > 0
    assert [argv[1].rpartition("/")[2] for argv in made.commands] == [
        "convert_checkpoint.py",
        "build_engine.py",
    ]


def test_a_plan_has_one_digest_while_nothing_changes(monkeypatch, tmp_path):
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9 kB\nMemAvailable:    4000000 kB\n")
    monkeypatch.setattr(planning, "MEMORY", memory)
    first, second = plan_profile(profile("lab/tiny")), plan_profile(profile("lab/tiny"))
    assert first.digest() == second.digest()
    assert first.device_bytes == 4_096_000_000


def test_a_machine_that_does_not_tell_its_memory_is_not_planned_for(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\n")
    monkeypatch.setattr(planning, "MEMORY", tmp_path / "meminfo")
    with pytest.raises(PlanError, match="how much memory is free"):
        plan_profile(profile("lab/tiny"))


def test_no_build_time_is_foretold_before_the_first_build(monkeypatch):
    built(monkeypatch)
    made = plan_profile(profile("lab/tiny"))
    assert made.estimates == ()
    assert any("no build time is foretold" in note for note in made.notes)


def test_build_times_are_foretold_from_those_of_this_machine(monkeypatch):
    built(monkeypatch, 2.0, 3.0, 10.0)
    made = plan_profile(profile("lab/tiny"))
    one, several = made.estimates
    assert (one.value, one.low, one.high) == (3.0, 2.0, 10.0)
    assert (several.value, several.low, several.high) == (24.0, 16.0, 80.0)
    assert "n = 3 builds" in one.basis
    assert "8 engines" in several.name
    assert not any("foretold" in note for note in made.notes)


def test_a_model_that_is_known_by_name_is_planned_without_its_weights():
    made = plan_profile(profile("llama-7b"))
    assert (made.track, made.parameters) == ("engine", 6_738_415_616)
    assert [one.name for one in made.estimates] == [
        "build of the engine",
        "host memory of the build",
    ]
    assert any("trtllm-build" in argv[0] for argv in made.commands)


def test_without_a_gpu_the_plan_says_which_it_took():
    unnamed = profile("llama-7b").model_copy(update={"gpu": None})
    made = plan_profile(unnamed)
    assert planning.DEFAULT_GPU in made.device
    assert any(f"planned for {planning.DEFAULT_GPU}" in note for note in made.notes)


def test_with_a_gpu_nothing_is_assumed():
    made = plan_profile(profile("llama-7b", gpu="A100-SXM-40GB"))
    assert "A100" in made.device
    assert not any("names no GPU" in note for note in made.notes)


def test_a_gpu_that_is_too_small_does_not_fit():
    assert not plan_profile(profile("llama-7b", gpu="A100-SXM-40GB:1g.5gb")).fits


def test_an_unknown_gpu_is_refused():
    with pytest.raises(ProfileError, match="H1000"):
        plan_profile(profile("llama-7b", gpu="H1000"))


def test_an_unknown_model_is_refused_with_the_known_names():
    with pytest.raises(PlanError, match="no-such-model") as caught:
        plan_profile(DeploymentProfile(model_name="no-such-model"))
    assert "Known by name" in caught.value.why


def test_weights_at_hand_are_read_instead_of_the_name(tmp_path):
    config = planning.known_config("llama-2-7b") | {"num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    mine = profile("llama-7b", weights=str(tmp_path))
    assert plan_profile(mine).parameters < plan_profile(profile("llama-7b")).parameters


@pytest.mark.parametrize("content", ["", "[1]", "3", "{", "[" * 200_000, "9" * 5000, "\x00"])
def test_a_config_that_is_none_is_refused_by_its_path(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    mine = DeploymentProfile(model_name="mine", weights=str(tmp_path))
    with pytest.raises(PlanError, match=r"config\.json"):
        plan_profile(mine)


def test_a_lab_profile_without_its_weights_is_refused(tmp_path):
    mine = DeploymentProfile(track="lab", model_name="mine", weights=str(tmp_path / "none"))
    with pytest.raises(PlanError, match=r"config\.json") as caught:
        plan_profile(mine)
    assert "FileNotFoundError" in caught.value.why


def test_the_llmapi_track_is_planned_with_its_own_commands():
    made = plan_profile(profile("llama-7b", track="llmapi"))
    assert made.commands[-1][:2] == ("trtllm-serve", "serve")
    assert not any("trtllm-build" in argv for argv in made.commands)
    for part in ("builder_flags have no effect", "run one of them"):
        assert any(part in note for note in made.notes)


def trace(folder, *rows, name="trace.csv"):
    path = folder / name
    path.write_text("input_len,output_len\n" + "".join(f"{a},{b}\n" for a, b in rows))
    return str(path)


def test_a_traffic_that_the_limits_refuse_does_not_fit_though_the_profile_runs(tmp_path):
    mine = profile("llama-7b")
    made = plan_profile(mine, traffic=trace(tmp_path, (100, 20), (5000, 10)))
    assert not made.fits
    assert made.traffic.refused == 0.5
    assert plan_profile(mine, traffic=trace(tmp_path, (100, 20), (4096, 10))).fits
    assert plan_profile(mine).traffic is None


def test_the_profiles_own_load_is_its_traffic():
    made = plan_profile(profile("lab/tiny"))
    assert (made.traffic.source, made.traffic.concurrency) == ("load/lab-closed", 4)
    assert "no prompt lengths" in made.traffic.notes[0]
    longer = plan_profile(profile("lab/tiny", max_output_len=40))
    assert not longer.fits  # the load asks for 48 tokens


def test_another_load_may_be_named():
    made = plan_profile(profile("llama-7b"), traffic="load/sustained")
    assert (made.traffic.requests, made.traffic.concurrency) == (500, 50)
    assert not made.fits  # 50 prompts of 4096 tokens have no room at once


@pytest.mark.parametrize(
    ("named", "kind"),
    [("no-such.csv", PlanError), ("no-such-load", ProfileError), ("lab/tiny", ProfileError)],
)
def test_a_traffic_that_is_not_there_is_refused(named, kind):
    with pytest.raises(kind):
        plan_profile(profile("llama-7b"), traffic=named)


def test_a_traffic_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="can't be read") as caught:
        plan_profile(profile("llama-7b"), traffic=str(tmp_path / "t.csv"))
    assert "UTF-8" in caught.value.fix


@pytest.mark.parametrize(
    ("model", "family", "fits"),
    [
        ("qwen2.5-7b", "llama", False),
        ("llama-3.1-8b", "qwen2", False),
        ("mixtral-8x7b", "mistral", False),
        ("qwen2.5-7b", "qwen2", True),
        ("mistral-7b", "llama", True),
    ],
)
def test_a_model_of_another_family_than_the_profiles_is_refused(model, family, fits):
    mine = DeploymentProfile(
        model_name=model, model_family=family, trtllm_version="1.2.1", max_num_tokens=8192
    )
    if fits:
        assert plan_profile(mine).commands
        return
    with pytest.raises(PlanError, match=f"no model of the family {family}"):
        plan_profile(mine)


def test_a_builder_of_the_profiles_own_is_planned_with_its_commands():
    line = "trtllm-build --model {weights} --dtype {dtype} --max_batch_size {max_batch_size}"
    made = plan_profile(profile("llama-7b", builder_cmd=line))
    steps = [argv[0] for argv in made.commands]
    assert steps[:2] == ["python3", "trtllm-build"]
    assert any("launch_triton_server" in " ".join(argv) for argv in made.commands)
    assert any(note.startswith("--dtype float16") for note in made.notes)
    made = plan_profile(profile("llama-7b", builder_cmd="mine {output_dir}"))
    assert made.commands[0] == ("mine", "WORK/engine")
    assert any("run as it stands" in note for note in made.notes)


def test_a_price_tells_the_cost_and_without_one_there_is_none():
    names = [one.name for one in plan_profile(profile("llama-7b"), price_per_hour=2.5).estimates]
    assert "cost of the build" in names
    assert not any("cost" in one.name for one in plan_profile(profile("llama-7b")).estimates)


@pytest.mark.parametrize("price", [0.0, -1.0, float("inf"), float("nan")])
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(PlanError, match="no price"):
        plan_profile(profile("llama-7b"), price_per_hour=price)


def test_a_preset_changes_the_profile_that_is_planned_and_tells_why():
    mine = profile("llama-7b", gpu="H100-SXM-80GB")
    made = plan_profile(mine, preset="low-latency")
    assert made.limits.max_batch_size == 32
    assert {one.field: one.value for one in made.choices}["dtype"] == "bfloat16"
    assert all(one.reason for one in made.choices)
    assert made.profile_digest != plan_profile(mine).profile_digest
    assert any("--dtype bfloat16" in " ".join(argv) for argv in made.commands)


def test_a_preset_of_two_gpus_is_planned_on_two():
    made = plan_profile(profile("llama-7b", gpu="H100-SXM-80GB"), preset="throughput")
    assert made.tensor_parallel_size == 2
    assert any("one pod on a node" in note for note in made.notes)


def test_tight_shapes_are_those_of_the_traffic(tmp_path):
    rows = [(100 + n % 50, 20) for n in range(999)] + [(900, 30)]
    mine = profile("llama-7b", gpu="H100-SXM-80GB")
    made = plan_profile(mine, traffic=trace(tmp_path, *rows), preset="tight-shapes")
    assert (made.limits.max_input_len, made.limits.max_seq_len) == (149, 169)
    with pytest.raises(PlanError, match="traffic"):
        plan_profile(mine, preset="tight-shapes")


def test_a_speed_is_estimated_at_the_traffics_lengths_and_tells_the_cost_of_tokens(tmp_path):
    mine = profile("llama-7b", gpu="H100-SXM-80GB")
    named = trace(tmp_path, (1000, 100), (2000, 300))
    made = plan_profile(mine, traffic=named, price_per_hour=3.0)
    assert (made.speed.input_len, made.speed.output_len) == (1500, 200)
    assert made.speed.batch == min(64, made.traffic.sequences)
    assert made.speed.throughput.low < made.speed.throughput.value < made.speed.throughput.high
    (cost,) = (one for one in made.estimates if one.name == "a million output tokens")
    assert cost.value == pytest.approx(3 / 3600 * 1e6 / made.speed.throughput.value, rel=1e-3)
    assert cost.low < cost.value < cost.high


def test_without_a_traffic_the_speed_is_that_of_the_longest_sequences():
    made = plan_profile(profile("llama-7b", gpu="H100-SXM-80GB"))
    assert (made.speed.input_len, made.speed.output_len) == (4096, 512)
    assert made.speed.batch == made.max_concurrent_sequences


def test_where_no_source_tells_the_speed_the_notes_do():
    made = plan_profile(profile("llama-7b", gpu="H100-NVL-94GB"), price_per_hour=3.0)
    assert made.fits
    assert made.speed is None
    assert any("can't be estimated" in note for note in made.notes)
    assert not any("million" in one.name for one in made.estimates)


def test_the_lab_is_measured_and_not_estimated():
    assert plan_profile(profile("lab/tiny")).speed is None
