"""How far a rollout is: ready, or what it waits for; and the rows of its table.

"Ready" is more than KServe's word: its status keeps saying Ready while a new revision can't
start, after a change it has not yet taken over, and after one that it has refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runbook_lib.serving.rollout_scheduling import quantity
from runbook_lib.serving.rollout_snapshot import (
    Manifest,
    Snapshot,
    containers,
    is_ready_pod,
    meta,
)

__all__ = ["Row", "condition_of", "failed_job", "rows", "waiting_for"]

SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
CACHED = "internal.serving.kserve.io/localmodel"
STOP = "serving.kserve.io/stop"
KNATIVE = {"Serverless", "Knative"}
# Written by the machinery itself, or kept back by KServe on the way to the pod.
NOT_HANDED_ON = ("kserve.io/", "knative.dev/", "kubernetes.io/")


@dataclass(frozen=True)
class Row:
    """One object of a rollout: what it is, how it is, since how many seconds, and why."""

    object: str
    state: str
    seconds: int
    cause: str = ""


def waiting_for(snapshot: Snapshot) -> str:
    """What the rollout still waits for; empty when it is done."""
    if snapshot.away:
        return "the API server to answer"
    if snapshot.target is None:
        return f"{snapshot.kind} {snapshot.name} to exist"
    if meta(snapshot.target).get("deletionTimestamp"):
        return f"{snapshot.kind} {snapshot.name} to be gone: it is being deleted"
    if snapshot.kind == "Job":
        return _job_waits_for(snapshot.target)
    return _service_waits_for(snapshot.target, snapshot.deployments)


def _service_waits_for(service: Manifest, deployments: Sequence[Manifest]) -> str:
    status = service.get("status", {})
    if (meta(service).get("annotations") or {}).get(STOP) == "true":
        return f"the annotation {STOP} to be removed: the service is stopped"
    if status.get("modelStatus", {}).get("transitionStatus") == "InvalidSpec":
        return "a specification that KServe accepts"
    if status.get("deploymentMode") not in KNATIVE:
        if not deployments:
            return "KServe's controller to make the Deployment"
        for deployment in deployments:
            if waits := _deployment_waits_for(service, deployment):
                return waits
    ready = condition_of(service, "Ready").get("status") == "True"
    return "" if ready else "KServe's controller to call the service Ready"


def condition_of(manifest: Manifest, kind: str) -> Manifest:
    """An object's condition of that type; empty when it has none."""
    conditions: Sequence[Manifest] = manifest.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def failed_job(snapshot: Snapshot) -> bool:
    """Whether the job has ended for good without having done its work."""
    target = snapshot.target if snapshot.kind == "Job" else None
    return bool(target) and condition_of(target or {}, "Failed").get("status") == "True"


def _job_waits_for(job: Manifest) -> str:
    if condition_of(job, "Complete").get("status") == "True":
        return ""
    if condition_of(job, "Failed").get("status") == "True":
        return "nothing: the job has failed"
    status = job.get("status", {})
    return f"its pod ({status.get('active', 0)} active, {status.get('failed', 0)} failed)"


def _deployment_waits_for(service: Manifest, deployment: Manifest) -> str:
    name = f"Deployment {meta(deployment)['name']}"
    if not _taken_over(service, deployment):
        return f"KServe's controller to take the change over into {name}"
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < meta(deployment).get("generation", 0):
        return f"the controller of {name}"
    wanted = deployment.get("spec", {}).get("replicas", 1)
    if (new := status.get("updatedReplicas", 0)) < wanted:
        return f"{wanted - new} of {wanted} new pods of {name} to be made"
    if (up := status.get("availableReplicas", 0)) < wanted:
        return f"{wanted - up} of {wanted} pods of {name} to be ready"
    if (old := status.get("replicas", 0) - new) > 0:
        return f"{old} old pods of {name} to end"
    return ""


