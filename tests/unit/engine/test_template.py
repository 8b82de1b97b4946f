"""Build commands of the user's own: filled without a shell, and never with a secret."""

import json
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.engine.template import (
    PLACEHOLDERS,
    in_force,
    own_commands,
    translation_notes,
)
from runbook_lib.errors import PlanError, ProfileError, RunbookError
from runbook_lib.profile import DeploymentProfile

GUIDE = """trtllm-build --model /weights/{model_name} \\
      --dtype {dtype} {quantization_arg} \\
      --use_gpt_attention_plugin={use_gpt_attention_plugin} \\
      --use_context_fmha={use_context_fmha} \\
      --remove_input_padding={remove_input_padding} \\
      --max_batch_size {max_batch_size} --max_input_len {max_input_len} \\
      --max_output_len {max_output_len} --max_beam_width {max_beam_width} \\
      --tp_size {tensor_parallel_size} --kv_cache_dtype {kv_cache_dtype}"""


def profile(template, **changes):
    given = {"model_name": "llama-7b", "trtllm_version": "0.16.0", "builder_cmd": template}
    return DeploymentProfile.model_validate(given | changes)


def argv(template, **changes):
    made = own_commands(profile(template, **changes), weights="/w", work="/build", env={})
    return [one.argv for one in made]


def refused(template, env=None, **changes):
    with pytest.raises(ProfileError, match="can't be run") as caught:
        own_commands(profile(template, **changes), weights="/w", work="/build", env=env or {})
    return caught.value


def value_of(words, flag):
    return words[words.index(flag) + 1]


# -- filling -------------------------------------------------------------------------------------


def test_a_value_never_becomes_two_words():
    (words,) = argv("build {weights} --type={dtype} '{output_dir} x' {quantization_arg}")
    assert words == ("build", "/w", "--type=float16", "/build/engine x")


def test_the_quantisation_argument_is_two_words_or_none():
    (words,) = argv("build {output_dir} {quantization_arg}", quantization="fp8")
    assert words == ("build", "/build/engine", "--quantization", "fp8")


def test_every_placeholder_has_a_value():
    template = " ".join(f"{{{name}}}" for name in PLACEHOLDERS if name != "quantization_arg")
    (words,) = argv(f"build {template}", gpu="L40S")
    assert len(words) == len(PLACEHOLDERS)
    assert not [word for word in words if "{" in word or word in {"", "None"}]


def test_braces_that_are_no_placeholder_stay():
    (words,) = argv("""build '{"a": 1}' {output_dir}""")
    assert words[1] == '{"a": 1}'


def test_a_profile_without_a_template_has_no_commands_of_its_own():
    plain = DeploymentProfile(model_name="m", trtllm_version="0.16.0")
    assert own_commands(plain, weights="/w", work="/build") is None


# -- the guide's ---------------------------------------------------------------------------------


def test_the_guides_template_is_done_as_it_was_meant():
    *_, convert, build = argv(GUIDE, max_batch_size=32, tensor_parallel_size=2)
    assert value_of(convert, "--model_dir") == "/weights/llama-7b"
    assert value_of(convert, "--tp_size") == "2"
    assert value_of(build, "--max_batch_size") == "32"
    assert value_of(build, "--max_seq_len") == str(2048 + 512)
    assert value_of(build, "--output_dir") == "/build/engine"
    assert value_of(build, "--checkpoint_dir") == value_of(convert, "--output_dir")
    assert not any("WORK" in word or "{" in word for word in (*convert, *build))


def test_the_guides_template_quantises_where_the_profile_does():
    *_, first, _ = argv(GUIDE, quantization="fp8", kv_cache_dtype="fp8")
    assert (value_of(first, "--qformat"), value_of(first, "--kv_cache_dtype")) == ("fp8", "fp8")


def test_what_became_of_each_flag_is_told():
    told = translation_notes(profile(GUIDE))
    assert any("--max_output_len 512" in one and "--max_seq_len" in one for one in told)
    assert translation_notes(profile("mine {output_dir}")) == []


def test_what_a_line_leaves_out_is_the_profiles():
    line = "trtllm-build --model {weights} --max_seq_len 1024"
    given = {"max_batch_size": 7, "quantization": "fp8", "gpu": "L40S", "model_family": "qwen2"}
    quantize, build = argv(line, trtllm_version="1.2.1", **given)
    assert value_of(quantize, "--qformat") == "fp8"
    assert value_of(build, "--max_batch_size") == "7"
    assert (value_of(build, "--max_input_len"), value_of(build, "--max_seq_len")) == (
        "1023",
        "1024",
    )
    told = translation_notes(profile(line, trtllm_version="1.2.1", **given))
    assert "taken for family qwen2" in told[0]
    assert any("--max_batch_size 7 is the profile's" in one for one in told)


