"""Operations that work element by element: arithmetic, comparisons, elementary functions, activations.

Most are one NumPy ufunc, so the call `elementwise(np.sin, ...)` says the rest: the gradient rule, what the rule reads,
the formula with its local derivative, and the domain from which the tests draw. Broadcasting and promotion are the
ufunc's own, `infer` asks the ufunc for them, and the fast path of dynamic mode calls it bare. What is not a ufunc (an
activation, `where`, `clip`) states its `run`.

Each operation also has its scalar `expression`, from which code generators fuse loops. It is in the part of Python's
grammar that C shares: numbers, the names of inputs and attributes, `+ - * /`, comparisons, and calls of the operations
of this file by name (`exp(x)`, `where(x > 0, x, 0)`), which mean for one element what they mean here.

Shared by everything below: operands are tensors, variables, arrays or numbers of any shapes that broadcast; numbers
take the dtype of the tensor beside them; two dtypes promote as in NumPy 2. Angles are in radians. Shapes that do not
broadcast raise `ShapeError`, dtypes for which an operation has no meaning `DTypeError`. Where a function has a jump or
a kink, its docstring says which gradient is used there. Comparisons, rounding and `sign` carry no gradient.

Source of names and semantics: the Python Array API standard, 2024.12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..autodiff import stop_gradient
from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Op, Spec, spec_of
from ..tensor import Tensor, bind, lift, lift_all
from .common import broadcast, need_float, one_of, ufunc_dtype

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "cos", "cosh", "divide",
    "elu", "equal", "erf", "exp", "expm1", "floor", "floor_divide", "gelu", "gelu_tanh", "greater", "greater_equal",
    "hypot", "isfinite", "isinf", "isnan", "leaky_relu", "less", "less_equal", "log", "log1p", "log2", "log10",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply",
    "negative", "not_equal", "positive", "pow", "reciprocal", "relu", "remainder", "round", "sigmoid", "sign", "silu",
    "sin", "sinh", "softplus", "sqrt", "square", "subtract", "tan", "tanh", "trunc", "where",
]  # fmt: skip

Domain = tuple[float, float]


# ------------------------------------------------------------------------------------------------ making operations


def elementwise(
    ufunc: np.ufunc,
    name: str = "",
    *,
    vjp: Sequence[Callable | None] | None = None,
    saves: Sequence[str] = (),
    expression: str = "",
    latex: str,
    derivative: Sequence[str] = (),
    domain: Sequence[Domain | None] = (None, None),
    numpy: Callable | None = None,
) -> Op:
    """The operation that applies a NumPy ufunc of one input `x`, or of two, `x1` and `x2`.

    `name` is the public name where it differs from the ufunc's; `domain` bounds the inputs of the tests, by input
    (None: either sign, away from zero); `numpy` replaces the bare ufunc. The rest goes to `Op`.
    """
    name = name or ufunc.__name__
    names = ("x",) if ufunc.nin == 1 else ("x1", "x2")

    def run_one(xp: Any, x: Any) -> Any:
        return getattr(xp, ufunc.__name__)(x)

    def run_two(xp: Any, x1: Any, x2: Any) -> Any:
        return getattr(xp, ufunc.__name__)(x1, x2)

    def infer(*specs: Spec) -> Spec:
        return Spec(broadcast(name, names, specs), ufunc_dtype(name, ufunc, specs), specs[0].device)

    return Op(
        name,
        run_one if ufunc.nin == 1 else run_two,
        numpy=numpy or ufunc,
        infer=infer,
        vjp=vjp,
        saves=saves,
        expression=expression or f"{name}({', '.join(names)})",
        latex=latex,
        derivative=derivative,
        elementwise=True,
        samples=lambda rng: ufunc_samples(rng, ufunc, domain),
    )


def draw(rng: np.random.Generator, shape: tuple[int, ...], domain: Domain | None, dtype: str = "f8") -> np.ndarray:
    """A sample input: random elements in `domain`, or of either sign and away from zero, where kinks and poles are."""
    if dtype == "?":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if dtype.startswith("i"):
        choice = [-3, -2, -1, 1, 2, 3] if domain is None else range(math.ceil(domain[0]), math.floor(domain[1]) + 1)
        return np.asarray(rng.choice(np.array(choice), shape)).astype(dtype)
    low, high = domain or (0.25, 2.0)
    x = np.asarray(rng.uniform(low, high, shape))
    return (x if domain else x * rng.choice([-1.0, 1.0], shape)).astype(dtype)


def ufunc_samples(rng: np.random.Generator, ufunc: np.ufunc, domain: Sequence[Domain | None]) -> Iterator:
    """Inputs of every kind of shape, layout and dtype; dtypes that the ufunc does not take must raise DTypeError."""
    if ufunc.nin == 1:
        shapes: list[Any] = [((2, 3),), ((),), ((0, 3),), ((1,),)]
        dtypes: list[Any] = [("f4",), ("i8",), ("i4",), ("?",)]
    else:
        shapes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((2,), ()), ((), ())]
        shapes.append(((0, 3), (1, 3)))
        dtypes = [("f4", "f4"), ("f4", "f8"), ("i8", "f4"), ("i8", "i8"), ("i4", "i8"), ("?", "?"), ("?", "f4")]
    takes_floats = _takes(ufunc, ("f8",) * ufunc.nin)
    usual = "f8" if takes_floats else "i8"
    for group in shapes:
        yield tuple(draw(rng, s, d, usual) for s, d in zip(group, domain, strict=False)), {}
    views = [draw(rng, (3, 2), domain[0], usual).T, draw(rng, (4, 3), domain[-1], usual)[::-2]]
    yield tuple(views[: ufunc.nin]), {}
    for kinds in dtypes:
        arrays = tuple(draw(rng, (3,), d, k) for d, k in zip(domain, kinds, strict=False))
        yield (arrays, {}) if _takes(ufunc, kinds) else ("bad", arrays, {}, DTypeError)
    if not takes_floats:
        yield "bad", tuple(draw(rng, (3,), d) for d in domain[: ufunc.nin]), {}, DTypeError
    if ufunc.nin == 2:
        yield "bad", (draw(rng, (2,), domain[0], usual), draw(rng, (3,), domain[1], usual)), {}, ShapeError


def _takes(ufunc: np.ufunc, kinds: Sequence[str]) -> bool:
    try:
        ufunc.resolve_dtypes((*map(np.dtype, kinds), None))
    except TypeError:
        return False
    return True


def unary(op: Op, x: Any) -> Tensor:
    """Apply an operation of one input."""
    return bind(op, x if type(x) is Tensor else lift(x))


def binary(op: Op, x1: Any, x2: Any) -> Tensor:
    """Apply an operation of two inputs."""
    if type(x1) is Tensor and type(x2) is Tensor:
        return bind(op, x1, x2)
    return bind(op, *lift_all(x1, x2))


# ------------------------------------------------------------------------------------------------------- arithmetic


ADD = elementwise(
    np.add,
    vjp=(lambda F, g, y, x1, x2: g, lambda F, g, y, x1, x2: g),
    expression="x1 + x2",
    latex="{x1} + {x2}",
    derivative=("1", "1"),
)


def add(x1: Any, x2: Any) -> Tensor:
    """x1 + x2.

    >>> mg.add(mg.tensor([1.0, 2.0]), 10)
    tensor([11., 12.], dtype=float32)
    """
    return binary(ADD, x1, x2)


SUBTRACT = elementwise(
    np.subtract,
    vjp=(lambda F, g, y, x1, x2: g, lambda F, g, y, x1, x2: -g),
    expression="x1 - x2",
    latex="{x1} - {x2}",
    derivative=("1", "-1"),
)


def subtract(x1: Any, x2: Any) -> Tensor:
    """x1 - x2. Not for two booleans (DTypeError): use `logical_xor`.

    >>> mg.subtract(mg.tensor([1.0, 2.0]), mg.tensor([[1.0], [2.0]]))
    tensor([[ 0.,  1.],
            [-1.,  0.]], dtype=float32)
    """
    return binary(SUBTRACT, x1, x2)


MULTIPLY = elementwise(
    np.multiply,
    vjp=(lambda F, g, y, x1, x2: g * x2, lambda F, g, y, x1, x2: g * x1),
    saves=("x1", "x2"),
    expression="x1 * x2",
    latex=r"{x1} \cdot {x2}",
    derivative=("{x2}", "{x1}"),
)


def multiply(x1: Any, x2: Any) -> Tensor:
    """x1 * x2, element by element (the matrix product is `matmul`).

    >>> mg.multiply(mg.tensor([1, 2]), 2.5)
    tensor([2.5, 5. ], dtype=float64)
    """
    return binary(MULTIPLY, x1, x2)


DIVIDE = elementwise(
    np.divide,
    vjp=(lambda F, g, y, x1, x2: g / x2, lambda F, g, y, x1, x2: -g * y / x2),
    saves=("x2", "y"),
    expression="x1 / x2",
    latex=r"\frac{{{x1}}}{{{x2}}}",
    derivative=(r"\frac{{1}}{{{x2}}}", r"-\frac{{{x1}}}{{{x2}^2}}"),
)


def divide(x1: Any, x2: Any) -> Tensor:
    """x1 / x2; two integer tensors give float64. Division by zero gives infinity or NaN.

    >>> mg.divide(mg.tensor([1.0, 3.0]), 2)
    tensor([0.5, 1.5], dtype=float32)
    """
    return binary(DIVIDE, x1, x2)


FLOOR_DIVIDE = elementwise(
    np.floor_divide, expression="floor_divide(x1, x2)", latex=r"\left\lfloor {x1} / {x2} \right\rfloor"
)


def floor_divide(x1: Any, x2: Any) -> Tensor:
    """The largest integer not above x1 / x2. Carries no gradient.

    >>> mg.floor_divide(mg.tensor([7, -7]), 2)
    tensor([ 3, -4], dtype=int64)
    """
    return binary(FLOOR_DIVIDE, x1, x2)


REMAINDER = elementwise(
    np.remainder,
    vjp=(lambda F, g, y, x1, x2: g, lambda F, g, y, x1, x2: -g * F.floor_divide(x1, x2)),
    saves=("x1", "x2"),
    latex=r"{x1} \bmod {x2}",
    derivative=("1", r"-\left\lfloor {x1} / {x2} \right\rfloor"),
)


def remainder(x1: Any, x2: Any) -> Tensor:
    """x1 - floor(x1 / x2) x2, which has the sign of x2. The gradient disregards the jumps.

    >>> mg.remainder(mg.tensor([7, -7]), 3)
    tensor([1, 2], dtype=int64)
    """
    return binary(REMAINDER, x1, x2)


NEGATIVE = elementwise(
    np.negative, vjp=(lambda F, g, y, x: -g,), expression="-x", latex="-{x}", derivative=("-1",)
)  # fmt: skip


def negative(x: Any) -> Tensor:
    """-x. Not for booleans (DTypeError): use `logical_not`.

    >>> mg.negative(mg.tensor([1.0, -2.0]))
    tensor([-1.,  2.], dtype=float32)
    """
    return unary(NEGATIVE, x)


POSITIVE = elementwise(np.positive, vjp=(lambda F, g, y, x: g,), expression="x", latex="{x}", derivative=("1",))


def positive(x: Any) -> Tensor:
    """x itself.

    >>> mg.positive(mg.tensor([1.0, -2.0]))
    tensor([ 1., -2.], dtype=float32)
    """
    return unary(POSITIVE, x)


ABS = elementwise(
    np.absolute,
    "abs",
    vjp=(lambda F, g, y, x: g * F.sign(x),),
    saves=("x",),
    latex=r"\left|{x}\right|",
    derivative=(r"\operatorname{{sign}} {x}",),
)


def abs(x: Any) -> Tensor:
    """The absolute value. Its gradient at 0 is 0.

    >>> mg.abs(mg.tensor([-1.0, 2.0]))
    tensor([1., 2.], dtype=float32)
    """
    return unary(ABS, x)


SIGN = elementwise(np.sign, latex=r"\operatorname{{sign}} {x}")


def sign(x: Any) -> Tensor:
    """-1, 0 or 1 (NaN for NaN). Carries no gradient.

    >>> mg.sign(mg.tensor([-2.0, 0.0, 3.0]))
    tensor([-1.,  0.,  1.], dtype=float32)
    """
    return unary(SIGN, x)


def _pow_numpy(x1: Any, x2: Any) -> Any:
    """`numpy.power`, made faster for the exponents that people write: for x³ it takes a hundred times as long as two
    products."""
    if x2.ndim == 0 and x2.dtype == x1.dtype and x2.dtype.kind == "f":
        n = float(x2)
        if n == 2.0:
            return np.square(x1)
        if n == 1.0:
            return np.positive(x1)
        if n == 3.0:
            return x1 * np.square(x1)
        if n == 4.0:
            return np.square(np.square(x1))
        if n == -1.0:
            return np.reciprocal(x1)
    try:
        return np.power(x1, x2)
    except ValueError as error:
        if "negative integer powers" not in str(error):
            raise
        raise ArgumentError(
            "pow: an integer to a negative power is not an integer",
            expected="exponents of 0 or more for integers, or floating point",
            actual=f"x1: {spec_of(x1)!r}, x2: {spec_of(x2)!r} with element {np.min(x2)}",
            remedy="x1.astype(mg.float32), or 1 / x1**n",
        ) from None


POW = elementwise(
    np.power,
    "pow",
    numpy=_pow_numpy,
    vjp=(
        # where x2 is 0 the exponent x2 - 1 is replaced by 0: the gradient 0 x1⁰ is 0 also at x1 = 0 and at infinity
        lambda F, g, y, x1, x2: g * x2 * F.pow(x1, F.where(x2 == 0, 0, x2 - 1)),
        lambda F, g, y, x1, x2: g * F.where(x1 == 0, 0.0, y * F.log(F.where(x1 == 0, 1, x1))),
    ),
    saves=("x1", "x2", "y"),
    latex="{x1}^{{{x2}}}",
    derivative=(r"{x2} \cdot {x1}^{{{x2} - 1}}", r"{x1}^{{{x2}}} \ln {x1}"),
    domain=((0.3, 2.0), (0.5, 3.0)),
)


def pow(x1: Any, x2: Any) -> Tensor:
    """x1 to the power x2.

    The gradient with respect to a base of 0 is right for any exponent (that of x ** 0 is 0). With respect to the
    exponent it is 0 at a base of 0 and NaN for a negative base, whose powers are not real between the integers.

    Raises:
        ArgumentError: integers to a negative integer power.

    >>> mg.pow(mg.tensor([1.0, -2.0]), 3)
    tensor([ 1., -8.], dtype=float32)
    """
    return binary(POW, x1, x2)


SQUARE = elementwise(
    np.square,
    vjp=(lambda F, g, y, x: g * (2 * x),),
    saves=("x",),
    expression="x * x",
    latex="{x}^2",
    derivative=("2 {x}",),
)


def square(x: Any) -> Tensor:
    """x * x.

    >>> mg.square(mg.tensor([1.0, -2.0]))
    tensor([1., 4.], dtype=float32)
    """
    return unary(SQUARE, x)


SQRT = elementwise(
    np.sqrt,
    vjp=(lambda F, g, y, x: g / (2 * y),),
    saves=("y",),
    latex=r"\sqrt{{{x}}}",
    derivative=(r"\frac{{1}}{{2 \sqrt{{{x}}}}}",),
    domain=((0.25, 3.0),),
)


def sqrt(x: Any) -> Tensor:
    """The square root; NaN for negative numbers. Its gradient at 0 is infinite.

    >>> mg.sqrt(mg.tensor([4.0, 9.0]))
    tensor([2., 3.], dtype=float32)
    """
    return unary(SQRT, x)


RECIPROCAL = elementwise(
    np.reciprocal,
    vjp=(lambda F, g, y, x: -g * y * y,),
    saves=("y",),
    latex=r"\frac{{1}}{{{x}}}",
    derivative=(r"-\frac{{1}}{{{x}^2}}",),
)


def reciprocal(x: Any) -> Tensor:
    """1 / x, in the dtype of x: for integers use 1 / x, which is floating point.

    >>> mg.reciprocal(mg.tensor([2.0, -4.0]))
    tensor([ 0.5 , -0.25], dtype=float32)
    """
    return unary(RECIPROCAL, x)


def _length_grad(F: Any, g: Any, y: Any, x: Any) -> Any:
    return g * x / F.where(y == 0, 1, y)


HYPOT = elementwise(
    np.hypot,
    vjp=(
        lambda F, g, y, x1, x2: _length_grad(F, g, y, x1),
        lambda F, g, y, x1, x2: _length_grad(F, g, y, x2),
    ),
    saves=("x1", "x2", "y"),
    latex=r"\sqrt{{{x1}^2 + {x2}^2}}",
    derivative=(
        r"\frac{{{x1}}}{{\sqrt{{{x1}^2 + {x2}^2}}}}",
        r"\frac{{{x2}}}{{\sqrt{{{x1}^2 + {x2}^2}}}}",
    ),
)


def hypot(x1: Any, x2: Any) -> Tensor:
    """The length of the vector (x1, x2), without overflow. Its gradient at the origin is 0.

    >>> mg.hypot(mg.tensor(3.0), mg.tensor(4.0))
    tensor(5., dtype=float32)
    """
    return binary(HYPOT, x1, x2)


# ------------------------------------------------------------------------------------- exponentials and logarithms


EXP = elementwise(
    np.exp, vjp=(lambda F, g, y, x: g * y,), saves=("y",), latex="e^{{{x}}}", derivative=("e^{{{x}}}",)
)  # fmt: skip


def exp(x: Any) -> Tensor:
    """e to the power x.

    >>> mg.exp(mg.tensor(1.0))
    tensor(2.71828..., dtype=float32)
    """
    return unary(EXP, x)


EXPM1 = elementwise(
    np.expm1, vjp=(lambda F, g, y, x: g * (y + 1),), saves=("y",), latex="e^{{{x}}} - 1", derivative=("e^{{{x}}}",)
)


def expm1(x: Any) -> Tensor:
    """e to the power x, minus 1, accurate for small x.

    >>> mg.expm1(mg.tensor(1e-6))
    tensor(1.00000...e-06, dtype=float32)
    """
    return unary(EXPM1, x)


LOG = elementwise(
    np.log,
    vjp=(lambda F, g, y, x: g / x,),
    saves=("x",),
    latex=r"\ln {x}",
    derivative=(r"\frac{{1}}{{{x}}}",),
    domain=((0.25, 3.0),),
)


def log(x: Any) -> Tensor:
    """The natural logarithm; -inf at 0, NaN below.

    >>> mg.log(mg.tensor(2.0))
    tensor(0.69314..., dtype=float32)
    """
    return unary(LOG, x)


LOG1P = elementwise(
    np.log1p,
    vjp=(lambda F, g, y, x: g / (1 + x),),
    saves=("x",),
    latex=r"\ln (1 + {x})",
    derivative=(r"\frac{{1}}{{1 + {x}}}",),
    domain=((-0.7, 3.0),),
)


def log1p(x: Any) -> Tensor:
    """The natural logarithm of 1 + x, accurate for small x.

    >>> mg.log1p(mg.tensor(1e-6))
    tensor(9.99999...e-07, dtype=float32)
    """
    return unary(LOG1P, x)


LOG2 = elementwise(
    np.log2,
    vjp=(lambda F, g, y, x: g / (x * math.log(2)),),
    saves=("x",),
    latex=r"\log_2 {x}",
    derivative=(r"\frac{{1}}{{{x} \ln 2}}",),
    domain=((0.25, 3.0),),
)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2.

    >>> mg.log2(mg.tensor(8.0))
    tensor(3., dtype=float32)
    """
    return unary(LOG2, x)


