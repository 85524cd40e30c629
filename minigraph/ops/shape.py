"""Operations that move elements without computing with them: reshape, permute, broadcast, join, cut.

Most results are views: they share the memory of the input, which is safe because nobody ever writes to a tensor. The
gradient of moving elements is moving them back, so every rule is one line: broadcasting is undone by a sum (centrally,
`autodiff.fit`), joining by cutting, padding by cropping.

Shapes are known in both modes, so `-1`, negative axes and "all axes" are resolved here, before an operation is applied;
what an operation carries as attributes is final and can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import index as to_int
from typing import Any

import numpy as np

from ..autodiff import complete
from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Op, Spec
from ..tensor import Operators, Tensor, bind, lift, lift_all
from .common import axes, integer, one_axis, several, shown

__all__ = [
    "broadcast_arrays",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flatten",
    "flip",
    "matrix_transpose",
    "moveaxis",
    "pad",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "tril",
    "triu",
    "unstack",
]

ALL = slice(None)


LARGEST = 2**59  # elements; NumPy counts bytes in 63 bits


def shape_tuple(name: str, shape: Any, *, wildcard: bool = False) -> tuple[int, ...]:
    """A shape given as an integer or a sequence of integers, as a tuple; with `wildcard`, -1 is allowed."""
    if isinstance(shape, Operators) and shape.ndim:
        shape = shape.numpy().tolist()
    elif isinstance(shape, int) or hasattr(shape, "__index__"):
        shape = (shape,)
    try:
        sizes = tuple([to_int(n) for n in shape])
    except TypeError:
        raise DTypeError(f"{name}: a shape is a tuple of integers", actual=f"{shape!r}",
                         remedy="use // instead of / where sizes are computed") from None  # fmt: skip
    for n in sizes:
        if n < (-1 if wildcard else 0):
            raise ShapeError(
                f"{name}: a size is negative",
                expected="sizes of 0 or more" + (", or one -1" if wildcard else ""),
                actual=f"shape {sizes}",
            )
    if math.prod([n or 1 for n in sizes]) > LARGEST:
        raise ShapeError(
            f"{name}: no machine has room for this shape",
            expected=f"at most {LARGEST} elements",
            actual=f"shape {sizes}",
        )
    return sizes


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A sample array."""
    return rng.standard_normal(shape)


# --------------------------------------------------------------------------------------------- one of several results


ITEM = Op(
    "item",
    run=lambda xp, t, *, index: t[index],
    numpy=lambda t, index: t[index],
    infer=lambda t, index: t[index],
    vjp=(lambda F, g, y, t, index: g,),  # the walk keeps the gradients of the several results apart
    view=True,
)


# ------------------------------------------------------------------------------------------------------------ reshape


def _reshape_infer(x: Spec, shape: Sequence[int]) -> Spec:
    return Spec(_resolved(x.shape, shape), x.dtype, x.device)


