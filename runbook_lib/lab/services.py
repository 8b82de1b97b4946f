"""The lab's service: replicas of one stored engine, each proven to serve it as it was built."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from runbook_lib.artifacts import ModelRepository, Replica, Service
from runbook_lib.changes import Change
from runbook_lib.errors import ServiceError
from runbook_lib.files import write_whole
from runbook_lib.lab.builder_commands import EMBEDDED, weights_folder
from runbook_lib.lab.lab import Lab, current
from runbook_lib.lab.repositories import access, access_for
from runbook_lib.lab.scoring import Question, load_questions, normalised
from runbook_lib.places import cache_dir
from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.fetch import fetch_files
from runbook_lib.repository.s3 import triton_uri
from runbook_lib.serving.supervise import Running, find, stop
from runbook_lib.serving.triton import generate, is_ready

__all__ = [
    "Smoke",
    "deploy",
    "deploy_changes",
    "replicas_of",
    "scaling_proof",
    "service_of",
    "smoke_test",
    "undeploy",
]

REPLICA = re.compile(r"triton-([0-9]+)")
TOKENIZER = "tokenizer.json"
SMOKE_EVERY = 9  # of the held-out questions: all of them are asked by page 05
# What the served model writes when it has loaded its engine.
LOADED = re.compile(r"engine sha256 ([0-9a-f]{64}) loaded (as built|after compiling)")


@dataclass(frozen=True)
class Answer:
    """A question, what the service answered, what is right, and the tokens of both.

    `tokens_in` by the model's own tokenizer, None where the repository brings none;
    `tokens_out` by the server's count, else by that tokenizer.
    """

    question: str
    answer: str
    expected: str
    tokens_in: int | None
    tokens_out: int | None

    @property
    def right(self) -> bool:
        """Whether the answer is the expected one, letter case and final stop aside."""
        return normalised(self.answer) == normalised(self.expected)


@dataclass(frozen=True)
class Smoke:
    """What the service answered to a few held-out questions."""

    answers: tuple[Answer, ...]

    @property
    def right(self) -> int:
        """How many answers are right."""
        return sum(one.right for one in self.answers)

    def _table(self) -> Any:
        from runbook_lib.ui import table

        heads = ["", "question", "answer", "tokens in", "tokens out"]
        rows = [
            [
                "PASS" if one.right else "WARN",
                one.question,
                one.answer,
                "–" if one.tokens_in is None else one.tokens_in,
                "–" if one.tokens_out is None else one.tokens_out,
            ]
            for one in self.answers
        ]
        return table(heads, rows, caption=f"{self.right} of {len(self.answers)} answers are right")

    def __str__(self) -> str:
        return str(self._table())

    def _repr_mimebundle_(self, **_: Any) -> Any:
        return self._table()._repr_mimebundle_()


def deploy_changes(repository: ModelRepository, replicas: int) -> list[Change]:
    """Which servers `deploy` would start or stop."""
    lab = current()
    names = [f"triton-{number}" for number in range(replicas)]
    digest = repository.content_digest[:19]
    starts = [
        Change("start", name, f"{repository.uri} {digest}")
        for name in names
        if _serving(lab, name, digest) is None
    ]
    return [*starts, *(Change("stop", one.name, "") for one in _surplus(lab, replicas))]


def _surplus(lab: Lab, replicas: int) -> list[Running]:
    """The living replicas past the number that is wanted."""
    numbers = ((REPLICA.fullmatch(one.name), one) for one in lab.servers())
    return [one for number, one in numbers if number and int(number[1]) >= replicas]


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
    known, took = _serving(lab, name, digest), lab.folder / f"{name}.seconds"
    if known is None:
        if (other := find(lab.folder, name)) is not None:
            stop(other)
        known, seconds = lab.serve(
            triton_uri(repository.uri, access()), name, facts={"content": digest}
        )
        write_whole(took, f"{seconds:.2f}")
    return _described(known, repository, _seconds(took))


def _seconds(file: Path) -> float:
    """How long a replica took when it was started; 0 where nobody wrote it down."""
    try:
        return float(file.read_bytes())
    except (OSError, ValueError):
        return 0.0


def replicas_of(
    repository: ModelRepository, count: int, on_line: Callable[[str], None] = lambda _: None
) -> list[Replica]:
    """Exactly `count` replicas, started one after the other; raises as `deploy`."""
    for one in _surplus(current(), count):
        stop(one)
    found = []
    for number in range(count):
        on_line(f"replica {number + 1} of {count}")
        found.append(deploy(repository, number))
    return found


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
        ready_seconds=seconds,
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
    """Ask the served model some held-out questions, in the model's own prompt format.

    The model knows about nine in ten of them (its MODEL_CARD.md); an engine that answers less
    than half of these right is not the one that was built.

    Raises:
        ServiceError: no answer, one of too many tokens, or too many wrong ones.
        RepositoryError: the stored tokenizer is not what the manifest says.
    """
    tokenizer = _tokenizer(repository, profile)
    asked = load_questions()[::SMOKE_EVERY]
    answers = tuple(_ask(url, repository.entry_model, profile, tokenizer, one) for one in asked)
    smoke = Smoke(answers)
    if profile.weights == EMBEDDED and 2 * smoke.right < len(answers):
        raise ServiceError(
            f"{url} answers, but only {smoke.right} of {len(answers)} answers are right.",
            why=f"Asked {answers[0].question!r} it said {answers[0].answer!r}.",
            fix="Compare its accuracy without quantisation: page 05; page 06 names the cause.",
            page="06_troubleshoot",
        )
    return smoke


def _tokenizer(repository: ModelRepository, profile: DeploymentProfile) -> Tokenizer | None:
    """The one that is served: of the folder at hand, else of the store; None where there is none."""
    stored = [one for one in repository.files if one.path.endswith(f"/{TOKENIZER}")]
    folder = Path(repository.path) if repository.path else cache_dir() / "tokenizers"
    known = [folder / one.path for one in stored]
    if not repository.path and stored:
        folder /= stored[0].sha256[:16]
        known = [folder / stored[0].path]
        fetch_files(repository.uri, folder, stored[:1], credentials=access_for(repository.uri))
    known.append(weights_folder(profile) / TOKENIZER)
    found = next((path for path in known if path.is_file()), None)
    return None if found is None else Tokenizer.from_file(str(found))


def _ask(
    url: str,
    model: str,
    profile: DeploymentProfile,
    tokenizer: Tokenizer | None,
    question: Question,
) -> Answer:
    limit = profile.max_output_len
    said = generate(url, model, question.prompt, max_tokens=limit)
    text = str(said.get("text_output", "")).strip()
    count = _count(said, text, tokenizer)
    if not text or not 0 < (1 if count is None else count) <= limit:
        raise ServiceError(
            f"The smoke test got {text!r} with {count} tokens.",
            why=f"A text of 1 to {limit} tokens was expected.",
            fix="Read the server's log; page 06 names the cause.",
            page="06_troubleshoot",
        )
    tokens_in = None if tokenizer is None else len(tokenizer.encode(question.prompt).ids)
    return Answer(question.question, text, question.answer, tokens_in, count)


def _count(said: Mapping[str, Any], text: str, tokenizer: Tokenizer | None) -> int | None:
    """Tokens of an answer: TensorRT-LLM's own ensemble does not count them for its clients."""
    if "output_lengths" in said:
        return int(said["output_lengths"])
    return None if tokenizer is None else len(tokenizer.encode(text, add_special_tokens=False).ids)


