"""Engines against nodes, profiles and images: each mismatch with what the server would have said."""

import json
from contextlib import suppress

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.cli_stages import engine as command
from runbook_lib.engine.identity import engine_files, inspect_engine
from runbook_lib.engine.identity_check import (
    WORDS,
    against_image,
    against_node,
    against_profile,
    of_itself,
)
from runbook_lib.engine.identity_compare import differences
from runbook_lib.engine.identity_place import Node, image_facts, read_nodes
from runbook_lib.errors import EngineMismatchError, ProfileError, UsageError
from runbook_lib.files import content_digest
from runbook_lib.profile import DeploymentProfile
from runbook_lib.profile_words import QUANTIZED
from runbook_lib.targets.engine_check import require_whole

H100 = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/cuda.driver-version.full": "580.95.05",
}
L40S = H100 | {
    "nvidia.com/gpu.product": "NVIDIA-L40S",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
    "nvidia.com/gpu.count": "1",
    "nvidia.com/gpu.memory": "46068",
}
INCOMPATIBLE = (
    "The engine plan file is generated on an incompatible device, expecting compute 8.9 got "
    "compute 9.0, please rebuild."
)
IMAGE = "nvcr.io/nvidia/tritonserver:24.12-trtllm-python-py3"


@pytest.fixture
def folder(engines, tmp_path):
    """An FP8 engine over two ranks, built here on an H100 by 0.16."""
    plans = {f"rank{rank}.engine": engines.plan("10.7.0.23") for rank in range(2)}
    made = engines.write(tmp_path / "engine", engines.config(tp=2, quant="FP8", kv="FP8"), plans)
    told = {"sm": "sm90", "gpu": "NVIDIA H100 80GB HBM3"}
    receipt = {"digest": content_digest(engine_files(made)), "built_on": told}
    (made / "receipt.json").write_text(json.dumps(receipt))
    return made


def facts_of(folder):
    return inspect_engine(folder, engine_files(folder))


@pytest.fixture
def facts(folder):
    return facts_of(folder)


def profile(**changes):
    fits = {
        "model_name": "llama-7b",
        "trtllm_version": "0.16.0",
        "tensor_parallel_size": 2,
        "quantization": "fp8",
        "kv_cache_dtype": "fp8",
        "max_batch_size": 64,
        "max_input_len": 4096,
        "max_output_len": 512,
        "max_num_tokens": 8192,
        "gpu": "H100-SXM-80GB",
    }
    return DeploymentProfile.model_validate(fits | changes)


def errors(found):
    return [one for one in found if one.severity == "error"]


def run(*words):
    said = CliRunner().invoke(command, [str(one) for one in words], standalone_mode=False)
    if said.exception:
        raise said.exception
    return said


# -- nodes ---------------------------------------------------------------------------------------


def test_an_engine_belongs_to_a_node_of_its_sm(facts):
    assert list(against_node(facts, Node("h100", H100))) == []


def test_every_mismatch_with_a_node_is_told_at_once_as_the_server_would(facts):
    found = errors(against_node(facts, Node("l40s", L40S)))
    assert [one.load_error for one in found] == [
        INCOMPATIBLE,
        "Detect 1 GPUs, the GPU number is incompatible with 2 gpusPerNode when MPI size is 2",
    ]


def test_another_gpu_of_the_same_sm_is_a_warning(facts):
    labels = H100 | {"nvidia.com/gpu.product": "NVIDIA-H200"}
    (found,) = against_node(facts, Node("h200", labels))
    assert found.severity == "warning"
    assert found.load_error.startswith("Using an engine plan file across different models")


def test_a_rank_larger_than_the_gpu_does_not_fit(facts, engines):
    labels = H100 | {"nvidia.com/gpu.memory": "0"}
    assert any("a rank has" in one.what for one in errors(against_node(facts, Node("x", labels))))


def test_an_sm_that_nobody_knows_is_no_yes(engines, tmp_path):
    made = engines.write(tmp_path / "foreign")
    foreign = inspect_engine(made, engine_files(made))
    (found,) = against_node(foreign, Node("h100", H100))
    assert (found.severity, "not known" in found.what) == ("unknown", True)


