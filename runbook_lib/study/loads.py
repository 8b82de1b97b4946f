"""The loads of the benchmark pages: which, on what prompts, and where their data goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Measurement, Service
from runbook_lib.bench.load import run_load
from runbook_lib.bench.metrics import measure
from runbook_lib.bench.output import write_requests_csv
from runbook_lib.bench.records import LoadRun
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import LoadError
from runbook_lib.lab.scoring import load_questions

__all__ = ["both", "closed", "measured", "poisson", "prompts", "study_load"]

POISSON_SHARE = 0.6
Progress = Callable[[int, str], None]


def prompts(seed: int) -> list[str]:
    """The held-out questions in the model's prompt format, in an order set by the seed."""
    texts = [question.prompt for question in load_questions()]
    random.Random(seed).shuffle(texts)  # noqa: S311 - an order, not a secret
    return texts


def closed(service: Service, values: Mapping[str, Any], on_progress: Progress) -> LoadRun:
    """A closed loop on the service's first replica, by the page's parameters."""
    return run_load(
        service.url,
        service.entry_model,
        _closed(values),
        prompts(values["seed"]),
        on_progress=on_progress,
    )


def poisson(
    service: Service, before: LoadRun, values: Mapping[str, Any], on_progress: Progress
) -> LoadRun:
    """Poisson arrivals at the page's rate, or at 60 % of what the closed loop carried.

    Raises:
        LoadError: the closed loop carried nothing to derive a rate from.
    """
    rate = float(values["rate"]) or POISSON_SHARE * len(before.succeeded) / before.wall_seconds
    if rate <= 0:
        raise LoadError(
            "No rate for the Poisson load.", why="The closed load had no success.", fix="-p rate=…"
        )
    load = LoadSettings(
        arrival="poisson",
        requests=values["requests"],
        rate=round(rate, 3),
        max_tokens=values["max_tokens"],
        warmup=values["concurrency"],
        seed=values["seed"],
    )
    return run_load(
        service.url, service.entry_model, load, prompts(values["seed"]), on_progress=on_progress
    )


def study_load(values: Mapping[str, Any]) -> LoadSettings:
    """The load that every engine of a study carries."""
    return _closed(values)


def _closed(values: Mapping[str, Any]) -> LoadSettings:
    return LoadSettings(
        arrival="closed",
        requests=values["requests"],
        concurrency=values["concurrency"],
        max_tokens=values["max_tokens"],
        warmup=2 * values["concurrency"],
        seed=values["seed"],
    )


def measured(run: LoadRun, data: Path) -> Measurement:
    """The figures of a load; every request goes into `data/requests-<arrival>.csv`."""
    data.mkdir(parents=True, exist_ok=True)
    path = data / f"requests-{run.load.arrival}.csv"
    write_requests_csv(run, path)
    return measure(run, data=f"data/{path.name}")


def both(page: Any) -> list[Measurement]:
    """The two measurements of a benchmark page."""
    return [page.artifact(Measurement), page.artifact(Measurement, "measurement-poisson")]
