"""What every target can do, in the order of the pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from runbook_lib.artifacts import Engine, ModelRepository, Replica, Service
from runbook_lib.changes import Change, Check
from runbook_lib.diagnose.evidence import Evidence
from runbook_lib.lab.services import Smoke
from runbook_lib.profile import DeploymentProfile

__all__ = ["OnLine", "Target"]

OnLine = Callable[[str], None]


class Target(Protocol):
    """One place to build, store, serve and look. What changes something has a twin that only tells."""

    name: str

    @property
    def where(self) -> str:
        """What tells this place from others: what was measured in one holds in no other."""

    def checks(self, profile: DeploymentProfile) -> list[Check]:
        """What a page looks at before it starts."""

    def build_changes(self, profile: DeploymentProfile, *, rebuild: bool) -> list[Change]:
        """What `build` would do: nothing when a receipt holds."""

    def build(
        self, profile: DeploymentProfile, log: Path, on_line: OnLine, *, rebuild: bool
    ) -> Engine:
        """The engine of a profile: built now, or the one whose receipt holds."""

    def engine_key(self, profile: DeploymentProfile) -> str:
        """The digest of everything the engine of a profile depends on."""

    def check_engine(self, engine: Engine) -> None:
        """Refuse an engine that can't run on this target."""

    def lay_out(
        self, profile: DeploymentProfile, engine: Engine, folder: Path | None = None
    ) -> ModelRepository:
        """Write the model repository of an engine and judge it as Triton would."""

    def publish_changes(self, repository: ModelRepository) -> list[Change]:
        """What `publish` would send: nothing when the store holds exactly this."""

    def publish(self, repository: ModelRepository, on_line: OnLine, *, replace: bool) -> str:
        """Store the repository and verify it there by digest; what was sent, in a sentence."""

    def deploy_changes(
        self, profile: DeploymentProfile, repository: ModelRepository, replicas: int
    ) -> list[Change]:
        """What `deploy` and `scale` would change."""

    def deploy(
        self, profile: DeploymentProfile, repository: ModelRepository, on_line: OnLine
    ) -> Replica:
        """Serve the stored repository with one replica that is ready."""

    def scale(
        self,
        profile: DeploymentProfile,
        repository: ModelRepository,
        count: int,
        on_line: OnLine,
    ) -> list[Replica]:
        """Exactly `count` ready replicas, each proven to serve the stored engine as it was built."""

    def service(
        self,
        profile: DeploymentProfile,
        repository: ModelRepository,
        replicas: Sequence[Replica],
        smoke: Smoke,
    ) -> Service:
        """The deployed service as the next pages need it."""

    def reached(self, service: Service) -> Service:
        """The service with URLs that answer from this machine."""

    def evidence(self, service: Service, folder: Path) -> Evidence:
        """What the service says of itself, replica by replica; logs go into the folder."""

    def trial(
        self, profile: DeploymentProfile, engine: Engine, label: str
    ) -> AbstractContextManager[tuple[str, str]]:
        """A server of its own for one engine while the block runs: its URL and entry model."""

    def undeploy(self, profile: DeploymentProfile | None) -> list[str]:
        """Stop what `deploy` started; the names of what was stopped."""
