from __future__ import annotations

import itertools

import pytest

from runbook_lib.engine.commands import commands
from runbook_lib.engine.differences import difference
from runbook_lib.engine.explanations import explain
from runbook_lib.engine.releases import VERSIONS
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile


def profile(**fields):
    return DeploymentProfile(model_name="m", **fields)


def changed(found, name):
    return [(one.kind, one.what) for one in found.changes if one.name == name]


def test_an_upgrade_tells_what_is_added_gone_and_different():
    found = difference("0.13.0", "0.14.0")
    assert changed(found, "--builder_opt") == [("gone", "")]
    assert changed(found, "--max_batch_size") == [("changed", "default 256 → 2048")]
    assert {one.flag for one in found.moved} == {"--builder_opt", "--max_batch_size"}
    assert "removed" in str(found)


def test_a_step_back_tells_the_same_the_other_way_round():
    forth, back = difference("0.12.0", "0.16.0"), difference("0.16.0", "0.12.0")
    added = {(one.where, one.name) for one in forth.changes if one.kind == "added"}
    gone = {(one.where, one.name) for one in back.changes if one.kind == "gone"}
    assert added == gone
    assert forth.moved == back.moved


def test_templates_and_places_are_part_of_an_upgrade():
    found = difference("0.16.0", "0.20.0")
    assert ("added", "must be filled") in changed(found, "logits_datatype")
    assert changed(found, "visual_model_path") == [("gone", "")]
    assert any(one.where == "scripts" and "models/core" in one.what for one in found.changes)


def test_a_guess_is_told_and_never_shown_as_a_change_of_a_default():
    found = difference("0.17.0", "0.20.0")
    assert any("no source of 0.20.0" in note for note in found.notes)
    assert not any("unset" in one.what for one in found.changes if one.where in {"llama", "phi"})


def test_with_a_profile_its_commands_are_compared():
    found = difference("0.12.0", "0.13.0", profile())
    lines = [one for one in found.commands if one[0] in "+-"]
    assert "-trtllm-build: --paged_kv_cache enable" in lines
    assert "+trtllm-build: --kv_cache_type paged" in lines
    assert difference("1.2.0", "1.2.1", profile()).commands == ()
    assert "stay as they are" in str(difference("1.2.0", "1.2.1", profile()))
    filled = difference("0.16.0", "0.17.0", profile()).commands
    assert "+fill_templates: ensemble logits_datatype:TYPE_FP32" in filled


def test_a_profile_that_one_release_refuses_is_compared_too():
    found = difference("0.13.0", "0.14.0", profile(optimization_level=3, trtllm_version="0.13.0"))
    assert any("refused: optimization_level" in one for one in found.commands)


def test_the_same_release_has_no_difference():
    found = difference("1.0.0", "1.0.0", profile())
    assert (found.changes, found.moved, found.notes, found.commands) == ((), (), (), ())
    assert found.to_dict()["commands"] == []
    assert "commands" not in difference("1.0.0", "1.0.0").to_dict()


def test_a_release_that_is_not_known_has_no_difference():
    with pytest.raises(PlanError, match="is not known here"):
        difference("0.12.0", "9.9")
    with pytest.raises(PlanError, match="has no llmapi track"):
        difference("0.12.0", "1.3.0rc21", DeploymentProfile(model_name="m", track="llmapi"))


@pytest.mark.parametrize("way", [1, -1])
def test_releases_on_either_side_of_the_end_of_the_engine_track_are_compared_too(way):
    found = difference(*("0.16.0", "1.3.0rc21")[::way], profile())
    kinds = {one.name: one.kind for one in found.changes}
    ways = ("gone", "added")[::way]
    assert (kinds["trtllm-build"], kinds["trtllm-serve"]) == ways
    assert any("builds no engines" in note for note in found.notes)
    signs = {"gone": "-", "added": "+"}
    assert any(one.startswith(f"{signs[ways[0]]}trtllm-build:") for one in found.commands)
    assert any(one.startswith(f"{signs[ways[1]]}serve: trtllm-serve") for one in found.commands)
    assert "builds no engines" in str(found)


