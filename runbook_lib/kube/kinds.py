"""The kinds of objects that the runbooks touch, and where the API server keeps them.

A fixed table instead of discovery: one request an object, and no right to look around is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

__all__ = ["KINDS", "Resource", "resource"]


@dataclass(frozen=True)
class Resource:
    """One kind: its group, version, plural, and whether it lives in a namespace."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What a manifest writes as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path below which the group's version answers."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The path of one object, or of all; without a namespace those of every namespace."""
        inside = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"{self.root}{inside}/{self.plural}{tail}"


def _table() -> dict[str, Resource]:
    rows = (
        ("", "v1", "Pod ConfigMap Secret Service ServiceAccount Event"),
        ("", "v1", "PersistentVolumeClaim ResourceQuota LimitRange"),
        ("", "v1", "*Node *Namespace *PersistentVolume"),
        ("apps", "v1", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"),
        ("batch", "v1", "Job"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ("policy", "v1", "PodDisruptionBudget"),
        ("coordination.k8s.io", "v1", "Lease"),
        ("discovery.k8s.io", "v1", "EndpointSlice"),
        ("networking.k8s.io", "v1", "NetworkPolicy=networkpolicies Ingress=ingresses"),
        (
            "rbac.authorization.k8s.io",
            "v1",
            "Role RoleBinding *ClusterRole *ClusterRoleBinding",
        ),
        (
            "admissionregistration.k8s.io",
            "v1",
            "*MutatingWebhookConfiguration *ValidatingWebhookConfiguration",
        ),
        ("apiextensions.k8s.io", "v1", "*CustomResourceDefinition"),
        ("scheduling.k8s.io", "v1", "*PriorityClass=priorityclasses"),
        ("serving.kserve.io", "v1beta1", "InferenceService"),
        ("serving.kserve.io", "v1alpha1", "ServingRuntime *ClusterServingRuntime"),
        ("serving.kserve.io", "v1alpha1", "*ClusterStorageContainer *LocalModelCache"),
        ("serving.kserve.io", "v1alpha1", "*LocalModelNodeGroup"),
        ("keda.sh", "v1alpha1", "ScaledObject"),
        ("monitoring.coreos.com", "v1", "PodMonitor"),
    )
    table = {}
    for group, version, words in rows:
        for word in words.split():
            kind, _, plural = word.lstrip("*").partition("=")
            plural = plural or f"{kind.lower()}s"
            table[kind] = Resource(kind, group, version, plural, not word.startswith("*"))
    return table


KINDS: Mapping[str, Resource] = _table()


def resource(kind: str) -> Resource:
    """The row of a kind; a kind that isn't in the table is a mistake of the caller."""
    return KINDS[kind]
