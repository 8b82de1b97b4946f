"""Run a build Job, or go on with the one that runs: its logs live, its end explained.

The Job belongs to the cluster: it goes on when this process ends, and the next run takes it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Phase
from runbook_lib.engine.job_failure import (
    Seen,
    condition,
    containers_of,
    newest_event,
    why_ended,
    why_waiting,
)
from runbook_lib.engine.job_logs import JobLogs
from runbook_lib.errors import BuildError
from runbook_lib.kube.client import Kube
from runbook_lib.kube.errors import UNREACHABLE, ApiError, explain
from runbook_lib.kube.watch import Mirror, Scope

__all__ = ["JobResult", "run_build_job"]

Manifest = dict[str, Any]

POLL_SECONDS = 1.0
AWAY_SECONDS = 180.0
GONE_SECONDS = 60.0


@dataclass(frozen=True)
class JobResult:
    """How an engine came to lie in the store.

    Attributes:
        job: the Job's name.
        kept: it lay there already, and nothing was applied.
        attached: the Job was started by an earlier run.
        phases: what took how long, in the pod that succeeded.
        seconds: from that pod's start to its end.
        pod: the pod that succeeded.
        node: where it ran.
    """

    job: str
    kept: bool = False
    attached: bool = False
    phases: tuple[Phase, ...] = ()
    seconds: float = 0.0
    pod: str = ""
    node: str = ""


def run_build_job(
    kube: Kube,
    manifests: Sequence[Manifest],
    *,
    stored: Callable[[], bool],
    log: Path,
    on_line: Callable[[str], None] = lambda _: None,
    timeout: float = 6 * 3600.0,
    rebuild: bool = False,
) -> JobResult:
    """Build by a Job unless the store holds the engine; wait until it lies there.

    Args:
        kube: the cluster.
        manifests: what `build_job` made.
        stored: whether a whole engine of these inputs lies in the store, asked before and after.
        log: where everything that the containers say goes.
        on_line: is told each line of that, and what the Job waits for.
        timeout: seconds to wait; the Job then goes on without us.
        rebuild: build although the store holds one (an order with `replace`).

    Raises:
        BuildError: the Job failed, can't start, took too long, or left no engine. It is left for
            inspection; Kubernetes deletes it after its ttl.
        PreflightError: the cluster does not answer, or a right is missing.
    """
    config, job = manifests
    name = str(job["metadata"]["name"])
    if not rebuild and stored():
        on_line(f"{job['metadata']['annotations']['runbook/result']} holds the engine.")
        return JobResult(job=name, kept=True)
    live, attached = _started(kube, config, job, on_line)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        JobLogs(kube, str(job["metadata"]["namespace"]), log, on_line) as logs,
        Mirror(kube, _scopes(live)) as mirror,
    ):
        waiting = _Waiting(kube, live, mirror, logs, on_line)
        try:
            seen = waiting.until_ended(timeout)
        except KeyboardInterrupt:
            on_line(f"The Job {name} goes on; the same step takes it up again.")
            raise
    pod = _succeeded(seen.pods)
    if pod is None:
        raise why_ended(seen).error(f"The whole log: {log}")
    if not stored():
        raise BuildError(
            f"The build Job {name} ended well, and the store holds no whole engine.",
            why="The Job and this machine look into different stores, or somebody removed it.",
            fix="Compare the endpoint and bucket that the Job was given with those used here.",
        )
    return _result(seen, pod, logs, attached=attached)


def _started(
    kube: Kube, config: Manifest, job: Manifest, on_line: Callable[[str], None]
) -> tuple[Manifest, bool]:
    """The Job that runs, and whether it ran before we came."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    live = kube.get("Job", name, namespace)
    attached = live is not None and not _gone(live) and not _decided(live, _pods(kube, live))
    if live is None or not attached:
        if live is not None:
            on_line(f"The Job {name} of an earlier run has ended: it is replaced.")
            _remove(kube, name, namespace)
        kube.apply(config)
        live = kube.apply(job)
        on_line(f"Job {name}")
    else:
        on_line(f"Job {name} runs since {live['metadata']['creationTimestamp']}: going on with it.")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": live["metadata"]["uid"]}
    # With its owner the ConfigMap goes too.
    kube.apply({**config, "metadata": {**config["metadata"], "ownerReferences": [owner]}})
    return live, attached


def _gone(manifest: Manifest) -> bool:
    return bool(manifest["metadata"].get("deletionTimestamp"))


def _decided(job: Manifest, pods: Iterable[Manifest]) -> bool:
    """Whether a Job has ended, by its own word or by its pods'.

    The Job learns late of its pods' ends where the control plane is busy or restarts.
    """
    if any(condition(job, kind) for kind in ("Complete", "Failed")):
        return True
    # A pod that is deleted did not fail by itself: at a deadline the Job deletes its pods first.
    ends = [str(one["status"].get("phase")) for one in pods if not _gone(one)]
    return "Succeeded" in ends or ends.count("Failed") > int(job["spec"]["backoffLimit"])


def _pods(kube: Kube, job: Manifest) -> list[Manifest]:
    return kube.list("Pod", job["metadata"]["namespace"], labels=_label(job))


def _label(job: Manifest) -> str:
    return f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}"


