"""What a change is made of: fields, a diff without the server's noise, owners, and no secret value."""

import base64

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.changes import Change
from runbook_lib.kube.apply import compare


def thing(data, kind="ConfigMap", **metadata):
    about = {"name": "a", "namespace": "n"} | metadata
    return {"apiVersion": "v1", "kind": kind, "metadata": about, "data": data}


NOISE = {
    "uid": "1",
    "resourceVersion": "7",
    "generation": 2,
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "managedFields": [{"manager": "runbook"}],
}


def test_a_new_object_is_shown_as_it_is_written():
    found = compare(thing({"k": "1"}), None, thing({"k": "1", "defaulted": "x"}, **NOISE))
    assert found.verb == "create"
    assert "+  k: '1'" in found.text
    assert "defaulted" not in found.text
    assert found.change() == Change("create", "ConfigMap n/a")


def test_what_the_server_keeps_for_itself_is_no_change():
    live = thing({"k": "1"}, **NOISE) | {"status": {"x": 1}}
    after = thing({"k": "1"}, **(NOISE | {"resourceVersion": "8"})) | {"status": {}}
    found = compare(thing({"k": "1"}), live, after)
    assert (found.verb, found.fields, found.text) == ("keep", (), "")
    assert found.change() is None


def test_a_change_names_its_fields_and_shows_both_values():
    found = compare(thing({"k": "2"}), thing({"k": "1", "old": "1"}), thing({"k": "2"}))
    assert found.fields == ("data.k", "data.old")
    assert "-  k: '1'" in found.text
    assert "+  k: '2'" in found.text
    assert found.change() == Change("change", "ConfigMap n/a", "data.k, data.old")


def test_a_list_that_keeps_its_length_is_compared_place_by_place():
    live = thing({"list": [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}]})
    after = thing({"list": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]})
    assert compare(after, live, after).fields == ("data.list[1].value",)


def test_fields_of_others_are_refused_unless_forced_whatever_else_changes():
    owned = ((".data.k", "argocd"),)
    found = compare(thing({"k": "2"}), thing({"k": "1"}), thing({"k": "2"}), owned)
    change = found.change()
    assert change.verb == "take over"
    assert ".data.k belongs to argocd" in change.detail


def test_many_fields_are_counted_and_not_all_listed():
    before, after = ({f"k{n}": text for n in range(10)} for text in ("1", "2"))
    detail = compare(thing(after), thing(before), thing(after)).change().detail
    assert detail.endswith("data.k5 and 4 more")


VALUES = st.dictionaries(
    st.sampled_from("abc"), st.text("0123456789xyz", min_size=12, max_size=20), max_size=3
)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_no_value_of_a_secret_is_ever_shown(before, after):
    def coded(data):
        return {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}

    wanted = {**thing({}, "Secret"), "stringData": after}
    for live in (None, thing(coded(before), "Secret")):
        text = repr(compare(wanted, live, thing(coded(after), "Secret")))
        secret = {*before.values(), *after.values()}
        assert not [one for one in (*secret, *coded(before | after).values()) if one in text]


def test_a_secret_still_shows_that_a_value_changed():
    live, after = (
        thing({"a": "MQ==", "b": "MQ=="}, "Secret"),
        thing({"a": "Mg==", "b": "MQ=="}, "Secret"),
    )
    assert compare(after, live, after).fields == ("data.a",)