def _taken_over(service: Manifest, deployment: Manifest) -> bool:
    """Whether the Deployment carries what the service asks for now.

    The service's own `observedGeneration` can't tell: KServe copies the Deployment's into it.
    """
    predictor = service.get("spec", {}).get("predictor", {})
    spec = deployment.get("spec", {})
    if not meta(deployment).get("name", "").endswith("-predictor"):
        return True
    if spec.get("replicas", 1) < (predictor.get("minReplicas") or 0):
        return False
    template = spec.get("template", {})
    notes = template.get("metadata", {}).get("annotations", {})
    handed_on = {
        key: text
        for key, text in (predictor.get("annotations") or {}).items()
        if not any(part in key for part in NOT_HANDED_ON)
    }
    asked = predictor.get("model") or {}
    uri = asked.get("storageUri")
    cached = CACHED in (meta(service).get("labels") or {})
    if uri and not cached and not uri.startswith(("pvc:", "oci")) and notes.get(SOURCE_URI) != uri:
        return False
    if not handed_on.items() <= notes.items():
        return False
    if not (predictor.get("nodeSelector") or {}).items() <= _pod(template, "nodeSelector").items():
        return False
    return _carried(asked, _serving_container(template))


def _pod(template: Manifest, key: str) -> dict[str, Any]:
    found: dict[str, Any] = template.get("spec", {}).get(key) or {}
    return found


def _serving_container(template: Manifest) -> Manifest:
    every: list[Manifest] = template.get("spec", {}).get("containers") or [{}]
    return next((one for one in every if one.get("name") == "kserve-container"), every[0])


def _carried(asked: Manifest, container: Manifest) -> bool:
    """KServe puts a service's arguments behind the runtime's, and its variables among them."""
    if asked.get("image") not in {None, "", container.get("image")}:
        return False
    # A placeholder was filled in on the way.
    args = [one for one in asked.get("args") or () if "{{" not in one]
    env = {one["name"]: one.get("value") for one in container.get("env") or ()}
    wished = {one["name"]: one["value"] for one in asked.get("env") or () if one.get("value")}
    if not (set(args) <= set(container.get("args") or ()) and wished.items() <= env.items()):
        return False
    has = container.get("resources") or {}
    return all(
        name in (has.get(side) or {}) and quantity(has[side][name]) == quantity(amount)
        for side in ("limits", "requests")
        for name, amount in ((asked.get("resources") or {}).get(side) or {}).items()
    )


def rows(snapshot: Snapshot, why: dict[str, str], now: datetime) -> list[Row]:
    """The live table: the service, its Deployments and its pods.

    Args:
        snapshot: how things are.
        why: object → the title of the cause that was seen there.
        now: to tell since when.
    """
    return [
        Row(name, state, _age(since, now), why.get(name, ""))
        for name, state, since in _states(snapshot)
    ]


def _states(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    name = f"{snapshot.kind}/{snapshot.name}"
    waits = waiting_for(snapshot)
    target = snapshot.target or {}
    yield (
        name,
        f"waiting for {waits}" if waits else "ready",
        meta(target).get("creationTimestamp", ""),
    )
    for one in snapshot.deployments:
        status, wanted = one.get("status", {}), one.get("spec", {}).get("replicas", 1)
        said = f"{status.get('availableReplicas', 0)} of {wanted} available"
        yield f"Deployment/{meta(one)['name']}", said, meta(one).get("creationTimestamp", "")
    for pod in snapshot.pods:
        yield f"Pod/{meta(pod)['name']}", _pod_state(pod), meta(pod).get("creationTimestamp", "")


def _pod_state(pod: Manifest) -> str:
    """A pod's state as people know it from kubectl, with the container that it hangs on."""
    status = pod.get("status", {})
    if meta(pod).get("deletionTimestamp"):
        return "ending"
    if status.get("phase") in {"Failed", "Succeeded"}:
        return str(status.get("reason") or status["phase"])
    if condition_of(pod, "PodScheduled").get("status") == "False":
        return "not scheduled"
    for one, init in containers(pod):
        state = one.get("state", {})
        if init and (state.get("terminated") or {}).get("exitCode") == 0:
            continue
        if not init and one.get("ready"):
            continue
        for kind in ("waiting", "terminated"):
            if kind in state:
                return f"{one['name']}: {state[kind].get('reason', kind)}"
        return f"{one['name']}: {'running' if init else 'running, not ready'}"
    return "ready" if is_ready_pod(pod) else str(status.get("phase", "Pending"))


def _age(since: str, now: datetime) -> int:
    if not since:
        return 0
    then = datetime.strptime(since[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return max(0, round((now - then).total_seconds()))
