"""Static mode: trace a Python function once, then run the graph.

`mg.compile(fn)` calls `fn` with symbolic tensors, for which `bind` infers instead of computing, and collects the nodes.
Variables that the function reads become inputs of the graph and variables that it assigns become outputs, so a whole
training step (forward, `loss.backward()`, `optimizer.step()`, dropout, batch-norm statistics) compiles unchanged. The
graph is optimised by the passes, planned and turned into straight-line code once for each *signature*: the shapes,
dtypes and devices of the tensors among the arguments, and the values of everything else.

What a trace cannot see would silently go wrong, so it is watched: numbers and objects that the function finds in its
closure, in global variables and on modules are noted with their values (`guards`), and a later call in which one of
them has changed traces again and says so. A function that changes such a value while it is being traced, or draws
random numbers from NumPy, is refused: that would happen once and never again.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextvars import Token
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import backend
from . import tree as pytree
from .autodiff import history, stop_gradient
from .compiler import Program, Step
from .compiler.entry import MISSED, load, write_entry
from .compiler.explain import Explanation, explain
from .compiler.passes.rematerialize import bytes_of
from .compiler.profile import Profile, profile
from .errors import ArgumentError, GraphError, TraceError
from .graph import Graph, copy_node
from .guards import (
    Attribute,
    Guard,
    Watch,
    array_guards,
    attribute_guards,
    guards_of,
    random_states,
    shown,
    snapshot,
    unchanged,
)
from .op import ORDINARY, Mode, Op, Operand, Spec, mode, spec_of
from .tensor import FREED, Tensor, lift, sequence, tensor
from .variable import INPUT, READ, Gradient, Variable, leaf

__all__ = ["Compiled", "compile", "record"]


# ------------------------------------------------------------------------------------------------------ recorders


class Recorder:
    """Who collects the nodes that `bind` makes.

    `symbolic`: symbolic operands are allowed (a trace). `virtual`: variables are read from and assigned in the
    recorder, not in the world. `shares_nodes`: the graph may consist of the very nodes that were collected.
    """

    symbolic = False
    virtual = False
    shares_nodes = True

    def __init__(self, name: str = "graph"):
        self.name = name
        self.nodes: list[Tensor] = []
        self.reads: dict[Any, Tensor | None] = {}  # None: a gradient that is not there
        self.assigns: dict[Any, Tensor | None] = {}
        self.stored: dict[tuple[int, int], Tensor] = {}  # all that was assigned, by variable and value
        self.used_up: dict[int, Tensor] = {}
        self.cells: dict[int, Variable] = {}  # by id of a node that reads a variable after it was assigned
        self.start = sequence()

    def add(self, node: Tensor) -> None:
        self.nodes.append(node)

    def assign(self, cell: Any, t: Tensor | None) -> None:
        self.assigns[cell] = t
        if t is not None:
            self.stored[id(cell), id(t.value)] = t

    def assigned(self, x: Tensor) -> Tensor | None:
        """If `x` reads a variable that was assigned in the meantime: the tensor that was assigned."""
        return None

    def mark_freed(self, nodes: Iterable[Tensor], error: Callable[[Tensor], Exception], *, keep: bool) -> None:
        """Backward went through `nodes`: a second one is an error, as it is when nobody records."""
        found = {id(n): n for n in nodes}
        for key, n in found.items():
            if key in self.used_up:
                raise error(n)
        if not keep:
            self.used_up.update(found)

    def graph(
        self,
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor] = (),
        captured: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Graph:
        """The recorded nodes as a Graph.

        `captured` collects symbolic tensors of an enclosing trace, each with the new input that stands for it; tensors
        with values that were made outside become constants.
        """
        swapped: dict[int, Tensor] = {}
        order: list[Tensor] = []
        own = {id(n) for n in self.nodes}
        start = list(inputs or getattr(self, "inputs", ()))
        reads = {cell: t for cell, t in self.reads.items() if t is not None}
        given = {id(t) for t in (*start, *reads.values())}

        def settle(x: Tensor) -> Tensor:
            """The node of the new graph that stands for `x`, which an operation of the graph uses."""
            key = id(x)
            if key in own or key in swapped:
                return swapped[key]
            if key in given:
                new = x
            elif (assigned := self.assigned(x)) is not None:
                new = swapped[key] = settle(assigned)
                return new
            elif x.is_symbolic:
                if captured is None:
                    raise TraceError(
                        "a symbolic tensor of another trace is used in this one",
                        actual=repr(x),
                        remedy="pass it as an argument, or return it from the function that made it",
                        site=x.site,
                    )
                new = leaf(INPUT, x.value, {"name": x.name}, x.requires_grad, x.name)
                captured.append((x, new))
            else:
                new = x if x.op is None else Tensor(x.value, name=x.name)
            if not new.inputs and new.op is not INPUT:
                order.append(new)
            swapped[key] = new
            return new

        for n in self.nodes:
            operands = [settle(x) for x in n.inputs]
            same = self.shares_nodes and all(a is b for a, b in zip(operands, n.inputs, strict=True))
            swapped[id(n)] = n if same else copy_node(n, operands)
            order.append(swapped[id(n)])
        ends = [settle(t) for t in outputs]
        assigns = {cell: None if t is None else settle(t) for cell, t in self.assigns.items()}
        start += [t for _, t in captured or ()]
        first = [*start, *reads.values()]
        early = {id(t) for t in first}
        graph = Graph(
            [*first, *[n for n in order if id(n) not in early]],
            start,
            ends,
            reads=reads,
            assigns=assigns,
            name=self.name,
        )
        if not self.shares_nodes:
            graph._recorded = {id(n): (n, swapped[id(n)]) for n in self.nodes}
        return graph

    def unused(self) -> list[Tensor]:
        """The results that nothing uses: the outputs of a graph whose outputs nobody named."""
        used = {id(x) for n in self.nodes for x in n.inputs}
        used |= {id(t) for t in self.stored.values()}
        return [n for n in self.nodes if id(n) not in used]


class Trace(Recorder):
    """The recorder of static mode."""

    symbolic = True
    virtual = True

    def __init__(self, name: str = "graph"):
        super().__init__(name)
        self.inputs: list[Tensor] = []
        self.fresh: dict[Variable, tuple[Tensor, Tensor]] = {}  # what was assigned last, and the node that reads it
        self.arrays: dict[int, tuple[np.ndarray, Tensor]] = {}  # NumPy arrays from outside, read anew at each call
        self.weak: set[int] = set()  # Python floats that became inputs, and what was computed from nothing else
        self.objects: dict[int, Any] = {}  # modules that were called: their attributes are guarded

    def input(self, spec: Spec, *, name: str | None = None, requires_grad: bool = False, weak: bool = False) -> Tensor:
        """A new input of the graph."""
        t = leaf(INPUT, spec, {"name": name}, requires_grad, name)
        self.inputs.append(t)
        if weak:
            self.weak.add(id(t))
        return t

    def read(self, cell: Any) -> Any:
        """The node whose value a variable (or its gradient; then perhaps None) has at this point of the program."""
        if cell in self.assigns:
            t = self.assigns[cell]
            return t if t is None or isinstance(cell, Gradient) else self.read_again(cell, t)
        if cell not in self.reads:
            current = cell._tensor
            if current is None:
                self.reads[cell] = None
            else:
                part = {"variable": cell} if isinstance(cell, Variable) else {"gradient": cell}
                grad = isinstance(cell, Variable) and cell._requires_grad
                spec = Spec(current.shape, current.dtype, current.device)
                self.reads[cell] = leaf(READ, spec, part, grad, cell.name)
        return self.reads[cell]

    def read_again(self, variable: Variable, t: Tensor) -> Tensor:
        """What a variable reads as after `t` was assigned: the value, without the history, as in dynamic mode.

        It collects gradients if the variable does.
        """
        if not (t.requires_grad or variable._requires_grad):
            return t
        made_for, node = self.fresh.get(variable, (None, t))
        if made_for is not t:
            node = stop_gradient(t) if t.requires_grad else t
            if variable._requires_grad:
                node = stop_gradient(node)  # of its own, a leaf: nothing before it requires gradients
                node.requires_grad = True
                self.cells[id(node)] = variable
            self.fresh[variable] = t, node
        return node

    def depends_on_assigned(self, t: Tensor) -> bool:
        """Whether gradients of `t` would reach a variable after it was assigned: the graph has no place for those."""
        return t.requires_grad and any(id(x) in self.cells for x in history([t])[1])

    def given(self) -> list[Tensor]:
        """All inputs: the arguments, then the arrays from outside."""
        return [*self.inputs, *[t for _, t in self.arrays.values()]]

    def capture_array(self, array: np.ndarray) -> Tensor:
        """An input for a NumPy array that the function finds: it is read anew at each call, as in dynamic mode."""
        if id(array) not in self.arrays:
            t = leaf(INPUT, spec_of(array), {"name": None}, False, f"array{len(self.arrays)}")
            self.arrays[id(array)] = (array, t)
        return self.arrays[id(array)][1]

    def settle_weak(self, op: Op, inputs: tuple[Tensor, ...], out: Tensor) -> tuple[Tensor, ...]:
        """Give Python floats among the operands the dtype of the others, as they have when they are not traced."""
        weak = [id(x) in self.weak or (x.op is None and x.attrs is not None and "weak" in x.attrs) for x in inputs]
        if not any(id(x) in self.weak for x in inputs) or any(isinstance(v, Graph) for v in (out.attrs or {}).values()):
            return inputs  # an operation with nested graphs hands them on as they are
        if all(weak):
            self.weak.add(id(out))
            return inputs
        from .ops import astype

        dtype = np.result_type(*[x.dtype for x, w in zip(inputs, weak, strict=True) if not w])
        dtype = dtype if dtype.kind == "f" else np.result_type(dtype, 1.0)
        return tuple(astype(x, dtype) if id(x) in self.weak else x for x in inputs)


class Definition(Trace):
    """The recorder of `with mg.Graph()`."""

    def capture_array(self, array: np.ndarray) -> Tensor:
        """A constant: a graph that is defined by hand is not called with the arrays that were around."""
        return tensor(array)


class Recording(Recorder):
    """The recorder of a dynamic run.

    Its graph has nodes of its own: `backward()` frees the history of a run by cutting nodes from their inputs, and what
    was recorded is to stay.
    """

    shares_nodes = False

    def add(self, node: Tensor) -> None:
        for x in node.inputs:
            if x.op is READ and (cell := x.attrs["variable"])._tensor is x and cell not in self.assigns:
                self.reads.setdefault(cell, x)
        super().add(node)

    def assigned(self, x: Tensor) -> Tensor | None:
        return self.stored.get((id(x.attrs["variable"]), id(x.value))) if x.op is READ else None

    def absorb(self, inner: Recording) -> None:
        """Go on after a recording inside this one."""
        for cell, t in inner.reads.items():
            if cell not in self.assigns:
                self.reads.setdefault(cell, t)
        self.nodes += inner.nodes
        self.assigns |= inner.assigns
        self.stored |= inner.stored

    def release(self) -> None:
        """Free what `backward()` went through while it was recorded, as it does when nobody records."""
        for n in self.used_up.values():
            n.inputs = FREED


class record:
    """Record a dynamic run: a context manager that gives the graph of everything computed inside.

    Unlike the history that gradients need, a recording holds every operation, and holds it after `backward()`, too. It
    holds all values, so record what you want to look at, not a training run. Its nodes are its own, with the values of
    your tensors; `graph.node(tensor)` finds the one that stands for a tensor.

    >>> with mg.record() as g:
    ...     y = mg.tensor([1.0, 2.0]) * 3.0
    >>> print(g)
    graph()
      %0 = multiply([1., 2.], 3.0)  float32[2]
      return %0
    """

    def __init__(self, name: str = "graph"):
        self.target = Graph(name=name)

    def __enter__(self) -> Graph:
        now = mode.get() or ORDINARY
        self.outer = now.recorder
        self.recorder = Recording(self.target.name)
        if isinstance(self.outer, Recording):
            self.recorder.used_up = self.outer.used_up
        elif self.outer is not None:
            where = "compiled" if self.outer.symbolic else "checkpointed"
            raise TraceError(f"mg.record inside a {where} function", remedy="record outside, or look at compiled.graph")
        self.token: Token[Any] = mode.set(replace(now, recorder=self.recorder, sites=True))
        return self.target

    def __exit__(self, *exc: object) -> None:
        mode.reset(self.token)
        self.target.become(self.recorder.graph(self.recorder.unused()))
        if isinstance(self.outer, Recording):
            self.outer.absorb(self.recorder)
        else:
            self.recorder.release()


def trace(
    fn: Callable,
    specs: Sequence[Any],
    name: str = "graph",
    requires_grad: Sequence[bool] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Graph, Any, list[tuple[Tensor, Tensor]]]:
    """Trace `fn(*tensors)` for inputs of the given specs: (graph, structure of the result, captured tensors).

    For the nested graphs of `cond`, `scan` and others. Symbolic tensors of the enclosing trace that `fn` uses become
    further inputs of the graph, after the given ones; they are listed as pairs (outer tensor, input).
    """
    recorder = Trace(name)
    outer = (mode.get() or ORDINARY).recorder
    if isinstance(outer, Trace):
        recorder.weak |= outer.weak
    flags = requires_grad or [False] * len(specs)
    labels = names or [f"x{i}" for i in range(len(specs))]
    args = [recorder.input(s, name=n, requires_grad=r) for s, r, n in zip(specs, flags, labels, strict=True)]
    token = mode.set(Mode(recorder=recorder, sites=True))
    try:
        leaves, structure = pytree.flatten(fn(*args))
        outputs = [lift(t) for t in leaves]
    finally:
        mode.reset(token)
    if any(recorder.depends_on_assigned(t) for t in outputs):
        raise TraceError(
            f"{name}: a result depends on a variable that collects gradients and that was assigned before",
            remedy="return mg.stop_gradient(result), or assign the variable outside of the nested graph",
        )
    for _, t in recorder.arrays.values():
        raise TraceError(f"{name}: a NumPy array is used inside a nested graph", actual=repr(spec_of(t.value)),
                         remedy="convert it with mg.tensor outside the function")  # fmt: skip
    captured: list[tuple[Tensor, Tensor]] = []
    graph = recorder.graph(outputs, recorder.inputs, captured)
    return graph, structure, captured


# -------------------------------------------------------------------------------------------------------- compile


def absence_guard(cell: Gradient, absent: bool) -> Guard:
    """A guard for whether a variable has a gradient."""
    return Guard(f"whether {cell.name} is None", lambda: cell.variable._grad is None, absent)


def gradients_guard(variable: Variable) -> Guard:
    """A guard for whether a variable collects gradients."""
    get = Attribute(variable, "_requires_grad")
    return Guard(f"{variable.name or 'variable'}.requires_grad", get, get())


class Argument(NamedTuple):
    """One leaf of the arguments, as far as the signature goes."""

    kind: str  # "tensor", "float" (traced) or "static"
    type: Any  # (shape, dtype, device, requires_grad), or (class, value)

    def __str__(self) -> str:
        if self.kind == "tensor":
            shape, dtype, device, needs = self.type
            return f"{Spec(shape, dtype, device)!r}" + (" requiring gradients" if needs else "")
        return "a float" if self.kind == "float" else f"{self.type[1]!r}"


def argument(x: Any, position: int, compiled: Compiled, args: Any, kwargs: Any) -> tuple[Argument, Any]:
    """The signature of the argument leaf `x`, and its array (None for what is static)."""
    kind = type(x)
    if kind is Tensor:
        v = x.value
        return Argument("tensor", (v.shape, v.dtype, x.device, x.requires_grad)), v
    if kind is np.ndarray or isinstance(x, np.generic):
        if x.dtype.kind not in "biuf":
            name = compiled.labels(args, kwargs)[position]
            raise ArgumentError(
                f"{compiled.name}: argument {name} is not an array of numbers", actual=f"dtype {x.dtype}"
            )
        return Argument("tensor", (x.shape, x.dtype, backend.cpu, False)), x
    if kind is float:
        return Argument("float", None), np.float64(x)
    if isinstance(x, Operand):  # a variable: the same one, not an equal one
        return Argument("static", (kind, id(x))), None
    try:
        hash(x)
    except TypeError:
        name = compiled.labels(args, kwargs)[position]
        raise ArgumentError(
            f"{compiled.name}: argument {name} is not a tensor, number or tree of them, and not hashable",
            expected="tensors, arrays, numbers, lists, tuples, dicts of them, or a hashable (then static) value",
            actual=f"{kind.__name__}",
            remedy="pass its tensors as arguments, or close over it",
        ) from None
    return Argument("static", (kind, x)), None


class Version:
    """What one trace of a function gave: the program, and what it assumed."""

    def __init__(self, compiled: Compiled, signature: Any, args: Any, kwargs: Any):
        leaves, structure = pytree.flatten((args, kwargs))
        fn = compiled.fn
        self.signature = signature
        before = guards_of(fn)
        for label, x, a in zip(compiled.labels(args, kwargs), leaves, signature[1], strict=True):
            if a.kind == "static":
                before |= attribute_guards(label, x)
        states = [(name, get, get()) for name, get in random_states(fn)]
        recorder = Trace(compiled.name)
        symbols, self.slots = [], []
        labels = compiled.labels(args, kwargs)
        for i, (x, a, label) in enumerate(zip(leaves, signature[1], labels, strict=True)):
            if a.kind == "tensor":
                shape, dtype, device, needs = a.type
                symbols.append(recorder.input(Spec(shape, dtype, device), name=label, requires_grad=needs))
                self.slots.append(i)
            elif a.kind == "float":
                symbols.append(recorder.input(Spec((), "float64"), name=label, weak=True))
                self.slots.append(i)
            else:
                symbols.append(x)
        now = mode.get() or ORDINARY
        token = mode.set(Mode(grad=now.grad, recorder=recorder, sites=True))
        try:
            args, kwargs = pytree.unflatten(structure, symbols)
            result = fn(*args, **kwargs)
        except TraceError:
            raise
        except Exception as error:
            error.partial_graph = recorder.graph([], recorder.given())  # type: ignore[attr-defined]  # to be drawn
            raise
        finally:
            mode.reset(token)
        self.refuse_side_effects(compiled, before.values(), states)
        out, self.out_structure = pytree.flatten(result)
        outputs: list[Tensor] = []
        self.template: list[Any] = []  # for each leaf of the result: ("tensor" | "float", index) or ("static", value)
        for t in out:
            if isinstance(t, Operand):
                kind = "float" if id(t) in recorder.weak else "tensor"
                self.template.append((kind, len(outputs)))
                outputs.append(t if isinstance(t, Tensor) else recorder.read(t))
            else:
                self.template.append(("static", t))
        self.differentiable = [
            t.requires_grad and id(t) not in recorder.used_up and not recorder.depends_on_assigned(t) for t in outputs
        ]
        graph = recorder.graph(outputs, recorder.given())
        self.arrays = [array for array, _ in recorder.arrays.values()]
        self.program = Program(graph, compiled.chosen_passes, compiled.chosen_backend, compiled.budget)
        for m in recorder.objects.values():
            before |= attribute_guards(type(m).__name__, m) | guards_of(m)
        self.guards = list(before.values())
        self.guards += array_guards(fn, self.arrays)
        self.guards += [gradients_guard(v) for v in recorder.reads if isinstance(v, Variable)]
        self.guards += [absence_guard(v, t is None) for v, t in recorder.reads.items() if isinstance(v, Gradient)]
        self.watch = Watch(self.guards)
        self.captured = [n for n in graph.constants if n.seq < recorder.start and not (n.attrs and "weak" in n.attrs)]
        self.leaves, self.labels = leaves, labels  # kept because static arguments are recognised by identity
        self.has_run = False

    @staticmethod
    def refuse_side_effects(compiled: Compiled, before: Iterable[Guard], states: Sequence[Any]) -> None:
        for g in before:
            new = g.get()
            if not unchanged(g.value, new):
                raise TraceError(
                    f"{compiled.name}: the function changes {g.description} while it is traced, "
                    "which would happen only once",
                    expected="no assignment to Python values from inside a compiled function",
                    actual=f"{shown(g.value)} became {shown(snapshot(new))}",
                    remedy="return the value, or keep it in a mg.Variable and use .assign",
                )
        for name, get, old in states:
            if get() != old:
                raise TraceError(
                    f"{compiled.name}: the function draws random numbers from {name}, "
                    "which would be frozen into the graph",
                    remedy="use mg.random, whose generator is part of the graph, or pass the numbers as an argument",
                )

    @functools.cached_property
    def enter(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any] | None:
        """The short way: `enter(args, kwargs)` does a whole call, if everything is as usual, or returns `MISSED`.

        None where there is none: where results are to be differentiable, or where arguments are not understood.
        """
        if any(self.differentiable):
            return None
        structure, signature = self.signature
        results = self.out_structure, self.template
        found = write_entry(
            structure, self.leaves, signature, self.labels, self.arrays, self.program, self.watch, results
        )
        return None if found is None else load(*found)["enter"]

    def stale(self) -> str | None:
        """Why this version must not be used now: the guard that fails, in words; None when all hold."""
        return self.watch.change()

    def run(self, arrays: list[Any], tensors: Sequence[Any]) -> Any:
        program = self.program
        inputs = [arrays[i] for i in self.slots] + self.arrays
        now = mode.get() or ORDINARY
        if now.recorder is not None or (any(self.differentiable) and now.grad):
            results = self.run_recorded([tensors[i] for i in self.slots])
        else:
            results = [Tensor(a) for a in program.run(inputs)]
        filled = [
            results[v] if kind == "tensor" else float(results[v].value) if kind == "float" else v
            for kind, v in self.template
        ]
        return pytree.unflatten(self.out_structure, filled)

    def run_recorded(self, tensors: list[Any]) -> list[Tensor]:
        """Run as one operation of the dynamic graph, so that gradients flow through the compiled function.

        Recordings and checkpoints see this operation, too, and what it reads and assigns.
        """
        from .ops.control import call

        given = [x if type(x) is Tensor else Tensor(np.asarray(x)) for x in [*tensors, *self.arrays]]
        closed, cells = self.program.closed
        given += [cell.read() for cell in cells]
        watched = (mode.get() or ORDINARY).hooks  # who watches sees the operations one by one
        results = closed.replay(given) if watched else call(closed, given)
        n = len(self.program.graph.outputs)
        if (mode.get() or ORDINARY).recorder is None:
            self.program.store([t.value for t in results[n:]])
        else:
            for cell, t in zip(self.program.executable.assigned, results[n:], strict=True):
                cell.assign(t)
            for cell in self.program.executable.cleared:
                cell.assign(None)
        return [
            t if d or not t.requires_grad else Tensor(t.value)
            for t, d in zip(results[:n], self.differentiable, strict=True)
        ]


class Compiled:
    """A function in static mode: what `mg.compile` returns. Call it like the function.

    The attributes describe the version used last: `graph` (what was traced), `optimized`, `passes` (each with `before`,
    `after` and `changes`), `backend` ("c", "cuda" or "numpy"), `source`, `memory`, `captured` (tensors it closed over,
    which became constants). `traces` lists every trace so far, with the reason for it.
    """

    def __init__(
        self,
        fn: Callable,
        static_argnames: Sequence[str] = (),
        passes: Sequence[Any] | None = None,
        backend: str | None = None,
        memory: int | str | None = None,
    ):
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.static_argnames = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
        self.chosen_passes, self.chosen_backend = passes, backend
        self.budget = None if memory is None else bytes_of(memory)
        self.versions: dict[Any, list[Version]] = {}  # newest last; of each signature, newest first
        self.traces: list[str] = []
        self.last: Version | None = None
        self.enter: Callable[..., Any] | None = None  # the short way into the version used last, once it has run twice
        self._lock = threading.RLock()
        self._parameters = parameter_names(fn)
        unknown = set(self.static_argnames) - set(self._parameters)
        if unknown:
            raise ArgumentError(
                f"compile({self.name}): static_argnames",
                expected=f"names among {list(self._parameters)}",
                actual=f"{sorted(unknown)}",
            )

    def labels(self, args: Any, kwargs: Any) -> list[str]:
        """The name of each leaf of the arguments, as the user would write it: `x`, `batch[0]`, `params["w"]`."""
        found = []
        for path in pytree.paths(args, ""):
            number, rest = path[1:].split("]", 1)
            k = int(number)
            found.append((self._parameters[k] if k < len(self._parameters) else f"arg{k}") + rest)
        for name in kwargs:
            found += pytree.paths(kwargs[name], name)
        return found

    def signature(self, args: Any, kwargs: Any) -> tuple[Any, list[Any], list[Any]]:
        """The signature of a call, the arrays of its leaves, and the leaves."""
        leaves, structure = pytree.flatten((args, kwargs))
        static = self.static_leaves(args, kwargs) if self.static_argnames else ()
        found, arrays = [], []
        for i, x in enumerate(leaves):
            if i in static:
                sign = math.copysign(1.0, x) if type(x) is float else None  # 0.0 equals -0.0
                a, v = Argument("static", (type(x), x, sign)), None
            else:
                a, v = argument(x, i, self, args, kwargs)
            found.append(a)
            arrays.append(v)
        return (structure, tuple(found)), arrays, leaves

    def static_leaves(self, args: Any, kwargs: Any) -> set[int]:
        """Positions of the leaves that belong to arguments declared static."""
        names = [re.split(r"[.\[]", label)[0] for label in self.labels(args, kwargs)]
        return {i for i, name in enumerate(names) if name in self.static_argnames}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        enter = self.enter
        if enter is not None:
            result = enter(args, kwargs)
            if result is not MISSED:
                return result
        now = mode.get()
        if now is not None and now.recorder is not None and now.recorder.symbolic:
            return self.fn(*args, **kwargs)  # inside another trace: part of that graph
        signature, arrays, leaves = self.signature(args, kwargs)
        version = self.version(signature, args, kwargs)
        result = version.run(arrays, leaves)
        if now is None:
            if version.has_run and version is self.last:
                self.enter = version.enter
            version.has_run = True
        return result

    def use(self, version: Version) -> None:
        """Make it the version used last."""
        if version is not self.last:
            self.enter, self.last = None, version

    def version(self, signature: Any, args: Any, kwargs: Any) -> Version:
        grad = (mode.get() or ORDINARY).grad
        key = (signature, grad)
        version, _ = self.find(key)
        if version is not None:
            return version
        with self._lock:
            version, why = self.find(key)  # another thread may have traced it meanwhile
            if version is not None:
                return version
            why = why or self.reason(signature, grad, self.labels(args, kwargs))
            version = Version(self, signature, args, kwargs)
            self.versions[key] = [version, *self.versions.pop(key, ())][:8]
            self.traces.append(why)
            self.use(version)
            if len(self.traces) in (8, 32, 128):
                warnings.warn(
                    f"{self.name} has been traced {len(self.traces)} times; the last time because {why}. "
                    "Each trace costs milliseconds: pass values that change as tensors or floats, or pad to a few "
                    "fixed shapes.",
                    stacklevel=3,
                )
            return version

    def find(self, key: Any) -> tuple[Version | None, str]:
        """The version to use for this key; or None, and why the newest there is must not be used (if there is one)."""
        reason = ""
        for version in self.versions.get(key, ()):
            why = version.stale()
            if why is None:
                self.use(version)
                return version, ""
            reason = reason or why
        return None, reason

    def reason(self, signature: Any, grad: bool, labels: Sequence[str]) -> str:
        """Why there is no version for this signature, compared with the nearest one; of several, with the newest."""
        if not self.versions:
            return "it had not been called before"
        best = None
        newest = reversed(self.versions)
        for old, old_grad in sorted(newest, key=lambda key: key[0][0] != signature[0]):  # same structure first
            if old[0] != signature[0]:
                reasons = [f"the structure of the arguments: {pytree.explain_difference(old[0], signature[0])}"]
            else:
                changed = zip(labels, old[1], signature[1], strict=True)
                reasons = [f"argument {name}: {a} became {b}" for name, a, b in changed if a != b]
                if old_grad != grad:
                    reasons.append(f"gradients were switched {'on' if grad else 'off'}")
            if best is None or len(reasons) < len(best):
                best = reasons
        return "; ".join(best or ["no version of it was kept"])

    def trace(self, *args: Any, **kwargs: Any) -> Graph:
        """Trace for these arguments without running: the graph."""
        signature, _, _ = self.signature(args, kwargs)
        return self.version(signature, args, kwargs).program.traced

    def profile(self, *args: Any, calls: int = 100, **kwargs: Any) -> Profile:
        """Time every step of the program for these arguments, and count its FLOPs and bytes.

        The function really runs, `calls` times and once more; the variables that it assigns are afterwards as they
        were before: nobody else should assign them meanwhile. On another device than the CPU, each step is waited for.

        Args:
            args, kwargs: as for a call.
            calls: how many calls are timed. (A parameter of the function with this name cannot be given by name.)

        Returns:
            A `Profile`: a table, the longest steps first, with `.rows` for programs.

        Raises:
            ArgumentError: `calls` is not a positive number.
            TraceError: inside of a function that is being compiled.
            Exception: what a call raises.

        >>> f = mg.compile(lambda x, w: mg.tanh(x @ w))
        >>> found = f.profile(mg.ones((8, 4)), mg.ones((4, 2)), calls=3)
        >>> [(r.name, r.flops, r.nbytes) for r in found.rows]
        [('matmul', 128, 224), ('tanh', 16, 128)]
        >>> found.flops, found.nbytes
        (144, 352)
        """
        now = mode.get()
        if now is not None and now.recorder is not None and now.recorder.symbolic:
            raise TraceError(f"{self.name}.profile inside a compiled function", remedy="profile the outermost function")
        signature, arrays, _ = self.signature(args, kwargs)
        version = self.version(signature, args, kwargs)
        return profile(version.program, [arrays[i] for i in version.slots] + version.arrays, calls)

    def explain(self) -> Explanation:
        """One page about the version used last, with reasons: what each pass did, the kernels, what is done by
        libraries, what is not in C, what was not fused, memory, variables, threads, and how it was compiled.

        Raises:
            GraphError: the function has not been called yet.

        >>> f = mg.compile(lambda x: mg.tanh(x * 2.0) + 1.0, backend="numpy")
        >>> _ = f(mg.ones(3))
        >>> page = f.explain()
        >>> page["not in C"].note
        'backend="numpy" was asked for'
        >>> page["passes"].rows[0][:3]
        ('fold_constants', '6 -> 6', '0')
        """
        return explain(self._last().program, self.chosen_backend, self.traces)

    @property
    def backend(self) -> str:
        """What the version used last runs on, "c" or "numpy"; `explain()` says why.

        >>> f = mg.compile(lambda x: x + 1.0, backend="numpy")
        >>> _ = f(mg.ones(2))
        >>> f.backend
        'numpy'
        """
        return self._last().program.backend

    def _last(self) -> Version:
        if self.last is None:
            raise GraphError(
                f"{self.name} has not been called yet", remedy=f"call it once, or use {self.name}.trace(*args)"
            )
        return self.last

    @property
    def graph(self) -> Graph:
        """The graph as traced."""
        return self._last().program.traced

    @property
    def optimized(self) -> Graph:
        """The graph after all passes."""
        return self._last().program.graph

    @property
    def passes(self) -> list[Step]:
        """The passes that were applied, each with `.name`, `.before`, `.after` and `.changes`."""
        return self._last().program.steps

    @property
    def source(self) -> str:
        """The generated code."""
        return self._last().program.source

    @property
    def memory(self) -> Any:
        """The memory plan: buffers, their lifetimes, and peak bytes."""
        return self._last().program.memory

    @property
    def captured(self) -> list[Tensor]:
        """Tensors from outside that the function used and that are constants of the graph."""
        return self._last().captured

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        bound = instance.__dict__.get("_compiled_methods", {}).get(self.name)
        if bound is None:
            method = types.MethodType(self.fn, instance)
            bound = Compiled(method, self.static_argnames, self.chosen_passes, self.chosen_backend, self.budget)
            instance.__dict__.setdefault("_compiled_methods", {})[self.name] = bound
        return bound

    def __repr__(self) -> str:
        n = len(self.traces)
        return f"<compiled {self.name}: {n} trace{'' if n == 1 else 's'}>"


def parameter_names(fn: Callable) -> list[str]:
    try:
        return list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return []


def compile(
    fn: Callable | None = None,
    *,
    static_argnames: Sequence[str] | str = (),
    passes: Sequence[Any] | None = None,
    backend: str | None = None,
    memory: int | str | None = None,
) -> Any:
    """Static mode for a function: trace it once per signature, optimise, and run generated code from then on.

    The function may be pure, or a whole imperative training step. Tensors, NumPy arrays and Python floats among the
    arguments become inputs of the graph; integers, strings and everything else are part of the signature.

    Args:
        fn: the function; without it, `compile` is a decorator with options.
        static_argnames: names of arguments whose values are part of the signature although they are floats or tensors.
        passes: the optimisation passes, in order; those of `minigraph.compiler.default_passes(backend)` unless given,
            `()` for none.
        backend: "c": one C function for everything; "cuda": functions in CUDA C, on a GPU; "numpy": a Python function
            that calls NumPy, or CuPy. Unless given, what the environment variable MINIGRAPH_BACKEND says, or else "c"
            where there is a C compiler, and "cuda" where everything is on one GPU.
        memory: a budget for `compiled.memory.peak`, in bytes or as text ("64MB" is 64 million, "64MiB" 64 * 2**20):
            what intermediate results, outputs and new values of variables take together at any time of a call.
            Arguments, the variables' values before the call, constants, and what NumPy needs inside of one operation
            are not counted. Values for which there is no room are computed again when they are needed
            (`minigraph.compiler.rematerialize`); the results are the same. It is the backward pass that makes values
            wait, so call it inside of the function.

    Raises:
        ArgumentError: there is no such backend; `memory` is not a number of bytes; or, when called, no way was found to
            keep within it. It says how far down it went.
        TraceError: when called, if the function does what a trace cannot follow: branching on a value, `.numpy()`,
            NumPy random numbers, changing Python values from inside.

    >>> @mg.compile
    ... def f(x):
    ...     return (x * x).sum()
    >>> f(mg.tensor([1.0, 2.0]))
    tensor(5., dtype=float32)
    >>> f
    <compiled f: 1 trace>

    With a budget, the forward pass of a deep function is done in parts, some of them twice:

    >>> def deep(x):
    ...     y = x
    ...     for _ in range(30):
    ...         y = mg.sin(y)
    ...     return y.sum()
    >>> keep = mg.compile(mg.grad(deep), backend="numpy")
    >>> again = mg.compile(mg.grad(deep), backend="numpy", memory="40kB")
    >>> x = mg.ones(1024)
    >>> bool((keep(x) == again(x)).all())
    True
    >>> keep.memory.peak, again.memory.peak, len(again.passes[-1].changes)
    (122880, 36864, 21)
    """
    if fn is None:
        return functools.partial(
            compile, static_argnames=static_argnames, passes=passes, backend=backend, memory=memory
        )
    if isinstance(fn, Compiled):
        return fn
    if not callable(fn):
        raise ArgumentError("compile: a function is expected", actual=f"{type(fn).__name__}")
    if inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise ArgumentError(
            f"compile({fn.__name__}): a function that runs to its end is expected",
            actual="a generator or coroutine function",
            remedy="return a list of the results",
        )
    return Compiled(fn, static_argnames, passes, backend, memory)
