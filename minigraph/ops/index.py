"""Indexing: `x[key]`, gathers and scatters, functional updates `x.at[key].set(v)`, sorting.

There are two kinds of key, as in NumPy. A basic key (integers, slices, None, `...`) selects a block: `getitem` returns
a view of it and `place`, its transpose, puts a block back among zeros. An advanced key also holds integer tensors:
`gather` collects elements and `scatter_add`, its transpose, adds values where they were collected from. Each is the
gradient of the other, so any order follows. A key is metadata (`Key`), in which integer tensors are only numbered: the
tensors themselves are inputs of the operation, as all array data are.

`take` and `take_along_axis` are gathers common enough to have names and fast paths of their own. A boolean mask has a
result whose shape depends on values; `nonzero` turns it into indices in dynamic mode, and under tracing it is refused.
An index out of range is a BoundsError that names it; NumPy checks anyway, other libraries wrap around, so they are
asked.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import index as to_int
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, BoundsError, DTypeError, ShapeError, TraceError
from ..op import Op, Spec, spec_of
from ..tensor import Operators, Tensor, bind, lift
from .common import flag, integer, need_integer, one_axis
from .creation import number_dtype
from .shape import BROADCAST_TO, ITEM, floats, shape_tuple

__all__ = ["argsort", "nonzero", "one_hot", "scatter_add", "sort", "take", "take_along_axis", "topk"]

INT64 = np.dtype("int64")
ALL = slice(None)


# --------------------------------------------------------------------------------------------------------------- keys


class Slot(NamedTuple):
    """The place in a key where the k-th integer tensor goes."""

    k: int


class Key:
    """What stands between the brackets, as metadata: hashable, comparable, printed as one writes it.

    `items` holds integers, slices, None, `...`, and a `Slot` for each integer tensor.

    >>> from minigraph.ops.index import Key, Slot
    >>> Key((slice(1, None), None, Slot(0)))
    [1:, None, indices[0]]
    """

    __slots__ = ("items",)

    def __init__(self, items: tuple[Any, ...]):
        self.items = items

    def fill(self, indices: Sequence[Any]) -> tuple[Any, ...]:
        """The key with arrays in the places of the slots."""
        return tuple([indices[e.k] if type(e) is Slot else e for e in self.items])

    def _parts(self) -> tuple[Any, ...]:
        return tuple([("slice", e.start, e.stop, e.step) if type(e) is slice else e for e in self.items])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        words = []
        for e in self.items:
            if type(e) is slice:
                words.append(
                    ":".join(
                        "" if v is None else str(v) for v in (e.start, e.stop, e.step)[: 2 if e.step is None else 3]
                    )
                )
            else:
                words.append("..." if e is Ellipsis else f"indices[{e.k}]" if type(e) is Slot else str(e))
        return f"[{', '.join(words)}]"


def parse(x: Tensor, key: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """What the user wrote between the brackets as the items of a `Key`, and the integer tensors for its slots."""
    items: list[Any] = []
    indices: list[Tensor] = []
    masks = False
    for e in key if type(key) is tuple else (key,):
        kind = type(e)
        if kind is int or e is None or e is Ellipsis:
            items.append(e)
        elif kind is slice:
            items.append(_plain_slice(e))
        elif kind is Tensor and e.dtype.kind == "i":
            items.append(e)
        elif isinstance(e, np.integer):
            items.append(int(e))
        else:
            t = _as_indices(e)
            masks = masks or t.dtype.kind == "b"
            items.append(t)
    if masks:
        items = _without_masks(x, items)
    for i, e in enumerate(items):
        if type(e) is Tensor:
            items[i] = Slot(len(indices))
            indices.append(e)
    return tuple(items), indices


def _plain_slice(s: slice) -> slice:
    """A slice of Python integers."""
    a, b, c = s.start, s.stop, s.step
    if (a is None or type(a) is int) and (b is None or type(b) is int) and (c is None or type(c) is int):
        return s
    try:
        return slice(*[v if v is None else to_int(v) for v in (s.start, s.stop, s.step)])
    except TypeError as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(
            "index: the ends of a slice are integers", actual=f"{s}", remedy="use // instead of /"
        ) from None


def _as_indices(e: Any) -> Tensor:
    """An integer or boolean tensor from anything that may stand in a key."""
    if isinstance(e, list | range | tuple):
        e = np.asarray(e, dtype=INT64) if len(e) == 0 else e
    if isinstance(e, Operators | np.ndarray | list | range | tuple) or hasattr(e, "dtype"):
        t = lift(list(e) if isinstance(e, range) else e)
        if t.dtype.kind in "iu":
            return t if t.dtype != np.uint64 else t.astype(INT64)
        if t.dtype.kind == "b" and t.ndim:
            return t
        actual = repr(Spec(t.shape, t.dtype))
    else:
        actual = f"{type(e).__name__} {e!r}"
    raise DTypeError(
        "index: what may stand between brackets",
        expected="integers, slices, None, ..., integer tensors, or a boolean mask with at least one axis",
        actual=actual,
        remedy="x.astype(mg.int64) for indices",
    )


def _without_masks(x: Tensor, items: list[Any]) -> list[Any]:
    """Replace each boolean mask by the indices of its true elements."""
    used = sum([0 if e is None or e is Ellipsis else e.ndim if _is_mask(e) else 1 for e in items])
    result: list[Any] = []
    axis = 0
    for e in items:
        if not _is_mask(e):
            result.append(e)
            axis += builtins.max(x.ndim - used, 0) if e is Ellipsis else e is not None
            continue
        covered = x.shape[axis : axis + e.ndim]
        if e.shape != covered:
            raise ShapeError(
                "index: a mask has the shape of the axes it selects from",
                expected=f"mask of shape {covered}",
                actual=f"mask of shape {e.shape}, x of shape {x.shape}",
            )
        result.extend(nonzero(e))
        axis += e.ndim
    return result


def _is_mask(e: Any) -> bool:
    return type(e) is Tensor and e.dtype.kind == "b"


def layout(
    name: str, shape: Sequence[int], items: Sequence[Any], index_shapes: Sequence[tuple[int, ...]] = ()
) -> tuple[tuple[int, ...], list[int]]:
    """The shape of `x[key]` by NumPy's rules, and for each slot the axis it selects from; or the error that explains.

    Axes that advanced entries select from become one block of axes. It stands where they stood if they are neighbours,
    and in front otherwise; integers count as advanced entries when there are others.
    """
    ndim = len(shape)
    used = sum([e is not None and e is not Ellipsis for e in items])
    if used > ndim:
        raise BoundsError(
            f"{name}: more indices than axes", expected=f"at most {ndim} for shape {tuple(shape)}", actual=f"{used}"
        )
    if sum([e is Ellipsis for e in items]) > 1:
        raise BoundsError(f"{name}: only one ... is possible", actual=f"{Key(tuple(items))!r}")
    result: list[int] = []
    slot_axes: dict[int, int] = {}
    axis, place, state = 0, 0, "none yet"  # place and state of the block of advanced entries
    for e in (*items, Ellipsis) if Ellipsis not in items else items:
        if type(e) is int or type(e) is Slot:
            if type(e) is int and not -shape[axis] <= e < shape[axis]:
                raise outside(name, e, axis, shape[axis], "")
            if type(e) is Slot:
                slot_axes[e.k] = axis
            if state == "none yet":
                place, state = len(result), "open"
            elif state == "closed":
                place, state = 0, "apart"
            axis += 1
            continue
        if state == "open":
            state = "closed"
        if e is None:
            result.append(1)
        elif e is Ellipsis:
            result.extend(shape[axis : axis + ndim - used])
            axis += ndim - used
        else:
            if e.step == 0:
                raise ArgumentError(f"{name}: a slice cannot have step 0", actual=f"{Key(tuple(items))!r}")
            result.append(len(range(*e.indices(shape[axis]))))
            axis += 1
    if index_shapes:
        try:
            block = np.broadcast_shapes(*index_shapes)
        except ValueError:
            raise ShapeError(
                f"{name}: index tensors cannot be broadcast together",
                expected="shapes that broadcast",
                actual=", ".join(map(str, index_shapes)),
                remedy="to select rows and columns independently, write x[rows[:, None], columns]",
            ) from None
        result[place:place] = block
    return tuple(result), [slot_axes[k] for k in range(len(index_shapes))]


def outside(name: str, value: int, axis: int, size: int, where: str) -> BoundsError:
    """The error for an index that is out of range."""
    return BoundsError(
        f"{name}: index {value} is out of range for axis {axis}, which has size {size}",
        expected=f"{-size} to {size - 1}" if size else "no index: the axis is empty",
        actual=f"{where} = {value}" if where else f"{value}",
    )


def check_range(name: str, xp: Any, indices: Any, axis: int, size: int, argument: str) -> None:
    """Raise a BoundsError that names the first index outside -size ... size - 1."""
    bad = (indices < -size) | (indices >= size)
    if bool(bad.any()):
        first = int(xp.argmax(bad.ravel()))
        place = [int(i) for i in np.unravel_index(first, indices.shape)]
        raise outside(name, int(indices.ravel()[first]), axis, size, f"{argument}{place if place else ''}")


def check_slots(name: str, xp: Any, shape: Sequence[int], items: Sequence[Any], indices: Sequence[Any]) -> None:
    """`check_range` for every slot of a key."""
    found = layout(name, shape, items, [i.shape for i in indices])[1]
    for k, (i, axis) in enumerate(zip(indices, found, strict=True)):
        check_range(name, xp, i, axis, shape[axis], f"indices[{k}]")


# ------------------------------------------------------------------------------------------------------- basic keys


def _getitem_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 4, 3),), {"key": Key((1,))}
    yield (floats(rng, 3, 4).T,), {"key": Key((slice(None, None, -2), slice(1, None)))}
    yield (floats(rng, 6, 2)[::2],), {"key": Key((Ellipsis, -1))}
    yield (floats(rng, 2, 3),), {"key": Key((None, slice(0, 1), None, slice(5, 0, -1)))}
    yield (floats(rng, 3),), {"key": Key((1,))}
    yield (floats(rng),), {"key": Key((None,))}
    yield (floats(rng),), {"key": Key(())}
    yield (floats(rng, 3),), {"key": Key((slice(2, 1),))}
    yield (floats(rng, 0, 2),), {"key": Key((slice(None), 0))}
    yield (np.arange(4),), {"key": Key((slice(1, 3),))}
    yield (np.array([True, False]),), {"key": Key((0,))}
    yield (floats(rng, 3).astype("f4"),), {"key": Key((slice(None, None, 2),))}
    yield "bad", (floats(rng, 3),), {"key": Key((3,))}, BoundsError
    yield "bad", (floats(rng, 3),), {"key": Key((0, 0))}, BoundsError


GETITEM = Op(
    "getitem",
    run=lambda xp, x, *, key: x[key.items],
    numpy=lambda x, key: x[key.items],
    infer=lambda x, key: Spec(layout("getitem", x.shape, key.items)[0], x.dtype, x.device),
    vjp=(lambda F, g, y, x, key: F.place(g, shape=x.shape, key=key),),
    view=True,
    samples=_getitem_samples,
)


def getitem(x: Any, key: Any) -> Tensor:
    """`x[key]`."""
    x = lift(x)
    kind = type(key)
    if kind is int:
        return bind(GETITEM, x, key=Key((key,)))
    items, indices = parse(x, key)
    if indices:
        return bind(GATHER, x, *indices, key=Key(items))
    return bind(GETITEM, x, key=Key(items))


def _place_run(xp: Any, x: Any, *, shape: Sequence[int], key: Key) -> Any:
    y = xp.zeros(shape, x.dtype)
    y[key.items] = x
    return y


def _place_into(x: Any, out: Any, shape: Sequence[int], key: Key) -> None:
    out.fill(0)
    out[key.items] = x


def _block_shape(
    name: str, x: Spec, shape: Sequence[int], key: Key, index_shapes: Sequence[tuple[int, ...]] = ()
) -> None:
    """Raise unless `x` has the shape of the block that `key` selects from a tensor of `shape`."""
    block = layout(name, shape, key.items, index_shapes)[0]
    if x.shape != block:
        raise ShapeError(
            f"{name}: values have the shape of what the key selects",
            expected=f"{block}: {key!r} of shape {tuple(shape)}",
            actual=f"{x!r}",
        )


def _place_infer(x: Spec, shape: Sequence[int], key: Key) -> Spec:
    _block_shape("place", x, shape, key)
    return Spec(shape, x.dtype, x.device)


def _place_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 3),), {"shape": (4, 3), "key": Key((1,))}
    yield (floats(rng, 2, 2).T,), {"shape": (4, 3), "key": Key((slice(None, None, -2), slice(1, None)))}
    yield (floats(rng),), {"shape": (3,), "key": Key((-1,))}
    yield (floats(rng, 1, 2, 1),), {"shape": (2,), "key": Key((None, Ellipsis, None))}
    yield (floats(rng, 0),), {"shape": (3,), "key": Key((slice(2, 1),))}
    yield (np.arange(2),), {"shape": (4,), "key": Key((slice(1, 3),))}
    yield (floats(rng, 2).astype("f4"),), {"shape": (3,), "key": Key((slice(None, None, 2),))}
    yield "bad", (floats(rng, 3),), {"shape": (4,), "key": Key((4,))}, BoundsError


PLACE = Op(
    "place",
    run=_place_run,
    into=_place_into,
    infer=_place_infer,
    vjp=(lambda F, g, y, x, shape, key: F.getitem(g, key=key),),
    samples=_place_samples,
)


# ---------------------------------------------------------------------------------------------------- integer tensors


def _gather_run(xp: Any, x: Any, *indices: Any, key: Key) -> Any:
    check_slots("index", xp, x.shape, key.items, indices)
    return x[key.fill(indices)]


def _gather_numpy(x: Any, *indices: Any, key: Key) -> Any:
    try:
        return x[key.fill(indices)]
    except IndexError:
        check_slots("index", np, x.shape, key.items, indices)
        raise


def _gather_infer(x: Spec, *indices: Spec, key: Key) -> Spec:
    for k, i in enumerate(indices):
        need_integer("index", f"indices[{k}]", i)
    return Spec(layout("index", x.shape, key.items, [i.shape for i in indices])[0], x.dtype, x.device)


def _gather_grad(F: Any, needs: Sequence[bool], g: Any, y: Any, x: Any, *indices: Any, key: Key) -> list[Any]:
    return [F.scatter_add(g, *indices, shape=x.shape, key=key), *[None] * len(indices)]


def _gather_samples(rng: np.random.Generator) -> Iterator:
    i, j = np.array([2, 0, 2, -1]), np.array([[1], [0]])
    yield (floats(rng, 3, 4), i), {"key": Key((Slot(0),))}
    yield (floats(rng, 4, 3).T, i), {"key": Key((slice(None), Slot(0)))}
    yield (floats(rng, 3, 4), i, i), {"key": Key((Slot(0), Slot(1)))}
    yield (floats(rng, 3, 4, 2), i, j), {"key": Key((Slot(0), slice(1, 3), Slot(1)))}
    yield (floats(rng, 2, 3, 4), i, j), {"key": Key((0, Slot(0), Slot(1), None))}
    yield (floats(rng, 6, 3)[::2], i.astype("i4")), {"key": Key((None, Slot(0), Ellipsis))}
    yield (floats(rng, 3), np.array(1)), {"key": Key((Slot(0),))}
    yield (floats(rng, 3), np.zeros((0, 2), int)), {"key": Key((Slot(0),))}
    yield (floats(rng, 3, 0), i), {"key": Key((Slot(0),))}
    yield (np.arange(3), i), {"key": Key((Slot(0),))}
    yield (floats(rng, 3).astype("f4") > 0, i), {"key": Key((Slot(0),))}
    yield "bad", (floats(rng, 2), i), {"key": Key((Slot(0),))}, BoundsError
    yield "bad", (floats(rng, 3, 3), i, i[:3]), {"key": Key((Slot(0), Slot(1)))}, ShapeError
    yield "bad", (floats(rng, 3), floats(rng, 2)), {"key": Key((Slot(0),))}, DTypeError


GATHER = Op(
    "gather",
    run=_gather_run,
    numpy=_gather_numpy,
    infer=_gather_infer,
    vjp=_gather_grad,
    saves=("indices",),
    samples=_gather_samples,
)


def _scatter_run(xp: Any, values: Any, *indices: Any, shape: Sequence[int], key: Key | None = None) -> Any:
    key = key or _leading(indices)
    check_slots("scatter_add", xp, shape, key.items, indices)
    y = xp.zeros(shape, values.dtype)
    xp.add.at(y, key.fill(indices), values)
    return y


def _leading(indices: Sequence[Any]) -> Key:
    """The key that selects with the index tensors from the first axes."""
    return Key(tuple([Slot(k) for k in range(len(indices))]))


def _scatter_numpy(values: Any, *indices: Any, shape: Sequence[int], key: Key | None = None) -> Any:
    y = np.zeros(shape, values.dtype)
    _add_at(y, values, indices, key)
    return y


def _scatter_into(values: Any, *indices: Any, out: Any, shape: Sequence[int], key: Key | None = None) -> None:
    out.fill(0)
    _add_at(out, values, indices, key)


def _add_at(y: np.ndarray, values: Any, indices: Sequence[Any], key: Key | None) -> None:
    """Add to `y`. NumPy's `add.at` is fast on flat arrays only, so the place of each value in it is computed first."""
    key = key or _leading(indices)
    shape, size, items = y.shape, y.size, key.items
    try:
        if len(indices) == 1 and type(items[0]) is Slot and size and all(e is Ellipsis or e == ALL for e in items[1:]):
            row = size // shape[0]  # whole rows, as in the gradient of an embedding
            places = (indices[0].astype(np.intp) * row)[..., None] + np.arange(row) if row > 1 else indices[0]
        else:
            places = np.arange(size).reshape(shape)[key.fill(indices)]
        if places.size != values.size:
            raise ValueError("values have another size than the places")
        np.add.at(y.reshape(-1), places.ravel(), values.ravel())
    except IndexError:
        check_slots("scatter_add", np, shape, items, indices)
        raise


