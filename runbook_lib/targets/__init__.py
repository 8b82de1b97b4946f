"""Where pages 01 to 06 act: the embedded lab, or a Kubernetes cluster with KServe."""

from __future__ import annotations

from runbook_lib.errors import UsageError
from runbook_lib.targets.base import Target

__all__ = ["Target", "target_named"]


def target_named(name: str) -> Target:
    """The target that a page or a command was given.

    Raises:
        UsageError: there is none of that name.
        PreflightError: the cluster of `kserve` can't be reached.
    """
    if name == "lab":
        from runbook_lib.targets.lab import LabTarget

        return LabTarget()
    if name == "kserve":
        from runbook_lib.targets.kserve import KServeTarget

        return KServeTarget.connect()
    raise UsageError(f"There is no target {name!r}.", fix="--target lab   (or --target kserve)")
