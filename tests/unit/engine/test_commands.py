from __future__ import annotations

import argparse
import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.engine.commands import commands, notes
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.profile_words import QUANTIZED

# Names, types and choices as they were read from the release's own sources.
RECORDED = json.loads(
    (Path(__file__).resolve().parents[2] / "data/trtllm/flags-1.2.1.json").read_text("utf-8")
)


class RefusedError(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise RefusedError(message)


def parser(tool):
    """The release's own command line, made from its recorded flags; abbreviations don't count."""
    made = Parser(prog=tool, allow_abbrev=False)
    for name, about in RECORDED[tool].items():
        if about.get("action") == "store_true":
            made.add_argument(name, action="store_true")
            continue
        options = {"type": int} if about.get("type") == "int" else {}
        if about.get("type") == "float":
            options = {"type": float}
        choices = [choice for choice in about.get("choices") or [] if choice is not None]
        made.add_argument(
            name,
            *about.get("aliases", []),
            choices=choices or None,
            nargs=about.get("nargs"),
            **options,
        )
    return made


def substitutions(text):
    """What fill_template.py of 1.2 reads: it unescapes at each of its two splits."""
    read = {}
    for pair in split(text, ","):
        key, value = split(pair, ":")
        read[key] = value
    return read


def split(text, delimiter):
    """As the tool does: a backslash keeps the next sign, and is gone then."""
    parts, current, escaped = [], "", False
    for sign in text:
        if escaped:
            current, escaped = current + sign, False
        elif sign == delimiter:
            parts, current = [*parts, current], ""
        elif sign == "\\":
            escaped = True
        else:
            current += sign
    return [*parts, current]


def made(**fields):
    return commands(DeploymentProfile(model_name="m", **fields), weights="/weights/m", work="/work")


def of(found, step):
    return [one.argv for one in found if one.step == step]


PROFILES = st.fixed_dictionaries(
    {
        "model_family": st.sampled_from(["llama", "codellama", "mistral", "phi"]),
        "dtype": st.sampled_from(["float16", "bfloat16", "float32"]),
        "quantization": st.sampled_from(QUANTIZED),
        "cache": st.sampled_from(["", "int8", "fp8"]),
        "tensor_parallel_size": st.sampled_from([1, 2, 8]),
        "pipeline_parallel_size": st.sampled_from([1, 2]),
        "max_batch_size": st.integers(1, 4096),
        "max_input_len": st.integers(1, 100_000),
        "max_output_len": st.integers(1, 10_000),
        "max_beam_width": st.integers(1, 8),
        "streaming": st.booleans(),
        "builder_flags": st.fixed_dictionaries(
            {}, optional={"use_context_fmha": st.booleans(), "use_gemm_plugin": st.booleans()}
        ),
    }
)


@settings(deadline=None)
@given(PROFILES)
def test_the_release_itself_accepts_every_command_or_it_is_refused_with_reasons(fields):
    cache = fields.pop("cache") or fields["dtype"]
    try:
        found = made(**fields, kv_cache_dtype=cache)
    except PlanError:
        expected = fields["model_family"] == "phi" or fields["quantization"] == "int4_gptq"
        assert expected, fields
        return
    for one in found:
        tool = {
            "convert_checkpoint": "llama",
            "quantize": "quantize",
            "trtllm-build": "trtllm-build",
        }.get(one.step)
        if tool == "llama" and fields["model_family"] == "phi":
            tool = "phi"
        if tool:
            parser(tool).parse_args(list(one.argv[1 if tool == "trtllm-build" else 2 :]))
    built = parser("trtllm-build").parse_args(list(of(found, "trtllm-build")[0][1:]))
    longest = fields["max_input_len"] + fields["max_output_len"]
    assert (built.max_batch_size, built.max_seq_len) == (fields["max_batch_size"], longest)
    assert built.max_num_tokens >= built.max_input_len == fields["max_input_len"]


@pytest.mark.parametrize("name", ["llama-7b", "mistral-7b", "codellama-7b", "phi-2.7b"])
def test_a_shipped_profile_writes_every_limit_out(name):
    profile = load_profile(f"tensorrt-llm/{name}").value
    (build,) = of(commands(profile, weights="/w", work="/work"), "trtllm-build")
    for limit, value in profile.limits.model_dump().items():
        assert build[build.index(f"--{limit}") + 1] == str(value)


def test_every_mandatory_place_of_the_templates_is_filled_and_no_other_is_named():
    found = {}
    for argv in of(made(), "fill_templates"):
        found[argv[3].split("/")[-2]] = set(substitutions(argv[4]))
    assert set(found) == set(RECORDED["templates"])
    for model, known in RECORDED["templates"].items():
        assert set(known["mandatory"]) <= found[model] <= set(known["placeholders"]), model


@settings(deadline=None)
@given(st.text(alphabet=string.ascii_letters + ":,\\/ ", min_size=1))
def test_a_path_with_signs_that_separate_arrives_whole(path):
    found = commands(DeploymentProfile(model_name="m"), weights=path, work="/work")
    argv = next(argv for argv in of(found, "fill_templates") if "preprocessing" in argv[3])
    assert substitutions(argv[4])["tokenizer_dir"] == path


def test_precision_and_parallelism_belong_to_the_checkpoint_and_never_to_the_build():
    found = made(dtype="bf16", quantization="fp8", kv_cache_dtype="fp8", tensor_parallel_size=4)
    (quantize,), (build,) = of(found, "quantize"), of(found, "trtllm-build")
    assert quantize[quantize.index("--qformat") + 1] == "fp8"
    assert quantize[quantize.index("--kv_cache_dtype") + 1] == "fp8"
    assert quantize[quantize.index("--tp_size") + 1] == "4"
    assert not {"--dtype", "--tp_size", "--kv_cache_dtype", "--max_output_len"} & set(build)
    assert build[build.index("--gemm_plugin") + 1] == "disable"
    assert of(found, "launch")[0][2:4] == ("--world_size", "4")


def test_context_attention_switched_off_takes_paging_and_reuse_along():
    found = made(builder_flags={"use_context_fmha": False})
    (build,) = of(found, "trtllm-build")
    assert build[build.index("--use_paged_context_fmha") + 1] == "disable"
    engine = next(argv[4] for argv in of(found, "fill_templates") if "/tensorrt_llm/" in argv[3])
    assert substitutions(engine)["enable_kv_cache_reuse"] == "false"


def test_streaming_decides_the_transaction_policy():
    for streaming in (True, False):
        engine = next(
            argv[4]
            for argv in of(made(streaming=streaming), "fill_templates")
            if "/tensorrt_llm/" in argv[3]
        )
        assert substitutions(engine)["decoupled_mode"] == str(streaming).lower()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"trtllm_version": "1.3.0rc21"}, "known: 1.2.1"),
        ({"track": "llmapi"}, "its track is llmapi"),
        ({"track": "lab"}, "its track is lab"),
        ({"model_family": "falcon"}, "known: llama"),
        ({"model_family": "phi", "pipeline_parallel_size": 2}, "pipeline stages"),
        ({"model_family": "phi", "quantization": "gptq"}, "GPTQ"),
        ({"model_family": "phi", "quantization": "awq"}, "PhiForCausalLM"),
        ({"model_family": "phi", "kv_cache_dtype": "fp8"}, "PhiForCausalLM"),
        ({"quantization": "gptq", "kv_cache_dtype": "fp8"}, "stays in dtype"),
        ({"optimization_level": 3}, "0.14"),
        ({"entry_model": "tensorrt_llm_bls"}, "entered by `ensemble`"),
        ({"builder_cmd": "trtllm-build {dtype}"}, "builder_cmd"),
        ({"builder_flags": {"remove_input_padding": False}}, "in-flight batching needs it"),
        ({"builder_flags": {"use_gemm_plugin": "auto"}}, "must be true or false"),
        ({"builder_flags": {"use_custom_all_reduce": True}}, "is not known here"),
    ],
)
def test_what_the_release_can_not_do_is_refused_with_the_reason(fields, told):
    with pytest.raises(PlanError) as caught:
        made(**fields)
    assert told in caught.value.why


def test_all_reasons_are_told_at_once():
    with pytest.raises(PlanError) as caught:
        made(optimization_level=1, builder_flags={"remove_input_padding": False, "x": 1})
    assert caught.value.why.count(";") >= 2


def test_wishes_without_a_flag_are_told_and_not_dropped_in_silence():
    told = notes(load_profile("tensorrt-llm/llama-7b", overrides={"kv_cache_dtype": "fp8"}).value)
    assert any("workspace_size_mb" in note for note in told)
    assert any("fp8 KV cache" in note for note in told)
