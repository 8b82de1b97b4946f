"""What the engine `runbook` costs beside papermill's own: one cell, whole command, in turn.

Pairs: each round runs both, and the next round the other way round, so that what else the machine
does falls on both. The first round only warms the disk.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

ROUNDS = 9
ENGINES = {"stock": [], "runbook": ["--engine", "runbook"]}
PAPERMILL = Path(sys.executable).with_name("papermill")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.ipynb")
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("6 * 7")])
        nb.metadata.kernelspec = {"name": "python3", "display_name": "python3"}
        nbformat.write(nb, source)
        rounds = [one_round(source, number) for number in range(ROUNDS + 1)][1:]
    taken = {name: [one[name] for one in rounds] for name in ENGINES}
    taken["ratio"] = [one["runbook"] / one["stock"] for one in rounds]
    found = {name: {"median": middle(of), "range": span(of)} for name, of in taken.items()}
    sys.stdout.write(json.dumps({"n": ROUNDS, "unit": "s", **found}, indent=1) + "\n")


def middle(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def span(values: list[float]) -> list[float]:
    return [round(min(values), 3), round(max(values), 3)]


def one_round(source: Path, number: int) -> dict[str, float]:
    names = list(ENGINES) if number % 2 else list(reversed(ENGINES))
    return {name: seconds(source, ENGINES[name]) for name in names}


def seconds(source: Path, engine: list[str]) -> float:
    began = time.perf_counter()
    argv = [
        str(PAPERMILL),
        "--no-progress-bar",
        *engine,
        str(source),
        str(source.with_name("out.ipynb")),
    ]
    subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
