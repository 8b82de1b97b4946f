from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.artifacts_plan import Plan
from runbook_lib.errors import PlanError
from runbook_lib.hardware import device
from runbook_lib.plan.facts import DATA, FAMILIES, known_config, known_models, model_facts
from runbook_lib.plan.fit import plan
from runbook_lib.profile import DeploymentProfile

MIB = 2**20
ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = json.loads((ROOT / "tests/data/plan/published.json").read_text(encoding="utf-8"))
TINY_LLAMA = {  # TinyLlama-1.1B: 22 layers, 4 KV heads of 64
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}


def share(figure, published):
    return abs(figure - published) / published


@pytest.mark.parametrize("name", PUBLISHED["parameters"])
def test_a_model_has_the_number_of_parameters_that_its_basis_gives(name):
    """Rests on the public places that published.json names; the Hub itself was not read."""
    assert model_facts(known_config(name)).parameters == PUBLISHED["parameters"][name]


@pytest.mark.parametrize("name", PUBLISHED["stored"]["head"])
def test_a_total_with_a_tied_head_stored_too_is_the_model_and_its_head(name):
    facts = model_facts(known_config(name))
    assert facts.parameters + facts.embedding == PUBLISHED["stored"]["head"][name]


@pytest.mark.parametrize("name", PUBLISHED["stored"]["rotary"])
def test_a_total_with_rotary_buffers_is_the_model_and_64_values_a_layer(name):
    facts = model_facts(known_config(name))
    assert facts.parameters + 64 * facts.layers == PUBLISHED["stored"]["rotary"][name]


def test_each_number_and_each_config_says_in_which_places_it_was_read():
    """An empty basis says that it was not looked up."""
    configs = json.loads(DATA.read_text(encoding="utf-8"))
    bases = {name: one["basis"] for name, one in configs["models"].items()}
    for places, named in (
        (PUBLISHED["places"], PUBLISHED["basis"]),
        (configs["places"], bases),
    ):
        assert {place for basis in named.values() for place in basis} == set(places)
    assert PUBLISHED["basis"].keys() == PUBLISHED["parameters"].keys()
    assert [name for name, basis in bases.items() if not basis] == ["deepseek-r1"]


def test_every_model_known_by_name_has_a_published_number_but_those_that_share_a_config():
    alike = {"llama-3.3-70b", "deepseek-r1"}
    assert set(known_models()) - alike == set(PUBLISHED["parameters"])
    assert model_facts(known_config("deepseek-r1")) == model_facts(known_config("deepseek-v3"))


@pytest.mark.parametrize("name", PUBLISHED["active"])
def test_a_mixture_uses_as_many_parameters_for_a_token_as_its_makers_say(name):
    published, facts = PUBLISHED["active"][name], model_facts(known_config(name))
    active = facts.active_parameters - facts.embedding * published.get("without_embedding", False)
    assert share(active / 1e9, published["billions"]) < 0.03


def test_the_labs_model_has_as_many_parameters_as_its_file_holds():
    folder = ROOT / "runbook_lib/lab/model"
    with (folder / "model.safetensors").open("rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    held = 0
    for name, tensor in header.items():
        size = 1
        for side in tensor.get("shape", [0]):
            size *= side
        held += 0 if name == "__metadata__" else size
    assert (
        model_facts(json.loads((folder / "config.json").read_text(encoding="utf-8"))).parameters
        == held
    )


@pytest.mark.parametrize("log", PUBLISHED["kv_cache"], ids=lambda log: log["what"])
def test_kv_bytes_per_token_are_within_two_percent_of_those_that_servers_logged(log):
    facts = model_facts(known_config(log["model"]))
    size = log["tokens"] * facts.kv_bytes_per_token(log["kv_cache_dtype"], tp=log.get("tp", 1))
    assert share(size / 2**30, log["gib"]) < 0.02


@pytest.mark.parametrize("log", PUBLISHED["engines"], ids=lambda log: log["what"])
def test_weights_are_within_ten_percent_of_the_engines_that_servers_loaded(log):
    facts = model_facts(known_config(log["model"]))
    size = facts.weight_bytes(log["dtype"], log["quantization"], tp=log.get("tp", 1))
    assert share(size / MIB, log["mib"]) < 0.10


def test_a_tied_head_counts_once():
    tied = model_facts(TINY_LLAMA | {"tie_word_embeddings": True})
    assert model_facts(TINY_LLAMA).parameters - tied.parameters == 32000 * 2048


def test_ranks_share_layers_and_heads_but_keep_one_kv_head_each():
    facts = model_facts(LLAMA_3_8B)
    assert facts.kv_bytes_per_token("float16", tp=8) == 131_072 // 8
    assert facts.kv_bytes_per_token("float16", tp=16) == 131_072 // 8
    assert facts.kv_bytes_per_token("float16", pp=3) == 2 * 11 * 8 * 128 * 2
    assert facts.weight_bytes("float16", tp=2) < 0.6 * facts.weight_bytes("float16")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "4096"}, "hidden_size is '4096'"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"hidden_size": 2**40}, "hidden_size is"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_attention_heads": 33}, "can't be split into 33 heads"),
        ({"num_key_value_heads": 5}, "can't share 5 KV heads"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ({"sliding_window": -5}, "sliding_window is -5"),
        ({"sliding_window": 4, "layer_types": ["full_attention"]}, "no list of 22 kinds"),
        ({"sliding_window": 4, "layer_types": [7] * 22}, "layer_types has 7"),
        ({"quantization_config": {"quant_method": "magic"}}, "'magic', which has no known size"),
        ({"quantization_config": "fp8"}, "no known size"),
        ({"text_config": 7}, "text_config of this config.json is 7"),
        ({"architectures": []}, "It knows LlamaForCausalLM"),
        ({"architectures": [7]}, "It knows LlamaForCausalLM"),
        ({"architectures": "LlamaForCausalLM"}, "It knows LlamaForCausalLM"),
    ],
)
def test_an_odd_config_is_refused_with_its_key(change, told):
    with pytest.raises(PlanError) as caught:
        model_facts(TINY_LLAMA | change)
    assert told in str(caught.value)


