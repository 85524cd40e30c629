"""Convolution and pooling on batches of images, channels first: (N, C, H, W).

A convolution y = conv(x, w) is linear in x and linear in w, so everything that differentiation can ask for is one of
three operations: `conv2d` itself, `conv2d_input_grad` (linear in g and w; also known as transposed convolution) and
`conv2d_weight_grad` (linear in x and g). The rule of each is spelled with the other two, which closes the family
under differentiation of any order. Pooling has the same shape: the transpose of "take" is "put back".

All three convolutions are one matrix product per image over the *columns* of the input: the patch under every
position of the kernel, laid out by a strided view and one copy (K. Chellapilla et al., "High performance
convolutional neural networks for document processing", 2006). Measured with NumPy, this layout is faster than
channels-last for few channels, as fast for many, and leaves every result contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Op, Spec
from ..tensor import Tensor, bind, lift, lift_all
from .common import integer, need_float

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "avg_pool2d_grad",
    "conv1d",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool2d_pick",
]

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))
NO_PADS: Pads = ((0, 0), (0, 0))


# ------------------------------------------------------------------------------------------------------- arguments


def _integer(name: str, argument: str, value: Any, least: int) -> int:
    try:
        n = value.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(
            f"{name}: {argument}", expected="an integer, or a pair of them", actual=f"{type(value).__name__} {value!r}"
        ) from None
    if n < least:
        raise ArgumentError(f"{name}: {argument}", expected=f"at least {least}", actual=f"{n}")
    return n


def _pair(name: str, argument: str, value: Any, least: int = 1) -> Pair:
    """An integer, or one for the height and one for the width."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ArgumentError(
                f"{name}: {argument}", expected="an integer or a pair (height, width)", actual=f"{value!r}"
            )
        return _integer(name, argument, value[0], least), _integer(name, argument, value[1], least)
    n = _integer(name, argument, value, least)
    return n, n


def _pads(name: str, padding: Any, kernel: Sequence[int], stride: Pair, dilation: Pair) -> Pads:
    """`padding` in any of its forms as ((top, bottom), (left, right))."""
    if isinstance(padding, str):
        if padding == "valid":
            return NO_PADS
        if padding != "same":
            raise ArgumentError(
                f"{name}: padding", expected='an integer, a pair, "same" or "valid"', actual=f"{padding!r}"
            )
        if stride != (1, 1):
            raise ArgumentError(f'{name}: padding="same" keeps the size, which a stride cannot', expected="stride=1",
                                actual=f"stride={stride}", remedy="give the padding as a number")  # fmt: skip
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    if isinstance(padding, Sequence) and len(padding) == 2:
        vertical, horizontal = (_pair(name, "padding", p, 0) for p in padding)
        return vertical, horizontal
    high, wide = _pair(name, "padding", padding, 0)
    return (high, high), (wide, wide)


def _out_size(size: Sequence[int], kernel: Sequence[int], stride: Pair, pads: Pads, dilation: Pair) -> Pair:
    """How many positions the kernel has in each direction; not positive when it does not fit."""
    h, w = (
        (n + p[0] + p[1] - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, pads, dilation, strict=True)
    )
    return h, w


def _need_images(name: str, argument: str, spec: Spec) -> None:
    if spec.ndim != 4:
        raise ShapeError(f"{name}: {argument} is a batch of images", expected=f"{argument}: 4 axes (N, C, H, W)",
                         actual=f"{argument}: {spec!r}",
                         remedy=f"add the missing axes, e.g. {argument}[None] for one image" if spec.ndim == 3 else
                         f"reshape {argument} to (N, C, H, W)")  # fmt: skip


def _need_room(name: str, x: Spec, kernel: Sequence[int], stride: Pair, pads: Pads, dilation: Pair) -> Pair:
    h, w = _out_size(x.shape[2:], kernel, stride, pads, dilation)
    if h < 1 or w < 1:
        raise ShapeError(
            f"{name}: the kernel is larger than the padded input",
            expected="dilation * (kernel - 1) + 1 <= size + padding",
            actual=f"x: {x!r}, kernel {tuple(kernel)}, dilation {dilation}, padding {pads}",
            remedy="use more padding or a smaller kernel",
        )
    return h, w


# --------------------------------------------------------------------------------------------------- the columns


def _padded(xp: Any, x: Any, pads: Pads, value: float = 0) -> Any:
    if pads == NO_PADS:
        return x
    (top, bottom), (left, right) = pads
    n, c, h, w = x.shape
    larger = xp.full((n, c, h + top + bottom, w + left + right), value, dtype=x.dtype)
    larger[:, :, top : top + h, left : left + w] = x
    return larger


def _unpadded(x: Any, pads: Pads) -> Any:
    (top, bottom), (left, right) = pads
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _shifted(x: Any, i: int, j: int, out: Pair, stride: Pair, dilation: Pair) -> Any:
    """The view of `x` that kernel position (i, j) sees: one element for each position of the kernel."""
    top, left = i * dilation[0], j * dilation[1]
    return x[
        :,
        :,
        top : top + stride[0] * (out[0] - 1) + 1 : stride[0],
        left : left + stride[1] * (out[1] - 1) + 1 : stride[1],
    ]


