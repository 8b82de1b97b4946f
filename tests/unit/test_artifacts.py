from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runbook_lib.artifacts import (
    Artifact,
    Diagnosis,
    Engine,
    EngineIdentity,
    Finding,
    Interval,
    Limits,
    Measurement,
    ModelRepository,
    Phase,
    Replica,
    Service,
    StoredFile,
    TradeOff,
    TradeOffRow,
    canonical_json,
    digest_of,
    utc_now,
)
from runbook_lib.artifacts_plan import Estimate, MemoryPart, Plan
from runbook_lib.errors import RecordError
from runbook_lib.parameters import PAGES

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault

LIMITS = Limits(max_batch_size=16, max_input_len=128, max_seq_len=192, max_num_tokens=2048)
FILE = StoredFile(path="rank0.engine", sha256="ab", size=3_900_000)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def interval(value=12.34, low=11.9, high=12.8, n=120):
    return Interval(value=value, low=low, high=high, n=n)


def percentiles():
    return {"mean": interval(), "p50": interval(), "p90": interval(), "p95": interval(None, n=8)}


def identity(**changed):
    fields = {
        "track": "lab",
        "target": "avx512",
        "compiler": "openvino 2026.2.1",
        "dtype": "float16",
        "kv_cache_dtype": "u8",
        "limits": LIMITS,
    }
    return EngineIdentity(**(fields | changed))


def plan(**changed):
    fields = {
        "profile": "lab/tiny",
        "profile_digest": "sha256:0",
        "track": "lab",
        "model": "tiny-llama",
        "device": "this machine",
        "device_bytes": 3_200_000_000,
        "fits": True,
        "parameters": 1_234_567,
        "kv_bytes_per_token": 2048,
        "max_concurrent_sequences": 88,
        "limits": LIMITS,
        "memory": (MemoryPart(name="weights", bytes=4_200_000, note="as stored"),),
        "commands": (("build", "--name", "two words"),),
        "estimates": (
            Estimate(name="build", unit="s", value=8.5, low=8, high=9, basis="n = 3 builds"),
        ),
        "notes": ("first", "second"),
    }
    return Plan(**(fields | changed))


def engine(**changed):
    fields = {
        "path": "engines/one",
        "identity": identity(),
        "files": (FILE,),
        "engine_digest": "sha256:0123456789abcdef0123",
        "size_bytes": 3_900_000,
        "build_seconds": 8.54,
        "phases": (Phase(name="compile", seconds=2.2),),
        "inputs_digest": "sha256:2",
        "built_at": NOON,
    }
    return Engine(**(fields | changed))


def repository(**changed):
    fields = {
        "path": "repository",
        "uri": "s3://models/triton/tiny/",
        "entry_model": "ensemble",
        "models": ("ensemble", "tensorrt_llm"),
        "files": (FILE,),
        "size_bytes": 3_900_000,
        "content_digest": "sha256:0123456789abcdef0123",
        "engine_digest": "sha256:1",
    }
    return ModelRepository(**(fields | changed))


def replica(**changed):
    fields = {
        "name": "triton-1",
        "http": "http://127.0.0.1:1",
        "grpc": "127.0.0.1:2",
        "metrics": "http://127.0.0.1:3/metrics",
        "ready_seconds": 1.94,
        "engine_digest": "sha256:0123456789abcdef0123",
    }
    return Replica(**(fields | changed))


def service(**changed):
    fields = {
        "target": "lab",
        "url": "http://127.0.0.1:1",
        "entry_model": "ensemble",
        "repository_uri": "s3://models/triton/tiny/",
        "engine_digest": "sha256:1",
        "tokenizer": "tokenizer.json",
        "replicas": (replica(),),
        "smoke_prompt": "Q: What?",
        "smoke_answer": "That.",
    }
    return Service(**(fields | changed))


def measurement(**changed):
    fields = {
        "load_profile": "lab-closed",
        "arrival": "closed",
        "url": "http://127.0.0.1:1",
        "model": "ensemble",
        "concurrency": 4,
        "max_tokens": 48,
        "requests": 120,
        "failed": 2,
        "errors": {"http 400": 2},
        "seconds": 12,
        "token_source": "server:output_lengths",
        "tokens_in": 10,
        "tokens_out": 4000,
        "tokens_per_second": interval(900, 880, 920),
        "requests_per_second": interval(20, 19, 21),
        "ttft_ms": percentiles(),
        "itl_ms": percentiles(),
        "tpot_ms": percentiles(),
        "e2e_ms": percentiles(),
    }
    return Measurement(**(fields | changed))


