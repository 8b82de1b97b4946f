from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.engine.old_flags import FIELDS, MEANINGS
from runbook_lib.engine.releases import VERSIONS, moves, release
from runbook_lib.engine.translation import translate
from runbook_lib.errors import PlanError, RunbookError, UsageError

GUIDE = (
    "trtllm-build --model /weights/llama-2-7b --dtype fp16 --use_gpt_attention_plugin=true"
    " --use_context_fmha=true --remove_input_padding=true --max_batch_size 64"
    " --max_input_len 4096 --max_output_len 512 --max_beam_width 1 --tp_size 2"
    " --kv_cache_dtype fp8"
)
# As it stands in the guide, its places still open.
TEMPLATE = """trtllm-build --model /weights/{model_name} \\
      --dtype {dtype} {quantization_arg} \\
      --use_gpt_attention_plugin={use_gpt_attention_plugin} \\
      --use_context_fmha={use_context_fmha} \\
      --remove_input_padding={remove_input_padding} \\
      --max_batch_size {max_batch_size} --max_input_len {max_input_len} \\
      --max_output_len {max_output_len} --max_beam_width {max_beam_width} \\
      --tp_size {tensor_parallel_size} --kv_cache_dtype {kv_cache_dtype}"""
FLAGS = [word.partition("=")[0] for word in GUIDE.split() if word.startswith("--")]


def built(found):
    return found.commands[-1].argv


def value(argv, flag):
    return argv[argv.index(flag) + 1]


def notes(found):
    return {one.flag: one for one in found.notes}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guides_line_becomes_commands_that_the_release_accepts(version, recorded):
    found = translate(GUIDE, version)
    *_, quantize, build = found.commands
    assert (quantize.step, build.step) == ("quantize", "trtllm-build")
    checkpoint = recorded.parse(version, "quantize", quantize.argv[2:])
    engine = recorded.parse(version, "trtllm-build", build.argv[1:])
    assert (checkpoint.model_dir, checkpoint.dtype) == ("/weights/llama-2-7b", "float16")
    assert (checkpoint.tp_size, checkpoint.kv_cache_dtype) == (2, "fp8")
    limits = (engine.max_batch_size, engine.max_input_len, engine.max_seq_len)
    assert limits == (64, 4096, 4608)


@pytest.mark.parametrize("line", [GUIDE, TEMPLATE])
def test_every_flag_of_the_guides_line_has_its_note(line):
    told = notes(translate(line, "1.2.1"))
    assert set(FLAGS) <= set(told)
    assert all(one.told and one.kind in {"kept", "moved"} for one in told.values())
    assert "--max_seq_len" in told["--max_output_len"].told
    assert "checkpoint step" in told["--tp_size"].told
    assert "--kv_cache_type means paged" in told["--kv_cache_dtype"].told
    assert "--use_context_fmha_for_generation" in told["--use_context_fmha"].told
    assert "--gpt_attention_plugin" in told["--use_gpt_attention_plugin"].told


def test_open_places_leave_the_defaults_and_are_told():
    found = translate(TEMPLATE, "1.2.1")
    assert value(built(found), "--max_batch_size") == "64"
    assert "a placeholder" in notes(found)["--max_batch_size"].told
    assert "checkpoint step" in notes(found)["{quantization_arg}"].told


def test_flags_that_the_release_has_are_kept_over_what_a_profile_would_say(recorded):
    found = translate(
        "trtllm-build --model /w/x --gemm_plugin float16 --tokens_per_block 128"
        " --lora_target_modules attn_q attn_v --fast_build --output_dir /engines",
        "1.2.1",
    )
    engine = recorded.parse("1.2.1", "trtllm-build", built(found)[1:])
    assert (engine.gemm_plugin, engine.tokens_per_block) == ("float16", 128)
    assert engine.lora_target_modules == ["attn_q", "attn_v"]
    assert (engine.fast_build, engine.output_dir) == (True, "/engines")
    assert {one.kind for one in found.notes} == {"moved", "kept"}


