from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import ProfileError
from runbook_lib.profile import (
    DeploymentProfile,
    LoadProfile,
    MigProfile,
    json_schema,
    load_profile,
    profile_names,
    profiles_dir,
    update_profile,
)
from runbook_lib.profile_words import WORDS
from runbook_lib.profile_yaml import MAX_BYTES

ROOT = Path(__file__).resolve().parents[2]
KINDS = ((DeploymentProfile, "profile"), (LoadProfile, "load-profile"), (MigProfile, "mig-profile"))
SEED = """\
profile: trtllm-llama-7b-fp16
model_family: llama
model_name: llama-2-7b
weights_format: huggingface
dtype: fp16
quantization: none
kv_cache_dtype: fp16
tensor_parallel_size: 1
pipeline_parallel_size: 1
max_batch_size: 64
max_input_len: 4096
max_output_len: 512
max_beam_width: 1
builder_flags:
  use_gpt_attention_plugin: true
  workspace_size_mb: 4096
runtime_env:
  TENSOR_PARALLEL_SIZE: "1"
  MAX_BATCH_SIZE: "64"
  KV_CACHE_PRECISION: fp16
notes: |
  As the guide's harness has it.
"""
LAB = "track: lab\nmodel_name: tiny\nmax_batch_size: 4\nmax_input_len: 16\nmax_output_len: 8\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    root = tmp_path / "profiles"
    (root / "mine").mkdir(parents=True)
    monkeypatch.setenv("RUNBOOK_PROFILES", str(root))
    return root


@pytest.fixture
def write(folder):
    def put(name, text):
        path = folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def refused(ref, **more):
    with pytest.raises(ProfileError) as caught:
        load_profile(ref, **more)
    return str(caught.value)


