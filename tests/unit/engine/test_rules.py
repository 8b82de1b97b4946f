from __future__ import annotations

import pytest

from runbook_lib.engine.commands import commands
from runbook_lib.engine.rules import RULES, refused
from runbook_lib.engine.wish import Wish
from runbook_lib.errors import PlanError, ProfileError
from runbook_lib.profile import DeploymentProfile

# A wish that each rule refuses, and the nearest one that it does not.
CASES = {
    "own-command": ({"builder_cmd": "x {dtype}"}, {}),
    "entry-model": ({"entry_model": "tensorrt_llm_bls"}, {}),
    "builder-flags-unknown": (
        {"builder_flags": {"use_custom_all_reduce": True}},
        {"builder_flags": {"workspace_size_mb": 4096}},
    ),
    "builder-flags-words": (
        {"builder_flags": {"use_gemm_plugin": "auto"}},
        {"builder_flags": {"use_gemm_plugin": False}},
    ),
    "builder-flags-needed": (
        {"builder_flags": {"remove_input_padding": False}},
        {"builder_flags": {"use_context_fmha": False}},
    ),
    "paged-context": (
        {"builder_flags": {"use_paged_context_fmha": False}},
        {"builder_flags": {"use_paged_context_fmha": True, "paged_kv_cache": True}},
    ),
    "family": ({"model_family": "bloom"}, {"model_family": "falcon"}),
    "dense-experts": ({"moe_expert_parallel_size": 1}, {"model_family": "mixtral"}),
    "family-engine": ({"model_family": "deepseek_v3"}, {"model_family": "qwen2"}),
    "family-release": (
        {"model_family": "qwen3", "trtllm_version": "0.21.0"},
        {"model_family": "qwen3", "trtllm_version": "1.0.0"},
    ),
    "family-format": (
        {"model_family": "mixtral", "quantization": "awq"},
        {"model_family": "mixtral", "quantization": "fp8"},
    ),
    "family-stages": (
        {"model_family": "phi", "pipeline_parallel_size": 2},
        {"model_family": "phi", "tensor_parallel_size": 2},
    ),
    "family-tensor": (
        {"model_family": "phi3", "tensor_parallel_size": 2},
        {"model_family": "phi3"},
    ),
    "family-experts": (
        {"model_family": "qwen2_moe", "tensor_parallel_size": 2, "moe_expert_parallel_size": 2},
        {"model_family": "qwen2_moe", "tensor_parallel_size": 2, "moe_tensor_parallel_size": 2},
    ),
    "experts-calibrated": (
        {
            "model_family": "mixtral",
            "tensor_parallel_size": 2,
            "moe_expert_parallel_size": 2,
            "quantization": "fp8",
        },
        {
            "model_family": "mixtral",
            "tensor_parallel_size": 2,
            "moe_expert_parallel_size": 2,
            "quantization": "int8_wo",
        },
    ),
    "context-parallel": (
        {"context_parallel_size": 2, "trtllm_version": "0.15.0"},
        {"context_parallel_size": 2, "trtllm_version": "0.16.0"},
    ),
    "family-gpu": (
        {"model_family": "qwen3", "gpu": "L4"},
        {"model_family": "qwen3", "gpu": "H100-SXM-80GB"},
    ),
    "gptq-cache": ({"quantization": "gptq", "kv_cache_dtype": "int8"}, {"quantization": "gptq"}),
    "gptq-release": (
        {"quantization": "gptq", "trtllm_version": "0.15.0"},
        {"quantization": "gptq", "trtllm_version": "0.16.0"},
    ),
    "codellama-fp8": (
        {"model_family": "codellama", "quantization": "fp8", "trtllm_version": "0.13.0"},
        {"model_family": "codellama", "quantization": "fp8", "trtllm_version": "0.14.0"},
    ),
    "qformat-release": (
        {"quantization": "nvfp4", "trtllm_version": "1.1.0"},
        {"quantization": "nvfp4", "trtllm_version": "1.2.0"},
    ),
    "builder-level": (
        {"optimization_level": 3, "trtllm_version": "0.14.0"},
        {"optimization_level": 3, "trtllm_version": "0.13.0"},
    ),
    "beams": (
        {"max_beam_width": 257, "streaming": False},
        {"max_beam_width": 256, "streaming": False},
    ),
    "beam-streaming": (
        {"max_beam_width": 2},
        {"max_beam_width": 2, "streaming": False},
    ),
    "separators": (
        {"weights": "s3://models/llama", "trtllm_version": "0.15.0"},
        {"weights": "s3://models/llama", "trtllm_version": "0.16.0"},
    ),
    "mig-ranks": (
        {"gpu": "A100-SXM-40GB:1g.5gb", "tensor_parallel_size": 2},
        {"gpu": "A100-SXM-40GB:1g.5gb"},
    ),
    "gpu-gone": (
        {"gpu": "V100", "trtllm_version": "0.15.0", "builder_flags": {"use_context_fmha": False}},
        {"gpu": "V100", "trtllm_version": "0.14.0", "builder_flags": {"use_context_fmha": False}},
    ),
    "volta-paged": (
        {"gpu": "V100", "trtllm_version": "0.14.0"},
        {"gpu": "V100", "trtllm_version": "0.14.0", "builder_flags": {"use_context_fmha": False}},
    ),
    "gpu-too-new": (
        {"gpu": "B200-SXM", "trtllm_version": "0.16.0"},
        {"gpu": "B200-SXM", "trtllm_version": "0.17.0"},
    ),
    "blackwell-integers": (
        {"gpu": "B200-SXM", "kv_cache_dtype": "int8"},
        {"gpu": "B200-SXM", "kv_cache_dtype": "fp8", "quantization": "fp8"},
    ),
    "rtx-ranks": (
        {
            "gpu": "RTX-PRO-6000-Blackwell-SE",
            "tensor_parallel_size": 2,
            "trtllm_version": "0.20.0",
        },
        {
            "gpu": "RTX-PRO-6000-Blackwell-SE",
            "tensor_parallel_size": 2,
            "trtllm_version": "0.21.0",
        },
    ),
    "bfloat16": (
        {
            "gpu": "V100",
            "dtype": "bf16",
            "trtllm_version": "0.12.0",
            "builder_flags": {"use_context_fmha": False},
        },
        {"gpu": "A10", "dtype": "bf16", "trtllm_version": "0.12.0"},
    ),
    "fp8": ({"gpu": "A10", "quantization": "fp8"}, {"gpu": "L4", "quantization": "fp8"}),
    "fp8-cache": (
        {"gpu": "A100-SXM-80GB", "kv_cache_dtype": "fp8"},
        {"gpu": "H100-SXM-80GB", "kv_cache_dtype": "fp8"},
    ),
    "int8-cache": (
        {"gpu": "V100", "kv_cache_dtype": "int8", "trtllm_version": "0.14.0"},
        {"gpu": "A10", "kv_cache_dtype": "int8", "trtllm_version": "0.14.0"},
    ),
    "w4a8": (
        {"gpu": "A10", "quantization": "w4a8_awq"},
        {"gpu": "L40S", "quantization": "w4a8_awq"},
    ),
    "w4a8-bfloat16": (
        {"gpu": "L4", "quantization": "w4a8_awq", "dtype": "bf16", "trtllm_version": "0.15.0"},
        {"gpu": "L4", "quantization": "w4a8_awq", "dtype": "bf16", "trtllm_version": "0.16.0"},
    ),
    "nvfp4": (
        {"gpu": "H100-SXM-80GB", "quantization": "nvfp4"},
        {"gpu": "B200-SXM", "quantization": "nvfp4"},
    ),
}


