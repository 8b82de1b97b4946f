import pytest

from runbook_lib.errors import ServiceError
from runbook_lib.serving.revisions import KEPT, kept_revision, manifests_before, surplus


def manifests(image):
    return [{"kind": "ServingRuntime", "spec": {"image": image}}]


def history(*images):
    known = []
    for image in images:
        known.insert(0, kept_revision("llama", "prod", manifests(image), known))
    return known


def test_the_first_deployment_is_revision_1():
    (only,) = history("a")
    assert (only["metadata"]["name"], only["revision"]) == ("llama-1", 1)
    assert only["data"]["manifests"] == manifests("a")


def test_the_same_manifests_again_are_no_new_revision():
    assert kept_revision("llama", "prod", manifests("b"), history("a", "b")) is None


def test_what_was_deployed_before_can_be_deployed_again_as_a_new_revision():
    known = history("a", "b")
    back = manifests_before("llama", known)
    assert back == manifests("a")
    assert kept_revision("llama", "prod", back, known)["revision"] == 3


@pytest.mark.parametrize("known", [[], history("a")])
def test_without_a_revision_before_nothing_is_rolled_back(known):
    with pytest.raises(ServiceError, match="no revision to go back to"):
        manifests_before("llama", known)


def test_only_the_newest_are_kept_and_numbers_go_on():
    known = history(*map(str, range(KEPT + 3)))
    assert surplus(known) == ["llama-3", "llama-2", "llama-1"]
    assert manifests_before("llama", known[::-1]) == manifests(str(KEPT + 1))