LOG10 = elementwise(
    np.log10,
    vjp=(lambda F, g, y, x: g / (x * math.log(10)),),
    saves=("x",),
    latex=r"\log_{{10}} {x}",
    derivative=(r"\frac{{1}}{{{x} \ln 10}}",),
    domain=((0.25, 3.0),),
)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10.

    >>> mg.log10(mg.tensor(100.0, dtype="float64"))
    tensor(2., dtype=float64)
    """
    return unary(LOG10, x)


def _weight(F: Any, y: Any, x: Any) -> Any:
    """exp(x - y), the share of x in y = log(exp(x) + ...); 0 where both are -inf."""
    return F.exp(x - F.where(y == -math.inf, 0, y))


LOGADDEXP = elementwise(
    np.logaddexp,
    vjp=(
        lambda F, g, y, x1, x2: g * _weight(F, y, x1),
        lambda F, g, y, x1, x2: g * _weight(F, y, x2),
    ),
    saves=("x1", "x2", "y"),
    latex=r"\ln (e^{{{x1}}} + e^{{{x2}}})",
    derivative=(
        r"\frac{{e^{{{x1}}}}}{{e^{{{x1}}} + e^{{{x2}}}}}",
        r"\frac{{e^{{{x2}}}}}{{e^{{{x1}}} + e^{{{x2}}}}}",
    ),
)


def logaddexp(x1: Any, x2: Any) -> Tensor:
    """log(exp(x1) + exp(x2)), without overflow: the sum of two numbers that are given by their logarithms.

    >>> mg.logaddexp(mg.tensor(1000.0), mg.tensor(1000.0))
    tensor(1000.693..., dtype=float32)
    """
    return binary(LOGADDEXP, x1, x2)


# ---------------------------------------------------------------------------------------------- angles and hyperbolas


SIN = elementwise(
    np.sin, vjp=(lambda F, g, y, x: g * F.cos(x),), saves=("x",), latex=r"\sin {x}", derivative=(r"\cos {x}",)
)


def sin(x: Any) -> Tensor:
    """The sine of an angle in radians.

    >>> mg.sin(mg.tensor(1.0))
    tensor(0.84147..., dtype=float32)
    """
    return unary(SIN, x)


COS = elementwise(
    np.cos, vjp=(lambda F, g, y, x: -g * F.sin(x),), saves=("x",), latex=r"\cos {x}", derivative=(r"-\sin {x}",)
)


def cos(x: Any) -> Tensor:
    """The cosine of an angle in radians.

    >>> mg.cos(mg.tensor(1.0))
    tensor(0.54030..., dtype=float32)
    """
    return unary(COS, x)


TAN = elementwise(
    np.tan,
    vjp=(lambda F, g, y, x: g * (1 + y * y),),
    saves=("y",),
    latex=r"\tan {x}",
    derivative=(r"1 + \tan^2 {x}",),
    domain=((-1.2, 1.2),),
)


def tan(x: Any) -> Tensor:
    """The tangent of an angle in radians.

    >>> mg.tan(mg.tensor(1.0))
    tensor(1.55740..., dtype=float32)
    """
    return unary(TAN, x)


ASIN = elementwise(
    np.arcsin,
    "asin",
    vjp=(lambda F, g, y, x: g / F.sqrt(1 - x * x),),
    saves=("x",),
    latex=r"\arcsin {x}",
    derivative=(r"\frac{{1}}{{\sqrt{{1 - {x}^2}}}}",),
    domain=((-0.9, 0.9),),
)


def asin(x: Any) -> Tensor:
    """The angle in [-π/2, π/2], in radians, whose sine is x; NaN outside [-1, 1].

    >>> mg.asin(mg.tensor(1.0))
    tensor(1.57079..., dtype=float32)
    """
    return unary(ASIN, x)


ACOS = elementwise(
    np.arccos,
    "acos",
    vjp=(lambda F, g, y, x: -g / F.sqrt(1 - x * x),),
    saves=("x",),
    latex=r"\arccos {x}",
    derivative=(r"-\frac{{1}}{{\sqrt{{1 - {x}^2}}}}",),
    domain=((-0.9, 0.9),),
)


def acos(x: Any) -> Tensor:
    """The angle in [0, π], in radians, whose cosine is x; NaN outside [-1, 1].

    >>> mg.acos(mg.tensor(0.0))
    tensor(1.57079..., dtype=float32)
    """
    return unary(ACOS, x)


ATAN = elementwise(
    np.arctan,
    "atan",
    vjp=(lambda F, g, y, x: g / (1 + x * x),),
    saves=("x",),
    latex=r"\arctan {x}",
    derivative=(r"\frac{{1}}{{1 + {x}^2}}",),
)


def atan(x: Any) -> Tensor:
    """The angle in (-π/2, π/2), in radians, whose tangent is x.

    >>> mg.atan(mg.tensor(1.0))
    tensor(0.78539..., dtype=float32)
    """
    return unary(ATAN, x)


ATAN2 = elementwise(
    np.arctan2,
    "atan2",
    vjp=(
        lambda F, g, y, x1, x2: g * x2 / (x1 * x1 + x2 * x2),
        lambda F, g, y, x1, x2: -g * x1 / (x1 * x1 + x2 * x2),
    ),
    saves=("x1", "x2"),
    latex=r"\operatorname{{atan2}}({x1}, {x2})",
    derivative=(r"\frac{{{x2}}}{{{x1}^2 + {x2}^2}}", r"-\frac{{{x1}}}{{{x1}^2 + {x2}^2}}"),
)


def atan2(x1: Any, x2: Any) -> Tensor:
    """The angle in [-π, π], in radians, of the point with height x1 and horizontal distance x2. At the origin it has no
    gradient (NaN).

    >>> mg.atan2(mg.tensor(1.0), mg.tensor(-1.0))
    tensor(2.35619..., dtype=float32)
    """
    return binary(ATAN2, x1, x2)


SINH = elementwise(
    np.sinh, vjp=(lambda F, g, y, x: g * F.cosh(x),), saves=("x",), latex=r"\sinh {x}", derivative=(r"\cosh {x}",)
)


def sinh(x: Any) -> Tensor:
    """The hyperbolic sine, (exp(x) - exp(-x)) / 2.

    >>> mg.sinh(mg.tensor(1.0))
    tensor(1.17520..., dtype=float32)
    """
    return unary(SINH, x)


COSH = elementwise(
    np.cosh, vjp=(lambda F, g, y, x: g * F.sinh(x),), saves=("x",), latex=r"\cosh {x}", derivative=(r"\sinh {x}",)
)


def cosh(x: Any) -> Tensor:
    """The hyperbolic cosine, (exp(x) + exp(-x)) / 2.

    >>> mg.cosh(mg.tensor(1.0))
    tensor(1.54308..., dtype=float32)
    """
    return unary(COSH, x)


TANH = elementwise(
    np.tanh,
    vjp=(lambda F, g, y, x: g * (1 - y * y),),
    saves=("y",),
    latex=r"\tanh {x}",
    derivative=(r"1 - \tanh^2 {x}",),
)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent, in (-1, 1).

    >>> mg.tanh(mg.tensor(1.0))
    tensor(0.76159..., dtype=float32)
    """
    return unary(TANH, x)