API = {"track": "llmapi"}
API_CASES = {
    "api-builder": (
        {"builder_flags": {"use_gemm_plugin": False}},
        {"builder_flags": {"use_gemm_plugin": True, "workspace_size_mb": 4096}},
    ),
    "api-entry-model": ({"entry_model": "tensorrt_llm_bls"}, {"entry_model": "tensorrt_llm"}),
    "api-float32": ({"dtype": "float32"}, {"dtype": "bf16"}),
    "api-beam-streaming": ({"max_beam_width": 2}, {"max_beam_width": 2, "streaming": False}),
    "api-family": ({"model_family": "falcon"}, {"model_family": "phi3"}),
    "api-family-release": (
        {"model_family": "gpt_oss", "trtllm_version": "1.0.0"},
        {"model_family": "gpt_oss", "trtllm_version": "1.1.0"},
    ),
    "api-format": ({"quantization": "int8_sq"}, {"quantization": "fp8"}),
    "api-cache": ({"kv_cache_dtype": "int8"}, {"kv_cache_dtype": "fp8"}),
    "api-chunks": (
        {"model_family": "deepseek_v3", "max_input_len": 16384, "max_num_tokens": 8192},
        {"model_family": "deepseek_v3", "max_input_len": 16384, "max_num_tokens": 16384},
    ),
    "api-context-parallel": ({"context_parallel_size": 2}, {"tensor_parallel_size": 2}),
    "api-gpu": ({"gpu": "V100"}, {"gpu": "A10"}),
    "api-packed": (
        {"gpu": "B200-SXM", "quantization": "awq"},
        {"gpu": "H100-SXM-80GB", "quantization": "awq"},
    ),
}
ALL = {**CASES, **{name: (API | one, API | fine) for name, (one, fine) in API_CASES.items()}}
BY_NAME = {rule.name: rule for rules in RULES.values() for rule in rules}


