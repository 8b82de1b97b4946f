"""What an expression of a model's code is, as far as it can be known without running it.

Values are Python's own constants and containers of them, the things below, or UNKNOWN. What
surely raises, raises `Stops`; everything else is UNKNOWN, which spreads.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "UNKNOWN",
    "Class",
    "Evaluator",
    "Function",
    "GaveUp",
    "Instance",
    "Member",
    "Method",
    "Module",
    "Native",
    "Scope",
    "Stops",
]

PLAIN = (str, int, float, bool, bytes, list, tuple, dict, type(None))
# With these a name can be given a value in ways that can't be followed.
BINDS_ANY = {"globals", "locals", "vars", "exec", "eval", "setattr", "delattr"}
LARGEST, LONGEST = 2**63, 10_000
OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}


class _Unknown:
    """Could be anything."""


UNKNOWN: Any = _Unknown()


class Stops(Exception):  # noqa: N818 - it is what the model's code raises, no error of ours
    """The code surely raises here."""

    def __init__(self, kind: str, said: str, line: int = 0) -> None:
        super().__init__(f"{kind}: {said}" if said else kind)
        self.kind, self.line = kind, line


class GaveUp(Exception):  # noqa: N818 - no error either
    """The code is too long to be followed."""


@dataclass
class Scope:
    """The names that a module, class or function has given a value."""

    names: dict[str, Any] = field(default_factory=dict)
    outer: Scope | None = None
    own: frozenset[str] = frozenset()
    open: bool = False
    of_class: bool = False

    def copy(self) -> Scope:
        """One that can be changed apart."""
        return replace(self, names=dict(self.names))


@dataclass
class Module:
    """An imported module; `names` are known for one of the model's own."""

    name: str
    scope: Scope | None = None


@dataclass
class Member:
    """Something inside a module that is not the model's, as `os.environ`."""

    path: str


class Native:
    """An object of the backend's own whose methods are known."""

    methods: frozenset[str] = frozenset()

    def run(self, method: str, given: list[Any]) -> Any:
        """What a method of it does."""
        raise NotImplementedError

    def forget(self) -> None:
        """A method may or may not have been called: nothing is known of it any more."""
        raise NotImplementedError


@dataclass
class Method:
    """A method of a dictionary or a list, or of something of the backend's own."""

    of: dict[Any, Any] | list[Any] | Native
    name: str


@dataclass
class Function:
    """A function of the model's code."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    scope: Scope
    first: Any = None


@dataclass
class Class:
    """A class of the model's code; `whole` when all its bases are known too."""

    name: str
    names: dict[str, Any]
    bases: list[Class]
    whole: bool

    def find(self, name: str) -> Any:
        """A member of it or of its bases; None when there is none."""
        if name in self.names:
            return self.names[name]
        return next((found for one in self.bases if (found := one.find(name)) is not None), None)

    def has(self, name: str) -> bool:
        """Whether it or a base of it has a member of that name."""
        return name in self.names or any(one.has(name) for one in self.bases)

    def all_known(self) -> bool:
        """Whether no base is unknown."""
        return self.whole and all(one.all_known() for one in self.bases)


@dataclass
class Instance:
    """An object of a class of the model's code."""

    made_of: Class
    names: dict[str, Any] = field(default_factory=dict)


