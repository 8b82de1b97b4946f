"""The pages in JupyterLab, as somebody runs them by hand in a real Chromium."""

import json
import os
import urllib.request

import pytest

from runbook_lib.parameters import PAGES

TOKEN = "browser-test"
SHOTS = os.environ.get("RUNBOOK_SHOTS")  # a folder for pictures, for who wants to look


def open_page(tab, jupyter, name):
    close_kernels(jupyter)
    tab.goto(f"{jupyter}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?reset&token={TOKEN}")
    tab.wait_for_selector(".jp-Notebook .jp-CodeCell")
    idle(tab)


def close_kernels(jupyter):
    for session in json.loads(ask(f"{jupyter}/api/sessions")):
        ask(f"{jupyter}/api/sessions/{session['id']}", method="DELETE")


def ask(url, method="GET"):
    request = urllib.request.Request(
        url, method=method, headers={"Authorization": f"token {TOKEN}"}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def idle(tab, timeout=180):
    # The notebook's own indicator says idle before there is a kernel; the status bar does not.
    tab.get_by_text("| Idle").first.wait_for(timeout=timeout * 1000)


def run_all(tab):
    tab.get_by_role("menuitem", name="Run", exact=True).click()
    tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    tab.locator('.jp-InputPrompt:has-text("[*]:")').first.wait_for()
    tab.locator('.jp-InputPrompt:has-text("[*]:")').first.wait_for(state="hidden", timeout=180_000)
    idle(tab)


def picture(tab, name):
    if SHOTS:
        tab.screenshot(path=f"{SHOTS}/{name}.png")


def errors_of(tab):
    kinds = ("error", "stderr")  # JupyterLab shows a traceback as the second
    each = [
        f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{one}']" for one in kinds
    ]
    return tab.locator(", ".join(each)).all_inner_texts()


@pytest.mark.timeout(600)
def test_every_page_runs_by_hand_from_the_first_to_the_last(tab, jupyter, house):
    for page in PAGES:
        open_page(tab, jupyter, page.name)
        run_all(tab)
        assert errors_of(tab) == []
        text = tab.locator(".jp-Notebook").inner_text()
        assert f"{page.name} done in" in text
        assert tab.locator(".jp-OutputArea img, .jp-OutputArea .main-svg").count() > 0
        picture(tab, page.name)
    (run,) = (house / "outputs").iterdir()
    made = {path.stem for path in (run / "artifacts").iterdir()}
    assert {page.makes for page in PAGES} <= made
    assert tab.errors == []


@pytest.mark.timeout(300)
def test_a_change_waits_for_the_button_and_the_record_says_who_pressed_it(tab, jupyter, house):
    notebook = house / "notebooks" / "01_build_engine.ipynb"
    text = notebook.read_text(encoding="utf-8")
    asking = text.replace('profile: str = \\"lab/tiny\\"', 'profile: str = \\"lab/asking\\"')
    assert asking != text
    notebook.write_text(asking, encoding="utf-8")
    plan = house / "notebooks" / "00_plan.ipynb"
    first = plan.read_text(encoding="utf-8")
    plan.write_text(first.replace('\\"lab/tiny\\"', '\\"lab/asking\\"'), encoding="utf-8")
    open_page(tab, jupyter, "00_plan")
    run_all(tab)
    open_page(tab, jupyter, "01_build_engine")
    run_all(tab)
    picture(tab, "gate")
    (said,) = errors_of(tab)
    assert "is not approved; nothing was changed" in said
    tab.locator("button.runbook-approve").click()
    tab.get_by_text("Approved: run this cell again to go on.").wait_for()
    run_all(tab)
    assert errors_of(tab) == []
    (run,) = [path for path in (house / "outputs").iterdir() if "asking" in path.name]
    (approval,) = (run / "approvals.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(approval)["how"] == "button in JupyterLab"
