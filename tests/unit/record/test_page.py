import pytest

from runbook_lib.artifacts import Diagnosis
from runbook_lib.changes import Change, Check
from runbook_lib.errors import ApprovalError, PreflightError, ProfileError, RecordError, UsageError
from runbook_lib.record import page as module
from runbook_lib.record.approval import given_before
from runbook_lib.record.digests import verify_folder, write_manifest
from runbook_lib.record.page import headless, open_page
from runbook_lib.record.run import Run
from runbook_lib.ui import forms

ASKING = "track: lab\nmodel_name: tiny-llama\napprove: ask\n"


@pytest.fixture(autouse=True)
def outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNBOOK_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    return tmp_path / "outputs"


@pytest.fixture
def asking(tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text(ASKING)
    return str(profile)


# -- opening -------------------------------------------------------------------------------------


def test_the_first_page_begins_a_run_and_the_next_go_on_in_it(outputs):
    first, second = open_page("00_plan"), open_page("01_build_engine")
    assert first.run.folder.parent == outputs
    assert second.run.id == first.run.id
    assert open_page("00_plan").run.id != first.run.id


def test_a_page_opened_alone_begins_a_run():
    assert open_page("04_benchmark").run.about()["profile"] == "lab/tiny"


def test_a_run_of_another_profile_is_left_alone(asking):
    first = open_page("00_plan")
    assert open_page("01_build_engine", profile=asking).run.id != first.run.id


def test_a_page_works_in_the_run_that_is_named(tmp_path):
    run = Run.create(tmp_path / "elsewhere", "lab/tiny")
    open_page("00_plan")
    assert open_page("01_build_engine", run=str(run.folder)).run.folder == run.folder


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RecordError, match="is not a run"):
        open_page("01_build_engine", run=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("00_plan", {"profile": "no/such"}, ProfileError),
        ("00_plan", {"stranger": 1}, ProfileError),
        ("03_deploy", {"replicas": 0}, ProfileError),
        ("09_nothing", {}, UsageError),
    ],
)
def test_a_wrong_value_begins_no_run(name, values, error, outputs):
    with pytest.raises(error):
        open_page(name, **values)
    assert not outputs.exists()


def test_every_parameter_has_a_value_and_every_value_an_origin(monkeypatch):
    monkeypatch.setenv("MAX_BATCH_SIZE", "8")
    page = open_page("03_deploy", replicas=3)
    assert (page["replicas"], page["approve"]) == (3, "")
    assert page.profile.max_batch_size == 8
    shown = str(page)
    assert any(row.split() == ["replicas", "3", "parameter"] for row in shown.splitlines())
    assert any(row.split() == ["target", "lab", "default"] for row in shown.splitlines())
    assert "environment MAX_BATCH_SIZE" in shown


def test_a_page_shows_no_markup_of_strangers(tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"{ASKING}notes: <script>alert(1)</script>\n")
    assert "<script" not in open_page("00_plan", profile=str(profile))._repr_html_()


@pytest.mark.parametrize(("profile", "said"), [("lab/tiny", True), ("llama-7b", False)])
@pytest.mark.parametrize("target", ["lab", "kserve"])
def test_a_page_whose_engine_is_the_labs_says_so_wherever_it_is_served(target, profile, said):
    shown = open_page("00_plan", target=target, profile=profile)._repr_html_()
    assert ("Made in the lab" in shown) == said


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), ("", False)])
def test_the_engine_says_that_nobody_sits_in_front(value, expected, monkeypatch):
    monkeypatch.setenv("RUNBOOK_HEADLESS", value)
    assert headless() is expected


# -- what a page hands on ----------------------------------------------------------------------------


def test_what_a_page_keeps_the_next_can_read():
    page = open_page("00_plan")
    made = page.keep(Diagnosis(not_explained=("odd",)))
    other = page.keep(Diagnosis(), "diagnosis-before")
    assert page.artifact(Diagnosis) == made
    assert page.artifact(Diagnosis, "diagnosis-before") == other


