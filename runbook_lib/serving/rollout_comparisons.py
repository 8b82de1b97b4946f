"""Causes that no single line tells: they show when objects are held against each other.

Each look takes a snapshot and gives the id of a rule, the lines it is seen in, and the words for
its sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runbook_lib.serving.rollout_lines import Line, clean
from runbook_lib.serving.rollout_scheduling import GPU, why_unschedulable
from runbook_lib.serving.rollout_snapshot import (
    LogKey,
    Manifest,
    Snapshot,
    containers,
    meta,
    newest_sets,
    owned_by,
)

__all__ = ["Found", "compared"]

DOWNLOADER = "storage-initializer"
STOP = "serving.kserve.io/stop"
# What KServe mounts by itself; everything else is fetched by the downloader.
MOUNTED = ("pvc://", "oci://", "oci+native://")
SILENCE = 15.0
NO_DRIVER = re.compile("NVIDIA Driver was not detected|driver version is insufficient for CUDA")


@dataclass(frozen=True)
class Found:
    """A rule that a comparison shows."""

    id: str
    lines: tuple[Line, ...]
    words: Mapping[str, str] = field(default_factory=dict)


def compared(snapshot: Snapshot, said: Sequence[Line], now: datetime) -> list[Found]:
    """Every comparison that shows something.

    Args:
        snapshot: the objects.
        said: the lines that hold.
        now: to tell a silence from a beginning.
    """
    if snapshot.target is None or snapshot.away:
        return []
    looks = [*_scheduling(snapshot, said), *_sibling(snapshot, said), *_driver(snapshot, said)]
    if snapshot.kind == "InferenceService":
        looks += [
            *_stopped(snapshot.target, snapshot.name),
            *_silent(snapshot, now),
            *_not_injected(snapshot, said),
        ]
    return looks


def _stopped(service: Manifest, name: str) -> Iterator[Found]:
    if (meta(service).get("annotations") or {}).get(STOP) == "true":
        yield Found("stopped", (Line("spec", f"InferenceService/{name}", f"{STOP}: true"),))


def _silent(snapshot: Snapshot, now: datetime) -> Iterator[Found]:
    """Nobody wrote a status, made a Deployment or told an event since the service was made."""
    target = snapshot.target or {}
    if target.get("status") or snapshot.deployments or snapshot.events:
        return
    made = str(meta(target).get("creationTimestamp") or "")
    if made and (now - _moment(made)).total_seconds() > SILENCE:
        said = f"made at {made}, and nothing was said about it since"
        yield Found(
            "controller-silent", (Line("spec", f"InferenceService/{snapshot.name}", said, made),)
        )


def _moment(stamp: str) -> datetime:
    return datetime.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


def _not_injected(snapshot: Snapshot, said: Sequence[Line]) -> Iterator[Found]:
    """A pod that should download a model and has nobody to do it."""
    uri = snapshot.storage_uri
    if not uri or uri.startswith(MOUNTED):
        return
    for pod in snapshot.live_pods:
        spec = pod.get("spec", {})
        names = [one.get("name", "") for one in spec.get("initContainers") or ()]
        mounts = [
            mount.get("mountPath", "")
            for one in spec.get("containers") or ()
            for mount in one.get("volumeMounts") or ()
        ]
        if DOWNLOADER in names or any(one.startswith("/mnt/models") for one in mounts):
            continue
        name = f"Pod/{meta(pod)['name']}"
        told = f"spec.initContainers: {', '.join(names) or 'none'}; storageUri: {uri}"
        because, label = _left_out(snapshot)
        missed = [one for one in said if one.object == name and "/mnt/models" in one.text][:1]
        shown = (Line("spec", name, told), *label, *missed)
        yield Found("storage-initializer-not-injected", shown, {"because": because})
        return


def _left_out(snapshot: Snapshot) -> tuple[str, list[Line]]:
    """Why the webhook leaves a namespace out, and the label that says so."""
    labels = snapshot.namespace_labels
    if labels is None:
        return "Whether a label of the namespace keeps the webhook out may not be read here.", []
    if "control-plane" not in labels:
        return "No label of the namespace explains it: see whether the webhook is configured.", []
    label = f"label control-plane={labels['control-plane']}"
    because = "The namespace has the label control-plane, and the webhook leaves such ones out."
    return because, [Line("spec", f"Namespace/{snapshot.namespace}", label)]


def _scheduling(snapshot: Snapshot, said: Sequence[Line]) -> Iterator[Found]:
    """The one reason among those that the scheduler tells at once."""
    # A node that is being made is worth waiting for.
    if any(line.text.startswith("TriggeredScaleUp") for line in said):
        return
    for pod in snapshot.live_pods:
        name = f"Pod/{meta(pod)['name']}"
        told = tuple(one for one in said if one.object == name and "nodes are avail" in one.text)
        # Claims have rules of their own.
        if not told or "persistentvolumeclaim" in told[0].text.lower():
            continue
        id_, words = why_unschedulable(pod, snapshot.nodes, told[0].text)
        held = _old_pod_with_gpu(snapshot, pod)
        if id_ == "gpu-in-use" and held:
            yield Found("rolling-update-deadlock", told, {**words, "old_pod": held})
        else:
            yield Found(id_, told, words)
        return


def _old_pod_with_gpu(snapshot: Snapshot, pod: Manifest) -> str:
    """A running pod of an older revision, which the strategy keeps until the new one is ready."""
    newest = newest_sets(snapshot.replica_sets)
    for deployment in snapshot.deployments:
        sets = {
            str(meta(one)["uid"])
            for one in snapshot.replica_sets
            if owned_by(one, [str(meta(deployment)["uid"])])
        }
        if not owned_by(pod, sets & newest) or not _keeps_old_pods(deployment):
            continue
        for other in snapshot.live_pods:
            placed = other.get("spec", {}).get("nodeName")
            if placed and owned_by(other, sets - newest):
                return str(meta(other)["name"])
    return ""


def _keeps_old_pods(deployment: Manifest) -> bool:
    """Whether a rolling update may take no pod away before it has a new one."""
    spec = deployment.get("spec", {})
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return False
    allowed = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
    replicas = int(spec.get("replicas", 1))
    if isinstance(allowed, str) and allowed.endswith("%"):
        return math.floor(replicas * float(allowed[:-1]) / 100) == 0
    return int(allowed) == 0


def _sibling(snapshot: Snapshot, said: Sequence[Line]) -> Iterator[Found]:
    """The downloader fetched what lies beside the repository, and the server is not well."""
    uri = snapshot.storage_uri
    if not uri or uri.endswith("/"):
        return
    own = re.escape(uri.partition("://")[2].partition("/")[2])
    stranger = re.compile(rf"Found S3 object: (?!{own}(?:/| \())(?P<key>.*)")
    for pod in snapshot.live_pods:
        ill = [one for one, init in containers(pod) if not init and not one.get("ready")]
        failed = max((int(one.get("restartCount", 0)) for one in ill), default=0)
        name = str(meta(pod)["name"])
        text = snapshot.logs.get(LogKey(name, DOWNLOADER), "")
        if failed and (found := stranger.search(text)):
            line = Line("log", f"Pod/{name}", clean(found[0]), "", failed, DOWNLOADER, init=True)
            told = [one for one in said if one.source == "log" and "poll fail" in one.text.lower()]
            yield Found("sibling-prefix", (line, *told[:1]), {"stranger": clean(found["key"])})
            return


def _driver(snapshot: Snapshot, said: Sequence[Line]) -> Iterator[Found]:
    """A server that should have a GPU says that it sees no driver; without one it is no news."""
    for pod in snapshot.live_pods:
        limits = [
            (one.get("resources") or {}).get("limits") or {}
            for one in pod.get("spec", {}).get("containers") or ()
        ]
        name = f"Pod/{meta(pod)['name']}"
        told = [one for one in said if one.object == name and NO_DRIVER.search(one.text)]
        if told and any(GPU.search(resource) for one in limits for resource in one):
            yield Found("gpu-driver", tuple(told))
            return
