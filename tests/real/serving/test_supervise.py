import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from runbook_lib.errors import ServiceError
from runbook_lib.serving import supervise
from runbook_lib.serving.supervise import Owner, ServerSpec

SLEEPER = ["bash", "-c", "sleep 300 & echo started; wait"]


def sleeper(folder, argv=SLEEPER, **facts):
    return ServerSpec("one", argv, {"PATH": os.environ["PATH"], "SECRET": "s3cr3t"}, folder, facts)


def gone(process, seconds=10.0):
    end = time.monotonic() + seconds
    while process.alive() and time.monotonic() < end:
        time.sleep(0.02)
    return not process.alive()


@pytest.fixture
def started(tmp_path):
    running = supervise.start(sleeper(tmp_path, port=1), tmp_path, Owner.this_process())
    yield running
    supervise.stop(running)


def test_a_server_is_found_again_by_name(started, tmp_path):
    assert supervise.find(tmp_path, "one") == started
    assert started.facts == {"port": 1}


def test_a_second_server_of_one_name_is_refused(started, tmp_path):
    with pytest.raises(ServiceError, match="runs already"):
        supervise.start(sleeper(tmp_path), tmp_path, None)


def test_stopping_ends_the_server_and_what_it_started(tmp_path):
    running = supervise.start(sleeper(tmp_path), tmp_path, None)
    children = supervise.keeper.descendants_of(running.server.pid)
    supervise.stop(running)
    assert not running.alive()
    assert supervise.find(tmp_path, "one") is None
    assert all(not supervise.keeper.process_start(pid) for pid in children)


@pytest.mark.parametrize("way", ["stop", "keeper", "server"])
def test_what_a_server_left_outside_goes_with_it_however_it_ended(tmp_path, way):
    outside = tmp_path / "outside"
    (outside / "server-1").mkdir(parents=True)
    (outside / "server-1.sock").touch()
    (outside / "another.sock").touch()
    spec = sleeper(tmp_path, ["sleep", "300"])
    spec = dataclasses.replace(spec, leftovers=[f"{outside}/server-1*"])
    running = supervise.start(spec, tmp_path, None)
    if way == "stop":
        supervise.stop(running)
    else:
        os.kill(getattr(running, way).pid, signal.SIGKILL)
        assert gone(running.server)
        assert gone(running.keeper)
    supervise.clean_up(tmp_path)
    assert [path.name for path in outside.iterdir()] == ["another.sock"]


@pytest.mark.parametrize("victim", ["keeper", "server"])
def test_after_kill_9_of_a_part_nothing_is_left(tmp_path, victim):
    running = supervise.start(sleeper(tmp_path, ["sleep", "300"]), tmp_path, None)
    os.kill(getattr(running, victim).pid, signal.SIGKILL)
    assert gone(running.server)
    assert gone(running.keeper)
    assert supervise.find(tmp_path, "one") is None


def test_a_server_ends_with_its_owner_also_after_kill_9(tmp_path):
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from runbook_lib.serving import supervise
        spec = supervise.ServerSpec("one", {SLEEPER!r}, dict(os.environ), Path({str(tmp_path)!r}))
        supervise.start(spec, Path({str(tmp_path)!r}), supervise.Owner.this_process())
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    subprocess.run([sys.executable, "-c", script], timeout=30)
    end = time.monotonic() + 10
    while (state := json.loads((tmp_path / "one.json").read_text()))[
        "phase"
    ] != "ended" and time.monotonic() < end:
        time.sleep(0.05)
    assert state["reason"] == "its owner ended"


def test_an_owner_that_is_gone_already_starts_nothing(tmp_path):
    with pytest.raises(ServiceError, match="did not start") as caught:
        supervise.start(sleeper(tmp_path), tmp_path, Owner(os.getpid(), "another boot:1"))
    assert "owner" in caught.value.why


def test_a_stale_state_file_never_leads_to_a_stranger(tmp_path):
    stranger = subprocess.Popen(["sleep", "300"])
    stale = {"pid": stranger.pid, "started": "an earlier boot:42"}
    state = {
        "phase": "running",
        "name": "one",
        "facts": {},
        "log": "x",
        "owner": None,
        "keeper": stale,
        "server": stale,
    }
    (tmp_path / "one.json").write_text(json.dumps(state))
    try:
        assert supervise.find(tmp_path, "one") is None
        old = Owner(**stale)
        supervise.stop(supervise.Running("one", old, old, None, tmp_path / "log", {}))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_state_file_cut_in_half_is_no_server(tmp_path):
    (tmp_path / "one.json").write_text('{"phase": "runn')
    assert supervise.find(tmp_path, "one") is None


def test_secrets_of_the_environment_are_not_written_down(started, tmp_path):
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"s3cr3t" not in written


def started_and_healthy(spec, folder):
    running = supervise.start(spec, folder, None)
    supervise.wait_healthy(running, lambda: False, timeout=10, what="The server")


def test_a_server_that_dies_before_it_is_ready_tells_its_last_words(tmp_path):
    spec = sleeper(tmp_path, ["bash", "-c", "echo boom: no such port >&2; exit 3"])
    with pytest.raises(ServiceError, match=r"did not start|ended after") as caught:
        started_and_healthy(spec, tmp_path)
    assert "boom: no such port" in caught.value.why


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ServiceError, match="did not start") as caught:
        supervise.start(sleeper(tmp_path, ["/no/such/program"]), tmp_path, None)
    assert "/no/such/program" in caught.value.why


def test_free_ports_are_all_different_and_free():
    ports = supervise.free_ports(16)
    assert len(set(ports)) == 16
    for port in ports:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))


def test_log_tail_shows_no_terminal_control(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"\x1b[31mred\x1b[0m\x07\n\nlast\xff\n")
    assert supervise.log_tail(log) == "[31mred[0m\nlast\ufffd"


def test_the_log_of_a_missing_file_is_empty():
    assert supervise.log_tail(Path("/no/such/log")) == ""
