import json

import pytest

from runbook_lib.errors import RecordError
from runbook_lib.record.digests import write_manifest
from runbook_lib.record.run import Run
from runbook_lib.record.verify import verify_record


def page(**metadata):
    cell = {"cell_type": "code", "source": "1", "outputs": [], "metadata": metadata}
    return json.dumps({"cells": [cell], "metadata": {}})


GREEN = page(execution={"shell.execute_reply": "2026-01-01T00:00:00Z"})
RED = page(papermill={"status": "completed", "exception": False})


@pytest.fixture
def record(tmp_path):
    """A record that says all is well, with the page given."""

    def make(text, **about):
        run = Run.create(tmp_path, "lab/tiny")
        run.note(**{"status": "completed", "pages": {"00_plan": {"status": "completed"}}} | about)
        if text is not None:
            (run.folder / "00_plan.ipynb").write_text(text)
        write_manifest(run.folder)
        return run.folder

    return make


def test_an_untouched_record_is_told_as_such(record):
    found = verify_record(record(GREEN))
    assert found.ok
    assert "untouched; the run completed; unsigned" in str(found)


def test_a_red_record_is_as_good_a_record(record):
    failed = {"00_plan": {"status": "failed"}}
    found = verify_record(record(RED, status="failed", pages=failed))
    assert found.ok
    assert found.to_dict()["status"] == "failed"


@pytest.mark.parametrize("text", [RED, "[]", '{"cells": [', None])
def test_a_page_told_as_completed_that_is_not_green_is_named(record, text):
    found = verify_record(record(text))
    assert not found.ok
    assert found.problems[0].startswith("00_plan is told as completed, its notebook is not green")
    assert "NOT as it was written" in str(found)


def test_a_changed_file_is_named(record):
    folder = record(GREEN)
    (folder / "00_plan.ipynb").write_text(GREEN + "\n")
    problems = verify_record(folder).to_dict()["problems"]
    assert [problem.partition(" (")[0] for problem in problems] == ["changed: 00_plan.ipynb"]


@pytest.mark.parametrize("pages", [[], {"00_plan": "fine"}, "x"])
def test_a_record_that_tells_nothing_about_its_pages_is_not_right(record, pages):
    found = verify_record(record(GREEN, pages=pages))
    assert found.problems == ("run.json tells nothing readable about its pages",)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(RecordError, match="is not a run"):
        verify_record(tmp_path)
