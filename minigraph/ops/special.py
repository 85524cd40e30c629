"""Operations that are one step of mathematics but several of arithmetic: softmax and its relatives, and the losses.

They are operations of their own for three reasons. The formula taken literally overflows, and the stable way to compute
it is not what a reader should have to see in a graph. Their gradients collapse into something much simpler than the
chain rule would find (that of cross-entropy is `softmax(logits) - onehot(labels)`). And one fused operation is several
times faster than its parts.

Each loss takes `reduction`: "mean" (default) or "sum" over all elements, or "none" for one value for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ArgumentError, BoundsError, DTypeError, ShapeError
from ..op import Op, Spec, spec_of
from ..tensor import Tensor, bind, lift, lift_all
from .common import axes as normalized
from .common import need_float, need_integer, number, one_axis, one_of, reduced_shape
from .reduction import Axis, folded_axes, samples_for, spread
from .shape import ITEM, moveaxis, reshape

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "log_softmax", "logsumexp", "mse_loss",
    "softmax",
]  # fmt: skip

_add: Any = np.add.reduce
_maximum: Any = np.maximum.reduce


# --------------------------------------------------------------------------------------------------- softmax family


def largest(x: Any, axis: int | tuple[int, ...]) -> Any:
    """The maximum along `axis`, with the axis kept.

    NumPy reduces short rows one by one, which costs ten times as much as reducing the columns of the transpose.
    """
    if x.ndim == 2 and axis in (1, -1) and x.shape[1] <= 32:
        return _maximum(x.T.copy(), 0)[:, None]
    return _maximum(x, axis, None, None, True)


@lru_cache(maxsize=64)
def _ones(n: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(n, dtype)


def row_sums(x: np.ndarray) -> np.ndarray:
    """The sum of each row of a matrix as a product with ones, in a third of the time of `numpy.add.reduce`."""
    return x.dot(_ones(x.shape[1], x.dtype))


def _along_infer(name: str) -> Callable:
    def infer(x: Spec, *, axis: int = -1) -> Spec:
        need_float(name, "x", x)
        k = one_axis(name, axis, x.ndim)
        if x.shape[k] == 0:
            raise ShapeError(f"{name}: the axis is empty", expected=f"at least one element on axis {k}",
                             actual=f"x: {x!r}")  # fmt: skip
        return x

    return infer


def _along_samples(rng: np.random.Generator) -> Iterator:
    def x(*shape: int) -> np.ndarray:
        return 2 * rng.standard_normal(shape)

    for shape, axis in (((2, 3), -1), ((2, 3), 0), ((3,), 0), ((2, 3, 2), 1), ((2, 1), -1), ((0, 3), -1), ((2, 40), 1)):
        yield (x(*shape),), {"axis": axis}
    yield (x(3, 2).T,), {"axis": -1}
    yield (x(4, 3)[::-2],), {"axis": 1}
    yield (x(2, 3).astype("f4"),), {"axis": -1}
    yield (np.array([[1000.0, 1001.0], [-1000.0, -1000.0]]),), {"axis": 1}
    yield "bad", (np.arange(3),), {"axis": -1}, DTypeError
    yield "bad", (x(2, 3),), {"axis": 2}, IndexError
    yield "bad", (x(2, 0),), {"axis": 1}, ShapeError
    yield "bad", (x(),), {"axis": -1}, IndexError


def _along(op: Op, x: Any, axis: int) -> Tensor:
    x = lift(x)
    if x.value.dtype.kind != "f":
        need_float(op.name, "x", spec_of(x.value))
    return bind(op, x, axis=one_axis(op.name, axis, x.ndim))


def _softmax_run(xp: Any, x: Any, *, axis: int = -1) -> Any:
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _softmax_numpy(x: Any, axis: int = -1, out: Any = None) -> Any:
    e = np.subtract(x, largest(x, axis), out)
    np.exp(e, e)
    if e.ndim == 2 and axis in (1, -1):
        e /= row_sums(e)[:, None]
    else:
        e /= _add(e, axis, None, None, True)
    return e


SOFTMAX = Op(
    "softmax",
    run=_softmax_run,
    numpy=_softmax_numpy,
    into=lambda x, out, axis=-1: _softmax_numpy(x, axis, out),
    infer=_along_infer("softmax"),
    vjp=(lambda F, g, y, x, axis=-1: y * (g - F.sum(g * y, axis=axis, keepdims=True)),),
    saves=("y",),
    latex=r"\frac{{e^{{{x}_i}}}}{{\sum_j e^{{{x}_j}}}}",
    derivative=(r"p_i ([i = j] - p_j)",),
    flops=lambda x, **attrs: 5 * x.size,
    samples=_along_samples,
)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis: positive numbers that add up to 1. Never overflows.

    An element of -inf gets probability 0; where all are -inf, or one is +inf, there is no answer and the result is NaN.

    Args:
        x: floating point, at least one axis.
        axis: along which the result adds up to 1.

    Raises:
        DTypeError: x is not floating point. BoundsError: there is no such axis. ShapeError: the axis is empty.

    >>> mg.softmax(mg.tensor([1000.0, 1000.0]))
    tensor([0.5, 0.5], dtype=float32)
    """
    return _along(SOFTMAX, x, axis)


