import json

import pytest

from runbook_lib.artifacts import Diagnosis, Replica, Service
from runbook_lib.parameters import PAGES, page_named, validate
from runbook_lib.record import receipts as module
from runbook_lib.record.receipts import page_key, receipt_holds, write_receipt
from runbook_lib.record.run import Run

PAGE = page_named("06_troubleshoot")


@pytest.fixture
def run(tmp_path):
    made = Run.create(tmp_path / "outputs", "lab/tiny")
    made.artifacts.mkdir()
    return made


@pytest.fixture
def source(tmp_path):
    page = tmp_path / "page.ipynb"
    page.write_text("the page")
    return page


def keep(run, name, **content):
    (run.artifacts / f"{name}.json").write_text(json.dumps(content))


def key(source, run, page=PAGE, **changed):
    return page_key(source, page, validate(page, changed), run)


@pytest.fixture
def held(run, source):
    """A page that ended green, and its receipt."""
    Diagnosis().write(run.artifacts)
    write_receipt(run, PAGE, key(source, run))
    assert receipt_holds(run, PAGE, key(source, run))
    return run


def test_the_same_inputs_have_the_same_key(run, source):
    keep(run, "plan", fits=True)
    assert key(source, run) == key(source, run)


def test_another_text_of_the_page_is_another_key(run, source):
    before = key(source, run)
    source.write_text("the page, changed")
    assert key(source, run) != before


def test_another_parameter_is_another_key(run, source):
    assert key(source, run, drill=False) != key(source, run)


def test_where_and_with_whose_approval_a_page_runs_is_no_input(run, source):
    page = page_named("01_build_engine")
    plain = key(source, run, page)
    values = validate(page, {"run": str(run.folder), "approve": "0123456789ab"})
    assert page_key(source, page, values, run) == plain


def test_another_profile_is_another_key(run, source, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("profile: lab/tiny\ntrack: lab\nmodel_name: tiny-llama\n")
    first = key(source, run, profile=str(mine))
    mine.write_text("profile: lab/tiny\ntrack: lab\nmodel_name: tiny-llama\nquantization: int8\n")
    assert key(source, run, profile=str(mine)) != first


def test_a_variable_of_the_guide_is_an_input(run, source, monkeypatch):
    before = key(source, run)
    monkeypatch.setenv("MAX_BATCH_SIZE", "8")
    assert key(source, run) != before


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.name)
def test_another_artifact_of_an_earlier_page_is_another_key(page, run, source):
    before = key(source, run)
    keep(run, page.makes, value=1, created="then")
    made = key(source, run)
    keep(run, page.makes, value=2, created="then")
    assert len({before, made, key(source, run)}) == 3


def test_an_artifact_that_only_was_made_again_is_the_same_input(run, source):
    keep(run, "plan", value=1, created="then")
    before = key(source, run)
    keep(run, "plan", created="now", value=1)
    assert key(source, run) == before


def test_an_artifact_of_a_later_page_is_no_input(run, source):
    page = page_named("02_model_repository")
    before = key(source, run, page)
    keep(run, "measurement", value=1)
    keep(run, page.makes, value=1)
    assert key(source, run, page) == before


@pytest.mark.parametrize("damage", [b"{", b"[1]", b"null", b"\xff"])
def test_a_damaged_artifact_is_another_input_and_ends_nothing(damage, run, source):
    keep(run, "plan", value=1)
    before = key(source, run)
    (run.artifacts / "plan.json").write_bytes(damage)
    assert key(source, run) != before


# -- receipts ------------------------------------------------------------------------------------


def test_without_a_receipt_nothing_holds(run, source):
    assert not receipt_holds(run, PAGE, key(source, run))


def test_a_receipt_holds_for_its_key_and_its_page_only(held, source):
    assert not receipt_holds(held, PAGE, "sha256:other")
    assert not receipt_holds(held, PAGES[0], key(source, held))


def test_a_receipt_does_not_hold_when_what_was_made_is_another(held, source):
    Diagnosis(not_explained=("odd",)).write(held.artifacts)
    assert not receipt_holds(held, PAGE, key(source, held))


def test_a_receipt_does_not_hold_when_what_was_made_is_gone(held, source):
    (held.artifacts / "diagnosis.json").unlink()
    assert not receipt_holds(held, PAGE, key(source, held))


def test_a_page_that_made_nothing_has_no_receipt_that_holds(run, source):
    write_receipt(run, PAGE, key(source, run))
    assert not receipt_holds(run, PAGE, key(source, run))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"{}"])
def test_what_was_made_and_then_damaged_is_not_held(damage, held, source):
    (held.artifacts / "diagnosis.json").write_bytes(damage)
    assert not receipt_holds(held, PAGE, key(source, held))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\xff", b"{}"])
def test_a_damaged_receipt_does_not_hold_and_ends_nothing(damage, held, source):
    (held.folder / "receipts" / f"{PAGE.name}.json").write_bytes(damage)
    assert not receipt_holds(held, PAGE, key(source, held))


@pytest.mark.parametrize("answering", [True, False])
def test_a_deployment_is_held_while_every_replica_answers(answering, run, source, monkeypatch):
    page = page_named("03_deploy")
    replicas = [
        Replica(name=name, http=f"http://{name}", grpc="g", metrics="m", ready_seconds=1)
        for name in ("a", "b")
    ]
    Service(
        target="lab",
        url="http://a",
        entry_model="ensemble",
        repository_uri="s3://models/x/",
        engine_digest="sha256:1",
        tokenizer="t",
        replicas=tuple(replicas),
    ).write(run.artifacts)
    write_receipt(run, page, "sha256:key")
    monkeypatch.setattr(module, "is_ready", lambda url: answering or url != "http://b")
    assert receipt_holds(run, page, "sha256:key") == answering
