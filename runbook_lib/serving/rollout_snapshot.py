"""Everything that belongs to one InferenceService (or one Job), as it was at one moment.

    InferenceService ─ Deployment ─ ReplicaSet ─ Pod ─ PersistentVolumeClaim
           │               └ HorizontalPodAutoscaler
    Job ───┴─ Pod            and the events of each; the nodes; what may not be read

Values only: who reads the cluster gives the objects, and `snapshots` sorts them by owner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from runbook_lib.kube.client import Manifest

__all__ = [
    "KINDS",
    "LogKey",
    "Manifest",
    "Snapshot",
    "TargetKind",
    "containers",
    "is_ready_pod",
    "meta",
    "newest_sets",
    "owned_by",
    "snapshots",
]

TargetKind = Literal["InferenceService", "Job"]

# What is read of a namespace, and of the cluster where that is permitted.
KINDS = (
    "InferenceService",
    "Deployment",
    "ReplicaSet",
    "Pod",
    "Event",
    "HorizontalPodAutoscaler",
    "PersistentVolumeClaim",
    "Node",
    "Namespace",
)


OWNED = ("Deployment", "ReplicaSet", "Pod", "HorizontalPodAutoscaler")


@dataclass(frozen=True)
class LogKey:
    """One container's log: of the run that is, or of the one before it."""

    pod: str
    container: str
    previous: bool = False


@dataclass(frozen=True)
class Snapshot:
    """One service (or job) with all that tells of its state."""

    kind: TargetKind
    namespace: str
    name: str
    target: Manifest | None = None
    deployments: tuple[Manifest, ...] = ()
    replica_sets: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()
    autoscalers: tuple[Manifest, ...] = ()
    claims: tuple[Manifest, ...] = ()
    nodes: tuple[Manifest, ...] = ()
    namespace_labels: Mapping[str, str] | None = None
    logs: Mapping[LogKey, str] = field(default_factory=dict)
    not_permitted: tuple[str, ...] = ()
    away: str = ""

    @property
    def storage_uri(self) -> str:
        """Where the model comes from, as the service says it; empty when it says nothing."""
        predictor = (self.target or {}).get("spec", {}).get("predictor", {})
        return str(predictor.get("model", {}).get("storageUri", ""))

    @property
    def live_pods(self) -> tuple[Manifest, ...]:
        """The pods that are not being deleted, those of the newest template first."""
        newest = newest_sets(self.replica_sets)
        kept = [pod for pod in self.pods if not meta(pod).get("deletionTimestamp")]
        return tuple(sorted(kept, key=lambda pod: not _owners(pod) & newest))


def meta(manifest: Manifest) -> dict[str, Any]:
    """An object's metadata."""
    found: dict[str, Any] = manifest.get("metadata", {})
    return found


def containers(pod: Manifest) -> list[tuple[Manifest, bool]]:
    """The status of each container of a pod, and whether it is an init container."""
    status = pod.get("status", {})
    return [(one, True) for one in status.get("initContainerStatuses") or ()] + [
        (one, False) for one in status.get("containerStatuses") or ()
    ]


def is_ready_pod(pod: Manifest) -> bool:
    """Whether the kubelet calls the pod ready."""
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in pod.get("status", {}).get("conditions") or ()
    )


def owned_by(manifest: Manifest, uids: Iterable[str]) -> bool:
    """Whether one of these objects owns it."""
    return bool(_owners(manifest) & set(uids))


def snapshots(
    kind: TargetKind,
    objects: Mapping[str, Sequence[Manifest]],
    *,
    only: tuple[str, str] | None = None,
    logs: Mapping[LogKey, str] | None = None,
    not_permitted: Sequence[str] = (),
    away: str = "",
) -> list[Snapshot]:
    """Each service (or job) among the objects, with what it owns; one pass over each kind.

    Args:
        kind: what is looked at.
        objects: kind → objects, of one or all namespaces.
        only: (namespace, name) of the one that is wanted; it is given also when it is absent.
        logs: what containers said, as far as it was read.
        not_permitted: kinds that this user may not read.
        away: why the API server can't be asked now; the objects are then those known before.
    """
    index = _Index.of(objects)
    targets = {_place(one): one for one in objects.get(kind, ())}
    wanted = [only] if only is not None else sorted(targets)
    return [
        replace(
            index.around(kind, place, targets.get(place)),
            logs=logs or {},
            not_permitted=tuple(not_permitted),
            away=away,
        )
        for place in wanted
    ]


