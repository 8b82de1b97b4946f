import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from runbook_lib.bench.load import run_load
from runbook_lib.bench.metrics import e2e_ms, measure, tpot_ms, ttft_ms
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import LoadError, ProfileError

PROMPTS = ["one", "two", "three"]


def closed(**changed):
    return LoadSettings(**({"requests": 24, "concurrency": 4, "max_tokens": 10} | changed))


def median(values):
    return sorted(values)[len(values) // 2]


def test_a_stream_is_measured_as_long_as_it_took(truth, record_property):
    run = run_load(truth, "true", closed(warmup=4), PROMPTS)
    assert [one.index for one in run.records] == list(range(24))
    assert all(one.ok and one.tokens_out == 10 and one.status == 200 for one in run.records)
    for name, figure, true in (("ttft", ttft_ms, 30), ("tpot", tpot_ms, 5), ("e2e", e2e_ms, 75)):
        found = median([figure(one) for one in run.records])
        record_property(f"{name}_ms_of_{true}", found)
        # The server never answers early, and what a busy machine adds is reported, not judged.
        assert found > 0.99 * true
    assert measure(run).token_source == "server:output_lengths"


def test_a_closed_loop_never_has_more_in_flight_than_asked(truth):
    records = run_load(truth, "true", closed(concurrency=3), PROMPTS).records
    for one in records:
        assert sum(other.sent_ns <= one.sent_ns < other.end_ns for other in records) <= 3


def test_a_poisson_load_does_not_wait_for_answers(truth):
    load = LoadSettings(arrival="poisson", rate=400.0, requests=80, max_tokens=10, warmup=2)
    run = run_load(truth, "true", load, PROMPTS)
    assert len(run.succeeded) == 80
    # 80 requests a fifth of a second long, each 75 ms: one after the other they would take 6 s.
    assert max(one.scheduled_ns for one in run.records) - run.start_ns < 1e9
    assert all(one.sent_ns >= one.scheduled_ns for one in run.records)


def test_an_answer_that_is_not_streamed_is_measured_whole(truth):
    run = run_load(truth, "true", closed(streaming=False), PROMPTS)
    assert all(one.ok and one.tokens_out == 10 for one in run.records)
    assert median([e2e_ms(one) for one in run.records]) > 74


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ("refuse", "http 400", "parameter 'inputs' has invalid type"),
        ("cut", "cut", "not completed"),
        ("half-event", "cut", "inside an event"),
        ("error", "error in answer", "KV cache exhausted"),
        ("empty", "no tokens", "200 without a single token"),
        ("unframed", "cut", "its end proves nothing"),
        ("hang", "timeout", "no end within 0.3 s"),
    ],
)
def test_a_load_where_nothing_succeeds_ends_early_in_the_servers_words(
    truth, behaviour, kind, words
):
    started = time.monotonic()
    with pytest.raises(LoadError) as caught:
        run_load(truth, behaviour, closed(requests=100_000, timeout_s=0.3), PROMPTS)
    assert time.monotonic() - started < 30
    assert kind in caught.value.why
    assert words in caught.value.why
    assert "all of the first" in caught.value.what


def test_a_slow_arrival_of_refusals_ends_too(truth):
    load = LoadSettings(arrival="poisson", rate=100.0, requests=100_000)
    with pytest.raises(LoadError, match="all of the first 10 requests failed"):
        run_load(truth, "refuse", load, PROMPTS)


def test_a_warm_up_where_nothing_succeeds_ends_the_load(truth):
    with pytest.raises(LoadError, match="None of 1"):
        run_load(truth, "refuse", closed(warmup=1000), PROMPTS)


def test_nobody_listening_is_an_error_that_says_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LoadError) as caught:
            run_load(url, "true", closed(), PROMPTS)
    assert "connect" in caught.value.why


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://", "no url"])
def test_an_address_that_is_none_is_an_error_and_no_crash(url):
    with pytest.raises(LoadError):
        run_load(url, "true", closed(requests=2), PROMPTS)


def test_some_failures_are_counted_and_the_rest_is_measured(truth):
    measured = measure(run_load(truth, "every-third-fails", closed(requests=30), PROMPTS))
    assert measured.errors == {"http 400": 10}
    assert (measured.requests, measured.failed, measured.tokens_out) == (30, 10, 200)
    assert any("10 of 30 requests failed" in finding for finding in measured.findings)


def test_a_server_that_falls_silent_ends_the_load_and_what_came_is_kept(truth, monkeypatch):
    monkeypatch.setattr("runbook_lib.bench.health.PATIENCE_S", 1.0)
    measured = measure(run_load(truth, "dies", closed(requests=100_000), PROMPTS))
    assert (measured.requests, measured.errors) == (14, {"no answer": 4})
    assert "stopped early: 4 requests in flight were silent" in measured.findings[0]


def test_a_stream_without_counts_is_flagged(truth):
    measured = measure(run_load(truth, "uncounted", closed(), PROMPTS))
    assert (measured.token_source, measured.tokens_per_second.value) == ("chunks", None)


def test_a_load_needs_a_prompt(truth):
    with pytest.raises(ProfileError):
        run_load(truth, "true", closed(), [])


def test_a_load_runs_where_an_event_loop_runs_already(truth):
    async def cell():
        return run_load(truth, "true", closed(requests=4), PROMPTS)

    assert len(asyncio.run(cell()).succeeded) == 4


def test_progress_comes_in_the_callers_thread_and_reaches_the_end(truth):
    seen = []

    def note(progress):
        seen.append((threading.current_thread(), progress))

    run_load(truth, "true", closed(warmup=4), PROMPTS, on_progress=note)
    assert {thread for thread, _ in seen} == {threading.current_thread()}
    last = seen[-1][1]
    assert (last.done, last.failed, last.total, last.warming) == (24, 0, 24, False)


def test_an_error_in_the_progress_bar_ends_the_load(truth):
    def fail(_progress):
        raise OSError("no terminal")

    before = threading.active_count()
    with pytest.raises(OSError, match="no terminal"):
        run_load(truth, "true", closed(requests=100_000), PROMPTS, on_progress=fail)
    assert threading.active_count() == before


def test_ctrl_c_ends_a_load_at_once(truth):
    code = (
        "from runbook_lib.bench.load import run_load\n"
        "from runbook_lib.bench.settings import LoadSettings\n"
        "tell = lambda seen: print(seen.done, flush=True)\n"
        f"run_load({truth!r}, 'true', LoadSettings(requests=10**6, concurrency=2), ['a'],"
        " on_progress=tell)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.stdout.readline().strip() in {"0", ""}:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert "never awaited" not in errors
    assert "Unclosed" not in errors
