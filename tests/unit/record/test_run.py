import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import RecordError
from runbook_lib.record.digests import verify_folder, write_manifest
from runbook_lib.record.run import Run

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault


def made(outputs, name, profile="lab/tiny", **facts):
    folder = outputs / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"profile": profile} | facts))
    return Run(folder)


def test_a_run_is_a_folder_named_by_time_profile_and_chance(tmp_path):
    run = Run.create(tmp_path / "outputs", "lab/tiny")
    assert re.fullmatch(r"\d{8}T\d{6}Z-lab-tiny-[0-9a-f]{6}", run.id)
    assert run.about()["profile"] == "lab/tiny"
    assert run.about()["started"].endswith("+00:00")
    assert Run.open(run.folder) == run


@FEW_EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_profiles_name_makes_a_folder_directly_below_outputs(tmp_path_factory, profile):
    outputs = tmp_path_factory.mktemp("outputs")
    run = Run.create(outputs, profile)
    assert run.folder.parent == outputs
    assert re.fullmatch(r"\d{8}T\d{6}Z-[a-z0-9.-]*-[0-9a-f]{6}", run.id)
    assert len(run.id) < 80
    assert run.about()["profile"] == profile


def test_the_slug_begins_and_ends_with_a_sign_that_can_be_read(tmp_path):
    run = Run.create(tmp_path, f"profiles/-{'x' * 39}.yaml")
    assert "--" not in run.id


def test_a_folder_that_can_not_be_made_says_why_and_where_else(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="can't be made") as caught:
        Run.create(tmp_path / "file", "lab/tiny")
    assert caught.value.why == "Not a directory"
    assert "RUNBOOK_OUTPUTS" in caught.value.fix


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RecordError, match="is not a run"):
        Run.open(tmp_path)
    with pytest.raises(RecordError, match="is not a run"):
        Run.open(tmp_path / "none")


def test_an_opened_run_has_one_place_wherever_one_stands(tmp_path, monkeypatch):
    run = made(tmp_path, "20260101T000000Z-a-1")
    monkeypatch.chdir(tmp_path)
    assert Run.open(run.folder.relative_to(tmp_path)).folder == run.folder


def test_the_newest_run_of_the_profile_is_found(tmp_path):
    made(tmp_path, "20260101T000000Z-lab-tiny-ffffff")
    newest = made(tmp_path, "20260102T000000Z-lab-tiny-000000")
    made(tmp_path, "20260103T000000Z-other-000000", profile="other")
    (tmp_path / "20260104T000000Z-lab-tiny-empty").mkdir()
    (tmp_path / "index.jsonl").write_text("")
    assert Run.newest(tmp_path, "lab/tiny") == newest


def test_of_runs_started_in_one_second_the_later_one_is_the_newest(tmp_path):
    runs = [Run.create(tmp_path, "lab/tiny") for _ in range(8)]
    assert Run.newest(tmp_path, "lab/tiny") == runs[-1]
    runs[0].note(status="running")
    assert Run.newest(tmp_path, "lab/tiny") == runs[-1]


def test_the_newest_run_has_one_place_wherever_one_stands(tmp_path, monkeypatch):
    run = made(tmp_path / "outputs", "20260101T000000Z-a-1")
    monkeypatch.chdir(tmp_path)
    assert Run.newest(run.folder.parent.relative_to(tmp_path), "lab/tiny") == run


def test_without_a_run_of_the_profile_there_is_no_newest(tmp_path):
    made(tmp_path, "20260101T000000Z-a-1")
    assert Run.newest(tmp_path, "other") is None
    assert Run.newest(tmp_path / "none", "lab/tiny") is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "3"])
def test_a_damaged_note_is_nobodys_run_and_ends_nothing(damage, tmp_path):
    run = made(tmp_path, "20260109T000000Z-a-1")
    (run.folder / "run.json").write_text(damage)
    whole = made(tmp_path, "20260101T000000Z-a-1")
    assert run.about() == {}
    assert Run.newest(tmp_path, "lab/tiny") == whole


def test_facts_are_added_to_what_is_known(tmp_path):
    run = made(tmp_path, "20260101T000000Z-a-1")
    run.note(status="running", where=tmp_path)
    run.note(status="completed")
    known = {"profile": "lab/tiny", "status": "completed", "where": str(tmp_path)}
    assert run.about() == known


def test_a_run_has_a_place_for_everything(tmp_path):
    run = Run(tmp_path)
    names = [
        place.relative_to(tmp_path).as_posix() for place in (run.artifacts, run.data, run.logs)
    ]
    assert names == ["artifacts", "data", "logs"]


def test_a_sealed_run_is_gone_on_from_and_never_written_into(tmp_path):
    first = Run.create(tmp_path, "lab/tiny")
    first.artifacts.mkdir()
    (first.artifacts / "plan.json").write_text("{}")
    assert not first.sealed
    write_manifest(first.folder)
    assert first.sealed
    second = first.continued()
    assert second.folder != first.folder
    assert (second.artifacts / "plan.json").read_text() == "{}"
    assert second.about()["continues"] == first.id
    assert not second.sealed
    assert verify_folder(first.folder) == []
