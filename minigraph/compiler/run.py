"""The executor: a planned graph as something that can be called with arrays.

It owns the arena. Each call takes a run function with its own buffers from a stock, so several threads may call one
executable at a time; they do not see each other's intermediate values. An exception inside the generated code is traced
back to the node whose line it is, and says what the dynamic mode would have said.
"""

from __future__ import annotations

import linecache
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from ..errors import MinigraphError
from ..graph import Graph, copy_node
from ..op import common_device, explained
from ..tensor import Tensor, run_watched
from .codegen import Code, generate
from .memory import MemoryPlan, plan_memory
from .schedule import schedule

_number = count(1).__next__


def computes(node: Tensor) -> Callable:
    """The function `f(*arrays, **attrs)` that computes a node on the device where its inputs are."""
    return node.op.at(common_device(node.op, node.inputs))


def writes_into(node: Tensor) -> Callable | None:
    """The NumPy function `f(*arrays, **attrs, out=buffer)` that computes a node into a buffer, if there is one."""
    if type(node.value) is tuple or node.op.view or node.device.kind != "cpu" or node.inputs[0].device.kind != "cpu":
        return None
    if isinstance(node.op.numpy, np.ufunc):
        return node.op.numpy
    return node.op.into


class Executable:
    """A graph that runs: `executable(arrays)` takes the arrays of the inputs and of the variables read, in order, and
    returns the arrays of the outputs and of the assigned variables.

    Attributes:
        source: the text of the generated function.
        memory: the `MemoryPlan`.
        assigned, cleared: the variables that get the trailing results, and those that are set to None.

    Args:
        graph: what to run.
        donate: for each output, in order, the index of an input whose array the caller gives away: the output is
            computed into it.

    >>> with mg.Graph() as g:
    ...     y = mg.placeholder((2,), name="x") * 2.0
    >>> run = mg.compiler.Executable(g)
    >>> run([np.ones(2, "float32")])
    [array([2., 2.], dtype=float32)]
    """

    def __init__(self, graph: Graph, donate: Sequence[int] = ()):
        self.graph = graph
        self.donated = {id(t): graph.inputs[i] for t, i in zip(graph.outputs, donate, strict=False)}
        self.order = schedule(graph)
        self.assigned = [cell for cell, t in graph.assigns.items() if t is not None]
        self.cleared = [cell for cell, t in graph.assigns.items() if t is None]
        planned = {id(n) for n in self.order if writes_into(n) is not None}
        self.memory: MemoryPlan = plan_memory(graph, self.order, planned)
        self._stock: deque[Callable] = deque()

    @cached_property
    def code(self) -> Code:
        """The generated function, as `codegen` gives it, with its names bound by `make`."""
        return generate(self.graph, self.order, self.memory, computes, writes_into, self.donated)

    @property
    def source(self) -> str:
        """The text of the generated function."""
        return self.code.source

    @cached_property
    def make(self) -> Callable:
        """The loaded text: a function of the buffers that returns the run function."""
        code = self.code
        file = code.file = f"<minigraph {self.graph.name} {_number()}>"
        names = dict(code.names)
        linecache.cache[file] = (len(code.source), None, code.source.splitlines(True), file)
        weakref.finalize(self, linecache.cache.pop, file, None).atexit = False  # the text goes when the program goes
        exec(compile(code.source, file, "exec"), names)
        return names["make"]

    def _instance(self) -> Callable:
        """A run function with buffers of its own."""
        try:
            return self._stock.pop()
        except IndexError:
            pass
        arena = np.empty(self.memory.arena + 64, np.uint8)
        start = -arena.ctypes.data % 64
        views = []
        for _, node, offset in self.code.buffers:
            piece = arena[start + offset : start + offset + node.nbytes]
            views.append(piece.view(node.dtype).reshape(node.shape))
        return self.make(*views)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        run = self._instance()
        try:
            results = run(*arrays)
        except Exception as error:
            raise self._explain(error) from None
        self._stock.append(run)
        return results

    def _explain(self, error: Exception) -> Exception:
        """What the operation at the failing line would have said in dynamic mode."""
        code, trace, line = self.code, error.__traceback__, 0
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == code.file:
                line = trace.tb_lineno
            trace = trace.tb_next
        node = code.lines.get(line)
        if node is None:
            return error
        better = explained(node.op, node.inputs, node.attrs, error)
        if isinstance(better, MinigraphError) and node.site is not None:
            better = type(better)(
                better.what, expected=better.expected, actual=better.actual, remedy=better.remedy, site=node.site
            )
        return better

    def debug(self, arrays: Sequence[Any], hooks: Sequence[Any]) -> list[Any]:
        """Run node by node, in the scheduled order, telling the hooks before and after each. Same results."""
        found: dict[int, Tensor] = {}
        for n, a in zip([*self.graph.inputs, *self.graph.reads.values()], arrays, strict=True):
            found[id(n)] = concrete(n, a)
        for n in self.graph.constants:
            found.setdefault(id(n), n)
        for n in self.order:
            t = copy_node(n, [found[id(x)] for x in n.inputs])
            t.value = run_watched(t, hooks)
            found[id(n)] = t
        return [found[id(n)].value for n in self.graph.roots()]


def concrete(n: Tensor, array: Any) -> Tensor:
    """The leaf `n` with a value."""
    t = Tensor(array, name=n.name)
    t.op, t.attrs, t.site, t.scope = n.op, n.attrs, n.site, n.scope
    return t
