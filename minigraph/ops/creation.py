"""Tensors from nothing: zeros, ones, ranges, identity matrices; and `to_device`, which moves a tensor.

What these functions make are constants: leaves of the graph without an operation. `mg.tensor` and `mg.asarray`, which
make tensors of data, are in `tensor.py`. Dtypes follow the Array API standard: floats are float32 (as in `mg.tensor`),
integers int64, unless `dtype=` says otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..errors import ArgumentError, DeviceError, DTypeError, ShapeError
from ..op import Op, Spec
from ..tensor import Operators, Tensor, bind, float_dtype, lift, lift_all
from .common import flag, integer, one_of, shown
from .shape import BROADCAST_TO, RESHAPE, floats, shape_tuple

__all__ = [
    "arange", "eye", "from_dlpack", "full", "full_like", "linspace", "meshgrid", "ones", "ones_like", "to_device",
    "zeros", "zeros_like",
]  # fmt: skip


def number_dtype(name: str, dtype: Any, default: Any = float_dtype) -> np.dtype:
    """`dtype` (None: `default`) as a NumPy dtype of numbers that minigraph has."""
    try:
        found = np.dtype(default if dtype is None else dtype)
    except TypeError:
        raise DTypeError(
            f"{name}: not a dtype", expected='mg.float32, mg.int64, mg.bool, ... or "float32"', actual=f"{dtype!r}"
        ) from None
    if found.kind not in "biuf" or found.itemsize > 8:
        raise DTypeError(f"{name}: dtype", expected="bool, integers and floats of at most 64 bits", actual=str(found))
    return found


def leaf(array: np.ndarray, device: Any) -> Tensor:
    """A constant on a device."""
    return Tensor(array if device is None else backend.transfer(array, backend.device(device)))


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of zeros.

    Args:
        shape: a tuple of sizes, or one size.
        dtype: float32 unless given.
        device: "cpu" unless given.

    Raises:
        ShapeError: a size is negative. DTypeError: sizes are not integers, or `dtype` is not one of numbers.

    >>> mg.zeros((2, 3))
    tensor([[0., 0., 0.],
            [0., 0., 0.]], dtype=float32)
    """
    return leaf(np.zeros(shape_tuple("zeros", shape), number_dtype("zeros", dtype)), device)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of ones. Arguments as for `zeros`.

    >>> mg.ones(2, dtype=mg.int64)
    tensor([1, 1], dtype=int64)
    """
    return leaf(np.ones(shape_tuple("ones", shape), number_dtype("ones", dtype)), device)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor filled with one value.

    Args:
        fill_value: a number, or a 0-d tensor (through which gradients flow).
        dtype: that of `fill_value` unless given: float32 for a Python float, int64 for an int.

    Raises:
        ShapeError: `fill_value` is not a single value. DTypeError: it does not fit `dtype`.

    >>> mg.full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]], dtype=int64)
    """
    sizes = shape_tuple("full", shape)
    if isinstance(fill_value, Operators):
        x = lift(fill_value)
        if x.shape != ():
            raise ShapeError("full: fill_value is a single value", expected="shape ()", actual=f"shape {x.shape}",
                             remedy="mg.broadcast_to repeats a tensor")  # fmt: skip
        x = x if dtype is None else x.astype(number_dtype("full", dtype))
        return bind(BROADCAST_TO, x if device is None else to_device(x, device), shape=sizes)
    if not isinstance(fill_value, bool | int | float | np.number | np.bool_):
        raise DTypeError("full: fill_value is a number", actual=f"{type(fill_value).__name__} {fill_value!r}")
    dtype = number_dtype("full", dtype, lift(fill_value).dtype)
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= fill_value <= np.iinfo(dtype).max:  # nor is NaN
        raise DTypeError(f"full: fill_value does not fit {dtype}", expected=f"a number that {dtype} holds",
                         actual=f"{fill_value!r}")  # fmt: skip
    return leaf(np.full(sizes, fill_value, dtype), device)


def _like(x: Any, dtype: Any, device: Any) -> tuple[tuple[int, ...], Any, Any]:
    x = lift(x)
    if device is None and x.device.kind != "cpu":
        device = x.device
    return x.shape, x.dtype if dtype is None else dtype, device


