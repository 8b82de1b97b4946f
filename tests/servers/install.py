"""Install what only tests of object stores talk to, into .cache/servers of this checkout.

    .venv/bin/python tests/servers/install.py

fake-gcs-server speaks as Google Cloud Storage does, Azurite as Azure does; KServe's downloader is
what its storage initializer runs. What is there already is kept; one whose tool (npm, Go) is missing
is told in a line, and its tests are then skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from runbook_lib.errors import LabError
from runbook_lib.files import whole_folder
from runbook_lib.lab.cluster.go import ensure_go

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parents[1] / ".cache" / "servers"
AZURITE, FAKE_GCS, KSERVE = "3.35.0", "1.54.0", "0.20.0"
LOCK = HERE.parents[1] / "runbook_lib" / "lab" / "cluster" / "image_files" / "storage.txt"


def main():
    installed = [
        install(f"azurite-{AZURITE}", azurite),
        install(f"fake-gcs-server-{FAKE_GCS}", fake_gcs),
        install(f"kserve-storage-{KSERVE}", kserve_storage),
    ]
    return 0 if all(installed) or not os.environ.get("CI") else 1


def install(name, how):
    folder = SERVERS / name
    if folder.is_dir():
        return True
    sys.stdout.write(f"Installing {name}\n")
    try:
        with whole_folder(folder) as work:
            how(work)
    except (OSError, LabError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"no {name}: its store's tests are skipped: {error}\n")
        return False
    return True


def azurite(work):
    npm = shutil.which("npm")
    if npm is None:
        raise LabError("npm is missing (sudo apt-get install -y npm)")
    argv = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(work)]
    subprocess.run([*argv, f"azurite@{AZURITE}"], check=True, stdout=subprocess.DEVNULL)


def fake_gcs(work):
    go = ensure_go(lambda line: sys.stdout.write(f"{line}\n"))
    argv = [str(go), "build", "-mod=readonly", "-buildvcs=false", "-trimpath"]
    argv += ["-ldflags", "-s -w", "-o", str(work), "github.com/fsouza/fake-gcs-server"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    subprocess.run(argv, cwd=HERE / "fake_gcs", env=environment, check=True)


def kserve_storage(work):
    """The packages that the cluster's image has, by the same lock."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    argv = [uv, "pip", "install", "-q", "--python", sys.executable, "--target", str(work)]
    subprocess.run([*argv, "--require-hashes", "--no-deps", "-r", str(LOCK)], check=True)


if __name__ == "__main__":
    sys.exit(main())
