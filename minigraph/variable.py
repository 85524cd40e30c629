"""Variables: the only things that change.

Tensors are immutable; a program that learns must nevertheless change something. It changes variables: named cells that
hold a tensor. Parameters are variables, and so are optimiser moments, batch-norm statistics and the state of a random
generator. Graphs read and assign variables and nothing else mutates, so "what does this compiled function change?" has
an answer that can be printed.

Reading a variable gives its current tensor, a leaf of the graph (operation `READ`). That tensor keeps its value
whatever is assigned later. The optimisers update all parameters in one flat array in place all the same: they ask first
whether anybody still holds one of the old tensors, and copy if so (`optim/flat.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import backend
from .errors import DeviceError, DTypeError, ShapeError, TraceError
from .interrupt import held
from .op import Op, Spec, mode
from .tensor import Operators, Tensor, lift, sequence, tensor


def _no_run(xp: Any) -> Any:
    raise TypeError("a leaf is not computed")


INPUT = Op("input", _no_run)
READ = Op("read", _no_run)


def leaf(op: Op, value: Any, attrs: dict[str, Any], requires_grad: bool = False, name: str | None = None) -> Tensor:
    """A node without inputs: an input of a graph or the reading of a variable."""
    t = Tensor(value, requires_grad=requires_grad, name=name)
    t.op, t.attrs, t.seq = op, attrs, sequence()
    return t


class Variable(Operators):
    """A named cell that holds a tensor and can be assigned. Usable wherever a tensor is.

    Args:
        data: the first value: anything `mg.tensor` takes.
        dtype, device: as for `mg.tensor`. Shape, dtype and device never change afterwards (`.to` moves it).
        requires_grad: collect gradients in `.grad`.
        name: a name for drawings, error messages and `print(graph)`.

    Raises:
        DTypeError, ShapeError: as for `mg.tensor`; gradients asked for integers.

    >>> counter = mg.Variable(0, name="counter")
    >>> before = counter.read()
    >>> counter.assign(counter + 1)
    >>> counter, before
    (Variable(1, dtype=int64, name='counter'), tensor(0, dtype=int64, name='counter'))
    """

    def __init__(
        self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, name: str | None = None
    ):
        self.name = name
        self._requires_grad = requires_grad
        self._grad: Any = None
        self.gradient = Gradient(self)
        start = tensor(data, dtype=dtype, device=device)
        self._tensor = leaf(READ, start.value, {"variable": self}, requires_grad, name)

    def read(self) -> Tensor:
        """The current value as a tensor, which keeps that value for ever."""
        now = mode.get()
        if now is not None and now.recorder is not None and now.recorder.virtual:
            return now.recorder.read(self)
        return self._tensor

    @property
    def value(self) -> Any:
        """The array (under tracing: the `Spec`) of the current tensor."""
        return self.read().value

    def assign(self, value: Any) -> None:
        """Replace the value. Tensors read earlier keep theirs.

        Raises:
            ShapeError, DTypeError, DeviceError: the value does not have the variable's shape, dtype and device.
        """
        t = lift(value, self)
        self.check(t)
        now = mode.get()
        if now is not None and now.recorder is not None:
            now.recorder.assign(self, t)
            if now.recorder.virtual:
                return
        self.store(t.value)

    def check(self, t: Any) -> None:
        """Raise unless `t` has this variable's shape, dtype and device."""
        mine, name = self._tensor, self.name or "variable"
        if t.shape != mine.shape:
            raise ShapeError(
                f"{name}.assign: shapes differ",
                expected=f"shape {mine.shape}",
                actual=f"shape {t.shape}",
                remedy="a variable never changes its shape; make a new one, or reshape the value",
            )
        if t.dtype != mine.dtype:
            raise DTypeError(f"{name}.assign: dtypes differ", expected=str(mine.dtype), actual=str(t.dtype),
                             remedy=f'convert the value: value.astype("{mine.dtype}")')  # fmt: skip
        if t.device != mine.device:
            raise DeviceError(f"{name}.assign: devices differ", expected=str(mine.device), actual=str(t.device),
                              remedy=f'move the value: value.to("{mine.device}")')  # fmt: skip

    def store(self, array: Any) -> None:
        """Put an array of the right shape and dtype into the cell (what compiled graphs and optimisers call)."""
        self._tensor = leaf(READ, array, {"variable": self}, self._requires_grad, self.name)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are collected; may be set, to freeze a parameter."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        now = mode.get()
        if flag != self._requires_grad and now is not None and now.recorder is not None and now.recorder.virtual:
            raise TraceError(
                f"{self.name or 'variable'}.requires_grad is set inside a compiled or checkpointed function",
                remedy="set it outside, or use mg.stop_gradient(variable) where no gradient is to flow",
            )
        self._tensor = leaf(READ, self._tensor.value, {"variable": self}, flag, self.name)
        self._requires_grad = flag

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward()`; None before the first and after `grad = None`."""
        now = mode.get()
        if now is not None and now.recorder is not None and now.recorder.virtual:
            return now.recorder.read(self.gradient)
        g = self._grad
        return g if g is None or type(g) is Tensor else Tensor(g)

    @grad.setter
    def grad(self, g: Tensor | None) -> None:
        if g is not None:
            g = lift(g, self)
            self.check(g)
        now = mode.get()
        if now is not None and now.recorder is not None and now.recorder.virtual:
            now.recorder.assign(self.gradient, g)
        else:
            self._grad = g

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """`self.read().backward()`."""
        self.read().backward(*args, **kwargs)

    def detach(self) -> Tensor:
        """The current value, cut from the graph."""
        return self.read().detach()

    def move(self, device: Any) -> None:
        """Move the cell (and its gradient) to another device, in place."""
        move_all([self], device)

    def __deepcopy__(self, memo: Any) -> Variable:
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.name, copy._requires_grad, copy._grad, copy.gradient = self.name, self._requires_grad, None, Gradient(copy)
        copy._tensor = leaf(READ, self._tensor.value, {"variable": copy}, self._requires_grad, self.name)
        return copy

    def __repr__(self) -> str:
        from .printing import variable_repr

        return variable_repr(self)


def move_all(variables: Sequence[Variable], device: Any) -> None:
    """Move variables and their gradients to a device: all of them, or, if anything fails or is interrupted, none."""
    device = backend.device(device)
    moved = []
    for v in variables:
        g = v._grad.value if type(v._grad) is Tensor else v._grad
        there = None if g is None else backend.transfer(g, device)
        moved.append((v, backend.transfer(v._tensor.value, device), there))
    with held():
        for v, value, gradient in moved:
            v.store(value)
            v._grad = gradient


class Gradient:
    """The cell beside a variable that holds its gradient, or None: the second thing that `backward()` changes."""

    __slots__ = ("variable",)

    def __init__(self, variable: Variable):
        self.variable = variable

    @property
    def name(self) -> str:
        return f"{self.variable.name or 'variable'}.grad"

    @property
    def _tensor(self) -> Tensor | None:
        g = self.variable._grad
        return g if g is None or type(g) is Tensor else Tensor(g)

    def read(self) -> Tensor | None:
        """The gradient as `variable.grad` gives it."""
        return self.variable.grad

    def assign(self, g: Tensor | None) -> None:
        """`variable.grad = g`."""
        self.variable.grad = g

    def store(self, array: Any) -> None:
        self.variable._grad = array

    def __repr__(self) -> str:
        return self.name


def spec(variable: Variable) -> Spec:
    """Shape, dtype and device of a variable."""
    return Spec(variable._tensor.shape, np.dtype(variable._tensor.dtype), variable._tensor.device)
