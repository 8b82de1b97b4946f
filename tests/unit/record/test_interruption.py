import os
import signal
import threading

import pytest

from runbook_lib.record import interruption
from runbook_lib.record.interruption import Interrupted, interruptible


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")],
)
def test_a_signal_is_raised_once_and_does_not_disturb_the_saving(number, word):
    with interruptible():
        with pytest.raises(Interrupted, match=word):
            signal.raise_signal(number)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGINT)


def test_a_saving_that_hangs_can_be_ended_after_all(monkeypatch):
    monkeypatch.setattr(interruption, "PATIENCE", 0.0)
    with interruptible():
        for _ in range(2):
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGTERM)


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_changes_nothing():
    found = []

    def run():
        with interruptible():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
