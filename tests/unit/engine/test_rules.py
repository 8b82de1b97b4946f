from __future__ import annotations

import pytest

from runbook_lib.engine.commands import commands
from runbook_lib.engine.releases import release
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
    "family": ({"model_family": "falcon"}, {"model_family": "mistral"}),
    "phi-stages": (
        {"model_family": "phi", "pipeline_parallel_size": 2},
        {"model_family": "phi", "tensor_parallel_size": 2},
    ),
    "phi-gptq": (
        {"model_family": "phi", "quantization": "gptq"},
        {"model_family": "phi", "quantization": "int4_wo"},
    ),
    "phi-calibration": (
        {"model_family": "phi", "kv_cache_dtype": "int8"},
        {"model_family": "phi", "quantization": "int8_wo"},
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
    "beams": ({"max_beam_width": 257}, {"max_beam_width": 256}),
    "separators": (
        {"weights": "s3://models/llama", "trtllm_version": "0.15.0"},
        {"weights": "s3://models/llama", "trtllm_version": "0.16.0"},
    ),
    "mig-ranks": (
        {"gpu": "A100-SXM-40GB:1g.5gb", "tensor_parallel_size": 2},
        {"gpu": "A100-SXM-40GB:1g.5gb"},
    ),
    "gpu-gone": (
        {"gpu": "V100", "trtllm_version": "0.15.0"},
        {"gpu": "V100", "trtllm_version": "0.14.0"},
    ),
    "gpu-too-new": (
        {"gpu": "B200-SXM", "trtllm_version": "0.16.0"},
        {"gpu": "B200-SXM", "trtllm_version": "0.17.0"},
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
        {"gpu": "V100", "dtype": "bf16", "trtllm_version": "0.12.0"},
        {"gpu": "A10", "dtype": "bf16", "trtllm_version": "0.12.0"},
    ),
    "fp8": ({"gpu": "A10", "quantization": "fp8"}, {"gpu": "L4", "quantization": "fp8"}),
    "fp8-cache": (
        {"gpu": "A100-SXM-80GB", "kv_cache_dtype": "fp8"},
        {"gpu": "H100-SXM-80GB", "kv_cache_dtype": "fp8"},
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


def made(fields):
    profile = DeploymentProfile(model_name="m", **fields)
    return commands(profile, weights=profile.weights, work="/build")


def broken(fields):
    profile = DeploymentProfile(model_name="m", **fields)
    wish = Wish(profile, release(profile.trtllm_version), (profile.weights,))
    return [rule.name for rule in refused(wish)]


def test_every_rule_has_its_case():
    assert set(CASES) == {rule.name for rule in RULES}
    assert len(RULES) == len(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_refuses_what_can_not_be_done_and_says_what_to_do(name):
    fields, fine = CASES[name]
    assert broken(fields) == [name]
    assert broken(fine) == []
    with pytest.raises(PlanError) as caught:
        made(fields)
    assert caught.value.why
    assert caught.value.fix
    assert "{" not in caught.value.why + caught.value.fix
    assert made(fine)


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


def test_without_a_gpu_nothing_is_refused_for_its_sake():
    assert broken({"quantization": "fp8", "kv_cache_dtype": "fp8"}) == []


def test_a_gpu_that_is_not_known_is_told_as_such():
    with pytest.raises(ProfileError):
        made({"gpu": "H1000", "quantization": "fp8"})


@pytest.mark.parametrize("track", ["llmapi", "lab"])
def test_a_profile_of_another_track_has_no_commands_here(track):
    with pytest.raises(PlanError) as caught:
        made({"track": track})
    assert f"its track is {track}" in caught.value.why
