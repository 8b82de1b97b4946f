"""What no single line shows: causes that are read from how lines stand together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runbook_lib.diagnose.evidence import Evidence, Line

__all__ = ["Thought", "thoughts"]


@dataclass(frozen=True)
class Thought:
    """What speaks for a cause, why, and the line to look at."""

    id: str
    why: str
    weight: float
    line: Line


def thoughts(evidence: Evidence) -> Iterator[Thought]:
    """Every conclusion over the lines of a source."""
    by_source: dict[str, list[Line]] = {}
    for line in evidence.lines:
        by_source.setdefault(line.source, []).append(line)
    for lines in by_source.values():
        for think in THINKERS:
            if found := think(tuple(lines)):
                yield found


TIMED = re.compile(
    r"(?:\(|\[|shape|len\w*|tokens)\D{0,12}\d[\d, x]*\D{0,24}?"
    r"(?:cost|time|took|latency|elapsed|ms|s)\W{0,3}\s?(\d+(?:\.\d+)?)"
    r"|(?:cost|time|took|latency|elapsed)\W{1,4}(\d+(?:\.\d+)?) ?m?s\b\W{1,4}(?:size|shape|len|tokens)",
    re.IGNORECASE,
)
SLOWER = 30  # times; no queue and no longer prompt does this to one request and not to the next


def _slow_per_shape(lines: tuple[Line, ...]) -> Thought | None:
    """Some calls take far longer than others of much the same size."""
    timed = [
        (float(found[1] or found[2]), one) for one in lines if (found := TIMED.search(one.text))
    ]
    values = sorted(value for value, _ in timed if value > 0)
    if len(values) < 5 or values[-2] < SLOWER * values[1]:
        return None
    slowest = max(timed, key=lambda pair: pair[0])[1]
    return Thought("latency-new-shapes", "calls of about one size, far apart in time", 0.8, slowest)


ACCURACY = re.compile(r"\b(?:accuracy|acc|score)\b\D{0,12}(0?\.\d+|\d{1,2}\.\d+ ?%)", re.IGNORECASE)


def _low_accuracy(lines: tuple[Line, ...]) -> Thought | None:
    """A table of accuracies: somebody compares."""
    told = [one for one in lines if ACCURACY.search(one.text)]
    if len(told) < 3:
        return None
    return Thought("quantization-accuracy", "a table of accuracies", 0.6, told[0])


IDS = re.compile(r"\[(?:\d+, ?){40,}|\b([1-9]\d{0,6})(?:, ?\1\b){7}")


def _endless_output(lines: tuple[Line, ...]) -> Thought | None:
    """The ids of an answer that goes on to its limit, or of one token over and over."""
    long = [one for one in lines if IDS.search(one.text)]
    return (
        Thought("bad-output-tokenization", "an answer without end", 0.6, long[0]) if long else None
    )


COPIED = re.compile(
    r"(successfully )?(copied|downloaded) .{0,200}to /mnt|copying contents of", re.IGNORECASE
)
NOTHING_THERE = re.compile(
    r"\.load\(\)|load_model|in load\b|filenotfound|no such file|not found|no model", re.IGNORECASE
)


def _copied_nothing(lines: tuple[Line, ...]) -> Thought | None:
    """The download says that it went well, and the model can't be loaded from what it brought."""
    copied = [one for one in lines if COPIED.search(one.text) and "uccess" in one.text]
    after = [
        one
        for one in lines
        if copied and one.number > copied[0].number and NOTHING_THERE.search(one.text)
    ]
    if not after:
        return None
    return Thought("storage-object-missing", "copied, and nothing to load", 0.6, copied[0])


RANKS = re.compile(r"MPI size: ([2-9]|\d{2,})|Rank [1-9]\d* is using GPU", re.IGNORECASE)
GOES_ON = re.compile(
    r"loaded|engine size|kv ?cache|error|fail|exception|Started|allocat|weights", re.IGNORECASE
)


def _stops_at_start(lines: tuple[Line, ...]) -> Thought | None:
    """Several ranks say hello, and nothing follows."""
    ranks = [one for one in lines if RANKS.search(one.text)]
    if len(ranks) < 3 or any(GOES_ON.search(one.text) for one in lines):
        return None
    return Thought("server-hang", "ranks start, and nothing follows", 0.5, ranks[-1])


DEFAULT_SHARE = re.compile(r"kv_cache_free_gpu_mem_fraction is not specified", re.IGNORECASE)
TAKEN = re.compile(r"allocat\w+ (\d{11,}) bytes", re.IGNORECASE)


def _whole_gpu_for_the_cache(lines: tuple[Line, ...]) -> Thought | None:
    """The cache took nine tenths of what was free, since nobody said otherwise."""
    unset = [one for one in lines if DEFAULT_SHARE.search(one.text)]
    taken = [one for one in lines if TAKEN.search(one.text)]
    if not (unset and taken):
        return None
    return Thought("kv-cache-memory", "the default share of the GPU", 0.5, taken[0])


THINKERS: tuple[Callable[[tuple[Line, ...]], Thought | None], ...] = (
    _slow_per_shape,
    _low_accuracy,
    _endless_output,
    _copied_nothing,
    _stops_at_start,
    _whole_gpu_for_the_cache,
)