@pytest.mark.parametrize("gone", ["gpu.compute.major", "gpu.count", "gpu.memory"])
def test_a_label_that_is_missing_is_no_yes(gone, facts):
    labels = {name: value for name, value in H100.items() if name != f"nvidia.com/{gone}"}
    assert any(one.severity == "unknown" for one in against_node(facts, Node("n", labels)))


def test_the_memory_of_a_slice_is_that_of_its_own_labels(engines, tmp_path):
    made = engines.write(tmp_path / "one")
    receipt = {"digest": content_digest(engine_files(made)), "built_on": {"sm": "sm90"}}
    (made / "receipt.json").write_text(json.dumps(receipt))
    one = inspect_engine(made, engine_files(made))
    sliced = H100 | {"nvidia.com/mig-1g.10gb.count": "7", "nvidia.com/mig-1g.10gb.memory": "9984"}
    assert list(against_node(one, Node("mig", sliced), slice_name="1g.10gb")) == []
    (found,) = against_node(one, Node("whole", H100), slice_name="1g.10gb")
    assert (found.severity, "the slice 1g.10gb" in found.what) == ("unknown", True)


def test_ranks_can_not_join_slices(facts):
    sliced = H100 | {"nvidia.com/mig-3g.40gb.count": "2", "nvidia.com/mig-3g.40gb.memory": "40448"}
    found = errors(against_node(facts, Node("mig", sliced), slice_name="3g.40gb"))
    assert "NCCL" in found[0].what


def test_a_driver_older_than_the_image_asks_for_is_a_warning(facts):
    old = H100 | {"nvidia.com/cuda.driver-version.full": "535.104.05"}
    (found,) = against_node(facts, Node("old", old), image_facts(IMAGE))
    assert (found.severity, "insufficient" in found.load_error) == ("warning", True)
    three = {name: value for name, value in H100.items() if "driver" not in name}
    three |= {f"nvidia.com/cuda.driver.{name}": "535" for name in ("major", "minor", "rev")}
    assert list(against_node(facts, Node("three", three), image_facts(IMAGE)))


# -- images --------------------------------------------------------------------------------------


def test_the_image_that_built_it_serves_it(facts):
    assert list(against_image(facts, image_facts(IMAGE))) == []


def test_another_tensorrt_is_refused_with_its_own_words(facts):
    found = list(against_image(facts, image_facts(IMAGE.replace("24.12", "25.01"))))
    assert found[0].load_error.endswith(
        "expecting library version 10.8.0.43 got 10.7.0.23, please rebuild."
    )
    assert (found[1].severity, "0.17.0" in found[1].what) == ("warning", True)


def test_the_serialisation_tags_are_told_where_they_are_known(engines, tmp_path):
    made = engines.write(tmp_path, plans={"rank0.engine": engines.plan("10.0.1.6")})
    (found, *_) = against_image(inspect_engine(made), image_facts(IMAGE.replace("24.12", "25.08")))
    assert "Current Version: 240, Serialized Engine Version: 237" in found.load_error


@pytest.mark.parametrize("name", ["example.com/my/triton:1", IMAGE.replace("24.12", "99.01"), ""])
def test_an_image_that_is_not_known_is_no_yes(name, facts):
    (found,) = against_image(facts, image_facts(name))
    assert found.severity == "unknown"


def test_a_release_image_is_known_by_its_version():
    found = image_facts("nvcr.io/nvidia/tensorrt-llm/release:1.0.0")
    assert (found.trtllm, found.tensorrt) == ("1.0.0", "10.11.0.33")
    assert image_facts("nvcr.io/nvidia/tensorrt-llm/release:0.9.0").tensorrt == ""


def test_an_engine_without_a_cache_type_is_told_what_a_newer_server_says(engines, tmp_path):
    content = engines.config("0.11.0", plugin_config={"remove_input_padding": True})
    made = engines.write(tmp_path, content, {"rank0.engine": engines.plan("10.1.0.27")})
    found = errors(against_image(inspect_engine(made), image_facts(IMAGE)))
    assert any("Missing kv_cache_type field" in one.load_error for one in found)


# -- profiles ------------------------------------------------------------------------------------


def test_an_engine_belongs_to_the_profile_that_it_was_built_from(facts):
    assert list(against_profile(facts, profile())) == []