def _need_numbers(values: Any) -> None:
    if values.dtype.kind == "b":
        raise DTypeError("scatter_add: values are added", expected="numbers", actual="values of dtype bool",
                         remedy="values.astype(mg.int64)")  # fmt: skip


def _scatter_infer(values: Spec, *indices: Spec, shape: Sequence[int], key: Key | None = None) -> Spec:
    for k, i in enumerate(indices):
        need_integer("scatter_add", f"indices[{k}]", i)
    _need_numbers(values)
    _block_shape("scatter_add", values, shape, key or _leading(indices), [i.shape for i in indices])
    return Spec(shape, values.dtype, values.device)


def _scatter_grad(
    F: Any, needs: Sequence[bool], g: Any, y: Any, values: Any, *indices: Any, shape: Any, key: Any = None
) -> list[Any]:
    return [F.gather(g, *indices, key=key or _leading(indices)), *[None] * len(indices)]


def _scatter_samples(rng: np.random.Generator) -> Iterator:
    i, j = np.array([2, 0, 2, -1]), np.array([[1], [0]])
    yield (floats(rng, 4, 2), i), {"shape": (3, 2)}
    yield (floats(rng, 4), i), {"shape": (5,)}
    yield (floats(rng, 2, 4).T, i, i), {"shape": (3, 4, 2)}
    yield (floats(rng, 2, 4), i), {"shape": (2, 3), "key": Key((slice(None), Slot(0)))}
    yield (floats(rng, 2, 4, 2), i, j), {"shape": (3, 4, 2), "key": Key((Slot(0), slice(1, 3), Slot(1)))}
    yield (floats(rng, 4, 4)[::2], i.astype("i4")[:2]), {"shape": (3, 4)}
    yield (floats(rng), np.array(1)), {"shape": (3,)}
    yield (floats(rng, 0, 2), np.zeros(0, int)), {"shape": (3, 2)}
    yield (floats(rng, 4, 0), i), {"shape": (3, 0)}
    yield (np.arange(4), i), {"shape": (3,)}
    yield (floats(rng, 4).astype("f4"), i), {"shape": (3,)}
    yield "bad", (floats(rng, 4), i), {"shape": (2,)}, BoundsError
    yield "bad", (floats(rng, 3), i), {"shape": (3,)}, ShapeError
    yield "bad", (floats(rng, 2), floats(rng, 2)), {"shape": (3,)}, DTypeError


