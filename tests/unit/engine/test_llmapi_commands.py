from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from runbook_lib.engine.commands import build_commands, commands
from runbook_lib.engine.explanations import explain
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.llmapi_commands import model_yaml
from runbook_lib.engine.llmapi_releases import VERSIONS, api_release
from runbook_lib.engine.notes import notes
from runbook_lib.errors import PlanError
from runbook_lib.hardware import gpu_names
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.profile_words import QUANTIZED

GOLDEN = Path(__file__).resolve().parents[2] / "data/trtllm/golden"
BASES = {"exact", "near-exact", "derived", "inferred-strong", "inferred"}
SERVED = [name for name, one in FAMILIES.items() if one.llmapi]
MIXTURE = {
    "model_family": "mixtral",
    "dtype": "bf16",
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "tensor_parallel_size": 8,
    "moe_expert_parallel_size": 4,
}


def profile(**fields):
    return DeploymentProfile(model_name="m", track="llmapi", **fields)


def made(**fields):
    return commands(profile(**fields), weights="/weights/m", work="/build")


def of(found, step):
    (argv,) = [one.argv for one in found if one.step == step]
    return argv


def written(found, step):
    return YAML(typ="safe").load(io.StringIO(of(found, step)[-1]))


def value(argv, flag):
    return argv[argv.index(flag) + 1]


def flat(values, above=""):
    for name, one in values.items():
        yield f"{above}{name}", one
        if isinstance(one, dict):
            yield from flat(one, f"{name}.")


KINDS = {"int": int, "str": str, "bool": bool, "float": float, "map": dict}
PROFILES = st.fixed_dictionaries(
    {
        "model_family": st.sampled_from([*SERVED, "falcon"]),
        "dtype": st.sampled_from(["float16", "bfloat16", "float32"]),
        "quantization": st.sampled_from(QUANTIZED),
        "cache": st.sampled_from(["", "int8", "fp8"]),
        "tensor_parallel_size": st.sampled_from([1, 2, 8]),
        "pipeline_parallel_size": st.sampled_from([1, 2]),
        "experts": st.sampled_from([None, None, 1, 2, 8]),
        "max_batch_size": st.integers(1, 4096),
        "max_input_len": st.integers(1, 100_000),
        "max_output_len": st.integers(1, 10_000),
        "max_num_tokens": st.sampled_from([None, 2048]),
        "max_beam_width": st.sampled_from([1, 1, 1, 4]),
        "streaming": st.booleans(),
        "gpu": st.sampled_from([None, None, None, *gpu_names()]),
    }
)


@pytest.mark.parametrize("version", VERSIONS)
@settings(deadline=None, max_examples=60)
@given(fields=PROFILES)
def test_the_release_itself_accepts_every_command_or_it_is_refused_with_reasons(
    version, fields, recorded_api
):
    wanted = {**fields, "trtllm_version": version}
    wanted["kv_cache_dtype"] = wanted.pop("cache") or wanted["dtype"]
    experts = wanted.pop("experts")
    if experts and wanted["tensor_parallel_size"] % experts == 0:
        wanted["moe_expert_parallel_size"] = experts
    try:
        found = made(**wanted)
    except PlanError:
        with pytest.raises(PlanError, match=r"(?s)why: .*fix: "):
            made(**wanted)
        return
    served = recorded_api.parse(version, "trtllm-serve", of(found, "serve")[2:])
    longest = fields["max_input_len"] + fields["max_output_len"]
    assert (served.max_batch_size, served.max_seq_len) == (fields["max_batch_size"], longest)
    assert (served.tp_size, served.pp_size) == (
        fields["tensor_parallel_size"],
        fields["pipeline_parallel_size"],
    )
    said = written(found, "write_model_yaml")
    triton = said.pop("triton_config")
    assert triton == {"max_batch_size": 0, "decoupled": fields["streaming"]}
    for values in (said, written(found, "write_serve_options")):
        known = recorded_api.flags[version, "model.yaml"]
        for name, one in flat(values):
            assert isinstance(one, KINDS[known[name]["type"]]), name
    assert served.model == said["model"]
    assert (said["max_seq_len"], said["max_input_len"]) == (longest, fields["max_input_len"])
    assert said["enable_chunked_prefill"] == (said["max_num_tokens"] < fields["max_input_len"])
    if FAMILIES[fields["model_family"]].experts:
        split = said["moe_tensor_parallel_size"], said["moe_expert_parallel_size"]
        assert split[0] * split[1] == fields["tensor_parallel_size"]
        assert served.ep_size == split[1] == wanted.get("moe_expert_parallel_size", 1)
    if fields["quantization"] not in {"none", "int4_gptq"}:
        quantised = recorded_api.parse(version, "hf_ptq", of(found, "quantize")[2:])
        assert quantised.qformat == fields["quantization"]
        assert quantised.export_path == served.model
        assert quantised.kv_cache_qformat == (
            "fp8" if wanted["kv_cache_dtype"] == "fp8" else "none"
        )


@pytest.mark.parametrize("version", ["1.0.0", "1.2.1", "1.3.0rc21"])
def test_the_commands_are_those_that_were_read_and_agreed(version):
    found = made(trtllm_version=version, **MIXTURE)
    said = "".join(f"{one}\n" for one in found)
    assert said == (GOLDEN / f"mixtral-llmapi-{version}.txt").read_text("utf-8")


