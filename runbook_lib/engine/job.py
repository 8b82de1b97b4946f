"""An engine build as a Kubernetes Job: the manifests, decided from values alone.

    init   weights         fetches the checkpoint (not where a volume claim holds it)
    init   one a step      the commands of the build, in the serving image, on the serving GPU
    main   upload          stores the engine by digest, the manifest last

The Job's name is a digest of everything in it: the same build has the same name, so that a second
run finds the first one's Job, and another build never meets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.engine.job_containers import fetching, storing, volumes, working
from runbook_lib.engine.job_order import (
    ENGINE,
    WEIGHTS,
    WORK,
    BuildOrder,
    BuildPlace,
    StoreKeys,
    label_of,
)
from runbook_lib.values import digest_of

__all__ = [
    "ENGINE",
    "WEIGHTS",
    "WORK",
    "BuildOrder",
    "BuildPlace",
    "Manifest",
    "StoreKeys",
    "build_job",
]

Manifest = dict[str, Any]

SCRIPTS = Path(__file__).parent / "job_scripts"
USER = 1000


def build_job(
    order: BuildOrder,
    place: BuildPlace,
    keys: StoreKeys,
    *,
    retries: int = 0,
    deadline: int = 6 * 3600,
    ttl: int = 24 * 3600,
) -> list[Manifest]:
    """The ConfigMap with the Job's programs, and the Job.

    Args:
        order: what is built.
        place: where.
        keys: the credentials that it takes, by name.
        retries: how many more pods may try when one failed.
        deadline: seconds after which Kubernetes ends the Job.
        ttl: seconds after its end at which Kubernetes deletes it, with its logs.

    Raises:
        ProfileError: a URI or a step means nothing; every problem at once.
    """
    order.check()
    bounds = {
        "backoffLimit": retries,
        "activeDeadlineSeconds": deadline,
        "ttlSecondsAfterFinished": ttl,
    }
    stem = f"build-{label_of(order.model)}"
    draft = _manifests(stem, order, place, keys, bounds)
    key = digest_of(draft).removeprefix("sha256:")[:12]
    return _manifests(f"{stem}-{key}", order, place, keys, bounds)


def _manifests(
    name: str,
    order: BuildOrder,
    place: BuildPlace,
    keys: StoreKeys,
    bounds: Mapping[str, int],
) -> list[Manifest]:
    labels = {
        "app.kubernetes.io/name": label_of(order.model),
        "app.kubernetes.io/component": "engine-build",
        "app.kubernetes.io/managed-by": "runbook",
    }
    about = {
        "name": name,
        "namespace": place.namespace,
        "labels": labels,
        "annotations": {"runbook/inputs": order.inputs, "runbook/result": order.result},
    }
    programs = {path.name: path.read_text("utf-8") for path in sorted(SCRIPTS.glob("[!_]*.py"))}
    template = {"metadata": {"labels": labels}, "spec": _pod(name, order, place, keys)}
    # The pod before must have ended: two in one work folder would spoil each other's files.
    spec = {**bounds, "podReplacementPolicy": "Failed", "template": template}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": about,
            "immutable": True,
            "data": programs,
        },
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec},
    ]


def _pod(name: str, order: BuildOrder, place: BuildPlace, keys: StoreKeys) -> Manifest:
    chosen: Manifest = {
        "serviceAccountName": place.service_account,
        "imagePullSecrets": [{"name": one} for one in place.image_pull_secrets],
        "nodeSelector": dict(place.node_selector),
        "affinity": dict(place.affinity),
        "tolerations": [dict(one) for one in place.tolerations],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **{key: value for key, value in chosen.items() if value},
        "initContainers": [*fetching(order, place, keys, name), *working(order, place, name)],
        "containers": [storing(order, place, keys, name)],
        "volumes": volumes(order, place, name),
    }
