from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import PlanError
from runbook_lib.hardware import device, gpu, gpu_names
from runbook_lib.plan import roofline
from runbook_lib.plan.facts import known_config, model_facts
from runbook_lib.plan.roofline import curve, estimate
from runbook_lib.plan.roofline_interval import band, novelties, taken_like
from runbook_lib.plan.roofline_machine import machine
from runbook_lib.plan.roofline_memory import holds
from runbook_lib.plan.roofline_points import alone, steady, together
from runbook_lib.plan.roofline_time import calibration, factors, parts
from runbook_lib.plan.roofline_work import Deployment, step_of

H100, H200 = device("H100-SXM-80GB"), device("H200-SXM-141GB")
L40S, L4 = device("L40S"), device("L4")
NAMES = ("llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "gpt-oss-20b")
MODELS = {name: model_facts(known_config(name)) for name in NAMES}
LLAMA = MODELS["llama-3.1-8b"]
FP8 = {"dtype": "float16", "quantization": "fp8", "kv_dtype": "fp8", "trtllm": "0.15.0"}
LOAD = {"input_len": 1000, "output_len": 500}
deployments = st.builds(
    lambda name, tp, pp, attention_dp, pytorch: Deployment(
        model=MODELS[name],
        machine=machine(H100, MODELS[name].in_force("none")),
        dtype="bfloat16",
        quantization="none",
        kv_dtype="fp8",
        tp=tp,
        pp=pp,
        attention_dp=attention_dp and tp > 1,
        pytorch=pytorch,
    ),
    st.sampled_from(NAMES),
    st.sampled_from((1, 2, 4, 8)),
    st.sampled_from((1, 2, 4)),
    st.booleans(),
    st.booleans(),
)
lengths = st.integers(1, 40_000)
batches = st.integers(1, 4096)


def seconds(deployed, batch, input_len, output_len):
    carried = steady(deployed, batch, input_len, output_len)
    return parts(step_of(deployed, carried), factors()).total


def rate(deployed, batch, input_len, output_len):
    return together(deployed, batch) / seconds(deployed, batch, input_len, output_len)


@settings(deadline=None, max_examples=150)
@given(deployments, batches, batches, lengths, lengths)
def test_more_sequences_at_once_never_give_fewer_tokens_a_second(
    deployed, one, other, input_len, output_len
):
    fewer, more = (rate(deployed, batch, input_len, output_len) for batch in sorted((one, other)))
    assert more >= fewer * (1 - 1e-9)


@settings(deadline=None, max_examples=100)
@given(
    deployments,
    batches,
    lengths,
    lengths,
    st.sampled_from(("bandwidth", "flops", "flops_16", "link")),
)
def test_a_machine_that_is_better_in_something_is_never_slower(
    deployed, batch, input_len, output_len, ceiling
):
    made = deployed.machine
    better = replace(made, **{ceiling: 2 * getattr(made, ceiling)})
    faster = seconds(replace(deployed, machine=better), batch, input_len, output_len)
    assert faster <= seconds(deployed, batch, input_len, output_len) * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(deployments, batches, lengths, lengths, st.integers(1, 10_000))
def test_a_longer_prompt_is_never_faster(deployed, batch, input_len, output_len, more):
    short = seconds(deployed, batch, input_len, output_len)
    assert seconds(deployed, batch, input_len + more, output_len) >= short * (1 - 1e-9)
    first, second = (
        parts(step_of(deployed, alone(length)), factors()).total
        for length in (input_len, input_len + more)
    )
    assert second >= first * (1 - 1e-9)


@settings(deadline=None, max_examples=60)
@given(deployments, lengths, st.integers(1, 10_000))
def test_longer_sequences_never_leave_room_for_more(deployed, tokens, more):
    assert holds(deployed, H100, tokens + more) <= holds(deployed, H100, tokens)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(gpu_names()), st.sampled_from(("0.8.0", "0.17.0", "1.0.3", "1.2.1", None)))
def test_an_estimate_lies_in_its_interval_or_says_why_there_is_none(name, trtllm):
    if not {"float16", "fp8"} <= gpu(name).dense_tflops.keys():
        with pytest.raises(PlanError, match=name):
            estimate(LLAMA, device(name), **FP8 | {"trtllm": trtllm}, **LOAD)
        return
    found = estimate(LLAMA, device(name), **FP8 | {"trtllm": trtllm}, **LOAD)
    for span in (
        found.prefill_seconds,
        found.decode_seconds_per_token,
        found.output_tokens_per_s,
    ):
        assert 0 < span.low < span.middle < span.high
    assert sum(found.shares.values()) == pytest.approx(1, abs=0.01)
    assert 1 <= found.knee <= found.room


