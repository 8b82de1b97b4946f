"""What a call in a model's code does: its own functions are followed, some of Python's are known."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runbook_lib.repository.lint_evaluate import (
    UNKNOWN,
    Class,
    Evaluator,
    Function,
    GaveUp,
    Instance,
    Member,
    Method,
    Module,
    Scope,
    Stops,
)
from runbook_lib.repository.lint_imports import Imports

__all__ = ["Calls", "Text"]

DEEPEST = 8
ENDS = {"builtins.exit", "builtins.quit", "sys.exit", "os._exit", "builtins.SystemExit"}
IMPORTS = {"builtins.__import__", "importlib.import_module"}
# What has names of its own.
INNER = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
READS = {"get", "items", "keys", "values", "copy", "count", "index"}
READERS = {"builtins.open", "numpy.load", "numpy.loadtxt", "numpy.fromfile", "numpy.genfromtxt"}
OF_CONFIG = {
    "triton_python_backend_utils.get_input_config_by_name": "input",
    "triton_python_backend_utils.get_output_config_by_name": "output",
}
# What Triton itself sets for the Python backend's processes.
ALWAYS_SET = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONUNBUFFERED"}


class Text(str):
    """A JSON text that is not written out: `parse` tells what it would give."""

    __slots__ = ("parse",)
    parse: Callable[[], Any]


class Calls(Evaluator):
    """Calls of one model's code."""

    def __init__(self, imports: Imports) -> None:
        super().__init__()
        self.imports = imports
        self.depth = 0
        self.unsure = 0
        self.handled: Stops | None = None
        self.reads_annotations = True
        self.modules: dict[str, Module] = {}

    def body(self, nodes: Any, scope: Scope) -> Any:
        """Follow the statements of a function."""
        raise NotImplementedError

    def module(self, tree: ast.Module, scope: Scope) -> None:
        """Follow a module."""
        raise NotImplementedError

    def call(self, function: Any, given: list[Any], named: dict[str, Any], line: int) -> Any:
        """The value of a call."""
        if isinstance(function, Function):
            return self.run(function, given, named)
        if isinstance(function, Class):
            return self.make(function, given, named)
        if isinstance(function, Method):
            of = function.of
            if isinstance(of, dict | list):
                return self._of_container(function.name, of, given)
            if self.unsure:
                of.forget()
            return of.run(function.name, given)
        # Nobody knows what others do with a container that they are given.
        self.lost |= {id(one) for one in given if isinstance(one, dict | list)}
        if isinstance(function, Member):
            return self._of_python(function.path, given, named)
        if isinstance(function, str | int | float | list | tuple | dict | type(None)):
            kind = type(function).__name__
            raise Stops("TypeError", f"'{kind}' object is not callable", line)
        return UNKNOWN

    def make(self, made_of: Class, given: list[Any], named: dict[str, Any]) -> Any:
        """An object of a class."""
        if made_of.find("__new__") is not None:
            return UNKNOWN
        made = Instance(made_of)
        starts = made_of.find("__init__")
        if isinstance(starts, Function):
            self.run(Function(starts.node, starts.scope, made), given, named)
        elif starts is None and made_of.all_known() and (given or named):
            raise Stops("TypeError", f"{made_of.name}() takes no arguments")
        return made

    def run(self, function: Function, given: list[Any], named: dict[str, Any]) -> Any:
        """Follow a function's body with its arguments."""
        node = function.node
        if not isinstance(node, ast.FunctionDef) or not _is_bare(node) or _yields(node):
            return UNKNOWN
        if self.depth >= DEEPEST:
            return UNKNOWN
        first = [] if function.first is None else [function.first]
        values = _arguments(node, first + given, named)
        scope = Scope(values, function.scope, _own(node))
        self.depth += 1
        try:
            found = self.body(node.body, scope)
        except RecursionError:
            raise GaveUp from None
        finally:
            self.depth -= 1
        return found[0] if isinstance(found, list) else None

    def _of_container(self, name: str, of: dict[Any, Any] | list[Any], given: list[Any]) -> Any:
        if name == "append" and isinstance(of, list) and len(given) == 1 and not self.unsure:
            of.append(given[0])
            return None
        if name not in READS:
            self.lost.add(id(of))
            return UNKNOWN
        if isinstance(of, dict) and name == "get" and given and isinstance(given[0], str | int):
            return of.get(given[0], given[1] if len(given) > 1 else None)
        return UNKNOWN

    def member_of(self, module: str, name: str) -> Any:
        """Something inside a module that is not the model's."""
        if module != "triton_python_backend_utils":  # the backend adds to it later
            self.imports.check_member(module, name, "AttributeError")
        return Member(f"{module}.{name}")

    def item_of(self, of: Member, at: str | int) -> Any:
        """An item of `os.environ`; of other things nothing is known."""
        if of.path == "os.environ" and at not in os.environ and at not in ALWAYS_SET:
            raise Stops("KeyError", repr(at))
        return UNKNOWN

    def _of_python(self, path: str, given: list[Any], named: dict[str, Any]) -> Any:
        first = given[0] if given else UNKNOWN
        if path in ENDS:
            raise Stops("SystemExit", "")
        if path in IMPORTS and isinstance(first, str):
            return self.imports.module(first, self.neighbour)
        if path in READERS:
            return _opened(given, named)
        if path in OF_CONFIG:
            return _tensor_of(OF_CONFIG[path], given)
        if path == "builtins.dict" and not given:
            return named
        if path == "builtins.isinstance":
            return _is_instance(first, given[1] if len(given) > 1 else UNKNOWN)
        if path == "json.load" and isinstance(first, str | int | dict | list):
            raise Stops(
                "AttributeError", f"'{type(first).__name__}' object has no attribute 'read'"
            )
        known = OF_TEXT.get(path)
        return known(first) if known and isinstance(first, str) and len(given) == 1 else UNKNOWN

    def neighbour(self, name: str) -> Module:
        """A module of the model's own, followed when it is first imported."""
        if name not in self.modules:
            scope = Scope()
            self.modules[name] = Module(name, scope)
            tree = self.imports.tree(name)
            if tree is None:
                scope.open = True
            else:
                annotations, self.reads_annotations = self.reads_annotations, True
                self.module(tree, scope)
                self.reads_annotations = annotations
        return self.modules[name]


