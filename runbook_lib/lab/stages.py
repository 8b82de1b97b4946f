"""The stages of the main job on the lab: build, lay out, store, deploy. Each takes values and
returns an artifact; what it would change can be asked before it changes anything.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import (
    Engine,
    EngineIdentity,
    Limits,
    ModelRepository,
    Replica,
    Service,
    digest_of,
)
from runbook_lib.engine.build import build_once, kept_engine
from runbook_lib.errors import (
    BuildError,
    EngineMismatchError,
    PlanError,
    RepositoryError,
    ServiceError,
)
from runbook_lib.files import content_digest, list_files
from runbook_lib.lab import environment
from runbook_lib.lab.builder_commands import BUILDER, build_commands, build_inputs, weights_folder
from runbook_lib.lab.cpu import isa_level
from runbook_lib.lab.lab import Lab, current
from runbook_lib.places import cache_dir
from runbook_lib.profile import DeploymentProfile
from runbook_lib.record.approval import Change
from runbook_lib.repository.layout import LayoutSettings, write_repository
from runbook_lib.repository.lint import lint
from runbook_lib.repository.store import S3Access, push, triton_uri, verify
from runbook_lib.serving.supervise import Running, find
from runbook_lib.serving.triton import generate, is_ready, stop_triton

__all__ = [
    "access",
    "build",
    "build_changes",
    "deploy",
    "deploy_changes",
    "engine_key",
    "lay_out",
    "publish",
    "publish_changes",
    "read_identity",
    "undeploy",
]

Told = Callable[[str], None]
ENGINES = "engines"


@dataclass(frozen=True)
class Smoke:
    """A question, what the service answered, and what would have been right."""

    question: str
    answer: str
    expected: str
    tokens_in: int
    tokens_out: int

    def __str__(self) -> str:
        return (
            f"Q: {self.question}\nA: {self.answer}\n"
            f"({self.tokens_in} tokens in by the model's tokenizer, {self.tokens_out} out by the server; "
            f"expected: {self.expected})"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


# What the served model writes when it has loaded its engine.
LOADED = re.compile(r"engine sha256 ([0-9a-f]{64}) loaded (as built|after compiling)")
TEMPLATES = Path(__file__).resolve().parent / "triton_models"


def _require_lab(profile: DeploymentProfile) -> None:
    if profile.track != "lab":
        raise PlanError(
            f"The lab can't build or serve {profile.profile}: its track is {profile.track}.",
            why="The lab's compiler makes engines for this CPU, not for a GPU.",
            fix="Use a lab profile such as lab/tiny here; `runbook plan` works for every profile.",
        )


# -- build ---------------------------------------------------------------------------------------


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
            limits=Limits(**{name: built[name] for name in Limits.model_fields}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{folder} is not an engine directory of the lab.",
            why=f"{type(error).__name__}: {error}",
            fix="Build it with page 01.",
            page="01_build_engine",
        ) from None


def build_changes(profile: DeploymentProfile, *, rebuild: bool = False) -> list[Change]:
    """What `build` would do: nothing when a receipt holds."""
    _require_lab(profile)
    inputs = build_inputs(profile, isa_level())
    if not rebuild and kept_engine(inputs, read_identity, store=cache_dir() / ENGINES) is not None:
        return []
    names = [step.step for step in build_commands(profile, environment.ensure(), Path("WORK"))]
    return [
        Change("run", name, f"{profile.dtype}, {profile.quantization}, KV {profile.kv_cache_dtype}")
        for name in names
    ]


def engine_key(profile: DeploymentProfile) -> str:
    """The digest of everything the engine of a profile depends on."""
    return digest_of(build_inputs(profile, isa_level()))


def build(
    profile: DeploymentProfile, log: Path, on_line: Told = lambda _: None, *, rebuild: bool = False
) -> Engine:
    """Build the engine of a profile for this CPU, or keep the one whose receipt holds.

    Raises:
        PlanError: the profile is not one of the lab. BuildError: the build failed.
    """
    _require_lab(profile)
    ready = environment.ensure(on_line)
    return build_once(
        lambda work: build_commands(profile, ready, work),
        read_identity,
        inputs=build_inputs(profile, isa_level()),
        store=cache_dir() / ENGINES,
        log=log,
        on_line=on_line,
        rebuild=rebuild,
    )


def check_engine(engine: Engine) -> None:
    """Refuse an engine that doesn't belong to this machine and runtime, before anything is laid out.

    Raises:
        EngineMismatchError: every mismatch at once.
    """
    command = [
        str(environment.ensure().python),
        str(BUILDER / "engine_runtime.py"),
        "check",
        engine.path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        problems = json.loads(done.stdout)["problems"]
    except (ValueError, KeyError):
        problems = [done.stderr.strip()[-400:] or "the check ended without an answer"]
    if problems:
        raise EngineMismatchError(
            f"The engine {engine.path} can't run here.",
            why="; ".join(problems),
            fix="Build it on this machine: page 01.",
            page="01_build_engine",
        )


# -- repository ----------------------------------------------------------------------------------


def access() -> S3Access:
    """The lab's object store, started if it is not up."""
    store = current().up()
    keys = store.credentials
    return S3Access(store.endpoint, keys.access_key, keys.secret_key, keys.region)


