"""Notebooks made of a few cells, run by real kernels under the two engines of papermill."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

PAPERMILL = Path(sys.executable).with_name("papermill")
TELL_PID = "import os, time\nprint('kernel', os.getpid())"
REPLY = "shell.execute_reply"


@pytest.fixture(autouse=True)
def nothing_secret(monkeypatch):
    """A variable of this machine's shall not change what the records say."""
    for name in [name for name in os.environ if re.search("TOKEN|SECRET|KEY|PASS", name)]:
        monkeypatch.delenv(name)


def write(path, *cells, kernel="python3"):
    """Write a notebook; a cell is its source, or its source and its metadata."""
    nb = nbformat.v4.new_notebook()
    nb.metadata.kernelspec = {"name": kernel, "display_name": kernel, "language": "python"}
    for cell in cells:
        source, metadata = (cell, {}) if isinstance(cell, str) else cell
        nb.cells.append(nbformat.v4.new_code_cell(source, metadata=metadata))
    nbformat.write(nb, path)
    return path


@dataclass(frozen=True)
class Page:
    """An executed notebook as it lies on the disk."""

    path: Path

    @property
    def nb(self):
        return json.loads(self.path.read_text())

    @property
    def ours(self):
        return [cell["metadata"]["runbook"]["status"] for cell in self.nb["cells"]]

    @property
    def papermills(self):
        return [cell["metadata"].get("papermill", {}).get("status") for cell in self.nb["cells"]]

    @property
    def exception(self):
        return self.nb["metadata"]["papermill"]["exception"]

    @property
    def reason(self):
        return self.nb["metadata"]["runbook"].get("reason", "")

    def outputs(self, index):
        return self.nb["cells"][index]["outputs"]

    def text(self, index):
        """All that a cell printed."""
        return "".join("".join(one.get("text", [])) for one in self.outputs(index))

    @property
    def kernel(self):
        return int(re.search(r"kernel (\d+)", json.dumps(self.nb))[1])


def gone(pid, seconds=8.0):
    """Whether a process ends in time; one that only waits to be buried has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def appears(path, seconds=30.0):
    """What a cell wrote into a file, as soon as it stands there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text.strip()
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def start(*args, cwd, **options):
    """Papermill's command in a process of its own, Ctrl-C heard even where this one ignores it."""
    argv = ["env", "--default-signal=INT", str(PAPERMILL), "--no-progress-bar", *map(str, args)]
    return subprocess.Popen(
        argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run_here(*args):
    """Papermill's command in this process, where it is loaded already: what it said, and its exit code."""
    import click.testing
    from papermill.cli import papermill

    return click.testing.CliRunner().invoke(papermill, ["--no-progress-bar", *map(str, args)])


class Tools:
    """What the tests of this folder share."""

    TELL_PID = TELL_PID
    Page = Page
    write = staticmethod(write)
    gone = staticmethod(gone)
    appears = staticmethod(appears)
    start = staticmethod(start)
    run_here = staticmethod(run_here)


@pytest.fixture
def tools():
    return Tools
