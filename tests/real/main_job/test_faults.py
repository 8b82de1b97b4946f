"""What breaks while a run is at work: told in words, kept in a record, nothing left running."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from runbook_lib.errors import RecordError
from runbook_lib.lab import environment
from runbook_lib.lab.builder_commands import MODEL
from runbook_lib.lab.lab import at_hand
from runbook_lib.record.orchestrate import _lab_name
from runbook_lib.record.receipts import _still_stored
from runbook_lib.record.run import Run
from runbook_lib.record.verify import verify_record
from runbook_lib.serving.supervise import Owner, free_ports, stop
from runbook_lib.serving.triton import is_ready, start_triton

BUILT = ("00_plan", "01_build_engine")
STORED = (*BUILT, "02_model_repository")


def write_profile(folder, name, *lines):
    """A profile file of one's own."""
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(["extends: lab/tiny", f"profile: mine/{name}", *lines, ""]))
    return f"./{path.name}"


def red(ended, page):
    """The record of a run that ended red on a page: kept, told everywhere, and sealed."""
    assert ended.code == 1, ended
    assert ended.said["ok"] is False
    assert ended.said["failed"].startswith(f"{page}: ")
    record = ended.record
    assert record.about["status"] == "failed"
    assert record.pages[page] == "failed"
    assert not record.outcome(page).ok
    assert "<b class='failed'>failed</b>" in (record.folder / "index.html").read_text()
    assert (record.folder / f"{page}.html").is_file()
    checked = verify_record(record.folder)
    assert (checked.ok, checked.status) == (True, "failed"), checked
    return record


def never_ran(record, *pages):
    return all(record.pages[page] == "not_run" for page in pages) and not any(
        (record.folder / f"{page}.ipynb").exists() for page in pages
    )


# -- runs that can't come to an end, side by side ------------------------------------------------


@pytest.fixture(scope="module")
def refused(bench_in, tmp_path_factory):
    """Profiles whose weights are cut or missing, and one that wants to be asked: how each run ended."""
    here = bench_in(tmp_path_factory.mktemp("refused"))
    cut = shutil.copytree(MODEL, here.folder / "model") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:100_000])
    ask = write_profile(here.folder, "ask", "approve: ask", "max_batch_size: 3")
    own = bench_in(tmp_path_factory.mktemp("own"))
    missing = own.folder / "profiles" / "mine" / "missing.yaml"
    missing.parent.mkdir(parents=True)
    missing.write_text("track: lab\nmodel_name: mine\nweights: /no/such/weights\n")
    runs = {
        "cut": (here, write_profile(here.folder, "cut", f"weights: {cut.parent}")),
        "missing": (own, "mine/missing"),
        "ask": (here, ask),
    }
    words = ("run", *STORED, "--json", "--profile")
    started = {name: place.start(*words, profile) for name, (place, profile) in runs.items()}
    return {name: here.end(process) for name, process in started.items()}


def test_weights_that_were_cut_are_named_by_the_build(refused):
    record = red(refused["cut"], "01_build_engine")
    assert "convert_checkpoint failed" in refused["cut"].said["failed"]
    assert "model.safetensors is cut or corrupt" in refused["cut"].said["failed"]
    assert "fetch it again" in record.logs["build.log"]
    assert never_ran(record, "02_model_repository")


def test_weights_that_are_not_there_end_the_first_page_before_anything_changes(refused):
    record = red(refused["missing"], "00_plan")
    told = refused["missing"].said["failed"]
    assert "nothing was changed" in told
    assert "lacks config.json, *.safetensors, tokenizer.json" in told
    assert "correct `weights` in the profile" in told
    assert never_ran(record, *STORED[1:])


def test_without_an_approval_nothing_is_built_and_the_digest_to_approve_is_told(refused):
    record = red(refused["ask"], "01_build_engine")
    told = refused["ask"].said["failed"]
    assert "not approved; nothing was changed" in told
    assert re.search(r"--approve [0-9a-f]{12}", told)
    assert not (record.folder / "approvals.jsonl").exists()
    assert not (record.folder / "artifacts" / "engine.json").exists()


@pytest.fixture(scope="module")
def approved(refused, bench_in, tools):
    """The run that waits for its approval goes on with the digest told; a copy of it with another."""
    ask = refused["ask"]
    here = bench_in(Path(ask.said["folder"]).parents[1])
    digest = re.search(r"--approve ([0-9a-f]{12})", ask.said["failed"])[1]
    copy = shutil.copytree(ask.said["folder"], here.folder / "copy")
    words = ("run", *BUILT, "--profile", "./ask.yaml", "--json", "--resume")
    right = here.start(*words, ask.said["folder"], "--approve", digest)
    wrong = here.start(*words, copy, "--approve", "0" * 12)
    return here.end(right), here.end(wrong)


