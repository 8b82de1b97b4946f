import csv
import json
from datetime import UTC, datetime

import pytest

from runbook_lib.bench.metrics import e2e_ms, itl_ms, measure, steady_window, tpot_ms, ttft_ms
from runbook_lib.bench.output import COLUMNS, write_requests_csv, write_results_json
from runbook_lib.bench.records import Arrival, LoadRun, RequestRecord
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import LoadError

MS = 1_000_000


def record(index=0, sent=10, arrivals=((60, 1), (70, 1), (90, 2)), end=95, **changed):
    fields = {
        "index": index,
        "scheduled_ns": sent * MS,
        "sent_ns": sent * MS,
        "end_ns": end * MS,
        "status": 200,
        "arrivals": tuple(Arrival(int(at * MS), tokens, 1) for at, tokens in arrivals),
        "token_source": "output_lengths",
        "text": "hello",
    }
    return RequestRecord(**(fields | changed))


def steps(count=200, concurrency=2, every=100):
    """`concurrency` requests side by side, one after the other, 4 tokens each."""
    return tuple(
        record(
            i,
            sent=(start := i // concurrency * every),
            arrivals=((start + 50, 1), (start + 60, 1), (start + 70, 1), (start + 80, 1)),
            end=start + every,
        )
        for i in range(count)
    )


def run_of(records, **changed):
    fields = {
        "url": "http://127.0.0.1:1",
        "model": "m",
        "load": LoadSettings(concurrency=2, requests=len(records)),
        "records": tuple(records),
        "start_ns": 0,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "wall_seconds": 10.0,
        "cpu_seconds": 1.0,
        "distinct_prompts": len(records),
    }
    return LoadRun(**(fields | changed))


def failed(index=0, **changed):
    given = {"status": 400, "arrivals": (), "error_kind": "http 400", "error": "no"}
    return record(index, **(given | changed))


def test_latencies_follow_their_definitions():
    one = record(scheduled_ns=5 * MS)
    assert (ttft_ms(one), ttft_ms(one, scheduled=True)) == (50, 55)
    assert (e2e_ms(one), e2e_ms(one, scheduled=True)) == (80, 85)
    assert tpot_ms(one) == 10
    assert itl_ms([one]) == [10, 10, 10]


def test_an_empty_first_response_is_no_first_token():
    one = record(arrivals=((20, 0), (60, 1), (70, 1)))
    assert ttft_ms(one) == 50
    assert itl_ms([one]) == [10]


def test_the_time_per_token_is_undefined_where_all_came_at_once():
    one = record(arrivals=((60, 4),))
    assert tpot_ms(one) is None
    assert itl_ms([one]) == []


def test_gaps_are_pooled_in_order_of_arrival():
    slow, fast = record(arrivals=((10, 1), (40, 1))), record(arrivals=((10, 1), (15, 1)))
    assert itl_ms([slow, fast]) == [5, 30]


def test_the_steady_window_leaves_ramp_and_drain_out():
    window = steady_window(run_of(steps()))
    assert (window.start_ns, window.end_ns) == (100 * MS, 9900 * MS)


def test_rates_are_those_of_the_window():
    measured = measure(run_of(steps()))
    # Two requests of four tokens every 0.1 s.
    assert measured.requests_per_second.value == pytest.approx(20)
    assert measured.tokens_per_second.value == pytest.approx(80)
    assert measured.token_source == "server:output_lengths"
    assert measured.tokens_out == 800


def test_an_open_loop_counts_latency_from_the_schedule():
    late = tuple(record(i, sent=30, scheduled_ns=10 * MS) for i in range(100))
    load = LoadSettings(arrival="poisson", rate=5.0, requests=100)
    measured = measure(run_of(late, load=load))
    assert measured.ttft_ms["p50"].value == 50
    assert any("The client was late" in finding for finding in measured.findings)


def test_failures_are_counted_and_kept_out_of_latencies():
    bad = [failed(200 + i, end=5000 + i) for i in range(20)]
    measured = measure(run_of([*steps(), *bad]))
    assert (measured.requests, measured.failed, measured.errors) == (220, 20, {"http 400": 20})
    assert measured.e2e_ms["p50"].n == 200
    assert "20 of 220 requests failed" in measured.findings[0]
    assert "p95 of every latency is infinite" in measured.findings[1]


def test_a_load_without_a_success_yields_no_measurement():
    with pytest.raises(LoadError, match="nothing was measured"):
        measure(run_of([failed()]))


def test_percentiles_of_too_few_samples_are_absent_and_said_to_be():
    measured = measure(run_of(steps(50)))
    assert measured.e2e_ms["p95"].value is None
    assert any("too few for p95, p99 (p95 needs 72)" in one for one in measured.findings)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cpu_seconds": 9.5}, "it measured itself"),
        ({"stopped_early": "silence"}, "stopped early: silence"),
        ({"server": {"m.success": 320.0}}, "something else loads it"),
        ({"distinct_prompts": 3}, "shared 3 prompts"),
        ({"load": LoadSettings(concurrency=2, max_tokens=4)}, "100% of the outputs were cut off"),
        ({"load": LoadSettings(concurrency=2, max_tokens=3)}, "not tokens per response"),
        ({"load": LoadSettings(concurrency=2, streaming=False)}, "not streamed"),
        ({}, "hides queueing"),
    ],
)
def test_what_limits_the_figures_is_said(changed, said):
    assert any(said in one for one in measure(run_of(steps(), **changed)).findings)