def test_the_proof_refuses_what_belongs_to_the_other_track(recorded_api, refused_by_the_parser):
    for words in (["m", "--max_input_len", "8"], ["m", "--checkpoint_dir", "/x"]):
        with pytest.raises(refused_by_the_parser):
            recorded_api.parse("1.2.1", "trtllm-serve", words)
    with pytest.raises(refused_by_the_parser):
        recorded_api.parse("1.3.0rc21", "trtllm-serve", ["m", "--backend", "tensorrt"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_record_says_where_it_was_read_and_how_near_that_is(version, recorded_api):
    for tool in recorded_api.data["tools"].values():
        assert tool[version]["basis"] in BASES
        assert tool[version]["source"]
    for tool, about in api_release(version).tools.items():
        assert set(about.flags) == set(recorded_api.flags[version, tool])


def test_a_written_file_is_written_by_its_own_command(tmp_path):
    found = commands(profile(), weights="/weights/ä", work=str(tmp_path))
    argv = of(found, "write_serve_options")
    subprocess.run([sys.executable, *argv[1:]], check=True)
    read = YAML(typ="safe").load(Path(argv[-2]).read_text("utf-8"))
    assert read["kv_cache_config"]["free_gpu_memory_fraction"] == 0.9
    assert written(found, "write_model_yaml")["model"] == "/weights/ä"


def test_a_checkpoint_is_served_as_it_is_unless_it_is_to_be_quantised():
    assert written(made(), "write_model_yaml")["model"] == "/weights/m"
    assert written(made(quantization="gptq"), "write_model_yaml")["model"] == "/weights/m"
    found = made(quantization="awq")
    assert written(found, "write_model_yaml")["model"] == "/build/checkpoint"
    assert value(of(found, "quantize"), "--awq_block_size") == "128"


def test_a_model_of_the_hub_is_named_as_the_hub_names_it():
    wish = profile(weights="hf://Qwen/Qwen2.5-7B", model_family="qwen2")
    found = commands(wish, weights=wish.weights, work="/build")
    assert written(found, "write_model_yaml")["model"] == "Qwen/Qwen2.5-7B"
    assert of(found, "serve")[2] == "Qwen/Qwen2.5-7B"
    assert not any("copied to" in one for one in notes(wish))


def test_weights_of_a_store_are_told_to_be_copied_first():
    wish = profile(weights="s3://models/llama")
    assert any("stands in the commands for the folder" in one for one in notes(wish))


def test_triton_reads_how_answers_are_streamed():
    launch = of(made(), "launch")
    assert launch[0] == "tritonserver"
    assert not any("auto-complete" in word or "launch_triton" in word for word in launch)


def test_blocks_are_kept_only_where_the_family_has_that():
    for version, kept in (("1.1.0", False), ("1.2.1", False), ("1.3.0rc21", True)):
        oss = profile(model_family="gpt_oss", dtype="bf16", trtllm_version=version)
        said = model_yaml(oss, version, "/w")
        assert said["kv_cache_config"]["enable_block_reuse"] is kept


@pytest.mark.parametrize("version", VERSIONS)
def test_every_word_of_every_command_has_its_reason(version):
    wanted = profile(trtllm_version=version, **MIXTURE)
    for one in explain(commands(wanted, weights="/w", work="/build"), wanted):
        flags = {word.partition("=")[0] for word in one.command.argv if word.startswith("--")}
        assert flags - {"--depth"} <= {reason.name for reason in one.reasons}, one.command
        if one.command.step.startswith("write_"):
            assert len(one.reasons) == len(one.command.argv[-1].splitlines())


def test_what_is_new_is_told_beside_the_word():
    wanted = profile(trtllm_version="1.3.0rc21")
    found = explain(commands(wanted, weights="/w", work="/build"), wanted)
    (serve,) = (one for one in found if one.command.step == "serve")
    assert "no longer takes tensorrt" in str(serve)


def test_what_the_track_takes_for_granted_is_told():
    told = "\n".join(notes(profile(quantization="fp8", max_beam_width=2, streaming=False)))
    for part in ("run one of them", "pip install -U openai", "Only trtllm-serve", "for hf_ptq"):
        assert part in told
    assert "as one event" in "\n".join(notes(profile()))
    wish = {"quantization": "fp8", "pipeline_parallel_size": 2}
    for version, said in (("1.0.0", True), ("1.1.0", False)):
        told = "\n".join(notes(profile(trtllm_version=version, **wish)))
        assert ("EAGER_FUSION" in told) is said
    told = "\n".join(notes(profile(trtllm_version="1.3.0rc23")))
    assert "No Triton image with 1.3.0rc23" in told
    assert "as one event" not in told


@pytest.mark.parametrize(
    ("version", "what", "fix"),
    [
        ("0.21.0", "has no llmapi track", "track engine, or 1.0.0"),
        ("1.3.0rc22", "is not known here", "nearest known release is 1.3.0rc21"),
        ("1.4.0", "is not known here", "1.3.0rc23"),
    ],
)
def test_a_release_without_the_track_names_what_to_take(version, what, fix):
    with pytest.raises(PlanError) as caught:
        made(trtllm_version=version)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_the_track_builds_no_engine():
    with pytest.raises(PlanError, match="only the engine track builds engines"):
        build_commands(profile(), weights="/w", work="/build")


def test_the_shipped_profile_writes_every_limit_out():
    shipped = load_profile("tensorrt-llm/qwen3-30b-a3b-llmapi").value
    said = written(commands(shipped, weights="/w", work="/b"), "write_model_yaml")
    assert shipped.limits.model_dump().items() <= said.items()