def scaling_proof(replicas: Sequence[Replica]) -> Any:
    """Which engine each replica serves, by its own log: one digest, loaded as it was built."""
    from runbook_lib.ui import table

    rows = [
        [
            one.name,
            one.http,
            one.ready_seconds,
            one.engine_digest[:19],
            "compiled it again" if one.rebuilt else "loaded as built",
        ]
        for one in replicas
    ]
    return table(["replica", "URL", "ready after s", "engine sha256", "how it got it"], rows)


def service_of(
    profile: DeploymentProfile,
    repository: ModelRepository,
    replicas: Sequence[Replica],
    smoke: Smoke,
) -> Service:
    """The deployed service as the next pages need it; its URL is the first replica's."""
    shown = next((one for one in smoke.answers if one.right), smoke.answers[0])
    return Service(
        target="lab",
        url=replicas[0].http,
        entry_model=repository.entry_model,
        repository_uri=repository.uri,
        engine_digest=repository.engine_digest,
        tokenizer=profile.weights,
        replicas=tuple(replicas),
        smoke_prompt=shown.question,
        smoke_answer=shown.answer,
        notes=("The lab has no load balancer: the URL is the first replica's.",),
    )


def undeploy() -> list[str]:
    """Stop every server of the lab but its object store; the names of what was stopped."""
    servers = [one for one in current().servers() if one.name.startswith("triton")]
    for one in servers:
        stop(one)
    return [one.name for one in servers]