@pytest.mark.parametrize(
    ("architecture", "family", "fits"),
    [
        ("LlamaForCausalLM", "mistral", True),
        ("MixtralForCausalLM", "mixtral", True),
        ("QWenForCausalLM", "qwen2", True),
        ("Qwen2ForCausalLM", "llama", False),
        ("LlamaForCausalLM", "qwen2", False),
        ("PhiForCausalLM", "falcon", False),
        ("SomethingNew", "llama", True),
    ],
)
def test_an_engine_of_another_kin_of_models_is_not_the_profiles(
    architecture, family, fits, engines, tmp_path
):
    content = engines.config(tp=2, quant="FP8", kv="FP8")
    content["pretrained_config"]["architecture"] = architecture
    plans = {f"rank{rank}.engine": engines.plan("10.7.0.23") for rank in range(2)}
    made = facts_of(engines.write(tmp_path, content, plans))
    told = [one.what for one in against_profile(made, profile(model_family=family, gpu=None))]
    assert told == ([] if fits else [f"its model is {architecture}; the profile asks for {family}"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trtllm_version": "0.11.0"}, "Assertion failed: mpiSize == tp * pp"),
        ({"trtllm_version": "0.12.0"}, "MPI size 1 != TP size 2 * PP size 1"),
        ({"trtllm_version": "1.2.1"}, "MPI size 1 != TP size 2 * PP size 1 * CP Size 1"),
    ],
)
def test_other_ranks_are_refused_in_the_words_of_the_release(changes, said, facts):
    found = errors(against_profile(facts, profile(tensor_parallel_size=1, **changes)))
    assert found[0].load_error == said


def test_the_same_ranks_otherwise_split_are_a_mismatch_of_their_own(facts):
    other = profile(tensor_parallel_size=1, pipeline_parallel_size=2)
    assert errors(against_profile(facts, other))[0].load_error == "tensor parallelism mismatch"


def test_context_and_experts_split_otherwise_than_asked_are_told(engines, tmp_path):
    content = engines.config(tp=2, quant="FP8", kv="FP8")
    mapping = content["pretrained_config"]["mapping"]
    mapping |= {"cp_size": 2, "world_size": 4}
    plans = {f"rank{rank}.engine": engines.plan("10.7.0.23") for rank in range(4)}
    split = facts_of(engines.write(tmp_path / "context", content, plans))
    assert not errors(against_profile(split, profile(context_parallel_size=2)))
    assert "cp 2; the profile" in errors(against_profile(split, profile()))[0].what
    mapping |= {"cp_size": 1, "world_size": 2, "moe_ep_size": 2}
    plans = {name: plans[name] for name in ("rank0.engine", "rank1.engine")}
    split = facts_of(engines.write(tmp_path / "experts", content, plans))
    assert not errors(against_profile(split, profile(moe_expert_parallel_size=2)))
    assert "experts stand in 2 groups" in errors(against_profile(split, profile()))[0].what


def test_what_the_server_passes_over_in_silence_is_told_too(facts):
    other = profile(dtype="bfloat16", quantization="none", kv_cache_dtype="int8")
    told = [one.what for one in errors(against_profile(facts, other))]
    assert [text.split(";")[0] for text in told] == [
        "built in float16",
        "quantised as FP8",
        "its KV cache is fp8",
    ]


def test_every_quantisation_of_a_profile_has_its_name_in_an_engine():
    assert set(QUANTIZED) == set(WORDS)


def test_smaller_limits_are_errors_and_larger_ones_are_not(facts):
    found = list(against_profile(facts, profile(max_batch_size=128, max_input_len=2048)))
    told = {one.what.split()[0]: one.severity for one in found}
    assert told == {"max_batch_size": "error", "max_input_len": "warning", "max_seq_len": "warning"}


def test_a_smaller_input_limit_is_no_error_where_the_runtime_passes_it_over(engines, tmp_path):
    def severity(**built):
        content = engines.config(tp=2, quant="FP8", kv="FP8", max_input_len=1024, **built)
        plans = {f"rank{rank}.engine": engines.plan("10.7.0.23") for rank in range(2)}
        made = facts_of(engines.write(tmp_path, content, plans))
        found = against_profile(made, profile(gpu=None))
        return {one.what.split()[0]: one.severity for one in found}["max_input_len"]

    assert severity() == "warning"
    plugins = {"gpt_attention_plugin": "auto", "remove_input_padding": True, "context_fmha": False}
    assert severity(plugin_config=plugins) == "error"
    assert severity(max_num_tokens=2048) == "error"


