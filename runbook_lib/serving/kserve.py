"""An InferenceService over its life: deployed, rolled back, removed. Acts on the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from runbook_lib.errors import RolloutError, ServiceError
from runbook_lib.kube.apply import apply_all
from runbook_lib.kube.client import Kube, Manifest
from runbook_lib.serving.revisions import LABEL, kept_revision, manifests_before, surplus
from runbook_lib.serving.rollout import Rollout, Table, wait_ready
from runbook_lib.serving.rollout_causes import cause_of_refusal

__all__ = ["deploy", "pods_of", "refusal_named", "roll_back", "undeploy"]

ISVC = "serving.kserve.io/inferenceservice"
OnLine = Callable[[str], None]


def deploy(
    kube: Kube,
    service: str,
    namespace: str,
    manifests: Sequence[Manifest],
    *,
    on_line: OnLine,
    timeout: float,
    on_failure: Literal["keep", "rollback"] = "keep",
) -> Rollout:
    """Apply the manifests of a service and wait until it is ready as they say.

    What became ready is kept as a revision. With `rollback` a failed change of a service that ran
    before is undone.

    Raises:
        RolloutError: it can't become ready, or is refused; with the cause.
        ServiceError: the server refuses it for a reason that no rule knows.
    """
    known = _revisions(kube, service, namespace)

    def back() -> str:
        on_line("going back to what ran before")
        last = max(known, key=lambda one: int(one["revision"]))
        apply_all(kube, last["data"]["manifests"])
        wait_ready(kube, namespace, service, timeout=timeout, on_table=told)
        return "The revision before was applied again, and is ready."

    def told(table: Table) -> None:
        worst = next((one.cause for one in table.rows if one.cause), "")
        what = worst or (f"waiting for {table.waiting_for}" if table.waiting_for else "ready")
        on_line(f"{what}\n{table}")

    with refusal_named(service, namespace):
        apply_all(kube, manifests)
    undo = back if on_failure == "rollback" and known else None
    done = wait_ready(kube, namespace, service, timeout=timeout, on_table=told, roll_back=undo)
    if (revision := kept_revision(service, namespace, manifests, known)) is not None:
        kube.apply(revision)
        for name in surplus([*known, revision]):
            kube.delete("ControllerRevision", name, namespace)
    return done


@contextmanager
def refusal_named(service: str, namespace: str) -> Iterator[None]:
    """A refusal of the API server that a rule knows, told with its cause.

    Raises:
        RolloutError: instead of the ServiceError that came.
    """
    try:
        yield
    except ServiceError as error:
        known = cause_of_refusal(
            error.why, kind="InferenceService", namespace=namespace, name=service
        )
        if known is None:
            raise
        raise RolloutError(
            f"{error.what.rstrip('.')}: {known.title}.",
            why=f"{known.why}\n{error.why}",
            fix=f"{known.fix}\nConfirm: {known.confirm}",
            page="06_troubleshoot",
            cause=known.id,
        ) from None


def roll_back(
    kube: Kube, service: str, namespace: str, *, on_line: OnLine, timeout: float
) -> Rollout:
    """Deploy again what ran before the newest revision, as a new revision.

    Raises:
        ServiceError: there is no revision before. RolloutError: as `deploy`.
    """
    before = manifests_before(service, _revisions(kube, service, namespace))
    return deploy(kube, service, namespace, before, on_line=on_line, timeout=timeout)


def pods_of(kube: Kube, service: str, namespace: str) -> list[Manifest]:
    """Its pods that are not on their way out, oldest first."""
    found = kube.list("Pod", namespace, labels=f"{ISVC}={service}")
    living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    return sorted(living, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def undeploy(kube: Kube, service: str, namespace: str, *, timeout: float = 120.0) -> list[str]:
    """Remove a service with everything that its revisions applied, and wait until its pods are gone.

    Returns:
        What was removed, as `Kind name`; empty when there was nothing.

    Raises:
        ServiceError: its pods are still there after the time.
    """
    known = _revisions(kube, service, namespace)
    applied = {
        (one["kind"], one["metadata"]["name"]): one["metadata"].get("namespace")
        for revision in known
        for one in revision["data"]["manifests"]
    }
    applied.setdefault(("InferenceService", service), namespace)
    # The service first: its controller would make again what is taken from under it.
    order = sorted(applied, key=lambda one: one[0] != "InferenceService")
    removed = [f"{kind} {name}" for kind, name in order if kube.delete(kind, name, namespace)]
    for revision in known:
        kube.delete("ControllerRevision", revision["metadata"]["name"], namespace)
    _wait_gone(kube, service, namespace, timeout)
    return removed


def _wait_gone(kube: Kube, service: str, namespace: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while left := kube.list("Pod", namespace, labels=f"{ISVC}={service}"):
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{service} is deleted, but {len(left)} of its pods are still there.",
                why=", ".join(str(pod["metadata"]["name"]) for pod in left),
                fix=f"kubectl describe pod -n {namespace} -l {ISVC}={service}",
            )
        time.sleep(1.0)


def _revisions(kube: Kube, service: str, namespace: str) -> list[Manifest]:
    return kube.list("ControllerRevision", namespace, labels=f"{LABEL}={service}")
