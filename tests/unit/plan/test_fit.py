from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import PlanError
from runbook_lib.hardware import Device, device
from runbook_lib.plan.facts import known_config, known_models, model_facts
from runbook_lib.plan.facts_model import Layer, ModelFacts
from runbook_lib.plan.fit import plan
from runbook_lib.plan.fit_memory import memory_of
from runbook_lib.profile import DeploymentProfile, load_profile

LLAMA = model_facts(known_config("llama-2-7b"))
MISTRAL = model_facts(known_config("mistral-7b"))
H100 = device("H100-SXM-80GB")


def profile(**fields):
    return DeploymentProfile(model_name="m", **fields)


def test_the_digest_of_a_plan_is_that_of_the_profile_in_force():
    effective = load_profile("tensorrt-llm/llama-7b")
    assert plan(effective.value, LLAMA, H100).profile_digest == effective.digest


def cache_of(made):
    return next(part.bytes for part in made.memory if part.name == "KV cache")


def test_the_guides_profile_of_llama_runs_and_says_how_many_of_its_longest_sequences_wait():
    made = plan(load_profile("tensorrt-llm/llama-7b").value, LLAMA, H100)
    assert made.fits
    assert 0 < made.max_concurrent_sequences < 64
    assert any(
        f"Lower max_batch_size to {made.max_concurrent_sequences}" in note for note in made.notes
    )
    assert any("4096 positions" in note for note in made.notes)


def test_a_plan_that_holds_its_whole_batch_has_nothing_to_shrink():
    made = plan(profile(max_batch_size=8, max_input_len=1000, max_output_len=24), LLAMA, H100)
    assert made.max_concurrent_sequences >= 8
    assert made.shrinks == ()
    assert not any("wait" in note for note in made.notes)


def test_parts_of_the_memory_are_those_of_the_arithmetic():
    made = plan(profile(max_batch_size=8, max_input_len=1000, max_output_len=24), LLAMA, H100)
    parts = {part.name: part.bytes for part in made.memory}
    assert parts["weights"] == 2 * LLAMA.parameters
    assert set(parts) == {"weights", "KV cache", "activations", "runtime"}
    left = H100.room - sum(parts.values()) + parts["KV cache"]
    assert parts["KV cache"] == int(0.9 * left)
    assert made.max_concurrent_sequences == parts["KV cache"] // (1024 * 524_288)
    assert all(part.note for part in made.memory)


def test_a_sequence_takes_whole_blocks_of_the_cache():
    memory = memory_of(profile(), LLAMA, H100)
    assert memory.sequence(129) - memory.sequence(128) == 32 * 524_288
    assert memory.sequence(97) == memory.sequence(128)


def test_memory_beside_the_cache_is_no_less_than_a_server_logged():
    # TensorRT-LLM docs/source/reference/memory.md: a 7B engine of one byte a weight leaves 70.48 of
    # 79.10 GiB; its max_num_tokens is taken for the default.
    asked = profile(quantization="fp8", kv_cache_dtype="fp8", max_batch_size=256)
    fixed = memory_of(asked, LLAMA, H100).fixed
    assert 8.62 * 2**30 <= fixed < 1.5 * 8.62 * 2**30


# 28 layers of two-matrix MLPs, 16 heads of 256: GPT-J 6B.
GPT_J = ModelFacts(
    architecture="GPTJForCausalLM",
    hidden=4096,
    intermediate=16_384,
    heads=16,
    kv_heads=16,
    head_dim=256,
    vocab=50_400,
    positions=2048,
    tied=False,
    stack=(Layer(split=2 * 4096**2 + 2 * 4096 * 16_384, keys=2 * 4096**2),) * 28,
    rest=2 * 4096,
)


def test_a_large_batch_takes_no_less_than_a_server_logged():
    # TensorRT-LLM benchmarks/Suite.md, 2024-08: fp8, 4096 sequences, 8192 tokens in a step. The log's
    # sizes are GPT-J's, though its command names Llama 2 7B. 63.62 of 79.10 GiB are left.
    asked = profile(
        quantization="fp8",
        kv_cache_dtype="fp8",
        max_batch_size=4096,
        max_input_len=2048,
        max_output_len=2050,
    )
    memory = memory_of(asked, GPT_J, H100)
    assert memory.weights == pytest.approx(6214 * 2**20, rel=0.02)
    assert memory.sequence(294_848) == pytest.approx(62.99 * 2**30, rel=0.001)
    assert (79.10 - 63.62) * 2**30 <= memory.fixed < 1.2 * (79.10 - 63.62) * 2**30


