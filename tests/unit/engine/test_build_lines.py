"""Lines of published build logs, and what is read from them."""

import pytest

from runbook_lib.engine.build_lines import (
    is_transient,
    memory_of,
    percent_of,
    phase_of,
    sm_of,
)

STAMP = "[03/12/2024-10:21:08] "


@pytest.mark.parametrize(
    ("line", "name", "seconds"),
    [
        ("[lab-build] phase compile done 2.25 s", "compile", 2.25),
        ("Total time of converting checkpoints: 00:03:13", "convert", 193),
        ("Quantization done. Total time used: 12.30 s.", "quantize", 12.3),
        ("Quantization done. Total time used: 12.5s", "quantize", 12.5),
        (f"{STAMP}[TRT] [I] Engine generation completed in 35.9738 seconds.", "compile", 35.9738),
        (f"{STAMP}[TRT-LLM] [I] Engine serialized. Total time: 00:01:47", "serialize", 107),
    ],
)
def test_a_line_that_ends_a_phase_tells_its_name_and_seconds(line, name, seconds):
    found = phase_of(line)
    assert (found.name, found.seconds) == (name, seconds)


@pytest.mark.parametrize(
    "line",
    ["", "phase", "[x] phase a done 1.2.3 s", "Total time of building all engines: 00:00:41"],
)
def test_other_lines_end_no_phase(line):
    assert phase_of(line) is None


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("Loading checkpoint shards:  50%|#####     | 1/2 [00:01<00:01]", 50),
        ("100%|##########| 2/2", 100),
        ("[ 50%] no", None),
        ("[42%] Linking", 42),
        ("640%|x", None),
        ("50% of the GPUs", None),
    ],
)
def test_percents_are_read_where_a_line_gives_them(line, percent):
    assert percent_of(line) == percent


def test_the_builders_own_word_on_its_memory_counts_its_children():
    line = f"{STAMP}[TRT-LLM] [I] Build phase peak memory: 176257.29 MB, children: 17.65 MB"
    assert memory_of(line) == round((176257.29 + 17.65) * 2**20)
    older = "Peak memory usage during Engine building and serialization: CPU: 6600 MiB"
    assert memory_of(older) == 6600 * 2**20
    assert memory_of("memory") is None


def test_the_sm_is_read_from_the_builders_log():
    assert sm_of("[TRT-LLM] [I] Compute capability: (12, 1)") == "sm121"
    assert sm_of("Compute") is None


@pytest.mark.parametrize(
    ("line", "passing"),
    [
        ("fatal: unable to access 'https://…': Could not resolve host: github.com", True),
        ("error: RPC failed; curl 56 GnuTLS recv error", True),
        ("received unexpected HTTP status: 503 Service Unavailable", True),
        ("toomanyrequests: rate limit", True),
        ("requests.exceptions.ReadTimeout: Read timed out.", True),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", False),
        ("401 Unauthorized", False),
        ("manifest unknown", False),
        ("processed 503 texts", False),
        ("AssertionError", False),
    ],
)
def test_only_what_the_network_does_is_tried_again(line, passing):
    assert is_transient([line]) == passing
