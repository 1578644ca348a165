"""Mutants of a module: one small change of its syntax tree each, with the place and the change in words."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

COMPARED = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt,), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt,), ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
OPPOSITES = {
    "min": "max", "minimum": "maximum", "any": "all", "any_horizontal": "all_horizontal", "first": "last", "lt": "le",
    "gt": "ge", "is_null": "is_not_null", "left": "right", "flatnonzero": "argsort", "logical_and": "logical_or",
}  # fmt: skip
OPPOSITES |= {name: other for other, name in OPPOSITES.items()}
# How an object shows itself is tested with the other summaries, and the words of an error by the tests that raise it.
SKIPPED_FUNCTIONS = {"_summary"}
LONGEST_SHOWN = 90  # characters
SHOWN_AROUND = 30  # characters on each side of what differs in a longer one


@dataclass(frozen=True)
class Mutant:
    """A module's source with one change.

    Attributes
    ----------
    function : str
        Where it is.
    change : str
        `before -> after` of the smallest expression or the first line of the smallest statement, as text; of a long one
        only what lies around the difference. The second one of a function with equal text ends in ` (2)`.
    line : int
        In the module as it is now.
    source : str
        The whole module.
    """

    function: str
    change: str
    line: int
    source: str


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its tree; no two have the same function and change."""
    found = []
    times: Counter[tuple[str, str]] = Counter()
    for at, _ in enumerate(_sites(ast.parse(source))):
        tree = ast.parse(source)
        site = list(_sites(tree))[at]
        before = _first_line(site.shown)
        site.change()
        is_removed = isinstance(site.shown, ast.Expr | ast.Raise)
        change = f"{before[:LONGEST_SHOWN]} -> pass" if is_removed else _shortened(before, _first_line(site.shown))
        times[site.function, change] += 1
        number = times[site.function, change]
        numbered = change if number == 1 else f"{change} ({number})"
        found.append(Mutant(site.function, numbered, site.line, ast.unparse(tree)))
    return found


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0]


def _shortened(before: str, after: str) -> str:
    if max(len(before), len(after)) <= LONGEST_SHOWN:
        return f"{before} -> {after}"
    begin = max(_equal_at_the_start(before, after) - SHOWN_AROUND, 0)
    cut = max(_equal_at_the_start(before[begin:][::-1], after[begin:][::-1]) - SHOWN_AROUND, 0)
    return f"{before[begin : len(before) - cut]} -> {after[begin : len(after) - cut]}"


def _equal_at_the_start(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@dataclass(frozen=True)
class _Site:
    function: str
    line: int
    shown: ast.AST
    change: Callable[[], None]


def _sites(tree: ast.Module) -> Iterator[_Site]:
    for node, function, parents in _walk(tree, "", ()):
        for change in _changes(node, parents):
            yield _Site(function, getattr(node, "lineno", 0), _context(node, parents), change)


def _walk(
    node: ast.AST, function: str, parents: tuple[ast.AST, ...]
) -> Iterator[tuple[ast.AST, str, tuple[ast.AST, ...]]]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".strip(".")
        if node.name in SKIPPED_FUNCTIONS:
            return
    yield node, function, parents
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(
            node, ast.JoinedStr | ast.Raise
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, function, (*parents, node))


def _context(node: ast.AST, parents: tuple[ast.AST, ...]) -> ast.AST:
    """What is shown of a change: a constant, a name, a negation or the bound of a slice with what it stands in."""
    for parent in reversed(parents):
        if not isinstance(node, ast.Constant | ast.Attribute | ast.UnaryOp | ast.Slice) or isinstance(
            parent, ast.Module
        ):
            break
        node = parent
    return node


def _changes(node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[Callable[[], None]]:
    yield from _changed_operators(node, parents)
    yield from _changed_values(node)
    if isinstance(node, ast.If | ast.IfExp):
        yield lambda: setattr(node, "test", ast.Constant(value=True))
        yield lambda: setattr(node, "test", ast.Constant(value=False))
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield lambda: _replace(parents[-1], node, ast.Pass())


def _changed_operators(node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[Callable[[], None]]:
    match node:
        case ast.Compare(ops=[op]):
            for other in COMPARED[type(op)]:
                yield lambda other=other: setattr(node, "ops", [other()])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in COMPUTED:
            yield lambda: setattr(node, "op", COMPUTED[type(op)]())
        case ast.BoolOp(op=op):
            yield lambda: setattr(node, "op", ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            yield lambda: _replace(parents[-1], node, node.operand)


def _changed_values(node: ast.AST) -> Iterator[Callable[[], None]]:
    match node:
        case ast.Constant(value=bool()):
            yield lambda: setattr(node, "value", not node.value)
        case ast.Constant(value=int() | float()):
            yield lambda: setattr(node, "value", node.value + 1)
        case ast.Constant(value="left" | "right" as side):
            yield lambda: setattr(node, "value", OPPOSITES[side])
        case ast.Attribute(attr=name) if name in OPPOSITES:
            yield lambda: setattr(node, "attr", OPPOSITES[name])
        case ast.Call(func=ast.Name(id=name)) if name in OPPOSITES:
            yield lambda: setattr(node.func, "id", OPPOSITES[name])


def _replace(parent: ast.AST, node: ast.AST, other: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is node:
            setattr(parent, name, other)
        elif isinstance(value, list) and node in value:
            value[value.index(node)] = other
