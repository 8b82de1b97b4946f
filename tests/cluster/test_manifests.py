"""Every rendered manifest is taken by the real API server, its CRDs and KServe's webhooks."""

import json
import secrets
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from runbook_lib.errors import PreflightError, ServiceError
from runbook_lib.hardware import gpu
from runbook_lib.kube.apply import apply_all, changes_of, differences_of
from runbook_lib.kube.client import Kube
from runbook_lib.kube.errors import ApiError
from runbook_lib.kube.forward import forward
from runbook_lib.profile import DeploymentProfile, MigProfile, load_profile, profiles_dir
from runbook_lib.profile_kserve import Toleration
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.skeleton import skeleton
from runbook_lib.repository.store import push
from runbook_lib.serving.kserve_words import KServe, find_kserve
from runbook_lib.serving.manifests import render
from runbook_lib.serving.manifests_target import deployment
from runbook_lib.serving.rollout import wait_ready
from runbook_lib.serving.triton import generate, is_ready, post_json

FAKE_NODE = Toleration(key="kwok.x-k8s.io/node", operator="Exists")
MIG = sorted(path.stem for path in (profiles_dir() / "mig").glob("*.yaml"))
GPUS = {"a100": "A100-SXM-40GB", "h100": "H100-SXM-80GB"}


@pytest.fixture(scope="module")
def kube(cluster):
    return Kube.connect(cluster.kubeconfig)


@pytest.fixture(scope="module")
def kserve(kube):
    return find_kserve(kube)


def profile(**changes):
    return DeploymentProfile.model_validate({"model_name": "llama-2-7b"} | changes)


def rendered(kube, given, namespace, **more):
    target = deployment(
        given,
        given.kserve,
        find_kserve(kube),
        namespace=str(namespace),
        pod_monitors=kube.has("PodMonitor"),
        repository_bytes=1,
        **more,
    )
    return render(target)


def test_the_version_of_kserve_is_read_from_its_schema(cluster, kserve):
    wanted = tuple(int(part) for part in cluster.versions["kserve"].split(".")[:2])
    assert kserve.version <= wanted
    assert kserve.version >= (0, 16)
    # What its schema shows is enough for the words of the version that runs.
    running = KServe(wanted, "the lab")
    assert kserve.deployment_mode == running.deployment_mode


SHAPES = {
    "one GPU": {"gpu": "H100-SXM-80GB"},
    "ranks": {"gpu": "H100-SXM-80GB", "tensor_parallel_size": 4},
    "a slice": {"gpu": "A100-SXM-40GB:1g.5gb"},
    "a slice of the single strategy": {
        "gpu": "A100-SXM-40GB:1g.5gb",
        "kserve": {"mig_strategy": "single"},
    },
    "llmapi": {"track": "llmapi"},
    "replicas by an adapter's metric": {
        "kserve": {"min_replicas": 2, "max_replicas": 4, "autoscaling": {"by": "hpa"}}
    },
    "replicas by KEDA": {
        "kserve": {
            "max_replicas": 2,
            "autoscaling": {"by": "keda", "prometheus": "http://prometheus:9090"},
        }
    },
    "a cache on the nodes of a group": {"kserve": {"local_cache_group": "a100"}},
    "identities and pull secrets": {
        "kserve": {
            "aws_role_arn": "arn:aws:iam::123456789012:role/models",
            "storage_secret": "models-s3",
            "image_pull_secrets": ["registry"],
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "dedicated", "value": "llm", "effect": "NoSchedule"}],
        }
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_server_takes_every_object_as_it_is_rendered(kube, module_namespace, shape):
    manifests = rendered(kube, profile(**SHAPES[shape]), module_namespace)
    for manifest in manifests:
        taken = kube.apply(manifest, dry_run=True)
        assert covers(
            taken["spec"] if "spec" in manifest else taken, manifest.get("spec", manifest)
        )


def covers(taken, given):
    """Everything that was given is there again: no field was dropped or rewritten."""
    if isinstance(given, dict):
        return all(key in taken and covers(taken[key], value) for key, value in given.items())
    if isinstance(given, list):
        return len(taken) >= len(given) and all(
            any(covers(there, one) for there in taken) for one in given
        )
    return taken == given


def test_the_guides_deployment_is_planned_without_a_change(kube, module_namespace):
    given = load_profile("llama-7b", env={}).value
    manifests = rendered(kube, given, module_namespace)
    planned = changes_of(kube, manifests)
    assert {change.verb for change in planned} == {"create"}
    assert len(planned) == len(manifests)
    assert kube.list("InferenceService", str(module_namespace)) == []


