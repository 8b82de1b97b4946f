import pytest

from runbook_lib.ui import words


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.size(0), "0 B"),
        (words.size(1023), "1023 B"),
        (words.size(15 << 30), "15.0 GiB"),
        (words.seconds(0.045), "45 ms"),
        (words.seconds(99.96), "1 min 40 s"),
        (words.seconds(7499), "2 h 05 min"),
        (words.milliseconds(1240), "1.24 s"),
        (words.count(10_000), "10,000"),
        (words.count(0.123456), "0.123"),
        (words.percent(0.0001), "<1 %"),
        (words.percent(0.9999), ">99 %"),
        (words.percent(1.0), "100 %"),
        (words.plural(1, "file"), "1 file"),
        (words.plural(2000, "file"), "2,000 files"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.wrapped("<i> a b", 4), "&lt;i&gt;<br>a b"),
        (words.wrapped("bars 95 % each", 8), "bars<br>95 %<br>each"),
    ],
)
def test_figures_are_said_as_people_say_them(said, wanted):
    assert said == wanted
