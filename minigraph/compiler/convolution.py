"""Convolution and pooling in C: a convolution is a matrix product whose left matrix is never made.

In `y[n, o, i, j] = sum over (c, a, b) of x[n, c, i * s + a * d, j * s + b * d] * w[o, c, a, b]` let one row stand for
each pixel (i, j) and one column for each tap (c, a, b). Then y = X w, where X holds what the kernel sees at each pixel:
the "columns" that `ops/conv.py` lays out in memory. But element (row, column) of X lies at an address that is a sum,
one part for the row and one for the column, so a loop can read it where it is. The three operations of the family
differ only in what the rows and columns are:

    operation           rows      columns    right matrix, packed so that its rows are vectors
    conv2d              pixels    taps       w, one row for each tap
    conv2d_weight_grad  taps      pixels     g, one row for each pixel; the products of all images are added
    conv2d_input_grad   pixels    o          w, one row for each o, for one tap; added to what that tap sees

`tiles` computes such a product: a tile of some ten rows and one or two vectors of channels stays in registers while
all columns pass by, one multiplication and addition (fused, as in BLAS) for each number that is read. It needs
channels to fill its vectors. Convolutions with fewer than `FEW` of them in a group, depthwise ones above all, run as
plain loops along the rows of the images. The C text is in `convolution_text`; here is what chooses and completes it.

Nothing is measured when a program is made: of the convolutions that were tried, the tiles lost to columns and BLAS only
for a batch of one image, which has a single thread here (`docs/decisions/0009-convolution-without-columns.md`).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..tensor import Tensor
from .convolution_text import (
    AVG_POOL,
    AVG_POOL_GRAD,
    CONTRACTED,
    FORWARD,
    HELPERS,
    INPUT_GRAD,
    LOOPS_FORWARD,
    LOOPS_INPUT_GRAD,
    LOOPS_WEIGHT_GRAD,
    MAX_POOL,
    MAX_POOL_GRAD,
    MAX_POOL_PICK,
    VECTORS,
    WEIGHT_GRAD,
)
from .loops import View, Views, contiguous
from .statements import Statement, writes
from .threads import WORTH, threads

FEW = 4  # channels in a group below which plain loops are faster than vectors with empty places
RATES = {"tiles": 30, "loops": 6, "pool": 1}  # multiplications (for pooling, elements read) in a nanosecond, about
ALIGNED = 16  # numbers: scratch memory is cut at multiples of this
REAL = {np.dtype("f4"): ("float", "f32"), np.dtype("f8"): ("double", "f64")}


class Geometry(NamedTuple):
    """The numbers of a convolution: x (n, c, h, w) with kernels (o, c / groups, kh, kw) gives y (n, o, oh, ow)."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of a padded image."""
        (top, bottom), (left, right) = self.padding
        return self.x[2] + top + bottom, self.x[3] + left + right

    def constants(self) -> dict[str, int]:
        (n, c, h, w), (o, _, kh, kw), (_, _, oh, ow) = self.x, self.w, self.y
        ph, pw = self.frame
        return {
            "N": n, "C": c, "H": h, "W": w, "O": o, "KH": kh, "KW": kw, "OH": oh, "OW": ow,
            "SH": self.stride[0], "SW": self.stride[1], "DH": self.dilation[0], "DW": self.dilation[1],
            "TOP": self.padding[0][0], "LEFT": self.padding[1][0], "PH": ph, "PW": pw, "ROW": pw, "PLANE": ph * pw,
            "GROUPS": self.groups, "CG": c // self.groups, "OG": o // self.groups,
            "LAST": (kh - 1) * self.dilation[0] * pw + (kw - 1) * self.dilation[1],
        }  # fmt: skip

    @property
    def work(self) -> int:
        """Multiplications."""
        return math.prod(self.y) * math.prod(self.w[1:])


def geometry(x: Tensor, w: Tensor, y: Tensor, *, stride: tuple[int, int] = (1, 1), padding: tuple = ((0, 0), (0, 0)),
             dilation: tuple[int, int] = (1, 1), groups: int = 1, **attrs: object) -> Geometry:  # fmt: skip
    return Geometry(x.shape, w.shape, y.shape, stride, padding, dilation, groups)


def looked_at(n: Tensor, views: Views) -> list[View] | None:
    """How the operands lie in memory, if they are what these functions are for: not empty, of the result's type."""
    if n.dtype not in REAL or not n.size or any(x.dtype != n.dtype or not x.size for x in n.inputs):
        return None
    found = [views[x] for x in n.inputs]
    return None if any(v is None for v in found) else [v for v in found if v is not None]


def strides(letters: Sequence[str], view: View) -> dict[str, int]:
    """The strides of an operand as constants: XN, XC, XH and XW, say."""
    return dict(zip(letters, view.strides, strict=True))


