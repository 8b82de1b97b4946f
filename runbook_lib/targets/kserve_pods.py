"""The pods of a service as replicas: where they answer from here, and which engine each one serves."""

from __future__ import annotations

import atexit
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

from runbook_lib.artifacts import ModelRepository, Replica
from runbook_lib.errors import ServiceError
from runbook_lib.kube.client import Kube, Manifest
from runbook_lib.kube.forward import forward
from runbook_lib.lab.services import LOADED

__all__ = ["CONTAINER", "Reach", "is_ready_pod", "loaded_engine", "replica_of"]

CONTAINER = "kserve-container"
HTTP, GRPC, METRICS = 8080, 9000, 8002
TRY_SECONDS = 1.0


def is_ready_pod(pod: Manifest) -> bool:
    """Whether Kubernetes sends requests to it."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


@dataclass
class Reach:
    """Addresses that answer from this machine: the pod's own where the network has a way, else forwarded.

    A forwarded port stays open until this process ends.
    """

    kube: Kube
    namespace: str
    _open: ExitStack = field(default_factory=ExitStack)
    _known: dict[tuple[str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        atexit.register(self._open.close)

    def replica(self, pod: Manifest, known: Replica | None = None) -> Replica:
        """A pod with its addresses, and what is known of it already."""
        name = pod["metadata"]["name"]
        base = known or Replica(
            name=name, http="", grpc="", metrics="", ready_seconds=_ready_seconds(pod)
        )
        addresses = {
            "http": f"http://{self._address(pod, HTTP)}",
            "grpc": self._address(pod, GRPC),
            "metrics": f"http://{self._address(pod, METRICS)}/metrics",
        }
        return base.model_copy(update=addresses)

    def service(self, entry: Manifest | None) -> str:
        """The URL of a Kubernetes Service where this machine has a way to it; else empty."""
        ip = (entry or {}).get("spec", {}).get("clusterIP", "")
        port = entry["spec"]["ports"][0]["port"] if entry else 0
        return f"http://{ip}:{port}" if ip and _answers(ip, port) else ""

    def _address(self, pod: Manifest, port: int) -> str:
        name, ip = pod["metadata"]["name"], pod["status"]["podIP"]
        if (name, port) not in self._known:
            self._known[name, port] = (
                f"{ip}:{port}" if _answers(ip, port) else self._forwarded(name, port)
            )
        return self._known[name, port]

    def _forwarded(self, pod: str, port: int) -> str:
        local = self._open.enter_context(forward(self.kube, pod, port, namespace=self.namespace))
        return f"127.0.0.1:{local}"


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), TRY_SECONDS):
            return True
    except OSError:
        return False


def replica_of(
    kube: Kube, namespace: str, pod: Manifest, reach: Reach, repository: ModelRepository
) -> Replica:
    """A ready pod, with the engine that its own log says it loaded.

    Raises:
        ServiceError: it serves another engine than the stored one, or compiled it again.
    """
    name = pod["metadata"]["name"]
    log = kube.logs(name, namespace, container=CONTAINER)
    digest, rebuilt = loaded_engine(name, log, repository)
    about = {
        "log": f"kubectl logs -n {namespace} {name} -c {CONTAINER}",
        "engine_digest": digest,
        "rebuilt": rebuilt,
    }
    return reach.replica(pod).model_copy(update=about)


def loaded_engine(name: str, log: str, repository: ModelRepository) -> tuple[str, bool | None]:
    """Which engine, and whether it was compiled again; a server of NVIDIA's does not say."""
    stored = {file.sha256 for file in repository.files if file.path.endswith(".engine")}
    found = LOADED.findall(log)
    if not found:
        return repository.engine_digest, None
    digest, how = found[-1]
    if digest not in stored or how != "as built":
        raise ServiceError(
            f"{name} does not serve the stored engine as it was built.",
            why=f"It loaded {digest[:19]} ({how}); the repository holds {', '.join(stored)[:60]}.",
            fix="Build for the node that serves it, and push again: pages 01 and 02.",
            page="06_troubleshoot",
        )
    return digest, False


def _ready_seconds(pod: Manifest) -> float:
    """From the pod's making until it was ready, in whole seconds as Kubernetes keeps them."""
    began = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    return (datetime.fromisoformat(ready["lastTransitionTime"]) - began).total_seconds()
