import pytest

from runbook_lib.record.outputs import OUTPUT_LIMIT, overwritten, trim


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain\n", "plain\n"),
        ("10%\r20%", "20%"),
        ("\r10%\r20%\r", "20%\r"),
        ("10%\r", "10%\r"),
        ("\r", "\r"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("a\r\rb\nc", "b\nc"),
    ],
)
def test_text_is_kept_as_a_terminal_leaves_it(text, seen):
    assert overwritten(text) == seen


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_bar_that_arrives_in_pieces_ends_as_if_it_came_at_once(cut):
    text = "\r10%\r20%\r\nend"
    assert overwritten(overwritten(text[:cut]) + text[cut:]) == overwritten(text)


def test_one_huge_form_of_an_output_goes_and_the_others_stay():
    out = {"data": {"text/html": "x" * (OUTPUT_LIMIT + 1), "image/png": "abc"}}
    kept = trim(out)
    assert out["data"]["image/png"] == "abc"
    assert (
        out["data"]["text/plain"] == "[an output of 4,194,305 characters (text/html) is not kept]"
    )
    assert kept == len(out["data"]["text/plain"]) + 3


def test_a_widgets_view_goes_and_its_text_stays():
    out = {"data": {"application/vnd.jupyter.widget-view+json": {"a": 1}, "text/plain": "Output()"}}
    assert trim(out) == 8
    assert out["data"] == {"text/plain": "Output()"}
