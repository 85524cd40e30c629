"""Normalisation layers: keep the numbers that flow through a network centred and of size one.

The running statistics of batch normalisation are variables that a forward pass in training assigns. So a compiled
training step carries them along, and they are saved with the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import no_grad, spec_of
from ..ops import ones
from ..tensor import Tensor, lift
from . import functional as F  # noqa: N812 - its usual name
from . import init
from .module import Module, Parameter, size


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share."""

    ranks: tuple[int, ...]
    words: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ):
        super().__init__()
        name = type(self).__name__
        self.num_features = size(name, "num_features", num_features)
        if not eps > 0:
            raise ArgumentError(f"{name}: eps", expected="a number > 0", actual=f"{eps}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ArgumentError(
                f"{name}: momentum", expected="0 to 1, or None for an average over all batches", actual=f"{momentum}"
            )
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.running_mean: Any = None
        self.running_var: Any = None
        self.num_batches_tracked: Any = None
        one = ones(self.num_features, dtype=dtype, device=device)
        self.weight = Parameter(one) if affine else None
        self.bias = Parameter(init.blank(self.num_features, dtype, device)) if affine else None
        if track_running_stats:
            self.register_buffer("running_mean", init.blank(self.num_features, dtype, device))
            self.register_buffer("running_var", one)
            self.register_buffer("num_batches_tracked", np.int64(0))

    def forward(self, x: Any) -> Tensor:
        x = lift(x)
        if x.value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.float32)",
            )
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{self.where()}: the input does not fit",
                expected=f"x: {self.words.format(self.num_features)}",
                actual=f"x: {spec_of(x.value)!r}",
            )
        batch = self.training or not self.track_running_stats
        if batch and x.size // self.num_features < 2:
            raise ShapeError(
                f"{self.where()}: in training, more than one value per channel is needed",
                expected="two values per channel at least, to have a variance",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="use a larger batch, drop the last incomplete one (drop_last=True), or model.eval()",
            )
        momentum: Any = self.momentum
        if self.training and self.track_running_stats:
            with no_grad():
                self.num_batches_tracked.assign(self.num_batches_tracked + 1)
                if momentum is None:
                    momentum = 1.0 / self.num_batches_tracked.read().astype(self.running_mean.dtype)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features: (x - mean) / sqrt(var + eps) * weight + bias, for each feature.

    In training, mean and (biased) variance are those of the batch, and the running statistics move towards them, the
    variance in its unbiased estimate. In evaluation the running statistics are used.

    S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", 2015.

    Args:
        num_features: C. eps: added to the variance.
        momentum: the weight of the new batch in the running statistics; None: the average over all batches.
        affine: whether there are a weight and a bias. track_running_stats: without them, the batch's are always used.
        dtype, device: as for `Linear`.

    Attributes:
        weight (starts at 1), bias (at 0): shape (C,), or None.
        running_mean, running_var, num_batches_tracked: buffers, or None.

    Shape:
        x (N, C) or (N, C, L) -> the same.

    Raises:
        ShapeError: wrong rank or number of features; in training, one value per feature (which has no variance).

    >>> norm = mg.nn.BatchNorm1d(1)
    >>> norm(mg.tensor([[1.0], [3.0]]))
    tensor([[-1.],
            [ 1.]], dtype=float32, op=add)
    >>> norm.running_mean, norm.running_var
    (Variable([0.2], dtype=float32, name='running_mean'), Variable([1.1], dtype=float32, name='running_var'))
    """

    ranks, words = (2, 3), "(N, {0}) or (N, {0}, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images, for each channel over batch and places. Arguments and source as `BatchNorm1d`.

    Shape:
        x (N, C, H, W) -> the same.

    >>> mg.nn.BatchNorm2d(3)(mg.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    ranks, words = (4,), "(N, {0}, H, W)"


class LayerNorm(Module):
    """Normalise each sample over its last axes: (x - mean) / sqrt(var + eps) * weight + bias.

    J. L. Ba, J. R. Kiros and G. Hinton, "Layer normalization", 2016.

    Args:
        normalized_shape: sizes of the last axes; an integer for one.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias. bias: whether there is a bias.
        dtype, device: as for `Linear`.

    Attributes:
        weight (starts at 1), bias (at 0): shape `normalized_shape`, or None.

    Shape:
        x (..., *normalized_shape) -> the same.

    Raises:
        ShapeError: the last axes of `x` have other sizes. DTypeError: `x` is not floating point.

    >>> mg.nn.LayerNorm(2)(mg.tensor([[1.0, 3.0]]))
    tensor([[-1., 1.]], dtype=float32, op=add)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = tuple(size("LayerNorm", "normalized_shape", n) for n in shape)
        if not shape or not eps > 0:
            raise ArgumentError("LayerNorm: at least one axis, eps > 0", actual=f"{normalized_shape!r}, eps={eps}")
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(ones(self.normalized_shape, dtype=dtype, device=device)) if elementwise_affine else None
        self.bias = Parameter(init.blank(self.normalized_shape, dtype, device)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        x, last = lift(x), self.normalized_shape
        if x.value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.float32)",
            )
        if x.shape[-len(last) :] != last:
            raise ShapeError(
                f"{self.where()}: the input does not fit",
                expected=f"x: (..., {', '.join(map(str, last))})",
                actual=f"x: {spec_of(x.value)!r}",
            )
        return F.layer_norm(x, last, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """Divide each sample by its root mean square over the last axes: x / sqrt(mean(x**2) + eps) * weight.

    B. Zhang and R. Sennrich, "Root mean square layer normalization", 2019.

    Args:
        normalized_shape: sizes of the last axes; an integer for one.
        eps: added to the mean square; the machine epsilon of the dtype unless given.
        elementwise_affine: whether there is a weight.
        dtype, device: as for `Linear`.

    Attributes:
        weight (starts at 1): shape `normalized_shape`, or None.

    Shape:
        x (..., *normalized_shape) -> the same.

    Raises:
        ShapeError: the last axes of `x` have other sizes. DTypeError: `x` is not floating point.

    >>> mg.nn.RMSNorm(2, eps=0.0)(mg.tensor([[3.0, 4.0]])).shape
    (1, 2)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = tuple(size("RMSNorm", "normalized_shape", n) for n in shape)
        if not shape or (eps is not None and not eps >= 0):
            raise ArgumentError("RMSNorm: at least one axis, eps >= 0", actual=f"{normalized_shape!r}, eps={eps}")
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(ones(self.normalized_shape, dtype=dtype, device=device)) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        x, last = lift(x), self.normalized_shape
        if x.value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.float32)",
            )
        if x.shape[-len(last) :] != last:
            raise ShapeError(
                f"{self.where()}: the input does not fit",
                expected=f"x: (..., {', '.join(map(str, last))})",
                actual=f"x: {spec_of(x.value)!r}",
            )
        return F.rms_norm(x, last, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalise each sample over groups of channels: (x - mean) / sqrt(var + eps) * weight + bias, per channel.

    Y. Wu and K. He, "Group normalization", 2018.

    Args:
        num_groups: divides num_channels. num_channels: C. eps: added to the variance.
        affine: whether there are a weight and a bias. dtype, device: as for `Linear`.

    Shape:
        x (N, C, ...) -> the same.

    Raises:
        ArgumentError: the groups do not divide the channels. ShapeError: another number of channels.

    >>> mg.nn.GroupNorm(2, 4)(mg.ones((1, 4, 3, 3))).shape
    (1, 4, 3, 3)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ):
        super().__init__()
        self.num_groups, self.num_channels = (
            size("GroupNorm", "num_groups", num_groups),
            size("GroupNorm", "num_channels", num_channels),
        )
        if num_channels % num_groups:
            raise ArgumentError("GroupNorm: num_groups divides num_channels", actual=f"{num_groups} and {num_channels}")
        self.eps, self.affine = eps, affine
        self.weight = Parameter(ones(num_channels, dtype=dtype, device=device)) if affine else None
        self.bias = Parameter(init.blank(num_channels, dtype, device)) if affine else None

    def forward(self, x: Any) -> Tensor:
        x = lift(x)
        if x.ndim < 2 or x.shape[1] != self.num_channels or math.prod(x.shape[1:]) == 0:
            raise ShapeError(
                f"{self.where()}: the input does not fit",
                expected=f"x: (N, {self.num_channels}, ...)",
                actual=f"x: {spec_of(x.value)!r}",
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
