"""The operators and methods of tensors and variables: which public function each one is.

`Methods` is the whole list; its members are attached to `Operators`, the common base of `Tensor` and `Variable`, which
cannot name them itself because operations are defined in terms of tensors. A method does what the function of the same
name does, with the tensor as its first argument; an operator does what its entry says. Two tensors go straight to
`bind`, since that is what programs do all day; everything else is lifted first (numbers are weak, arrays are copied).
Types that nobody here knows get NotImplemented, so that Python asks the other operand.

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
    """Whether `x` can be lifted where an operator stands: tensors, variables, arrays of every backend in use."""
    return isinstance(x, Operand | np.ndarray | np.generic) or any(
        isinstance(x, b.array_types) for b in backend.backends.values()
    )


def binary(name: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """An operator and its reflected form: `(x + y, y + x)` for the operation "add"."""
    op = OPS[name]

    def operator(self: Any, other: Any) -> Any:
        if type(other) is Tensor and type(self) is Tensor:
            return bind(op, self, other)
        if type(other) in NUMBERS:
            self = lift(self)
            return bind(op, self, lift(other, self))
        if is_operand(other):
            return bind(op, *lift_all(self, other))
        return NotImplemented

    def reflected(self: Any, other: Any) -> Any:
        if type(other) in NUMBERS:
            self = lift(self)
            return bind(op, lift(other, self), self)
        if is_operand(other):
            return bind(op, *lift_all(other, self))
        return NotImplemented

    return operator, reflected


def unary(name: str) -> Callable[..., Tensor]:
    """An operator with one operand."""
    op = OPS[name]
    return lambda self: bind(op, lift(self))


class Methods(Operand):
    """What a tensor can do, beside what `Operators` defines itself."""

    # ------------------------------------------------------------------------------------------------------ operators
    __add__, __radd__ = binary("add")
    __sub__, __rsub__ = binary("subtract")
    __mul__, __rmul__ = binary("multiply")
    __truediv__, __rtruediv__ = binary("divide")
    __floordiv__, __rfloordiv__ = binary("floor_divide")
    __mod__, __rmod__ = binary("remainder")
    __pow__, __rpow__ = binary("pow")
    __matmul__, __rmatmul__ = binary("matmul")
    __and__, __rand__ = binary("bitwise_and")
    __or__, __ror__ = binary("bitwise_or")
    __xor__, __rxor__ = binary("bitwise_xor")
    __lshift__, __rlshift__ = binary("bitwise_left_shift")
    __rshift__, __rrshift__ = binary("bitwise_right_shift")
    __eq__, __ne__ = binary("equal")[0], binary("not_equal")[0]  # type: ignore[assignment]
    __lt__, __le__ = binary("less")[0], binary("less_equal")[0]
    __gt__, __ge__ = binary("greater")[0], binary("greater_equal")[0]
    __neg__, __pos__, __abs__, __invert__ = unary("negative"), unary("positive"), unary("abs"), unary("bitwise_invert")
    __getitem__ = index.getitem

    # ---------------------------------------------------------------------------------------------------- elementwise
    abs, exp, log, sqrt, square = (
        elementwise.abs,
        elementwise.exp,
        elementwise.log,
        elementwise.sqrt,
        elementwise.square,
    )
    sin, cos, tanh, sign = elementwise.sin, elementwise.cos, elementwise.tanh, elementwise.sign
    floor, ceil, round, clip = elementwise.floor, elementwise.ceil, elementwise.round, elementwise.clip
    pow, astype = elementwise.pow, elementwise.astype

    # ----------------------------------------------------------------------------------------------------- reductions
    sum, mean, prod, var, std = reduction.sum, reduction.mean, reduction.prod, reduction.var, reduction.std
    max, min, argmax, argmin = reduction.max, reduction.min, reduction.argmax, reduction.argmin
    all, any = reduction.all, reduction.any
    softmax, log_softmax, logsumexp = special.softmax, special.log_softmax, special.logsumexp

    # ---------------------------------------------------------------------------------------------- shapes and indices
    broadcast_to, expand_dims, flatten, flip = shape.broadcast_to, shape.expand_dims, shape.flatten, shape.flip
    moveaxis, repeat, roll, split = shape.moveaxis, shape.repeat, shape.roll, shape.split
    squeeze, swapaxes, tile = shape.squeeze, shape.swapaxes, shape.tile
    argsort, sort, topk = index.argsort, index.sort, index.topk
    take, take_along_axis = index.take, index.take_along_axis
    matmul, diagonal, trace = linalg.matmul, linalg.diagonal, linalg.trace
    to_device = creation.to_device

    def reshape(self, *sizes: Any) -> Tensor:
        """`x.reshape(2, 3)` or `x.reshape((2, 3))`; one size may be -1."""
        return shape.reshape(self, sizes[0] if len(sizes) == 1 else sizes)

    def permute_dims(self, *axes: Any) -> Tensor:
        """`x.permute_dims(1, 0)` or `x.permute_dims((1, 0))`."""
        return shape.permute_dims(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)

    @property
    def T(self) -> Tensor:  # noqa: N802 - its name everywhere
        """The transpose of a matrix. For more axes: `.mT`, or `permute_dims`.

        Raises:
            ShapeError: not a matrix.
        """
        x = lift(self)
        if x.ndim != 2:
            raise ShapeError("x.T is for matrices", expected="two axes", actual=f"shape {x.shape}",
                             remedy="x.mT exchanges the last two axes; x.permute_dims(...) any")  # fmt: skip
        return bind(shape.MATRIX_TRANSPOSE, x)

    @property
    def mT(self) -> Tensor:  # noqa: N802 - the standard's name
        """The last two axes exchanged: `mg.matrix_transpose(x)`."""
        return shape.matrix_transpose(self)

    @property
    def at(self) -> index.At:
        """`x.at[key].set(v)`, `.add(v)`, `.multiply(v)`: a new tensor with some elements changed."""
        return index.At(self)

    def to(self, target: Any) -> Tensor:
        """`x.to("cuda")` moves to a device, `x.to(mg.float64)` converts to a dtype, `x.to(y)` does both, as in `y`."""
        if isinstance(target, Operators):
            return elementwise.astype(creation.to_device(self, target.device), target.dtype)
        if isinstance(target, backend.Device) or (isinstance(target, str) and target.partition(":")[0] in DEVICES):
            return creation.to_device(self, target)
        return elementwise.astype(self, target)

    def tolist(self) -> Any:
        """The values as (nested lists of) Python numbers."""
        return lift(self).numpy().tolist()


for _name, _member in vars(Methods).items():
    if callable(_member) or isinstance(_member, property):
        setattr(Operators, _name, _member)
