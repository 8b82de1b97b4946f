"""Rules for the code of a Python model: read, never run."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.repository.findings import Model

__all__ = ["check_code"]

CLASS = "TritonPythonModel"
# What the backend itself brings into the interpreter.
BROUGHT = {"triton_python_backend_utils", "c_python_backend_utils", "numpy"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def check_code(model: Model) -> None:
    """Note what the Python backend refuses in each version that is loaded."""
    name = (model.config.default_model_filename if model.config is not None else "") or "model.py"
    for version in model.loaded:
        folder = model.path / str(version)
        if version >= 0 and folder.is_dir():
            _check_version(model, folder, name)


def _check_version(model: Model, folder: Path, name: str) -> None:
    path = folder / name
    shown = f"{folder.name}/{name}"
    if not path.exists():
        model.error(
            "model_py",
            f"{shown} is missing. Triton 2.51 does not refuse that: it waits for it for ever, and the "
            "whole server with it.",
            f"Put the model's code there (a class {CLASS}), or remove the version folder.",
        )
        return
    if path.is_dir():
        model.error("model_py", f"{shown} is a folder.", "Put the model's code there.")
        return
    try:
        tree = _parse(path.read_bytes(), shown)
    except (SyntaxError, ValueError) as error:
        model.error("syntax", f"{shown} is no Python: {error}", f"python -m py_compile {path}")
        return
    _check_imports(model, tree, folder, shown)
    _check_class(model, tree, shown)


def _parse(source: bytes, shown: str) -> ast.Module:
    """The syntax tree of code that Python would compile; nothing of it is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Some errors, as a `return` outside a function, are found only here.
        compile(source, shown, "exec", dont_inherit=True)
        return ast.parse(source, filename=shown)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement that runs when a body does, inside `if`, `try`, `with` and loops too."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(node, Function | ast.ClassDef):
                yield from _statements(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


def _binds(node: ast.stmt, name: str) -> bool:
    """Whether a statement gives a name a value (a star import may)."""
    if isinstance(node, Function | ast.ClassDef):
        return node.name == name
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {(one.asname or one.name).partition(".")[0] for one in node.names}
        return name in names or "*" in names
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return any(
            isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Store)
            for one in ast.walk(node)
        )
    return False


def _check_class(model: Model, tree: ast.Module, shown: str) -> None:
    bound = [node for node in _statements(tree.body) if _binds(node, CLASS)]
    if not bound:
        model.error(
            "model_class",
            f"{shown} has no class {CLASS}.",
            f"Name the model's class {CLASS}.",
        )
        return
    made = bound[-1]
    if isinstance(made, ast.Assign) and isinstance(made.value, ast.Constant):
        model.error("model_class", f"{CLASS} in {shown} is no class.", "Write a class.")
    if isinstance(made, ast.ClassDef):
        methods = {one.name: one for one in made.body if isinstance(one, Function)}
        _check_methods(model, made, methods, shown)
        if (completes := methods.get("auto_complete_config")) is not None:
            _check_completion(model, completes, shown)


def _check_methods(
    model: Model, made: ast.ClassDef, methods: dict[str, Function], shown: str
) -> None:
    for name, given, gives in (
        ("initialize", 1, "its arguments, as in initialize(self, args)"),
        ("__init__", 0, "nothing, as in __init__(self)"),
    ):
        if name in methods and not _takes(methods[name], given):
            model.error(
                "method",
                f"{name} in {shown} does not fit: Triton calls it with {gives}.",
                f"Correct line {methods[name].lineno}.",
            )
    known = any(_binds(node, "execute") for node in _statements(made.body))
    if not known and not made.bases:
        model.warn(
            "execute",
            f"{CLASS} in {shown} has no execute: Triton loads the model and fails every request.",
            "Write def execute(self, requests), which returns one response a request.",
        )


def _check_completion(model: Model, method: Function, shown: str) -> None:
    """Triton calls `auto_complete_config` on the class, before there is an object."""
    calls = {one.attr for one in ast.walk(method) if isinstance(one, ast.Attribute)}
    model.completes_itself = bool(calls & {"add_input", "add_output", "set_max_batch_size"})
    returns = any(isinstance(one, ast.Return) and one.value for one in ast.walk(method))
    if not method.decorator_list and not _takes(method, 0):
        model.error(
            "method",
            f"auto_complete_config in {shown} does not fit: Triton calls it on the class.",
            "Write @staticmethod above def auto_complete_config(config).",
        )
    elif not returns:
        model.error(
            "method",
            f"auto_complete_config in {shown} returns nothing.",
            "End it with: return config",
        )


def _takes(function: Function, given: int) -> bool:
    """Whether a method can be called with so many positional arguments after its first."""
    if function.decorator_list:
        return True
    arguments = function.args
    places = [*arguments.posonlyargs, *arguments.args]
    needed = len(places) - len(arguments.defaults) - 1
    named = sum(default is None for default in arguments.kw_defaults)
    return needed <= given and not named and (bool(arguments.vararg) or given < len(places))


def _check_imports(model: Model, tree: ast.Module, folder: Path, shown: str) -> None:
    """Modules that must be here, and packages that the server's Python must bring."""
    wanted = set[str]()
    absent = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            wanted |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            wanted.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [one.name for one in node.names]
            absent += [name for name in names if not _is_beside(folder, name.partition(".")[0])]
    _check_neighbours(model, folder, wanted)
    missing = sorted(
        name
        for name in wanted - BROUGHT - sys.stdlib_module_names
        if not _is_beside(folder, name) and not _is_beside(model.path, name)
    )
    for name in absent:
        model.error(
            "import",
            f"{shown} imports .{name}, which does not stand beside it.",
            f"Put {name}.py there.",
        )
    if missing:
        model.warn(
            "packages",
            f"{shown} needs packages that the server's Python must bring: {', '.join(missing)}.",
            "Install them in the server's image, or ship them beside the code.",
        )


def _check_neighbours(model: Model, folder: Path, wanted: set[str]) -> None:
    """A module beside the code is imported with it, so it has to be Python too."""
    for name in sorted(wanted - BROUGHT - sys.stdlib_module_names):
        path = folder / f"{name}.py"
        if path.is_file():
            try:
                _parse(path.read_bytes(), path.name)
            except (SyntaxError, ValueError) as error:
                shown = f"{folder.name}/{path.name}"
                model.error(
                    "syntax", f"{shown} is no Python: {error}", f"python -m py_compile {path}"
                )


def _is_beside(folder: Path, name: str) -> bool:
    return (folder / name).is_dir() or (folder / f"{name}.py").is_file()
