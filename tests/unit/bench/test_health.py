from runbook_lib.bench.health import PATIENCE_S, Health


def health(**changed):
    return Health(**({"concurrency": 4, "started": 100.0, "streaming": True} | changed))


def fail(watched, now, times):
    for _ in range(times):
        watched.began(now)
        watched.ended(now, ok=False)


def test_a_load_ends_when_all_of_the_first_requests_failed():
    watched = health()
    fail(watched, 100.1, 9)
    assert not watched.verdict(100.2)
    fail(watched, 100.2, 1)
    assert "first 10 requests failed" in watched.verdict(100.2)


def test_a_wide_loop_may_fail_once_in_each_worker_before_it_ends():
    watched = health(concurrency=64)
    fail(watched, 100.1, 63)
    assert not watched.verdict(100.2)
    fail(watched, 100.1, 1)
    assert watched.verdict(100.2)


def test_one_success_keeps_a_failing_load_alive():
    watched = health()
    watched.began(100.0)
    watched.ended(100.1, ok=True)
    fail(watched, 100.2, 500)
    assert not watched.verdict(100.2 + 2 * PATIENCE_S)


def test_a_slow_load_that_only_fails_ends_before_half_a_minute():
    watched = health()
    fail(watched, 101.0, 1)
    assert not watched.verdict(100 + PATIENCE_S)
    assert "nothing succeeded" in watched.verdict(100.1 + PATIENCE_S)
    assert PATIENCE_S < 30


def test_a_silent_server_ends_the_load_and_a_slow_stream_does_not():
    watched = health()
    watched.began(100.0)
    for second in range(100, 200, 10):
        watched.heard(second)
        assert not watched.verdict(second + 10)
    assert "silent" in watched.verdict(190.1 + PATIENCE_S)


def test_a_pause_between_rare_requests_is_no_silence():
    watched = health()
    watched.began(100.0)
    watched.ended(101.0, ok=True)
    assert not watched.verdict(500.0)
    watched.began(500.0)
    assert not watched.verdict(501.0)


def test_answers_that_are_not_streamed_may_take_longer_than_the_patience():
    watched = health(streaming=False)
    watched.began(100.0)
    assert not watched.verdict(100.0 + 2 * PATIENCE_S)
