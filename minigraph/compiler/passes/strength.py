"""Strength reduction: an operation becomes a cheaper one that gives the same bits.

The condition of each rule makes it hold for every value: NaN, infinities, signed zeros and denormals included. The
same bits means those of dynamic mode: the `pow` of a C library need not round as a multiplication does.

    x ** 2             -> x * x             integers and floats
    x ** 3, x ** 4     -> x * (x * x), (x * x) * (x * x)    floats: the products that dynamic mode computes, too
    x ** -1            -> 1 / x             floats
    x ** 0.5           -> sqrt(x)           floats that are known to be no negative number and not -0.0, whose powers
                                            are +inf at -inf and +0.0 at -0.0, where sqrt gives NaN and -0.0
    x / c              -> x * (1 / c)       c a power of two, whose reciprocal is exact
    x % c              -> x & (c - 1)       integers of any sign, c a power of two: the remainder has the sign of c
    x // c             -> x >> log2(c)      the same: both round down

What is not here, and why: `x * 2 -> x + x` and `x * 8 -> x << 3` gain nothing on machines that multiply in every cycle;
`x / 3 -> x * (1 / 3)` rounds twice, and `exp(log(x)) -> x` forgets that logarithms of negative numbers are NaN: those
two change values (`algebra`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Graph
from ...tensor import Tensor, scalar
from .algebra import Rewrite, is_op, made, number, rewritten, same_type

RULES: list[tuple[tuple[str, ...], Rewrite]] = []
LARGEST_EXPONENT = 100  # exponents of two up to which both a number and its reciprocal are normal, in any float type


def cheaper(name: str) -> Callable[[Rewrite], Rewrite]:
    """Enter a rewrite into the table, for nodes of the named operation."""

    def enter(rewrite: Rewrite) -> Rewrite:
        RULES.append(((name,), rewrite))
        return rewrite

    return enter


def operand_of(n: Tensor, kinds: str) -> float | None:
    """The second operand of a node, if it is a 0-d constant and the first has the result's type, one of these kinds of
    at least 32 bits."""
    x, c = n.inputs
    large = n.dtype.kind != "f" or n.dtype.itemsize >= 4
    return (
        number(c)
        if n.dtype.kind in kinds and large and same_type(x, n) and (c.shape, c.dtype) == ((), n.dtype)
        else None
    )


def power_of_two(value: Any) -> int | None:
    """k for a positive integer 2**k, k > 0."""
    if not isinstance(value, int) or value < 2 or value & (value - 1):
        return None
    return value.bit_length() - 1


def never_negative(x: Tensor) -> bool:
    """Whether no element can be below 0, or -0.0. It may be NaN."""
    if is_op(x, "multiply"):
        return x.inputs[0] is x.inputs[1]
    if is_op(x, "add"):
        return all(map(never_negative, x.inputs))
    value = number(x)
    if value is not None:
        return value >= 0 and not np.signbit(value)
    return any(is_op(x, name) for name in ("abs", "exp", "square", "sigmoid"))


@cheaper("pow")
def square_by_product(n: Tensor) -> Tensor | None:
    """x ** 2 -> x * x"""
    x = n.inputs[0]
    return made("multiply", x, x, like=n) if operand_of(n, "fiu") == 2 else None


@cheaper("pow")
def cube_by_products(n: Tensor) -> Tensor | None:
    """x ** 3 -> x * (x * x)"""
    x = n.inputs[0]
    return made("multiply", x, made("multiply", x, x, like=n), like=n) if operand_of(n, "f") == 3 else None


@cheaper("pow")
def fourth_power_by_products(n: Tensor) -> Tensor | None:
    """x ** 4 -> (x * x) * (x * x)"""
    x = n.inputs[0]
    if operand_of(n, "f") != 4:
        return None
    square = made("multiply", x, x, like=n)
    return made("multiply", square, square, like=n)


@cheaper("pow")
def inverse_by_division(n: Tensor) -> Tensor | None:
    """x ** -1 -> 1 / x"""
    x, c = n.inputs
    if operand_of(n, "f") != -1:
        return None
    return made("divide", scalar(1.0, c.dtype, c.device), x, like=n)


@cheaper("pow")
def root_by_sqrt(n: Tensor) -> Tensor | None:
    """x ** 0.5 -> sqrt(x) for x that is never negative"""
    x = n.inputs[0]
    return made("sqrt", x, like=n) if operand_of(n, "f") == 0.5 and never_negative(x) else None


@cheaper("divide")
def divide_by_power_of_two(n: Tensor) -> Tensor | None:
    """x / c -> x * (1/c) for a power of two, whose reciprocal is exact"""
    x, c = n.inputs
    value = number(c)
    if value is None or n.dtype.kind != "f" or n.dtype.itemsize < 4 or c.shape != () or c.dtype != n.dtype:
        return None
    mantissa, exponent = np.frexp(value)
    if abs(mantissa) != 0.5 or abs(exponent) > LARGEST_EXPONENT:
        return None
    return made("multiply", x, scalar(1.0 / value, c.dtype, c.device), like=n)


@cheaper("remainder")
def remainder_by_mask(n: Tensor) -> Tensor | None:
    """x % c -> x & (c - 1) for integers and a power of two"""
    x, c = n.inputs
    value = operand_of(n, "iu")
    if value is None or power_of_two(value) is None:
        return None
    return made("bitwise_and", x, scalar(value - 1, c.dtype, c.device), like=n)


@cheaper("floor_divide")
def floor_divide_by_shift(n: Tensor) -> Tensor | None:
    """x // c -> x >> log2(c) for integers and a power of two"""
    x, c = n.inputs
    k = power_of_two(operand_of(n, "iu"))
    return None if k is None else made("bitwise_right_shift", x, scalar(k, c.dtype, c.device), like=n)


def reduce_strength(graph: Graph) -> Graph:
    """Replace operations by cheaper ones with the same bits.

    >>> f = mg.compile(lambda x: (x / 4.0) ** 2, passes=[mg.compiler.reduce_strength])
    >>> f(mg.tensor(6.0))
    tensor(2.25, dtype=float32)
    >>> for change in f.passes[0].changes:
    ...     print(change.rule)
    x / c -> x * (1/c) for a power of two, whose reciprocal is exact
    x ** 2 -> x * x
    """
    return rewritten(graph, RULES)
