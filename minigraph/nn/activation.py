"""Activations as layers, for use in `Sequential`. Each is the function of the same name; shapes do not change."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..ops import elu, gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0).

    >>> mg.nn.ReLU()(mg.tensor([-1.0, 2.0]))
    tensor([0., 2.], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return relu(x)


class LeakyReLU(Module):
    """x where it is positive, negative_slope * x elsewhere.

    >>> mg.nn.LeakyReLU(0.1)(mg.tensor([-1.0, 2.0]))
    tensor([-0.1, 2. ], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where it is positive, alpha (exp(x) - 1) elsewhere (D.-A. Clevert et al., 2016).

    >>> mg.nn.ELU()(mg.tensor([-1000.0, 2.0]))
    tensor([-1., 2.], dtype=float32)
    """

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        return elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """x times the probability that a standard normal variable is below x (D. Hendrycks and K. Gimpel, 2016).

    Args:
        approximate: "none" for the exact form, "tanh" for the approximation.

    Raises:
        ArgumentError: `approximate` is neither.

    >>> mg.nn.GELU()(mg.tensor([0.0, 2.0]))
    tensor([0. , 1.9545], dtype=float32)
    """

    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ArgumentError("GELU: approximate", expected='"none" or "tanh"', actual=f"{approximate!r}")
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x), also known as swish.

    >>> mg.nn.SiLU()(mg.tensor([0.0, 100.0]))
    tensor([ 0., 100.], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return silu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)).

    >>> mg.nn.Sigmoid()(mg.tensor([0.0, 1000.0]))
    tensor([0.5, 1. ], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent.

    >>> mg.nn.Tanh()(mg.tensor([0.0, 1000.0]))
    tensor([0., 1.], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return tanh(x)


class Softplus(Module):
    """log(1 + exp(x)), a smooth ReLU.

    >>> mg.nn.Softplus()(mg.tensor([0.0, 1000.0]))
    tensor([6.93...e-01, 1.00...e+03], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return softplus(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `axis`. For training, give the logits to `CrossEntropyLoss` instead.

    >>> mg.nn.Softmax()(mg.tensor([[1000.0, 1000.0]]))
    tensor([[0.5, 0.5]], dtype=float32)
    """

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSoftmax(Module):
    """log(softmax(x)) along `axis`, what `NLLLoss` wants.

    >>> mg.nn.LogSoftmax()(mg.tensor([[0.0, -1000.0]]))
    tensor([[ 0., -1000.]], dtype=float32)
    """

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return log_softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