def test_weights_that_exceed_the_device_are_told_apart_from_a_cache_that_does():
    made = plan(profile(), LLAMA, device("A100-SXM-40GB:1g.5gb"))
    assert (made.fits, made.max_concurrent_sequences) == (False, 0)
    assert any("quantise, or split" in note for note in made.notes)
    narrow = plan(profile(max_output_len=100_000), LLAMA, device("L4"))
    assert not narrow.fits
    assert any("Not one sequence" in note for note in narrow.notes)


def test_what_does_not_fit_is_told_what_to_shrink_best_first():
    made = plan(profile(), LLAMA, device("A100-SXM-40GB:2g.10gb"))
    assert not made.fits
    verdicts = [one.fits for one in made.shrinks]
    assert verdicts == sorted(verdicts, reverse=True)
    assert {one.change for one in made.shrinks} >= {"quantization int4_awq", "kv_cache_dtype int8"}
    assert "tensor_parallel_size 2" not in {one.change for one in made.shrinks}  # slices are alone
    assert "quantization fp8" not in {one.change for one in made.shrinks}  # nor has Ampere fp8


@pytest.mark.parametrize("name", ["A100-SXM-40GB:2g.10gb", "L4", "H100-SXM-80GB"])
def test_a_change_that_is_offered_gives_what_it_says(name):
    where, asked = device(name), profile(max_batch_size=64, max_input_len=4096)
    made = plan(asked, LLAMA, where)
    assert made.shrinks
    for one in made.shrinks:
        after = memory_of(asked.model_copy(update=one.fields), LLAMA, where)
        assert (one.fits, one.sequences) == (after.fits, after.sequences), one.change
        assert one.saved_bytes > 0


def test_windows_are_offered_and_not_counted_on():
    gemma = model_facts(known_config("gemma-3-27b"))
    asked = profile(max_batch_size=64, max_input_len=30_000, dtype="bfloat16")
    made = plan(asked, gemma, H100)
    assert any("max_attention_window" in note for note in made.notes)
    (windows,) = (one for one in made.shrinks if "window" in one.change)
    assert windows.sequences > 3 * made.max_concurrent_sequences


def test_the_smallest_set_of_each_kind_comes_smallest_first():
    kinds = [
        device(name) for name in ("H100-SXM-80GB", "L4", "A10", "V100", "A100-SXM-40GB:1g.5gb")
    ]
    made = plan(profile(), LLAMA, H100, among=kinds)
    assert [(one.device, one.devices) for one in made.placements] == [
        ("A10", 1),
        ("L4", 1),
        ("H100-SXM-80GB", 1),
    ]
    assert {one.device: one.devices for one in made.whole_batch}["H100-SXM-80GB"] > 1


def test_a_set_of_gpus_that_is_told_does_hold_it_and_no_smaller_one_does():
    large = model_facts(known_config("llama-3.1-70b"))
    (place,) = plan(profile(), large, H100, among=[H100]).placements
    assert place.devices > 1
    ranks = {"tensor_parallel_size": place.tensor_parallel_size}
    ranks["pipeline_parallel_size"] = place.pipeline_parallel_size
    assert plan(profile(**ranks), large, H100).fits
    assert not plan(profile(), large, H100).fits


def test_precisions_that_a_gpu_lacks_leave_it_out():
    kinds = [device("A100-SXM-80GB"), device("L4"), device("B200-SXM")]
    for fields, left in (({"quantization": "fp8"}, 2), ({"quantization": "nvfp4"}, 1)):
        assert len(plan(profile(**fields), LLAMA, kinds[-1], among=kinds).placements) == left


