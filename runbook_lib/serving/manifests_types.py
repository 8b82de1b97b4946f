"""The objects of a deployment as typed dictionaries: a mistyped key does not pass the type checker.

Only the keys that are written here exist; the API server knows more.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "Affinity",
    "Container",
    "EnvVar",
    "Expression",
    "InferenceService",
    "LabelSelector",
    "Metadata",
    "Model",
    "NodeAffinity",
    "NodeSelector",
    "NodeSelectorTerm",
    "Predictor",
    "PredictorAutoScaling",
    "Probe",
    "Resources",
    "ServingRuntime",
    "Strategy",
    "TolerationEntry",
    "Volume",
]


class Metadata(TypedDict):
    """Name, place and notes of an object."""

    name: str
    namespace: NotRequired[str]
    labels: dict[str, str]
    annotations: NotRequired[dict[str, str]]


class EnvVar(TypedDict):
    """One environment variable, its value in the clear: never a secret."""

    name: str
    value: str


class NamedReference(TypedDict):
    """An object of the same namespace, by name."""

    name: str


class LabelSelector(TypedDict):
    """Objects by their labels."""

    matchLabels: dict[str, str]


class HttpGet(TypedDict):
    """Where a probe asks."""

    path: str
    port: int


class Probe(TypedDict):
    """How the kubelet asks whether a container is well."""

    httpGet: HttpGet
    periodSeconds: int
    timeoutSeconds: int
    failureThreshold: int


class ContainerPort(TypedDict):
    """A named port; KServe gives the first one to the Service's port 80."""

    name: str
    containerPort: int
    protocol: Literal["TCP"]


class VolumeMount(TypedDict):
    """A volume's place in a container."""

    name: str
    mountPath: str


class Exec(TypedDict):
    """A command run in a container."""

    command: list[str]


class PreStop(TypedDict):
    """What runs before a container is asked to stop."""

    exec: Exec


class Lifecycle(TypedDict):
    """Hooks of a container."""

    preStop: PreStop


class Capabilities(TypedDict):
    """Linux capabilities that are taken away."""

    drop: list[str]


class SeccompProfile(TypedDict):
    """The filter of system calls."""

    type: Literal["RuntimeDefault"]


class SecurityContext(TypedDict):
    """What a container may not do."""

    runAsNonRoot: Literal[True]
    runAsUser: int
    allowPrivilegeEscalation: Literal[False]
    capabilities: Capabilities
    seccompProfile: SeccompProfile


class Resources(TypedDict):
    """What a container gets at least and at most."""

    requests: dict[str, str]
    limits: dict[str, str]


class Container(TypedDict):
    """The server's container in a ServingRuntime."""

    name: Literal["kserve-container"]
    image: str
    imagePullPolicy: str
    args: list[str]
    env: list[EnvVar]
    ports: list[ContainerPort]
    startupProbe: Probe
    readinessProbe: Probe
    livenessProbe: Probe
    lifecycle: Lifecycle
    securityContext: SecurityContext
    volumeMounts: list[VolumeMount]


class EmptyDir(TypedDict):
    """A folder that lives as long as the pod."""

    medium: NotRequired[Literal["Memory"]]
    sizeLimit: NotRequired[str]


class Volume(TypedDict):
    """A volume of a pod."""

    name: str
    emptyDir: EmptyDir


class ModelFormat(TypedDict):
    """A format by name, and whether a runtime may be chosen by it alone."""

    name: str
    autoSelect: NotRequired[bool]


class ServingRuntimeSpec(TypedDict):
    """How a model format is served."""

    supportedModelFormats: list[ModelFormat]
    protocolVersions: list[str]
    containers: list[Container]
    volumes: list[Volume]


class ServingRuntime(TypedDict):
    """serving.kserve.io/v1alpha1 ServingRuntime."""

    apiVersion: Literal["serving.kserve.io/v1alpha1"]
    kind: Literal["ServingRuntime"]
    metadata: Metadata
    spec: ServingRuntimeSpec


class Expression(TypedDict):
    """One condition on a node's label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: NotRequired[list[str]]


class NodeSelectorTerm(TypedDict):
    """Conditions that hold together."""

    matchExpressions: list[Expression]


class NodeSelector(TypedDict):
    """Terms of which one must hold."""

    nodeSelectorTerms: list[NodeSelectorTerm]


class NodeAffinity(TypedDict):
    """Nodes that a pod may run on."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector


class Affinity(TypedDict):
    """Where a pod may run."""

    nodeAffinity: NodeAffinity


class TolerationEntry(TypedDict):
    """A taint that a pod accepts."""

    key: NotRequired[str]
    operator: str
    value: NotRequired[str]
    effect: NotRequired[str]


class SpreadConstraint(TypedDict):
    """How pods are spread over nodes."""

    maxSkew: int
    topologyKey: str
    whenUnsatisfiable: Literal["ScheduleAnyway"]
    labelSelector: LabelSelector


class RollingUpdate(TypedDict):
    """How many pods more, and how many fewer, an update may have."""

    maxSurge: int
    maxUnavailable: int


class Strategy(TypedDict):
    """How an update replaces pods."""

    type: Literal["Recreate", "RollingUpdate"]
    rollingUpdate: NotRequired[RollingUpdate]


class Model(TypedDict):
    """What is served, and by which runtime."""

    modelFormat: ModelFormat
    runtime: str
    protocolVersion: Literal["v2"]
    storageUri: str
    env: list[EnvVar]
    resources: Resources


class PredictorAutoScaling(TypedDict):
    """KServe's own autoscaling block: metrics from Prometheus, scaled by KEDA."""

    metrics: list[dict[str, object]]


class Predictor(TypedDict):
    """The pods that answer."""

    annotations: dict[str, str]
    minReplicas: int
    maxReplicas: int
    timeout: int
    deploymentStrategy: Strategy
    terminationGracePeriodSeconds: int
    serviceAccountName: str
    automountServiceAccountToken: Literal[False]
    topologySpreadConstraints: list[SpreadConstraint]
    model: Model
    labels: NotRequired[dict[str, str]]
    imagePullSecrets: NotRequired[list[NamedReference]]
    nodeSelector: NotRequired[dict[str, str]]
    affinity: NotRequired[Affinity]
    tolerations: NotRequired[list[TolerationEntry]]
    autoScaling: NotRequired[PredictorAutoScaling]


class InferenceServiceSpec(TypedDict):
    """What an InferenceService asks for."""

    predictor: Predictor


class InferenceService(TypedDict):
    """serving.kserve.io/v1beta1 InferenceService."""

    apiVersion: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: Metadata
    spec: InferenceServiceSpec