def test_a_sound_client_is_not_accused():
    findings = " ".join(measure(run_of(steps(), server={"m.success": 205.0})).findings)
    for accusation in (
        "measured itself",
        "failed",
        "stopped",
        "cut off",
        "was late",
        "counts",
        "else",
    ):
        assert accusation not in findings


def test_tokens_that_come_together_are_said_to():
    together = [record(i, arrivals=((60, 1), (70, 4))) for i in range(10)]
    assert any(
        "100% of the tokens came several" in one for one in measure(run_of(together)).findings
    )


def test_without_token_counts_no_token_rate_is_claimed():
    chunks = [record(i, token_source="chunks") for i in range(100)]
    measured = measure(run_of(chunks))
    assert measured.token_source == "chunks"
    assert measured.tokens_per_second.value is None
    assert measured.tpot_ms["mean"].value is None
    assert any("no token counts" in one for one in measured.findings)


def test_answers_that_are_not_streamed_have_no_first_token_time():
    load = LoadSettings(concurrency=2, streaming=False)
    measured = measure(run_of([record(i, arrivals=((90, 4),)) for i in range(100)], load=load))
    assert measured.ttft_ms["p50"].value is None
    assert measured.e2e_ms["p50"].value == 80


def test_every_request_is_in_the_csv_with_the_guides_columns_first(tmp_path):
    run = run_of([record(0), failed(1), failed(2, status=0, error_kind="timeout")])
    path = write_requests_csv(run, tmp_path / "requests.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert list(rows[0])[:4] == ["status", "ttfb_ms", "total_ms", "tokens"]
    assert [row["status"] for row in rows] == ["200", "400", "0"]
    assert [row["ok"] for row in rows] == ["1", "0", "0"]
    assert (rows[0]["ttfb_ms"], rows[0]["total_ms"], rows[0]["tokens"]) == ("50.0", "85.0", "4")
    assert rows[0]["timeline"] == "50.0:1 60.0:1 80.0:2"
    assert rows[1]["ttfb_ms"] == ""
    assert rows[1]["error"] == "no"


def test_results_say_null_for_what_was_not_measured(tmp_path):
    measured = measure(run_of([*steps(50), failed(50)]), load_profile="load/x")
    value = json.loads(write_results_json(measured, tmp_path / "results.json").read_text())
    assert (value["total_requests"], value["failed_requests"]) == (51, 1)
    assert value["mean_ttfb_ms"] == 50
    assert value["p95_total_ms"] is None
    assert value["gpu_utilization_avg"] is None
    assert value["measurement"]["load_profile"] == "load/x"
