import itertools

import pytest

from runbook_lib.bench.arrivals import start_offsets_ns
from runbook_lib.bench.request_shape import request_shape
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import ProfileError


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"concurrency": 4, "requests": 0}, "requests"),
        ({"concurrency": 4, "max_tokens": 0}, "max_tokens"),
        ({"concurrency": 4, "warmup": -1}, "warmup"),
        ({"concurrency": 4, "timeout_s": 0}, "timeout_s"),
        ({"concurrency": 4, "rate": 1.0}, "rate"),
        ({"concurrency": 0}, "concurrency"),
        ({}, "concurrency"),
        ({"arrival": "poisson"}, "rate"),
        ({"arrival": "poisson", "rate": 0.0}, "rate"),
        ({"arrival": "poisson", "rate": float("nan")}, "rate"),
        ({"arrival": "poisson", "rate": 1.0, "concurrency": 4}, "concurrency"),
        ({"arrival": "bursty", "rate": 1.0}, "arrival"),
    ],
)
def test_a_load_that_can_mean_nothing_is_refused_by_its_field(wrong, word):
    with pytest.raises(ProfileError, match=word):
        LoadSettings(**wrong)


def test_a_closed_loop_has_no_schedule():
    assert start_offsets_ns(LoadSettings(concurrency=4)) == ()


def test_poisson_arrivals_repeat_with_their_seed_and_keep_their_rate():
    load = LoadSettings(arrival="poisson", rate=200.0, requests=20_000, seed=3)
    offsets = start_offsets_ns(load)
    assert offsets == start_offsets_ns(load)
    assert list(offsets) == sorted(offsets)
    assert 19_500 < offsets[-1] / 1e9 * 200 < 20_500
    gaps = [b - a for a, b in itertools.pairwise(offsets)]
    # Of exponential gaps, 1/e are longer than their mean.
    assert 0.35 < sum(gap > 1e9 / 200 for gap in gaps) / len(gaps) < 0.39


def test_another_seed_gives_other_arrivals():
    one, other = (
        start_offsets_ns(LoadSettings(arrival="poisson", rate=9.0, seed=seed)) for seed in (1, 2)
    )
    assert one != other


def inputs(*names):
    return [{"name": name, "datatype": "BYTES", "shape": [1]} for name in names]


def test_a_request_holds_only_what_the_model_declares():
    metadata = {"inputs": inputs("text_input", "max_tokens"), "outputs": inputs("text_output")}
    shape = request_shape("m", LoadSettings(concurrency=1, max_tokens=7), metadata)
    assert shape.path == "/v2/models/m/generate_stream"
    assert shape.body("é") == '{"text_input": "é", "max_tokens": 7}'.encode()


def test_counts_are_asked_for_where_the_model_gives_none_by_itself():
    names = inputs("max_tokens", "stream", "return_num_input_tokens", "return_num_output_tokens")
    load = LoadSettings(concurrency=1)
    asked = request_shape("m", load, {"inputs": names, "outputs": inputs("num_output_tokens")})
    assert asked.fields["return_num_output_tokens"] is True
    assert asked.fields["return_num_input_tokens"] is True
    given = request_shape("m", load, {"inputs": names, "outputs": inputs("output_lengths")})
    assert "return_num_output_tokens" not in given.fields


def test_the_llmapi_model_is_asked_in_its_own_names():
    names = inputs("text_input", "streaming", "sampling_param_max_tokens")
    shape = request_shape("m", LoadSettings(concurrency=1, max_tokens=7), {"inputs": names})
    assert shape.fields == {"sampling_param_max_tokens": 7, "streaming": True}


def test_without_metadata_the_ensembles_inputs_are_sent():
    shape = request_shape("m", LoadSettings(concurrency=1, max_tokens=7, streaming=False), {})
    assert (shape.path, shape.fields) == (
        "/v2/models/m/generate",
        {"max_tokens": 7, "stream": False},
    )
