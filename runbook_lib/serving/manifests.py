"""The manifests of a deployment, from its profile. Pure: no cluster, no secret value."""

from __future__ import annotations

from typing import Any

from runbook_lib.kube.text import to_yaml
from runbook_lib.serving.manifests_runtime import serving_runtime
from runbook_lib.serving.manifests_scaling import autoscaler, disruption_budget, pod_monitor
from runbook_lib.serving.manifests_service import inference_service
from runbook_lib.serving.manifests_target import Deployment

__all__ = ["explain_cache", "render", "to_yaml"]

Manifest = dict[str, Any]


def render(target: Deployment) -> list[Manifest]:
    """Every object, in the order in which they are applied: what is named stands before who names it."""
    made: list[Manifest | None] = [
        _service_account(target),
        dict(serving_runtime(target)),
        _local_cache(target),
        dict(inference_service(target)),
        autoscaler(target),
        disruption_budget(target),
        pod_monitor(target),
    ]
    return [one for one in made if one is not None]


def _service_account(target: Deployment) -> Manifest | None:
    """An account without any right; it only stands for an identity at the object store."""
    settings = target.settings
    if settings.service_account:
        return None
    identities = {
        "eks.amazonaws.com/role-arn": settings.aws_role_arn,
        "iam.gke.io/gcp-service-account": settings.gcp_service_account,
        "azure.workload.identity/client-id": settings.azure_client_id,
    }
    annotations = {name: value for name, value in identities.items() if value}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": dict(target.metadata(**annotations)),
        "automountServiceAccountToken": False,
    }


def _local_cache(target: Deployment) -> Manifest | None:
    group = target.settings.local_cache_group
    if not group:
        return None
    gibibytes = -(-target.repository_bytes // 2**30)
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        # It belongs to no namespace: the name tells whose it is.
        "metadata": {"name": f"{target.namespace}-{target.name}", "labels": target.labels},
        "spec": {
            "sourceModelUri": target.storage_uri,
            "modelSize": f"{gibibytes}Gi",
            "nodeGroups": [group],
        },
    }


def explain_cache(target: Deployment) -> str:
    """What the cache of a node group does; empty without one."""
    group = target.settings.local_cache_group
    if not group:
        return ""
    return (
        f"KServe's agent downloads {target.storage_uri} once to each node of the LocalModelNodeGroup "
        f"{group} and mounts it into the pods: a new replica there starts without a download. "
        "The cache is filled by its URI and never refreshed, so that a new engine needs a URI of its own. "
        "It needs KServe's localmodel controller and node agent, and localModel.enabled in its configuration."
    )
