import pytest

from runbook_lib.artifacts import (
    Engine,
    EngineIdentity,
    Interval,
    Limits,
    Measurement,
    Replica,
    Service,
    TradeOff,
    TradeOffRow,
    utc_now,
)
from runbook_lib.artifacts_plan import Plan
from runbook_lib.record.orchestrate import PageResult, RunReport
from runbook_lib.record.run import Run
from runbook_lib.record.summary import summary

LIMITS = Limits(max_batch_size=16, max_input_len=128, max_seq_len=192, max_num_tokens=2048)


def figures():
    return {"p50": Interval(value=20.123), "p95": Interval(value=None, n=8)}


def plan():
    return Plan(
        profile="lab/tiny",
        profile_digest="sha256:0",
        track="lab",
        model="tiny-llama",
        device="this machine",
        device_bytes=1,
        fits=True,
        parameters=2_340_000,
        kv_bytes_per_token=1,
        max_concurrent_sequences=1,
        limits=LIMITS,
        memory=(),
        commands=(),
    )


def engine(*, reused=False):
    identity = EngineIdentity(
        track="lab",
        target="avx512",
        compiler="openvino",
        dtype="float16",
        kv_cache_dtype="u8",
        limits=LIMITS,
    )
    return Engine(
        path="engine",
        identity=identity,
        files=(),
        engine_digest="sha256:0123456789abcdef0123",
        size_bytes=3_900_000,
        build_seconds=8.5,
        inputs_digest="sha256:2",
        built_at=utc_now(),
        reused=reused,
    )


def service(*rebuilt):
    return Service(
        target="lab",
        url="http://127.0.0.1:1",
        entry_model="ensemble",
        repository_uri="s3://models/x/",
        engine_digest="sha256:1",
        tokenizer="t",
        replicas=tuple(
            Replica(name="a", http="h", grpc="g", metrics="m", ready_seconds=1, rebuilt=how)
            for how in rebuilt
        ),
    )


def measurement():
    return Measurement(
        load_profile="",
        arrival="closed",
        url="http://127.0.0.1:1",
        model="ensemble",
        concurrency=4,
        max_tokens=48,
        requests=120,
        failed=2,
        seconds=12,
        token_source="chunks",
        tokens_in=1,
        tokens_out=1,
        tokens_per_second=Interval(value=900, low=880, high=920),
        requests_per_second=Interval(value=20),
        ttft_ms=figures(),
        itl_ms=figures(),
        tpot_ms=figures(),
        e2e_ms=figures(),
    )


def tradeoff(**changed):
    fields = {
        "label": "int8",
        "profile": {},
        "status": "measured",
        "build_time_s": 8.3,
        "p95_total_ms": Interval(value=150.0),
        "tokens_per_second": Interval(value=1120.0),
        "accuracy": Interval(value=0.9),
    }
    row = TradeOffRow(**(fields | changed))
    return TradeOff(load_profile="", objectives=(), rows=(row,), best="int8", reason="It is best.")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Run.create(tmp_path / "outputs", "lab/tiny")


def told(run, *made, results=()):
    for one in made:
        one.write(run.artifacts)
    return summary(RunReport(run, tuple(results)))


def line(said, label):
    return next(one for one in said.text.splitlines() if one.startswith(label))


def test_a_whole_run_is_told_in_ten_lines(run):
    said = told(run, plan(), engine(), service(False), measurement(), tradeoff())
    labels = [text[:9].strip() for text in said.text.splitlines()]
    measured = ["TTFT", "ITL", "tokens/s"]
    assert labels == ["model", "engine", "URL", *measured, "best", "record", "open it"]
    assert line(said, "model") == "model     tiny-llama  2.34 M parameters  profile lab/tiny"
    assert "float16/none, KV u8, avx512, 3.9 MB, built in 8.5 s  0123456789ab" in said.text
    assert line(said, "record") == f"record    outputs/{run.id}"


def test_only_what_this_run_made_is_told(run):
    said = told(run)
    assert [text[:9].strip() for text in said.text.splitlines()] == ["record", "open it"]


def test_programs_get_the_same_facts(run):
    results = [PageResult("00_plan", "completed", 1.0), PageResult("03_deploy", "not_run", 0.0)]
    said = told(run, plan(), results=results)
    assert said.data["model"] in said.text
    assert said.data["pages"] == {"00_plan": "completed", "03_deploy": "not_run"}
    assert said.data["folder"] == str(run.folder)
    assert said.data["open_it"].startswith(f"outputs/{run.id}/index.html")


def test_a_failed_run_says_where_and_why(run):
    results = [
        PageResult("00_plan", "completed", 1.0),
        PageResult("03_deploy", "failed", 2.0, "It did not start."),
        PageResult("04_benchmark", "not_run", 0.0),
    ]
    said = told(run, results=results)
    assert line(said, "FAILED") == "FAILED    03_deploy: It did not start."
    assert said.data["failed"] == "03_deploy: It did not start."


def test_an_artifact_that_can_not_be_read_ends_no_summary(run):
    plan().write(run.artifacts)
    (run.artifacts / "engine.json").write_text("{")
    assert [text.split()[0] for text in told(run).text.splitlines()] == ["model", "record", "open"]


def test_an_engine_whose_receipt_held_was_not_built(run):
    assert "receipt held, nothing built" in told(run, engine(reused=True)).text


@pytest.mark.parametrize(
    ("rebuilt", "words"),
    [
        ((False, False), "2 replicas, nothing rebuilt (lab"),
        ((False, True), "2 replicas, the engine was compiled again (lab"),
        ((None,), "1 replicas, not known whether rebuilt (lab"),
        ((False, None), "not known whether rebuilt"),
        ((), "0 replicas, not known whether rebuilt"),
    ],
)
def test_a_service_says_whether_its_replicas_compiled_the_engine_again(rebuilt, words, run):
    assert words in told(run, service(*rebuilt)).text


def test_latencies_count_the_requests_that_were_answered(run):
    said = told(run, measurement())
    assert line(said, "TTFT") == "TTFT      p50 20.12 ms   p95 n too small (8)   n = 118"
    assert line(said, "tokens/s").endswith("at concurrency 4, 20.0 requests/s, 2 failed")


def test_the_engine_to_take_is_told_with_its_figures(run):
    said = told(run, tradeoff())
    assert line(said, "best").endswith(
        "int8: build 8.3 s, p95 150.0 ms, 1120 tokens/s, accuracy 90%"
    )


@pytest.mark.parametrize(
    "changed", [{"label": "other"}, {"build_time_s": None}, {"p95_total_ms": None}]
)
def test_without_figures_the_reason_is_told(changed, run):
    assert line(told(run, tradeoff(**changed)), "best") == "best      It is best."
