"""Each fault made for real on the cluster: the wait names its cause, and shows the line.

The services of a wave are deployed at once and waited for at once. What each wait took is printed
as a table when the module is over.
"""

import contextlib
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import boto3
import pytest

from runbook_lib.errors import RolloutError, RunbookError
from runbook_lib.kube.client import Kube
from runbook_lib.lab.cluster.cluster import restart, stop_part
from runbook_lib.repository.skeleton import skeleton
from runbook_lib.serving.kserve import refusal_named
from runbook_lib.serving.rollout import Rollout, wait_done, wait_ready
from runbook_lib.serving.rollout_status import status_table
from runbook_lib.serving.supervise import find

pytestmark = pytest.mark.timeout(400)

LIMIT = 60.0
BUCKET = "faults"
GPU = "nvidia.com/gpu"
REGISTRY_PORT = 5999
NODE = "faults-tainted"
READY = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 2}
SMALL = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m", "memory": "64Mi"}}
# A registry that knows no image, and wants a login for those below /private: what a node's
# container runtime gets from a real one in these two cases.
REGISTRY = """
import http.server, json, sys

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        private = "/private" in self.path
        code = "UNAUTHORIZED" if private else "MANIFEST_UNKNOWN"
        body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
        self.send_response(401 if private else 404)
        if private:
            self.send_header("WWW-Authenticate", 'Basic realm="faults"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""


@dataclass(frozen=True)
class Outcome:
    """How a wait ended, and after how many seconds."""

    seconds: float
    done: Rollout | None = None
    error: RolloutError | None = None


@dataclass(frozen=True)
class Fault:
    """A service that can't become ready, and the cause and words that must be told."""

    cause: str
    words: str
    model: dict | None = None
    predictor: dict | None = None
    namespace: str = "plain"
    limit: float = LIMIT


class Place:
    """A cluster with a store of repositories, and namespaces that go when the module is over."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.kube = Kube.connect(cluster.kubeconfig)
        self.s3 = boto3.client(
            "s3",
            endpoint_url=cluster.s3_endpoint,
            aws_access_key_id=cluster.credentials.access_key,
            aws_secret_access_key=cluster.credentials.secret_key,
            region_name="us-east-1",
        )
        self.spaces = {}
        self.table = []

    def make(self, kind, name, namespace=None, metadata=None, **rest):
        whole = {"name": name, **(metadata or {})} | ({"namespace": namespace} if namespace else {})
        version = self.kube.resource(kind).api_version
        return self.kube.apply({"apiVersion": version, "kind": kind, "metadata": whole, **rest})

    def namespace(self, purpose, labels=None):
        name = self.spaces[purpose] = f"faults-{purpose}-{uuid.uuid4().hex[:5]}"
        self.make("Namespace", name, metadata={"labels": labels or {}})
        keys = self.cluster.credentials
        for account, secret_key in (("store", keys.secret_key), ("wrong-store", "another")):
            host = self.cluster.s3_endpoint.removeprefix("http://")
            told = {"s3-endpoint": host, "s3-usehttps": "0", "s3-region": "us-east-1"}
            notes = {f"serving.kserve.io/{key}": text for key, text in told.items()}
            pair = {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
            self.make("Secret", account, name, {"annotations": notes}, stringData=pair)
            self.make("ServiceAccount", account, name, secrets=[{"name": account}])
        container = {
            "name": "kserve-container",
            "image": self.cluster.images.triton,
            "imagePullPolicy": "IfNotPresent",
            "args": ["tritonserver", "--model-repository=/mnt/models", "--http-port=8080"],
            "ports": [{"containerPort": 8080, "name": "http1", "protocol": "TCP"}],
            "readinessProbe": READY,
            "resources": SMALL,
        }
        formats = [{"name": "triton", "version": "2"}]
        spec = {"supportedModelFormats": formats, "protocolVersions": ["v2"]}
        self.make("ServingRuntime", "echo", name, spec={**spec, "containers": [container]})
        return name

    def service(self, namespace, name, *, model=None, notes=None, **predictor):
        """A minimal service: everything that isn't given is as a healthy one has it."""
        asked = {"modelFormat": {"name": "triton", "version": "2"}, "runtime": "echo"}
        asked |= {"protocolVersion": "v2", "storageUri": f"s3://{BUCKET}/good/", **(model or {})}
        base = {"minReplicas": 1, "maxReplicas": 1, "serviceAccountName": "store"}
        metadata = {"annotations": {"serving.kserve.io/autoscalerClass": "none", **(notes or {})}}
        spec = {"predictor": {**base, **predictor, "model": asked}}
        return self.make("InferenceService", name, self.spaces[namespace], metadata, spec=spec)

    def wait(self, namespace, name, limit=LIMIT):
        began = time.monotonic()
        try:
            outcome = Outcome(
                0, done=wait_ready(self.kube, self.spaces[namespace], name, timeout=limit)
            )
        except RolloutError as error:
            outcome = Outcome(0, error=error)
        seconds = time.monotonic() - began
        told = outcome.error.cause if outcome.error else "ready"
        self.table.append((name, told, seconds))
        return Outcome(seconds, outcome.done, outcome.error)

    def remove(self, namespace, name):
        self.kube.delete("InferenceService", name, self.spaces[namespace])

    def wave(self, faults):
        """Deploy some services at once, wait for each, and take them down."""
        for name, one in faults.items():
            self.service(one.namespace, name, model=one.model, **(one.predictor or {}))
        with ThreadPoolExecutor(len(faults)) as pool:
            waits = {
                name: pool.submit(self.wait, one.namespace, name, one.limit)
                for name, one in faults.items()
            }
            found = {name: wait.result() for name, wait in waits.items()}
        for name, one in faults.items():
            self.remove(one.namespace, name)
        return found

    def push(self, prefix, folder, *, empty=(), changed=None):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                body = (changed or {}).get(name, path.read_bytes())
                self.s3.put_object(
                    Bucket=BUCKET, Key=f"{prefix}/{name}", Body=b"" if name in empty else body
                )