def test_what_is_not_there_yet_names_the_page_that_makes_it():
    with pytest.raises(RecordError) as caught:
        open_page("00_plan").artifact(Diagnosis)
    assert caught.value.page == "06_troubleshoot"


# -- preflight -------------------------------------------------------------------------------------


def test_checks_are_shown_and_let_the_page_go_on():
    checks = [Check("memory", "PASS", "3 GB"), Check("disk", "WARN", "9 % left", "Free some.")]
    shown = str(open_page("00_plan").preflight(checks))
    assert all(word in shown for word in ("PASS", "memory", "WARN", "Free some."))


def test_a_failed_check_ends_the_page_with_every_reason():
    checks = [
        Check("memory", "FAIL", "1 GB", "Add some."),
        Check("disk", "PASS", "much"),
        Check("port", "FAIL", "taken"),
    ]
    with pytest.raises(PreflightError, match="nothing was changed") as caught:
        open_page("00_plan").preflight(checks)
    assert caught.value.why == "memory: 1 GB; port: taken"
    assert caught.value.fix == "Add some."


# -- the gate --------------------------------------------------------------------------------------


def test_the_gate_keeps_who_approved_what():
    page = open_page("01_build_engine")
    approval = page.gate(page.propose([Change("run", "build_engine")]))
    assert approval.how == "policy `approve: auto` of the profile"
    assert given_before(page.run.folder / "approvals.jsonl") == [approval]


def test_the_gate_takes_the_digest_of_this_very_plan(asking):
    page = open_page("01_build_engine", profile=asking)
    plan = page.propose([Change("run", "build_engine")])
    again = open_page("01_build_engine", profile=asking, approve=plan.short)
    assert again.gate(plan).how == "digest given as a parameter"
    with pytest.raises(ApprovalError):
        again.gate(page.propose([Change("run", "something else")]))


def test_a_page_without_an_approve_parameter_passes_when_nothing_changes():
    page = open_page("04_benchmark")
    assert page.gate(page.propose([])).how == "nothing changes"


@pytest.fixture
def buttons(monkeypatch):
    """The buttons that a page offers; pressing one is calling it."""
    offered = []
    monkeypatch.setattr(forms, "approve_button", lambda _, press: offered.append(press))
    return offered


def test_a_run_that_nobody_watches_is_offered_no_button(asking, buttons):
    page = open_page("01_build_engine", profile=asking)
    with pytest.raises(ApprovalError):
        page.gate(page.propose([Change("run", "build_engine")]))
    assert buttons == []
    assert given_before(page.run.folder / "approvals.jsonl") == []


def test_a_press_of_the_button_lets_the_same_cell_pass(asking, buttons, monkeypatch):
    monkeypatch.setenv("RUNBOOK_HEADLESS", "")
    page = open_page("01_build_engine", profile=asking)
    plan = page.propose([Change("run", "build_engine")])
    with pytest.raises(ApprovalError):
        page.gate(plan)
    buttons[0]()
    assert page.gate(plan).how == "button in JupyterLab"
    assert len(given_before(page.run.folder / "approvals.jsonl")) == 1
    with pytest.raises(ApprovalError):
        page.gate(page.propose([Change("run", "something else")]))


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [page.name for page in module.PAGES])
def test_a_page_ends_with_what_it_made_and_where_to_go(name):
    page = open_page(name)
    said = str(page.finish())
    assert f"artifacts/{page.page.makes}.json" in said
    assert page.run.id in said
    following = {"00_plan": "01_build_engine.ipynb", "06_troubleshoot": "runbook record verify"}
    assert following.get(name, ".ipynb") in said


def test_a_page_never_writes_into_a_finished_record(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNBOOK_OUTPUTS", str(tmp_path))
    done = Run.create(tmp_path, "lab/tiny")
    write_manifest(done.folder)
    assert open_page("01_build_engine").run.about()["continues"] == done.id
    with pytest.raises(RecordError, match="is a finished record"):
        open_page("01_build_engine", run=str(done.folder))
    assert verify_folder(done.folder) == []