def test_a_checkpoint_that_is_converted_already_is_built_alone():
    found = translate("trtllm-build --checkpoint_dir /ckpt --max_batch_size 8", "1.2.1")
    assert [one.step for one in found.commands] == ["trtllm-build"]
    assert value(built(found), "--checkpoint_dir") == "/ckpt"


@pytest.mark.parametrize(
    ("flag", "version", "kind", "told"),
    [
        ("--builder_opt 3", "1.2.1", "gone", "0.14.0"),
        ("--builder_opt 3", "0.13.0", "kept", "as it was"),
        ("--multi_block_mode enable", "1.2.1", "moved", "runtime"),
        ("--enable_xqa enable", "0.16.0", "gone", "0.16.0"),
        ("--use_custom_all_reduce enable", "0.12.0", "gone", "0.12.0"),
        ("--auto_parallel 2", "1.1.0", "kept", "as it was"),
        ("--auto_parallel 2", "1.2.0", "moved", "checkpoint step"),
        ("--visualize_network", "0.18.2", "kept", "as it was"),
        ("--visualize_network", "0.19.0", "wrong", "needs a value"),
        ("--use_fused_mlp", "0.13.0", "wrong", "needs a value"),
        ("--context_fmha on", "1.2.1", "kept", "as it was"),
        ("--tokens_per_block many", "1.2.1", "wrong", "a number"),
        ("--max_batch_sise 3", "1.2.1", "unknown", "did you mean --max_batch_size?"),
        ("--lora_dir=-x", "1.2.1", "wrong", "begins with a dash"),
        ("--log_level info debug", "1.2.1", "wrong", "one value"),
        ("--zzz", "1.2.1", "unknown", "not known from any release"),
        ("--paged_kv_cache enable", "1.2.1", "moved", "--kv_cache_type paged"),
        ("--paged_kv_cache enable", "0.12.0", "kept", "--kv_cache_type paged"),
        ("--enable_context_fmha", "1.2.1", "moved", "--context_fmha"),
        ("stray", "1.2.1", "unknown", "belongs to no flag"),
    ],
)
def test_each_flag_is_told_where_it_went_or_why_it_is_gone(flag, version, kind, told, recorded):
    line = f"trtllm-build {flag}" if flag == "stray" else f"trtllm-build --model /w/m {flag}"
    found = translate(line, version)
    note = found.notes[-1]
    assert (note.flag, note.kind) == (re.split("[ =]", flag)[0], kind)
    assert told in note.told
    recorded.parse(version, "trtllm-build", built(found)[1:])


@pytest.mark.parametrize(
    ("words", "step", "sign"),
    [
        ("--use_weight_only", "convert_checkpoint", "int8"),
        ("--weight_only_precision int4 --use_weight_only", "convert_checkpoint", "int4"),
        ("--use_weight_only --weight_only_precision int4_awq", "quantize", "int4_awq"),
        ("--enable_fp8 --fp8_kv_cache", "quantize", "fp8"),
        ("--use_smooth_quant --int8_kv_cache", "quantize", "int8_sq"),
        ("--quantization awq", "quantize", "int4_awq"),
        ("--qformat w4a8_awq", "quantize", "w4a8_awq"),
    ],
)
def test_quantisation_of_older_lines_goes_into_the_checkpoint(words, step, sign):
    found = translate(f"python build.py --model_dir /w/m {words} --world_size 2", "1.2.1")
    assert found.commands[0].step == step
    assert sign in found.commands[0].argv
    assert value(found.commands[0].argv, "--tp_size") == "2"


def test_the_family_is_read_from_the_models_name():
    assert "/phi/" in translate("trtllm-build --model /w/phi-2", "1.2.1").commands[0].argv[1]
    found = translate("trtllm-build --model /w/CodeLlama-7b", "1.2.1")
    assert "taken for family codellama" in found.notes[0].told
    found = translate("trtllm-build --model /w/unheard-of", "1.2.1")
    assert "taken for family llama" in found.notes[0].told


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trtllm-serve m", "no build command"),
        ("trtllm-build --max_batch_size many", "whole number"),
        ("trtllm-build --max_batch_size", "whole number"),
        ("trtllm-build --dtype", "no value"),
        ("trtllm-build --dtype fp3", "can't stand together"),
        ("trtllm-build --model", "names no model"),
        ("trtllm-build 'open", "can't be split"),
    ],
)
def test_a_line_that_can_not_mean_anything_is_refused(line, said):
    with pytest.raises(UsageError, match=said):
        translate(line, "1.2.1")