class Evaluator:
    """Evaluates expressions; what a call does is up to `call`."""

    def __init__(self) -> None:
        self.steps = 0
        self.lost = set[int]()  # containers that were changed in a way that isn't known

    def call(self, function: Any, given: list[Any], named: dict[str, Any], line: int) -> Any:
        """The value of a call."""
        raise NotImplementedError

    def value(self, node: ast.expr | None, scope: Scope) -> Any:
        """The value of an expression.

        Raises:
            Stops: evaluating it surely raises.
            GaveUp: the code has been followed long enough.
        """
        self.steps += 1
        if self.steps > LONGEST:
            raise GaveUp
        known = getattr(self, f"_{type(node).__name__.lower()}", None)
        try:
            return UNKNOWN if known is None else known(node, scope)
        except Stops as stop:
            stop.line = stop.line or getattr(node, "lineno", 0)
            raise

    def _constant(self, node: ast.Constant, _: Scope) -> Any:
        return node.value

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        return self.find(node.id, scope)

    def find(self, name: str, scope: Scope) -> Any:
        """What a name stands for."""
        place: Scope | None = scope
        while place is not None:
            if name in place.names:
                found = place.names[name]
                return UNKNOWN if id(found) in self.lost else found
            if place.open:
                return UNKNOWN
            if name in place.own:
                raise Stops("UnboundLocalError", f"{name} has no value yet")
            place = place.outer
        if name in {"__file__", "__name__", "__doc__", "__spec__", "__package__", "__path__"}:
            return UNKNOWN if name != "__name__" else "1.model"
        if hasattr(builtins, name):
            if name in BINDS_ANY:
                raise GaveUp
            return Member(f"builtins.{name}")
        raise Stops("NameError", f"name '{name}' is not defined")

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        return self.attribute(self.value(node.value, scope), node.attr)

    def attribute(self, of: Any, name: str) -> Any:
        """An attribute of a value."""
        if isinstance(of, Module):
            return of.scope.names.get(name, UNKNOWN) if of.scope else self.member_of(of.name, name)
        if isinstance(of, Member):
            return Member(f"{of.path}.{name}")
        if isinstance(of, Instance):
            return self._of_instance(of, name)
        if isinstance(of, Class):
            found = of.find(name)
            return UNKNOWN if found is None else found
        if isinstance(of, Native) and name not in of.methods:
            raise Stops("AttributeError", f"'ModelConfig' object has no attribute '{name}'")
        if isinstance(of, PLAIN) and not hasattr(of, name):
            raise Stops("AttributeError", f"'{type(of).__name__}' object has no attribute '{name}'")
        return Method(of, name) if isinstance(of, dict | list | Native) else UNKNOWN

    def _of_instance(self, of: Instance, name: str) -> Any:
        if name in of.names:
            return UNKNOWN if id(of.names[name]) in self.lost else of.names[name]
        found = of.made_of.find(name)
        if isinstance(found, Function) and not found.node.decorator_list:
            return Function(found.node, found.scope, of)
        if isinstance(found, PLAIN) and of.made_of.has(name):
            return found
        if found is not None or not of.made_of.all_known() or hasattr(object(), name):
            return UNKNOWN
        if of.made_of.find("__getattr__") is not None:
            return UNKNOWN
        raise Stops("AttributeError", f"'{of.made_of.name}' object has no attribute '{name}'")

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        of, at = self.value(node.value, scope), self.value(node.slice, scope)
        if of is UNKNOWN or at is UNKNOWN or not isinstance(at, str | int):
            return UNKNOWN
        if isinstance(of, Member):
            return self.item_of(of, at)
        if not isinstance(of, PLAIN):
            return UNKNOWN
        try:
            return of[at]  # type: ignore[index] # what can't be indexed raises, as the code will
        except (LookupError, TypeError) as error:
            raise Stops(type(error).__name__, str(error)) from None

    def member_of(self, module: str, name: str) -> Any:
        """Something inside a module that is not the model's."""
        raise NotImplementedError

    def item_of(self, of: Member, at: str | int) -> Any:
        """An item of something outside the model's code."""
        raise NotImplementedError

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.value(node.func, scope)
        given = [self.value(one, scope) for one in node.args]
        named = {one.arg: self.value(one.value, scope) for one in node.keywords}
        if None in named or any(isinstance(one, ast.Starred) for one in node.args):
            return UNKNOWN
        return self.call(
            function, given, {str(key): one for key, one in named.items()}, node.lineno
        )

    def _binop(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        return self._operate(type(node.op), left, right)

    def _compare(self, node: ast.Compare, scope: Scope) -> Any:
        left = self.value(node.left, scope)
        right = self.value(node.comparators[0], scope)
        return self._operate(type(node.ops[0]), left, right) if len(node.ops) == 1 else UNKNOWN

    @staticmethod
    def _operate(kind: type, left: Any, right: Any) -> Any:
        work = OPERATIONS.get(kind)
        if work is None or not all(isinstance(one, PLAIN) for one in (left, right)):
            return UNKNOWN
        if kind in {ast.In, ast.NotIn} and isinstance(right, dict):
            right = list(right)
        large = any(
            abs(one) > LARGEST if isinstance(one, int | float) else one and len(one) > LONGEST
            for one in (left, right)
        )
        repeats = kind is ast.Mult and not all(
            isinstance(one, int | float) for one in (left, right)
        )
        if large or repeats or _holds_unknown(left) or _holds_unknown(right):
            return UNKNOWN
        try:
            return work(left, right)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise Stops(type(error).__name__, str(error)) from None

    def _unaryop(self, node: ast.UnaryOp, scope: Scope) -> Any:
        of = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not) and isinstance(of, PLAIN):
            return not of
        return -of if isinstance(node.op, ast.USub) and type(of) in {int, float} else UNKNOWN

    def _boolop(self, node: ast.BoolOp, scope: Scope) -> Any:
        found: Any = UNKNOWN
        for one in node.values:
            found = self.value(one, scope)
            if not isinstance(found, PLAIN):
                return UNKNOWN
            if bool(found) is isinstance(node.op, ast.Or):
                return found
        return found

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> Any:
        test = self.value(node.test, scope)
        if not isinstance(test, PLAIN):
            return UNKNOWN
        return self.value(node.body if test else node.orelse, scope)

    def _list(self, node: ast.List, scope: Scope) -> Any:
        if any(isinstance(one, ast.Starred) for one in node.elts):
            return UNKNOWN
        return [self.value(one, scope) for one in node.elts]

    def _tuple(self, node: ast.Tuple, scope: Scope) -> Any:
        if any(isinstance(one, ast.Starred) for one in node.elts):
            return UNKNOWN
        return tuple(self.value(one, scope) for one in node.elts)

    def _dict(self, node: ast.Dict, scope: Scope) -> Any:
        made = {}
        for key, one in zip(node.keys, node.values, strict=True):
            named, worth = self.value(key, scope), self.value(one, scope)
            if not isinstance(named, str | int):
                return UNKNOWN
            made[named] = worth
        return made

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Any:
        for one in node.values:
            if isinstance(one, ast.FormattedValue):
                self.value(one.value, scope)
        return UNKNOWN

    def _namedexpr(self, node: ast.NamedExpr, scope: Scope) -> Any:
        scope.names[node.target.id] = found = self.value(node.value, scope)
        return found

    def _listcomp(self, node: ast.ListComp, scope: Scope) -> Any:
        first = node.generators[0]
        many = self.value(first.iter, scope)
        plain = len(node.generators) == 1 and not first.ifs and isinstance(first.target, ast.Name)
        if (
            not plain
            or not isinstance(many, list | tuple)
            or not isinstance(first.target, ast.Name)
        ):
            return UNKNOWN
        name = first.target.id
        return [self.value(node.elt, Scope({name: one}, scope)) for one in many]


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_unknown(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_unknown(one) for one in value)
    return not isinstance(value, PLAIN)
