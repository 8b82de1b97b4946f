from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device, device
from runbook_lib.plan.facts import known_config, model_facts
from runbook_lib.plan.fit import plan
from runbook_lib.profile import DeploymentProfile, load_profile

LLAMA = model_facts(known_config("llama-2-7b"))
MISTRAL = model_facts(known_config("mistral-7b"))
H100 = device("H100-SXM-80GB")


def profile(**fields):
    return DeploymentProfile(model_name="m", **fields)


def needed(made):
    return sum(part.bytes for part in made.memory)


def test_the_digest_of_a_plan_is_that_of_the_profile_in_force():
    effective = load_profile("tensorrt-llm/llama-7b")
    assert plan(effective.value, LLAMA, H100).profile_digest == effective.digest


def test_the_guides_profile_of_llama_does_not_fit_whole_and_says_how_much_does():
    made = plan(load_profile("tensorrt-llm/llama-7b").value, LLAMA, H100)
    assert not made.fits
    assert 0 < made.max_concurrent_sequences < 64
    assert any(
        f"Lower max_batch_size to {made.max_concurrent_sequences}" in note for note in made.notes
    )
    assert any("4096 positions" in note for note in made.notes)


def test_what_the_plan_says_would_fit_does_fit():
    first = plan(profile(max_batch_size=256), LLAMA, H100)
    assert not first.fits
    again = profile(max_batch_size=first.max_concurrent_sequences)
    assert plan(again, LLAMA, H100).fits


def test_parts_of_the_memory_are_those_of_the_arithmetic():
    made = plan(profile(max_batch_size=8, max_input_len=1000, max_output_len=24), LLAMA, H100)
    parts = {part.name: part for part in made.memory}
    assert parts["weights"].bytes == 2 * LLAMA.parameters
    assert parts["KV cache"].bytes == 8 * 1024 * 524_288
    assert set(parts) == {"weights", "KV cache", "activations", "runtime"}
    assert all(part.note for part in made.memory)


def test_a_sequence_takes_whole_blocks_of_the_cache():
    exact = plan(profile(max_batch_size=1, max_input_len=96, max_output_len=32), LLAMA, H100)
    more = plan(profile(max_batch_size=1, max_input_len=97, max_output_len=32), LLAMA, H100)
    cache = [
        next(part.bytes for part in made.memory if part.name == "KV cache")
        for made in (exact, more)
    ]
    assert cache[1] - cache[0] == 32 * 524_288


def test_weights_that_exceed_the_device_are_told_apart_from_a_cache_that_does():
    made = plan(profile(), LLAMA, device("A100-SXM-40GB:1g.5gb"))
    assert (made.fits, made.max_concurrent_sequences) == (False, 0)
    assert any("quantise, or split" in note for note in made.notes)
    narrow = plan(profile(max_input_len=100_000), LLAMA, device("L4"))
    assert any("Not one sequence" in note for note in narrow.notes)


def test_the_lab_holds_what_its_limits_ask_for_and_no_more():
    made = plan(load_profile("lab/tiny").value, MISTRAL, Device("this machine", 64 * 2**30, "avx2"))
    assert (made.fits, made.max_concurrent_sequences) == (True, 16)
    assert "runtime" not in {part.name for part in made.memory}


def test_commands_that_would_follow_stand_in_the_plan():
    assert plan(profile(), LLAMA, H100, commands=[["a", "b"]]).commands == (("a", "b"),)


@pytest.mark.parametrize(
    ("fields", "where", "told"),
    [
        ({"tensor_parallel_size": 3}, H100, "does not divide the 32 attention heads"),
        ({"pipeline_parallel_size": 33}, H100, "more than the 32 layers"),
        ({"tensor_parallel_size": 2}, device("A100-SXM-40GB:3g.20gb"), "slices have no link"),
    ],
)
def test_a_split_that_can_not_work_is_refused(fields, where, told):
    with pytest.raises(PlanError, match=told):
        plan(profile(**fields), LLAMA, where)


SIZES = {
    "max_batch_size": st.integers(1, 512),
    "max_input_len": st.integers(1, 8192),
    "max_output_len": st.integers(1, 2048),
    "max_beam_width": st.integers(1, 4),
}


@settings(deadline=None)
@given(st.fixed_dictionaries(SIZES), st.sampled_from(sorted(SIZES)), st.integers(1, 512))
def test_asking_for_more_never_needs_less_memory(fields, field, more):
    first = plan(profile(**fields), LLAMA, H100)
    second = plan(profile(**fields | {field: fields[field] + more}), LLAMA, H100)
    assert needed(second) >= needed(first)
    assert second.max_concurrent_sequences <= first.max_concurrent_sequences
    assert first.fits or not second.fits


@settings(deadline=None)
@given(st.fixed_dictionaries(SIZES), st.integers(10**9, 200 * 10**9), st.integers(1, 10**11))
def test_a_larger_device_never_holds_less(fields, size, more):
    small, large = Device("small", size, "sm90"), Device("large", size + more, "sm90")
    first, second = plan(profile(**fields), LLAMA, small), plan(profile(**fields), LLAMA, large)
    assert second.max_concurrent_sequences >= first.max_concurrent_sequences
    assert second.fits or not first.fits


@settings(deadline=None)
@given(st.fixed_dictionaries(SIZES), st.integers(10**9, 400 * 10**9))
def test_what_fits_never_needs_more_than_there_is(fields, size):
    made = plan(profile(**fields), LLAMA, Device("any", size, "sm90"))
    assert not made.fits or needed(made) <= size


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]))
def test_more_ranks_never_need_more_weights_or_cache_on_each(tp, pp):
    def held(**fields):
        parts = plan(profile(**fields), MISTRAL, H100).memory
        return [part.bytes for part in parts if part.name in {"weights", "KV cache"}]

    one, many = held(), held(tensor_parallel_size=tp, pipeline_parallel_size=pp)
    assert all(few <= whole for few, whole in zip(many, one, strict=True))