@pytest.mark.parametrize(
    ("model", "fields", "where", "told"),
    [
        ("llama-2-7b", {"quantization": "fp8"}, "A100-SXM-80GB", "quantization fp8 needs SM 89"),
        ("llama-2-7b", {"kv_cache_dtype": "fp8"}, "A10", "kv_cache_dtype fp8 needs SM 89"),
        ("deepseek-v3", {}, "A100-SXM-80GB", "quantization fp8 needs SM 89"),
        ("llama-2-7b", {"quantization": "nvfp4"}, "H100-SXM-80GB", "needs SM 100"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(model, fields, where, told):
    with pytest.raises(PlanError, match=told):
        plan(profile(**fields), model_facts(known_config(model)), device(where))


def test_no_gpu_is_offered_that_trtllm_build_refuses_the_integers_of():
    kinds = [H100, device("B200-SXM")]
    whole = plan(profile(quantization="int8_wo"), LLAMA, H100, among=kinds)
    assert {one.device for one in whole.placements} == {"H100-SXM-80GB"}
    kinds = [H100, device("RTX-PRO-6000-Blackwell-SE")]
    served = profile(quantization="int4_awq", track="llmapi")
    offered = plan(served, LLAMA, H100, among=kinds).placements
    assert {one.device for one in offered} == {"H100-SXM-80GB"}


@pytest.mark.parametrize(("track", "offered"), [("engine", True), ("llmapi", False)])
def test_what_a_track_can_not_do_shrinks_nothing(track, offered):
    made = plan(profile(track=track, max_batch_size=512), LLAMA, H100)
    assert ("kv_cache_dtype int8" in {one.change for one in made.shrinks}) is offered
    assert "kv_cache_dtype fp8" in {one.change for one in made.shrinks}


def test_what_a_plan_does_not_count_or_counts_otherwise_is_told():
    odd = model_facts(known_config("llama-2-7b") | {"vocab_size": 32001})
    assert any(
        "padded to 32,002" in note
        for note in plan(profile(tensor_parallel_size=2), odd, H100).notes
    )
    context = plan(profile(context_parallel_size=2), LLAMA, H100)
    assert any("as if each rank had whole sequences" in note for note in context.notes)
    nodes = plan(profile(tensor_parallel_size=8, pipeline_parallel_size=2), LLAMA, H100)
    assert any("more than a node" in note for note in nodes.notes)
    tower = plan(profile(dtype="bfloat16"), model_facts(known_config("gemma-3-27b")), H100)
    assert any("vision tower" in note for note in tower.notes)
    made = plan(profile(), model_facts(known_config("gpt-oss-20b")), H100)
    assert any("comes in mxfp4" in note for note in made.notes)
    assert made.active_parameters < made.parameters


MIXTRAL = model_facts(known_config("mixtral-8x7b"))


def test_experts_in_groups_take_no_more_than_experts_that_are_shared():
    shared = profile(tensor_parallel_size=8)
    groups = profile(tensor_parallel_size=8, moe_expert_parallel_size=8)
    first, second = (memory_of(one, MIXTRAL, H100).weights for one in (shared, groups))
    assert first == second
    made = plan(profile(tensor_parallel_size=2, context_parallel_size=2), MIXTRAL, H100)
    assert (made.devices, made.tensor_parallel_size) == (4, 2)


@pytest.mark.parametrize(
    ("model", "fields", "told"),
    [
        (
            MIXTRAL,
            {"tensor_parallel_size": 16, "moe_expert_parallel_size": 16},
            "16 does not divide the 8 experts",
        ),
        (
            model_facts(known_config("qwen3-30b-a3b") | {"moe_intermediate_size": 770}),
            {"tensor_parallel_size": 4},
            "do not divide its inner size 770",
        ),
        (LLAMA, {"tensor_parallel_size": 2, "moe_expert_parallel_size": 2}, "has no experts"),
    ],
)
def test_experts_that_can_not_be_split_so_are_refused(model, fields, told):
    with pytest.raises(PlanError, match=told):
        plan(profile(**fields), model, H100)


@pytest.mark.parametrize("kv", ["fp8", "int8"])
def test_a_rounded_cache_demands_a_look_at_the_accuracy(kv):
    made = plan(profile(kv_cache_dtype=kv), LLAMA, H100)
    assert any("accuracy" in note and kv in note for note in made.notes)
    assert not any("accuracy" in note for note in plan(profile(), LLAMA, H100).notes)


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
    first = memory_of(profile(**fields), LLAMA, H100)
    second = memory_of(profile(**fields | {field: fields[field] + more}), LLAMA, H100)
    assert second.least >= first.least
    assert second.whole_batch >= first.whole_batch
    assert second.sequences <= first.sequences
    assert first.fits or not second.fits


@settings(deadline=None)
@given(st.fixed_dictionaries(SIZES), st.integers(10**9, 200 * 10**9), st.integers(1, 10**11))
def test_a_larger_device_never_holds_less(fields, size, more):
    small, large = Device("small", size, "sm90"), Device("large", size + more, "sm90")
    first, second = (memory_of(profile(**fields), LLAMA, one) for one in (small, large))
    assert second.sequences >= first.sequences
    assert second.fits or not first.fits


@settings(deadline=None, max_examples=50)
@given(st.fixed_dictionaries(SIZES), st.integers(10**9, 400 * 10**9))
def test_it_fits_exactly_where_its_parts_have_room(fields, size):
    made = plan(profile(**fields), LLAMA, Device("any", size, "sm90"))
    assert made.fits == (sum(part.bytes for part in made.memory) <= size)
    assert made.fits == (made.max_concurrent_sequences > 0)


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]))
def test_more_ranks_never_need_more_weights_or_cache_on_each(tp, pp):
    one = memory_of(profile(), MISTRAL, H100)
    split = profile(tensor_parallel_size=tp, pipeline_parallel_size=pp)
    many = memory_of(split, MISTRAL, H100)
    assert many.weights <= one.weights
    assert many.sequence(100) <= one.sequence(100)


