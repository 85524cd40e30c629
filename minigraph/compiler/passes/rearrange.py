"""Rearrangement: operations that only move elements become views of memory, and blocks that are put into an array.

    repeat, tile                     a view with steps of 0, read in another shape
    concat, stack, roll, pad         `assemble`: each block where it belongs
    diag_embed                       the same: every (columns + 1)-th element of the matrix, read as one row
    tril, triu, one_hot              a comparison of row and column numbers

Views cost nothing, comparisons and blocks of one shape are done in the loops of what makes or uses them, and blocks of
several shapes are copied (`moving`). These are entries of the table of `expand`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...tensor import Tensor, scalar
from .algebra import made
from .expand import Maker, class_numbers, expands


class Block(NamedTuple):
    """A part of an array: (start, stop, step) along each of its first axes."""

    ranges: tuple[tuple[int, int, int], ...]

    @property
    def items(self) -> tuple[slice, ...]:
        return tuple([slice(*r) for r in self.ranges])


def whole(shape: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """The ranges of a block that is everything."""
    return tuple([(0, n, 1) for n in shape])


def interleaved(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """a[0], b[0], a[1], b[1], ..."""
    return tuple([n for pair in zip(a, b, strict=True) for n in pair])


def joined(m: Maker, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Parts of one type side by side."""
    full = [p for p in parts if p.shape[axis]]
    if len(full) < 2:
        return full[0] if full else parts[0]
    keys, start = [], 0
    for p in full:
        keys.append(Block((*whole(p.shape[:axis]), (start, start + p.shape[axis], 1))))
        start += p.shape[axis]
    shape = (*full[0].shape[:axis], start, *full[0].shape[axis + 1 :])
    return m.assemble(*full, shape=shape, keys=tuple(keys))


def of_one_type(m: Maker, parts: Sequence[Tensor]) -> list[Tensor]:
    """Parts converted to the type of the result."""
    dtype = m.like.dtype
    return [p if p.dtype == dtype else m.astype(p, dtype=dtype) for p in parts]


@expands("concat")
def concat(m: Maker, *arrays: Tensor, axis: int = 0) -> Tensor:
    """concat(a, b) -> assemble(a, b)"""
    return joined(m, of_one_type(m, arrays), axis % arrays[0].ndim)


@expands("stack")
def stack(m: Maker, *arrays: Tensor, axis: int = 0) -> Tensor:
    """stack(a, b) -> assemble(a, b), each with a new axis"""
    axis = axis % m.like.ndim
    return joined(m, [m.expand_dims(p, axis=axis) for p in of_one_type(m, arrays)], axis)


@expands("roll")
def roll(m: Maker, x: Tensor, shift: Sequence[int], axis: Sequence[int]) -> Tensor:
    """roll(x) -> assemble(x[-n:], x[:-n])"""
    for far, a in zip(shift, axis, strict=True):
        a %= x.ndim
        cut = -far % x.shape[a] if x.shape[a] else 0
        if cut:
            cut_up = made("split", x, like=m.like, indices_or_sections=(cut,), axis=a)
            x = joined(m, [made("item", cut_up, like=m.like, index=i) for i in (1, 0)], a)
    return x


@expands("tile")
def tile(m: Maker, x: Tensor, repetitions: Sequence[int]) -> Tensor:
    """tile(x, n) -> x with new axes of size n before its own, read as one shape"""
    ndim = m.like.ndim
    sizes = (1,) * (ndim - x.ndim) + x.shape
    times = (1,) * (ndim - len(repetitions)) + tuple(repetitions)
    spread = m.broadcast_to(m.reshape(x, shape=interleaved((1,) * ndim, sizes)), shape=interleaved(times, sizes))
    return m.reshape(spread, shape=m.like.shape)


@expands("repeat")
def repeat(m: Maker, x: Tensor, repeats: int, axis: int) -> Tensor:
    """repeat(x, n) -> x with a new axis of size n after its own, read as one shape"""
    before, after = x.shape[: axis % x.ndim + 1], x.shape[axis % x.ndim + 1 :]
    spread = m.broadcast_to(m.reshape(x, shape=(*before, 1, *after)), shape=(*before, repeats, *after))
    return m.reshape(spread, shape=m.like.shape)


@expands("pad")
def pad(m: Maker, x: Tensor, pad_width: Sequence[tuple[int, int]], constant_values: float = 0) -> Tensor:
    """pad(x) -> assemble(x), the constant elsewhere"""
    inside = Block(tuple([(a, a + n, 1) for (a, _), n in zip(pad_width, x.shape, strict=True)]))
    return m.assemble(x, shape=m.like.shape, keys=(inside,), fill=constant_values)


@expands("diag_embed")
def diag_embed(m: Maker, x: Tensor, shape: tuple[int, int], offset: int = 0) -> Tensor:
    """diag_embed(x) -> assemble(x) in the matrix read as one row"""
    columns, n, before = shape[1], x.shape[-1], x.shape[:-1]
    start = offset if offset >= 0 else -offset * columns
    diagonal = (start, start + n * (columns + 1) - columns, columns + 1) if n else (0, 0, 1)
    rows = m.assemble(x, shape=(*before, shape[0] * columns), keys=(Block((*whole(before), diagonal)),))
    return m.reshape(rows, shape=m.like.shape)


def numbers(n: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n)


@expands("tril")
def tril(m: Maker, x: Tensor, k: int = 0) -> Tensor:
    """tril(x) -> where(column <= row + k, x, 0)"""
    rows, columns = Tensor(numbers(x.shape[-2], k)[:, None]), Tensor(numbers(x.shape[-1]))
    return m.where(m.less_equal(columns, rows), x, scalar(0, x.dtype))


@expands("triu")
def triu(m: Maker, x: Tensor, k: int = 0) -> Tensor:
    """triu(x) -> where(column >= row + k, x, 0)"""
    rows, columns = Tensor(numbers(x.shape[-2], k)[:, None]), Tensor(numbers(x.shape[-1]))
    return m.where(m.greater_equal(columns, rows), x, scalar(0, x.dtype))


@expands("one_hot")
def one_hot(m: Maker, indices: Tensor, num_classes: int, dtype: Any = "float32") -> Tensor:
    """one_hot(i) -> i == class number"""
    column = m.reshape(m.in_range(indices, low=0, high=num_classes), shape=(*indices.shape, 1))
    return m.astype(m.equal(column, class_numbers(indices, num_classes)), dtype=np.dtype(dtype))
