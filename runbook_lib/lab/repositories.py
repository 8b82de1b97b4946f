"""Model repositories of the lab: laid out from an engine, judged, and sent to its object store."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from runbook_lib.artifacts import Engine, EngineIdentity, Limits, ModelRepository
from runbook_lib.changes import Change
from runbook_lib.engine.identity import identity_of
from runbook_lib.errors import EngineMismatchError, RepositoryError
from runbook_lib.files import content_digest, list_files
from runbook_lib.lab import engines
from runbook_lib.lab.builder_commands import BUILDER, weights_folder
from runbook_lib.lab.lab import current
from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.init import MOUNT, Begun, Sources, begin
from runbook_lib.repository.layout import LayoutSettings, write_repository
from runbook_lib.repository.layout_tree import TOKENIZER_FILES, refuse_full
from runbook_lib.repository.lint import lint
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import Pushed, push, read_manifest
from runbook_lib.repository.store_verify import verify

__all__ = [
    "access",
    "access_at_hand",
    "access_for",
    "backends_of",
    "begin_repository",
    "lay_out",
    "named",
    "publish",
    "publish_changes",
    "push_at_hand",
    "repository_folder",
    "stored",
    "told",
]

TEMPLATES = Path(__file__).resolve().parent / "triton_models"


def access() -> S3Access:
    """The lab's object store, started if it is not up."""
    store = current().up()
    keys = store.credentials
    return S3Access(store.endpoint, keys.access_key, keys.secret_key, keys.region)


def access_at_hand() -> S3Access:
    """The store that a command means: the environment's (AWS_…), else that of the lab that is up.

    Raises:
        PreflightError: neither is there; both ways are named.
    """
    if "AWS_ACCESS_KEY_ID" not in os.environ and current().is_up():
        return access()
    return S3Access.from_environment()


def access_for(uri: str) -> S3Access | None:
    """As `access_at_hand` for an S3 URI; other stores find their credentials themselves."""
    return access_at_hand() if uri.startswith("s3://") else None


def push_at_hand(
    folder: Path, uri: str, *, replace: bool, on_line: Callable[[str], None]
) -> Pushed:
    """Push to the store that a command means; only the lab's gets the bucket made.

    Raises:
        PreflightError, RepositoryError, ServiceError: as `access_at_hand` and `push`.
    """
    credentials = access_for(uri)
    lab = current()
    return push(
        folder,
        uri,
        credentials=credentials,
        replace=replace,
        create_bucket=credentials is not None and lab.is_up() and credentials == access(),
        on_progress=told(on_line),
    )


def told(on_line: Callable[[str], None]) -> Callable[[float, str], None]:
    """Progress as a line of text."""
    return lambda share, text: on_line(f"{share:.0%} {text}")


def stored(profile: DeploymentProfile) -> ModelRepository:
    """The repository under the profile's URI in the store at hand, by its manifest.

    Raises:
        PreflightError: no store is at hand.
        RepositoryError: there is none, or a push of it did not reach its end.
    """
    files = read_manifest(
        profile.model_repository, credentials=access_for(profile.model_repository)
    )
    digests = {file.path: file.sha256 for file in files}
    models = {path.partition("/")[0] for path in digests if "/" in path}
    return ModelRepository(
        path="",
        uri=profile.model_repository,
        entry_model=profile.entry_model,
        models=tuple(sorted(models)),
        files=files,
        size_bytes=sum(file.size for file in files),
        content_digest=content_digest(files),
        engine_digest=digests.get("tensorrt_llm/1/rank0.engine", ""),
    )


def named(profile: DeploymentProfile) -> ModelRepository:
    """The repository under the profile's URI as a name only: nothing of its content is known."""
    return ModelRepository(
        path="",
        uri=profile.model_repository,
        entry_model=profile.entry_model,
        models=(),
        files=(),
        size_bytes=0,
        content_digest="",
        engine_digest="",
    )


def repository_folder(profile: DeploymentProfile) -> Path:
    """Where this run's repository is laid out: beside the lab's data, not in the record."""
    return current().folder / "repositories" / profile.model_name


def lay_out(profile: DeploymentProfile, engine: Engine, folder: Path) -> ModelRepository:
    """Write the model repository of an engine and judge it as its own server would.

    Raises:
        EngineMismatchError: the engine is of another TensorRT-LLM than the profile's.
        RepositoryError: an input is missing, or the result would not load; every finding is told.
    """
    if profile.track == "engine":
        wanted = str(profile.trtllm_version)
        _refuse_another_release(engine.identity, Path(engine.path), wanted)
    shutil.rmtree(folder, ignore_errors=True)
    missing: tuple[str, ...] = ()
    if profile.track == "lab":
        _write_lab(profile, Path(engine.path), engine.identity.limits, folder)
    else:
        missing = begin(folder, profile, _sources(profile, engine)).missing
    judged = lint(folder, backends=backends_of(profile))
    if not judged.ok:
        raise RepositoryError(
            "The repository just written would not load.",
            why=str(judged),
            page="02_model_repository",
        )
    files = list_files(folder)
    # The environments of the lab and of NVIDIA's image bring what our own models import.
    words = [str(one) for one in judged.findings if one.rule != "packages"]
    return ModelRepository(
        path=str(folder),
        uri=profile.model_repository,
        entry_model=profile.entry_model,
        models=tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())),
        files=files,
        size_bytes=sum(file.size for file in files),
        content_digest=content_digest(files),
        engine_digest=engine.engine_digest,
        warnings=(*(f"still missing: {one}" for one in missing), *words),
    )


