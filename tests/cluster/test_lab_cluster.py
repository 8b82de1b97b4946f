"""The test cluster itself: it serves for real, schedules as told, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
import pytest

from runbook_lib.lab.cluster import cluster as clusters
from runbook_lib.lab.cluster.host import cgroup_of, link_of
from runbook_lib.lab.cluster.start import PARTS
from runbook_lib.lab.lab import Lab
from runbook_lib.repository.skeleton import skeleton
from runbook_lib.serving import keeper
from runbook_lib.serving.supervise import Owner, find, listing

BUCKET = "cluster-tests"


def wait_until(true, seconds, what):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.2)
    return found


def store_of(cluster):
    return boto3.client(
        "s3",
        endpoint_url=cluster.s3_endpoint,
        aws_access_key_id=cluster.credentials.access_key,
        aws_secret_access_key=cluster.credentials.secret_key,
        region_name=cluster.credentials.region,
    )


def push_skeleton(cluster, folder, prefix):
    store = store_of(cluster)
    if BUCKET not in {one["Name"] for one in store.list_buckets()["Buckets"]}:
        store.create_bucket(Bucket=BUCKET)
    skeleton(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")
    return f"s3://{BUCKET}/{prefix}/"


def runtime(cluster):
    container = {
        "name": "kserve-container",
        "image": cluster.images.triton,
        "command": ["tritonserver"],
        "args": ["--model-repository=/mnt/models", "--http-port=8080"],
        "ports": [{"name": "http1", "containerPort": 8080}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": 8080},
            "periodSeconds": 1,
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "triton"},
        "spec": {
            "containers": [container],
            "protocolVersions": ["v2"],
            "supportedModelFormats": [{"name": "skeleton"}],
        },
    }


def service(uri, account, gpus):
    model = {
        "modelFormat": {"name": "skeleton"},
        "runtime": "triton",
        "protocolVersion": "v2",
        "storageUri": uri,
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": gpus},
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "skeleton"},
        "spec": {"predictor": {"serviceAccountName": account, "model": model, "maxReplicas": 1}},
    }


def is_ready(cluster, path):
    conditions = cluster.api.get(path).get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def test_an_inference_service_loads_from_the_object_store_and_answers_through_its_service(
    cluster, namespace, tmp_path
):
    uri = push_skeleton(cluster, tmp_path / "repository", namespace.name)
    group = f"/apis/serving.kserve.io/{{}}/namespaces/{namespace}"
    cluster.api.create(f"{group.format('v1alpha1')}/servingruntimes", runtime(cluster))
    services = f"{group.format('v1beta1')}/inferenceservices"
    cluster.api.create(services, service(uri, namespace.service_account, "1"))

    wait_until(
        lambda: is_ready(cluster, f"{services}/skeleton"),
        120,
        lambda: json.dumps(
            cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"][-1]["status"]
        ),
    )

    address = cluster.api.get(f"/api/v1/namespaces/{namespace}/services/skeleton-predictor")["spec"]
    said = json.dumps({"text_input": "one two", "max_tokens": 2}).encode()
    # The service's address is the cluster's: kube-proxy carries it to the pod.
    asked = urllib.request.Request(
        f"http://{address['clusterIP']}/v2/models/ensemble/generate",
        said,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        assert json.load(answer)["text_output"] == "on"
    (pod,) = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    assert pod["spec"]["nodeName"] == cluster.node
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["storage-initializer"]


def pod(cluster, name, limits, **spec):
    container = {
        "name": "main",
        "image": cluster.images.pause,
        "imagePullPolicy": "Never",
        "resources": {"limits": limits},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def scheduled(cluster, namespace, name):
    found = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    conditions = {one["type"]: one for one in found["status"].get("conditions") or ()}
    said = conditions.get("PodScheduled")
    return said and (said["status"], found["spec"].get("nodeName", said.get("message", "")))


PRETENDED = {"tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("slice_", "node"),
    [
        ("1g.10gb", "kwok-h100-mig-mixed"),
        ("3g.40gb", "kwok-h100-mig-mixed"),
        ("1g.5gb", "kwok-a100-mig-mixed"),
        ("2g.10gb", "kwok-a100-mig-mixed"),
        ("3g.20gb", "kwok-a100-mig-mixed"),
    ],
)
def test_a_pod_that_asks_for_a_slice_lands_where_that_slice_is(cluster, namespace, slice_, node):
    made = pod(cluster, "slice", {f"nvidia.com/mig-{slice_}": "1"}, **PRETENDED)
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", made)
    assert wait_until(lambda: scheduled(cluster, namespace, "slice"), 30, "unscheduled") == (
        "True",
        node,
    )


def test_a_slice_of_a_gpu_with_one_kind_of_slices_is_asked_for_as_a_gpu(cluster, namespace):
    product = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"}
    made = pod(cluster, "slice", {"nvidia.com/gpu": "1"}, nodeSelector=product, **PRETENDED)
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", made)
    said = wait_until(lambda: scheduled(cluster, namespace, "slice"), 30, "unscheduled")
    assert said == ("True", "kwok-a100-mig-single")


def test_a_pod_that_tolerates_nothing_does_not_reach_a_pretended_node(cluster, namespace):
    made = pod(cluster, "slice", {"nvidia.com/mig-1g.5gb": "1"})
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", made)
    status, said = wait_until(lambda: scheduled(cluster, namespace, "slice"), 30, "not judged")
    assert status == "False"
    assert "1 Insufficient nvidia.com/mig-1g.5gb" in said
    assert "5 node(s) had untolerated taint" in said


def test_the_real_node_has_one_gpu_and_the_second_that_asks_waits(cluster, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    here = {"kubernetes.io/hostname": cluster.node}
    for name in ("first", "second"):
        cluster.api.create(pods, pod(cluster, name, {"nvidia.com/gpu": "1"}, nodeSelector=here))
        wait_until(lambda one=name: scheduled(cluster, namespace, one), 60, "not judged")
    running = lambda: cluster.api.get(f"{pods}/first")["status"]["phase"] == "Running"  # noqa: E731
    wait_until(running, 60, lambda: json.dumps(cluster.api.get(f"{pods}/first")["status"]))
    status, said = scheduled(cluster, namespace, "second")
    assert status == "False"
    assert "Insufficient nvidia.com/gpu" in said


def test_a_stopped_part_comes_back_where_it_was(cluster, namespace):
    clusters.stop_part(cluster, "kube-apiserver")
    assert not cluster.api.ready()
    clusters.restart(cluster, "kube-apiserver")
    assert cluster.api.get(f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Active"


# -- what is left ----------------------------------------------------------------------------------


def traces_of_the_machine(lab):
    """What a cluster could leave, seen by somebody who knows nothing of it but its siblings."""

    def said(*argv):
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    # Other clusters of this machine, which may come and go meanwhile.
    siblings = [path / "cluster" for path in lab.folder.parent.iterdir() if path != lab.folder]
    names = [name for path in siblings for name in (cgroup_of(path), link_of(path))]
    links = [one["ifname"] for one in json.loads(said("ip", "-json", "link"))]
    routes = [one for one in json.loads(said("ip", "-json", "route")) if one["dev"] not in names]
    groups = Path("/sys/fs/cgroup").glob("*/runbook-*")
    rules = [line for line in said("iptables-save").splitlines() if not line.startswith((":", "#"))]
    places = [
        Path("/run/containerd"),
        Path("/run/netns"),
        Path("/var/lib/kubelet"),
        Path("/var/log/pods"),
    ]
    changed = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "net/ipv4/ip_forward")
    found = {
        "rule": rules,
        "control group": [path for path in groups if path.name not in names],
        "mount": [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()],
        "interface": [name for name in links if name not in names],
        "route": [one["dst"] for one in routes],
        "file": [one for place in places if place.exists() for one in place.rglob("*")],
        "setting": [f"{name}={Path('/proc/sys', name).read_text()}" for name in changed],
    }
    return {f"{kind} {one}" for kind, things in found.items() for one in things}


def processes_of(folder):
    """The processes in the cluster's control groups, by what the kernel says of each."""
    name = f"/{cgroup_of(folder)}"
    found = [path for path in Path("/proc").glob("[0-9]*/cgroup") if name in text_of(path)]
    return [path.parent for path in found]


