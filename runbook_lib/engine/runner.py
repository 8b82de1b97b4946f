"""Where the commands of a build run: as processes of this machine, or in a container on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from runbook_lib.engine.command import Command

__all__ = ["OWN_STEP", "ProcessRunner", "Runner"]

OWN_STEP = "builder-cmd"  # a command of the user's own, which may name files beside the user


class Runner(Protocol):
    """Runs the steps of a build, one after the other; each is a process that is started here."""

    name: str

    def about(self) -> Mapping[str, str]:
        """What the result depends on, and what the receipt tells of it."""

    def prepare(self, key: str) -> Sequence[Command]:
        """Make ready for the build of a key; what must be run on this machine first."""

    def words(self, step: Command, work: Path) -> tuple[str, ...]:
        """What is started on this machine for a step."""

    def folder(self, step: Command, work: Path) -> Path | None:
        """Where it is started; None for where the user is."""

    def root(self, started: int) -> int | None:
        """The process whose descendants do a step's work; None where it is not known yet."""

    def end(self) -> None:
        """End whatever of a step outlives the process that was started for it."""

    def missing(self) -> str:
        """What to do where the program of a step is not there."""


class ProcessRunner:
    """Each step as a process of this machine, in a session of its own."""

    name = "process"

    def about(self) -> Mapping[str, str]:
        """Nothing beside the machine itself."""
        return {"runner": self.name}

    def prepare(self, key: str) -> Sequence[Command]:  # noqa: ARG002 - one interface
        """Nothing."""
        return ()

    def words(self, step: Command, work: Path) -> tuple[str, ...]:  # noqa: ARG002 - one interface
        """The step's own."""
        return step.argv

    def folder(self, step: Command, work: Path) -> Path | None:
        """The work folder: trtllm-build leaves a timing cache where it is started."""
        return None if step.step == OWN_STEP else work

    def root(self, started: int) -> int | None:
        """The process itself."""
        return started

    def end(self) -> None:
        """Nothing outlives the session."""

    def missing(self) -> str:
        """For the tools of TensorRT-LLM."""
        return (
            "TensorRT-LLM's tools are in its release container: build with --runner podman, or run "
            "this in the container (same image as the server)."
        )