def test_a_field_that_the_version_does_not_know_is_told_by_its_name(kube, module_namespace):
    manifests = rendered(kube, profile(), module_namespace)
    runtime = next(one for one in manifests if one["kind"] == "ServingRuntime")
    runtime["spec"]["initContainerz"] = []
    with pytest.raises(PreflightError, match="does not know a field") as refusal:
        kube.apply(runtime, dry_run=True)
    assert "initContainerz" in refusal.value.why


def test_what_the_webhook_refuses_is_told_in_its_words(kube, module_namespace):
    manifests = rendered(kube, profile(), module_namespace)
    service = next(one for one in manifests if one["kind"] == "InferenceService")
    service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "Somehow"
    with pytest.raises(ServiceError, match="refused to apply InferenceService") as refusal:
        kube.apply(service, dry_run=True)
    assert "Somehow" in refusal.value.why or "deployment mode" in refusal.value.why


# -- other versions' schemas -----------------------------------------------------------------------

SCHEMAS = json.loads((Path(__file__).parents[1] / "data/kserve/crds.json").read_text("utf-8"))
VERSIONS = [name for name in SCHEMAS if name != "source"]


@pytest.fixture(params=VERSIONS)
def older(request, kube):
    """A KServe version's types in a group of their own: (version, that group). Schemas, no controller."""
    group = f"v{request.param.replace('.', '-')}-{secrets.token_hex(2)}.kserve.test"
    names = []
    for kind, row in SCHEMAS[request.param].items():
        names.append(f"{row['plural']}.{group}")
        kube.apply(definition(names[-1], group, kind, row))
    wait_established(kube, names)
    yield tuple(int(part) for part in request.param.split(".")[:2]), group
    for name in names:
        kube.delete("CustomResourceDefinition", name)


def definition(name, group, kind, row):
    version = {
        "name": row["version"],
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": row["schema"]},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": row["scope"],
            "names": {"kind": kind, "plural": row["plural"]},
            "versions": [version],
        },
    }


def wait_established(kube, names):
    deadline = time.monotonic() + 60
    for name in names:
        while True:
            status = kube.get("CustomResourceDefinition", name).get("status", {})
            found = status.get("conditions") or ()  # null until the server has looked at it
            if any((one["type"], one["status"]) == ("Established", "True") for one in found):
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


def taken_by(kube, group, row, manifest):
    """A strict dry run against that version's schema; retried while the server puts it together."""
    path = f"/apis/{group}/{row['version']}"
    if row["scope"] == "Namespaced":
        path += f"/namespaces/{manifest['metadata']['namespace']}"
    body = manifest | {"apiVersion": f"{group}/{row['version']}"}
    deadline = time.monotonic() + 30
    while True:
        try:
            query = {"dryRun": "All", "fieldValidation": "Strict"}
            return kube.call("POST", f"{path}/{row['plural']}", query, body)
        except ApiError as error:
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_the_schemas_of_each_version_take_what_is_rendered_for_it(kube, older, module_namespace):
    version, group = older
    schemas = SCHEMAS[next(name for name in VERSIONS if name.startswith("{}.{}.".format(*version)))]
    seen = set()
    for given in (profile(**shape) for shape in SHAPES.values()):
        target = deployment(
            given,
            given.kserve,
            KServe(version, "its schema"),
            namespace=str(module_namespace),
            repository_bytes=1,
        )
        for manifest in render(target):
            if row := schemas.get(manifest["kind"]):
                taken = taken_by(kube, group, row, manifest)
                assert covers(taken["spec"], manifest["spec"])
                seen.add(manifest["kind"])
    assert seen == set(schemas)


def test_a_field_that_a_version_lacks_is_refused_by_its_schema(kube, older, module_namespace):
    _, group = older
    row = SCHEMAS[VERSIONS[0]]["InferenceService"]
    manifests = rendered(kube, profile(), module_namespace)
    service = next(one for one in manifests if one["kind"] == "InferenceService")
    service["spec"]["canary"] = []
    with pytest.raises(ApiError, match=r"unknown field .*canary"):
        taken_by(kube, group, row, service)


