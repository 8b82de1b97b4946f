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
    assert made.estimates == ()
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


@pytest.mark.parametrize("content", ["", "[1]", "3", "{"])
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


def test_the_llmapi_track_has_no_commands_and_says_so():
    mine = profile("llama-7b").model_copy(update={"track": "llmapi"})
    made = plan_profile(mine)
    assert made.commands == ()
    assert any("builds no engine" in note for note in made.notes)