ASINH = elementwise(
    np.arcsinh,
    "asinh",
    vjp=(lambda F, g, y, x: g / F.hypot(x, 1),),
    saves=("x",),
    latex=r"\operatorname{{arsinh}} {x}",
    derivative=(r"\frac{{1}}{{\sqrt{{{x}^2 + 1}}}}",),
)


def asinh(x: Any) -> Tensor:
    """The number whose hyperbolic sine is x.

    >>> mg.asinh(mg.tensor(1.0))
    tensor(0.88137..., dtype=float32)
    """
    return unary(ASINH, x)


ACOSH = elementwise(
    np.arccosh,
    "acosh",
    vjp=(lambda F, g, y, x: g / F.sqrt((x - 1) * (x + 1)),),
    saves=("x",),
    latex=r"\operatorname{{arcosh}} {x}",
    derivative=(r"\frac{{1}}{{\sqrt{{{x}^2 - 1}}}}",),
    domain=((1.5, 3.0),),
)


def acosh(x: Any) -> Tensor:
    """The number of 0 or more whose hyperbolic cosine is x; NaN for x below 1.

    >>> mg.acosh(mg.tensor(2.0))
    tensor(1.31695..., dtype=float32)
    """
    return unary(ACOSH, x)


ATANH = elementwise(
    np.arctanh,
    "atanh",
    vjp=(lambda F, g, y, x: g / (1 - x * x),),
    saves=("x",),
    latex=r"\operatorname{{artanh}} {x}",
    derivative=(r"\frac{{1}}{{1 - {x}^2}}",),
    domain=((-0.9, 0.9),),
)