def row(label="profile", **changed):
    fields = {
        "label": label,
        "profile": {"dtype": "float16", "max_batch_size": 16},
        "status": "measured",
        "measured_at": NOON,
        "p95_total_ms": interval(),
        "pareto": True,
    }
    return TradeOffRow(**(fields | changed))


def tradeoff(**changed):
    lost = row("int3", status="failed", cause="no such type", p95_total_ms=None, pareto=False)
    fields = {
        "load_profile": "closed, 4 in flight",
        "objectives": ("p95 latency, lower",),
        "rows": (row(), lost),
        "best": "profile",
        "reason": "It is the only one.",
    }
    return TradeOff(**(fields | changed))


def finding(**changed):
    fields = {
        "id": "shm-too-small",
        "title": "Shared memory is too small",
        "cause": "It is 64 MB.",
        "confirm": "df -h /dev/shm",
        "fix": "Mount more.",
        "evidence": ("log: first", "log: second"),
        "score": 0.8,
    }
    return Finding(**(fields | changed))


def diagnosis(**changed):
    return Diagnosis(**({"findings": (finding(),), "sources": {"log": "read"}} | changed))


MAKERS = (plan, engine, repository, service, measurement, tradeoff, diagnosis)
every_kind = pytest.mark.parametrize("make", MAKERS, ids=[make.__name__ for make in MAKERS])


def text_of(shown, label):
    return dict(shown.facts())[label]


# -- files ---------------------------------------------------------------------------------------


@every_kind
def test_an_artifact_is_read_as_it_was_written(make, tmp_path):
    made = make()
    path = made.write(tmp_path / "artifacts")
    assert path == tmp_path / "artifacts" / f"{made.kind}.json"
    again = type(made).read(tmp_path / "artifacts")
    assert again == made
    assert again.digest() == made.digest()


@every_kind
def test_an_artifact_can_have_a_name_of_its_own(make, tmp_path):
    made = make()
    assert made.write(tmp_path, "second-1.5").name == "second-1.5.json"
    assert type(made).read(tmp_path, "second-1.5") == made
    assert [path.name for path in tmp_path.iterdir()] == ["second-1.5.json"]


@every_kind
def test_the_digest_does_not_depend_on_when_an_artifact_was_made(make):
    made = make()
    later = made.model_copy(update={"created": made.created + timedelta(days=1)})
    assert later != made
    assert later.digest() == made.digest()


def test_the_digest_depends_on_everything_else():
    assert plan(fits=False).digest() != plan().digest()
    assert engine(built_at=NOON + timedelta(1)).digest() != engine().digest()


@every_kind
def test_a_missing_artifact_names_the_page_that_makes_it(make, tmp_path):
    kind = type(make())
    with pytest.raises(RecordError) as caught:
        kind.read(tmp_path)
    assert caught.value.page == kind.made_by
    assert f"no {kind.kind} yet" in caught.value.what


@every_kind
@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}\x00"])
def test_a_damaged_artifact_names_the_page_that_makes_it(make, damage, tmp_path):
    kind = type(make())
    (tmp_path / f"{kind.kind}.json").write_bytes(damage)
    with pytest.raises(RecordError, match="not a") as caught:
        kind.read(tmp_path)
    assert caught.value.page == kind.made_by
    assert caught.value.why


def test_a_folder_in_an_artifacts_place_is_told_like_any_damage(tmp_path):
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(RecordError, match="not a plan") as caught:
        Plan.read(tmp_path)
    assert (caught.value.page, caught.value.why) == ("00_plan", "Is a directory")


@every_kind
def test_a_key_that_is_not_known_is_refused_by_name(make, tmp_path):
    made = make()
    known = json.loads(made.write(tmp_path).read_text())
    (tmp_path / f"{made.kind}.json").write_text(json.dumps(known | {"stranger": 1}))
    with pytest.raises(RecordError) as caught:
        type(made).read(tmp_path)
    assert "stranger" in caught.value.why


@every_kind
def test_an_artifact_of_a_later_schema_is_refused(make, tmp_path):
    made = make()
    known = json.loads(made.write(tmp_path).read_text())
    (tmp_path / f"{made.kind}.json").write_text(json.dumps(known | {"schema_version": 2}))
    with pytest.raises(RecordError, match="this version can read"):
        type(made).read(tmp_path)


