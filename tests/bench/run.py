"""Run every benchmark here and keep what they found, with the machine that they ran on.

    make bench

A benchmark is a script of this folder that prints JSON. Nothing is asserted: this tells figures.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
LIBRARIES = ("papermill", "nbclient", "aiohttp", "jupyterlab")


def main() -> int:
    wanted = set(sys.argv[1:])
    scripts = [path for path in sorted(HERE.glob("*.py")) if path.name != Path(__file__).name]
    failed = 0
    for script in scripts:
        if wanted and script.stem not in wanted:
            continue
        done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed += 1
            sys.stderr.write(f"{script.name} ended with exit code {done.returncode}\n")
            continue
        RESULTS.mkdir(exist_ok=True)
        found = {"machine": machine(), "figures": json.loads(done.stdout)}
        text = json.dumps(found, indent=2) + "\n"
        (RESULTS / f"{script.stem}.json").write_text(text, encoding="utf-8")
        sys.stdout.write(f"{script.stem}\n{done.stdout}")
    return 1 if failed else 0


def machine() -> dict[str, object]:
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


if __name__ == "__main__":
    sys.exit(main())
