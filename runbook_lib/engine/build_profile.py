"""The engine of a profile of the engine track, built on this machine: as processes or in a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Engine, EngineIdentity, StoredFile, digest_of
from runbook_lib.engine.build import build_once
from runbook_lib.engine.command import Command
from runbook_lib.engine.commands import build_commands
from runbook_lib.engine.gpu_here import LocalGpu, gpus_here
from runbook_lib.engine.identity import identity_of, inspect_engine
from runbook_lib.engine.identity_check import against_profile
from runbook_lib.engine.runner import Runner
from runbook_lib.engine.template import own_commands, translation_notes
from runbook_lib.errors import EngineMismatchError, PlanError, PreflightError
from runbook_lib.files import sha256_of
from runbook_lib.hardware import device
from runbook_lib.places import cache_dir
from runbook_lib.profile import DeploymentProfile

__all__ = ["LocalBuilder"]

ENGINES = "engines"
HUB = "hf://"
DAY = 24 * 3600.0


class LocalBuilder:
    """Builds engines of TensorRT-LLM here.

    Args:
        runner: where the commands run.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def build(
        self,
        profile: DeploymentProfile,
        log: Path,
        on_line: Callable[[str], None],
        *,
        rebuild: bool,
    ) -> Engine:
        """Build the engine of a profile, or keep the one whose receipt holds.

        Raises:
            PlanError: the profile's track builds no engine, or the release can't do it.
            PreflightError: the weights are not here.
            EngineMismatchError: this machine's GPU is not the one that the profile is for.
            BuildError: a command failed; nothing half-built is kept.
        """
        found = _gpu(profile)
        for note in translation_notes(profile):
            on_line(note)
        if found is None:
            on_line(
                "nvidia-smi tells no GPU here, or several kinds: the SM is that of the build's log"
            )
        on_line("Reading the weights and the commands")
        made = build_once(
            lambda work: _commands(profile, str(work)),
            _identity(profile),
            inputs=self._inputs(profile, found),
            store=cache_dir() / ENGINES,
            log=log,
            on_line=on_line,
            timeout=DAY,
            rebuild=rebuild,
            runner=self._runner,
            where={} if found is None else {"sm": found.sm, "gpu": found.name},
        )
        for other in _not_as_asked(made, profile):
            on_line(f"warning: {other}")
        return made

    def _inputs(self, profile: DeploymentProfile, found: LocalGpu | None) -> dict[str, Any]:
        return {
            "commands": [list(one.argv) for one in _commands(profile, "WORK")],
            "weights": _weights_digest(profile),
            "runner": dict(self._runner.about()),
            "gpu": "" if found is None else [found.name, found.sm],
            "trtllm": profile.trtllm_version,
        }


def _commands(profile: DeploymentProfile, work: str) -> list[Command]:
    if profile.track != "engine":
        raise PlanError(
            f"{profile.profile or profile.model_name} builds no engine of TensorRT-LLM.",
            why=f"Its track is {profile.track}.",
            fix="Set track: engine, or go on with page 02.",
            page="02_model_repository",
        )
    remote = profile.weights.startswith(HUB)
    weights = f"{work}/weights" if remote else profile.weights
    own = own_commands(profile, weights=weights, work=work)
    made = own if own is not None else build_commands(profile, weights=weights, work=work)
    return [*([_fetch(profile.weights, weights)] if remote else []), *made]


def _fetch(uri: str, weights: str) -> Command:
    """The Hub's own client, which takes up a download where it ended; its token is in HF_TOKEN."""
    name, _, revision = uri.removeprefix(HUB).partition(":")
    chosen = ("--revision", revision) if revision else ()
    return Command(
        "weights", ("huggingface-cli", "download", name, *chosen, "--local-dir", weights)
    )


def _weights_digest(profile: DeploymentProfile) -> str:
    """Over every file that the weights' folder leads to: the Hub's cache holds links to its files."""
    if profile.weights.startswith(HUB):
        return profile.weights
    folder = Path(profile.weights)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise PreflightError(
            f"The weights {profile.weights} are not a folder with files on this machine.",
            why="The commands of a build read the checkpoint there.",
            fix="Set weights in the profile to the checkpoint's folder, or to hf://ORG/MODEL.",
            page="01_build_engine",
        )
    return digest_of([[path.relative_to(folder).as_posix(), sha256_of(path)] for path in files])


def _identity(
    profile: DeploymentProfile,
) -> Callable[[Path, tuple[StoredFile, ...]], EngineIdentity]:
    return lambda folder, files: identity_of(folder, files, limits=profile.limits)


def _not_as_asked(made: Engine, profile: DeploymentProfile) -> Iterator[str]:
    """What was made otherwise than the profile says: by a builder of its own, or a tool's default."""
    facts = inspect_engine(Path(made.path), made.files)
    for one in against_profile(facts, profile):
        if one.severity == "error":
            yield f"not as the profile asks: {one.what}"


def _gpu(profile: DeploymentProfile) -> LocalGpu | None:
    """The GPU that will compile: None where none is told, or of several kinds any may.

    Raises:
        EngineMismatchError: no GPU here is of the profile's SM: its engine would be for nobody.
    """
    found = gpus_here()
    wanted = device(profile.gpu).target if profile.gpu else ""
    kinds = {one.sm: one for one in found}
    if kinds and wanted and wanted not in kinds:
        raise EngineMismatchError(
            f"This machine's GPU is {found[0].name} ({found[0].sm}); the profile is for "
            f"{profile.gpu} ({wanted}).",
            why="An engine runs on the SM that it was compiled on.",
            fix="Build on a machine with that GPU (--runner job), or set gpu in the profile.",
            page="01_build_engine",
        )
    return found[0] if len(kinds) == 1 else None
