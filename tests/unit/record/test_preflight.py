from __future__ import annotations

import pytest

from runbook_lib.record import preflight
from runbook_lib.record.page import open_page


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNBOOK_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")

    def of(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return open_page(
            "00_plan", profile=str(path), run="", target="lab", traffic="", price_per_hour=0.0
        )

    return of


def test_a_plan_needs_no_weights_of_a_model_that_is_known_by_name(opened):
    check = preflight.model_known(opened("model_name: llama-2-7b\n"))
    assert (check.verdict, "known by name" in check.found) == ("PASS", True)


def test_a_model_that_is_neither_here_nor_known_ends_the_page(opened, tmp_path):
    text = f"model_name: mine\nweights: {tmp_path}\n"
    assert preflight.model_known(opened(text)).verdict == "FAIL"
    (tmp_path / "config.json").write_text("{}")
    assert preflight.model_known(opened(text)).verdict == "PASS"


def test_the_lab_needs_its_weights_for_a_plan_too(opened, tmp_path):
    text = f"track: lab\nmodel_name: mine\nweights: {tmp_path}\n"
    assert preflight.model_known(opened(text)).verdict == "FAIL"