def test_the_digest_told_lets_the_run_go_on(approved):
    right, _ = approved
    assert right.code == 0, right
    assert right.said["pages"] == {"00_plan": "held", "01_build_engine": "completed"}
    (line,) = (right.record.folder / "approvals.jsonl").read_text().splitlines()
    assert json.loads(line)["how"] == "digest given as a parameter"
    assert verify_record(right.record.folder).ok


def test_the_digest_of_another_plan_is_refused(approved):
    _, wrong = approved
    red(wrong, "01_build_engine")
    assert "The approval names 000000000000: another plan" in wrong.said["failed"]


def test_a_wrong_profile_is_told_by_line_and_nothing_is_made(bench, tmp_path):
    profile = write_profile(tmp_path, "wrong", "max_batch_size: many", "max_batch_sise: 3")
    ended = bench.run("all", "--profile", profile)
    assert ended.code == 1
    assert ended.said["error"] == "ProfileError"
    assert "wrong.yaml:3 max_batch_size: 'many'" in ended.said["why"]
    assert "did you mean max_batch_size?" in ended.said["why"]
    assert "nothing was changed" in ended.said["fix"]
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.yaml"]


def test_a_place_for_records_that_is_none_is_told(bench, tmp_path):
    (tmp_path / "file").touch()
    ended = bench.run("00_plan", RUNBOOK_OUTPUTS=str(tmp_path / "file" / "outputs"))
    assert ended.code == 1
    assert ended.said["what"].endswith("can't be made.")
    assert ended.said["why"] == "Not a directory"
    assert "RUNBOOK_OUTPUTS" in ended.said["fix"]
    assert "Traceback" not in ended.err


# -- struck in the middle of a build -------------------------------------------------------------

STRIKES = {
    "kernel": (signal.SIGKILL, 5),
    "Ctrl-C": (signal.SIGINT, 6),
    "SIGTERM": (signal.SIGTERM, 7),
    "SIGKILL": (signal.SIGKILL, 8),
}


def working(here, batch, word):
    """A process of the run with this batch size whose command line has a word."""
    for pid in here.processes():
        try:
            mine = f"MAX_BATCH_SIZE={batch}\0" in Path(f"/proc/{pid}/environ").read_text()
            if mine and word in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        except OSError:
            continue
    return None


def building(places, what):
    """Whether a stage of the build is at work in a run to strike."""
    return working(places[what], STRIKES[what][1], "--output_dir")


@pytest.fixture(scope="module")
def struck(bench_in, tools, tmp_path_factory):
    """Runs whose kernel, or which themselves, are struck while the compiler is at work."""
    places = {what: bench_in(tmp_path_factory.mktemp("struck")) for what in STRIKES}
    before = places["kernel"].processes()
    started = {
        what: here.start("run", *STORED, "--json", MAX_BATCH_SIZE=str(STRIKES[what][1]))
        for what, here in places.items()
    }
    waiting = dict(STRIKES)
    while waiting:
        what = tools.appears(lambda: next((one for one in waiting if building(places, one)), None))
        number, batch = waiting.pop(what)
        kernel = working(places[what], batch, "ipykernel")
        os.kill(kernel if what == "kernel" else started[what].pid, number)
    ended = {what: here.end(started[what]) for what, here in places.items()}
    left = tools.settles(lambda: places["kernel"].processes() - before, set())
    assert left == set()
    return ended, places


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kernel", "lost its kernel: the kernel's process was ended by SIGKILL"),
        ("Ctrl-C", "was interrupted: Ctrl-C"),
        ("SIGTERM", "was interrupted: SIGTERM"),
    ],
)
def test_a_run_struck_in_the_middle_of_a_page_says_so_and_seals_its_record(struck, what, words):
    ended = struck[0][what]
    record = red(ended, "01_build_engine")
    assert words in ended.said["failed"]
    assert record.pages["00_plan"] == "completed"
    assert never_ran(record, "02_model_repository")
    assert "Traceback" not in ended.err


def test_a_run_that_was_killed_never_looks_complete(struck):
    ended, here = struck[0]["SIGKILL"], struck[1]["SIGKILL"]
    assert ended.code == -signal.SIGKILL
    (record,) = here.records
    assert record.about["status"] == "running"
    assert record.outcome("00_plan").ok
    assert not record.outcome("01_build_engine").ok
    with pytest.raises(RecordError, match=r"has no digests\.json"):
        verify_record(record.folder)


@pytest.mark.parametrize("what", STRIKES)
def test_no_engine_is_left_half_built(struck, cache, what):
    configs = [json.loads(path.read_text()) for path in cache.glob("engines/*/config.json")]
    batches = {config["build_config"]["max_batch_size"] for config in configs}
    assert STRIKES[what][1] not in batches