@pytest.mark.parametrize("version", ["1.3.0rc21", "1.3.0rc23"])
def test_a_release_without_the_builder_answers_with_what_serves_the_checkpoint(
    version, recorded_api
):
    found = translate(GUIDE.replace("fp16", "bf16"), version)
    (serve,) = (one.argv for one in found.commands if one.step == "serve")
    served = recorded_api.parse(version, "trtllm-serve", serve[2:])
    assert (served.model, served.tp_size) == ("/weights/llama-2-7b", 2)
    assert (served.max_batch_size, served.max_seq_len) == (64, 4608)
    told = notes(found)
    assert set(FLAGS) == set(told)
    assert "kv_cache_config.dtype" in told["--kv_cache_dtype"].told
    assert "prompt and answer together" in told["--max_output_len"].told
    for flag in ("--use_gpt_attention_plugin", "--use_context_fmha", "--remove_input_padding"):
        assert told[flag].kind == "gone"


def test_a_builders_own_flag_is_gone_with_it_and_a_misspelled_one_stays_unknown():
    line = "trtllm-build --model /w/m --gemm_plugin auto --fast_bild --quantization fp8"
    told = notes(translate(line, "1.3.0rc21"))
    assert (told["--gemm_plugin"].kind, told["--fast_bild"].kind) == ("gone", "unknown")
    assert "hf_ptq.py --qformat" in told["--quantization"].told


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Mixtral-8x7B", "mixtral"),
        ("Qwen2.5-7B", "qwen2"),
        ("Qwen3-30B-A3B", "qwen3_moe"),
        ("Phi-3-mini", "phi3"),
        ("gemma-2-9b", "gemma2"),
        ("DeepSeek-V2-Lite", "deepseek_v2"),
    ],
)
def test_further_families_are_read_from_the_models_name(name, family):
    found = translate(f"trtllm-build --model /w/{name}", "1.2.1")
    assert f"taken for family {family}" in found.notes[0].told


def test_the_ranks_of_an_older_line_are_the_product_of_its_shares():
    def shares(words):
        first = translate(f"python build.py --model_dir /w/m {words}", "1.2.1").commands[0].argv
        return value(first, "--tp_size"), value(first, "--pp_size")

    assert shares("--world_size 8") == ("8", "1")
    assert shares("--world_size 8 --pp_size 2") == ("4", "2")
    assert shares("--tp_size 4 --pp_size 2 --world_size 8") == ("4", "2")
    with pytest.raises(UsageError, match="not --tp_size 4 times --pp_size 1"):
        shares("--tp_size 4 --world_size 8")


def test_context_and_experts_go_into_the_checkpoint_too():
    first = translate("trtllm-build --model /w/llama --cp_size 2", "1.2.1").commands[0].argv
    assert value(first, "--cp_size") == "2"
    line = "trtllm-build --model /w/Mixtral --tp_size 4 --moe_tp_size 2 --moe_ep_size 2"
    first = translate(line, "1.2.1").commands[0].argv
    assert (value(first, "--moe_tp_size"), value(first, "--moe_ep_size")) == ("2", "2")
    told = notes(translate(line, "1.3.0rc23"))
    assert "--ep_size of trtllm-serve" in told["--moe_ep_size"].told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--paged_kv_cache disable", "paged KV cache"),
        ("--kv_cache_type continuous", "needs a paged cache"),
        ("--streamingllm enable", "ends with an assertion"),
        ("--multiple_profiles enable --opt_num_tokens 64", "takes one of them"),
        ("--gather_all_token_logits --max_draft_len 4", "has not both"),
        ("--gemm_swiglu_plugin fp8 --use_fused_mlp disable", "fused MLP only"),
        ("--kv_cache_dtype int8 --use_paged_context_fmha enable", "no INT8 cache"),
        ("--user_buffer enable", "without --reduce_fusion"),
    ],
)
def test_what_the_builder_or_the_backend_refuses_later_is_refused_here(words, why):
    with pytest.raises(PlanError) as caught:
        translate(f"trtllm-build --checkpoint_dir /c {words}", "1.2.1")
    assert why in caught.value.why
    assert caught.value.fix


