"""The guide's CSV row of a build against its performance, with ours behind it.

The first columns, their names and their order are those of the guide's script
`trtllm_build_vs_perf.py`, so that old tables and new rows stay one table. What was not measured is
an empty cell, never 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Interval, TradeOffRow
from runbook_lib.errors import UsageError
from runbook_lib.files import write_whole

__all__ = ["COLUMNS", "append_rows", "as_csv", "check_file", "write_rows"]

GUIDE = (
    "timestamp",
    "model_family",
    "model_name",
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "max_batch_size",
    "max_input_len",
    "max_output_len",
    "tp_size",
    "pp_size",
    "build_time_s",
    "p95_total_ms",
    "throughput_req_per_sec",
    "mean_ttfb_ms",
)
OURS = (
    "label",
    "status",
    "cause",
    "engine_digest",
    "engine_bytes",
    "p95_total_ms_low",
    "p95_total_ms_high",
    "tokens_per_sec",
    "tokens_per_sec_low",
    "tokens_per_sec_high",
    "mean_ttfb_ms_low",
    "mean_ttfb_ms_high",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "perplexity",
    "pareto",
)
COLUMNS = GUIDE + OURS


def as_csv(rows: Sequence[TradeOffRow]) -> str:
    """The table with its header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    return out.getvalue()


def check_file(path: Path) -> None:
    """Refuse a file that rows can't be added to, before anything is measured.

    Raises:
        UsageError: it exists with other columns, or is no text file.
    """
    try:
        known = _header(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is no CSV file that rows can be added to.",
            why=str(error),
            fix="Choose another file with --output.",
        ) from None
    if known != ",".join(COLUMNS):
        raise UsageError(
            f"{path} has other columns than this version writes.",
            why=f"Its header is: {known[:120]}",
            fix="Choose another file with --output.",
        )


def _header(path: Path) -> str:
    """The first line of a file; that of a new or empty one is what this version writes."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return ",".join(COLUMNS)
    with path.open(encoding="utf-8") as handle:
        return handle.readline().rstrip("\n")


def write_rows(path: Path, rows: Sequence[TradeOffRow]) -> None:
    """Write a CSV file of these rows alone, whole or not at all."""
    write_whole(path, as_csv(rows))


def append_rows(path: Path, rows: Sequence[TradeOffRow]) -> None:
    """Add rows to a CSV file; a new file gets the header.

    Raises:
        UsageError: the file exists with other columns; nothing is written.
    """
    check_file(path)
    header, _, body = as_csv(rows).partition("\n")
    before = path.read_bytes() if path.exists() else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as handle:
        # An editor may have left the last line open: the first new row must not run into it.
        start = "" if before.endswith(b"\n") else "\n" if before else f"{header}\n"
        handle.write(start + body)


def _cells(row: TradeOffRow) -> dict[str, Any]:
    profile = row.profile
    cells: dict[str, Any] = {name: profile[name] for name in GUIDE if name in profile}
    cells |= {
        "timestamp": row.measured_at.strftime("%Y-%m-%d %H:%M:%S") if row.measured_at else "",
        "tp_size": profile.get("tensor_parallel_size", ""),
        "pp_size": profile.get("pipeline_parallel_size", ""),
        "build_time_s": _number(row.build_time_s),
        "throughput_req_per_sec": _number(
            row.requests_per_second.value if row.requests_per_second else None
        ),
        "label": row.label,
        "status": row.status,
        "cause": row.cause,
        "engine_digest": row.engine_digest,
        "engine_bytes": "" if row.engine_bytes is None else row.engine_bytes,
        "perplexity": "" if row.perplexity is None else f"{row.perplexity:.4f}",
        "pareto": row.pareto,
    }
    for name, figure in (
        ("p95_total_ms", row.p95_total_ms),
        ("mean_ttfb_ms", row.mean_ttft_ms),
        ("tokens_per_sec", row.tokens_per_second),
        ("accuracy", row.accuracy),
    ):
        cells |= _bounds(name, figure)
    return cells


def _bounds(name: str, figure: Interval | None) -> dict[str, str]:
    if figure is None:
        return {}
    low, high = _number(figure.low), _number(figure.high)
    return {name: _number(figure.value), f"{name}_low": low, f"{name}_high": high}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
