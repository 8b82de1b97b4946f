from __future__ import annotations

import pytest

from runbook_lib.artifacts_plan import Shape
from runbook_lib.errors import PlanError
from runbook_lib.plan.presets import choices, preset_names, then
from runbook_lib.profile import DeploymentProfile
from runbook_lib.values import Limits

SHAPE = Shape(
    keeps="p99.9",
    limits=Limits(max_batch_size=9, max_input_len=100, max_seq_len=130, max_num_tokens=192),
    max_output_len=40,
    cut_off=0.001,
    saved_bytes=5,
)


def profile(**fields):
    return DeploymentProfile(model_name="m", **fields)


def chosen(name, target="sm90", held=10, shape=SHAPE, **fields):
    given = {"gpu": "A100-SXM-80GB:3g.40gb"} if name == "mig" else {}
    found = choices(name, profile(**given | fields), target=target, held=held, shape=shape)
    assert all(one.reason for one in found)
    return {one.field: one.value for one in found}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_a_profile_that_is_one(name):
    fields = chosen(name)
    assert DeploymentProfile.model_validate({**profile().model_dump(), **fields})


def test_low_latency_is_one_gpu_and_a_small_batch_in_the_dtype_of_the_gpu():
    fields = chosen("low-latency", max_batch_size=500, tensor_parallel_size=4)
    assert (fields["tensor_parallel_size"], fields["max_batch_size"]) == (1, 32)
    assert (fields["dtype"], fields["kv_cache_dtype"]) == ("bfloat16", "bfloat16")
    assert chosen("low-latency", target="sm80")["dtype"] == "float16"
    assert chosen("low-latency", max_batch_size=4)["max_batch_size"] == 4
    assert "kv_cache_dtype" not in chosen("low-latency", kv_cache_dtype="fp8")


def test_throughput_takes_two_gpus_at_least():
    assert chosen("throughput")["tensor_parallel_size"] == 2
    assert chosen("throughput", tensor_parallel_size=4)["tensor_parallel_size"] == 4


def test_a_slice_takes_as_many_sequences_as_it_holds():
    assert chosen("mig", held=3)["max_batch_size"] == 3
    assert chosen("mig", held=300, max_batch_size=16)["max_batch_size"] == 16


def test_tight_shapes_are_those_that_were_found():
    fields = chosen("tight-shapes")
    assert (fields["max_input_len"], fields["max_output_len"], fields["max_seq_len"]) == (
        100,
        40,
        130,
    )


def test_a_small_cache_is_fp8_where_the_gpu_has_it_and_demands_a_look_at_the_accuracy():
    assert chosen("small-kv-cache")["kv_cache_dtype"] == "fp8"
    assert chosen("small-kv-cache", target="sm80")["kv_cache_dtype"] == "int8"
    assert any("accuracy" in text for text in then("small-kv-cache"))


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("fast", {}, "low-latency: one GPU"),
        ("tight-shapes", {"shape": None}, "--traffic"),
        ("mig", {"held": 0}, "not one longest sequence"),
        ("mig", {"gpu": "L4"}, "for a MIG slice"),
        ("mig", {"gpu": None}, "for a MIG slice"),
        ("low-latency", {"track": "lab"}, "of the lab"),
    ],
)
def test_a_preset_that_can_not_be_used_says_why(name, changed, told):
    with pytest.raises(PlanError) as caught:
        chosen(name, **changed)
    assert told in str(caught.value)


def test_a_choice_tells_whether_it_changes_anything():
    found = choices("throughput", profile(), target="sm90", held=1, shape=None)
    told = [str(one) for one in found]
    assert told[0].startswith("tensor_parallel_size 2 (was 1): ")
    assert told[1].startswith("pipeline_parallel_size 1 (as it was): ")
