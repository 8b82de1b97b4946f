"""The steps of a build in containers of the serving image: podman, or docker, which has the same words.

The container sees the work folder and the weights under their own paths, so that the commands are those
of a build without one. Secrets go in by the name of their variable, never by value.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runbook_lib.engine.command import Command
from runbook_lib.errors import PreflightError

__all__ = ["ContainerRunner"]

PROGRAMS = ("podman", "docker")
LABEL = "runbook.build"
PASSED_ON = (
    *("HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT", "http_proxy", "https_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "CUDA_VISIBLE_DEVICES"),
)
NVIDIA = Path("/dev/nvidiactl")
ASKED_FOR = 20.0


class ContainerRunner:
    """Each step in a container of one image, removed when it ends.

    Args:
        image: what the steps run in.
        weights: a folder that the steps read; nothing where they fetch it.
        program: `podman` or `docker`; by default the first that is there.

    Raises:
        PreflightError: neither is on PATH.
    """

    name = "podman"

    def __init__(self, image: str, weights: Path | None = None, program: str = "") -> None:
        self.image, self.weights = image, weights
        self.program = program or next(filter(shutil.which, PROGRAMS), "")
        if not self.program:
            raise PreflightError(
                "Neither podman nor docker is on PATH.",
                why="--runner podman builds in a container of the serving image.",
                fix="sudo apt-get install podman, or --runner process inside the release container",
                page="01_build_engine",
            )
        self._key, self._container = "", ""
        self._pid: int | None = None

    def about(self) -> Mapping[str, str]:
        """The image: another one is another build."""
        return {"runner": self.name, "image": self.image}

    def prepare(self, key: str) -> Sequence[Command]:
        """End what a killed build of this key left running; pull the image where it is not there."""
        self._key = key
        label = f"label={LABEL}={key}"
        left = self._asked("ps", "--all", "--quiet", "--filter", label).split()
        if left:
            self._asked("kill", *left)  # rm alone would first wait for them to end
            self._asked("rm", "--force", *left)
        if self._asked("image", "inspect", "--format", "{{.Id}}", self.image).strip():
            return ()
        return (Command("pull", (self.program, "pull", self.image)),)

    def words(self, step: Command, work: Path) -> tuple[str, ...]:
        """`podman run` with the step behind it; the pull of the image as it is."""
        if step.argv[0] == self.program:
            return step.argv
        self._container = f"runbook-build-{uuid.uuid4().hex[:12]}"
        mounts = [f"{work}:{work}"]
        if self.weights is not None:
            mounts.append(f"{self.weights}:{self.weights}:ro")
        return (
            *(self.program, "run", "--rm", "--name", self._container),
            *("--label", f"{LABEL}={self._key}", "--workdir", str(work), "--ipc", "host"),
            *(word for mount in mounts for word in ("--volume", mount)),
            *(word for name in PASSED_ON if name in os.environ for word in ("--env", name)),
            *self._person(),
            *self._gpus(),
            self.image,
            *step.argv,
        )

    def folder(self, step: Command, work: Path) -> Path | None:  # noqa: ARG002 - one interface
        """Where the user is; inside it is the work folder."""
        return None

    def root(self, started: int) -> int | None:  # noqa: ARG002 - one interface
        """The container's first process; it is no child of the process that was started."""
        if self._pid is None and self._container:
            said = self._asked("inspect", "--format", "{{.State.Pid}}", self._container).strip()
            self._pid = int(said) if said.isdecimal() and int(said) else None
        return self._pid

    def end(self) -> None:
        """Remove the container: it goes on when the process that started it is killed."""
        if self._container:
            self._asked("kill", self._container)
            self._asked("rm", "--force", self._container)
            self._container, self._pid = "", None

    def missing(self) -> str:
        """For what the image should hold."""
        return f"The image {self.image} must hold the program: use the profile's release image."

    def _person(self) -> tuple[str, ...]:
        """What it writes belongs to the user, also where the daemon is root's."""
        if os.geteuid() == 0:
            return ()
        if self.program == "podman":
            return ("--userns", "keep-id")
        return ("--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp")

    def _gpus(self) -> tuple[str, ...]:
        """All GPUs of the machine, where it has any."""
        if not NVIDIA.exists():
            return ()
        by_cdi = ("--device", "nvidia.com/gpu=all")
        return by_cdi if self.program == "podman" else ("--gpus", "all")

    def _asked(self, *words: str) -> str:
        """What the program answers; nothing where it refuses or takes too long."""
        with suppress(subprocess.SubprocessError, OSError):
            done = subprocess.run(
                [self.program, *words],
                capture_output=True,
                text=True,
                check=False,
                timeout=ASKED_FOR,
            )
            return done.stdout if done.returncode == 0 else ""
        return ""
