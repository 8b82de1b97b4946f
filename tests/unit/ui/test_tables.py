import pytest

from runbook_lib.ui import table


def test_a_table_has_a_text_twin():
    data = table(
        ["", "check", "n"], [["PASS", "cores", 2], ["FAIL", "disk", None]]
    )._repr_mimebundle_()
    assert data["text/plain"].splitlines() == [
        "      check  n",
        "----  -----  -",
        "PASS  cores  2",
        "FAIL  disk   \N{EN DASH}",
    ]
    assert "<table" in data["text/html"]


def test_a_badge_keeps_its_word():
    html = table(["", "x"], [[word, "y"] for word in ("PASS", "WARN", "FAIL")]).html()
    for word in ("PASS", "WARN", "FAIL"):
        assert f">{word}</span>" in html


def test_cells_can_bring_no_markup():
    hostile = "<script>alert(1)</script>"
    html = table([hostile, "b"], [[hostile, "'\"><img>"]], caption=hostile).html()
    assert "<script" not in html
    assert "<img" not in html


def test_numbers_stand_to_the_right_and_are_grouped():
    shown = table(["n"], [[10_000], [7], [None]])
    assert "10,000" in shown.html()
    assert "text-align:right'>7<" in shown.html()
    assert str(shown).splitlines()[3] == "     7"


def test_a_long_text_is_broken_not_cut():
    shown = str(table(["a", "b"], [["word " * 40, "end"]]))
    assert shown.count("word") == 40
    assert max(map(len, shown.splitlines())) < 70


def test_a_table_without_headers_has_no_head():
    shown = table(["", ""], [["page", "done"]])
    assert "<th" not in shown.html()
    assert str(shown) == "page  done"


def test_an_empty_table_still_shows_its_headers():
    assert str(table(["a", "b"], [])).startswith("a  b")


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 headers"):
        table(["a", "b"], [["x"]])
