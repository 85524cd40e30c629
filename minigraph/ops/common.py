"""What the `infer` functions of the catalogue share: axes, broadcasting, result dtypes, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import BoundsError, DTypeError, ShapeError
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