SCATTER_ADD = Op(
    "scatter_add",
    run=_scatter_run,
    numpy=_scatter_numpy,
    into=_scatter_into,
    infer=_scatter_infer,
    vjp=_scatter_grad,
    saves=("indices",),
    samples=_scatter_samples,
)


def _need_key(name: str, key: Any, count: int) -> Key:
    """`key`, which holds a slot for each of `count` index tensors; or the error that says so."""
    if type(key) is not Key:
        raise ArgumentError(
            f"{name}: key says where the index tensors stand",
            expected="a minigraph.ops.index.Key",
            actual=f"{type(key).__name__} {key!r:.60}",
            remedy="leave it out, and the index tensors select from the first axes",
        )
    slots = sorted([e.k for e in key.items if type(e) is Slot])
    if slots != list(range(count)):
        raise ArgumentError(
            f"{name}: key {key!r} must hold a slot for each index tensor", expected=f"{count}", actual=f"{len(slots)}"
        )
    return key


def scatter_add(values: Any, *indices: Any, shape: Any, key: Key | None = None) -> Tensor:
    """Zeros of `shape`, with `values` added at the places given by `indices`; values for the same place add up.

    The transpose of indexing (and its gradient): `scatter_add(v, i, shape=x.shape)` puts back what `x[i]` takes. With
    one index tensor it is the segment sum of other libraries.

    Args:
        values: numbers of the shape of `zeros[indices]`, or of one that broadcasts to it.
        indices: one integer tensor for each of the first axes; they broadcast together.
        shape: of the result.
        key: where the index tensors stand, for keys that also hold slices (`minigraph.ops.index.Key`).

    Raises:
        BoundsError: an index is out of range. ShapeError: the values do not fit.

    >>> mg.scatter_add(mg.tensor([1.0, 2.0, 3.0]), mg.tensor([0, 2, 0]), shape=4)
    tensor([4., 0., 2., 0.], dtype=float32)
    """
    values, places = lift(values), [_as_indices(i) for i in indices]
    _need_numbers(values)
    for k, i in enumerate(places):
        need_integer("scatter_add", f"indices[{k}]", spec_of(i.value))
    shape = shape_tuple("scatter_add", shape)
    key = _leading(places) if key is None else _need_key("scatter_add", key, len(places))
    block = layout("scatter_add", shape, key.items, [i.shape for i in places])[0]
    if values.shape != block:
        values = bind(BROADCAST_TO, values, shape=block)
    return bind(SCATTER_ADD, values, *places, shape=shape, key=key)


