"""What is left when the disk is full or can't be written: said, and whole."""

import json
import os
import subprocess

import pytest

from runbook_lib.errors import RecordError
from runbook_lib.record.outcome import judge_file
from runbook_lib.record.runner import run_notebook

ROOT = os.geteuid() == 0
FILL = "import os\ndisplay({'text/plain': os.urandom(300_000).hex()}, raw=True)"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB, where one can be made: that takes root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if not ROOT or subprocess.run(mount).returncode:
        pytest.skip("only root can mount the small disk that this test fills")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_ends_the_run_and_leaves_what_was_saved_before(tools, tmp_path, small_disk):
    source = tools.write(tmp_path / "in.ipynb", tools.TELL_PID, FILL, FILL, "1")
    page = tools.Page(small_disk / "page.ipynb")
    with pytest.raises(RecordError, match=r"The notebook page.ipynb can't be saved") as caught:
        run_notebook(source, page.path, parameters={})
    assert caught.value.why == (
        f"No space left on device in {small_disk}. What was saved before is whole."
    )
    assert "Free some space" in caught.value.fix
    assert page.ours == ["completed", "completed", "not_run", "not_run"]
    assert not judge_file(page.path).ok
    assert [path.name for path in small_disk.iterdir()] == ["page.ipynb"]
    assert tools.gone(page.kernel)


def test_papermills_command_says_so_and_fails(tools, tmp_path, small_disk):
    source = tools.write(tmp_path / "in.ipynb", FILL, FILL, "1")
    page = tools.Page(small_disk / "page.ipynb")
    said = tools.run_here("--engine", "runbook", source, page.path)
    assert said.exit_code == 1
    assert isinstance(said.exception, RecordError)
    assert not judge_file(page.path).ok


def test_a_place_that_is_read_only_is_told_before_a_kernel_starts(tools, tmp_path, request):
    place = request.getfixturevalue("small_disk") if ROOT else tmp_path / "place"
    place.mkdir(exist_ok=True)
    before = tools.write(place / "page.ipynb", "1").read_bytes()
    seal = ["mount", "-o", "remount,ro"] if ROOT else ["chmod", "a-w"]
    subprocess.run([*seal, place], check=True)
    source = tools.write(tmp_path / "in.ipynb", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RecordError, match="can't be saved") as caught:
        run_notebook(source, place / "page.ipynb", parameters={})
    assert str(place) in caught.value.why
    assert "permissions" in caught.value.fix
    assert not (tmp_path / "ran").exists()
    assert (place / "page.ipynb").read_bytes() == before
    assert "outputs" in json.loads(before)["cells"][0]
