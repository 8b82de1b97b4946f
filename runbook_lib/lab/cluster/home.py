"""The namespace in which the lab's own profile is deployed, with the keys of the lab's object store."""

from __future__ import annotations

from typing import Any

from runbook_lib.kube.client import Kube
from runbook_lib.lab.cluster.cluster import Cluster

__all__ = ["NAMESPACE", "SECRET", "home_manifests", "make_home", "store_secret"]

NAMESPACE = "runbook-lab"
SECRET = "lab-store"  # noqa: S105 - a name
PREFIX = "serving.kserve.io/s3-"


def make_home(cluster: Cluster) -> None:
    """Make the namespace and the Secret, or bring them up to date: ports and keys may be new."""
    kube = Kube.connect(cluster.kubeconfig)
    for one in home_manifests(cluster):
        kube.apply(one, force=True)
    kube.close()


def home_manifests(cluster: Cluster) -> list[dict[str, Any]]:
    """The namespace, then the Secret in it."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "runbook"}},
    }
    return [namespace, store_secret(cluster, SECRET, NAMESPACE)]


def store_secret(cluster: Cluster, name: str, namespace: str) -> dict[str, Any]:
    """The lab's store and its keys in the form that KServe reads."""
    about = {
        "endpoint": cluster.s3_endpoint.removeprefix("http://"),
        "usehttps": "0",
        "region": cluster.credentials.region,
        "verifyssl": "0",
        "usevirtualbucket": "0",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {f"{PREFIX}{key}": value for key, value in about.items()},
        },
        "stringData": {
            "AWS_ACCESS_KEY_ID": cluster.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": cluster.credentials.secret_key,
        },
    }
