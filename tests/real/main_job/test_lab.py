"""The lab by its command: it stays until it is told to end, and ends nobody else's servers."""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

OWNED = """
import os, signal
from runbook_lib.lab.lab import Lab
from runbook_lib.serving.supervise import Owner
Lab("owned", Owner.this_process()).up()
print("up", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def answers(endpoint):
    """Whether an S3 server is there: it refuses who has no key."""
    try:
        urllib.request.urlopen(endpoint, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 403
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def here(bench_in, tmp_path_factory):
    return bench_in(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def two(here):
    """Two labs that were started at once; down again afterwards."""
    started = [here.start("lab", "up", "--json", "--name", name) for name in ("one", "two")]
    yield [here.end(process) for process in started]
    for name in ("one", "two"):
        assert here("lab", "down", "--data", "--name", name).code == 0
        assert not (here.cache / "labs" / name).exists()


def status(here, name):
    return here("lab", "status", "--json", "--name", name)


def test_two_labs_stay_after_their_commands_ended_and_down_ends_only_its_own(here, two):
    assert [up.code for up in two] == [0, 0], [str(up) for up in two]
    one, other = (up.said["servers"][0]["endpoint"] for up in two)
    assert one != other
    assert answers(one)
    assert answers(other)
    assert status(here, "one").code == 0

    down = here("lab", "down", "--json", "--name", "one")
    assert down.said == {"lab": "one", "stopped": ["s3"]}
    assert not answers(one)
    assert answers(other)
    assert (status(here, "one").code, status(here, "two").code) == (1, 0)
    assert here("lab", "down", "--json", "--name", "one").said["stopped"] == []

    keys = here.cache / "labs" / "one" / "s3-keys.json.private"
    before = keys.read_text()
    again = here("lab", "up", "--json", "--name", "one")
    assert again.code == 0
    assert keys.read_text() == before, "its keys belong to its data"
    assert keys.stat().st_mode & 0o777 == 0o600


def test_a_lab_that_is_up_stays_as_it_is(here, two):
    up = here("lab", "up", "--json", "--name", "one")
    assert up.said["servers"] == two[0].said["servers"]


def test_nothing_that_a_lab_tells_holds_a_key(here, two):
    keys = json.loads((here.cache / "labs" / "one" / "s3-keys.json.private").read_text())
    pair = keys["identities"][0]["credentials"][0]
    told = [str(two[0]), str(status(here, "one"))]
    told += [path.read_text() for path in (here.cache / "labs" / "one").glob("s3.*")]
    assert not any(word in text for word in pair.values() for text in told)
    for pid in here.processes():  # what any user may read of a process
        command = subprocess.run(["ps", "-o", "args=", str(pid)], capture_output=True, text=True)
        assert not any(word in command.stdout for word in pair.values())


def test_a_stale_state_file_never_ends_a_stranger(here):
    folder = here.cache / "labs" / "stale"
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        who = {"pid": stranger.pid, "started": "an earlier boot:42"}
        state = {"phase": "running", "name": "s3", "facts": {"endpoint": "http://127.0.0.1:9"}}
        state |= {"log": str(folder / "s3.log"), "owner": None, "keeper": who, "server": who}
        (folder / "s3.json").write_text(json.dumps(state))
        assert status(here, "stale").said["up"] is False
        assert here("lab", "down", "--json", "--name", "stale").said["stopped"] == []
        assert stranger.poll() is None
        stranger.kill()
    shutil.rmtree(folder)


def test_a_lab_whose_run_was_killed_ends_by_itself(here, tools):
    before = here.processes()
    process = subprocess.run(
        [sys.executable, "-c", OWNED], env=here.environment(), capture_output=True, text=True
    )
    assert process.stdout == "up\n", process.stderr
    assert tools.settles(lambda: here.processes() - before, set()) == set()
    assert status(here, "owned").said["up"] is False


def test_a_run_works_in_the_lab_that_is_up_and_leaves_it_up(here):
    up = here("lab", "up", "--json")
    assert up.code == 0, up
    try:
        ended = here.run("00_plan")
        assert ended.code == 0, ended
        assert status(here, "default").said["servers"] == up.said["servers"]
    finally:
        assert here("lab", "down", "--json").said["stopped"] == ["s3"]


def test_a_name_that_can_be_no_folder_is_refused(here):
    ended = here("lab", "up", "--json", "--name", "../mine")
    assert ended.code == 2
    assert "can't be the name of a lab" in ended.said["what"]
