"""Dropout."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, DTypeError
from ..op import spec_of
from ..ops.random import Generator
from ..tensor import Tensor, lift
from . import functional as F  # noqa: N812 - its usual name
from .module import Module


class Dropout(Module):
    """In training, each element is 0 with probability `p` and divided by 1 - p otherwise; in evaluation, nothing.

    The random numbers come from a generator whose state is a variable, so that a compiled function draws new ones at
    every call, and a checkpoint of the state repeats them.

    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Args:
        p: probability of a zero, 0 <= p <= 1.
        generator: `mg.random.default_generator` unless given.

    Shape:
        any -> the same.

    Raises:
        ArgumentError: `p` is not a probability. DTypeError: the input is not floating point.

    >>> layer = mg.nn.Dropout(0.5, generator=mg.random.Generator(0))
    >>> sorted(set(layer(mg.ones(100)).tolist()))
    [0.0, 2.0]
    >>> layer.eval()(mg.ones(2))
    tensor([1., 1.], dtype=float32)
    """

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None):
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError("Dropout: p is a probability", expected="0 <= p <= 1", actual=f"{p}")
        self.p, self.generator = p, generator

    def forward(self, x: Any) -> Tensor:
        x = lift(x)
        if x.value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.float32)",
            )
        return F.dropout(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"