def repository_folder(profile: DeploymentProfile) -> Path:
    """Where this run's repository is laid out: beside the lab's data, not in the record."""
    return current().folder / "repositories" / profile.model_name


def lay_out(profile: DeploymentProfile, engine: Engine, folder: Path) -> ModelRepository:
    """Write the model repository of an engine and judge it as Triton would.

    Raises:
        EngineMismatchError: the engine does not belong here.
        RepositoryError: the result would not load; every finding is told.
    """
    check_engine(engine)
    shutil.rmtree(folder, ignore_errors=True)
    settings = LayoutSettings(
        models_dir=TEMPLATES,
        max_batch_size=engine.identity.limits.max_batch_size,
        decoupled=profile.streaming,
        runtime_files=(BUILDER / "engine_runtime.py",),
    )
    write_repository(
        folder,
        engine_dir=Path(engine.path),
        tokenizer_dir=weights_folder(profile),
        settings=settings,
    )
    judged = lint(folder)
    if not judged.ok:
        raise RepositoryError(
            "The repository just written would not load.",
            why=str(judged),
            page="02_model_repository",
        )
    files = list_files(folder)
    return ModelRepository(
        path=str(folder),
        uri=profile.model_repository,
        entry_model=profile.entry_model,
        models=tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())),
        files=files,
        size_bytes=sum(file.size for file in files),
        content_digest=content_digest(files),
        engine_digest=engine.engine_digest,
        warnings=tuple(str(one) for one in judged.findings),
    )


def publish_changes(repository: ModelRepository) -> list[Change]:
    """What `publish` would send: nothing when the store holds exactly this."""
    if not verify(Path(repository.path), repository.uri, credentials=access()):
        return []
    detail = f"{len(repository.files)} files, {repository.size_bytes / 1e6:.1f} MB, {repository.content_digest[:19]}"
    return [Change("push", repository.uri, detail)]


def publish(
    repository: ModelRepository,
    on_progress: Callable[..., None] | None = None,
    *,
    replace: bool = False,
) -> str:
    """Send the repository to the lab's object store and verify it there by digest.

    Returns:
        What was sent, in a sentence.

    Raises:
        RepositoryError: another content lies there, the push was cut, or the digests differ.
    """
    pushed = push(
        Path(repository.path),
        repository.uri,
        credentials=access(),
        replace=replace,
        create_bucket=True,
        on_progress=on_progress,
    )
    if problems := verify(Path(repository.path), repository.uri, credentials=access()):
        raise RepositoryError(
            f"{repository.uri} is not what was pushed.",
            why="; ".join(str(one) for one in problems[:5]),
            fix="Push again; if it stays, look at the store's disk.",
        )
    return str(pushed)


# -- service -------------------------------------------------------------------------------------


def deploy_changes(repository: ModelRepository, replicas: int) -> list[Change]:
    """Which servers `deploy` would start or stop."""
    lab = current()
    names = [f"triton-{number}" for number in range(replicas)]
    digest = repository.content_digest[:19]
    return [
        Change("start", name, f"{repository.uri} {digest}")
        for name in names
        if _serving(lab, name, digest) is None
    ]


