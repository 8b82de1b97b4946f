"""Whether tokenizers and engine mean the same tokens, and whether an answer can end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runbook_lib.files import sha256_of
from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_trtllm_facts import Deployed

__all__ = ["tokens_differ", "vocabulary", "words_end"]

SPARE = 0.9
"""Share of an engine's vocabulary that its tokenizer fills at least: sizes are rounded up a little."""

Said = Iterator[tuple[str, str]]


def vocabulary(seen: Deployed) -> Said:
    """A tokenizer of another model: its tokens are not the engine's."""
    size = (seen.engine or {}).get("pretrained_config", {}).get("vocab_size")
    if not isinstance(size, int):
        return
    for model, folder in _tokenizers(seen).items():
        tokens = _tokens(folder / "tokenizer.json")
        if tokens > size:
            yield (
                (
                    f"The tokenizer of {model} has {tokens} tokens, and the engine's vocabulary {size}: "
                    "it is another model's, and some of its tokens are none."
                ),
                "Put the tokenizer of the checkpoint that the engine was built from there.",
            )
        elif 0 < tokens < size * SPARE:
            yield (
                (
                    f"The tokenizer of {model} has {tokens} tokens, and the engine's vocabulary {size}: "
                    "it is probably another model's."
                ),
                "Compare it with that of the checkpoint that the engine was built from.",
            )


def tokens_differ(seen: Deployed) -> Said:
    """Text is turned to tokens by one tokenizer and back by another."""
    digests = {
        model: sha256_of(folder / "tokenizer.json") for model, folder in _tokenizers(seen).items()
    }
    if len(set(digests.values())) > 1:
        yield (
            (
                f"{' and '.join(digests)} have different tokenizers: the text that comes back is not "
                "what the engine said."
            ),
            "Give them the same tokenizer.json.",
        )


def words_end(seen: Deployed) -> Said:
    """No token ends an answer, so that each goes on to max_tokens."""
    for model, folder in _tokenizers(seen).items():
        config = _json(folder / "tokenizer_config.json")
        if config is not None and not config.get("eos_token"):
            yield (
                (
                    f"The tokenizer of {model} names no eos_token: an answer ends at max_tokens only, "
                    "unless its request brings end_id."
                ),
                "Name it in tokenizer_config.json.",
            )


def _tokenizers(seen: Deployed) -> dict[str, Path]:
    """The tokenizer folders that are here, by model; a relative one starts at the version folder."""
    found = {}
    for model in seen.models:
        folder = _tokenizer(model)
        if folder is not None and model is not seen.model and (folder / "tokenizer.json").is_file():
            found[model.name] = folder
    return found


def _tokenizer(model: Model) -> Path | None:
    given = model.config.parameters.get("tokenizer_dir")
    if given is None or not given.string_value or not model.loaded:
        return None
    return model.path / str(model.loaded[-1]) / str(given.string_value)


def _tokens(path: Path) -> int:
    """One more than the largest token id; 0 where the file does not say."""
    content = _json(path) or {}
    try:
        vocab = content["model"]["vocab"]
        ids = list(vocab.values()) if isinstance(vocab, dict) else [len(vocab) - 1]
        return 1 + int(max([*ids, *(one["id"] for one in content.get("added_tokens", ()))]))
    except (KeyError, TypeError, ValueError):
        return 0


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