LENGTHS = st.lists(st.integers(1, 20_000), min_size=1, max_size=30)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 100))
def test_a_cache_holds_between_as_many_as_its_longest_and_as_its_mean(lengths, gigabytes):
    memory = memory_of(profile(), LLAMA, Device("any", 20 * 10**9 + gigabytes * 10**9, "sm90"))
    sizes = [memory.sequence(one) for one in lengths]
    held = memory.held(lengths)
    assert memory.pool // max(sizes) <= held <= memory.pool / (sum(sizes) / len(sizes)) + 1


def test_a_cache_holds_in_99_of_100_draws_what_it_says():
    memory, chance = memory_of(profile(), LLAMA, H100), random.Random(7)
    lengths = [chance.choice([100, 500, 4000]) for _ in range(3000)]
    held = memory.held(lengths)
    draws = [sum(map(memory.sequence, chance.choices(lengths, k=held))) for _ in range(2000)]
    assert sum(drawn > memory.pool for drawn in draws) < 2000 * 0.02
    more = [sum(map(memory.sequence, chance.choices(lengths, k=held * 5 // 4))) for _ in range(500)]
    assert sum(drawn > memory.pool for drawn in more) > 500 * 0.1


NAMES = sorted(known_models())
PLACES = ["H100-SXM-80GB", "A10", "B200-SXM", "A100-SXM-40GB:1g.5gb"]


ASKED = st.fixed_dictionaries(
    {
        "tensor_parallel_size": st.integers(1, 9) | st.integers(1, 65_536),
        "pipeline_parallel_size": st.integers(1, 5) | st.integers(1, 65_536),
        "max_input_len": st.integers(1, 16_777_216),
        "max_batch_size": st.integers(1, 65_536),
        "quantization": st.sampled_from(["none", "fp8", "int4_awq", "nvfp4"]),
    }
)


@settings(deadline=None, max_examples=60)
@given(ASKED, st.sampled_from(NAMES), st.sampled_from(PLACES))
def test_whatever_is_asked_of_any_model_it_is_planned_or_refused(asked, name, where):
    model = model_facts(known_config(name))
    try:
        made = plan(profile(**asked), model, device(where), among=[H100])
    except PlanError as error:
        told = error.why
    else:
        told = str(made)
        assert made.fits == (made.max_concurrent_sequences > 0)
    assert told
