"""The nodes: what the real one pretends, and those that KWOK plays, from `nodes.json`.

A pretended node takes only pods that tolerate `kwok.x-k8s.io/node`, so that whatever should run for
real lands on the real node.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.lab.cluster.api import Api
from runbook_lib.lab.cluster.pki import NODE_NAME

__all__ = ["create_pretended", "heartbeat", "pretend_gpus", "pretended_node", "pretended_nodes"]

DATA = Path(__file__).resolve().parent / "nodes.json"
NODES = "/api/v1/nodes"
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
ORDINARY = {"cpu": "128", "memory": "1Ti", "pods": "250", "ephemeral-storage": "2Ti"}


@cache
def _data() -> dict[str, Any]:
    said: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return said


def _labels(entry: dict[str, Any]) -> dict[str, str]:
    """GPU feature discovery's labels: the GPU's, and with strategy `mixed` those of each slice."""
    found = dict(entry["labels"])
    for name, slice_ in entry.get("slices", {}).items():
        slice_facts = {"product": f"{found['gpu.product']}-MIG-{name}", "replicas": "1", **slice_}
        found |= {f"mig-{name}.{key}": value for key, value in slice_facts.items()}
    return {f"nvidia.com/{key}": value for key, value in found.items()}


def pretended_node(kind: str, name: str) -> dict[str, Any]:
    """The Node of one kind in `nodes.json`, under a name of one's own."""
    entry = _data()["pretended"][kind]
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    capacity = {**ORDINARY, **entry["capacity"]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {**labels, "type": "kwok", **_labels(entry)},
        },
        "spec": {"taints": [TAINT]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def pretended_nodes() -> list[dict[str, Any]]:
    """One Node of each kind, named `kwok-KIND`."""
    return [pretended_node(kind, f"kwok-{kind}") for kind in _data()["pretended"]]


def create_pretended(api: Api) -> None:
    """Create them."""
    for node in pretended_nodes():
        api.create(NODES, node)


def heartbeat(api: Api) -> str:
    """When the real node last said that it is ready; empty while it did not."""
    status, node = api.ask("GET", f"{NODES}/{NODE_NAME}")
    if status != 200:
        return ""
    conditions = node["status"].get("conditions") or ()
    ready = [one for one in conditions if one["type"] == "Ready" and one["status"] == "True"]
    return str(ready[0]["lastHeartbeatTime"]) if ready else ""


def pretend_gpus(api: Api, count: int | None = None) -> None:
    """Give the real node GPUs that it hasn't: one, or as many as said. A started kubelet forgets them."""
    entry = _data()["real"]
    capacity = dict(entry["capacity"]) if count is None else {"nvidia.com/gpu": str(count)}
    api.patch(f"{NODES}/{NODE_NAME}", {"metadata": {"labels": _labels(entry)}})
    status = {"status": {"capacity": capacity, "allocatable": capacity}}
    api.patch(f"{NODES}/{NODE_NAME}/status", status)
