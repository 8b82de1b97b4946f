"""Engines of the lab: what a build would do, the build, and whether an engine belongs here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from runbook_lib.artifacts import Engine, EngineIdentity, Limits, StoredFile, digest_of
from runbook_lib.changes import Change
from runbook_lib.engine.build import build_once, kept_engine, past_build_seconds
from runbook_lib.errors import BuildError, EngineMismatchError, PlanError
from runbook_lib.lab import environment
from runbook_lib.lab.builder_commands import BUILDER, MODEL, build_commands, build_inputs
from runbook_lib.lab.cpu import isa_level
from runbook_lib.places import cache_dir
from runbook_lib.profile import DeploymentProfile

__all__ = [
    "build",
    "build_changes",
    "check_engine",
    "engine_key",
    "past_builds",
    "perplexity_of",
    "problems_of",
    "read_identity",
]

ENGINES = "engines"


def _require_lab(profile: DeploymentProfile) -> None:
    if profile.track != "lab":
        raise PlanError(
            f"The lab can't build or serve {profile.profile}: its track is {profile.track}.",
            why="The lab's compiler makes engines for this CPU, not for a GPU.",
            fix="Use a lab profile such as lab/tiny here; `runbook plan` works for every profile.",
        )


def read_identity(folder: Path) -> EngineIdentity:
    """The identity in an engine directory's config.json.

    Raises:
        BuildError: it is missing or not an engine's.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        built, model, lab = config["build_config"], config["pretrained_config"], config["lab"]
        return EngineIdentity(
            track="lab",
            target=lab["isa"],
            compiler=f"openvino {lab['openvino']}",
            dtype=model["dtype"],
            quantization=model["quantization"]["quant_algo"] or "none",
            kv_cache_dtype=model["quantization"]["kv_cache_quant_algo"] or model["dtype"],
            tp_size=model["mapping"]["tp_size"],
            pp_size=model["mapping"]["pp_size"],
            optimization_level=built["optimization_level"],
            limits=Limits(**{name: built[name] for name in Limits.model_fields}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{folder} is not an engine directory of the lab.",
            why=f"{type(error).__name__}: {error}",
            fix="Build it with page 01.",
            page="01_build_engine",
        ) from None


def _identity(folder: Path, files: tuple[StoredFile, ...]) -> EngineIdentity:  # noqa: ARG001
    return read_identity(folder)


def build_changes(profile: DeploymentProfile, *, rebuild: bool = False) -> list[Change]:
    """What `build` would do: nothing when a receipt holds."""
    _require_lab(profile)
    inputs = build_inputs(profile, isa_level())
    if not rebuild and kept_engine(inputs, _identity, store=cache_dir() / ENGINES) is not None:
        return []
    names = [step.step for step in build_commands(profile, environment.expected(), Path("WORK"))]
    # The weights and limits count too: an approval must not fit another engine.
    key = digest_of(inputs).removeprefix("sha256:")[:12]
    detail = f"{profile.dtype}, {profile.quantization}, KV {profile.kv_cache_dtype}, inputs {key}"
    return [Change("run", name, detail) for name in names]


def past_builds() -> list[float]:
    """Seconds that each engine kept on this machine took to build."""
    return past_build_seconds(cache_dir() / ENGINES)


def engine_key(profile: DeploymentProfile) -> str:
    """The digest of everything the engine of a profile depends on."""
    return digest_of(build_inputs(profile, isa_level()))


def build(
    profile: DeploymentProfile,
    log: Path,
    on_line: Callable[[str], None] = lambda _: None,
    *,
    rebuild: bool = False,
) -> Engine:
    """Build the engine of a profile for this CPU, or keep the one whose receipt holds.

    Raises:
        PlanError: the profile is not one of the lab. BuildError: the build failed.
    """
    _require_lab(profile)
    ready = environment.ensure(on_line)
    return build_once(
        lambda work: build_commands(profile, ready, work),
        _identity,
        inputs=build_inputs(profile, isa_level()),
        store=cache_dir() / ENGINES,
        log=log,
        on_line=on_line,
        rebuild=rebuild,
    )


def problems_of(folder: Path) -> list[str]:
    """Every reason why an engine of the lab can't run on this machine and runtime; loads nothing."""
    program = str(BUILDER / "engine_runtime.py")
    command = [str(environment.ensure().python), program, "check", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return [str(one) for one in json.loads(done.stdout)["problems"]]
    except (ValueError, KeyError):
        return [done.stderr.strip()[-400:] or "the check ended without an answer"]


def check_engine(engine: Engine) -> None:
    """Refuse an engine that doesn't belong to this machine and runtime, before anything is laid out.

    Raises:
        EngineMismatchError: every mismatch at once.
    """
    if problems := problems_of(Path(engine.path)):
        raise EngineMismatchError(
            f"The engine {engine.path} can't run here.",
            why="; ".join(problems),
            fix="Build it on this machine: page 01.",
            page="01_build_engine",
        )


def perplexity_of(engine: Engine) -> float:
    """Perplexity of the embedded model's held-out sentences, by the engine as it is served.

    Raises:
        BuildError: it could not be scored, for example because it can't run here.
    """
    command = [str(environment.ensure().python), str(BUILDER / "score_engine.py"), engine.path]
    command += ["--texts", str(MODEL / "perplexity.txt")]
    command += ["--tokenizer", str(MODEL / "tokenizer.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return float(json.loads(done.stdout)["perplexity"])
    except (ValueError, KeyError):
        raise BuildError(
            f"The engine {engine.path} could not be scored.",
            why=(done.stdout + done.stderr).strip()[-400:],
            fix="Build it on this machine: page 01.",
            page="01_build_engine",
        ) from None