def _take_run(xp: Any, x: Any, indices: Any, *, axis: int = 0) -> Any:
    check_range("take", xp, indices, axis, x.shape[axis], "indices")
    return xp.take(x, indices, axis)


def _take_numpy(x: Any, indices: Any, axis: int = 0) -> Any:
    try:
        return x.take(indices, axis)
    except IndexError:
        if x.ndim:
            check_range("take", np, indices, axis, x.shape[axis], "indices")
        raise


def _take_infer(x: Spec, indices: Spec, axis: int = 0) -> Spec:
    need_integer("take", "indices", indices)
    k = one_axis("take", axis, x.ndim)
    return Spec((*x.shape[:k], *indices.shape, *x.shape[k + 1 :]), x.dtype, x.device)


def _take_grad(F: Any, g: Any, y: Any, x: Any, indices: Any, axis: int = 0) -> Any:
    return F.scatter_add(g, indices, shape=x.shape, key=Key((*(ALL,) * axis, Slot(0))))


def _take_samples(rng: np.random.Generator) -> Iterator:
    i = np.array([2, 0, 2, -1])
    yield (floats(rng, 3, 2), i), {"axis": 0}
    yield (floats(rng, 3, 2).T, i), {"axis": 1}
    yield (floats(rng, 6)[::2], np.array([[0, 1], [1, 1]])), {"axis": 0}
    yield (floats(rng, 2, 3), np.array(1)), {"axis": 1}
    yield (floats(rng, 3), np.zeros(0, int)), {"axis": 0}
    yield (floats(rng, 3, 0), i), {"axis": 0}
    yield (floats(rng, 3), i.astype("i4")), {"axis": 0}
    yield (np.arange(3), i), {"axis": 0}
    yield (floats(rng, 3).astype("f4"), i), {"axis": 0}
    yield "bad", (floats(rng, 2, 3), i), {"axis": 0}, BoundsError
    yield "bad", (floats(rng, 0), i), {"axis": 0}, BoundsError
    yield "bad", (floats(rng, 3), i), {"axis": 1}, IndexError
    yield "bad", (floats(rng, 3), floats(rng, 2)), {"axis": 0}, DTypeError


TAKE = Op(
    "take",
    run=_take_run,
    numpy=_take_numpy,
    infer=_take_infer,
    vjp=(_take_grad, None),
    saves=("indices",),
    samples=_take_samples,
)


def take(x: Any, indices: Any, *, axis: int | None = None) -> Tensor:
    """The parts of `x` at `indices` along an axis; along axis 0 of a table of vectors this is an embedding look-up.

    Args:
        x: at least one axis.
        indices: integers of any shape, which replaces the axis in the result. Negative ones count from the end.
        axis: may be left out if `x` has one axis.

    Raises:
        BoundsError: names the first index that is out of range. DTypeError: indices are not integers.

    >>> table = mg.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> mg.take(table, mg.tensor([1, 0, 1]), axis=0)
    tensor([[2., 3.],
            [0., 1.],
            [2., 3.]], dtype=float32)
    """
    x, indices = lift(x), _integers("take", indices)
    if axis is None:
        if x.ndim != 1:
            raise ArgumentError("take: axis may be left out for 1-d tensors only", actual=f"x has shape {x.shape}",
                                remedy="axis=0, or flatten x first")  # fmt: skip
        axis = 0
    return bind(TAKE, x, indices, axis=one_axis("take", axis, x.ndim))


