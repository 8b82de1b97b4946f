"""Follows the code of a Python model from its first line through `initialize`, running nothing.

It tells what surely raises: Triton then refuses the model. Where the way depends on what can't be
known, both ways are looked at, and only what raises on both counts.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
from collections.abc import Sequence
from typing import Any

from runbook_lib.repository.lint_calls import Calls
from runbook_lib.repository.lint_evaluate import (
    UNKNOWN,
    Class,
    Function,
    GaveUp,
    Instance,
    Member,
    Module,
    Scope,
    Stops,
)

__all__ = ["Follower"]

MOST_TURNS = 20
UNTOLD = object()  # a body that ended without `return`
FALSE_NAMES = {"typing.TYPE_CHECKING"}
Nodes = Sequence[ast.stmt]


class _Leaves(Exception):  # noqa: N818 - no error
    """A loop's turn ends here."""


class Follower(Calls):
    """One model's code, followed once."""

    def module(self, tree: ast.Module, scope: Scope) -> None:
        """Follow a module from top to bottom."""
        future = any(
            isinstance(one, ast.ImportFrom)
            and one.module == "__future__"
            and any(name.name == "annotations" for name in one.names)
            for one in tree.body
        )
        self.reads_annotations = not future
        self.body(tree.body, scope)

    def body(self, nodes: Nodes, scope: Scope) -> Any:
        """Follow statements; what they return, or UNTOLD when they run to their end."""
        for node in nodes:
            known = getattr(self, f"_{type(node).__name__.lower()}", None)
            if known is None:
                continue
            try:
                found = known(node, scope)
            except Stops as stop:
                stop.line = stop.line or node.lineno
                raise
            if found is not None:
                return found
        return UNTOLD

    # -- plain statements ----------------------------------------------------------------------

    def _expr(self, node: ast.Expr, scope: Scope) -> None:
        self.value(node.value, scope)

    def _return(self, node: ast.Return, scope: Scope) -> Any:
        return [self.value(node.value, scope)] if node.value else [None]

    def _raise(self, node: ast.Raise, scope: Scope) -> None:
        if node.exc is None:
            raise self.handled or Stops("RuntimeError", "no active exception to re-raise")
        made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        self.value(node.exc, scope)
        words = node.exc.args if isinstance(node.exc, ast.Call) else []
        said = words[0].value if words and isinstance(words[0], ast.Constant) else ""
        raise Stops(ast.unparse(made).rpartition(".")[2], str(said))

    def _assert(self, node: ast.Assert, scope: Scope) -> None:
        test = self.truth(node.test, scope)
        if test is False:
            raise Stops("AssertionError", ast.unparse(node.test))

    def _assign(self, node: ast.Assign, scope: Scope) -> None:
        found = self.value(node.value, scope)
        for target in node.targets:
            self.bind(target, found, scope)

    def _annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if self.reads_annotations and not self.depth:
            self.value(node.annotation, scope)
        if node.value is not None:
            self.bind(node.target, self.value(node.value, scope), scope)

    def _augassign(self, node: ast.AugAssign, scope: Scope) -> None:
        self.value(node.value, scope)
        if isinstance(node.target, ast.Name):
            self.find(node.target.id, scope)
        self.bind(node.target, UNKNOWN, scope)

    def _delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.find(target.id, scope)
                scope.names.pop(target.id, None)
            else:
                raise GaveUp

    def bind(self, target: ast.expr, found: Any, scope: Scope) -> None:
        """Give a target a value."""
        if isinstance(target, ast.Name):
            scope.names[target.id] = found
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, found, scope)
        elif isinstance(target, ast.Attribute):
            of = self.value(target.value, scope)
            if isinstance(of, Instance):
                of.names[target.attr] = UNKNOWN if self.unsure else found
            elif isinstance(of, str | int | float | bool | type(None)):
                kind = type(of).__name__
                raise Stops("AttributeError", f"'{kind}' object has no attribute '{target.attr}'")
        elif isinstance(target, ast.Subscript):
            of, at = self.value(target.value, scope), self.value(target.slice, scope)
            if isinstance(of, dict | list) and (self.unsure or not isinstance(of, dict)):
                self.lost.add(id(of))
            elif isinstance(of, dict):
                of[at if isinstance(at, str | int) else ""] = found
            elif of is None or isinstance(of, str | tuple | int):
                raise Stops("TypeError", "item assignment")

    def _unpack(self, targets: list[ast.expr], found: Any, scope: Scope) -> None:
        plain = not any(isinstance(one, ast.Starred) for one in targets)
        if isinstance(found, tuple | list) and plain:
            if len(found) != len(targets):
                raise Stops("ValueError", f"{len(found)} values for {len(targets)} names")
            for one, worth in zip(targets, found, strict=True):
                self.bind(one, worth, scope)
            return
        if found is None or isinstance(found, int | float):
            raise Stops("TypeError", f"cannot unpack {type(found).__name__}")
        for one in targets:
            self.bind(one.value if isinstance(one, ast.Starred) else one, UNKNOWN, scope)

    # -- ways that part ------------------------------------------------------------------------

    def truth(self, node: ast.expr, scope: Scope) -> bool | None:
        """Whether a test holds; None when it can't be known."""
        found = self.value(node, scope)
        if isinstance(found, Member):
            return False if found.path in FALSE_NAMES else None
        known = isinstance(
            found, str | int | float | bool | bytes | tuple | list | dict | type(None)
        )
        return bool(found) if known else None

    def _if(self, node: ast.If, scope: Scope) -> Any:
        test = self.truth(node.test, scope)
        if test is None:
            return self._either([node.body, node.orelse], scope)
        return _ended(self.body(node.body if test else node.orelse, scope))

    def _either(self, ways: list[Nodes], scope: Scope) -> Any:
        """Follow each way apart; what only some do is not known."""
        before, stops, ended, after, leaves = scope.copy(), [], [], [], False
        for way in ways:
            there = before.copy()
            self.unsure += 1
            try:
                ended.append(self.body(way, there))
                after.append(there)
            except Stops as stop:
                stops.append(stop)
            except _Leaves:
                leaves = True
            finally:
                self.unsure -= 1
        if leaves:
            raise _Leaves
        if not after:
            raise stops[0]
        names = {name for one in after for name in one.names}
        scope.open = any(one.open for one in after)
        for name in names:
            values = [one.names.get(name, UNKNOWN) for one in after]
            scope.names[name] = values[0] if all(one is values[0] for one in values) else UNKNOWN
        if any(one is not UNTOLD for one in ended) and len(after) == 1:
            return ended[0]
        # One way returns and the other goes on: what comes next is not sure to happen.
        if any(one is not UNTOLD for one in ended):
            raise GaveUp
        return None

    def _match(self, node: ast.Match, scope: Scope) -> Any:
        self.value(node.subject, scope)
        return self._either([*(case.body for case in node.cases), []], scope)

    def _for(self, node: ast.For, scope: Scope) -> Any:
        many = self.value(node.iter, scope)
        if isinstance(many, tuple | list) and len(many) <= MOST_TURNS and not _leaves(node):
            for one in many:
                self.bind(node.target, one, scope)
                if (found := self.body(node.body, scope)) is not UNTOLD:
                    return found
            return _ended(self.body(node.orelse, scope))
        self.bind(node.target, UNKNOWN, scope)
        return self._turns(node, scope)

    def _while(self, node: ast.While, scope: Scope) -> Any:
        test = self.truth(node.test, scope)
        if test is False:
            return _ended(self.body(node.orelse, scope))
        return self._turns(node, scope)

    def _turns(self, node: ast.For | ast.While, scope: Scope) -> Any:
        """Nobody knows how often a loop turns; what it may have changed isn't known then."""
        self.unsure += 1
        with contextlib.suppress(Stops, _Leaves):
            self.body(node.body, scope.copy())
        self.unsure -= 1
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                scope.names[one.id] = UNKNOWN
            elif isinstance(one, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                scope.open = True
            elif isinstance(one, ast.Return):
                raise GaveUp

    def _break(self, _: ast.Break, __: Scope) -> Any:
        raise _Leaves

    _continue = _break

    def _with(self, node: ast.With, scope: Scope) -> Any:
        swallows = False
        for item in node.items:
            called = item.context_expr
            function = self.value(called.func, scope) if isinstance(called, ast.Call) else UNKNOWN
            path = function.path if isinstance(function, Member) else ""
            swallows = swallows or not path.startswith(("builtins.open", "warnings."))
            self.value(called, scope)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, UNKNOWN, scope)
        return (
            self._either([node.body, []], scope)
            if swallows
            else _ended(self.body(node.body, scope))
        )

    def _try(self, node: ast.Try, scope: Scope) -> Any:
        try:
            found = self.body(node.body, scope)
            if found is UNTOLD:
                found = self.body(node.orelse, scope)
        except Stops as stop:
            handler = next((one for one in node.handlers if self._handles(one, stop, scope)), None)
            if handler is None:
                self.body(node.finalbody, scope)
                raise
            if handler.name:
                scope.names[handler.name] = UNKNOWN
            before, self.handled = self.handled, stop
            try:
                found = self.body(handler.body, scope)
            finally:
                self.handled = before
        last = self.body(node.finalbody, scope)
        return _ended(found if last is UNTOLD else last)

    _trystar = _try

    def _handles(self, handler: ast.ExceptHandler, stop: Stops, scope: Scope) -> bool:
        if handler.type is None:
            return True
        raised = getattr(builtins, stop.kind, None)
        for one in handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]:
            caught = self.value(one, scope)
            name = caught.path.removeprefix("builtins.") if isinstance(caught, Member) else ""
            kind = getattr(builtins, name, None)
            known = isinstance(kind, type) and isinstance(raised, type)
            if not known or issubclass(raised, kind):  # type: ignore[arg-type] # both are types
                return True
        return False

    # -- what is defined -----------------------------------------------------------------------

    def _functiondef(self, node: ast.FunctionDef, scope: Scope) -> None:
        for one in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
            if one is not None:
                self.value(one, scope)
        if self.reads_annotations:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for told in [one.annotation for one in arguments] + [node.returns]:
                if told is not None:
                    self.value(told, scope)
        outer = scope.outer if scope.of_class and scope.outer is not None else scope
        scope.names[node.name] = Function(node, outer)

    _asyncfunctiondef = _functiondef

    def _classdef(self, node: ast.ClassDef, scope: Scope) -> None:
        bases = [self.value(one, scope) for one in node.bases]
        for one in [*node.decorator_list, *(each.value for each in node.keywords)]:
            self.value(one, scope)
        inner = Scope(outer=scope, of_class=True)
        self.body(node.body, inner)
        known = [one for one in bases if isinstance(one, Class)]
        objects = [
            one for one in bases if isinstance(one, Member) and one.path == "builtins.object"
        ]
        whole = (
            len(known) + len(objects) == len(bases)
            and not node.decorator_list
            and not node.keywords
            and not inner.open
        )
        scope.names[node.name] = Class(node.name, inner.names, known, whole)

    def _global(self, _: ast.Global, __: Scope) -> None:
        if self.depth:
            raise GaveUp

    _nonlocal = _global

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for one in node.names:
            module = self.imports.module(one.name, self.neighbour)
            first = module if one.asname else self.imports.top(one.name, module)
            scope.names[one.asname or one.name.partition(".")[0]] = first

    def _importfrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = self.imports.source(node, self.neighbour)
        for one in node.names:
            if one.name == "*":
                self._import_all(module, scope)
            else:
                scope.names[one.asname or one.name] = self.imports.member(
                    module, one.name, self.neighbour
                )

    @staticmethod
    def _import_all(module: Module, scope: Scope) -> None:
        if module.scope is None or module.scope.open:
            scope.open = True
        else:
            public = {name for name in module.scope.names if not name.startswith("_")}
            scope.names |= {name: module.scope.names[name] for name in public}


def _ended(found: Any) -> Any:
    return None if found is UNTOLD else found


def _leaves(node: ast.For) -> bool:
    return any(isinstance(one, ast.Break | ast.Continue) for one in ast.walk(node))
