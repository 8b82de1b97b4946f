"""What `runbook status` costs where there is much to tell: 100 pretended nodes, 300 services.

Prints JSON. The services are real InferenceServices of the cluster's KServe; their pods stand on
nodes that KWOK pretends, and every tenth asks for more GPUs than a node has. Takes the cluster that
KUBECONFIG names, which must have KServe and KWOK, else the lab's.
"""

import argparse
import json
import os
import resource
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runbook_lib.kube.client import Kube
from runbook_lib.serving.rollout_status import StatusTable, status_table

TAINT = {"key": "status-scale", "value": "bench", "effect": "NoSchedule"}
GPU = "nvidia.com/gpu"
LOOKS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--services", type=int, default=300)
    wanted = parser.parse_args()
    kube = Kube.connect(os.environ.get("KUBECONFIG") or lab_cluster())
    space = f"status-scale-{uuid.uuid4().hex[:5]}"
    nodes = [f"{space}-{number}" for number in range(wanted.nodes)]
    try:
        prepare(kube, space, nodes)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: service(kube, space, one), range(wanted.services)))
        ill = len(range(0, wanted.services, 10))
        table = settled(kube, space, wanted.services - ill)
        found = {"settled_s": round(time.monotonic() - began, 1), **measure(kube, space)}
        named = [one.cause.id for one in table.services if one.cause]
        found |= {
            "nodes": wanted.nodes,
            "services": len(table.services),
            "ready": sum(one.ready for one in table.services),
            "causes": {one: named.count(one) for one in sorted(set(named))},
        }
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    finally:
        kube.delete("Namespace", space)
        for name in nodes:
            kube.delete("Node", name)


def lab_cluster() -> str:
    from runbook_lib.lab.cluster.cluster import current

    return str(current().kubeconfig)


def prepare(kube: Kube, space: str, nodes: list[str]) -> None:
    make(kube, "Namespace", space)
    for name in nodes:
        labels = {"status-scale": space, "kubernetes.io/hostname": name}
        metadata = {"labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        offered = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: "8"}
        make(kube, "Node", name, None, metadata, spec={"taints": [TAINT]})
        path = kube.resource("Node").path(None, name) + "/status"
        body = {"status": {"capacity": offered, "allocatable": offered}}
        kube.call("PATCH", path, None, body, "application/merge-patch+json")
    container = {"name": "kserve-container", "image": "pretended/triton:1"}
    spec = {
        "supportedModelFormats": [{"name": "triton", "version": "2"}],
        "protocolVersions": ["v2"],
        "containers": [container],
    }
    make(kube, "ServingRuntime", "echo", space, spec=spec)


def service(kube: Kube, space: str, number: int) -> None:
    gpus = "16" if number % 10 == 0 else "1"
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "protocolVersion": "v2",
        "runtime": "echo",
        "resources": {"limits": {GPU: gpus, "cpu": "1", "memory": "1Gi"}},
    }
    predictor = {
        "minReplicas": 1,
        "maxReplicas": 1,
        "nodeSelector": {"status-scale": space},
        "tolerations": [{"key": TAINT["key"], "operator": "Exists"}],
        "model": model,
    }
    metadata = {"annotations": {"serving.kserve.io/autoscalerClass": "none"}}
    spec = {"predictor": predictor}
    make(kube, "InferenceService", f"service-{number}", space, metadata, spec=spec)


def make(kube: Kube, kind: str, name: str, space: str | None = None, metadata=None, **rest) -> None:
    whole = {"name": name, **(metadata or {})} | ({"namespace": space} if space else {})
    version = kube.resource(kind).api_version
    kube.apply({"apiVersion": version, "kind": kind, "metadata": whole, **rest})


def settled(kube: Kube, space: str, well: int, limit: float = 240.0) -> StatusTable:
    """When every service that can be ready is: the controllers need their time, it is not measured."""
    deadline = time.monotonic() + limit
    while True:
        table = status_table(kube, space)
        if sum(one.ready for one in table.services) >= well or time.monotonic() > deadline:
            return table
        time.sleep(2)


def measure(kube: Kube, space: str) -> dict[str, object]:
    """The same table again and again: its seconds, its list calls, and what memory it leaves."""
    status_table(kube)
    before = resident_mb()
    seconds, lists = [], set()
    for _ in range(LOOKS):
        began = time.perf_counter()
        lists.add(status_table(kube).lists)
        seconds.append(round(time.perf_counter() - began, 3))
    one_space = time.perf_counter()
    status_table(kube, space)
    return {
        "looks": LOOKS,
        "whole_cluster_s": {"median": sorted(seconds)[LOOKS // 2], "worst": max(seconds)},
        "one_namespace_s": round(time.perf_counter() - one_space, 3),
        "list_calls": sorted(lists),
        "resident_mb": {"after_1": before, f"after_{LOOKS + 1}": resident_mb()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def resident_mb() -> int:
    with Path("/proc/self/status").open(encoding="utf-8") as status:
        line = next(one for one in status if one.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
