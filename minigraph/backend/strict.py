"""A stand-in for CuPy that runs on the CPU and refuses what CuPy refuses.

Code for a GPU goes wrong in a few ways that no CPU shows: a NumPy array slips in among device arrays, a device array is
converted to NumPy without anybody asking, a function or a keyword is used that CuPy does not have. Here these are
errors on every machine, so the tests of all operations run on this module, too, and on a GPU the same tests run on CuPy
itself.

What CuPy does was read in its sources (14.0.0 to 14.2.0), and its names and parameters were asked of an installed
14.2.0, which needs no GPU to tell. None of it was run on a GPU:

- `numpy.asarray(x)` raises; `x.get()`, `x.item()`, `bool(x)`, `int(x)`, `float(x)` convert. There is no `__index__`.
- Operands are device arrays, Python numbers or NumPy scalars; `numpy.ndarray` among them is a TypeError.
- Every result is an array, those of full reductions and of `x[0, 0]` (a view) have no axes.
- An integer array as index wraps around where it is out of range (`_take_kernel`), an integer raises as in NumPy.
- `x[key] = numpy_array` is refused; any number or device array is assigned.
- Functions have the parameters written in SIGNATURES: reductions no `where` or `initial`, `var` no `correction`,
  `argsort` no `stable`, `reshape` no `shape=`, creation no `device`. The names exist in 14.0.0 already.
- Ufuncs take `out`, `dtype` and `casting`, no `where`. Their dtypes are NumPy's. `at` exists for the dtypes that the
  hardware adds atomically (AT; int64 since 14.1.0), `reduce` and `accumulate` for add and multiply.
- Functions of one array want an array, not a list or a number; so do the members of what is concatenated.

It is stricter than CuPy on purpose in three places: CuPy hands `numpy.exp(x)` over to `cupy.exp` and takes
`numpy.float32(2) * x` the same way (allowed here, too, since it is how people write numbers), while this module refuses
NumPy's functions because an operation's `run` is to use the module it was given; CuPy copies a NumPy array used as an
index to the device on every call; and `numpy_array + x`, which CuPy refuses as well, names the cure here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


UFUNCS = words("""
    abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh
    bitwise_and bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor cbrt ceil
    copysign cos cosh deg2rad divide divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod
    frexp greater greater_equal heaviside hypot invert isfinite isinf isnan ldexp left_shift less less_equal log log10
    log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum mod modf multiply
    negative nextafter not_equal positive pow power rad2deg reciprocal remainder right_shift rint sign signbit sin sinh
    sqrt square subtract tan tanh true_divide trunc
    """)

# The functions and their parameters in CuPy, as Python writes them.
FUNCTIONS = """
    sum(a, axis=None, dtype=None, out=None, keepdims=False)
    prod(a, axis=None, dtype=None, out=None, keepdims=False)
    mean(a, axis=None, dtype=None, out=None, keepdims=False)
    var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    max(a, axis=None, out=None, keepdims=False)
    min(a, axis=None, out=None, keepdims=False)
    amax(a, axis=None, out=None, keepdims=False)
    amin(a, axis=None, out=None, keepdims=False)
    ptp(a, axis=None, out=None, keepdims=False)
    any(a, axis=None, out=None, keepdims=False)
    all(a, axis=None, out=None, keepdims=False)
    argmax(a, axis=None, *, out=None, keepdims=False)
    argmin(a, axis=None, *, out=None, keepdims=False)
    count_nonzero(a, axis=None)
    cumsum(a, axis=None, dtype=None, out=None)
    cumprod(a, axis=None, dtype=None, out=None)
    nanmax(a, axis=None, out=None, keepdims=False)
    nanmin(a, axis=None, out=None, keepdims=False)
    nansum(a, axis=None, dtype=None, out=None, keepdims=False)

    zeros(shape, dtype=float, order="C")
    ones(shape, dtype=float, order="C")
    full(shape, fill_value, dtype=None, order="C")
    empty(shape, dtype=float, order="C")
    zeros_like(a, dtype=None, order="K", subok=None, shape=None)
    ones_like(a, dtype=None, order="K", subok=None, shape=None)
    full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None)
    empty_like(prototype, dtype=None, order="K", subok=None, shape=None)
    arange(start, stop=None, step=1, dtype=None)
    linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0)
    eye(N, M=None, k=0, dtype=float, order="C")
    identity(n, dtype=float)
    tri(N, M=None, k=0, dtype=float)
    meshgrid(*xi, **kwargs)
    ascontiguousarray(a, dtype=None)
    asfortranarray(a, dtype=None)
    copy(a, order="K")
    astype(x, dtype, /, *, copy=True)

    reshape(a, newshape, order="C")
    ravel(a, order="C")
    transpose(a, axes=None)
    permute_dims(a, axes=None)
    swapaxes(a, axis1, axis2)
    moveaxis(a, source, destination)
    rollaxis(a, axis, start=0)
    expand_dims(a, axis)
    squeeze(a, axis=None)
    broadcast_to(array, shape)
    broadcast_arrays(*args)
    atleast_1d(*arys)
    atleast_2d(*arys)
    concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind")
    concat(tup, axis=0, out=None, *, dtype=None, casting="same_kind")
    stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind")
    hstack(tup, *, dtype=None, casting="same_kind")
    vstack(tup, *, dtype=None, casting="same_kind")
    split(ary, indices_or_sections, axis=0)
    array_split(ary, indices_or_sections, axis=0)
    flip(a, axis=None)
    roll(a, shift, axis=None)
    rot90(a, k=1, axes=(0, 1))
    tile(A, reps)
    repeat(a, repeats, axis=None)
    pad(array, pad_width, mode="constant", **kwargs)
    tril(m, k=0)
    triu(m, k=0)
    diag(v, k=0)
    diagonal(a, offset=0, axis1=0, axis2=1)
    trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None)
    lib.stride_tricks.as_strided(x, shape=None, strides=None)
    lib.stride_tricks.sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False)

    where(condition, x=None, y=None)
    clip(a, a_min, a_max, out=None)
    round(a, decimals=0, out=None)
    around(a, decimals=0, out=None)
    nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None)
    copyto(dst, src, casting="same_kind", where=None)
    take(a, indices, axis=None, out=None)
    take_along_axis(a, indices, axis)
    put_along_axis(arr, indices, values, axis)
    nonzero(a)
    flatnonzero(a)
    argwhere(a)
    searchsorted(a, v, side="left", sorter=None)
    sort(a, axis=-1, kind=None)
    argsort(a, axis=-1, kind=None)
    partition(a, kth, axis=-1)
    argpartition(a, kth, axis=-1)
    unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True)
    unique_values(x)
    bincount(x, weights=None, minlength=None)
    digitize(x, bins, right=False)
    diff(a, n=1, axis=-1, prepend=None, append=None)

    matmul(*args, axes=None, axis=None, keepdims=False, casting="same_kind", dtype=None, signature=None, order="K", out=None)
    dot(a, b, out=None)
    vdot(a, b)
    tensordot(a, b, axes=2)
    einsum(*operands, dtype=None, optimize=False)
    inner(a, b)
    outer(a, b, out=None)
    kron(a, b)
    linalg.norm(x, ord=None, axis=None, keepdims=False)
    linalg.inv(a)
    linalg.det(a)
    linalg.slogdet(a)
    linalg.solve(a, b)
    linalg.cholesky(a)
    linalg.qr(a, mode="reduced")
    linalg.svd(a, full_matrices=True, compute_uv=True)
    linalg.eigh(a, UPLO="L")
    linalg.matrix_power(M, n)

    isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
    allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
    array_equal(a1, a2, equal_nan=False)
    may_share_memory(a, b, max_work=None)
    shares_memory(a, b, max_work=None)
    result_type(*arrays_and_dtypes)
    ndim(a)
    shape(a)