def text_of(path):
    try:
        return path.read_text()
    except OSError:  # a process that ends while one looks
        return ""


def identities(folder):
    """Every process of a cluster with its start: the node's, its containers', and the keepers."""
    mine = [int(path.name) for path in processes_of(folder)]
    kept = [role.pid for one in listing(folder / "parts") for role in (one.server, one.keeper)]
    return {(pid, keeper.process_start(pid)) for pid in {*mine, *kept}}


def nothing_new_since(before, lab):
    wait_until(
        lambda: not traces_of_the_machine(lab) - before,
        20,
        lambda: sorted(traces_of_the_machine(lab) - before),
    )


def with_a_pod_at_work(cluster):
    """A pod runs on the node: shims, mounts, a network namespace, control groups."""
    api = cluster.api
    pods = "/api/v1/namespaces/default/pods"
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    wait_until(lambda: api.get(accounts)["items"], 30, "no account")
    api.create(pods, pod(cluster, "at-work", {"nvidia.com/gpu": "1"}))
    phase = lambda: api.get(f"{pods}/at-work")["status"].get("phase") == "Running"  # noqa: E731
    wait_until(phase, 60, lambda: json.dumps(api.get(f"{pods}/at-work")["status"]))


def process_of(folder, part, role):
    one = find(folder / "parts", part)
    return {"server": one.server, "keeper": one.keeper}[role].pid


