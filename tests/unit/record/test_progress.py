import io
import shutil
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.record.progress import Spinner, Terminal

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")


def a_run(terminal, folder, description="building"):
    cell = SimpleNamespace(index=2, total=8, description=description)
    terminal("run", SimpleNamespace(folder=folder))
    terminal("lab", "")
    terminal("line", description)
    for status in ("completed", "held", "failed", "not_run"):
        terminal("page", SimpleNamespace(name="01_build_engine"))
        terminal("cell", cell)
        done = SimpleNamespace(page="01_build_engine", status=status, seconds=12.34)
        terminal("page_done", done)
    terminal("something new", None)


def plain(text):
    return not any(ord(sign) < 32 and sign != "\n" for sign in text) and "\x7f" not in text


def test_what_is_no_terminal_gets_one_line_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    a_run(Terminal(stream), tmp_path / "outputs" / "run")
    assert stream.getvalue().splitlines() == [
        "record    outputs/run",
        "01_build_engine      ok         12.3 s",
        "01_build_engine      held       12.3 s",
        "01_build_engine      FAILED     12.3 s",
        "01_build_engine      not run    12.3 s",
    ]


@FEW_EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_no_terminal_gets_no_control_characters(description):
    stream = io.StringIO()
    a_run(Terminal(stream), "outputs/run", description)
    with Spinner("Building", stream) as told:
        told(description)
        told.share(1234.5, description)
    assert plain(stream.getvalue())


def test_a_terminal_that_can_not_redraw_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Screen()
    a_run(Terminal(stream), "outputs/run")
    assert plain(stream.getvalue())


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_colour_is_ever_written(no_color, monkeypatch):
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Screen()
    a_run(Terminal(stream), "outputs/run")
    with Spinner("Building", stream) as told:
        told("step")
    assert "\x1b[" in stream.getvalue()
    assert stream.getvalue().replace("\x1b[2K", "").count("\x1b") == 0


@FEW_EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_a_builder_says_stays_on_its_lines_and_steers_nothing(said):
    stream = Screen()
    spinner = Spinner("Building", stream)
    spinner(said)
    drawn = stream.getvalue().removeprefix("\r\x1b[2K")
    assert drawn.startswith("Building")
    assert all(plain(line) for line in drawn.split("\n"))
    assert drawn.count("\n") == min(said.count("\n"), shutil.get_terminal_size().lines - 2)


def test_a_table_is_drawn_again_in_its_place():
    stream = Screen()
    spinner = Spinner("Waiting", stream)
    spinner("pods\nllama-0  Pending\nllama-1  Pending")
    spinner.line.drawn = 0.0
    spinner("pods\nllama-0  Ready")
    assert stream.getvalue().count("\x1b[2F\x1b[0J") == 1


def test_a_line_is_cut_to_the_terminals_width():
    stream = Screen()
    Terminal(stream)("line", "x" * 500)
    Spinner("y" * 500, stream)("z")
    assert max(len(part) for part in stream.getvalue().split("\r\x1b[2K")) <= 59


def test_a_page_at_work_shows_its_cells():
    stream = Screen()
    terminal = Terminal(stream)
    terminal("page", SimpleNamespace(name="01_build_engine"))
    terminal.line.drawn = 0.0
    terminal("cell", SimpleNamespace(index=2, total=8, description="convert"))
    assert "██████··················" in stream.getvalue()
    assert "2/8" in stream.getvalue()


def test_a_page_without_cells_is_drawn_too():
    stream = Screen()
    terminal = Terminal(stream)
    terminal("cell", SimpleNamespace(index=0, total=0, description=""))
    assert "0/0" in stream.getvalue()


def test_a_step_is_redrawn_at_most_ten_times_a_second():
    stream = Screen()
    with Spinner("Load", stream) as told:
        for number in range(1000):
            told.share(number)
    assert stream.getvalue().count("\r") < 20


def test_a_step_that_ends_well_says_how_long_it_took():
    stream = Screen()
    with Spinner("Building", stream):
        pass
    assert stream.getvalue().endswith("\r\x1b[2KBuilding: 0.0 s\n")


def test_a_short_step_says_nothing_where_nobody_looks():
    stream = io.StringIO()
    with Spinner("Building", stream):
        pass
    assert stream.getvalue() == ""


def test_a_long_step_is_told_where_nobody_looks():
    stream = io.StringIO()
    with Spinner("Building", stream) as told:
        told.began -= 5
    assert stream.getvalue() == "Building: 5.0 s\n"


@pytest.mark.parametrize(("kind", "left"), [(Screen, "\r\x1b[2K"), (io.StringIO, "")])
@pytest.mark.parametrize("drawn", [lambda stream: Spinner("Building", stream), Terminal])
def test_an_error_begins_on_a_clean_line(drawn, kind, left):
    def broken():
        raise RuntimeError

    stream = kind()
    with pytest.raises(RuntimeError), drawn(stream):
        broken()
    assert stream.getvalue().endswith(left)
    assert "s\n" not in stream.getvalue()


def test_a_table_below_a_word_is_drawn_over_the_one_before():
    stream = Screen()
    with Spinner("Deploying", stream) as told:
        told.line.drawn = 0.0
        told("waiting for a pod\nobject  state\nPod/a   Pending")
        told.line.drawn = 0.0
        told("ready\nobject  state\nPod/a   Running")
    frames = stream.getvalue().split("\x1b[2F\x1b[0J")
    assert len(frames) == 3
    assert frames[0].endswith("waiting for a pod\nobject  state\nPod/a   Pending")
    assert frames[1].endswith("ready\nobject  state\nPod/a   Running")
    assert frames[2].startswith("Deploying: ")
