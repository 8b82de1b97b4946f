"""What a load consists of, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from runbook_lib.errors import ProfileError

__all__ = ["ArrivalKind", "LoadSettings"]

ArrivalKind = Literal["closed", "poisson"]


@dataclass(frozen=True)
class LoadSettings:
    """One load: how requests arrive, how many, and how long each may take.

    `closed` keeps `concurrency` requests in flight and sends the next when one ends. `poisson`
    sends at exponential gaps with a mean of `1 / rate` seconds, whatever the server does.

    Args:
        arrival: `closed` or `poisson`.
        requests: how many requests are measured.
        concurrency: requests in flight of a closed loop.
        rate: mean requests per second of a Poisson load.
        max_tokens: output tokens asked for by each request.
        warmup: requests sent before, not measured.
        seed: of the arrival times.
        timeout_s: seconds after which a request counts as failed.
        streaming: `generate_stream`, else `generate`.

    Raises:
        ProfileError: a value can't mean anything.
    """

    arrival: ArrivalKind = "closed"
    requests: int = 100
    concurrency: int | None = None
    rate: float | None = None
    max_tokens: int = 64
    warmup: int = 0
    seed: int = 0
    timeout_s: float = 60.0
    streaming: bool = True

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ProfileError(
                f"This load can't be sent: {problem}.",
                why="Nothing was sent.",
                fix="Correct the value in the load profile.",
            )


def _problem(load: LoadSettings) -> str:
    limits = (
        ("requests", load.requests, 1),
        ("max_tokens", load.max_tokens, 1),
        ("warmup", load.warmup, 0),
        ("seed", load.seed, 0),
    )
    if load.arrival not in get_args(ArrivalKind):
        return f"arrival must be closed or poisson, not {load.arrival!r}"
    for name, value, least in limits:
        if value < least:
            return f"{name} must be at least {least}, not {value}"
    if load.timeout_s <= 0:
        return f"timeout_s must be more than 0, not {load.timeout_s}"
    return _arrival_problem(load)


def _arrival_problem(load: LoadSettings) -> str:
    if load.arrival == "closed":
        return _closed_problem(load)
    return _poisson_problem(load)


def _closed_problem(load: LoadSettings) -> str:
    if load.rate is not None:
        return "a closed loop has no rate, only a concurrency"
    if load.concurrency is None or load.concurrency < 1:
        return f"a closed loop needs a concurrency of at least 1, not {load.concurrency}"
    return ""


def _poisson_problem(load: LoadSettings) -> str:
    if load.concurrency is not None:
        return "a Poisson load has no concurrency, only a rate: it never waits for an answer"
    if load.rate is None or not 0 < load.rate < float("inf"):
        return f"a Poisson load needs a rate above 0 requests/s, not {load.rate}"
    return ""