def _scopes(job: Manifest) -> list[Scope]:
    """What tells of a Job: itself, its pods, and what is said of them."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    return [
        Scope("Job", namespace, fields=f"metadata.name={name}"),
        Scope("Pod", namespace, labels=_label(job)),
        Scope("Event", namespace),
    ]


def _remove(kube: Kube, name: str, namespace: str) -> None:
    kube.delete("Job", name, namespace)
    until = time.monotonic() + GONE_SECONDS
    while kube.get("Job", name, namespace) is not None:
        if time.monotonic() > until:
            raise BuildError(
                f"The Job {name} of an earlier run can't be removed.",
                why=f"It still exists {GONE_SECONDS:.0f} s after it was deleted; a finalizer holds it.",
                fix=f"kubectl get job {name} -n {namespace} -o yaml",
            )
        time.sleep(POLL_SECONDS)


class _Waiting:
    """Look at the Job until it ends; what it says goes out meanwhile."""

    def __init__(
        self,
        kube: Kube,
        job: Manifest,
        mirror: Mirror,
        logs: JobLogs,
        on_line: Callable[[str], None],
    ) -> None:
        self._kube, self._job, self._mirror = kube, job, mirror
        self._logs, self._on_line = logs, on_line
        self._name, self._uid = str(job["metadata"]["name"]), job["metadata"]["uid"]
        self._namespace = str(job["metadata"]["namespace"])
        # A Job that meets its deadline deletes its pods: they are remembered as they were.
        self._pods: dict[str, Manifest] = {}
        self._events: list[Manifest] = []
        self._told = ""
        self._trouble: tuple[str, float] = ("", 0.0)
        self._answered = time.monotonic()

    def until_ended(self, timeout: float) -> Seen:
        """The Job as it was when it had ended and everything it said was read.

        Raises:
            BuildError: it can't start, takes too long, or was deleted.
        """
        until = time.monotonic() + timeout
        self._mirror.wait_known(timeout)
        for needed in ("Job", "Pod"):
            if needed in self._mirror.refused:
                self._kube.list(
                    needed, self._namespace
                )  # the refusal, as an error that says what to do
        while True:
            self._look()
            pods = list(self._pods.values())
            if self._logs.done(pods):
                self._mirror.wait_change(POLL_SECONDS)
            else:
                self._logs.advance(pods, POLL_SECONDS)
            ended = _decided(self._job, self._pods.values())
            if ended and self._logs.done(list(self._pods.values())):
                return self._seen()
            if not ended:
                self._check_start()
                if time.monotonic() > until:
                    raise self._late(timeout)

    def _seen(self) -> Seen:
        pods = sorted(
            self._pods.values(), key=lambda one: str(one["metadata"]["creationTimestamp"])
        )
        return Seen(self._job, pods, self._events, self._logs.said)

    def _look(self) -> None:
        """An API server that restarts is waited for."""
        if away := self._mirror.away:
            if time.monotonic() - self._answered > AWAY_SECONDS:
                error = ApiError(UNREACHABLE, "Unreachable", away, {})
                raise explain(error, f"read Job {self._name}", self._kube.server)
            return
        self._answered = time.monotonic()
        found = self._mirror.objects()
        mine = [one for one in found.get("Job", ()) if one["metadata"]["uid"] == self._uid]
        if not mine or _gone(mine[0]):
            raise self._deleted()
        self._job = mine[0]
        self._pods |= {one["metadata"]["name"]: one for one in found.get("Pod", ())}
        about = {self._name, *self._pods}
        self._events = [
            one for one in found.get("Event", ()) if one["involvedObject"]["name"] in about
        ]
        self._tell_events()

    def _tell_events(self) -> None:
        """Events matter while nothing runs."""
        pods = self._pods.values()
        running = any("running" in state for pod in pods for _, state in containers_of(pod))
        if not running and (said := newest_event(self._events)) != self._told:
            self._told = said
            self._on_line(f"[{self._name}] {said}")

    def _check_start(self) -> None:
        found = why_waiting(self._seen())
        now = time.monotonic()
        what = "" if found is None else found.what
        if what != self._trouble[0]:
            self._trouble = (what, now)
        if found and found.patience is not None and now - self._trouble[1] >= found.patience:
            raise found.error(self._left())

    def _late(self, timeout: float) -> BuildError:
        found = why_waiting(self._seen())
        return BuildError(
            f"The build Job {self._name} has not ended after {timeout:.0f} s.",
            why=f"{found.what} {found.why}" if found else self._logs.last() or self._told,
            fix="\n".join(text for text in (found.fix if found else "", self._left()) if text),
            page="06_troubleshoot",
        )

    def _left(self) -> str:
        return (
            "The Job is left as it is: the same step takes it up again, and this ends it:\n"
            f"kubectl delete job {self._name} -n {self._namespace}"
        )

    def _deleted(self) -> BuildError:
        return BuildError(
            f"The build Job {self._name} was deleted while it ran.",
            why="Somebody else deleted it, or its namespace.",
            fix="Build again.",
        )


def _succeeded(pods: Iterable[Manifest]) -> Manifest | None:
    return next((one for one in pods if one["status"].get("phase") == "Succeeded"), None)


def _result(seen: Seen, pod: Manifest, logs: JobLogs, *, attached: bool) -> JobResult:
    ends = [state["terminated"]["finishedAt"] for _, state in containers_of(pod)]
    began = datetime.fromisoformat(pod["status"]["startTime"])
    name = str(pod["metadata"]["name"])
    return JobResult(
        job=seen.name,
        attached=attached,
        phases=logs.phases(name),
        seconds=(datetime.fromisoformat(max(ends)) - began).total_seconds(),
        pod=name,
        node=str(pod["spec"].get("nodeName", "")),
    )