def zeros_like(x: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros with the shape, and unless given otherwise the dtype and device, of `x`. `x` may be symbolic.

    >>> mg.zeros_like(mg.tensor([1.0, 2.0]))
    tensor([0., 0.], dtype=float32)
    """
    shape, dtype, device = _like(x, dtype, device)
    return zeros(shape, dtype=dtype, device=device)


def ones_like(x: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones with the shape, and unless given otherwise the dtype and device, of `x`.

    >>> mg.ones_like(mg.tensor([3, 4]))
    tensor([1, 1], dtype=int64)
    """
    shape, dtype, device = _like(x, dtype, device)
    return ones(shape, dtype=dtype, device=device)


def full_like(x: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """One value with the shape, and unless given otherwise the dtype and device, of `x`.

    >>> mg.full_like(mg.tensor([1.0, 2.0]), 0.5)
    tensor([0.5, 0.5], dtype=float32)
    """
    shape, dtype, device = _like(x, dtype, device)
    return full(shape, fill_value, dtype=dtype, device=device)


def _plain(name: str, *values: Any) -> list[Any]:
    """Python numbers from numbers and 0-d tensors."""
    found = []
    for v in values:
        if isinstance(v, Operators | np.generic | np.ndarray) and v.ndim == 0:
            v = v.item()
        if not isinstance(v, int | float):
            raise DTypeError(f"{name}: limits are numbers", expected="Python numbers", actual=shown(v))
        found.append(v)
    return found


def arange(
    start: float, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Evenly spaced values from `start` up to, but not including, `stop`; `arange(n)` starts from 0.

    Args:
        start, stop, step: numbers. With non-integer steps the number of elements suffers from rounding: use `linspace`.
        dtype: int64 if all are integers, else float32, unless given.

    Raises:
        ArgumentError: `step` is 0.

    >>> mg.arange(3), mg.arange(1, 2, 0.25)
    (tensor([0, 1, 2], dtype=int64), tensor([1.  , 1.25, 1.5 , 1.75], dtype=float32))
    """
    if stop is None:
        start, stop = 0, start
    start, stop, step = _plain("arange", start, stop, step)
    if step == 0 or step != step:
        raise ArgumentError("arange: step", expected="a number that is not 0", actual=f"{step}")
    default = np.dtype("int64") if all(isinstance(v, int) for v in (start, stop, step)) else float_dtype
    try:
        return leaf(np.arange(start, stop, step).astype(number_dtype("arange", dtype, default)), device)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"arange: {error}", actual=f"start={start}, stop={stop}, step={step}") from None


def linspace(
    start: float, stop: float, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced values from `start` to `stop`, which is the last one if `endpoint`.

    >>> mg.linspace(0, 1, 5)
    tensor([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    start, stop = _plain("linspace", start, stop)
    n, endpoint, dtype = (
        integer("linspace", "num", num, 0), flag("linspace", "endpoint", endpoint), number_dtype("linspace", dtype),
    )  # fmt: skip
    try:
        return leaf(np.linspace(float(start), float(stop), n, endpoint=endpoint).astype(dtype), device)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"linspace: {error}", actual=f"start={start}, stop={stop}, num={n}") from None


def eye(n_rows: int, n_cols: int | None = None, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere.

    >>> mg.eye(2)
    tensor([[1., 0.],
            [0., 1.]], dtype=float32)
    """
    shape = shape_tuple("eye", (n_rows, n_rows if n_cols is None else n_cols))
    return leaf(np.eye(shape[0], shape[1], k=integer("eye", "k", k), dtype=number_dtype("eye", dtype)), device)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinates of a grid: one tensor for each axis, all of the grid's shape.

    Args:
        arrays: the coordinates along each axis, 1-d.
        indexing: "xy": the first axis of the results belongs to the second array, as in plots; "ij": to the first.

    >>> x, y = mg.meshgrid(mg.arange(3), mg.arange(2))
    >>> x
    tensor([[0, 1, 2],
            [0, 1, 2]], dtype=int64)
    """
    one_of("meshgrid", "indexing", indexing, ("xy", "ij"))
    tensors = lift_all(*arrays)
    for i, x in enumerate(tensors):
        if x.ndim > 1:
            raise ShapeError("meshgrid: coordinates are 1-d", actual=f"arrays[{i}] has shape {x.shape}")
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = [1, 0]
    shape = [0] * len(order)
    for x, axis in zip(tensors, order, strict=True):
        shape[axis] = x.size
    grids = []
    for x, axis in zip(tensors, order, strict=True):
        column = bind(RESHAPE, x, shape=tuple([x.size if k == axis else 1 for k in range(len(shape))]))
        grids.append(bind(BROADCAST_TO, column, shape=tuple(shape)))
    return tuple(grids)


def from_dlpack(x: Any) -> Tensor:
    """A tensor that shares the memory of another library's array (PyTorch, JAX, CuPy, ...), without a copy.

    Do not write to the array afterwards: the tensor would change. `mg.tensor` copies.

    Raises:
        DTypeError: the object does not speak DLPack. DeviceError: it lies on a device that is not available here.

    >>> mg.from_dlpack(np.arange(3))
    tensor([0, 1, 2], dtype=int64)
    """
    if isinstance(x, Operators):
        return lift(x)
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise DTypeError("from_dlpack: an array with __dlpack__", actual=type(x).__name__, remedy="mg.tensor(data)")
    kind = {1: "cpu", 2: "cuda", 3: "cpu", 13: "cuda"}.get(int(x.__dlpack_device__()[0]))
    if kind is None:
        raise DeviceError(
            "from_dlpack: the array lies on a device that minigraph does not know", actual=f"{x.__dlpack_device__()}"
        )
    backend.device(kind)  # a clear error when there is no such device here
    array = backend.backends[kind].xp.from_dlpack(x)
    number_dtype("from_dlpack", array.dtype)
    return Tensor(array)


def _device_of(x: Any) -> Any:
    return x.device if isinstance(x, Operators | Spec) else backend.device_of(x)


TO_DEVICE = Op(
    "to_device",
    run=lambda xp, x, *, device: backend.transfer(x, backend.device(device)),
    infer=lambda x, device: Spec(x.shape, x.dtype, backend.device(device)),
    vjp=(lambda F, g, y, x, device: F.to_device(g, device=_device_of(x)),),
    view=True,
    samples=lambda rng: iter([((x,), {"device": "cpu"}) for x in (floats(rng, 2, 3), floats(rng, 0), np.arange(3))]),
)


def to_device(x: Any, device: Any) -> Tensor:
    """`x` on another device; the gradient travels back. Also written `x.to(device)`.

    Raises:
        DeviceError: there is no such device here.

    >>> mg.to_device(mg.tensor([1.0]), "cpu")
    tensor([1.], dtype=float32)
    """
    x, device = lift(x), backend.device(device)
    return x if x.device == device else bind(TO_DEVICE, x, device=device)