def _resolved(old: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """The new shape with -1 replaced by the size that fits, or the error that says why none does."""
    shape = tuple(shape)
    size, known = math.prod(old), math.prod([n for n in shape if n != -1])
    if shape.count(-1) > 1:
        raise ShapeError("reshape: only one size can be left open", expected="at most one -1", actual=f"shape={shape}")
    if -1 in shape and known and size % known == 0:
        return tuple([size // known if n == -1 else n for n in shape])
    if -1 in shape or known != size:
        raise ShapeError(
            "reshape: the number of elements must stay the same",
            expected=f"{size} elements, as in shape {old}",
            actual=f"shape={shape}, " + (f"a multiple of {known} elements" if -1 in shape else f"{known} elements"),
            remedy="leave one size open with -1" if -1 not in shape else "",
        )
    return shape


def _reshape_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 6),), {"shape": (3, 4)}
    yield (floats(rng, 4, 3).T,), {"shape": (2, 6)}
    yield (floats(rng, 4, 6)[::2, ::-1],), {"shape": (12,)}
    yield (floats(rng),), {"shape": (1, 1)}
    yield (floats(rng, 1, 1),), {"shape": ()}
    yield (floats(rng, 0, 3),), {"shape": (2, 0)}
    yield (np.arange(6),), {"shape": (2, 3)}
    yield (np.array([True, False]),), {"shape": (2, 1)}
    yield (floats(rng, 2, 2).astype("f4"),), {"shape": (4,)}
    yield "bad", (floats(rng, 2, 3),), {"shape": (4,)}, ShapeError


RESHAPE = Op(
    "reshape",
    run=lambda xp, x, *, shape: xp.reshape(x, shape),
    numpy=lambda x, shape: x.reshape(shape),
    infer=_reshape_infer,
    vjp=(lambda F, g, y, x, shape: F.reshape(g, shape=x.shape),),
    view=True,
    samples=_reshape_samples,
)


def reshape(x: Any, shape: Any) -> Tensor:
    """The same elements, in the same (row-major) order, in another shape.

    Args:
        x: any shape and dtype.
        shape: the new shape; one size may be -1: what is left.

    Raises:
        ShapeError: the number of elements differs.

    >>> mg.reshape(mg.arange(6), (2, -1))
    tensor([[0, 1, 2],
            [3, 4, 5]], dtype=int64)
    """
    x = lift(x)
    shape = shape_tuple("reshape", shape, wildcard=True)
    if -1 in shape:
        shape = _resolved(x.shape, shape)
    return bind(RESHAPE, x, shape=shape)


def flatten(x: Any, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Merge the axes from `start_axis` to `end_axis` (both included) into one.

    >>> mg.flatten(mg.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = lift(x)
    if not x.ndim:
        return bind(RESHAPE, x, shape=(1,))
    a, b = (
        one_axis("flatten", start_axis, x.ndim, argument="start_axis"),
        one_axis("flatten", end_axis, x.ndim, argument="end_axis"),
    )
    if a > b:
        raise ArgumentError(
            "flatten: start_axis comes after end_axis", actual=f"start_axis={start_axis}, end_axis={end_axis}"
        )
    return bind(RESHAPE, x, shape=(*x.shape[:a], math.prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


# ------------------------------------------------------------------------------------------------------- permute axes


def _permute_infer(x: Spec, axes: Sequence[int]) -> Spec:
    return Spec([x.shape[k] for k in _permutation(x.ndim, axes)], x.dtype, x.device)


def _permutation(ndim: int, given: Sequence[int]) -> tuple[int, ...]:
    found = axes("permute_dims", several("permute_dims", "axes", given, "a sequence of axes"), ndim)
    if len(found) != ndim:
        raise ShapeError("permute_dims: every axis is named once", expected=f"a permutation of {tuple(range(ndim))}",
                         actual=f"axes={tuple(given)}")  # fmt: skip
    return found


def _permute_grad(F: Any, g: Any, y: Any, x: Any, axes: tuple[int, ...]) -> Any:
    back = [0] * len(axes)
    for k, a in enumerate(axes):
        back[a] = k
    return F.permute_dims(g, axes=tuple(back))


def _permute_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3, 4),), {"axes": (2, 0, 1)}
    yield (floats(rng, 3, 2).T,), {"axes": (1, 0)}
    yield (floats(rng, 4, 6)[::2, ::-1],), {"axes": (0, 1)}
    yield (floats(rng),), {"axes": ()}
    yield (floats(rng, 0, 2),), {"axes": (1, 0)}
    yield (np.arange(6).reshape(1, 2, 3),), {"axes": (1, 2, 0)}
    yield (floats(rng, 2, 3).astype("f4") > 0,), {"axes": (1, 0)}
    yield "bad", (floats(rng, 2, 3),), {"axes": (0, 0)}, ShapeError
    yield "bad", (floats(rng, 2, 3),), {"axes": (0,)}, ShapeError


PERMUTE_DIMS = Op(
    "permute_dims",
    run=lambda xp, x, *, axes: xp.transpose(x, axes),
    numpy=lambda x, axes: x.transpose(axes),
    infer=_permute_infer,
    vjp=(_permute_grad,),
    view=True,
    samples=_permute_samples,
)


def permute_dims(x: Any, axes: Sequence[int]) -> Tensor:
    """Reorder the axes: axis `k` of the result is axis `axes[k]` of `x`. (NumPy: `transpose`; PyTorch: `permute`.)

    Raises:
        ShapeError: `axes` does not name every axis once. BoundsError: an axis does not exist.

    >>> mg.permute_dims(mg.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    x = lift(x)
    return bind(PERMUTE_DIMS, x, axes=_permutation(x.ndim, axes))


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Move axes to new places; the others keep their order.

    >>> mg.moveaxis(mg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = lift(x)
    a, b = axes("moveaxis", source, x.ndim), axes("moveaxis", destination, x.ndim)
    if len(a) != len(b):
        raise ShapeError(
            "moveaxis: as many destinations as sources", actual=f"source={source}, destination={destination}"
        )
    order = [k for k in range(x.ndim) if k not in a]
    for place, axis in sorted(zip(b, a, strict=True)):
        order.insert(place, axis)
    return bind(PERMUTE_DIMS, x, axes=tuple(order))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    >>> mg.swapaxes(mg.zeros((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    x = lift(x)
    a, b = one_axis("swapaxes", axis1, x.ndim, argument="axis1"), one_axis("swapaxes", axis2, x.ndim, argument="axis2")
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return bind(PERMUTE_DIMS, x, axes=tuple(order))


def _need_matrix(name: str, x: Any) -> None:
    if x.ndim < 2:
        raise ShapeError(
            f"{name}: a matrix, or a stack of them",
            expected="at least two axes",
            actual=f"x has shape {x.shape}",
            remedy="insert an axis with mg.expand_dims",
        )


def _transpose_run(xp: Any, x: Any) -> Any:
    _need_matrix("matrix_transpose", x)
    return xp.swapaxes(x, -1, -2)


def _transpose_numpy(x: Any) -> Any:
    if x.ndim == 2:
        return x.T
    return _transpose_run(np, x)


def _transpose_infer(x: Spec) -> Spec:
    _need_matrix("matrix_transpose", x)
    return Spec((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype, x.device)


def _transpose_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3),), {}
    yield (floats(rng, 3, 2).T,), {}
    yield (floats(rng, 2, 1, 4, 3)[:, :, ::2],), {}
    yield (floats(rng, 0, 2),), {}
    yield (np.arange(6).reshape(2, 3),), {}
    yield (floats(rng, 2, 2).astype("f4"),), {}
    yield "bad", (floats(rng, 3),), {}, ShapeError


MATRIX_TRANSPOSE = Op(
    "matrix_transpose",
    run=_transpose_run,
    numpy=_transpose_numpy,
    infer=_transpose_infer,
    vjp=(lambda F, g, y, x: F.matrix_transpose(g),),
    view=True,
    latex=r"{x}^\top",
    derivative=(r"\bar y^\top",),
    samples=_transpose_samples,
)


def matrix_transpose(x: Any) -> Tensor:
    """Exchange the last two axes: `x.mT`, and for a matrix `x.T`.

    Raises:
        ShapeError: fewer than two axes.

    >>> mg.matrix_transpose(mg.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    return bind(MATRIX_TRANSPOSE, lift(x))


# ------------------------------------------------------------------------------------------------------ axes of size 1


def _expanded(shape: Sequence[int], axis: Any) -> tuple[int, ...]:
    """`shape` with a 1 at each place of `axis`, which counts in the result."""
    ndim = len(shape) + (len(axis) if isinstance(axis, Sequence) else 1)
    places, rest = axes("expand_dims", axis, ndim), iter(shape)
    return tuple([1 if k in places else next(rest) for k in range(ndim)])


def _expand_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3),), {"axis": 0}
    yield (floats(rng, 3, 2).T,), {"axis": -1}
    yield (floats(rng, 4, 3)[::2],), {"axis": (0, 2)}
    yield (floats(rng),), {"axis": 0}
    yield (floats(rng, 0, 2),), {"axis": 1}
    yield (np.arange(3),), {"axis": 1}
    yield (floats(rng, 2).astype("f4"),), {"axis": -2}
    yield "bad", (floats(rng, 2),), {"axis": 3}, IndexError


EXPAND_DIMS = Op(
    "expand_dims",
    run=lambda xp, x, *, axis: xp.expand_dims(x, axis),
    numpy=lambda x, axis: x.reshape(_expanded(x.shape, axis)),
    infer=lambda x, axis: Spec(_expanded(x.shape, axis), x.dtype, x.device),
    vjp=(lambda F, g, y, x, axis: F.reshape(g, shape=x.shape),),
    view=True,
    samples=_expand_samples,
)


def expand_dims(x: Any, axis: int | Sequence[int] = 0) -> Tensor:
    """Insert an axis of size 1 at place `axis` of the result (or several).

    >>> mg.expand_dims(mg.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    x = lift(x)
    several = isinstance(axis, Sequence)
    places = axes("expand_dims", axis, x.ndim + (len(axis) if several else 1))  # type: ignore[arg-type]
    return bind(EXPAND_DIMS, x, axis=tuple(sorted(places)) if several else places[0])


def _squeezed(shape: Sequence[int], axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple([n for n in shape if n != 1])
    gone = axes("squeeze", axis, len(shape))
    for k in gone:
        if shape[k] != 1:
            raise ShapeError("squeeze: only axes of size 1 can be removed", expected=f"size 1 on axis {k}",
                             actual=f"size {shape[k]} in shape {tuple(shape)}")  # fmt: skip
    return tuple([n for k, n in enumerate(shape) if k not in gone])


def _squeeze_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 1, 3),), {"axis": 0}
    yield (floats(rng, 3, 1),), {"axis": -1}
    yield (floats(rng, 1, 4, 1)[:, ::2],), {"axis": (0, 2)}
    yield (floats(rng, 1, 1),), {"axis": (0, 1)}
    yield (floats(rng, 2, 1, 1),), {"axis": None}
    yield (floats(rng, 0, 1),), {"axis": 1}
    yield (np.arange(3).reshape(1, 3),), {"axis": 0}
    yield (floats(rng, 1, 2).astype("f4"),), {"axis": 0}
    yield "bad", (floats(rng, 2, 1),), {"axis": 0}, ShapeError
    yield "bad", (floats(rng, 2, 1),), {"axis": 2}, IndexError


SQUEEZE = Op(
    "squeeze",
    run=lambda xp, x, *, axis=None: xp.squeeze(x, axis),
    numpy=lambda x, axis=None: x.squeeze(axis),
    infer=lambda x, axis=None: Spec(_squeezed(x.shape, axis), x.dtype, x.device),
    vjp=(lambda F, g, y, x, axis=None: F.reshape(g, shape=x.shape),),
    view=True,
    samples=_squeeze_samples,
)


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Remove axes of size 1: those of `axis`, or all.

    Raises:
        ShapeError: a named axis has another size.

    >>> mg.squeeze(mg.zeros((1, 3, 1)), 0).shape
    (3, 1)
    """
    x = lift(x)
    if axis is None:
        gone: tuple[int, ...] = tuple([k for k, n in enumerate(x.shape) if n == 1])
        return bind(SQUEEZE, x, axis=gone)
    return bind(
        SQUEEZE,
        x,
        axis=axes("squeeze", axis, x.ndim) if isinstance(axis, Sequence) else one_axis("squeeze", axis, x.ndim),
    )


# ---------------------------------------------------------------------------------------------------------- broadcast


def _broadcast_infer(x: Spec, shape: Sequence[int]) -> Spec:
    shape = tuple(shape)
    lead = len(shape) - x.ndim
    if lead < 0:
        raise ShapeError("broadcast_to: axes can only be added", expected=f"a shape of at least {x.ndim} axes",
                         actual=f"x: {x!r}, shape={shape}")  # fmt: skip
    for k, (n, m) in enumerate(zip(x.shape, shape[lead:], strict=True)):
        if n not in (1, m):
            raise ShapeError(
                f"broadcast_to: axis {k} of x cannot be stretched",
                expected=f"size 1 or {m} on axis {k} of x (axes are matched from the right)",
                actual=f"size {n}: x: {x!r}, shape={shape}",
            )
    return Spec(shape, x.dtype, x.device)


def _broadcast_numpy(x: Any, shape: Sequence[int]) -> np.ndarray:
    """A read-only view with strides 0, made directly: `numpy.broadcast_to` takes ten times as long."""
    if not x.flags.c_contiguous:
        return np.broadcast_to(x, shape)
    lead = len(shape) - x.ndim
    if lead < 0:
        raise ValueError("too few axes")
    strides = [0] * lead
    for n, m, s in zip(x.shape, shape[lead:], x.strides, strict=True):
        if n != m and n != 1:
            raise ValueError("sizes differ")
        strides.append(s if n == m else 0)
    y = np.ndarray(shape, x.dtype, x, 0, strides)
    y.flags.writeable = False
    return y


def _broadcast_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 3),), {"shape": (2, 3)}
    yield (floats(rng, 2, 1),), {"shape": (2, 3)}
    yield (floats(rng, 4, 1)[::2],), {"shape": (3, 2, 2)}
    yield (floats(rng, 1, 2).T,), {"shape": (2, 2)}
    yield (floats(rng),), {"shape": (2, 2)}
    yield (floats(rng),), {"shape": ()}
    yield (floats(rng, 1),), {"shape": (0,)}
    yield (floats(rng, 0, 1),), {"shape": (0, 2)}
    yield (np.arange(3),), {"shape": (2, 3)}
    yield (floats(rng, 2, 1).astype("f4"),), {"shape": (2, 2)}
    yield "bad", (floats(rng, 3),), {"shape": (3, 2)}, ShapeError
    yield "bad", (floats(rng, 3, 1),), {"shape": (3,)}, ShapeError


