"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any

from ..errors import DTypeError, ShapeError
from ..op import spec_of
from ..ops.linalg import LINEAR
from ..ops.random import Generator
from ..tensor import Tensor, bind, lift
from . import init
from .module import Module, Parameter, size


class Identity(Module):
    """The input, unchanged: a place holder.

    >>> mg.nn.Identity()(mg.tensor(2.0))
    tensor(2., dtype=float32)
    """

    def forward(self, x: Any) -> Any:
        return x


class Linear(Module):
    """A fully connected layer: y = x Wᵀ + b.

    Weight and bias start uniform within 1 / sqrt(in_features), as in PyTorch (`kaiming_uniform_` with a = sqrt(5)).

    Args:
        in_features, out_features: sizes of the last axis before and after.
        bias: whether to add one.
        dtype, device: of the parameters; float32 on the CPU unless given.
        generator: where the first weights come from; `mg.random.default_generator` unless given.

    Attributes:
        weight: shape (out_features, in_features). bias: shape (out_features,), or None.

    Shape:
        x (..., in_features) -> y (..., out_features).

    Raises:
        ShapeError: the last axis of `x` has another size. DTypeError: `x` is not floating point.

    >>> layer = mg.nn.Linear(3, 2)
    >>> layer(mg.ones((4, 3))).shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.in_features = size("Linear", "in_features", in_features, least=0)
        self.out_features = size("Linear", "out_features", out_features, least=0)
        self.weight = Parameter(init.blank((self.out_features, self.in_features), dtype, device))
        self.bias = Parameter(init.blank(self.out_features, dtype, device)) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw new weights."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5.0), generator=generator)
        if self.bias is not None:
            bound = 1.0 / math.sqrt(max(1, self.in_features))
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Any) -> Tensor:
        if type(x) is not Tensor:
            x = lift(x)
        value = x.value
        if value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                expected="float16, float32 or float64",
                actual=f"x: {spec_of(value)!r}",
                remedy="x.astype(mg.float32); for class numbers, nn.Embedding",
            )
        if not value.ndim or value.shape[-1] != self.in_features:
            raise ShapeError(
                f"{self.where()}: the input has another number of features",
                expected=f"x: (..., {self.in_features})",
                actual=f"x: {spec_of(value)!r}",
                remedy="flatten or transpose x so that its last axis holds the features, or build the layer with "
                f"in_features={value.shape[-1] if value.ndim else 1}",
            )
        bias = self.bias
        if bias is None:
            return bind(LINEAR, x, self.weight.read())
        return bind(LINEAR, x, self.weight.read(), bias.read())

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