KILLS = [
    [("etcd", "server"), ("kubelet", "server"), ("kube-apiserver", "keeper")],
    [("containerd", "keeper"), ("kube-proxy", "server"), ("kube-apiserver", "server")],
    [("node", "server"), ("object-store", "server"), ("kube-controller-manager", "server")],
    [("node", "keeper"), ("containerd", "server"), ("kube-scheduler", "server")],
    [("kwok", "server"), ("kserve", "server")],
    [(part, "server") for part in PARTS],
    [(part, "keeper") for part in PARTS],
]


@pytest.fixture(scope="module")
def lab(able):
    """A lab whose cluster is killed: its own, beside any other."""
    one = Lab("cluster-ends", Owner.this_process())
    yield one
    one.down(data=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kills", KILLS, ids=lambda kills: "+".join("-".join(one) for one in kills[:3])
)
def test_nothing_is_left_whatever_was_killed(lab, kills):
    lab.up()
    before = traces_of_the_machine(lab)
    cluster = clusters.up(lab)
    with_a_pod_at_work(cluster)
    processes = identities(cluster.folder)
    assert len(processes) >= 2 * len(PARTS) + 2  # with the pod's shim and the pod
    for part, role in kills:
        if find(cluster.folder / "parts", part) is not None:
            os.kill(process_of(cluster.folder, part, role), signal.SIGKILL)
    clusters.down(lab)
    assert clusters.leftovers(cluster.folder) == []
    assert not [pid for pid, start in processes if start and keeper.process_start(pid) == start]
    nothing_new_since(before, lab)


@pytest.mark.timeout(600)
def test_a_cluster_ends_with_its_owner_and_sweeps_itself(lab):
    lab.up()
    before = traces_of_the_machine(lab)
    code = (
        "import sys, time\n"
        "from runbook_lib.lab.cluster import cluster\n"
        "from runbook_lib.lab.lab import Lab\n"
        "from runbook_lib.serving.supervise import Owner\n"
        f"cluster.up(Lab({lab.name!r}, Owner.this_process()))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline().strip() == "up"
        cluster = clusters.find_cluster(lab)
        with_a_pod_at_work(cluster)
        owner.kill()
    wait_until(
        lambda: clusters.leftovers(cluster.folder) == [],
        60,
        lambda: clusters.leftovers(cluster.folder),
    )
    nothing_new_since(before, lab)


@pytest.mark.timeout(600)
def test_a_cluster_that_lost_a_part_is_healed_by_up(lab):
    cluster = clusters.up(lab)
    for part in ("kube-scheduler", "kserve", "object-store"):
        os.kill(process_of(cluster.folder, part, "server"), signal.SIGKILL)
    wait_until(lambda: not clusters.status(lab)["up"], 10, "still up")
    again = clusters.up(lab)
    assert again == cluster
    assert clusters.status(lab)["up"]
    with_a_pod_at_work(again)
    assert keeper.process_start(process_of(cluster.folder, "kserve", "server"))


def runbook(*words):
    code = "from runbook_lib.cli import main; main()"
    argv = [sys.executable, "-c", code, *words, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.timeout(600)
def test_the_command_line_starts_shows_and_ends_a_cluster(lab):
    named = ("--name", lab.name)
    code, said, told = runbook("lab", "up", "--cluster", *named)
    assert (code, said["cluster"]["up"]) == (0, True), told
    assert Path(said["cluster"]["kubeconfig"]).is_file()
    code, said, _ = runbook("lab", "up", "--kserve", "0.16.0", *named)
    assert code == 2
    assert "runbook lab down" in said["fix"]
    os.kill(process_of(lab.folder / "cluster", "kwok", "server"), signal.SIGKILL)
    wait_until(lambda: runbook("lab", "status", *named)[0] == 1, 20, "a lost part is not told")
    code, said, _ = runbook("lab", "down", *named)
    assert code == 0
    assert {"node", "kube-apiserver", "kserve", "s3"} <= set(said["stopped"])
    assert clusters.leftovers(lab.folder / "cluster") == []
    code, said, _ = runbook("lab", "status", *named)
    assert (code, said["up"], said["cluster"]) == (1, False, None)
