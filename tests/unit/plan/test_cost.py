from __future__ import annotations

import pytest

from runbook_lib.artifacts_plan import Estimate
from runbook_lib.plan.cost import build_estimates, million_tokens

RATE = Estimate(name="r", unit="tokens/s", value=1000, low=500, high=2000, basis="a model")


def test_a_build_is_foretold_from_those_that_were_published():
    time, memory, cost = build_estimates(8 * 10**9, ranks=1, quantised=False, price=3.6)
    assert (time.low, time.value, time.high) == (41, 113, 319)
    assert "n = 4" in time.basis
    assert memory.low == pytest.approx(2.5 * 16, rel=0.02)
    assert "n = 3" in memory.basis
    assert (cost.low, cost.high) == (0.041, 0.319)


@pytest.mark.parametrize(
    "asked",
    [
        {"parameters": 70 * 10**9, "ranks": 1, "quantised": False},
        {"parameters": 10**9, "ranks": 2, "quantised": False},
        {"parameters": 10**9, "ranks": 1, "quantised": True},
    ],
)
def test_beyond_what_was_measured_no_build_is_foretold(asked):
    parameters = asked.pop("parameters")
    assert build_estimates(parameters, **asked, price=1) == ()


def test_a_million_tokens_cost_the_time_of_all_ranks():
    cost = million_tokens(RATE, ranks=2, price=1.8)
    assert cost.value == pytest.approx(2 * 1.8 / 3600 * 1000)
    assert (cost.low, cost.high) == (cost.value / 2, cost.value * 2)
    assert "2 GPU(s) at 1.8" in cost.basis
