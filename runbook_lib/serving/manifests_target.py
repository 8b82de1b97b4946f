"""What is deployed and where: one value that every manifest is rendered from, and its checks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runbook_lib.artifacts import EngineIdentity
from runbook_lib.errors import PlanError, PreflightError
from runbook_lib.hardware import gpu
from runbook_lib.profile_kserve import KServeSettings
from runbook_lib.profile_schema import DeploymentProfile
from runbook_lib.serving.kserve_words import KServe
from runbook_lib.serving.manifests_image import serving_image
from runbook_lib.serving.manifests_types import Metadata

__all__ = ["Deployment", "deployment", "kserve_uri", "service_name"]

# The Service, pods and their labels add `-predictor` and a suffix to it; a label takes 63 letters.
LONGEST_NAME = 40
STORES = ("s3://", "gs://", "pvc://", "https://", "hf://")


@dataclass(frozen=True)
class Deployment:
    """Everything that the manifests are made of; build it with `deployment`.

    `mode` is the deployment mode's word: the living object's own, else that of the KServe version.
    """

    profile: DeploymentProfile
    settings: KServeSettings
    kserve: KServe
    name: str
    namespace: str
    image: str
    storage_uri: str
    mode: str
    identity: EngineIdentity | None
    content_digest: str
    repository_bytes: int
    pod_monitors: bool

    @property
    def lab(self) -> bool:
        """Whether it needs no GPU."""
        return self.profile.track == "lab"

    @property
    def service_account(self) -> str:
        """The service account of its pods."""
        return self.settings.service_account or self.name

    @property
    def labels(self) -> dict[str, str]:
        """What all its objects carry."""
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/managed-by": "runbook"}

    @property
    def pod_labels(self) -> dict[str, str]:
        """What selects its pods: KServe writes it."""
        return {"serving.kserve.io/inferenceservice": self.name}

    def metadata(self, **annotations: str) -> Metadata:
        """Metadata of an object of its name and namespace."""
        made: Metadata = {"name": self.name, "namespace": self.namespace, "labels": self.labels}
        if annotations:
            made["annotations"] = dict(annotations)
        return made

    @property
    def strategy(self) -> Literal["recreate", "in_place", "surge"]:
        """How an update replaces pods, so that it needs no GPU that isn't there."""
        if self.settings.strategy != "auto":
            return self.settings.strategy
        if self.lab:
            return "surge"
        return "recreate" if self.settings.most_replicas == 1 else "in_place"


def deployment(
    profile: DeploymentProfile,
    settings: KServeSettings,
    kserve: KServe,
    *,
    namespace: str,
    repository_uri: str = "",
    identity: EngineIdentity | None = None,
    content_digest: str = "",
    repository_bytes: int = 0,
    living_mode: str = "",
    pod_monitors: bool = False,
    scaled_objects: bool = True,
) -> Deployment:
    """What would be deployed, after every check that needs no cluster.

    Args:
        namespace: where it goes when the profile names none.
        repository_uri: the stored repository; by default the profile's.
        identity: the engine's, once it is built; before that the profile's GPU decides where it runs.
        living_mode: the deployment mode that the living InferenceService has, which can't change.
        pod_monitors: whether the cluster takes PodMonitor objects.
        scaled_objects: whether the cluster takes ScaledObject objects, that is has KEDA.

    Raises:
        PlanError: it can't be deployed as asked; why, and what can.
        PreflightError: the cluster lacks what a setting needs, or its KServe is too old for it.
    """
    _refuse_what_cant_run(profile, settings)
    if identity is not None:
        _refuse_another_shape(profile, identity)
    if settings.autoscaling.by == "keda":
        kserve.need("keda", "kserve.autoscaling.by: keda")
        if not scaled_objects:
            raise PreflightError(
                "The profile's kserve.autoscaling.by is keda, and the cluster has no KEDA.",
                why="It has no ScaledObject, from which KEDA scales; KServe would never become ready.",
                fix="Install KEDA, or set kserve.autoscaling.by to hpa or none.",
            )
    if settings.local_cache_group:
        kserve.need("local_model_cache", "kserve.local_cache_group")
        if not repository_bytes:
            raise PlanError(
                "The size of the model repository is not known, and a LocalModelCache reserves it.",
                fix="Run page 02 first: it stores the repository and knows its size.",
            )
    return Deployment(
        profile=profile,
        settings=settings,
        kserve=kserve,
        name=settings.name or service_name(profile.model_name),
        namespace=settings.namespace or namespace,
        image=serving_image(profile, settings),
        storage_uri=kserve_uri(repository_uri or profile.model_repository),
        mode=living_mode or kserve.deployment_mode,
        identity=identity,
        content_digest=content_digest,
        repository_bytes=repository_bytes,
        pod_monitors=pod_monitors,
    )


