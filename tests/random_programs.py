"""Random training steps that use most of the catalogue, and the four ways to run them.

A program is known by its number, from which its shapes, types, instructions and values follow, so that a difference is
reported by a number and found again anywhere. An instruction is an operation, the earlier values that it is applied to,
and a number from which the operation chooses the rest (axes, slices, permutations) for the shapes that it meets. So
every instruction makes sense for every value, and programs stay programs when instructions are left out.

Where a tiny difference could become a large one (comparisons, maxima, rounding) values are first shifted or spread by
odd numbers, which makes ties improbable: modes may add up in different orders.
"""

from __future__ import annotations

import ctypes
import math
import random
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigraph as mg
from minigraph import nn
from minigraph.compiler import toolchain

LARGEST = 4000  # elements of a value: what would be larger is cut


class Program(NamedTuple):
    number: int
    inputs: tuple[tuple[tuple[int, ...], str], ...]  # shapes and dtypes
    variables: tuple[tuple[tuple[int, ...], str], ...]
    instructions: tuple[tuple[str, tuple[int, ...], int], ...]


# ------------------------------------------------------------------------------------------------- what fits what


def is_float(x: Any) -> bool:
    return x.dtype.kind == "f"


def real(x):
    """The value as floating-point numbers."""
    return x if is_float(x) else mg.remainder(x.astype("float32"), 7.0) * 0.37 - 0.61


def whole(x):
    """The value as small integers that are not negative."""
    if is_float(x):
        x = mg.floor(mg.tanh(x) * 5.37 + 6.4142)
    return mg.abs(mg.remainder(x.astype("int64"), 11))


def truth(x):
    return x if x.dtype == bool else x > (0.1234 if is_float(x) else 2)


def spread(x):
    """The value, with numbers added that make all elements different."""
    n = np.arange(x.size).reshape(x.shape)
    return x + mg.tensor(((n * 0.7548776662) % 1.0 * 0.413).astype(x.dtype))