def test_a_line_is_refused_what_the_profiles_gpu_can_not_do():
    with pytest.raises(PlanError) as caught:
        argv("trtllm-build --model {weights} --qformat fp8", gpu="A100-SXM-80GB")
    assert "has no FP8" in caught.value.why


def test_an_output_folder_of_the_line_does_not_take_the_engine_elsewhere():
    line = "trtllm-build --checkpoint_dir /c --output_dir /elsewhere --max_batch_size 8"
    (build,) = argv(line)
    assert value_of(build, "--output_dir") == "/build/engine"
    assert value_of(build, "--checkpoint_dir") == "/c"


def test_a_program_that_starts_trtllm_build_is_run_as_it_stands():
    (words,) = argv("mpirun -n 2 trtllm-build --output_dir {output_dir} --max_batch_size 8")
    assert words[:4] == ("mpirun", "-n", "2", "trtllm-build")


def test_weights_that_are_fetched_are_read_where_they_come_to():
    given = profile("trtllm-build --model {weights} --max_batch_size 8")
    *_, convert, _ = own_commands(given, weights="/build/weights", work="/build", env={})
    assert value_of(convert.argv, "--model_dir") == "/build/weights"


def test_in_the_lab_the_line_means_the_labs_own_builder():
    line = GUIDE.replace("{max_batch_size}", "3")
    lab = DeploymentProfile(model_name="t", track="lab", builder_cmd=line, max_batch_size=8)
    assert own_commands(lab, weights="/w", work="/build") is None
    meant = in_force(lab)
    assert (meant.max_batch_size, meant.max_input_len, meant.builder_cmd) == (3, 2048, None)
    own = DeploymentProfile(model_name="t", track="lab", builder_cmd="mine {output_dir}")
    assert in_force(own) is own


# -- what is refused -----------------------------------------------------------------------------


def test_an_unknown_placeholder_is_refused_with_the_known_names():
    error = refused("build {dtpe} {output_dir} {nonsense_of_mine}")
    assert "{dtpe} is no placeholder; did you mean {dtype}?" in error.why
    assert "{nonsense_of_mine}" in error.why
    assert all(f"{{{name}}}" in error.fix for name in PLACEHOLDERS)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "empty"),
        ("build {dtype}", "where the engine goes"),
        ("build '{output_dir}", "split into words"),
        ("build {output_dir} && rm -rf x", "no shell"),
        ("build {output_dir} | tee log", "no shell"),
        ("build {output_dir} $HOME", "inherits the environment"),
        ("build {output_dir} $(cat key)", "inherits the environment"),
        ("A=b build {output_dir}", "env NAME=VALUE"),
    ],
)
def test_what_only_a_shell_could_run_is_refused(template, why):
    assert why in refused(template).why


@pytest.mark.parametrize(
    "template",
    [
        "build {output_dir} --hf_token hf_abcdefghijklmnopqrst",
        "build {output_dir} hf_abcdefghijklmnopqrst",
        "build {output_dir} AKIAABCDEFGHIJKLMNOP",
        "build {output_dir} https://me:pass-word@example.com/x",
        "build {output_dir} --password=rosebud",
        "build {output_dir} --api-key rosebud",
        "build {output_dir} x-verysecretvalue-x",
    ],
)
def test_a_secret_is_never_a_word_of_the_command_and_never_told(template):
    error = refused(template, env={"MY_TOKEN": "verysecretvalue"})
    assert "environment" in error.why or "inherits" in error.why
    for secret in ("abcdefghij", "AKIA", "pass-word", "rosebud", "verysecret"):
        assert secret not in str(error)


def test_words_that_only_look_like_secrets_pass():
    (words,) = argv("build {output_dir} --tokenizer t --max_num_tokens 8 --tokens_per_block 32")
    assert words[-1] == "32"


@given(template=st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_any_template_is_run_as_words_or_refused(template):
    line = f"build {{output_dir}} {template}"
    try:
        made = own_commands(profile(line), weights="/w", work="/build", env={})
    except RunbookError as error:
        json.dumps(error.to_dict())
        return
    if "trtllm-build" not in template:
        known = re.findall(r"\{(\w+)\}", line)
        assert set(known) <= set(PLACEHOLDERS)
        assert len(made[0].argv) >= len(shlex.split(line)) - line.count("{quantization_arg}")
