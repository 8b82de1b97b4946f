"""The files a load leaves: every request as CSV, and one summary as JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Measurement
from runbook_lib.bench.metrics import e2e_ms, tpot_ms, ttft_ms
from runbook_lib.bench.records import LoadRun, RequestRecord
from runbook_lib.files import write_whole

__all__ = ["COLUMNS", "write_requests_csv", "write_results_json"]

COLUMNS = {
    "status": "HTTP status as received; 0 where there was no answer",
    "ttfb_ms": "sending to the first token (streamed) or to the answer",
    "total_ms": "sending to the last byte, or to the failure",
    "tokens": "output tokens by the server's counts",
    "index": "number of the request, from 0; request i has prompt i modulo their number",
    "ok": "1 if the whole answer came without an error, else 0",
    "error_kind": "what went wrong; empty if nothing",
    "error": "the server's or the client's words",
    "scheduled_ms": "intended start after the load's start",
    "sent_ms": "sending after the load's start",
    "late_ms": "sending after the intended start",
    "ttft_scheduled_ms": "intended start to the first token",
    "e2e_ms": "sending to the last token",
    "e2e_scheduled_ms": "intended start to the last token",
    "tpot_ms": "time a token after the first arrival; empty where there is no later token",
    "tokens_in": "input tokens, if the server says",
    "token_source": "the output that counted the tokens, or chunks",
    "timeline": "each arrival as ms after sending:tokens, separated by spaces",
    "text": "the beginning of the output",
}
"""Columns of `requests.csv` with their meaning; times in ms; the first four are the guide's."""


def write_requests_csv(run: LoadRun, path: Path) -> Path:
    """Write every request of a load, failed ones too, one line each; empty means not measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(record, run) for record in run.records)
    write_whole(path, text.getvalue())
    return path


def write_results_json(measurement: Measurement, path: Path) -> Path:
    """Write the guide's `results.json` keys, then the whole measurement.

    What was not measured is null; GPU use and cost are among it here, where the guide has constants.
    """
    value = _guide_keys(measurement) | {"measurement": measurement.model_dump(mode="json")}
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
    return path


def _row(record: RequestRecord, run: LoadRun) -> dict[str, Any]:
    row: dict[str, Any] = {
        "status": record.status,
        "total_ms": _ms(record.end_ns - record.sent_ns),
        "tokens": record.tokens_out,
        "index": record.index,
        "ok": int(record.ok),
        "error_kind": record.error_kind,
        "error": record.error,
        "scheduled_ms": _ms(record.scheduled_ns - run.start_ns),
        "sent_ms": _ms(record.sent_ns - run.start_ns),
        "late_ms": _ms(record.sent_ns - record.scheduled_ns),
        "tokens_in": record.tokens_in,
        "token_source": record.token_source,
        "timeline": " ".join(
            f"{_ms(arrival.at_ns - record.sent_ns)}:{arrival.tokens}" for arrival in record.arrivals
        ),
        "text": record.text,
    }
    if record.tokens_out:
        row["ttfb_ms"] = round(ttft_ms(record), 3)
        row["ttft_scheduled_ms"] = round(ttft_ms(record, scheduled=True), 3)
        row["e2e_ms"] = round(e2e_ms(record), 3)
        row["e2e_scheduled_ms"] = round(e2e_ms(record, scheduled=True), 3)
        tpot = tpot_ms(record)
        row["tpot_ms"] = None if tpot is None else round(tpot, 4)
    return row


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def _guide_keys(measured: Measurement) -> dict[str, Any]:
    first = measured.ttft_ms if measured.ttft_ms["mean"].n else measured.e2e_ms
    return {
        "timestamp": measured.created.isoformat(),
        "backend": "triton-tensorrt-llm",
        "streaming": bool(measured.ttft_ms["mean"].n),
        "total_requests": measured.requests,
        "successful_requests": measured.requests - measured.failed,
        "failed_requests": measured.failed,
        "duration_sec": measured.seconds,
        "throughput_req_per_sec": measured.requests_per_second.value,
        "tokens_total": measured.tokens_out,
        "tokens_per_sec": measured.tokens_per_second.value,
        "mean_ttfb_ms": first["mean"].value,
        "p95_ttfb_ms": first["p95"].value,
        "mean_total_ms": measured.e2e_ms["mean"].value,
        "p95_total_ms": measured.e2e_ms["p95"].value,
        "gpu_utilization_avg": None,
        "cost_per_1k_tokens": None,
    }
