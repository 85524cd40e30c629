"""How weights start: PyTorch's initialisers, which assign a variable and return it.

A layer should neither blow up nor fade out what flows through it, forwards and backwards, so the spread of its first
weights follows from its *fans*: how many numbers are added up to make one result (`fan_in`), and to how many results
one number goes (`fan_out`). Random numbers come from `mg.random.default_generator` unless a generator is given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops.creation import eye, full, zeros
from ..ops.random import Generator, default_generator
from ..tensor import Tensor
from ..variable import Variable

__all__ = [
    "calculate_gain", "constant_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "orthogonal_",
    "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip

GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that makes up for what a nonlinearity takes from the spread of its inputs.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope, for "leaky_relu" (0.01 unless given).

    Raises:
        ArgumentError: the nonlinearity is not one of these.

    >>> mg.nn.init.calculate_gain("relu")
    1.4142...
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        raise ArgumentError(
            "calculate_gain: nonlinearity", expected=", ".join([*GAINS, "leaky_relu"]), actual=f"{nonlinearity!r}"
        )
    return GAINS[nonlinearity]


def fans(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (out, in, *kernel)."""
    if len(shape) < 2:
        raise ShapeError(
            f"{name}: a weight has fans",
            expected="at least 2 axes: (out, in, ...)",
            actual=f"shape {shape}",
            remedy="start a bias with zeros_ or uniform_",
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _assigned(variable: Variable, value: Tensor) -> Variable:
    variable.assign(value)
    return variable


def _uniform(variable: Variable, low: float, high: float, generator: Generator | None) -> Variable:
    if low == high:
        return constant_(variable, low)
    draw = (generator or default_generator).uniform
    return _assigned(variable, draw(variable.shape, low, high, dtype=variable.dtype, device=variable.device))


def _normal(variable: Variable, mean: float, std: float, generator: Generator | None) -> Variable:
    draw = (generator or default_generator).normal
    return _assigned(variable, draw(variable.shape, mean, std, dtype=variable.dtype, device=variable.device))


def constant_(variable: Variable, value: float) -> Variable:
    """Every element is `value`.

    >>> mg.nn.init.constant_(mg.nn.Parameter([1.0, 2.0]), 0.5)
    Parameter([0.5, 0.5], dtype=float32)
    """
    return _assigned(variable, full(variable.shape, value, dtype=variable.dtype, device=variable.device))


def zeros_(variable: Variable) -> Variable:
    """Every element is 0.

    >>> mg.nn.init.zeros_(mg.nn.Parameter([1.0, 2.0]))
    Parameter([0., 0.], dtype=float32)
    """
    return constant_(variable, 0.0)


def ones_(variable: Variable) -> Variable:
    """Every element is 1.

    >>> mg.nn.init.ones_(mg.nn.Parameter([0.0, 2.0]))
    Parameter([1., 1.], dtype=float32)
    """
    return constant_(variable, 1.0)


def eye_(variable: Variable) -> Variable:
    """A matrix with ones on the diagonal and zeros elsewhere: the layer starts as the identity.

    Raises:
        ShapeError: the variable is not a matrix.

    >>> mg.nn.init.eye_(mg.nn.Parameter([[5.0, 5.0]]))
    Parameter([[1., 0.]], dtype=float32)
    """
    if variable.ndim != 2:
        raise ShapeError("eye_: a matrix", expected="2 axes", actual=f"shape {variable.shape}")
    return _assigned(variable, eye(*variable.shape, dtype=variable.dtype, device=variable.device))


def uniform_(variable: Variable, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Variable:
    """Elements from `a` to `b`, all equally likely.

    Raises:
        ArgumentError: `a` is above `b`.

    >>> w = mg.nn.init.uniform_(mg.nn.Parameter(np.zeros((2, 3), "float32")), -1, 1)
    >>> bool((mg.abs(w) <= 1).all())
    True
    """
    return _uniform(variable, a, b, generator)


def normal_(variable: Variable, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Variable:
    """Normally distributed elements.

    Raises:
        ArgumentError: `std` is negative.

    >>> mg.nn.init.normal_(mg.nn.Parameter([0.0, 0.0]), mean=3.0, std=0.0)
    Parameter([3., 3.], dtype=float32)
    """
    return _normal(variable, mean, std, generator)


def trunc_normal_(
    variable: Variable,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    generator: Generator | None = None,
) -> Variable:
    """Normally distributed elements, drawn again until they lie between `a` and `b`.

    Args:
        a, b: bounds, in the units of the result (not of `std`).

    Raises:
        ArgumentError: `a` is not below `b`, or less than one draw in a thousand would fall between them.

    >>> w = mg.nn.init.trunc_normal_(mg.nn.Parameter(np.zeros(100, "float32")), std=0.02, a=-0.04, b=0.04)
    >>> bool((mg.abs(w) <= 0.04).all())
    True
    """
    inside = (
        0.5 * (math.erf((b - mean) / (std * math.sqrt(2))) - math.erf((a - mean) / (std * math.sqrt(2))))
        if std > 0
        else 0.0
    )
    if not a < b or inside < 1e-3:
        raise ArgumentError(
            "trunc_normal_: a to b holds a share of the distribution",
            expected="a < b, near the mean, std > 0",
            actual=f"a={a}, b={b}, mean={mean}, std={std}",
        )
    draw, n = (generator or default_generator).normal, variable.size
    found = np.empty(0, variable.dtype)
    while found.size < n:
        more = draw(int(1.1 * (n - found.size) / inside) + 8, mean, std, dtype=variable.dtype, device="cpu").numpy()
        found = np.concatenate([found, more[(more >= a) & (more <= b)]])
    return _assigned(variable, Tensor(found[:n].reshape(variable.shape)).to(variable.device))


def xavier_uniform_(variable: Variable, gain: float = 1.0, *, generator: Generator | None = None) -> Variable:
    """Uniform, within gain * sqrt(6 / (fan_in + fan_out)): keeps the variance forwards and backwards, on average.

    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Args:
        variable: a weight of shape (out, in, *kernel). gain: see `calculate_gain`.

    Raises:
        ShapeError: fewer than 2 axes.

    >>> w = mg.nn.init.xavier_uniform_(mg.nn.Parameter(np.zeros((2, 4), "float32")))
    >>> bool((mg.abs(w) <= 1).all())
    True
    """
    fan_in, fan_out = fans("xavier_uniform_", variable.shape)
    bound = gain * math.sqrt(6.0 / max(1, fan_in + fan_out))
    return _uniform(variable, -bound, bound, generator)


def xavier_normal_(variable: Variable, gain: float = 1.0, *, generator: Generator | None = None) -> Variable:
    """Normal, with standard deviation gain * sqrt(2 / (fan_in + fan_out)). Arguments and source as `xavier_uniform_`.

    >>> mg.nn.init.xavier_normal_(mg.nn.Parameter(np.zeros((2, 4), "float32"))).shape
    (2, 4)
    """
    fan_in, fan_out = fans("xavier_normal_", variable.shape)
    return _normal(variable, 0.0, gain * math.sqrt(2.0 / max(1, fan_in + fan_out)), generator)


def _kaiming_std(name: str, variable: Variable, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: mode", expected='"fan_in" or "fan_out"', actual=f"{mode!r}")
    fan = fans(name, variable.shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def kaiming_uniform_(
    variable: Variable,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: Generator | None = None,
) -> Variable:
    """Uniform, within gain * sqrt(3 / fan): keeps the variance through layers that are followed by a rectifier.

    K. He et al., "Delving deep into rectifiers", 2015.

    Args:
        variable: a weight of shape (out, in, *kernel).
        a: the negative slope of the rectifier that follows, for "leaky_relu".
        mode: "fan_in" keeps the variance of the values, "fan_out" that of the gradients.
        nonlinearity: see `calculate_gain`.

    Raises:
        ShapeError: fewer than 2 axes. ArgumentError: an unknown mode or nonlinearity.

    >>> w = mg.nn.init.kaiming_uniform_(mg.nn.Parameter(np.zeros((2, 6), "float32")))
    >>> bool((mg.abs(w) <= 1).all())
    True
    """
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", variable, a, mode, nonlinearity)
    return _uniform(variable, -bound, bound, generator)


def kaiming_normal_(
    variable: Variable,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: Generator | None = None,
) -> Variable:
    """Normal, with standard deviation gain / sqrt(fan). Arguments, errors and source as `kaiming_uniform_`.

    >>> mg.nn.init.kaiming_normal_(mg.nn.Parameter(np.zeros((2, 6), "float32")), mode="fan_out").shape
    (2, 6)
    """
    return _normal(variable, 0.0, _kaiming_std("kaiming_normal_", variable, a, mode, nonlinearity), generator)


def orthogonal_(variable: Variable, gain: float = 1.0, *, generator: Generator | None = None) -> Variable:
    """Orthogonal rows or columns (whichever are fewer) times `gain`; axes after the first count as columns.

    A. Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014.

    Raises:
        ShapeError: fewer than 2 axes.

    >>> w = mg.nn.init.orthogonal_(mg.nn.Parameter(np.zeros((2, 4), "float32")))
    >>> np.allclose(w.numpy() @ w.numpy().T, np.eye(2), atol=1e-6)
    True
    """
    fans("orthogonal_", variable.shape)
    if not variable.size:
        return zeros_(variable)
    rows = variable.shape[0]
    columns = variable.size // rows
    a = (
        (generator or default_generator)
        .normal((max(rows, columns), min(rows, columns)), dtype="float64", device="cpu")
        .numpy()
    )
    q, r = np.linalg.qr(a)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the distribution uniform over the orthogonal matrices
    q = gain * (q if rows >= columns else q.T)
    return _assigned(variable, Tensor(q.reshape(variable.shape).astype(variable.dtype)).to(variable.device))


def blank(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Zeros to make a parameter of, before an initialiser assigns it."""
    return zeros(shape, dtype=dtype if dtype is not None else "float32", device=device)