def _log_softmax_run(xp: Any, x: Any, *, axis: int = -1) -> Any:
    z = x - xp.max(x, axis=axis, keepdims=True)
    return z - xp.log(xp.sum(xp.exp(z), axis=axis, keepdims=True))


def _log_softmax_numpy(x: Any, axis: int = -1, out: Any = None) -> Any:
    z = np.subtract(x, largest(x, axis), out)
    e = np.exp(z)
    z -= np.log(row_sums(e)[:, None] if e.ndim == 2 and axis in (1, -1) else _add(e, axis, None, None, True))
    return z


LOG_SOFTMAX = Op(
    "log_softmax",
    run=_log_softmax_run,
    numpy=_log_softmax_numpy,
    into=lambda x, out, axis=-1: _log_softmax_numpy(x, axis, out),
    infer=_along_infer("log_softmax"),
    vjp=(lambda F, g, y, x, axis=-1: g - F.exp(y) * F.sum(g, axis=axis, keepdims=True),),
    saves=("y",),
    latex=r"{x}_i - \ln \sum_j e^{{{x}_j}}",
    derivative=(r"[i = j] - p_j",),
    flops=lambda x, **attrs: 5 * x.size,
    samples=_along_samples,
)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)), accurate also where the probability is too small to represent.

    Arguments and errors are those of `softmax`.

    >>> mg.log_softmax(mg.tensor([0.0, -1000.0]))
    tensor([    0., -1000.], dtype=float32)
    """
    return _along(LOG_SOFTMAX, x, axis)


def _logsumexp_run(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))  # inf - inf would be NaN
    total = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else total.reshape(reduced_shape(x.shape, normalized("logsumexp", axis, x.ndim), False))


def _logsumexp_infer(x: Spec, *, axis: Axis = None, keepdims: bool = False) -> Spec:
    need_float("logsumexp", "x", x)
    folded = normalized("logsumexp", axis, x.ndim)
    if 0 in [x.shape[a] for a in folded]:
        raise ShapeError("logsumexp: nothing to reduce", expected="at least one element along the reduced axes",
                         actual=f"x: {x!r}, axis={axis}")  # fmt: skip
    return Spec(reduced_shape(x.shape, folded, keepdims), x.dtype, x.device)


def _logsumexp_grad(F: Any, g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    finite = F.where(y == -math.inf, 0, y)  # of nothing but -inf every share is 0
    return spread(F, g, x, axis, keepdims) * F.exp(x - spread(F, finite, x, axis, keepdims))


def _logsumexp_samples(rng: np.random.Generator) -> Iterator:
    yield from samples_for(identity=False, ints=False)(rng)
    yield (np.array([[1000.0, 1001.0], [-1000.0, -1000.0]]),), {"axis": (1,)}
    yield "bad", (np.arange(3),), {"axis": None}, DTypeError


LOGSUMEXP = Op(
    "logsumexp",
    run=_logsumexp_run,
    infer=_logsumexp_infer,
    vjp=(_logsumexp_grad,),
    saves=("x", "y"),
    latex=r"\ln \sum_j e^{{{x}_j}}",
    derivative=("p_j",),
    flops=lambda x, **attrs: 4 * x.size,
    samples=_logsumexp_samples,
)


def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow: the smooth maximum. Of nothing but -inf it is -inf.

    Args:
        x: floating point. axis: None for all, an integer, or a tuple. keepdims: keep the folded axes with size 1.

    Raises:
        DTypeError: x is not floating point. ShapeError: there are no elements.

    >>> mg.logsumexp(mg.tensor([1000.0, 1000.0]))
    tensor(1000.693..., dtype=float32)
    """
    x = lift(x)
    need_float("logsumexp", "x", spec_of(x.value))
    return bind(LOGSUMEXP, x, axis=folded_axes("logsumexp", axis, x.ndim), keepdims=keepdims)


