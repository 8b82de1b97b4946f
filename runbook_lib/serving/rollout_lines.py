"""What a snapshot says in words: every line that still holds, and none that was true once.

Events outlive what they tell of by an hour, and a container keeps its last end for ever. A line
therefore counts only while the state of its object bears it out: an image that could not be
pulled only while a container waits for it, a failed probe only while the container is not ready.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from runbook_lib.serving.rollout_snapshot import (
    LogKey,
    Manifest,
    Snapshot,
    containers,
    is_ready_pod,
    meta,
)

__all__ = ["Line", "Source", "clean", "lines", "wanted_logs"]

Source = Literal["condition", "container", "event", "log", "refusal", "spec", "status"]
LINE_LENGTH = 1_500
LOG_LINES = 400
SECOND = len("2026-01-01T00:00:00")  # some stamps go on with a fraction
ON_THE_WAY = {"ContainerCreating", "PodInitializing", ""}
# Colours and titles of terminals, and whatever else steers one or turns the direction of text.
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True)
class Line:
    """One thing that was said about an object, by whom, when and how often."""

    source: Source
    object: str
    text: str
    time: str = ""
    count: int = 1
    container: str = ""
    init: bool = False

    def __str__(self) -> str:
        where = f"{self.object}, {self.container}" if self.container else self.object
        often = f", {self.count} times" if self.count > 1 else ""
        return f"{where}, {self.source}{often}: {self.text}"


def clean(text: str) -> str:
    """What a cluster says is data: terminal control is taken out, and a very long line is cut."""
    return CONTROL.sub("", text.replace("\n", " ⏎ ")).strip()[:LINE_LENGTH]


def lines(snapshot: Snapshot) -> tuple[Line, ...]:
    """Every line that holds now, the nearest to the container first."""
    said = [
        *(line for pod in snapshot.live_pods for line in _of_pod(snapshot, pod)),
        *(line for one in snapshot.replica_sets for line in _of_replica_set(snapshot, one)),
        *(line for one in snapshot.claims for line in _of_claim(snapshot, one)),
        *(line for one in snapshot.deployments for line in _conditions(one, bad={"False"})),
        *_of_target(snapshot),
        *(line for one in snapshot.autoscalers for line in _conditions(one, bad={"False"})),
    ]
    if snapshot.away:
        said.insert(0, Line("status", "API server", clean(snapshot.away)))
    return tuple(said)


def wanted_logs(snapshot: Snapshot) -> list[LogKey]:
    """The logs that may decide: of containers that ended, or run and are not ready.

    The downloader's is wanted also after it has ended well: it may have fetched too much.
    """
    wanted = []
    for pod in snapshot.live_pods:
        name = str(meta(pod)["name"])
        ill = [(one, init) for one, init in containers(pod) if not _well(one, init=init)]
        for status, init in ill:
            state = status.get("state", {})
            if "terminated" in state or "running" in state:
                wanted.append(LogKey(name, status["name"]))
            if status.get("restartCount"):
                wanted.append(LogKey(name, status["name"], previous=True))
            if not init and "lastState" in status:
                wanted += [
                    LogKey(name, one["name"])
                    for one, first in containers(pod)
                    if first and one["name"] == "storage-initializer"
                ]
    return list(dict.fromkeys(wanted))


def _well(status: Manifest, *, init: bool) -> bool:
    if not init:
        return bool(status.get("ready"))
    ended: Manifest = status.get("state", {}).get("terminated") or {}
    return ended.get("exitCode") == 0


def _of_pod(snapshot: Snapshot, pod: Manifest) -> Iterator[Line]:
    name = f"Pod/{meta(pod)['name']}"
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Line("status", name, clean(f"{status['reason']}: {status.get('message', '')}"))
    if is_ready_pod(pod) or status.get("phase") == "Succeeded":
        return
    ill = {one["name"]: one for one, init in containers(pod) if not _well(one, init=init)}
    for one, init in containers(pod):
        if one["name"] in ill:
            yield from _of_container(name, one, init=init)
            yield from _of_logs(snapshot, pod, one, init=init)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _condition(name, condition)
    for event in _events(snapshot, pod):
        if _event_holds(event, pod, ill):
            yield _event(name, event)


def _of_container(pod: str, status: Manifest, *, init: bool) -> Iterator[Line]:
    state = status.get("state", {})
    restarts = int(status.get("restartCount", 0))
    name = str(status["name"])
    waiting = state.get("waiting", {})
    ended = state.get("terminated") or {}
    before = status.get("lastState", {}).get("terminated") or {}
    told: set[str] = set()
    for one, often in ((ended, restarts + 1), (before, restarts)):
        if one and (one.get("exitCode") or one.get("reason") == "OOMKilled"):
            said = _joined(f"{one.get('reason', '')} (exit {one.get('exitCode')})", one)
            if said not in told:
                at = str(one.get("finishedAt") or "")
                yield Line("container", pod, said, at, max(often, 1), name, init)
            told.add(said)
    if waiting.get("reason", "") not in ON_THE_WAY:
        said = _joined(str(waiting["reason"]), waiting)
        yield Line("container", pod, said, "", max(restarts, 1), name, init)


def _joined(head: str, state: Manifest) -> str:
    return clean(f"{head}: {state['message']}" if state.get("message") else head)


def _of_logs(snapshot: Snapshot, pod: Manifest, status: Manifest, *, init: bool) -> Iterator[Line]:
    name, container = str(meta(pod)["name"]), str(status["name"])
    ended = int("terminated" in status.get("state", {}))
    failures = max(1, int(status.get("restartCount", 0)) + ended)
    seen: set[str] = set()
    for previous in (True, False):
        text = snapshot.logs.get(LogKey(name, container, previous), "")
        for raw in text.splitlines()[-LOG_LINES:]:
            line = clean(raw)
            if line and line not in seen:
                seen.add(line)
                yield Line("log", f"Pod/{name}", line, "", failures, container, init)


def _event_holds(event: Manifest, pod: Manifest, ill: dict[str, Manifest]) -> bool:
    """Whether the pod's present state still bears out what an event told."""
    reason, message = str(event.get("reason", "")), str(event.get("message", ""))
    states = [one.get("state", {}) for one in ill.values()]
    waits = {str(one.get("waiting", {}).get("reason", "")) for one in states} - ON_THE_WAY
    if re.search("pull|image", message, re.IGNORECASE):
        waits = {one for one in waits if "Image" in one}
    placed = bool(pod.get("spec", {}).get("nodeName"))
    started = any("waiting" not in one.get("state", {}) for one, _ in containers(pod))
    holds = {
        "Killing": bool(ill) and "will be restarted" in message,
        "FailedScheduling": not placed,
        "TriggeredScaleUp": not placed,
        "FailedMount": not started,
        "FailedAttachVolume": not started,
        "FailedCreatePodSandBox": not started,
        "Unhealthy": any("running" in one for one in states),
        "Failed": bool(waits),
        "BackOff": bool(waits),
    }
    return holds.get(reason, event.get("type") == "Warning")


