"""How every service of a namespace, or of the cluster, stands, and why.

Each kind is listed once, however many services there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from runbook_lib.kube.client import Kube
from runbook_lib.kube.errors import ApiError, explain
from runbook_lib.kube.watch import Scope, list_once
from runbook_lib.serving.rollout_causes import Cause, causes
from runbook_lib.serving.rollout_logs import Logs
from runbook_lib.serving.rollout_snapshot import KINDS, Snapshot, snapshots
from runbook_lib.serving.rollout_state import waiting_for

__all__ = ["ServiceStatus", "StatusTable", "status_table"]

IN_THE_CLUSTER = {"Node", "Namespace"}
# Logs tell more, and cost a request each: they are read where only few services are ill.
FEW = 5


@dataclass(frozen=True)
class ServiceStatus:
    """One service: its state in a few words, and what holds it up."""

    namespace: str
    name: str
    ready: bool
    state: str
    pods: str
    cause: Cause | None = None


@dataclass(frozen=True)
class StatusTable:
    """Every service that was looked at, the ill ones first; and what could not be read."""

    services: tuple[ServiceStatus, ...]
    lists: int
    not_read: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = [("namespace", "service", "state", "pods", "cause")]
        for one in self.services:
            why = f"{one.cause.title} [{one.cause.id}]" if one.cause else ""
            shown.append((one.namespace, one.name, one.state, one.pods, why))
        widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in shown
        ]
        if self.not_read:
            lines.append(f"not read: {', '.join(self.not_read)}")
        return "\n".join(lines)


def status_table(kube: Kube, namespace: str | None = None) -> StatusTable:
    """Every InferenceService of a namespace, or of all, with its state and cause. Reads only.

    Raises:
        PreflightError: the cluster does not answer, has no KServe, or the services or their
            Deployments may not be read.
    """
    scopes = [Scope(kind, None if kind in IN_THE_CLUSTER else namespace) for kind in KINDS]
    try:
        objects, unread = list_once(kube, scopes)
    except ApiError as error:
        raise explain(error, "list what belongs to the services", kube.server) from None
    for needed in ("InferenceService", "Deployment"):
        if needed in unread:
            kube.list(needed, namespace)  # the refusal, as an error that says what to do
    found = snapshots("InferenceService", objects)
    services = [_status(one) for one in _with_logs(kube, found)]
    return StatusTable(
        tuple(sorted(services, key=lambda one: (one.ready, one.namespace, one.name))),
        len(scopes),
        tuple(f"{kind} ({why})" for kind, why in unread.items()),
    )


def _with_logs(kube: Kube, found: Sequence[Snapshot]) -> list[Snapshot]:
    if sum(bool(waiting_for(one)) for one in found) > FEW:
        return list(found)
    told = []
    for one in found:
        logs = Logs(kube, one.namespace)
        logs.update(one)
        told.append(replace(one, logs=logs.read))
    return told


def _status(snapshot: Snapshot) -> ServiceStatus:
    found = causes(snapshot, datetime.now(UTC))
    waits = waiting_for(snapshot)
    wanted = sum(int(one.get("spec", {}).get("replicas", 1)) for one in snapshot.deployments)
    up = sum(int(one.get("status", {}).get("availableReplicas", 0)) for one in snapshot.deployments)
    return ServiceStatus(
        snapshot.namespace,
        snapshot.name,
        not waits,
        f"waiting for {waits}" if waits else "ready",
        f"{up}/{wanted}",
        found[0] if found else None,
    )
