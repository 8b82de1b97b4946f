"""Who builds an engine on this machine; a Job of a cluster is its target's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from runbook_lib.artifacts import Engine
from runbook_lib.engine.build_profile import LocalBuilder
from runbook_lib.engine.runner import ProcessRunner
from runbook_lib.engine.runner_container import ContainerRunner
from runbook_lib.errors import UsageError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving.manifests_image import serving_image
from runbook_lib.targets.lab import LabTarget

__all__ = ["Builder", "builder_for"]


class Builder(Protocol):
    """Builds the engine of a profile, or keeps the one whose receipt holds; every target is one too."""

    def build(
        self,
        profile: DeploymentProfile,
        log: Path,
        on_line: Callable[[str], None],
        *,
        rebuild: bool,
    ) -> Engine:
        """The engine of the profile, whole."""


def builder_for(profile: DeploymentProfile, runner: str) -> Builder:
    """Who builds a profile's engine on this machine, with the runner `process` or `podman`.

    Raises:
        UsageError: the lab has no image to build in. PreflightError: there is no podman.
        PlanError: no image is known for the release.
    """
    if profile.track == "lab":
        if runner == "podman":
            raise UsageError(
                "No image of a registry holds the lab's builder.",
                fix="Leave --runner out: it runs in an environment of its own on this machine.",
            )
        return LabTarget()
    if runner == "process":
        return LocalBuilder(ProcessRunner())
    weights = Path(profile.weights)
    image = serving_image(profile, profile.kserve)
    return LocalBuilder(ContainerRunner(image, weights if weights.is_dir() else None))
