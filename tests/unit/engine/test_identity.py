import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.engine.identity import inspect_engine
from runbook_lib.errors import BuildError

MODEL = {
    "architecture": "LlamaForCausalLM",
    "dtype": "float16",
    "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
    "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None},
}
BUILT = {
    "max_batch_size": 64,
    "max_input_len": 4096,
    "max_seq_len": 4608,
    "max_num_tokens": 8192,
    "max_beam_width": 1,
}
CONFIG = {"version": "0.16.0", "pretrained_config": MODEL, "build_config": BUILT}


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for rank in range(2):
        (tmp_path / f"rank{rank}.engine").touch()
    return tmp_path


def test_an_engine_tells_its_model_precision_ranks_and_limits(engine):
    facts = inspect_engine(engine)
    assert (facts.version, facts.quantization, facts.kv_cache_dtype) == ("0.16.0", "FP8", "float16")
    assert (facts.tp_size, facts.pp_size, facts.lab, facts.missing) == (2, 1, False, ())
    assert facts.limits == BUILT
    assert "TensorRT-LLM 0.16.0" in str(facts)
    assert facts.to_dict()["ok"]


def test_a_rank_that_is_not_there_is_named(engine):
    (engine / "rank1.engine").unlink()
    facts = inspect_engine(engine)
    assert facts.missing == ("rank1.engine",)
    assert "rank1.engine" in str(facts)
    assert not facts.to_dict()["ok"]


def test_an_older_release_without_a_limit_leaves_it_out(engine):
    built = {name: value for name, value in BUILT.items() if name != "max_num_tokens"}
    (engine / "config.json").write_text(json.dumps(CONFIG | {"build_config": built}))
    assert "max_num_tokens" not in inspect_engine(engine).limits


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "missing"),
        ("{", "Expecting"),
        ("[]", "list indices"),
        ('{"builder_config": {}}', "'pretrained_config' is missing"),
        (json.dumps(CONFIG | {"pretrained_config": {**MODEL, "mapping": 3}}), "not subscriptable"),
    ],
)
def test_what_is_no_engine_is_told_with_the_reason(tmp_path, text, why):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(BuildError, match="is no engine directory") as caught:
        inspect_engine(tmp_path)
    assert why in caught.value.why


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=3))
def test_no_json_in_the_place_of_a_part_gets_past_the_error(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("engine")
    for name in ("pretrained_config", "build_config"):
        (folder / "config.json").write_text(json.dumps(CONFIG | {name: part}))
        with pytest.raises(BuildError):
            inspect_engine(folder)