BROADCAST_TO = Op(
    "broadcast_to",
    run=lambda xp, x, *, shape: xp.broadcast_to(x, shape),
    numpy=_broadcast_numpy,
    infer=_broadcast_infer,
    vjp=(lambda F, g, y, x, shape: g,),  # the sum over the stretched axes is taken centrally
    view=True,
    samples=_broadcast_samples,
)


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """Repeat `x` along new leading axes and axes of size 1 until it has `shape`, without copying.

    Raises:
        ShapeError: an axis of another size would have to be stretched.

    >>> mg.broadcast_to(mg.tensor([1, 2]), (3, 2))
    tensor([[1, 2],
            [1, 2],
            [1, 2]], dtype=int64)
    """
    return bind(BROADCAST_TO, lift(x), shape=shape_tuple("broadcast_to", shape))


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """Each operand broadcast to the shape they have in common.

    >>> [x.shape for x in mg.broadcast_arrays(mg.zeros((3, 1)), mg.zeros((2,)))]
    [(3, 2), (3, 2)]
    """
    from .common import broadcast

    tensors = lift_all(*arrays)
    specs = [Spec(x.shape, x.dtype) for x in tensors]
    shape = broadcast("broadcast_arrays", [f"arrays[{i}]" for i in range(len(specs))], specs)
    return tuple(x if x.shape == shape else bind(BROADCAST_TO, x, shape=shape) for x in tensors)