# -- the whole, served -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(cluster, kube, module_namespace, tmp_path_factory):
    """A lab service as it is rendered, ready; a function that renders it for a content."""
    folder = tmp_path_factory.mktemp("served") / "models"
    skeleton(folder)
    # A bucket of the tests' together: each takes a share of the lab store's volumes.
    uri = "s3://cluster-tests/manifests"
    push(folder, f"{uri}/", credentials=access(cluster), create_bucket=True, replace=True)
    given = DeploymentProfile.model_validate(
        load_profile("lab/tiny", env={}).value.model_dump()
        | {
            "model_repository": uri,
            "kserve": {
                "name": "served",
                "image": cluster.images.triton,
                "storage_secret": module_namespace.secret,
                "cpu": "50m",
            },
        }
    )

    def manifests(digest):
        return rendered(kube, given, module_namespace, content_digest=digest)

    apply_all(kube, manifests("sha256:1"))
    wait_ready(kube, str(module_namespace), "served", timeout=120)
    return manifests


def pods(kube, namespace):
    return kube.list("Pod", str(namespace), labels="serving.kserve.io/inferenceservice=served")


def test_the_rendered_lab_service_starts_and_serves(kube, served, module_namespace):
    """The runtime's own words at work: named ports, probes, homes, memory, keys by annotation."""
    namespace = str(module_namespace)
    (found,) = pods(kube, namespace)
    (container,) = found["spec"]["containers"]
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["startupProbe"]["httpGet"]["path"] == "/v2/health/ready"
    service = kube.get("Service", "served-predictor", namespace)
    ports = {one["name"]: one for one in service["spec"]["ports"]}
    assert ports["http1"]["port"] == 80
    assert ports["h2c"]["appProtocol"] == "kubernetes.io/h2c"
    assert kube.get("HorizontalPodAutoscaler", "served-predictor", namespace) is None
    name = found["metadata"]["name"]
    with forward(kube, name, 8080, namespace=namespace) as port:
        url = f"http://127.0.0.1:{port}"
        assert is_ready(url)
        answer = post_json(f"{url}/v2/repository/index", {})
    assert {one["state"] for one in answer} == {"READY"}
    with (
        forward(kube, name, 8002, namespace=namespace) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as said,
    ):
        assert b"nv_inference_pending_request_count" in said.read()


def test_an_update_under_load_loses_no_request(kube, served, module_namespace):
    """A new content is a new pod; the old one leaves when the Service knows, and answers until then."""
    namespace = str(module_namespace)
    (before,) = pods(kube, namespace)
    address = kube.get("Service", "served-predictor", namespace)["spec"]["clusterIP"]
    answered, failed, enough = [], [], threading.Event()

    def ask():
        while not enough.is_set():
            try:
                answered.append(generate(f"http://{address}", "ensemble", "hello", max_tokens=4))
            except ServiceError as error:
                failed.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for one in threads:
        one.start()
    try:
        apply_all(kube, served("sha256:2"))
        wait_ready(kube, namespace, "served", timeout=120)
        deadline = time.monotonic() + 90
        while len(left := pods(kube, namespace)) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        enough.set()
        for one in threads:
            one.join(60)
    assert failed == []
    assert len(answered) > 10
    assert left[0]["metadata"]["name"] != before["metadata"]["name"]


def access(cluster):
    keys = cluster.credentials
    return S3Access(cluster.s3_endpoint, keys.access_key, keys.secret_key)


# -- where pods go ---------------------------------------------------------------------------------


def device_of(name):
    mig = load_profile(f"mig/{name}", kind=MigProfile, env={}).value
    (resource,) = mig.resources.limits
    part = resource.partition("mig-")[2]
    whole = GPUS.get(name.partition("-")[0], GPUS["h100"])
    return (f"{whole}:{part}" if part else whole), resource


CASES = {name: (*device_of(name), "mixed") for name in MIG} | {
    "single strategy": ("A100-SXM-40GB:1g.5gb", "nvidia.com/gpu", "single"),
    "whole L40S": ("L40S", "nvidia.com/gpu", "mixed"),
}


