"""The main job as the README tells it: weights to a measured service, and the record of it."""

import base64
import csv
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from runbook_lib.lab.scoring import load_questions
from runbook_lib.parameters import PAGES
from runbook_lib.places import notebooks_dir

pytestmark = pytest.mark.timeout(900)  # the job itself is the setup of the first test

NAMES = [page.name for page in PAGES]
EACH = pytest.mark.parametrize("page", NAMES)
REQUESTS = 80  # a p95 needs 72
JOB = ("all", "--profile", "lab/tiny", "-p", f"requests={REQUESTS}")
GUIDE = (
    "timestamp,model_family,model_name,dtype,quantization,kv_cache_dtype,max_batch_size,"
    "max_input_len,max_output_len,tp_size,pp_size,build_time_s,p95_total_ms,"
    "throughput_req_per_sec,mean_ttfb_ms"
)
CARD_RIGHT, CARD_ASKED, CARD_PERPLEXITY = 100, 112, 1.8127
STUDY = ["profile", "kv-u8", "int8", "int8-opt0", "int8-kv-u8", "int4", "int4-awq", "batch-4"]


@pytest.fixture(scope="session")
def place(bench_in, empty_cache, tmp_path_factory):
    """An empty folder that the job runs in."""
    return bench_in(tmp_path_factory.mktemp("job"), empty_cache)


@pytest.fixture
def beside(bench_in, place, tmp_path):
    """Another empty folder, and the same cache."""
    return bench_in(tmp_path, place.cache)


@pytest.fixture(scope="session")
def job(place):
    """The job, run once for all of these tests."""
    return place.run(*JOB)


@pytest.fixture(scope="session")
def record(job, tools, tmp_path_factory):
    """A copy of its record as it was at its end: later tests go on in the record itself."""
    assert job.code == 0, job
    copy = tmp_path_factory.mktemp("kept") / job.record.folder.name
    return tools.Record(shutil.copytree(job.record.folder, copy))


@pytest.fixture(scope="session")
def resumed(job, place, record, tools):
    """The same job once more in the same record, without the drill."""
    return place.run(*JOB, "-p", "drill=false", "--resume", job.said["folder"])


def rows_of(record, name):
    with (record.folder / "data" / name).open(newline="") as handle:
        return list(csv.DictReader(handle))


# -- how it ends ---------------------------------------------------------------------------------


def test_the_job_ends_well(job):
    assert job.code == 0, job
    assert job.said["ok"] is True


def test_ten_lines_tell_what_came_of_it(job):
    told = job.said
    lines = ["model", "engine", "url", "ttft", "itl", "tokens/s", "best", "health"]
    assert list(told)[1:11] == [*lines, "record", "open_it"]
    assert told["model"].startswith("tiny-llama  1.19 M parameters")
    assert "built in" in told["engine"]
    assert "2 replicas, nothing rebuilt" in told["url"]
    assert f"n = {REQUESTS}" in told["ttft"]
    assert re.search(r"p50 [\d.]+ ms.* p95 [\d.]+ ms", told["ttft"])
    assert "0 failed" in told["tokens/s"]
    assert told["best"].split(":")[0] in STUDY
    assert told["health"] == "the service has no finding"
    assert told["pages"] == dict.fromkeys(NAMES, "completed")


def test_what_is_happening_stands_on_standard_error_only(job):
    assert json.loads(job.out)
    assert [line.split()[0] for line in job.err.splitlines() if " ok " in line] == NAMES
    assert "Traceback" not in job.err
    assert "Warning" not in job.err


def test_the_folder_it_ran_in_holds_the_record_and_nothing_else(job, place):
    assert [path.name for path in place.folder.iterdir()] == ["outputs"]
    assert len(place.records) == 1


def test_nothing_of_the_lab_is_left_running(job, place, tools):
    assert tools.settles(place.processes, set()) == set()


# -- the pages -----------------------------------------------------------------------------------


@EACH
def test_every_page_is_green_by_its_own_cells(record, page):
    outcome = record.outcome(page)
    assert outcome.ok, outcome.text()
    assert outcome.cells