# ------------------------------------------------------------------------------------------------------ join and cut


def _given(arrays: tuple[Any, ...]) -> Sequence[Any]:
    """The operands, which may come as one list, so that rules can write `F.concat(list, axis=...)` as users do."""
    return arrays[0] if len(arrays) == 1 and type(arrays[0]) in (list, tuple) else arrays


def _some(name: str, arrays: Any) -> list[Tensor]:
    """The operands of a joining operation, lifted; at least one."""
    if isinstance(arrays, Operators):
        raise DTypeError(f"{name}: a list of tensors", actual="one tensor", remedy=f"mg.{name}([a, b, ...], axis=0)")
    arrays = several(name, "arrays", arrays, "a list of tensors")
    if not arrays:
        raise ArgumentError(f"{name}: nothing to join", expected="a list of at least one tensor", actual="an empty one")
    return lift_all(*arrays)


def _common_dtype(specs: Sequence[Spec]) -> np.dtype:
    return np.result_type(*[s.dtype for s in specs])


def _concat_infer(*arrays: Spec, axis: int = 0) -> Spec:
    first = arrays[0]
    if not first.ndim:
        raise ShapeError(
            "concat: a 0-d tensor has no axis to join along", actual=f"arrays[0]: {first!r}", remedy="use mg.stack"
        )
    k = one_axis("concat", axis, first.ndim)
    for i, s in enumerate(arrays):
        if s.ndim != first.ndim or s.shape[:k] + s.shape[k + 1 :] != first.shape[:k] + first.shape[k + 1 :]:
            raise ShapeError(
                f"concat: shapes may differ on axis {k} only",
                expected=f"arrays[{i}] like arrays[0]: {first!r}",
                actual=f"arrays[{i}]: {s!r}",
                remedy="choose another axis, or mg.stack for a new one",
            )
    joined = (*first.shape[:k], sum(s.shape[k] for s in arrays), *first.shape[k + 1 :])
    return Spec(joined, _common_dtype(arrays), first.device)


def _concat_grad(F: Any, needs: Sequence[bool], g: Any, y: Any, *arrays: Any, axis: int = 0) -> list[Any]:
    parts, start, before = [], 0, (ALL,) * axis
    for x, need in zip(arrays, needs, strict=True):
        stop = start + x.shape[axis]
        parts.append(g[(*before, slice(start, stop))] if need else None)
        start = stop
    return parts


def _concat_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3), floats(rng, 1, 3)), {"axis": 0}
    yield (floats(rng, 2, 3), floats(rng, 4, 2).T, floats(rng, 2, 1)), {"axis": 1}
    yield (floats(rng, 4, 2)[::2], floats(rng, 2, 2)), {"axis": 1}
    yield (floats(rng, 3),), {"axis": 0}
    yield (floats(rng, 0, 2), floats(rng, 2, 2)), {"axis": 0}
    yield (floats(rng, 0), floats(rng, 0)), {"axis": 0}
    yield (floats(rng, 2).astype("f4"), floats(rng, 2)), {"axis": 0}
    yield (np.arange(2), floats(rng, 2)), {"axis": 0}
    yield (np.arange(2), np.array([True])), {"axis": 0}
    yield "bad", (floats(rng, 2, 3), floats(rng, 2, 2)), {"axis": 0}, ShapeError
    yield "bad", (floats(rng, 2), floats(rng, 2, 2)), {"axis": 0}, ShapeError
    yield "bad", (floats(rng), floats(rng)), {"axis": 0}, ShapeError


CONCAT = Op(
    "concat",
    run=lambda xp, *arrays, axis=0: xp.concatenate(_given(arrays), axis=axis),
    into=lambda *arrays, out, axis=0: np.concatenate(arrays, axis, out),
    infer=_concat_infer,
    vjp=_concat_grad,
    samples=_concat_samples,
)


def concat(arrays: Sequence[Any], *, axis: int | None = 0) -> Tensor:
    """Join tensors along an axis that they have; shapes agree on all others.

    Args:
        arrays: at least one tensor; dtypes are promoted to a common one.
        axis: where to join. None: flatten them first.

    Raises:
        ShapeError: shapes differ on another axis. ArgumentError: the list is empty.

    >>> mg.concat([mg.tensor([1, 2]), mg.tensor([3])])
    tensor([1, 2, 3], dtype=int64)
    """
    tensors = _some("concat", arrays)
    if axis is None:
        tensors, axis = [reshape(x, (-1,)) for x in tensors], 0
    if tensors[0].ndim:
        axis = one_axis("concat", axis, tensors[0].ndim)
    return bind(CONCAT, *tensors, axis=axis)


