"""Evidence from anywhere: texts, bundles, folders of engines and repositories, a live server, a cluster."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runbook_lib.artifacts import Finding
from runbook_lib.diagnose.bundle import is_bundle, read_bundle
from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.live import collect
from runbook_lib.diagnose.reading import from_file, from_text
from runbook_lib.diagnose.rulebook import Rulebook
from runbook_lib.errors import DiagnosisError, RunbookError, UsageError

__all__ = ["gather"]

LINT_SCORE = 0.95
LAYOUT_RULES = ("layout", "version", "level", "placeholder", "name")


def gather(
    paths: Sequence[str],
    *,
    service: str = "",
    namespace: str = "",
    url: str = "",
    metrics: str = "",
    book: Rulebook | None = None,
) -> Evidence:
    """Everything that is named, as one; reads only. A source that can't be read is told, not fatal.

    Args:
        paths: files of text, bundles (.tgz), folders of an engine or a repository; `-` is stdin.
        service: an InferenceService of the cluster at hand.
        namespace: its namespace; empty: the kubeconfig's.
        url: a Triton server's HTTP URL.
        metrics: its metrics URL.
        book: the rules by which lines are kept.

    Raises:
        UsageError: nothing was named.
        DiagnosisError: a file can't be read at all.
    """
    found = [_of_path(one, book) for one in paths]
    if service:
        found.append(_of_service(service, namespace))
    if url:
        found.append(_of_server(url.rstrip("/"), metrics))
    if not found:
        raise UsageError(
            "Nothing to diagnose is named.",
            fix="runbook diagnose --evidence FILE (or -), --service NAME [--namespace N], or --url URL",
        )
    return functools.reduce(Evidence.joined, found)


def _of_path(path: str, book: Rulebook | None) -> Evidence:
    if path == "-":
        return from_text("stdin", sys.stdin.buffer.read().decode("utf-8", "replace"), book)
    place = Path(path)
    if place.is_dir():
        return _of_folder(place)
    return read_bundle(place) if is_bundle(place) else from_file(place, book)


def _of_folder(folder: Path) -> Evidence:
    """An engine directory or a model repository, judged by the checks of its own stage."""
    if (folder / "config.json").exists():
        return _of_engine(folder)
    if any(folder.glob("*/config.pbtxt")) or any(folder.glob("*/*/")):
        return _of_repository(folder)
    raise DiagnosisError(
        f"{folder} is neither an engine nor a repository.",
        why="It has no config.json, and no folder with a config.pbtxt.",
        fix="Name the engine's folder, the repository's, or files of text.",
    )


def _of_engine(folder: Path) -> Evidence:
    from runbook_lib.engine.identity import inspect_engine
    from runbook_lib.engine.identity_check import of_itself

    try:
        facts = inspect_engine(folder)
    except RunbookError as error:
        return Evidence(named=(_broken_engine(folder, f"{error.what} {error.why}", error.fix),))
    said = {str(folder): f"engine of {facts.version or 'an unknown release'}"}
    wrong = [one for one in of_itself(facts, folder) if one.severity == "error"]
    named = (_broken_engine(folder, one.what, one.fix, one.load_error) for one in wrong)
    return Evidence(named=tuple(named), sources=said)


def _broken_engine(folder: Path, why: str, fix: str, said: str = "") -> Finding:
    return Finding(
        id="model-repo-layout",
        variant="engine-dir-invalid",
        title="The engine in this folder can't be loaded",
        cause=why,
        confirm=f"runbook engine inspect {folder}",
        fix=fix,
        evidence=(f"{folder}: {why}", *((f"the server says: {said}",) if said else ())),
        score=LINT_SCORE,
        page="01_build_engine",
    )


def _of_repository(folder: Path) -> Evidence:
    from runbook_lib.repository.lint import lint

    result = lint(folder)
    errors = [one for one in result.findings if one.severity == "error"]
    said = f"{len(errors)} errors of the lint"
    return Evidence(named=tuple(_of_lint(one) for one in errors), sources={str(folder): said})


def _of_lint(found: object) -> Finding:
    model, rule, message, fix = (
        str(getattr(found, name)) for name in ("model", "rule", "message", "fix")
    )
    layout = any(word in rule for word in LAYOUT_RULES)
    return Finding(
        id="model-repo-layout" if layout else "model-config-invalid",
        variant=rule,
        title=f"Triton will not load {model}" if model else "Triton will not load this repository",
        cause=message,
        confirm="runbook repo lint REPOSITORY",
        fix=fix,
        evidence=(f"{model}: {message}",),
        score=LINT_SCORE,
        page="02_model_repository",
    )


def _of_server(url: str, metrics: str) -> Evidence:
    """A server that says nothing is a finding, not a gap."""
    found = collect(url, metrics)
    if found.models:
        return found
    reason = found.sources.get("repository index", "it lists no model")
    gone = Line("repository index", f"the server at {url} does not answer: {reason}")
    return Evidence((gone,)).joined(found)


def _of_service(service: str, namespace: str) -> Evidence:
    from runbook_lib.targets.kserve import KServeTarget
    from runbook_lib.targets.kserve_evidence import logs_of, of_cluster

    kube = KServeTarget.connect().kube
    space = namespace or kube.namespace
    found = of_cluster(kube, space, service)
    return functools.reduce(Evidence.joined, _readable(logs_of(kube, space, service)), found)


def _readable(parts: Iterator[Evidence]) -> Iterator[Evidence]:
    """What can be read, until something can't: no permission for one source ends nothing else."""
    try:
        yield from parts
    except RunbookError as error:
        yield Evidence(sources={"logs of pods": f"not read: {error.what}"})
