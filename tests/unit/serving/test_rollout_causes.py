"""The table of causes against the words of Kubernetes, KServe, its downloader and Triton."""

# ruff: noqa: E501 - the words of others are kept whole

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from runbook_lib.serving import rollout_causes
from runbook_lib.serving.rollout_causes import cause_of_refusal, causes, explained, rules
from runbook_lib.serving.rollout_lines import lines, wanted_logs
from runbook_lib.serving.rollout_snapshot import LogKey, snapshots

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
EARLIER = (NOW - timedelta(seconds=40)).strftime("%Y-%m-%dT%H:%M:%SZ")
NAME, SPACE, POD = "llama", "prod", "llama-predictor-1-a"
SCHEDULER = (
    "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {}."
)


def thing(kind, name, owner="", **rest):
    meta = {"name": name, "namespace": SPACE, "uid": f"{kind}/{name}", "creationTimestamp": EARLIER}
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "controller": True}]
    meta |= rest.pop("metadata", {})
    return {"kind": kind, "metadata": meta, **rest}


def service(uri="s3://models/llama/", ready="False", **status):
    said = {"conditions": [{"type": "Ready", "status": ready}], **status}
    predictor = {"model": {"storageUri": uri, "runtime": "trtllm"}}
    return thing("InferenceService", NAME, spec={"predictor": predictor}, status=said)


def deployment(uri="s3://models/llama/", available=0, **spec):
    notes = {"internal.serving.kserve.io/storage-initializer-sourceuri": uri}
    return thing(
        "Deployment",
        f"{NAME}-predictor",
        f"InferenceService/{NAME}",
        spec={"replicas": 1, "template": {"metadata": {"annotations": notes}}, **spec},
        status={
            "replicas": 1,
            "updatedReplicas": 1,
            "availableReplicas": available,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True" if available else "False",
                    "reason": "MinimumReplicasUnavailable",
                    "message": "Deployment does not have minimum availability.",
                }
            ],
        },
    )


def replica_set(revision="1", have=1, wanted=1, conditions=()):
    return thing(
        "ReplicaSet",
        f"{NAME}-predictor-{revision}",
        f"Deployment/{NAME}-predictor",
        metadata={"annotations": {"deployment.kubernetes.io/revision": revision}},
        spec={"replicas": wanted},
        status={"replicas": have, "conditions": list(conditions)},
    )


def pod(main=None, init=None, *, name=POD, revision="1", scheduled=True, said="", **spec):
    status = {"phase": "Pending", "conditions": []}
    if not scheduled:
        told = {"reason": "Unschedulable", "message": said}
        status["conditions"].append({"type": "PodScheduled", "status": "False", **told})
    done = {"name": "storage-initializer", "state": {"terminated": {"exitCode": 0}}}
    waits = {"waiting": {"reason": "PodInitializing"}}
    status["initContainerStatuses"] = [{**done, **(init or {})}]
    main = {"name": "kserve-container", "ready": False, "state": waits, **(main or {})}
    status["containerStatuses"] = [main]
    if main["ready"]:
        status["conditions"].append({"type": "Ready", "status": "True"})
    inside = {
        "initContainers": [{"name": "storage-initializer"}],
        "containers": [
            {"name": "kserve-container", "volumeMounts": [{"mountPath": "/mnt/models"}]}
        ],
        **({"nodeName": "node-1"} if scheduled else {}),
        **spec,
    }
    owner = f"ReplicaSet/{NAME}-predictor-{revision}"
    return thing("Pod", name, owner, spec=inside, status=status)


def event(about, reason, message, *, kind="Warning", count=1, at=EARLIER, path=""):
    involved = {"uid": about, "fieldPath": path}
    stamps = {"lastTimestamp": at, "count": count, "metadata": {"creationTimestamp": at}}
    told = {"reason": reason, "message": message, "type": kind, "involvedObject": involved}
    return thing("Event", f"{reason}-{message[:9]}", **told, **stamps)


def look(*objects, logs=None, absent=(), **rest):
    """A snapshot of one service with a Deployment and a ReplicaSet, unless others are given."""
    sorted_in = {}
    kinds = {one["kind"] for one in objects}
    base = [] if "InferenceService" in kinds else [service()]
    base += [] if {"Deployment"} & (kinds | set(absent)) else [deployment()]
    base += [] if {"ReplicaSet"} & (kinds | set(absent)) else [replica_set()]
    for one in (*base, *objects):
        sorted_in.setdefault(one["kind"], []).append(one)
    read = {LogKey(*key): text for key, text in (logs or {}).items()}
    [found] = snapshots("InferenceService", sorted_in, only=(SPACE, NAME), logs=read, **rest)
    return found


