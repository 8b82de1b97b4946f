import json

import pytest

from runbook_lib.record.outcome import CellOutcome, is_to_run, judge, judge_file

REPLY = {"execution": {"shell.execute_reply": "2026-01-01T00:00:00Z"}}
BEGUN = {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "\x1b[31mno\x1b[0m\nway"}


def cell(metadata=REPLY, *, outputs=(), source="1", kind="code", **more):
    return {
        "cell_type": kind,
        "source": source,
        "metadata": metadata,
        "outputs": list(outputs),
        **more,
    }


def page(*cells, **runbook):
    return {"cells": list(cells), "metadata": {"runbook": runbook} if runbook else {}}


def test_a_page_is_green_when_every_cell_was_answered_without_an_error():
    outcome = judge(page(cell(), cell({}, source="  \n"), cell({}, kind="markdown"), cell()))
    assert outcome.ok
    assert outcome.failing is None
    assert outcome.text() == "all 2 cells completed"
    assert [one.index for one in outcome.cells] == [0, 3]


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        (cell(outputs=[ERROR]), "failed", "ValueError: no way"),
        (cell(BEGUN), "interrupted", "it began, and the kernel never answered"),
        (cell({}, execution_count=3), "interrupted", "it began, and the kernel never answered"),
        (cell({}), "not_run", ""),
        (cell(REPLY | {"runbook": {"status": "timed_out", "reason": "r"}}), "timed_out", "r"),
        (cell(REPLY | {"runbook": {"status": "grand"}}), "failed", "unknown status 'grand'"),
        (cell(REPLY | {"papermill": {"status": "completed"}}, outputs=[ERROR]), "failed", None),
    ],
    ids=["error", "begun", "counted", "not begun", "written red", "unknown word", "papermill's"],
)
def test_one_cell_makes_a_page_red(bad, status, reason):
    outcome = judge(page(cell(), bad))
    assert (outcome.status, outcome.failing.index) == (status, 1)
    assert reason is None or outcome.reason == reason


def test_what_papermill_claims_is_not_believed():
    claim = {"papermill": {"status": "completed", "exception": False}}
    assert judge({"cells": [cell(claim)], "metadata": claim}).status == "not_run"


def test_the_engines_word_makes_a_page_red_and_never_green():
    assert judge(page(cell(), status="interrupted", reason="Ctrl-C")).reason == "Ctrl-C"
    assert not judge(page(cell({}), status="completed")).ok


def test_the_first_cause_is_told_not_the_cells_that_never_ran():
    red = cell(REPLY | {"runbook": {"status": "kernel_died", "reason": "SIGKILL"}})
    outcome = judge(page(red, cell({}), status="not_run"))
    assert outcome.text() == "cell 0 lost its kernel: SIGKILL"


def test_a_page_that_ended_between_cells_names_the_page():
    outcome = judge(page(cell({}), status="timed_out", reason="the limit was reached"))
    assert outcome.text() == "the page ran past its time limit: the limit was reached"


def test_an_expected_error_is_an_error():
    tagged = cell(REPLY | {"tags": ["raises-exception"]}, outputs=[ERROR])
    assert judge(page(tagged)).failing == CellOutcome(0, "failed", "ValueError: no way")


def test_a_skipped_cell_need_not_run():
    skipped = cell({"tags": ["skip-execution"]})
    assert not is_to_run(skipped)
    assert judge(page(skipped)).ok


def test_source_may_be_lines():
    assert is_to_run(cell(source=["\n", "1"]))
    assert not is_to_run(cell(source=["\n", " "]))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}", '{"worksheets": []}', '{"cells": [3]}', '{"cells": {}}', '{"cells": [{'],
)
def test_a_file_that_is_no_whole_notebook_is_red(tmp_path, text):
    (tmp_path / "page.ipynb").write_text(text)
    assert judge_file(tmp_path / "page.ipynb").status == "failed"


def test_a_file_that_is_not_there_is_red(tmp_path):
    assert "No such file" in judge_file(tmp_path / "page.ipynb").text()


def test_a_file_is_judged_like_its_notebook(tmp_path):
    (tmp_path / "page.ipynb").write_text(json.dumps(page(cell())))
    assert judge_file(tmp_path / "page.ipynb").ok