def test_decode_of_one_sequence_reads_every_weight_at_the_rate_of_the_memory():
    found = estimate(LLAMA, H100, **FP8, input_len=1, output_len=1, batch=1)
    fastest = LLAMA.read_bytes("float16", "fp8") / 3.35e12
    assert fastest < found.decode_seconds_per_token.middle < 5 * fastest


def test_a_large_model_singlewaits_for_its_weights():
    large = model_facts(known_config("llama-3.1-70b"))
    found = estimate(large, H200, **FP8, input_len=128, output_len=2048, batch=8)
    assert found.bound == "memory"
    assert found.shares["matrices"] > 0.5


def test_prefill_takes_no_less_than_the_arithmetic_of_its_tokens():
    found = estimate(LLAMA, H100, **FP8, input_len=16_000, output_len=100)
    arithmetic = 2 * 16_000 * (LLAMA.parameters - LLAMA.embedding - LLAMA.head) / 1979e12
    assert arithmetic < found.prefill_seconds.middle < 4 * arithmetic
    assert found.bound == "compute"


def test_a_published_figure_is_met_within_its_interval():
    found = estimate(LLAMA, H100, **FP8, input_len=2048, output_len=2048)
    assert found.output_tokens_per_s.low < 8980 < found.output_tokens_per_s.high
    assert found.extrapolated == ()
    assert "gpu" in found.shared
    assert found.nearest == 9


def test_cards_without_nvlink_wait_longer_for_one_another():
    def communication(on):
        found = estimate(LLAMA, on, **FP8, input_len=8000, output_len=100, tp=2, batch=8)
        return found.shares["communication"]

    assert communication(L40S) > 2 * communication(H100)


def test_an_interval_never_promises_more_than_the_hardware():
    found = estimate(LLAMA, H100, **FP8 | {"trtllm": "0.18.0"}, input_len=128, output_len=4096)
    read = LLAMA.read_bytes("float16", "fp8", tokens=found.batch)
    read += found.batch * LLAMA.kv_bytes(128 + 2048, "fp8")
    assert found.decode_seconds_per_token.low >= 0.999 * read / 3.35e12


def test_a_sequence_singlemay_be_faster_than_points_of_many_can_tell():
    single, many = (estimate(LLAMA, H100, **FP8, **LOAD, batch=batch) for batch in (1, 256))

    def upwards(found):
        return found.output_tokens_per_s.high / found.output_tokens_per_s.middle

    assert single.shares["overhead"] > 0.5 > many.shares["overhead"]
    assert upwards(single) > 1.5 * upwards(many)
    assert any("launching and scheduling take" in one for one in single.extrapolated)


def test_what_no_published_point_covers_is_said_and_widens_the_interval():
    known = estimate(LLAMA, H100, **FP8, **LOAD)
    strange = estimate(LLAMA, L4, **FP8 | {"trtllm": "0.20.0"}, **LOAD)
    assert strange.extrapolated == (
        "no published point of L4",
        "no published point of the TensorRT runtime near release 0.20.0",
    )

    def width(found):
        return found.output_tokens_per_s.high / found.output_tokens_per_s.low

    assert width(strange) > 1.3 * width(known)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"quantization": "int4_awq"}, "no published point with quantisation int4_awq"),
        ({"trtllm": None}, "no release is named"),
        ({"batch": 1}, "1 sequences at once: published points have"),
        ({"input_len": 60_000}, "60,000 tokens of a prompt: published points have 128 to 32,768"),
    ],
)
def test_each_thing_that_is_strange_is_named_and_widens_the_interval(asked, said):
    found = estimate(LLAMA, H100, **(FP8 | LOAD | asked))
    assert any(said in one for one in found.extrapolated)
    span, known = found.output_tokens_per_s, estimate(LLAMA, H100, **FP8, **LOAD)
    assert span.high / span.low > known.output_tokens_per_s.high / known.output_tokens_per_s.low


def test_a_slice_has_its_share_of_the_gpu_and_no_published_point():
    whole = estimate(LLAMA, H100, **FP8, **LOAD, batch=200)
    part = estimate(LLAMA, device("H100-SXM-80GB:3g.40gb"), **FP8, **LOAD, batch=200)
    slower = whole.output_tokens_per_s.middle / part.output_tokens_per_s.middle
    assert 1.5 < slower < 7 / 3
    assert part.extrapolated[0] == "no published point of H100-SXM-80GB:3g.40gb"


def test_a_band_is_as_wide_as_the_widest_of_what_is_new():
    errors = calibration()["log_errors"]
    low, high = band(["model", "release"], "moe", errors)
    assert low == min(errors[one]["moe"][0] for one in ("configuration", "model", "release"))
    assert high == max(errors[one]["moe"][1] for one in ("configuration", "model", "release"))


