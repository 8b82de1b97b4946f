"""Our own ServingRuntime: KServe's is of another Triton, without TensorRT-LLM, probes or shared memory."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.serving.manifests_target import Deployment
from runbook_lib.serving.manifests_types import (
    Container,
    EnvVar,
    Probe,
    ServingRuntime,
    Volume,
)

__all__ = ["FORMAT", "METRICS_PORT", "launch", "serving_runtime"]

FORMAT = "trtllm-triton"
REPOSITORY = "/mnt/models"  # where KServe puts what storageUri names
SCRATCH = "/scratch"
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8080, 9000, 8002
STARTUP_PERIOD, PERIOD, PROBE_SECONDS = 2, 5, 5
# A pod is taken from the Service's endpoints while it is told to stop; until every node knows, new
# requests still come.
ENDPOINT_LAG_SECONDS = 10


def serving_runtime(target: Deployment) -> ServingRuntime:
    """How Triton is started and watched for this deployment."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": target.metadata(),
        "spec": {
            # Never chosen by itself: the InferenceService names it.
            "supportedModelFormats": [{"name": FORMAT, "autoSelect": False}],
            "protocolVersions": ["v2", "grpc-v2"],
            "containers": [_container(target)],
            "volumes": _volumes(target),
        },
    }


def _container(target: Deployment) -> Container:
    return {
        "name": "kserve-container",
        "image": target.image,
        "imagePullPolicy": "IfNotPresent",
        # No `command`: the image's entrypoint sets up CUDA's libraries for the node's driver.
        "args": launch(target),
        "env": _environment(),
        # KServe gives the first to the Service's port 80, and reads the protocol from the names.
        "ports": [
            {"name": "http1", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "h2c", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "startupProbe": _probe(
            "ready", -(-target.settings.ready_seconds // STARTUP_PERIOD), STARTUP_PERIOD
        ),
        "readinessProbe": _probe("ready", 3),
        "livenessProbe": _probe("live", 12),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(ENDPOINT_LAG_SECONDS)]}}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - a path of the pod
            {"name": "scratch", "mountPath": SCRATCH},
        ],
    }


def launch(target: Deployment) -> list[str]:
    """The words that start Triton: one server, or one a rank under MPI, as TensorRT-LLM wants it."""
    ranks = target.profile.world_size
    # The llmapi backend starts its ranks itself.
    if ranks == 1 or target.profile.track != "engine":
        return _server(target)
    argv = ["mpirun"]
    for rank in range(ranks):
        argv += ["-n", "1", *_server(target, rank), ":"]
    return argv[:-1]


def _server(target: Deployment, rank: int | None = None) -> list[str]:
    argv = [
        "tritonserver",
        f"--model-repository={REPOSITORY}",
        f"--http-port={HTTP_PORT}",
        f"--grpc-port={GRPC_PORT}",
        f"--metrics-port={METRICS_PORT}",
        f"--exit-timeout-secs={target.settings.drain_seconds}",
    ]
    if rank is None:
        return argv
    argv += [
        "--disable-auto-complete-config",
        f"--backend-config=python,shm-region-prefix-name=prefix{rank}_",
    ]
    # Only the first rank answers; the others hold their part of the engine and nothing else.
    return argv + (["--model-control-mode=explicit", "--load-model=tensorrt_llm"] if rank else [])


def _environment() -> list[EnvVar]:
    """A home and caches that a user without a home can write to."""
    places = {
        "HOME": SCRATCH,
        "HF_HOME": f"{SCRATCH}/huggingface",
        "XDG_CACHE_HOME": f"{SCRATCH}/cache",
    }
    return [{"name": name, "value": value} for name, value in places.items()]


def _probe(word: str, failures: int, period: int = PERIOD) -> Probe:
    return {
        "httpGet": {"path": f"/v2/health/{word}", "port": HTTP_PORT},
        "periodSeconds": period,
        "timeoutSeconds": PROBE_SECONDS,
        "failureThreshold": failures,
    }


def _volumes(target: Deployment) -> list[Volume]:
    shared = target.settings.shared_memory or ("256Mi" if target.lab else "8Gi")
    # Python models and MPI ranks exchange tensors there; a pod's own /dev/shm has 64 MiB.
    volumes: Sequence[Volume] = (
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        {"name": "scratch", "emptyDir": {}},
    )
    return list(volumes)