def atanh(x: Any) -> Tensor:
    """The number whose hyperbolic tangent is x; infinite at -1 and 1, NaN outside.

    >>> mg.atanh(mg.tensor(0.5))
    tensor(0.54930..., dtype=float32)
    """
    return unary(ATANH, x)


# ----------------------------------------------------------------------------------------------- choosing, rounding


def _winner(F: Any, g: Any, wins: Any, ties: Any) -> Any:
    """The gradient of the operand that was chosen; half of it where the two are equal."""
    return F.where(ties, 0.5 * g, g * wins)


MAXIMUM = elementwise(
    np.maximum,
    vjp=(
        lambda F, g, y, x1, x2: _winner(F, g, x1 > x2, x1 == x2),
        lambda F, g, y, x1, x2: _winner(F, g, x2 > x1, x1 == x2),
    ),
    saves=("x1", "x2"),
    latex=r"\max({x1}, {x2})",
    derivative=("[{x1} > {x2}]", "[{x2} > {x1}]"),
)


def maximum(x1: Any, x2: Any) -> Tensor:
    """The larger of the two; NaN if one is NaN. Where they are equal each gets half of the gradient, as in PyTorch.

    >>> mg.maximum(mg.tensor([1.0, 5.0]), 3.0)
    tensor([3., 5.], dtype=float32)
    """
    return binary(MAXIMUM, x1, x2)


MINIMUM = elementwise(
    np.minimum,
    vjp=(
        lambda F, g, y, x1, x2: _winner(F, g, x1 < x2, x1 == x2),
        lambda F, g, y, x1, x2: _winner(F, g, x2 < x1, x1 == x2),
    ),
    saves=("x1", "x2"),
    latex=r"\min({x1}, {x2})",
    derivative=("[{x1} < {x2}]", "[{x2} < {x1}]"),
)


def minimum(x1: Any, x2: Any) -> Tensor:
    """The smaller of the two; NaN if one is NaN. Where they are equal each gets half of the gradient, as in PyTorch.

    >>> mg.minimum(mg.tensor([1.0, 5.0]), 3.0)
    tensor([1., 3.], dtype=float32)
    """
    return binary(MINIMUM, x1, x2)


def _clip_infer(x: Spec, min: Spec, max: Spec) -> Spec:
    shape = broadcast("clip", ("x", "min", "max"), (x, min, max))
    return Spec(shape, np.result_type(x.dtype, min.dtype, max.dtype), x.device)


