"""Rematerialisation: compute again what there is no room to keep.

The backward pass of a training step needs most results of the forward pass, in the opposite order, so they all wait in
memory for the turning point. Within a budget, some of them are dropped and computed again shortly before they are
needed: the step takes longer and fits. The rules, which `compiler/budget.py` explains:

    a value that waits        -> the same operation on the same inputs, just before the next use
    one of a kernel's results -> a kernel that makes only that one
    its inputs are not there  -> computed again, too, first

No value changes, as the same operations run on the same inputs. Random operations draw the same numbers again, since
their key is an input. What is never done twice: results that are returned or assigned, barriers (a checkpoint), several
results of one operation, and operations that a user defined, since nobody knows what else they do.

What is done again bears the scope `again`, as drawings and prints show. Common-subexpression elimination leaves it
alone, and a graph with such nodes runs in the order in which they are written: an earlier time would be no use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import index, is_
from typing import NamedTuple

from ...errors import ArgumentError
from ...graph import Graph, copy_node
from ...op import spec_of
from ...tensor import Tensor
from .. import blas
from ..budget import Played, Problem, Task, fit
from ..loops import Views, is_item
from ..memory import MemoryPlan, owner_of, plan_memory
from ..profile import flops_of, graphs_in, traffic
from ..program import NativeProgram, key_of
from ..report import quantity
from ..run import writes_into
from ..schedule import again, nbytes, schedule
from ..threads import threads
from . import Pass, default_passes
from .change import Change
from .dead import eliminate_dead_code
from .fuse import FUSED

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
ROUNDS = 8  # plans that are tried: places in an arena leave holes, so a plan takes more than what is alive
CALL = 500.0  # nanoseconds that any operation takes
FLOPS, BYTES = 50.0, 10.0  # floating-point operations and bytes in a nanosecond


def bytes_of(memory: int | str) -> int:
    """A number of bytes from a number, or from a text with a unit: "64MB" is 64 million, "64MiB" is 64 * 2**20.

    Raises:
        ArgumentError: it is neither, or not positive.

    >>> from minigraph.compiler.passes.rematerialize import bytes_of
    >>> bytes_of("1.5GiB"), bytes_of("64 MB"), bytes_of(4096)
    (1610612736, 64000000, 4096)
    """
    found = 0
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]i?)?b?\s*", memory, re.IGNORECASE)
        found = 0 if match is None else int(float(match[1]) * UNITS[(match[2] or "").lower()])
    elif not isinstance(memory, bool) and hasattr(memory, "__index__"):
        found = index(memory)
    if found <= 0:
        raise ArgumentError(
            "compile: memory", expected='a positive number of bytes, or a text such as "64MB"', actual=repr(memory)
        )
    return found


def repeatable(n: Tensor) -> bool:
    """Whether an operation may be done twice."""
    nested = [m for g in graphs_in((n.attrs or {}).values()) for m in g.operations]
    return n.op.builtin and not n.op.barrier and all(map(repeatable, nested))


def time_of(n: Tensor, views: Views) -> float:
    """A rough estimate of the nanoseconds that a node takes: what counts is which one takes longer."""
    return CALL + flops_of(n) / FLOPS + sum(traffic(n, views)) / BYTES


class Layout(NamedTuple):
    """A graph in the order in which it runs, as the planner of a backend sees it.

    Attributes:
        graph, memory: the graph (for C and CUDA, with the copies that they need), and the plan of its memory.
        nodes: the operation of each task. problem: what `budget` works with.
        values: {(id of a node, which of its results): number of the value}.
        made_again: for each value, the operation that makes it again, on its own inputs; None where nothing does.
    """

    graph: Graph
    memory: MemoryPlan
    nodes: Sequence[Tensor]
    problem: Problem
    values: dict[tuple[int, int], int]
    made_again: Sequence[Tensor | None]


def measured(graph: Graph, backend: str) -> MemoryPlan:
    """The plan of a graph's memory."""
    return numpy_plan(graph)[1] if backend == "numpy" else native(graph, backend).memory


def native(graph: Graph, backend: str) -> NativeProgram:
    if backend == "cuda":
        from ..cuda_program import CudaProgram

        return CudaProgram(graph)
    found = blas.find() is not None
    return NativeProgram(graph, products=found, threads=threads(), passes=default_passes("c"))


def numpy_plan(graph: Graph) -> tuple[list[Tensor], MemoryPlan, set[int]]:
    order = schedule(graph)
    planned = {id(n) for n in order if writes_into(n) is not None}
    return order, plan_memory(graph, order, planned), planned


