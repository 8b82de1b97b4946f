"""Each rule names its cause in words that were really said, and stays still on their neighbours."""

import json
import re

import pytest

from runbook_lib.diagnose import rulebook as module
from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import from_text
from runbook_lib.diagnose.rulebook import RULES, load, rulebook
from runbook_lib.errors import DiagnosisError
from runbook_lib.parameters import PAGES

BOOK = rulebook()
EXAMPLES = [(rule.id, one) for rule in BOOK.rules.values() for one in rule.examples]
NEAR = [(rule.id, text) for rule in BOOK.rules.values() for text in rule.near_misses]
LABELS = 40  # of the failures that are known, and one for a server of ours that is gone


def named(text):
    return [one.id for one in diagnose(from_text("log", text)).findings]


@pytest.fixture
def folder(tmp_path):
    """A team's folder with one rule of its own, as it would be changed."""

    def holding(**changed):
        rule = json.loads((RULES / "shm-too-small.json").read_text()) | changed
        (tmp_path / "own.json").write_text(json.dumps(rule))
        return tmp_path

    return holding


# -- the package's own rules -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "example"), EXAMPLES, ids=[f"{cause}-{n}" for n, (cause, _) in enumerate(EXAMPLES)]
)
def test_a_rule_names_the_cause_first_in_real_words(cause, example):
    assert named(example.text)[:1] == [cause]


@pytest.mark.parametrize(("cause", "text"), NEAR)
def test_a_near_miss_names_nothing(cause, text):
    assert named(text) == []


def test_every_rule_has_real_words_a_near_miss_and_a_page():
    pages = {page.name for page in PAGES}
    for rule in BOOK.rules.values():
        assert rule.examples, rule.id
        assert rule.near_misses, rule.id
        assert rule.page in pages
        assert all(
            re.match(r"https://|the lab's own check|(the )?words of", one.source)
            for one in rule.examples
        )


def test_every_label_has_a_file_of_its_name_and_explains_only_known_ones():
    assert {path.stem for path in RULES.glob("*.json")} == set(BOOK.rules)
    assert len(BOOK.rules) == LABELS
    assert {one for rule in BOOK.rules.values() for one in rule.explains} <= set(BOOK.rules)


def test_no_pattern_stands_in_two_rules():
    patterns = [signal.pattern for _, signal in BOOK.owners]
    assert sorted({one for one in patterns if patterns.count(one) > 1}) == []


def test_patterns_are_lower_case_as_they_are_searched_without_regard_to_it():
    assert [s.pattern for _, s in BOOK.owners if re.search(r"(?<!\\)[A-Z]", s.pattern)] == []


# -- a team's own ----------------------------------------------------------------------------------


def test_a_teams_folder_adds_a_rule(folder):
    own = folder(id="proxy-of-ours", signals=[{"pattern": "our proxy said no", "weight": "names"}])
    book = rulebook(own)
    found = diagnose(from_text("log", "E0101 our proxy said no", book), book).findings
    assert [one.id for one in found] == ["proxy-of-ours"]
    assert set(BOOK.rules) < set(book.rules)


def test_a_later_file_takes_the_place_of_an_earlier_one_of_the_same_id(folder):
    own = folder(signals=[{"pattern": "only this", "weight": "names"}])
    book = load([RULES, own])
    assert [one.pattern for one in book.rules["shm-too-small"].signals] == ["only this"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"signals": []}, "signals"),
        ({"signals": [{"pattern": "(", "weight": "names"}]}, "missing \\)"),
        ({"signals": [{"pattern": r"(a)\1", "weight": "names"}]}, "invalid escape"),
        ({"signals": [{"pattern": "a", "weight": "loud"}]}, "weight"),
        ({"signals": [{"pattern": "a", "weight": "names", "when": "later"}]}, "when"),
        ({"title": ""}, "title"),
        ({"colour": "red"}, "colour"),
        ({"explains": 3}, "explains"),
    ],
)
def test_a_rule_that_can_not_be_used_is_named_with_what_is_wrong(changed, said, folder):
    with pytest.raises(DiagnosisError, match="can't be used") as caught:
        load([folder(**changed)])
    assert re.search(said, caught.value.why)
    assert "own.json" in caught.value.why


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "\x00", "[" * 100_000])
def test_a_file_that_is_no_rule_is_named(text, tmp_path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DiagnosisError) as caught:
        load([tmp_path])
    assert "bad.json" in caught.value.why


def test_a_folder_without_rules_is_named(tmp_path):
    with pytest.raises(DiagnosisError) as caught:
        load([tmp_path])
    assert "holds no rule" in caught.value.why


def test_every_problem_is_told_at_once(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DiagnosisError) as caught:
        load([tmp_path])
    assert "a.json" in caught.value.why
    assert "b.json" in caught.value.why


def test_patterns_are_searched_by_an_automaton_that_can_not_backtrack():
    found = module._automaton([r"(a+)+$", r"x{1,40}y"])
    assert not found.Match("a" * 100_000 + "b", False)
