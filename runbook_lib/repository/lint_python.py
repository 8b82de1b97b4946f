"""Rules for the code of a Python model: read, never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_calls import Text
from runbook_lib.repository.lint_complete import Completed
from runbook_lib.repository.lint_evaluate import (
    BINDS_ANY,
    UNKNOWN,
    Function,
    GaveUp,
    Instance,
    Scope,
    Stops,
)
from runbook_lib.repository.lint_follow import Follower
from runbook_lib.repository.lint_imports import Imports, Packages
from runbook_lib.repository.lint_sizes import as_json

__all__ = ["check_code"]

CLASS = "TritonPythonModel"
NO_CLASS = (ast.Constant, ast.List, ast.Dict, ast.Tuple, ast.Set, ast.JoinedStr)
# The parser also gives up on what is nested too deep, here as in the server.
UNPARSED = (SyntaxError, ValueError, MemoryError, RecursionError)
Defined = ast.FunctionDef | ast.AsyncFunctionDef


def check_code(model: Model, packages: Packages | None) -> None:
    """Note what the Python backend refuses in each version that is loaded.

    Args:
        packages: the packages of the server's Python; None when they aren't known.
    """
    name = model.file or "model.py"
    for version in model.loaded:
        folder = model.path / str(version)
        if version >= 0 and folder.is_dir():
            _check_version(model, folder, name, packages)


def _check_version(model: Model, folder: Path, name: str, packages: Packages | None) -> None:
    path = folder / name
    if (inner := folder / folder.name / name).is_file():
        path = inner  # Python finds the module `1.model` there first
    shown = f"{folder.name}/{name}"
    if not path.exists():
        model.error(
            "model_py",
            f"{shown} is missing. Triton 2.51 does not refuse that: it waits for it for ever, and the "
            "whole server with it.",
            f"Put the model's code there (a class {CLASS}), or remove the version folder.",
        )
        return
    if not path.is_file():
        model.error("model_py", f"{shown} is no file.", "Put the model's code there.")
        return
    try:
        tree = _parse(path.read_bytes(), shown)
    except UNPARSED as error:
        model.error(
            "syntax",
            f"{shown} is no Python: {error or type(error).__name__}",
            f"python -m py_compile {path}",
        )
        return
    _check_class(model, tree, shown)
    if not model.fails:
        _follow(model, tree, folder, shown, packages)


def _parse(source: bytes, shown: str) -> ast.Module:
    """The syntax tree of code that Python would compile; nothing of it is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source, filename=shown)
        # Some errors, as a `return` outside a function, are found only here.
        compile(tree, shown, "exec", dont_inherit=True)
        return tree


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement that runs when a body does, inside `if`, `try`, `with` and loops too."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(node, Defined | ast.ClassDef):
                yield from _statements(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


def _binds(node: ast.stmt, name: str) -> bool:
    """Whether a statement gives a name a value (a star import may)."""
    if isinstance(node, Defined | ast.ClassDef):
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
    hidden = any(isinstance(one, ast.Name) and one.id in BINDS_ANY for one in ast.walk(tree))
    if not bound and not hidden:
        model.error(
            "model_class",
            f"{shown} has no class {CLASS}.",
            f"Name the model's class {CLASS}.",
        )
        return
    made = bound[-1] if bound else None
    if isinstance(made, ast.Assign) and isinstance(made.value, NO_CLASS):
        model.error("model_class", f"{CLASS} in {shown} is no class.", "Write a class.")
    if isinstance(made, ast.ClassDef):
        methods = {one.name: one for one in made.body if isinstance(one, Defined)}
        _check_methods(model, made, methods, shown)


def _check_methods(
    model: Model, made: ast.ClassDef, methods: dict[str, Defined], shown: str
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


def _takes(function: Defined, given: int) -> bool:
    """Whether a method can be called with so many positional arguments after its first."""
    if function.decorator_list:
        return True
    arguments = function.args
    places = [*arguments.posonlyargs, *arguments.args]
    needed = len(places) - len(arguments.defaults) - 1
    named = sum(default is None for default in arguments.kw_defaults)
    return needed <= given and not named and (bool(arguments.vararg) or given < len(places))


# -- what surely happens when it runs ---------------------------------------------------------------


def _follow(
    model: Model, tree: ast.Module, folder: Path, shown: str, packages: Packages | None
) -> None:
    """Note what surely raises from the first line through `initialize`."""
    imports = Imports([folder, model.path], packages)
    follower = Follower(imports)
    try:
        scope = Scope()
        follower.module(tree, scope)
        _make(model, follower, scope, folder, shown)
    except Stops as stop:
        _explain_stop(model, stop, shown)
    except (GaveUp, RecursionError):
        pass
    if imports.missing and not model.fails:
        model.warn(
            "packages",
            f"{shown} needs packages that the server's Python must bring: "
            f"{', '.join(sorted(imports.missing))}.",
            "Install them in the server's image, or ship them beside the code.",
        )


def _make(model: Model, follower: Follower, scope: Scope, folder: Path, shown: str) -> None:
    """What Triton does with the class: it completes the configuration, makes and starts one."""
    if CLASS not in scope.names and not scope.open:
        model.error(
            "model_class",
            f"{shown} gives {CLASS} no value when it runs.",
            f"Name the model's class {CLASS}.",
        )
        return
    made_of = scope.names.get(CLASS, UNKNOWN)
    if (completes := follower.attribute(made_of, "auto_complete_config")) is not UNKNOWN:
        _complete(model, follower, completes, made_of, shown)
    made = follower.call(made_of, [], {}, 0)
    if not isinstance(made, Instance):
        return
    if made.made_of.has("initialize"):
        follower.call(follower.attribute(made, "initialize"), [_given(model, folder)], {}, 0)
    _warm_up(model, follower, made, shown)


def _warm_up(model: Model, follower: Follower, made: Instance, shown: str) -> None:
    """A warm-up request has to be answered; what an answer says can't be known."""
    sizes = [one.batch_size for one in model.config.model_warmup] if model.config else []
    if not any(sizes) or model.config.model_transaction_policy.decoupled:
        return
    answered: Any = None
    if made.made_of.has("execute"):
        answered = follower.call(follower.attribute(made, "execute"), [UNKNOWN], {}, 0)
    elif not made.made_of.all_known():
        return
    if answered is None or (isinstance(answered, list) and len(answered) != max(sizes)):
        model.error(
            "warm_up",
            f"execute in {shown} does not answer the warm-up request.",
            "Return one response for each request.",
        )


def _complete(model: Model, follower: Follower, completes: Any, made_of: Any, shown: str) -> None:
    """Triton calls `auto_complete_config` on the class, before there is an object."""
    told = Completed(model.config, model.name)
    if isinstance(completes, Function):
        decorators = {ast.unparse(one) for one in completes.node.decorator_list}
        if "classmethod" in decorators:
            completes = Function(completes.node, completes.scope, made_of)
    try:
        found = follower.call(completes, [told], {}, 0)
    except Stops as stop:
        if "auto_complete_config()" not in str(stop):
            raise
        model.error(
            "method",
            f"auto_complete_config in {shown} does not fit: Triton calls it on the class. {stop}",
            "Write @staticmethod above def auto_complete_config(config).",
        )
        return
    if found is UNKNOWN:
        model.completes_itself = True
    elif found is not told:
        model.error(
            "method",
            f"auto_complete_config in {shown} returns no configuration.",
            "End it with: return config",
        )
    elif told.dropped and model.config is None:
        model.error(
            "method",
            f"auto_complete_config in {shown} makes a configuration that Triton can't read: {told.dropped}.",
            "Write data types as TYPE_FP32, dims and sizes as whole numbers.",
        )
    elif told.dropped:
        pass  # Triton keeps the file's configuration
    elif told.config is None:
        model.completes_itself = True
    else:
        model.config = told.config
        model.completes_itself = False


def _given(model: Model, folder: Path) -> dict[str, Any]:
    """What `initialize` is given."""
    known = not model.completes_itself
    config = Text()
    config.parse = lambda: as_json(model.config) if known else UNKNOWN
    return {
        "model_config": config,
        "model_instance_kind": "CPU" if model.on_cpu else UNKNOWN,
        "model_instance_name": UNKNOWN,
        "model_instance_device_id": "0" if model.on_cpu else UNKNOWN,
        "model_repository": str(model.path),
        "model_version": folder.name,
        "model_name": model.name,
    }


def _explain_stop(model: Model, stop: Stops, shown: str) -> None:
    where = f"{shown}:{stop.line}"
    if stop.kind in {"ModuleNotFoundError", "ImportError"}:
        model.error(
            "import",
            f"{where} can't be imported by the server's Python. {stop}",
            "Install it in the server's image, or ship it beside the code.",
        )
    else:
        model.error("raises", f"{where} surely raises {stop}.", "Correct that line.")
