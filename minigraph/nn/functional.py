"""What layers compute, as functions: the catalogue's under PyTorch's names, and those that only networks need.

A function takes everything it works with as arguments; the layer of the same name keeps the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import no_grad, spec_of
from ..ops import (
    adaptive_avg_pool2d,
    avg_pool2d,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    conv1d,
    conv2d,
    elu,
    embedding,
    gelu,
    huber_loss,
    l1_loss,
    leaky_relu,
    linear,
    log_softmax,
    matrix_transpose,
    max_pool2d,
    mean,
    mse_loss,
    nll_loss,
    one_hot,
    ones_like,
    relu,
    reshape,
    sigmoid,
    silu,
    smooth_l1_loss,
    softmax,
    softplus,
    sqrt,
    take,
    tanh,
    where,
    zeros_like,
)
from ..ops import cross_entropy as _cross_entropy
from ..ops.common import flag, integer, need_float, number, shown
from ..ops.random import Generator, default_generator
from ..ops.shape import shape_tuple
from ..ops.special import need_elements, need_reduction
from ..tensor import Tensor, lift
from ..variable import Variable

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "conv1d", "conv2d", "cross_entropy", "dropout", "elu", "embedding", "gelu", "group_norm", "huber_loss", "l1_loss",
    "layer_norm", "leaky_relu", "linear", "log_softmax", "max_pool2d", "mse_loss", "nll_loss", "one_hot", "relu",
    "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu", "smooth_l1_loss", "softmax", "softplus", "tanh",
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------------- dropout


def dropout(x: Any, p: float = 0.5, training: bool = True, *, generator: Generator | None = None) -> Tensor:
    """Each element is 0 with probability `p` and divided by 1 - p otherwise, so that the mean stays what it was.

    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Args:
        x: floating point, any shape.
        p: probability of a zero, 0 <= p <= 1.
        training: when false, the result is `x`.
        generator: where the random numbers come from; `mg.random.default_generator` unless given.

    Raises:
        ArgumentError: `p` is not a probability.

    >>> mg.nn.functional.dropout(mg.ones(3), 0.9, training=False)
    tensor([1., 1., 1.], dtype=float32)
    """
    x = lift(x)
    if not 0 <= number("dropout", "p", p) <= 1:
        raise ArgumentError("dropout: p is a probability", expected="0 <= p <= 1", actual=f"{p}")
    if x.value.dtype.kind != "f":
        need_float("dropout", "x", spec_of(x.value))
    if not flag("dropout", "training", training) or p == 0:
        return x
    if p == 1:
        return x * zeros_like(x)
    if generator is None:
        generator = default_generator
    elif not isinstance(generator, Generator):
        raise DTypeError("dropout: generator", expected="a mg.random.Generator, or None", actual=shown(generator))
    keep = generator.bernoulli(1.0 - p, x.shape, device=x.device)
    return x * (keep.astype(x.dtype) * (1.0 / (1.0 - p)))


# ---------------------------------------------------------------------------------------------------- normalisation


def standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + eps) over `axes`, the mean and the (biased) variance, both with the axes kept."""
    centre = mean(x, axis=axes, keepdims=True)
    deviation = x - centre
    variance = mean(deviation * deviation, axis=axes, keepdims=True)
    return deviation * (1.0 / sqrt(variance + eps)), centre, variance


