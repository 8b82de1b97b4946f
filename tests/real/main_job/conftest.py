"""Runs of the command `runbook` from empty folders, with a cache of the session's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook_lib.lab import environment
from runbook_lib.record.outcome import judge_file

BIN = Path(sys.executable).parent
# What would steer a run from outside.
STEERING = ("RUNBOOK_", "MAX_", "TENSOR_PARALLEL", "PIPELINE_PARALLEL", "MODEL_REPOSITORY", "KV_")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self):
        """Its `--json`."""
        return json.loads(self.out)

    @property
    def record(self):
        return Record(Path(self.said["folder"]))

    def __str__(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"


@dataclass(frozen=True)
class Record:
    """A run's folder as it lies on the disk."""

    folder: Path

    @property
    def about(self):
        return json.loads((self.folder / "run.json").read_text())

    @property
    def pages(self):
        return {name: known["status"] for name, known in self.about["pages"].items()}

    def artifact(self, name):
        return json.loads((self.folder / "artifacts" / f"{name}.json").read_text())

    def outcome(self, page):
        return judge_file(self.folder / f"{page}.ipynb")

    def text(self, page):
        """All that a page put out as text."""
        cells = json.loads((self.folder / f"{page}.ipynb").read_text())["cells"]
        outputs = [out for cell in cells for out in cell.get("outputs", [])]
        parts = [out.get("text") or out.get("data", {}).get("text/plain", []) for out in outputs]
        parts += [out.get("traceback", []) for out in outputs]
        return "\n".join("".join(part) for part in parts)

    @property
    def logs(self):
        return {
            path.name: path.read_text("utf-8", "replace") for path in self.folder.glob("logs/*")
        }


class Bench:
    """A folder to run `runbook` in, and the cache that all runs of the session share."""

    def __init__(self, cache, folder):
        self.cache = cache
        self.folder = folder

    def environment(self, **more):
        plain = {key: value for key, value in os.environ.items() if not key.startswith(STEERING)}
        return plain | {"RUNBOOK_CACHE": str(self.cache)} | more

    def start(self, *words, program="runbook", **more):
        """A command on its way, Ctrl-C heard even where this process ignores it."""
        argv = ["env", "--default-signal=INT", str(BIN / program), *map(str, words)]
        return subprocess.Popen(
            argv,
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process, timeout=800):
        out, err = process.communicate(timeout=timeout)
        return Ended(process.returncode, out, err)

    def __call__(self, *words, **more):
        return self.end(self.start(*words, **more))

    def run(self, *words, **more):
        """`runbook run … --json` with everything approved."""
        return self("run", *words, "--approve", "auto", "--json", **more)

    @property
    def records(self):
        return [Record(path.parent) for path in sorted(self.folder.glob("outputs/*/run.json"))]

    def processes(self):
        """Every process that works for this cache: runs, kernels, keepers and servers."""
        return {pid for pid in _pids() if str(self.cache) in _traces(pid)}


def _pids():
    return [
        int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()
    ]


def _traces(pid):
    """The command line, environment and folder of a process."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        parts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        where = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return ""
    return "" if state == "Z" else f"{b''.join(parts).decode(errors='replace')} {where}"


def settles(look, wanted, seconds=20.0):
    """What `look` sees, once it is what is wanted or the time is over."""
    end = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    return seen


def appears(look, seconds=60.0):
    """What `look` sees as soon as it sees something."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, "it did not appear"
        time.sleep(0.02)
    return seen


class Tools:
    """What the tests of this folder share."""

    Record = Record
    settles = staticmethod(settles)
    appears = staticmethod(appears)


@pytest.fixture(scope="session")
def tools():
    return Tools


@contextmanager
def new_cache(folder):
    """An empty cache; only the lab's environment is the user's own."""
    (folder / "lab-environment").symlink_to(environment.ensure().root.parent)
    yield folder
    for pid in Bench(folder, folder).processes():  # what a failed test may have left
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The cache that the tests of one session share, so that each engine is built once."""
    with new_cache(tmp_path_factory.mktemp("cache")) as folder:
        yield folder


@pytest.fixture(scope="session")
def empty_cache(tmp_path_factory):
    """The cache of the main job: nothing was built in it before."""
    with new_cache(tmp_path_factory.mktemp("empty-cache")) as folder:
        yield folder


@pytest.fixture(scope="session")
def bench_in(cache):
    """Benches in folders of one's choice."""
    return lambda folder, cache=cache: Bench(cache, folder)


@pytest.fixture
def bench(bench_in, tmp_path):
    """A bench in an empty folder, where nothing may be left running."""
    here = bench_in(tmp_path)
    before = here.processes()
    yield here
    assert settles(lambda: here.processes() - before, set()) == set()
