"""An operation, defined once.

Everything that the project knows about an operation stands in one record, `Op`: how to run it on arrays, what shape and
dtype come out, its gradient rule, its formula, sample inputs for its tests. There is no second definition for static
mode, for the GPU, for second derivatives or for the drawing; they all read this one. `tensor.bind` applies it.

Beside it stand the small things that an application needs: `Spec` (what is known of a value before there is one),
`Mode` (who is watching), `Scope` (which module call we are in), and the words of an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .errors import ArgumentError, BoundsError, DeviceError, DTypeError, MinigraphError, ShapeError, Site, TraceError

if TYPE_CHECKING:
    from .tensor import Tensor


class Spec:
    """What is known of a tensor that has no value yet: its shape, dtype and device.

    It stands where an array would stand (`tensor.value`), has the array's attributes, and refuses to be computed with.

    >>> mg.Spec((64, 10), "float32")
    float32[64, 10]
    """

    __slots__ = ("device", "dtype", "shape")
    __array_ufunc__ = None

    def __init__(self, shape: Sequence[int], dtype: Any = "float32", device: backend.Device = backend.cpu):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.device = device

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return self.size * self.dtype.itemsize

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a Spec has no value")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Spec)
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.device == other.device
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.device))

    def __repr__(self) -> str:
        place = "" if self.device.kind == "cpu" else f" on {self.device}"
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]{place}"


def spec_of(value: Any) -> Any:
    """The Spec of an array (or of each array of a tuple); a Spec is returned as it is."""
    if type(value) is Spec:
        return value
    if type(value) is tuple:
        return tuple(map(spec_of, value))
    return Spec(value.shape, value.dtype, backend.device_of(value))


def infer_by_running(run: Callable) -> Callable:
    """An `infer` for an operation whose author gave none: run it on ones of the same shapes and look at the result.

    Right for every operation whose result shape depends on shapes only; wasteful, so the catalogue does not use it.
    """

    def infer(*specs: Spec, **attrs: Any) -> Any:
        result = run(np, *[np.ones(s.shape, s.dtype) for s in specs], **attrs)
        device = specs[0].device if specs else backend.cpu
        if type(result) is tuple:
            return tuple(Spec(np.shape(r), np.asarray(r).dtype, device) for r in result)
        return Spec(np.shape(result), np.asarray(result).dtype, device)

    return infer


Rule = Callable[..., Any]
OPS: dict[str, Op] = {}


class Op:
    """One primitive operation: everything that the project knows about it, in one place.

    Args:
        name: the public function's name (`mg.<name>`).
        run: `run(xp, *arrays, **attrs)` computes the result with the array module `xp` (NumPy, CuPy, or the strict
            stand-in). It never writes to its inputs.
        infer: `infer(*specs, **attrs)` gives the result's `Spec` and raises the error that teaches; a TraceError if
            the shape depends on values. Without one, `run` is tried on ones of the same shapes.
        vjp: the gradient rule, one function per array input: `rule(F, g, y, *inputs, **attrs)` returns the gradient
            with respect to that input, where `g` is the gradient with respect to the result `y`, and `F` is a namespace
            of the public functions: on plain arrays when only values are wanted, on tensors when the gradient must
            itself be a graph. None for an input without gradient. An operation with any number of inputs, or whose
            gradients share their work, gives one function `rule(F, needs, g, y, *inputs, **attrs)` that returns one
            gradient for each input, None where `needs` is false. With several results, `g` is a list of gradients,
            None where none arrived (`autodiff.complete` puts zeros there). None: not differentiable.
            Un-broadcasting and dtype conversion of gradients happen centrally (`autodiff.fit`).
        saves: names of the inputs, and "y" for the result, whose *values* the rules read.
        numpy: `numpy(*arrays, **attrs)`, a more direct spelling of `run` for NumPy, where there is one (a bare ufunc).
        into: `into(*arrays, out=buffer, **attrs)` computes into a given NumPy array; ufuncs do so by themselves.
        expression: for elementwise operations, the scalar expression in the input names, for code generators.
        latex, derivative: the formula, and the local derivative by input, with input names in braces.
        elementwise: each result element depends on the elements at the same (broadcast) position only.
        view: the result may share the memory of the first input.
        barrier: may not be merged with an equal operation, removed or computed early (checkpoints).
        flops: `flops(*specs, **attrs)` -> floating-point operations; elementwise operations count one per element.
        samples: valid inputs, `samples(rng)` -> iterable of `(arrays, attrs)`; the test family starts from them.

    Raises:
        ArgumentError: the catalogue has an operation of this name.

    >>> mg.OPS["sin"]
    Op(sin(x))
    """

    __slots__ = (
        "_bound", "arguments", "barrier", "builtin", "checked", "derivative", "elementwise", "expression", "flops",
        "infer", "into", "latex", "name", "numpy", "run", "samples", "saves", "variadic", "view", "vjp",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        run: Callable,
        *,
        infer: Callable | None = None,
        vjp: Sequence[Rule | None] | Rule | None = None,
        saves: Sequence[str] = (),
        numpy: Callable | None = None,
        into: Callable | None = None,
        expression: str | None = None,
        latex: str | None = None,
        derivative: Sequence[str] = (),
        elementwise: bool = False,
        view: bool = False,
        barrier: bool = False,
        flops: Callable | None = None,
        samples: Callable[[np.random.Generator], Iterator] | None = None,
    ):
        if name in OPS and OPS[name].builtin:
            raise ArgumentError(
                f"op {name!r} exists already", remedy="choose another name: a catalogue op is never replaced"
            )
        parameters = list(inspect.signature(run).parameters.values())[1:]
        self.arguments = tuple(
            p.name for p in parameters if p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD
        )
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.name, self.run, self.infer = name, run, infer or infer_by_running(run)
        self.checked = infer is not None
        self.vjp, self.saves = (vjp if vjp is None or callable(vjp) else tuple(vjp)), tuple(saves)
        self.numpy, self.into = numpy or partial(run, np), into
        self.expression, self.latex, self.derivative = expression, latex, tuple(derivative)
        self.elementwise, self.view, self.barrier, self.flops, self.samples = elementwise, view, barrier, flops, samples
        self.builtin: bool = (run.__module__ or "").startswith(f"{__package__}.")  # None: made by exec
        self._bound: dict[Any, Callable] = {np: self.numpy}
        OPS[name] = self

    def on(self, xp: Any) -> Callable:
        """The operation on arrays of the module `xp`: `on(xp)(*arrays, **attrs)`."""
        try:
            return self._bound[xp]
        except KeyError:
            bound = self._bound[xp] = partial(self.run, xp)
            return bound

    def at(self, device: backend.Device) -> Callable:
        """The operation on arrays that live on `device`: `at(device)(*arrays, **attrs)`."""
        try:
            return self._bound[device]
        except KeyError:
            pass
        run = bound = self.on(backend.backends[device.kind].xp)
        if device.kind == "cuda":  # there may be several: make this one CuPy's current device meanwhile

            def bound(*arrays: Any, **attrs: Any) -> Any:
                with backend.on(device):
                    return run(*arrays, **attrs)

        self._bound[device] = bound
        return bound

    def __call__(self, *inputs: Any, **attrs: Any) -> Tensor:
        """Apply the operation to tensors, arrays or numbers.

        An array library may accept what `infer` refuses, so `infer` is asked first, if the author gave one: both modes
        refuse the same. (The public functions of the catalogue check what they have to, and call `bind` directly.)
        """
        from .tensor import bind, lift_all  # tensors are defined in terms of operations

        tensors = lift_all(*inputs)
        if self.checked:
            with suppress(TraceError):  # the shape depends on values; where they are not known, `bind` says so
                infer(self, tensors, attrs)
        return bind(self, *tensors, **attrs)

    def defvjp(self, *rules: Rule | None, saves: Sequence[str] | None = None) -> Op:
        """Give an operation made with `mg.op` its gradient rules, one per input.

        `saves` names what the rules read; everything, unless it is given.
        """
        if len(rules) != len(self.arguments):
            raise ArgumentError(
                f"{self.name}.defvjp: one rule per input",
                expected=f"{len(self.arguments)} rules, for {', '.join(self.arguments)}",
                actual=f"{len(rules)}",
                remedy="pass None for an input that has no gradient",
            )
        self.vjp = tuple(rules)
        self.saves = (*self.arguments, "y") if saves is None else tuple(saves)
        return self

    def __repr__(self) -> str:
        return f"Op({self.name}({'*' if self.variadic else ''}{', '.join(self.arguments)}))"


def op(run: Callable | None = None, **facts: Any) -> Any:
    """Define an operation of your own: a decorator on its `run(xp, *arrays, **attrs)`.

    The keywords are those of `Op`. Give the gradient with `.defvjp`, then check everything with `mg.debug.opcheck`.

    Raises:
        ArgumentError: the catalogue has an operation of this name.

    >>> @mg.op
    ... def softsign(xp, x):
    ...     return x / (1 + abs(x))
    >>> _ = softsign.defvjp(lambda F, g, y, x: g / (1 + F.abs(x)) ** 2)
    >>> mg.grad(softsign)(mg.tensor(1.0))
    tensor(0.25, dtype=float32)
    """
    if run is None:
        return partial(op, **facts)
    return Op(run.__name__, run, **facts)


# ---------------------------------------------------------------------------------------------------------- modes


@dataclass(frozen=True, slots=True)
class Mode:
    """How `bind` should behave in this context, when that is not the ordinary way."""

    grad: bool = True  # record what gradients need
    recorder: Any = None  # who collects nodes: a `trace.Recorder`, or what has its methods; None when nobody does
    hooks: tuple[Any, ...] = ()  # who is told before and after each node
    sites: bool | Site | None = False  # note a line at each node: True, the caller's; in a replay, the one it had


mode: ContextVar[Mode | None] = ContextVar("mode", default=None)  # None: ordinary define-by-run
ORDINARY = Mode()


class modified:
    """Context manager: the current mode with some fields changed. `with modified(grad=False): ...`"""

    def __init__(self, **changes: Any):
        self.changes = changes
        self.tokens: list[Any] = []

    def __enter__(self) -> Mode:
        new = replace(mode.get() or ORDINARY, **self.changes)
        self.tokens.append(mode.set(new))
        return new

    def __exit__(self, *exc: object) -> None:
        mode.reset(self.tokens.pop())


NO_GRAD = Mode(grad=False)


class no_grad(ContextDecorator):
    """Record nothing for gradients: a context manager and a decorator. Results do not require gradients.

    >>> w = mg.Variable(2.0, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = w * 3.0
    >>> y.requires_grad
    False
    """

    def __enter__(self) -> None:
        now = mode.get()
        new = NO_GRAD if now is None or now is NO_GRAD else replace(now, grad=False)
        self.tokens = [*getattr(self, "tokens", ()), mode.set(new)]

    def __exit__(self, *exc: object) -> None:
        mode.reset(self.tokens.pop())


class enable_grad(ContextDecorator):
    """Undo `no_grad` inside it: a context manager and a decorator.

    >>> w = mg.Variable(2.0, requires_grad=True)
    >>> with mg.no_grad(), mg.enable_grad():
    ...     y = w * 3.0
    >>> y.requires_grad
    True
    """

    def __enter__(self) -> None:
        self.tokens = [*getattr(self, "tokens", ()), mode.set(replace(mode.get() or ORDINARY, grad=True))]

    def __exit__(self, *exc: object) -> None:
        mode.reset(self.tokens.pop())


class Scope:
    """Which module call a node belongs to: a linked list of names, `str(scope) == "net.layers.0"`."""

    __slots__ = ("_children", "kind", "name", "parent")

    def __init__(self, parent: Scope | None, name: str, kind: str):
        self.parent, self.name, self.kind = parent, name, kind
        self._children: dict[tuple[str, str], Scope] = {}

    def child(self, name: str, kind: str) -> Scope:
        """The scope below this one; always the same object for the same name and kind."""
        try:
            return self._children[name, kind]
        except KeyError:
            return self._children.setdefault((name, kind), Scope(self, name, kind))

    @property
    def path(self) -> tuple[str, ...]:
        """Names from the outermost scope to this one."""
        names: list[str] = []
        scope: Scope | None = self
        while scope is not None and scope.name:
            names.append(scope.name)
            scope = scope.parent
        return tuple(reversed(names))

    def __str__(self) -> str:
        return ".".join(self.path)

    def __repr__(self) -> str:
        return f"Scope({self}: {self.kind})"


ROOT = Scope(None, "", "")
scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


class named_scope:
    """Context manager that gives the nodes made inside it a common name, so that drawings fold them into one box.

    >>> with mg.record() as g, mg.named_scope("normalise"):
    ...     y = (mg.tensor([1.0, 3.0]) - 2.0) / 2.0
    >>> str(g.nodes[-1].scope)
    'normalise'
    """

    def __init__(self, name: str, kind: str = "scope"):
        self.name, self.kind = name, kind

    def __enter__(self) -> None:
        self.token = scope.set((scope.get() or ROOT).child(self.name, self.kind))

    def __exit__(self, *exc: object) -> None:
        scope.reset(self.token)


# -------------------------------------------------------------------------------------------- what an operation says


class Operand:
    """Base of what stands for a tensor in expressions: `Tensor` and `Variable`."""

    __slots__ = ()

    if TYPE_CHECKING:  # what both have, for readers and type checkers
        requires_grad: bool

        @property
        def value(self) -> Any: ...

        @property
        def device(self) -> backend.Device: ...

        @property
        def is_symbolic(self) -> bool: ...

        def read(self) -> Tensor: ...

        def numpy(self) -> np.ndarray: ...


def infer(op: Op, inputs: Sequence[Tensor], attrs: dict[str, Any]) -> Any:
    """The `Spec` of the result (a tuple of them for several results), or the error that teaches."""
    try:
        result = op.infer(*[spec_of(x.value) for x in inputs], **attrs)
    except Exception as error:
        raise explained(op, inputs, attrs, error) from None
    if inputs and type(result) is Spec and "device" not in attrs and result.device != (device := inputs[0].device):
        result = Spec(result.shape, result.dtype, device)
    return result


def common_device(op: Op, inputs: Sequence[Tensor]) -> backend.Device:
    """The one device that all inputs live on; a DeviceError that names two that differ."""
    if not inputs:
        return backend.cpu
    device = inputs[0].device
    for x in inputs[1:]:
        if x.device != device:
            raise DeviceError(
                f"{op.name}: the operands are on different devices",
                expected="all on one device",
                actual=", ".join(
                    f"{name}: {Spec(t.shape, t.dtype)!r} on {t.device}" + (f" ({t.name})" if t.name else "")
                    for name, t in zip(argument_names(op, len(inputs)), inputs, strict=True)
                ),
                remedy=f'move one of them: .to("{device}") or .to("{x.device}")',
            )
    return device


def argument_names(op: Op, number: int) -> list[str]:
    """The names of `number` inputs of an operation: `x1, x2`, or `arrays[0], arrays[1], ...` when it is variadic."""
    if not op.variadic and len(op.arguments) == number:
        return list(op.arguments)
    fixed = list(op.arguments[:-1]) if op.variadic else list(op.arguments)
    last = op.arguments[-1] if op.arguments else "x"
    return (fixed + [f"{last}[{i}]" for i in range(number - len(fixed))])[:number]


def describe(op: Op, inputs: Sequence[Tensor], attrs: dict[str, Any]) -> str:
    """`x1: float32[64, 128], x2: float32[64, 10], axis=1`: the arguments of a call, for error messages."""
    parts = [
        f"{name}: {spec_of(x.value)!r}" + (f" ({x.name})" if x.name else "")
        for name, x in zip(argument_names(op, len(inputs)), inputs, strict=True)
    ]
    return ", ".join(parts + [f"{k}={v!r}" for k, v in attrs.items()])


def leaked(op: Op, inputs: Sequence[Tensor]) -> MinigraphError:
    """The error for a symbolic tensor that is used where nothing is being traced."""
    x = next(x for x in inputs if x.is_symbolic)
    born = f", made at {x.site}" if x.site else ""
    return TraceError(
        f"{op.name}: an operand is a symbolic tensor of a trace that has ended",
        expected="a tensor with a value",
        actual=f"{x!r}{born}",
        remedy="return it from the compiled function instead of storing it elsewhere; "
        "a define-then-run graph is built inside `with mg.Graph():` and run afterwards with graph.run({...})",
    )


def explained(op: Op, inputs: Sequence[Tensor], attrs: dict[str, Any], error: Exception) -> Exception:
    """Turn what an array library raised into an error that teaches.

    `infer` knows the relation that should have held and says so; what it has no objection to is reported with the
    original message. Errors that already teach, running out of memory, and warnings that were asked to be
    errors pass through.
    """
    if isinstance(error, MinigraphError | MemoryError | Warning | FloatingPointError):
        return error
    try:
        op.infer(*[spec_of(x.value) for x in inputs], **attrs)
    except MinigraphError as better:
        return better
    except Exception as plainer:
        error = plainer
    kind = {IndexError: BoundsError, TypeError: DTypeError}.get(type(error), ShapeError)
    return kind(f"{op.name}: {error}", actual=describe(op, inputs, attrs))
