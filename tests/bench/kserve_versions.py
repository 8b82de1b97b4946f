"""Which manifests each KServe takes: every version's own manager and webhooks, one after the other.

Prints JSON. For each version a cluster of its own is started (`runbook lab up --kserve VERSION`), and
the tests of the manifests run on it: server-side dry runs of every shape, and a service that is
deployed, changed under load and answers. Needs root on Linux; two to three minutes a version.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree as ET

from runbook_lib.lab.cluster.cluster import up
from runbook_lib.lab.cluster.parts import kserve_versions
from runbook_lib.lab.lab import Lab
from runbook_lib.serving.supervise import Owner

TESTS = Path(__file__).resolve().parents[1] / "cluster"
MODULES = ("test_manifests.py", "test_operators.py")
# These judge the types of every version, whichever one runs.
LEFT_OUT = "not of_each_version and not version_lacks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=kserve_versions())
    found = {version: tried(version) for version in parser.parse_args().versions}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def tried(version: str) -> dict[str, object]:
    """What a cluster with this KServe takes of what is rendered, and how long that took."""
    lab = Lab(f"kserve-{version}", Owner.this_process())
    began = time.monotonic()
    try:
        cluster = up(lab, kserve=version)
        started = time.monotonic()
        cases = judged(lab)
    finally:
        lab.down(data=True)
    refused = {name: words for name, words in cases.items() if words}
    return {
        "versions": dict(cluster.versions),
        "start_s": round(started - began, 1),
        "tests_s": round(time.monotonic() - started, 1),
        "accepted": [name for name in cases if name not in refused],
        "refused": refused,
    }


def judged(lab: Lab) -> dict[str, str]:
    """Test → the first line of its failure, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        argv = [sys.executable, "-m", "pytest", "-q", "-k", LEFT_OUT, f"--junitxml={report}"]
        own = {key: text for key, text in os.environ.items() if key != "KUBECONFIG"}
        subprocess.run(
            [*argv, *(str(TESTS / name) for name in MODULES)],
            env=own | lab.variables(),
            stdout=sys.stderr,
            check=False,
        )
        cases = ET.parse(report).iter("testcase")
        return {str(case.get("name")): failure_of(case) for case in cases}


def failure_of(case: ET.Element) -> str:
    troubles = [one for kind in ("failure", "error", "skipped") for one in case.iter(kind)]
    return "; ".join(str(one.get("message")).partition("\n")[0] for one in troubles)


if __name__ == "__main__":
    main()
