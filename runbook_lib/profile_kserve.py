"""What a deployment profile may say about KServe: the block `kserve:`. Pure; no files, no cluster.

Nothing here is a secret: credentials are names of what the cluster already holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runbook_lib.profile_section import FieldProblems, Section

__all__ = ["Autoscaling", "KServeSettings", "Toleration"]

DnsLabel = Annotated[str, Field(pattern=r"^([a-z]([-a-z0-9]{0,61}[a-z0-9])?)?$")]
ObjectName = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")]
Quantity = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?)?$")]
Replicas = Annotated[int, Field(ge=1, le=1000)]
Seconds = Annotated[int, Field(gt=0, le=86_400)]
_ROLE_ARN = re.compile(r"^arn:aws[\w-]*:iam::\d{12}:role/\S+$")
_GCP_ACCOUNT = re.compile(r"^[\w.-]+@[\w.-]+\.iam\.gserviceaccount\.com$")
_UUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_URL = re.compile(r"^https?://\S+$")


class Toleration(Section):
    """A taint that the service's pods accept, in Kubernetes' own words."""

    key: str = ""
    """Key of the taint; empty with operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal: the value must be the taint's; Exists: any value."""
    value: str = ""
    """Value of the taint."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Effect of the taint; empty: all of them."""


class Autoscaling(Section):
    """How many replicas run, decided by the requests that wait."""

    by: Literal["none", "keda", "hpa"] = "none"
    """none: min_replicas run; keda: by KServe and KEDA from Prometheus; hpa: by a metric adapter."""
    waiting_per_replica: Annotated[int, Field(gt=0, le=100_000)] = 4
    """Waiting requests that one replica may have before another is started."""
    prometheus: str = ""
    """Address of Prometheus as KEDA reaches it, such as http://prometheus.monitoring:9090."""


class KServeSettings(Section):
    """Where and how the service runs on a cluster with KServe."""

    namespace: DnsLabel = ""
    """Namespace; by default that of the kubeconfig's context."""
    name: DnsLabel = ""
    """Name of the InferenceService; by default the model's name."""
    image: Annotated[str, Field(pattern=r"^[^\s]*$", max_length=512)] = ""
    """Image of the server, for a registry of your own; by default NVIDIA's of the TensorRT-LLM release."""
    image_pull_secrets: tuple[ObjectName, ...] = Field(default=(), strict=False, max_length=8)
    """Secrets of the namespace that let the image be pulled."""
    service_account: ObjectName = ""
    """Service account that exists; by default one is made, without any right in the cluster."""
    storage_secret: ObjectName = ""
    """Secret of the namespace with the object store's keys, in KServe's form."""
    hub_secret: ObjectName = ""
    """Secret of the namespace with HF_TOKEN, for a build from hf:// weights that are not public."""
    hub_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    """Address of a mirror of the Hugging Face hub; by default the hub itself."""
    aws_role_arn: str = ""
    """AWS role that the made service account takes (IRSA), instead of keys."""
    gcp_service_account: str = ""
    """Google service account that the made one stands for (workload identity), instead of keys."""
    azure_client_id: str = ""
    """Azure identity that the made service account stands for (workload identity), instead of keys."""
    gpu_resource: Annotated[str, Field(pattern=r"^([a-z0-9.-]+/[A-Za-z0-9._-]+)?$")] = ""
    """Resource that a GPU is asked for by; by default that of the profile's `gpu`."""
    mig_strategy: Literal["mixed", "single"] = "mixed"
    """How the cluster's device plugin offers MIG slices: under names of their own, or as GPUs."""
    gpus_per_node: Annotated[int, Field(gt=0, le=64)] = 8
    """GPUs of the largest node: one copy of the model must fit a node."""
    cpu: Quantity = ""
    """CPUs of a replica; by default 4 a GPU, in the lab half of one."""
    memory: Quantity = ""
    """Memory of a replica, shared memory included; by default 32Gi a GPU, in the lab 1Gi."""
    shared_memory: Quantity = ""
    """Size of /dev/shm; by default 8Gi, in the lab 256Mi."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that a node must have, beside those that the engine asks for."""
    tolerations: tuple[Toleration, ...] | None = Field(default=None, strict=False)
    """Taints that are accepted; by default nvidia.com/gpu, in the lab none."""
    min_replicas: Replicas = 1
    """Replicas that always run."""
    max_replicas: Replicas | None = None
    """Most replicas; by default min_replicas."""
    autoscaling: Autoscaling = Field(default_factory=Autoscaling)
    """What decides between the two."""
    strategy: Literal["auto", "recreate", "in_place", "surge"] = "auto"
    """Update: all stop first; one after the other stops first; or a new one starts first (needs a free GPU).

    auto: surge in the lab; on GPUs recreate for one replica, in_place for several: neither needs a spare."""
    ready_seconds: Seconds = 1800
    """Time a replica may take to load the engine before it is started again."""
    request_seconds: Seconds = 600
    """Longest that one answer may take."""
    drain_seconds: Seconds = 60
    """Time that a stopping replica has to finish its answers."""
    on_failure: Literal["keep", "rollback"] = "keep"
    """A deployment that fails: kept to be looked at, or set back to the revision before."""
    local_cache_group: DnsLabel = ""
    """LocalModelNodeGroup whose nodes keep the repository on their disks; empty: each pod downloads it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := [*_replica_problems(self), *_identity_problems(self)]:
            raise FieldProblems(problems)
        return self

    def __str__(self) -> str:
        # What differs from the defaults: the rest would hide it.
        told = self.model_dump(mode="json", exclude_defaults=True)
        return ", ".join(f"{name}={value}" for name, value in told.items()) or "as by default"

    @property
    def most_replicas(self) -> int:
        """Replicas that run at most."""
        return self.max_replicas or self.min_replicas


def _replica_problems(settings: KServeSettings) -> Iterable[tuple[str, str]]:
    least, most, auto = settings.min_replicas, settings.most_replicas, settings.autoscaling
    if most < least:
        yield "max_replicas", f"{most} is below min_replicas {least}"
    if auto.by == "none" and most > least:
        yield (
            "max_replicas",
            f"{most} is never reached: nothing scales. Set autoscaling.by, or min_replicas",
        )
    if auto.by == "keda" and not _URL.match(auto.prometheus):
        yield (
            "autoscaling.prometheus",
            f"{auto.prometheus!r} is no http or https address, and KEDA asks Prometheus",
        )
    if auto.by != "keda" and auto.prometheus:
        yield "autoscaling.prometheus", f"has no meaning with autoscaling.by {auto.by}"


def _identity_problems(settings: KServeSettings) -> Iterable[tuple[str, str]]:
    forms = {
        "aws_role_arn": (_ROLE_ARN, "arn:aws:iam::<account>:role/<name>"),
        "gcp_service_account": (_GCP_ACCOUNT, "<name>@<project>.iam.gserviceaccount.com"),
        "azure_client_id": (_UUID, "a UUID"),
    }
    given = [name for name in forms if getattr(settings, name)]
    for name in given:
        form, text = forms[name]
        if not form.match(getattr(settings, name)):
            yield name, f"{getattr(settings, name)!r} has not the form {text}"
        if settings.service_account:
            yield (
                name,
                "belongs on the service account that service_account names: annotate it there",
            )
    if len(given) > 1:
        yield given[1], f"can't be together with {given[0]}: a pod has one identity"
