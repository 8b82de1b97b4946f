"""What pods and the cluster say of a service: Triton's own words, the logs, and named causes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runbook_lib.artifacts import Finding, Replica
from runbook_lib.diagnose.cluster_causes import label_of
from runbook_lib.diagnose.evidence import Evidence
from runbook_lib.diagnose.reading import from_text
from runbook_lib.errors import ServiceError
from runbook_lib.files import write_whole
from runbook_lib.kube.client import Kube
from runbook_lib.serving.kserve import pods_of
from runbook_lib.serving.rollout_causes import Cause
from runbook_lib.serving.rollout_snapshot import containers
from runbook_lib.serving.rollout_status import status_table
from runbook_lib.targets.kserve_pods import CONTAINER

__all__ = ["logs_of", "of_cluster", "with_log"]

TAIL_LINES = 20_000
SCORE = 0.9


def with_log(kube: Kube, namespace: str, replica: Replica, folder: Path) -> Replica:
    """The replica with its pod's log as a file of the record."""
    file = folder / f"{replica.name}.log"
    text = kube.logs(replica.name, namespace, container=CONTAINER, tail=TAIL_LINES)
    write_whole(file, text)
    return replica.model_copy(update={"log": str(file)})


def of_cluster(kube: Kube, namespace: str, service: str) -> Evidence:
    """What the objects of a service tell: a finding where something holds it up."""
    table = status_table(kube, namespace)
    own = next((one for one in table.services if one.name == service), None)
    if own is None:
        gone = Finding(
            id="inference-service-gone",
            title=f"There is no InferenceService {service}",
            cause="It was removed after it had been deployed, or it lies in another namespace.",
            confirm=f"kubectl get inferenceservice -A | grep {service}",
            fix="Deploy it again: page 03.",
            evidence=(f"{namespace} has {len(table.services)} other services",),
            score=SCORE,
            page="03_deploy",
        )
        return Evidence(named=(gone,), sources={"InferenceService": "not read: it is gone"})
    said = {f"InferenceService {service}": f"{own.state}, pods {own.pods}"}
    said |= {f"cluster {what}": f"not read: {what}" for what in table.not_read}
    # What does no harm (an autoscaler without metrics) is told beside the sources, and is no finding.
    if own.cause is not None and own.cause.heals == "harmless":
        said[own.cause.title] = str(own.cause.evidence[0])
    harms = own.cause is not None and own.cause.heals != "harmless"
    return Evidence(sources=said, named=(_finding(own.cause),) if harms and own.cause else ())


def logs_of(kube: Kube, namespace: str, service: str) -> Iterator[Evidence]:
    """What each container of the service's pods said, and before its last restart.

    Raises:
        RunbookError: pods or logs may not be read.
    """
    for pod in pods_of(kube, service, namespace):
        name = pod["metadata"]["name"]
        for status, _ in containers(pod):
            runs = (False, True) if status.get("restartCount", 0) else (False,)
            for previous in runs:
                yield _log_of(kube, namespace, name, str(status["name"]), previous=previous)


def _log_of(kube: Kube, namespace: str, pod: str, container: str, *, previous: bool) -> Evidence:
    """A container that has not started yet has no log: that is no gap."""
    source = f"{pod}/{container}{' before its restart' if previous else ''}"
    try:
        text = kube.logs(pod, namespace, container=container, previous=previous, tail=TAIL_LINES)
    except ServiceError as error:
        return Evidence(sources={source: f"no log: {error.why or error.what}"})
    return from_text(source, text)


def _finding(cause: Cause) -> Finding:
    return Finding(
        id=label_of(cause.id),
        variant=cause.id,
        title=cause.title,
        cause=cause.why,
        confirm=cause.confirm,
        fix=cause.fix,
        evidence=tuple(str(line) for line in cause.evidence) or (cause.object,),
        score=SCORE,
        page="03_deploy",
    )
