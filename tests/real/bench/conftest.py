import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def truth():
    """The URL of a server whose first token takes 30 ms and each later one 5 ms, ten in all."""
    script = Path(__file__).with_name("truth_server.py")
    delays = ["--ttft-ms", "30", "--itl-ms", "5", "--tokens", "10"]
    with subprocess.Popen(
        [sys.executable, str(script), *delays], stdout=subprocess.PIPE, text=True
    ) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()
