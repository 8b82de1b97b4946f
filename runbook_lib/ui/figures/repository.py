"""Page 02: what the stored model repository holds."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.artifacts import ModelRepository, StoredFile
from runbook_lib.ui.figures.bars import Bar, lying, top_for
from runbook_lib.ui.style import (
    NEUTRAL,
    PALETTE,
    Figure,
    figure,
    rows_axis,
    rows_height,
    value_axis,
)
from runbook_lib.ui.words import percent, plural, size, size_unit

__all__ = ["repository_figure"]

NAMED = 5


def repository_figure(repository: ModelRepository) -> Figure:
    """Bytes per model of a repository, largest first; the entry model has a colour of its own."""
    owned = {
        name: [file for file in repository.files if file.path.startswith(f"{name}/")]
        for name in repository.models
    }
    elsewhere = [file for file in repository.files if file.path.split("/")[0] not in owned]
    if elsewhere:
        owned["(beside the models)"] = elsewhere
    totals = sorted(
        ((sum(file.size for file in files), name) for name, files in owned.items()), reverse=True
    )
    unit, factor = size_unit(max((total for total, _ in totals), default=0))
    bars = [
        Bar(
            row,
            total / factor,
            f"{size(total)}, {plural(len(owned[name]), 'file')}",
            hover=_largest(owned[name]),
            color=PALETTE[0] if owned[name] else NEUTRAL,
        )
        for row, (total, name) in enumerate(totals)
    ]
    labels = [f"{name} (entry)" if name == repository.entry_model else name for _, name in totals]
    rows = rows_axis(labels)
    whole = f"{size(repository.size_bytes)} in {plural(len(repository.files), 'file')}"
    where = repository.uri or repository.path
    finding = f"{plural(len(repository.models), 'model')}, {whole}"
    if totals and repository.size_bytes:
        finding += f"; {totals[0][1]} holds {percent(totals[0][0] / repository.size_bytes)}"
    return figure(
        [lying(bars)] if bars else [],
        finding=finding,
        basis=f"Stored under {where}, content {repository.content_digest[:19]}",
        said=f"Size of each model under {where} ({whole}): "
        + (", ".join(f"{name} {size(total)}" for total, name in totals) or "no models")
        + ".",
        xaxis=value_axis(f"{unit} stored", top=top_for(bars)),
        yaxis=rows,
        height=rows_height(rows, least=36),
        barmode="overlay",
    )


def _largest(files: Sequence[StoredFile]) -> str:
    named = sorted(files, key=lambda file: -file.size)[:NAMED]
    rest = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(f"{file.path} {size(file.size)}" for file in named) + rest