def test_the_loss_of_the_engine_track_is_told_with_what_stays():
    found = difference("1.2.1", "1.3.0rc21")
    assert any("builds no engines" in note and "track llmapi" in note for note in found.notes)
    assert ("changed", "no longer takes tensorrt") in changed(found, "--backend")
    assert found.moved == ()
    found = difference("1.2.1", "1.3.0rc21", profile())
    assert any(one.startswith("-trtllm-build:") for one in found.commands)
    assert any(one.startswith("+serve: trtllm-serve serve") for one in found.commands)
    asked = profile(builder_flags={"use_gemm_plugin": False})
    found = difference("1.2.1", "1.3.0rc21", asked)
    assert any("refused: " in one and "leave them out" in one for one in found.commands)


def test_a_profile_of_the_llmapi_track_is_compared_on_its_track():
    wish = DeploymentProfile(model_name="m", track="llmapi", quantization="fp8")
    found = difference("1.0.0", "1.1.0", wish)
    assert {one.where for one in found.changes} <= {"trtllm-serve", "model.yaml", "scripts"}
    assert changed(found, "ModelOpt") == [("changed", "0.33.0 → 0.37.0")]
    tags = [one for one in found.commands if "--branch" in one]
    assert sorted(one[0] for one in tags) == ["+", "+", "-", "-"]
    lines = difference("1.2.1", "1.3.0rc23", wish).commands
    assert not any("max_batch_size" in one for one in lines)


def test_a_file_that_a_command_writes_is_compared_line_by_line():
    wish = DeploymentProfile(model_name="m", track="llmapi", model_family="gpt_oss", dtype="bf16")
    lines = difference("1.2.1", "1.3.0rc21", wish).commands
    assert "-write_model_yaml:   enable_block_reuse: false" in lines
    assert "+write_model_yaml:   enable_block_reuse: true" in lines


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(VERSIONS)))
def test_every_upgrade_can_be_told(before, after):
    assert str(difference(before, after, profile()))


# -- explained ---------------------------------------------------------------------------------------

WISHES = (
    {},
    {"quantization": "fp8", "kv_cache_dtype": "fp8"},
    {"quantization": "awq"},
    {"quantization": "int8_wo", "model_family": "phi"},
    {"quantization": "int8_wo", "model_family": "gemma"},
    {"model_family": "mixtral", "tensor_parallel_size": 2, "moe_expert_parallel_size": 2},
)


def explained(**fields):
    value = profile(**fields)
    made = commands(value, weights="/w", work="/build")
    return {one.command.step: one for one in explain(made, value)}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_flag_of_every_command_has_its_reason(version):
    for wish in WISHES:
        value = profile(trtllm_version=version, **wish)
        made = commands(value, weights="/w", work="/build")
        for one in explain(made, value):
            flags = {word for word in one.command.argv if word.startswith("--")}
            bare = {"--depth", "--shallow-submodules"}
            assert flags - bare <= {reason.name for reason in one.reasons}, one.command
            if one.command.step == "fill_templates":
                names = {pair.partition(":")[0] for pair in one.command.argv[-1].split(",")}
                assert names <= {reason.name for reason in one.reasons}


def test_what_is_new_in_a_release_is_told_beside_the_flag():
    build = explained(trtllm_version="0.13.0")["trtllm-build"]
    new = {one.name: one.changed for one in build.reasons if one.changed}
    assert new == {"--kv_cache_type": "added"}
    build = explained(trtllm_version="0.14.0")["trtllm-build"]
    assert "from 256 to 2048" in str(build)
    assert explained(trtllm_version="1.2.1")["trtllm-build"].to_dict()["why"][0]["changed"] == ""


def test_the_oldest_release_tells_what_came_with_it():
    build = explained(trtllm_version="0.12.0")["trtllm-build"]
    assert "replaced --max_output_len in 0.12" in str(build)
