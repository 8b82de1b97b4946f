"""Build several engines of one model, measure each under the same load, and weigh them.

Each engine is a cell with a receipt: a cell whose inputs (engine, load, measuring code) are the
same as before is not measured again, and its row says when it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Engine, Interval, TradeOff, TradeOffRow, digest_of, utc_now
from runbook_lib.bench.load import run_load
from runbook_lib.bench.metrics import measure
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.changes import Change
from runbook_lib.errors import BuildError, PlanError, ProfileError, RunbookError
from runbook_lib.files import write_whole
from runbook_lib.lab.builder_commands import EMBEDDED
from runbook_lib.lab.engines import perplexity_of
from runbook_lib.lab.scoring import exact_match, load_questions
from runbook_lib.places import cache_dir
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving.triton import generate
from runbook_lib.study.pareto import OBJECTIVES, choose, mark_front
from runbook_lib.targets.base import Target

__all__ = ["Cell", "accuracy_of", "cells_of", "changes_of", "require_measured", "study", "table"]

ANSWER_TOKENS = 40


@dataclass(frozen=True)
class Cell:
    """One engine to weigh: a label and the profile with its changes in force."""

    label: str
    profile: DeploymentProfile


def cells_of(profile: DeploymentProfile) -> list[Cell]:
    """The profile itself and each of its `tradeoffs`.

    Raises:
        ProfileError: a cell's changes make no valid profile, or two have one label.
    """
    cells = [Cell("profile", profile)]
    own = profile.model_dump(exclude={"tradeoffs"})  # one cell's changes need not suit another's
    for one in profile.tradeoffs:
        changed = own | one.changes()
        cells.append(Cell(one.label, DeploymentProfile.model_validate(changed)))
    labels = [cell.label for cell in cells]
    if len(set(labels)) < len(labels):
        raise ProfileError(
            f"Two trade-offs have one label: {', '.join(labels)}.", fix="Give each its own label."
        )
    return cells


def changes_of(
    target: Target, cells: Sequence[Cell], load: LoadSettings, *, remeasure: bool
) -> list[Change]:
    """What `study` would build and start; cells whose receipt holds are left out.

    Raises:
        PlanError: they are not the lab's, and no other engines can be built and measured here.
    """
    for cell in cells:
        if cell.profile.track != "lab":
            raise PlanError(
                f"The engines of {cell.profile.profile} can't be weighed here: its track is {cell.profile.track}.",
                why="They are built and served in the lab, which makes engines for this CPU only.",
                fix="Use a lab profile such as lab/tiny; `runbook plan` works for every profile.",
            )
    open_cells = [cell for cell in cells if remeasure or _held(target, cell, load) is None]
    return [
        Change(
            "measure",
            cell.label,
            f"{cell.profile.dtype}, {cell.profile.quantization}, KV {cell.profile.kv_cache_dtype}, "
            f"inputs {target.engine_key(cell.profile).removeprefix('sha256:')[:12]}",
        )
        for cell in open_cells
    ]


def study(
    target: Target,
    profile: DeploymentProfile,
    load: LoadSettings,
    prompts: Sequence[str],
    folder: Path,
    *,
    remeasure: bool = False,
    on_cell: Callable[[int, str], None] = lambda *_: None,
) -> TradeOff:
    """Measure every cell of a profile, one after the other, each served alone.

    A cell that can't be built or served stays as a row with its cause.

    Args:
        target: where they are built and served.
        load: the load that each engine carries. prompts: what it is asked.
        folder: where logs go. on_cell: is told the number and label of the cell at work.
    """
    rows = []
    for number, cell in enumerate(cells_of(profile)):
        on_cell(number, cell.label)
        held = None if remeasure else _held(target, cell, load)
        rows.append(held or _measured(target, cell, load, prompts, folder))
    marked = mark_front(rows)
    best, reason = choose(marked)
    return TradeOff(
        load_profile=_told(load), objectives=OBJECTIVES, rows=marked, best=best, reason=reason
    )


def _told(load: LoadSettings) -> str:
    how = (
        f"closed, {load.concurrency} in flight"
        if load.arrival == "closed"
        else f"Poisson, {load.rate}/s"
    )
    return f"{how}, {load.requests} requests, {load.max_tokens} tokens"


def _measured(
    target: Target, cell: Cell, load: LoadSettings, prompts: Sequence[str], folder: Path
) -> TradeOffRow:
    shown = cell.profile.model_dump(mode="json", exclude={"tradeoffs"})
    try:
        log = folder / f"build-{cell.label}.log"
        engine = target.build(cell.profile, log, lambda _: None, rebuild=False)
        row = _serve_and_measure(target, cell, engine, load, prompts)
    except RunbookError as error:
        cause = error.what if not error.why else f"{error.what} {error.why}"
        return TradeOffRow(
            label=cell.label,
            profile=shown,
            status="failed",
            cause=cause[:600],
            measured_at=utc_now(),
        )
    write_whole(_receipt(target, cell, load), row.model_dump_json())
    return row


def _serve_and_measure(
    target: Target, cell: Cell, engine: Engine, load: LoadSettings, prompts: Sequence[str]
) -> TradeOffRow:
    known = cell.profile.weights == EMBEDDED  # of other models nobody knows the right answers
    perplexity = perplexity_of(engine) if known else None
    with target.trial(cell.profile, engine, cell.label) as (url, model):
        found = measure(run_load(url, model, load, prompts))
        accuracy = accuracy_of(url, model) if known else None
    return TradeOffRow(
        label=cell.label,
        profile=cell.profile.model_dump(mode="json", exclude={"tradeoffs"}),
        status="measured",
        measured_at=utc_now(),
        engine_digest=engine.engine_digest,
        build_time_s=engine.build_seconds,
        engine_bytes=engine.size_bytes,
        p95_total_ms=found.e2e_ms["p95"],
        mean_ttft_ms=found.ttft_ms["mean"],
        tokens_per_second=found.tokens_per_second,
        requests_per_second=found.requests_per_second,
        accuracy=accuracy,
        perplexity=perplexity,
    )


def accuracy_of(url: str, model: str) -> Interval:
    """Exact match of the served model's greedy answers to the held-out questions.

    Returns:
        The share with its Wilson 95 % interval.
    """
    questions = load_questions()
    with ThreadPoolExecutor(8) as pool:
        texts = pool.map(
            lambda one: generate(url, model, one.prompt, max_tokens=ANSWER_TOKENS)["text_output"],
            questions,
        )
        answers = {one.id: text for one, text in zip(questions, texts, strict=True)}
    scored = exact_match(answers)
    return Interval(value=scored.share, low=scored.low, high=scored.high, n=scored.n)


def require_measured(found: TradeOff) -> str:
    """The reason for the choice; other engines may fail, the profile's own may not.

    Raises:
        BuildError: the first row, the profile itself, could not be built or measured.
    """
    own = found.rows[0]
    if own.status == "failed":
        raise BuildError(
            "The profile's own engine could not be weighed.",
            why=own.cause,
            fix="Mend this first; the other rows have nothing to be compared with.",
            page="06_troubleshoot",
        )
    return found.reason


def table(found: TradeOff) -> Any:
    """Every engine of a study as a row; a failed one with its cause."""
    from runbook_lib.ui import table as make

    heads = [
        "engine",
        "build s",
        "size MB",
        "p95 ms",
        "tokens/s",
        "accuracy",
        "perplexity",
        "front",
        "measured",
    ]
    return make(heads, [_shown(row) for row in found.rows], caption=found.load_profile)


def _shown(row: TradeOffRow) -> list[object]:
    measured = f"{row.measured_at:%Y-%m-%d %H:%M} UTC" if row.measured_at else ""
    if row.status == "failed":
        return [row.label, None, None, None, None, None, None, "failed", f"{measured} {row.cause}"]
    figures = [(row.p95_total_ms, 1), (row.tokens_per_second, 0), (row.accuracy, 3)]
    return [
        row.label,
        row.build_time_s,
        None if row.engine_bytes is None else round(row.engine_bytes / 1e6, 2),
        *(None if one is None else one.text(digits=digits) for one, digits in figures),
        None if row.perplexity is None else f"{row.perplexity:.3f}",
        row.pareto,
        f"{measured}{', receipt held' if row.reused else ''}",
    ]


def _receipt(target: Target, cell: Cell, load: LoadSettings) -> Path:
    engine = [target.where, target.engine_key(cell.profile)]
    key = digest_of([engine, cell.label, vars(load), TradeOffRow.model_json_schema()])
    return cache_dir() / "studies" / f"{key.removeprefix('sha256:')[:16]}.json"


def _held(target: Target, cell: Cell, load: LoadSettings) -> TradeOffRow | None:
    try:
        known = TradeOffRow.model_validate_json(_receipt(target, cell, load).read_bytes())
    except (OSError, ValueError):
        return None
    return known.model_copy(update={"reused": True})
