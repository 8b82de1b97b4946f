"""Reads a traffic's lengths from CSV or JSON lines, and gathers what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from runbook_lib.errors import PlanError
from runbook_lib.plan.shapes import Request, Traffic

__all__ = ["read_traffic"]

INPUTS = ("input_len", "input_tokens", "prompt_tokens", "isl", "input", "num_prefill_tokens")
OUTPUTS = ("output_len", "output_tokens", "completion_tokens", "osl", "output", "num_decode_tokens")
LARGEST = 2**24
MOST_SHOWN = 5


def read_traffic(text: str, source: str) -> Traffic:
    """The lengths of a file's requests.

    Args:
        text: CSV with a header, or one JSON object a line; each row states the tokens of the prompt
            and of the answer, under one of the names that traces use for them (`input_len`,
            `prompt_tokens`, `isl`; `output_len`, `completion_tokens`, `osl`; …).
        source: the file, for messages.

    Raises:
        PlanError: no such columns, no rows, or lengths that can't be; the first lines at fault.
    """
    jsonl = text.lstrip().startswith("{")
    requests, problems = [], []
    for line, row in _json_rows(text) if jsonl else _csv_rows(text):
        found, problem = _request(row)
        if found is not None:
            requests.append(found)
        else:
            problems.append(f"line {line}: {problem}")
    if problems:
        more = f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        raise PlanError(
            f"{source} can't be read as traffic: {len(problems)} line(s).",
            why="; ".join(problems[:MOST_SHOWN]) + more,
            fix=f"Each row needs the prompt's tokens ({', '.join(INPUTS)}) "
            f"and the answer's ({', '.join(OUTPUTS)}).",
            page="00_plan",
        )
    if not requests:
        raise PlanError(
            f"{source} holds no requests.", fix="Give CSV with a header, or JSON lines."
        )
    return Traffic(source, tuple(requests))


def _csv_rows(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        yield reader.line_num, str(error)


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, "no JSON"


def _request(row: Any) -> tuple[Request | None, str]:
    if not isinstance(row, Mapping):
        return None, row if isinstance(row, str) else "no object"
    lengths, problems = [], []
    for names, least in ((INPUTS, 1), (OUTPUTS, 1)):
        name = next((one for one in names if row.get(one) not in (None, "")), None)
        if name is None:
            problems.append(f"no {names[0]}")
        elif (length := _length(row[name])) is None or not least <= length < LARGEST:
            problems.append(f"{name} is {str(row[name])[:40]!r}")
        else:
            lengths.append(length)
    return (None, ", ".join(problems)) if problems else (Request(*lengths), "")


def _length(value: object) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        return int(value)
    return None
