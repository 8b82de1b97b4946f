from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.artifacts import Interval, TradeOffRow
from runbook_lib.study.pareto import OBJECTIVES, choose, mark_front

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault

FEW = st.integers(1, 4).map(float)  # so that rows meet in one or all objectives


def row(label, build=1.0, p95=100.0, rate=500.0, *, status="measured", accuracy=None, spread=0.0):
    figure = None if rate is None else Interval(value=rate, low=rate - spread, high=rate + spread)
    return TradeOffRow(
        label=label,
        profile={},
        status=status,
        build_time_s=build,
        p95_total_ms=None if p95 is None else Interval(value=p95),
        tokens_per_second=figure,
        accuracy=accuracy,
    )


def share(value, low, high):
    return Interval(value=value, low=low, high=high, n=80)


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from("abcd"),
        st.none() | FEW,
        st.none() | FEW,
        st.none() | FEW,
        status=st.sampled_from(["measured", "measured", "failed"]),
    ),
    max_size=8,
)


def figures(one):
    return one.build_time_s, one.p95_total_ms.value, one.tokens_per_second.value


def comparable(one):
    known = one.build_time_s, one.p95_total_ms, one.tokens_per_second
    return one.status == "measured" and None not in known


def is_worse(one, other):
    """Another row is as good in everything, and better in something."""
    (build, p95, rate), (their_build, their_p95, their_rate) = figures(one), figures(other)
    no_better = their_build <= build and their_p95 <= p95 and their_rate >= rate
    return no_better and figures(one) != figures(other)


@FEW_EXAMPLES
@given(ROWS)
def test_no_row_on_the_front_is_worse_than_another(rows):
    marked = mark_front(rows)
    others = [one for one in marked if comparable(one)]
    assert not any(one.pareto and is_worse(one, other) for one in others for other in others)


@FEW_EXAMPLES
@given(ROWS)
def test_every_measured_row_off_the_front_is_worse_than_one_on_it(rows):
    marked = mark_front(rows)
    front = [one for one in marked if one.pareto]
    for one in marked:
        if comparable(one) and not one.pareto:
            assert any(is_worse(one, other) for other in front)


@FEW_EXAMPLES
@given(ROWS)
def test_a_row_that_failed_or_lacks_a_figure_is_never_on_the_front(rows):
    assert not any(one.pareto for one in mark_front(rows) if not comparable(one))


@FEW_EXAMPLES
@given(ROWS)
def test_marking_changes_nothing_else_and_keeps_the_order(rows):
    marked = mark_front(rows)
    plain = [one.model_copy(update={"pareto": False}) for one in marked]
    assert plain == rows


@FEW_EXAMPLES
@given(ROWS, st.randoms())
def test_the_front_does_not_depend_on_the_order_of_rows(rows, shuffler):
    again = rows.copy()
    shuffler.shuffle(again)
    before = sorted(one.model_dump_json() for one in mark_front(rows))
    assert sorted(one.model_dump_json() for one in mark_front(again)) == before


def test_a_failed_row_does_not_borrow_the_front_from_a_row_of_the_same_label():
    marked = mark_front([row("a"), row("a", status="failed")])
    assert [one.pareto for one in marked] == [True, False]


def test_equal_rows_are_on_the_front_together():
    assert all(one.pareto for one in mark_front([row("a"), row("b")]))


def test_a_percentile_that_the_sample_can_not_carry_keeps_a_row_off_the_front():
    unknown = row("a").model_copy(update={"p95_total_ms": Interval(value=None, n=8)})
    assert not mark_front([unknown])[0].pareto


def test_the_objectives_are_said_with_their_direction():
    assert [text.partition(", ")[2] for text in OBJECTIVES] == ["lower", "lower", "higher"]


# -- the one to take -------------------------------------------------------------------------------


def test_nothing_is_taken_where_nothing_was_measured():
    assert choose([row("a", status="failed")]) == ("", "No engine could be measured.")


def test_the_fastest_is_taken():
    label, reason = choose([row("a", rate=500), row("b", rate=900)])
    assert label == "b"
    assert reason == "b has the highest throughput without a measurable loss of accuracy."


def test_of_engines_that_are_equally_fast_the_one_that_builds_sooner_is_taken():
    rows = [row("a", 9, rate=900, spread=20), row("b", 3, rate=890, spread=20), row("c", 1)]
    label, reason = choose(rows)
    assert label == "b"
    assert "builds fastest among 2 engines" in reason


def test_an_engine_that_lost_accuracy_is_left_out_and_named():
    rows = [
        row("profile", accuracy=share(0.9, 0.8, 0.95)),
        row("int8", rate=800, accuracy=share(0.85, 0.75, 0.91)),
        row("int4", rate=990, accuracy=share(0.5, 0.4, 0.6)),
    ]
    label, reason = choose(rows)
    assert label == "int8"
    assert reason.endswith("left out for lower accuracy: int4.")


def test_an_engine_whose_accuracy_is_not_known_is_not_left_out():
    rows = [row("a", accuracy=share(0.9, 0.8, 0.95)), row("b", rate=900)]
    assert choose(rows)[0] == "b"


@FEW_EXAMPLES
@given(ROWS)
def test_what_is_taken_was_measured_and_is_named_in_the_reason(rows):
    label, reason = choose(rows)
    assert bool(label) == any(comparable(one) for one in rows)
    assert not label or any(comparable(one) and one.label == label for one in rows)
    assert label in reason


def test_too_few_samples_for_a_p95_are_told_as_such():
    thin = row("a").model_copy(update={"p95_total_ms": Interval(value=None, n=20)})
    assert choose([thin]) == ("", "The samples are too few for a p95: send more requests.")
