"""Why a build Job failed or does not start, from its pods and events alone.

The Job itself says "BackoffLimitExceeded" whatever happened; the cause stands in the pod's containers,
in its conditions, or, before there is a pod, in the Job's events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.errors import BuildError

__all__ = [
    "Seen",
    "Trouble",
    "condition",
    "containers_of",
    "newest_event",
    "why_ended",
    "why_waiting",
]

Manifest = dict[str, Any]

IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
NOT_STARTED = (
    (
        {"FailedMount", "FailedAttachVolume"},
        "A volume of the build can't be mounted.",
        "See that the claim exists and that no other node holds it: kubectl get pvc",
    ),
    (
        {"FailedCreatePodSandBox"},
        "The node can't start the build's pod.",
        "Look at the node's container runtime, or let the build run on another node.",
    ),
)
NOISE = {"MissingClusterDNS"}  # told again and again where a cluster has no DNS
# Back-offs and kubelets that are behind heal within this time; what lasts longer needs a hand.
PATIENCE = 20.0
LAST_LINES = 4
CANT_START, KILLED = 127, 137


@dataclass(frozen=True)
class Seen:
    """A Job at one moment.

    `pods` are the oldest first; `said` holds the last lines of containers by (pod, container).
    """

    job: Manifest
    pods: Sequence[Manifest] = ()
    events: Sequence[Manifest] = ()
    said: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The Job's name."""
        return str(self.job["metadata"]["name"])


@dataclass(frozen=True)
class Trouble:
    """A named cause; `patience` is how long to wait for it to heal, None for as long as it takes."""

    what: str
    why: str = ""
    fix: str = ""
    patience: float | None = None

    def error(self, more: str = "") -> BuildError:
        """As an error; `more` goes under what to do."""
        return BuildError(
            self.what,
            why=self.why,
            fix="\n".join(text for text in (self.fix, more) if text),
            page="06_troubleshoot",
        )


def condition(manifest: Manifest, kind: str) -> Manifest | None:
    """A condition that holds."""
    for one in manifest.get("status", {}).get("conditions") or ():
        if one.get("type") == kind and one.get("status") == "True":
            return dict(one)
    return None


