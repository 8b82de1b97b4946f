import base64
import logging
import secrets
import time
from dataclasses import dataclass

import pytest

from runbook_lib.errors import PreflightError
from runbook_lib.lab.cluster import cluster as clusters
from runbook_lib.lab.cluster.system import check_system
from runbook_lib.lab.lab import Lab, current
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