@pytest.fixture(scope="module")
def place(cluster, tmp_path_factory, request):
    made = Place(cluster)
    with contextlib.suppress(made.s3.exceptions.ClientError):
        made.s3.create_bucket(Bucket=BUCKET)
    folder = tmp_path_factory.mktemp("repository") / "echo"
    skeleton(folder)
    made.push("good", folder)
    made.push("sibling/echo", folder)
    made.push("sibling/echo-old", folder)
    made.push("empty", folder, empty=["ensemble/1/placeholder.txt"])
    made.push("broken", folder, changed={"tokenizer/config.pbtxt": b'name: "tokenizer" [ nonsense'})
    try:
        made.namespace("plain")
        made.namespace("quota")
        made.namespace("left-out", labels={"control-plane": "somebody"})
        hard = {"hard": {"requests.memory": "8Mi", "limits.memory": "8Mi"}}
        made.make("ResourceQuota", "small", made.spaces["quota"], spec=hard)
        made.make("Node", NODE, metadata=tainted_node(), spec={"taints": [TAINT]})
        tiny = tiny_downloader(made.kube.get("ClusterStorageContainer", "default"))
        made.make("ClusterStorageContainer", "faults-tiny", spec=tiny)
        with registry(cluster):
            yield made
    finally:
        for name in made.spaces.values():
            made.kube.delete("Namespace", name)
            made.cluster.api.ask("DELETE", f"/api/v1/namespaces/{name}/pods?gracePeriodSeconds=1")
        made.kube.delete("Node", NODE)
        made.kube.delete("ClusterStorageContainer", "faults-tiny")
        # Until they are gone: a pod on its way out still holds the node's only GPU.
        while any(made.kube.get("Namespace", name) for name in made.spaces.values()):
            time.sleep(0.3)
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        reporter.write_line("")
        for name, told, seconds in sorted(made.table):
            reporter.write_line(f"{name:<16} {told:<34} {seconds:6.1f} s")


TAINT = {"key": "dedicated", "value": "research", "effect": "NoSchedule"}


