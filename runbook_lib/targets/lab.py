"""The embedded lab as a target: engines compiled for this CPU, served by Triton on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.artifacts import Engine, ModelRepository, Replica, Service
from runbook_lib.changes import Change, Check
from runbook_lib.diagnose.evidence import Evidence
from runbook_lib.lab import engines, repositories, services, troubleshooting
from runbook_lib.lab.lab import current
from runbook_lib.lab.services import Smoke
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving.supervise import stop
from runbook_lib.targets.base import OnLine

__all__ = ["LabTarget"]

TRIAL_SERVER = "triton-study"


class LabTarget:
    """Everything on this machine; a run's own lab ends with the run."""

    name = "lab"
    where = "lab"

    def checks(self, profile: DeploymentProfile) -> list[Check]:  # noqa: ARG002 - one interface
        """Nothing beyond this machine, which every page looks at."""
        return []

    def build_changes(self, profile: DeploymentProfile, *, rebuild: bool) -> list[Change]:
        """Raises PlanError for a profile of another track."""
        return engines.build_changes(profile, rebuild=rebuild)

    def build(
        self, profile: DeploymentProfile, log: Path, on_line: OnLine, *, rebuild: bool
    ) -> Engine:
        """Raises PlanError, BuildError."""
        return engines.build(profile, log, on_line, rebuild=rebuild)

    def engine_key(self, profile: DeploymentProfile) -> str:
        """For this CPU."""
        return engines.engine_key(profile)

    def check_engine(self, engine: Engine) -> None:
        """Raises EngineMismatchError when it can't run on this CPU and runtime."""
        engines.check_engine(engine)

    def lay_out(
        self, profile: DeploymentProfile, engine: Engine, folder: Path | None = None
    ) -> ModelRepository:
        """Of any track: what needs a GPU is laid out here, and served elsewhere.

        Raises:
            EngineMismatchError: it can't run where its track runs. RepositoryError: as written.
        """
        if profile.track == "lab":
            engines.check_engine(engine)
        return repositories.lay_out(
            profile, engine, folder or repositories.repository_folder(profile)
        )

    def publish_changes(self, repository: ModelRepository) -> list[Change]:
        """Against the lab's object store."""
        return repositories.publish_changes(repository, repositories.access())

    def publish(self, repository: ModelRepository, on_line: OnLine, *, replace: bool) -> str:
        """Raises RepositoryError."""
        return repositories.publish(
            repository, repositories.access(), on_line, replace=replace, create_bucket=True
        )

    def deploy_changes(
        self,
        profile: DeploymentProfile,  # noqa: ARG002 - one interface
        repository: ModelRepository,
        replicas: int,
    ) -> list[Change]:
        """Which servers would be started or stopped."""
        return services.deploy_changes(repository, replicas)

    def deploy(
        self,
        profile: DeploymentProfile,  # noqa: ARG002 - one interface
        repository: ModelRepository,
        on_line: OnLine,
    ) -> Replica:
        """Raises ServiceError."""
        on_line("replica 1")
        return services.deploy(repository, 0)

    def scale(
        self,
        profile: DeploymentProfile,  # noqa: ARG002 - one interface
        repository: ModelRepository,
        count: int,
        on_line: OnLine,
    ) -> list[Replica]:
        """Raises ServiceError."""
        return services.replicas_of(repository, count, on_line)

    def service(
        self,
        profile: DeploymentProfile,
        repository: ModelRepository,
        replicas: Sequence[Replica],
        smoke: Smoke,
    ) -> Service:
        """Its URL is the first replica's: the lab has no load balancer."""
        return services.service_of(profile, repository, replicas, smoke)

    def reached(self, service: Service) -> Service:
        """As it is: it listens on this machine."""
        return service

    def evidence(self, service: Service, folder: Path) -> Evidence:  # noqa: ARG002 - one interface
        """From the servers and their log files."""
        return troubleshooting.evidence_of(service)

    @contextmanager
    def trial(
        self, profile: DeploymentProfile, engine: Engine, label: str
    ) -> Iterator[tuple[str, str]]:
        """A Triton on the folder itself, alone for the time of the block."""
        lab = current()
        repository = self.lay_out(profile, engine, lab.folder / "study" / label)
        running, _ = lab.serve(repository.path, TRIAL_SERVER)
        try:
            yield str(running.facts["http"]), repository.entry_model
        finally:
            stop(running)

    def undeploy(self, profile: DeploymentProfile | None) -> list[str]:  # noqa: ARG002 - one interface
        """Every server but the object store."""
        return services.undeploy()
