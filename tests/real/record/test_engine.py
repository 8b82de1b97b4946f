"""What a page that runs under the engine leaves on the disk, by hand and from the library."""

import asyncio
import json
import threading
from pathlib import Path

import papermill
import pytest

from runbook_lib.errors import RecordError
from runbook_lib.record.outcome import judge_file
from runbook_lib.record.outputs import MOST_OUTPUTS, STREAM_LIMIT
from runbook_lib.record.runner import run_notebook

GREEN = ("x = 20", "x + 22", ("1 / 0", {"tags": ["skip-execution"]}), "# nothing\n")


@pytest.fixture
def ran(tools, tmp_path):
    """Run a notebook of these cells in this process: how it ended, and the page."""

    def run(*cells, kernel="python3", **options):
        source = tools.write(tmp_path / "in.ipynb", *cells, kernel=kernel)
        page = tools.Page(tmp_path / "out" / "page.ipynb")
        return run_notebook(source, page.path, **{"parameters": {}} | options), page

    return run


# -- papermill's command ---------------------------------------------------------------------------


def test_papermill_finds_the_engine_by_its_name(tools, tmp_path):
    tools.write(tmp_path / "in.ipynb", *GREEN)
    tools.write(tmp_path / "red.ipynb", "1 / 0", "1")
    green = tools.start("--engine", "runbook", "in.ipynb", "out.ipynb", cwd=tmp_path)
    red = tools.start("--engine", "runbook", "red.ipynb", "gone.ipynb", cwd=tmp_path)
    said = {process: process.communicate(timeout=60) for process in (green, red)}

    assert (green.returncode, red.returncode) == (0, 1), said
    page = tools.Page(tmp_path / "out.ipynb")
    assert page.exception is False
    assert page.papermills == ["completed"] * 4
    assert page.outputs(1)[0]["data"] == {"text/plain": ["42"]}
    assert page.nb["metadata"]["language_info"]["name"] == "python"
    assert "ZeroDivisionError: division by zero" in said[red][1]
    assert tools.Page(tmp_path / "gone.ipynb").ours == ["failed", "not_run"]


