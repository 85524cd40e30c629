"""Operations that networks need beside the catalogue's arithmetic: the look-up of embeddings, and further losses.

The losses follow `special`: each is one operation, takes `reduction`, and does not broadcast its operands. Labels and
indices are checked where the operation runs, so that static mode refuses a wrong one, too, instead of wrapping around.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..autodiff import stop_gradient
from ..errors import ArgumentError, BoundsError, ShapeError
from ..op import Op, Spec, spec_of
from ..tensor import Tensor, bind, lift, lift_all
from .common import integer, need_float, need_integer, number
from .elementwise import where
from .shape import reshape
from .special import (
    REDUCTIONS,
    compare,
    huber_loss,
    need_elements,
    need_reduction,
    pointwise_loss,
    reduced,
    share,
)

__all__ = ["binary_cross_entropy", "embedding", "l1_loss", "nll_loss", "smooth_l1_loss"]


def check_classes(name: str, what: str, labels: Any, classes: int) -> None:
    """Raise for the first of `labels` that is not one of 0 ... classes - 1."""
    if labels.size and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        wrong = ((labels < 0) | (labels >= classes)).reshape(-1)
        at, count = int(wrong.argmax()), int(wrong.sum())
        place = at if labels.ndim == 1 else tuple(int(i) for i in np.unravel_index(at, labels.shape))
        raise BoundsError(
            f"{name}: {what} out of range",
            expected=f"0 to {classes - 1}" if classes else "none: there are no classes",
            actual=f"{int(labels.reshape(-1)[at])} at position {place}"
            + (f" ({count} are wrong)" if count > 1 else ""),
        )


# -------------------------------------------------------------------------------------------------------- embedding


def _embedding_run(xp: Any, indices: Any, weight: Any) -> Any:
    check_classes("embedding", "an index is", indices, weight.shape[0])
    return xp.take(weight, indices, 0)


def _embedding_infer(indices: Spec, weight: Spec) -> Spec:
    need_integer("embedding", "indices", indices)
    if weight.ndim != 2:
        raise ShapeError(
            "embedding: weight is a table", expected="shape (num_embeddings, embedding_dim)", actual=f"{weight!r}"
        )
    return Spec((*indices.shape, weight.shape[1]), weight.dtype, weight.device)


def _embedding_samples(rng: np.random.Generator) -> Iterator:
    table = rng.standard_normal((4, 3))
    yield (np.array([1, 0, 1]), table), {}
    yield (np.array([[3], [3]], "i4"), table.T.copy().T), {}
    yield (np.array(2, "u1"), table), {}
    yield (np.zeros((0, 2), int), table), {}
    yield (np.array([1, 0]), table.astype("f4")[::-2]), {}
    yield "bad", (np.array([0, -1]), table), {}, BoundsError
    yield "bad", (np.array([4]), table), {}, BoundsError
    yield "bad", (np.array([1.0]), table), {}, TypeError
    yield "bad", (np.array([1]), table[0]), {}, ShapeError


EMBEDDING = Op(
    "embedding",
    run=_embedding_run,
    infer=_embedding_infer,
    vjp=(None, lambda F, g, y, indices, weight: F.scatter_add(g, indices, shape=weight.shape)),
    saves=("indices",),
    latex="{weight}_{{{indices}}}",
    derivative=("0", r"\textstyle\sum_{{n : {indices}_n = i}} \bar y_n"),
    samples=_embedding_samples,
)


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """Rows of a table: `weight[indices]`, with indices from 0.

    Args:
        indices: integers of any shape (...).
        weight: the table, shape (num_embeddings, embedding_dim).
        padding_idx: this row gets no gradient (negative: counted from the end).

    Returns:
        shape (..., embedding_dim).

    Raises:
        BoundsError: an index is not one of 0 ... num_embeddings - 1. DTypeError: indices are not integers.

    >>> mg.embedding(mg.tensor([1, 0]), mg.tensor([[0.0, 1.0], [2.0, 3.0]]))
    tensor([[2., 3.],
            [0., 1.]], dtype=float32)
    """
    i, table = lift(indices), lift(weight)
    if i.dtype.kind not in "iu" or table.ndim != 2:
        _embedding_infer(spec_of(i.value), spec_of(table.value))
    y = bind(EMBEDDING, i, table)
    if padding_idx is None:
        return y
    n = table.shape[0]
    if not -n <= integer("embedding", "padding_idx", padding_idx) < n:
        raise ArgumentError("embedding: padding_idx", expected=f"{-n} to {n - 1}", actual=f"{padding_idx}")
    return where(reshape(i == padding_idx % n, (*i.shape, 1)), stop_gradient(y), y)


# ----------------------------------------------------------------------------------------------------------- losses


def _nll_infer(log_probabilities: Spec, labels: Spec, *, reduction: str = "mean") -> Spec:
    need_reduction("nll_loss", reduction)
    need_float("nll_loss", "log_probabilities", log_probabilities)
    need_integer("nll_loss", "labels", labels)
    if log_probabilities.ndim != 2 or labels.shape != log_probabilities.shape[:1]:
        raise ShapeError(
            "nll_loss: log-probabilities and labels do not fit",
            expected="(n, classes) and labels (n,)",
            actual=f"log_probabilities: {log_probabilities!r}, labels: {labels!r}",
        )
    need_elements("nll_loss", "log_probabilities", log_probabilities, reduction)
    return Spec(labels.shape if reduction == "none" else (), log_probabilities.dtype, log_probabilities.device)


def _nll_run(xp: Any, log_probabilities: Any, labels: Any, *, reduction: str = "mean") -> Any:
    n, classes = log_probabilities.shape
    check_classes("nll_loss", "a label is", labels, classes)
    return reduced(xp, -log_probabilities[xp.arange(n), labels], reduction)


def _nll_grad(F: Any, g: Any, y: Any, log_probabilities: Any, labels: Any, reduction: str = "mean") -> Any:
    n = labels.shape[0]
    rows = -share(g, n, reduction)
    if not rows.ndim:
        rows = F.broadcast_to(rows, shape=(n,))
    return F.scatter_add(rows, F.arange(n), labels, shape=log_probabilities.shape)


def _nll_samples(rng: np.random.Generator) -> Iterator:
    logp, labels = rng.standard_normal((4, 3)) - 2, np.array([2, 0, 1, 2])
    for reduction in ("mean", "sum", "none"):
        yield (logp, labels), {"reduction": reduction}
    yield (logp.astype("f4")[::-2], labels.astype("u1")[:2]), {"reduction": "mean"}
    yield (logp[:0], labels[:0]), {"reduction": "sum"}
    yield "bad", (logp, labels - 1), {"reduction": "mean"}, BoundsError
    yield "bad", (logp, labels + 1), {"reduction": "mean"}, BoundsError
    yield "bad", (logp, labels[:3]), {"reduction": "mean"}, ShapeError
    yield "bad", (logp[:0], labels[:0]), {"reduction": "mean"}, ShapeError
    yield "bad", (logp, labels.astype("f4")), {"reduction": "mean"}, TypeError
    yield "bad", (logp, labels), {"reduction": "median"}, ArgumentError


NLL_LOSS = Op(
    "nll_loss",
    run=_nll_run,
    infer=_nll_infer,
    vjp=(_nll_grad, None),
    saves=("labels",),
    latex="-{log_probabilities}_{{{labels}}}",
    derivative=(r"-\operatorname{{onehot}}({labels})", "0"),
    samples=_nll_samples,
)


def nll_loss(log_probabilities: Any, labels: Any, *, reduction: str = "mean") -> Tensor:
    """The negative log-likelihood -log_probabilities[label]: what follows `log_softmax`.

    Args:
        log_probabilities: shape (n, classes), floating point.
        labels: integers from 0 to classes - 1, shape (n,).
        reduction: "mean", "sum" or "none".

    Raises:
        BoundsError: a label is not a class. ShapeError: shapes that do not fit, or the mean of an empty batch.
        DTypeError: labels are not integers.

    >>> mg.nll_loss(mg.tensor([[-0.5, -1.0]]), mg.tensor([1]))
    tensor(1., dtype=float32)
    """
    a, b = lift(log_probabilities), lift(labels)
    if (
        a.ndim != 2
        or b.shape != a.shape[:1]
        or a.dtype.kind != "f"
        or b.dtype.kind not in "iu"
        or not a.size
        or reduction not in REDUCTIONS
    ):
        _nll_infer(spec_of(a.value), spec_of(b.value), reduction=reduction)
    return bind(NLL_LOSS, a, b, reduction=reduction)


def _both(needs: Sequence[bool], d: Any) -> tuple[Any, Any]:
    return (d if needs[0] else None), (-d if needs[1] else None)


L1_LOSS = pointwise_loss(
    "l1_loss",
    lambda xp, prediction, target, *, reduction="mean": reduced(xp, xp.abs(prediction - target), reduction),
    lambda F, needs, prediction, target: _both(needs, F.sign(prediction - target)),
    latex="|{prediction} - {target}|",
    derivative=(r"\operatorname{{sign}}({prediction} - {target})", r"-\operatorname{{sign}}({prediction} - {target})"),
)


def l1_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The absolute error |prediction - target|; its gradient where they are equal is 0.

    Args:
        prediction, target: floating point, of the same shape (they are not broadcast).
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ, or the mean of nothing. DTypeError: not floating point.

    >>> mg.l1_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(1., dtype=float32)
    """
    return compare(L1_LOSS, prediction, target, reduction)