def _arguments(node: ast.FunctionDef, given: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    """The values of a function's arguments; raises where they don't fit, as the call will."""
    arguments = node.args
    places = [one.arg for one in [*arguments.posonlyargs, *arguments.args]]
    if len(given) > len(places) and arguments.vararg is None:
        raise Stops("TypeError", f"{node.name}() takes {len(places)} arguments, not {len(given)}")
    values = dict(zip(places, given, strict=False))
    keywords = {one.arg for one in arguments.kwonlyargs}
    unknown = set(named) - set(places) - keywords
    if unknown and arguments.kwarg is None:
        raise Stops("TypeError", f"{node.name}() takes no argument {min(unknown)}")
    values |= named
    needed = places[: len(places) - len(arguments.defaults)]
    needed += [
        one.arg
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    if missing := [name for name in needed if name not in values]:
        raise Stops("TypeError", f"{node.name}() misses its argument {missing[0]}")
    rest = [one.arg for one in (arguments.vararg, arguments.kwarg) if one is not None]
    return dict.fromkeys([*places, *keywords, *rest], UNKNOWN) | values


def _own(node: ast.FunctionDef) -> frozenset[str]:
    """The names that are a function's own because it gives them a value somewhere."""
    names = set[str]()
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.Name):
            if isinstance(one.ctx, ast.Store):
                names.add(one.id)
        elif not isinstance(one, INNER):
            waiting.extend(ast.iter_child_nodes(one))
    return frozenset(names)


def _is_bare(node: ast.FunctionDef) -> bool:
    """Whether no decorator makes something else of a function."""
    return all(ast.unparse(one) in {"staticmethod", "classmethod"} for one in node.decorator_list)


def _yields(node: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(node))


def _parsed(text: str) -> Any:
    if isinstance(text, Text):
        return text.parse()
    try:
        return json.loads(text)
    except ValueError as error:
        raise Stops("JSONDecodeError", str(error)) from None


def _opened(given: list[Any], named: dict[str, Any]) -> Any:
    """A file that is read has to be there; what else may go wrong can't be known."""
    mode = given[1] if len(given) > 1 else named.get("mode", "r")
    path = given[0] if given else named.get("file")
    if isinstance(path, str) and isinstance(mode, str) and "r" in mode and not Path(path).exists():
        raise Stops("FileNotFoundError", path)
    return UNKNOWN


def _tensor_of(kind: str, given: list[Any]) -> Any:
    """The configuration of a tensor by name, None when there is none; as the backend finds it."""
    config, name = given if len(given) == 2 else (UNKNOWN, UNKNOWN)
    if not isinstance(config, dict) or not isinstance(name, str):
        return UNKNOWN
    return next((one for one in config.get(kind, ()) if one.get("name") == name), None)


def _number(kind: type[int | float]) -> Callable[[str], Any]:
    def made(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise Stops("ValueError", str(error)) from None

    return made


def _is_instance(value: Any, kind: Any) -> Any:
    import builtins

    path = kind.path if isinstance(kind, Member) else ""
    made = getattr(builtins, path.removeprefix("builtins."), None)
    plain = isinstance(value, str | int | float | list | tuple | dict | type(None))
    return isinstance(value, made) if plain and isinstance(made, type) else UNKNOWN


OF_TEXT: dict[str, Callable[[str], Any]] = {
    "json.loads": _parsed,
    "builtins.int": _number(int),
    "builtins.float": _number(float),
    "builtins.str": str,
}