def _of_replica_set(snapshot: Snapshot, replica_set: Manifest) -> Iterator[Line]:
    """What hinders it to make its pods, while it has fewer than it should."""
    wanted = replica_set.get("spec", {}).get("replicas", 0)
    status = replica_set.get("status", {})
    if not wanted or status.get("replicas", 0) >= wanted:
        return
    name = f"ReplicaSet/{meta(replica_set)['name']}"
    refusals = [
        one for one in _events(snapshot, replica_set) if one.get("reason") == "FailedCreate"
    ]
    often = sum(_count(one) for one in refusals)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            at = str(condition.get("lastTransitionTime") or "")
            said = clean(f"{condition.get('reason')}: {condition.get('message')}")
            yield Line("condition", name, said, at, max(often, 1))
            return
    yield from (_event(name, one) for one in refusals[-1:])


def _of_claim(snapshot: Snapshot, claim: Manifest) -> Iterator[Line]:
    if claim.get("status", {}).get("phase") != "Bound":
        name = f"PersistentVolumeClaim/{meta(claim)['name']}"
        yield from (_event(name, one) for one in _events(snapshot, claim, warnings=True))


def _of_target(snapshot: Snapshot) -> Iterator[Line]:
    target = snapshot.target
    if target is None:
        return
    name = f"{snapshot.kind}/{snapshot.name}"
    status = target.get("status", {})
    if snapshot.kind == "Job":
        failed = (one for one in status.get("conditions") or () if one.get("type") == "Failed")
        yield from (_condition(name, one) for one in failed if one.get("status") == "True")
        yield from (_event(name, one) for one in _events(snapshot, target, warnings=True))
        return
    model = status.get("modelStatus", {})
    failure = model.get("lastFailureInfo") or {}
    if model.get("transitionStatus") == "InvalidSpec" and failure:
        at = str(failure.get("time") or "")
        said = clean(f"{failure.get('reason')}: {failure.get('message', '')}")
        yield Line("status", name, said, at)
    since = _last_change(snapshot)
    for event in _events(snapshot, target, warnings=True):
        if _time(event)[:SECOND] >= since[:SECOND]:
            yield _event(name, event)
    yield from _conditions(target, bad={"False", "Unknown"})