def _stack_infer(*arrays: Spec, axis: int = 0) -> Spec:
    first = arrays[0]
    for i, s in enumerate(arrays):
        if s.shape != first.shape:
            raise ShapeError(
                "stack: all shapes must be equal",
                expected=f"arrays[{i}] like arrays[0]: {first!r}",
                actual=f"arrays[{i}]: {s!r}",
                remedy="use mg.concat to join along an axis they have",
            )
    k = one_axis("stack", axis, first.ndim + 1)
    return Spec((*first.shape[:k], len(arrays), *first.shape[k:]), _common_dtype(arrays), first.device)


def _stack_numpy(*arrays: Any, axis: int = 0) -> np.ndarray:
    arrays = _given(arrays)  # type: ignore[assignment]
    if axis < 0:
        axis += arrays[0].ndim + 1
    key = (*(ALL,) * axis, None)
    return np.concatenate([x[key] for x in arrays], axis)


def _stack_grad(F: Any, needs: Sequence[bool], g: Any, y: Any, *arrays: Any, axis: int = 0) -> list[Any]:
    before = (ALL,) * axis
    return [g[(*before, i)] if need else None for i, need in enumerate(needs)]


def _stack_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3), floats(rng, 2, 3)), {"axis": 0}
    yield (floats(rng, 2, 3), floats(rng, 3, 2).T), {"axis": 2}
    yield (floats(rng, 4, 2)[::2], floats(rng, 2, 2)), {"axis": 1}
    yield (floats(rng), floats(rng), floats(rng)), {"axis": 0}
    yield (floats(rng, 2),), {"axis": 1}
    yield (floats(rng, 0, 2), floats(rng, 0, 2)), {"axis": 0}
    yield (floats(rng, 2).astype("f4"), floats(rng, 2)), {"axis": 0}
    yield (np.arange(2), np.array([True, False])), {"axis": 0}
    yield "bad", (floats(rng, 2), floats(rng, 3)), {"axis": 0}, ShapeError


STACK = Op(
    "stack",
    run=lambda xp, *arrays, axis=0: xp.stack(_given(arrays), axis=axis),
    numpy=_stack_numpy,
    into=lambda *arrays, out, axis=0: np.stack(arrays, axis, out),
    infer=_stack_infer,
    vjp=_stack_grad,
    samples=_stack_samples,
)


def stack(arrays: Sequence[Any], *, axis: int = 0) -> Tensor:
    """Join tensors of equal shape along a new axis.

    Raises:
        ShapeError: shapes differ. ArgumentError: the list is empty.

    >>> mg.stack([mg.tensor([1, 2]), mg.tensor([3, 4])], axis=1)
    tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    tensors = _some("stack", arrays)
    return bind(STACK, *tensors, axis=one_axis("stack", axis, tensors[0].ndim + 1))


def _pieces(n: int, given: Any) -> tuple[int, ...]:
    """The places to cut an axis of size `n` at, between 0 and n, in order."""
    if isinstance(given, int) or (hasattr(given, "__index__") and not isinstance(given, Sequence)):
        parts = integer("split", "indices_or_sections", given)
        if parts <= 0 or n % parts:
            raise ShapeError(
                "split: equal parts",
                expected=f"a number that divides the size {n} of the axis",
                actual=f"{parts}",
                remedy="give the places to cut at: mg.split(x, [3, 5])",
            )
        return tuple(range(n // parts, n, n // parts)) if n else (0,) * (parts - 1)
    given = several("split", "indices_or_sections", given, "a number of equal parts, or the places to cut at")
    cuts = tuple([integer("split", "indices_or_sections", c) for c in given])
    if any(a > b for a, b in zip((0, *cuts), (*cuts, n), strict=True)):
        raise ShapeError("split: places to cut at", expected=f"numbers from 0 to {n}, in order", actual=f"{cuts}")
    return cuts


def _split_numpy(x: Any, indices_or_sections: Any, axis: int = 0) -> tuple[Any, ...]:
    n = x.shape[axis]
    cuts, before = _pieces(n, indices_or_sections), (ALL,) * (axis % x.ndim)
    return tuple([x[(*before, slice(a, b))] for a, b in zip((0, *cuts), (*cuts, n), strict=True)])


def _split_infer(x: Spec, indices_or_sections: Any, axis: int = 0) -> tuple[Spec, ...]:
    k = one_axis("split", axis, x.ndim)
    cuts = _pieces(x.shape[k], indices_or_sections)
    sizes = [b - a for a, b in zip((0, *cuts), (*cuts, x.shape[k]), strict=True)]
    return tuple(Spec((*x.shape[:k], n, *x.shape[k + 1 :]), x.dtype, x.device) for n in sizes)


def _split_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 6),), {"indices_or_sections": (2, 4), "axis": 0}
    yield (floats(rng, 5, 2).T,), {"indices_or_sections": (1, 1, 4), "axis": 1}
    yield (floats(rng, 4, 2)[::2],), {"indices_or_sections": (1,), "axis": 0}
    yield (floats(rng, 0, 3),), {"indices_or_sections": (1,), "axis": 1}
    yield (np.arange(4),), {"indices_or_sections": (2,), "axis": 0}
    yield (floats(rng, 2, 2).astype("f4"),), {"indices_or_sections": (), "axis": 0}
    yield "bad", (floats(rng, 5),), {"indices_or_sections": (6,), "axis": 0}, ShapeError
    yield "bad", (floats(rng, 5),), {"indices_or_sections": (2,), "axis": 1}, IndexError


SPLIT = Op(
    "split",
    run=lambda xp, x, *, indices_or_sections, axis=0: _split_numpy(x, indices_or_sections, axis),
    numpy=_split_numpy,
    infer=_split_infer,
    vjp=(lambda F, g, y, x, indices_or_sections, axis=0: F.concat(complete(F, g, y), axis=axis),),
    view=True,
    samples=_split_samples,
)


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Cut a tensor along an axis.

    Args:
        x: at least one axis.
        indices_or_sections: a number of equal parts, or the places to cut at (as in NumPy; PyTorch's `split` takes the
            size of the parts instead).
        axis: the axis to cut.

    Raises:
        ShapeError: no equal parts, or places outside the axis.

    >>> mg.split(mg.arange(6), 3)
    (tensor([0, 1], dtype=int64), tensor([2, 3], dtype=int64), tensor([4, 5], dtype=int64))
    >>> mg.split(mg.arange(6), [1])
    (tensor([0], dtype=int64), tensor([1, 2, 3, 4, 5], dtype=int64))
    """
    x = lift(x)
    axis = one_axis("split", axis, x.ndim)
    cuts = _pieces(x.shape[axis], indices_or_sections)
    node = bind(SPLIT, x, indices_or_sections=cuts, axis=axis)
    return tuple(bind(ITEM, node, index=i) for i in range(len(cuts) + 1))