def _integers(name: str, indices: Any) -> Tensor:
    """Indices as a tensor, of a dtype that NumPy can index with."""
    t = lift(np.asarray(indices, dtype=INT64) if isinstance(indices, list | tuple) and not indices else indices)
    if t.dtype.kind not in "iu":
        need_integer(name, "indices", Spec(t.shape, t.dtype))
    return t if t.dtype != np.uint64 else t.astype(INT64)


# --------------------------------------------------------------------------------------------------- along one axis


@lru_cache(maxsize=256)
def _mesh(shape: tuple[int, ...], axis: int) -> tuple[Any, ...]:
    """Indices that select every place along all axes but one, which is None."""
    n = len(shape)
    return tuple([None if k == axis else np.arange(m).reshape((m,) + (1,) * (n - k - 1)) for k, m in enumerate(shape)])


def _along(xp: Any, shape: tuple[int, ...], indices: Any, axis: int) -> tuple[Any, ...]:
    """The key that selects `indices` along `axis`, the other axes each by themselves."""
    if len(shape) != indices.ndim:
        raise ValueError("as many axes in indices as in x")
    if axis < 0:
        axis += len(shape)
    mesh = list(_mesh(shape, axis)) if xp is np else [m if m is None else xp.asarray(m) for m in _mesh(shape, axis)]
    mesh[axis] = indices
    return tuple(mesh)


def _along_run(xp: Any, x: Any, indices: Any, *, axis: int) -> Any:
    check_range("take_along_axis", xp, indices, axis % x.ndim, x.shape[axis], "indices")
    return x[_along(xp, x.shape, indices, axis)]


def _along_numpy(x: Any, indices: Any, axis: int) -> Any:
    try:
        return x[_along(np, x.shape, indices, axis)]
    except IndexError:
        if x.ndim == indices.ndim:
            check_range("take_along_axis", np, indices, axis, x.shape[axis], "indices")
        raise


def _along_infer(x: Spec, indices: Spec, axis: int) -> Spec:
    need_integer("take_along_axis", "indices", indices)
    return Spec(_along_shape("take_along_axis", x.shape, indices, axis), x.dtype, x.device)


def _along_shape(name: str, shape: tuple[int, ...], indices: Spec, axis: int) -> tuple[int, ...]:
    k = one_axis(name, axis, len(shape))
    if indices.ndim == len(shape):
        others = [(n, m) for i, (n, m) in enumerate(zip(shape, indices.shape, strict=True)) if i != k]
        if all(n == m or 1 in (n, m) for n, m in others):
            return tuple(
                m if i == k or n == 1 else n for i, (n, m) in enumerate(zip(shape, indices.shape, strict=True))
            )
    raise ShapeError(
        f"{name}: indices have the axes of x, of any size along axis {k} and of equal size, or 1, on the others",
        expected=f"like {tuple('any' if i == k else n for i, n in enumerate(shape))}",
        actual=f"indices: {indices!r}",
        remedy="insert the missing axis, for example labels[:, None]" if indices.ndim < len(shape) else "",
    )


def _along_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 3, 4), np.array([[1], [3], [-1]])), {"axis": 1}
    yield (floats(rng, 4, 3).T, np.array([[2, 0, 0, 2]])), {"axis": 0}
    yield (floats(rng, 4, 3)[::2], np.array([[1, 1, 0, 2], [0, 0, 0, 1]])), {"axis": 1}
    yield (floats(rng, 1, 3), np.array([[1], [2]])), {"axis": 1}
    yield (floats(rng, 3), np.array([2, 2])), {"axis": 0}
    yield (floats(rng, 2, 0), np.zeros((2, 0), int)), {"axis": 1}
    yield (floats(rng, 0, 3), np.zeros((0, 1), int)), {"axis": 1}
    yield (np.arange(4).reshape(2, 2), np.array([[1], [0]], "i4")), {"axis": 1}
    yield (floats(rng, 2, 2).astype("f4"), np.array([[1], [0]])), {"axis": 1}
    yield "bad", (floats(rng, 2, 3), np.array([[0], [3]])), {"axis": 1}, BoundsError
    yield "bad", (floats(rng, 2, 3), np.array([0, 1])), {"axis": 1}, ShapeError
    yield "bad", (floats(rng, 2, 3), np.array([[0], [1], [1]])), {"axis": 1}, ShapeError


TAKE_ALONG_AXIS = Op(
    "take_along_axis",
    run=_along_run,
    numpy=_along_numpy,
    infer=_along_infer,
    vjp=(lambda F, g, y, x, indices, axis: F.scatter_along_axis(g, indices, shape=x.shape, axis=axis), None),
    saves=("indices",),
    samples=_along_samples,
)


def take_along_axis(x: Any, indices: Any, *, axis: int = -1) -> Tensor:
    """For each row along `axis`, its elements at the row's own indices: `y[i, j] = x[i, indices[i, j]]`.

    What picks the value of the action taken (`take_along_axis(q, actions[:, None], axis=1)`) and the log-probability of
    the right label. PyTorch calls it `gather`.

    Args:
        x: any shape with the axis.
        indices: integers, with the axes of `x`; other axes than `axis` are equal or broadcast.

    Raises:
        BoundsError: an index is out of range. ShapeError: the shapes do not fit.

    >>> q = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> mg.take_along_axis(q, mg.tensor([[1], [0]]), axis=1)
    tensor([[2.],
            [3.]], dtype=float32)
    """
    x, indices = lift(x), _integers("take_along_axis", indices)
    return bind(TAKE_ALONG_AXIS, x, indices, axis=one_axis("take_along_axis", axis, x.ndim))


def _once(shape: Sequence[int], indices: Any, axis: int) -> bool:
    """Whether the shapes alone guarantee that no place is named twice: one index for each row."""
    found = list(indices.shape)
    if found[axis] != 1:
        return False
    found[axis] = shape[axis]
    return found == list(shape)


def _scatter_along_run(xp: Any, values: Any, indices: Any, *, shape: Any, axis: int, distinct: bool = False) -> Any:
    check_range("scatter_along_axis", xp, indices, axis, shape[axis], "indices")
    key = _along(xp, tuple(shape), indices, axis)
    y = xp.zeros(shape, values.dtype)
    if distinct or _once(shape, indices, axis):
        y[key] = values
    else:
        xp.add.at(y, key, values)
    return y


def _scatter_along_numpy(values: Any, indices: Any, shape: Any, axis: int, distinct: bool = False) -> Any:
    y = np.zeros(shape, values.dtype)
    _put_along(y, values, indices, axis, distinct)
    return y


def _scatter_along_into(values: Any, indices: Any, out: Any, shape: Any, axis: int, distinct: bool = False) -> None:
    out.fill(0)
    _put_along(out, values, indices, axis, distinct)


