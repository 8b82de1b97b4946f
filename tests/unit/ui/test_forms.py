import subprocess
import sys

import pytest

from runbook_lib.parameters import Parameter
from runbook_lib.ui import forms
from runbook_lib.ui.tables import Table

PARAMETERS = (
    Parameter("requests", "int", 120, "requests to send", minimum=1),
    Parameter("rate", "float", 0.0, "requests a second"),
    Parameter("rebuild", "bool", False, "build again"),
    Parameter("target", "str", "lab", "where it runs", choices=("lab", "kserve")),
    Parameter("run", "str", "", "folder of the run"),
)


@pytest.fixture
def in_front(monkeypatch):
    monkeypatch.setattr(forms, "interactive", lambda: True)


def fields(box):
    return {row.children[0].description: row.children for row in box.children}


def test_headless_a_form_is_a_table_and_makes_no_widget():
    code = (
        "import sys; from runbook_lib.ui import forms; from runbook_lib.parameters import PAGES; "
        "print(forms.form(PAGES[0].parameters, {'profile': 'x'})); forms.approve_button('abc', print); "
        "assert 'ipywidgets' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "profile" in done.stdout


def test_headless_the_table_has_value_and_default():
    shown = forms.form(PARAMETERS, {"requests": 7})
    assert isinstance(shown, Table)
    assert shown.rows[0] == ("requests", "7", "120", "requests to send")


def test_each_type_has_its_field(in_front):
    box = fields(forms.form(PARAMETERS, {"requests": 7}))
    kinds = [type(children[0]).__name__ for children in box.values()]
    assert kinds == ["IntText", "FloatText", "Checkbox", "Dropdown", "Text"]
    assert box["requests"][0].value == 7
    assert box["target"][0].options == ("lab", "kserve")


def test_a_good_value_is_told_and_a_bad_one_is_explained(in_front):
    told = []
    field, said = fields(forms.form(PARAMETERS, {}, lambda *change: told.append(change)))[
        "requests"
    ]
    field.value = 0
    assert said.value == "requests must be at least 1, not 0"
    assert told == []
    field.value = 9
    assert told == [("requests", 9)]
    assert said.value == "requests to send"


def test_the_button_approves_once(in_front, monkeypatch):
    shown, approved = [], []
    monkeypatch.setattr("IPython.display.display", shown.append)
    forms.approve_button("12ab", lambda: approved.append(True))
    button, said = shown[0].children
    button.click()
    assert approved == [True]
    assert button.disabled
    assert said.value.startswith("Approved")