def test_one_kind_is_not_read_as_another(tmp_path):
    service().write(tmp_path, "plan")
    with pytest.raises(RecordError, match="not a plan"):
        Plan.read(tmp_path)


@every_kind
def test_an_artifact_can_not_be_changed_in_place(make):
    with pytest.raises(ValidationError):
        make().created = utc_now()


def test_every_page_makes_a_kind_of_its_own_and_the_kind_knows_it():
    kinds = {kind.kind: kind.made_by for kind in Artifact.__subclasses__()}
    assert {page.makes: page.name for page in PAGES} == kinds


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValidationError):
        engine(built_at=datetime(2026, 3, 1, 12))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_figure(value):
    with pytest.raises(ValidationError):
        Interval(value=value)


# -- digests -------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate can't be written as UTF-8, and no file that is read holds one.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@FEW_EXAMPLES
@given(PLAIN)
def test_canonical_json_says_the_same_and_only_in_one_way(value):
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@FEW_EXAMPLES
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PLAIN, max_size=5))
def test_the_digest_does_not_depend_on_the_order_of_keys(value):
    assert digest_of(dict(reversed(value.items()))) == digest_of(value)


def test_a_digest_is_that_of_known_bytes():
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest_of({}) == f"sha256:{empty}"


def test_no_digest_is_taken_of_what_is_no_number():
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_of(float("nan"))


FIGURES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
INTERVALS = st.builds(Interval, value=FIGURES, low=FIGURES, high=FIGURES, n=st.integers(0))


@settings(FEW_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["mean", "p50", "p99"]), INTERVALS))
def test_every_figure_survives_the_way_through_a_file(tmp_path, figures):
    made = measurement(ttft_ms=figures)
    made.write(tmp_path)
    assert Measurement.read(tmp_path) == made


# -- what people read ------------------------------------------------------------------------------


def test_a_figure_reads_with_its_unit_and_bounds():
    assert interval().text("ms") == "12.3 ms (11.9–12.8)"
    assert interval().text("ms", 2) == "12.34 ms (11.90–12.80)"
    assert interval().text(digits=0) == "12 (12–13)"
    assert Interval(value=3.0).text("s") == "3.0 s"
    assert Interval(value=3.0, low=2.0).text() == "3.0"


def test_a_figure_that_the_sample_can_not_carry_is_no_zero():
    assert Interval(value=None, low=1, high=2, n=8).text("ms") == "n too small (8)"


@FEW_EXAMPLES
@given(INTERVALS, st.integers(0, 4))
def test_a_figure_is_one_line(one, digits):
    assert len(one.text("ms", digits).splitlines()) == 1


@every_kind
def test_an_artifact_reads_as_lines_with_labels(make):
    made = make()
    lines = str(made).splitlines()
    for label, text in ((label, text) for label, text in made.facts() if text):
        assert any(line.startswith(label) for line in lines)
        assert all(any(part in line for line in lines) for part in text.splitlines())


@every_kind
def test_a_notebook_and_a_terminal_show_the_same_facts(make):
    made = make()
    page = made._repr_html_()
    assert page.count("<tr>") == sum(bool(text) for _, text in made.facts())
    assert page.startswith("<table>")


def test_a_fact_that_says_nothing_is_left_out():
    assert "asked" not in str(service(smoke_prompt=""))
    assert "asked" not in service(smoke_prompt="")._repr_html_()


@every_kind
def test_python_shows_an_artifact_as_it_reads(make):
    class Printer:
        def text(self, said):
            self.said = said

    made, printer = make(), Printer()
    made._repr_pretty_(printer, cycle=False)
    assert printer.said == str(made)
    made._repr_pretty_(printer, cycle=True)
    assert printer.said == type(made).__name__


@pytest.mark.parametrize(
    "made",
    [
        plan(model="<script>alert(1)</script>", notes=("<img src=x>",)),
        engine(path="<script>"),
        repository(uri="s3://<script>/", warnings=("<b>",)),
        service(smoke_answer="<script>alert('a')</script>"),
        replica(name="<script>"),
        measurement(findings=("<script>",)),
        tradeoff(reason="<script>", rows=(row("<b>"),)),
        diagnosis(findings=(finding(evidence=("<script>",)),), not_explained=("<img>",)),
    ],
    ids=lambda made: type(made).__name__,
)
def test_no_markup_of_strangers_gets_into_a_notebook(made):
    page = made._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;" in page


