"""The operators and methods of tensors and variables: which public function each one is.

This is the whole list. A method does what the function of the same name does, with the tensor as its first argument; an
operator does what its entry says. Two tensors go straight to `bind`, since that is what programs do all day; everything
else is lifted first (numbers are weak, arrays are copied). Types that nobody here knows get NotImplemented, so that
Python asks the other operand.

Python writes `x += y` as `x = x + y` for immutable objects, which is what tensors want. `x[i] = v` raises and points to
`x.at[i].set(v)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..errors import ShapeError
from ..op import OPS, Operand
from ..tensor import Operators, Tensor, bind, lift, lift_all
from . import creation, elementwise, index, linalg, reduction, shape, special

NUMBERS = (float, int, bool)
DEVICES = ("cpu", "cuda", "strict")


def is_operand(x: Any) -> bool:
    """Whether `x` can be lifted where an operator stands: tensors, variables, and the arrays of every backend in use."""
    return isinstance(x, Operand | np.ndarray | np.generic) or any(
        isinstance(x, b.array_types) for b in backend.backends.values()
    )


def binary(name: str) -> tuple[Callable, Callable]:
    """An operator and its reflected form: `(x + y, y + x)` for the operation "add"."""
    op = OPS[name]

    def operator(self: Any, other: Any) -> Tensor:
        if type(other) is Tensor and type(self) is Tensor:
            return bind(op, self, other)
        if type(other) in NUMBERS:
            self = lift(self)
            return bind(op, self, lift(other, self))
        if is_operand(other):
            return bind(op, *lift_all(self, other))
        return NotImplemented

    def reflected(self: Any, other: Any) -> Tensor:
        if type(other) in NUMBERS:
            self = lift(self)
            return bind(op, lift(other, self), self)
        if is_operand(other):
            return bind(op, *lift_all(other, self))
        return NotImplemented

    return operator, reflected


def unary(name: str) -> Callable:
    """An operator with one operand."""
    op = OPS[name]

    def operator(self: Any) -> Tensor:
        return bind(op, lift(self))

    return operator


# ---------------------------------------------------------------------------------------------------------- operators

Operators.__add__, Operators.__radd__ = binary("add")  # type: ignore[attr-defined]
Operators.__sub__, Operators.__rsub__ = binary("subtract")  # type: ignore[attr-defined]
Operators.__mul__, Operators.__rmul__ = binary("multiply")  # type: ignore[attr-defined]
Operators.__truediv__, Operators.__rtruediv__ = binary("divide")  # type: ignore[attr-defined]
Operators.__floordiv__, Operators.__rfloordiv__ = binary("floor_divide")  # type: ignore[attr-defined]
Operators.__mod__, Operators.__rmod__ = binary("remainder")  # type: ignore[attr-defined]
Operators.__pow__, Operators.__rpow__ = binary("pow")  # type: ignore[attr-defined]
Operators.__matmul__, Operators.__rmatmul__ = binary("matmul")  # type: ignore[attr-defined]
Operators.__and__, Operators.__rand__ = binary("bitwise_and")  # type: ignore[attr-defined]
Operators.__or__, Operators.__ror__ = binary("bitwise_or")  # type: ignore[attr-defined]
Operators.__xor__, Operators.__rxor__ = binary("bitwise_xor")  # type: ignore[attr-defined]
Operators.__eq__ = binary("equal")[0]  # type: ignore[assignment,method-assign]
Operators.__ne__ = binary("not_equal")[0]  # type: ignore[assignment,method-assign]
Operators.__lt__ = binary("less")[0]  # type: ignore[attr-defined]
Operators.__le__ = binary("less_equal")[0]  # type: ignore[attr-defined]
Operators.__gt__ = binary("greater")[0]  # type: ignore[attr-defined]
Operators.__ge__ = binary("greater_equal")[0]  # type: ignore[attr-defined]
Operators.__neg__ = unary("negative")  # type: ignore[attr-defined]
Operators.__pos__ = unary("positive")  # type: ignore[attr-defined]
Operators.__abs__ = unary("abs")  # type: ignore[attr-defined]
Operators.__invert__ = unary("bitwise_invert")  # type: ignore[attr-defined]
Operators.__getitem__ = index.getitem  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------- functions that are methods

for _function in (
    # elementwise
    elementwise.abs, elementwise.exp, elementwise.log, elementwise.sqrt, elementwise.square, elementwise.sin,
    elementwise.cos, elementwise.tanh, elementwise.sign, elementwise.floor, elementwise.ceil, elementwise.round,
    elementwise.clip, elementwise.pow, elementwise.astype,
    # reductions
    reduction.sum, reduction.mean, reduction.prod, reduction.var, reduction.std, reduction.max, reduction.min,
    reduction.argmax, reduction.argmin, reduction.all, reduction.any,
    # shapes
    shape.broadcast_to, shape.expand_dims, shape.flatten, shape.flip, shape.moveaxis, shape.repeat, shape.roll,
    shape.split, shape.squeeze, shape.swapaxes, shape.tile,
    # indexing
    index.argsort, index.sort, index.take, index.take_along_axis, index.topk,
    # products
    linalg.diagonal, linalg.matmul, linalg.trace,
    special.softmax, special.log_softmax, special.logsumexp,
    creation.to_device,
):  # fmt: skip
    setattr(Operators, _function.__name__, _function)


# ------------------------------------------------------------------------------------------------ methods of their own


def _reshape(self: Any, *shape_: Any) -> Tensor:
    """`x.reshape(2, 3)` or `x.reshape((2, 3))`; one size may be -1."""
    return shape.reshape(self, shape_[0] if len(shape_) == 1 else shape_)


def _permute_dims(self: Any, *axes: Any) -> Tensor:
    """`x.permute_dims(1, 0)` or `x.permute_dims((1, 0))`."""
    return shape.permute_dims(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


def _transposed(self: Any) -> Tensor:
    """The transpose of a matrix. For more axes: `.mT`, or `permute_dims`."""
    x = lift(self)
    if x.ndim != 2:
        raise ShapeError("x.T is for matrices", expected="two axes", actual=f"shape {x.shape}",
                         remedy="x.mT exchanges the last two axes; x.permute_dims(...) any")  # fmt: skip
    return bind(shape.MATRIX_TRANSPOSE, x)


def _to(self: Any, target: Any) -> Tensor:
    """`x.to("cuda")` moves to a device, `x.to(mg.float64)` converts to a dtype, `x.to(y)` does both, as in `y`."""
    if isinstance(target, Operand):
        return _to(_to(self, target.device), target.dtype)  # type: ignore[attr-defined]
    if isinstance(target, backend.Device) or (isinstance(target, str) and target.partition(":")[0] in DEVICES):
        return creation.to_device(self, target)
    return elementwise.astype(self, target)


def _tolist(self: Any) -> Any:
    """The values as (nested lists of) Python numbers."""
    return self.numpy().tolist()


Operators.reshape = _reshape  # type: ignore[attr-defined]
Operators.permute_dims = _permute_dims  # type: ignore[attr-defined]
Operators.T = property(_transposed)  # type: ignore[attr-defined]
Operators.mT = property(shape.matrix_transpose)  # type: ignore[attr-defined]
Operators.to = _to  # type: ignore[attr-defined]
Operators.tolist = _tolist  # type: ignore[attr-defined]
Operators.at = property(index.At)  # type: ignore[attr-defined]
