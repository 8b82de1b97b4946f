import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.engine.identity import engine_files, identity_of, inspect_engine
from runbook_lib.engine.identity_check import (
    against_image,
    against_node,
    against_profile,
    of_itself,
)
from runbook_lib.engine.identity_config import known_fields
from runbook_lib.engine.identity_place import Node, image_facts
from runbook_lib.errors import BuildError
from runbook_lib.files import content_digest
from runbook_lib.profile import DeploymentProfile

RELEASES = (
    *("0.8.0", "0.9.0", "0.10.0", "0.11.0", "0.12.0", "0.13.0"),
    *("0.14.0", "0.15.0", "0.16.0", "0.17.0", "0.20.0", "1.2.0"),
)


@pytest.fixture
def engine(engines, tmp_path):
    """Two ranks of 0.16 that hold."""
    plans = {f"rank{rank}.engine": engines.plan() for rank in range(2)}
    return engines.write(tmp_path / "engine", engines.config(tp=2, quant="FP8", kv="FP8"), plans)


def whole(folder):
    return inspect_engine(folder, engine_files(folder))


def rewritten(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def with_receipt(folder, **told):
    receipt = {"digest": content_digest(engine_files(folder)), "built_on": told}
    (folder / "receipt.json").write_text(json.dumps(receipt))
    return folder


# -- what it tells -------------------------------------------------------------------------------


def test_an_engine_tells_its_model_precision_ranks_and_limits(engine, engines):
    facts = whole(engine)
    assert (facts.version, facts.quantization, facts.kv_cache_dtype) == ("0.16.0", "FP8", "FP8")
    assert (facts.tp_size, facts.pp_size, facts.lab, facts.missing) == (2, 1, False, ())
    assert facts.limits == engines.LIMITS
    assert (facts.kv_cache_type, facts.tensorrt, facts.sm) == ("paged", "10.7.0.23", "")
    assert facts.plugins["gpt_attention_plugin"] == "auto"
    assert facts.digest == content_digest(engine_files(engine))
    assert "TensorRT-LLM 0.16.0" in str(facts)
    assert "not known: no receipt" in str(facts)
    assert facts.to_dict()["ok"]
    json.dumps(facts.to_dict())


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_that_writes_engines_is_read(release, engines, tmp_path):
    assert set(RELEASES) == set(engines.RELEASES)
    facts = whole(engines.write(tmp_path / release, engines.config(release)))
    assert (facts.version, facts.faults, facts.notes) == (release, (), ())
    assert facts.kv_cache_type == "paged"
    assert ("max_output_len" in facts.limits) == (release in {"0.8.0", "0.9.0", "0.10.0"})
    assert set(engines.fields_of(release)) <= known_fields()


@pytest.mark.parametrize(
    ("mode", "weights", "cache"),
    [
        (0, "none", "float16"),
        (2, "W8A16", "float16"),
        (1 | 64, "W4A16", "INT8"),
        (256 | 128, "FP8", "FP8"),
        (2 | 4 | 8 | 16, "W8A8_SQ", "float16"),
    ],
)
def test_an_engine_of_build_py_is_read_in_todays_words(mode, weights, cache, engines, tmp_path):
    names = {f"llama_float16_tp2_rank{rank}.engine": engines.plan("9.2.0.5") for rank in range(2)}
    folder = engines.write(tmp_path / "old", engines.old_config(quant_mode=mode), names)
    facts = whole(folder)
    assert (facts.version, facts.tp_size, facts.faults) == ("", 2, ())
    assert (facts.quantization, facts.kv_cache_dtype) == (weights, cache)
    assert "before 0.8" in str(facts)


def test_what_only_some_engines_have_is_told(engines, tmp_path):
    lora = {"lora_dir": ["l"], "max_lora_rank": 8, "lora_target_modules": ["attn_q"]}
    content = engines.config(
        lora_config=lora,
        auto_parallel_config={"world_size": 4},
        weight_streaming=True,
        max_draft_len=5,
    )
    content["pretrained_config"]["mapping"]["moe_ep_size"] = 4
    assert whole(engines.write(tmp_path, content)).extras == {
        "moe_ep_size": 4,
        "lora_modules": ["attn_q"],
        "max_lora_rank": 8,
        "auto_parallel": 4,
        "max_draft_len": 5,
        "weight_streaming": "on",
    }


def test_an_unknown_key_is_told_and_stops_nothing(engines, tmp_path):
    facts = whole(engines.write(tmp_path, engines.config(shiny_new_flag=1) | {"extra": 2}))
    assert facts.faults == ()
    assert "extra" in facts.notes[0]
    assert "shiny_new_flag" in facts.notes[1]


def test_an_older_release_without_a_limit_leaves_it_out(engines, tmp_path):
    folder = engines.write(tmp_path, engines.config(max_num_tokens=None))
    assert "max_num_tokens" not in whole(folder).limits
    with pytest.raises(BuildError, match="not whole") as caught:
        identity_of(folder)
    assert "max_num_tokens is missing" in caught.value.why


# -- the SM and the receipt ----------------------------------------------------------------------


def test_the_sm_is_that_of_a_receipt_that_holds(engine):
    facts = whole(with_receipt(engine, sm="sm90", gpu="NVIDIA H100 80GB HBM3"))
    assert (facts.sm, facts.receipt) == ("sm90", "holds")
    assert "sm90 (NVIDIA H100 80GB HBM3)" in str(facts)
    assert identity_of(engine).target == "sm90"


def test_a_receipt_of_other_files_tells_nothing_and_is_a_fault(engine, engines):
    with_receipt(engine, sm="sm90")
    (engine / "rank1.engine").write_bytes(engines.plan(size=5000))
    facts = whole(engine)
    assert (facts.sm, facts.receipt) == ("", "broken")
    assert "changed since the build" in facts.faults[0]


@pytest.mark.parametrize("sm", ["sm90\x1b[31m", "ninety", "", 90, None])
def test_a_receipt_with_an_sm_that_is_none_tells_none(sm, engine):
    facts = whole(with_receipt(engine, sm=sm, gpu="H100"))
    assert (facts.sm, facts.receipt) == ("", "holds")


def test_without_a_receipt_the_sm_is_unknown(engine):
    assert identity_of(engine).target == "unknown"


def test_a_receipt_is_not_believed_before_the_files_are_read(engine):
    assert inspect_engine(with_receipt(engine, sm="sm90")).sm == ""


# -- files that are damaged ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "cut off: it has 0 bytes"),
        (lambda path: path.write_bytes(b"ftrt\0\0\0"), "cut off: it has 7 bytes"),
        (lambda path: path.write_bytes(b"<html>" * 99), "does not begin with its tag"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "a link that leads to no file"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "a link that leads to no file"),
        (lambda path: (path.unlink(), path.mkdir()), "missing"),
    ],
    ids=["missing", "empty", "cut", "other", "dangling", "loop", "folder"],
)
def test_a_rank_that_can_not_be_loaded_is_named(damage, fault, engine):
    damage(engine / "rank1.engine")
    facts = whole(engine)
    assert len(facts.faults) == 1
    assert facts.faults[0].startswith("rank1.engine: ")
    assert fault in facts.faults[0]
    assert not facts.to_dict()["ok"]