def _unstack_numpy(x: Any, axis: int = 0) -> tuple[Any, ...]:
    before = (ALL,) * one_axis("unstack", axis, x.ndim)
    return tuple([x[(*before, i, ...)] for i in range(x.shape[axis])])  # with ... a 0-d part stays an array


def _unstack_infer(x: Spec, axis: int = 0) -> tuple[Spec, ...]:
    k = one_axis("unstack", axis, x.ndim)
    return (Spec(x.shape[:k] + x.shape[k + 1 :], x.dtype, x.device),) * x.shape[k]


def _unstack_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 3),), {"axis": 0}
    yield (floats(rng, 3, 2).T,), {"axis": 1}
    yield (floats(rng, 4, 2)[::2],), {"axis": 0}
    yield (floats(rng, 2, 0),), {"axis": 0}
    yield (np.arange(4).reshape(2, 2),), {"axis": 1}
    yield (floats(rng, 2, 2).astype("f4"),), {"axis": 0}
    yield "bad", (floats(rng, 3),), {"axis": 1}, IndexError
    yield "bad", (floats(rng),), {"axis": 0}, IndexError


UNSTACK = Op(
    "unstack",
    run=lambda xp, x, *, axis=0: _unstack_numpy(x, axis),
    numpy=_unstack_numpy,
    infer=_unstack_infer,
    vjp=(lambda F, g, y, x, axis=0: F.stack(complete(F, g, y), axis=axis),),
    view=True,
    samples=_unstack_samples,
)


def unstack(x: Any, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts of a tensor along an axis, without that axis: the inverse of `stack`.

    >>> mg.unstack(mg.tensor([[1, 2], [3, 4]]))
    (tensor([1, 2], dtype=int64), tensor([3, 4], dtype=int64))
    """
    x = lift(x)
    axis = one_axis("unstack", axis, x.ndim)
    if not x.shape[axis]:
        return ()
    node = bind(UNSTACK, x, axis=axis)
    return tuple(bind(ITEM, node, index=i) for i in range(x.shape[axis]))


# ------------------------------------------------------------------------------------------------------- rearrange


def _flip_numpy(x: Any, axis: Any = None) -> Any:
    key = [ALL] * x.ndim
    for k in axes("flip", axis, x.ndim):
        key[k] = slice(None, None, -1)
    return x[(*key, ...)]


def _same_with_axes(name: str) -> Any:
    def infer(x: Spec, axis: Any = None) -> Spec:
        axes(name, axis, x.ndim)
        return x

    return infer


def _flip_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3),), {"axis": (0,)}
    yield (floats(rng, 3, 2).T,), {"axis": (0, 1)}
    yield (floats(rng, 4)[::-2],), {"axis": (0,)}
    yield (floats(rng),), {"axis": ()}
    yield (floats(rng, 0, 2),), {"axis": (1,)}
    yield (np.arange(3),), {"axis": (0,)}
    yield (floats(rng, 2).astype("f4"),), {"axis": (0,)}
    yield "bad", (floats(rng, 3),), {"axis": (1,)}, IndexError


FLIP = Op(
    "flip",
    run=lambda xp, x, *, axis=None: xp.flip(x, axis),
    numpy=_flip_numpy,
    infer=_same_with_axes("flip"),
    vjp=(lambda F, g, y, x, axis=None: F.flip(g, axis=axis),),
    view=True,
    samples=_flip_samples,
)


def flip(x: Any, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Reverse the order of the elements along `axis` (None: every axis).

    >>> mg.flip(mg.arange(3))
    tensor([2, 1, 0], dtype=int64)
    """
    x = lift(x)
    return bind(FLIP, x, axis=axes("flip", axis, x.ndim))


def _roll_infer(x: Spec, shift: tuple[int, ...], axis: tuple[int, ...]) -> Spec:
    axes("roll", tuple(dict.fromkeys(axis)), x.ndim)
    return x


def _roll_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 4),), {"shift": (1,), "axis": (0,)}
    yield (floats(rng, 3, 2).T,), {"shift": (-1, 5), "axis": (0, 1)}
    yield (floats(rng, 4, 2)[::2],), {"shift": (1,), "axis": (1,)}
    yield (floats(rng, 0, 2),), {"shift": (1,), "axis": (1,)}
    yield (np.arange(3),), {"shift": (2,), "axis": (0,)}
    yield (floats(rng, 3).astype("f4"),), {"shift": (0,), "axis": (0,)}
    yield "bad", (floats(rng, 3),), {"shift": (1,), "axis": (1,)}, IndexError


