"""Reductions: operations that fold axes away (sum, mean, extremes, truth), and the running sum.

`axis=None` folds all axes; an integer or a tuple folds those, and `keepdims=True` leaves them with size 1, so that the
result broadcasts against the operand. As attributes the axes are always non-negative and in order, and None when all
are meant, so that equal reductions compare equal.

The gradient of a reduction goes back to every element that was folded: the rules put the folded axes back (`spread`)
and let broadcasting do the rest.

Sums and products of small integers and booleans are int64 or uint64, as in the Array API standard. What has no identity
raises on nothing: `max` and `min`, and also `mean`, of no elements are errors, where NumPy's mean would be NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Op, Spec, spec_of
from ..tensor import Tensor, bind, lift
from .common import axes as normalized
from .common import flag, need_float, number, one_axis, reduced_shape
from .elementwise import astype

__all__ = [
    "all", "any", "argmax", "argmin", "cumulative_sum", "max", "mean", "min", "prod", "std", "sum", "var",
]  # fmt: skip

_add: Any = np.add.reduce  # called with all arguments in position, (x, axis, dtype, out, keepdims): it is faster
_multiply: Any = np.multiply.reduce
_maximum: Any = np.maximum.reduce
_minimum: Any = np.minimum.reduce
_and: Any = np.logical_and.reduce
_or: Any = np.logical_or.reduce
Axis = int | tuple[int, ...] | None


def folded_axes(name: str, axis: Any, ndim: int) -> Axis:
    """The axes to fold as an attribute: None for all, else numbers from 0 to ndim - 1, in order."""
    if axis is None:
        return None
    found = normalized(name, axis, ndim)
    return None if len(found) == ndim else tuple(sorted(found))


def folded_count(name: str, shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements are folded into one."""
    return math.prod([shape[a] for a in normalized(name, axis, len(shape))])