def _columns(xp: Any, x: Any, kernel: Sequence[int], stride: Pair, pads: Pads, dilation: Pair, groups: int) -> Any:
    """The patches of `x`, one in each column: shape (N, groups, C / groups * kh * kw, positions)."""
    x = _padded(xp, x, pads)
    n, c, h, w = x.shape
    kh, kw = kernel
    oh, ow = _out_size((h, w), kernel, stride, NO_PADS, dilation)
    if min(oh, ow) < 1:
        raise ValueError("the kernel is larger than the input")
    sn, sc, sh, sw = x.strides
    patches = xp.lib.stride_tricks.as_strided(
        x, (n, c, kh, kw, oh, ow), (sn, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1])
    )
    return patches.reshape(n, groups, c // groups * kh * kw, oh * ow)  # this copies, unless the kernel is 1x1


# --------------------------------------------------------------------------------------------------- convolution


def _conv2d_infer(x: Spec, weight: Spec, bias: Spec | None = None, *, stride: Pair = (1, 1), padding: Pads = NO_PADS,
                  dilation: Pair = (1, 1), groups: int = 1) -> Spec:  # fmt: skip
    _need_images("conv2d", "x", x)
    if weight.ndim != 4:
        raise ShapeError(
            "conv2d: weight has four axes",
            expected="(out_channels, in_channels / groups, kh, kw)",
            actual=f"weight: {weight!r}",
        )
    need_float("conv2d", "x", x)
    need_float("conv2d", "weight", weight)
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ShapeError(
            "conv2d: the channels do not fit",
            expected="x.shape[1] == weight.shape[1] * groups, and weight.shape[0] divisible by groups",
            actual=f"{x.shape[1]} channels, weight {weight.shape}, groups={groups} (x: {x!r})",
            remedy="images are channels first (N, C, H, W): mg.permute_dims(x, (0, 3, 1, 2)) makes them so",
        )
    if bias and bias.shape != weight.shape[:1]:
        raise ShapeError(
            "conv2d: bias does not fit", expected=f"shape {weight.shape[:1]} (out_channels,)", actual=f"bias: {bias!r}"
        )
    out = _need_room("conv2d", x, weight.shape[2:], stride, padding, dilation)
    dtype = np.result_type(*[s.dtype for s in (x, weight, bias) if s])
    return Spec((x.shape[0], weight.shape[0], *out), dtype, x.device)


def _conv2d_run(xp: Any, x: Any, weight: Any, bias: Any = None, *, stride: Pair = (1, 1), padding: Pads = NO_PADS,
                dilation: Pair = (1, 1), groups: int = 1) -> Any:  # fmt: skip
    o, channels, kh, kw = weight.shape
    n, c, h, w = x.shape
    if c != channels * groups or o % groups or x.dtype.kind != "f" or weight.dtype.kind != "f":
        raise ValueError("x and weight do not fit")  # `infer` says it better
    columns = _columns(xp, x, (kh, kw), stride, padding, dilation, groups)
    y = xp.matmul(weight.reshape(groups, o // groups, channels * kh * kw), columns)
    y = y.reshape(n, o, *_out_size((h, w), (kh, kw), stride, padding, dilation))
    if bias is None:
        return y
    if bias.shape != (o,):
        raise ValueError("bias does not fit")
    if bias.dtype != y.dtype:
        return y + bias.reshape(o, 1, 1)
    y += bias.reshape(o, 1, 1)  # y is fresh
    return y


def _input_grad_infer(g: Spec, weight: Spec, *, size: Pair, stride: Pair = (1, 1), padding: Pads = NO_PADS,
                      dilation: Pair = (1, 1), groups: int = 1) -> Spec:  # fmt: skip
    name = "conv2d_input_grad"
    _need_images(name, "g", g)
    if weight.ndim != 4:
        raise ShapeError(
            f"{name}: weight has four axes",
            expected="(out_channels, in_channels / groups, kh, kw)",
            actual=f"weight: {weight!r}",
        )
    need_float(name, "g", g)
    need_float(name, "weight", weight)
    out = _out_size(size, weight.shape[2:], stride, padding, dilation)
    if g.shape[1] != weight.shape[0] or weight.shape[0] % groups or g.shape[2:] != out:
        raise ShapeError(
            f"{name}: g is not the gradient of that convolution",
            expected=f"shape (N, {weight.shape[0]}, {out[0]}, {out[1]}), and its channels divisible by groups",
            actual=f"g: {g!r}, groups={groups}",
        )
    return Spec((g.shape[0], weight.shape[1] * groups, *size), np.result_type(g.dtype, weight.dtype), g.device)


def _input_grad_run(xp: Any, g: Any, weight: Any, *, size: Pair, stride: Pair = (1, 1), padding: Pads = NO_PADS,
                    dilation: Pair = (1, 1), groups: int = 1) -> Any:  # fmt: skip
    o, channels, kh, kw = weight.shape
    n, _, oh, ow = g.shape
    if g.shape[1:] != (o, *_out_size(size, (kh, kw), stride, padding, dilation)) or o % groups:
        raise ValueError("g is not the gradient of that convolution")
    c = channels * groups
    columns = xp.matmul(
        weight.reshape(groups, o // groups, channels * kh * kw).transpose(0, 2, 1),
        g.reshape(n, groups, o // groups, oh * ow),
    ).reshape(n, c, kh, kw, oh, ow)
    (top, bottom), (left, right) = padding
    x = xp.zeros((n, c, size[0] + top + bottom, size[1] + left + right), dtype=columns.dtype)
    for i in range(kh):
        for j in range(kw):
            view = _shifted(x, i, j, (oh, ow), stride, dilation)
            view += columns[:, :, i, j]
    return _unpadded(x, padding)


def _weight_grad_infer(x: Spec, g: Spec, *, kernel: Pair, stride: Pair = (1, 1), padding: Pads = NO_PADS,
                       dilation: Pair = (1, 1), groups: int = 1) -> Spec:  # fmt: skip
    name = "conv2d_weight_grad"
    _need_images(name, "x", x)
    _need_images(name, "g", g)
    need_float(name, "x", x)
    need_float(name, "g", g)
    out = _need_room(name, x, kernel, stride, padding, dilation)
    if g.shape[0] != x.shape[0] or g.shape[2:] != out or x.shape[1] % groups or g.shape[1] % groups:
        raise ShapeError(
            f"{name}: g is not the gradient of that convolution",
            expected=f"shape ({x.shape[0]}, O, {out[0]}, {out[1]}), and all channels divisible by groups",
            actual=f"g: {g!r}, x: {x!r}, groups={groups}",
        )
    return Spec((g.shape[1], x.shape[1] // groups, *kernel), np.result_type(x.dtype, g.dtype), x.device)


def _weight_grad_run(
    xp: Any,
    x: Any,
    g: Any,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADS,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Any:
    n, c = x.shape[:2]
    o = g.shape[1]
    if (
        n != g.shape[0]
        or g.shape[2:] != _out_size(x.shape[2:], kernel, stride, padding, dilation)
        or c % groups
        or o % groups
    ):
        raise ValueError("g is not the gradient of that convolution")
    columns = _columns(xp, x, kernel, stride, padding, dilation, groups)
    by_image = xp.matmul(g.reshape(n, groups, o // groups, g.shape[2] * g.shape[3]), columns.swapaxes(-1, -2))
    return by_image.sum(0).reshape(o, c // groups, *kernel)


def _conv2d_flops(x: Spec, weight: Spec, bias: Spec | None = None, **attrs: Any) -> int:
    y = _conv2d_infer(x, weight, bias, **attrs)
    return 2 * y.size * (weight.size // max(weight.shape[0], 1)) + (y.size if bias else 0)


def _input_grad_flops(g: Spec, weight: Spec, **attrs: Any) -> int:
    return 2 * g.size * (weight.size // max(weight.shape[0], 1))


def _weight_grad_flops(x: Spec, g: Spec, *, kernel: Pair, groups: int = 1, **attrs: Any) -> int:
    return 2 * g.size * (x.shape[1] // groups) * kernel[0] * kernel[1]


_CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 2, 4, 5), (3, 2, 3, 2), {}),
    ((1, 1, 5, 5), (2, 1, 3, 3), {"stride": (2, 2), "padding": ((1, 1), (1, 1))}),
    ((1, 2, 5, 6), (2, 2, 2, 2), {"stride": (2, 3), "padding": ((0, 1), (2, 0)), "dilation": (2, 1)}),
    ((2, 4, 3, 3), (2, 2, 2, 2), {"groups": 2}),
    ((2, 2, 3, 3), (4, 1, 1, 1), {"groups": 2, "stride": (2, 1)}),
    ((2, 3, 2, 2), (2, 3, 1, 1), {}),
    ((0, 2, 3, 3), (2, 2, 2, 2), {}),
)


def _conv2d_samples(rng: np.random.Generator) -> Iterator:
    def x(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    for shape, kernel, attrs in _CASES:
        yield (x(*shape), x(*kernel), x(kernel[0])), attrs
    yield (x(2, 2, 3, 3), x(1, 2, 2, 2)), {}
    yield (x(2, 3, 3, 2).transpose(0, 3, 1, 2), x(4, 2, 2, 2)[::2]), {}
    yield (x(1, 1, 3, 3).astype("f4"), x(1, 1, 2, 2).astype("f4"), x(1)), {}
    yield "bad", (x(2, 3, 4, 4), x(2, 2, 3, 3)), {}, ShapeError
    yield "bad", (x(2, 2, 2, 2), x(2, 2, 3, 3)), {}, ShapeError
    yield "bad", (x(2, 4, 4), x(2, 2, 3, 3)), {}, ShapeError
    yield "bad", (x(2, 2, 4, 4), x(2, 2, 3)), {}, ShapeError
    yield "bad", (x(2, 2, 4, 4), x(3, 2, 3, 3), x(2)), {}, ShapeError
    yield "bad", (x(2, 2, 4, 4), x(3, 1, 3, 3)), {"groups": 2}, ShapeError
    yield "bad", (x(2, 2, 4, 4), x(2, 2, 3, 3)), {"padding": -1}, ArgumentError
    yield "bad", (x(2, 2, 4, 4), x(2, 2, 3, 3)), {"stride": 0}, ArgumentError
    yield "bad", (x(2, 2, 4, 4).astype(int), x(2, 2, 3, 3)), {}, DTypeError


def _input_grad_samples(rng: np.random.Generator) -> Iterator:
    for shape, kernel, attrs in _CASES:
        y = _conv2d_infer(Spec(shape, "f8"), Spec(kernel, "f8"), **attrs)
        yield (rng.standard_normal(y.shape), rng.standard_normal(kernel)), {"size": shape[2:], **attrs}
    yield "bad", (rng.standard_normal((2, 3, 2, 2)), rng.standard_normal((3, 2, 3, 3))), {"size": (5, 5)}, ShapeError


def _weight_grad_samples(rng: np.random.Generator) -> Iterator:
    for shape, kernel, attrs in _CASES:
        y = _conv2d_infer(Spec(shape, "f8"), Spec(kernel, "f8"), **attrs)
        yield (rng.standard_normal(shape), rng.standard_normal(y.shape)), {"kernel": kernel[2:], **attrs}
    yield "bad", (rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 2, 3, 3))), {"kernel": (3, 3)}, ShapeError


def _bias_grad(F: Any, g: Any, y: Any, x: Any, weight: Any, bias: Any = None, **attrs: Any) -> Any:
    return F.sum(g, axis=(0, 2, 3))


CONV2D = Op(
    "conv2d",
    run=_conv2d_run,
    infer=_conv2d_infer,
    vjp=(
        lambda F, g, y, x, weight, bias=None, **attrs: F.conv2d_input_grad(g, weight, size=x.shape[2:], **attrs),
        lambda F, g, y, x, weight, bias=None, **attrs: F.conv2d_weight_grad(x, g, kernel=weight.shape[2:], **attrs),
        _bias_grad,
    ),
    saves=("x", "weight"),
    latex=r"{x} \star {weight} + {bias}",
    derivative=(r"\bar y \ast {weight}", r"{x} \star \bar y", r"\textstyle\sum \bar y"),
    flops=_conv2d_flops,
    samples=_conv2d_samples,
)
CONV2D_INPUT_GRAD = Op(
    "conv2d_input_grad",
    run=_input_grad_run,
    infer=_input_grad_infer,
    vjp=(
        lambda F, v, y, g, weight, *, size, **attrs: F.conv2d(v, weight, **attrs),
        lambda F, v, y, g, weight, *, size, **attrs: F.conv2d_weight_grad(v, g, kernel=weight.shape[2:], **attrs),
    ),
    saves=("g", "weight"),
    latex=r"{g} \ast {weight}",
    derivative=(r"\bar y \star {weight}", r"\bar y \star {g}"),
    flops=_input_grad_flops,
    samples=_input_grad_samples,
)
CONV2D_WEIGHT_GRAD = Op(
    "conv2d_weight_grad",
    run=_weight_grad_run,
    infer=_weight_grad_infer,
    vjp=(
        lambda F, v, y, x, g, *, kernel, **attrs: F.conv2d_input_grad(g, v, size=x.shape[2:], **attrs),
        lambda F, v, y, x, g, *, kernel, **attrs: F.conv2d(x, v, **attrs),
    ),
    saves=("x", "g"),
    latex=r"{x} \star {g}",
    derivative=(r"{g} \ast \bar y", r"{x} \star \bar y"),
    flops=_weight_grad_flops,
    samples=_weight_grad_samples,
)


def _conv_attrs(
    name: str, kernel: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: Any
) -> dict[str, Any]:
    stride, dilation = _pair(name, "stride", stride), _pair(name, "dilation", dilation)
    return {"stride": stride, "padding": _pads(name, padding, kernel, stride, dilation), "dilation": dilation,
            "groups": _integer(name, "groups", groups, 1)}  # fmt: skip


def _kernel_of(name: str, weight: Tensor) -> tuple[int, ...]:
    if weight.ndim != 4:
        raise ShapeError(f"{name}: weight has four axes", expected="(out_channels, in_channels / groups, kh, kw)",
                         actual=f"shape {weight.shape}")  # fmt: skip
    return weight.shape[2:]


def conv2d(
    x: Any, weight: Any, bias: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Two-dimensional convolution (cross-correlation: the kernel is not flipped), as in PyTorch.

    Args:
        x: shape (N, C, H, W).
        weight: shape (O, C / groups, kh, kw).
        bias: shape (O,), or None.
        stride: step of the kernel; an integer, or a pair (vertical, horizontal).
        padding: zeros added on each side: an integer, a pair (vertical, horizontal), a pair of pairs
            ((top, bottom), (left, right)), "valid" (none) or "same" (as many as keep the size; stride 1 only).
        dilation: distance between the elements of the kernel.
        groups: number of groups of channels that do not see each other; C for a depthwise convolution.

    Returns:
        shape (N, O, oh, ow), oh = (H + top + bottom - dilation * (kh - 1) - 1) // stride + 1.

    Raises:
        ShapeError: wrong rank, channels that do not fit, a kernel larger than the padded input.
        ArgumentError: negative padding, stride below 1. DTypeError: not floating point.

    >>> mg.conv2d(mg.ones((1, 1, 3, 3)), mg.ones((1, 1, 2, 2))).numpy()[0, 0]
    array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    tensors = lift_all(x, weight) if bias is None else lift_all(x, weight, bias)
    return bind(
        CONV2D, *tensors, **_conv_attrs("conv2d", _kernel_of("conv2d", tensors[1]), stride, padding, dilation, groups)
    )


def conv2d_input_grad(
    g: Any, weight: Any, *, size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """The gradient of `conv2d` with respect to its input: also the transposed convolution.

    Args:
        g: gradient with respect to the result, shape (N, O, oh, ow).
        weight: shape (O, C / groups, kh, kw).
        size: (H, W) of the input.

    Returns:
        shape (N, C, H, W).

    >>> mg.conv2d_input_grad(mg.ones((1, 1, 2, 2)), mg.ones((1, 1, 2, 2)), size=(3, 3)).numpy()[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    name = "conv2d_input_grad"
    tensors = lift_all(g, weight)
    attrs = _conv_attrs(name, _kernel_of(name, tensors[1]), stride, padding, dilation, groups)
    return CONV2D_INPUT_GRAD(*tensors, size=_pair(name, "size", size), **attrs)


def conv2d_weight_grad(
    x: Any, g: Any, *, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """The gradient of `conv2d` with respect to its weight.

    Args:
        x: the input, shape (N, C, H, W).
        g: gradient with respect to the result, shape (N, O, oh, ow).
        kernel: (kh, kw).

    Returns:
        shape (O, C / groups, kh, kw).

    >>> mg.conv2d_weight_grad(mg.ones((1, 1, 3, 3)), mg.ones((1, 1, 2, 2)), kernel=2).numpy()[0, 0]
    array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    name = "conv2d_weight_grad"
    window = _pair(name, "kernel", kernel)
    attrs = _conv_attrs(name, window, stride, padding, dilation, groups)
    return CONV2D_WEIGHT_GRAD(x, g, kernel=window, **attrs)


def conv1d(
    x: Any, weight: Any, bias: Any = None, *, stride: int = 1, padding: Any = 0, dilation: int = 1, groups: int = 1
) -> Tensor:
    """One-dimensional convolution of sequences: `conv2d` with images of height 1.

    Args:
        x: shape (N, C, L).
        weight: shape (O, C / groups, k).
        bias: shape (O,), or None.
        padding: an integer, a pair (left, right), "same" or "valid".

    Returns:
        shape (N, O, (L + left + right - dilation * (k - 1) - 1) // stride + 1).

    >>> mg.conv1d(mg.tensor([[[1.0, 2.0, 4.0]]]), mg.tensor([[[-1.0, 1.0]]]))
    tensor([[[1., 2.]]], dtype=float32)
    """
    from .shape import expand_dims, squeeze

    x, weight = lift_all(x, weight)
    if x.ndim != 3 or weight.ndim != 3:
        raise ShapeError("conv1d: x and weight have three axes", expected="x: (N, C, L), weight: (O, C / groups, k)",
                         actual=f"x: {x.shape}, weight: {weight.shape}")  # fmt: skip
    if not isinstance(padding, str):
        padding = (0, _pair("conv1d", "padding", padding, 0))
    stride, dilation = integer("conv1d", "stride", stride, 1), integer("conv1d", "dilation", dilation, 1)
    y = conv2d(expand_dims(x, axis=2), expand_dims(weight, axis=2), bias, stride=(1, stride), padding=padding,
               dilation=(1, dilation), groups=groups)  # fmt: skip
    return squeeze(y, axis=2)


# ------------------------------------------------------------------------------------------------------- pooling


def _pool_infer(name: str, x: Spec, kernel: Pair, stride: Pair, padding: Pads) -> Spec:
    _need_images(name, "x", x)
    need_float(name, "x", x)
    if any(max(p) > k // 2 for p, k in zip(padding, kernel, strict=True)):
        raise ArgumentError(f"{name}: a window may not lie in the padding", expected="padding <= kernel // 2",
                            actual=f"padding {padding}, kernel {kernel}")  # fmt: skip
    return Spec((*x.shape[:2], *_need_room(name, x, kernel, stride, padding, (1, 1))), x.dtype, x.device)


def _pool_attrs(name: str, kernel: Any, stride: Any, padding: Any) -> dict[str, Any]:
    window = _pair(name, "kernel", kernel)
    step = window if stride is None else _pair(name, "stride", stride)
    pads = _pads(name, padding, window, step, (1, 1))
    if any(max(p) > k // 2 for p, k in zip(pads, window, strict=True)):
        raise ArgumentError(f"{name}: a window may not lie in the padding", expected="padding <= kernel // 2",
                            actual=f"padding {padding!r}, kernel {window}")  # fmt: skip
    return {"kernel": window, "stride": step, "padding": pads}


def _slices(x: Any, kernel: Pair, stride: Pair) -> Iterator[Any]:
    """For each position in the (padded) windows, row by row: the view of its element in every window."""
    out = _out_size(x.shape[2:], kernel, stride, NO_PADS, (1, 1))
    if min(out) < 1:
        raise ValueError("the kernel is larger than the input")
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield _shifted(x, i, j, out, stride, (1, 1))


def _max_pool_run(xp: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Any:
    if x.dtype.kind != "f" or x.ndim != 4:
        raise ValueError("a batch of floating-point images")
    parts = _slices(_padded(xp, x, padding, -xp.inf), kernel, stride)
    y = next(parts).copy()
    for part in parts:
        xp.maximum(y, part, out=y)
    return y


def _firsts(x: Any, y: Any, kernel: Pair, stride: Pair) -> Iterator[Any]:
    """For each position in the windows: in which windows it holds the (first) maximum. The masks never overlap."""
    free = y == y  # a window whose maximum is NaN has none
    for part in _slices(x, kernel, stride):
        hit = part == y
        hit &= free
        free ^= hit
        yield hit


def _keep(xp: Any, mask: Any, values: Any) -> Any:
    """`where(mask, values, 0)` by bits: a choice that no processor can predict costs ten times as much."""
    integer = f"i{values.dtype.itemsize}"
    bits = xp.negative(mask.view("i1")).astype(integer)  # all ones where true
    bits &= values.view(integer)
    return bits.view(values.dtype)


def _max_pool_grad_run(xp: Any, g: Any, x: Any, y: Any, *, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Any:
    if g.shape != y.shape or y.shape != (*x.shape[:2], *_out_size(x.shape[2:], kernel, stride, padding, (1, 1))):
        raise ValueError("g is not the gradient of that pooling")
    x = _padded(xp, x, padding, -xp.inf)
    gx = xp.zeros(x.shape, dtype=g.dtype)
    for target, first in zip(_slices(gx, kernel, stride), _firsts(x, y, kernel, stride), strict=True):
        target += _keep(xp, first, g)
    return _unpadded(gx, padding)


def _max_pool_pick_run(xp: Any, v: Any, x: Any, y: Any, *, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Any:
    if v.shape != x.shape or y.shape != (*x.shape[:2], *_out_size(x.shape[2:], kernel, stride, padding, (1, 1))):
        raise ValueError("v and x have the same shape")
    x, v = _padded(xp, x, padding, -xp.inf), _padded(xp, v, padding)
    picked = xp.zeros(y.shape, dtype=v.dtype)
    for source, first in zip(_slices(v, kernel, stride), _firsts(x, y, kernel, stride), strict=True):
        picked += _keep(xp, first, source)
    return picked


def _max_pool_grad_infer(g: Spec, x: Spec, y: Spec, *, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Spec:
    name = "max_pool2d_grad"
    pooled = _pool_infer(name, x, kernel, stride, padding)
    need_float(name, "g", g)
    if g.shape != pooled.shape or y.shape != pooled.shape:
        raise ShapeError(
            f"{name}: g and y have the shape of the pooled result",
            expected=f"shape {pooled.shape}",
            actual=f"g: {g!r}, y: {y!r}",
        )
    return Spec(x.shape, g.dtype, x.device)


def _max_pool_pick_infer(v: Spec, x: Spec, y: Spec, *, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Spec:
    name = "max_pool2d_pick"
    pooled = _pool_infer(name, x, kernel, stride, padding)
    need_float(name, "v", v)
    if v.shape != x.shape or y.shape != pooled.shape:
        raise ShapeError(
            f"{name}: v has the shape of x, y that of the pooled result",
            expected=f"v: {x.shape}, y: {pooled.shape}",
            actual=f"v: {v!r}, y: {y!r}",
        )
    return Spec(pooled.shape, v.dtype, x.device)


def _avg_pool_run(xp: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Any:
    if x.dtype.kind != "f" or x.ndim != 4:
        raise ValueError("a batch of floating-point images")
    parts = _slices(_padded(xp, x, padding), kernel, stride)
    y = next(parts).copy()
    for part in parts:
        y += part
    y /= kernel[0] * kernel[1]
    return y


def _avg_pool_grad_run(xp: Any, g: Any, *, size: Pair, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Any:
    (top, bottom), (left, right) = padding
    gx = xp.zeros((*g.shape[:2], size[0] + top + bottom, size[1] + left + right), dtype=g.dtype)
    if g.shape[2:] != _out_size(gx.shape[2:], kernel, stride, NO_PADS, (1, 1)):
        raise ValueError("g is not the gradient of that pooling")
    share = g / (kernel[0] * kernel[1])
    for target in _slices(gx, kernel, stride):
        target += share
    return _unpadded(gx, padding)


def _avg_pool_grad_infer(g: Spec, *, size: Pair, kernel: Pair, stride: Pair, padding: Pads = NO_PADS) -> Spec:
    name = "avg_pool2d_grad"
    _need_images(name, "g", g)
    x = Spec((*g.shape[:2], *size), g.dtype, g.device)
    y = _pool_infer(name, x, kernel, stride, padding)
    if g.shape != y.shape:
        raise ShapeError(
            f"{name}: g is not the gradient of that pooling", expected=f"shape {y.shape}", actual=f"g: {g!r}"
        )
    return x


_POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 2, 4, 4), {"kernel": (2, 2), "stride": (2, 2)}),
    ((1, 2, 5, 4), {"kernel": (3, 2), "stride": (1, 1)}),
    ((1, 1, 5, 5), {"kernel": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))}),
    ((1, 1, 3, 7), {"kernel": (2, 2), "stride": (3, 3)}),
    ((0, 2, 4, 4), {"kernel": (2, 2), "stride": (2, 2)}),
)


def _spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values far enough from each other for finite differences not to change which one is the largest."""
    return rng.permutation(np.arange(np.prod(shape), dtype="f8")).reshape(shape) / 10


def _max_pool_samples(rng: np.random.Generator) -> Iterator:
    for shape, attrs in _POOLS:
        yield (_spread(rng, shape),), attrs
    yield (_spread(rng, (2, 4, 4, 2)).transpose(0, 3, 1, 2),), {"kernel": (2, 2), "stride": (2, 2)}
    yield (_spread(rng, (1, 1, 4, 4)).astype("f4"),), {"kernel": (2, 2), "stride": (2, 2)}
    yield "bad", (_spread(rng, (2, 4, 4)),), {"kernel": 2}, ShapeError
    yield "bad", (_spread(rng, (1, 1, 2, 2)),), {"kernel": 3}, ShapeError
    yield "bad", (_spread(rng, (1, 1, 4, 4)),), {"kernel": 2, "padding": 2}, ArgumentError
    yield "bad", (_spread(rng, (1, 1, 4, 4)).astype(int),), {"kernel": 2}, DTypeError


def _max_pool_grad_samples(rng: np.random.Generator) -> Iterator:
    for shape, attrs in _POOLS:
        x = _spread(rng, shape)
        y = _max_pool_run(np, x, **attrs)
        yield (rng.standard_normal(y.shape), x, y), attrs
        yield (rng.standard_normal(y.shape).astype("f4"), np.floor(x), _max_pool_run(np, np.floor(x), **attrs)), attrs
    x = _spread(rng, (1, 1, 2, 2))
    yield "bad", (rng.standard_normal((1, 1, 2, 2)), x, x), {"kernel": 2}, ShapeError


def _max_pool_pick_samples(rng: np.random.Generator) -> Iterator:
    for shape, attrs in _POOLS:
        x = _spread(rng, shape)
        yield (rng.standard_normal(shape), x, _max_pool_run(np, x, **attrs)), attrs
    x = _spread(rng, (1, 1, 2, 2))
    yield "bad", (rng.standard_normal((1, 1, 3, 3)), x, x[:, :, :1, :1]), {"kernel": 2}, ShapeError


def _avg_pool_samples(rng: np.random.Generator) -> Iterator:
    for shape, attrs in _POOLS:
        yield (rng.standard_normal(shape),), attrs
    yield (rng.standard_normal((2, 4, 4, 2)).transpose(0, 3, 1, 2),), {"kernel": (2, 2), "stride": (2, 2)}
    yield (rng.standard_normal((1, 1, 4, 4)).astype("f4"),), {"kernel": (2, 2), "stride": (2, 2)}
    yield "bad", (rng.standard_normal((4, 4)),), {"kernel": 2}, ShapeError
    yield "bad", (rng.standard_normal((1, 1, 4, 4)),), {"kernel": 0}, ArgumentError


def _avg_pool_grad_samples(rng: np.random.Generator) -> Iterator:
    for shape, attrs in _POOLS:
        y = _pool_infer("avg_pool2d", Spec(shape, "f8"), **{"padding": NO_PADS, **attrs})
        yield (rng.standard_normal(y.shape),), {"size": shape[2:], **attrs}
    yield "bad", (rng.standard_normal((1, 1, 2, 2)),), {"size": (9, 9), "kernel": 2}, ShapeError


def _window_flops(x: Spec, **attrs: Any) -> int:
    kernel, stride = attrs["kernel"], attrs["stride"]
    return _pool_infer("pool", x, kernel, stride, attrs.get("padding", NO_PADS)).size * kernel[0] * kernel[1]


MAX_POOL2D = Op(
    "max_pool2d",
    run=_max_pool_run,
    infer=lambda x, *, kernel, stride, padding=NO_PADS: _pool_infer("max_pool2d", x, kernel, stride, padding),
    vjp=(lambda F, g, y, x, **attrs: F.max_pool2d_grad(g, x, y, **attrs),),
    saves=("x", "y"),
    latex=r"\operatorname{{maxpool}}\,{x}",
    flops=_window_flops,
    samples=_max_pool_samples,
)
MAX_POOL2D_GRAD = Op(
    "max_pool2d_grad",
    run=_max_pool_grad_run,
    infer=_max_pool_grad_infer,
    vjp=(lambda F, v, gx, g, x, y, **attrs: F.max_pool2d_pick(v, x, y, **attrs), None, None),
    saves=("x", "y"),
    latex=r"\operatorname{{maxpool}}_{x}^\top {g}",
    samples=_max_pool_grad_samples,
)
MAX_POOL2D_PICK = Op(
    "max_pool2d_pick",
    run=_max_pool_pick_run,
    infer=_max_pool_pick_infer,
    vjp=(lambda F, g, picked, v, x, y, **attrs: F.max_pool2d_grad(g, x, y, **attrs), None, None),
    saves=("x", "y"),
    latex=r"\operatorname{{maxpool}}_{x} {v}",
    samples=_max_pool_pick_samples,
)
AVG_POOL2D = Op(
    "avg_pool2d",
    run=_avg_pool_run,
    infer=lambda x, *, kernel, stride, padding=NO_PADS: _pool_infer("avg_pool2d", x, kernel, stride, padding),
    vjp=(lambda F, g, y, x, **attrs: F.avg_pool2d_grad(g, size=x.shape[2:], **attrs),),
    latex=r"\operatorname{{avgpool}}\,{x}",
    flops=_window_flops,
    samples=_avg_pool_samples,
)
AVG_POOL2D_GRAD = Op(
    "avg_pool2d_grad",
    run=_avg_pool_grad_run,
    infer=_avg_pool_grad_infer,
    vjp=(lambda F, v, y, g, *, size, **attrs: F.avg_pool2d(v, **attrs),),
    latex=r"\operatorname{{avgpool}}^\top {g}",
    samples=_avg_pool_grad_samples,
)


def max_pool2d(x: Any, kernel: Any, *, stride: Any = None, padding: Any = 0) -> Tensor:
    """The largest element of each window. Where several are equal, the first of them gets the gradient.

    Args:
        x: shape (N, C, H, W), floating point.
        kernel: size of the window; an integer or a pair.
        stride: step of the window; the kernel, unless it is given.
        padding: as for `conv2d`, at most half the kernel. What is added is never the largest.

    Returns:
        shape (N, C, oh, ow), oh = (H + top + bottom - kernel) // stride + 1.

    Raises:
        ShapeError: wrong rank, a window larger than the padded input. ArgumentError: more padding than half the kernel.

    >>> mg.max_pool2d(mg.reshape(mg.arange(16.0), (1, 1, 4, 4)), 2).numpy()[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    return bind(MAX_POOL2D, lift(x), **_pool_attrs("max_pool2d", kernel, stride, padding))


def max_pool2d_grad(g: Any, x: Any, y: Any, *, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """Put each gradient where the (first) maximum of its window was; zero elsewhere. The gradient of `max_pool2d`.

    Args:
        g: gradient with respect to the pooled result.
        x, y: the input and the result of the pooling.

    >>> x = mg.tensor([[[[1.0, 3.0], [3.0, 2.0]]]])
    >>> mg.max_pool2d_grad(mg.ones((1, 1, 1, 1)), x, mg.max_pool2d(x, 2), kernel=2).numpy()[0, 0]
    array([[0., 1.],
           [0., 0.]], dtype=float32)
    """
    return MAX_POOL2D_GRAD(g, x, y, **_pool_attrs("max_pool2d_grad", kernel, stride, padding))


def max_pool2d_pick(v: Any, x: Any, y: Any, *, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """The elements of `v` at the places where `x` has the maxima of its windows. The gradient of `max_pool2d_grad`.

    Args:
        v: shape of `x`.
        x, y: the input and the result of the pooling.

    >>> x = mg.tensor([[[[1.0, 3.0], [3.0, 2.0]]]])
    >>> mg.max_pool2d_pick(x * 10.0, x, mg.max_pool2d(x, 2), kernel=2).item()
    30.0
    """
    return MAX_POOL2D_PICK(v, x, y, **_pool_attrs("max_pool2d_pick", kernel, stride, padding))


def avg_pool2d(x: Any, kernel: Any, *, stride: Any = None, padding: Any = 0) -> Tensor:
    """The mean of each window; zeros that padding adds are counted, as in PyTorch. Arguments as for `max_pool2d`.

    >>> mg.avg_pool2d(mg.reshape(mg.arange(16.0), (1, 1, 4, 4)), 2).numpy()[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    return bind(AVG_POOL2D, lift(x), **_pool_attrs("avg_pool2d", kernel, stride, padding))


def avg_pool2d_grad(g: Any, *, size: Any, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """Share each gradient among the elements of its window. The gradient of `avg_pool2d`.

    Args:
        g: shape of the pooled result. size: (H, W) of the input.

    >>> mg.avg_pool2d_grad(mg.ones((1, 1, 1, 1)), size=2, kernel=2).numpy()[0, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]], dtype=float32)
    """
    name = "avg_pool2d_grad"
    return bind(AVG_POOL2D_GRAD, lift(g), size=_pair(name, "size", size), **_pool_attrs(name, kernel, stride, padding))


def adaptive_avg_pool2d(x: Any, output_size: Any = 1) -> Tensor:
    """The means of `output_size` equal tiles of each image; 1 (the default) is the mean over the whole image.

    Args:
        x: shape (N, C, H, W).
        output_size: an integer or a pair that divides (H, W).

    Raises:
        ArgumentError: the output size does not divide the input size.

    >>> mg.adaptive_avg_pool2d(mg.reshape(mg.arange(4.0), (1, 1, 2, 2))).item()
    1.5
    """
    from .reduction import mean

    name = "adaptive_avg_pool2d"
    t, (oh, ow) = lift(x), _pair(name, "output_size", output_size)
    _need_images(name, "x", t)  # type: ignore[arg-type]
    h, w = t.shape[2:]
    if (oh, ow) == (1, 1):
        return mean(t, axis=(2, 3), keepdims=True)
    if h % oh or w % ow:
        raise ArgumentError(f"{name}: the output size divides the input size", expected=f"divisors of {h} and {w}",
                            actual=f"{oh} and {ow}", remedy="resize or pad the images, or use avg_pool2d")  # fmt: skip
    return avg_pool2d(t, (h // oh, w // ow))