@EACH
def test_no_page_warns_or_prints_to_standard_error(record, page):
    cells = json.loads((record.folder / f"{page}.ipynb").read_text())["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    assert [out for out in outputs if out.get("name") == "stderr"] == []


@EACH
def test_the_shipped_page_is_not_touched(record, page):
    cells = json.loads((notebooks_dir() / f"{page}.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)


class Remote(HTMLParser):
    """What a page would load, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in {"src", "srcset", "data", "poster"} or (name, tag) == ("href", "link"):
                self.loads.append(value)
            elif name == "href" and value:
                self.links.append(value)


@pytest.mark.parametrize("page", ["index", *NAMES])
def test_a_page_opens_without_anything_from_outside(record, page):
    text = (record.folder / f"{page}.html").read_text()
    found = Remote(text)
    inside = [one for one in found.loads if not one.startswith("data:")]
    assert [one for one in inside if not (record.folder / one).is_file()] == []
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", text)


@pytest.mark.parametrize("page", ["index", *NAMES])
def test_every_link_of_a_page_leads_somewhere(record, page):
    links = Remote((record.folder / f"{page}.html").read_text()).links
    local = [link.partition("#")[0] for link in links if "://" not in link]
    assert [link for link in local if link and not (record.folder / link).exists()] == []


def test_the_record_says_that_it_was_made_in_the_lab(record):
    assert "Made in the lab" in (record.folder / "index.html").read_text()
    assert "Made in the lab" in (record.folder / "00_plan.html").read_text()


# -- what they made ------------------------------------------------------------------------------


@EACH
def test_every_page_left_its_artifact(record, page):
    made = next(one.makes for one in PAGES if one.name == page)
    assert record.artifact(made)["schema_version"] == 1


def test_one_engine_goes_from_the_build_into_every_replica(record):
    engine, repository = record.artifact("engine"), record.artifact("repository")
    service = record.artifact("service")
    built = {file["path"]: file["sha256"] for file in engine["files"]}
    stored = {file["path"]: file["sha256"] for file in repository["files"]}
    assert repository["engine_digest"] == service["engine_digest"] == engine["engine_digest"]
    assert stored["tensorrt_llm/1/rank0.engine"] == built["rank0.engine"]
    assert [one["engine_digest"] for one in service["replicas"]] == [built["rank0.engine"]] * 2


def test_scaling_to_a_second_replica_builds_nothing(record):
    replicas = record.artifact("service")["replicas"]
    assert [(one["name"], one["rebuilt"]) for one in replicas] == [
        ("triton-0", False),
        ("triton-1", False),
    ]
    assert replicas[0]["http"] != replicas[1]["http"]
    assert all(one["ready_seconds"] > 0 for one in replicas)
    for one in replicas:
        said = record.logs[f"{one['name']}.log"]
        assert f"engine sha256 {one['engine_digest']} loaded as built" in said
        assert "after compiling" not in said


def test_the_replicas_read_the_repository_from_the_object_store(record):
    assert record.artifact("repository")["uri"].startswith("s3://")
    for name in ("triton-0.log", "triton-1.log"):
        assert "s3://http://127.0.0.1:" in record.logs[name]


def test_the_model_answers_most_questions_of_the_smoke_test_right(record):
    right, asked = map(int, re.search(r"(\d+) of (\d+) answers", record.text("03_deploy")).groups())
    assert asked == 13
    assert right >= 9
    service = record.artifact("service")
    known = {one.question: one.answer for one in load_questions()}
    assert service["smoke_answer"].rstrip(".").lower() == known[service["smoke_prompt"]].lower()


@pytest.mark.parametrize("arrival", ["closed", "poisson"])
def test_every_request_of_a_load_stands_in_its_table(record, arrival):
    name = "measurement" if arrival == "closed" else "measurement-poisson"
    told, rows = record.artifact(name), rows_of(record, f"requests-{arrival}.csv")
    assert (told["arrival"], told["requests"], told["failed"]) == (arrival, REQUESTS, 0)
    assert told["data"] == f"data/requests-{arrival}.csv"
    assert sorted(int(row["index"]) for row in rows) == list(range(REQUESTS))
    assert {row["status"] for row in rows} == {"200"}
    assert sum(int(row["tokens"]) for row in rows) == told["tokens_out"]
    assert sum(int(row["tokens_in"]) for row in rows) == told["tokens_in"]


@pytest.mark.parametrize("name", ["measurement", "measurement-poisson"])
def test_tokens_are_counted_by_the_server(record, name):
    assert record.artifact(name)["token_source"] == "server:output_lengths"


def test_the_study_has_a_measured_row_for_every_engine(record):
    rows = record.artifact("tradeoff")["rows"]
    assert [(row["label"], row["status"], row["cause"]) for row in rows] == [
        (label, "measured", "") for label in STUDY
    ]
    assert len({row["engine_digest"] for row in rows}) == len(STUDY)
    assert any(row["pareto"] for row in rows)


def test_the_profiles_own_engine_is_as_accurate_as_the_model_card_says(record):
    own = record.artifact("tradeoff")["rows"][0]
    assert own["accuracy"]["n"] == CARD_ASKED
    assert abs(own["accuracy"]["value"] * CARD_ASKED - CARD_RIGHT) <= 3
    assert own["perplexity"] == pytest.approx(CARD_PERPLEXITY, rel=0.01)


def test_no_quantisation_makes_the_model_a_better_one(record):
    rows = {row["label"]: row for row in record.artifact("tradeoff")["rows"]}
    own, int8, int4 = (rows[name]["perplexity"] for name in ("profile", "int8", "int4"))
    assert own * 0.995 < int8 < int4
    sizes = [rows[name]["engine_bytes"] for name in ("int4", "int8", "profile")]
    assert sizes == sorted(sizes)


def test_the_table_begins_with_the_guides_own_columns(record):
    text = (record.folder / "data" / "tradeoffs.csv").read_text()
    assert text.startswith(f"{GUIDE},")
    rows = rows_of(record, "tradeoffs.csv")
    assert [row["label"] for row in rows] == STUDY
    assert all(float(row["p95_total_ms"]) > 0 and row["tp_size"] == "1" for row in rows)


def test_the_healthy_service_has_no_finding(record):
    found = record.artifact("diagnosis")
    assert (found["findings"], found["not_explained"]) == ([], [])
    assert sum("read" in said or "lines" in said for said in found["sources"].values()) == 8


def test_every_fault_made_on_purpose_is_named(record):
    assert "3 of 3 causes named." in record.text("06_troubleshoot")


def test_who_approved_what_is_kept(record):
    lines = (record.folder / "approvals.jsonl").read_text().splitlines()
    approved = [json.loads(line) for line in lines]
    assert [one["page"][:2] for one in approved] == ["01", "02", "03", "05"]
    assert all("auto" in one["how"] and one["plan"].startswith("sha256:") for one in approved)


@pytest.mark.parametrize("name", ["s3.log", "triton-0.log", "triton-1.log", "build.log"])
def test_what_the_servers_and_the_builder_said_is_kept(record, name):
    assert record.logs[name].strip()


# -- secrets, and the seal -----------------------------------------------------------------------


def test_no_key_of_the_object_store_is_in_the_record(record, empty_cache):
    keys = [path.read_text() for path in empty_cache.glob("labs/*/s3-keys.json.private")]
    pairs = [json.loads(key)["identities"][0]["credentials"][0] for key in keys]
    words = {word.encode() for pair in pairs for word in pair.values()}
    assert words
    words |= {base64.b64encode(word)[:-4] for word in words}
    for path in record.folder.rglob("*"):
        if path.is_file():
            assert [word for word in words if word in path.read_bytes()] == [], path


def test_the_record_is_untouched_also_after_it_was_copied(record, place):
    checked = place("record", "verify", record.folder, "--json")
    assert (checked.code, checked.said["ok"], checked.said["status"]) == (0, True, "completed")


@pytest.mark.parametrize(
    "name", ["data/requests-closed.csv", "01_build_engine.ipynb", "index.html"]
)
def test_one_changed_byte_is_named(record, place, tmp_path, name):
    copy = shutil.copytree(record.folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    checked = place("record", "verify", copy, "--json")
    assert (checked.code, checked.said["ok"]) == (1, False)
    assert f"changed: {name} (same size, other bytes)" in checked.said["problems"]


# -- once more -----------------------------------------------------------------------------------


def test_a_run_that_goes_on_holds_what_holds_and_deploys_again(resumed):
    assert resumed.code == 0, resumed
    pages = resumed.said["pages"]
    assert [pages[name] for name in NAMES[:3]] == ["held"] * 3
    assert [pages[name] for name in NAMES[3:]] == ["completed"] * 4, "its servers had ended"


def test_a_run_that_goes_on_builds_and_measures_no_engine_again(resumed, record):
    again, before = resumed.record.artifact("tradeoff"), record.artifact("tradeoff")
    assert all(row["reused"] for row in again["rows"])
    same = ("label", "engine_digest", "measured_at", "tokens_per_second")
    assert [[row[name] for name in same] for row in again["rows"]] == [
        [row[name] for name in same] for row in before["rows"]
    ]
    assert resumed.record.artifact("engine") == record.artifact("engine")


def test_a_run_that_went_on_is_sealed_again(resumed, place):
    checked = place("record", "verify", resumed.said["folder"], "--json")
    assert (checked.code, checked.said["problems"]) == (0, []), checked


def test_a_new_run_builds_nothing_and_says_so(resumed, beside):
    second = beside.run("00_plan", "01_build_engine")
    assert second.code == 0, second
    assert "receipt held, nothing built" in second.said["engine"]
    assert second.record.artifact("engine")["reused"] is True
    assert "Nothing changes" in second.record.text("01_build_engine")
    assert set(second.said["pages"]) == {"00_plan", "01_build_engine"}


def test_a_rehearsal_starts_and_writes_nothing(bench, tmp_path):
    told = bench("run", "all", "--dry-run", "--json", RUNBOOK_CACHE=str(tmp_path / "no-cache"))
    assert told.code == 0, told
    assert [one["page"] for one in told.said["would_run"]] == NAMES
    assert list(tmp_path.iterdir()) == []


# -- without the command -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [(), ("--engine", "runbook")], ids=["plain", "runbook"])
def test_pages_run_under_papermill_alone(job, beside, tools, tmp_path, engine):
    """One after the other in a folder of records: the second finds the run of the first."""
    for page in NAMES[:2]:
        words = (*engine, "--no-progress-bar", notebooks_dir() / f"{page}.ipynb", f"{page}.ipynb")
        process = beside.start(
            *words, "-p", "profile", "lab/tiny", program="papermill", RUNBOOK_OUTPUTS=str(tmp_path)
        )
        ended = beside.end(process)
        assert ended.code == 0, ended
        outcome = tools.Record(tmp_path).outcome(page)
        assert outcome.ok, outcome.text()
    (run,) = tmp_path.glob("*/run.json")
    made = tools.Record(run.parent)
    assert made.artifact("plan")["fits"] is True
    assert made.artifact("engine")["reused"] is True
