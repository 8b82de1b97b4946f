"""Turns a repository that Triton refuses into one that it loads: a new folder, the old untouched.

    models/                             models-fixed/
    ├── ensemble/1/config.pbtxt         ├── ensemble/config.pbtxt    moved; TYPE_BYTES, steps corrected
    │                                   ├── ensemble/1/placeholder.txt
    └── tokenizer/1/config.pbtxt        └── tokenizer/config.pbtxt

Only what can mean one thing is repaired. What needs somebody's knowledge (code that is not there, a
backend that the server lacks, a placeholder that nobody filled) stays, and is told as the lint does.
The guide's own three models are the exception: the skeleton's code fills their gaps, and that is told.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.errors import RepositoryError
from runbook_lib.files import whole_folder
from runbook_lib.repository.config import parse_config
from runbook_lib.repository.findings import CONFIG, LintFinding, LintResult, Model
from runbook_lib.repository.fix_config import config_diff, repair_bytes, repair_text
from runbook_lib.repository.fix_guide import complete_guide
from runbook_lib.repository.fix_source import VERSION, check_places, is_leftover, model_at_root
from runbook_lib.repository.fix_tree import (
    misspelt_config,
    misspelt_version,
    models_below,
    stray_code,
)
from runbook_lib.repository.lint import lint
from runbook_lib.repository.skeleton import PLACEHOLDER

__all__ = ["Fixed", "fix"]


@dataclass(frozen=True)
class Fixed:
    """A repaired repository.

    Attributes:
        path: where it was written.
        changes: what was repaired, in words, the model first.
        diff: the changed text files as a unified diff.
        left: what the lint still finds in it.
    """

    path: str
    changes: tuple[str, ...]
    diff: str
    left: tuple[LintFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether Triton loads every model of it."""
        return LintResult(self.path, self.left).ok

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for `--json`."""
        left = [one.to_dict() for one in self.left]
        return {
            "ok": self.ok,
            "path": self.path,
            "changes": list(self.changes),
            "diff": self.diff,
            "left": left,
        }

    def __str__(self) -> str:
        changes = [f"repaired: {one}" for one in self.changes] or ["nothing to repair: a copy"]
        return "\n".join(
            [
                *changes,
                *filter(None, [self.diff.rstrip("\n")]),
                str(LintResult(self.path, self.left)),
            ]
        )


def fix(folder: Path, output: Path, *, backends: str = "cpu") -> Fixed:
    """Write a repaired copy of a repository; the repository itself is only read.

    Args:
        folder: the repository, or a single model's folder.
        output: where to; must not exist.
        backends: those of the server that will load it, as for the lint.

    Returns:
        What was repaired and what is left.

    Raises:
        RepositoryError: the folder can't be read whole, or the output can't be written. Nothing
            was written then.
        UsageError: `backends` names nothing.
    """
    check_places(folder, output)
    lint(folder, backends=backends)  # refuses wrong backends before anything is written
    try:
        with whole_folder(output) as work:
            repair = _Repair(folder, work)
            repair.run(backends)
            diff = repair.diff()
    except OSError as error:
        raise RepositoryError(
            f"The repaired repository could not be written to {output}.",
            why=str(error),
            fix="Make room, let its files be read, or choose another folder with --output.",
        ) from error
    left = lint(output, backends=backends).findings
    return Fixed(str(output), tuple(repair.changes), diff, left)


@dataclass
class _Repair:
    """One repair: the old tree, the new one in the making, and what was done to it."""

    old: Path
    new: Path
    changes: list[str] = field(default_factory=list)
    configs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """By model: where its configuration stood, and what it said."""

    def run(self, backends: str) -> None:
        name = model_at_root(self.old)
        root = self.old if name else models_below(self.old)
        if name:
            self._say(name, "a single model, put into a repository of its own")
        if root != self.old:
            self._say(str(root.relative_to(self.old)), "its models put where Triton looks for them")
        self._copy(root, self.new / name)
        was = f"{root.relative_to(self.old).as_posix()}/" if root != self.old else ""
        for path in sorted(self.new.iterdir()):
            if path.is_dir():
                self._repair_model(path, was="" if name else f"{was}{path.name}/")
        for model, words in complete_guide(self.new, backends):
            self._say(model, words)

    def diff(self) -> str:
        """What became of each configuration."""
        return "".join(
            config_diff(old, f"{model}/{CONFIG}", before, (self.new / model / CONFIG).read_bytes())
            for model, (old, before) in self.configs.items()
        )

    def _copy(self, old: Path, new: Path) -> None:
        new.mkdir(exist_ok=True)
        for path in sorted(old.iterdir()):
            target = new / path.name
            if is_leftover(path):
                self._say(str(path.relative_to(self.old)), "left out")
            elif path.is_dir():
                self._copy(path, target)
            else:
                shutil.copy(path, target)
                target.chmod(target.stat().st_mode | 0o200)

    def _repair_model(self, model: Path, was: str) -> None:
        self._repair_names(model)
        version = self._move_config(model)
        self._move_code(model)
        config = model / CONFIG
        if not config.is_file():
            return
        data = config.read_bytes()
        config.write_bytes(self._repair_config(model.name, data))
        self.configs[model.name] = (f"{was}{version}{CONFIG}", data)
        self._fill_versions(model)

    def _repair_names(self, model: Path) -> None:
        if (meant := misspelt_config(model)) is not None:
            meant.rename(model / CONFIG)
            self._say(model.name, f"{meant.name} renamed to {CONFIG}")
        if (version := misspelt_version(model)) is not None:
            folder, number = version
            folder.rename(model / number)
            self._say(model.name, f"version folder {folder.name} renamed to {number}")

    def _move_code(self, model: Path) -> None:
        if files := stray_code(model):
            (model / "1").mkdir()
            for path in files:
                path.rename(model / "1" / path.name)
            self._say(model.name, f"{', '.join(one.name for one in files)} moved into version 1")

    def _move_config(self, model: Path) -> str:
        """Put the one configuration of the version folders beside them; the folder it stood in."""
        places = [path for path in model.glob(f"*/{CONFIG}") if VERSION.fullmatch(path.parent.name)]
        places.sort(key=lambda path: int(path.parent.name))
        if not places or (model / CONFIG).exists() or not all(path.is_file() for path in places):
            return ""
        if len({path.read_bytes() for path in places}) > 1:
            return ""  # which of them is meant, only their author knows
        places[0].rename(model / CONFIG)
        for path in places[1:]:
            path.unlink()
        versions = ", ".join(f"{path.parent.name}/" for path in places)
        self._say(model.name, f"{CONFIG} moved from {versions} to where Triton reads it")
        return f"{places[0].parent.name}/"

    def _repair_config(self, name: str, data: bytes) -> bytes:
        data, words = repair_bytes(data)
        self._say(name, *words)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return data
        text, words = repair_text(text, name, lambda part: (self.new / part / "0").is_dir())
        self._say(name, *words)
        return text.encode(errors="surrogateescape")

    def _fill_versions(self, path: Path) -> None:
        """Give an ensemble its version folder, and a file to one that a store would lose."""
        config = _parsed(path / CONFIG)
        model = Model(path, config)
        if model.is_ensemble and not model.available:
            wanted = [one for one in config.version_policy.specific.versions if one > 0]
            made = path / str(min(wanted, default=1))
            if made.exists():
                return
            made.mkdir()
            self._say(path.name, f"version folder {made.name} made")
        for folder in (path / str(version) for version in Model(path, config).loaded):
            if folder.is_dir() and not _holds_anything(folder):
                (folder / "placeholder.txt").write_text(PLACEHOLDER, "utf-8")
                self._say(path.name, f"a placeholder put into the empty version {folder.name}")

    def _say(self, where: str, *words: str) -> None:
        self.changes += [f"{where}: {one}" for one in words]


def _parsed(path: Path) -> Any:
    try:
        return parse_config(path.read_text("utf-8", "replace"), where=CONFIG)
    except RepositoryError:
        return None  # the lint says so in what is left


def _holds_anything(folder: Path) -> bool:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != CONFIG)
    return any(path.stat().st_size for path in files)