ROLL = Op(
    "roll",
    run=lambda xp, x, *, shift, axis: xp.roll(x, shift, axis),
    infer=_roll_infer,
    vjp=(lambda F, g, y, x, shift, axis: F.roll(g, shift=tuple([-s for s in shift]), axis=axis),),
    samples=_roll_samples,
)


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Move the elements `shift` places along `axis`; what falls off one end enters at the other.

    Args:
        shift: how far, one number for each axis (one number for all).
        axis: None: as if the tensor were flat.

    >>> mg.roll(mg.arange(4), 1)
    tensor([3, 0, 1, 2], dtype=int64)
    """
    x = lift(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    where = axes("roll", axis, x.ndim)
    if isinstance(shift, Sequence) and not isinstance(shift, str | bytes):
        far = tuple([integer("roll", "shift", s) for s in shift])
    else:
        far = (integer("roll", "shift", shift),) * len(where)
    if len(far) != len(where):
        raise ShapeError("roll: one shift for each axis", expected=f"{len(where)} shifts", actual=f"shift={shift}")
    return bind(ROLL, x, shift=far, axis=where)


def _tiles(shape: Sequence[int], repetitions: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and repetitions padded with ones to equal length."""
    n = max(len(shape), len(repetitions))
    return (1,) * (n - len(shape)) + tuple(shape), (1,) * (n - len(repetitions)) + tuple(repetitions)


def _tile_infer(x: Spec, repetitions: Sequence[int]) -> Spec:
    sizes, times = _tiles(x.shape, shape_tuple("tile", repetitions))
    return Spec([n * r for n, r in zip(sizes, times, strict=True)], x.dtype, x.device)


def _tile_grad(F: Any, g: Any, y: Any, x: Any, repetitions: Sequence[int]) -> Any:
    sizes, times = _tiles(x.shape, repetitions)
    blocks = F.reshape(g, shape=tuple([n for pair in zip(times, sizes, strict=True) for n in pair]))
    return F.reshape(F.sum(blocks, axis=tuple(range(0, 2 * len(sizes), 2))), shape=x.shape)


def _tile_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3),), {"repetitions": (2, 1)}
    yield (floats(rng, 3, 2).T,), {"repetitions": (3,)}
    yield (floats(rng, 4)[::2],), {"repetitions": (2, 2)}
    yield (floats(rng),), {"repetitions": (2,)}
    yield (floats(rng),), {"repetitions": ()}
    yield (floats(rng, 2),), {"repetitions": (0,)}
    yield (floats(rng, 0, 2),), {"repetitions": (2, 1)}
    yield (np.arange(3),), {"repetitions": (2,)}
    yield (floats(rng, 2).astype("f4"),), {"repetitions": (2,)}
    yield "bad", (floats(rng, 2),), {"repetitions": (-1,)}, ShapeError


TILE = Op(
    "tile",
    run=lambda xp, x, *, repetitions: xp.tile(x, repetitions),
    infer=_tile_infer,
    vjp=(_tile_grad,),
    samples=_tile_samples,
)


def tile(x: Any, repetitions: int | Sequence[int]) -> Tensor:
    """Copies of `x` side by side, `repetitions[k]` of them along axis k (counted from the last, as in broadcasting).

    >>> mg.tile(mg.tensor([1, 2]), (2, 2))
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]], dtype=int64)
    """
    return bind(TILE, lift(x), repetitions=shape_tuple("tile", repetitions))


def _repeat_infer(x: Spec, repeats: int, axis: int) -> Spec:
    k = one_axis("repeat", axis, x.ndim)
    if repeats < 0:
        raise ArgumentError("repeat: repeats", expected="0 or more", actual=f"repeats={repeats}")
    return Spec((*x.shape[:k], x.shape[k] * repeats, *x.shape[k + 1 :]), x.dtype, x.device)


def _repeat_grad(F: Any, g: Any, y: Any, x: Any, repeats: int, axis: int) -> Any:
    return F.sum(F.reshape(g, shape=(*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])), axis=(axis + 1,))


def _repeat_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3),), {"repeats": 2, "axis": 0}
    yield (floats(rng, 3, 2).T,), {"repeats": 3, "axis": 1}
    yield (floats(rng, 4)[::2],), {"repeats": 1, "axis": 0}
    yield (floats(rng, 2),), {"repeats": 0, "axis": 0}
    yield (floats(rng, 0, 2),), {"repeats": 2, "axis": 1}
    yield (np.arange(3),), {"repeats": 2, "axis": 0}
    yield (floats(rng, 2).astype("f4"),), {"repeats": 2, "axis": 0}
    yield "bad", (floats(rng, 2),), {"repeats": -1, "axis": 0}, ValueError
    yield "bad", (floats(rng, 2),), {"repeats": 1, "axis": 1}, IndexError


REPEAT = Op(
    "repeat",
    run=lambda xp, x, *, repeats, axis: xp.repeat(x, repeats, axis),
    infer=_repeat_infer,
    vjp=(_repeat_grad,),
    samples=_repeat_samples,
)