def made(fields):
    profile = DeploymentProfile(model_name="m", **fields)
    return commands(profile, weights=profile.weights, work="/build")


def broken(fields):
    profile = DeploymentProfile(model_name="m", **fields)
    wish = Wish(profile, profile.trtllm_version, (profile.weights,))
    return [rule.name for rule in refused(wish)]


def test_every_rule_has_its_case_and_its_name_once():
    assert set(ALL) == set(BY_NAME)
    for rules in RULES.values():
        names = [rule.name for rule in rules]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ALL)
def test_a_rule_refuses_what_can_not_be_done_and_says_what_to_do(name):
    fields, fine = ALL[name]
    assert broken(fields) == [name]
    assert broken(fine) == []
    with pytest.raises(PlanError) as caught:
        made(fields)
    assert caught.value.why
    assert caught.value.fix
    assert "{" not in caught.value.why + caught.value.fix
    assert made(fine)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("fp8", {"gpu": "A100-SXM-80GB", "quantization": "fp8"}),
        ("fp8-cache", {"gpu": "A100-SXM-80GB", "kv_cache_dtype": "fp8"}),
        ("nvfp4", {"gpu": "H100-SXM-80GB", "quantization": "nvfp4"}),
        ("mig-ranks", {"gpu": "A100-SXM-40GB:1g.5gb", "tensor_parallel_size": 2}),
        ("gpu-too-new", {"gpu": "B300-SXM", "trtllm_version": "1.0.0"}),
        ("dense-experts", {"tensor_parallel_size": 2, "moe_expert_parallel_size": 2}),
    ],
)
def test_what_a_gpu_can_not_do_it_can_on_neither_track(name, fields):
    assert name in broken(fields)
    assert name in broken(API | fields)


def test_all_reasons_are_told_at_once_each_with_its_alternative():
    with pytest.raises(PlanError) as caught:
        made(
            {
                "gpu": "A10",
                "quantization": "fp8",
                "kv_cache_dtype": "fp8",
                "optimization_level": 1,
                "builder_flags": {"remove_input_padding": False, "x": 1},
            }
        )
    assert caught.value.why.count(";") >= 4
    for alternative in ("int8_sq", "kv_cache_dtype int8", "leave optimization_level out", "known:"):
        assert alternative in caught.value.fix


def test_a_family_that_is_spelled_otherwise_is_met_with_its_name():
    with pytest.raises(PlanError) as caught:
        made(API | {"model_family": "gpt-oss"})
    assert "did you mean gpt_oss? known: llama," in caught.value.fix


def test_without_a_gpu_nothing_is_refused_for_its_sake():
    assert broken({"quantization": "fp8", "kv_cache_dtype": "fp8"}) == []


def test_a_gpu_that_is_not_known_is_told_as_such():
    with pytest.raises(ProfileError):
        made({"gpu": "H1000", "quantization": "fp8"})


def test_a_lab_profile_has_no_commands_here():
    with pytest.raises(PlanError) as caught:
        made({"track": "lab"})
    assert "its track is lab" in caught.value.why


@pytest.mark.parametrize("version", ["1.3.0rc21", "1.3.0rc23"])
def test_a_release_without_engines_is_refused_with_the_other_track(version):
    with pytest.raises(PlanError) as caught:
        made({"trtllm_version": version})
    assert "track llmapi" in caught.value.fix
    assert made(API | {"trtllm_version": version})
