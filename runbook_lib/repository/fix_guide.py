"""Completes the deployment guide's three models, which name an engine and no code that runs it.

The guide's text shows where files stand and not what runs them, so the skeleton's working code takes
their places. Engine and tokenizer stay where they are; that the skeleton's code does not use them yet
is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runbook_lib.repository.findings import CONFIG
from runbook_lib.repository.lint import lint
from runbook_lib.repository.skeleton import MODELS

__all__ = ["complete_guide"]

ENTRY, ENGINE, TOKENIZER = GUIDE = ("ensemble", "tensorrt_llm_bls", "tokenizer")


def complete_guide(repository: Path, backends: str) -> Iterator[tuple[str, str]]:
    """Write the skeleton's models over those of the guide that the server can't run.

    Yields:
        The model, and what was done to it. Nothing for any other tree.
    """
    if not _is_the_guides(repository):
        return
    findings = lint(repository, backends=backends).findings
    refused = {one.model for one in findings if one.severity == "error"}
    if ENGINE in refused:
        for model in (ENGINE, ENTRY):
            _replace(repository, model)
        yield (
            ENGINE,
            (
                "nothing in this server runs its engine: the skeleton's code stands in and answers with "
                "the prompt's own tokens, until its run_engine calls the engine"
            ),
        )
        yield (
            ENTRY,
            "given max_tokens and output_lengths, as the skeleton's tensorrt_llm_bls has them",
        )
    if TOKENIZER in refused:
        _replace(repository, TOKENIZER)
        yield (
            TOKENIZER,
            (
                "no code reads its tokenizer.json: the skeleton's code stands in, one token a character, "
                "until its encode and decode use it"
            ),
        )


def _is_the_guides(repository: Path) -> bool:
    """Whether these are the guide's three models, and none has code of its own."""
    names = {path.name for path in repository.iterdir() if path.is_dir()}
    code = any(path.suffix == ".py" for path in repository.rglob("*"))
    return names == set(GUIDE) and not code


def _replace(repository: Path, model: str) -> None:
    config, code = MODELS / model / CONFIG, MODELS / model / "model.py"
    (repository / model / CONFIG).write_bytes(config.read_bytes())
    if code.is_file():
        version = repository / model / "1"
        version.mkdir(exist_ok=True)
        (version / code.name).write_bytes(code.read_bytes())