def repeat(x: Any, repeats: int | Sequence[int], *, axis: int | None = None) -> Tensor:
    """Each element (along `axis`) `repeats` times in a row.

    Args:
        repeats: one number, or one for each place along the axis.
        axis: None: of the flattened tensor.

    >>> mg.repeat(mg.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2], dtype=int64)
    >>> mg.repeat(mg.tensor([1, 2]), [3, 1])
    tensor([1, 1, 1, 2], dtype=int64)
    """
    x = lift(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = one_axis("repeat", axis, x.ndim)
    given: Any = repeats
    if (isinstance(given, Sequence) and not isinstance(given, str | bytes)) or (
        isinstance(given, Operators | np.ndarray) and given.ndim
    ):
        from .index import take

        times = shape_tuple("repeat", repeats)
        if len(times) != x.shape[axis]:
            raise ShapeError(
                "repeat: one number for each place", expected=f"{x.shape[axis]} numbers", actual=f"{len(times)}"
            )
        return take(x, np.repeat(np.arange(x.shape[axis]), times), axis=axis)
    return bind(REPEAT, x, repeats=integer("repeat", "repeats", repeats, 0), axis=axis)


# ------------------------------------------------------------------------------------------------------ pad, triangles


def _pad_widths(ndim: int, given: Any) -> tuple[tuple[int, int], ...]:
    """NumPy's three ways to say how much to pad, as one pair (before, after) for each axis."""
    if not ndim and isinstance(given, Sequence) and not given:
        return ()
    try:
        widths = np.broadcast_to(np.asarray(given), (ndim, 2))
    except ValueError:
        raise ShapeError(
            "pad: pad_width",
            expected=f"a number, (before, after), or {ndim} such pairs, one for each axis",
            actual=shown(given),
        ) from None
    if widths.dtype.kind not in "iu":
        raise DTypeError("pad: pad_width is made of integers", expected="integers", actual=shown(given))
    if (widths < 0).any():
        raise ArgumentError("pad: pad_width is never negative", actual=shown(given), remedy="cut with x[1:-1]")
    return tuple([(int(a), int(b)) for a, b in widths])


def _inside(x: Any, pad_width: Any) -> tuple[slice, ...]:
    """Where `x` lies in the padded tensor."""
    return tuple([slice(a, a + n) for (a, _), n in zip(pad_width, x.shape, strict=True)])


def _pad_run(xp: Any, x: Any, *, pad_width: Any, constant_values: float = 0) -> Any:
    y = xp.full([a + n + b for (a, b), n in zip(pad_width, x.shape, strict=True)], constant_values, dtype=x.dtype)
    y[_inside(x, pad_width)] = x
    return y


def _pad_into(x: Any, out: Any, pad_width: Any, constant_values: float = 0) -> None:
    out.fill(constant_values)
    out[_inside(x, pad_width)] = x


def _pad_infer(x: Spec, pad_width: Any, constant_values: float = 0) -> Spec:
    widths = _pad_widths(x.ndim, pad_width)
    if widths != pad_width:  # `run` and the gradient rule rely on the form that `pad` brings it to
        raise ShapeError("pad: pad_width", expected=f"{x.ndim} pairs, one for each axis", actual=shown(pad_width))
    return Spec([a + n + b for (a, b), n in zip(widths, x.shape, strict=True)], x.dtype, x.device)


def _pad_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 2, 3),), {"pad_width": ((1, 0), (2, 1))}
    yield (floats(rng, 3, 2).T,), {"pad_width": ((0, 0), (1, 1)), "constant_values": -2.5}
    yield (floats(rng, 4)[::2],), {"pad_width": ((1, 1),)}
    yield (floats(rng),), {"pad_width": ()}
    yield (floats(rng, 0, 2),), {"pad_width": ((1, 0), (0, 0))}
    yield (np.arange(3),), {"pad_width": ((1, 1),), "constant_values": 7}
    yield (np.array([True]),), {"pad_width": ((1, 1),)}
    yield (floats(rng, 2).astype("f4"),), {"pad_width": ((0, 2),)}
    yield "bad", (floats(rng, 2),), {"pad_width": ((1, 1), (1, 1))}, ShapeError


PAD = Op(
    "pad",
    run=_pad_run,
    into=_pad_into,
    infer=_pad_infer,
    vjp=(lambda F, g, y, x, pad_width, constant_values=0: g[_inside(x, pad_width)],),
    samples=_pad_samples,
)


def pad(x: Any, pad_width: Any, *, constant_values: float = 0) -> Tensor:
    """Surround `x` with a constant.

    Args:
        pad_width: how many elements: one number for every side, (before, after) for every axis, or one such pair for
            each axis, as in NumPy.
        constant_values: what to put there.

    Raises:
        ShapeError: not one pair for each axis. ArgumentError: a negative width.

    >>> mg.pad(mg.tensor([1, 2]), (1, 2))
    tensor([0, 1, 2, 0, 0], dtype=int64)
    """
    x = lift(x)
    widths = _pad_widths(x.ndim, pad_width)
    kind = np.min_scalar_type(constant_values) if type(constant_values) is int else type(constant_values)
    zero = type(constant_values) is int and constant_values == 0  # of any type
    if not zero and not np.can_cast(kind, x.dtype, "same_kind"):
        raise DTypeError(
            "pad: constant_values must fit the dtype of x",
            expected=str(x.dtype),
            actual=f"{constant_values!r}",
            remedy="x.astype(mg.float32)",
        )
    return bind(PAD, x, pad_width=widths, constant_values=constant_values)


def _triangle(name: str) -> tuple[Any, Any]:
    def run(xp: Any, x: Any, *, k: int = 0) -> Any:
        _need_matrix(name, x)
        return getattr(xp, name)(x, k=k)

    def infer(x: Spec, k: int = 0) -> Spec:
        _need_matrix(name, x)
        return x

    return run, infer


def _triangle_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 3, 3),), {}
    yield (floats(rng, 4, 2).T,), {"k": 1}
    yield (floats(rng, 2, 4, 3)[:, ::2],), {"k": -1}
    yield (floats(rng, 0, 3),), {}
    yield (np.arange(9).reshape(3, 3),), {"k": 5}
    yield (floats(rng, 2, 2).astype("f4"),), {}
    yield (np.ones((2, 2), bool),), {}
    yield "bad", (floats(rng, 3),), {}, ShapeError


TRIL = Op("tril", *_triangle("tril")[:1], infer=_triangle("tril")[1], samples=_triangle_samples,
          vjp=(lambda F, g, y, x, k=0: F.tril(g, k=k),))  # fmt: skip


def tril(x: Any, *, k: int = 0) -> Tensor:
    """The lower triangle of a matrix (or of each in a stack): zeros above the k-th diagonal.

    >>> mg.tril(mg.ones((3, 3), dtype="int64"))
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=int64)
    """
    return bind(TRIL, lift(x), k=integer("tril", "k", k))


TRIU = Op("triu", *_triangle("triu")[:1], infer=_triangle("triu")[1], samples=_triangle_samples,
          vjp=(lambda F, g, y, x, k=0: F.triu(g, k=k),))  # fmt: skip


def triu(x: Any, *, k: int = 0) -> Tensor:
    """The upper triangle of a matrix (or of each in a stack): zeros below the k-th diagonal.

    >>> mg.triu(mg.ones((2, 2), dtype="int64"), k=1)
    tensor([[0, 1],
            [0, 0]], dtype=int64)
    """
    return bind(TRIU, lift(x), k=integer("triu", "k", k))
