import pickle

import pytest

from runbook_lib import errors
from runbook_lib.errors import RunbookError

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_why_and_how_to_fix(kind):
    text = str(kind("It broke.", why="A wire.", fix="Solder it.", page="06_troubleshoot"))
    assert text.splitlines() == [
        "It broke.",
        "  why:  A wire.",
        "  fix:  Solder it.",
        "  next: notebooks/06_troubleshoot.ipynb",
    ]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_the_way_between_processes(kind):
    again = pickle.loads(pickle.dumps(kind("what", why="why", fix="fix", page="p")))
    assert type(again) is kind
    assert again.to_dict() == {
        "error": kind.__name__,
        "what": "what",
        "why": "why",
        "fix": "fix",
        "page": "p",
    }


def test_an_error_shows_no_markup_of_strangers():
    assert "<script>" not in RunbookError("<script>alert(1)</script>")._repr_html_()


def test_the_tree_on_top_of_the_file_names_every_error():
    assert all(name in errors.__doc__ for name in errors.__all__)