def test_all_problems_of_a_config_are_told_at_once():
    with pytest.raises(PlanError) as caught:
        model_facts({"architectures": ["PhiForCausalLM"], "hidden_size": 0, "vocab_size": "x"})
    for key in ("hidden_size", "vocab_size", "num_hidden_layers", "max_position_embeddings"):
        assert key in caught.value.why


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(PlanError, match="not known here") as caught:
        known_config("llama2-7b")
    assert "llama-2-7b" in caught.value.fix
    assert "config.json" in caught.value.fix


def test_layers_with_a_window_keep_no_more_than_it_where_the_runtime_is_told():
    facts = model_facts(known_config("gemma-3-27b"))
    far = sum(layer.window is None for layer in facts.stack)
    assert (far, facts.layers - far) == (10, 52)
    kept = facts.kv_bytes(8192, "bfloat16", windows=True)
    assert kept == 2 * 16 * 128 * 2 * (10 * 8192 + 52 * 1024)
    assert facts.kv_bytes(8192, "bfloat16") == 8192 * facts.kv_bytes_per_token("bfloat16")
    assert facts.kv_bytes(500, "bfloat16", windows=True) == facts.kv_bytes(500, "bfloat16")


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("gpt-oss-20b", [128, None] * 12),
        ("gemma-2-2b", [4096, None] * 13),
        ("mistral-7b-v0.1", [4096] * 32),
        ("qwen2.5-7b", [None] * 28),
    ],
)
def test_each_family_has_windows_where_its_layers_have_them(name, windows):
    assert [layer.window for layer in model_facts(known_config(name)).stack] == windows


def test_a_latent_cache_is_whole_on_each_rank():
    facts = model_facts(known_config("deepseek-v3"))
    assert facts.kv_bytes_per_token("fp8") == facts.kv_bytes_per_token("fp8", tp=8) == 61 * 576


def test_a_checkpoint_that_comes_quantised_is_counted_so():
    facts = model_facts(known_config("gpt-oss-120b"))
    assert facts.in_force("none") == "mxfp4"
    assert share(facts.weight_bytes("bfloat16"), 65.25e9) < 0.001  # 60.8 GiB, as it is published
    plain = known_config("gpt-oss-120b") | {"quantization_config": None}
    assert model_facts(plain).weight_bytes("bfloat16") == 2 * facts.parameters


def test_a_vocabulary_that_ranks_do_not_divide_is_padded():
    facts = model_facts(TINY_LLAMA | {"vocab_size": 32001})
    assert facts.padded_vocab(8) == 32008
    more = facts.weight_bytes("float16", tp=8) - model_facts(TINY_LLAMA).weight_bytes(
        "float16", tp=8
    )
    assert more == 2 * (2048 + 2048)  # a row of the embedding, and one of the head on each rank


def test_a_step_of_one_token_reads_its_experts_and_a_large_batch_nearly_all():
    facts = model_facts(known_config("mixtral-8x7b"))
    rows = 2 * facts.embedding  # of the embedding it reads single rows
    assert facts.read_bytes("float16") == 2 * facts.active_parameters - rows
    whole = facts.weight_bytes("float16") - rows
    assert 0.999 * whole < facts.read_bytes("float16", tokens=64) <= whole
    dense = model_facts(LLAMA_3_8B)
    assert dense.read_bytes("float16") == dense.read_bytes("float16", tokens=64)


def test_experts_that_groups_do_not_divide_make_one_rank_fuller():
    facts = model_facts(known_config("qwen1.5-moe-a2.7b"))
    assert facts.weight_bytes("float16", tp=8, ep=8) > facts.weight_bytes("float16", tp=8, ep=1)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["sliding_attention", "fp8", "awq"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=4,
)
KEYS = sorted({key for one in known_models().values() for key in one["config"]} | {"layer_types"})


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(sorted(known_models())),
    st.sampled_from(sorted(FAMILIES)),
    st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4),
)
def test_whatever_a_config_holds_it_is_planned_with_or_refused(name, family, junk):
    config = known_config(name) | {"architectures": [family]} | junk
    try:
        facts = model_facts(config)
    except PlanError:
        return
    assert facts.parameters >= facts.active_parameters > 0
    assert facts.weight_bytes("float16", tp=2, pp=2) > 0
    assert facts.kv_bytes_per_token("float16", tp=2, pp=2) > 0


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(known_models())),
    st.dictionaries(st.sampled_from(KEYS), JUNK | st.integers(1, 2**31 - 1), max_size=3),
)
def test_a_config_that_is_taken_can_be_planned_however_odd_its_sizes(name, odd):
    try:
        facts = model_facts(known_config(name) | odd)
        made = plan(DeploymentProfile(model_name="m"), facts, device("B200-SXM"))
    except PlanError:
        return
    assert made.fits == (made.max_concurrent_sequences > 0)
    assert str(made.parameters).isdecimal()
    assert Plan.model_validate_json(made.model_dump_json()) == made
