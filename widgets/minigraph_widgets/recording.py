"""A run, written down as it happens: what arrives at each node, forwards and backwards.

The engine tells a hook of every node that is computed and of every gradient that a rule gives. `Watch` puts that on a
list, and `record` runs a function, carries the gradient back, and gives the recorded graph with the list: the events
of one training step, by node of the graph. What they look like is decided elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.errors import ArgumentError
from minigraph.graph import Graph
from minigraph.tensor import Tensor
from minigraph.variable import READ, Variable


@dataclass(eq=False)
class Event:
    """Something that happened at a node.

    Attributes:
        kind: "value" (it has been computed), "gradient" (backward has reached it), "rule" (its rule has given the
            gradient of input number `index`), "accumulate" (a leaf's gradient grows), "update" (a variable changes).
        node: the node. value: what has come. before: of "accumulate" and "update", what was there (None: nothing).
    """

    kind: str
    node: Tensor
    value: Any
    index: int = 0
    before: Any = None


@dataclass(eq=False)
class Run:
    """One training step: its graph, with the values of that step, and its events in order."""

    graph: Graph
    events: list[Event] = field(default_factory=list)
    loss: Tensor | None = None
    error: BaseException | None = None
    failed: Tensor | None = None  # the operation that did not succeed
    seed_note: str = ""


class Watch(mg.debug.Hook):
    """Writes events down; nodes are still those of the run."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.started: Tensor | None = None

    def before(self, node: Any) -> None:
        self.started = node

    def after(self, node: Any, value: Any) -> None:
        self.started = None
        self.events.append(Event("value", node, value))

    def before_backward(self, node: Any, g: Any) -> None:
        self.events.append(Event("gradient", node, copied(g)))

    def after_backward(self, node: Any, index: int, g: Any) -> None:
        self.events.append(Event("rule", node, copied(g), index))


def copied(g: Any) -> Any:
    """A gradient as it is now: arrays may be added to in place later. (Tensors never change.)"""
    g = getattr(g, "value", g)
    if type(g) is list:  # of a node with several results: that of the first one that has a gradient
        return copied(next(x for x in g if x is not None))
    return g.copy() if isinstance(g, np.ndarray) else g


def argument_tensors(fn: Any, inputs: Sequence[Any], follow: bool) -> list[Any]:
    """The inputs as named tensors. Numbers and arrays are leaves that collect gradients if `follow`."""
    names = [p.name for p in inspect.signature(fn).parameters.values()] if callable(fn) else []
    found = []
    for k, x in enumerate(inputs):
        name = names[k] if k < len(names) else f"input{k}"

        def leaf(v: Any, name: str = name) -> Any:
            if isinstance(v, Tensor | Variable):
                if isinstance(v, Tensor) and v.name is None and v.op is None:
                    v.name = name
                return v
            if not isinstance(v, int | float | np.ndarray | np.generic) or isinstance(v, bool):
                return v
            t = mg.tensor(v, name=name)
            return mg.tensor(v, name=name, requires_grad=True) if follow and t.dtype.kind == "f" else t

        found.append(mg.tree.map(leaf, x))
    return found


def scalar_of(result: Any) -> Tensor | None:
    """The tensor that backward starts at: the only floating-point result, or the first scalar among several."""
    leaves = [t for t in mg.tree.flatten(result)[0] if isinstance(t, Tensor) and t.requires_grad]
    return next((t for t in leaves if t.shape == ()), leaves[0] if leaves else None)


def record(fn: Callable, inputs: Sequence[Any], optimizer: Any = None) -> Run:
    """Run `fn` and write down what happens, forwards and backwards; with an optimiser, also its step.

    If `fn` calls `backward` (and `optimizer.step`) itself, that is what is written down. An exception ends the run, is
    kept in `error`, and the graph goes as far as the run did. Without an optimiser, gradients that leaves and
    parameters had before are put back.
    """
    watch = Watch()
    loss: Tensor | None = None
    run = Run(Graph())
    cells: dict[int, Any] = {}
    grads: dict[int, Any] = {}

    def remember(t: Tensor) -> None:
        cell = (t.attrs or {}).get("variable", t) if t.op is READ else t
        if id(cell) not in cells and t.requires_grad and not t.inputs:
            cells[id(cell)], grads[id(cell)] = cell, cell.grad

    class Leaves(mg.debug.Hook):
        def before(self, node: Any) -> None:
            for x in node.inputs:
                if not x.inputs:
                    remember(x)

    held: dict[int, tuple[Variable, Any]] = {}
    if optimizer is not None:
        optimizer.zero_grad()
        held = {id(v): (v, v.numpy().copy()) for group in optimizer.groups for v in group.parameters}
    try:
        with mg.record() as run.graph, mg.debug.hooks(watch, Leaves()), np.errstate(all="ignore"):
            result = fn(*inputs)
            loss = scalar_of(result)
            went_back = any(e.kind == "gradient" for e in watch.events)
            if loss is not None and not went_back:
                if loss.shape == ():
                    loss.backward()
                else:
                    run.seed_note = "the result is not a scalar: backward starts from ones, as for its sum"
                    loss.backward(mg.ones(loss.shape, dtype=loss.dtype))
    except Exception as error:  # shown on the drawing, at the operation that raised it
        run.error, run.failed = error, watch.started
    run.loss = None if loss is None else found_in(run.graph, loss)
    for e in watch.events:
        node = found_in(run.graph, e.node)
        if node is not None:
            run.events.append(Event(e.kind, node, e.value, e.index, e.before))
    by_cell = {id((n.attrs or {}).get("variable", n)): n for n in run.graph.nodes if not n.inputs and n.requires_grad}
    for key, cell in cells.items():
        if cell.grad is not None and key in by_cell and cell.grad is not grads[key]:
            before = None if optimizer is not None else grads[key]
            run.events.append(
                Event("accumulate", by_cell[key], copied(cell.grad), before=None if before is None else copied(before))
            )
    if optimizer is not None and run.error is None:
        optimizer.step()
        for key, (variable, before) in held.items():
            if key in by_cell:
                run.events.append(Event("update", by_cell[key], variable.numpy().copy(), before=before))
    elif optimizer is None:
        for key, cell in cells.items():
            if isinstance(cell, Variable) or cell.grad is not grads[key]:
                cell.grad = grads[key]
    return run


def found_in(graph: Graph, tensor: Tensor) -> Tensor | None:
    """The node for a tensor of the run, None for what is not part of the graph (the inside of a loop)."""
    try:
        return graph.node(tensor)
    except ArgumentError:
        return None
