"""What a build and a million tokens take, from published builds and a price that the user gives.

Where nothing is known there is no figure: no price is assumed, and no build time beyond the sizes
that were measured.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from runbook_lib.artifacts_plan import Estimate
from runbook_lib.errors import PlanError

__all__ = ["build_estimates", "check_price", "million_tokens"]

DATA = Path(__file__).resolve().parent / "builds.json"
MIB = 2**20
HOUR = 3600
LARGE = 10**9  # parameters from which a build's memory goes with its weights


@cache
def _builds() -> list[dict[str, Any]]:
    return list(json.loads(DATA.read_bytes())["builds"])


def check_price(price: float | None) -> None:
    """Refuse a price that is none.

    Raises:
        PlanError: it is negative, zero, infinite or not a number.
    """
    if price is not None and not 0 < price < 10**6:
        raise PlanError(
            f"{price} is no price of a GPU for an hour.", fix="Give a positive number: 2.5."
        )


def build_estimates(
    parameters: int, *, ranks: int, quantised: bool, price: float | None = None
) -> tuple[Estimate, ...]:
    """Time, host memory and cost of building an engine.

    Args:
        parameters: of the model.
        ranks: engines to build, one after another, each of its share of the model.
        quantised: whether the weights are calibrated first; no time of that is published.
        price: of one GPU for an hour, in the user's currency.

    Returns:
        Nothing where the model is larger than what was measured, split, or quantised.
    """
    built = _builds()
    if ranks > 1 or quantised or parameters > max(one["parameters"] for one in built):
        return ()
    seconds = [one["seconds"] for one in built]
    basis = f"median, fastest and slowest of n = {len(built)} published builds, 0.4 to 35 billion parameters"
    found = [
        Estimate(
            name="build of the engine",
            unit="s",
            value=median(seconds),
            low=min(seconds),
            high=max(seconds),
            basis=basis,
        )
    ]
    large = [one for one in built if one["parameters"] >= LARGE]
    shares = [one["host_mib"] * MIB / (2 * one["parameters"]) for one in large]
    figures = (
        round(times * 2 * parameters / 1e9, 1)
        for times in (median(shares), min(shares), max(shares))
    )
    value, low, high = figures
    found.append(
        Estimate(
            name="host memory of the build",
            unit="GB",
            value=value,
            low=low,
            high=high,
            basis=f"{min(shares):.1f} to {max(shares):.1f} times the weights in n = {len(large)} published builds",
        )
    )
    if price is not None:
        value, low, high = (
            price * one / HOUR for one in (median(seconds), min(seconds), max(seconds))
        )
        found.append(
            Estimate(
                name="cost of the build",
                unit="of your currency",
                value=round(value, 3),
                low=round(low, 3),
                high=round(high, 3),
                basis=f"its time on one GPU at {price:g} an hour",
            )
        )
    return tuple(found)


def million_tokens(tokens_per_second: Estimate, *, ranks: int, price: float) -> Estimate:
    """Cost of a million output tokens on a busy service.

    Args:
        tokens_per_second: of one copy of the model, all its sequences together.
        ranks: GPUs of that copy.
        price: of one GPU for an hour, in the user's currency.
    """

    def cost(rate: float) -> float:
        return round(price * ranks / HOUR * 1e6 / rate, 4)

    return Estimate(
        name="a million output tokens",
        unit="of your currency",
        value=cost(tokens_per_second.value),
        low=cost(tokens_per_second.high),
        high=cost(tokens_per_second.low),
        basis=f"{ranks} GPU(s) at {price:g} an hour each, always busy; {tokens_per_second.basis}",
    )
