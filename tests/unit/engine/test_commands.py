from __future__ import annotations

import string
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.engine.commands import VERSIONS, commands
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.notes import notes
from runbook_lib.engine.releases import version_key
from runbook_lib.errors import PlanError
from runbook_lib.hardware import gpu_names
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.profile_words import QUANTIZED

GOLDEN = Path(__file__).resolve().parents[2] / "data/trtllm/golden"
GOLDEN_RELEASES = ("0.12.0", "0.13.0", "0.16.0", "0.18.2", "0.20.0", "1.2.1")
GOLDEN_PROFILES = {
    "llama-7b": {},
    "llama-7b-fp8": {"dtype": "bf16", "quantization": "fp8", "kv_cache_dtype": "fp8"},
    "llama-7b-awq": {"quantization": "awq", "tensor_parallel_size": 2},
}
MIXTRAL = {"tensor_parallel_size": 4, "moe_expert_parallel_size": 2}
BUILT = [name for name, one in FAMILIES.items() if one.engine]
TOOLS = {"quantize": "quantize", "trtllm-build": "trtllm-build"}


COUNTS = {
    "0.12.0": {"parsed": 258, "refused": 660},
    "0.18.2": {"parsed": 276, "refused": 642},
    "1.2.1": {"parsed": 338, "refused": 580},
}


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
    return commands(
        DeploymentProfile(model_name="m", **fields), weights="/weights/m", work="/build"
    )


def of(found, step):
    return [one.argv for one in found if one.step == step]


def words_of(found):
    """Each command that a parser of the release is recorded for: its tool and its words."""
    for one in found:
        if one.step == "convert_checkpoint":
            yield one.argv[1].split("/")[-2], one.argv[2:]
        elif one.step in TOOLS:
            yield TOOLS[one.step], one.argv[2 if one.argv[0] == "python3" else 1 :]


PROFILES = st.fixed_dictionaries(
    {
        "model_family": st.sampled_from(list(FAMILIES)),
        "dtype": st.sampled_from(["float16", "bfloat16", "float32"]),
        "quantization": st.sampled_from(QUANTIZED),
        "cache": st.sampled_from(["", "int8", "fp8"]),
        "tensor_parallel_size": st.sampled_from([1, 2, 8]),
        "pipeline_parallel_size": st.sampled_from([1, 1, 2]),
        "context_parallel_size": st.sampled_from([1, 1, 1, 2]),
        "experts": st.sampled_from([None, None, 1, 2, 8]),
        "max_batch_size": st.integers(1, 4096),
        "max_input_len": st.integers(1, 100_000),
        "max_output_len": st.integers(1, 10_000),
        "max_beam_width": st.sampled_from([1, 1, 1, 4]),
        "optimization_level": st.sampled_from([None, None, 3]),
        "streaming": st.booleans(),
        "gpu": st.sampled_from([None, None, None, *gpu_names()]),
        "builder_flags": st.fixed_dictionaries(
            {}, optional={"use_context_fmha": st.booleans(), "use_gemm_plugin": st.booleans()}
        ),
    }
)


def with_experts(fields):
    """The drawn wish as fields: experts are split only where that divides the ranks."""
    wanted = dict(fields)
    wanted["kv_cache_dtype"] = wanted.pop("cache") or wanted["dtype"]
    experts = wanted.pop("experts")
    if experts and wanted["tensor_parallel_size"] % experts == 0:
        wanted["moe_expert_parallel_size"] = experts
    return wanted


@pytest.mark.parametrize("version", VERSIONS)
@settings(deadline=None, max_examples=60)
@given(fields=PROFILES)
def test_the_release_itself_accepts_every_command_or_it_is_refused_with_reasons(
    version, fields, recorded
):
    wanted = with_experts(fields)
    try:
        found = made(**wanted, trtllm_version=version)
    except PlanError:
        with pytest.raises(PlanError, match=r"(?s)why: .*fix: "):
            made(**wanted, trtllm_version=version)
        return
    parsed = {tool: recorded.parse(version, tool, words) for tool, words in words_of(found)}
    assert len(parsed) == 2
    built = parsed["trtllm-build"]
    longest = fields["max_input_len"] + fields["max_output_len"]
    assert (built.max_batch_size, built.max_seq_len) == (fields["max_batch_size"], longest)
    assert built.max_num_tokens >= built.max_input_len == fields["max_input_len"]
    (checkpoint,) = (one for tool, one in parsed.items() if tool != "trtllm-build")
    assert checkpoint.dtype == fields["dtype"]
    if "gemma" in wanted["model_family"] and "gemma" in parsed:
        assert checkpoint.world_size == fields["tensor_parallel_size"]
        return
    assert checkpoint.tp_size == fields["tensor_parallel_size"]
    assert checkpoint.pp_size == fields["pipeline_parallel_size"]
    assert getattr(checkpoint, "cp_size", 1) == fields["context_parallel_size"]
    if FAMILIES[wanted["model_family"]].experts and "quantize" not in parsed:
        assert checkpoint.moe_ep_size == wanted.get("moe_expert_parallel_size", 1)
        assert checkpoint.moe_tp_size * checkpoint.moe_ep_size == checkpoint.tp_size


