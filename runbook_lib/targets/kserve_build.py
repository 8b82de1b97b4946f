"""An engine built by a Job of the cluster, for the node that will serve it, and fetched from the store."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.artifacts import Engine, EngineIdentity, Phase, StoredFile, digest_of
from runbook_lib.changes import Change
from runbook_lib.engine import commands as trtllm
from runbook_lib.engine.identity import identity_of
from runbook_lib.engine.job import (
    WEIGHTS,
    WORK,
    BuildOrder,
    BuildPlace,
    StoreKeys,
    build_job,
)
from runbook_lib.engine.job_run import run_build_job
from runbook_lib.engine.template import own_commands
from runbook_lib.errors import NotStoredError, PlanError, ProfileError
from runbook_lib.files import content_digest, list_files
from runbook_lib.kube.client import Kube
from runbook_lib.lab.builder_commands import build_inputs, commands_in, weights_folder
from runbook_lib.lab.engines import read_identity
from runbook_lib.lab.repositories import access_at_hand
from runbook_lib.places import cache_dir
from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.fetch import fetch
from runbook_lib.repository.store import push, read_manifest
from runbook_lib.repository.store_verify import verify

__all__ = ["Workshop"]

RECEIPT = "receipt.json"
LAB_BUILDER = ("python3", "/opt/lab/builder")
STORED_WEIGHTS = ("s3://", "pvc://", "hf://")


@dataclass(frozen=True)
class Workshop:
    """Where engines of one cluster are built: its place, its keys, and the store at hand."""

    kube: Kube
    place: BuildPlace
    keys: StoreKeys

    def key(self, profile: DeploymentProfile) -> str:
        """The digest of everything that the engine of a profile depends on."""
        where = {"image": self.place.image, "nodes": dict(self.place.node_selector)}
        if profile.track == "lab":
            return digest_of(build_inputs(profile, json.dumps(where, sort_keys=True)))
        steps = [list(one.argv) for one in _commands(profile)]
        return digest_of([where, steps, self._weights(profile)])

    def changes(self, profile: DeploymentProfile, *, rebuild: bool) -> list[Change]:
        """What `build` would send and start; nothing when the store holds the engine."""
        if not rebuild and self._is_stored(profile):
            return []
        order = self.order(profile)
        sends = [Change("push", order.weights, "weights of the profile")]
        sends = sends if self._weights_to_send(profile, order.weights) else []
        about = f"in {self.place.namespace}, image {self.place.image}, inputs {order.inputs[7:19]}"
        return [*sends, Change("run", "Job that builds the engine", about)]

    def order(self, profile: DeploymentProfile, *, rebuild: bool = False) -> BuildOrder:
        """What the Job is told.

        Raises:
            PlanError: the profile's track builds no engine.
        """
        if profile.track == "llmapi":
            raise PlanError(
                f"{profile.profile} builds no engine.",
                why="The llmapi track serves the checkpoint itself.",
                fix="Go on with page 02, or set track: engine.",
                page="02_model_repository",
            )
        inputs = self.key(profile)
        return BuildOrder(
            model=profile.model_name,
            inputs=inputs,
            commands=_commands(profile),
            weights=self._weights(profile),
            result=f"{_bucket(profile)}/engines/{inputs[7:23]}/",
            replace=rebuild,
        )

    def build(
        self,
        profile: DeploymentProfile,
        log: Path,
        on_line: Callable[[str], None],
        *,
        rebuild: bool,
    ) -> Engine:
        """Build by a Job unless the store holds the engine, and fetch it.

        Raises:
            BuildError: the Job failed; with the step and its last lines.
            RepositoryError, ServiceError: the store refuses, or does not answer.
        """
        order, store = self.order(profile, rebuild=rebuild), access_at_hand()
        if self._weights_to_send(profile, order.weights):
            on_line(f"Sending the weights to {order.weights}")
            push(weights_folder(profile), order.weights, credentials=store, create_bucket=True)
        done = run_build_job(
            self.kube,
            build_job(order, self.place, self.keys),
            stored=lambda: self._is_stored(profile),
            log=log,
            on_line=on_line,
            rebuild=rebuild,
        )
        folder = cache_dir() / "engines" / f"job-{order.inputs[7:23]}"
        # A cache of what the store holds: that of another store, or of before, is replaced.
        fetch(order.result, folder, credentials=store, replace=True)
        return _engine(profile, order, folder, reused=done.kept)

    def _is_stored(self, profile: DeploymentProfile) -> bool:
        result = f"{_bucket(profile)}/engines/{self.key(profile)[7:23]}/"
        try:
            return bool(read_manifest(result, credentials=access_at_hand()))
        except NotStoredError:
            return False

    def _weights(self, profile: DeploymentProfile) -> str:
        """Where the Job reads the weights: where they are stored, else a copy under their digest."""
        if profile.weights.startswith(STORED_WEIGHTS):
            return profile.weights
        folder = weights_folder(profile)
        if not folder.is_dir():
            raise ProfileError(
                f"No Job can read the weights {profile.weights!r}.",
                why="They are neither a folder here nor s3://, pvc:// or hf://.",
                fix="Set weights: hf://ORG/MODEL in the profile, or push the folder to a store.",
                page="01_build_engine",
            )
        seen = tuple((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
        signature = tuple((str(path), at.st_size, at.st_mtime_ns) for path, at in seen)
        return f"{_bucket(profile)}/weights/{_digest_of(folder, signature)}/"

    def _weights_to_send(self, profile: DeploymentProfile, uri: str) -> bool:
        if profile.weights.startswith(STORED_WEIGHTS):
            return False
        return bool(verify(weights_folder(profile), uri, credentials=access_at_hand()))


@functools.lru_cache
def _digest_of(folder: Path, signature: tuple[tuple[str, int, int], ...]) -> str:  # noqa: ARG001
    """By content; a large checkpoint is read again only when one of its files has changed."""
    return content_digest(list_files(folder)).removeprefix("sha256:")[:16]


def _commands(profile: DeploymentProfile) -> list[trtllm.Command]:
    if profile.track == "lab":
        return commands_in(profile, LAB_BUILDER, WEIGHTS, WORK)
    own = own_commands(profile, weights=WEIGHTS, work=WORK)
    return trtllm.build_commands(profile, weights=WEIGHTS, work=WORK) if own is None else own


def _bucket(profile: DeploymentProfile) -> str:
    """`s3://bucket` of the profile's model repository: engines and weights lie beside it."""
    scheme, _, rest = profile.model_repository.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _engine(profile: DeploymentProfile, order: BuildOrder, folder: Path, *, reused: bool) -> Engine:
    """The fetched engine as an artifact, by its own files and the receipt that its build left."""
    receipt = json.loads((folder / RECEIPT).read_bytes())
    files = list_files(folder, leave_out=[RECEIPT])
    return Engine(
        path=str(folder),
        identity=read_identity(folder)
        if profile.track == "lab"
        else _identity(profile, folder, files),
        files=files,
        engine_digest=content_digest(files),
        size_bytes=sum(file.size for file in files),
        build_seconds=receipt["seconds"],
        phases=tuple(Phase(**one) for one in receipt["phases"]),
        commands=tuple(one.argv for one in order.commands),
        inputs_digest=order.inputs,
        built_at=receipt["built_at"],
        reused=reused,
    )


def _identity(
    profile: DeploymentProfile, folder: Path, files: tuple[StoredFile, ...]
) -> EngineIdentity:
    """By its files; the SM where its receipt knows none by the GPU that the Job asked its node for."""
    from runbook_lib.hardware import device

    found = identity_of(folder, files, limits=profile.limits)
    if found.target == "unknown" and profile.gpu:
        return found.model_copy(update={"target": device(profile.gpu).target})
    return found
