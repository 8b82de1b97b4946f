import base64
import logging
import secrets
import time
from dataclasses import dataclass

import pytest
import yaml

from runbook_lib.errors import PreflightError
from runbook_lib.kube.apply import apply_all
from runbook_lib.kube.client import Kube
from runbook_lib.lab.cluster import cluster as clusters
from runbook_lib.lab.cluster.system import check_system
from runbook_lib.lab.lab import Lab, current
from runbook_lib.serving.manifests_roles import bindings, role_manifests
from runbook_lib.serving.supervise import Owner

SERVICE_ACCOUNT = "models"
GONE_SECONDS = 120


def pytest_collection_modifyitems(items):
    """The first test of a cluster waits for its build: minutes, where nothing is built yet."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()) and not item.get_closest_marker(
            "timeout"
        ):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def able():
    """This machine can run a cluster; elsewhere its tests are skipped, with the reason in one line."""
    try:
        check_system()
    except PreflightError as error:
        pytest.skip(f"{error.what} {error.fix}")


@pytest.fixture(scope="session")
def cluster(able):
    """The cluster of the lab at hand where it is up, else one of these tests' own, which ends with them."""
    if (known := clusters.find_cluster(current())) is not None:
        yield known
        return
    lab = Lab("cluster-tests", Owner.this_process())
    try:
        yield clusters.up(lab, on_line=logging.getLogger(__name__).info)
    finally:
        lab.down()


@dataclass(frozen=True)
class Namespace:
    """A namespace of one test's own, with the object store's keys behind a service account."""

    name: str
    service_account: str
    secret: str

    def __str__(self):
        return self.name


@pytest.fixture
def namespace(cluster):
    """A fresh namespace whose service account may read the cluster's object store."""
    made = make_namespace(cluster)
    yield made
    delete_namespace(cluster, made)


@pytest.fixture(scope="module")
def module_namespace(cluster):
    """As `namespace`, for all tests of a module."""
    made = make_namespace(cluster)
    yield made
    delete_namespace(cluster, made)


@pytest.fixture(scope="module")
def sign_in(cluster, tmp_path_factory):
    """A kubeconfig of a service account that has the named roles and nothing else."""
    admin, undo = Kube.connect(cluster.kubeconfig), []

    def make(account, names, namespace, secret):
        about = {"name": account, "namespace": namespace}
        made = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about}]
        roles = role_manifests(names, namespace, storage_secret=secret)
        bound = bindings(roles, namespace, account)
        apply_all(admin, made + roles + bound)
        undo.extend([*bound, *roles, *made])
        path = admin.resource("ServiceAccount").path(namespace, account)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = admin.call("POST", f"{path}/token", None, asked)["status"]["token"]
        return kubeconfig(cluster, token, namespace, tmp_path_factory.mktemp("account"))

    yield make
    for one in undo:
        admin.delete(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
    admin.close()


def kubeconfig(cluster, token, namespace, folder):
    """The cluster's kubeconfig, with another user in it."""
    said = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    said["users"] = [{"name": "page", "user": {"token": token}}]
    for one in said["contexts"]:
        one["context"] |= {"user": "page", "namespace": namespace}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return path


def make_namespace(cluster):
    name = f"test-{secrets.token_hex(4)}"
    api = cluster.api
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    keys = {
        "AWS_ACCESS_KEY_ID": cluster.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.credentials.secret_key,
    }
    words = {
        "s3-endpoint": cluster.s3_endpoint.removeprefix("http://"),
        "s3-usehttps": "0",
        "s3-region": "us-east-1",
        "s3-usevirtualbucket": "0",
    }
    secret = {
        "metadata": {
            "name": "models-s3",
            "annotations": {f"serving.kserve.io/{key}": value for key, value in words.items()},
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()},
    }
    api.create(f"/api/v1/namespaces/{name}/secrets", secret)
    account = {"metadata": {"name": SERVICE_ACCOUNT}, "secrets": [{"name": "models-s3"}]}
    api.create(f"/api/v1/namespaces/{name}/serviceaccounts", account)
    return Namespace(name, SERVICE_ACCOUNT, "models-s3")


def delete_namespace(cluster, made):
    """Until it is gone: a pod on its way out still holds the node's only GPU."""
    path = f"/api/v1/namespaces/{made}"
    status, _ = cluster.api.ask("DELETE", path)
    assert status in {200, 202}
    cluster.api.ask("DELETE", f"{path}/pods?gracePeriodSeconds=1")  # nobody waits for their answers
    deadline = time.monotonic() + GONE_SECONDS
    while (status := cluster.api.ask("GET", path)[0]) != 404:
        assert time.monotonic() < deadline, f"{made} is still there: {status}"
        time.sleep(0.3)