def test_what_is_right_in_the_builder_is_kept():
    words = "--user_buffer enable --reduce_fusion enable --gemm_swiglu_plugin fp8 --max_draft_len 0"
    found = translate(f"trtllm-build --checkpoint_dir /c {words}", "1.2.1")
    assert {one.kind for one in found.notes} == {"kept"}
    found = translate("trtllm-build --checkpoint_dir /c --streamingllm enable", "0.18.2")
    assert notes(found)["--streamingllm"].kind == "kept"


@pytest.mark.parametrize("flag", ["--build_config", "--model_config"])
def test_a_file_that_would_be_taken_before_the_line_or_never_is_left_out(flag):
    found = translate(f"trtllm-build --checkpoint_dir /c {flag} /f.json", "1.2.1")
    assert notes(found)[flag].kind == "wrong"
    assert flag not in built(found)


def test_a_limit_that_the_line_leaves_to_the_release_is_told():
    found = translate("trtllm-build --checkpoint_dir /c --max_seq_len 2048", "1.2.1")
    assert value(built(found), "--max_input_len") == "2047"
    told = "\n".join(found.assumed)
    assert "--max_input_len 2047 is what the line's other limits leave" in told
    assert "--max_batch_size 64" in told
    assert "1.2.1 would take 2048" in told
    assert "--max_seq_len" not in told
    assert found.to_dict()["assumed"] == list(found.assumed)
    assert not translate(GUIDE, "1.2.1").assumed


def test_a_number_below_zero_is_the_value_of_its_flag():
    with pytest.raises(UsageError, match="not '-5'"):
        translate("trtllm-build --model /w/m --max_batch_size -5", "1.2.1")


def test_a_flag_of_a_later_release_is_told_with_that_release():
    found = translate("trtllm-build --model /w/m --kv_cache_type paged", "0.12.0")
    assert "came with 0.13.0" in notes(found)["--kv_cache_type"].told


def test_a_name_of_no_known_family_is_told():
    note = translate("trtllm-build --model /w/unheard-of", "1.2.1").notes[0]
    assert "its name tells none" in note.told


def test_what_a_release_can_not_do_is_refused_as_for_a_profile():
    with pytest.raises(PlanError, match="is not known here"):
        translate(GUIDE, "1.3.0rc20")
    with pytest.raises(PlanError):
        translate("trtllm-build --model /w/m --remove_input_padding=disable", "1.2.1")


def test_every_flag_that_ever_was_has_an_answer():
    for one in moves("0.5.0", VERSIONS[-1]):
        if one.tool == "trtllm-build":
            found = translate(f"trtllm-build --model /w/m {one.flag} 1", "1.2.1")
            assert found.notes[-1].kind in {"kept", "moved", "gone", "wrong"}, one


WORDS = st.one_of(
    st.sampled_from([*FIELDS, *MEANINGS, *release("1.2.1").build.flags, "--model", "{x}", "\\"]),
    st.sampled_from(["enable", "disable", "float16", "8", "2048", "fp8", "awq", "int4", "a:b"]),
    st.text(max_size=8),
)


@settings(deadline=None, max_examples=200)
@given(words=st.lists(WORDS, max_size=8), version=st.sampled_from(VERSIONS))
def test_any_line_is_answered_or_refused_and_never_crashes(words, version, recorded):
    try:
        found = translate(f"trtllm-build {shlex.join(words)}", version)
    except RunbookError:
        return
    recorded.parse(version, "trtllm-build", built(found)[1:])