def test_parameters_and_the_working_folder_are_papermills_own(tools, tmp_path):
    (tmp_path / "here").mkdir()
    cell = ("x = 1", {"tags": ["parameters"]})
    tools.write(tmp_path / "in.ipynb", cell, "import os; print(x, os.path.basename(os.getcwd()))")
    options = ["--engine", "runbook", "-p", "x", "7", "--cwd", tmp_path / "here"]
    said = tools.run_here(*options, tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    assert said.exit_code == 0
    assert tools.Page(tmp_path / "out.ipynb").text(2) == "7 here\n"


@pytest.mark.parametrize("cell", ["import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_a_red_page_that_papermill_saves_once_at_the_end_is_red_too(tools, tmp_path, cell):
    source, page = tools.write(tmp_path / "in.ipynb", cell, "1"), tools.Page(tmp_path / "out.ipynb")
    once = ["--engine", "runbook", "--no-request-save-on-cell-execute", source, page.path]
    assert tools.run_here(*once).exit_code == 1
    code = [one["metadata"] for one in page.nb["cells"] if one["cell_type"] == "code"]
    assert [one["papermill"]["status"] for one in code] == ["failed", "pending"]
    assert not judge_file(page.path).ok


def test_a_page_that_nobody_saves_is_red_also_when_no_cell_is(tools, tmp_path):
    source = tools.write(tmp_path / "in.ipynb", "1")
    with pytest.raises(papermill.PapermillExecutionError, match=r"limit of 0\.1 s"):
        papermill.execute_notebook(
            source, None, engine_name="runbook", progress_bar=False, total_timeout=0.1
        )


def test_a_kernel_that_never_gets_ready_is_ended(tools, tmp_path, monkeypatch):
    folder = tmp_path / "kernels" / "mute"
    folder.mkdir(parents=True)
    script = f"echo $$ > {tmp_path}/pid; while :; do echo noise; sleep 0.1; done"
    spec = {"argv": ["/bin/sh", "-c", script, "{connection_file}"], "display_name": "mute"}
    (folder / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    source = tools.write(tmp_path / "in.ipynb", "1", kernel="mute")
    page = tools.Page(tmp_path / "out.ipynb")
    said = tools.run_here("--engine", "runbook", "--start-timeout", "1", source, page.path)
    assert said.exit_code == 1
    assert page.ours == ["not_run"]
    assert "Kernel didn't respond in 1 seconds" in page.reason
    assert tools.gone(int(tools.appears(tmp_path / "pid")))


# -- limits ----------------------------------------------------------------------------------------


def test_the_limit_for_all_cells_ends_the_page_and_all_that_the_kernel_started(ran, tools):
    sleeper = "import subprocess; print('child', subprocess.Popen(['sleep', '300']).pid)"
    outcome, page = ran(tools.TELL_PID, sleeper, "time.sleep(60)", "1", total_timeout=3)
    assert outcome.status == "timed_out"
    assert outcome.text() == (
        "cell 2 ran past its time limit: the limit of 3 s for all cells together was reached"
    )
    assert page.ours == ["completed", "completed", "timed_out", "not_run"]
    assert page.outputs(2)[-1]["ename"] == "KeyboardInterrupt", "it says where it was"
    assert tools.gone(page.kernel)
    assert tools.gone(int(page.text(1).split()[1]))


def test_a_limit_that_is_over_before_the_first_cell_starts_none(ran):
    outcome, page = ran("1", "2", total_timeout=0.1)
    assert (outcome.status, page.ours) == ("timed_out", ["not_run"] * 2)
    assert outcome.text().startswith("the page ran past its time limit")


def test_a_cell_may_have_a_limit_of_its_own(ran):
    slow = ("import time; time.sleep(60)", {"runbook": {"timeout": 0.5}})
    outcome, page = ran("1", slow, "2")
    assert outcome.text() == "cell 1 ran past its time limit: the limit for this cell was reached"
    assert page.nb["cells"][1]["metadata"]["runbook"]["timeout"] == 0.5


def test_a_limit_that_is_no_number_is_told_with_its_cell(ran):
    outcome, page = ran("1", ("2", {"runbook": {"timeout": "soon"}}))
    assert "could not convert string to float: 'soon'" in outcome.text()
    assert page.ours == ["completed", "failed"]


def test_a_page_runs_inside_another_notebooks_loop(ran, tools):
    async def nested():
        return ran(tools.TELL_PID, "time.sleep(60)", cell_timeout=0.5)

    outcome, page = asyncio.run(nested())
    assert (outcome.status, page.ours) == ("timed_out", ["completed", "timed_out"])
    assert tools.gone(page.kernel)


# -- what cells put out ----------------------------------------------------------------------------


def test_widgets_neither_hang_nor_stay(ran):
    widget = (
        "import ipywidgets\nout = ipywidgets.Output()\ndisplay(out)\n"
        "with out:\n    print('inside')\n    display(6 * 7)"
    )
    outcome, page = ran(*[widget] * 10, cell_timeout=20)
    assert outcome.ok, outcome.text()
    assert "widgets" not in page.nb["metadata"]
    assert "widget-view" not in page.path.read_text()
    assert [page.text(index) for index in range(10)] == ["inside\n"] * 10


def test_what_is_far_too_much_is_cut_and_said(ran):
    outcome, page = ran(
        "for _ in range(50): print('x' * 999_999)",
        f"for i in range({MOST_OUTPUTS + 7}): display(i)",
        "from IPython.display import HTML\nHTML('y' * 5_000_000)",
        "for i in range(20_001): print(f'\\r{i:20}', end='')",
        "from IPython.display import clear_output\n"
        "for i in range(4):\n    clear_output(wait=True)\n    print(str(i) * 100_000)",
        "raise ValueError('z' * 5_000_000)",
    )
    assert outcome.status == "failed", outcome.text()
    assert page.path.stat().st_size < 3_000_000
    assert page.text(0)[STREAM_LIMIT:].endswith("more characters were printed and are not kept]\n")
    assert page.text(1) == "[7 more outputs were shown and are not kept]\n"
    assert page.outputs(2)[0]["data"] == {
        "text/plain": ["[an output of 5,000,000 characters (text/html) is not kept]"]
    }
    assert page.text(3).strip() == "20000", "a bar that is drawn over and over ends at its end"
    assert page.text(4) == "3" * 100_000 + "\n", "what was cleared counts for nothing"
    assert "ValueError: zzz" in outcome.text()


def test_no_secret_of_the_environment_reaches_the_disk(ran, tools, tmp_path, monkeypatch):
    secret = "s3cr/et+\"with' <signs>&"
    monkeypatch.setenv("SHOP_API_TOKEN", secret)
    monkeypatch.setenv("SHOP_TOKEN_FILE", "/etc/shop/token")
    cells = (
        ("given = ''", {"tags": ["parameters"]}),
        "import os, sys, html, json, base64, urllib.parse\nt = os.environ['SHOP_API_TOKEN']\nprint(t)",
        "print(t[:9], end='', flush=True)\nprint(t[9:])",
        "print(repr(t), json.dumps(t), urllib.parse.quote(t, ''), html.escape(t), file=sys.stderr)",
        "print(base64.b64encode(t.encode()).decode(), os.environ['SHOP_TOKEN_FILE'])",
        "display({'application/json': {t: [t]}, 'text/plain': t}, raw=True, metadata={'m': t})",
        "display(t, display_id='d')\ndisplay(t + '!', display_id='d', update=True)",
        "raise RuntimeError(f'refused: {t}')",
    )
    outcome, page = ran(*cells, parameters={"given": secret})
    assert outcome.reason == "RuntimeError: refused: [masked]"
    copy = tools.Page(tmp_path / "copy.ipynb")
    files = ["--stdout-file", tmp_path / "out.txt", "--stderr-file", tmp_path / "err.txt"]
    said = tools.run_here(
        "--engine", "runbook", "-p", "given", secret, *files, tmp_path / "in.ipynb", copy.path
    )
    assert said.exit_code == 1

    for one in (page, copy):
        assert one.text(2) == "[masked]\n"
        assert one.text(3) == "[masked]\n", "it was printed in two pieces"
        assert one.text(5) == "[masked]= /etc/shop/token\n", "a path is none"
        assert one.outputs(6)[0]["data"]["application/json"] == {"[masked]": ["[masked]"]}
    assert (tmp_path / "out.txt").read_text().startswith("[masked]\n")
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    forms = [secret, secret[1:], repr(secret)[1:-1], json.dumps(secret)[1:-1], "&lt;signs"]
    assert [form for form in forms if form in kept] == []


# -- what can't be run, and what can't be saved ----------------------------------------------------

BROKEN = {
    "no JSON": "print('a script')",
    "nothing": "",
    "half a notebook": '{"cells": [{"cell_type": "code", "sou',
    "a list": "[]",
    "an empty object": "{}",
    "cells that are none": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
    "an image": b"\x89PNG\r\n\x1a\n\xff".decode("latin-1"),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_is_no_notebook_is_told_before_anything_runs(tmp_path, text):
    source = tmp_path / "in.ipynb"
    source.write_text(text, encoding="latin-1")
    with pytest.raises(RecordError, match=r"The notebook in.ipynb can't be run") as caught:
        run_notebook(source, tmp_path / "out.ipynb", parameters={})
    assert caught.value.why
    assert "Check that it is a notebook" in caught.value.fix
    assert not (tmp_path / "out.ipynb").exists()


def test_a_notebook_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RecordError) as caught:
        run_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", parameters={})
    assert "No such file" in caught.value.why


def test_an_unknown_kernel_makes_a_red_page(ran):
    outcome, page = ran("1", kernel="fortran")
    assert (outcome.status, page.ours) == ("failed", ["not_run"])
    assert "fortran" in outcome.reason


def test_an_earlier_run_leaves_nothing_that_could_pass_for_this_ones(ran, tools, tmp_path):
    _, page = ran("1", "2")
    green = page.nb
    green["cells"].insert(0, tools.Page(tools.write(tmp_path / "x.ipynb", "1 / 0")).nb["cells"][0])
    (tmp_path / "again.ipynb").write_text(json.dumps(green))
    again = tools.Page(tmp_path / "out.ipynb")
    outcome = run_notebook(tmp_path / "again.ipynb", again.path, parameters={})
    assert (outcome.status, again.ours) == ("failed", ["failed", "not_run", "not_run"])


def test_two_runs_at_once_keep_to_their_own_folders(tools, tmp_path):
    where, ended = Path.cwd(), {}

    def run(name):
        folder = tmp_path / name
        folder.mkdir()
        cells = ["import os", f"print('{name}', file=open('mine', 'a'))", "print(os.getcwd())"]
        source = tools.write(folder / "in.ipynb", *cells * 5)
        page = tools.Page(folder / "out.ipynb")
        ended[name] = run_notebook(source, page.path, parameters={}, cwd=folder), page

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (outcome, page) in ended.items():
        assert outcome.ok, outcome.text()
        assert (tmp_path / name / "mine").read_text() == f"{name}\n" * 5
        assert page.text(14) == f"{tmp_path / name}\n"
    assert len(ended) == 2
    assert Path.cwd() == where