def smooth_l1_loss(prediction: Any, target: Any, beta: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """`l1_loss` with its kink rounded off: e² / (2 beta) where |e| < beta, |e| - beta / 2 elsewhere.

    R. Girshick, "Fast R-CNN", 2015. It is `huber_loss` with delta = beta, divided by beta.

    Args:
        prediction, target, reduction: as for `l1_loss`. beta: 0 or more; 0 is `l1_loss`.

    Raises:
        ArgumentError: `beta` is negative. ShapeError, DTypeError: as for `l1_loss`.

    >>> mg.smooth_l1_loss(mg.tensor([0.5, 3.0]), mg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.125, 2.5 ], dtype=float32)
    """
    if not number("smooth_l1_loss", "beta", beta) >= 0:
        raise ArgumentError("smooth_l1_loss: beta", expected="0 or more", actual=f"{beta!r}")
    if beta == 0:
        return l1_loss(prediction, target, reduction=reduction)
    return huber_loss(prediction, target, beta, reduction=reduction) / beta


def _bce_infer(p: Spec, target: Spec, *, reduction: str = "mean") -> Spec:
    need_reduction("binary_cross_entropy", reduction)
    need_float("binary_cross_entropy", "p", p)
    need_float("binary_cross_entropy", "target", target)
    if p.shape != target.shape:
        raise ShapeError(
            "binary_cross_entropy: p and target have different shapes",
            expected="p.shape == target.shape",
            actual=f"p: {p!r}, target: {target!r}",
            remedy="reshape one of them",
        )
    need_elements("binary_cross_entropy", "p", p, reduction)
    return Spec(p.shape if reduction == "none" else (), np.result_type(p.dtype, target.dtype), p.device)


def _costs(xp: Any, p: Any) -> tuple[Any, Any]:
    """-log(1 - p) and -log(p), but at most 100."""
    facts = np.finfo(p.dtype)
    yes = xp.minimum(-xp.log(xp.maximum(p, facts.smallest_subnormal)), 100)
    no = xp.where(p < 1, -xp.log1p(-xp.minimum(p, 1 - facts.epsneg)), xp.full_like(p, 100))
    return no, yes


def _bce_run(xp: Any, p: Any, target: Any, *, reduction: str = "mean") -> Any:
    if p.shape != target.shape:
        raise ValueError("p and target have different shapes")
    wrong = (p < 0) | (p > 1)
    if bool(wrong.any()):
        raise BoundsError(
            "binary_cross_entropy: p is not a probability",
            expected="0 <= p <= 1",
            actual=f"{float(p.reshape(-1)[int(wrong.reshape(-1).argmax())])}",
            remedy="use sigmoid, or give logits to binary_cross_entropy_with_logits",
        )
    no, yes = _costs(xp, p)
    return reduced(xp, target * yes + (1 - target) * no, reduction)


def _bce_grad(F: Any, needs: Sequence[bool], g: Any, y: Any, p: Any, target: Any, reduction: str = "mean") -> list[Any]:
    g = share(g, p.size, reduction)
    return [
        g * (p - target) / F.maximum(p * (1 - p), 1e-12) if needs[0] else None,
        g * (F.log1p(-F.minimum(p, 1 - 1e-7)) - F.log(F.maximum(p, 1e-38))) if needs[1] else None,
    ]


def _bce_samples(rng: np.random.Generator) -> Iterator:
    def x(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(rng.uniform(0.1, 0.9, shape)), np.asarray(rng.uniform(0.0, 1.0, shape))

    for shape, reduction in (((2, 3), "mean"), ((4,), "sum"), ((2, 2), "none"), ((), "mean"), ((0, 3), "sum")):
        yield x(*shape), {"reduction": reduction}
    p, target = x(4, 3)
    yield (p.T, target.T), {"reduction": "mean"}
    yield (p[::-2].astype("f4"), target[::-2].astype("f4")), {"reduction": "mean"}
    yield "bad", (p + 1, target), {"reduction": "mean"}, BoundsError
    yield "bad", (p, target[:3]), {"reduction": "mean"}, ShapeError
    yield "bad", (p[:0], target[:0]), {"reduction": "mean"}, ShapeError
    yield "bad", (p, target > 0.5), {"reduction": "mean"}, TypeError
    yield "bad", (p, target), {"reduction": "median"}, ArgumentError


BINARY_CROSS_ENTROPY = Op(
    "binary_cross_entropy",
    run=_bce_run,
    infer=_bce_infer,
    vjp=_bce_grad,
    saves=("p", "target"),
    latex=r"-{target} \ln {p} - (1 - {target}) \ln (1 - {p})",
    derivative=(r"\frac{{{p} - {target}}}{{{p} (1 - {p})}}", r"\ln (1 - {p}) - \ln {p}"),
    samples=_bce_samples,
)


def binary_cross_entropy(p: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """How improbable the targets are by the probabilities: -target log(p) - (1 - target) log(1 - p), in nats.

    Logarithms are at least -100, as in PyTorch. From logits, `binary_cross_entropy_with_logits` is more accurate.

    Args:
        p: probabilities, floating point. target: probabilities (0 and 1, or between), of the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        BoundsError: `p` is not between 0 and 1. ShapeError: the shapes differ, or the mean of nothing.
        DTypeError: not floating point.

    >>> mg.binary_cross_entropy(mg.tensor([0.5, 1.0]), mg.tensor([1.0, 1.0]), reduction="none")
    tensor([0.69314..., 0. ], dtype=float32)
    """
    a, b = lift_all(p, target)
    need_reduction("binary_cross_entropy", reduction)
    if a.shape != b.shape or a.dtype.kind != "f" or b.dtype.kind != "f" or not a.size:
        _bce_infer(spec_of(a.value), spec_of(b.value), reduction=reduction)
    return bind(BINARY_CROSS_ENTROPY, a, b, reduction=reduction)
