"""Judges a model repository as Triton would, without a server and without running its code.

    models/
    ├── ensemble/config.pbtxt        beside the version folder; in it, Triton does not see it
    ├── ensemble/1/placeholder.txt
    ├── tokenizer/config.pbtxt
    └── tokenizer/1/model.py

An error is what makes Triton 2.51 refuse to start with strict readiness; a warning is what it
accepts and will surprise later. Each rule was tried on a real server, and a test compares both.

The code of a Python model is followed from its first line through `initialize`, and never run: what
surely raises there is told. What depends on things outside can't be seen: the network, memory, what
a package does, how a warm-up request is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runbook_lib.errors import UsageError
from runbook_lib.repository.findings import CONFIG, LintFinding, LintResult, Model
from runbook_lib.repository.lint_config import UNSAFE_NAME, check_config
from runbook_lib.repository.lint_ensemble import check_ensembles
from runbook_lib.repository.lint_imports import Packages
from runbook_lib.repository.lint_python import check_code
from runbook_lib.repository.lint_sequence import check_sequences
from runbook_lib.repository.lint_tensors import check_batching, check_tensors
from runbook_lib.repository.lint_trtllm import check_trtllm
from runbook_lib.repository.lint_versions import check_versions
from runbook_lib.repository.lint_warmup import check_warm_up

__all__ = ["BACKENDS", "LintFinding", "LintResult", "lint"]

# What each server brings; the ensemble is part of Triton itself.
BACKENDS = {
    "cpu": frozenset({"python"}),  # the server in nvidia-pytriton, with the lab's backend folder
    "trtllm": frozenset(
        {"python", "tensorrtllm"}
    ),  # NVIDIA's image tritonserver:…-trtllm-python-py3
}


def lint(path: Path, *, backends: str = "cpu") -> LintResult:
    """Every reason why Triton would not load a repository, and what will surprise later.

    Args:
        path: the repository's root.
        backends: `cpu`, `trtllm`, or the names of the server's backends, separated by commas. Only
            `cpu` is a server without a GPU.

    Returns:
        The findings, errors first; `ok` when Triton loads every model.

    Raises:
        UsageError: `backends` names nothing.
    """
    known = _backends(backends)
    if not path.is_dir():
        return LintResult(str(path), (_no_folder(path),))
    models = [Model(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
    for model in models:
        try:
            _check(model, known, on_cpu=backends == "cpu")
        except OSError as error:
            model.error("unreadable", str(error), "Give its files to the user who reads them.")
    check_ensembles(models)
    check_trtllm(models)
    found = [*_whole(path, models), *(one for model in models for one in model.findings)]
    return LintResult(str(path), tuple(sorted(found, key=lambda one: one.severity != "error")))


def _check(model: Model, backends: frozenset[str], *, on_cpu: bool) -> None:
    model.on_cpu = on_cpu
    for gone in _links_to_nothing(model.path):
        model.error(
            "broken_link",
            f"{gone} is a link to nothing: Triton refuses the model.",
            f"rm {model.path / gone}",
        )
    check_config(model, backends, on_cpu=on_cpu)
    check_versions(model)
    if model.backend == "python":
        check_code(model, Packages.of_cpu_server() if model.on_cpu else None)
    if model.config is not None:
        check_batching(model)
        check_tensors(model)
        check_sequences(model)
        check_warm_up(model)


def _links_to_nothing(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.is_symlink() and not one.exists())


def _backends(text: str) -> frozenset[str]:
    known = BACKENDS.get(text) or frozenset(filter(None, map(str.strip, text.split(","))))
    if not known:
        raise UsageError(
            "No backend is named.",
            fix="Say --backends cpu, trtllm, or names like python,onnxruntime.",
        )
    return known


def _no_folder(path: Path) -> LintFinding:
    what = "is a file, not a folder" if path.exists() else "does not exist"
    fix = "Give the folder that holds the model folders."
    return LintFinding("", "no_repository", "error", f"{path} {what}.", fix)


def _whole(path: Path, models: list[Model]) -> Iterator[LintFinding]:
    """What concerns the repository and none of its models."""
    if (path / CONFIG).is_file():
        yield LintFinding(
            "",
            "model_as_root",
            "error",
            f"{CONFIG} stands at the repository's root: this is a model, not a repository.",
            "Give the folder above it.",
        )
    elif not models:
        yield LintFinding(
            "",
            "empty",
            "error",
            f"{path} holds no model folder: Triton would start and serve nothing.",
            "Lay out a repository, or start from `runbook repo skeleton`.",
        )
    for gone in _links_to_nothing(path):
        yield LintFinding(
            "",
            "broken_link",
            "error",
            f"{gone} is a link to nothing: Triton then loads no model at all.",
            f"rm {path / gone}",
        )
    python = any(model.backend == "python" for model in models)
    if python and (found := UNSAFE_NAME.search(str(path.resolve()))):
        yield LintFinding(
            "",
            "path",
            "error",
            f"The path {path.resolve()} holds {found[0]!r}: the Python backend passes it to a shell "
            "without quotes, and Triton would wait for its models for ever.",
            "Move the repository to a path of letters, digits, dots, hyphens and underscores.",
        )
