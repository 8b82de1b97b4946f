"""The shipped roles: no wildcard, no Secret but the one, and enough for what is rendered."""

import pytest
import yaml

from runbook_lib.kube.kinds import KINDS
from runbook_lib.parameters import PAGES
from runbook_lib.serving.manifests_roles import FOLDER, PAGE_ROLES, ROLES, bindings, role_manifests

ALL = role_manifests(ROLES, "ml-prod", storage_secret="keys")
PLURALS = {(row.group, row.plural) for row in KINDS.values()}


def rules(roles):
    return [rule for role in roles for rule in role["rules"]]


def test_every_shipped_file_is_a_role_that_is_known():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ROLES)
    assert [role["metadata"]["name"] for role in ALL] == [f"runbook-{name}" for name in ROLES]


def test_every_page_has_its_roles():
    assert set(PAGE_ROLES) == {page.name for page in PAGES}


def test_no_role_gives_everything_of_anything():
    for rule in rules(ALL):
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


def test_every_right_is_for_a_kind_that_we_touch():
    for rule in rules(ALL):
        for group in rule["apiGroups"]:
            for one in rule["resources"]:
                assert (group, one.partition("/")[0]) in PLURALS


def test_only_the_one_secret_is_read_and_only_where_one_is_named():
    found = [rule for rule in rules(ALL) if "secrets" in rule["resources"]]
    assert found == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["keys"], "verbs": ["get"]}
    ]
    assert "runbook-secret" not in {
        role["metadata"]["name"] for role in role_manifests(ROLES, "ml-prod")
    }


@pytest.mark.parametrize("page", ["00_plan", "04_benchmark", "06_troubleshoot"])
def test_pages_that_change_nothing_may_change_nothing(page):
    for rule in rules(role_manifests(PAGE_ROLES[page], "n", storage_secret="keys")):
        if rule["resources"] != ["pods/portforward"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}


def test_a_namespaced_role_is_bound_in_its_namespace_and_a_cluster_role_under_a_name_of_its_own():
    made = bindings(ALL, "ml-prod", "deployer")
    for role, binding in zip(ALL, made, strict=True):
        assert binding["kind"] == f"{role['kind']}Binding"
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        inside = binding["metadata"].get("namespace")
        assert inside == ("ml-prod" if role["kind"] == "Role" else None)
    assert len({(one["kind"], one["metadata"]["name"]) for one in made}) == len(made)


def test_the_files_can_be_applied_as_they_are():
    for path in FOLDER.glob("*.yaml"):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert said["apiVersion"] == "rbac.authorization.k8s.io/v1"
        assert "namespace" not in said["metadata"]
