"""Which modules a model's code can import: Python's own, the server's, those that stand beside it."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from runbook_lib.repository.lint_evaluate import UNKNOWN, Member, Module, Stops

__all__ = ["Imports", "Packages"]

# What the backend itself brings into the interpreter.
BROUGHT = {"triton_python_backend_utils", "c_python_backend_utils", "numpy"}
# Modules of Python's own that do something when they are imported.
NOISY = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "__main__"}
Neighbour = Callable[[str], Module]


@dataclass(frozen=True)
class Packages:
    """What a server's Python can import beside Python's own modules.

    Attributes:
        names: top-level modules.
        members: what is in some of them, by module.
    """

    names: frozenset[str]
    members: Mapping[str, frozenset[str]]

    @classmethod
    @functools.cache
    def of_cpu_server(cls) -> Packages:
        """Those of Triton 2.51's environment in the lab."""
        known = json.loads(Path(__file__).with_name("lint_packages.json").read_text("utf-8"))
        members = {name: frozenset(inside) for name, inside in known["members"].items()}
        return cls(frozenset(known["packages"]), members)


class Imports:
    """The modules that one version of a model can import.

    Args:
        folders: the version's folder and the model's; both are on the search path.
        packages: those of the server's Python; None when they aren't known.
    """

    def __init__(self, folders: list[Path], packages: Packages | None) -> None:
        self.folders, self.packages = folders, packages
        self.missing = set[str]()

    def module(self, name: str, neighbour: Neighbour) -> Module:
        """The module of an `import`.

        Raises:
            Stops: there is none of that name.
        """
        first, _, rest = name.partition(".")
        if first in BROUGHT or first in sys.stdlib_module_names:
            _check_own(name, first)
            if rest:
                self.check_member(first, rest.partition(".")[0], "ModuleNotFoundError")
            return Module(name)
        if self.file(first) is not None:
            inner = [first, *rest.split(".")] if rest else [first]
            for count in range(1, len(inner) + 1):
                path = "/".join(inner[:count])
                if self.file(path) is None:
                    raise Stops(
                        "ModuleNotFoundError", f"No module named '{'.'.join(inner[:count])}'"
                    )
                found = neighbour(path)
            return found
        if self.packages is None or first in self.packages.names:
            if self.packages is None:
                self.missing.add(first)
            return Module(name)
        self.missing.add(first)
        raise Stops("ModuleNotFoundError", f"No module named '{first}'")

    def top(self, name: str, module: Module) -> Module:
        """What `import a.b` names: the first part."""
        return module if "." not in name else Module(name.partition(".")[0])

    def source(self, node: ast.ImportFrom, neighbour: Neighbour) -> Module:
        """The module of a `from … import`."""
        if not node.level:
            return self.module(str(node.module), neighbour)
        if node.level > 1:
            raise Stops("ImportError", "attempted relative import beyond top-level package")
        if not node.module:
            return Module(".")
        path = node.module.replace(".", "/")
        if self.file(path, self.folders[:1]) is None:
            raise Stops("ModuleNotFoundError", f"No module named '.{node.module}'")
        return neighbour(path)

    def member(self, module: Module, name: str, neighbour: Neighbour) -> object:
        """What `from module import name` gives.

        Raises:
            Stops: the module has no such name.
        """
        if module.name == ".":
            if self.file(name, self.folders[:1]) is None:
                raise Stops("ImportError", f"cannot import name '{name}' from '.'")
            return neighbour(name)
        if module.scope is not None:
            if name in module.scope.names:
                return module.scope.names[name]
            if self.file(f"{module.name}/{name}") is not None:
                return neighbour(f"{module.name}/{name}")
            if not module.scope.open and "__getattr__" not in module.scope.names:
                raise Stops("ImportError", f"cannot import name '{name}' from '{module.name}'")
            return UNKNOWN
        self.check_member(module.name, name, "ImportError")
        _check_member(module.name, name)
        return Member(f"{module.name}.{name}")

    def check_member(self, module: str, name: str, kind: str) -> None:
        """A name has to be in a module of the server's whose names are known.

        Raises:
            Stops: it is not; of that kind.
        """
        known = None if self.packages is None else self.packages.members.get(module)
        if known is not None and name not in known and not name.startswith("__"):
            raise Stops(kind, f"{module} has no {name}")

    def file(self, path: str, folders: list[Path] | None = None) -> Path | None:
        """The file or folder of a module of the model's own; None when there is none."""
        for folder in folders or self.folders:
            for found in (folder / path / "__init__.py", folder / f"{path}.py", folder / path):
                if found.is_file() or (found.is_dir() and found.suffix != ".py"):
                    return found
        return None

    def tree(self, path: str) -> ast.Module | None:
        """The syntax tree of a module of the model's own; None for a folder without code."""
        found = self.file(path)
        if found is None or found.is_dir():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(found.read_bytes())
        except (SyntaxError, ValueError, OSError) as error:
            raise Stops("SyntaxError", f"{found.name}: {error}") from None


def _check_own(name: str, first: str) -> None:
    """A module inside one of Python's own has to be there."""
    if first in BROUGHT or first in NOISY or "." not in name:
        return
    try:
        there = find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        there = False
    if not there and not name.startswith("os.path"):
        raise Stops("ModuleNotFoundError", f"No module named '{name}'")


def _check_member(module: str, name: str) -> None:
    first = module.partition(".")[0]
    if first in BROUGHT or first in NOISY or first not in sys.stdlib_module_names:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            there = importlib.import_module(module)
        except ImportError:
            return
    if not hasattr(there, name) and _absent(f"{module}.{name}"):
        raise Stops("ImportError", f"cannot import name '{name}' from '{module}'")


def _absent(name: str) -> bool:
    try:
        return find_spec(name) is None
    except (ImportError, ValueError, AttributeError):
        return True