def room(size: int) -> int:
    """The next multiple of ALIGNED: so many channels fill vectors of any width."""
    return -(-size // ALIGNED) * ALIGNED


def shared_by(jobs: int, nanoseconds: float) -> int:
    """How many threads do so many independent jobs together."""
    return min(threads(), jobs) if nanoseconds > WORTH else 1


def function(kind: str, template: str, helpers: Sequence[str], constants: dict[str, int], dtype: np.dtype) -> Statement:
    """The functions of a statement, whose text is still to be written; its scratch memory is that of the constants.

    A function is named after its constants, so that equal convolutions share it.
    """
    real, bits = REAL[dtype]

    def written(text: str) -> str:
        return CONTRACTED.format(re.sub(r"_real\b", f"_{bits}", re.sub(r"\breal\b", real, text)).strip())

    lines, line = [], "enum {"
    for key, value in constants.items():
        if len(line) > 100:
            lines.append(line)
            line = "        "
        line += f" {key} = {value},"
    lines.append(f"{line[:-1]} }};")
    numbers = "\n".join(lines)
    name = f"{kind}_{bits}_{zlib.crc32((template + numbers).encode()):08x}"
    count = constants["THREADS"]
    pragma = f"#pragma omp parallel for num_threads({count}) schedule(static)" if count > 1 else ""
    text = (
        written(template)
        .replace("NAME", name)
        .replace("CONSTANTS", numbers)
        .replace("UNROLLED", "#pragma GCC unroll 8")
    )
    text = text.replace("PARALLEL", pragma).replace("THREAD ", "omp_get_thread_num() " if count > 1 else "0 ")
    functions = {"math": "#include <math.h>", "vectors": VECTORS} | {
        f"{helper}_{bits}": written(HELPERS[helper]) for helper in helpers
    }
    size = constants.get("SHARED", 0) + count * constants["OWN"]
    return Statement(name, functions | {name: text}, size * dtype.itemsize)


def call(statement: Statement, n: Tensor, views: Sequence[View], extra: str = "") -> Statement:
    """The statement with its text: the function applied to the operands, the result and the scratch memory."""
    real = REAL[n.dtype][0]
    operands = [f"{{in{i}}} + {v.offset}" if v.offset else f"{{in{i}}}" for i, v in enumerate(views)]
    scratch = f"({real} *)({{t}})" if statement.scratch else "0"
    arguments = ", ".join([*operands, *([extra] if extra else []), "{out0}", scratch])
    return statement._replace(text=f"{statement.text}({arguments});")


@writes("conv2d")
def conv2d(n: Tensor, views: Views) -> Statement | None:
    """y = conv(x, w) + bias."""
    found = looked_at(n, views)
    if found is None:
        return None
    x, w = n.inputs[:2]
    s = geometry(x, w, n, **n.attrs)
    bias = {"BIAS": found[2].strides[0]} if len(found) > 2 else {"BIAS": 0}
    known = s.constants()
    known |= strides(("XN", "XC", "XH", "XW"), found[0]) | strides(("WO", "WC", "WH", "WW"), found[1]) | bias
    copied = s.frame != x.shape[2:] or found[0].strides[1:] != contiguous(x.shape)[1:]
    frame = room(known["C"] * known["PLANE"]) if copied else 0
    known |= {"COPIED": int(copied), "FRAME": frame}
    missing = "" if len(found) > 2 else "0"
    if known["OG"] < FEW:
        known |= {"OWN": frame, "THREADS": shared_by(x.shape[0], s.work / RATES["loops"])}
        return call(function("conv2d", LOOPS_FORWARD, ["padded"], known, n.dtype), n, found, missing)
    packed = s.groups * room(known["OG"]) * math.prod(w.shape[1:])
    known |= {"PACKED": packed, "SHARED": packed, "OWN": frame + known["OH"] * known["OW"] * 2 * ALIGNED}
    known["THREADS"] = shared_by(x.shape[0], s.work / RATES["tiles"])
    return call(function("conv2d", FORWARD, ["tiles", "padded", "transposed"], known, n.dtype), n, found, missing)


@writes("conv2d_input_grad")
def conv2d_input_grad(n: Tensor, views: Views) -> Statement | None:
    """The gradient of a convolution with respect to its input."""
    found = looked_at(n, views)
    if found is None:
        return None
    g, w = n.inputs
    s = geometry(n, w, g, **n.attrs)
    known = s.constants()
    known |= strides(("XN", "XC", "XH", "XW"), found[0]) | strides(("WO", "WC", "WH", "WW"), found[1])
    if known["CG"] < FEW:
        known["OWN"] = room(2 * known["PLANE"] + known["LAST"])
        known["THREADS"] = shared_by(g.shape[0], s.work / RATES["loops"])
        return call(function("conv2d_input_grad", LOOPS_INPUT_GRAD, ["spread"], known, n.dtype), n, found)
    copied = found[0].strides[1:] != contiguous(g.shape)[1:]
    frame = room(math.prod(g.shape[1:])) if copied else 0
    packed = s.groups * room(known["CG"]) * known["OG"] * math.prod(w.shape[2:])
    known |= {"COPIED": int(copied), "FRAME": frame, "PACKED": packed, "SHARED": packed}
    known |= {"OWN": frame + known["PLANE"] * 2 * ALIGNED, "THREADS": shared_by(g.shape[0], s.work / RATES["tiles"])}
    return call(function("conv2d_input_grad", INPUT_GRAD, ["tiles", "padded", "transposed"], known, n.dtype), n, found)


@writes("conv2d_weight_grad")
def conv2d_weight_grad(n: Tensor, views: Views) -> Statement | None:
    """The gradient of a convolution with respect to its kernels."""
    found = looked_at(n, views)
    if found is None:
        return None
    x, g = n.inputs
    s = geometry(x, n, g, **n.attrs)
    known = s.constants()
    known |= strides(("XN", "XC", "XH", "XW"), found[0]) | strides(("GN", "GC", "GH", "GW"), found[1])
    copied = s.frame != x.shape[2:] or found[0].strides[1:] != contiguous(x.shape)[1:]
    frame = room(known["C"] * known["PLANE"]) if copied else 0
    few = known["OG"] < FEW
    packed = room(n.size) if few else s.groups * room(known["OG"]) * math.prod(n.shape[1:])
    known |= {"COPIED": int(copied), "PACKED": packed}
    known["OWN"] = packed + frame + (room(known["PLANE"]) if few else known["OH"] * known["OW"] * 2 * ALIGNED)
    known["THREADS"] = shared_by(x.shape[0], s.work / RATES["loops" if few else "tiles"])
    template, helpers = (LOOPS_WEIGHT_GRAD, ["padded", "spread"]) if few else (WEIGHT_GRAD, ["tiles", "padded"])
    return call(function("conv2d_weight_grad", template, helpers, known, n.dtype), n, found)


# ------------------------------------------------------------------------------------------------------------- pooling


def pooling(
    n: Tensor, views: Views, image: Tensor, pooled: Tensor, template: str, letters: Sequence[str]
) -> Statement | None:
    """The statement of a pooling operation: `letters` names the strides of its operands."""
    found = looked_at(n, views)
    if found is None:
        return None
    kernel, stride = n.attrs["kernel"], n.attrs["stride"]
    s = Geometry(
        image.shape, (0, 0, *kernel), pooled.shape, stride, n.attrs.get("padding", ((0, 0), (0, 0))), (1, 1), 1
    )
    known = {k: v for k, v in s.constants().items() if k not in ("O", "GROUPS", "CG", "OG", "DH", "DW")}
    for letter, view in zip(letters, found, strict=True):
        known |= strides([letter + axis for axis in "NCHW"], view)
    padded = s.frame != image.shape[2:]
    copied = padded or any(
        v.strides[2:] != contiguous(image.shape)[2:]
        for v, x in zip(found, n.inputs, strict=True)
        if x is not pooled and x.shape == image.shape
    )
    apart = stride[0] >= kernel[0] and stride[1] >= kernel[1]
    exact = (
        apart
        and stride == kernel
        and all(p * k == f for p, k, f in zip(pooled.shape[2:], kernel, s.frame, strict=True))
    )
    planes = math.prod(image.shape[:2])
    known |= {"PLANES": planes, "COPIED": int(copied), "PADDED": int(padded), "APART": int(apart), "EXACT": int(exact)}
    known |= {"OWN": room(2 * known["PLANE"]) if copied else 0}
    known["THREADS"] = shared_by(planes, math.prod(pooled.shape) * math.prod(kernel) / RATES["pool"])
    return call(function(n.op.name, template, ["padded"], known, n.dtype), n, found)


@writes("max_pool2d")
def max_pool2d(n: Tensor, views: Views) -> Statement | None:
    """The largest element of each window; NaN where there is one."""
    return pooling(n, views, n.inputs[0], n, MAX_POOL, "X")


@writes("avg_pool2d")
def avg_pool2d(n: Tensor, views: Views) -> Statement | None:
    """The mean of each window."""
    return pooling(n, views, n.inputs[0], n, AVG_POOL, "X")


@writes("max_pool2d_grad")
def max_pool2d_grad(n: Tensor, views: Views) -> Statement | None:
    """Each gradient where the first maximum of its window is."""
    return pooling(n, views, n.inputs[1], n.inputs[2], MAX_POOL_GRAD, "GXY")


@writes("max_pool2d_pick")
def max_pool2d_pick(n: Tensor, views: Views) -> Statement | None:
    """The elements where the first maxima of the windows are."""
    return pooling(n, views, n.inputs[1], n, MAX_POOL_PICK, "VXY")


@writes("avg_pool2d_grad")
def avg_pool2d_grad(n: Tensor, views: Views) -> Statement | None:
    """Each gradient, shared among the elements of its window."""
    return pooling(n, views, n, n.inputs[0], AVG_POOL_GRAD, "G")
