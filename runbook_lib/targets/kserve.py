"""A Kubernetes cluster with KServe as a target: a Job builds, the object store holds, pods serve."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.artifacts import Engine, ModelRepository, Replica, Service, digest_of
from runbook_lib.changes import Change, Check
from runbook_lib.diagnose.evidence import Evidence
from runbook_lib.errors import EngineMismatchError, ServiceError
from runbook_lib.kube.apply import changes_of
from runbook_lib.kube.client import Kube
from runbook_lib.lab import repositories, services, troubleshooting
from runbook_lib.lab.services import Smoke
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving import kserve
from runbook_lib.serving.manifests import explain_cache, render
from runbook_lib.serving.manifests_target import Deployment, service_name
from runbook_lib.targets import kserve_evidence
from runbook_lib.targets.base import OnLine
from runbook_lib.targets.engine_check import require_whole
from runbook_lib.targets.kserve_build import Workshop
from runbook_lib.targets.kserve_place import checks, intended, kubeconfig_at_hand, workshop
from runbook_lib.targets.kserve_pods import Reach, is_ready_pod, replica_of

__all__ = ["KServeTarget"]


@dataclass
class KServeTarget:
    """One cluster, by the kubeconfig in force."""

    kube: Kube
    name: str = "kserve"
    _reaches: dict[str, Reach] = field(default_factory=dict)

    @classmethod
    def connect(cls) -> KServeTarget:
        """By $KUBECONFIG, else the lab's own cluster if it is up, else as kubectl would.

        Raises:
            PreflightError: there is no kubeconfig, or the API server does not answer.
        """
        kube = Kube.connect(kubeconfig_at_hand())
        _ = kube.version
        return cls(kube)

    @property
    def where(self) -> str:
        """The cluster, by its API server."""
        return f"kserve {self.kube.server}"

    def checks(self, profile: DeploymentProfile) -> list[Check]:
        """The API server, KServe, the namespace and the Secret."""
        return checks(self.kube, profile)

    # -- build -----------------------------------------------------------------------------------

    def _workshop(self, profile: DeploymentProfile) -> Workshop:
        return Workshop(self.kube, *workshop(self.kube, profile))

    def build_changes(self, profile: DeploymentProfile, *, rebuild: bool) -> list[Change]:
        """The weights to send, and the Job."""
        return self._workshop(profile).changes(profile, rebuild=rebuild)

    def build(
        self, profile: DeploymentProfile, log: Path, on_line: OnLine, *, rebuild: bool
    ) -> Engine:
        """Raises BuildError with the step that failed, PlanError, ServiceError."""
        return self._workshop(profile).build(profile, log, on_line, rebuild=rebuild)

    def engine_key(self, profile: DeploymentProfile) -> str:
        """For the image and the nodes that will serve it."""
        return self._workshop(profile).key(profile)

    def check_engine(self, engine: Engine) -> None:
        """Every file is there and begins as it must; that it fits its node was settled by building there.

        Raises:
            EngineMismatchError: a rank file is missing, cut off, or of another build.
        """
        ranks = engine.identity.tp_size * engine.identity.pp_size
        there = {file.path for file in engine.files}
        missing = [f"rank{n}.engine" for n in range(ranks) if f"rank{n}.engine" not in there]
        if missing:
            raise EngineMismatchError(
                f"The engine {engine.path} is not whole.",
                why=f"{', '.join(missing)} of {ranks} ranks are missing.",
                fix="Build it again: page 01 with rebuild = true.",
                page="01_build_engine",
            )
        require_whole(Path(engine.path))

    # -- repository ------------------------------------------------------------------------------

    def lay_out(
        self, profile: DeploymentProfile, engine: Engine, folder: Path | None = None
    ) -> ModelRepository:
        """Under a URI of its own content: a pod that starts later, or a rollback, finds the same engine.

        Raises:
            RepositoryError: the result would not load.
        """
        if profile.track != "llmapi":  # its ranks are no files
            self.check_engine(engine)
        made = repositories.lay_out(
            profile, engine, folder or repositories.repository_folder(profile)
        )
        own = made.content_digest.removeprefix("sha256:")[:12]
        return made.model_copy(
            update={"uri": f"{made.uri.rstrip('/')}/{own}/", "identity": engine.identity}
        )

    def publish_changes(self, repository: ModelRepository) -> list[Change]:
        """Against the store at hand: the environment's (AWS_…), else the lab's."""
        return repositories.publish_changes(repository, repositories.access_for(repository.uri))

    def publish(self, repository: ModelRepository, on_line: OnLine, *, replace: bool) -> str:
        """Raises RepositoryError."""
        store = repositories.access_for(repository.uri)
        return repositories.publish(
            repository, store, on_line, replace=replace, create_bucket=False
        )

    # -- service ---------------------------------------------------------------------------------

    def deploy_changes(
        self, profile: DeploymentProfile, repository: ModelRepository, replicas: int
    ) -> list[Change]:
        """Each object that would be made or changed, with what changes in it."""
        wanted = intended(self.kube, profile, repository, replicas)
        manifests = render(wanted)
        # With the digest of what is applied an approval fits no other manifests.
        applied = digest_of(manifests).removeprefix("sha256:")[:12]
        with kserve.refusal_named(wanted.name, wanted.namespace):
            changes = changes_of(self.kube, manifests)
        return [
            dataclasses.replace(one, detail=f"{one.detail} manifests {applied}".strip())
            for one in changes
        ]

    def deploy(
        self, profile: DeploymentProfile, repository: ModelRepository, on_line: OnLine
    ) -> Replica:
        """Raises RolloutError with the cause that it can't become ready for."""
        return self.scale(profile, repository, 1, on_line)[0]

    def scale(
        self,
        profile: DeploymentProfile,
        repository: ModelRepository,
        count: int,
        on_line: OnLine,
    ) -> list[Replica]:
        """Raises RolloutError, and ServiceError for a pod that serves another engine."""
        return self._rolled_out(
            intended(self.kube, profile, repository, count), repository, on_line
        )

    def _rolled_out(
        self, wanted: Deployment, repository: ModelRepository, on_line: OnLine
    ) -> list[Replica]:
        settings = wanted.settings
        kserve.deploy(
            self.kube,
            wanted.name,
            wanted.namespace,
            render(wanted),
            on_line=on_line,
            timeout=float(settings.ready_seconds),
            on_failure=settings.on_failure,
        )
        pods = [
            pod
            for pod in kserve.pods_of(self.kube, wanted.name, wanted.namespace)
            if is_ready_pod(pod)
        ]
        reach = self._reach(wanted.namespace)
        return [replica_of(self.kube, wanted.namespace, pod, reach, repository) for pod in pods]

    def _reach(self, namespace: str) -> Reach:
        return self._reaches.setdefault(namespace, Reach(self.kube, namespace))

    def service(
        self,
        profile: DeploymentProfile,
        repository: ModelRepository,
        replicas: Sequence[Replica],
        smoke: Smoke,
    ) -> Service:
        """Its URL is that of the Kubernetes Service inside the cluster."""
        wanted = intended(self.kube, profile, repository, len(replicas))
        made = services.service_of(profile, repository, replicas, smoke)
        host = f"{wanted.name}-predictor.{wanted.namespace}.svc.cluster.local"
        notes = [f"The URL is that inside the cluster {self.kube.server}."]
        notes += [cached] if (cached := explain_cache(wanted)) else []
        return made.model_copy(
            update={"target": "kserve", "url": f"http://{host}", "notes": tuple(notes)}
        )

    def reached(self, service: Service) -> Service:
        """Through the Service's address where the network has a way, else through the pods' own.

        Raises:
            ServiceError: none of its pods is left.
        """
        name, namespace = _place_of(service)
        pods = kserve.pods_of(self.kube, name, namespace)
        ready = [pod for pod in pods if is_ready_pod(pod)]
        if not ready:
            raise ServiceError(
                f"{namespace}/{name} has no pod that is ready.",
                why=f"It has {len(pods)} pods.",
                fix="Deploy it: page 03; page 06 names what holds it up.",
                page="06_troubleshoot",
            )
        reach = self._reach(namespace)
        known = {one.name: one for one in service.replicas}
        replicas = tuple(reach.replica(pod, known.get(pod["metadata"]["name"])) for pod in ready)
        entry = self.kube.get("Service", f"{name}-predictor", namespace)
        url = reach.service(entry) or replicas[0].http
        return service.model_copy(update={"url": url, "replicas": replicas})

    def evidence(self, service: Service, folder: Path) -> Evidence:
        """The cluster's objects, and each pod that answers."""
        name, namespace = _place_of(service)
        found = kserve_evidence.of_cluster(self.kube, namespace, name)
        try:
            reached = self.reached(service)
        except ServiceError as error:
            return found.joined(Evidence(sources={"pods": f"not read: {error.what}"}))
        logged = [
            kserve_evidence.with_log(self.kube, namespace, one, folder) for one in reached.replicas
        ]
        said = troubleshooting.evidence_of(reached.model_copy(update={"replicas": tuple(logged)}))
        return functools.reduce(Evidence.joined, [found, said])

    @contextmanager
    def trial(
        self, profile: DeploymentProfile, engine: Engine, label: str
    ) -> Iterator[tuple[str, str]]:
        """An InferenceService of its own on a repository of its own, removed at the end."""
        own, _ = self.place(profile)
        uri = f"{profile.model_repository.rstrip('/')}-study/{label}/"
        trial = profile.model_copy(
            update={
                "model_repository": uri,
                "kserve": profile.kserve.model_copy(
                    update={"name": f"{own[:24]}-{label}"[:40].rstrip("-.")}
                ),
            }
        )
        folder = repositories.repository_folder(trial).parent / "study" / label
        repository = self.lay_out(trial, engine, folder)
        self.publish(repository, lambda _: None, replace=True)
        wanted = intended(self.kube, trial, repository, 1)
        try:
            [replica] = self._rolled_out(wanted, repository, lambda _: None)
            yield replica.http, repository.entry_model
        finally:
            kserve.undeploy(self.kube, wanted.name, wanted.namespace)

    def undeploy(self, profile: DeploymentProfile | None) -> list[str]:
        """Everything that the deployment of a profile applied."""
        if profile is None:
            raise ServiceError("Nothing to undeploy is named.", fix="runbook undeploy PROFILE")
        return kserve.undeploy(self.kube, *self.place(profile))

    def place(self, profile: DeploymentProfile) -> tuple[str, str]:
        """Name and namespace of a profile's InferenceService."""
        name = profile.kserve.name or service_name(profile.model_name)
        return name, profile.kserve.namespace or self.kube.namespace


def _place_of(service: Service) -> tuple[str, str]:
    """Name and namespace of the InferenceService, from the URL that `service` made."""
    host = service.url.removeprefix("http://")
    predictor, namespace = host.split(".")[:2]
    return predictor.removesuffix("-predictor"), namespace