@pytest.mark.parametrize(
    ("quantization", "cache", "paged"),
    [
        ("none", "float16", True),
        ("fp8", "fp8", True),
        ("fp8", "float16", True),
        ("none", "fp8", False),
        ("int4_awq", "fp8", False),
        ("w4a8_awq", "fp8", False),
        ("none", "int8", False),
        ("int8_sq", "int8", False),
    ],
)
def test_paged_context_and_reuse_go_where_the_builder_refuses_them(quantization, cache, paged):
    asked = DeploymentProfile(
        model_name="llama",
        trtllm_version="0.16.0",
        quantization=quantization,
        kv_cache_dtype=cache,
    )
    made = commands(asked, weights="/w", work="W")
    build = next(one.argv for one in made if one.step == "trtllm-build")
    wanted = "enable" if paged else "disable"
    assert build[build.index("--use_paged_context_fmha") + 1] == wanted
    assert build[build.index("--context_fmha") + 1] == "enable"
    filled = " ".join(word for one in made for word in one.argv)
    assert f"enable_kv_cache_reuse:{str(paged).lower()}" in filled
    assert any("not reused" in one for one in notes(asked)) is not paged


@pytest.mark.parametrize("version", ["0.12.0", "0.18.2", "1.2.1"])
def test_each_family_precision_and_cache_is_accepted_or_refused_before(version, recorded):
    counts = Counter()
    for family, dtype, quantization, cache in product(
        FAMILIES, ["float16", "bfloat16"], QUANTIZED, ["", "int8", "fp8"]
    ):
        words = {"dtype": dtype, "quantization": quantization, "kv_cache_dtype": cache or dtype}
        try:
            found = made(model_family=family, trtllm_version=version, **words)
        except PlanError:
            counts["refused"] += 1
            continue
        for tool, argv in words_of(found):
            recorded.parse(version, tool, argv)
        counts["parsed"] += 1
    # A rule that grows or shrinks shows here; tests/bench/engine_grid.py has every release.
    assert counts == COUNTS[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plain_profile_is_refused_by_no_release(version, recorded):
    for fields in GOLDEN_PROFILES.values():
        found = made(**fields, trtllm_version=version)
        for tool, words in words_of(found):
            recorded.parse(version, tool, words)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_proof_refuses_the_guides_own_line(version, recorded, refused_by_the_parser):
    for words in (["--max_output_len", "512"], ["--dtype", "float16"], ["--use_context_fmha", "1"]):
        with pytest.raises(refused_by_the_parser):
            recorded.parse(version, "trtllm-build", words)


@pytest.mark.parametrize("name", GOLDEN_PROFILES)
@pytest.mark.parametrize("version", GOLDEN_RELEASES)
def test_the_commands_are_those_that_were_read_and_agreed(version, name):
    fields = {**GOLDEN_PROFILES[name], "trtllm_version": version}
    profile = load_profile("tensorrt-llm/llama-7b", overrides=fields).value
    found = commands(profile, weights="/weights/llama-2-7b", work="/build")
    said = "".join(f"{one}\n" for one in found)
    assert said == (GOLDEN / f"{name}-{version}.txt").read_text("utf-8")


@pytest.mark.parametrize("version", ["0.12.0", "1.2.1"])
def test_experts_are_split_in_the_checkpoint_as_was_read_and_agreed(version):
    found = made(model_family="mixtral", trtllm_version=version, **MIXTRAL)
    said = "".join(f"{one}\n" for one in found)
    assert said == (GOLDEN / f"mixtral-{version}.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("family", "version", "place"),
    [
        ("mixtral", "0.19.0", "/app/tensorrt_llm/examples/llama/"),
        ("qwen3_moe", "1.2.1", "/app/tensorrt_llm/examples/models/core/qwen/"),
        ("falcon", "0.19.0", "/app/tensorrt_llm/examples/falcon/"),
        ("falcon", "0.20.0", "/app/tensorrt_llm/examples/models/contrib/falcon/"),
        ("deepseek_v2", "1.0.0", "/app/tensorrt_llm/examples/models/contrib/deepseek_v2/"),
        ("gemma2", "0.14.0", "/build/tensorrtllm_backend/tensorrt_llm/examples/gemma/"),
    ],
)
def test_a_family_is_converted_where_its_release_has_the_script(family, version, place):
    found = made(model_family=family, trtllm_version=version)
    assert of(found, "convert_checkpoint")[0][1] == f"{place}convert_checkpoint.py"


def test_a_context_is_split_where_the_checkpoint_is_made():
    found = made(context_parallel_size=2, tensor_parallel_size=2)
    (checkpoint,), (build,) = of(found, "convert_checkpoint"), of(found, "trtllm-build")
    assert checkpoint[checkpoint.index("--cp_size") + 1] == "2"
    assert build[build.index("--workers") + 1] == "4"
    assert of(found, "launch")[0][2:4] == ("--world_size", "4")


@pytest.mark.parametrize(
    "name", ["llama-7b", "mistral-7b", "codellama-7b", "phi-2.7b", "mixtral-8x7b", "qwen2.5-7b"]
)
def test_a_shipped_profile_writes_every_limit_out(name):
    profile = load_profile(f"tensorrt-llm/{name}").value
    (build,) = of(commands(profile, weights="/w", work="/build"), "trtllm-build")
    for limit, value in profile.limits.model_dump().items():
        assert build[build.index(f"--{limit}") + 1] == str(value)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_mandatory_place_of_the_templates_is_filled_and_no_other_is_named(version, recorded):
    found = {}
    for argv in of(made(trtllm_version=version), "fill_templates"):
        found[argv[3].split("/")[-2]] = set(substitutions(argv[-1]))
    assert set(found) == set(recorded.templates[version])
    for model, known in recorded.templates[version].items():
        assert set(known["mandatory"]) <= found[model] <= set(known["names"]), model


def test_every_family_is_known_by_a_converter_that_its_releases_record(recorded):
    for name in BUILT:
        support = FAMILIES[name].engine
        releases = [one for one in VERSIONS if version_key(one) >= version_key(support.since)]
        assert all((one, support.converter) in recorded.flags for one in releases), name


def test_scripts_come_from_the_image_since_it_has_them():
    for version in VERSIONS:
        found = made(trtllm_version=version)
        fetched = version in {"0.12.0", "0.13.0", "0.14.0", "0.15.0", "0.16.0"}
        assert bool(of(found, "get_scripts")) == fetched, version
        (launch,) = of(found, "launch")
        assert launch[1].startswith("/build/tensorrtllm_backend/" if fetched else "/app/"), version
    places = {
        version: of(made(trtllm_version=version), "convert_checkpoint")[0][1]
        for version in ("0.19.0", "0.20.0")
    }
    assert "/examples/llama/" in places["0.19.0"]
    assert "/examples/models/core/llama/" in places["0.20.0"]


def test_flags_are_spelled_as_the_release_spells_them():
    old = of(made(trtllm_version="0.12.0", optimization_level=2), "trtllm-build")[0]
    new = of(made(trtllm_version="0.14.0"), "trtllm-build")[0]
    assert old[old.index("--paged_kv_cache") + 1] == "enable"
    assert old[old.index("--builder_opt") + 1] == "2"
    assert new[new.index("--kv_cache_type") + 1] == "paged"
    assert "--paged_kv_cache" not in new


@settings(deadline=None)
@given(st.text(alphabet=string.ascii_letters + ":,\\/ ", min_size=1))
def test_a_path_with_signs_that_separate_arrives_whole(path):
    found = commands(DeploymentProfile(model_name="m"), weights=path, work="/build")
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


def test_wishes_without_a_flag_are_told_and_not_dropped_in_silence():
    told = notes(load_profile("tensorrt-llm/llama-7b", overrides={"kv_cache_dtype": "fp8"}).value)
    assert any("workspace_size_mb" in note for note in told)
    assert any("fp8 KV cache" in note for note in told)


def test_what_rests_on_no_source_is_told():
    told = notes(DeploymentProfile(model_name="m", trtllm_version="0.21.0"))
    assert any("No source of 0.21.0" in one and "convert_checkpoint.py" in one for one in told)
    assert not any("No source" in one for one in notes(DeploymentProfile(model_name="m")))


def test_scripts_that_are_fetched_are_told():
    told = notes(DeploymentProfile(model_name="m", trtllm_version="0.16.0", gpu="L4"))
    assert any("needs git" in one for one in told)
    told = notes(DeploymentProfile(model_name="m", trtllm_version="0.14.0", gpu="V100"))
    assert any("Volta" in one for one in told)


def test_the_plan_of_any_release_has_its_commands():
    for version in VERSIONS:
        profile = load_profile("tensorrt-llm/llama-7b", overrides={"trtllm_version": version})
        assert len(commands(profile.value, weights="/w", work="W")) >= 9


def test_a_work_folder_with_braces_stays_as_it_is():
    profile = DeploymentProfile(model_name="m", trtllm_version="0.12.0")
    found = commands(profile, weights="/w", work="/{build}/{0}")
    assert of(found, "convert_checkpoint")[0][1].startswith("/{build}/{0}/tensorrtllm_backend/")