def scaled(y: Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> Tensor:
    """y * weight + bias, both given this shape; None: without it."""
    if weight is not None:
        y = y * reshape(weight, shape)
    return y if bias is None else y + reshape(bias, shape)


def batch_norm(
    x: Any,
    running_mean: Variable | None,
    running_var: Variable | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each channel: (x - mean) / sqrt(var + eps) * weight + bias.

    S. Ioffe and C. Szegedy, "Batch normalization", 2015. In training the mean and the biased variance are the batch's,
    and the running statistics move towards them: running = (1 - momentum) running + momentum batch, where the running
    variance takes the unbiased estimate (as in PyTorch). Otherwise the running statistics are used.

    Args:
        x: shape (N, C) or (N, C, ...), floating point.
        running_mean, running_var: variables of shape (C,), assigned in training; None to use the batch's always.
        weight, bias: shape (C,), or None.

    Raises:
        ShapeError: fewer than 2 axes; in training, fewer than two values for each channel.

    >>> x = mg.tensor([[1.0], [3.0]])
    >>> mg.nn.functional.batch_norm(x, None, None, training=True)
    tensor([[-1.],
            [ 1.]], dtype=float32)
    """
    x = lift(x)
    if x.ndim < 2:
        raise ShapeError(
            "batch_norm: x has a batch and a channel axis", expected="shape (N, C, ...)", actual=f"shape {x.shape}"
        )
    shape = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    if not flag("batch_norm", "training", training) and running_mean is not None and running_var is not None:
        centre, spread = reshape(running_mean, shape), reshape(running_var, shape)
        return scaled((x - centre) * (1.0 / sqrt(spread + eps)), weight, bias, shape)
    n = x.size // max(1, x.shape[1])
    if n < 2:
        raise ShapeError(
            "batch_norm: more than one value per channel is needed in training",
            expected="N times the image size >= 2",
            actual=f"x: {spec_of(x.value)!r}",
            remedy="use a larger batch, drop the last incomplete one, or model.eval()",
        )
    y, centre, variance = standardised(x, (0, *range(2, x.ndim)), eps)
    if running_mean is not None and running_var is not None:
        for argument, v in (("running_mean", running_mean), ("running_var", running_var)):
            if not isinstance(v, Variable):
                raise DTypeError(f"batch_norm: {argument} is assigned in training", expected="a mg.Variable, or None",
                                 actual=shown(v), remedy=f"mg.Variable({argument})")  # fmt: skip
        with no_grad():
            for running, batch in ((running_mean, centre), (running_var, variance * (n / (n - 1)))):
                new = reshape(batch.detach(), running.shape).astype(running.dtype)
                running.assign(running + (new - running) * momentum)
    return scaled(y, weight, bias, shape)


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Standardise over the last axes: (x - mean) / sqrt(var + eps) * weight + bias.

    J. L. Ba, J. R. Kiros and G. Hinton, "Layer normalization", 2016.

    Args:
        x: shape (..., *normalized_shape), floating point.
        normalized_shape: the sizes of the last axes (an integer for one).
        weight, bias: of that shape, or None.

    Raises:
        ShapeError: the last axes of `x` have other sizes.

    >>> mg.nn.functional.layer_norm(mg.tensor([[1.0, 3.0], [0.0, 0.0]]), 2, eps=1e-8)
    tensor([[-1., 1.],
            [ 0., 0.]], dtype=float32)
    """
    x = lift(x)
    last = shape_tuple("layer_norm", normalized_shape)
    if not last or x.shape[-len(last) :] != last:
        raise ShapeError(
            "layer_norm: the last axes", expected=f"shape (..., {', '.join(map(str, last))})", actual=f"shape {x.shape}"
        )
    if x.value.dtype.kind != "f":
        need_float("layer_norm", "x", spec_of(x.value))
    y = standardised(x, tuple(range(x.ndim - len(last), x.ndim)), eps)[0]
    return scaled(y, weight, bias, last)


def rms_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """Divide by the root of the mean square over the last axes: x / sqrt(mean(x**2) + eps) * weight.

    B. Zhang and R. Sennrich, "Root mean square layer normalization", 2019.

    Args:
        x: shape (..., *normalized_shape), floating point.
        normalized_shape: the sizes of the last axes (an integer for one). weight: of that shape, or None.
        eps: added to the mean square; the machine epsilon of the dtype unless given.

    Raises:
        ShapeError: the last axes of `x` have other sizes.

    >>> mg.nn.functional.rms_norm(mg.tensor([[3.0, 4.0]]), 2)
    tensor([[0.84852815, 1.1313709 ]], dtype=float32)
    """
    x = lift(x)
    last = shape_tuple("rms_norm", normalized_shape)
    if not last or x.shape[-len(last) :] != last:
        raise ShapeError(
            "rms_norm: the last axes", expected=f"shape (..., {', '.join(map(str, last))})", actual=f"shape {x.shape}"
        )
    if x.value.dtype.kind != "f":
        need_float("rms_norm", "x", spec_of(x.value))
    axes = tuple(range(x.ndim - len(last), x.ndim))
    square = mean(x * x, axis=axes, keepdims=True)
    eps = float(np.finfo(x.dtype).eps) if eps is None else number("rms_norm", "eps", eps)
    y = x * (1.0 / sqrt(square + eps))
    return scaled(y, weight, None, last)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Standardise each sample over groups of channels, then scale each channel.

    Y. Wu and K. He, "Group normalization", 2018.

    Args:
        x: shape (N, C, ...), floating point.
        num_groups: divides C.
        weight, bias: shape (C,), or None.

    Raises:
        ShapeError: `num_groups` does not divide C.

    >>> mg.nn.functional.group_norm(mg.tensor([[1.0, 3.0, 5.0, 5.0]]), 2, eps=1e-8)
    tensor([[-1., 1., 0., 0.]], dtype=float32)
    """
    x, num_groups = lift(x), integer("group_norm", "num_groups", num_groups)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(
            "group_norm: the groups divide the channels",
            expected=f"shape (N, C, ...), C a multiple of {num_groups}",
            actual=f"shape {x.shape}",
        )
    if x.value.dtype.kind != "f":
        need_float("group_norm", "x", spec_of(x.value))
    n, c = x.shape[:2]
    y = standardised(reshape(x, (n, num_groups, math.prod(x.shape[1:]) // num_groups)), (2,), eps)[0]
    return scaled(reshape(y, x.shape), weight, bias, (1, c) + (1,) * (x.ndim - 2))


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(
    logits: Any,
    labels: Any,
    weight: Any = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """How improbable the labels are by the logits, in nats: -log(softmax(logits)[label]). See `mg.cross_entropy`.

    Args:
        logits: shape (n, classes) or (n, classes, d1, ...), floating point: any numbers, not probabilities.
        labels: integers from 0 to classes - 1, shape (n,) or (n, d1, ...).
        weight: how much each class counts, shape (classes,). The mean is then a weighted mean.
        ignore_index: a label that does not count, such as -100 for padding. (Without any other label the mean is NaN.)
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes, 0 to 1 (C. Szegedy et al.,
            "Rethinking the inception architecture for computer vision", 2016).

    Raises:
        BoundsError: a label is not a class. ShapeError, DTypeError: as for `mg.cross_entropy`; `weight` does not fit.
        ArgumentError: an unknown reduction, or a smoothing outside 0 to 1.

    >>> mg.nn.functional.cross_entropy(mg.tensor([[0.0, 0.0]]), mg.tensor([1]))
    tensor(0.69314..., dtype=float32)
    >>> logits = mg.tensor([[0.0, 0.0], [5.0, 0.0]])
    >>> mg.nn.functional.cross_entropy(logits, mg.tensor([1, -100]), ignore_index=-100)
    tensor(0.69314..., dtype=float32)
    """
    if not 0 <= number("cross_entropy", "label_smoothing", label_smoothing) <= 1:
        raise ArgumentError("cross_entropy: label_smoothing", expected="0 to 1", actual=f"{label_smoothing}")
    if weight is None and ignore_index is None and not label_smoothing:
        return _cross_entropy(logits, labels, reduction=reduction)
    need_reduction("cross_entropy", reduction)
    logits, labels = lift(logits), lift(labels)
    axis = min(1, logits.ndim - 1)
    counts = None  # how much each label counts
    if ignore_index is not None:
        ignored = labels == integer("cross_entropy", "ignore_index", ignore_index)
        labels = where(ignored, 0, labels)
        counts = where(ignored, 0.0, ones_like(labels, dtype=logits.dtype))
    losses = _cross_entropy(logits, labels, reduction="none")
    need_elements("cross_entropy", "labels", spec_of(labels.value), reduction)
    if weight is not None:
        weight = class_weights(weight, logits, axis)
        chosen = take(weight, labels.reshape(-1), axis=0).reshape(labels.shape)
        losses = losses * chosen
        counts = chosen if counts is None else counts * chosen
    if label_smoothing:
        each = log_softmax(logits, axis=axis)
        if weight is not None:
            each = each * reshape(weight, (-1,) + (1,) * (logits.ndim - 1 - axis))
        losses = losses * (1.0 - label_smoothing) - mean(each, axis=axis) * label_smoothing
    if ignore_index is not None:
        losses = where(ignored, 0.0, losses)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if counts is None else losses.sum() / counts.sum()


def class_weights(weight: Any, logits: Tensor, axis: int) -> Tensor:
    """The weights of the classes, checked, in the dtype of the logits."""
    weight = lift(weight)
    if weight.shape != logits.shape[axis : axis + 1]:
        raise ShapeError(
            "cross_entropy: weight has one number for each class",
            expected=f"shape {logits.shape[axis : axis + 1]}",
            actual=f"weight: {spec_of(weight.value)!r}",
        )
    need_float("cross_entropy", "weight", spec_of(weight.value))
    return weight.astype(logits.dtype)


# -------------------------------------------------------------------------------------------------------- attention


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query @ keyᵀ * scale + mask) @ value: each query takes the mean of the values, weighted by how well its
    key fits.

    A. Vaswani et al., "Attention is all you need", 2017, equation 1.

    Args:
        query: shape (..., L, E), floating point. key: (..., S, E). value: (..., S, V). The axes in front broadcast.
        attn_mask: broadcasts to (..., L, S). Truth values: True takes part. Numbers: added before the softmax.
        dropout_p: probability with which a weight is dropped (always, not only in training: that is the layer's task).
        is_causal: query i sees the keys up to i only. scale: 1 / sqrt(E) unless given.

    Returns:
        shape (..., L, V). A query that sees no key gives NaN, as in PyTorch.

    Raises:
        ShapeError: shapes do not fit together. DTypeError: something is not floating point. ArgumentError: both a mask
        and `is_causal`.

    >>> x = mg.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> mg.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0]
    tensor([1., 0.], dtype=float32)
    """
    query, key, value = lift(query), lift(key), lift(value)
    weights = attention_weights(query, key, attn_mask, is_causal, scale)
    if value.ndim < 2 or value.shape[-2] != key.shape[-2]:
        raise ShapeError(
            "scaled_dot_product_attention: one value for each key",
            expected=f"value: (..., {key.shape[-2]}, V)",
            actual=f"value: {spec_of(value.value)!r}, key: {spec_of(key.value)!r}",
        )
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ value


def attention_weights(query: Tensor, key: Tensor, mask: Any, is_causal: bool, scale: float | None) -> Tensor:
    """softmax(query @ keyᵀ * scale + mask), shape (..., L, S)."""
    name = "scaled_dot_product_attention"
    for word, t in (("query", query), ("key", key)):
        if t.value.dtype.kind != "f":
            need_float(name, word, spec_of(t.value))
    if query.ndim < 2 or key.ndim < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{name}: query and key have features of the same size",
            expected="query: (..., L, E), key: (..., S, E)",
            actual=f"query: {spec_of(query.value)!r}, key: {spec_of(key.value)!r}",
        )
    if mask is not None and is_causal:
        raise ArgumentError(f"{name}: attn_mask and is_causal", expected="one of them", actual="both",
                            remedy="put the causal part into the mask: mg.tril(...)")  # fmt: skip
    scores = (query @ matrix_transpose(key)) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    rows, columns = scores.shape[-2:]
    if is_causal:
        mask = causal_mask(rows, columns, query.device)
    if mask is None:
        return softmax(scores, axis=-1)
    mask = lift(mask)
    if mask.dtype.kind not in "bf":
        raise DTypeError(f"{name}: attn_mask", expected="truth values (True takes part) or numbers to add",
                         actual=f"attn_mask: {spec_of(mask.value)!r}")  # fmt: skip
    if not broadcasts(mask.shape, scores.shape):
        raise ShapeError(f"{name}: attn_mask does not fit", expected=f"what broadcasts to {scores.shape}",
                         actual=f"attn_mask: {spec_of(mask.value)!r}")  # fmt: skip
    if mask.dtype.kind == "b":
        return softmax(where(mask, scores, -math.inf), axis=-1)
    return softmax(scores + mask.astype(scores.dtype), axis=-1)


def causal_mask(rows: int, columns: int, device: Any) -> Tensor:
    """True where a query sees a key: at its own place and before."""
    return Tensor(np.tril(np.ones((rows, columns), bool))).to(device)


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether a shape broadcasts to another."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))