def spread(F: Any, g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """`g`, shaped like the result of a reduction, with the folded axes put back as size 1, to broadcast against `x`."""
    if keepdims or axis is None:
        return g
    return F.reshape(g, shape=reduced_shape(x.shape, normalized("gradient", axis, x.ndim), True))


def infer_as(name: str, dtype: Callable[[Spec], Any], *, identity: bool = True) -> Callable:
    """The `infer` of a reduction whose result has the dtype `dtype(x)`; without an identity it needs elements."""

    def infer(x: Spec, *, axis: Axis = None, keepdims: bool = False) -> Spec:
        found = normalized(name, axis, x.ndim)
        if not identity and 0 in [x.shape[a] for a in found]:
            raise ShapeError(
                f"{name}: nothing to reduce: {name} of no elements has no value",
                expected="at least one element along the reduced axes",
                actual=f"x: {x!r}, axis={axis}",
                remedy="handle the empty case before, for example with `if x.size`",
            )
        return Spec(reduced_shape(x.shape, found, keepdims), dtype(x), x.device)

    return infer


def samples_for(*, identity: bool = True, ints: bool = True, **attrs: Any) -> Callable:
    """Samples of a reduction: every kind of axis, view and dtype."""

    def samples(rng: np.random.Generator) -> Iterator:
        def x(*shape: int) -> np.ndarray:
            return rng.permutation(math.prod(shape)).reshape(shape) / 4 - 0.9 + 0.02 * rng.random(shape)  # no ties

        for shape, axis in (
            ((2, 3), None), ((2, 3), (1,)), ((2, 3), -2), ((2, 3, 2), (0, 2)), ((2, 3, 2), (-1, 1)), ((3,), 0),
            ((), None), ((1, 3), (0,)), ((2, 1, 3), (1,)),
        ):  # fmt: skip
            yield (x(*shape),), {"axis": axis, "keepdims": False, **attrs}
        yield (x(2, 3),), {"axis": (1,), "keepdims": True, **attrs}
        yield (x(2, 3),), {"axis": None, "keepdims": True, **attrs}
        yield (x(3, 4).T[::-2],), {"axis": (0,), **attrs}
        yield (x(0, 3),), {"axis": (1,), **attrs}
        yield (x(2, 3).astype("f4"),), {"axis": (0,), **attrs}
        if ints:
            for dtype in ("i8", "i4", "u1", "?"):
                yield (np.arange(6).reshape(2, 3).astype(dtype),), {"axis": (0,), **attrs}
        if identity:
            yield (x(0, 3),), {"axis": (0,), **attrs}
            yield (x(0),), {"axis": None, **attrs}
        else:
            yield "bad", (x(0, 3),), {"axis": (0,), **attrs}, ShapeError
            yield "bad", (x(0),), {"axis": None, **attrs}, ShapeError
        yield "bad", (x(2, 3),), {"axis": 2, **attrs}, IndexError
        yield "bad", (x(2, 3),), {"axis": (0, 0), **attrs}, ShapeError
        yield "bad", (x(2, 3),), {"axis": 0.5, **attrs}, DTypeError

    return samples


# ------------------------------------------------------------------------------------------------------------- sums


@lru_cache(maxsize=64)
def _ones(n: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(n, dtype)


def _sum_numpy(x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    """The sum. Over the rows of a small matrix (the gradient of every bias) it is a product with a row of ones, which
    BLAS does in a third of the time."""
    if axis == (0,) and not keepdims and x.ndim == 2 and len(x) <= 1024 and x.dtype.char in "fd":
        return np.dot(_ones(len(x), x.dtype), x, out)
    return _add(x, axis, None, out, keepdims)


SUM = Op(
    "sum",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.sum(x, axis=axis, keepdims=keepdims),
    numpy=_sum_numpy,
    into=lambda x, out, axis=None, keepdims=False: _sum_numpy(x, axis, keepdims, out),
    infer=infer_as("sum", lambda x: _sum_dtype(x.dtype)),
    vjp=(lambda F, g, y, x, axis=None, keepdims=False: F.broadcast_to(spread(F, g, x, axis, keepdims), shape=x.shape),),
    latex=r"\sum {x}",
    derivative=("1",),
    flops=lambda x, **attrs: x.size,
    samples=samples_for(),
)


def _sum_dtype(dtype: np.dtype) -> np.dtype:
    if dtype.kind in "bi" and dtype.itemsize < 8:
        return np.dtype("i8")
    return np.dtype("u8") if dtype.kind == "u" else dtype


def sum(x: Any, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`; 0 for no elements.

    Args:
        x: any shape and dtype. Small integers and booleans add up to int64 (unsigned ones to uint64).
        axis: None for all, an integer, or a tuple of integers.
        dtype: convert x first.
        keepdims: keep the folded axes with size 1.

    Raises:
        BoundsError: there is no such axis. ShapeError: an axis is named twice.

    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> mg.sum(x), mg.sum(x, axis=0)
    (tensor(10., dtype=float32), tensor([4., 6.], dtype=float32))
    """
    x = lift(x) if dtype is None else astype(x, dtype)
    return bind(SUM, x, axis=None if axis is None else folded_axes("sum", axis, x.ndim), keepdims=keepdims)


def _mean_numpy(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Half of `numpy.mean`'s time; float16 is left to NumPy, which adds it up in float32."""
    if x.dtype.itemsize == 2:
        return np.mean(x, axis=axis, keepdims=keepdims)
    total = _add(x, axis, None, None, keepdims)
    return total / (x.size if axis is None else folded_count("mean", x.shape, axis))


def _mean_grad(F: Any, g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.broadcast_to(spread(F, g / folded_count("mean", x.shape, axis), x, axis, keepdims), shape=x.shape)


MEAN = Op(
    "mean",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.mean(x, axis=axis, keepdims=keepdims),
    numpy=_mean_numpy,
    infer=infer_as("mean", lambda x: x.dtype if x.dtype.kind == "f" else np.dtype("f8"), identity=False),
    vjp=(_mean_grad,),
    latex=r"\tfrac{{1}}{{n}} \sum {x}",
    derivative=(r"\tfrac{{1}}{{n}}",),
    flops=lambda x, **attrs: x.size + 1,
    samples=samples_for(identity=False),
)


def mean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over `axis`.

    Args:
        x: any shape. The mean of floats has their dtype, that of integers and booleans is float64, as in NumPy.
        axis, keepdims: as for `sum`.

    Raises:
        ShapeError: there are no elements (NumPy would give NaN).

    >>> mg.mean(mg.tensor([[1.0, 2.0], [3.0, 5.0]]), axis=1)
    tensor([1.5, 4. ], dtype=float32)
    """
    x = lift(x)
    axis = None if axis is None else folded_axes("mean", axis, x.ndim)
    if x.value.size == 0:
        MEAN.infer(spec_of(x.value), axis=axis, keepdims=keepdims)
    return bind(MEAN, x, axis=axis, keepdims=keepdims)


def _others(F: Any, g: Any, x: Any) -> Any:
    """For every element along the last axis, `g` times the product of all the *other* elements.

    Dividing the whole product by the element would be wrong where it is 0. So: multiply the two halves of the row with
    each other until one element is left, then go back, handing to each half what came from above times the other half
    (the two sweeps of G. Blelloch, "Prefix sums and their applications", 1990). It takes 3n products, and being made of
    products only, it is right for zeros at every order.
    """
    halves, n = [], x.shape[-1]
    while n > 1:
        if n % 2:
            x = F.pad(x, pad_width=((0, 0),) * (x.ndim - 1) + ((0, 1),), constant_values=1)
        half = (n + 1) // 2
        left, right = x[..., :half], x[..., half:]
        halves.append((left, right, n))
        x, n = left * right, half
    for left, right, n in reversed(halves):
        g = F.concat([g * right, g * left], axis=-1)[..., :n]
    return g


def _prod_grad(F: Any, g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    if not x.size:
        return x * 0
    folded = normalized("prod", axis, x.ndim)
    kept = tuple([a for a in range(x.ndim) if a not in folded])
    order = kept + folded
    sizes = tuple([x.shape[a] for a in order])
    flat = F.reshape(F.permute_dims(x, axes=order), shape=(*sizes[: len(kept)], math.prod(sizes[len(kept) :])))
    result = F.reshape(_others(F, F.reshape(g, shape=(*flat.shape[:-1], 1)), flat), shape=sizes)
    return F.permute_dims(result, axes=tuple([order.index(a) for a in range(x.ndim)]))


def _prod_samples(rng: np.random.Generator) -> Iterator:
    yield from samples_for()(rng)
    yield (np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.5], [1.0, -0.5, 2.0]]),), {"axis": (1,)}
    yield (np.array([0.0]),), {"axis": None}
    yield (rng.uniform(0.5, 1.5, 11),), {"axis": None}


PROD = Op(
    "prod",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.prod(x, axis=axis, keepdims=keepdims),
    numpy=lambda x, axis=None, keepdims=False: _multiply(x, axis, None, None, keepdims),
    into=lambda x, out, axis=None, keepdims=False: _multiply(x, axis, None, out, keepdims),
    infer=infer_as("prod", lambda x: _sum_dtype(x.dtype)),
    vjp=(_prod_grad,),
    saves=("x",),
    latex=r"\prod {x}",
    derivative=(r"\prod_{{j \ne i}} {x}_j",),
    flops=lambda x, **attrs: x.size,
    samples=_prod_samples,
)


def prod(x: Any, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`; 1 for no elements. Its gradient is right also where elements are 0.

    Arguments, dtypes and errors are those of `sum`.

    >>> mg.prod(mg.tensor([2.0, 3.0, 4.0]))
    tensor(24., dtype=float32)
    """
    x = lift(x) if dtype is None else astype(x, dtype)
    return bind(PROD, x, axis=folded_axes("prod", axis, x.ndim), keepdims=keepdims)


def _running_infer(x: Spec, axis: Any) -> Spec:
    one_axis("cumulative_sum", axis, x.ndim)
    return Spec(x.shape, _sum_dtype(x.dtype), x.device)


def _running_samples(rng: np.random.Generator) -> Iterator:
    for shape, axis in (((4,), 0), ((2, 3), 1), ((2, 3), -2), ((0, 3), 1), ((0,), 0), ((1,), 0)):
        yield (rng.standard_normal(shape),), {"axis": axis}
    yield (rng.standard_normal((4, 3)).T[::-1],), {"axis": 0}
    yield (rng.standard_normal(3).astype("f4"),), {"axis": 0}
    yield (np.arange(4, dtype="i4"),), {"axis": 0}
    yield (np.array([True, True]),), {"axis": 0}
    yield "bad", (rng.standard_normal((2, 3)),), {"axis": 2}, IndexError
    yield "bad", (rng.standard_normal((2, 3)),), {"axis": None}, ArgumentError


CUMULATIVE_SUM = Op(
    "cumulative_sum",
    run=lambda xp, x, *, axis: xp.cumsum(x, axis=axis),
    numpy=lambda x, axis: np.add.accumulate(x, axis),
    infer=_running_infer,
    vjp=(lambda F, g, y, x, axis: F.flip(F.cumulative_sum(F.flip(g, axis=(axis,)), axis=axis), axis=(axis,)),),
    latex=r"\sum_{{j \le i}} {x}_j",
    derivative=(r"[j \le i]",),
    flops=lambda x, **attrs: x.size,
    samples=_running_samples,
)


def cumulative_sum(x: Any, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The running sum along an axis: element i of the result is the sum of elements 0 to i.

    Args:
        x: at least one axis; any dtype.
        axis: which; may be left out when there is only one.
        dtype: convert x first.
        include_initial: begin with a 0, so that the result is one longer.

    Raises:
        ArgumentError: several axes, and none chosen. BoundsError: there is no such axis.

    >>> mg.cumulative_sum(mg.tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.], dtype=float32)
    """
    x = lift(x) if dtype is None else astype(x, dtype)
    if axis is None:
        if x.ndim != 1:
            raise ArgumentError("cumulative_sum: which axis?", expected="axis=..., unless x has exactly one axis",
                                actual=f"x: {spec_of(x.value)!r}, axis=None")  # fmt: skip
        axis = 0
    axis = one_axis("cumulative_sum", axis, x.ndim)
    y = bind(CUMULATIVE_SUM, x, axis=axis)
    if not flag("cumulative_sum", "include_initial", include_initial):
        return y
    from .creation import zeros
    from .shape import concat

    start = zeros((*y.shape[:axis], 1, *y.shape[axis + 1 :]), dtype=y.dtype, device=y.device)
    return concat([start, y], axis=axis)


# ---------------------------------------------------------------------------------------------------------- extremes


def _extreme_grad(F: Any, g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Equal parts to all elements that attain the extreme."""
    hit = F.astype(x == spread(F, y, x, axis, keepdims), dtype=x.dtype)
    return hit * (spread(F, g, x, axis, keepdims) / F.sum(hit, axis=axis, keepdims=True))


def _extreme(reduce: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """NumPy reduces short rows one by one, which costs several times as much as going through the transpose."""
    if axis == (1,) and not keepdims and x.ndim == 2 and x.shape[1] <= 32:
        return reduce(x.T.copy(), 0)
    return reduce(x, axis, None, None, keepdims)


MAX = Op(
    "max",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.max(x, axis=axis, keepdims=keepdims),
    numpy=lambda x, axis=None, keepdims=False: _extreme(_maximum, x, axis, keepdims),
    into=lambda x, out, axis=None, keepdims=False: _maximum(x, axis, None, out, keepdims),
    infer=infer_as("max", lambda x: x.dtype, identity=False),
    vjp=(_extreme_grad,),
    saves=("x", "y"),
    latex=r"\max {x}",
    derivative=(r"[{x} = \max {x}]",),
    flops=lambda x, **attrs: x.size,
    samples=samples_for(identity=False),
)
MIN = Op(
    "min",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.min(x, axis=axis, keepdims=keepdims),
    numpy=lambda x, axis=None, keepdims=False: _extreme(_minimum, x, axis, keepdims),
    into=lambda x, out, axis=None, keepdims=False: _minimum(x, axis, None, out, keepdims),
    infer=infer_as("min", lambda x: x.dtype, identity=False),
    vjp=(_extreme_grad,),
    saves=("x", "y"),
    latex=r"\min {x}",
    derivative=(r"[{x} = \min {x}]",),
    flops=lambda x, **attrs: x.size,
    samples=samples_for(identity=False),
)


def max(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The largest element along `axis`; NaN if there is a NaN.

    Equal largest elements share the gradient equally, like PyTorch's `amax`.

    Args:
        x: any shape and dtype; the result has its dtype. axis, keepdims: as for `sum`.

    Raises:
        ShapeError: there are no elements.

    >>> mg.max(mg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    tensor([5., 3.], dtype=float32)
    """
    x = lift(x)
    return bind(MAX, x, axis=folded_axes("max", axis, x.ndim), keepdims=keepdims)


def min(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The smallest element along `axis`; NaN if there is a NaN.

    Equal smallest elements share the gradient equally, like PyTorch's `amin`.

    Args:
        x: any shape and dtype; the result has its dtype. axis, keepdims: as for `sum`.

    Raises:
        ShapeError: there are no elements.

    >>> mg.min(mg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    tensor([1., 2.], dtype=float32)
    """
    x = lift(x)
    return bind(MIN, x, axis=folded_axes("min", axis, x.ndim), keepdims=keepdims)


def _place_samples(rng: np.random.Generator) -> Iterator:
    for item in samples_for(identity=False)(rng):
        axis = item[-2]["axis"] if item[0] == "bad" and isinstance(item[0], str) else item[1]["axis"]
        if axis is None or isinstance(axis, int):
            yield item
    yield (rng.standard_normal((2, 0)),), {"axis": 0, "keepdims": False}


def _place_infer(name: str) -> Callable:
    inner = infer_as(name, lambda x: np.dtype("i8"), identity=False)

    def infer(x: Spec, *, axis: int | None = None, keepdims: bool = False) -> Spec:
        return inner(x, axis=axis if axis is None else one_axis(name, axis, x.ndim), keepdims=keepdims)

    return infer


ARGMAX = Op(
    "argmax",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.argmax(x, axis=axis, keepdims=keepdims),
    infer=_place_infer("argmax"),
    latex=r"\operatorname{{argmax}} {x}",
    flops=lambda x, **attrs: x.size,
    samples=_place_samples,
)
ARGMIN = Op(
    "argmin",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.argmin(x, axis=axis, keepdims=keepdims),
    infer=_place_infer("argmin"),
    latex=r"\operatorname{{argmin}} {x}",
    flops=lambda x, **attrs: x.size,
    samples=_place_samples,
)


def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """The index of the first largest element along `axis`, or into the flattened x; int64. Carries no gradient.

    Raises:
        ShapeError: there are no elements.

    >>> mg.argmax(mg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    tensor([1, 0], dtype=int64)
    """
    x = lift(x)
    return bind(ARGMAX, x, axis=axis if axis is None else one_axis("argmax", axis, x.ndim), keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """The index of the first smallest element along `axis`, or into the flattened x; int64. Carries no gradient.

    Raises:
        ShapeError: there are no elements.

    >>> mg.argmin(mg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    tensor([0, 1], dtype=int64)
    """
    x = lift(x)
    return bind(ARGMIN, x, axis=axis if axis is None else one_axis("argmin", axis, x.ndim), keepdims=keepdims)


# -------------------------------------------------------------------------------------------------------------- truth


ALL = Op(
    "all",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.all(x, axis=axis, keepdims=keepdims),
    numpy=lambda x, axis=None, keepdims=False: _and(x, axis, None, None, keepdims),
    infer=infer_as("all", lambda x: np.dtype(bool)),
    latex=r"\forall {x}",
    samples=samples_for(),
)
ANY = Op(
    "any",
    run=lambda xp, x, *, axis=None, keepdims=False: xp.any(x, axis=axis, keepdims=keepdims),
    numpy=lambda x, axis=None, keepdims=False: _or(x, axis, None, None, keepdims),
    infer=infer_as("any", lambda x: np.dtype(bool)),
    latex=r"\exists {x}",
    samples=samples_for(),
)


def all(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Whether all elements along `axis` hold (numbers hold unless they are 0); true for no elements.

    >>> mg.all(mg.tensor([[True, False], [True, True]]), axis=1)
    tensor([False,  True], dtype=bool)
    """
    x = lift(x)
    return bind(ALL, x, axis=folded_axes("all", axis, x.ndim), keepdims=keepdims)


def any(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Whether at least one element along `axis` holds; false for no elements.

    >>> mg.any(mg.tensor([[True, False], [False, False]]), axis=1)
    tensor([ True, False], dtype=bool)
    """
    x = lift(x)
    return bind(ANY, x, axis=folded_axes("any", axis, x.ndim), keepdims=keepdims)


# ------------------------------------------------------------------------------------------------------------- spread


def _freedom(name: str, x: Any, axis: Axis, correction: float) -> float:
    """n - correction, which must be positive: the number that the squares are divided by."""
    n = folded_count(name, x.shape, axis)
    if n - correction <= 0:
        raise ShapeError(
            f"{name}: too few elements",
            expected=f"more than correction={correction} elements along the reduced axes",
            actual=f"{n}: x of shape {tuple(x.shape)}, axis={axis}",
            remedy="correction=0 divides by the number of elements",
        )
    return n - correction


def _var_run(xp: Any, x: Any, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    if x.dtype.itemsize == 2:  # sums of float16 overflow
        return xp.var(x.astype("f4"), axis=axis, ddof=correction, keepdims=keepdims).astype(x.dtype)
    return xp.var(x, axis=axis, ddof=correction, keepdims=keepdims)


def _var_numpy(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """What `numpy.var` does, with less ceremony."""
    if x.dtype.itemsize == 2:
        return _var_run(np, x, axis=axis, correction=correction, keepdims=keepdims)
    deviation = x - _mean_numpy(x, axis, True)
    total = _add(deviation * deviation, axis, None, None, keepdims)
    return total / (folded_count("var", x.shape, axis) - correction)


def _std_run(xp: Any, x: Any, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    return xp.sqrt(_var_run(xp, x, axis=axis, correction=correction, keepdims=keepdims))


def _deviation_infer(name: str) -> Callable:
    def infer(x: Spec, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Spec:
        need_float(name, "x", x)
        _freedom(name, x, axis, correction)
        return Spec(reduced_shape(x.shape, normalized(name, axis, x.ndim), keepdims), x.dtype, x.device)

    return infer


def _var_grad(
    F: Any, g: Any, y: Any, x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Any:
    scale = 2 / _freedom("var", x, axis, correction)
    return spread(F, g * scale, x, axis, keepdims) * (x - F.mean(x, axis=axis, keepdims=True))


def _std_grad(
    F: Any, g: Any, y: Any, x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Any:
    scale = 1 / _freedom("std", x, axis, correction)
    share = g * scale / F.where(y == 0, 1, y)
    return spread(F, share, x, axis, keepdims) * (x - F.mean(x, axis=axis, keepdims=True))


def _deviation_samples(rng: np.random.Generator) -> Iterator:
    yield from samples_for(identity=False, ints=False, correction=0.0)(rng)
    yield (rng.standard_normal((3, 4)),), {"axis": (1,), "correction": 1.0, "keepdims": True}
    yield "bad", (rng.standard_normal((3, 1)),), {"axis": (1,), "correction": 1.0}, ShapeError
    yield "bad", (np.arange(3),), {"axis": None}, DTypeError


VAR = Op(
    "var",
    run=_var_run,
    numpy=_var_numpy,
    infer=_deviation_infer("var"),
    vjp=(_var_grad,),
    saves=("x",),
    latex=r"\operatorname{{var}} {x}",
    derivative=(r"\tfrac{{2}}{{n}} ({x} - \bar{{x}})",),
    flops=lambda x, **attrs: 4 * x.size,
    samples=_deviation_samples,
)
STD = Op(
    "std",
    run=_std_run,
    numpy=lambda x, **attrs: np.sqrt(_var_numpy(x, **attrs)),
    infer=_deviation_infer("std"),
    vjp=(_std_grad,),
    saves=("x", "y"),
    latex=r"\operatorname{{std}} {x}",
    derivative=(r"\frac{{{x} - \bar{{x}}}}{{n \operatorname{{std}} {x}}}",),
    flops=lambda x, **attrs: 4 * x.size,
    samples=lambda rng: (s for s in _deviation_samples(rng) if s[0] == "bad" or s[0][0].ndim),  # std of one is a kink
)


def _deviation(op: Op, x: Any, axis: Any, correction: float, keepdims: bool) -> Tensor:
    x = lift(x)
    axis, correction = folded_axes(op.name, axis, x.ndim), number(op.name, "correction", correction)
    need_float(op.name, "x", spec_of(x.value))
    _freedom(op.name, x, axis, correction)
    return bind(op, x, axis=axis, correction=float(correction), keepdims=keepdims)


def var(x: Any, axis: Any = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance: the mean square of the deviation from the mean.

    Args:
        x: floating point, any shape. axis, keepdims: as for `sum`.
        correction: the squares are divided by n - correction; 1 gives the unbiased estimate from a sample (PyTorch's
            default; here as in the Array API standard and in NumPy it is 0).

    Raises:
        ShapeError: n - correction is not positive. DTypeError: x is not floating point.

    >>> mg.var(mg.tensor([1.0, 2.0, 3.0])), mg.var(mg.tensor([1.0, 2.0, 3.0]), correction=1)
    (tensor(0.66666..., dtype=float32), tensor(1., dtype=float32))
    """
    return _deviation(VAR, x, axis, correction, keepdims)


def std(x: Any, axis: Any = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation, the square root of `var`. Where all elements are equal its gradient is 0.

    Arguments and errors are those of `var`.

    >>> mg.std(mg.tensor([1.0, 2.0, 3.0]), correction=1)
    tensor(1., dtype=float32)
    """
    return _deviation(STD, x, axis, correction, keepdims)