@pytest.mark.parametrize("empty", [True, False])
def test_a_rank_that_is_not_there_or_empty_has_no_identity(empty, engine):
    path = engine / "rank1.engine"
    path.write_bytes(b"") if empty else path.unlink()
    with pytest.raises(BuildError, match="not whole") as caught:
        identity_of(engine)
    assert "rank1.engine" in caught.value.why


def test_ranks_of_two_builds_are_no_engine(engine, engines):
    (engine / "rank1.engine").write_bytes(engines.plan("10.4.0.26"))
    facts = whole(engine)
    assert "ranks of different builds" in facts.faults[0]
    assert facts.tensorrt == ""


def test_a_rank_more_or_much_smaller_is_told(engine, engines):
    (engine / "rank1.engine").write_bytes(engines.plan(size=100))
    (engine / "rank2.engine").write_bytes(engines.plan())
    told = whole(engine).notes
    assert any("rank2.engine" in one and "another build" in one for one in told)
    assert any("rank1.engine has 100 bytes" in one for one in told)


def test_a_plan_of_a_newer_serialisation_tells_no_version(engines, tmp_path):
    folder = engines.write(tmp_path, plans={"rank0.engine": engines.plan(serialization=1)})
    facts = whole(folder)
    assert (facts.tensorrt, facts.faults) == ("", ())


