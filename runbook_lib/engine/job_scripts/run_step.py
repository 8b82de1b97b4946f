"""Run one step of a build in a container, once: what a finished step made is kept.

    run_step.py --work DIR --step NAME -- PROGRAM WORD…

What it says goes through as it comes. A marker in the work folder tells that the step ended well;
where the work folder outlives the pod, the next one goes on behind the last marker, on a folder
freed from what a cut step left.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

MARKERS = ".steps"
WEIGHTS = "weights"  # mounted, or fetched by a program that goes on where it was cut
PHASE = re.compile(r"\[[a-z-]+\] phase (?P<name>\S+) done (?P<seconds>[0-9.]+)")
CANT_START = 127
GPU = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")


def main(words: list[str]) -> int:
    """The step's exit code; 0 at once when its marker stands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args(words)
    folder = given.work / MARKERS
    marker = folder / f"{given.step}.json"
    if (done := _read(marker, given.argv)) is not None:
        _say(f"[runbook] step {given.step} was done before and is kept")
        for one in done["phases"]:
            _say(f"[runbook] phase {one['name']} done {one['seconds']:.3f}")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    number = _clear(given.work, folder)
    began = time.monotonic()
    code, phases = _run(given.step, given.argv)
    seconds = round(time.monotonic() - began, 3)
    if code:
        return code
    if not phases:
        phases = [{"name": given.step, "seconds": seconds}]
        _say(f"[runbook] phase {given.step} done {seconds:.3f}")
    about = {
        "number": number,
        "step": given.step,
        "argv": given.argv,
        "seconds": seconds,
        "phases": phases,
        "made": sorted(path.name for path in given.work.iterdir()),
        "built_on": _gpu(),
    }
    part = marker.with_suffix(".part")
    part.write_text(json.dumps(about), encoding="utf-8")
    part.replace(marker)
    return 0


def _read(marker: Path, argv: list[str]) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        return None
    return found if found["argv"] == argv else None


def _clear(work: Path, folder: Path) -> int:
    """Remove what no finished step made, and tell how many there are."""
    finished = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    kept = {MARKERS, WEIGHTS, *(name for one in finished for name in one["made"])}
    for path in work.iterdir():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(finished)


def _run(step: str, argv: list[str]) -> tuple[int, list[dict[str, Any]]]:
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        _say(f"[runbook] error: {argv[0]} can't be started in this image: {error.strerror}")
        return CANT_START, []
    # The first process of a container dies of no signal that it doesn't ask for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: process.send_signal(number))
    phases = _pass_on(process)
    code = process.wait()
    if code < 0:
        _say(f"[runbook] error: step {step} was ended by {signal.Signals(-code).name}")
        return 128 - code, []
    if code:
        _say(f"[runbook] error: step {step} ended with exit code {code}")
    return code, phases


def _pass_on(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Write on what the program says, also half lines, and collect the phases it tells."""
    assert process.stdout is not None
    out, rest = sys.stdout.buffer, b""
    phases: list[dict[str, Any]] = []
    while piece := os.read(process.stdout.fileno(), 65536):
        out.write(piece)
        out.flush()
        *lines, rest = (rest + piece).split(b"\n")
        told = (PHASE.search(line.decode(errors="replace")) for line in lines)
        phases += [{"name": one["name"], "seconds": float(one["seconds"])} for one in told if one]
    if rest:
        out.write(b"\n")
        out.flush()
    return phases


def _gpu() -> dict[str, str]:
    """The GPU that a step had, for which its engine is compiled; nothing where there is none."""
    try:
        done = subprocess.run(GPU, capture_output=True, text=True, check=True, timeout=20)
        name, capability = done.stdout.splitlines()[0].split(", ")
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return {}
    return {"gpu": name, "sm": f"sm{capability.strip().replace('.', '')}"}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
