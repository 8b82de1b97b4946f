"""The InferenceService of a deployment: where its pods run, what they get, how they are replaced."""

from __future__ import annotations

from runbook_lib.artifacts import digest_of
from runbook_lib.hardware import gpu
from runbook_lib.serving.manifests_runtime import (
    ENDPOINT_LAG_SECONDS,
    FORMAT,
    METRICS_PORT,
    serving_runtime,
)
from runbook_lib.serving.manifests_scaling import autoscaler_class, predictor_autoscaling
from runbook_lib.serving.manifests_target import Deployment
from runbook_lib.serving.manifests_types import (
    Affinity,
    Expression,
    InferenceService,
    Model,
    Predictor,
    Resources,
    Strategy,
    TolerationEntry,
)

__all__ = ["gpu_resource", "inference_service", "node_affinity", "resources"]

SMALLEST, LARGEST = 0.85, 1.25  # of a GPU's nominal memory, what its node's label may say
GPU_TAINT: TolerationEntry = {"key": "nvidia.com/gpu", "operator": "Exists"}
STRATEGIES: dict[str, Strategy] = {
    "recreate": {"type": "Recreate"},
    "in_place": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    "surge": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
}


def inference_service(target: Deployment) -> InferenceService:
    """The service itself."""
    annotations = {
        "serving.kserve.io/deploymentMode": target.mode,
        "serving.kserve.io/autoscalerClass": autoscaler_class(target),
    }
    if target.settings.storage_secret:
        annotations["serving.kserve.io/storageSecretName"] = target.settings.storage_secret
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": target.metadata(**annotations),
        "spec": {"predictor": _predictor(target)},
    }


def _predictor(target: Deployment) -> Predictor:
    settings = target.settings
    made: Predictor = {
        "annotations": _pod_annotations(target),
        "minReplicas": settings.min_replicas,
        "maxReplicas": settings.most_replicas,
        "timeout": settings.request_seconds,
        "deploymentStrategy": STRATEGIES[target.strategy],
        "terminationGracePeriodSeconds": ENDPOINT_LAG_SECONDS + settings.drain_seconds + 10,
        "serviceAccountName": target.service_account,
        "automountServiceAccountToken": False,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": target.pod_labels},
            }
        ],
        "model": _model(target),
    }
    if settings.azure_client_id:
        made["labels"] = {"azure.workload.identity/use": "true"}
    if settings.image_pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if settings.node_selector:
        made["nodeSelector"] = dict(settings.node_selector)
    if affinity := node_affinity(target):
        made["affinity"] = affinity
    if tolerations := _tolerations(target):
        made["tolerations"] = tolerations
    if scaling := predictor_autoscaling(target):
        made["autoScaling"] = scaling
    return made


def _pod_annotations(target: Deployment) -> dict[str, str]:
    """What makes another runtime, or a new content under an old URI, a new pod; and where metrics are."""
    # KServe's status does not tell whether a change of the runtime was taken over; the pods then do.
    made = {"runbook/runtime-digest": digest_of(serving_runtime(target)["spec"])}
    if target.content_digest:
        made["runbook/repository-digest"] = target.content_digest
    if not target.pod_monitors:
        made |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(METRICS_PORT),
            "prometheus.io/path": "/metrics",
        }
    return made


def _model(target: Deployment) -> Model:
    env = target.profile.serving_env() | {
        "MODEL_REPOSITORY": target.storage_uri.rstrip("/"),
        "STREAMING": str(target.profile.streaming).lower(),
    }
    return {
        "modelFormat": {"name": FORMAT},
        "runtime": target.name,
        "protocolVersion": "v2",
        "storageUri": target.storage_uri,
        "env": [{"name": name, "value": value} for name, value in sorted(env.items())],
        "resources": resources(target),
    }


def gpu_resource(target: Deployment) -> str:
    """The name that a GPU, or a slice of one, is asked for by; empty in the lab."""
    if target.settings.gpu_resource:
        return target.settings.gpu_resource
    if target.lab:
        return ""
    whole, _, part = (target.profile.gpu or "").partition(":")
    if part and target.settings.mig_strategy == "mixed":
        return gpu(whole).slice(part).resource
    return "nvidia.com/gpu"


def resources(target: Deployment) -> Resources:
    """Memory is asked for as it is limited, so that no neighbour can take what the engine needs."""
    ranks = target.profile.world_size
    cpu = target.settings.cpu or ("500m" if target.lab else str(4 * ranks))
    memory = target.settings.memory or ("1Gi" if target.lab else f"{32 * ranks}Gi")
    made: Resources = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}
    if name := gpu_resource(target):
        made["requests"][name] = made["limits"][name] = str(ranks)
    return made


def node_affinity(target: Deployment) -> Affinity | None:
    """Only nodes whose GPU is the engine's, by the labels of GPU feature discovery."""
    conditions = _sm_conditions(target) + _memory_conditions(target)
    if not conditions:
        return None
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": conditions}]
            }
        }
    }


def _sm_conditions(target: Deployment) -> list[Expression]:
    if target.lab:
        return []
    name = target.profile.gpu
    sm = target.identity.sm if target.identity else ""
    if not sm and name:
        sm = gpu(name.partition(":")[0]).sm
    if not sm:
        return []
    digits = sm.removeprefix("sm")
    return [
        {"key": "nvidia.com/gpu.compute.major", "operator": "In", "values": [digits[:-1]]},
        {"key": "nvidia.com/gpu.compute.minor", "operator": "In", "values": [digits[-1]]},
    ]


def _memory_conditions(target: Deployment) -> list[Expression]:
    """Tell a whole GPU from a smaller one, and from a slice that is offered under the same name."""
    if target.lab or not target.profile.gpu:
        return []
    whole, _, part = target.profile.gpu.partition(":")
    if part and target.settings.mig_strategy == "mixed":
        return []  # the slice's own resource name tells it; the label speaks of the whole GPU
    found = gpu(whole)
    mebibytes = (found.slice(part).memory_bytes if part else found.memory_bytes) / 2**20
    least = str(int(mebibytes * SMALLEST))
    made: list[Expression] = [{"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": [least]}]
    if part:
        most = str(int(mebibytes * LARGEST))
        made.append({"key": "nvidia.com/gpu.memory", "operator": "Lt", "values": [most]})
        made.append({"key": "nvidia.com/mig.strategy", "operator": "In", "values": ["single"]})
    return made


def _tolerations(target: Deployment) -> list[TolerationEntry]:
    given = target.settings.tolerations
    if given is None:
        return [] if target.lab else [GPU_TAINT]
    made: list[TolerationEntry] = []
    for one in given:
        entry: TolerationEntry = {"operator": one.operator}
        if one.key:
            entry["key"] = one.key
        if one.value:
            entry["value"] = one.value
        if one.effect:
            entry["effect"] = one.effect
        made.append(entry)
    return made
