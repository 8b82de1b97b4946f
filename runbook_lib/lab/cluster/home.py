"""The namespace in which the lab's own profile is deployed, with the keys of the lab's object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runbook_lib.kube.client import Kube
from runbook_lib.serving.triton import S3Credentials

__all__ = ["NAMESPACE", "SECRET", "home_manifests", "make_home"]

NAMESPACE = "runbook-lab"
SECRET = "lab-store"  # noqa: S105 - a name
PREFIX = "serving.kserve.io/s3-"


def make_home(kubeconfig: Path, endpoint: str, credentials: S3Credentials) -> None:
    """Make the namespace and the Secret, or bring them up to date: ports and keys may be new.

    Raises:
        RunbookError: the API server refuses it.
    """
    kube = Kube.connect(kubeconfig)
    for one in home_manifests(endpoint, credentials):
        kube.apply(one, force=True)
    kube.close()


def home_manifests(endpoint: str, credentials: S3Credentials) -> list[dict[str, Any]]:
    """The namespace, and the store with its keys in the form that KServe reads."""
    said = {
        "endpoint": endpoint.removeprefix("http://"),
        "usehttps": "0",
        "region": credentials.region,
        "verifyssl": "0",
        "usevirtualbucket": "0",
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "runbook"}},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": SECRET,
                "namespace": NAMESPACE,
                "annotations": {f"{PREFIX}{key}": value for key, value in said.items()},
            },
            "stringData": {
                "AWS_ACCESS_KEY_ID": credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            },
        },
    ]