def containers_of(pod: Manifest) -> list[tuple[Manifest, Manifest]]:
    """Each container of a pod in the order they run, with its state: (spec, state)."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    told = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    states = {one["name"]: one.get("state") or {} for one in told}
    listed = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return [(one, states.get(one["name"], {})) for one in listed]


def newest_event(events: Sequence[Manifest]) -> str:
    """The last thing that Kubernetes told, as `reason: message`."""
    events = [one for one in events if one.get("reason") not in NOISE]
    if not events:
        return ""
    # Of what was told in one second a failure matters most.
    last = max(events, key=lambda one: (_event_time(one), "Failed" in str(one.get("reason", ""))))
    return f"{last.get('reason', '')}: {str(last.get('message', '')).strip()}"


def why_ended(seen: Seen) -> Trouble:
    """Why a failed Job failed."""
    ended = condition(seen.job, "Failed") or {}
    if ended.get("reason") == "DeadlineExceeded":
        return _too_long(seen)
    for pod in reversed(seen.pods):
        if (found := _why_pod_ended(seen, pod)) is not None:
            return found
    return Trouble(
        f"The build Job {seen.name} failed ({ended.get('reason', 'no reason told')}).",
        why=str(ended.get("message", "")),
        fix=f"kubectl describe job {seen.name}",
    )


def why_waiting(seen: Seen) -> Trouble | None:
    """What a Job that has not ended waits for; None when it works, or has told nothing yet."""
    if not seen.pods:
        return _no_pod(seen)
    pod = seen.pods[-1]
    for spec, state in containers_of(pod):
        waiting = state.get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", "")).strip()
        if reason in IMAGE:
            return _no_image(spec, reason, message)
        if reason in CONFIG:
            return Trouble(
                f"The container {spec['name']} of the build can't be started ({reason}).",
                why=message,
                fix="Create the Secret or volume that is named above, or correct its name.",
                patience=PATIENCE,
            )
    for one in pod.get("status", {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return Trouble(
                "No node can take the build.",
                why=str(one.get("message", "")),
                fix="Free a GPU, or correct the resource, node selector or tolerations in the profile: "
                "kubectl get nodes -L nvidia.com/gpu.product",
            )
    return _not_started(seen, pod)


def _too_long(seen: Seen) -> Trouble:
    at = next((step for pod in reversed(seen.pods) if (step := _reached(pod))), "")
    limit = seen.job["spec"].get("activeDeadlineSeconds", "?")
    return Trouble(
        f"The build Job {seen.name} took longer than its deadline of {limit} s.",
        why=f"It was ended at {at}." if at else "No pod of it had started.",
        fix="Give it a longer deadline.",
    )


def _reached(pod: Manifest) -> str:
    """The last container of a pod that is known to have started."""
    begun = [
        spec["name"]
        for spec, state in containers_of(pod)
        if {"running", "terminated"} & state.keys()
    ]
    return f"the step {begun[-1]}" if begun else ""


def _why_pod_ended(seen: Seen, pod: Manifest) -> Trouble | None:
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        message = str(status.get("message", ""))
        full = "limit" in message or "ephemeral" in message
        return Trouble(
            "The node put the build out (Evicted).",
            why=message,
            fix="Give the work folder more room (work_size), or a volume claim (work_claim)."
            if full
            else "The node ran short; choose another, or try again.",
        )
    for spec, state in containers_of(pod):
        ended = state.get("terminated")
        if ended and ended.get("exitCode") != 0:
            return _step_failed(seen, pod, spec, ended)
    if (moved := condition(pod, "DisruptionTarget")) is not None:
        return Trouble(
            f"The build's pod was taken away ({moved.get('reason', '')}).",
            why=str(moved.get("message", "")),
            fix="Build again; with a volume claim as work folder it goes on behind the last step.",
        )
    if status.get("phase") == "Failed":
        return Trouble(
            f"The build's pod failed ({status.get('reason') or 'no reason told'}).",
            why=str(status.get("message", "")),
        )
    return None


def _step_failed(seen: Seen, pod: Manifest, spec: Manifest, ended: Manifest) -> Trouble:
    name, code = str(spec["name"]), int(ended.get("exitCode", 0))
    reason = str(ended.get("reason", ""))
    lines = seen.said.get((pod["metadata"]["name"], name)) or ()
    said = _last(lines or str(ended.get("message", "")).splitlines())
    step = {"weights": "Fetching the weights", "upload": "Storing the engine"}.get(
        name, f"The build step {name}"
    )
    if reason == "OOMKilled":
        limit = spec.get("resources", {}).get("limits", {}).get("memory", "that of the node")
        return Trouble(
            f"{step} was killed for memory (OOMKilled, exit code {code}).",
            why=f"Its limit is {limit}. The last it said:\n{said}",
            fix="Give the build more memory in the profile.",
        )
    fixes = {
        "weights": "Correct the URI of the weights, or the Secret with the keys that read them.",
        "upload": "Correct the URI of the result, or the Secret with the keys that write it.",
    }
    if reason in {"StartError", "ContainerCannotRun"} or code == CANT_START:
        return Trouble(
            f"{step} can't start: its program is not in the image {spec['image']}.",
            why=said,
            fix="Use the image of the profile's release.",
        )
    ending = f"exit code {code}"
    if code == KILLED:
        ending += "; the kernel's out-of-memory killer ends a process like this"
    return Trouble(f"{step} failed ({ending}).", why=said, fix=fixes.get(name, ""))


def _no_pod(seen: Seen) -> Trouble | None:
    refused = [one for one in seen.events if one.get("reason") == "FailedCreate"]
    if not refused:
        return None
    message = str(max(refused, key=_event_time).get("message", ""))
    return Trouble(
        f"The cluster creates no pod for the build Job {seen.name}.",
        why=message,
        fix="Ask for less, or for a larger quota."
        if "quota" in message
        else "Correct what is named above: a service account, an admission rule or a webhook.",
        patience=PATIENCE,
    )


def _no_image(spec: Manifest, reason: str, message: str) -> Trouble:
    refused = any(
        word in message.lower()
        for word in ("unauthorized", "denied", "401", "403", "authentication")
    )
    return Trouble(
        f"The image {spec['image']} of the build can't be pulled ({reason}).",
        why=message,
        fix="Name a Secret with the registry's login in image_pull_secrets."
        if refused
        else "Correct the image's name and tag, and see that the node reaches the registry.",
        patience=PATIENCE,
    )


def _not_started(seen: Seen, pod: Manifest) -> Trouble | None:
    if any(state.keys() & {"running", "terminated"} for _, state in containers_of(pod)):
        return None
    for reasons, what, fix in NOT_STARTED:
        if failed := [one for one in seen.events if one.get("reason") in reasons]:
            return Trouble(what, str(max(failed, key=_event_time).get("message", "")), fix)
    return None


def _event_time(event: Manifest) -> str:
    series = event.get("series") or {}
    for found in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
    ):
        if found:
            return str(found)
    return str(event.get("metadata", {}).get("creationTimestamp", ""))


def _last(lines: Sequence[str]) -> str:
    kept = [line.strip() for line in lines if line.strip()]
    return "\n".join(kept[-LAST_LINES:])
