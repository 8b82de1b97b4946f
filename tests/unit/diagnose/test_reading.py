"""Texts of any size as evidence."""

import subprocess
import sys
import time

import pytest

from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import MOST, from_file, from_text
from runbook_lib.errors import DiagnosisError

TAG = "E0116 Version tag does not match. Note: Current Version: 226, Serialized Engine Version: 228"


def texts(found):
    return [line.text for line in found.lines]


def test_a_short_text_is_kept_whole():
    found = from_text("pasted", "one\n\ntwo\n")
    assert texts(found) == ["one", "two"]
    assert found.sources == {"pasted": "3 lines, 2 kept"}


def test_the_line_that_matters_is_found_in_the_middle_of_a_long_log(tmp_path):
    log = tmp_path / "server.log"
    calm = [f"I0116 request {number} took {number % 7} ms" for number in range(20_000)]
    log.write_text("\n".join([*calm[:9_000], TAG, *calm[9_000:]]))
    [found] = diagnose(from_file(log)).findings
    assert found.id == "engine-trt-version-mismatch"
    assert found.evidence == (f"server.log:9001: {TAG}",)


def test_a_line_that_is_said_again_and_again_is_kept_a_few_times(tmp_path):
    log = tmp_path / "server.log"
    log.write_text(f"{TAG}\n" * 100_000)
    assert len(from_file(log).lines) < MOST


def test_a_large_log_is_read_in_little_memory(tmp_path):
    """In a process of its own: what others of this one took doesn't count."""
    log = tmp_path / "large.log"
    with log.open("w") as handle:
        for number in range(300_000):
            handle.write(f"I0116 {number:x} {'calm ' * 40}\n")
        handle.write(f"{TAG}\n")
    script = (
        "import re, sys\nfrom pathlib import Path\n"
        "from runbook_lib.diagnose.reading import from_file\n"
        "found = from_file(Path(sys.argv[1]))\n"
        "assert any(one.text.startswith('E0116') for one in found.lines)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(log)], check=True, capture_output=True, text=True
    )
    assert int(told.stdout) * 1024 < 200_000_000


def test_a_line_without_end_is_cut_and_not_held(tmp_path):
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * 5_000_000 + b"\n" + TAG.encode())
    assert diagnose(from_file(log)).findings[0].id == "engine-trt-version-mismatch"


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DiagnosisError, match="can't be read"):
        from_file(tmp_path / "none.log")


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a" * 34,
        "AKIA" + "B" * 16,
        "https://user:hunter2hunter2@store/x",
        "password=hunter2hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2hunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_secret_in_a_log_goes_no_further(secret):
    found = from_text("log", f"error: refused {secret}\n")
    kept = "\n".join(texts(found))
    assert "hunter2" not in kept
    assert "aaaa" not in kept
    assert "BBBB" not in kept


@pytest.mark.parametrize(
    "part", ["ensemble ", "rank0.engine ", "no such file ", "kv cache ", "nccl "]
)
def test_a_hostile_line_of_a_megabyte_costs_little(part):
    line = "error: " + part * (1_000_000 // len(part))
    began = time.process_time()
    diagnose(from_text("log", line))
    assert time.process_time() - began < 3