# ------------------------------------------------------------------------------------------------------- reductions


REDUCTIONS = ("mean", "sum", "none")


def need_reduction(name: str, reduction: Any) -> None:
    """Raise unless `reduction` is one of the three."""
    one_of(name, "reduction", reduction, REDUCTIONS)


def need_elements(name: str, argument: str, spec: Spec, reduction: str) -> None:
    """Raise if the mean over nothing is asked for."""
    if reduction == "mean" and spec.size == 0:
        raise ShapeError(
            f"{name}: the batch is empty",
            expected="at least one element to take the mean of",
            actual=f"{argument}: {spec!r}",
            remedy='skip empty batches, or reduction="sum"',
        )


def reduced(xp: Any, losses: Any, reduction: str) -> Any:
    """Losses, one for each element, to what was asked for."""
    if reduction == "none":
        return losses
    total = _add(losses, None) if xp is np else losses.sum()
    return total / losses.size if reduction == "mean" else total


def share(g: Any, size: int, reduction: str) -> Any:
    """The gradient that reaches each element."""
    return g / size if reduction == "mean" else g


# ----------------------------------------------------------------------------------------------------- cross-entropy


def _cross_entropy_infer(logits: Spec, labels: Spec, *, reduction: str = "mean") -> tuple[Spec, Spec]:
    need_reduction("cross_entropy", reduction)
    need_float("cross_entropy", "logits", logits)
    need_integer("cross_entropy", "labels", labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ShapeError("cross_entropy: logits and labels do not fit", expected="logits (n, classes) and labels (n,)",
                         actual=f"logits: {logits!r}, labels: {labels!r}")  # fmt: skip
    if logits.shape[1] == 0:
        raise ShapeError("cross_entropy: no classes", expected="at least one", actual=f"logits: {logits!r}")
    need_elements("cross_entropy", "logits", logits, reduction)
    rows = Spec(labels.shape, logits.dtype, logits.device)
    return (rows if reduction == "none" else Spec((), logits.dtype, logits.device)), rows


_UNSIGNED = {4: np.uint32, 8: np.uint64}


def check_labels(labels: Any, classes: int) -> None:
    """Raise for the first label that is not one of 0 ... classes - 1."""
    if labels.dtype.kind == "i" and labels.dtype.itemsize in _UNSIGNED:  # read as unsigned, a negative label is huge
        if labels.view(_UNSIGNED[labels.dtype.itemsize]).max() < classes:
            return
    elif labels.min() >= 0 and labels.max() < classes:
        return
    wrong = (labels < 0) | (labels >= classes)
    at, count = int(wrong.argmax()), int(wrong.sum())
    raise BoundsError(
        "cross_entropy: a label is not a class",
        expected=f"labels from 0 to {classes - 1}, for logits with {classes} classes",
        actual=f"label {int(labels[at])} at position {at}" + (f" ({count} labels are wrong)" if count > 1 else ""),
    )


def places(labels: Any) -> Any:
    """Labels as signed integers: uint64 added to an index would be a float."""
    return labels.astype(np.int64) if labels.dtype.kind == "u" else labels


def _cross_entropy_run(xp: Any, logits: Any, labels: Any, *, reduction: str = "mean") -> tuple[Any, Any]:
    n, classes = logits.shape
    if n:
        check_labels(labels, classes)
    top = xp.max(logits, axis=1)
    total = xp.log(xp.sum(xp.exp(logits - top[:, None]), axis=1)) + top
    return reduced(xp, total - logits[xp.arange(n), labels], reduction), total


@lru_cache(maxsize=64)
def _row_starts(n: int, classes: int) -> np.ndarray:
    return np.arange(0, n * classes, classes)


def _cross_entropy_numpy(logits: Any, labels: Any, reduction: str = "mean") -> tuple[Any, Any]:
    n, classes = logits.shape
    if n:
        check_labels(labels, classes)
    top = largest(logits, 1)
    e = logits - top
    np.exp(e, e)
    total = row_sums(e)
    np.log(total, total)
    total += top[:, 0]
    losses = total - logits.take(_row_starts(n, classes) + places(labels))
    return reduced(np, losses, reduction), total


def _cross_entropy_grad(
    F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, logits: Any, labels: Any, reduction: str = "mean"
) -> list[Any]:
    """softmax(logits) - onehot(labels), times the gradient of each row; softmax from the normaliser that was kept.

    The normaliser is a result, too, and has a gradient where this gradient itself is differentiated.
    """
    n, classes = logits.shape
    of_loss, of_total = g
    if type(y) is tuple:
        return [_softmax_minus_onehot(F.xp, of_loss, of_total, y[1], logits, labels, reduction), None]
    share_ = share(of_loss, n, reduction) if of_loss is not None else None
    p = F.exp(logits - F.reshape(bind(ITEM, y, index=1), shape=(n, 1)))
    onehot = F.astype(F.reshape(labels, shape=(n, 1)) == F.arange(classes), dtype=logits.dtype)

    def column(v: Any) -> Any:
        return F.reshape(v, shape=(n, 1)) if v.ndim else v

    result = None if share_ is None else (p - onehot) * column(share_)
    if of_total is not None:
        extra = p * column(of_total)
        result = extra if result is None else result + extra
    return [result, None]


def _softmax_minus_onehot(
    xp: Any, of_loss: Any, of_total: Any, total: Any, logits: Any, labels: Any, reduction: str
) -> Any:
    """The gradient of the logits as arrays, in one buffer."""
    n, classes = logits.shape
    p = xp.ascontiguousarray(xp.exp(logits - total[:, None]))
    rows: Any = 0 if of_loss is None else share(of_loss, n, reduction)
    scale = rows if of_total is None else rows + of_total
    p *= scale[:, None] if scale.ndim else scale
    if of_loss is not None:
        p.reshape(-1)[xp.arange(0, n * classes, classes) + places(labels)] -= rows  # a view of p: one index is faster
    return p


def _cross_entropy_samples(rng: np.random.Generator) -> Iterator:
    def x(n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
        return 2 * rng.standard_normal((n, classes)), rng.integers(0, classes, n)

    for reduction in ("mean", "sum", "none"):
        yield x(4, 3), {"reduction": reduction}
    yield x(1, 1), {"reduction": "mean"}
    yield x(3, 40), {"reduction": "mean"}
    yield x(0, 3), {"reduction": "sum"}
    yield x(0, 3), {"reduction": "none"}
    logits, labels = x(6, 4)
    yield (logits[::-2], labels[::2]), {"reduction": "mean"}
    yield (logits.T, labels[:4] % 4), {"reduction": "sum"}
    yield (logits.astype("f4"), labels.astype("u1")), {"reduction": "mean"}
    yield (logits, labels.astype("u8")), {"reduction": "mean"}
    yield (np.array([[1000.0, -1000.0], [1000.0, 1000.0]]), np.array([1, 0], "i4")), {"reduction": "none"}
    yield "bad", (logits, np.array([0, 1, 4, 0, -1, 9])), {"reduction": "mean"}, BoundsError
    yield "bad", (logits, -1 - labels), {"reduction": "mean"}, BoundsError
    yield "bad", (logits, labels.astype("f4")), {"reduction": "mean"}, DTypeError
    yield "bad", (labels[:, None], labels), {"reduction": "mean"}, DTypeError
    yield "bad", (logits, labels[:5]), {"reduction": "mean"}, ShapeError
    yield "bad", (logits[:0], labels[:0]), {"reduction": "mean"}, ShapeError
    yield "bad", (logits[:, :0], labels), {"reduction": "mean"}, ShapeError
    yield "bad", (logits, labels), {"reduction": "median"}, ArgumentError


CROSS_ENTROPY = Op(
    "cross_entropy",
    run=_cross_entropy_run,
    numpy=_cross_entropy_numpy,
    infer=_cross_entropy_infer,
    vjp=_cross_entropy_grad,
    saves=("logits", "labels", "y"),
    latex=r"-\ln \operatorname{{softmax}}({logits})_{{{labels}}}",
    derivative=(r"\operatorname{{softmax}}({logits}) - \operatorname{{onehot}}({labels})", "0"),
    flops=lambda logits, labels, **attrs: 5 * logits.size,
    samples=_cross_entropy_samples,
)


def cross_entropy(logits: Any, labels: Any, *, reduction: str = "mean") -> Tensor:
    """How improbable the labels are by the logits: -log(softmax(logits)[label]), in nats. One stable, fused operation.

    Args:
        logits: floating point, shape (n, classes): any numbers, not probabilities. As in PyTorch also (classes,) with
            one label (), and (n, classes, d1, ...) with labels (n, d1, ...).
        labels: integers from 0 to classes - 1, shape (n,).
        reduction: "mean", "sum" or "none" (one loss for each label).

    Raises:
        BoundsError: a label is not a class; the first one and its position are named.
        ShapeError: shapes that do not fit, no classes, the mean of an empty batch.
        DTypeError: logits are not floating point, or labels not integers.

    >>> mg.cross_entropy(mg.tensor([[0.0, 0.0], [0.0, 1000.0]]), mg.tensor([0, 1]), reduction="none")
    tensor([0.69314..., 0. ], dtype=float32)
    """
    logits, labels = lift(logits), lift(labels)
    shape = labels.value.shape
    if len(shape) != 1 or len(logits.value.shape) != 2:
        x = logits.shape
        if not x or (x[:1] + x[2:] if len(x) > 1 else ()) != shape:
            raise ShapeError(
                "cross_entropy: logits and labels do not fit",
                expected="logits (n, classes) and labels (n,); or (n, classes, d1, ...) and (n, d1, ...)",
                actual=f"logits: {spec_of(logits.value)!r}, labels: {spec_of(labels.value)!r}",
                remedy="labels are class numbers, not one-hot rows" if shape == x else "",
            )
        classes = x[1] if len(x) > 1 else x[0]
        logits = reshape(moveaxis(logits, 1, -1) if len(x) > 2 else logits, (math.prod(shape), classes))
        labels = reshape(labels, (math.prod(shape),))
    a, b = logits.value, labels.value
    fits = a.dtype.kind == "f" and b.dtype.kind in "iu" and b.shape == a.shape[:1] and a.size
    if not fits or reduction not in REDUCTIONS:
        _cross_entropy_infer(spec_of(a), spec_of(b), reduction=reduction)
    loss = bind(ITEM, bind(CROSS_ENTROPY, logits, labels, reduction=reduction), index=0)
    return loss if reduction != "none" or len(shape) == 1 else reshape(loss, shape)


# ------------------------------------------------------------------------------------------------------ other losses


def pointwise_loss(
    name: str,
    run: Callable,
    gradients: Callable,
    *,
    names: tuple[str, str] = ("prediction", "target"),
    numpy: Callable | None = None,
    latex: str,
    derivative: Sequence[str],
    **sample_attrs: Any,
) -> Op:
    """A loss that compares two tensors of the same shape, called `names`, element by element.

    Args:
        gradients: `gradients(F, needs, a, b, **attrs)`: the local derivative of an element's loss by each, None where
            it is not needed.
        sample_attrs: attributes for the samples.
    """

    def infer(a: Spec, b: Spec, *, reduction: str = "mean", **attrs: Any) -> Spec:
        need_reduction(name, reduction)
        for argument, s in zip(names, (a, b), strict=True):
            need_float(name, argument, s)
        if a.shape != b.shape:
            raise ShapeError(
                f"{name}: {names[0]} and {names[1]} have different shapes",
                expected=f"{names[0]}.shape == {names[1]}.shape ((n,) against (n, 1) would compare all pairs)",
                actual=f"{names[0]}: {a!r}, {names[1]}: {b!r}",
                remedy=f"reshape one of them, or mg.broadcast_to({names[1]}, {names[0]}.shape)",
            )
        need_elements(name, names[0], a, reduction)
        return Spec(a.shape if reduction == "none" else (), np.result_type(a.dtype, b.dtype), a.device)

    def vjp(
        F: Any, needs: Sequence[bool], g: Any, y: Any, a: Any, b: Any, reduction: str = "mean", **attrs: Any
    ) -> list[Any]:
        g = share(g, a.size, reduction)
        return [None if d is None else g * d for d in gradients(F, needs, a, b, **attrs)]

    def samples(rng: np.random.Generator) -> Iterator:
        def x(*shape: int) -> np.ndarray:
            return 1.5 * rng.standard_normal(shape)

        for shape, reduction in (
            ((2, 3), "mean"), ((4,), "sum"), ((2, 2), "none"), ((), "mean"), ((0, 3), "sum"), ((0,), "none"),
        ):  # fmt: skip
            yield (x(*shape), x(*shape)), {"reduction": reduction, **sample_attrs}
        yield (x(3, 2).T, x(4, 3)[::-2]), {"reduction": "mean", **sample_attrs}
        yield (x(3).astype("f4"), x(3).astype("f4")), {"reduction": "mean", **sample_attrs}
        yield (x(3).astype("f4"), x(3)), {"reduction": "mean", **sample_attrs}
        yield "bad", (x(3), x(3, 1)), {"reduction": "mean", **sample_attrs}, ShapeError
        yield "bad", (x(0), x(0)), {"reduction": "mean", **sample_attrs}, ShapeError
        yield "bad", (x(3), np.arange(3)), {"reduction": "mean", **sample_attrs}, DTypeError
        yield "bad", (x(3), x(3)), {"reduction": "average", **sample_attrs}, ArgumentError

    return Op(
        name, run, numpy=numpy, infer=infer, vjp=vjp, saves=names, latex=latex, derivative=derivative,
        flops=lambda a, b, **attrs: 4 * a.size, samples=samples,
    )  # fmt: skip


def compare(op: Op, prediction: Any, target: Any, reduction: str, **attrs: Any) -> Tensor:
    """Apply a pointwise loss."""
    if type(prediction) is not Tensor or type(target) is not Tensor:
        prediction, target = lift_all(prediction, target)
    a, b = prediction.value, target.value
    need_reduction(op.name, reduction)
    if a.shape != b.shape or a.dtype is not b.dtype or a.dtype.kind != "f" or not a.size:
        op.infer(spec_of(a), spec_of(b), reduction=reduction, **attrs)
    return bind(op, prediction, target, reduction=reduction, **attrs)


def _mse_run(xp: Any, prediction: Any, target: Any, *, reduction: str = "mean") -> Any:
    e = prediction - target
    return reduced(xp, e * e, reduction)


def _both(needs: Sequence[bool], d: Any) -> tuple[Any, Any]:
    """The derivatives of a function of the difference of its two inputs."""
    return (d if needs[0] else None), (-d if needs[1] else None)


MSE_LOSS = pointwise_loss(
    "mse_loss",
    _mse_run,
    lambda F, needs, prediction, target: _both(needs, 2 * (prediction - target)),
    latex=r"({prediction} - {target})^2",
    derivative=(r"2 ({prediction} - {target})", r"-2 ({prediction} - {target})"),
)


def mse_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared error (prediction - target)².

    Args:
        prediction, target: floating point, of the same shape (they are not broadcast).
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ, or the mean of nothing. DTypeError: not floating point.

    >>> mg.mse_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(2., dtype=float32)
    """
    return compare(MSE_LOSS, prediction, target, reduction)


def _huber_run(xp: Any, prediction: Any, target: Any, *, delta: float = 1.0, reduction: str = "mean") -> Any:
    e = prediction - target
    c = xp.maximum(xp.minimum(e, delta), -delta)
    return reduced(xp, c * (e - 0.5 * c), reduction)


@lru_cache(maxsize=64)
def _huber_constants(delta: float, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    return np.array(delta, dtype), np.array(-delta, dtype), np.array(0.5, dtype)


def _huber_numpy(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Any:
    """With its numbers made arrays beforehand, and the sum of the products as a product: half the time."""
    if prediction.ndim != 1 or prediction.dtype is not target.dtype or prediction.shape != target.shape:
        return _huber_run(np, prediction, target, delta=delta, reduction=reduction)
    high, low, half = _huber_constants(delta, prediction.dtype)
    e = np.subtract(prediction, target)
    c = np.minimum(e, high)
    np.maximum(c, low, out=c)
    e -= np.multiply(c, half)
    if reduction == "none":
        return np.multiply(c, e, e)
    total = np.dot(c, e)
    return total / e.size if reduction == "mean" else total


def _huber_gradients(
    F: Any, needs: Sequence[bool], prediction: Any, target: Any, delta: float = 1.0
) -> tuple[Any, Any]:
    return _both(needs, F.maximum(F.minimum(prediction - target, delta), -delta))


HUBER_LOSS = pointwise_loss(
    "huber_loss",
    _huber_run,
    _huber_gradients,
    numpy=_huber_numpy,
    latex=r"\begin{{cases}} \tfrac{{1}}{{2}} e^2 & |e| \le {delta} \\ {delta} (|e| - \tfrac{{1}}{{2}} {delta}) & "
    r"\text{{otherwise}} \end{{cases}}, \; e = {prediction} - {target}",
    derivative=(r"\min(\max(e, -{delta}), {delta})", r"-\min(\max(e, -{delta}), {delta})"),
    delta=0.8,
)


def huber_loss(prediction: Any, target: Any, delta: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """Half the squared error where it is at most `delta`, and growing only linearly beyond: outliers pull less.

    Args:
        prediction, target: floating point, of the same shape (they are not broadcast).
        delta: where the parabola becomes a line; positive, in the units of the prediction.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ, or the mean of nothing. DTypeError: not floating point.
        ArgumentError: delta is not positive.

    Source: P. J. Huber, "Robust estimation of a location parameter", 1964.

    >>> mg.huber_loss(mg.tensor([0.5, 3.0]), mg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.125, 2.5  ], dtype=float32)
    """
    if not number("huber_loss", "delta", delta) > 0:
        raise ArgumentError("huber_loss: delta", expected="a positive number", actual=f"{delta!r}")
    return compare(HUBER_LOSS, prediction, target, reduction, delta=delta)


def _bce_run(xp: Any, logits: Any, target: Any, *, reduction: str = "mean") -> Any:
    return reduced(xp, xp.maximum(logits, 0) - logits * target + xp.log1p(xp.exp(-xp.abs(logits))), reduction)


BINARY_CROSS_ENTROPY = pointwise_loss(
    "binary_cross_entropy_with_logits",
    _bce_run,
    lambda F, needs, logits, target: (F.sigmoid(logits) - target if needs[0] else None, -logits if needs[1] else None),
    names=("logits", "target"),
    latex=r"\ln (1 + e^{{{logits}}}) - {target} \, {logits}",
    derivative=(r"\sigma({logits}) - {target}", "-{logits}"),
)


def binary_cross_entropy_with_logits(logits: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """How improbable the targets are by the logits of the probability of "yes", in nats, without overflow:
    -target log(p) - (1 - target) log(1 - p), with p = sigmoid(logits).

    Args:
        logits: floating point. target: probabilities (0 and 1, or between), of the same shape and floating point.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ, or the mean of nothing. DTypeError: not floating point.

    >>> mg.binary_cross_entropy_with_logits(mg.tensor([0.0, 1000.0]), mg.tensor([1.0, 1.0]), reduction="none")
    tensor([0.69314..., 0. ], dtype=float32)
    """
    return compare(BINARY_CROSS_ENTROPY, logits, target, reduction)
