import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.changes import Change
from runbook_lib.errors import ApprovalError, RecordError
from runbook_lib.record import approval as module
from runbook_lib.record.approval import (
    Approval,
    ChangePlan,
    by_button,
    decide,
    given_before,
    remember,
)

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault

PUSH = Change("push", "s3://models/triton/tiny/", "3.9 MB")
PLAN = ChangePlan("02_model_repository", (PUSH,))
NOTHING = ChangePlan("02_model_repository", ())
HEX = PLAN.digest.removeprefix("sha256:")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLANS = st.builds(
    ChangePlan, TEXTS, st.lists(st.builds(Change, TEXTS, TEXTS, TEXTS), max_size=3).map(tuple)
)


def refused(plan=PLAN, approve="", policy="ask", before=()):
    with pytest.raises(ApprovalError) as caught:
        decide(plan, approve, policy, before)
    assert "nothing was changed" in caught.value.what
    assert plan.short in caught.value.fix
    return caught.value.why


# -- the plan ------------------------------------------------------------------------------------


@FEW_EXAMPLES
@given(PLANS, PLANS)
def test_two_plans_have_one_digest_exactly_when_they_are_the_same(one, other):
    assert (one.digest == other.digest) == (one == other)


def test_the_order_of_changes_and_the_page_belong_to_the_plan():
    two = Change("start", "triton")
    assert ChangePlan("p", (PUSH, two)).digest != ChangePlan("p", (two, PUSH)).digest
    assert ChangePlan("p", (PUSH,)).digest != ChangePlan("q", (PUSH,)).digest


def test_a_plan_reads_as_what_it_does_and_its_digest():
    assert str(PLAN) == f"push     s3://models/triton/tiny/  3.9 MB\nplan {HEX[:12]}"
    assert str(NOTHING) == f"Nothing changes (plan {NOTHING.short})"
    assert "Nothing changes." in NOTHING._repr_html_()
    assert HEX[:12] in PLAN._repr_html_()


def test_a_plan_shows_no_markup_of_strangers():
    page = ChangePlan("p", (Change("<script>", "<img>", "<b>"),))._repr_html_()
    assert not any(tag in page for tag in ("<script", "<img", "<b>"))


# -- the decision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["ask", "auto"])
@pytest.mark.parametrize(
    "words",
    [HEX, PLAN.digest, HEX[:12], f"sha256:{HEX[:12]}", f" {HEX[:20]} ", f"{'0' * 64},{HEX}"],
)
def test_the_digest_of_the_plan_approves_it(words, policy):
    given_ = decide(PLAN, words, policy, [])
    assert (given_.page, given_.plan) == (PLAN.page, PLAN.digest)
    assert given_.how == "digest given as a parameter"
    assert given_.by
    assert given_.at.endswith("+00:00")


@FEW_EXAMPLES
@given(st.integers(1, 11))
def test_fewer_than_twelve_signs_of_the_digest_approve_nothing(length):
    assert "another plan" in refused(approve=HEX[:length])


@FEW_EXAMPLES
@given(st.text("0123456789abcdef", min_size=12, max_size=64))
def test_another_digest_approves_nothing(word):
    if not HEX.startswith(word):
        assert "another plan" in refused(approve=word)


@pytest.mark.parametrize("words", [f"{HEX}0", HEX[1:], "yes", "true", "*", "AUTO"])
def test_what_is_no_digest_approves_nothing(words):
    assert "another plan" in refused(approve=words)
    assert "another plan" in refused(approve=words, policy="auto")


def test_a_plan_that_has_changed_since_is_not_approved():
    changed = ChangePlan(PLAN.page, (Change("push", "s3://elsewhere/", "3.9 MB"),))
    assert "changed since" in refused(changed, HEX)


@pytest.mark.parametrize("approve", ["", " , ", "auto", "auto,", f"auto,{'0' * 12}"])
def test_a_policy_of_auto_approves(approve):
    assert decide(PLAN, approve, "auto", []).how == "policy `approve: auto` of the profile"


def test_auto_is_refused_where_the_policy_is_to_ask():
    assert "policy is `approve: ask`" in refused(approve="auto")
    assert "policy is `approve: ask`" in refused(approve=f"auto,{'0' * 12}")


@pytest.mark.parametrize("approve", ["", "  ", ",,"])
def test_nobody_having_approved_is_said(approve):
    assert "nobody has approved yet" in refused(approve=approve)


def test_a_policy_that_is_not_known_approves_nothing():
    assert refused(policy="whatever")


@pytest.mark.parametrize("approve", ["", "auto", "0" * 12])
def test_a_plan_that_changes_nothing_needs_nobody(approve):
    assert decide(NOTHING, approve, "ask", []).how == "nothing changes"


def test_a_press_of_the_button_counts_and_keeps_who_and_when():
    pressed = by_button(PLAN)
    assert decide(PLAN, "", "ask", [pressed]) is pressed
    assert pressed.how == "button in JupyterLab"


def test_a_press_for_another_plan_does_not_count():
    other = by_button(ChangePlan("03_deploy", (PUSH,)))
    assert "nobody has approved yet" in refused(before=[other])


@pytest.mark.parametrize(
    ("variable", "said"), [("GITHUB_ACTOR", " for octo"), ("GITLAB_USER_LOGIN", " for octo")]
)
def test_who_acts_is_named_with_the_job(variable, said, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)
    monkeypatch.setenv(variable, "octo")
    assert module.who().endswith(said)


def test_a_user_without_a_name_is_named_by_number(monkeypatch):
    def unknown():
        raise KeyError

    monkeypatch.setattr(module.getpass, "getuser", unknown)
    assert "uid " in module.who()


# -- what is kept ----------------------------------------------------------------------------------


def test_an_approval_is_remembered_once_and_in_order(tmp_path):
    file = tmp_path / "run" / "approvals.jsonl"
    assert given_before(file) == []
    first, second = by_button(PLAN), decide(NOTHING, "", "ask", [])
    for one in (first, second, first):
        remember(file, one)
    assert given_before(file) == [first, second]
    assert decide(PLAN, "", "ask", given_before(file)) == first


@FEW_EXAMPLES
@given(by=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_is_remembered_as_it_is(tmp_path_factory, by):
    file = tmp_path_factory.mktemp("run") / "approvals.jsonl"
    approval = Approval("p", PLAN.digest, by, "button", "now")
    remember(file, approval)
    assert given_before(file) == [approval]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"page": "p"}', '{"stranger": 1}', "\xff"])
def test_a_line_that_is_no_approval_is_an_error_that_names_it(line, tmp_path):
    file = tmp_path / "approvals.jsonl"
    remember(file, by_button(PLAN))
    with file.open("a", encoding="latin-1") as handle:
        handle.write(f"{line}\n")
    with pytest.raises(RecordError, match=r"Line 2 of .*approvals\.jsonl"):
        given_before(file)


def test_an_approval_reads_as_a_sentence():
    said = str(Approval("p", PLAN.digest, "ada", "button", "2026-03-01T12:00:00+00:00"))
    assert said == f"Plan {HEX[:12]} approved by ada (button) at 2026-03-01T12:00:00+00:00"