def _last_change(snapshot: Snapshot) -> str:
    """When somebody last changed what is wanted; what the controller said before is settled.

    Its own status writes are managed fields too, but of the subresource.
    """
    fields = meta(snapshot.target or {}).get("managedFields") or ()
    made = str(meta(snapshot.target or {}).get("creationTimestamp") or "")
    times = [str(one.get("time") or "") for one in fields if one.get("subresource") != "status"]
    born = [str(meta(one).get("creationTimestamp") or "") for one in snapshot.deployments]
    return max([made, *times, *born])


def _conditions(manifest: Manifest, bad: set[str]) -> Iterator[Line]:
    name = f"{manifest['kind']}/{meta(manifest)['name']}"
    for condition in manifest.get("status", {}).get("conditions") or ():
        # A condition without a word says nothing that its neighbours don't.
        told = condition.get("reason") or condition.get("message")
        if condition.get("status") in bad and told and condition.get("type") != "Stopped":
            yield _condition(name, condition)


def _condition(name: str, condition: Manifest) -> Line:
    said = f"{condition.get('type')}={condition.get('status')} {condition.get('reason', '')}"
    if condition.get("message"):
        said += f": {condition['message']}"
    return Line("condition", name, clean(said), str(condition.get("lastTransitionTime") or ""))


def _events(snapshot: Snapshot, about: Manifest, *, warnings: bool = False) -> Iterable[Manifest]:
    uid = meta(about).get("uid")
    mine = [one for one in snapshot.events if one.get("involvedObject", {}).get("uid") == uid]
    if warnings:
        mine = [one for one in mine if one.get("type") == "Warning"]
    return sorted(mine, key=_time)


def _event(name: str, event: Manifest) -> Line:
    said = clean(f"{event.get('reason')}: {event.get('message', '')}")
    path = str(event.get("involvedObject", {}).get("fieldPath", ""))
    container = re.search(r"ontainers\{(.+)\}", path)
    init = path.startswith("spec.initContainers")
    named = container[1] if container else ""
    return Line("event", name, said, _time(event), _count(event), named, init)


def _time(event: Manifest) -> str:
    series = event.get("series") or {}
    times = (event.get("lastTimestamp"), series.get("lastObservedTime"), event.get("eventTime"))
    return max(str(one or "") for one in (*times, meta(event).get("creationTimestamp")))


def _count(event: Manifest) -> int:
    return max(int(event.get("count") or 1), int((event.get("series") or {}).get("count") or 1))