def _serving(lab: Lab, name: str, digest: str) -> Running | None:
    known = find(lab.folder, name)
    fits = (
        known is not None and known.facts.get("content") == digest and is_ready(known.facts["http"])
    )
    return known if fits else None


def deploy(repository: ModelRepository, replica: int) -> Replica:
    """One replica on the stored repository: the one that serves it already, or a new one.

    Raises:
        ServiceError: it did not become ready, or it compiled an engine instead of loading it.
    """
    lab, digest, name = current(), repository.content_digest[:19], f"triton-{replica}"
    known = _serving(lab, name, digest)
    seconds = 0.0
    if known is None:
        if (other := find(lab.folder, name)) is not None:
            stop_triton(other)
        known, seconds = lab.serve(
            triton_uri(repository.uri, access()), name, facts={"content": digest}
        )
    return _described(known, repository, seconds)


def _described(running: Running, repository: ModelRepository, seconds: float) -> Replica:
    """What a replica serves, read from the server itself: its own log tells how it got its engine."""
    loaded = LOADED.findall(running.log.read_text(encoding="utf-8", errors="replace"))
    if not loaded:
        raise ServiceError(
            f"{running.name} does not say which engine it loaded.",
            fix=f"Read {running.log}.",
            page="06_troubleshoot",
        )
    digest, how = loaded[-1]
    replica = Replica(
        name=running.name,
        http=running.facts["http"],
        grpc=running.facts["grpc"],
        metrics=running.facts["metrics"],
        ready_seconds=round(seconds, 2),
        log=str(running.log),
        engine_digest=digest,
        rebuilt=how != "as built",
    )
    stored = next(file.sha256 for file in repository.files if file.path.endswith("rank0.engine"))
    if replica.rebuilt or digest != stored:
        raise ServiceError(
            f"{running.name} does not serve the stored engine as it was built.",
            why=f"It loaded {digest[:19]} ({how}); the repository holds {stored[:19]}.",
            fix="Build on this machine and push again: pages 01 and 02.",
            page="06_troubleshoot",
        )
    return replica


def smoke_test(url: str, repository: ModelRepository, profile: DeploymentProfile) -> Smoke:
    """Ask the served model one held-out question in the model's own prompt format.

    Raises:
        ServiceError: no answer, an empty one, or one whose token count the server doesn't tell.
    """
    question = load_questions()[0]
    tokens = profile.max_output_len
    answer = generate(url, repository.entry_model, question.prompt, max_tokens=tokens)
    text, count = str(answer.get("text_output", "")), int(answer.get("output_lengths", 0))
    ids = (
        Tokenizer.from_file(str(weights_folder(profile) / "tokenizer.json"))
        .encode(question.prompt)
        .ids
    )
    if not text.strip() or not 0 < count <= tokens:
        raise ServiceError(
            f"The smoke test got {text!r} with {count} tokens.",
            why=f"A text of 1 to {tokens} tokens was expected.",
            fix="Read the server's log; page 06 names the cause.",
            page="06_troubleshoot",
        )
    return Smoke(question.question, text.strip(), question.answer, len(ids), count)


def service_of(
    profile: DeploymentProfile,
    repository: ModelRepository,
    replicas: Sequence[Replica],
    smoke: Smoke,
) -> Service:
    """The deployed service as the next pages need it; its URL is the first replica's."""
    return Service(
        target="lab",
        url=replicas[0].http,
        entry_model=repository.entry_model,
        repository_uri=repository.uri,
        engine_digest=repository.engine_digest,
        tokenizer=profile.weights,
        replicas=tuple(replicas),
        smoke_prompt=smoke.question,
        smoke_answer=smoke.answer,
        notes=("The lab has no load balancer: the URL is the first replica's.",),
    )


def undeploy() -> list[str]:
    """Stop every server of the lab but its object store; the names of what was stopped."""
    servers = [one for one in current().servers() if one.name.startswith("triton")]
    for one in servers:
        stop_triton(one)
    return [one.name for one in servers]
