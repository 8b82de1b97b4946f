"""Puts a repository's models on disk: all of them, or nothing.

    dest/<model>/config.pbtxt       beside the version folder, never in it
    dest/<model>/1/…                never empty

Object stores know no empty folders, and KServe's downloader skips empty files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.errors import RepositoryError

__all__ = [
    "CODE",
    "CONFIG",
    "TOKENIZER_FILES",
    "ModelPart",
    "files_of",
    "refuse_full",
    "write_tree",
]

CONFIG = "config.pbtxt"
PLACEHOLDER = "placeholder.txt"
KEEP = "An object store would drop this folder if it were empty.\n"
# The code of the models that need no engine, one folder a model.
CODE = Path(__file__).resolve().parent / "triton_models"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class ModelPart:
    """One model: its configuration, and what its version folder holds.

    Attributes:
        files: sources by their path below the version folder; linked where the disk allows it.
        texts: short files by the same.
    """

    name: str
    config: str
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def files_of(folder: Path, below: str = "") -> dict[str, Path]:
    """The files that stand in a folder, by the path that they get below a version folder."""
    found = (path for path in sorted(folder.iterdir()) if path.is_file())
    return {f"{below}{path.name}": path for path in found}


def refuse_full(dest: Path) -> None:
    """Raise RepositoryError where something stands at `dest` but an empty folder."""
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise RepositoryError(
            f"{dest} exists and is not an empty folder.",
            why="A repository is written whole and never over another one.",
            fix=f"Remove it first, or choose another folder: rm -r {dest}",
        )


def write_tree(dest: Path, parts: Iterable[ModelPart]) -> list[Path]:
    """Write the models to a folder beside `dest`, and rename it when everything is there.

    Returns:
        The files written, sorted.

    Raises:
        RepositoryError: `dest` holds something, or the disk does not take it.
    """
    try:
        refuse_full(dest)
        dest.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as folder:
            partial = Path(folder) / dest.name
            for part in parts:
                _write_model(partial / part.name, part)
            partial.replace(dest)
    except OSError as error:
        raise RepositoryError(
            f"The model repository could not be written to {dest}.",
            why=str(error),
            fix="Make room or choose another folder; nothing was left behind.",
        ) from error
    return sorted(path for path in dest.rglob("*") if path.is_file())


def _write_model(target: Path, part: ModelPart) -> None:
    version = target / "1"
    version.mkdir(parents=True)
    (target / CONFIG).write_text(part.config, "utf-8")
    texts = part.texts if part.files or part.texts else {PLACEHOLDER: KEEP}
    for name, text in texts.items():
        _place(version / name).write_text(text, "utf-8")
    for name, source in part.files.items():
        _link_or_copy(source, _place(version / name))


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link_or_copy(source: Path, target: Path) -> None:
    # Code is small and edited by hand: a link would change the package's own file with it.
    if source.suffix in {".py", ".yaml"}:
        shutil.copyfile(source, target)
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
