"""A stand-in for CuPy that runs on the CPU and refuses what CuPy refuses.

Code for a GPU goes wrong in a few ways that no CPU shows: a NumPy array slips in among device arrays, a device array is
converted to NumPy without anybody asking, a function is called that CuPy does not have. Here these are errors on every
machine, so the tests of all operations run on this module, too, and on a GPU the same tests run on CuPy itself.

The rules are CuPy's, and in one place stricter: CuPy lets `numpy.exp(device_array)` pass by handing it over to itself,
this module refuses every NumPy function, because an operation's `run` is to use the module it was given.

- No implicit conversion: `numpy.asarray(x)` raises; `x.get()` and `x.item()` convert.
- Operands are device arrays, Python numbers or NumPy scalars; a `numpy.ndarray` among them raises.
- Full reductions give 0-d arrays, not scalars.
- An index is made of device arrays, integers, slices, None and Ellipsis.
- Only functions of the list below exist, under the names that CuPy has had since before NumPy 2.
- Reductions take no `where` or `initial`; the only method of a ufunc is `at`, where CuPy has it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

ELEMENTWISE = [
    "abs",
    "absolute",
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "floor_divide",
    "remainder",
    "mod",
    "negative",
    "positive",
    "power",
    "square",
    "sqrt",
    "cbrt",
    "reciprocal",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "arctan2",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "hypot",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "floor",
    "ceil",
    "rint",
    "trunc",
    "sign",
    "signbit",
    "copysign",
    "isnan",
    "isinf",
    "isfinite",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_not",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "invert",
    "left_shift",
    "right_shift",
    "logaddexp",
    "ldexp",
    "frexp",
    "nextafter",
]
REDUCTIONS = [
    "sum",
    "prod",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "any",
    "all",
    "cumsum",
    "cumprod",
    "count_nonzero",
]
OTHERS = [
    "array",
    "asarray",
    "ascontiguousarray",
    "asfortranarray",
    "zeros",
    "ones",
    "full",
    "empty",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "arange",
    "linspace",
    "eye",
    "identity",
    "tri",
    "tril",
    "triu",
    "diag",
    "diagonal",
    "trace",
    "where",
    "clip",
    "round",
    "around",
    "nan_to_num",
    "reshape",
    "ravel",
    "transpose",
    "swapaxes",
    "moveaxis",
    "expand_dims",
    "squeeze",
    "broadcast_to",
    "broadcast_arrays",
    "concatenate",
    "stack",
    "split",
    "flip",
    "roll",
    "tile",
    "repeat",
    "pad",
    "take",
    "take_along_axis",
    "nonzero",
    "flatnonzero",
    "argwhere",
    "searchsorted",
    "sort",
    "argsort",
    "unique",
    "bincount",
    "matmul",
    "dot",
    "vdot",
    "tensordot",
    "einsum",
    "inner",
    "outer",
    "kron",
    "copyto",
    "may_share_memory",
    "shares_memory",
    "result_type",
    "from_dlpack",
    "atleast_1d",
    "meshgrid",
    "isclose",
    "allclose",
    "array_equal",
    "put_along_axis",
]
CONSTANTS = [
    "pi",
    "e",
    "inf",
    "nan",
    "newaxis",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool_",
    "dtype",
    "floating",
    "integer",
    "bool",
    "ndim",
    "shape",
    "issubdtype",
    "finfo",
    "iinfo",
    "promote_types",
]
UFUNCS_WITH_AT = ("add", "maximum", "minimum", "subtract")


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

    def __array_ufunc__(self, ufunc: Any, *args: Any, **kwargs: Any) -> Any:
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

    def __index__(self) -> int:
        return self._array.__index__()

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:
        return (StrictArray(np.asarray(row)) for row in self._array)

    def __getitem__(self, key: Any) -> StrictArray:
        return StrictArray(np.asarray(self._array[index(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[index(key)] = operand(value)

    @property
    def base(self) -> Any:
        return self._array.base

    @property
    def T(self) -> StrictArray:  # noqa: N802 - its name everywhere
        return StrictArray(self._array.T)

    def __repr__(self) -> str:
        return f"strict {self._array!r}"


def operand(x: Any) -> Any:
    """What NumPy computes with, for an operand that CuPy would accept; a TypeError for any other."""
    if isinstance(x, StrictArray):
        return x._array
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list):
        return [operand(v) for v in x]
    if isinstance(x, tuple):
        return tuple([operand(v) for v in x])
    return x


def index(key: Any) -> Any:
    """An index that CuPy would accept."""
    if isinstance(key, tuple):
        return tuple([index(k) for k in key])
    if isinstance(key, np.ndarray):
        raise TypeError("a NumPy array as an index of a device array")
    return key._array if isinstance(key, StrictArray) else key


def result(x: Any) -> Any:
    """A result as the stand-in gives it: arrays and scalars become its own arrays."""
    if isinstance(x, np.ndarray | np.generic):
        return StrictArray(np.asarray(x))
    if isinstance(x, tuple | list):
        return type(x)([result(v) for v in x]) if not hasattr(x, "_fields") else tuple(map(result, x))
    return x


def strict(function: Callable, name: str) -> Callable:
    """A NumPy function as a function of the stand-in."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if name in REDUCTIONS and ("where" in kwargs or "initial" in kwargs):
            raise TypeError(
                f"{name}() got an unexpected keyword argument: CuPy's reductions take no where and no initial"
            )
        return result(function(*[operand(a) for a in args], **{k: operand(v) for k, v in kwargs.items()}))

    call.__name__ = name
    return call


