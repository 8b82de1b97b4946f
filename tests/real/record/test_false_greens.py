"""Pages that did not end well, under this engine and under papermill's own.

Each of them is red here. What papermill's own engine writes of the same notebook is held as well:
when upstream heals, a test says so.
"""

import os
import re
import signal
from dataclasses import dataclass, field

import pytest

from runbook_lib.record.outcome import judge_file

MUTE = """
session = get_ipython().kernel.session
send = session.send
def all_but_the_reply(stream, kind, *rest, **more):
    name = kind if isinstance(kind, str) else kind["msg_type"]
    return None if name == "execute_reply" else send(stream, kind, *rest, **more)
session.send = all_but_the_reply
print("printed, and never answered")
"""
WAIT = """
open(NAME, 'w').write(f'{os.getpid()}\\n')
time.sleep(60)
"""


@dataclass(frozen=True)
class Stock:
    """What papermill's own engine leaves: its exit code, and whether it says that all is well."""

    code: int
    exception: bool | None = None
    bad: str = "completed"
    after: str = "completed"


@dataclass(frozen=True)
class Case:
    """A notebook whose second cell does not end well, and what is told about it."""

    source: str
    status: str
    reason: str
    stock: Stock
    args: tuple = ()
    metadata: dict = field(default_factory=dict)


LIMIT = ("--execution-timeout", "1")
HONEST = Stock(1, exception=True, bad="failed", after="pending")

CASES = {
    "a cell raises": Case("1 / 0", "failed", "ZeroDivisionError", HONEST),
    "a cell kills its kernel": Case(
        "import signal; os.kill(os.getpid(), signal.SIGKILL)",
        "kernel_died",
        "SIGKILL .out of memory",
        Stock(138),
    ),
    "a cell ends its kernel's process": Case(
        "os._exit(0)", "kernel_died", "ended itself with exit code 0", Stock(138)
    ),
    "a cell calls sys.exit(0)": Case(
        "import sys; sys.exit(0)", "failed", "SystemExit", Stock(0, True, "failed", "pending")
    ),
    "a cell raises SystemExit": Case(
        "raise SystemExit", "failed", "SystemExit", Stock(0, True, "failed", "pending")
    ),
    "a cell raises KeyboardInterrupt": Case(
        "raise KeyboardInterrupt", "failed", "KeyboardInterrupt", HONEST
    ),
    "a cell runs past its limit": Case(
        "time.sleep(60)", "timed_out", "limit for this cell", Stock(1), LIMIT
    ),
    "a cell prints for ever": Case(
        "while True: print('again')", "timed_out", "limit for this cell", Stock(1), LIMIT
    ),
    "a kernel prints and never answers": Case(
        MUTE, "timed_out", "limit for this cell", Stock(1), LIMIT
    ),
    "an error is expected by its tag": Case(
        "1 / 0",
        "failed",
        "ZeroDivisionError",
        Stock(1, None, "completed", "completed"),
        metadata={"tags": ["raises-exception"]},
    ),
}


def notebook(tools, folder, case):
    after = (folder / "after").as_posix()
    last = f"print(open({after!r}, 'w').write('ran'))"
    return tools.write(folder / "in.ipynb", tools.TELL_PID, (case.source, case.metadata), last)


@pytest.fixture
def both(tools, tmp_path):
    """Run a case's notebook under either engine: the pages and the exit codes."""

    def run(case):
        source = notebook(tools, tmp_path, case)
        ours, stock = tools.Page(tmp_path / "ours.ipynb"), tools.Page(tmp_path / "stock.ipynb")
        said = tools.run_here("--engine", "runbook", *case.args, source, ours.path)
        assert not (tmp_path / "after").exists(), "a cell ran after the page had ended"
        code = tools.run_here(*case.args, source, stock.path).exit_code
        return said, ours, code, stock

    return run


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_page_that_did_not_end_well_is_red_here(both, tools, case):
    said, ours, stock_code, stock = both(case)

    assert said.exit_code == 1
    assert "cell 1" in str(said.exception)
    assert ours.ours == ["completed", case.status, "not_run"]
    assert ours.papermills == ["completed", "failed", "pending"]
    assert ours.exception is True
    told = judge_file(ours.path)
    assert (told.status, told.failing.index) == (case.status, 1)
    assert re.search(case.reason, told.reason)
    assert tools.gone(ours.kernel)

    assert what(stock_code, stock) == case.stock
    assert not judge_file(stock.path).ok


def what(code, page):
    """What papermill's own engine left; its markers of an error are cells without a status."""
    _, bad, after = [status for status in page.papermills if status]
    return Stock(code, page.exception, bad, after)


@dataclass(frozen=True)
class Blow:
    """A signal from outside, at papermill itself or at the kernel, while the second cell runs."""

    at: str
    signal: signal.Signals
    code: int
    status: str
    reason: str
    stock: Stock


BLOWS = {
    "Ctrl-C": Blow("papermill", signal.SIGINT, 1, "interrupted", "Ctrl-C", Stock(1)),
    "SIGTERM": Blow(
        "papermill",
        signal.SIGTERM,
        1,
        "interrupted",
        "SIGTERM",
        Stock(-15, None, "running", "pending"),
    ),
    "kill -9": Blow(
        "papermill",
        signal.SIGKILL,
        -9,
        "interrupted",
        "the process that ran it ended before",
        Stock(-9, None, "running", "pending"),
    ),
    "kill -9 of the kernel": Blow(
        "kernel", signal.SIGKILL, 1, "kernel_died", "SIGKILL .out of memory", Stock(138)
    ),
}


@pytest.mark.parametrize("blow", BLOWS.values(), ids=BLOWS.keys())
def test_a_blow_from_outside_leaves_a_red_page_and_no_kernel(tools, tmp_path, blow):
    pages, running, kernels = {}, {}, {}
    for name, engine in {"ours": ("--engine", "runbook"), "stock": ()}.items():
        source = tools.write(
            tmp_path / f"{name}.in.ipynb", tools.TELL_PID, WAIT.replace("NAME", repr(name)), "1"
        )
        pages[name] = tools.Page(tmp_path / f"{name}.ipynb")
        running[name] = tools.start(*engine, source, pages[name].path, cwd=tmp_path)
    for name, process in running.items():
        kernels[name] = int(tools.appears(tmp_path / name))
        os.kill(process.pid if blow.at == "papermill" else kernels[name], blow.signal)
    errors = {name: process.communicate(timeout=30)[1] for name, process in running.items()}

    ours, stock = pages["ours"], pages["stock"]
    assert running["ours"].returncode == blow.code, errors["ours"]
    assert ours.ours == ["completed", blow.status, "not_run"]
    assert ours.papermills[2] == "pending"
    assert ours.papermills[1] != "completed"
    assert ours.exception is not False
    told = judge_file(ours.path)
    assert (told.status, told.failing.index) == (blow.status, 1)
    assert re.search(blow.reason, told.reason)
    assert tools.gone(kernels["ours"])
    assert list(tmp_path.glob(".*.part")) == []

    assert what(running["stock"].returncode, stock) == blow.stock
    assert not judge_file(stock.path).ok
