"""Objects of other operators, judged by their real types: what is rendered, and what KServe makes of it."""

import json
import time
from pathlib import Path

import pytest

from runbook_lib.kube.client import Kube
from runbook_lib.lab.cluster.cluster import restart
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving.kserve_words import find_kserve
from runbook_lib.serving.manifests import render
from runbook_lib.serving.manifests_target import deployment

TYPES = json.loads((Path(__file__).parents[1] / "data/kubernetes/operators.json").read_text())
KINDS = [kind for kind in TYPES if kind != "source"]


def definition(kind):
    row = TYPES[kind]
    version = {"name": row["version"], "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": row["schema"]}
    if row["subresources"]:
        version["subresources"] = row["subresources"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{row['names']['plural']}.{row['group']}"},
        "spec": {key: row[key] for key in ("group", "names", "scope")} | {"versions": [version]},
    }


@pytest.fixture(scope="module")
def kube(cluster):
    """A cluster that has KEDA's and the Prometheus operator's types, and a KServe that knows it."""
    kube = Kube.connect(cluster.kubeconfig)
    definitions = [definition(kind) for kind in KINDS]
    try:
        for one in definitions:
            kube.apply(one)
        until(lambda: all(kube.has(kind) for kind in KINDS), "the types are not served")
        restart(cluster, "kserve")  # it looks for KEDA's types when it starts
        yield kube
    finally:
        for one in definitions:
            kube.delete("CustomResourceDefinition", one["metadata"]["name"])
        restart(cluster, "kserve")


def until(true, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return found


def rendered(kube, namespace, **settings):
    profile = DeploymentProfile.model_validate({"model_name": "scaled", "kserve": settings})
    target = deployment(
        profile,
        profile.kserve,
        find_kserve(kube),
        namespace=str(namespace),
        pod_monitors=kube.has("PodMonitor"),
        scaled_objects=kube.has("ScaledObject"),
    )
    return {one["kind"]: one for one in render(target)}


def test_a_pod_monitor_is_rendered_and_taken_where_its_type_is(kube, module_namespace):
    made = rendered(kube, module_namespace)
    taken = kube.apply(made["PodMonitor"], dry_run=True)
    (endpoint,) = taken["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "15s"}
    assert taken["spec"]["selector"] == made["PodMonitor"]["spec"]["selector"]
    notes = made["InferenceService"]["spec"]["predictor"]["annotations"]
    assert not [name for name in notes if name.startswith("prometheus.io/")]


def test_kserve_makes_the_scaled_object_from_what_is_rendered(kube, module_namespace):
    made = rendered(
        kube,
        module_namespace,
        max_replicas=3,
        node_selector={"no": "node"},
        autoscaling={"by": "keda", "prometheus": "http://prometheus.monitoring:9090"},
    )
    for manifest in made.values():
        kube.apply(manifest)
    namespace = str(module_namespace)
    name = "scaled-predictor"
    found = until(lambda: kube.get("ScaledObject", name, namespace), "KServe made no ScaledObject")
    spec = found["spec"]
    assert spec["scaleTargetRef"]["name"] == name
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 3)
    (trigger,) = spec["triggers"]
    predictor = made["InferenceService"]["spec"]["predictor"]
    (asked,) = predictor["autoScaling"]["metrics"]
    assert trigger["type"] == "prometheus"
    assert "metricType" not in trigger, "KEDA's own default shares the metric among the replicas"
    assert trigger["metadata"]["query"] == asked["external"]["metric"]["query"]
    assert trigger["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
    assert trigger["metadata"]["threshold"] == "4"
    assert kube.get("HorizontalPodAutoscaler", name, namespace) is None