"""  # noqa: E501

METHODS = """
    astype(dtype, order="K", casting=None, subok=None, copy=True)
    view(dtype=None, array_class=None)
    copy(order="C")
    fill(value)
    reshape(*shape, order="C")
    transpose(*axes)
    swapaxes(axis1, axis2)
    flatten(order="C")
    ravel(order="C")
    squeeze(axis=None)
    take(indices, axis=None, out=None)
    repeat(repeats, axis=None)
    sort(axis=-1, kind=None)
    argsort(axis=-1, kind=None)
    searchsorted(v, side="left", sorter=None)
    nonzero()
    diagonal(offset=0, axis1=0, axis2=1)
    trace(offset=0, axis1=0, axis2=1, dtype=None, out=None)
    max(axis=None, out=None, keepdims=False)
    min(axis=None, out=None, keepdims=False)
    argmax(axis=None, out=None, *, keepdims=False)
    argmin(axis=None, out=None, *, keepdims=False)
    clip(min=None, max=None, out=None)
    round(decimals=0, out=None)
    sum(axis=None, dtype=None, out=None, keepdims=False)
    prod(axis=None, dtype=None, out=None, keepdims=False)
    mean(axis=None, dtype=None, out=None, keepdims=False)
    var(axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    std(axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    cumsum(axis=None, dtype=None, out=None)
    cumprod(axis=None, dtype=None, out=None)
    any(axis=None, out=None, keepdims=False)
    all(axis=None, out=None, keepdims=False)
    dot(b, out=None)
"""

CONSTANTS = words("""
    pi e inf nan newaxis dtype finfo iinfo issubdtype promote_types can_cast generic number integer signedinteger
    unsignedinteger inexact floating bool bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32
    uint64 intp int_
    """)

# What NumPy has and CuPy 14.2.0 has not.
ABSENT = words("""
    asmatrix block bmat einsum_path errstate frompyfunc geomspace geterr histogram_bin_edges insert matrix matvec
    memmap nanpercentile nanquantile ndenumerate nditer polyder polydiv polyint seterr spacing unstack vecdot vecmat
    """)

ATOMIC_INTEGERS = words("int32 int64 uint32 uint64")
AT = {
    "add": ATOMIC_INTEGERS | words("float16 float32 float64"),
    "subtract": words("int32 uint32"),
    "maximum": ATOMIC_INTEGERS | words("float32 float64"),
    "minimum": ATOMIC_INTEGERS | words("float32 float64"),
    "bitwise_and": ATOMIC_INTEGERS,
    "bitwise_or": ATOMIC_INTEGERS,
    "bitwise_xor": ATOMIC_INTEGERS,
}
NUMBERS = (bool, int, float, complex, np.generic)
ARRAY_FIRST = ("a", "m", "v", "A", "M", "ar", "arr", "array", "ary", "condition", "dst")  # names of a first parameter


def table(text: str) -> dict[str, inspect.Signature]:
    """Signatures by name, from lines as in FUNCTIONS."""
    found = {}
    for line in text.strip().splitlines():
        name, _, parameters = line.strip().removesuffix(")").partition("(")
        if name:
            found[name] = inspect.signature(eval(f"lambda {parameters}: None"))
    return found


SIGNATURES = table(FUNCTIONS)
NUMBERS_TOO = frozenset(["isclose", "allclose", "array_equal", "ndim", "shape", "may_share_memory", "shares_memory"])


class StrictArray:
    """An array of the stand-in: a NumPy array that nobody can mistake for one."""

    __slots__ = ("__weakref__", "_array")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: np.ndarray):
        self._array = array

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for x in (*inputs, *kwargs.get("out", ())):
            if isinstance(x, np.ndarray):
                raise TypeError(f"Unsupported type {type(x)}: move it to the device of the other operand first")
        if method == "__call__" and isinstance(inputs[0], np.generic) and not kwargs:
            return Ufunc(ufunc.__name__)(*inputs)  # an operator with a NumPy scalar on its left
        raise TypeError(f"numpy.{ufunc.__name__} called on an array of another module: use the module given to `run`")

    def __array_function__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"numpy.{function.__name__} called on an array of another module: use the module given to `run`"
        )

    def get(self) -> np.ndarray:
        """A NumPy copy."""
        return self._array.copy()

    def item(self) -> Any:
        return self._array.item()

    def tolist(self) -> Any:
        return self._array.tolist()

    def __bool__(self) -> bool:
        return bool(self._array)

    def __int__(self) -> int:
        return int(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:
        if self._array.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._array)))

    def __getitem__(self, key: Any) -> StrictArray:
        return StrictArray(self._array[index(key, self._array.shape)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[index(key, self._array.shape)] = operand(value)

    @property
    def base(self) -> StrictArray | None:
        """The array whose memory this view shows, None for an array with memory of its own."""
        owner = self._array.base
        while owner is not None and getattr(owner, "base", None) is not None:
            owner = owner.base  # `as_strided` puts an object that is no array between
        return StrictArray(owner) if isinstance(owner, np.ndarray) else None

    @property
    def T(self) -> StrictArray:  # noqa: N802 - its name everywhere
        return StrictArray(self._array.T)

    def __repr__(self) -> str:
        return f"strict {self._array!r}"


def operand(x: Any) -> Any:
    """What NumPy computes with, for an operand that CuPy would accept; a TypeError for any other."""
    if isinstance(x, StrictArray):
        return x._array
    if isinstance(x, NUMBERS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def argument(x: Any) -> Any:
    """The same for an argument of a function, which may also be a shape, a dtype, a list of arrays, ..."""
    if isinstance(x, StrictArray):
        return x._array
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (list, tuple):
        return type(x)([argument(v) for v in x])
    return x


def index(key: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An index that CuPy would accept, for an array of this shape, in which integer arrays wrap around.

    It ends in `...`, so that NumPy, too, gives a view without axes for a single element.
    """
    items = key if isinstance(key, tuple) else (key,)
    named = 0
    for e in items:
        if isinstance(e, np.ndarray):
            raise TypeError(f"Unsupported type {type(e)}: a NumPy array as an index of a device array")
        if e is not None and e is not Ellipsis:
            named += e._array.ndim if isinstance(e, StrictArray) and e._array.dtype.kind == "b" else 1
    found: list[Any] = []
    axis = 0
    for e in items:
        if isinstance(e, StrictArray):
            a = e._array
            if a.dtype.kind in "iu" and axis < len(shape) and shape[axis]:
                a = a % shape[axis]
            found.append(a)
            axis += a.ndim if a.dtype.kind == "b" else 1
        else:
            found.append(e)
            axis += len(shape) - named if e is Ellipsis else 0 if e is None else 1
    return tuple(found) if any(e is Ellipsis for e in items) else (*found, Ellipsis)


def result(x: Any) -> Any:
    """A result as the stand-in gives it: arrays and scalars become its own arrays."""
    if isinstance(x, np.ndarray | np.generic):
        return StrictArray(np.asarray(x))
    if isinstance(x, tuple | list):
        return (list if isinstance(x, list) else tuple)([result(v) for v in x])
    return x


def call(name: str, function: Callable, signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call a NumPy function with arguments that fit the signature of CuPy's."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}() in CuPy: {error}; its parameters are {signature}") from None
    if bound.arguments.get("kind") not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    out = bound.arguments.get("out")
    y = function(*[argument(a) for a in bound.args], **{k: argument(v) for k, v in bound.kwargs.items()})
    return result(y) if out is None else out


def need_arrays(name: str, signature: inspect.Signature, args: tuple) -> None:
    """Refuse lists and numbers where CuPy's function asks an array for its methods."""
    parameter = next(iter(signature.parameters), "")
    if name == "matmul":
        arrays = args[:2]
    elif parameter == "tup":
        arrays = tuple(args[0]) if args and isinstance(args[0], tuple | list) else args[:1]
    else:
        arrays = args[:1] if parameter in ARRAY_FIRST and name not in NUMBERS_TOO else ()
    for a in arrays:
        if not isinstance(a, StrictArray):
            raise TypeError(f"{name}() takes arrays of its own module, not {type(a)}")


class Ufunc:
    """A ufunc of the stand-in."""

    def __init__(self, name: str):
        self.__name__, self.function = name, getattr(np, name)

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        if unknown := set(kwargs) - {"dtype", "casting"}:
            raise TypeError(f"Wrong arguments {sorted(unknown)}: ufuncs of CuPy take out, dtype and casting")
        nin = self.function.nin
        given = [operand(a) for a in args[:nin]]
        results = args[nin:] or (out if isinstance(out, tuple) else (out,) if out is not None else ())
        if not results:
            return result(self.function(*given, **kwargs))
        self.function(*given, out=tuple([operand(y) for y in results]), **kwargs)
        return results[0] if self.function.nout == 1 else results

    def at(self, a: StrictArray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in AT:
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        inside = operand(a)
        if inside.dtype.name not in AT[self.__name__]:
            raise TypeError(f"cupy.{self.__name__}.at only supports {', '.join(sorted(AT[self.__name__]))}")
        self.function.at(inside, index(indices, inside.shape), operand(b))

    def reduce(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return getattr(array, self._method("reduce", "sum", "prod"))(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        return getattr(array, self._method("accumulate", "cumsum", "cumprod"))(axis, dtype, out)

    def outer(self, a: Any, b: Any, **kwargs: Any) -> Any:
        return self(a.reshape(a.shape + (1,) * b.ndim), b, **kwargs)

    def _method(self, name: str, add: str, multiply: str) -> str:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.__name__}.{name}` is not supported yet")
        return add if self.__name__ == "add" else multiply


class Function:
    """A function of the stand-in: NumPy's, behind the signature of CuPy's."""

    def __init__(self, name: str):
        self.__name__, self.__signature__, self.function = name, SIGNATURES[name], attrgetter(name)(np)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        need_arrays(self.__name__, self.__signature__, args)
        if self.__name__ in ("take_along_axis", "put_along_axis"):
            args = self._wrapped(*args, **kwargs)
            kwargs = {}
        elif self.__name__ == "take":
            return StrictArray.take(*args, **kwargs)  # type: ignore[attr-defined]
        return call(self.__name__, self.function, self.__signature__, args, kwargs)

    def _wrapped(self, *args: Any, **kwargs: Any) -> tuple:
        bound = self.__signature__.bind(*args, **kwargs).arguments
        a, axis = operand(next(iter(bound.values()))), bound["axis"]
        size = a.size if axis is None else a.shape[axis]
        bound["indices"] = StrictArray(operand(bound["indices"]) % size if size else operand(bound["indices"]))
        return tuple(bound.values())


class Module:
    """The array module, what an operation's `run` gets as `xp`; with a prefix, a part of it such as `linalg`."""

    ndarray = StrictArray

    def __init__(self, prefix: str = ""):
        self._prefix = prefix
        self.__name__ = "strict" if not prefix else f"strict.{prefix}".removesuffix(".")

    def __getattr__(self, name: str) -> Any:
        found = member(self._prefix + name)
        setattr(self, name, found)
        return found

    @staticmethod
    def array(x: Any, dtype: Any = None, copy: bool = True, order: Any = "K", *, ndmin: int = 0) -> StrictArray:
        """A device array from anything; the one place, with `asarray`, where a NumPy array is taken."""
        given = x if isinstance(x, np.ndarray) else argument(x)
        return StrictArray(np.array(given, dtype, copy=copy or None, order=order, ndmin=ndmin))

    @staticmethod
    def asarray(x: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None) -> StrictArray:
        if isinstance(x, StrictArray) and not copy and (dtype is None or x._array.dtype == dtype):
            return x
        return Module.array(x, dtype, order=order)

    @staticmethod
    def asnumpy(x: Any) -> np.ndarray:
        """A NumPy copy."""
        return x.get() if isinstance(x, StrictArray) else np.asarray(x)

    @staticmethod
    def from_dlpack(x: Any) -> StrictArray:
        if not isinstance(x, StrictArray):
            raise TypeError(f"from_dlpack: the array is not on this device: {type(x)}")
        return StrictArray(x._array.view())

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, a stand-in for CuPy>"


@cache
def member(path: str) -> Any:
    """What the module has under this name."""
    if path in UFUNCS:
        return Ufunc(path)
    if path in SIGNATURES:
        return Function(path)
    if path in CONSTANTS:
        return getattr(np, path)
    if any(name.startswith(f"{path}.") for name in SIGNATURES):
        return Module(f"{path}.")
    if path in ABSENT:
        raise AttributeError(f"CuPy has no function {path!r}")
    raise AttributeError(
        f"CuPy has no function {path!r}, or the stand-in does not know it: its FUNCTIONS lists what it knows"
    )


module = Module()


def _forward_attributes() -> None:
    """Give StrictArray the attributes, methods and operators of CuPy's arrays."""
    for name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
        setattr(StrictArray, name, property(attrgetter(f"_array.{name}")))

    def forward_method(name: str, signature: inspect.Signature) -> None:
        def method(self: StrictArray, *args: Any, **kwargs: Any) -> Any:
            return call(name, getattr(self._array, name), signature, args, kwargs)

        setattr(StrictArray, name, method)

    def take(self: StrictArray, indices: Any, axis: Any = None, out: Any = None) -> Any:
        return call(  # wraps around, as indexing does
            "take", lambda i, a, o: self._array.take(i, a, o, mode="wrap"), METHOD_SIGNATURES["take"],
            (indices, axis, out), {},
        )  # fmt: skip

    def forward_operator(name: str) -> None:
        def operator(self: StrictArray, *others: Any) -> Any:
            if any(not isinstance(x, (StrictArray, np.ndarray, *NUMBERS)) for x in others):
                return NotImplemented
            return result(getattr(self._array, name)(*[operand(x) for x in others]))

        setattr(StrictArray, name, operator)

    def forward_in_place(name: str) -> None:
        def operator(self: StrictArray, other: Any) -> Any:
            getattr(self._array, name)(operand(other))
            return self

        setattr(StrictArray, name, operator)

    for name, signature in METHOD_SIGNATURES.items():
        forward_method(name, signature)
    StrictArray.take = take  # type: ignore[attr-defined]
    in_place = words("add sub mul truediv floordiv mod pow and or xor lshift rshift")
    binary = in_place | words("divmod matmul")
    for name in [*binary, *[f"r{n}" for n in binary], *words("lt le eq ne gt ge neg pos abs invert")]:
        forward_operator(f"__{name}__")
    for name in in_place:
        forward_in_place(f"__i{name}__")


METHOD_SIGNATURES = table(METHODS)
_forward_attributes()


def make_backend() -> Any:
    """The backend record."""
    from . import HERE, Backend, Device

    here = Device("strict")
    return Backend("strict", module, (StrictArray,), lambda a: here, lambda a: a.get(),
                   lambda a, d: StrictArray(np.array(a)), lambda d: None, lambda d: HERE)  # fmt: skip