def ids(snapshot):
    return [one.id for one in causes(snapshot, NOW) if not one.consequence_of]


def waiting(reason, message, restarts=0):
    return {"state": {"waiting": {"reason": reason, "message": message}}, "restartCount": restarts}


def crashed(reason="Error", code=1, message="", restarts=2):
    ended = {"reason": reason, "exitCode": code, "message": message}
    back = {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}
    return {
        "state": {"waiting": back},
        "lastState": {"terminated": ended},
        "restartCount": restarts,
    }


def node(name, *, gpus="0", labels=None, taints=(), **offered):
    has = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": gpus}
    has |= {key.replace("_", "/").replace("mig/", "mig-"): text for key, text in offered.items()}
    made = thing("Node", name, spec={"taints": list(taints)}, status={"allocatable": has})
    made["metadata"]["labels"] = labels or {}
    return made


GPU_POD = {
    "containers": [{"name": "kserve-container", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]
}


# -- nothing is invented ---------------------------------------------------------------------------


def test_a_healthy_service_has_no_cause():
    up = pod({"ready": True, "state": {"running": {}}})
    assert causes(look(service(ready="True"), deployment(available=1), up), NOW) == []


def test_a_service_that_is_just_starting_has_no_cause():
    assert causes(look(pod()), NOW) == []
    assert causes(look(service(conditions=[]), absent=("Deployment", "ReplicaSet")), NOW) == []


def test_a_state_that_no_rule_knows_gives_no_cause_and_is_told_as_it_was_said():
    snapshot = look(pod(), event("Pod/" + POD, "SomethingNew", "never heard of"))
    assert causes(snapshot, NOW) == []
    assert explained(snapshot, NOW)[1][0].text == "SomethingNew: never heard of"


def test_minimum_replicas_unavailable_is_no_cause_by_itself_and_a_consequence_of_any_other():
    assert causes(look(), NOW) == []
    found = causes(look(pod(waiting("InvalidImageName", "couldn't parse image name"))), NOW)
    assert [(one.id, one.consequence_of) for one in found] == [
        ("image-name-invalid", ""),
        ("replicas-unavailable", "image-name-invalid"),
    ]


def test_what_a_ready_service_went_through_is_no_cause_any_more():
    up = pod({"ready": True, "state": {"running": {}}, "lastState": crashed()["lastState"]})
    told = event("Pod/" + POD, "Unhealthy", "Readiness probe failed: connection refused")
    snapshot = look(service(ready="True"), deployment(available=1), up, told)
    assert causes(snapshot, NOW) == []


# -- words -----------------------------------------------------------------------------------------

MAIN = [
    ("image-not-found", "ImagePullBackOff", 'Back-off pulling image "r/x:1": ErrImagePull: failed to pull and unpack image "r/x:1": failed to resolve reference "r/x:1": r/x:1: not found'),
    ("image-unauthorised", "ErrImagePull", 'failed to resolve reference "nvcr.io/x": failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized'),
    ("image-unauthorised", "ErrImagePull", "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"),
    ("image-registry-away", "ErrImagePull", 'failed to do request: Head "https://nowhere/v2/x": dial tcp: lookup nowhere: no such host'),
    ("image-no-space", "ErrImagePull", "failed to extract layer: write /usr/lib/x: no space left on device"),
    ("image-platform", "ErrImagePull", "no match for platform in manifest: not found"),
    ("image-name-invalid", "InvalidImageName", 'Failed to apply default image tag "a:b:c"'),
    ("image-never-pulled", "ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never'),
    ("secret-missing", "CreateContainerConfigError", 'secret "hf-token" not found'),
    ("configmap-missing", "CreateContainerConfigError", 'configmap "settings" not found'),
    ("run-as-root", "CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    ("command-not-found", "RunContainerError", 'exec: "tritonserver": executable file not found in $PATH'),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "reason", "message"), MAIN)
def test_a_container_that_can_not_start_is_told_by_its_waiting_words(id_, reason, message):
    snapshot = look(pod(waiting(reason, message)))
    first = causes(snapshot, NOW)[0]
    assert first.id == id_
    assert message in first.evidence[0].text


INIT = [
    ("no-such-bucket", "RuntimeError: S3 resource 'nobucket' not found."),
    ("no-such-bucket", "An error occurred (404) when calling the HeadBucket operation: Not Found"),
    ("storage-credentials", "S3 error [403]: Forbidden"),
    (
        "storage-credentials",
        "S3 authentication failed. Set AWS_ACCESS_KEY_ID/AWS_SECRET_ACCESS_KEY",
    ),
    ("storage-endpoint", 'Could not connect to the endpoint URL: "http://10.0.0.1/engines"'),
    ("storage-endpoint", "S3 error: Invalid endpoint: 127.0.0.1:5599"),
    ("storage-endpoint", "SSL validation failed for https://x [SSL: WRONG_VERSION_NUMBER]"),
    ("storage-prefix-empty", "Failed to fetch model. No model found in nokey/."),
    ("storage-scheme", "Cannot recognize storage type for ftp://x"),
    ("storage-no-space", "OSError: [Errno 28] No space left on device"),
    ("storage-failed", "something that nobody has met"),
]


@pytest.mark.parametrize(("id_", "message"), INIT)
def test_a_download_that_fails_is_told_by_the_downloaders_last_words(id_, message):
    found = causes(look(pod(init=crashed(message=message))), NOW)
    assert found[0].id == id_
    assert message in found[0].evidence[0].text
    assert [one.id for one in found[1:] if not one.consequence_of] == []


LOG = [
    ("placeholder-lost", "failed to load model: at least one version must be available under the version policy of model 'ensemble'"),
    ("model-config-invalid", 'Error parsing text-format inference.ModelConfig: 3:9: Message type has no field named "x".'),
    ("runtime-library-load", "unable to find backend library for backend 'tensorrtllm'"),
    ("engine-gpu-arch-mismatch", "The engine plan file is generated on an incompatible device, expecting compute 8.0 got compute 8.9"),
    ("engine-trt-version-mismatch", "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match."),
    ("engine-trt-version-mismatch", "The engine plan file is not compatible with this version of TensorRT, expecting library version 9.2.0.5 got 9.3.0.1"),
    ("world-size", "Assertion failed: mpiSize == tp * pp (/app/tensorrt_llm/runtime.cpp:42)"),
    ("gpu-memory", "CUDA runtime error in ::cudaMallocAsync(ptr, n, mStream): out of memory"),
    ("shm-too-small", "Unable to initialize shared memory key 'triton_python_backend_shm_region_1' to requested size"),
    ("home-not-writable", "PermissionError: [Errno 13] Permission denied: '/home/triton-server'"),
    ("model-repo-layout", "Poll failed for model directory '1': Invalid model name"),
    ("model-load-failed", "error: creating server: Internal - failed to load all models"),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "line"), LOG)
def test_a_server_that_ends_is_told_by_its_log(id_, line):
    logs = {(POD, "kserve-container", True): f"I0001 starting\nE0002 {line}\n"}
    found = causes(look(pod(crashed()), logs=logs), NOW)
    assert found[0].id == id_
    assert any(line in shown.text for shown in found[0].evidence)
    assert {one.id for one in found[1:] if not one.consequence_of} == set()


def test_what_a_downloader_said_that_ended_well_tells_of_no_fault():
    said = {
        (POD, "storage-initializer"): "2026-11-24 20:21:12.403 1 Forbidden is a fine name (403)\n",
        (POD, "kserve-container", True): "starting\n",
    }
    assert ids(look(pod(crashed(restarts=3)), logs=said)) == ["crash-loop"]


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-24 20:21:12.403 1 storage.initializer INFO Found S3 object: good/a (164 bytes)",
        "2026-11-24 20:21:12.403 1 storage.initializer INFO Found S3 object: nvidia/403 (404 bytes)",
    ],
)
def test_a_number_in_a_downloaders_log_is_no_status(line):
    logs = {(POD, "storage-initializer", True): line}
    assert ids(look(pod(init=crashed(message="something new")), logs=logs)) == ["storage-failed"]


def test_an_end_that_no_rule_knows_is_a_crash_loop_with_its_exit_code():
    logs = {(POD, "kserve-container", True): "starting\nthe moon is in the wrong house\n"}
    first = causes(look(pod(crashed(code=3, restarts=3)), logs=logs), NOW)[0]
    assert (first.id, first.final) == ("crash-loop", True)
    assert "(exit 3)" in first.evidence[0].text
    assert first.evidence[-1].text == "the moon is in the wrong house"


def test_a_container_killed_for_memory_is_told_although_the_kubelet_says_no_word():
    twice = crashed("OOMKilled", 137)
    twice["state"] = twice["lastState"]
    [first, *_] = causes(look(pod(twice)), NOW)
    assert (first.id, [line.text for line in first.evidence]) == (
        "oom-main",
        ["OOMKilled (exit 137)"],
    )
    assert ids(look(pod(init=crashed("OOMKilled", 137)))) == ["oom-init"]


REFUSED = [
    ("quota", 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=1, limited: requests.nvidia.com/gpu=1'),
    ("service-account-missing", 'pods "x" is forbidden: error looking up service account prod/runner: serviceaccount "runner" not found'),
    ("webhook-down", 'Internal error occurred: failed calling webhook "inferenceservice.kserve-webhook-server.pod-mutator": failed to call webhook: Post "https://127.0.0.1:9443/mutate-pods?timeout=10s": dial tcp 127.0.0.1:9443: connect: connection refused'),
    ("webhook-denied", 'admission webhook "guard.example.com" denied the request: not on Fridays'),
    ("storage-secret-key", 'admission webhook "inferenceservice.kserve-webhook-server.pod-mutator" denied the request: specified storage key x not found in storage secret storage-config'),
    ("limit-range", 'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'),
    ("pod-security", 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'),
    ("priority-class-missing", 'pods "x" is forbidden: no PriorityClass with name gold was found'),
    ("pod-refused", "pods are not made on this day"),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "message"), REFUSED)
def test_pods_that_are_refused_are_told_by_their_replica_set(id_, message):
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    sets = replica_set(have=0, conditions=[{**refused, "message": message}])
    first = causes(look(sets), NOW)[0]
    assert first.id == id_
    assert (first.object, message in first.evidence[0].text) == (
        f"ReplicaSet/{NAME}-predictor-1",
        True,
    )


@pytest.mark.parametrize(("id_", "message"), REFUSED[:4])
def test_what_the_api_server_refuses_at_once_has_the_same_names(id_, message):
    found = cause_of_refusal(message, kind="InferenceService", namespace=SPACE, name=NAME)
    assert (found.id, found.final) == (id_, True)


def test_a_refusal_in_unknown_words_gives_no_cause():
    said = "the moon is in the wrong house"
    assert cause_of_refusal(said, kind="Pod", namespace=SPACE, name=NAME) is None


def test_a_specification_that_kserve_refuses_is_told_by_its_status():
    failure = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime"}
    model = {"transitionStatus": "InvalidSpec", "lastFailureInfo": failure}
    first = causes(look(service(modelStatus=model), absent=("Deployment", "ReplicaSet")), NOW)[0]
    assert first.id == "runtime-not-found"
    assert "trtllm" in first.why


def test_an_event_from_before_the_last_change_is_settled():
    old = event(
        f"InferenceService/{NAME}",
        "InternalError",
        "no runtime found to support x",
        at="2026-11-24T11:00:00Z",
    )
    assert causes(look(old, absent=("Deployment", "ReplicaSet")), NOW) == []
    new = event(f"InferenceService/{NAME}", "InternalError", "no runtime found to support x")
    assert ids(look(new, absent=("Deployment", "ReplicaSet"))) == ["no-supporting-runtime"]


def test_an_autoscaler_without_metrics_is_told_and_harms_nothing():
    condition = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}
    scaler = thing(
        "HorizontalPodAutoscaler",
        f"{NAME}-predictor",
        f"InferenceService/{NAME}",
        status={"conditions": [{**condition, "message": "unable to get metrics for resource cpu"}]},
    )
    up = pod({"ready": True, "state": {"running": {}}})
    [only] = causes(look(service(ready="True"), deployment(available=1), up, scaler), NOW)
    assert (only.id, only.heals, only.final) == ("hpa-no-metrics", "harmless", False)


def test_a_probe_that_kills_is_told_apart_from_one_that_only_waits():
    running = pod({"state": {"running": {}}})
    unwell = event(
        "Pod/" + POD, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 400"
    )
    first = causes(look(running, unwell), NOW)[0]
    assert (first.id, first.final) == ("probe-failing", False)
    killed = event(
        "Pod/" + POD,
        "Killing",
        "Container kserve-container failed startup probe, will be restarted",
        kind="Normal",
        count=3,
    )
    first = causes(look(pod(crashed(code=137)), killed), NOW)[0]
    assert (first.id, first.final) == ("probe-kills", True)


def test_an_evicted_pod_is_told():
    gone = pod()
    gone["status"] |= {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: ephemeral-storage.",
    }
    assert ids(look(gone)) == ["eviction"]


# -- comparisons -----------------------------------------------------------------------------------


def unplaced(nodes, said=SCHEDULER, **spec):
    return look(pod(scheduled=False, said=said, **(GPU_POD | spec)), *nodes)


def test_too_few_gpus_on_every_node_can_not_heal_and_taken_ones_can():
    first = causes(unplaced([node("a", gpus="1"), node("b")]), NOW)[0]
    assert (first.id, first.final) == ("gpu-unavailable", True)
    assert "asks for 2 nvidia.com/gpu on one node; the most that a node has is 1" in first.why
    first = causes(unplaced([node("a", gpus="2")]), NOW)[0]
    assert (first.id, first.final) == ("gpu-in-use", False)


def test_a_node_that_only_offers_slices_is_told_with_their_names():
    first = causes(unplaced([node("a", **{"nvidia.com_mig/1g.10gb": "7"})]), NOW)[0]
    assert first.id == "gpu-resource-name"
    assert "nvidia.com/mig-1g.10gb" in first.why


def test_a_missing_driver_is_news_only_where_a_gpu_was_asked_for():
    said = {
        (POD, "kserve-container", True): "W1 CUDA driver version is insufficient for CUDA runtime"
    }
    assert ids(look(pod(crashed(), **GPU_POD), logs=said)) == ["gpu-driver"]
    assert ids(look(pod(crashed(restarts=3)), logs=said)) == ["crash-loop"]


def test_a_taint_is_the_cause_only_where_the_node_would_do():
    kept = {"key": "dedicated", "value": "research", "effect": "NoSchedule"}
    assert ids(unplaced([node("a", gpus="8", taints=[kept]), node("b")])) == ["taint"]
    assert ids(unplaced([node("a", gpus="1", taints=[kept])])) == ["gpu-unavailable"]
    tolerated = [{"key": "dedicated", "operator": "Exists"}]
    nodes = [node("a", gpus="8", taints=[kept])]
    assert ids(unplaced(nodes, tolerations=tolerated)) == ["gpu-in-use"]


def test_pretended_and_downed_nodes_are_no_place_for_a_pod():
    fake = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
    down = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    nodes = [node("a", gpus="8", taints=[fake]), node("b", gpus="8", taints=[down])]
    assert ids(unplaced(nodes)) == ["no-node-ready"]
    assert ids(unplaced([*nodes, node("c", gpus="1")])) == ["gpu-unavailable"]


def test_a_label_that_no_node_has_is_told_with_those_that_there_are():
    key = "nvidia.com/gpu.product"
    wish = {"matchExpressions": [{"key": key, "operator": "In", "values": ["NVIDIA-H100"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [wish]}}
    nodes = [node("a", gpus="8", labels={key: "NVIDIA-L40S"})]
    first = causes(unplaced(nodes, affinity={"nodeAffinity": required}), NOW)[0]
    assert first.id == "node-affinity"
    assert "In NVIDIA-H100" in first.why
    assert "NVIDIA-L40S" in first.why


@pytest.mark.parametrize(
    ("id_", "said"),
    [
        ("gpu-in-use", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        ("taint", "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {nvidia.com/gpu: present}."),
        ("taint", "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: research}."),
        ("node-affinity", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        ("node-full", "0/1 nodes are available: 1 Insufficient memory."),
        ("pvc-missing", '0/1 nodes are available: persistentvolumeclaim "engines" not found.'),
        ("pvc-unbound", "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
    ],
)  # fmt: skip
def test_without_leave_to_read_nodes_the_schedulers_sentence_must_do(id_, said):
    assert ids(unplaced([], said))[:1] == [id_]


def test_a_pod_for_which_a_node_is_being_made_has_no_cause():
    comes = event(
        "Pod/" + POD, "TriggeredScaleUp", "pod triggered scale-up: [{gpus 0->1}]", kind="Normal"
    )
    snapshot = look(pod(scheduled=False, said=SCHEDULER, **GPU_POD), node("a", gpus="1"), comes)
    assert causes(snapshot, NOW) == []


def test_an_update_that_waits_for_the_old_pods_gpu_is_a_deadlock_and_names_that_pod():
    old = pod({"ready": True, "state": {"running": {}}}, name="old", revision="1")
    new = pod(name="new", revision="2", scheduled=False, said=SCHEDULER, **GPU_POD)
    sets = [replica_set("1"), replica_set("2")]
    first = causes(look(old, new, *sets, node("a", gpus="2")), NOW)[0]
    assert first.id == "rolling-update-deadlock"
    assert "kubectl delete pod old" in first.fix
    recreate = deployment(strategy={"type": "Recreate"})
    assert ids(look(recreate, old, new, *sets, node("a", gpus="2"))) == ["gpu-in-use"]


def test_a_pod_that_nobody_loads_a_model_into_is_told_with_the_namespaces_label():
    bare = pod(crashed(), initContainers=[], containers=[{"name": "kserve-container"}])
    labelled = thing("Namespace", SPACE, metadata={"labels": {"control-plane": "kserve"}})
    first = causes(look(bare, labelled), NOW)[0]
    assert first.id == "storage-initializer-not-injected"
    assert any("control-plane=kserve" in line.text for line in first.evidence)
    assert "may not be read" in causes(look(bare), NOW)[0].why


def test_a_model_from_a_claim_needs_no_downloader():
    bare = pod(crashed(restarts=3), initContainers=[], containers=[{"name": "kserve-container"}])
    uri = "pvc://engines/llama"
    assert ids(look(service(uri), deployment(uri), bare)) == ["crash-loop"]


def test_what_was_downloaded_beside_the_repository_is_the_cause_when_the_slash_is_missing():
    logs = {
        (POD, "storage-initializer"): "Found S3 object: llama/e/config.pbtxt (9 bytes)\n"
        "Found S3 object: llama-old/e/config.pbtxt (9 bytes)\n",
        (POD, "kserve-container", True): "E1 Poll failed for model directory '-old': no config",
    }
    first = causes(look(service("s3://models/llama"), pod(crashed()), logs=logs), NOW)[0]
    assert first.id == "sibling-prefix"
    assert "Found S3 object: llama-old/e/config.pbtxt" in first.evidence[0].text
    assert "s3://models/llama/" in first.fix
    assert ids(look(service("s3://models/llama/"), pod(crashed()), logs=logs)) == [
        "model-repo-layout"
    ]


def test_a_controller_that_says_nothing_is_told_after_a_while():
    silent = thing("InferenceService", NAME, spec={"predictor": {}})
    alone = look(silent, absent=("Deployment", "ReplicaSet"))
    assert ids(alone) == ["controller-silent"]
    soon = datetime.strptime(EARLIER, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert causes(alone, soon + timedelta(seconds=3)) == []


def test_while_the_api_server_is_away_nothing_old_is_called_a_cause_that_ends_the_wait():
    away = "the API server does not answer: connection refused"
    first = causes(look(pod(), away=away), NOW)[0]
    assert (first.id, first.final) == ("api-server-away", False)


# -- lines that hold, and logs that are wanted -----------------------------------------------------


def test_an_image_event_is_over_when_the_container_has_got_its_image():
    pulled = event("Pod/" + POD, "Failed", 'Failed to pull image "x": not found')
    assert [one.source for one in lines(look(pod(waiting("ErrImagePull", "x")), pulled))][:2] == [
        "container",
        "event",
    ]
    assert "event" not in {one.source for one in lines(look(pod(crashed()), pulled))}


def test_terminal_control_in_what_a_cluster_says_is_taken_out():
    text = "RuntimeError: \x1b[31mred\x1b[0m \u202e and \x07"
    first = lines(look(pod(init=crashed(message=text))))[0]
    assert first.text == "Error (exit 1): RuntimeError: red  and"


def test_logs_are_wanted_of_containers_that_ended_and_of_no_others():
    assert wanted_logs(look(pod())) == []
    assert wanted_logs(look(pod({"ready": True, "state": {"running": {}}}))) == []
    assert wanted_logs(look(pod(crashed()))) == [
        LogKey(POD, "kserve-container", previous=True),
        LogKey(POD, "storage-initializer"),
    ]


# -- the table itself ------------------------------------------------------------------------------


def test_each_rule_has_one_id_and_says_where_its_words_were_found():
    table = json.loads(rollout_causes.TABLE.read_text("utf-8"))["rules"]
    names = [entry["id"] for entry in table]
    assert len(names) == len(set(names))
    assert [entry["id"] for entry in table if not entry["source"]] == []


def test_each_command_that_confirms_only_reads():
    changing = re.compile(r"\b(apply|delete|edit|patch|label|annotate|scale|create|replace)\b")
    assert [one.id for one in rules() if changing.search(one.confirm)] == []
