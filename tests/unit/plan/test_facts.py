from __future__ import annotations

import json
from pathlib import Path

import pytest

from runbook_lib.errors import PlanError
from runbook_lib.plan.facts import known_config, model_facts

MIB = 2**20
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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("mistral-7b", 7_248_023_552),
        ("codellama-7b", 6_738_546_688),
        ("phi-2.7b", 2_779_683_840),
    ],
)
def test_a_known_model_has_its_published_number_of_parameters(name, parameters):
    assert model_facts(known_config(name)).parameters == parameters


@pytest.mark.parametrize(
    ("config", "parameters"), [(TINY_LLAMA, 1_100_048_384), (LLAMA_3_8B, 8_030_261_248)]
)
def test_a_config_alone_gives_the_published_number_of_parameters(config, parameters):
    assert model_facts(config).parameters == parameters


def test_the_labs_model_has_as_many_parameters_as_its_file_holds():
    folder = Path(__file__).resolve().parents[3] / "runbook_lib/lab/model"
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


@pytest.mark.parametrize(
    ("config", "kv_dtype", "published"),
    [
        (
            known_config("llama-2-7b"),
            "fp8",
            262_144,
        ),  # TensorRT-LLM docs/source/reference/memory.md
        (TINY_LLAMA, "bfloat16", 22_528),  # triton-inference-server/tutorials pull 150
        (LLAMA_3_8B, "float16", 131_072),
    ],
)
def test_kv_bytes_per_token_are_those_that_servers_logged(config, kv_dtype, published):
    assert model_facts(config).kv_bytes_per_token(kv_dtype) == published


@pytest.mark.parametrize(
    ("quantization", "logged_mib"),
    [
        ("none", 12858),  # LLaMA 7B fp16: triton-inference-server/tensorrtllm_backend issue 235
        ("fp8", 6695),  # 7B with one-byte weights: TensorRT-LLM docs/source/reference/memory.md
    ],
)
def test_weights_are_within_a_percent_of_the_engine_sizes_that_servers_logged(
    quantization, logged_mib
):
    size = model_facts(known_config("llama-2-7b")).weight_bytes("float16", quantization)
    assert abs(size / MIB - logged_mib) < 0.01 * logged_mib


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
