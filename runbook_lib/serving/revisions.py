"""What was deployed before, so that it can be deployed again. Decides only.

Kubernetes keeps revisions of a Deployment, but KServe's controller owns that and writes its own
state back. So each set of manifests that is applied is kept as a ControllerRevision, which is made
for this and does nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbook_lib.artifacts import digest_of
from runbook_lib.errors import ServiceError

__all__ = ["LABEL", "kept_revision", "manifests_before", "surplus"]

LABEL = "runbook.trtllm/service"
KEPT = 10

Manifest = dict[str, Any]


def kept_revision(
    service: str, namespace: str, manifests: Sequence[Manifest], known: Sequence[Manifest]
) -> Manifest | None:
    """The ControllerRevision of these manifests; None when the newest one says the same.

    Args:
        known: the service's ControllerRevisions, in any order.
    """
    digest = digest_of(list(manifests))
    newest = _newest_first(known)
    if newest and newest[0]["data"]["digest"] == digest:
        return None
    number = int(newest[0]["revision"]) + 1 if newest else 1
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{service}-{number}",
            "namespace": namespace,
            "labels": {LABEL: service},
        },
        "revision": number,
        "data": {"digest": digest, "manifests": list(manifests)},
    }


def manifests_before(service: str, known: Sequence[Manifest]) -> list[Manifest]:
    """What stood before the newest revision.

    Raises:
        ServiceError: there is no revision before.
    """
    newest = _newest_first(known)
    if len(newest) < 2:
        raise ServiceError(
            f"{service} has no revision to go back to.",
            why=f"{len(newest)} revision is known; the one before the first is nothing.",
            fix=f"Deploy what you want instead, or remove it: runbook undeploy {service}",
        )
    return [dict(one) for one in newest[1]["data"]["manifests"]]


def surplus(known: Sequence[Manifest]) -> list[str]:
    """Names of revisions past the newest ten."""
    return [str(one["metadata"]["name"]) for one in _newest_first(known)[KEPT:]]


def _newest_first(known: Sequence[Manifest]) -> list[Manifest]:
    return sorted(known, key=lambda one: -int(one["revision"]))
