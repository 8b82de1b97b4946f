import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.bench.intervals import (
    effective_size,
    least_samples,
    mean_interval,
    percentile_interval,
    rate_interval,
)

floats = st.floats(-1e6, 1e6, allow_nan=False)


def autoregressive(rng, n, phi):
    noise = rng.normal(size=n + 300) * math.sqrt(1 - phi**2)
    values = np.zeros(n + 300)
    for i in range(1, n + 300):
        values[i] = phi * values[i - 1] + noise[i]
    return values[300:]


@given(st.lists(floats, min_size=72, max_size=200), st.sampled_from([0.5, 0.9, 0.95]))
def test_a_percentile_is_numpys_and_lies_within_its_bounds(samples, p):
    figure = percentile_interval(samples, p)
    assert figure.value == float(np.quantile(samples, p))
    assert figure.n == len(samples)
    if figure.low is not None:
        assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize(("p", "least"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_percentile_of_too_few_samples_is_none(p, least):
    samples = np.random.default_rng(0).normal(size=least)
    assert least_samples(p) == least
    assert percentile_interval(samples[:-1], p).value is None
    assert percentile_interval(samples, p).value is not None


@pytest.mark.parametrize(("n", "phi"), [(100, 0.0), (400, 0.0), (400, 0.5), (1000, 0.8)])
@pytest.mark.parametrize("p", [0.5, 0.95])
def test_intervals_of_percentiles_cover_the_truth_also_of_correlated_samples(n, phi, p):
    rng = np.random.default_rng(7)
    truth = NormalDist().inv_cdf(p)
    figures = [percentile_interval(autoregressive(rng, n, phi), p) for _ in range(200)]
    bounded = [one for one in figures if one.low is not None]
    assert len(bounded) >= 100
    covered = sum(one.low <= truth <= one.high for one in bounded) / len(bounded)
    assert covered >= 0.9


@pytest.mark.parametrize(("n", "phi"), [(100, 0.0), (400, 0.5), (1000, 0.8)])
def test_intervals_of_means_cover_the_truth_also_of_correlated_samples(n, phi):
    rng = np.random.default_rng(8)
    figures = [mean_interval(autoregressive(rng, n, phi)) for _ in range(200)]
    covered = sum(one.low is not None and one.low <= 0 <= one.high for one in figures)
    assert covered / len(figures) >= 0.88


def test_samples_that_only_drift_have_a_figure_and_no_bounds():
    figure = percentile_interval(list(range(200)), 0.5)
    assert (figure.value, figure.low, figure.high) == (99.5, None, None)
    assert mean_interval(list(range(200))).low is None


def test_a_constant_sample_is_bounded_by_itself():
    figure = percentile_interval([3.0] * 100, 0.95)
    assert (figure.value, figure.low, figure.high) == (3.0, 3.0, 3.0)


def test_the_effective_size_falls_with_correlation_as_theory_says():
    values = autoregressive(np.random.default_rng(9), 50_000, 0.8)
    # tau of an AR(1) process is (1 + phi) / (1 - phi) = 9.
    assert 50_000 / effective_size(values) == pytest.approx(9, rel=0.15)


def test_a_rate_is_bounded_by_the_spread_of_its_parts():
    figure = rate_interval([10, 12, 8, 10, 10, 12, 8, 10, 11, 9], 20.0, 100)
    error = np.std([5, 6, 4, 5, 5, 6, 4, 5, 5.5, 4.5], ddof=1) / math.sqrt(10)
    assert figure.value == pytest.approx(5.0)
    assert figure.high - figure.value == pytest.approx(2.262 * error)


def test_a_rate_of_few_requests_has_no_bounds_and_of_no_time_no_value():
    assert rate_interval([1.0] * 10, 5.0, 19).low is None
    assert rate_interval([1.0] * 10, 0.0, 19).value is None
