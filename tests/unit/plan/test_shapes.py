from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import PlanError
from runbook_lib.hardware import device
from runbook_lib.plan.facts import known_config, model_facts
from runbook_lib.plan.shapes import Request, Traffic, limits_for, traffic_fit
from runbook_lib.plan.traffic import read_traffic
from runbook_lib.profile import DeploymentProfile

LLAMA = model_facts(known_config("llama-3.1-8b"))
H100 = device("H100-SXM-80GB")
LENGTHS = st.builds(Request, st.integers(1, 5000), st.integers(1, 2000))
REQUESTS = st.lists(LENGTHS, min_size=1, max_size=200)
SHARES = st.floats(0.01, 1)


def profile(**fields):
    return DeploymentProfile(model_name="m", **fields)


def met(requests, concurrency=None, where=H100, **fields):
    return traffic_fit(profile(**fields), LLAMA, where, Traffic("t", tuple(requests), concurrency))


def accepted(one, limits):
    return one.input <= limits.max_input_len and one.total <= limits.max_seq_len


@settings(deadline=None)
@given(REQUESTS, SHARES, st.integers(1, 300))
def test_no_request_of_the_kept_share_is_cut_off(requests, share, batch):
    limits, longest_output = limits_for(requests, share, batch)
    kept = [one for one in requests if accepted(one, limits)]
    assert len(kept) >= share * len(requests) - 1e-6
    assert (
        max(one.output for one in sorted(requests, key=lambda one: one.total)[:1]) <= longest_output
    )


@settings(deadline=None)
@given(REQUESTS, SHARES, st.integers(1, 300))
def test_limits_are_tight_some_kept_request_reaches_each(requests, share, batch):
    limits, _ = limits_for(requests, share, batch)
    kept = [one for one in requests if accepted(one, limits)]
    assert max(one.total for one in kept) == limits.max_seq_len
    assert max(one.input for one in kept) == limits.max_input_len
    assert limits.max_num_tokens >= limits.max_input_len
    assert limits.max_num_tokens < max(limits.max_input_len + batch, 64) + 64


@settings(deadline=None)
@given(REQUESTS, SHARES, SHARES, st.integers(1, 300))
def test_limits_for_a_larger_share_are_never_tighter(requests, one, other, batch):
    (few, few_out), (many, many_out) = (
        limits_for(requests, share, batch) for share in sorted((one, other))
    )
    assert few.max_input_len <= many.max_input_len
    assert few.max_seq_len <= many.max_seq_len
    assert few.max_num_tokens <= many.max_num_tokens
    assert few_out <= many_out


@settings(deadline=None, max_examples=40)
@given(REQUESTS, st.none() | st.integers(1, 100))
def test_shapes_make_a_profile_that_accepts_what_they_say(requests, concurrency):
    found = met(requests, concurrency)
    assert found.shapes[-1].keeps == "max"
    assert found.shapes[-1].cut_off == 0
    for shape in found.shapes:
        limits = shape.limits
        again = profile(
            max_input_len=limits.max_input_len,
            max_output_len=shape.max_output_len,
            max_seq_len=limits.max_seq_len,
            max_batch_size=limits.max_batch_size,
            max_num_tokens=limits.max_num_tokens,
        )
        checked = traffic_fit(again, LLAMA, H100, Traffic("t", tuple(requests), concurrency))
        assert checked.refused == shape.cut_off
        assert again.limits == limits


def test_longer_tails_cost_more_and_are_told_by_share():
    requests = [Request(500, 100)] * 990 + [Request(2000, 100)] * 9 + [Request(30_000, 500)]
    found = met(requests, concurrency=16, max_batch_size=64, max_input_len=32_000)
    assert [shape.keeps for shape in found.shapes] == ["p99", "p99.9", "max"]
    assert [shape.limits.max_seq_len for shape in found.shapes] == [600, 2100, 30_500]
    assert [shape.cut_off for shape in found.shapes] == [0.01, 0.001, 0]
    saved = [shape.saved_bytes for shape in found.shapes]
    assert saved == sorted(saved, reverse=True)
    assert found.shapes[0].limits.max_batch_size == 16


def test_equal_shapes_are_told_once():
    assert [one.keeps for one in met([Request(10, 10)] * 3).shapes] == ["max"]


def test_a_traffic_fits_where_nothing_is_refused_and_what_is_in_flight_has_room():
    usual = [Request(1000, 100)] * 10
    assert met(usual, max_batch_size=500, concurrency=100).fits
    assert not met(usual, max_batch_size=500, concurrency=500).fits
    assert met(usual, max_batch_size=16, concurrency=500).fits  # 16 run, the rest is in the queue
    assert not met([*usual, Request(3000, 1)]).fits
    assert met([*usual, Request(3000, 1)]).refused == pytest.approx(1 / 11)
    assert not met(usual, where=device("L4"), max_batch_size=64, concurrency=64).fits


CSV = "time, prompt_tokens ,completion_tokens\n0.1,100,20\n0.2,7,1\n"
JSONL = '{"input_len": 100, "output_len": 20}\n\n{"isl": 7, "osl": 1, "more": [1]}\n'


@pytest.mark.parametrize("text", [CSV.replace(" ", ""), JSONL, "isl,osl\n100,20\n7,1"])
def test_lengths_are_read_under_the_names_that_traces_use(text):
    assert read_traffic(text, "t").requests == (Request(100, 20), Request(7, 1))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no requests"),
        ("input_len,output_len\n", "holds no requests"),
        ("a,b\n1,2\n", "no input_len, no output_len"),
        ("isl,osl\n1,2\n-3,2\n", "line 3: isl is '-3'"),
        ("isl,osl\n1,0\n", "osl is '0'"),
        ("isl,osl\n1,1e3\n", "osl is '1e3'"),
        ("isl,osl\n1\n", "no output_len"),
        ('{"isl": true, "osl": 1}', "isl is 'True'"),
        ('{"isl": 1.5, "osl": 1}', "isl is '1.5'"),
        ('{"isl": 99999999999, "osl": 1}', "isl is '99999999999'"),
        ('{"isl": 1, "osl": 1}\n[1]\n{', "line 2: no object; line 3: no JSON"),
        ("isl,osl\n" + "x,y\n" * 9, "and 4 more"),
        (f"isl,osl\n{'9' * 5000},1", "line"),
    ],
)
def test_lengths_that_can_not_be_are_refused_with_their_lines(text, told):
    with pytest.raises(PlanError) as caught:
        read_traffic(text, "t.csv")
    assert told in str(caught.value)


@settings(deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(
        st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists), max_size=5
    ).map(lambda rows: "\n".join(json.dumps({"isl": one, "osl": one}) for one in rows))
)
def test_whatever_a_file_holds_it_is_read_or_refused(text):
    try:
        found = read_traffic(text, "t")
    except PlanError:
        return
    assert all(one.input > 0 and one.output > 0 for one in found.requests)
