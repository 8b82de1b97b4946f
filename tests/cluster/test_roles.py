"""Each shipped role is enough for its page, as a service account that has nothing else."""

import itertools

import pytest

from runbook_lib.errors import PreflightError, RunbookError
from runbook_lib.kube.apply import apply_all
from runbook_lib.kube.client import Kube
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving.kserve_words import find_kserve
from runbook_lib.serving.manifests import render
from runbook_lib.serving.manifests_roles import PAGE_ROLES, ROLES, role_manifests
from runbook_lib.serving.manifests_target import deployment
from runbook_lib.serving.rollout_status import status_table

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "script"}, "data": {}}
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "build"},
    "spec": {
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}
        }
    },
}


@pytest.fixture(scope="module")
def admin(cluster):
    return Kube.connect(cluster.kubeconfig)


@pytest.fixture
def acting(sign_in, module_namespace, request):
    """A connection as a service account that has the named roles and nothing else."""
    count = itertools.count()

    def make(*names):
        test = request.node.name.replace("_", "-")[:30].strip("-").lower()
        account = f"{test}-{next(count)}"
        secret = module_namespace.secret
        return Kube.connect(sign_in(account, names, str(module_namespace), secret))

    return make


def refused(action):
    """That the API server lets somebody not do it; who, what and where is told."""
    with pytest.raises(PreflightError, match=r"^system:serviceaccount:\S+ may not ") as refusal:
        action()
    return refusal.value


def deployment_of(kube, namespace):
    profile = DeploymentProfile.model_validate(
        {
            "model_name": "roles",
            "kserve": {
                "min_replicas": 1,
                "max_replicas": 2,
                "autoscaling": {"by": "hpa"},
                "node_selector": {"no": "node"},
            },
        }
    )
    return render(deployment(profile, profile.kserve, find_kserve(kube), namespace=str(namespace)))


def test_planning_reads_and_changes_nothing(acting, module_namespace):
    kube = acting(*PAGE_ROLES["00_plan"])
    assert kube.version >= (1, 28)
    assert find_kserve(kube).version >= (0, 15)
    assert kube.list("Node")
    table = status_table(kube, str(module_namespace))
    assert table.not_read == ()
    refused(lambda: kube.apply(CONFIG_MAP, dry_run=True))
    refused(lambda: kube.get("Secret", module_namespace.secret))
    refused(lambda: kube.list("Pod", "kube-system"))
    refused(lambda: kube.delete("InferenceService", "any"))


def test_deploying_makes_changes_and_removes_a_service_and_touches_nothing_else(
    acting, module_namespace
):
    kube = acting(*PAGE_ROLES["03_deploy"])
    manifests = deployment_of(kube, module_namespace)
    try:
        apply_all(kube, manifests)
        assert kube.get("Secret", module_namespace.secret) is not None
        refused(lambda: kube.get("Secret", "another"))
        refused(lambda: kube.list("Secret"))
        refused(lambda: kube.apply(JOB, dry_run=True))
        refused(lambda: kube.delete("Pod", "any"))
        refused(
            lambda: kube.apply(manifests[0] | {"metadata": {"name": "a", "namespace": "default"}})
        )
    finally:
        removed = [kube.delete(one["kind"], one["metadata"]["name"]) for one in reversed(manifests)]
    assert all(removed)


def test_building_runs_a_job_and_deploys_nothing(acting, module_namespace):
    kube = acting(*PAGE_ROLES["01_build_engine"])
    apply_all(kube, [CONFIG_MAP, JOB])
    assert kube.get("Job", "build") is not None
    assert kube.delete("Job", "build")
    assert kube.delete("ConfigMap", "script")
    for manifest in deployment_of(kube, module_namespace):
        refused(lambda one=manifest: kube.apply(one, dry_run=True))


def test_measuring_reaches_pods_and_changes_nothing(acting, module_namespace):
    kube = acting(*PAGE_ROLES["04_benchmark"])
    path = kube.resource("Pod").path(str(module_namespace), "none")
    # It may ask, and is told that there is no such pod.
    with pytest.raises(Exception, match="not found"):
        kube.websocket(f"{path}/portforward", {"ports": 80})
    refused(lambda: kube.apply(deployment_of(kube, module_namespace)[1], dry_run=True))


def test_without_any_role_the_missing_right_names_the_file_that_gives_it(acting, module_namespace):
    kube = acting()
    error = refused(lambda: kube.list("Pod"))
    assert f"may not list pods in the namespace {module_namespace}" in error.what
    assert f"kubectl apply -n {module_namespace} -f " in error.fix
    assert "roles/read.yaml" in error.fix
    error = refused(lambda: kube.apply(deployment_of(kube, module_namespace)[0]))
    assert "roles/deploy.yaml" in error.fix
    error = refused(lambda: kube.list("Node"))
    assert "in the whole cluster" in error.what
    assert "roles/cluster.yaml" in error.fix


def test_the_servers_own_schema_tells_kserve_to_whoever_is_signed_in(acting):
    assert find_kserve(acting()).told_by.startswith("its InferenceService has")


def test_the_local_cache_needs_its_own_role(acting, module_namespace):
    cache = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "metadata": {"name": "roles-test"},
        "spec": {"sourceModelUri": "s3://m/a", "modelSize": "1Gi", "nodeGroups": ["none"]},
    }
    refused(lambda: acting(*PAGE_ROLES["03_deploy"]).apply(cache, dry_run=True))
    try:
        acting("cache").apply(cache, dry_run=True)
    except RunbookError as error:
        # Allowed to ask; whether the group is there is another matter.
        assert "may not" not in error.what  # noqa: PT017


def test_every_role_is_taken_by_the_server(admin, module_namespace):
    roles = role_manifests(ROLES, str(module_namespace), storage_secret="models-s3")
    assert len(roles) == len(ROLES)
    for role in roles:
        assert admin.apply(role, dry_run=True)["rules"] == role["rules"]