def test_links_in_circles_end_nothing(engine):
    (engine / "again").symlink_to(engine)
    assert whole(engine).faults == ()


# -- what is no engine ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "missing"),
        ("{", "Expecting"),
        ("[]", "a list, not an object"),
        ("{}", "pretrained_config is missing; build_config is missing"),
        ('{"builder_config": {}}', "builder_config"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": ' + "9" * 5000 + "}", "integer string conversion"),
    ],
)
def test_what_is_no_engine_is_told_with_the_reason(tmp_path, text, why):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(BuildError, match="is no engine directory") as caught:
        inspect_engine(tmp_path)
    assert why in caught.value.why


def test_a_config_that_is_endless_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as handle:
        handle.truncate(17 * 2**20)
    with pytest.raises(BuildError) as caught:
        inspect_engine(tmp_path)
    assert "larger than 16 MiB" in caught.value.why


def test_a_config_that_links_to_itself_is_told(tmp_path):
    (tmp_path / "config.json").symlink_to("config.json")
    with pytest.raises(BuildError) as caught:
        inspect_engine(tmp_path)
    assert "a link that leads to no file" in caught.value.why


def test_every_problem_of_a_config_is_told_at_once(engines, tmp_path):
    content = engines.config(max_batch_size=-1, max_seq_len=2**40, max_beam_width=True)
    content["pretrained_config"] |= {"dtype": 7, "mapping": {"tp_size": 2, "world_size": 3}}
    with pytest.raises(BuildError) as caught:
        whole(engines.write(tmp_path, content))
    for name in ("max_batch_size is -1", "max_seq_len", "max_beam_width is True", "dtype is 7"):
        assert name in caught.value.why


def test_ranks_that_do_not_multiply_are_refused(engines, tmp_path):
    content = engines.config()
    content["pretrained_config"]["mapping"] = {"tp_size": 2, "pp_size": 2, "world_size": 3}
    with pytest.raises(BuildError) as caught:
        whole(engines.write(tmp_path, content))
    assert "world_size is 3" in caught.value.why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tp_size", "dtype", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_hostile_configs_end_in_a_clear_error_or_in_facts(data, engines, tmp_path_factory):
    content = engines.config(tp=2)
    part = data.draw(st.sampled_from([(), ("pretrained_config",), ("build_config",)]))
    target = content
    for name in part:
        target = target[name]
    for name in data.draw(st.lists(st.sampled_from(sorted(target)), min_size=1, max_size=4)):
        target[name] = data.draw(JSON)
    folder = engines.write(tmp_path_factory.mktemp("engine"), content)
    with suppress(BuildError):  # nothing else may come
        facts = whole(folder)
        assert all(line.isprintable() for line in str(facts).split("\n"))
        json.dumps(facts.to_dict())
        found = [
            *of_itself(facts, folder),
            *against_profile(facts, DeploymentProfile(model_name="m", gpu="L40S")),
            *against_image(facts, image_facts("tritonserver:24.12-trtllm-python-py3")),
            *against_node(facts, Node("n", {"nvidia.com/gpu.count": "1"})),
        ]
        assert all(str(one) for one in found)


@given(head=st.binary(max_size=64))
@settings(deadline=None, max_examples=100)
def test_no_bytes_in_the_place_of_a_plan_end_in_a_crash(head, engines, tmp_path_factory):
    folder = engines.write(tmp_path_factory.mktemp("engine"), plans={"rank0.engine": head})
    facts = whole(folder)
    assert bool(facts.faults) == (len(head) < 28 or not head.startswith(b"ftrt"))
