"""The loads of the benchmark pages: which, on what prompts, and where their data goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Measurement, Service
from runbook_lib.bench.load import Progress, run_load
from runbook_lib.bench.metrics import measure
from runbook_lib.bench.output import write_requests_csv, write_results_json
from runbook_lib.bench.records import LoadRun
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import LoadError
from runbook_lib.lab.scoring import load_questions
from runbook_lib.profile import LoadProfile, load_profile

__all__ = [
    "bench_url",
    "both",
    "closed",
    "measured",
    "poisson",
    "prompts",
    "require_answers",
    "study_load",
]

POISSON_SHARE = 0.6
Told = Callable[[float, str], None]


def prompts(seed: int) -> list[str]:
    """The held-out questions in the model's prompt format, in an order set by the seed."""
    texts = [question.prompt for question in load_questions()]
    random.Random(seed).shuffle(texts)  # noqa: S311 - an order, not a secret
    return texts


def closed(service: Service, values: Mapping[str, Any], on_progress: Told) -> LoadRun:
    """A closed loop on the service's first replica, by the page's parameters."""
    return _sent(service, _closed(values), values["seed"], on_progress)


def poisson(
    service: Service, before: LoadRun, values: Mapping[str, Any], on_progress: Told
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
        rate=float(f"{rate:.4g}"),  # not `round`: the rate of a slow service would become 0
        max_tokens=values["max_tokens"],
        warmup=values["concurrency"],
        seed=values["seed"],
    )
    return _sent(service, load, values["seed"], on_progress)


def _teller(on_progress: Told) -> Callable[[Progress], None]:
    def tell(now: Progress) -> None:
        state = "warming up" if now.warming else f"{now.failed} failed" if now.failed else ""
        on_progress(0 if now.warming else now.done, state)

    return tell


def _sent(service: Service, load: LoadSettings, seed: int, on_progress: Told) -> LoadRun:
    return run_load(
        service.url,
        service.entry_model,
        load,
        prompts(seed),
        metrics_url=service.replicas[0].metrics,
        on_progress=_teller(on_progress),
    )


def bench_url(
    url: str, model: str, load_name: str, output: Path | None, on_progress: Told
) -> Measurement:
    """Put a load profile on any Triton server; with `output`, keep every request and a summary.

    Raises:
        ProfileError: there is no such load. LoadError: no request succeeded.
    """
    profile = load_profile(load_name, kind=LoadProfile).value
    load = LoadSettings(
        arrival=profile.arrival,
        requests=profile.requests,
        concurrency=profile.concurrency,
        rate=profile.rate,
        max_tokens=profile.max_tokens,
        warmup=profile.warmup_requests,
        seed=profile.seed,
        streaming=profile.streaming,
    )
    texts = list(profile.prompts) or prompts(profile.seed)
    run = run_load(url, model, load, texts, on_progress=_teller(on_progress))
    if output is None:
        return measure(run, load_profile=profile.profile)
    found = measured(run, output)
    # The requests lie beside results.json, in no record's `data`.
    named = {"load_profile": profile.profile, "data": Path(found.data).name}
    found = found.model_copy(update=named)
    write_results_json(found, output / "results.json")
    return found


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


def require_answers(measurements: Sequence[Measurement]) -> str:
    """End the page red when a request failed: figures of the others would look too good.

    Raises:
        LoadError: how many failed under which load, and how.
    """
    failed = [one for one in measurements if one.failed]
    if failed:
        raise LoadError(
            "The service did not answer every request.",
            why="; ".join(
                f"{one.arrival} load: {one.failed} of {one.requests} failed ({_kinds(one)})"
                for one in failed
            ),
            fix="Page 06 names the cause; with less load (-p concurrency=, -p rate=) it may go away.",
            page="06_troubleshoot",
        )
    return f"All {sum(one.requests for one in measurements)} requests were answered."


def _kinds(one: Measurement) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in one.errors.items())


def both(page: Any) -> list[Measurement]:
    """The two measurements of a benchmark page."""
    return [page.artifact(Measurement), page.artifact(Measurement, "measurement-poisson")]