def tainted_node():
    labels = {"faults": NODE, "kubernetes.io/hostname": NODE}
    return {"labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}


def tiny_downloader(shipped):
    """The cluster's own downloader, with less memory than Python needs to start it."""
    container = dict(shipped["spec"]["container"])
    container["resources"] = {"limits": {"memory": "16Mi"}, "requests": {"memory": "16Mi"}}
    formats = [{"prefix": f"s3://{BUCKET}/memory/"}]
    return {"container": container, "supportedUriFormats": formats, "workloadType": "initContainer"}


@contextlib.contextmanager
def registry(cluster):
    """In the node's own network, since a node takes plain HTTP from its loopback only."""
    node = find(cluster.folder / "parts", "node").server.pid
    argv = ["nsenter", "--target", str(node), "--net", sys.executable, "-c", REGISTRY]
    server = subprocess.Popen([*argv, str(REGISTRY_PORT)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.kill()
        server.wait()


def image(name):
    return {"image": f"127.0.0.1:{REGISTRY_PORT}/{name}:1"}


def limited(**limits):
    asked = {key.replace("gpu", GPU): text for key, text in limits.items()}
    return {"resources": {"limits": {**SMALL["limits"], **asked}, "requests": SMALL["requests"]}}


TINY = {"resources": {"limits": {"memory": "20Mi"}, "requests": {"cpu": "20m", "memory": "8Mi"}}}


def at(prefix):
    return {"storageUri": f"s3://{BUCKET}/{prefix}"}


NO_POD = {
    "bad-image": Fault("image-not-found", "not found", image("nope")),
    "no-login": Fault("image-unauthorised", "401", image("private/nope")),
    "no-registry": Fault("image-registry-away", "refused", {"image": "127.0.0.1:5/nope:1"}),
    "no-gpu": Fault("gpu-unavailable", f"Insufficient {GPU}", limited(gpu="4")),
    "tainted": Fault("taint", "dedicated", predictor={"nodeSelector": {"faults": NODE}}),
    "no-label": Fault("node-affinity", "affinity", predictor={"nodeSelector": {"faults": "none"}}),
    "over-quota": Fault("quota", "exceeded quota: small", namespace="quota"),
    "no-runtime": Fault("runtime-not-found", "", {"runtime": "nowhere"}),
    "no-account": Fault(
        "service-account-missing", '"nobody" not found', predictor={"serviceAccountName": "nobody"}
    ),
    "too-much": Fault("object-invalid", "must be less than or equal", limited(memory="8Mi")),
    "no-claim": Fault("pvc-missing", '"nothing" not found', {"storageUri": "pvc://nothing/model"}),
    "crashing": Fault(
        "crash-loop",
        "the moon is in the wrong house",
        {"command": ["sh", "-c", "echo the moon is in the wrong house; exit 3"]},
    ),
}
DOWNLOAD = {
    "no-bucket": Fault("no-such-bucket", "not found", {"storageUri": "s3://faults-no-such/x/"}),
    "wrong-key": Fault(
        "storage-credentials", "403", predictor={"serviceAccountName": "wrong-store"}
    ),
    "no-prefix": Fault("storage-prefix-empty", "No model found in", at("nowhere/")),
    "init-memory": Fault(
        "oom-init",
        "OOMKilled",
        at("memory/"),
        predictor={"storageContainerName": "faults-tiny"},
    ),
    "no-secret": Fault(
        "secret-missing",
        'secret "absent" not found',
        {"envFrom": [{"secretRef": {"name": "absent"}}]},
    ),
}
MODEL = {
    "no-slash": Fault("sibling-prefix", "sibling/echo-old/", at("sibling/echo")),
    "zero-bytes": Fault("placeholder-lost", "at least one version must be", at("empty/")),
    "broken-config": Fault("model-config-invalid", "pbtxt", at("broken/")),
}
SERVER = {
    "main-memory": Fault("oom-main", "OOMKilled", TINY),
    "left-out": Fault("storage-initializer-not-injected", "control-plane", namespace="left-out"),
    "no-answer": Fault(
        "probe-failing",
        "probe failed",
        {"readinessProbe": {"httpGet": {"path": "/nowhere", "port": 8080}, "periodSeconds": 2}},
        limit=30,
    ),
}
WAVES = (NO_POD, DOWNLOAD, MODEL, SERVER)


@pytest.fixture(scope="module")
def outcomes(place):
    found = {}
    for wave in WAVES:
        found |= place.wave(wave)
    return found


@pytest.mark.parametrize("name", [name for wave in WAVES for name in wave])
def test_a_fault_is_named_in_time_with_the_line_that_shows_it(name, outcomes, record_property):
    fault = next(wave[name] for wave in WAVES if name in wave)
    outcome = outcomes[name]
    record_property("seconds", round(outcome.seconds, 1))
    assert outcome.error is not None, "it became ready"
    assert outcome.error.cause == fault.cause, str(outcome.error)
    assert fault.words in outcome.error.why
    assert outcome.error.fix


# -- services that are well, and what befalls them -------------------------------------------------


@pytest.fixture(scope="module")
def healthy(place, outcomes):
    """Two services that became ready: one holds the node's only GPU, and has an autoscaler."""
    scaled = {"serving.kserve.io/autoscalerClass": "hpa"}
    place.service("plain", "one-gpu", model=limited(gpu="1"), notes=scaled)
    place.service("plain", "steady")
    with ThreadPoolExecutor(2) as pool:
        waits = {one: pool.submit(place.wait, "plain", one) for one in ("one-gpu", "steady")}
        yield {name: wait.result() for name, wait in waits.items()}


@pytest.mark.parametrize("name", ["one-gpu", "steady"])
def test_a_healthy_service_becomes_ready_without_a_cause(name, healthy, record_property):
    outcome = healthy[name]
    record_property("seconds", round(outcome.seconds, 1))
    assert outcome.error is None, str(outcome.error)
    assert [one.id for one in outcome.done.warnings if one.heals != "harmless"] == []
    assert outcome.done.table.rows[-1].state == "ready"


def test_an_autoscaler_without_metrics_is_a_warning_of_a_ready_service(place, healthy):
    began = time.monotonic()
    while not (cause := of(place, "one-gpu").cause):
        assert time.monotonic() < began + LIMIT
        time.sleep(1)
    place.table.append(("no-metrics", cause.id, time.monotonic() - began))
    assert (cause.id, of(place, "one-gpu").ready) == ("hpa-no-metrics", True)
    assert "unable to get metrics" in cause.evidence[0].text


def of(place, name):
    table = status_table(place.kube, place.spaces["plain"])
    return next(one for one in table.services if one.name == name)


def test_an_update_on_the_only_gpu_is_a_deadlock_that_names_the_pod_that_holds_it(place, healthy):
    [old] = pods(place, "one-gpu")
    changed = limited(gpu="1") | {"env": [{"name": "CHANGED", "value": "yes"}]}
    scaled = {"serving.kserve.io/autoscalerClass": "hpa"}
    place.service("plain", "one-gpu", model=changed, notes=scaled)
    outcome = place.wait("plain", "one-gpu")
    assert outcome.error.cause == "rolling-update-deadlock", str(outcome.error)
    assert f"Insufficient {GPU}" in outcome.error.why
    assert f"kubectl delete pod {old}" in outcome.error.fix


def pods(place, name):
    label = f"serving.kserve.io/inferenceservice={name}"
    found = place.kube.list("Pod", place.spaces["plain"], labels=label)
    return [one["metadata"]["name"] for one in found]


def test_an_update_to_a_bad_image_fails_and_is_rolled_back_although_the_service_stays_ready(
    place, healthy
):
    def back():
        place.service("plain", "steady")
        assert of(place, "steady").pods == "1/1", "the old pod went on serving"
        return "The image before was put back."

    place.service("plain", "steady", model=image("nope"))
    with pytest.raises(RolloutError) as failed:
        wait_ready(place.kube, place.spaces["plain"], "steady", timeout=LIMIT, roll_back=back)
    assert failed.value.cause == "image-not-found", str(failed.value)
    assert "The image before was put back." in failed.value.fix
    assert place.wait("plain", "steady").error is None


def test_a_webhook_that_is_down_is_named_by_the_wait_and_by_a_refused_change(place, healthy):
    [pod] = pods(place, "steady")
    try:
        stop_part(place.cluster, "kserve")
        place.kube.delete("Pod", pod, place.spaces["plain"])
        outcome = place.wait("plain", "steady")
        with pytest.raises(RunbookError) as refused:
            place.service("plain", "refused")
    finally:
        restart(place.cluster, "kserve")
    assert outcome.error.cause == "webhook-down", str(outcome.error)
    assert "failed calling webhook" in outcome.error.why
    with pytest.raises(RolloutError) as told, refusal_named("refused", place.spaces["plain"]):
        raise refused.value
    assert told.value.cause == "webhook-down"
    assert "failed calling webhook" in told.value.why
    assert place.wait("plain", "steady").done is not None, "it heals when the manager is back"


def test_a_wait_outlives_a_restart_of_the_api_server_and_lists_nothing_twice(place, healthy):
    slow = {"command": ["sh", "-c", 'sleep 12; exec "$0" "$@"']}
    place.service("plain", "slow", model=slow)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.wait, "plain", "slow")
        time.sleep(4)
        restart(place.cluster, "kube-apiserver")
        outcome = waiting.result()
    assert outcome.error is None, str(outcome.error)
    # One list for each of the nine kinds; a server that starts may have forgotten some points.
    assert outcome.done.lists <= 18


# -- jobs ------------------------------------------------------------------------------------------


def job(place, name, command):
    container = {
        "name": "build",
        "image": place.cluster.images.triton,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", command],
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    place.make("Job", name, place.spaces["plain"], spec=spec)


def test_a_job_that_fails_is_told_with_its_last_words_and_one_that_works_is_done(place):
    job(place, "fails", "echo begun; echo the moon is in the wrong house; exit 7")
    job(place, "works", "echo done")
    with pytest.raises(RolloutError) as failed:
        wait_done(place.kube, place.spaces["plain"], "fails", timeout=LIMIT)
    assert failed.value.cause == "job-failed", str(failed.value)
    assert "the moon is in the wrong house" in failed.value.why
    done = wait_done(place.kube, place.spaces["plain"], "works", timeout=LIMIT)
    assert done.table.waiting_for == ""