def _put_along(y: np.ndarray, values: Any, indices: Any, axis: int, distinct: bool) -> None:
    """Add values to the zeros in `y`: by assignment where no place is named twice."""
    key = _along(np, y.shape, indices, axis)
    try:
        if distinct or _once(y.shape, indices, axis):
            y[key] = values
        else:
            np.add.at(y.reshape(-1), np.arange(y.size).reshape(y.shape)[key].ravel(), values.ravel())
    except IndexError:
        check_range("scatter_along_axis", np, indices, axis, y.shape[axis], "indices")
        raise


def _scatter_along_infer(values: Spec, indices: Spec, shape: Any, axis: int, distinct: bool = False) -> Spec:
    need_integer("scatter_along_axis", "indices", indices)
    block = _along_shape("scatter_along_axis", tuple(shape), indices, axis)
    if values.shape != block:
        raise ShapeError(
            "scatter_along_axis: values have the shape of what the indices select",
            expected=f"{block}",
            actual=f"{values!r}",
        )
    return Spec(shape, values.dtype, values.device)


def _scatter_along_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 3, 1), np.array([[1], [3], [-1]])), {"shape": (3, 4), "axis": 1}
    yield (floats(rng, 3, 4), np.array([[2, 0, 0, 2]] * 3)), {"shape": (3, 3), "axis": 1}
    yield (floats(rng, 4, 2).T, np.array([[1, 1, 0, 2], [0, 0, 0, 1]])), {"shape": (2, 3), "axis": 1}
    yield (floats(rng, 2, 3), np.array([[2, 0, 1], [0, 1, 2]])), {"shape": (2, 3), "axis": 1, "distinct": True}
    yield (floats(rng, 2, 1), np.array([[1], [1]])), {"shape": (1, 3), "axis": 1}
    yield (floats(rng, 0, 1), np.zeros((0, 1), int)), {"shape": (0, 3), "axis": 1}
    yield (floats(rng, 2, 1).astype("f4"), np.array([[1], [0]])), {"shape": (2, 2), "axis": 1}
    yield "bad", (floats(rng, 2, 1), np.array([[1], [2]])), {"shape": (2, 2), "axis": 1}, BoundsError


SCATTER_ALONG_AXIS = Op(
    "scatter_along_axis",
    run=_scatter_along_run,
    numpy=_scatter_along_numpy,
    into=_scatter_along_into,
    infer=_scatter_along_infer,
    vjp=(lambda F, g, y, values, indices, shape, axis, distinct=False: F.take_along_axis(g, indices, axis=axis), None),
    saves=("indices",),
    samples=_scatter_along_samples,
)


# ---------------------------------------------------------------------------------------------------------- x.at[key]


def _set_run(xp: Any, x: Any, values: Any, *indices: Any, key: Key, distinct: bool = False) -> Any:
    if indices:
        check_slots("at", xp, x.shape, key.items, indices)
        if distinct:
            _need_distinct(xp, x.shape, indices, key)
    y = xp.array(x)
    y[key.fill(indices)] = values
    return y


def _need_distinct(xp: Any, shape: Any, indices: Sequence[Any], key: Key) -> None:
    places = xp.arange(math.prod(shape)).reshape(shape)[key.fill(indices)]
    if len(xp.unique(places)) != places.size:
        raise ArgumentError("at[...].multiply: an element is named twice", expected="distinct indices",
                            remedy="multiply the factors that belong to one element first")  # fmt: skip


def _set_infer(x: Spec, values: Spec, *indices: Spec, key: Key, distinct: bool = False) -> Spec:
    for k, i in enumerate(indices):
        need_integer("at", f"indices[{k}]", i)
    block = layout("at", x.shape, key.items, [i.shape for i in indices])[0]
    _need_fitting(values, block, key)
    return x


def _need_fitting(values: Any, block: tuple[int, ...], key: Key) -> None:
    """Raise unless `values` can be broadcast to the block that a key selects."""
    padded = (1,) * (len(block) - values.ndim) + values.shape
    if len(padded) != len(block) or any(n not in (1, m) for n, m in zip(padded, block, strict=True)):
        raise ShapeError(
            "at: values must fit what the key selects",
            expected=f"a shape that broadcasts to {block}, the shape of x{key!r}",
            actual=f"shape {values.shape}",
        )


def _set_grad(
    F: Any, needs: Sequence[bool], g: Any, y: Any, x: Any, values: Any, *indices: Any, key: Key, distinct: bool = False
) -> list[Any]:
    found: list[Any] = [None] * len(needs)
    if needs[0]:
        found[0] = F.fill_at(g, *indices, key=key, value=0)
    if needs[1]:
        if indices:
            found[1] = F.gather(g, *indices, key=key)
            if not distinct:  # of several values for one element only the last is in the result
                found[1] = found[1] * F.astype(F.is_last(*indices, shape=x.shape, key=key), dtype=g.dtype)
        else:
            found[1] = F.getitem(g, key=key)
    return found


def _set_samples(rng: np.random.Generator) -> Iterator:
    i = np.array([2, 0, 2, -1])
    yield (floats(rng, 4, 3), floats(rng, 3)), {"key": Key((1,))}
    yield (floats(rng, 4, 3), floats(rng)), {"key": Key((slice(None, None, 2),))}
    yield (floats(rng, 3, 4).T, floats(rng, 2, 1)), {"key": Key((slice(None, None, -2), slice(1, None)))}
    yield (floats(rng, 3), floats(rng, 4), i), {"key": Key((Slot(0),))}
    yield (floats(rng, 3, 4), floats(rng, 1), i, i), {"key": Key((Slot(0), Slot(1)))}
    yield (floats(rng, 2), floats(rng, 0)), {"key": Key((slice(2, 1),))}
    yield (np.arange(4), np.array(7)), {"key": Key((1,))}
    yield (floats(rng, 3).astype("f4"), floats(rng).astype("f4")), {"key": Key((-1,))}
    yield "bad", (floats(rng, 3), floats(rng, 2)), {"key": Key((0,))}, ShapeError
    yield "bad", (floats(rng, 3), floats(rng)), {"key": Key((3,))}, BoundsError
    yield "bad", (floats(rng, 2), floats(rng), i), {"key": Key((Slot(0),))}, BoundsError


SET_AT = Op("set_at", run=_set_run, infer=_set_infer, vjp=_set_grad, saves=("indices",), samples=_set_samples)


def _fill_run(xp: Any, x: Any, *indices: Any, key: Key, value: float) -> Any:
    if indices:
        check_slots("at", xp, x.shape, key.items, indices)
    y = xp.array(x)
    y[key.fill(indices)] = value
    return y


def _fill_infer(x: Spec, *indices: Spec, key: Key, value: float) -> Spec:
    for k, i in enumerate(indices):
        need_integer("at", f"indices[{k}]", i)
    layout("at", x.shape, key.items, [i.shape for i in indices])
    return x