def test_a_known_model_on_a_known_gpu_that_never_met_is_no_known_configuration():
    made = machine(device("B200-SXM"), "nvfp4")
    llama = Deployment(LLAMA, made, "bfloat16", "nvfp4", "fp8", pytorch=True)
    assert novelties(llama, "1.0.0") == ["model", "gpu"]
    assert novelties(replace(llama, pytorch=False), "1.0.0") == ["release", "model", "gpu"]


def test_a_batch_beyond_the_room_waits():
    full = estimate(LLAMA, H100, **FP8, **LOAD)
    over = estimate(LLAMA, H100, **FP8, **LOAD, batch=4000)
    assert full.batch == full.room == over.batch < 4000


def test_up_to_the_knee_a_step_takes_less_than_twice_that_of_one_sequence():
    found = estimate(LLAMA, H100, **FP8, **LOAD)

    def step(batch):
        one = estimate(LLAMA, H100, **FP8, **LOAD, batch=batch)
        return batch / one.output_tokens_per_s.middle

    assert step(found.knee) < roofline.NEARLY_FREE * step(1) <= step(found.knee + 1)


def test_the_batches_of_a_figure_go_from_one_to_the_room_and_hold_the_chosen_one():
    found = estimate(LLAMA, H100, **FP8, **LOAD, batch=37)
    drawn = curve(found)
    assert (drawn[0], drawn[-1]) == (1, found.room)
    assert 37 in drawn
    assert list(drawn) == sorted(set(drawn))


def test_the_runtime_is_that_of_the_release_unless_it_is_named():
    engine = estimate(LLAMA, H100, **FP8 | {"trtllm": "1.0.0", "runtime": "engine"}, **LOAD)
    pytorch = estimate(LLAMA, H100, **FP8 | {"trtllm": "1.0.0"}, **LOAD)
    assert engine.shares["overhead"] < pytorch.shares["overhead"]
    assert pytorch.extrapolated == ()
    assert "TensorRT runtime near release 1.0.0" in engine.extrapolated[0]


@pytest.mark.parametrize(
    ("trtllm", "runtime", "like"),
    [
        ("0.15.0", "TensorRT", "0.15"),
        ("0.14.0", "TensorRT", "0.15"),
        ("0.17.0.post1", "TensorRT", "0.15"),
        ("0.18.2", "TensorRT", "0.15"),
        ("0.19.0", "TensorRT", None),
        ("0.12.0", "TensorRT", None),
        ("1.0.0", "TensorRT", None),
        ("1.1.0", "PyTorch", "1.0"),
        ("1.2.1", "PyTorch", "1.2"),
        ("1.3.0rc21", "PyTorch", "1.2"),
        ("2.0.0", "PyTorch", None),
        (None, "PyTorch", None),
    ],
)
def test_a_release_is_taken_like_the_published_one_beside_it(trtllm, runtime, like):
    assert taken_like(trtllm, runtime) == like


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(PlanError) as refused:
        estimate(
            LLAMA,
            H100,
            dtype="float17",
            quantization="int3",
            kv_dtype="fp8",
            input_len=0,
            output_len=True,
            tp=-1,
            batch=0,
            runtime="rust",
        )
    for word in ("float17", "int3", "input_len", "output_len", "tp is -1", "batch is 0", "rust"):
        assert word in refused.value.why


@pytest.mark.parametrize(
    ("asked", "on", "word"),
    [
        ({"tp": 3}, H100, "does not divide the 32 attention heads"),
        ({"pp": 64}, H100, "more than the 32 layers"),
        ({"tp": 2}, device("H100-SXM-80GB:3g.40gb"), "no link between 2"),
        ({"quantization": "fp8"}, device("A100-SXM-80GB"), "fp8 FLOPs"),
        ({}, device("RTX-PRO-5000-Blackwell"), "memory bandwidth"),
        ({"quantization": "none"}, device("A100-SXM-40GB:1g.5gb"), "weights and the runtime"),
        ({}, replace(H100, name="a laptop"), "a laptop"),
    ],
)
def test_what_has_no_estimate_says_why(asked, on, word):
    with pytest.raises(PlanError) as refused:
        estimate(LLAMA, on, **(FP8 | LOAD | asked))
    assert word in f"{refused.value.what} {refused.value.why}"
    assert refused.value.fix


def test_a_deployment_that_shares_sequences_holds_its_attention_on_every_rank():
    model = MODELS["qwen3-30b-a3b"]
    made = machine(H100, "fp8")
    split, shared = (
        Deployment(model, made, "bfloat16", "fp8", "fp8", tp=8, attention_dp=dp)
        for dp in (False, True)
    )
    assert shared.held() > split.held()
    assert shared.kept(1000) > split.kept(1000)
    whole = Deployment(model, made, "bfloat16", "fp8", "fp8")
    assert shared.held() < whole.held()