def _clip_samples(rng: np.random.Generator) -> Iterator:
    for shape, bounds in (((3, 4), ()), ((2, 3), (3,)), ((), ()), ((2,), (3, 1)), ((0, 3), ()), ((2, 2), (2, 2))):
        yield (draw(rng, shape, None), draw(rng, bounds, (-1.2, -0.4)), draw(rng, bounds, (0.4, 1.2))), {}
    yield (draw(rng, (3, 2), None).T, draw(rng, (3,), (0.4, 1.2)), draw(rng, (2, 1), (-1.2, -0.4))), {}  # min above max
    yield (draw(rng, (4,), None)[::-2], np.float64(-0.5), np.array([0.5, 0.6])), {}
    yield (draw(rng, (3,), None, "f4"), np.float32(-1), np.float32(1)), {}
    yield (np.arange(5), np.int64(1), np.int64(3)), {}
    yield (np.arange(5), np.float64(0.5), np.int64(3)), {}
    yield "bad", (draw(rng, (3,), None), draw(rng, (2,), None), np.float64(1)), {}, ShapeError


CLIP = Op(
    "clip",
    run=lambda xp, x, min, max: xp.minimum(xp.maximum(x, min), max),
    infer=_clip_infer,
    vjp=(
        lambda F, g, y, x, min, max: F.where(F.logical_or(x < min, x > max), 0, g),
        lambda F, g, y, x, min, max: F.where(F.logical_and(x < min, min < max), g, 0),
        lambda F, g, y, x, min, max: F.where(F.logical_or(x > max, max < min), g, 0),
    ),
    saves=("x", "min", "max"),
    elementwise=True,
    expression="minimum(maximum(x, min), max)",
    latex=r"\min(\max({x}, {min}), {max})",
    derivative=(r"[{min} \le {x} \le {max}]", "[{x} < {min}]", "[{x} > {max}]"),
    samples=_clip_samples,
)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x, but not below `min` nor above `max` (which prevails where min > max).

    The gradient passes where x lies between the bounds, or on one of them, as in PyTorch; elsewhere the bound gets it.

    Args:
        x: any shape; numbers, not booleans.
        min, max: numbers or tensors that broadcast against x; None for no bound.

    >>> mg.clip(mg.tensor([-1.0, 0.5, 3.0]), 0, 1)
    tensor([0. , 0.5, 1. ], dtype=float32)
    """
    x = lift(x)
    if x.dtype.kind == "b":
        raise DTypeError("clip: x must be numbers", expected="an integer or floating-point dtype",
                         actual=f"x: {spec_of(x.value)!r}", remedy="x.astype(mg.int64)")  # fmt: skip
    if min is None and max is None:
        return x
    least, greatest = (-math.inf, math.inf) if x.dtype.kind == "f" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return bind(CLIP, *lift_all(x, least if min is None else min, greatest if max is None else max))


def _where_infer(condition: Spec, x1: Spec, x2: Spec) -> Spec:
    _need_condition(condition)
    shape = broadcast("where", ("condition", "x1", "x2"), (condition, x1, x2))
    return Spec(shape, np.result_type(x1.dtype, x2.dtype), x1.device)


def _need_condition(condition: Spec) -> None:
    if condition.dtype.kind != "b":
        raise DTypeError("where: condition must be boolean", expected="dtype bool", actual=f"condition: {condition!r}",
                         remedy="compare first, for example x != 0")  # fmt: skip


def _where_samples(rng: np.random.Generator) -> Iterator:
    x = draw(rng, (2, 3), None)
    yield (x > 0, x, draw(rng, (2, 3), None)), {}
    yield (x[0] > 0, draw(rng, (2, 1), None), draw(rng, (3,), None)), {}
    yield (np.array(True), x, draw(rng, (), None)), {}
    yield (x.T > 0, x.T, x[::-1].T), {}
    yield (np.array(False), draw(rng, (), None), draw(rng, (), None)), {}
    yield (np.zeros((0, 1), bool), draw(rng, (1, 3), None), draw(rng, (), None)), {}
    yield (x > 0, x.astype("f4"), np.float32(0)), {}
    yield (x > 0, x.astype("f4"), np.arange(3)), {}
    yield (x > 0, np.arange(3), np.arange(3, dtype="i4")), {}
    yield (x > 0, x > 1, x < 1), {}
    yield "bad", (x > 0, x, draw(rng, (2,), None)), {}, ShapeError
    yield "bad", (x, x, x), {}, DTypeError


WHERE = Op(
    "where",
    run=lambda xp, condition, x1, x2: xp.where(condition, x1, x2),
    numpy=np.where,
    infer=_where_infer,
    vjp=(
        None,
        lambda F, g, y, condition, x1, x2: F.where(condition, g, 0),
        lambda F, g, y, condition, x1, x2: F.where(condition, 0, g),
    ),
    saves=("condition",),
    elementwise=True,
    expression="where(condition, x1, x2)",
    latex=r"\begin{{cases}} {x1} & {condition} \\ {x2} & \text{{otherwise}} \end{{cases}}",
    derivative=("0", "[{condition}]", r"[\lnot {condition}]"),
    samples=_where_samples,
)


def where(condition: Any, x1: Any, x2: Any) -> Tensor:
    """x1 where the condition holds, x2 elsewhere.

    The operand that is not taken gets a gradient of exactly 0. If it was computed by something whose own gradient is
    infinite there (log(x) at 0), make it harmless before: `where(x > 0, log(where(x > 0, x, 1)), 0)`; 0 times infinity
    is NaN.

    Args:
        condition: boolean. x1, x2: any dtypes; they promote. All three broadcast.

    Raises:
        DTypeError: the condition is not boolean.

    >>> x = mg.tensor([-1.0, 2.0])
    >>> mg.where(x > 0, x, 0.0)
    tensor([0., 2.], dtype=float32)
    """
    condition = lift(condition)
    if condition.value.dtype.kind != "b":
        _need_condition(spec_of(condition.value))
    return bind(WHERE, condition, *lift_all(x1, x2))


FLOOR = elementwise(np.floor, latex=r"\lfloor {x} \rfloor")
CEIL = elementwise(np.ceil, latex=r"\lceil {x} \rceil")
ROUND = elementwise(np.rint, "round", latex=r"\operatorname{{round}} {x}")
TRUNC = elementwise(np.trunc, latex=r"\operatorname{{trunc}} {x}")


def _rounded(op: Op, x: Any) -> Tensor:
    """Integers are round already."""
    x = lift(x)
    return bind(op, x) if x.dtype.kind == "f" else x


def floor(x: Any) -> Tensor:
    """The largest whole number not above x, in the dtype of x. Carries no gradient.

    >>> mg.floor(mg.tensor([1.5, -1.5]))
    tensor([ 1., -2.], dtype=float32)
    """
    return _rounded(FLOOR, x)


def ceil(x: Any) -> Tensor:
    """The smallest whole number not below x, in the dtype of x. Carries no gradient.

    >>> mg.ceil(mg.tensor([1.5, -1.5]))
    tensor([ 2., -1.], dtype=float32)
    """
    return _rounded(CEIL, x)


def round(x: Any) -> Tensor:
    """The nearest whole number, the even one if two are equally near. Carries no gradient.

    >>> mg.round(mg.tensor([0.5, 1.5, -1.7]))
    tensor([ 0.,  2., -2.], dtype=float32)
    """
    return _rounded(ROUND, x)


def trunc(x: Any) -> Tensor:
    """The whole number next to x towards zero. Carries no gradient.

    >>> mg.trunc(mg.tensor([1.5, -1.5]))
    tensor([ 1., -1.], dtype=float32)
    """
    return _rounded(TRUNC, x)


# ------------------------------------------------------------------------------------------------ questions: boolean


ISNAN = elementwise(np.isnan, latex=r"\operatorname{{isnan}} {x}")
ISINF = elementwise(np.isinf, latex=r"\operatorname{{isinf}} {x}")
ISFINITE = elementwise(np.isfinite, latex=r"\operatorname{{isfinite}} {x}")


def isnan(x: Any) -> Tensor:
    """Whether x is NaN.

    >>> mg.isnan(mg.tensor([1.0, float("nan")]))
    tensor([False,  True], dtype=bool)
    """
    return unary(ISNAN, x)


def isinf(x: Any) -> Tensor:
    """Whether x is infinite, of either sign.

    >>> mg.isinf(mg.tensor([1.0, -float("inf")]))
    tensor([False,  True], dtype=bool)
    """
    return unary(ISINF, x)


def isfinite(x: Any) -> Tensor:
    """Whether x is neither infinite nor NaN.

    >>> mg.isfinite(mg.tensor([1.0, float("inf"), float("nan")]))
    tensor([ True, False, False], dtype=bool)
    """
    return unary(ISFINITE, x)


EQUAL = elementwise(np.equal, expression="x1 == x2", latex="{x1} = {x2}")
NOT_EQUAL = elementwise(np.not_equal, expression="x1 != x2", latex=r"{x1} \ne {x2}")
LESS = elementwise(np.less, expression="x1 < x2", latex="{x1} < {x2}")
LESS_EQUAL = elementwise(np.less_equal, expression="x1 <= x2", latex=r"{x1} \le {x2}")
GREATER = elementwise(np.greater, expression="x1 > x2", latex="{x1} > {x2}")
GREATER_EQUAL = elementwise(np.greater_equal, expression="x1 >= x2", latex=r"{x1} \ge {x2}")


def equal(x1: Any, x2: Any) -> Tensor:
    """x1 == x2; NaN equals nothing.

    >>> mg.equal(mg.tensor([1, 2]), 2)
    tensor([False,  True], dtype=bool)
    """
    return binary(EQUAL, x1, x2)


def not_equal(x1: Any, x2: Any) -> Tensor:
    """x1 != x2.

    >>> mg.not_equal(mg.tensor([1, 2]), 2)
    tensor([ True, False], dtype=bool)
    """
    return binary(NOT_EQUAL, x1, x2)


def less(x1: Any, x2: Any) -> Tensor:
    """x1 < x2.

    >>> mg.less(mg.tensor([1, 2]), 2)
    tensor([ True, False], dtype=bool)
    """
    return binary(LESS, x1, x2)


def less_equal(x1: Any, x2: Any) -> Tensor:
    """x1 <= x2.

    >>> mg.less_equal(mg.tensor([1, 2]), 1)
    tensor([ True, False], dtype=bool)
    """
    return binary(LESS_EQUAL, x1, x2)


def greater(x1: Any, x2: Any) -> Tensor:
    """x1 > x2.

    >>> mg.greater(mg.tensor([1, 2]), 1)
    tensor([False,  True], dtype=bool)
    """
    return binary(GREATER, x1, x2)


def greater_equal(x1: Any, x2: Any) -> Tensor:
    """x1 >= x2.

    >>> mg.greater_equal(mg.tensor([1, 2]), 2)
    tensor([False,  True], dtype=bool)
    """
    return binary(GREATER_EQUAL, x1, x2)


LOGICAL_AND = elementwise(np.logical_and, latex=r"{x1} \land {x2}")
LOGICAL_OR = elementwise(np.logical_or, latex=r"{x1} \lor {x2}")
LOGICAL_XOR = elementwise(np.logical_xor, latex=r"{x1} \oplus {x2}")
LOGICAL_NOT = elementwise(np.logical_not, latex=r"\lnot {x}")


def logical_and(x1: Any, x2: Any) -> Tensor:
    """Whether both hold (numbers hold unless they are 0).

    >>> mg.logical_and(mg.tensor([True, True]), mg.tensor([True, False]))
    tensor([ True, False], dtype=bool)
    """
    return binary(LOGICAL_AND, x1, x2)


def logical_or(x1: Any, x2: Any) -> Tensor:
    """Whether at least one holds.

    >>> mg.logical_or(mg.tensor([True, False]), mg.tensor([False, False]))
    tensor([ True, False], dtype=bool)
    """
    return binary(LOGICAL_OR, x1, x2)


def logical_xor(x1: Any, x2: Any) -> Tensor:
    """Whether exactly one holds.

    >>> mg.logical_xor(mg.tensor([True, True]), mg.tensor([True, False]))
    tensor([False,  True], dtype=bool)
    """
    return binary(LOGICAL_XOR, x1, x2)


def logical_not(x: Any) -> Tensor:
    """Whether x does not hold.

    >>> mg.logical_not(mg.tensor([True, False]))
    tensor([False,  True], dtype=bool)
    """
    return unary(LOGICAL_NOT, x)


BITWISE_AND = elementwise(np.bitwise_and, expression="x1 & x2", latex=r"{x1} \mathbin{{\&}} {x2}")
BITWISE_OR = elementwise(np.bitwise_or, expression="x1 | x2", latex=r"{x1} \mathbin{{|}} {x2}")
BITWISE_XOR = elementwise(np.bitwise_xor, expression="x1 ^ x2", latex=r"{x1} \oplus {x2}")
BITWISE_INVERT = elementwise(np.invert, "bitwise_invert", latex=r"\sim {x}")
BITWISE_LEFT_SHIFT = elementwise(
    np.left_shift, "bitwise_left_shift", expression="x1 << x2", latex=r"{x1} \ll {x2}", domain=((0, 9), (0, 5))
)
BITWISE_RIGHT_SHIFT = elementwise(
    np.right_shift, "bitwise_right_shift", expression="x1 >> x2", latex=r"{x1} \gg {x2}", domain=((0, 99), (0, 5))
)


def bitwise_and(x1: Any, x2: Any) -> Tensor:
    """The bits set in both: x1 & x2, of integers or booleans.

    >>> mg.bitwise_and(mg.tensor([6, 5]), 3)
    tensor([2, 1], dtype=int64)
    """
    return binary(BITWISE_AND, x1, x2)


def bitwise_or(x1: Any, x2: Any) -> Tensor:
    """The bits set in at least one: x1 | x2, of integers or booleans.

    >>> mg.bitwise_or(mg.tensor([6, 5]), 3)
    tensor([7, 7], dtype=int64)
    """
    return binary(BITWISE_OR, x1, x2)


def bitwise_xor(x1: Any, x2: Any) -> Tensor:
    """The bits set in exactly one: x1 ^ x2, of integers or booleans.

    >>> mg.bitwise_xor(mg.tensor([6, 5]), 3)
    tensor([5, 6], dtype=int64)
    """
    return binary(BITWISE_XOR, x1, x2)


def bitwise_invert(x: Any) -> Tensor:
    """All bits flipped: ~x, of integers or booleans.

    >>> mg.bitwise_invert(mg.tensor([0, 5]))
    tensor([-1, -6], dtype=int64)
    """
    return unary(BITWISE_INVERT, x)


def bitwise_left_shift(x1: Any, x2: Any) -> Tensor:
    """The bits of x1 moved up by x2 places: x1 << x2, of integers.

    >>> mg.bitwise_left_shift(mg.tensor([1, 3]), 2)
    tensor([ 4, 12], dtype=int64)
    """
    return binary(BITWISE_LEFT_SHIFT, x1, x2)


def bitwise_right_shift(x1: Any, x2: Any) -> Tensor:
    """The bits of x1 moved down by x2 places: x1 >> x2, of integers.

    >>> mg.bitwise_right_shift(mg.tensor([4, 13]), 2)
    tensor([1, 3], dtype=int64)
    """
    return binary(BITWISE_RIGHT_SHIFT, x1, x2)


# ----------------------------------------------------------------------------------------------------------- dtypes


def _astype_infer(x: Spec, dtype: Any) -> Spec:
    return Spec(x.shape, dtype, x.device)


def _astype_samples(rng: np.random.Generator) -> Iterator:
    for dtype in ("f8", "f4", "i8", "?"):
        yield (draw(rng, (3,), None, "i8"),), {"dtype": np.dtype(dtype)}
    for dtype in ("f8", "i8", "?"):  # not float32, too coarse for finite differences
        yield (draw(rng, (2, 3), None),), {"dtype": np.dtype(dtype)}
    yield (draw(rng, (), None),), {"dtype": np.dtype("f8")}
    yield (draw(rng, (0, 2), None),), {"dtype": np.dtype("f8")}
    yield (draw(rng, (3, 2), None, "f4").T,), {"dtype": np.dtype("f8")}
    yield (np.array([True, False]),), {"dtype": np.dtype("f4")}
    yield "bad", (draw(rng, (3,), None),), {"dtype": np.dtype("c16")}, DTypeError


ASTYPE = Op(
    "astype",
    run=lambda xp, x, *, dtype: x.astype(dtype),
    numpy=lambda x, dtype: x.astype(dtype),
    infer=_astype_infer,
    vjp=(lambda F, g, y, x, dtype: g,),  # converted back centrally
    elementwise=True,
    expression="astype(x, dtype)",
    latex=r"\mathrm{{{dtype}}}({x})",
    derivative=("1",),
    samples=_astype_samples,
)


def astype(x: Any, dtype: Any) -> Tensor:
    """x converted to another dtype; x itself if it has that dtype already.

    Floating-point results carry gradients, which are converted back. Integers and booleans have no gradient: the
    conversion to them goes through `stop_gradient`.

    Args:
        dtype: a NumPy dtype or its name, such as mg.float32 or "float32": bool, integer or floating point.

    Raises:
        DTypeError: there is no such dtype, or it is none of numbers.

    >>> mg.astype(mg.tensor([1.7, -1.7]), mg.int32)
    tensor([ 1, -1], dtype=int32)
    """
    x = lift(x)
    try:
        target = np.dtype(dtype)
    except TypeError:
        target = None
    if target is None or target.kind not in "biuf" or target.itemsize > 8:
        raise DTypeError("astype: dtype", expected="bool, an integer or a floating-point dtype of at most 64 bits",
                         actual=f"{dtype!r}", remedy="for example mg.float32")  # fmt: skip
    if x.dtype == target:
        return x
    if target.kind != "f" and x.requires_grad:
        x = stop_gradient(x)
    return bind(ASTYPE, x, dtype=target)


# ------------------------------------------------------------------------------------------------ activations, erf


def activation(
    name: str,
    run: Callable,
    *,
    vjp: Callable,
    saves: Sequence[str],
    expression: str,
    latex: str,
    derivative: str,
    numpy: Callable | None = None,
    into: Callable | None = None,
    **attrs: Any,
) -> Op:
    """An elementwise operation of one floating-point input that is not a ufunc. `attrs` are those of its samples."""

    def infer(x: Spec, **attrs: Any) -> Spec:
        need_float(name, "x", x)
        return x

    def samples(rng: np.random.Generator) -> Iterator:
        for shape in ((2, 3), (), (0, 3), (1,)):
            yield (draw(rng, shape, None),), attrs
        yield (4 * draw(rng, (3, 2), None).T,), attrs
        yield (draw(rng, (6,), None)[::-2],), attrs
        yield (draw(rng, (3,), None, "f4"),), attrs
        yield "bad", (draw(rng, (3,), None, "i8"),), attrs, DTypeError
        yield "bad", (draw(rng, (3,), None, "?"),), attrs, DTypeError

    return Op(
        name, run, numpy=numpy, into=into, infer=infer, vjp=(vjp,), saves=saves, expression=expression, latex=latex,
        derivative=(derivative,), elementwise=True, samples=samples,
    )  # fmt: skip


def activate(op: Op, x: Any, **attrs: Any) -> Tensor:
    """Apply an activation, to floating point only."""
    if type(x) is not Tensor:
        x = lift(x)
    if x.value.dtype.kind != "f":
        need_float(op.name, "x", spec_of(x.value))
    return bind(op, x, **attrs)


_maximum, _greater, _multiply = np.maximum, np.greater, np.multiply
_zero = {np.dtype(d): np.zeros((), d) for d in ("f2", "f4", "f8")}  # np.maximum converts the Python number 0 each time

RELU = activation(
    "relu",
    lambda xp, x: xp.maximum(x, 0),
    numpy=lambda x: _maximum(x, _zero.get(x.dtype, 0)),
    into=lambda x, out: _maximum(x, 0, out=out),
    vjp=lambda F, g, y, x: F.relu_grad(g, y),
    saves=("y",),
    expression="maximum(x, 0)",
    latex=r"\max({x}, 0)",
    derivative="[{x} > 0]",
)


def _relu_grad_numpy(g: Any, y: Any) -> Any:
    """The mask becomes a float before it is multiplied by, which is faster than mixing dtypes; it is fresh."""
    mask = _greater(y, _zero.get(y.dtype, 0)).astype(g.dtype)
    return _multiply(g, mask, mask) if mask.shape == g.shape != () else g * mask


def _relu_grad_samples(rng: np.random.Generator) -> Iterator:
    for shape in ((2, 3), (), (0, 3), (1,)):
        yield (draw(rng, shape, None), draw(rng, shape, None)), {}
    yield (draw(rng, (3, 2), None).T, draw(rng, (2, 6), None)[:, ::-2]), {}
    yield (draw(rng, (3,), None, "f4"), draw(rng, (3,), None, "f4")), {}
    yield "bad", (draw(rng, (3,), None), draw(rng, (2,), None)), {}, ShapeError


def _relu_grad_infer(g: Spec, y: Spec) -> Spec:
    return Spec(broadcast("relu_grad", ("g", "y"), (g, y)), g.dtype, g.device)


RELU_GRAD = Op(
    "relu_grad",
    lambda xp, g, y: g * (y > 0),
    numpy=_relu_grad_numpy,
    infer=_relu_grad_infer,
    vjp=(lambda F, g2, y2, g, y: F.relu_grad(g2, y), None),
    saves=("y",),
    expression="g * (y > 0)",
    latex=r"{g}\,[{y} > 0]",
    derivative=("[{y} > 0]", "0"),
    elementwise=True,
    samples=_relu_grad_samples,
)


def relu(x: Any) -> Tensor:
    """max(x, 0): the rectified linear unit. Its gradient at 0 is 0.

    >>> mg.relu(mg.tensor([-1.0, 2.0]))
    tensor([0., 2.], dtype=float32)
    """
    return activate(RELU, x)


LEAKY_RELU = activation(
    "leaky_relu",
    lambda xp, x, *, negative_slope=0.01: xp.where(x > 0, x, negative_slope * x),
    vjp=lambda F, g, y, x, negative_slope=0.01: F.where(x > 0, g, negative_slope * g),
    saves=("x",),
    expression="where(x > 0, x, negative_slope * x)",
    latex=r"\begin{{cases}} {x} & {x} > 0 \\ {negative_slope} {x} & \text{{otherwise}} \end{{cases}}",
    derivative=r"\begin{{cases}} 1 & {x} > 0 \\ {negative_slope} & \text{{otherwise}} \end{{cases}}",
    negative_slope=0.1,
)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere; the gradient at 0 is `negative_slope`.

    >>> mg.leaky_relu(mg.tensor([-1.0, 2.0]), 0.1)
    tensor([-0.1,  2. ], dtype=float32)
    """
    return activate(LEAKY_RELU, x, negative_slope=negative_slope)