def _fill_grad(
    F: Any, needs: Sequence[bool], g: Any, y: Any, x: Any, *indices: Any, key: Key, value: float
) -> list[Any]:
    return [F.fill_at(g, *indices, key=key, value=0), *[None] * len(indices)]


def _fill_samples(rng: np.random.Generator) -> Iterator:
    yield (floats(rng, 4, 3),), {"key": Key((1,)), "value": 2.5}
    yield (floats(rng, 4, 3).T, np.array([1, 1])), {"key": Key((slice(None), Slot(0))), "value": 0}
    yield (floats(rng),), {"key": Key(()), "value": 1}
    yield (floats(rng, 0, 2),), {"key": Key((slice(None), 1)), "value": 1}
    yield (np.arange(4),), {"key": Key((slice(None, None, 2),)), "value": 7}
    yield (floats(rng, 3).astype("f4"),), {"key": Key((-1,)), "value": 0}
    yield "bad", (floats(rng, 3),), {"key": Key((3,)), "value": 0}, BoundsError


FILL_AT = Op("fill_at", run=_fill_run, infer=_fill_infer, vjp=_fill_grad, saves=("indices",), samples=_fill_samples)


def _last_run(xp: Any, *indices: Any, shape: Any, key: Key) -> Any:
    places = xp.arange(math.prod(shape)).reshape(shape)[key.fill(indices)]
    order = xp.arange(places.size).reshape(places.shape)
    winner = xp.zeros(math.prod(shape), dtype=order.dtype)
    winner[places] = order
    return winner[places] == order


def _last_infer(*indices: Spec, shape: Any, key: Key) -> Spec:
    for k, i in enumerate(indices):
        need_integer("at", f"indices[{k}]", i)
    return Spec(layout("at", tuple(shape), key.items, [i.shape for i in indices])[0], "bool", indices[0].device)


IS_LAST = Op(
    "is_last",
    run=_last_run,
    infer=_last_infer,
    samples=lambda rng: iter([((np.array([1, 0, 1]),), {"shape": (3,), "key": Key((Slot(0),))})]),
)


class At:
    """`x.at`: write `x.at[key].set(v)` for what `x[key] = v` would do, with a new tensor as the result."""

    __slots__ = ("x",)

    def __init__(self, x: Any):
        self.x = x

    def __getitem__(self, key: Any) -> Selection:
        return Selection(lift(self.x), key)

    def __repr__(self) -> str:
        return f"<at of {self.x!r}>"


class Selection:
    """`x.at[key]`: the elements of `x` that an update is for. Each method returns a new tensor; all are differentiable.

    Keys are those of `x[key]`. Values must broadcast to the shape of `x[key]` and are converted to the dtype of `x`.

    >>> x = mg.zeros(3)
    >>> x.at[0].set(5.0), x.at[mg.tensor([1, 1])].add(1.0), x
    (tensor([5., 0., 0.], dtype=float32), tensor([0., 2., 0.], dtype=float32), tensor([0., 0., 0.], dtype=float32))
    """

    __slots__ = ("key", "x")

    def __init__(self, x: Tensor, key: Any):
        self.x, self.key = x, key

    def set(self, values: Any) -> Tensor:
        """`x` with these elements replaced. Of several values for one element, the last counts."""
        return self._updated(values, lambda x, v: v, self._set)

    def add(self, values: Any) -> Tensor:
        """`x` with values added to these elements. Several values for one element add up."""
        return self._updated(values, lambda x, v: x + v, self._add)

    def multiply(self, values: Any) -> Tensor:
        """`x` with these elements multiplied by values. An element that is named twice is an error."""
        return self._updated(values, lambda x, v: x * v, self._multiply)

    def _updated(self, values: Any, whole: Any, part: Any) -> Tensor:
        x, mask = self.x, self.key
        values = lift(values, x)
        if values.dtype != x.dtype:
            if not np.can_cast(values.dtype, x.dtype, "same_kind"):
                raise DTypeError("at: values must fit the dtype of x", expected=str(x.dtype), actual=str(values.dtype),
                                 remedy=f'values.astype("{x.dtype}"), or convert x first')  # fmt: skip
            values = values.astype(x.dtype)
        if isinstance(mask, Operators | np.ndarray) and mask.dtype.kind == "b" and mask.ndim and not values.ndim:
            from .elementwise import (
                where,
            )  # one value for all that a mask selects: nothing depends on how many there are

            mask = lift(mask)
            if mask.shape != x.shape[: mask.ndim]:
                _without_masks(x, [mask])
            if mask.ndim < x.ndim:
                mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
            return where(mask, whole(x, values), x)
        items, indices = parse(x, self.key)
        return part(values, Key(items), indices)

    def _set(self, values: Tensor, key: Key, indices: list[Tensor], distinct: bool = False) -> Tensor:
        return bind(SET_AT, self.x, values, *indices, key=key, distinct=distinct)

    def _add(self, values: Tensor, key: Key, indices: list[Tensor]) -> Tensor:
        x = self.x
        block = layout("at", x.shape, key.items, [i.shape for i in indices])[0]
        if values.shape != block:
            _need_fitting(values, block, key)
            values = bind(BROADCAST_TO, values, shape=block)
        if indices:
            return x + bind(SCATTER_ADD, values, *indices, shape=x.shape, key=key)
        return x + bind(PLACE, values, shape=x.shape, key=key)

    def _multiply(self, values: Tensor, key: Key, indices: list[Tensor]) -> Tensor:
        x = self.x
        old = bind(GATHER, x, *indices, key=key) if indices else bind(GETITEM, x, key=key)
        _need_fitting(values, old.shape, key)
        return self._set(old * values, key, indices, distinct=True)

    def __repr__(self) -> str:
        return f"<at[{self.key!r}] of {self.x!r}>"


# ------------------------------------------------------------------------------------------------------ masks, labels


def _nonzero_run(xp: Any, x: Any) -> tuple[Any, ...]:
    if not x.ndim:
        raise ShapeError(
            "nonzero: at least one axis", expected="an axis", actual="a 0-d tensor", remedy="mg.reshape(x, (1,))"
        )
    return tuple(xp.nonzero(x))


def _nonzero_infer(x: Spec) -> Any:
    raise TraceError(
        "a boolean mask or nonzero has a result whose shape depends on values, which a compiled function does not know",
        expected="shapes that follow from shapes",
        actual=f"x: {x!r}, symbolic",
        remedy="choose without changing the shape: mg.where(mask, x, 0); or select outside the compiled function",
    )


