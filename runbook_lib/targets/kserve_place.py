"""What a profile means on one cluster: the deployment to render, where engines are built, and what to look at first."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path

from runbook_lib.artifacts import ModelRepository
from runbook_lib.changes import Check
from runbook_lib.engine.job import BuildPlace, StoreKeys
from runbook_lib.errors import RunbookError
from runbook_lib.kube.client import Kube, Manifest
from runbook_lib.lab.cluster.cluster import find_cluster
from runbook_lib.lab.lab import current
from runbook_lib.profile import DeploymentProfile
from runbook_lib.profile_kserve import KServeSettings
from runbook_lib.serving.kserve_words import find_kserve
from runbook_lib.serving.manifests import render
from runbook_lib.serving.manifests_service import gpu_resource, inference_service
from runbook_lib.serving.manifests_target import Deployment, deployment
from runbook_lib.targets.kserve_stored import identity_of

__all__ = ["checks", "intended", "kubeconfig_at_hand", "manifests_of", "store_keys", "workshop"]

ENDPOINT, HTTPS, REGION = (
    f"serving.kserve.io/s3-{name}" for name in ("endpoint", "usehttps", "region")
)
MODE = "serving.kserve.io/deploymentMode"


def kubeconfig_at_hand() -> Path | None:
    """The lab's own cluster where it is up and $KUBECONFIG names none; else what kubectl takes."""
    own = None if "KUBECONFIG" in os.environ else find_cluster(current())
    return own.kubeconfig if own else None


def settings_of(profile: DeploymentProfile) -> KServeSettings:
    """The profile's `kserve:`; the lab's own image where a lab profile names none."""
    settings = profile.kserve
    if profile.track == "lab" and not settings.image:
        own = find_cluster(current())
        return settings.model_copy(update={"image": own.images.triton if own else ""})
    return settings


def intended(
    kube: Kube, profile: DeploymentProfile, repository: ModelRepository, replicas: int
) -> Deployment:
    """What is to be deployed, in the words of this cluster's KServe.

    Raises:
        PlanError, PreflightError: it can't be; why, and what can.
    """
    settings = settings_of(profile).model_copy(
        update={"min_replicas": replicas, "max_replicas": None}
    )
    make = functools.partial(
        deployment,
        profile,
        settings,
        find_kserve(kube),
        namespace=kube.namespace,
        repository_uri=repository.uri,
        content_digest=repository.content_digest,
        repository_bytes=repository.size_bytes,
        identity=identity_of(repository),
        pod_monitors=kube.has("PodMonitor"),
        scaled_objects=kube.has("ScaledObject"),
    )
    draft = make()
    living = kube.get("InferenceService", draft.name, draft.namespace) or {}
    annotations = living.get("metadata", {}).get("annotations", {})
    return make(living_mode=annotations.get(MODE, ""))


def manifests_of(
    kube: Kube, profile: DeploymentProfile, repository: ModelRepository, replicas: int
) -> list[Manifest]:
    """Every object of a deployment; raises as `intended`."""
    return render(intended(kube, profile, repository, replicas))


def workshop(kube: Kube, profile: DeploymentProfile) -> tuple[BuildPlace, StoreKeys]:
    """Where this cluster builds the engine of a profile: as it will be served."""
    settings = settings_of(profile)
    namespace = settings.namespace or kube.namespace
    storage = kube.get("ClusterStorageContainer", "default")
    draft = deployment(profile, settings, find_kserve(kube), namespace=kube.namespace)
    predictor = inference_service(draft)["spec"]["predictor"]
    gpus = gpu_resource(draft)
    place = BuildPlace(
        namespace=namespace,
        image=draft.image,
        storage_image=storage["spec"]["container"]["image"] if storage else "",
        # The lab's node may be this very machine, full of its own pods: little is reserved there.
        cpu=settings.cpu or ("100m" if draft.lab else "4"),
        cpu_limit="2" if draft.lab else "",
        memory=settings.memory or ("1Gi" if draft.lab else "64Gi"),
        work_size="2Gi" if draft.lab else "200Gi",
        gpu_resource=gpus,
        gpu_count=profile.world_size if gpus else 0,
        node_selector=settings.node_selector,
        affinity=dict(predictor.get("affinity", {})),
        tolerations=[dict(one) for one in predictor.get("tolerations", [])],
        service_account=settings.service_account,
        image_pull_secrets=settings.image_pull_secrets,
    )
    keys = store_keys(kube, settings.storage_secret, namespace)
    return place, replace(keys, hub_secret=settings.hub_secret, hub_url=settings.hub_url)


def store_keys(kube: Kube, secret: str, namespace: str) -> StoreKeys:
    """The keys of a Secret by its name, and where its store answers, as KServe reads it from annotations."""
    if not secret:
        return StoreKeys(secret="")
    found = kube.get("Secret", secret, namespace) or {}
    said = found.get("metadata", {}).get("annotations", {})
    scheme = "https" if said.get(HTTPS, "1") == "1" else "http"
    return StoreKeys(
        secret=secret,
        endpoint=f"{scheme}://{said[ENDPOINT]}" if ENDPOINT in said else "",
        region=said.get(REGION, "us-east-1"),
    )


def checks(kube: Kube, profile: DeploymentProfile) -> list[Check]:
    """The API server, KServe, the namespace, and the Secret that opens the store."""
    settings = settings_of(profile)
    namespace = settings.namespace or kube.namespace
    found = [
        Check("cluster", "PASS", f"{kube.server}, Kubernetes {'.'.join(map(str, kube.version))}")
    ]
    try:
        kserve = find_kserve(kube)
    except RunbookError as error:
        return [*found, Check("KServe", "FAIL", error.what, error.fix)]
    found.append(Check("KServe", "PASS", f"{kserve}, known by {kserve.told_by}"))
    if settings.storage_secret:
        there = kube.get("Secret", settings.storage_secret, namespace) is not None
        name = f"{namespace}/{settings.storage_secret}"
        hint = f"kubectl create secret generic {settings.storage_secret} -n {namespace} …"
        found.append(
            Check("storage secret", "PASS" if there else "FAIL", name, "" if there else hint)
        )
    return found
