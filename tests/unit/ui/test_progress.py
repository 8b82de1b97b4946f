import sys
import threading
from types import SimpleNamespace

import pytest

from runbook_lib.ui import progress, progress_bar


class Shell:
    """Stands for a kernel's display channel: what it was sent, with the clock it was sent at."""

    def __init__(self, monkeypatch):
        self.sent, self.now = [], 100.0
        monkeypatch.setattr(progress_bar, "monotonic", lambda: self.now)
        monkeypatch.setattr(progress_bar, "in_kernel", lambda: True)
        monkeypatch.setattr("IPython.display.display", self.display)

    def display(self, bundle, *, raw, display_id):
        assert raw
        assert display_id
        self.sent.append(bundle)
        return SimpleNamespace(update=lambda later, **_: self.sent.append(later))


@pytest.fixture
def shell(monkeypatch):
    return Shell(monkeypatch)


def test_the_record_keeps_done_with_the_seconds(shell):
    with progress("Building", total=4) as bar:
        shell.now += 3.1
        bar.update(2, "compile")
        shell.now += 1
    assert shell.sent[-1]["text/plain"] == "Building: done 4/4 in 4.1 s"
    assert "aria-valuenow='100'" in shell.sent[-1]["text/html"]


def test_it_is_drawn_four_times_a_second_at_most(shell):
    with progress("Load", total=1000) as bar:
        for number in range(1000):
            shell.now += 0.001
            bar.update(number)
    assert len(shell.sent) == 1 + 4 + 1


def test_a_failed_step_says_so_with_how_far_it_came(shell):
    def push():
        with progress("Push", total=10) as bar:
            bar.update(4)
            shell.now += 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        push()
    assert shell.sent[-1]["text/plain"] == "Push: failed 4/10 after 2.0 s"
    assert "width:40%" in shell.sent[-1]["text/html"]


def test_an_interrupt_is_called_so(shell):
    with pytest.raises(KeyboardInterrupt), progress("Push"):
        raise KeyboardInterrupt
    assert shell.sent[-1]["text/plain"] == "Push: interrupted after 0 ms"


def test_time_left_is_told_once_it_can_be_guessed(shell):
    with progress("Load", total=10) as bar:
        shell.now += 1
        bar.update(1)
        assert "left" not in shell.sent[-1]["text/plain"]
        shell.now += 4
        bar.update(5)
        assert shell.sent[-1]["text/plain"] == "Load: 50 % 5/10 in 5.0 s, about 5.0 s left"


def test_a_log_line_is_a_note_that_can_bring_no_markup(shell):
    with progress("Build") as bar:
        shell.now += 1
        bar.note("<b>line</b> " + "x" * 500)
    text = shell.sent[1]["text/plain"]
    assert text.startswith("Build: in 1.0 s · <b>line</b> xxx")
    assert len(text) < 140
    assert "<b>" not in shell.sent[1]["text/html"]


def test_a_table_stands_below_its_word_and_stays_when_the_step_ends(shell):
    with progress("Deploy") as bar:
        shell.now += 1
        bar.note("waiting for a pod\nobject  state\nPod/<a>  Pending")
    assert shell.sent[1]["text/plain"] == "Deploy: in 1.0 s · waiting for a pod"
    for one in shell.sent[1:]:
        assert "object  state\nPod/&lt;a&gt;  Pending</pre>" in one["text/html"]


def test_a_thread_may_report(shell):
    with progress("Load", total=2) as bar:
        shell.now += 1
        thread = threading.Thread(target=bar.update, args=(1,))
        thread.start()
        thread.join()
    assert "1/2" in shell.sent[1]["text/plain"]


def test_outside_a_notebook_it_is_silent(capsys):
    with progress("Build", total=2) as bar:
        bar.update(1, "x")
        bar.note("y")
    assert capsys.readouterr() == ("", "")


def test_it_loads_no_ipython_outside_a_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with progress("Build"):
        pass
    assert "IPython" not in sys.modules