ELU = activation(
    "elu",
    lambda xp, x, *, alpha=1.0: xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))),
    vjp=lambda F, g, y, x, alpha=1.0: g * F.where(x > 0, 1, alpha * F.exp(F.minimum(x, 0))),
    saves=("x",),
    expression="where(x > 0, x, alpha * expm1(minimum(x, 0)))",
    latex=r"\begin{{cases}} {x} & {x} > 0 \\ {alpha} (e^{{{x}}} - 1) & \text{{otherwise}} \end{{cases}}",
    derivative=r"\begin{{cases}} 1 & {x} > 0 \\ {alpha} e^{{{x}}} & \text{{otherwise}} \end{{cases}}",
    alpha=0.7,
)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where it is positive, alpha (exp(x) - 1) elsewhere; the gradient at 0 is `alpha`.

    Source: D.-A. Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR 2016.

    >>> mg.elu(mg.tensor(-1.0))
    tensor(-0.63212..., dtype=float32)
    """
    return activate(ELU, x, alpha=alpha)


def _sigmoid_run(xp: Any, x: Any) -> Any:
    """e / (1 + e) with e = exp(x), which is accurate to the last digits also far below zero, where 1 / (1 + exp(-x))
    overflows. Above the limit the result is 1 in any case."""
    e = xp.exp(xp.minimum(x, 11 if x.dtype.itemsize == 2 else 40))
    return e / (1 + e)


SIGMOID = activation(
    "sigmoid",
    _sigmoid_run,
    vjp=lambda F, g, y, x: g * (y * (1 - y)),
    saves=("y",),
    expression="1 / (1 + exp(-x))",
    latex=r"\sigma({x})",
    derivative=r"\sigma({x}) (1 - \sigma({x}))",
)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x)): the logistic function, in (0, 1), without overflow.

    >>> mg.sigmoid(mg.tensor(2.0))
    tensor(0.88079..., dtype=float32)
    """
    return activate(SIGMOID, x)


