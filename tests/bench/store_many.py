"""What a push of 100,000 small files costs: time and the most memory, into a folder and again.

Prints JSON. The folder's store does all that the others do but the network; a store's own time for
so many objects is a figure of that store. Run it where /tmp is no network disk.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from store_speed import timed

STEP = """
import sys
from pathlib import Path
from runbook_lib.repository.fetch import fetch
from runbook_lib.repository.store import push
from runbook_lib.repository.store_verify import verify
folder, uri = Path(sys.argv[2]), sys.argv[3]
if sys.argv[1] == "push":
    push(folder, uri, create_bucket=True)
elif sys.argv[1] == "verify":
    assert not verify(folder, uri)
else:
    fetch(uri, folder)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory(prefix="store-many-") as work:
        source, uri = Path(work) / "many", f"file://{work}/store/many/"
        for number in range(count):
            path = source / f"model{number // 500}" / "1" / f"{number:06}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}\n" * 100)
        time.sleep(3)
        steps = {
            "push": ["push", str(source), uri],
            "push again": ["push", str(source), uri],
            "verify": ["verify", str(source), uri],
            "pull": ["pull", str(Path(work) / "back"), uri],
        }
        found = {name: step(words) for name, words in steps.items()}
    sys.stdout.write(json.dumps({"files": count, **found}, indent=2) + "\n")


def step(words):
    used = timed([sys.executable, "-c", STEP, *words], None)
    return {name: round(value, 2) for name, value in used.items()}


if __name__ == "__main__":
    main()