def test_pods_of_each_gpu_and_slice_go_to_their_node_and_to_no_other(kube, module_namespace):
    """All at once on the pretended nodes; what could go elsewhere is spread over by the scheduler."""
    labels = {
        node["metadata"]["name"]: node["metadata"]["labels"]
        for node in kube.list("Node")
        if "nvidia.com/gpu.product" in node["metadata"]["labels"]
    }
    wanted = {}
    for number, (name, (device, resource, strategy)) in enumerate(CASES.items()):
        service = f"slice-{number}-{secrets.token_hex(2)}"
        given = profile(
            gpu=device,
            kserve={
                "name": service,
                "mig_strategy": strategy,
                "cpu": "1",
                "memory": "64Mi",
                "tolerations": [FAKE_NODE.model_dump()],
            },
        )
        for manifest in rendered(kube, given, module_namespace):
            if manifest["kind"] == "InferenceService":
                for copy in ("a", "b"):  # two of each: one could land right by luck
                    pod = pod_of(manifest, f"{service}-{copy}", module_namespace)
                    kube.apply(pod)
                    wanted[f"{service}-{copy}"] = (name, device, resource, strategy)
    placed = wait_placed(kube, str(module_namespace), list(wanted))
    for service, (name, device, resource, strategy) in wanted.items():
        node = placed[service]
        found = labels[node]
        sm = gpu(device.partition(":")[0]).sm.removeprefix("sm")
        labelled = (found["nvidia.com/gpu.compute.major"], found["nvidia.com/gpu.compute.minor"])
        assert "".join(labelled) == sm, name
        assert device.split("-")[0] in found["nvidia.com/gpu.product"], name
        if ":" in device:
            assert found["nvidia.com/mig.strategy"] == strategy, name
        else:
            assert "MIG" not in found["nvidia.com/gpu.product"], name
        assert resource == "nvidia.com/gpu" or f"{resource}.count" in found, name


def pod_of(manifest, name, namespace):
    """The pod that KServe would make of a predictor, as far as the scheduler looks at it."""
    predictor = manifest["spec"]["predictor"]
    container = {
        "name": "kserve-container",
        "image": "none",
        "resources": predictor["model"]["resources"],
    }
    kept = ("affinity", "tolerations", "nodeSelector", "topologySpreadConstraints")
    spec = {key: predictor[key] for key in kept if key in predictor}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": str(namespace)},
        "spec": spec | {"containers": [container]},
    }


def wait_placed(kube, namespace, names, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        pods = {one["metadata"]["name"]: one for one in kube.list("Pod", namespace)}
        placed = {name: pods[name]["spec"].get("nodeName") for name in names}
        if all(placed.values()):
            return placed
        assert time.monotonic() < deadline, {
            name: pods[name]["status"].get("conditions") for name in names if not placed[name]
        }
        time.sleep(0.3)


# -- apply -----------------------------------------------------------------------------------------


def config(namespace, **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "shared", "namespace": str(namespace)},
        "data": data,
    }


def test_a_field_of_somebody_else_stops_everything_until_it_is_forced(kube, namespace):
    path = kube.resource("ConfigMap").path(str(namespace), "shared")
    kube.call(
        "PATCH",
        path,
        {"fieldManager": "the-other"},
        config(namespace, colour="red"),
        "application/apply-patch+yaml",
    )
    first = config(namespace, size="1") | {
        "metadata": {"name": "first", "namespace": str(namespace)}
    }
    ours = [first, config(namespace, colour="blue")]
    with pytest.raises(ServiceError, match="Somebody else manages") as refusal:
        apply_all(kube, ours)
    assert ".data.colour belongs to the-other" in refusal.value.why
    assert kube.get("ConfigMap", "first", str(namespace)) is None

    (planned,) = [one for one in differences_of(kube, ours) if one.conflicts]
    assert "-  colour: red" in planned.text
    assert "+  colour: blue" in planned.text
    apply_all(kube, ours, force=True)
    assert kube.get("ConfigMap", "shared", str(namespace))["data"] == {"colour": "blue"}


def test_what_somebody_else_made_alike_is_ours_too_once_it_is_applied(kube, namespace):
    path = kube.resource("ConfigMap").path(str(namespace))
    kube.call("POST", path, {"fieldManager": "kubectl-create"}, config(namespace, a="1", b="1"))
    (planned,) = differences_of(kube, [config(namespace, a="1", b="1")])
    assert planned.verb == "keep"
    apply_all(kube, [config(namespace, a="1", b="1")])
    managers = kube.get("ConfigMap", "shared", str(namespace))["metadata"]["managedFields"]
    assert {one["manager"] for one in managers} == {"kubectl-create", "runbook"}


def test_what_we_no_longer_write_is_shown_as_removed_and_what_others_wrote_stays(kube, namespace):
    apply_all(kube, [config(namespace, ours="1", gone="1")])
    path = kube.resource("ConfigMap").path(str(namespace), "shared")
    kube.call("PATCH", path, None, {"data": {"theirs": "1"}}, "application/merge-patch+json")
    (planned,) = differences_of(kube, [config(namespace, ours="2")])
    assert planned.verb == "change"
    assert planned.fields == ("data.gone", "data.ours")
    apply_all(kube, [config(namespace, ours="2")])
    assert kube.get("ConfigMap", "shared", str(namespace))["data"] == {"ours": "2", "theirs": "1"}
    assert changes_of(kube, [config(namespace, ours="2")]) == []
