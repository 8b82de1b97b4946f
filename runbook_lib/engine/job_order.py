"""What an engine build as a Kubernetes Job is told: what, where, and with which keys. Values only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.engine.command import Command
from runbook_lib.errors import ProfileError

__all__ = ["ENGINE", "WEIGHTS", "WORK", "BuildOrder", "BuildPlace", "StoreKeys", "label_of"]

WORK = "/build"
WEIGHTS = f"{WORK}/weights"
ENGINE = f"{WORK}/engine"
PREFIX = r"[\w.-]+(/[\w.-]+)*/?"
RESULT = re.compile(rf"s3://[a-z0-9][a-z0-9.-]+/{PREFIX}", re.ASCII)
CLAIM = re.compile(rf"pvc://(?P<claim>[a-z0-9][a-z0-9.-]*)(/(?P<path>{PREFIX})?)?", re.ASCII)
HUB = re.compile(r"hf://[\w.-]+/[\w.-]+(:[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class BuildOrder:
    """What is built, from what, and where the result goes.

    Attributes:
        model: name of the model.
        inputs: digest of everything the engine depends on.
        commands: the build's steps, with `WORK` as their work folder and the checkpoint in `WEIGHTS`;
            they leave the engine in `ENGINE`.
        weights: `s3://bucket/prefix/`, `pvc://claim/path` or `hf://org/model[:revision]`.
        result: `s3://bucket/prefix/`, a prefix of this engine's own.
        replace: store the new engine also where a whole one lies.
    """

    model: str
    inputs: str
    commands: Sequence[Command]
    weights: str
    result: str
    replace: bool = False

    @property
    def claim(self) -> tuple[str, str] | None:
        """The volume claim that holds the weights, and the path in it; None for other sources."""
        found = CLAIM.fullmatch(self.weights)
        return (found["claim"], (found["path"] or "").strip("/")) if found else None

    def check(self) -> None:
        """Refuse what means nothing, every problem at once.

        Raises:
            ProfileError: a URI or a step is wrong.
        """
        if problems := [*self._uri_problems(), *self._step_problems()]:
            raise ProfileError(
                f"The build of {self.model} can't be made a Job.",
                why="\n".join(problems),
                fix="Correct the profile; nothing was changed.",
                page="01_build_engine",
            )

    def _uri_problems(self) -> list[str]:
        problems = []
        known = any(one.fullmatch(self.weights) for one in (RESULT, CLAIM, HUB))
        if not known or _climbs(self.weights):
            problems.append(
                f"weights {self.weights!r}: a Job reads s3://BUCKET/PREFIX/, pvc://CLAIM/PATH or "
                "hf://ORG/MODEL"
            )
        if not RESULT.fullmatch(self.result) or _climbs(self.result):
            problems.append(f"result {self.result!r}: an engine is stored in s3://BUCKET/PREFIX/")
        return problems

    def _step_problems(self) -> list[str]:
        if not self.commands:
            return ["no build steps: nothing would be built"]
        names = [label_of(step.step) for step in self.commands]
        problems = [f"step {one.step}: it has no words" for one in self.commands if not one.argv]
        if len({*names, "weights", "upload"}) < len(names) + 2:
            problems.append(
                f"steps {', '.join(names)}: each needs a name of its own, not weights or upload"
            )
        if any("\0" in word for one in self.commands for word in one.argv):
            problems.append("a word of a step holds a NUL byte, which no program can be given")
        return problems


@dataclass(frozen=True)
class StoreKeys:
    """Credentials by reference; the value of a key is never part of a manifest.

    Attributes:
        secret: Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; empty where the service
            account itself has the rights.
        endpoint: `http://HOST:PORT`, or empty for AWS itself.
        region: the store's region.
        hub_secret: Secret with HF_TOKEN, for hf:// weights that are not public.
        hub_url: address of a mirror of the Hugging Face hub; empty for the hub itself.
    """

    secret: str
    endpoint: str = ""
    region: str = "us-east-1"
    hub_secret: str = ""
    hub_url: str = ""


@dataclass(frozen=True)
class BuildPlace:
    """Where the Job runs: as the service will, so that the engine fits.

    Attributes:
        namespace: of the Job; Secrets and claims are looked up there.
        image: the serving image.
        storage_image: KServe's storage initializer.
        cpu: CPUs that a build step asks for, as Kubernetes writes them.
        memory: memory of a build step.
        work_size: room for weights, checkpoint and engine on the node; not used with `work_claim`.
        work_claim: a volume claim to work in instead: steps that ended are kept for the next try.
        gpu_resource: for example `nvidia.com/gpu` or `nvidia.com/mig-3g.20gb`.
        gpu_count: how many of them; 0 for none.
        cpu_limit: the most CPUs that a build step may take; empty for what it asks for.
        service_account: empty for the namespace's default.
    """

    namespace: str
    image: str
    storage_image: str
    cpu: str
    memory: str
    work_size: str = "200Gi"
    work_claim: str = ""
    gpu_resource: str = ""
    gpu_count: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict)
    affinity: Mapping[str, Any] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    cpu_limit: str = ""
    service_account: str = ""
    image_pull_secrets: Sequence[str] = ()


def label_of(text: str) -> str:
    """A DNS label near a name; a long one is cut."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "engine"


def _climbs(uri: str) -> bool:
    return bool({".", ".."} & set(uri.split("/")))