def numpy_layout(graph: Graph) -> Layout:
    order, memory, planned = numpy_plan(graph)
    views, owners = Views(), dict[int, Tensor]()
    for n in order:
        if n.op.view and n.inputs:
            owners[id(n)] = owner_of(n.inputs[0], owners)
    nodes = [n for n in order if id(n) not in owners]
    values = {(id(n), 0): i for i, n in enumerate(nodes)}
    kept = frozenset(values[id(o), 0] for t in graph.roots() if (id(o := owner_of(t, owners)), 0) in values)
    tasks, made_again = [], []
    for n in nodes:
        reads = dict.fromkeys(values[id(o), 0] for x in n.inputs if (id(o := owner_of(x, owners)), 0) in values)
        over = [
            values[id(x), 0] for x in n.inputs
            if n.op.elementwise and id(n) in planned and id(x) in planned and (id(x), 0) in values
            and (x.shape, x.dtype) == (n.shape, n.dtype)
        ]  # fmt: skip
        tasks.append(Task(tuple(reads), (values[id(n), 0],), time_of(n, views), over=tuple(over)))
        made_again.append(n if type(n.value) is not tuple and repeatable(n) else None)
    recipes = [t if n is not None else None for t, n in zip(tasks, made_again, strict=True)]
    return Layout(graph, memory, nodes, Problem(tasks, list(map(nbytes, nodes)), recipes, kept), values, made_again)


def native_layout(graph: Graph, backend: str) -> Layout:
    program = native(graph, backend)
    steps = program.steps
    values = {key: i for i, key in enumerate([key for s in steps for key in s.writes])}
    kept = frozenset(values[key] for t in program.roots if (key := key_of(program.base(t))) in values)
    tasks, sizes = [], []
    recipes: list[Task | None] = []
    made_again: list[Tensor | None] = []
    for s in steps:
        n = s.node
        reads = tuple(dict.fromkeys(values[key] for b in s.reads if (key := key_of(b)) in values))
        makes = tuple([values[key] for key in s.writes])
        task = Task(reads, makes, time_of(n, program.views), program.scratch_of(s))
        tasks.append(task)
        sizes += [spec_of(v).nbytes for v in (n.value if type(n.value) is tuple else (n.value,))]
        for i, v in enumerate(makes):
            node: Tensor | None = n if repeatable(n) else None
            recipe = task
            if node is not None and len(makes) > 1:
                node = one_result(n, i) if n.op is FUSED else None
            if node is not None and node is not n:
                bases = [key_of(program.base(x)) for x in node.inputs]
                reads = tuple(dict.fromkeys(values[key] for key in bases if key in values))
                recipe = Task(reads, (v,), time_of(node, program.views), task.scratch)
            recipes.append(None if node is None else recipe)
            made_again.append(node)
    problem = Problem(tasks, sizes, recipes, kept)
    return Layout(program.graph, program.memory, [s.node for s in steps], problem, values, made_again)


def one_result(n: Tensor, i: int) -> Tensor:
    """A kernel that makes only result number `i` of the kernel `n`, of those inputs that it needs."""
    body = n.attrs["body"]
    needed = eliminate_dead_code(Graph(body.nodes, body.inputs, [body.outputs[i]], name=body.name))
    used = {id(x) for m in needed.nodes for x in m.inputs}
    pairs = [(x, outer) for x, outer in zip(body.inputs, n.inputs, strict=True) if id(x) in used]
    inputs = [x for x, _ in pairs]
    dropped = {id(x) for x in body.inputs} - set(map(id, inputs))
    inner = Graph([m for m in needed.nodes if id(m) not in dropped], inputs, needed.outputs, name=body.name)
    node = copy_node(n, [outer for _, outer in pairs], attrs={"body": inner})
    node.value = spec_of(body.outputs[i].value)
    return node


