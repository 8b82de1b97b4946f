import pytest

from runbook_lib.artifacts import utc_now
from runbook_lib.bench.records import Arrival, LoadRun, RequestRecord
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.ui.figures.requests import columns_of

MS = 1_000_000


def run(arrival, streaming=True):
    good = RequestRecord(
        0,
        10 * MS,
        12 * MS,
        40 * MS,
        200,
        (Arrival(20 * MS, 1, 1), Arrival(30 * MS, 2, 1)),
        token_source="output_lengths",
    )
    bad = RequestRecord(1, 50 * MS, 50 * MS, 60 * MS, 400, error_kind="http", error="no")
    pace = {"concurrency": 1} if arrival == "closed" else {"rate": 1.0}
    load = LoadSettings(arrival=arrival, requests=2, max_tokens=3, streaming=streaming, **pace)
    return LoadRun("http://127.0.0.1:1", "m", load, (good, bad), 10 * MS, utc_now(), 1.0, 0.1, 1)


def test_columns_count_from_the_load_s_start_and_keep_failures():
    columns = columns_of(run("closed"))
    assert columns["ok"] == [True, False]
    assert columns["sent_ms"] == [2.0, 40.0]
    assert columns["first_token_ms"] == [10.0, None]
    assert columns["end_ms"] == [30.0, 50.0]
    assert columns["itl_ms"] == [5.0, 5.0]


@pytest.mark.parametrize(("arrival", "wanted"), [("closed", 8.0), ("poisson", 10.0)])
def test_latency_starts_where_the_measurement_starts_it(arrival, wanted):
    assert columns_of(run(arrival))["ttft_ms"] == [wanted]


def test_without_a_stream_there_is_no_first_token_latency():
    columns = columns_of(run("closed", streaming=False))
    assert columns["ttft_ms"] == columns["itl_ms"] == []
    assert columns["e2e_ms"] == [18.0]
