import csv
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.artifacts import Replica, Service
from runbook_lib.bench.load import Progress
from runbook_lib.bench.records import Arrival, LoadRun, RequestRecord
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import LoadError, ProfileError
from runbook_lib.study import loads

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault

MS = 1_000_000
VALUES = {"requests": 40, "concurrency": 4, "rate": 0.0, "max_tokens": 48, "seed": 7}


def record(index, *, ok=True):
    start = index * 100
    return RequestRecord(
        index=index,
        scheduled_ns=start * MS,
        sent_ns=start * MS,
        end_ns=(start + 90) * MS,
        status=200 if ok else 400,
        arrivals=tuple(Arrival((start + at) * MS, 1, 1) for at in (50, 60, 70)) if ok else (),
        token_source="output_lengths" if ok else "",
        error_kind="" if ok else "http 400",
    )


def run_of(load, ok=20, failed=0, wall=10.0):
    records = [record(n, ok=n < ok) for n in range(ok + failed)]
    return LoadRun(
        url="http://127.0.0.1:1",
        model="ensemble",
        load=load,
        records=tuple(records),
        start_ns=0,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        wall_seconds=wall,
        cpu_seconds=1.0,
        distinct_prompts=len(records),
    )


CLOSED = LoadSettings(concurrency=4, requests=20)


@pytest.fixture
def service():
    replica = Replica(name="a", http="h", grpc="g", metrics="http://m", ready_seconds=1)
    return Service(
        target="lab",
        url="http://127.0.0.1:1",
        entry_model="ensemble",
        repository_uri="s3://models/x/",
        engine_digest="sha256:1",
        tokenizer="t",
        replicas=(replica,),
    )


@pytest.fixture
def sent(monkeypatch):
    """What would have been sent; nothing is."""
    orders = []

    def instead(url, model, load, prompts, *, metrics_url="", on_progress=None):
        orders.append((url, model, load, prompts, metrics_url))
        on_progress(Progress(done=3, failed=0, total=9, seconds=1.0, warming=True))
        on_progress(Progress(done=5, failed=2, total=9, seconds=2.0, warming=False))
        return run_of(load)

    monkeypatch.setattr(loads, "run_load", instead)
    return orders


def silent(*_):
    pass


@FEW_EXAMPLES
@given(st.integers(0, 2**32))
def test_the_same_seed_asks_the_same_questions_in_the_same_order(seed):
    assert loads.prompts(seed) == loads.prompts(seed)
    assert sorted(loads.prompts(seed)) == sorted(loads.prompts(0))


def test_another_seed_asks_in_another_order():
    assert loads.prompts(1) != loads.prompts(2)


def test_a_closed_loop_is_what_the_page_says(service, sent):
    loads.closed(service, VALUES, silent)
    url, model, load, prompts, metrics = sent[0]
    assert (url, model, metrics) == ("http://127.0.0.1:1", "ensemble", "http://m")
    assert (load.arrival, load.requests, load.concurrency) == ("closed", 40, 4)
    assert (load.max_tokens, load.warmup, load.seed) == (48, 8, 7)
    assert prompts == loads.prompts(7)


def test_every_engine_of_a_study_carries_the_load_of_a_closed_loop(service, sent):
    loads.closed(service, VALUES, silent)
    assert loads.study_load(VALUES) == sent[0][2]


def test_arrivals_come_at_60_percent_of_what_the_closed_loop_carried(service, sent):
    loads.poisson(service, run_of(CLOSED, ok=20, failed=5), VALUES, silent)
    load = sent[0][2]
    assert (load.arrival, load.rate, load.concurrency) == ("poisson", pytest.approx(1.2), None)


def test_arrivals_come_at_the_rate_that_was_given(service, sent):
    loads.poisson(service, run_of(CLOSED), VALUES | {"rate": 6.3}, silent)
    assert sent[0][2].rate == pytest.approx(6.3)


@FEW_EXAMPLES
@given(st.floats(1e-6, 1e6))
def test_a_rate_keeps_its_digits_however_slow_the_service_is(rate):
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loads, "_sent", lambda _, load, *__: kept.append(load.rate))
        loads.poisson(None, run_of(CLOSED), VALUES | {"rate": rate}, silent)
    assert kept[0] == pytest.approx(rate, rel=1e-3)


def test_no_rate_is_made_up_where_nothing_was_carried(service, sent):
    with pytest.raises(LoadError, match="No rate"):
        loads.poisson(service, run_of(CLOSED, ok=0, failed=3), VALUES, silent)
    assert sent == []


def test_warming_up_counts_as_nothing_done_and_failures_are_told(service, sent):
    told = []
    loads.closed(service, VALUES, lambda *what: told.append(what))
    assert told == [(0, "warming up"), (5, "2 failed")]


@pytest.mark.parametrize(("arrival", "name"), [("closed", "closed"), ("poisson", "poisson")])
def test_every_request_goes_into_the_records_data(arrival, name, tmp_path):
    load = CLOSED if arrival == "closed" else LoadSettings(arrival="poisson", rate=2.0, requests=20)
    found = loads.measured(run_of(load, failed=1), tmp_path / "data")
    assert found.data == f"data/requests-{name}.csv"
    with (tmp_path / found.data).open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 21


# -- any server --------------------------------------------------------------------------------------


def test_a_load_profile_is_put_on_any_server(sent):
    found = loads.bench_url("http://127.0.0.1:1", "m", "load/lab-closed", None, silent)
    assert (sent[0][0], sent[0][1]) == ("http://127.0.0.1:1", "m")
    assert (found.load_profile, found.data) == ("load/lab-closed", "")


def test_the_summary_names_the_requests_that_lie_beside_it(sent, tmp_path):
    found = loads.bench_url("http://127.0.0.1:1", "m", "lab-closed", tmp_path / "out", silent)
    assert (tmp_path / "out" / found.data).is_file()
    summary = json.loads((tmp_path / "out" / "results.json").read_text())
    assert summary["measurement"]["data"] == found.data
    assert summary["measurement"]["load_profile"] == found.load_profile


def test_a_load_may_bring_its_own_prompts(sent, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("concurrency: 2\nrequests: 4\nprompts: [one, two]\nstreaming: false\n")
    loads.bench_url("http://127.0.0.1:1", "m", str(profile), None, silent)
    assert sent[0][3] == ["one", "two"]
    assert sent[0][2].streaming is False


def test_an_unknown_load_names_the_nearest(sent):
    with pytest.raises(ProfileError, match="lab-closd") as caught:
        loads.bench_url("http://127.0.0.1:1", "m", "lab-closd", None, silent)
    assert "lab-closed" in caught.value.fix
    assert sent == []