class Writer:
    """Writes down as a graph what was played."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.values, self.recipes = layout.values, layout.made_again
        self.leaves = [n for n in layout.graph.nodes if not n.inputs and (id(n), 0) not in layout.values]
        self.given = {id(n): n for n in (*layout.graph.inputs, *self.leaves)}
        self.current: dict[int, Tensor] = {}  # value -> the node that has it now
        self.order: dict[int, Tensor] = {}
        self.rebuilt: dict[tuple[int, ...], Tensor] = {}

    def now(self, x: Tensor) -> Tensor:
        """The node of the new graph that has the value of `x` now."""
        if id(x) in self.given:
            return x
        if (id(x), 0) in self.values and type(x.value) is not tuple:
            return self.current[self.values[id(x), 0]]
        if is_item(x) and (key := (id(x.inputs[0]), x.attrs["index"])) in self.values:
            made = self.current[self.values[key]]
            return self.on(x, [made]) if type(made.value) is tuple else made
        if (id(x), 0) in self.values:
            return self.current[self.values[id(x), 0]]
        return self.on(x, [self.now(y) for y in x.inputs])

    def on(self, x: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """A node on these inputs: itself, if they are its own."""
        key = (id(x), *map(id, inputs))
        if key not in self.rebuilt:
            made = x if all(map(is_, inputs, x.inputs)) else copy_node(x, inputs)
            self.rebuilt[key] = self.order[id(made)] = made
        return self.rebuilt[key]

    def write(self, played: Played) -> Graph:
        """The graph, with one change for each value that is made again."""
        old, changes = self.layout.graph, []
        rule = f"dropped, as time / (bytes x wait ** {played.patience:g}) was least -> made again"
        for first, i in played.moves:
            if first:
                n = self.layout.nodes[i]
                node = self.on(n, [self.now(x) for x in n.inputs])
                for v in self.layout.problem.tasks[i].makes:
                    self.current[v] = node
            else:
                recipe = self.recipes[i]
                assert recipe is not None
                node = copy_node(recipe, [self.now(x) for x in recipe.inputs])
                node.scope = again(recipe.scope)
                self.order[id(node)] = node
                changes.append(Change(rule, (self.current[i],), (node,)))
                self.current[i] = node
        outputs = [self.now(t) for t in old.outputs]
        assigns = {cell: None if t is None else self.now(t) for cell, t in old.assigns.items()}
        nodes = {id(n): n for n in (*old.inputs, *self.leaves, *self.order.values())}.values()
        return Graph(nodes, old.inputs, outputs, reads=old.reads, assigns=assigns, name=old.name, changes=changes)


def rematerialize(memory: int | str, *, backend: str = "numpy") -> Pass:
    """A pass that keeps the peak of a graph's memory plan within `memory` (bytes, or a text such as "64MB") by
    computing values again. It is to be the last pass; `mg.compile(fn, memory=...)` puts it there.

    Args:
        memory: what `compiled.memory.peak` may be at most: the arena, and results outside of it.
        backend: whose plan is meant, "numpy", "c" or "cuda".

    Raises:
        ArgumentError: `memory` is not a number of bytes; from the pass: no plan was found that needs so little. It says
            how much was reached, and what holds it.

    >>> def f(x):
    ...     a = mg.exp(x)
    ...     b = mg.sin(a)
    ...     c = mg.sin(b)
    ...     return (mg.sin(c) * c).sum() + (b * a).sum()
    >>> tight = mg.compile(f, passes=[mg.compiler.rematerialize("1kB")], backend="numpy")
    >>> tight(mg.ones(64)).shape, tight.memory.peak <= 1000
    ((), True)
    """
    limit = bytes_of(memory)

    def rematerialize(graph: Graph) -> Graph:
        layout = numpy_layout(graph) if backend == "numpy" else native_layout(graph, backend)
        if layout.memory.peak <= limit:
            return Graph(graph.nodes, graph.inputs, graph.outputs, reads=graph.reads, assigns=graph.assigns,
                         name=graph.name)  # fmt: skip
        return within(layout, limit, backend)

    return rematerialize


def within(layout: Layout, limit: int, backend: str) -> Graph:
    """A graph whose plan needs at most `limit` bytes.

    The plan takes some bytes more than are alive at one time, since places in an arena leave holes. So the room for
    what is alive is lowered until the plan fits. If nothing fits into the room, the room in between tells how low the
    plan can get.
    """
    kept = fit(layout.problem, sum(layout.problem.sizes))
    assert kept is not None
    room, too_little, lowest, holding = limit, 0, layout.memory.peak, kept.holding
    for _ in range(ROUNDS):
        played = fit(layout.problem, room)
        if played is None:
            too_little, room = room, (room + kept.peak) // 2
            continue
        graph = Writer(layout).write(played)
        peak = measured(graph, backend).peak
        if peak <= limit:
            return graph
        if peak <= lowest:
            lowest, holding = peak, played.holding
        room = max(played.peak - (peak - limit), (too_little + played.peak) // 2)
    raise impossible(layout, limit, lowest, holding)


def impossible(layout: Layout, limit: int, lowest: int, holding: Sequence[int]) -> ArgumentError:
    """The error for a budget that no plan meets."""
    places = {v: key for key, v in layout.values.items()}
    nodes = {id(n): n for n in layout.nodes}
    held = sorted(holding, key=lambda v: -layout.problem.sizes[v])[:5]
    named = ", ".join(described(nodes[places[v][0]], layout.problem.sizes[v]) for v in held)
    return ArgumentError(
        f"compile({layout.graph.name}): memory is too little, even if everything possible is computed again",
        expected=f"at least {lowest:,} bytes, the lowest peak that was reached, held by {named}",
        actual=f"{limit:,} bytes",
        remedy="a larger budget, or a smaller batch",
    )


def described(n: Tensor, size: int) -> str:
    """`matmul of net.layers.0 (1.2 MiB)`"""
    where = f" of {n.scope}" if n.scope is not None and n.scope.name else ""
    return f"{n.op.name}{where} ({quantity(size, 'B', 1024)})"