@pytest.fixture(scope="module")
def gone_on(struck):
    """The killed run goes on; the one that got Ctrl-C does too, with a limit that no build keeps."""
    killed, stopped = struck[1]["SIGKILL"], struck[1]["Ctrl-C"]
    words = ("--approve", "auto", "--json", "--resume")
    going = killed.start("run", *BUILT, *words, killed.records[0].folder, MAX_BATCH_SIZE="8")
    words = ("--cell-timeout", "0.9", *words)
    late = stopped.start("run", BUILT[1], *words, stopped.records[0].folder, MAX_BATCH_SIZE="9")
    return killed.end(going), stopped.end(late)


def test_a_run_that_was_killed_goes_on_where_it_was(gone_on):
    ended, _ = gone_on
    assert ended.code == 0, ended
    assert ended.said["pages"] == {"00_plan": "held", "01_build_engine": "completed"}
    assert verify_record(ended.record.folder).ok


def test_a_cell_past_its_time_ends_the_page_and_its_build(gone_on, struck, tools):
    _, ended = gone_on
    record = red(ended, "01_build_engine")
    assert "ran past its time limit: the limit for this cell was reached" in ended.said["failed"]
    assert record.pages["02_model_repository"] == "not_run"
    here = struck[1]["Ctrl-C"]
    assert tools.settles(lambda: working(here, 9, "--output_dir"), None) is None


# -- the object store ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(bench_in, tools, tmp_path_factory):
    """A run up to the stored repository whose object store is killed before it is needed."""
    here = bench_in(tmp_path_factory.mktemp("stored"))
    process = here.start("run", *STORED, "--approve", "auto", "--json")
    (record,) = tools.appears(lambda: here.records)
    lab = here.cache / "labs" / _lab_name(Run.open(record.folder))
    tools.appears((record.folder / "01_build_engine.ipynb").exists)
    store = json.loads((lab / "s3.json").read_text())["server"]["pid"]
    os.kill(store, signal.SIGKILL)
    return here, here.end(process), lab


def test_an_object_store_that_died_is_started_again_on_its_data(stored):
    _, ended, lab = stored
    assert ended.code == 0, ended
    assert ended.record.pages["02_model_repository"] == "completed"
    assert json.loads((lab / "s3.json").read_text())["phase"] == "ended"


@pytest.fixture(scope="module")
def replacing(stored):
    """The run goes on with another engine: the store holds the first one under its URI."""
    here, ended, _ = stored
    return here.run(*STORED, "--resume", ended.said["folder"], MAX_BATCH_SIZE="4")


def test_another_engine_under_the_same_uri_is_not_stored_unasked(replacing):
    record = red(replacing, "02_model_repository")
    assert "replace" in replacing.said["failed"]
    approved = (record.folder / "approvals.jsonl").read_text().splitlines()
    assert json.loads(approved[-1])["page"] == "02_model_repository"


# -- servers -------------------------------------------------------------------------------------


def answered(lab):
    """How many requests the first replica has answered so far."""
    try:
        url = json.loads((lab / "triton-0.json").read_text())["facts"]["metrics"]
        text = urllib.request.urlopen(url, timeout=2).read().decode()
    except (OSError, KeyError, ValueError):
        return 0
    found = re.search(r'nv_inference_request_success\{model="ensemble".*\} (\d+)', text)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def loaded(stored, replacing, tools):
    """The run may replace what is stored, its engine was cleared away; its server dies under load."""
    here, _, lab = stored
    engine = Path(replacing.record.artifact("engine")["path"])
    shutil.rmtree(engine)
    pages = (*STORED, "03_deploy", "04_benchmark", "05_tradeoffs")
    given = ("requests=1500", "rate=500", "replicas=1", "replace=true")
    words = (
        *pages,
        "--approve",
        "auto",
        "--json",
        *(word for one in given for word in ("-p", one)),
    )
    folder = replacing.said["folder"]
    process = here.start("run", *words, "--resume", folder, MAX_BATCH_SIZE="4")
    tools.appears(lambda: answered(lab) > 100)
    os.kill(json.loads((lab / "triton-0.json").read_text())["server"]["pid"], signal.SIGKILL)
    return here.end(process), engine


def test_an_engine_that_was_cleared_from_the_cache_is_built_again(loaded):
    """A receipt vouches for the record, not for an engine that is gone."""
    ended, engine = loaded
    assert [ended.said["pages"][page] for page in BUILT] == ["held", "completed"]
    assert (engine / "rank0.engine").is_file()


