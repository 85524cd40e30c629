"""Algebraic simplification: a table of rules `pattern -> replacement`, each with the condition under which it holds.

The rules in `EXACT` keep every value for every input, infinities, denormals and signed zeros included; NaN stays NaN
(its sign bit, which means nothing, may differ). That is why `x + 0 -> x` is not among them (-0.0 + 0.0 is 0.0) and
neither is `x * 0 -> 0` (NaN * 0 is NaN). Rules that change values in such corners, or by rounding, stand in
`VALUE_CHANGING` and are used only when asked for.

A rule is a function of the node (whose inputs have been simplified already) that returns its replacement or None. Its
docstring is its name: what the pass explorer shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph import Graph, substitute
from ...op import OPS, Spec, infer
from ...tensor import Tensor, scalar, sequence
from .change import Change

Rewrite = Callable[[Tensor], Tensor | None]
EXACT: list[tuple[tuple[str, ...], Rewrite]] = []
VALUE_CHANGING: list[tuple[tuple[str, ...], Rewrite]] = []


def rule(*names: str, changes_values: bool = False) -> Callable[[Rewrite], Rewrite]:
    """Enter a rewrite into a table, for nodes of the named operations."""

    def enter(rewrite: Rewrite) -> Rewrite:
        (VALUE_CHANGING if changes_values else EXACT).append((names, rewrite))
        return rewrite

    return enter


def made(name: str, *inputs: Tensor, like: Tensor, **attrs: Any) -> Tensor:
    """A new operation in place of `like`, keeping its line, scope and name."""
    t = object.__new__(Tensor)
    t.op, t.inputs, t.attrs = OPS[name], inputs, attrs
    t.value = infer(t.op, inputs, attrs)
    t.requires_grad, t.scope, t.site, t.name = like.requires_grad, like.scope, like.site, like.name
    t.seq, t._grad = sequence(), None
    return t


def number(t: Tensor) -> float | None:
    """The value that all elements of a constant share, if it is a single number."""
    if t.op is not None or t.is_symbolic or t.size != 1:
        return None
    return t.value.item()


def same_type(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def is_op(t: Tensor, name: str) -> bool:
    return t.op is not None and t.op.name == name


def operands(n: Tensor, value: float) -> Tensor | None:
    """For a commutative operation with a constant equal to `value`: the other operand, if it has the result's type."""
    a, b = n.inputs
    for x, c in ((a, b), (b, a)):
        if number(c) == value and same_type(x, n):
            return x
    return None


# ------------------------------------------------------------------------------------------------------ exact rules


@rule("identity", "stop_gradient", "positive")
def remove_identity(n: Tensor) -> Tensor | None:
    """identity(x), stop_gradient(x), +x -> x"""
    return n.inputs[0]


@rule("multiply")
def multiply_by_one(n: Tensor) -> Tensor | None:
    """x * 1 -> x"""
    return operands(n, 1)


@rule("divide")
def divide_by_one(n: Tensor) -> Tensor | None:
    """x / 1 -> x"""
    x, c = n.inputs
    return x if number(c) == 1 and same_type(x, n) else None


@rule("subtract")
def subtract_zero(n: Tensor) -> Tensor | None:
    """x - 0 -> x"""
    x, c = n.inputs
    value = number(c)
    return x if value == 0 and same_type(x, n) and not np.signbit(value) else None


@rule("add")
def add_integer_zero(n: Tensor) -> Tensor | None:
    """x + 0 -> x for integers"""
    return operands(n, 0) if n.dtype.kind in "iu" else None


@rule("multiply")
def multiply_by_minus_one(n: Tensor) -> Tensor | None:
    """x * -1 -> -x"""
    x = operands(n, -1)
    return None if x is None or x.dtype.kind != "f" else made("negative", x, like=n)


@rule("negative")
def double_negative(n: Tensor) -> Tensor | None:
    """-(-x) -> x"""
    x = n.inputs[0]
    return x.inputs[0] if is_op(x, "negative") else None


@rule("add")
def add_negative(n: Tensor) -> Tensor | None:
    """x + (-y) -> x - y"""
    a, b = n.inputs
    return made("subtract", a, b.inputs[0], like=n) if is_op(b, "negative") else None


@rule("subtract")
def subtract_negative(n: Tensor) -> Tensor | None:
    """x - (-y) -> x + y"""
    a, b = n.inputs
    return made("add", a, b.inputs[0], like=n) if is_op(b, "negative") else None


@rule("pow")
def power_one(n: Tensor) -> Tensor | None:
    """x ** 1 -> x"""
    x, c = n.inputs
    return x if number(c) == 1 and same_type(x, n) else None


@rule("abs")
def absolute_twice(n: Tensor) -> Tensor | None:
    """abs(abs(x)), abs(-x) -> abs(x)"""
    x = n.inputs[0]
    if is_op(x, "abs"):
        return x
    return made("abs", x.inputs[0], like=n) if is_op(x, "negative") else None


@rule("maximum", "minimum")
def extreme_of_same(n: Tensor) -> Tensor | None:
    """maximum(x, x), minimum(x, x) -> x"""
    a, b = n.inputs
    return a if a is b else None


@rule("where")
def where_same(n: Tensor) -> Tensor | None:
    """where(c, x, x) -> x"""
    _, a, b = n.inputs
    return a if a is b and same_type(a, n) else None


@rule("logical_not")
def double_not(n: Tensor) -> Tensor | None:
    """not not b -> b for booleans"""
    x = n.inputs[0]
    return x.inputs[0] if is_op(x, "logical_not") and x.inputs[0].dtype.kind == "b" else None


