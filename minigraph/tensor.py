"""Tensors, and `bind`, the one verb that makes them.

A `Tensor` is an immutable n-d value and a node of the computational graph at the same time: it knows the operation and
the tensors that made it and, if it has been computed, its array. Everything that happens to a program happens in
`bind(op, *tensors, **attrs)`: array data is positional, metadata is keyword. If the inputs have values, the operation
runs; if one of them is symbolic (its value is only a `Spec`), the result's shape and dtype are inferred instead. That
single branch is the whole difference between dynamic and static mode.

`bind` has a fast path and a watched path. Ordinary define-by-run work on NumPy arrays, with gradients or without, takes
the first, which does the least that differentiation needs. As soon as somebody wants to watch (a trace, a recording,
hooks, another device), the context variable `mode` is set and `bind` takes the second, which does everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .errors import ArgumentError, DTypeError, MutationError, ShapeError, Site, TraceError, user_site
from .op import (
    NO_GRAD,
    OPS,
    ORDINARY,
    Op,
    Operand,
    Scope,
    Spec,
    common_device,
    explained,
    infer,
    leaked,
    mode,
    scope,
    spec_of,
)

if TYPE_CHECKING:
    from .variable import Variable

sequence = count(1).__next__  # every recorded node gets the next number: creation order is a topological order
_new, _mode, _scope = object.__new__, mode.get, scope.get
float_dtype = np.dtype("float32")  # what Python floats become
UFUNCS = {
    "pow": np.power,
    "matmul": np.matmul,
}  # operations whose `numpy` is a wrapper around the ufunc of their meaning
NUMBERS = (float, int, bool)  # Python's own numbers, whose dtype gives way to that of tensors
WEAK = {"weak": True}  # the attributes of a constant that was a Python number, whose dtype gives way to that of tensors
FREED: tuple = type("Freed", (tuple,), {"__repr__": lambda self: "<freed>"})()  # the inputs of a node after backward


if TYPE_CHECKING:
    from .ops.methods import Methods as _Methods  # which attaches its methods to Operators when it is imported
else:
    _Methods = Operand


class Operators(_Methods):
    """The operators and methods that `Tensor` and `Variable` share; each is the public function of the same meaning."""

    __slots__ = ()
    value: Any

    # ------------------------------------------------------------------------------------------------ description
    @property
    def shape(self) -> tuple[int, ...]:
        """The size along each axis."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type, a NumPy dtype."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return self.value.nbytes

    @property
    def device(self) -> backend.Device:
        """Where the value is: `device("cpu")` or `device("cuda:0")`."""
        value = self.value
        if type(value) is tuple:
            value = value[0]
        return value.device if type(value) is Spec else backend.device_of(value)

    @property
    def is_symbolic(self) -> bool:
        """True when there is no value yet, only a shape and a dtype (under tracing)."""
        value = self.value
        return type(value) is Spec or (type(value) is tuple and len(value) > 0 and type(value[0]) is Spec)

    def __len__(self) -> int:
        if not self.shape:
            raise DTypeError("len() of a 0-d tensor", expected="at least one axis", actual=repr(spec_of(self.value)))
        return self.shape[0]

    # ------------------------------------------------------------------------------------- leaving the framework
    def numpy(self) -> np.ndarray:
        """The value as a read-only NumPy array (copied from the device when it is elsewhere).

        Raises:
            TraceError: the tensor is symbolic: it has no value yet.
        """
        if self.is_symbolic:
            raise no_value(self, ".numpy()", "return the tensor from the compiled function and convert it outside")
        array = np.asarray(backend.backend_of(self.value).to_numpy(self.value)).view()
        array.flags.writeable = False
        return array

    def item(self) -> float | int | bool:
        """The value of a one-element tensor as a Python number."""
        if self.is_symbolic:
            raise no_value(self, "a Python number", "return the tensor and call .item() outside")
        if self.value.size != 1:
            raise ShapeError("item(): one element", expected="size == 1", actual=f"shape {self.shape}",
                             remedy="index one element first, or use .numpy().tolist()")  # fmt: skip
        return self.value.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iub" or self.shape != ():
            raise DTypeError(
                "only a 0-d integer tensor can be used as an index or a size", actual=repr(spec_of(self.value))
            )
        return int(self.item())

    def __bool__(self) -> bool:
        if self.is_symbolic:
            raise no_value(
                self,
                "true or false",
                "use mg.where to choose between values, mg.cond to choose between computations, mg.while_loop to "
                "repeat; or make the argument static: mg.compile(fn, static_argnames=...)",
            )
        if self.value.size != 1:
            raise ShapeError("a tensor with several elements is neither true nor false",
                             actual=repr(spec_of(self.value)), remedy="use mg.any(...) or mg.all(...)")  # fmt: skip
        return bool(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array.astype(dtype) if dtype is not None and dtype != array.dtype else array.copy() if copy else array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`np.sin(tensor)` means `mg.sin(tensor)`."""
        op = next((op for op in OPS.values() if ufunc in (op.numpy, UFUNCS.get(op.name))), None)
        if method != "__call__" or kwargs or op is None:
            raise DTypeError(f"numpy.{ufunc.__name__} cannot take a tensor here", actual=f"method {method!r}, {kwargs}",
                             remedy=f"use minigraph's function, or {ufunc.__name__}(tensor.numpy())")  # fmt: skip
        return bind(op, *lift_all(*inputs))

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.value.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.value.__dlpack_device__()

    # -------------------------------------------------------------------------------------------------- mutation
    def __setitem__(self, key: Any, value: Any) -> None:
        raise MutationError(
            "tensors are immutable: x[i] = v would change a value that the graph has already used",
            expected="a new tensor",
            actual=f"assignment to {spec_of(self.value)!r}",
            remedy="x = x.at[i].set(v)   (also .add, .multiply); for state that changes use mg.Variable and .assign",
        )

    def __iter__(self) -> Any:
        if not self.shape:
            raise DTypeError("a 0-d tensor cannot be iterated over", expected="at least one axis",
                             actual=repr(spec_of(self.value)))  # fmt: skip
        return (self[i] for i in range(self.shape[0]))

    def __hash__(self) -> int:
        return id(self)

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())


def no_value(x: Any, wanted: str, remedy: str) -> TraceError:
    """The error for asking a symbolic tensor for its value."""
    where = f", made at {x.site}" if getattr(x, "site", None) else ""
    return TraceError(
        f"a symbolic tensor has no value yet, so it cannot become {wanted}",
        expected="a tensor with a value",
        actual=f"{x!r}{where}: the function is being traced",
        remedy=remedy,
    )


class Tensor(Operators):
    """An immutable n-d array that remembers how it was made. Make one with `mg.tensor`.

    Attributes:
        value: the array; a `Spec` if the tensor is symbolic; a tuple of either for an operation with several results.
        op, inputs, attrs: the operation, the tensors and the metadata that made it (None, (), None for a constant).
        requires_grad: whether gradients flow to or through it.
        grad: for a leaf with `requires_grad`, the gradient accumulated by `backward()`; None before the first.
        scope, site, name: the module call and the user's line that made it (when recorded), and a name for people.

    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.], dtype=float32)
    """

    __slots__ = (
        "__weakref__", "_grad", "attrs", "inputs", "name", "op", "requires_grad", "scope", "seq", "site", "value",
    )  # fmt: skip

    op: Any  # an Op, or None; written so because `inputs` tells which, in a way that type checkers cannot follow
    inputs: tuple[Tensor, ...]
    attrs: Any  # dict[str, Any], or None when `op` is
    requires_grad: bool
    scope: Scope | None
    seq: int
    site: Site | None
    name: str | None
    _grad: Any  # an array or a Tensor, or None

    def __init__(self, value: Any, *, requires_grad: bool = False, name: str | None = None):
        if requires_grad and value.dtype.kind != "f":
            raise DTypeError(
                "requires_grad: only floating-point tensors have gradients",
                expected="float16, float32 or float64",
                actual=f"dtype {value.dtype}",
                remedy="use floats (1.0 instead of 1), or x.astype(mg.float32)",
            )
        self.value, self.requires_grad, self.name = value, requires_grad, name
        self.op = self.attrs = self.scope = self.site = self._grad = None
        self.inputs, self.seq = (), sequence()

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward()` at a leaf with `requires_grad`; None before the first."""
        g = self._grad
        return g if g is None or type(g) is Tensor else Tensor(g)

    @grad.setter
    def grad(self, g: Tensor | None) -> None:
        if g is not None and g.shape != self.shape:
            raise ShapeError("grad: the shape of the tensor", expected=f"{self.shape}", actual=f"{g.shape}")
        self._grad = g

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no recorded operation made."""
        return self.op is None or not (self.inputs or self.inputs is FREED)

    def backward(self, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Accumulate d(self)/d(leaf) into `.grad` of every leaf with `requires_grad`, then free the graph.

        Args:
            gradient: the gradient with respect to this tensor; 1 for a scalar.
            retain_graph: keep the graph for another backward.
            create_graph: make the gradients themselves differentiable.

        Raises:
            ShapeError: the tensor is not a scalar and no `gradient` was given.
            GraphError: nothing requires a gradient, or the graph has been freed by an earlier backward.
        """
        from .autodiff import backward

        backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same value, cut from the graph: `mg.stop_gradient(x)`."""
        from .autodiff import stop_gradient

        return stop_gradient(self)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Mark a leaf as one that collects gradients (the name is PyTorch's; the value does not change)."""
        if not self.is_leaf:
            raise ArgumentError("requires_grad_: only leaf tensors", actual=repr(self), remedy="use x.detach() first")
        self.requires_grad = Tensor(self.value, requires_grad=requires_grad).requires_grad
        return self

    def __repr__(self) -> str:
        from .printing import tensor_repr

        return tensor_repr(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        if self.inputs and self.inputs is not FREED:
            from .draw import repr_mimebundle

            return repr_mimebundle(self)
        return {"text/plain": repr(self)}

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self if not self.is_leaf else Tensor(self.value, requires_grad=self.requires_grad, name=self.name)

    def __reduce__(self) -> Any:
        raise DTypeError("tensors are not pickled", remedy="use mg.save and mg.load, or pickle tensor.numpy()")


# ------------------------------------------------------------------------------------------------------------ bind


def bind(op: Op, *inputs: Tensor, **attrs: Any) -> Tensor:
    """Apply `op` to tensors: run it if they have values, infer its result if one is symbolic. Record what is needed."""
    now = _mode()
    if (now is not None and now is not NO_GRAD) or not backend.only_numpy:
        return bind_watched(op, inputs, attrs)
    try:
        if attrs or len(inputs) > 2:
            value = op.numpy(*[x.value for x in inputs], **attrs)
        elif len(inputs) == 2:  # spelled out: most operations of a program come this way
            a, b = inputs
            value = op.numpy(a.value, b.value)
        else:
            value = op.numpy(*[x.value for x in inputs])
    except Exception as error:
        symbolic = any(x.is_symbolic for x in inputs)
        raise leaked(op, inputs) if symbolic else explained(op, inputs, attrs, error) from None
    t = _new(Tensor)
    t.value = value
    t._grad = t.site = t.name = None
    if now is None:
        for x in inputs:
            if x.requires_grad and op.vjp is not None:
                t.requires_grad = True
                t.op, t.inputs, t.attrs, t.seq, t.scope = op, inputs, attrs, sequence(), _scope()
                return t
    t.requires_grad = False
    t.op = t.attrs = t.scope = None
    t.inputs, t.seq = (), 0
    return t


def bind_watched(op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Tensor:
    """`bind` when somebody watches: under a trace or a recording, with hooks, without gradients, on any device."""
    now = _mode() or ORDINARY
    recorder = now.recorder
    t = _new(Tensor)
    t.op, t.inputs, t.attrs, t.scope, t.seq = op, inputs, attrs, _scope(), sequence()
    t.requires_grad = now.grad and op.vjp is not None and any([x.requires_grad for x in inputs])  # noqa: C419 - faster
    t.site = user_site() if now.sites is True else now.sites or None
    t._grad = t.name = None
    if any([x.is_symbolic for x in inputs]):  # noqa: C419 - twice as fast as a generator on one or two inputs
        if recorder is None or not recorder.symbolic:
            raise leaked(op, inputs)
        t.inputs = inputs = recorder.settle_weak(op, inputs, t)
        common_device(op, inputs)  # raises if they are on different devices
        t.value = infer(op, inputs, attrs)
    else:
        t.value = run_watched(t, now.hooks)
    if recorder is not None:
        recorder.add(t)
    elif not t.requires_grad:
        t.op, t.attrs, t.inputs = None, None, ()
    return t


def run_watched(node: Tensor, hooks: Sequence[Any]) -> Any:
    """Compute the value of a node from those of its inputs, on their device, telling the hooks before and after."""
    op, inputs, attrs = node.op, node.inputs, node.attrs
    for hook in hooks:
        hook.before(node)
    run = op.at(common_device(op, inputs))
    try:
        value = run(*[x.value for x in inputs], **attrs)
    except Exception as error:
        raise explained(op, inputs, attrs, error) from None
    for hook in hooks:
        hook.after(node, value)
    return value


# ------------------------------------------------------------------------------------------------ making tensors


def lift(value: Any, like: Operand | None = None) -> Tensor:
    """Make an operand a tensor: a variable is read, a number takes the dtype of `like`, an array is copied.

    Python numbers are weak, as in the Array API standard: `x * 2.0` keeps the dtype of a float32 `x`.
    """
    kind = type(value)
    if kind is Tensor:
        return value
    if (kind is float or kind is int or kind is bool) and like is not None:
        dtype = like.value.dtype
        if dtype.kind != "f" or kind is bool:
            dtype = np.result_type(dtype, kind(0))  # NumPy's rule for weak scalars
        return scalar(value, dtype, backend.cpu if backend.only_numpy else like.device)
    if isinstance(value, Operand):
        return value.read()
    if kind is np.ndarray and (now := _mode()) is not None and now.recorder is not None and now.recorder.symbolic:
        return now.recorder.capture_array(value)
    return tensor(value)


@lru_cache(maxsize=256)
def _constant(value: float, dtype: np.dtype) -> np.ndarray:
    """A number as an array. Programs use few numbers, many times."""
    return np.array(value, dtype)


def scalar(value: float, dtype: np.dtype, device: backend.Device = backend.cpu) -> Tensor:
    """A 0-d constant."""
    try:  # 0.0 equals -0.0 and must not stand for it
        array = _constant(value, dtype) if value else np.array(value, dtype)
    except OverflowError as error:
        raise DTypeError(
            f"the number {value} does not fit {dtype}",
            expected=f"a number that {dtype} holds",
            actual=str(error),
            remedy="convert the tensor first: x.astype(mg.int64)",
        ) from None
    t = _new(Tensor)
    t.value = array if device is backend.cpu else backend.transfer(array, device)
    t.requires_grad = False
    t.op = t.scope = t.site = t._grad = t.name = None
    t.attrs = WEAK
    t.inputs, t.seq = (), sequence()
    return t


def lift_all(*values: Any) -> list[Tensor]:
    """Lift several operands; numbers take the promoted dtype of the tensors and arrays among them."""
    lifted = [x if type(x) is Tensor or type(x) in NUMBERS else lift(x) for x in values]
    tensors = [x for x in lifted if type(x) is Tensor]
    if len(tensors) == len(lifted):
        return tensors
    like: Tensor | None = None
    for x in tensors:
        if like is None or np.result_type(like.dtype, x.dtype) == x.dtype:
            like = x
    return [x if type(x) is Tensor else lift(x, like) for x in lifted]


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, name: str | None = None
) -> Tensor:
    """Make a tensor from numbers, nested lists, a NumPy array or another tensor. The data are copied.

    Python floats become float32, ints int64; arrays keep their dtype.

    Args:
        data: numbers, (nested) sequences of numbers or tensors, or an array.
        dtype: element type; by default as described above.
        device: where to put it: "cpu" (default), "cuda", "cuda:1".
        requires_grad: collect gradients in `.grad` (floating point only).
        name: a name for drawings and error messages.

    Raises:
        DTypeError: strings, objects, complex numbers; gradients asked for integers.
        ShapeError: a ragged list.

    >>> mg.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]], dtype=int64)
    >>> mg.tensor(0.5)
    tensor(0.5, dtype=float32)
    """
    from .tree import flatten

    if isinstance(data, Operand):
        data = data.read() if type(data) is not Tensor else data
        if data.is_symbolic:
            return data if dtype is None else data.astype(dtype)
        data = data.value
    elif isinstance(data, list | tuple) and any(isinstance(x, Operand) for x in flatten(data)[0]):
        if any(isinstance(x, Operand) and (x.is_symbolic or x.requires_grad) for x in flatten(data)[0]):
            return _stack_nested(data, dtype)
        data = _to_nested_lists(data)
    array = to_array(data, dtype)
    if type(requires_grad) is not bool:
        raise DTypeError("tensor: requires_grad", expected="True or False", actual=_short(requires_grad))
    where = backend.device(device) if device is not None else backend.device_of(array)
    if where != backend.device_of(array):
        array = backend.transfer(array, where)
    return Tensor(array, requires_grad=requires_grad, name=name)


def _stack_nested(data: Any, dtype: Any) -> Tensor:
    """Build a tensor from nested lists that hold tensors with history, keeping the history."""
    from .ops import astype, stack

    rows = [_stack_nested(x, dtype) if isinstance(x, list | tuple) else lift(x) for x in data]
    result = stack(rows)
    return result if dtype is None else astype(result, dtype)


def _to_nested_lists(data: Any) -> Any:
    return [_to_nested_lists(x) for x in data] if isinstance(data, list | tuple) else (
        data.numpy() if isinstance(data, Operand) else data
    )  # fmt: skip


def to_array(data: Any, dtype: Any = None) -> Any:
    """A fresh array of numbers made of `data`, or the error that says what is wrong with it."""
    home = backend.backend_of(data) if hasattr(data, "dtype") and hasattr(data, "shape") else None
    if home is not None and home.kind != "cpu":
        with backend.on(home.device_of(data)):
            return home.xp.array(data, dtype=dtype)
    try:
        array = np.array(data, dtype=dtype)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ShapeError("tensor: the nested list is ragged", expected="rows of equal length", actual=_ragged(data),
                             remedy="pad the rows, or keep a Python list of tensors") from None  # fmt: skip
        raise DTypeError(f"tensor: {error}", actual=_short(data)) from None
    except (TypeError, OverflowError) as error:
        raise DTypeError(f"tensor: {error}", actual=_short(data), remedy="numbers or arrays of numbers") from None
    if array.dtype.kind not in "biuf":
        remedies = {
            "U": "convert strings to numbers first",
            "S": "convert strings to numbers first",
            "M": "convert dates to numbers first",
            "c": "complex numbers are not supported: keep real and imaginary parts as two tensors",
        }
        raise DTypeError(
            "tensor: elements must be numbers",
            expected="bool, integer or floating point",
            actual=f"{_short(data)} (dtype {array.dtype})",
            remedy=remedies.get(array.dtype.kind, "convert the objects to numbers first"),
        )
    if array.dtype.itemsize > 8:
        raise DTypeError("tensor: no extended precision", expected="at most 64 bits", actual=str(array.dtype))
    if dtype is None and array.dtype.kind == "f" and not hasattr(data, "dtype") and not _holds_arrays(data):
        array = array.astype(float_dtype)
    return array


def _holds_arrays(data: Any) -> bool:
    """Whether the first element of nested lists is an array or NumPy scalar, whose dtype counts."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return hasattr(data, "dtype")


def _ragged(data: Any) -> str:
    lengths = [len(row) if isinstance(row, list | tuple) else "a number" for row in data]
    return f"row lengths {lengths[:8]}{' ...' if len(lengths) > 8 else ''}"


def _short(data: Any) -> str:
    text = f"{type(data).__name__} {data!r}"
    return text if len(text) <= 60 else text[:57] + "..."


def asarray(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `data`; a tensor that fits already is returned as it is. Arguments and errors as for `mg.tensor`.

    >>> x = mg.tensor([1.0])
    >>> mg.asarray(x) is x
    True
    """
    if isinstance(data, Operand):
        from .ops.creation import number_dtype

        t = lift(data)
        t = t if dtype is None or t.dtype == number_dtype("asarray", dtype) else t.astype(dtype)
        return t if device is None or t.device == backend.device(device) else t.to(device)
    return tensor(data, dtype=dtype, device=device)


def variable_of(t: Tensor) -> Variable | None:
    """The variable that a leaf tensor was read from, or None."""
    return t.attrs["variable"] if t.attrs and "variable" in t.attrs else None