def test_another_engine_under_the_same_uri_is_stored_when_told(loaded):
    ended, _ = loaded
    assert ended.said["pages"]["02_model_repository"] == "completed"
    served = ended.record.artifact("service")["engine_digest"]
    assert served == ended.record.artifact("engine")["engine_digest"]


def test_a_server_that_dies_under_load_makes_the_benchmark_red(loaded):
    ended, _ = loaded
    record = red(ended, "04_benchmark")
    assert ended.said["pages"]["03_deploy"] == "completed"
    assert never_ran(record, "05_tradeoffs")
    with (record.folder / "data" / "requests-closed.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    failed = record.artifact("measurement")["failed"]
    assert len(rows) == 1500
    assert [row["ok"] for row in rows].count("0") == failed > 0
    assert "triton-0.log" in record.logs


def test_a_store_that_was_cleared_holds_no_repository(stored, loaded, monkeypatch):
    here, _, lab = stored
    monkeypatch.setenv("RUNBOOK_CACHE", str(here.cache))
    run = Run.open(loaded[0].record.folder)
    with at_hand(lab.name):
        assert _still_stored(run)
    shutil.rmtree(lab / "s3-data")
    with at_hand(lab.name):
        assert not _still_stored(run)


@pytest.mark.parametrize("taken", [0, 1, 2], ids=["http", "grpc", "metrics"])
def test_a_port_that_somebody_took_is_left_to_them(tmp_path, taken):
    (tmp_path / "models").mkdir()
    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", ports[taken])):
        running, _ = start_triton(
            environment.ensure().triton,
            str(tmp_path / "models"),
            tmp_path,
            owner=Owner.this_process(),
            ports=tuple(ports),
        )
        try:
            chosen = [running.facts[name] for name in ("http", "grpc", "metrics")]
            assert is_ready(running.facts["http"])
            assert not any(str(ports[taken]) in one for one in chosen)
        finally:
            stop(running)


def test_two_runs_at_once_in_one_folder_don_t_touch_each_other(bench, tools):
    """Each has a lab of its own; those above ran at once in folders of their own."""
    words = ("run", *STORED, "--approve", "auto", "--json")
    started = [bench.start(*words) for _ in range(2)]
    tools.appears(lambda: len(bench.records) == 2)
    third = bench.run("00_plan", "--resume", bench.records[0].folder)
    assert third.code == 1
    assert "is at work in another process" in third.said["what"]
    ended = [bench.end(process) for process in started]
    assert [each.code for each in ended] == [0, 0], [str(each) for each in ended]
    assert len(bench.records) == 2
    labs = {_lab_name(Run.open(record.folder)) for record in bench.records}
    stores = [json.loads((bench.cache / "labs" / lab / "s3.json").read_text()) for lab in labs]
    assert len({store["facts"]["endpoint"] for store in stores}) == 2
    assert all(verify_record(record.folder).ok for record in bench.records)


# -- a full disk ---------------------------------------------------------------------------------


@contextmanager
def small_disk(folder, size):
    """A file system of this size, always unmounted."""
    folder.mkdir()
    if os.geteuid():
        pytest.skip("mounting a small disk needs root: sudo make test")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def crowded(bench_in, tmp_path_factory):
    """Runs whose records go to a disk that is nearly full, and to one that gets full."""
    here = bench_in(tmp_path_factory.mktemp("crowded"))
    nearly, quite = here.folder / "nearly", here.folder / "quite"
    with small_disk(nearly, "300k"), small_disk(quite, "32k"):
        words = ("run", *BUILT, "--approve", "auto", "--json", "--outputs")
        started = [here.start(*words, disk) for disk in (nearly, quite)]
        yield [here.end(process) for process in started], quite


def test_a_disk_that_is_nearly_full_ends_the_first_page_before_anything_changes(crowded):
    ended = crowded[0][0]
    red(ended, "00_plan")
    assert "disk free for records: 0.0 GB" in ended.said["failed"]
    assert "free space on" in ended.said["failed"]


def test_a_disk_that_is_full_in_the_middle_of_a_page_is_told(crowded, tools):
    (_, ended), disk = crowded
    assert ended.code == 1
    assert ended.said["what"] == "The notebook 00_plan.ipynb can't be saved."
    assert "No space left on device" in ended.said["why"]
    assert "Free some space" in ended.said["fix"]
    assert "Traceback" not in ended.err
    (folder,) = disk.iterdir()
    record = tools.Record(folder)
    assert record.about["status"] == "failed"
    assert record.pages == {"00_plan": "failed", "01_build_engine": "not_run"}
    assert not record.outcome("00_plan").ok
    assert list(folder.rglob("*.part")) == []
    assert verify_record(folder).ok
    assert not (folder / ".spare").exists()
