"""What a repair may read, where it may write, and what of a tree is no part of a repository."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.findings import CONFIG
from runbook_lib.repository.fix_config import written_name

__all__ = ["VERSION", "check_places", "default_output", "is_leftover", "model_at_root"]

VERSION = re.compile(r"0|[1-9]\d{0,17}")
# What JupyterLab, editors, version control and desktops put beside what they show.
LEFT_FOLDERS = {".ipynb_checkpoints", ".git", ".idea", ".vscode", "__MACOSX"}
LEFT_FILES = re.compile(r".+~|\.#.*|#.*#|\..*\.sw[a-p]|\.DS_Store")
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def default_output(folder: Path) -> Path:
    """The new folder beside the old one, its name with `-fixed`."""
    named = folder if folder.name not in {"", ".."} else folder.resolve()
    return named.with_name(f"{named.name}-fixed")


def is_leftover(path: Path) -> bool:
    """Whether a tool left it behind and no model reads it."""
    if path.is_dir() and not path.is_symlink():
        return path.name in LEFT_FOLDERS
    return bool(LEFT_FILES.fullmatch(path.name))


def model_at_root(root: Path) -> str:
    """The name of the single model that a folder is; empty when it is a repository.

    A model has a configuration, or files in its version folders, and holds no model itself.
    """
    folders = [path for path in root.iterdir() if path.is_dir() and not is_leftover(path)]
    if any(map(_is_model, folders)):
        return ""
    versions = [path for path in folders if VERSION.fullmatch(path.name)]
    configs = [path for path in (root, *versions) if (path / CONFIG).is_file()]
    only_versions = len(versions) == len(folders)
    code = any(path.is_file() for version in versions for path in version.glob("model.*"))
    if root not in configs and not (only_versions and (configs or code)):
        return ""
    name = written_name((configs[0] / CONFIG).read_text("utf-8", "replace")) if configs else ""
    return name if SAFE_NAME.fullmatch(name) else root.resolve().name


def _is_model(path: Path) -> bool:
    inside = any(one.is_dir() and VERSION.fullmatch(one.name) for one in path.iterdir())
    return inside or ((path / CONFIG).is_file() and not VERSION.fullmatch(path.name))


def check_places(folder: Path, output: Path) -> None:
    """Refuse, before anything is written, what can't be copied whole or would be overwritten.

    Raises:
        RepositoryError: the folder is none, the output exists or lies in it, or a link leads out.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise RepositoryError(f"{folder} {what}.", fix="Give the folder that holds the models.")
    if os.path.lexists(output):
        raise RepositoryError(
            f"{output} exists already.",
            why="A repair never writes over anything.",
            fix="Name another folder with --output, or remove this one first.",
        )
    if output.resolve().is_relative_to(folder.resolve()):
        raise RepositoryError(
            f"{output} lies in {folder}.",
            why="The old repository stays as it is.",
            fix="Name a folder outside it with --output.",
        )
    try:
        _check_links(folder.resolve())
    except (OSError, RuntimeError) as error:  # the second: a link that leads to itself
        raise RepositoryError(
            f"{folder} can't be read whole.",
            why=str(error),
            fix="Give its files to the user who reads them.",
        ) from error


def _check_links(root: Path) -> None:
    entries = list(_entries(root))
    links = {path: path.resolve() for path in entries if path.is_symlink()}
    to_folders = [path for path, target in links.items() if target.is_dir()]
    for path in entries:
        target = links.get(path, path)
        if not target.is_relative_to(root):
            _refuse(path, f"It is a link that leads out of the repository, to {target}.")
        if not target.is_file() and not target.is_dir():
            _refuse(path, "It is a link that leads nowhere, or no file at all.")
        if path in to_folders and any(one.is_relative_to(target) for one in to_folders):
            _refuse(path, "It is a link to a folder that has such links itself: it may be endless.")


def _refuse(path: Path, why: str) -> None:
    fix = "Put the file itself in its place: a store and a server see files only."
    raise RepositoryError(f"{path} can't be copied.", why=why, fix=fix)


def _entries(folder: Path) -> Iterator[Path]:
    """Everything below a folder but leftovers; links are not followed."""
    for path in sorted(folder.iterdir()):
        if is_leftover(path):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(path)
