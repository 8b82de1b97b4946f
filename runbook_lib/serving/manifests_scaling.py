"""How many replicas run, and how many of them may be taken away at once.

Replicas are counted by the requests that wait, not by CPU: a GPU server's CPU says nothing of its
load. TensorRT-LLM takes every request off Triton's queue and lets it wait inside, so that Triton's
own queue time stays near nothing; its gauge of waiting requests is what grows.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.serving.manifests_target import Deployment
from runbook_lib.serving.manifests_types import PredictorAutoScaling

__all__ = [
    "autoscaler",
    "autoscaler_class",
    "disruption_budget",
    "pod_monitor",
    "predictor_autoscaling",
]

Manifest = dict[str, Any]
# By track: the gauge of requests that wait, and the label that tells them from others.
WAITING: dict[str, tuple[str, dict[str, str]]] = {
    "engine": ("nv_trt_llm_request_metrics", {"request_type": "waiting"}),
    "llmapi": ("nv_inference_pending_request_count", {}),
    "lab": ("nv_inference_pending_request_count", {}),
}


def autoscaler_class(target: Deployment) -> str:
    """KServe's word for who sets the number of replicas."""
    by = target.settings.autoscaling.by
    if by == "keda":
        return "keda"
    if by == "hpa":
        return "external"
    # Before `none` was known an autoscaler was always made; with equal bounds it holds the number.
    return "none" if target.kserve.knows("no_autoscaler") else "hpa"


def predictor_autoscaling(target: Deployment) -> PredictorAutoScaling | None:
    """KServe's block from which it makes a KEDA ScaledObject."""
    scaling = target.settings.autoscaling
    if scaling.by != "keda":
        return None
    gauge, labels = WAITING[target.profile.track]
    pods = {"namespace": target.namespace, "pod": f"~{target.name}-predictor-.*"}
    matchers = [
        f'{name}=~"{value[1:]}"' if value.startswith("~") else f'{name}="{value}"'
        for name, value in (pods | labels).items()
    ]
    metric = {
        "backend": "prometheus",
        "serverAddress": scaling.prometheus,
        "query": f"sum({gauge}{{{','.join(matchers)}}})",
    }
    # KServe hands on only `value`, as KEDA's threshold; KEDA shares all that wait among the replicas.
    target_value = {"type": "Value", "value": str(scaling.waiting_per_replica)}
    return {
        "metrics": [{"type": "External", "external": {"metric": metric, "target": target_value}}]
    }


def autoscaler(target: Deployment) -> Manifest | None:
    """An autoscaler of our own on the pods' metric: KServe's own takes only CPU and memory."""
    scaling = target.settings.autoscaling
    if scaling.by != "hpa":
        return None
    gauge, labels = WAITING[target.profile.track]
    metric: Manifest = {"name": gauge}
    if labels:
        metric["selector"] = {"matchLabels": labels}
    value = {"type": "AverageValue", "averageValue": str(scaling.waiting_per_replica)}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": dict(target.metadata()),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": f"{target.name}-predictor",
            },
            "minReplicas": target.settings.min_replicas,
            "maxReplicas": target.settings.most_replicas,
            "metrics": [{"type": "Pods", "pods": {"metric": metric, "target": value}}],
        },
    }


def disruption_budget(target: Deployment) -> Manifest | None:
    """Drained nodes take one replica at a time; a single replica gets none, it would block the drain."""
    if target.settings.most_replicas == 1:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(target.metadata()),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": target.pod_labels}},
    }


def pod_monitor(target: Deployment) -> Manifest | None:
    """Tells the Prometheus operator where each pod's metrics are, on a cluster that has it."""
    if not target.pod_monitors:
        return None
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": dict(target.metadata()),
        "spec": {
            "selector": {"matchLabels": target.pod_labels},
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
        },
    }