SOFTPLUS = activation(
    "softplus",
    lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))),
    vjp=lambda F, g, y, x: g * F.sigmoid(x),
    saves=("x",),
    expression="maximum(x, 0) + log1p(exp(-abs(x)))",
    latex=r"\ln (1 + e^{{{x}}})",
    derivative=r"\sigma({x})",
)


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)): a smooth relu, without overflow. -softplus(-x) is the logarithm of sigmoid(x).

    >>> mg.softplus(mg.tensor(0.0))
    tensor(0.69314..., dtype=float32)
    """
    return activate(SOFTPLUS, x)


def _silu_grad(F: Any, g: Any, y: Any, x: Any) -> Any:
    s = F.sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


SILU = activation(
    "silu",
    lambda xp, x: x * _sigmoid_run(xp, x),
    vjp=_silu_grad,
    saves=("x",),
    expression="x / (1 + exp(-x))",
    latex=r"{x} \, \sigma({x})",
    derivative=r"\sigma({x}) (1 + {x} (1 - \sigma({x})))",
)


def silu(x: Any) -> Tensor:
    """x sigmoid(x), also called swish.

    Source: S. Elfwing et al., "Sigmoid-weighted linear units", Neural Networks 107, 2018.

    >>> mg.silu(mg.tensor(2.0))
    tensor(1.76159..., dtype=float32)
    """
    return activate(SILU, x)


# erf(x) = x P(x²) / Q(x²), with all coefficients positive, so that nothing cancels and the sign takes care of itself.
# Fitted to the smallest largest relative error on [0, limit]: 3e-8 with six coefficients each, 5e-17 with thirteen.
# Beyond the limit the result rounds to 1. (NumPy has no erf; one formula without branches is what arrays want.)
_ERF_SINGLE = (
    4.0,
    (1.1283791416763944, 0.19338724826683967, 0.05307846799790877, 0.003875908620585522, 0.0002842886951955168,
     1.986572075621915e-06),
    (1.0, 0.5047175869331392, 0.11528258463793789, 0.015192459563761534, 0.0011835619079162921, 3.740343946839336e-05),
)  # fmt: skip
_ERF_DOUBLE = (
    6.0,
    (1.1283791670955126, 0.22141970062657199, 0.06634175930223617, 0.00695749469285436, 0.0008617846879237715,
     5.771041645757735e-05, 3.941608148111849e-06, 1.7216132894128064e-07, 6.835915687715171e-09,
     1.7434789898482186e-10, 3.3254476648520937e-12, 2.172023742427418e-14, 1.50814945962182e-17),
    (1.0, 0.5295614338542869, 0.1353143313270231, 0.02212407666336024, 0.002585971821810199, 0.00022839971090495066,
     1.5683005459414078e-05, 8.460411231943985e-07, 3.56373974025049e-08, 1.1386804332301294e-09,
     2.5696931728238775e-11, 3.270073530342392e-13, 8.559423670635415e-16),
)  # fmt: skip


def _polynomial(coefficients: Sequence[float], z: Any) -> Any:
    """c0 + c1 z + c2 z² + ... by Horner's rule."""
    *rest, last = coefficients
    total = z * last
    for c in reversed(rest[1:]):
        total += c
        total *= z
    total += rest[0]
    return total