def test_what_a_model_says_does_not_steer_the_terminal():
    said = str(service(smoke_answer="\x1b[2Jgone\x07\x9b31m\ttab"))
    assert not any(ord(sign) < 32 and sign not in "\n\t" for sign in said)
    assert "\x9b" not in said
    assert "\N{REPLACEMENT CHARACTER}[2Jgone" in said
    assert "\ttab" in said


@FEW_EXAMPLES
@given(st.text())
def test_no_text_steers_the_terminal_or_leaves_its_column(said):
    lines = str(service(notes=(said,))).splitlines()
    width = max(len(label) for label, _ in service().facts())
    assert all(line[width : width + 2] in {"  ", ""} for line in lines)
    assert not any(ord(sign) < 32 and sign != "\t" for line in lines for sign in line)


def test_a_plan_says_the_verdict_first():
    said = "yes: 88 sequences of 192 tokens at once, 16 may be in flight"
    assert plan().facts()[0] == ("fits", said)
    assert plan(fits=False).facts()[0][1].startswith("NO: ")
    assert text_of(plan(), "commands") == "build --name 'two words'"
    assert text_of(plan(), "would take") == "build: 8.5 s (8 to 9; n = 3 builds)"


def test_a_plan_on_several_devices_says_how_they_share_the_model():
    split = plan(devices=4, tensor_parallel_size=2, device="L4", device_bytes=24 * 10**9)
    assert text_of(split, "device") == "4 x L4, 24 GB each, tp 2, pp 1"


def test_a_part_of_memory_without_a_note_has_no_empty_brackets():
    parts = (MemoryPart(name="weights", bytes=5), MemoryPart(name="cache", bytes=6, note="u8"))
    assert text_of(plan(memory=parts), "memory") == "weights: 5 bytes\ncache: 6 bytes (u8)"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (4_200_000, "4.2 MB"),
        (99_960_000, "100 MB"),
        (123_456_789, "123 MB"),
        (85_899_345_920, "85.9 GB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_a_size_reads_in_the_unit_that_fits(count, text):
    assert text_of(plan(device_bytes=count), "device") == f"this machine, {text}"


def test_an_engine_says_when_it_was_built_in_utc_whatever_zone_it_was_noted_in():
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))
    assert text_of(engine(built_at=elsewhere), "build") == "8.5 s, ended 2026-03-01 12:00 UTC"


def test_an_engine_names_its_ranks_only_where_there_are_several():
    assert "tp" not in str(identity())
    assert str(identity(tp_size=2)).endswith(", tp 2, pp 1")


def test_an_engine_says_whether_it_was_built_or_kept():
    assert "built now" in str(engine())
    assert "its receipt holds" in str(engine(reused=True))


@pytest.mark.parametrize(
    ("rebuilt", "how"),
    [(False, "loaded as built"), (True, "compiled again"), (None, "not known how")],
)
def test_a_replica_says_how_it_came_by_its_engine(rebuilt, how):
    assert text_of(replica(rebuilt=rebuilt), "engine").endswith(how)


def test_a_measurement_names_its_load_and_what_weakens_it():
    assert text_of(measurement(), "load") == "closed, 4 in flight, 120 requests, 2 failed"
    open_loop = measurement(arrival="poisson", rate=6.3, concurrency=None)
    assert text_of(open_loop, "load").startswith("poisson, 6.3/s")
    assert "p90" not in text_of(measurement(), "TTFT")
    assert "p95 n too small (8)" in text_of(measurement(), "TTFT")
    assert text_of(measurement(), "know that") == "nothing weakens these figures"
    assert text_of(measurement(findings=("few", "slow")), "know that") == "few\nslow"


def test_a_study_names_what_failed_and_why():
    assert text_of(tradeoff(), "failed") == "int3: no such type"
    assert text_of(tradeoff(), "on the front") == "profile"
    nothing = tradeoff(rows=(), best="")
    assert [text_of(nothing, label) for label in ("take", "on the front", "failed")] == ["none"] * 3


def test_a_healthy_diagnosis_says_so():
    assert "nothing that is read tells of trouble" in str(Diagnosis())


def test_findings_are_numbered_with_their_evidence():
    labels = [label for label, _ in diagnosis(findings=(finding(), finding())).facts()]
    assert labels[:2] == ["finding 1", "finding 2"]
    assert "Shared memory is too small [shm-too-small, 0.80]" in str(diagnosis())
    assert "log: second" in str(diagnosis())


def test_a_score_is_a_share():
    with pytest.raises(ValidationError):
        finding(score=1.1)