def test_the_profiles_gpu_is_compared_too(facts):
    (found,) = against_profile(facts, profile(gpu="L40S"))
    assert "expecting compute 8.9 got compute 9.0" in found.load_error


def test_a_lab_profile_is_for_no_engine_of_tensorrt(facts):
    (found,) = against_profile(facts, DeploymentProfile(model_name="t", track="lab"))
    assert "the profile's track is lab" in found.what


# -- itself, and another -------------------------------------------------------------------------


def test_a_damaged_engine_is_told_as_its_load_would(folder):
    (folder / "receipt.json").unlink()
    (folder / "rank0.engine").write_bytes(b"")
    (folder / "rank1.engine").unlink()
    found = errors(of_itself(inspect_engine(folder, engine_files(folder)), folder))
    assert [one.load_error for one in found] == [
        "Assertion failed: Failed to deserialize cuda engine.",
        f"Error opening engine file: {folder / 'rank1.engine'}",
    ]


def test_a_damaged_engine_is_not_laid_out(folder):
    require_whole(folder)
    (folder / "rank1.engine").write_bytes(b"ftrt")
    with pytest.raises(EngineMismatchError, match="not whole") as caught:
        require_whole(folder)
    assert "rank1.engine: cut off" in caught.value.why


def test_an_engine_that_the_backend_refuses_is_not_laid_out(engines, tmp_path):
    content = engines.config(kv_cache_type="CONTINUOUS")
    made = engines.write(tmp_path, content, {"rank0.engine": engines.plan("10.7.0.23")})
    with pytest.raises(EngineMismatchError, match="can't be served") as caught:
        require_whole(made)
    assert "paged KV cache" in caught.value.why


@pytest.mark.parametrize(
    ("built", "lacks"),
    [
        ({"kv_cache_type": "CONTINUOUS"}, "a paged KV cache, not continuous"),
        ({"plugin_config": {"gpt_attention_plugin": "auto"}}, "packed input"),
        ({"plugin_config": {"remove_input_padding": True}}, "the attention plugin"),
    ],
)
def test_an_engine_that_can_not_batch_in_flight_is_no_engine_for_triton(
    built, lacks, engines, tmp_path
):
    content = engines.config(**built)
    made = engines.write(tmp_path, content, {"rank0.engine": engines.plan("10.7.0.23")})
    (found,) = errors(of_itself(inspect_engine(made), made))
    assert lacks in found.what
    assert found.load_error.endswith("with packed input and paged KV cache.")
    content["pretrained_config"]["architecture"] = "MambaForCausalLM"
    engines.write(tmp_path, content)
    assert not errors(of_itself(inspect_engine(made), made))


def test_padding_without_a_budget_of_tokens_is_told(engines, tmp_path):
    made = engines.write(tmp_path, engines.config(max_num_tokens=None))
    found = errors(of_itself(inspect_engine(made), made))
    assert found[0].load_error == "Padding removal requires max_num_tokens to be set."


def test_two_engines_differ_by_what_was_built_differently(engines, tmp_path, facts):
    other = engines.write(tmp_path / "other", engines.config(max_batch_size=8, quant="FP8"))
    apart = {one.name: str(one) for one in differences(facts, inspect_engine(other))}
    assert set(apart) == {"sm", "kv_cache_dtype", "tp_size", "limits.max_batch_size"}
    assert apart["sm"] == "sm: sm90, the other not told"
    assert differences(facts, facts) == []


# -- node files ----------------------------------------------------------------------------------