def _erf_run(xp: Any, x: Any) -> Any:
    if xp.__name__ == "cupy":
        from cupyx.scipy.special import erf

        return erf(x)
    limit, above, below = _ERF_DOUBLE if x.dtype.itemsize == 8 else _ERF_SINGLE
    near = xp.minimum(xp.maximum(x, -limit), limit).astype("f8")
    z = near * near
    y = near * _polynomial(above, z) / _polynomial(below, z)
    y = xp.minimum(xp.maximum(y, -1), 1)  # rounding may lead a little beyond
    return xp.where(xp.abs(x) < limit, y, xp.sign(x)).astype(x.dtype)


ERF = activation(
    "erf",
    _erf_run,
    vjp=lambda F, g, y, x: g * (2 / math.sqrt(math.pi) * F.exp(-x * x)),
    saves=("x",),
    expression="erf(x)",
    latex=r"\operatorname{{erf}} {x}",
    derivative=r"\frac{{2}}{{\sqrt \pi}} e^{{-{x}^2}}",
)


def erf(x: Any) -> Tensor:
    """The error function, 2/√π times the integral of exp(-t²) from 0 to x. Its relative error is at most 1e-15 in
    float64, and in the last digit in float32.

    >>> mg.erf(mg.tensor(1.0))
    tensor(0.84270..., dtype=float32)
    """
    return activate(ERF, x)


def _gelu_run(xp: Any, x: Any) -> Any:
    return 0.5 * x * (1 + _erf_run(xp, x * math.sqrt(0.5)))


def _gelu_grad(F: Any, g: Any, y: Any, x: Any) -> Any:
    below = 0.5 * (1 + F.erf(x * math.sqrt(0.5)))
    density = F.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return g * (below + x * density)


GELU = activation(
    "gelu",
    _gelu_run,
    vjp=_gelu_grad,
    saves=("x",),
    expression="0.5 * x * (1 + erf(x * 0.7071067811865476))",
    latex=r"{x} \, \Phi({x})",
    derivative=r"\Phi({x}) + {x} \, \varphi({x})",
)
_SCALE, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh_grad(F: Any, g: Any, y: Any, x: Any) -> Any:
    square = x * x
    t = F.tanh(_SCALE * x * (1 + _CUBIC * square))
    return g * (0.5 * (1 + t) + 0.5 * _SCALE * x * (1 - t * t) * (1 + 3 * _CUBIC * square))


GELU_TANH = activation(
    "gelu_tanh",
    lambda xp, x: 0.5 * x * (1 + xp.tanh(_SCALE * x * (1 + _CUBIC * (x * x)))),
    vjp=_gelu_tanh_grad,
    saves=("x",),
    expression="0.5 * x * (1 + tanh(0.7978845608028654 * x * (1 + 0.044715 * (x * x))))",
    latex=r"\tfrac{{1}}{{2}} {x} \, (1 + \tanh(\sqrt{{2/\pi}} ({x} + 0.044715 {x}^3)))",
    derivative=r"\Phi({x}) + {x} \, \varphi({x})",
)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x times the probability that a standard normal variable is below x.

    Args:
        x: floating point, any shape.
        approximate: "none" for the exact form (with erf), "tanh" for the approximation that GPT-2 uses (`gelu_tanh`).

    Source: D. Hendrycks and K. Gimpel, "Gaussian error linear units", 2016.

    >>> mg.gelu(mg.tensor(2.0))
    tensor(1.95449..., dtype=float32)
    """
    one_of("gelu", "approximate", approximate, ("none", "tanh"))
    return activate(GELU if approximate == "none" else GELU_TANH, x)


def gelu_tanh(x: Any) -> Tensor:
    """`gelu` with the normal distribution approximated by a tanh; differs from it by at most 5e-4.

    >>> mg.gelu_tanh(mg.tensor(2.0))
    tensor(1.95459..., dtype=float32)
    """
    return activate(GELU_TANH, x)