class Ufunc:
    """A ufunc of the stand-in: it can be called, and some have `at`."""

    def __init__(self, name: str):
        self.__name__, self.function = name, getattr(np, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is not None:
            self.function(*[operand(a) for a in args], out=operand(out), **kwargs)
            return out
        given = [operand(a) for a in args]
        if len(given) > self.function.nin:
            self.function(*given, **kwargs)
            return args[self.function.nin]
        return result(self.function(*given, **kwargs))

    def __getattr__(self, name: str) -> Any:
        if name == "at" and self.__name__ in UFUNCS_WITH_AT:
            return lambda a, indices, b=None: self.function.at(operand(a), index(indices), operand(b))
        raise AttributeError(f"CuPy's {self.__name__} has no method {name!r}")


class StrideTricks:
    """`lib.stride_tricks`."""

    @staticmethod
    def as_strided(x: StrictArray, shape: Any = None, strides: Any = None) -> StrictArray:
        return StrictArray(np.lib.stride_tricks.as_strided(operand(x), shape, strides))


class Lib:
    """`lib`."""

    stride_tricks = StrideTricks


class Module:
    """The array module: what an operation's `run` gets as `xp`."""

    __name__ = "strict"
    ndarray = StrictArray
    lib = Lib

    def __getattr__(self, name: str) -> Any:
        if name in ELEMENTWISE:
            found: Any = Ufunc(name)
        elif name in REDUCTIONS or name in OTHERS:
            found = strict(getattr(np, name), name)
        elif name in CONSTANTS:
            found = getattr(np, name)
        else:
            raise AttributeError(f"CuPy has no function {name!r}, or not under this name")
        setattr(self, name, found)
        return found

    def array(self, x: Any, dtype: Any = None, copy: bool = True) -> StrictArray:
        return StrictArray(np.array(x if isinstance(x, np.ndarray) else operand(x), dtype=dtype))  # explicit: allowed

    def asarray(self, x: Any, dtype: Any = None) -> StrictArray:
        if isinstance(x, StrictArray) and (dtype is None or x._array.dtype == dtype):
            return x
        return self.array(x, dtype)

    def __repr__(self) -> str:
        return "<module 'strict', a stand-in for CuPy>"


module = Module()


def _forward_attributes() -> None:
    """Give StrictArray the attributes, methods and operators of an array, each through `operand` and `result`."""
    for name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
        setattr(StrictArray, name, property(attrgetter(f"_array.{name}")))
    methods = [
        "astype",
        "reshape",
        "ravel",
        "flatten",
        "copy",
        "sum",
        "prod",
        "max",
        "min",
        "mean",
        "var",
        "std",
        "any",
        "all",
        "argmax",
        "argmin",
        "argsort",
        "cumsum",
        "transpose",
        "swapaxes",
        "squeeze",
        "view",
        "take",
        "repeat",
        "dot",
        "round",
        "clip",
        "nonzero",
        "diagonal",
        "trace",
        "fill",
    ]
    for name in methods:

        def method(self: Any, *args: Any, name: str = name, **kwargs: Any) -> Any:
            return strict(getattr(self._array, name), name)(*args, **kwargs)

        setattr(StrictArray, name, method)
    operators = [
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
    ]
    for name in [
        *operators,
        *[f"r{n}" for n in operators],
        *["lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert"],
    ]:

        def operator(self: Any, *others: Any, name: str = f"__{name}__") -> Any:
            return result(getattr(self._array, name)(*[operand(x) for x in others]))

        setattr(StrictArray, f"__{name}__", operator)
    for name in operators:

        def in_place(self: Any, other: Any, name: str = f"__i{name}__") -> Any:
            getattr(self._array, name)(operand(other))
            return self

        setattr(StrictArray, f"__i{name}__", in_place)


_forward_attributes()


def make_backend() -> Any:
    """The backend record."""
    from . import Backend, Device

    here = Device("strict")
    return Backend("strict", module, (StrictArray,), lambda a: here, lambda a: a.get(),
                   lambda a, d: StrictArray(np.array(a)), lambda d: None)  # fmt: skip
