"""What the functions of the catalogue share: axes, broadcasting, result dtypes, plain arguments, and their errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index as to_int
from typing import Any

import numpy as np

from ..errors import ArgumentError, BoundsError, DTypeError, ShapeError
from ..op import Spec


def one_axis(name: str, axis: Any, ndim: int, *, argument: str = "axis") -> int:
    """`axis` as a number from 0 to ndim - 1; the error names the operation and the argument."""
    try:
        k = axis.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(f"{name}: {argument} is an integer", actual=f"{type(axis).__name__} {axis!r}") from None
    if not -ndim <= k < ndim:
        raise BoundsError(
            f"{name}: {argument} {k} does not exist",
            expected=f"-{ndim} to {ndim - 1}, for a tensor with {ndim} axes" if ndim else "no axis: the tensor is 0-d",
            actual=f"{argument}={k}",
        )
    return k % ndim


def integer(name: str, argument: str, value: Any, least: int | None = None) -> int:
    """`value` as a Python integer of at least `least`; the error names the function and the argument."""
    try:
        n = to_int(value)
    except TypeError as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(f"{name}: {argument} is an integer", expected="an integer", actual=shown(value),
                         remedy="use // instead of / where it is computed") from None  # fmt: skip
    if least is not None and n < least:
        raise ArgumentError(f"{name}: {argument}", expected=f"{least} or more", actual=f"{argument}={n}")
    return n


def number(name: str, argument: str, value: Any) -> Any:
    """`value` itself, which must be a real number of Python or NumPy."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise DTypeError(f"{name}: {argument} is a number", expected="a Python number", actual=shown(value))
    return value


def flag(name: str, argument: str, value: Any) -> bool:
    """`value`, which must be true or false."""
    if not isinstance(value, int | np.bool_):
        raise DTypeError(f"{name}: {argument} is true or false", expected="True or False", actual=shown(value))
    return bool(value)


def one_of(name: str, argument: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, which must be one of the words."""
    if not isinstance(value, str) or value not in choices:
        words = [f'"{c}"' for c in choices]
        raise ArgumentError(
            f"{name}: {argument}", expected=f"{', '.join(words[:-1])} or {words[-1]}", actual=shown(value)
        )
    return value


def several(name: str, argument: str, value: Any, expected: str) -> tuple[Any, ...]:
    """The elements of `value`, which must be a sequence."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise DTypeError(f"{name}: {argument}", expected=expected, actual=shown(value))
    return tuple(value)


def shown(value: Any) -> str:
    """The type of an argument and its value, short enough for a message."""
    text = repr(value)
    return f"{type(value).__name__} " + (text if len(text) <= 60 else text[:57] + "...").replace("\n", " ")


def axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` (None: all, an integer, or several) as a tuple of distinct numbers from 0 to ndim - 1."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, Sequence):
        found = tuple(one_axis(name, a, ndim) for a in axis)
        if len(set(found)) != len(found):
            raise ShapeError(f"{name}: an axis is named twice", expected="distinct axes", actual=f"axis={tuple(axis)}")
        return found
    return (one_axis(name, axis, ndim),)


def reduced_shape(shape: Sequence[int], axis: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape after reducing over `axis` (as returned by `axes`)."""
    if keepdims:
        return tuple(1 if i in axis else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axis)


def broadcast(name: str, names: Sequence[str], specs: Sequence[Spec]) -> tuple[int, ...]:
    """The common shape of `specs` by NumPy's rule, or an error that names the two arguments and the axis that clash."""
    result: list[int] = []
    for s in specs:
        if len(s.shape) > len(result):
            result = [1] * (len(s.shape) - len(result)) + result
        for i in range(1, len(s.shape) + 1):
            if result[-i] == 1:
                result[-i] = s.shape[-i]
            elif s.shape[-i] not in (1, result[-i]):
                raise ShapeError(
                    f"{name}: shapes cannot be broadcast together",
                    expected=f"equal sizes, or 1, on each axis counted from the right (they differ on axis -{i})",
                    actual=", ".join(f"{n}: {s!r}" for n, s in zip(names, specs, strict=True)),
                    remedy="insert an axis with mg.expand_dims or x[:, None], or reshape one operand",
                )
    return tuple(result)


def need_float(name: str, argument: str, spec: Spec) -> None:
    """Raise unless `spec` is floating point."""
    if spec.dtype.kind != "f":
        raise DTypeError(f"{name}: {argument} must be floating point", expected="float16, float32 or float64",
                         actual=f"{argument}: {spec!r}", remedy=f"{argument}.astype(mg.float32)")  # fmt: skip


def need_integer(name: str, argument: str, spec: Spec) -> None:
    """Raise unless `spec` is an integer tensor."""
    if spec.dtype.kind not in "iu":
        raise DTypeError(f"{name}: {argument} must be integers", expected="an integer dtype",
                         actual=f"{argument}: {spec!r}", remedy=f"{argument}.astype(mg.int64)")  # fmt: skip


def ufunc_dtype(name: str, ufunc: np.ufunc, specs: Sequence[Spec]) -> np.dtype:
    """The dtype NumPy's ufunc gives for these operands, or an error that names them."""
    try:
        return ufunc.resolve_dtypes((*[s.dtype for s in specs], *[None] * ufunc.nout))[-1]
    except TypeError:
        raise DTypeError(f"{name}: not defined for these dtypes", actual=", ".join(map(repr, specs)),
                         remedy="convert with .astype(mg.float32)") from None  # fmt: skip