@dataclass(frozen=True)
class _Index:
    """Objects by who owns them, events by what they are about, claims by where they are."""

    by_owner: Mapping[str, list[Manifest]]
    events: Mapping[str, list[Manifest]]
    claims: Mapping[tuple[str, str], Manifest]
    labels: Mapping[str, Mapping[str, str]]
    nodes: tuple[Manifest, ...]

    @classmethod
    def of(cls, objects: Mapping[str, Sequence[Manifest]]) -> _Index:
        by_owner: dict[str, list[Manifest]] = defaultdict(list)
        for kind in OWNED:
            for manifest in objects.get(kind, ()):
                for uid in _owners(manifest):
                    by_owner[uid].append(manifest)
        events: dict[str, list[Manifest]] = defaultdict(list)
        for event in objects.get("Event", ()):
            events[str(event.get("involvedObject", {}).get("uid", ""))].append(event)
        return cls(
            by_owner,
            events,
            {_place(one): one for one in objects.get("PersistentVolumeClaim", ())},
            {
                meta(one)["name"]: meta(one).get("labels") or {}
                for one in objects.get("Namespace", ())
            },
            tuple(objects.get("Node", ())),
        )

    def around(self, kind: TargetKind, place: tuple[str, str], target: Manifest | None) -> Snapshot:
        """One target with everything below it."""
        namespace, name = place
        below = _descendants(_uid(target), self.by_owner) if target is not None else {}
        holders = (*below.get("Pod", ()), *below.get("Deployment", ()))
        mounted = ((namespace, claim) for claim in sorted(_claims_of(holders)))
        claims = tuple(self.claims[one] for one in mounted if one in self.claims)
        heard = [target, *(one for many in below.values() for one in many), *claims]
        return Snapshot(
            kind=kind,
            namespace=namespace,
            name=name,
            target=target,
            deployments=tuple(below.get("Deployment", ())),
            replica_sets=tuple(below.get("ReplicaSet", ())),
            pods=tuple(below.get("Pod", ())),
            events=tuple(event for one in heard if one for event in self.events.get(_uid(one), ())),
            autoscalers=tuple(below.get("HorizontalPodAutoscaler", ())),
            claims=claims,
            nodes=self.nodes,
            namespace_labels=self.labels.get(namespace),
        )


def _descendants(uid: str, by_owner: Mapping[str, list[Manifest]]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = defaultdict(list)
    waiting = [uid]
    while waiting:
        for child in by_owner.get(waiting.pop(), ()):
            found[str(child["kind"])].append(child)
            waiting.append(_uid(child))
    return found


def _claims_of(holders: Iterable[Manifest]) -> set[str]:
    """The names of the claims that pods or pod templates mount."""
    names = set()
    for holder in holders:
        spec = holder.get("spec", {})
        pod_spec = spec.get("template", {}).get("spec", spec)
        for volume in pod_spec.get("volumes") or ():
            names.add(str((volume.get("persistentVolumeClaim") or {}).get("claimName", "")))
    return names - {""}


def _uid(manifest: Manifest) -> str:
    return str(meta(manifest).get("uid", ""))


def _owners(manifest: Manifest) -> set[str]:
    return {str(one.get("uid", "")) for one in meta(manifest).get("ownerReferences") or ()}


def _place(manifest: Manifest) -> tuple[str, str]:
    return str(meta(manifest).get("namespace", "")), str(meta(manifest).get("name", ""))


def newest_sets(replica_sets: Iterable[Manifest]) -> set[str]:
    """The uid of the last revision of each Deployment."""
    last: dict[str, tuple[int, str]] = {}
    for one in replica_sets:
        number = meta(one).get("annotations", {}).get("deployment.kubernetes.io/revision", "0")
        for owner in _owners(one):
            last[owner] = max(last.get(owner, (-1, "")), (int(number), _uid(one)))
    return {uid for _, uid in last.values()}