NONZERO = Op("nonzero", run=_nonzero_run, infer=_nonzero_infer)


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """The places of the elements that are not zero (or true): one integer tensor for each axis.

    The shape of the result depends on values, so this, and `x[mask]`, work in dynamic mode only.

    Raises:
        TraceError: inside a compiled function.

    >>> mg.nonzero(mg.tensor([0.0, 3.0, 0.0, 4.0]))
    (tensor([1, 3], dtype=int64),)
    """
    x = lift(x)
    node = bind(NONZERO, x)
    return tuple([bind(ITEM, node, index=i) for i in range(x.ndim)])


def _one_hot_run(xp: Any, indices: Any, *, num_classes: int, dtype: Any = "float32") -> Any:
    bad = (indices < 0) | (indices >= num_classes)
    if bool(bad.any()):
        first = int(xp.argmax(bad.ravel()))
        place = [int(i) for i in np.unravel_index(first, indices.shape)]
        raise BoundsError(
            "one_hot: a label is out of range",
            expected=f"0 to {num_classes - 1}, since num_classes={num_classes}",
            actual=f"indices{place or ''} = {int(indices.ravel()[first])}",
        )
    return (indices[..., None] == xp.arange(num_classes)).astype(dtype)


def _one_hot_infer(indices: Spec, num_classes: int, dtype: Any = "float32") -> Spec:
    need_integer("one_hot", "indices", indices)
    return Spec((*indices.shape, num_classes), dtype, indices.device)


def _one_hot_samples(rng: np.random.Generator) -> Iterator:
    yield (np.array([2, 0, 1]),), {"num_classes": 3}
    yield (np.array([[2], [0]], "i4"),), {"num_classes": 4, "dtype": np.dtype("bool")}
    yield (np.array(1),), {"num_classes": 2}
    yield (np.zeros((0, 2), int),), {"num_classes": 2, "dtype": np.dtype("int64")}
    yield "bad", (np.array([0, 3]),), {"num_classes": 3}, BoundsError
    yield "bad", (np.array([-1, 0]),), {"num_classes": 3}, BoundsError


ONE_HOT = Op("one_hot", run=_one_hot_run, infer=_one_hot_infer, samples=_one_hot_samples)


def one_hot(indices: Any, num_classes: int, *, dtype: Any = "float32") -> Tensor:
    """Rows that are 1 at the place of the label and 0 elsewhere.

    Args:
        indices: labels, integers from 0 to num_classes - 1, of any shape.
        num_classes: the size of the new last axis.

    Raises:
        BoundsError: a label is out of range. DTypeError: labels are not integers.

    >>> mg.one_hot(mg.tensor([1, 0]), 3)
    tensor([[0., 1., 0.],
            [1., 0., 0.]], dtype=float32)
    """
    n = integer("one_hot", "num_classes", num_classes, 0)
    return bind(ONE_HOT, _integers("one_hot", indices), num_classes=n, dtype=number_dtype("one_hot", dtype))


# --------------------------------------------------------------------------------------------------------------- sort


def _sort_run(xp: Any, x: Any, *, axis: int = -1, descending: bool = False) -> Any:
    y = xp.sort(x, axis)
    return xp.flip(y, axis) if descending else y


def _argsort_run(xp: Any, x: Any, *, axis: int = -1, descending: bool = False) -> Any:
    if not descending:
        return xp.argsort(x, axis, kind="stable")
    return x.shape[axis] - 1 - xp.flip(xp.argsort(xp.flip(x, axis), axis, kind="stable"), axis)


def _sorted_infer(name: str, dtype: Any = None) -> Any:
    def infer(x: Spec, axis: int = -1, descending: bool = False) -> Spec:
        one_axis(name, axis, x.ndim)
        return Spec(x.shape, dtype or x.dtype, x.device)

    return infer


def _sort_grad(F: Any, g: Any, y: Any, x: Any, axis: int = -1, descending: bool = False) -> Any:
    order = F.argsort(x, axis=axis, descending=descending)
    return F.scatter_along_axis(g, order, shape=x.shape, axis=axis, distinct=True)


def _sort_samples(rng: np.random.Generator) -> Iterator:
    yield (rng.permutation(6).astype("f8"),), {"axis": 0}
    yield (rng.permutation(6).astype("f8").reshape(3, 2).T,), {"axis": 1, "descending": True}
    yield (rng.permutation(8).astype("f8").reshape(4, 2)[::2],), {"axis": 0}
    yield (np.zeros((0, 2)),), {"axis": 1}
    yield (np.array([2, 1, 2, 0]),), {"axis": 0, "descending": True}
    yield (np.array([True, False]),), {"axis": 0}
    yield (rng.permutation(4).astype("f4"),), {"axis": 0}
    yield "bad", (np.zeros(3),), {"axis": 1}, IndexError
    yield "bad", (np.array(1.0),), {"axis": 0}, IndexError


SORT = Op("sort", run=_sort_run, infer=_sorted_infer("sort"), vjp=(_sort_grad,), saves=("x",), samples=_sort_samples)
ARGSORT = Op("argsort", run=_argsort_run, infer=_sorted_infer("argsort", INT64), samples=_sort_samples)


def sort(x: Any, *, axis: int = -1, descending: bool = False) -> Tensor:
    """The elements along `axis` in order. The gradient goes back to where each element came from.

    >>> mg.sort(mg.tensor([3, 1, 2]), descending=True)
    tensor([3, 2, 1], dtype=int64)
    """
    x = lift(x)
    return bind(SORT, x, axis=one_axis("sort", axis, x.ndim), descending=flag("sort", "descending", descending))


def argsort(x: Any, *, axis: int = -1, descending: bool = False) -> Tensor:
    """The indices that would sort `x` along `axis`; equal elements keep their order.

    >>> mg.argsort(mg.tensor([3, 1, 2]))
    tensor([1, 2, 0], dtype=int64)
    """
    x = lift(x)
    return bind(
        ARGSORT, x, axis=one_axis("argsort", axis, x.ndim), descending=flag("argsort", "descending", descending)
    )


def topk(x: Any, k: int, *, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The `k` largest (or smallest) elements along `axis`, in order, and their indices: `(values, indices)`.

    Raises:
        ArgumentError: the axis has fewer than `k` elements.

    >>> mg.topk(mg.tensor([1.0, 9.0, 5.0]), 2)
    (tensor([9., 5.], dtype=float32), tensor([1, 2], dtype=int64))
    """
    x = lift(x)
    axis = one_axis("topk", axis, x.ndim)
    if not 0 <= (k := integer("topk", "k", k)) <= x.shape[axis]:
        raise ArgumentError("topk: k", expected=f"0 to {x.shape[axis]}, the size of axis {axis}", actual=f"k={k}")
    order = argsort(x, axis=axis, descending=flag("topk", "largest", largest))
    indices = bind(GETITEM, order, key=Key((*(ALL,) * axis, slice(0, k))))
    return bind(TAKE_ALONG_AXIS, x, indices, axis=axis), indices
