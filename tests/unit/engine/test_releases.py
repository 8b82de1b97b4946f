from __future__ import annotations

import json
from pathlib import Path

import pytest

from runbook_lib.engine.releases import VERSIONS, moves, release, version_key
from runbook_lib.errors import PlanError

READ_FROM_1_2_1 = json.loads(
    (Path(__file__).resolve().parents[2] / "data/trtllm/flags-1.2.1.json").read_text("utf-8")
)
BASES = {"exact", "near-exact", "derived", "inferred-strong", "inferred"}


def test_every_release_of_the_engine_track_is_known_in_order():
    assert (VERSIONS[0], VERSIONS[-1], len(VERSIONS)) == ("0.12.0", "1.2.1", 16)
    assert sorted(VERSIONS, key=version_key) == list(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_record_says_where_it_was_read_and_how_near_that_is(version, recorded):
    for tool in recorded.data["tools"].values():
        if version not in tool:
            assert version_key(version) < version_key(next(iter(tool)))
            continue
        assert tool[version]["basis"] in BASES
        assert tool[version]["source"]
    assert recorded.data["templates"][version]["basis"] in BASES
    assert all(one["source"] for one in recorded.data["moves"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_library_reads_the_record_as_it_stands(version, recorded):
    found = release(version)
    for tool, about in found.tools.items():
        flags = recorded.flags[version, tool]
        assert set(about.flags) == set(flags), tool
        for name, flag in about.flags.items():
            assert list(flag.choices) == flags[name].get("choices", []), (tool, name)
            assert flag.default == flags[name].get("default"), (tool, name)
    for model, about in found.templates.items():
        assert about.names == set(recorded.templates[version][model]["names"])
        assert about.mandatory <= about.names


@pytest.mark.parametrize("tool", ["trtllm-build", "llama", "phi", "quantize"])
def test_the_record_of_1_2_1_is_what_was_read_from_its_sources(tool):
    flags = release("1.2.1").tools[tool].flags
    assert set(flags) == set(READ_FROM_1_2_1[tool])
    for name, read in READ_FROM_1_2_1[tool].items():
        choices = [one for one in read.get("choices") or [] if one is not None]
        assert list(flags[name].choices) == choices, name
        assert list(flags[name].aliases) == read.get("aliases", []), name
        assert (flags[name].type == "switch") == (read.get("action") == "store_true"), name


def test_the_flags_that_moved_are_those_of_the_release_notes():
    present = {
        version: {
            name
            for name in ("--builder_opt", "--kv_cache_type", "--enable_xqa", "--auto_parallel")
            if release(version).build.name_of(name)
        }
        for version in ("0.12.0", "0.13.0", "0.14.0", "0.16.0", "1.2.0")
    }
    assert present == {
        "0.12.0": {"--builder_opt", "--enable_xqa", "--auto_parallel"},
        "0.13.0": {"--builder_opt", "--kv_cache_type", "--enable_xqa", "--auto_parallel"},
        "0.14.0": {"--kv_cache_type", "--enable_xqa", "--auto_parallel"},
        "0.16.0": {"--kv_cache_type", "--auto_parallel"},
        "1.2.0": {"--kv_cache_type"},
    }
    for version in VERSIONS:
        flags = release(version).build.flags
        assert not {"--max_output_len", "--tp_size", "--dtype", "--kv_cache_dtype"} & set(flags)


def test_what_is_gone_by_the_record_is_gone_for_the_library():
    for one in moves("0.5.0", VERSIONS[-1]):
        if one.tool == "trtllm-build" and one.what.startswith("removed"):
            assert release(VERSIONS[-1]).build.name_of(one.flag) is None, one


def test_moves_are_told_between_two_releases_only():
    told = {(one.flag, one.release) for one in moves("0.13.0", "0.15.0")}
    assert ("--builder_opt", "0.14.0") in told
    assert ("--paged_kv_cache", "0.13.0") not in told
    assert moves("1.2.0", "1.2.1") == []
    assert "0.14.0" in str(next(one for one in moves("0.13.0", "0.14.0")))


@pytest.mark.parametrize(
    ("version", "what", "fix"),
    [
        ("1.3.0rc21", "builds no engines", "track llmapi"),
        ("1.3.0", "builds no engines", "1.2.1"),
        ("9.9", "9.9 is not known here", "track llmapi"),
        ("1.3.0rc20", "is not known here", "nearest known release is 1.2.1"),
        ("0.18.3", "is not known here", "nearest known release is 0.18.2"),
        ("0.11.0", "is not known here", "nearest known release is 0.12.0"),
        ("0.22.0", "is not known here", "nearest known release is 1.0.0"),
        ("newest", "is no TensorRT-LLM release", "1.2.1"),
    ],
)
def test_a_release_that_is_not_known_names_the_nearest_that_is(version, what, fix):
    with pytest.raises(PlanError) as caught:
        release(version)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_candidate_is_told_to_be_deprecated():
    with pytest.raises(PlanError) as caught:
        release("1.3.0rc1")
    assert "deprecated" in caught.value.why


def test_a_patch_that_is_not_said_is_the_first():
    assert release("0.12").version == "0.12.0"


def test_a_value_is_judged_as_the_tool_would():
    flags = release("1.2.1").build.flags
    assert flags["--fast_build"].problem(None) == ""
    assert "no value" in flags["--fast_build"].problem("enable")
    assert "needs a value" in flags["--max_batch_size"].problem(None)
    assert "a number" in flags["--max_batch_size"].problem("many")
    assert "takes enable, disable" in flags["--context_fmha"].problem("on")
    assert flags["--gemm_plugin"].problem("nvfp4") == ""
    precision = release("1.2.1").tools["llama"].flags["--weight_only_precision"]
    assert precision.problem(None) == ""
