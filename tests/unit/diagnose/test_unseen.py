"""Threads that no rule was written from when they were first measured, and the wrappers that logs come in."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import from_text
from runbook_lib.diagnose.rulebook import rulebook

CASES = json.loads(Path(__file__).with_name("unseen.json").read_text(encoding="utf-8"))["cases"]
HEALTHY = [case for case in CASES if case["label"] == "healthy"]
FAILED = [case for case in CASES if case["label"] != "healthy"]
EXAMPLES = [(rule.id, one.text) for rule in rulebook().rules.values() for one in rule.examples]
AT = "2026-01-02T03:04:05.678901234Z"


def named(text):
    return next((one.id for one in diagnose(from_text("log", text)).findings), "")


def each_line(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "\n".join(change(line) for line in text.split("\n"))


def wrapped(width: int) -> Callable[[str], str]:
    return each_line(
        lambda line: "\n".join(line[at : at + width] for at in range(0, max(len(line), 1), width))
    )


def kept_by_docker(line: str) -> str:
    return json.dumps({"log": line + "\n", "stream": "stderr", "time": AT}, separators=(",", ":"))


WRAPPERS = {
    "a terminal of 80 columns": wrapped(80),
    "a terminal of 120 columns": wrapped(120),
    "docker compose": each_line(lambda line: f"triton-1  | {line}"),
    "kubectl logs --prefix": each_line(lambda line: f"[pod/llm-7d9f/kserve-container] {line}"),
    "a container runtime": each_line(lambda line: f"{AT} stderr F {line}"),
    "docker's own files": each_line(kept_by_docker),
    "one string of JSON": lambda text: json.dumps({"message": text}),
    "JSON for each line": each_line(lambda line: json.dumps({"level": "error", "msg": line})),
    "a quoted mail": each_line(lambda line: f"> {line}"),
    "colours": each_line(lambda line: f"\x1b[31m{line}\x1b[0m"),
    "syslog": each_line(lambda line: f"Jan  2 03:04:05 node-7 tritonserver[4711]: {line}"),
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "a ticket's indentation": each_line(lambda line: f"    {line}"),
}


@pytest.mark.parametrize("case", HEALTHY, ids=[case["id"] for case in HEALTHY])
def test_nothing_is_blamed_on_lines_of_servers_that_are_well(case):
    assert named(case["text"]) == ""


def test_the_cause_is_named_in_at_least_93_of_100_threads():
    right = [case["id"] for case in FAILED if named(case["text"]) == case["label"]]
    assert len(right) >= 0.93 * len(FAILED)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_hides_at_most_one_cause_in_twenty(wrapper):
    plain = [(cause, text) for cause, text in EXAMPLES if named(text) == cause]
    found = [cause for cause, text in plain if named(WRAPPERS[wrapper](text)) == cause]
    assert len(found) >= 0.95 * len(plain)