def as_yaml(labels):
    return "".join(f'{name}: "{value}"\n' for name, value in labels.items())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.yaml", as_yaml(H100)),
        ("labels.json", json.dumps(H100)),
        ("under.yaml", "labels:\n" + "".join(f"  {one}\n" for one in as_yaml(H100).splitlines())),
        ("node.json", json.dumps({"kind": "Node", "metadata": {"name": "n", "labels": H100}})),
        ("list.json", json.dumps({"kind": "List", "items": [{"metadata": {"labels": H100}}]})),
        ("bare.yaml", as_yaml(H100).replace('"', "")),
    ],
)
def test_labels_are_read_as_people_have_them(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    (node,) = read_nodes(tmp_path / name)
    assert (node.sm, node.number("gpu.count"), node.driver) == ("sm90", 8, "580.95.05")


BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "anchor or alias"),
        ("[" * 5000, "nested too deeply"),
        ("a: [", "expected"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
        ("\x00", "special characters"),
        ("kind: Node\n", "gives a node with a GPU"),
        ("items: []\n", ""),
        ("", "gives a node with a GPU"),
    ],
)
def test_a_file_that_holds_no_labels_is_refused_with_the_reason(text, why, tmp_path):
    (tmp_path / "node.yaml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        read_nodes(tmp_path / "node.yaml")
    assert why in caught.value.why


def test_a_file_that_is_not_there_or_links_to_itself_is_told(tmp_path):
    with pytest.raises(ProfileError, match="can't be read"):
        read_nodes(tmp_path / "none.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(ProfileError) as caught:
        read_nodes(tmp_path / "loop.yaml")
    assert "a link" in caught.value.why


def test_a_file_too_large_is_not_read(tmp_path):
    for name in ("big.yaml", "big.json"):
        with (tmp_path / name).open("wb") as handle:
            handle.truncate(33 * 2**20)
        with pytest.raises(ProfileError) as caught:
            read_nodes(tmp_path / name)
        assert "larger than 32 MiB" in caught.value.why


@given(text=st.text(max_size=40))
@settings(deadline=None, max_examples=150)
def test_no_text_gets_past_the_error(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "node.yaml"
    path.write_text(f"nvidia.com/gpu.product: x\n{text}", encoding="utf-8", errors="replace")
    with suppress(ProfileError):
        read_nodes(path)


# -- the command ---------------------------------------------------------------------------------


def test_the_command_asks_everything_at_once(folder, tmp_path):
    (tmp_path / "nodes.json").write_text(
        json.dumps(
            {
                "items": [
                    {"metadata": {"name": "good", "labels": H100}},
                    {"metadata": {"name": "bad", "labels": L40S}},
                ]
            }
        )
    )
    image = IMAGE.replace("24.12", "24.10")
    said = run(
        "check", folder, "--node-labels", tmp_path / "nodes.json", "--image", image, "--json"
    )
    answer = json.loads(said.stdout)
    assert (said.return_value, answer["ok"]) == (1, False)
    whats = [one["what"] for one in answer["problems"] if one["severity"] == "error"]
    assert [text.split(";")[0] for text in whats] == [
        "built by TensorRT 10.7.0.23",
        "compiled for sm90",
        "it has 2 ranks",
    ]
    assert all(one["load_error"] for one in answer["problems"] if one["severity"] == "error")


def test_the_command_says_where_it_belongs(folder, tmp_path):
    (tmp_path / "node.yaml").write_text(as_yaml(H100))
    said = run("check", folder, "--node-labels", tmp_path / "node.yaml", "--image", IMAGE)
    assert said.return_value == 0
    assert f"It belongs to {IMAGE} and the node node.yaml." in said.stdout
    assert "was not asked" in run("check", folder).stdout


def test_the_command_compares_two_engines(folder, engines, tmp_path):
    other = engines.write(tmp_path / "other")
    said = run("check", folder, "--against", other, "--json")
    assert (said.return_value, json.loads(said.stdout)["same_files"]) == (1, False)
    assert "The same files." in run("check", folder, "--against", folder).stdout


def test_inspect_tells_everything_and_ends_with_one_for_a_damaged_engine(folder):
    said = run("inspect", folder, "--json")
    assert (said.return_value, json.loads(said.stdout)["sm"]) == (0, "sm90")
    (folder / "rank0.engine").write_bytes(b"")
    said = run("inspect", folder)
    assert said.return_value == 1
    assert "rank0.engine: cut off" in said.stdout


def test_a_lab_engine_is_asked_about_no_node(engines, tmp_path):
    content = engines.config() | {"lab": {}}
    folder = engines.write(tmp_path / "lab", content, {"rank0.engine": b"PK"})
    (tmp_path / "node.yaml").write_text(as_yaml(H100))
    with pytest.raises(UsageError, match="an engine of the lab"):
        run("check", folder, "--node-labels", tmp_path / "node.yaml")