@rule("astype")
def cast_to_same(n: Tensor) -> Tensor | None:
    """astype(x, dtype of x) -> x"""
    return n.inputs[0] if n.inputs[0].dtype == n.dtype else None


@rule("reshape", "broadcast_to", "expand_dims", "squeeze")
def shape_to_same(n: Tensor) -> Tensor | None:
    """reshape, broadcast_to (x, shape of x) -> x"""
    return n.inputs[0] if n.inputs[0].shape == n.shape else None


@rule("reshape")
def reshape_twice(n: Tensor) -> Tensor | None:
    """reshape(reshape(x, s), t) -> reshape(x, t)"""
    x = n.inputs[0]
    return made("reshape", x.inputs[0], like=n, **n.attrs) if is_op(x, "reshape") else None


@rule("permute_dims")
def permute_to_same(n: Tensor) -> Tensor | None:
    """permute_dims(x, (0, 1, ...)) -> x"""
    return n.inputs[0] if tuple(n.attrs["axes"]) == tuple(range(n.ndim)) else None


@rule("permute_dims")
def permute_twice(n: Tensor) -> Tensor | None:
    """permute_dims(permute_dims(x, p), q) -> permute_dims(x, p[q])"""
    x = n.inputs[0]
    if not is_op(x, "permute_dims"):
        return None
    return made("permute_dims", x.inputs[0], like=n, axes=tuple(x.attrs["axes"][i] for i in n.attrs["axes"]))


@rule("matrix_transpose")
def transpose_twice(n: Tensor) -> Tensor | None:
    """matrix_transpose(matrix_transpose(x)) -> x"""
    x = n.inputs[0]
    return x.inputs[0] if is_op(x, "matrix_transpose") else None


@rule("sum", "max", "min", "mean", "prod")
def reduce_nothing(n: Tensor) -> Tensor | None:
    """sum, max, min, mean, prod over no axis -> x"""
    x = n.inputs[0]
    return x if n.attrs.get("axis") == () and same_type(x, n) else None


# -------------------------------------------------------------------------------------------- value-changing rules


@rule("add", changes_values=True)
def add_zero(n: Tensor) -> Tensor | None:
    """x + 0 -> x   (-0.0 stays -0.0, where -0.0 + 0.0 is 0.0)"""
    return operands(n, 0)


@rule("multiply", changes_values=True)
def multiply_by_zero(n: Tensor) -> Tensor | None:
    """x * 0 -> 0   (wrong for NaN and infinities)"""
    a, b = n.inputs
    for c in (a, b):
        if number(c) == 0 and same_type(c, n):
            return c
    return None


@rule("subtract", changes_values=True)
def subtract_itself(n: Tensor) -> Tensor | None:
    """x - x -> 0   (wrong for NaN and infinities)"""
    a, b = n.inputs
    return scalar(0, n.dtype, n.device) if a is b and n.shape == () else None


@rule("divide", changes_values=True)
def divide_by_constant(n: Tensor) -> Tensor | None:
    """x / c -> x * (1/c)   (differs in the last digit)"""
    x, c = n.inputs
    value = number(c)
    if not value or n.dtype.kind != "f" or c.dtype != n.dtype or c.shape != ():
        return None
    return made("multiply", x, scalar(1.0 / value, c.dtype, c.device), like=n)


@rule("log", changes_values=True)
def log_of_exp(n: Tensor) -> Tensor | None:
    """log(exp(x)) -> x   (exp overflows, x does not)"""
    x = n.inputs[0]
    return x.inputs[0] if is_op(x, "exp") else None


@rule("exp", changes_values=True)
def exp_of_log(n: Tensor) -> Tensor | None:
    """exp(log(x)) -> x   (log of a negative number is NaN, x is not)"""
    x = n.inputs[0]
    return x.inputs[0] if is_op(x, "log") else None


# ----------------------------------------------------------------------------------------------------------- the pass


def by_operation(table: Sequence[tuple[tuple[str, ...], Rewrite]]) -> dict[str, list[Rewrite]]:
    found: dict[str, list[Rewrite]] = {}
    for names, rewrite in table:
        for name in names:
            found.setdefault(name, []).append(rewrite)
    return found


def simplify(graph: Graph, *, value_changing: bool = False) -> Graph:
    """Apply the rules of the table until none fits; with `value_changing`, also those that may change values.

    >>> f = mg.compile(lambda x: -(-x) * 1.0, passes=[mg.compiler.simplify])
    >>> _ = f(mg.tensor(1.0))
    >>> for change in f.passes[0].changes:
    ...     print(change.rule)
    -(-x) -> x
    x * 1 -> x
    """
    return rewritten(graph, [*EXACT, *VALUE_CHANGING] if value_changing else EXACT)


def rewritten(graph: Graph, table: Sequence[tuple[tuple[str, ...], Rewrite]]) -> Graph:
    """The graph after the rules of a table have been applied until none fits."""
    rules = by_operation(table)
    changes: list[Change] = []

    def visit(n: Tensor) -> Tensor:
        progress = True
        while progress and n.op is not None:
            progress = False
            for rewrite in rules.get(n.op.name, ()):
                new = rewrite(n)
                if new is None:
                    continue
                if type(new.value) is Spec and (new.shape != n.shape or new.dtype != n.dtype):
                    raise AssertionError(f"rule {rewrite.__doc__!r} changed {n!r} into {new!r}")
                changes.append(Change(str(rewrite.__doc__).split("   ")[0], (n,), (new,)))
                n, progress = new, True
                break
        return n

    result = substitute(graph, visit)
    result.changes = tuple(changes)
    return result
