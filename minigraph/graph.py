"""Graphs: nodes in topological order, with inputs, outputs, and the variables they read and assign.

A recorded dynamic run (`with mg.record() as g`), the trace of a compiled function and a graph that was defined by hand
(`with mg.Graph() as g`) are the same class, so the same views, printers and passes serve all three. The nodes are
tensors: with values in a recording, with `Spec`s in a static graph. A graph never changes once it is built; a pass
makes a new one, and the nodes it did not touch are the same objects in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import Token
from operator import is_
from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError, GraphError, ShapeError, TraceError
from .op import ORDINARY, Mode, Op, Spec, argument_names, mode, modified, scope, spec_of
from .tensor import Tensor, bind, lift, sequence
from .variable import INPUT, READ, Variable, leaf


class Graph:
    """A computational graph.

    Attributes:
        name: for people.
        nodes: tensors in topological order: inputs, readings of variables, constants and operations.
        inputs, outputs: tuples of nodes.
        reads, assigns: {variable: node}. The node that holds a variable's value before, and after, the graph runs.
        changes: what the pass that made this graph changed (empty for a graph that no pass made).

    Define-then-run: build inside the block, run afterwards.

    >>> with mg.Graph() as g:
    ...     x = mg.placeholder((2,), name="x")
    ...     y = mg.sin(x) + 1.0
    >>> g.run({x: np.zeros(2, "float32")}, y)
    tensor([1., 1.], dtype=float32)
    >>> print(g)
    graph(x: float32[2])
      %0 = sin(x)        float32[2]
      %1 = add(%0, 1.0)  float32[2]
      return %1
    """

    def __init__(
        self,
        nodes: Iterable[Tensor] = (),
        inputs: Iterable[Tensor] = (),
        outputs: Iterable[Tensor] = (),
        *,
        reads: dict[Any, Tensor] | None = None,
        assigns: dict[Any, Tensor | None] | None = None,
        name: str = "graph",
        changes: Sequence[Any] = (),
    ):
        self.name = name
        self.nodes, self.inputs, self.outputs = tuple(nodes), tuple(inputs), tuple(outputs)
        self.reads, self.assigns = dict(reads or {}), dict(assigns or {})
        self.changes = tuple(changes)
        self._users: dict[int, tuple[Tensor, ...]] | None = None
        self._known: set[int] | None = None
        self._programs: dict[Any, Any] = {}
        self._recorded: dict[int, tuple[Tensor, Tensor]] = {}  # by id: a tensor of the run, and the node for it
        self._recorder: Any = None
        self._token: Token[Mode | None] | None = None

    def become(self, built: Graph) -> None:
        """Take over the contents of a graph that was built for this one (which is empty so far)."""
        self.nodes, self.inputs, self.outputs = built.nodes, built.inputs, built.outputs
        self.reads, self.assigns, self._recorded = built.reads, built.assigns, built._recorded
        self._users = self._known = None

    # ------------------------------------------------------------------------------------------------- structure
    def node(self, tensor: Tensor) -> Tensor:
        """The node that stands for a tensor of the run that was recorded; a node of the graph is returned as it is.

        Raises:
            ArgumentError: the tensor is not part of this graph.

        >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
        >>> with mg.record() as g:
        ...     y = x * x
        ...     loss = y.sum()
        >>> loss.backward()  # frees the history of `loss`, and leaves the recording as it is
        >>> [n.op.name for n in g.users(y)], g.node(loss) is g.outputs[0]
        (['sum'], True)
        """
        _, found = self._recorded.get(id(tensor), (None, tensor))
        if self._known is None:
            self._known = set(map(id, self.nodes))
        if id(found) not in self._known:
            raise ArgumentError(f"{self.name}: a tensor is not part of this graph", actual=repr(tensor))
        return found

    def users(self, node: Tensor) -> tuple[Tensor, ...]:
        """The operations that take `node` (or the node that stands for this tensor) as an input, in order."""
        if self._users is None:
            found: dict[int, list[Tensor]] = {}
            for n in self.nodes:
                for key in dict.fromkeys(map(id, n.inputs)):
                    found.setdefault(key, []).append(n)
            self._users = {key: tuple(users) for key, users in found.items()}
        _, node = self._recorded.get(id(node), (None, node))
        return self._users.get(id(node), ())

    @property
    def operations(self) -> tuple[Tensor, ...]:
        """The nodes that compute something: all but inputs, readings and constants."""
        given = {id(n) for n in self.inputs}
        return tuple(n for n in self.nodes if n.op not in (None, READ, INPUT) and id(n) not in given)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The nodes whose value is part of the graph."""
        given = {id(n) for n in self.inputs}
        return tuple(n for n in self.nodes if n.op is None and id(n) not in given)

    def roots(self) -> list[Tensor]:
        """What has to be computed: outputs and assigned values."""
        return [*self.outputs, *[t for t in self.assigns.values() if t is not None]]

    def check(self) -> Graph:
        """Raise a GraphError unless the graph is well formed: order, inputs present, shapes and dtypes as inferred.

        Passes are checked with it in the tests. Returns the graph itself.
        """
        known: set[int] = set()
        for n in self.nodes:
            for x in n.inputs:
                if id(x) not in known:
                    raise GraphError(
                        f"{self.name}: {n!r} uses a node that does not come before it", actual=repr(x), site=n.site
                    )
            if id(n) in known:
                raise GraphError(f"{self.name}: a node is listed twice", actual=repr(n), site=n.site)
            known.add(id(n))
            if n.inputs:
                try:
                    inferred = n.op.infer(*[spec_of(x.value) for x in n.inputs], **n.attrs)
                except TraceError:  # its shape depends on values: such nodes exist in recordings only
                    continue
                if _shapes(inferred) != _shapes(spec_of(n.value)):
                    raise GraphError(
                        f"{self.name}: {n.op.name} has another type than its inputs say",
                        expected=repr(inferred),
                        actual=repr(spec_of(n.value)),
                        site=n.site,
                    )
        for what, members in (("input", self.inputs), ("output", self.roots()), ("reading", self.reads.values())):
            for n in members:
                if id(n) not in known:
                    raise GraphError(f"{self.name}: an {what} is not among the nodes", actual=repr(n))
        for cell, n in self.assigns.items():
            if n is not None and isinstance(cell, Variable):
                cell.check(n)
        return self

    # --------------------------------------------------------------------------------------------------- running
    def __call__(self, *args: Any) -> Any:
        """Replay the graph on tensors, operation by operation: dynamic if they have values, traced if not.

        Returns a tensor, or a tuple of them when the graph has several outputs.
        """
        results = self.replay([lift(x) for x in args])
        return results[0] if len(results) == 1 else tuple(results)

    def replay(self, args: Sequence[Tensor]) -> list[Tensor]:
        """`__call__` on a list of tensors, always returning a list."""
        if len(args) != len(self.inputs):
            raise ArgumentError(
                f"{self.name}: number of inputs",
                expected=f"{len(self.inputs)}: {self.signature()}",
                actual=f"{len(args)}",
            )
        for x, given in zip(self.inputs, args, strict=True):
            fits(self.name, x, given)
        found = {id(n): t for n, t in zip(self.inputs, args, strict=True)}
        for n in self.nodes:
            if id(n) in found:
                continue
            if n.op is READ:
                cell = n.attrs.get("variable")
                found[id(n)] = n.attrs["gradient"].variable.grad if cell is None else cell.read()
            elif n.inputs or n.op is not None:
                token = scope.set(n.scope)
                try:
                    with modified(sites=n.site):
                        t = bind(n.op, *[found[id(x)] for x in n.inputs], **n.attrs)
                finally:
                    scope.reset(token)
                t.name = n.name
                found[id(n)] = t
            else:
                found[id(n)] = n
        for cell, n in self.assigns.items():
            value = None if n is None else found[id(n)]
            if isinstance(cell, Variable):
                cell.assign(value)
            else:
                cell.variable.grad = value
        return [found[id(n)] for n in self.outputs]

    def run(self, feeds: dict[Any, Any] | None = None, outputs: Any = None) -> Any:
        """Run a define-then-run graph.

        Args:
            feeds: {placeholder, or its name: value}.
            outputs: a node, or a tuple or list of nodes, to return; by default the results that nothing else uses.

        Raises:
            ArgumentError: a placeholder is missing or unknown.
            ShapeError, DTypeError: a value does not fit its placeholder.
        """
        from .compiler import Program

        if self._recorder is not None:
            raise GraphError(
                f"{self.name}.run: the graph is still being built", remedy="call run after the `with` block"
            )
        single = isinstance(outputs, Tensor)
        wanted = self.outputs if outputs is None else tuple(map(self.node, (outputs,) if single else outputs))
        key = tuple(map(id, wanted))
        if key not in self._programs:
            chosen = Graph(self.nodes, self.inputs, wanted, reads=self.reads, assigns=self.assigns, name=self.name)
            self._programs[key] = Program(chosen)
        results = [Tensor(r) for r in self._programs[key].run(self.arrange(feeds or {}))]
        if single or (outputs is None and len(results) == 1):
            return results[0]
        return tuple(results)

    def arrange(self, feeds: dict[Any, Any]) -> list[Any]:
        """The arrays for the inputs, in order, from what a user feeds by node or by name."""
        names = {x.name: x for x in self.inputs}
        given: dict[int, Any] = {}
        for k, v in feeds.items():
            node = names.get(k) if isinstance(k, str) else k
            if node is None or all(node is not x for x in self.inputs):
                raise ArgumentError(
                    f"{self.name}.run: {k!r} is not a placeholder of this graph", expected=self.signature()
                )
            value = lift(v, node)
            fits(self.name, node, value)
            given[id(node)] = value.value
        missing = [x for x in self.inputs if id(x) not in given]
        if missing:
            raise ArgumentError(f"{self.name}.run: nothing is fed to {', '.join(x.name or repr(x) for x in missing)}",
                                expected=self.signature(), remedy="graph.run({placeholder: value, ...})")  # fmt: skip
        return [given[id(x)] for x in self.inputs]

    # -------------------------------------------------------------------------------------------------- building
    def __enter__(self) -> Graph:
        from .trace import Definition

        if self.nodes:
            raise GraphError("a graph is built once", remedy="with mg.Graph() as g: ...   makes a new one")
        self._recorder = Definition(self.name)
        now = mode.get() or ORDINARY
        self._token = mode.set(Mode(recorder=self._recorder, hooks=now.hooks, sites=True))
        return self

    def __exit__(self, kind: Any, *exc: object) -> None:
        assert self._token is not None
        mode.reset(self._token)
        trace, self._recorder = self._recorder, None
        if kind is None:
            self.become(trace.graph(trace.unused()))

    # --------------------------------------------------------------------------------------------------- showing
    def signature(self) -> str:
        """`x: float32[64, 10], y: int64[64]`: the inputs."""
        return ", ".join(f"{x.name or f'input{i}'}: {spec_of(x.value)!r}" for i, x in enumerate(self.inputs))

    def __repr__(self) -> str:
        return text(self)

    def to_dot(self, **options: Any) -> str:
        """The graph in Graphviz' DOT language; options as for `minigraph.draw.to_dot`."""
        from .draw import to_dot

        return to_dot(self, **options)

    def save(self, path: Any, **options: Any) -> None:
        """Draw the graph into a file: "x.svg", "x.png", "x.html" or "x.dot"."""
        from .draw import save

        save(self, path, **options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from .draw import repr_mimebundle

        return repr_mimebundle(self)


def text(graph: Graph, limit: int = 200) -> str:
    """The graph as a program: one line for each operation, with its type, scope and the user's line.

    Args:
        limit: how many operations to show; the rest is counted.
    """
    given = {id(n) for n in graph.inputs}
    names: dict[int, str] = {}
    for i, n in enumerate(graph.inputs):
        names[id(n)] = n.name or f"input{i}"
    for cell, n in graph.reads.items():
        names[id(n)] = cell.name or "variable"
    rows: list[tuple[str, str, str]] = []
    nested: list[Graph] = []
    number = 0
    for n in graph.nodes:
        if id(n) in given or id(n) in names:
            continue
        if n.op is None:
            names[id(n)] = n.name or constant_text(n)
            continue
        names[id(n)] = f"%{number}"
        number += 1
        if len(rows) >= limit:
            continue
        attrs = []
        for k, v in (n.attrs or {}).items():
            if isinstance(v, Graph):
                nested.append(v)
                v = f"<graph {v.name}>"
            attrs.append(f"{k}={v}")
        call = f"{names[id(n)]} = {n.op.name}({', '.join([names[id(x)] for x in n.inputs] + attrs)})"
        where = "  ".join(
            filter(None, [str(n.scope) if n.scope else "", str(n.site) if n.site and not n.site.in_doctest else ""])
        )
        rows.append((call, type_text(n), where))
    width, types = max((len(r[0]) for r in rows), default=0), max((len(r[1]) for r in rows), default=0)
    lines = [f"{graph.name}({graph.signature()})"]
    for n in graph.reads.values():
        lines.append(f"  reads {names[id(n)]}: {type_text(n)}")
    lines += [f"  {call:<{width}}  {kind:<{types}}  {where}".rstrip() for call, kind, where in rows]
    if number > len(rows):
        lines.append(f"  ... and {number - len(rows)} more operations")
    for cell, t in graph.assigns.items():
        lines.append(f"  assigns {cell.name or 'variable'} = {'None' if t is None else names[id(t)]}")
    lines.append(f"  return {', '.join(names[id(t)] for t in graph.outputs)}".rstrip())
    for g in nested:
        lines.append("  where " + text(g, limit).replace("\n", "\n  "))
    return "\n".join(lines)


def type_text(n: Tensor) -> str:
    """`float32[64, 10]`, or several of them."""
    spec = spec_of(n.value)
    return "(" + ", ".join(map(repr, spec)) + ")" if type(spec) is tuple else repr(spec)


def constant_text(n: Tensor) -> str:
    """A small constant's value, a large one's type."""
    if n.is_symbolic or n.size > 6:
        return f"<{type_text(n)}>"
    array = n.numpy()
    return str(array) if array.ndim == 0 else " ".join(np.array2string(array, separator=", ").split())


def _shapes(spec: Any) -> Any:
    return tuple(map(_shapes, spec)) if type(spec) is tuple else (spec.shape, spec.dtype)


def fits(name: str, placeholder: Tensor, given: Tensor) -> None:
    """Raise unless `given` has the shape and dtype of `placeholder`."""
    if given.shape != placeholder.shape:
        raise ShapeError(
            f"{name}: input {placeholder.name or ''} has another shape",
            expected=f"{placeholder.shape}",
            actual=f"{given.shape}",
        )
    if given.dtype != placeholder.dtype:
        raise DTypeError(f"{name}: input {placeholder.name or ''} has another dtype", expected=f"{placeholder.dtype}",
                         actual=f"{given.dtype}", remedy=f"value.astype(mg.{placeholder.dtype})")  # fmt: skip


def placeholder(
    shape: Sequence[int], dtype: Any = "float32", *, name: str | None = None, requires_grad: bool = False
) -> Tensor:
    """An input of the graph that is being built by hand; its value is given to `graph.run`. See `mg.Graph`.

    Args:
        shape, dtype: of the values that will be fed.
        name: a name for drawings, error messages and `graph.run({name: value})`.
        requires_grad: gradients with respect to it can be asked for (floating point only).

    Raises:
        GraphError: outside a `with mg.Graph():` block.

    >>> with mg.Graph() as g:
    ...     x = mg.placeholder((2,), name="x")
    ...     y = x * 2.0
    >>> x
    symbolic(float32[2], name='x')
    >>> g.run({"x": [1.0, 2.0]})
    tensor([2., 4.], dtype=float32)
    """
    now = mode.get()
    if now is None or now.recorder is None or not now.recorder.symbolic:
        raise GraphError("placeholder: no graph is being built", remedy="with mg.Graph() as g: x = mg.placeholder(...)")
    return now.recorder.input(Spec(shape, dtype), name=name, requires_grad=requires_grad)


def copy_node(
    node: Tensor, inputs: Sequence[Tensor], *, op: Op | None = None, attrs: dict[str, Any] | None = None
) -> Tensor:
    """The same operation on other inputs (of the same types), keeping the user's line, scope and name."""
    t = object.__new__(Tensor)
    t.value, t.op, t.inputs, t.attrs = node.value, op or node.op, tuple(inputs), node.attrs if attrs is None else attrs
    t.requires_grad, t.scope, t.site, t.name = node.requires_grad, node.scope, node.site, node.name
    t.seq, t._grad = sequence(), None
    return t


def substitute(graph: Graph, visit: Callable[[Tensor], Tensor], *, constants: bool = False) -> Graph:
    """Rebuild a graph in one walk: `visit(node)` sees each operation with its new inputs and returns what replaces it.

    It may return the node, another known node, or a new node whose own new inputs are collected, too. Inputs and
    readings stay; constants are visited only if `constants` says so. Nodes are shared with the old graph as long as
    nothing above them changed.

    >>> with mg.Graph() as g:
    ...     y = mg.sin(mg.placeholder((), name="x"))
    >>> print(mg.compiler.substitute(g, lambda n: mg.compiler.passes.algebra.made("cos", *n.inputs, like=n)))
    graph(x: float32[])
      %0 = cos(x)  float32[]
      return %0
    """
    new: dict[int, Tensor] = {}
    order: dict[int, Tensor] = {}

    def emit(t: Tensor) -> None:
        if all(map(order.__contains__, map(id, t.inputs))):  # nearly always
            order[id(t)] = t
            return
        stack = [(t, False)]
        while stack:
            n, ready = stack.pop()
            if id(n) in order:
                continue
            if ready:
                order[id(n)] = n
            else:
                stack.append((n, True))
                stack.extend((x, False) for x in reversed(n.inputs))

    given = {id(n) for n in graph.inputs}
    for n in graph.nodes:
        if n.inputs and id(n) not in given:
            inputs = [new[id(x)] for x in n.inputs]
            new[id(n)] = visit(n if all(map(is_, inputs, n.inputs)) else copy_node(n, inputs))
        else:
            new[id(n)] = visit(n) if constants and n.op is None else n
        emit(new[id(n)])
    swap: Callable[[Tensor], Tensor] = lambda t: new[id(t)]  # noqa: E731
    return Graph(
        order.values(),
        graph.inputs,
        map(swap, graph.outputs),
        reads=graph.reads,
        assigns={v: None if t is None else swap(t) for v, t in graph.assigns.items()},
        name=graph.name,
    )


def input_names(node: Tensor) -> list[str]:
    """The argument names of the inputs of an operation node."""
    return argument_names(node.op, len(node.inputs))


__all__ = ["Graph", "copy_node", "leaf", "placeholder", "substitute"]