def cut(x):
    """The value, or its beginning if it is large."""
    while x.size > LARGEST:
        axis = int(np.argmax(x.shape))
        x = x[(slice(None),) * axis + (slice(0, x.shape[axis] // 2),)]
    return x


def fitted(a, b):
    """Both, cut where they cannot be broadcast against each other, or would be too large."""
    for k in range(1, min(a.ndim, b.ndim) + 1):
        m, n = a.shape[-k], b.shape[-k]
        if m != n and 1 not in (m, n):
            key = (..., slice(0, min(m, n)), *[slice(None)] * (k - 1))
            a, b = a[key], b[key]
    while math.prod(np.broadcast_shapes(a.shape, b.shape)) > LARGEST:
        if a.size >= b.size:
            a = a[0] if a.ndim else a
        else:
            b = b[0] if b.ndim else b
    return a, b


def some_axes(r, x, least=0):
    """An axis, several, or all of them."""
    if not x.ndim or (not least and r.random() < 0.2):
        return None
    axes = r.sample(range(x.ndim), r.randint(1, x.ndim))
    axes = [a - x.ndim if r.random() < 0.5 else a for a in axes]
    return axes[0] if len(axes) == 1 else tuple(axes)


def one_axis(r, x):
    return r.randrange(-x.ndim, x.ndim)


def with_axis(x):
    return x if x.ndim else mg.reshape(x, (1,))


def matrix(r, x):
    """The value with two axes."""
    x = with_axis(x)
    if x.ndim == 1:
        return x[None] if r.random() < 0.5 else x[:, None]
    return x if x.ndim == 2 else mg.reshape(x, (-1, x.shape[-1]))


def shaped_like(x, shape):
    """The elements of a value, cut or repeated to fill a shape."""
    n = math.prod(shape)
    flat = mg.reshape(x, (-1,))
    if flat.size < n:
        flat = mg.tile(flat, (-(-n // flat.size),))
    return mg.reshape(flat[:n], shape)


# ------------------------------------------------------------------------------------------------- operations


def reduction(r, x):
    x, axes, keep = real(x), some_axes(r, x), r.random() < 0.4
    name = r.choice(["sum", "mean", "max", "min", "prod", "var", "std", "logsumexp", "sum", "mean"])
    if name in ("max", "min"):
        return getattr(mg, name)(spread(x), axis=axes, keepdims=keep)
    if name == "prod":
        return mg.prod(1.0 + 0.1 * mg.tanh(x), axis=axes, keepdims=keep)
    if name == "std":
        return mg.sqrt(mg.var(x, axis=axes, keepdims=keep) + 0.317)
    if name == "sum":
        return mg.sum(x, axis=axes, keepdims=keep) * 0.213
    return getattr(mg, name)(x, axis=axes, keepdims=keep)


def logical_reduction(r, x):
    return getattr(mg, r.choice(["all", "any"]))(truth(x), axis=some_axes(r, x), keepdims=r.random() < 0.4)


def whole_reduction(r, x):
    x, axes, keep = whole(x), some_axes(r, x), r.random() < 0.4
    return getattr(mg, r.choice(["sum", "max", "min"]))(x, axis=axes, keepdims=keep)


def rows(r, x):
    """Operations that go over rows several times."""
    x = with_axis(real(x))
    axis = one_axis(r, x) if r.random() < 0.4 else -1
    match r.choice(["softmax", "log_softmax", "layer", "rms", "normed", "share", "twice"]):
        case "softmax":
            return mg.softmax(x, axis=axis)
        case "log_softmax":
            return mg.log_softmax(x, axis=axis)
        case "layer":
            return nn.functional.layer_norm(x, x.shape[-r.randint(1, x.ndim) :], eps=0.01)
        case "rms":
            return x / mg.sqrt(mg.mean(x * x, axis=axis, keepdims=True) + 0.03)
        case "normed":
            d = x - mg.mean(x, axis=axis, keepdims=True)
            return d / mg.sqrt(mg.mean(d * d, axis=axis, keepdims=True) + 0.05)
        case "share":
            e = mg.exp(mg.tanh(x))
            return e / mg.sum(e, axis=axis, keepdims=True)
        case _:
            s = mg.sum(mg.sin(x), axis=axis, keepdims=True)
            return mg.cos(x * s * 0.1) * mg.max(spread(x), axis=axis, keepdims=True)


def entropy(r, x, y):
    x = matrix(r, real(x))
    labels = mg.remainder(shaped_like(whole(y), x.shape[:1]), x.shape[1])
    return mg.cross_entropy(x, labels)


def product(r, a, b):
    a, b = matrix(r, real(a)), matrix(r, real(b))
    a, b = (mg.matrix_transpose(t) if r.random() < 0.4 else t for t in (a, b))
    n = min(a.shape[1], b.shape[0])
    y = (a[:, :n] @ b[:n]) * (1.0 / n)
    if r.random() < 0.5:
        y = mg.tanh(y + mg.sum(b[:n], axis=0) * 0.1)
    return y


def batched(r, a, b):
    a, b = real(a), real(b)
    if a.ndim < 2:
        return product(r, a, b)
    if r.random() < 0.5:
        return mg.tanh(a @ mg.matrix_transpose(a)) * 0.3
    match r.randrange(3):
        case 0:
            return mg.einsum("...ij,...ik->...jk", a, a) * 0.1
        case 1:
            a, b = fitted(a, with_axis(b))
            return (mg.vecdot(a, b) if a.shape[-1] == b.shape[-1] else mg.sum(a * b, axis=-1)) * 0.2
        case _:
            b = with_axis(b)
            n = min(a.shape[-1], b.shape[0])
            return mg.tensordot(a[..., :n], mg.reshape(b[:n], (n, -1))[:, :7], axes=1) * 0.2


def view(r, x):
    match r.randrange(10):
        case 0:
            return mg.permute_dims(x, tuple(r.sample(range(x.ndim), x.ndim)))
        case 1 | 2:
            key = []
            for n in x.shape:
                kind = r.random()
                if kind < 0.15 and n > 0:
                    key.append(r.randrange(-n, n))
                elif kind < 0.5:
                    a = r.randrange(n)
                    key.append(slice(a, r.randint(a + 1, n), r.choice([None, 1, 2, 3])))
                elif kind < 0.65:
                    key.append(slice(None, None, r.choice([-1, -2])))
                else:
                    key.append(slice(None))
                if r.random() < 0.1:
                    key.append(None)
            return x[tuple(key)]
        case 3:
            parts, n = [], x.size
            for p in (2, 3, 5, 7):
                while n % p == 0 and r.random() < 0.6 and len(parts) < 4:
                    parts.append(p)
                    n //= p
            parts.insert(r.randint(0, len(parts)), n)
            return mg.reshape(x, tuple(parts))
        case 4:
            return mg.expand_dims(x, axis=r.randint(0, x.ndim))
        case 5:
            return mg.flip(x, axis=some_axes(r, x))
        case 6:
            return cut(mg.broadcast_to(x, (r.randint(1, 4), *x.shape)))
        case 7:
            return mg.reshape(x, (-1,))
        case 8:
            return mg.diagonal(x) if x.ndim >= 2 else x
        case _:
            x = with_axis(x)
            axis = one_axis(r, x)
            k = r.randint(0, x.shape[axis])
            parts = mg.split(x, [k], axis)
            return parts[0] if parts[0].size else parts[1]


def moved(r, x):
    x = with_axis(x)
    axis = one_axis(r, x)
    match r.randrange(8):
        case 0:
            return mg.roll(x, r.randint(-4, 4), axis)
        case 1:
            return cut(mg.pad(x, [(r.randint(0, 2), r.randint(0, 2)) for _ in x.shape]))
        case 2:
            return cut(mg.repeat(x, r.randint(1, 3), axis=axis))
        case 3:
            return (mg.tril if r.random() < 0.5 else mg.triu)(matrix(r, x), k=r.randint(-2, 2))
        case 4:
            return mg.sort(spread(real(x)), axis=axis, descending=r.random() < 0.3)
        case 5:
            return mg.cumulative_sum(real(x), axis) * 0.2
        case 6:
            return mg.topk(spread(real(x)), r.randint(1, x.shape[-1]))[0]
        case _:
            return r.choice([mg.argmax, mg.argmin])(spread(real(x)), axis=axis, keepdims=r.random() < 0.4)


def gathered(r, x, y):
    x = with_axis(x)
    i = whole(y)
    match r.randrange(6):
        case 0:
            return cut(x[mg.remainder(cut_to(i, 40), x.shape[0])])
        case 1:
            axis = one_axis(r, x)
            i = mg.reshape(cut_to(i, 20), (-1,))
            return cut(mg.take(x, mg.remainder(i, x.shape[axis]), axis=axis))
        case 2:
            axis = one_axis(r, x)
            i = mg.remainder(shaped_like(i, x.shape), x.shape[axis])
            return mg.take_along_axis(x, i, axis=axis)
        case 3:
            if x.ndim < 2:
                return x[mg.remainder(cut_to(i, 40), x.shape[0]) - x.shape[0]]
            i = mg.reshape(cut_to(i, 9), (-1,))
            return x[mg.remainder(i, x.shape[0]), ..., mg.remainder(i, x.shape[-1])]
        case 4:
            i = mg.remainder(mg.reshape(cut_to(i, 9), (-1,)), x.shape[0])
            x = real(x)
            added = x.at[i].add(mg.sin(x[i]) * 0.5)
            return added
        case _:
            return mg.one_hot(cut_to(i, 60), 11)


def cut_to(x, n):
    while x.size > n:
        axis = int(np.argmax(x.shape))
        x = x[(slice(None),) * axis + (slice(0, -(-x.shape[axis] // 2)),)]
    return x


def joined(r, a, b):
    a, b = (with_axis(t) for t in (real(a), real(b)))
    if a.dtype != b.dtype:
        b = b.astype(a.dtype)
    match r.randrange(3):
        case 0:
            a, b = mg.broadcast_arrays(*fitted(a, b))
            return cut(mg.stack([a, b * 0.5], axis=r.randint(0, a.ndim)))
        case 1:
            a, b = mg.broadcast_arrays(*fitted(a, b))
            axis = one_axis(r, a)
            return cut(mg.concat([a, mg.sin(b), a * 0.3], axis=axis))
        case _:
            return cut(mg.concat([mg.reshape(a, (-1,)), mg.reshape(b, (-1,))]))


def unary(r, x):
    return r.choice(UNARY)(real(x))


def binary(r, a, b):
    a, b = fitted(a, b)
    return r.choice(BINARY)(real(a), real(b))


def compared(r, a, b):
    a, b = fitted(a, b)
    kind = r.randrange(3)
    if kind == 0:
        return r.choice([mg.less, mg.greater, mg.less_equal, mg.greater_equal])(real(a) + 0.0371, spread(real(b)) * 1.1)
    if kind == 1:
        return r.choice([mg.equal, mg.not_equal, mg.less_equal])(whole(a), whole(b))
    return r.choice([mg.logical_and, mg.logical_or, mg.logical_xor])(truth(a), mg.logical_not(truth(b)))


def chosen(r, a, b):
    a, b = fitted(a, b)
    c = truth(b if r.random() < 0.5 else a)
    if r.random() < 0.3:
        c = mg.logical_not(c)
    return mg.where(c, real(a) * 2.0 if r.random() < 0.7 else 0.25, mg.sin(real(b)))


def integers(r, a, b):
    a, b = fitted(a, b)
    a, b = whole(a), whole(b)
    if r.random() < 0.3:
        a, b = (t.astype(r.choice(["int32", "uint8", "int8", "int64"])) for t in (a, b))
    return r.choice([
        lambda: a + b, lambda: a * b - 3, lambda: a // (b + 1), lambda: mg.remainder(a, b + 2), lambda: -a // 3,
        lambda: mg.bitwise_and(a, b), lambda: mg.bitwise_xor(a, b), lambda: mg.bitwise_left_shift(a, 2),
        lambda: mg.maximum(a, b), lambda: mg.where(a > b, a, b), lambda: mg.bitwise_invert(a), lambda: mg.sign(a - b),
    ])()  # fmt: skip


def cast(r, x):
    kind = r.randrange(5)
    if kind == 0:
        return x.astype(x.dtype)
    if kind == 1:
        return truth(x).astype(r.choice(["float32", "int64", "int8"]))
    if kind == 2:
        return whole(x).astype(r.choice(["int32", "uint8", "float32", "float64"]))
    return real(x).astype(r.choice(["float32", "float64"]))


def scanned(r, x):
    x = with_axis(real(x))[:6]
    reverse = r.random() < 0.3
    if r.random() < 0.4 and x.ndim == 3 and x.shape[2] < 20:
        w = mg.sin(x[0][:1].mT @ x[0][:1]) * 0.4

        def cell(h, t):
            h = mg.tanh(t @ w + h @ w.mT)
            return h, h

        last, ys = mg.scan(cell, mg.zeros(x.shape[1:], dtype=x.dtype), x, reverse=reverse)
        return ys + last
    c = mg.zeros(x.shape[1:], dtype=x.dtype)
    last, ys = mg.scan(lambda c, t: (mg.tanh(c + t), c * 0.5 + mg.sin(t)), c, x, reverse=reverse)
    return ys if r.random() < 0.5 else last


def branched(r, x):
    x = real(x)
    return mg.cond(mg.mean(x) > 0.0371, lambda t: mg.sin(t), lambda t: t * 0.5, x)


def repeated(r, x):
    x = mg.stop_gradient(mg.tanh(real(x)))
    n = r.randint(0, 4)
    return mg.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, mg.sin(s[1]) + 0.1), (mg.tensor(0), x))[1]


def kept(r, x):
    x = real(x)
    if r.random() < 0.5:
        return mg.checkpoint(lambda t: mg.sin(t) * 0.5 + mg.mean(t))(x)
    return x + mg.stop_gradient(x) * 0.5


def convolved(r, x):
    size = r.choice([4, 5, 6, 8])
    channels, filters, kernel = r.randint(1, 4), r.randint(1, 5), r.choice([1, 2, 3])
    x = real(x)
    image = shaped_like(mg.tanh(x), (r.randint(1, 3), channels, size, size))
    w = shaped_like(mg.cos(x), (filters, channels, kernel, kernel))
    stride, padding = r.choice([1, 1, 2]), r.choice([0, 1]) if kernel > 1 else 0
    y = mg.conv2d(image, w, stride=stride, padding=padding) * 0.2
    match r.randrange(3):
        case 0:
            return mg.max_pool2d(spread(y), 2) if min(y.shape[2:]) >= 2 else y
        case 1:
            return mg.avg_pool2d(y, 2) if min(y.shape[2:]) >= 2 else y
        case _:
            return y


UNARY: list[Callable] = [
    mg.sin, mg.cos, mg.tanh, mg.sigmoid, mg.erf, mg.gelu, mg.gelu_tanh, mg.silu, mg.softplus, mg.atan, mg.asinh,
    lambda x: mg.exp(mg.tanh(x)), lambda x: mg.log(x * x + 1.3), lambda x: mg.sqrt(x * x + 0.7),
    lambda x: mg.expm1(mg.tanh(x)), lambda x: mg.log1p(x * x), lambda x: mg.reciprocal(x * x + 1.1),
    lambda x: (x * x + 0.9) ** 0.7, lambda x: x**2 * 0.3, lambda x: mg.tanh(x) ** 3, lambda x: x * x * 0.1,
    lambda x: mg.relu(x + 0.1234), lambda x: mg.leaky_relu(x - 0.0513), lambda x: mg.elu(x + 0.0171),
    lambda x: mg.abs(x + 0.0917), lambda x: mg.clip(x, -0.5131, 0.6173), lambda x: mg.sign(x + 0.0239) * x,
    lambda x: mg.floor(x * 1.37 + 0.2113) + x, lambda x: mg.tan(mg.tanh(x)), lambda x: mg.sinh(mg.tanh(x)),
    lambda x: -x, lambda x: -(-x), lambda x: x * 1.0, lambda x: x - 0.0, lambda x: x / 4.0, lambda x: x**1.0,  # noqa: B002
    lambda x: x * -1.0, lambda x: x + mg.tensor(2.0, dtype=x.dtype) * 3.0, lambda x: mg.round(x * 1.71 + 0.1) * 0.5 + x,
    lambda x: mg.acos(mg.tanh(x) * 0.9), lambda x: mg.isfinite(x).astype(x.dtype) * x, lambda x: mg.log2(x * x + 0.5),
]  # fmt: skip
BINARY: list[Callable] = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * mg.tanh(b), lambda a, b: a / (b * b + 1.5),
    lambda a, b: a - (-b), lambda a, b: a + (-b), lambda a, b: mg.maximum(spread(a), b + 0.0371),
    lambda a, b: mg.minimum(a * 0.9, spread(b)), lambda a, b: mg.maximum(a, a) + b, lambda a, b: mg.logaddexp(a, b),
    lambda a, b: mg.hypot(a, b * b + 0.6), lambda a, b: mg.atan2(a, b * b + 0.8),
    lambda a, b: (mg.sigmoid(a) + 0.5) ** mg.tanh(b), lambda a, b: a * b * 0.3, lambda a, b: a * b + a - b,
]  # fmt: skip

# name -> how many operands, the operation, how often
OPERATIONS: dict[str, tuple[int, Callable, int]] = {
    "unary": (1, unary, 20),
    "binary": (2, binary, 20),
    "reduction": (1, reduction, 12),
    "rows": (1, rows, 8),
    "view": (1, view, 12),
    "product": (2, product, 6),
    "batched": (2, batched, 3),
    "chosen": (2, chosen, 5),
    "compared": (2, compared, 3),
    "integers": (2, integers, 4),
    "cast": (1, cast, 3),
    "gathered": (2, gathered, 6),
    "moved": (1, moved, 4),
    "joined": (2, joined, 3),
    "entropy": (2, entropy, 2),
    "logical_reduction": (1, logical_reduction, 2),
    "whole_reduction": (1, whole_reduction, 2),
    "kept": (1, kept, 3),
    "scanned": (1, scanned, 1),
    "branched": (1, branched, 1),
    "repeated": (1, repeated, 1),
    "convolved": (1, convolved, 1),
}


def program(number: int) -> Program:
    """The program with a number."""
    r = random.Random(number)
    sizes = [r.choice([1, 2, 3, 4, 5, 7, 8]) for _ in range(2)] + [r.choice([2, 3, 4, 6, 9, 17, 33, 70])]
    main = r.choice(["float32", "float32", "float32", "float64"])

    def shape(most: int) -> tuple[int, ...]:
        while True:
            found = tuple([r.choice([*sizes, *sizes, 1]) for _ in range(r.choice(range(most + 1)))])
            if math.prod(found) <= 1200:
                return found

    inputs = [(shape(4), main) for _ in range(r.randint(1, 3))]
    if r.random() < 0.4:
        inputs.append((shape(2), r.choice(["int64", "int32", "bool", "uint8", "float64"])))
    variables = [(shape(3), main) for _ in range(r.choice([0, 0, 1, 1, 2]))]
    names = r.choices(list(OPERATIONS), [w for _, _, w in OPERATIONS.values()], k=r.randint(1, r.choice([5, 14])))
    instructions, count = [], len(inputs) + len(variables)
    for name in names:
        # mostly of recent values, so that chains arise
        places = tuple([count - 1 - min(int(r.expovariate(0.5)), count - 1) for _ in range(OPERATIONS[name][0])])
        instructions.append((name, places, r.randrange(1 << 30)))
        count += 1
    return Program(number, tuple(inputs), tuple(variables), tuple(instructions))


# ------------------------------------------------------------------------------------------------- running one


class Run:
    """One mode of a program: its own variables, and the step as a function of the inputs."""

    def __init__(self, p: Program):
        self.program = p
        rng = np.random.default_rng(p.number)
        self.variables = [
            mg.Variable(values(rng, *v), name=f"v{i}", requires_grad=False) for i, v in enumerate(p.variables)
        ]

    def step(self, *inputs: mg.Tensor) -> list[mg.Tensor]:
        """A loss, its gradients, some values on the way; and new values for the variables."""
        p = self.program
        r = random.Random(p.number + 1)
        floats = [i for i, x in enumerate(inputs) if is_float(x)]
        reads = [v.read() for v in self.variables]

        def loss(*differentiated):
            given = list(inputs)
            for i, x in zip(floats, differentiated, strict=False):
                given[i] = x
            found = [*given, *differentiated[len(floats) :]]
            for name, places, choice in p.instructions:
                operation = OPERATIONS[name][1] if name != "same" else lambda r, x: x
                found.append(cut(operation(random.Random(choice), *[found[k] for k in places])))
            total = sum(mg.mean(real(x) * (0.3 + 0.1 * k)) for k, x in enumerate(found))
            wanted = [found[k] for k in sorted(r.sample(range(len(found)), min(3, len(found))))]
            news = [r.choice(found) for _ in self.variables]
            return total, (wanted, news)

        differentiated = [*[inputs[i] for i in floats], *reads]
        f = mg.value_and_grad(loss, tuple(range(len(differentiated))), has_aux=True)
        (value, (wanted, news)), gradients = f(*differentiated)
        old = []
        for v, read, g, new in zip(self.variables, reads, gradients[len(floats) :], news, strict=True):
            kind = r.randrange(4)
            if kind == 0:
                v.assign(read - 0.1 * g)
            elif kind == 1:
                v.assign(shaped_like(mg.tanh(real(new)), read.shape).astype(read.dtype))
            elif kind == 2 and read.ndim:
                v.assign(mg.flip(read) * 0.5 + mg.tanh(g))
                old.append(read)
        return [value, *gradients, *wanted, *old]


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = np.dtype(dtype).kind
    if kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    return rng.integers(0, 2 if kind == "b" else 9, shape).astype(dtype)


def arguments(p: Program) -> list[list[mg.Tensor]]:
    """The arguments of two calls: nothing of the first may stick."""
    rng = np.random.default_rng(p.number + 7)
    return [[mg.tensor(values(rng, *i)) for i in p.inputs] for _ in range(2)]


def results(run: Run, step: Callable) -> list[list[np.ndarray]]:
    """What two calls return, and the variables after each."""
    found = []
    for inputs in arguments(run.program):
        with np.errstate(all="ignore"):
            out = step(*inputs)
        found.append([np.array(t.numpy()) for t in (*out, *run.variables)])
    return found


TOLERANCE = {"float32": 3e-5, "float64": 1e-9}
# NumPy adds up an array in the order in which it lies in memory, and in static mode results lie in planned buffers:
# the same operations, but not always the same last digit.
SAME_ORDER = 0.1


def coarsest(step: Any) -> float:
    """The tolerance for a compiled step: that of the coarsest type in it."""
    return max(TOLERANCE.get(v.dtype.name, 0.0) for n in step.graph.nodes
               for v in (n.value if type(n.value) is tuple else (n.value,)))  # fmt: skip


def unequal(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether results differ: floats by more than the tolerance, relative to the largest; all else at all."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return True
    if a.dtype.kind != "f":
        return not np.array_equal(a, b)
    largest = np.max(np.abs(a[np.isfinite(a)]), initial=1.0)
    return not np.allclose(a, b, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def compare(name: str, want: list, got: list, tolerance: float) -> list[str]:
    """What differs, in words."""
    return [
        f"{name}, call {call}, result {k}: {b.dtype}{b.shape} {b.ravel()[:4]} instead of {a.dtype}{a.shape} "
        f"{a.ravel()[:4]}" + (f", off by {np.max(np.abs(a - b))}" if a.shape == b.shape and a.dtype.kind == "f" else "")
        for call, (first, second) in enumerate(zip(want, got, strict=True))
        for k, (a, b) in enumerate(zip(first, second, strict=True))
        if unequal(a, b, tolerance)
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- many at once


class Later:
    """A library, or a function of it, that is compiled when all programs of a chunk are known."""

    def __init__(self, batch: Batch, index: int, symbol: str = ""):
        self.batch, self.index, self.symbol = batch, index, symbol

    def __getattr__(self, symbol: str) -> Later:
        if symbol.startswith("_"):
            raise AttributeError(symbol)
        function = Later(self.batch, self.index, symbol)
        setattr(self, symbol, function)
        return function

    def __call__(self, address: int) -> int:
        return self.batch.function(self.index, self.symbol)(address)


class Batch:
    """Stands in for `toolchain.build`: all texts of a chunk become one library, by one call of the compiler."""

    def __init__(self, flags: tuple[str, ...] = ("-O1",)):
        self.flags = flags
        self.sources: list[str] = []
        self.library: Any = None

    def build(self, source: str, *, openmp: bool = False, sanitize: bool = False) -> Any:
        self.sources.append(source)
        return Later(self, len(self.sources) - 1)

    def compile(self) -> None:
        compiler = toolchain.find_compiler()
        assert compiler is not None
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for i, source in enumerate(self.sources):
                files.append(Path(folder) / f"p{i}.c")
                # each program's functions get names of their own
                renamed = "".join(f"#define {name} {name}_{i}\n" for name in set(re.findall(r"\brun_step\w*", source)))
                files[-1].write_text(f"{renamed}{source}")
            library = Path(folder) / "programs.so"
            command = [*compiler.command, *compiler.flags, *self.flags, *map(str, files), "-o", str(library), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:2000]
            self.library = ctypes.CDLL(str(library))

    def function(self, index: int, symbol: str) -> Any:
        f = getattr(self.library, f"{symbol}_{index}")
        f.argtypes, f.restype = [ctypes.c_void_p], ctypes.c_int
        return f


def differences(programs: list[Program], monkeypatch: Any, flags: tuple[str, ...] = ("-O1",), ways=("numpy", "c")):
    """{number of a program: what differs between the ways to run it}; a program that fails differs, too."""
    found: dict[int, list[str]] = {}
    want: dict[int, list] = {}
    native: list[tuple[Run, Any]] = []
    batch = Batch(flags)
    for p in programs:
        where = "dynamic mode"
        try:
            run = Run(p)
            want[p.number] = results(run, run.step)
            said = []
            if "numpy" in ways:
                for where, passes in (("without passes", ()), ("NumPy plan", None)):
                    run = Run(p)
                    step = mg.compile(run.step, passes=passes, backend="numpy")
                    got = results(run, step)
                    said += compare(where, want[p.number], got, coarsest(step) * SAME_ORDER)
            if "c" in ways:
                where = "making C"
                run = Run(p)
                step = mg.compile(run.step, backend="c")
                with monkeypatch.context() as patched:
                    patched.setattr(toolchain, "build", batch.build)
                    step.trace(*arguments(p)[0])
                native.append((run, step))
        except Exception as error:
            said = [f"{where}: {type(error).__name__}: {error}"]
        if said:
            found[p.number] = said
    if native:
        batch.compile()
    for run, step in native:
        number = run.program.number
        try:
            said = compare("C", want[number], results(run, step), coarsest(step))
        except Exception as error:
            said = [f"C: {type(error).__name__}: {error}"]
        if said:
            found[number] = found.get(number, []) + said
    return found


def smallest(p: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that fails as well and has as few instructions as leaving out one after the other gives."""
    for k in range(len(p.instructions), 0, -1):
        shorter = p._replace(instructions=p.instructions[: k - 1])
        if not fails(shorter):
            p = p._replace(instructions=p.instructions[:k])
            break
        p = shorter
    for k, (name, places, _) in enumerate(p.instructions):
        simpler = p._replace(instructions=(*p.instructions[:k], ("same", places[:1], 0), *p.instructions[k + 1 :]))
        if name != "same" and fails(simpler):
            p = simpler
    return p
