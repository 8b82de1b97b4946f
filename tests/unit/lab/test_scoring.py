"""The lab's accuracy figures, without a model."""

from __future__ import annotations

import math

import pytest

from runbook_lib.lab.scoring import exact_match, load_questions, normalised, perplexity, wilson


def _right() -> dict[str, str]:
    return {one.id: one.answer for one in load_questions()}


def test_right_answers_score_one_and_the_interval_still_admits_doubt():
    scored = exact_match(_right())
    assert (scored.hits, scored.share, scored.high) == (scored.n, 1.0, 1.0)
    assert scored.low < 1


def test_each_wrong_answer_costs_one_hit():
    answers = _right()
    wrong = list(answers)[:7]
    scored = exact_match(answers | dict.fromkeys(wrong, "something else"))
    assert scored.hits == scored.n - 7
    assert scored.low < scored.share < scored.high


def test_a_question_left_unanswered_counts_as_wrong():
    answers = _right()
    del answers[next(iter(answers))]
    scored = exact_match(answers)
    assert (scored.n, scored.hits) == (len(answers) + 1, len(answers))


def test_no_answers_at_all_score_zero():
    scored = exact_match({})
    assert (scored.hits, scored.share, scored.low) == (0, 0.0, 0.0)
    assert scored.high > 0


def test_an_answer_to_no_question_is_refused():
    with pytest.raises(ValueError, match="the id q999"):
        exact_match({"q999": "port 8000"})


@pytest.mark.parametrize(
    "text", [" Port 8000", "port\n 8000", "PORT 8000.", "port 8000 !", "port 8000?\n"]
)
def test_case_space_and_trailing_punctuation_do_not_make_an_answer_wrong(text):
    assert normalised(text) == "port 8000"


@pytest.mark.parametrize(
    "text", ["port 8001", "the port 8000", "port8000", "port 8000 or 8001", ""]
)
def test_other_words_make_an_answer_wrong(text):
    assert normalised(text) != "port 8000"


def test_punctuation_that_is_part_of_the_answer_is_kept():
    assert normalised("--workers") != normalised("workers")
    assert normalised("/mnt/models.") == "/mnt/models"
    assert normalised("config.pbtxt") == "config.pbtxt"


@pytest.mark.parametrize(("hits", "n"), [(81, 263), (15, 148), (1, 29), (0, 20), (20, 20), (1, 2)])
def test_the_wilson_bounds_are_the_shares_that_a_score_test_just_accepts(hits, n):
    # The definition, solved apart from the closed form: |hits/n - p| = z * sqrt(p (1 - p) / n).
    for bound in wilson(hits, n):
        distance = abs(hits / n - bound)
        assert distance == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / n), abs=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_hits_that_are_no_share_are_refused(hits, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(hits, n)


def test_perplexity_of_an_even_guess_is_the_number_of_choices():
    assert perplexity([math.log(1 / 8)] * 5) == pytest.approx(8)
    assert perplexity([math.log(1 / 2), math.log(1 / 8)]) == pytest.approx(4)
    assert perplexity([0.0, 0.0]) == 1


def test_perplexity_of_an_impossible_token_is_infinite():
    assert perplexity([-0.5, -math.inf]) == math.inf
    assert perplexity([-2000.0]) == math.inf


@pytest.mark.parametrize("logprobs", [[], [0.1], [math.nan], [-1.0, math.inf]])
def test_what_is_no_log_probability_is_refused(logprobs):
    with pytest.raises(ValueError, match=r"log-probability|one token"):
        perplexity(logprobs)
