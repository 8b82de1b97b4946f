"""How often the diagnosis names the cause in public threads that its rules were not written from.

Prints JSON. The cases are in tests/unit/diagnose/unseen.json. The first ones are split by thread into
two halves: rules were improved by looking at the misses of the learn half; the held half tells how
well that carries over. Each later group was gathered when all before it had been learnt from; the
third and the fourth hold what was left once threads already used were dropped, so mostly odd words.
What was missed of a group was learnt from once it had been measured. Beside today's
figures stand those kept from before each change: only they tell of words that nobody had seen.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import from_text
from runbook_lib.lab.scoring import wilson

CASES = Path(__file__).resolve().parents[1] / "unit" / "diagnose" / "unseen.json"


def main() -> None:
    kept = json.loads(CASES.read_text(encoding="utf-8"))
    cases = [case | {"named": named(case["text"]), "half": half(case)} for case in kept["cases"]]
    found: dict[str, Any] = {"all": figures(cases)}
    for part in ("learn", "held", "second", "third", "pages", "fourth", "fifth", "sixth"):
        found[part] = figures([case for case in cases if case["half"] == part])
    found["by_label"] = by_label(cases)
    found["missed"] = {
        case["id"]: f"{case['label']} -> {case['named'] or 'nothing'}"
        for case in cases
        if not right(case)
    }
    found["recorded"] = kept.get("recorded", {})
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def named(text: str) -> str:
    """The first cause, or nothing."""
    return next((one.id for one in diagnose(from_text("log", text)).findings), "")


def half(case: dict[str, Any]) -> str:
    """By thread: what is learnt from one excerpt says nothing about another one of its thread."""
    if "group" in case:
        return str(case["group"])
    return "held" if hashlib.sha256(case["url"].encode()).digest()[0] % 2 else "learn"


def right(case: dict[str, Any]) -> bool:
    return case["named"] == ("" if case["label"] == "healthy" else case["label"])


def figures(cases: list[dict[str, Any]]) -> dict[str, Any]:
    failures = [case for case in cases if case["label"] != "healthy"]
    healthy = [case for case in cases if case["label"] == "healthy"]
    return {
        "top_1": share(failures),
        "confirmed_top_1": share([case for case in failures if case["confirmed"]]),
        "no_finding": sum(not case["named"] for case in failures),
        "another_cause": sum(bool(case["named"]) and not right(case) for case in failures),
        "healthy_blamed": f"{sum(bool(case['named']) for case in healthy)} of {len(healthy)}",
    }


def share(cases: list[dict[str, Any]]) -> dict[str, Any]:
    if not cases:
        return {"right": "0 of 0"}
    good = sum(right(case) for case in cases)
    low, high = wilson(good, len(cases))
    return {
        "right": f"{good} of {len(cases)}",
        "share": round(good / len(cases), 3),
        "interval_95": [round(low, 3), round(high, 3)],
    }


def by_label(cases: list[dict[str, Any]]) -> dict[str, str]:
    of = Counter(case["label"] for case in cases)
    good = Counter(case["label"] for case in cases if right(case))
    return {label: f"{good[label]} of {of[label]}" for label in sorted(of)}


if __name__ == "__main__":
    main()
