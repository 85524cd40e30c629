"""Convolution, pooling, and flattening: layers for images and sequences."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import spec_of
from ..ops import flatten
from ..ops.random import Generator
from ..tensor import Tensor, lift
from . import functional as F  # noqa: N812 - its usual name
from . import init
from .module import Module, Parameter, size


class _Conv(Module):
    """What convolutions share; `axes` is the number of axes they slide along."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
        generator: Generator | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        self.in_channels, self.out_channels = (
            size(name, "in_channels", in_channels),
            size(name, "out_channels", out_channels),
        )
        self.groups = size(name, "groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: groups divides in_channels and out_channels",
                actual=f"groups={groups}, {in_channels}, {out_channels}",
            )
        kernel = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,) * self.axes
        if len(kernel) != self.axes:
            raise ArgumentError(
                f"{name}: kernel_size", expected=f"an integer or {self.axes} of them", actual=f"{kernel_size!r}"
            )
        self.kernel_size = tuple(size(name, "kernel_size", k) for k in kernel)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = Parameter(init.blank((out_channels, in_channels // groups, *self.kernel_size), dtype, device))
        self.bias = Parameter(init.blank(out_channels, dtype, device)) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw new weights."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5.0), generator=generator)
        if self.bias is not None:
            bound = 1.0 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def checked(self, x: Any) -> Tensor:
        """The input as a tensor, or the error that names this layer."""
        x = lift(x)
        if x.value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.float32)",
            )
        if x.ndim != self.axes + 2 or x.shape[1] != self.in_channels:
            wanted = ("N", str(self.in_channels), *("HW" if self.axes == 2 else "L"))
            remedy = ""
            if x.ndim == self.axes + 1:
                remedy = (
                    "add the missing axis: x[None] for a single sample, x[:, None] for images without a channel axis"
                )
            elif x.ndim == self.axes + 2 and x.shape[-1] == self.in_channels:
                remedy = (
                    f"channels come second: mg.moveaxis(x, -1, 1), or build the layer with in_channels={x.shape[1]}"
                )
            raise ShapeError(
                f"{self.where()}: the input does not fit",
                expected=f"x: ({', '.join(wanted)})",
                actual=f"x: {spec_of(x.value)!r}",
                remedy=remedy,
            )
        return x

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(parts + ([] if self.bias is not None else ["bias=False"]))


class Conv2d(_Conv):
    """Two-dimensional convolution (cross-correlation) of images, as in PyTorch.

    Weight and bias start uniform within 1 / sqrt(in_channels / groups * kh * kw).

    Args:
        in_channels, out_channels: number of channels before and after.
        kernel_size: (kh, kw), or one integer for both.
        stride: step of the kernel. padding: zeros added on each side, an integer, a pair, "same" or "valid".
        dilation: distance between kernel elements. groups: groups of channels that do not see each other.
        bias: whether to add one. dtype, device, generator: as for `Linear`.

    Attributes:
        weight: shape (out_channels, in_channels / groups, kh, kw). bias: shape (out_channels,), or None.

    Shape:
        x (N, in_channels, H, W) -> y (N, out_channels, H', W'), with
        H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises:
        ShapeError: wrong rank or number of channels, or a kernel larger than the padded image.
        DTypeError: `x` is not floating point.

    >>> mg.nn.Conv2d(1, 8, 3, padding=1)(mg.ones((2, 1, 28, 28))).shape
    (2, 8, 28, 28)
    """

    axes = 2

    def forward(self, x: Any) -> Tensor:
        return F.conv2d(
            self.checked(x),
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class Conv1d(_Conv):
    """One-dimensional convolution of sequences. Arguments as for `Conv2d`, with one number each.

    Shape:
        x (N, in_channels, L) -> y (N, out_channels, L').

    >>> mg.nn.Conv1d(4, 8, 3)(mg.ones((2, 4, 10))).shape
    (2, 8, 8)
    """

    axes = 1

    def forward(self, x: Any) -> Tensor:
        return F.conv1d(
            self.checked(x),
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class _Pool(Module):
    """What the pooling layers share."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def checked(self, x: Any) -> Tensor:
        """The input as a tensor, or the error that names this layer."""
        x = lift(x)
        if x.ndim != 4:
            raise ShapeError(
                f"{self.where()}: images are expected",
                expected="x: (N, C, H, W)",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x[None] for a single image" if x.ndim == 3 else "",
            )
        return x

    def extra_repr(self) -> str:
        stride = self.kernel_size if self.stride is None else self.stride
        return f"kernel_size={self.kernel_size}, stride={stride}, padding={self.padding}"


class MaxPool2d(_Pool):
    """The largest element of each window.

    Args:
        kernel_size: size of the window; an integer or a pair. stride: its step; the kernel size unless given.
        padding: at most half the kernel size; what is added is never the largest.

    Shape:
        x (N, C, H, W) -> y (N, C, H', W'), H' = (H + 2 padding - kernel) // stride + 1.

    >>> mg.nn.MaxPool2d(2)(mg.ones((1, 3, 8, 8))).shape
    (1, 3, 4, 4)
    """

    def forward(self, x: Any) -> Tensor:
        return F.max_pool2d(self.checked(x), self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool2d(_Pool):
    """The mean of each window; zeros that padding adds are counted. Arguments as for `MaxPool2d`.

    >>> mg.nn.AvgPool2d(2)(mg.ones((1, 3, 8, 8))).shape
    (1, 3, 4, 4)
    """

    def forward(self, x: Any) -> Tensor:
        return F.avg_pool2d(self.checked(x), self.kernel_size, stride=self.stride, padding=self.padding)


class AdaptiveAvgPool2d(Module):
    """The means of `output_size` equal tiles of each image; 1 is the mean over the whole image, of any size.

    Args:
        output_size: an integer or a pair that divides (H, W).

    Shape:
        x (N, C, H, W) -> y (N, C, *output_size).

    >>> mg.nn.AdaptiveAvgPool2d(1)(mg.ones((2, 3, 7, 5))).shape
    (2, 3, 1, 1)
    """

    def __init__(self, output_size: Any = 1):
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class Flatten(Module):
    """Axes `start_axis` to `end_axis` in one; by default all but the first, which is the batch.

    >>> mg.nn.Flatten()(mg.ones((2, 3, 4, 4))).shape
    (2, 48)
    """

    def __init__(self, start_axis: int = 1, end_axis: int = -1):
        super().__init__()
        self.start_axis, self.end_axis = start_axis, end_axis

    def forward(self, x: Any) -> Tensor:
        return flatten(x, self.start_axis, self.end_axis)

    def extra_repr(self) -> str:
        return f"start_axis={self.start_axis}, end_axis={self.end_axis}"