def backends_of(profile: DeploymentProfile) -> str:
    """The server that a profile's repository is judged for."""
    return "cpu" if profile.track == "lab" else "trtllm"


def begin_repository(
    folder: Path,
    profile: DeploymentProfile,
    engine: Path | None,
    *,
    version: str = "",
    mount: str = MOUNT,
    on_line: Callable[[str], None] = lambda _: None,
) -> Begun:
    """Write a profile's repository with what is at hand; in the lab the engine is built if need be.

    Raises:
        BuildError, EngineMismatchError: the engine can't be read, or is of another release.
        RepositoryError: the repository can't be written.
    """
    refuse_full(folder)
    if profile.track != "lab":
        limits = None
        if engine is not None and profile.track == "engine":
            identity = identity_of(engine, limits=profile.limits)
            _refuse_another_release(identity, engine, version or str(profile.trtllm_version))
            limits = identity.limits
        sources = Sources(engine, _tokenizer(profile), _checkpoint(profile, engine), limits)
        return begin(folder, profile, sources, version=version, mount=mount)
    if engine is None:
        on_line("The engine of the profile")
        with tempfile.TemporaryDirectory(prefix="repository-") as work:
            built = engines.build(profile, Path(work) / "build.log", on_line)
        engine = Path(built.path)
    files = _write_lab(profile, engine, engines.read_identity(engine).limits, folder)
    return Begun(str(folder), tuple(str(path) for path in files), ())


def _write_lab(
    profile: DeploymentProfile, engine: Path, limits: Limits, folder: Path
) -> list[Path]:
    settings = LayoutSettings(
        models_dir=TEMPLATES,
        max_batch_size=limits.max_batch_size,
        decoupled=profile.streaming,
        runtime_files=(BUILDER / "engine_runtime.py",),
    )
    tokenizer = weights_folder(profile)
    return write_repository(folder, engine_dir=engine, tokenizer_dir=tokenizer, settings=settings)


def _sources(profile: DeploymentProfile, engine: Engine) -> Sources:
    path, limits = Path(engine.path), engine.identity.limits
    return Sources(path, _tokenizer(profile), _checkpoint(profile, path), limits)


def _tokenizer(profile: DeploymentProfile) -> Path | None:
    """The checkpoint's folder where it is at hand with a tokenizer that the models here can read."""
    folder = weights_folder(profile)
    return folder if all((folder / name).is_file() for name in TOKENIZER_FILES[:2]) else None


def _checkpoint(profile: DeploymentProfile, given: Path | None) -> Path | None:
    folders = [given, weights_folder(profile)]
    there = [one for one in folders if one is not None and (one / "config.json").is_file()]
    return there[0] if there and profile.track == "llmapi" else None


def _refuse_another_release(identity: EngineIdentity, folder: Path, wanted: str) -> None:
    built = identity.compiler.removeprefix("TensorRT-LLM ")
    if built[:1].isdigit() and built.partition("+")[0] != wanted:
        raise EngineMismatchError(
            f"The engine {folder} is of {identity.compiler}.",
            why=f"It is to be served by {wanted}, which refuses it.",
            fix=f"Say trtllm_version: {built} (--trtllm), or build it again: page 01.",
            page="01_build_engine",
        )


def publish_changes(repository: ModelRepository, credentials: S3Access | None) -> list[Change]:
    """What `publish` would send: nothing when the store holds exactly this."""
    if not verify(Path(repository.path), repository.uri, credentials=credentials):
        return []
    detail = f"{len(repository.files)} files, {repository.size_bytes / 1e6:.1f} MB, {repository.content_digest[:19]}"
    return [Change("push", repository.uri, detail)]


def publish(
    repository: ModelRepository,
    credentials: S3Access | None,
    on_line: Callable[[str], None] = lambda _: None,
    *,
    replace: bool,
    create_bucket: bool,
) -> str:
    """Send the repository to an object store and verify it there by digest.

    Returns:
        What was sent, in a sentence.

    Raises:
        RepositoryError: another content lies there, the push was cut, or the digests differ.
    """
    pushed = push(
        Path(repository.path),
        repository.uri,
        credentials=credentials,
        replace=replace,
        create_bucket=create_bucket,
        on_progress=told(on_line),
    )
    if problems := verify(Path(repository.path), repository.uri, credentials=credentials):
        raise RepositoryError(
            f"{repository.uri} is not what was pushed.",
            why="; ".join(str(one) for one in problems[:5]),
            fix="Push again; if it stays, look at the store's disk.",
        )
    return str(pushed)
