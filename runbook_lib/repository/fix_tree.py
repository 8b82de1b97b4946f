"""Repairs of where things stand: a folder too many, code beside its version folder, misspelt names."""

from __future__ import annotations

import re
from pathlib import Path

from runbook_lib.repository.findings import CONFIG
from runbook_lib.repository.fix_source import VERSION, is_leftover

__all__ = ["misspelt_config", "misspelt_version", "models_below", "stray_code"]

# As people and editors write it; Triton reads one name only.
MISSPELT = ("config.pbtext", "config.pbtx", "config.pbtxt.txt", "config.txt", "Config.pbtxt")
NEARLY = re.compile(r"(?:v|version[_-]?)?0*([1-9]\d{0,8})", re.IGNORECASE)


def models_below(root: Path) -> Path:
    """The folder that holds the models: the root, or the one folder in it that holds them instead.

    A tree that was copied with its parent has one folder more: `models/llama/ensemble/…`.
    """
    folders = _folders(root)
    if len(folders) != 1 or _is_model(folders[0]) or VERSION.fullmatch(folders[0].name):
        return root
    below = folders[0]
    if any(_is_model(one) for one in _folders(below) if not VERSION.fullmatch(one.name)):
        return below
    deeper = models_below(below)
    return root if deeper == below else deeper


def _folders(path: Path) -> list[Path]:
    return [one for one in path.iterdir() if one.is_dir() and not is_leftover(one)]


def _is_model(path: Path) -> bool:
    inside = any(one.is_dir() and VERSION.fullmatch(one.name) for one in path.iterdir())
    return inside or (path / CONFIG).is_file()


def misspelt_config(model: Path) -> Path | None:
    """The file that was meant to be the configuration; None where there is one, or several are."""
    if (model / CONFIG).exists():
        return None
    found = [model / name for name in MISSPELT if (model / name).is_file()]
    return found[0] if len(found) == 1 else None


def misspelt_version(model: Path) -> tuple[Path, str] | None:
    """The only folder of a model, meant as a version Triton does not count, and the number meant."""
    folders = [path for path in model.iterdir() if path.is_dir()]
    if len(folders) != 1 or VERSION.fullmatch(folders[0].name):
        return None
    found = NEARLY.fullmatch(folders[0].name)
    return (folders[0], found[1]) if found else None


def stray_code(model: Path) -> list[Path]:
    """Files that belong into a version folder, where the model has none and they stand beside it."""
    if any(path.is_dir() for path in model.iterdir()):
        return []
    main = [path for path in model.iterdir() if path.is_file() and path.stem == "model"]
    if not main:
        return []
    return [path for path in sorted(model.iterdir()) if path.is_file() and path.name != CONFIG]
