"""Hold the node's namespaces open; asked to end, sweep the whole node first.

`python -m runbook_lib.lab.cluster.hold FOLDER`, started inside the new namespaces. It ends last, or
when the cluster's owner ends: then nobody else is left to sweep.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from runbook_lib.lab.cluster.host import PLACES, end_processes, sweep

__all__ = ["hold"]


def hold(folder: Path) -> None:
    """Wait for the signal to end."""
    asked = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    print("holding the node's namespaces", flush=True)  # noqa: T201 - its log
    signal.sigwait(asked)
    end_processes(folder)
    # As long as they are mounted here, this process can't remove the host's folders under them.
    subprocess.run(["/usr/bin/env", "umount", "--lazy", *PLACES], capture_output=True, check=False)
    sweep(folder)


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