def service_name(model_name: str) -> str:
    """A model's name as Kubernetes takes it: `phi-2.7b` is `phi-2-7b`."""
    name = re.sub(r"[^a-z0-9]+", "-", model_name.lower()).strip("-")
    if not name or not name[0].isalpha():
        name = f"model-{name}".rstrip("-")
    return name[:LONGEST_NAME].rstrip("-")


def kserve_uri(uri: str) -> str:
    """A repository's URI as KServe's downloader takes it, ending in `/`.

    Triton's form with the endpoint in it (`s3://http://host:9000/bucket/…`) loses the endpoint: for
    KServe it stands beside the keys. Without the `/` a sibling, `llama-7b-v2/`, would come too.

    Raises:
        PlanError: no pod can read what lies there.
    """
    plain = re.sub(r"^s3://https?://[^/]+/", "s3://", uri)
    if uri.startswith("as://"):
        raise PlanError(
            f"KServe does not read {uri}.",
            why="as:// is Triton's own word for Azure Blob.",
            fix="Write https://<account>.blob.core.windows.net/<container>/<path>/",
        )
    if not plain.startswith(STORES):
        raise PlanError(
            f"Pods of a cluster can't read {uri}.",
            why="It is a folder of this machine, or a store that KServe has no downloader for.",
            fix="Push the repository to an object store (page 02), or name a PersistentVolumeClaim: "
            "pvc://<claim>/<path>",
        )
    return plain.rstrip("/") + "/"


def _refuse_what_cant_run(profile: DeploymentProfile, settings: KServeSettings) -> None:
    if len(settings.name) > LONGEST_NAME:
        raise PlanError(
            f"kserve.name {settings.name} has {len(settings.name)} letters; {LONGEST_NAME} fit.",
            why="KServe adds -predictor and a suffix, and a label takes 63.",
            fix="Choose a shorter name.",
        )
    ranks = profile.world_size
    if ranks > settings.gpus_per_node:
        raise PlanError(
            f"The model takes {ranks} GPUs, and the largest node has {settings.gpus_per_node}.",
            why="KServe's several-node predictor (workerSpec) starts Ray for vLLM; it starts no MPI, "
            "which TensorRT-LLM's ranks in Triton need. One copy must fit one pod on one node.",
            fix="Lower tensor_parallel_size or pipeline_parallel_size (quantise, or take a larger "
            "GPU), or raise kserve.gpus_per_node if there are larger nodes. Across nodes: MPI "
            "Operator or LeaderWorkerSet, outside KServe.",
        )
    if ranks > 1 and _is_slice(profile, settings):
        raise PlanError(
            f"A model over {ranks} ranks can't run on MIG slices.",
            why="The ranks exchange their parts through NCCL, and NCCL can't join MIG slices.",
            fix="Build it for whole GPUs, or for one larger slice with one rank.",
        )
    if (
        profile.gpu
    ):  # an unknown GPU or slice is refused here, not by a scheduler that never finds it
        whole, _, part = profile.gpu.partition(":")
        found = gpu(whole)
        if part:
            found.slice(part)


def _is_slice(profile: DeploymentProfile, settings: KServeSettings) -> bool:
    return ":" in (profile.gpu or "") or "/mig-" in settings.gpu_resource


def _told(split: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in split.items())


def _refuse_another_shape(profile: DeploymentProfile, identity: EngineIdentity) -> None:
    asked = {
        "tp": profile.tensor_parallel_size,
        "pp": profile.pipeline_parallel_size,
        "cp": profile.context_parallel_size,
    }
    built = {"tp": identity.tp_size, "pp": identity.pp_size, "cp": identity.cp_size}
    if asked != built:
        raise PlanError(
            f"The engine is built for {_told(built)}; the profile asks for {_told(asked)}.",
            why="The number of ranks is compiled in: Triton would end with `mpiSize == tp * pp`.",
            fix="Build the engine again (page 01), or set the profile back.",
        )
    sm = gpu(profile.gpu.partition(":")[0]).sm if profile.gpu else ""
    if sm and identity.sm not in {"", sm}:
        raise PlanError(
            f"The engine is built for {identity.sm}; the profile's GPU {profile.gpu} is {sm}.",
            why="An engine runs on the SM it was compiled for.",
            fix="Build the engine for this GPU (page 01), or name the GPU that it is for.",
        )