# -- what is shipped -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, _ in KINDS for name in profile_names(kind)]
)
def test_every_shipped_profile_is_valid(kind, name):
    effective = load_profile(name, kind=kind)
    assert effective.value.profile
    if isinstance(effective.value, DeploymentProfile) and effective.value.load:
        load_profile(effective.value.load, kind=LoadProfile)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_the_committed_schemas_are_those_of_the_code(kind, name):
    written = json.loads((ROOT / f"profiles/{name}.schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(kind), (
        f"write json_schema({kind.__name__}) to profiles/{name}.schema.json"
    )


def test_every_shipped_profile_names_the_schema_of_its_kind():
    for path in (ROOT / "profiles").glob("*/*.yaml"):
        wanted = {"load": "load-profile", "mig": "mig-profile"}.get(path.parent.name, "profile")
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == f"# yaml-language-server: $schema=../{wanted}.schema.json", path


def written_value(script, name):
    """A constant of the builder, which another interpreter runs, read without importing it."""
    tree = ast.parse((ROOT / "runbook_lib/lab/builder" / script).read_text(encoding="utf-8"))
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
    return ast.literal_eval(value)


def test_the_lab_knows_exactly_the_words_of_its_builder():
    builder = {
        "dtype": written_value("ir_model.py", "DTYPES"),
        "quantization": written_value("compress.py", "QUANTIZATIONS"),
        "kv_cache_dtype": written_value("convert_checkpoint.py", "KV_TYPES"),
    }
    known = {field: sorted(words) for field, words in WORDS["lab"].items()}
    assert known == {field: sorted(words) for field, words in builder.items()}


def test_the_shipped_seed_profiles_keep_the_guides_values():
    value = load_profile("tensorrt-llm/phi-2.7b").value
    assert (
        value.max_batch_size,
        value.max_input_len,
        value.builder_flags["workspace_size_mb"],
    ) == (128, 4096, 2048)
    assert load_profile("mistral-7b").value.max_input_len == 8192


# -- reading ---------------------------------------------------------------------------------------


def test_a_profile_of_the_guides_harness_is_read_unchanged(write):
    write("mine/seed", SEED)
    effective = load_profile("mine/seed")
    assert effective.value.dtype == "float16"
    assert effective.value.effective_max_seq_len == 4608
    assert effective.value.serving_env()["MAX_BATCH_SIZE"] == "64"
    assert effective.origins["max_batch_size"] == "profiles/mine/seed.yaml:10"
    assert effective.origins["max_seq_len"] == "default"


def test_a_load_profile_of_the_guides_harness_is_read_unchanged(write):
    write(
        "load/old",
        "pattern: steady\nrequests: 200\nconcurrency: 10\nmax_tokens: 64\nuse_cases: [a, b]\n",
    )
    value = load_profile("old", kind=LoadProfile).value
    assert (value.arrival, value.concurrency, value.use_cases) == ("closed", 10, ("a", "b"))


def test_both_spellings_of_a_mig_profile_ask_for_the_slice(write):
    write("mig/one", 'resources:\n  limits:\n    nvidia.com/mig-1g.5gb: "1"\n')
    write(
        "mig/two", "limits:\n  resource_key: nvidia.com/mig-1g.5gb\n  count: 1\nnodeSelector: {}\n"
    )
    assert load_profile("one", kind=MigProfile).value.resource == "nvidia.com/mig-1g.5gb"
    assert load_profile("two", kind=MigProfile).value.resource == "nvidia.com/mig-1g.5gb"


def test_the_command_line_wins_over_the_environment_over_the_profile_over_what_it_extends(write):
    write("mine/base", LAB + "quantization: int8\nkv_cache_dtype: f32\n")
    write("mine/top", "extends: base\nmax_batch_size: 8\nmax_output_len: 9\n")
    env = {"MAX_BATCH_SIZE": "12", "MAX_OUTPUT_LEN": "10", "KV_CACHE_PRECISION": "fp16"}
    effective = load_profile("mine/top", env=env, overrides={"max_batch_size": "16"})
    value, origins = effective.value, effective.origins
    assert (value.max_batch_size, origins["max_batch_size"]) == (16, "command line")
    assert (value.max_output_len, origins["max_output_len"]) == (10, "environment MAX_OUTPUT_LEN")
    assert (value.kv_cache_dtype, origins["kv_cache_dtype"]) == (
        "f16",
        "environment KV_CACHE_PRECISION",
    )
    assert (value.quantization, origins["quantization"]) == ("int8", "extends mine/base.yaml:6")
    assert (value.profile, origins["streaming"]) == ("mine/top", "default")


def test_an_empty_variable_says_nothing(write):
    write("mine/a", LAB)
    assert load_profile("mine/a", env={"MAX_BATCH_SIZE": " "}).value.max_batch_size == 4


def test_a_profile_that_extends_changes_single_builder_flags(write):
    write(
        "mine/base",
        "model_name: m\nbuilder_flags:\n  use_gemm_plugin: true\n  use_context_fmha: true\n",
    )
    write("mine/top", "extends: mine/base\nbuilder_flags:\n  use_gemm_plugin: false\n")
    flags = load_profile("mine/top").value.builder_flags
    assert flags == {"use_gemm_plugin": False, "use_context_fmha": True}


def test_an_override_takes_the_profiles_own_variable_along(write):
    write("mine/seed", SEED)
    value = load_profile("mine/seed", env={"MAX_BATCH_SIZE": "16"}).value
    assert value.serving_env()["MAX_BATCH_SIZE"] == "16"


def test_a_variable_that_only_runtime_env_states_sets_its_field(write):
    write("mine/a", "model_name: m\nruntime_env:\n  MAX_BATCH_SIZE: '32'\n")
    effective = load_profile("mine/a")
    assert (effective.value.max_batch_size, effective.origins["max_batch_size"]) == (
        32,
        "profiles/mine/a.yaml:3",
    )


def test_the_digest_follows_the_values_and_not_where_they_came_from(write):
    write("mine/a", LAB)
    same = load_profile("mine/a", overrides={"max_batch_size": 4})
    other = load_profile("mine/a", overrides={"max_batch_size": 5})
    assert same.digest == load_profile("mine/a").digest != other.digest


def test_the_table_shows_every_field_and_what_follows_from_others(write):
    write("mine/a", LAB)
    rows = {name: (value, origin) for name, value, origin in load_profile("mine/a").table()}
    assert set(rows) == set(DeploymentProfile.model_fields)
    assert rows["max_seq_len"] == ("24", "default")
    assert rows["max_input_len"] == ("16", "profiles/mine/a.yaml:4")


def test_html_of_a_profile_is_escaped(write):
    write("mine/a", LAB + "notes: <script>alert(1)</script>\n")
    assert "<script>" not in load_profile("mine/a")._repr_html_()


# -- finding ---------------------------------------------------------------------------------------


def test_a_bare_name_that_two_folders_have_is_refused_with_both(write):
    write("mine/a", LAB)
    write("yours/a", LAB)
    text = refused("a")
    assert "mine/a" in text
    assert "yours/a" in text
    assert load_profile("yours/a").value.model_name == "tiny"


def test_an_unknown_name_is_answered_with_the_nearest(write):
    write("mine/llama-7b", LAB)
    assert "llama-7b" in refused("lama-7b")


def test_a_profile_of_another_kind_is_said_to_be_one(write):
    write("load/gentle", "concurrency: 1\n")
    assert "load/gentle is a load profile, not a deployment profile" in refused("gentle")


def test_a_path_works_from_anywhere(tmp_path, folder):
    path = tmp_path / "elsewhere.yaml"
    path.write_text(LAB, encoding="utf-8")
    effective = load_profile(str(path))
    assert effective.value.profile == "elsewhere"
    assert effective.origins["track"] == f"{path}:1"


def test_profiles_of_the_present_folder_come_before_the_shipped(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNBOOK_PROFILES", raising=False)
    monkeypatch.chdir(tmp_path)
    assert profiles_dir() == ROOT / "profiles"
    (tmp_path / "profiles").mkdir()
    assert profiles_dir() == tmp_path / "profiles"


# -- refusing --------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_with_their_lines(write):
    write(
        "mine/a",
        LAB + "max_bacth_size: 3\nmax_seq_len: '64'\nquantization: int3\nmax_beam_width: 2\n",
    )
    text = refused("mine/a")
    assert (
        "profiles/mine/a.yaml:6 max_bacth_size is no key of a deployment profile; did you mean max_batch_size?"
        in text
    )
    assert "profiles/mine/a.yaml:7 max_seq_len: '64' (text) given, a valid integer wanted" in text
    assert "profiles/mine/a.yaml:8 quantization: 'int3' is no word of the lab track" in text
    assert "profiles/mine/a.yaml:9 max_beam_width" in text
    assert "4 problems" in text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("max_batch_size: true", "True (true/false) given"),
        ("max_batch_size: 0", "greater than 0"),
        ("max_batch_size: 99999999999999999999", "max_batch_size"),
        ("max_batch_size: 1.5", "max_batch_size"),
        ("max_batch_size:", "nothing"),
        ("streaming: 'yes'", "streaming"),
        ("track: gpu", "'engine', 'llmapi' or 'lab'"),
        ("approve: always", "'ask' or 'auto'"),
        ("max_seq_len: 16", "no room to answer"),
        ("tensor_parallel_size: 2", "one process per engine"),
        ("gpu: H100-SXM-80GB", "no meaning in the lab"),
        ("optimization_level: 2", "it is 0 or 1"),
        ("optimization_level: 0", "activations unquantised, which they are then anyway"),
        ("runtime_env: {HF_TOKEN: abc}", "looks like a secret"),
        ("runtime_env: {MAX: 1}", "runtime_env.MAX"),
        ("model_repository: s3://key:word@host/x", "is no store"),
        ("model_repository: s3://models/../x", "is no store"),
        ("tradeoffs: [{label: a, quantisation: int8}]", "did you mean quantization?"),
        ("tradeoffs: [{label: a, quantization: int9}]", "tradeoffs.0.quantization"),
        ("tradeoffs: [{label: a, max_batch_size: '4'}]", "tradeoffs.0.max_batch_size"),
        ("tradeoffs: [{label: a}, {label: a}]", "its own label"),
        ("tradeoffs: [{label: ../a}]", "tradeoffs.0.label"),
        ("tradeoffs: int8", "tradeoffs"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(write, line, told):
    key = line.partition(":")[0]
    kept = "".join(row for row in LAB.splitlines(keepends=True) if not row.startswith(f"{key}:"))
    write("mine/a", kept + line + "\n")
    text = refused("mine/a")
    assert told in text
    assert f"profiles/mine/a.yaml:{len(kept.splitlines()) + 1} {key}" in text


@pytest.mark.parametrize(
    "name", ["../x", ".hidden", "a/b", "a b", "-rf", "", "a\n", "ü", "a" * 129]
)
def test_a_model_name_that_is_no_folder_name_is_refused(write, name):
    write("mine/a", f"model_name: {json.dumps(name)}\n")
    assert "model_name" in refused("mine/a")


def test_a_variable_that_contradicts_the_profiles_own_field_is_refused_with_both_lines(write):
    write("mine/a", SEED.replace('MAX_BATCH_SIZE: "64"', 'MAX_BATCH_SIZE: "32"'))
    text = refused("mine/a")
    assert "profiles/mine/a.yaml:19 MAX_BATCH_SIZE = '32'" in text
    assert "profiles/mine/a.yaml:10 max_batch_size = 64" in text


def test_a_wrong_variable_of_the_environment_names_itself(write):
    write("mine/a", LAB)
    text = refused("mine/a", env={"MAX_BATCH_SIZE": "many", "TENSOR_PARALLEL_SIZE": "2"})
    assert "environment MAX_BATCH_SIZE max_batch_size: 'many'" in text
    assert "environment TENSOR_PARALLEL_SIZE tensor_parallel_size" in text


def test_a_kv_cache_of_another_float_than_the_weights_is_refused(write):
    write("mine/a", "model_name: m\ndtype: bf16\nkv_cache_dtype: fp16\n")
    assert "differs from dtype bfloat16" in refused("mine/a")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model_name: m\nmodel_name: n\n", "a.yaml:2 states model_name again; it stands in line 1"),
        ("a: &x [1]\nb: *x\n", "an anchor or alias (x)"),
        ("a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n", "an anchor or alias"),
        ("model_name: !!python/object/apply:os.system ['true']\n", "the tag"),
        ("model_name: !env HOME\n", "the tag !env"),
        ("<<: {a: 1}\n", "the key '<<'"),
        ("1: a\n", "the key '1'"),
        ("? [a, b]\n: c\n", "the key"),
        ("- a\n- b\n", "holds a list"),
        ("just text\n", "a single value"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("a: [1\n", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("model_name: m\nnotes: " + "9" * 5000, "Exceeds the limit"),
        ("a: \x01\n", "is not YAML"),
        (b"a: 1\nmodel_name: \xff\n", "a.yaml:2 is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "larger than 64 KiB"),
    ],
)
def test_hostile_yaml_is_refused_with_a_reason(write, text, told):
    write("mine/a", text)
    assert told in refused("mine/a")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_file_whatever_ends_in_anything_but_a_profile_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "a.yaml"
    path.write_bytes(data)
    with pytest.raises(ProfileError):
        load_profile(str(path))


def test_a_folder_is_no_profile(folder):
    (folder / "mine" / "x.yaml").mkdir()
    assert "x.yaml is not a file" in refused("mine/x")


# -- extends ---------------------------------------------------------------------------------------


def test_a_cycle_of_extends_is_refused_with_its_names(write):
    write("mine/a", "extends: b\n")
    write("mine/b", "extends: mine/a\n")
    assert "mine/a → mine/b → mine/a" in refused("mine/a")


@pytest.mark.parametrize("ref", ["../secret", "/etc/passwd", "~/x", "sub/../../secret"])
def test_extends_never_leaves_the_folder_of_profiles(write, folder, ref):
    (folder.parent / "secret.yaml").write_text(LAB, encoding="utf-8")
    write("mine/a", f"extends: {ref}\n")
    assert "profiles/mine/a.yaml:1: extends" in (text := refused("mine/a"))
    assert "leaves the folder" in text


def test_extends_through_a_link_out_of_the_folder_is_refused(write, folder):
    outside = folder.parent / "secret.yaml"
    outside.write_text(LAB, encoding="utf-8")
    (folder / "mine" / "link.yaml").symlink_to(outside)
    write("mine/a", "extends: link\n")
    assert "is a link out of" in refused("mine/a")


def test_extends_of_an_unknown_profile_names_the_nearest(write):
    write("mine/base", LAB)
    write("mine/a", "extends: bsae\n")
    assert "Did you mean base?" in refused("mine/a") or "Did you mean mine/base?" in refused(
        "mine/a"
    )


def test_a_wrong_value_of_what_is_extended_is_told_with_its_own_line(write):
    write("mine/base", LAB + "quantization: int3\n")
    write("mine/a", "extends: base\n")
    assert "extends mine/base.yaml:6 quantization" in refused("mine/a")


# -- editing ---------------------------------------------------------------------------------------


def test_an_edit_keeps_comments_and_everything_it_does_not_name(tmp_path):
    path = tmp_path / "tiny.yaml"
    before = (ROOT / "profiles/lab/tiny.yaml").read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    diff = update_profile(path, {"max_batch_size": 8})
    assert path.read_text(encoding="utf-8") == before.replace(
        "max_batch_size: 16", "max_batch_size: 8"
    )
    assert "-max_batch_size: 16" in diff
    assert "+max_batch_size: 8" in diff


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "profiles").glob("*/*.yaml"))
)
def test_an_edit_of_nothing_changes_nothing(tmp_path, name):
    source = ROOT / name
    path = tmp_path / source.parent.name / source.name
    path.parent.mkdir()
    path.write_bytes(source.read_bytes())
    assert update_profile(path, {}) == ""
    assert path.read_bytes() == source.read_bytes()


def test_an_edit_keeps_the_line_ends_of_the_file(write):
    path = write("mine/a", LAB.replace("\n", "\r\n"))
    update_profile(path, {"max_batch_size": 5})
    assert path.read_bytes() == LAB.replace("size: 4", "size: 5").replace("\n", "\r\n").encode()


def test_an_edit_that_would_make_the_profile_wrong_writes_nothing(write):
    path = write("mine/a", LAB)
    with pytest.raises(ProfileError, match="max_batch_size"):
        update_profile(path, {"max_batch_size": -1})
    assert path.read_text(encoding="utf-8") == LAB
    assert list(path.parent.iterdir()) == [path]


def test_an_edit_to_none_takes_the_field_out(write):
    path = write("mine/a", LAB + "max_beam_width: 1\n")
    update_profile(path, {"max_beam_width": None})
    assert path.read_text(encoding="utf-8") == LAB


# -- what follows from the fields ------------------------------------------------------------------


def test_a_step_never_has_fewer_tokens_than_one_prompt():
    value = DeploymentProfile(
        model_name="m", max_batch_size=1, max_input_len=10_000, max_output_len=1
    )
    assert value.effective_max_num_tokens == 10_000


def test_a_cell_of_the_trade_offs_makes_a_profile_of_its_own():
    value = load_profile("lab/tiny").value
    for cell in value.tradeoffs:
        changed = DeploymentProfile.model_validate(value.model_dump() | cell.changes())
        assert changed != value
        assert changed.model_name == value.model_name


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"arrival": "closed"}, "concurrency"),
        ({"arrival": "poisson"}, "rate"),
        ({"arrival": "closed", "concurrency": 1, "rate": 1.0}, "rate"),
        ({"pattern": "poisson", "rate": 1.0, "concurrency": 2}, "concurrency"),
    ],
)
def test_a_load_that_can_not_mean_anything_is_refused(write, fields, told):
    write("load/a", "".join(f"{name}: {value}\n" for name, value in fields.items()))
    assert told in refused("load/a", kind=LoadProfile)


# -- ranks ----------------------------------------------------------------------------------------


def test_experts_are_split_over_the_ranks_that_share_a_layer():
    made = DeploymentProfile(
        model_name="m", tensor_parallel_size=8, moe_expert_parallel_size=4, context_parallel_size=2
    )
    assert made.effective_moe_tensor_parallel_size == 2
    assert made.world_size == 16
    made = DeploymentProfile(model_name="m", tensor_parallel_size=8, moe_tensor_parallel_size=2)
    assert made.effective_moe_expert_parallel_size == 4


def test_a_split_of_experts_that_does_not_make_the_ranks_is_refused(write):
    write("mine/one", "model_name: m\ntensor_parallel_size: 4\nmoe_expert_parallel_size: 3\n")
    said = refused("mine/one")
    assert "one.yaml:3 moe_expert_parallel_size" in said
    assert "must be tensor_parallel_size 4" in said


@pytest.mark.parametrize("field", ["context_parallel_size", "moe_expert_parallel_size"])
def test_the_lab_splits_nothing(write, field):
    write("mine/lab", f"{LAB}tensor_parallel_size: 1\n{field}: 2\n")
    assert f"{field}: 2 in the lab" in refused("mine/lab")
