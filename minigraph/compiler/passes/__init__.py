"""Passes: named functions `Graph -> Graph`, and the pipeline that applies a list of them.

A pass returns a new graph whose `.changes` say what it did: the rule, the nodes it replaced and the nodes that replace
them. It keeps the values of all outputs and assigned variables bit for bit, unless it is documented to be one of the
value-changing ones, which are never on by default. Any function with this signature is a pass; put yours in the list.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...errors import ArgumentError
from ...graph import Graph
from . import rearrange  # its rules enter themselves into the table of `expand`
from .algebra import simplify
from .change import Change
from .common import eliminate_common_subexpressions
from .dead import eliminate_dead_code
from .expand import expand
from .fold import fold_constants
from .fuse import fuse
from .layout import layout
from .loops import hoist, share_loops
from .strength import reduce_strength

Pass = Callable[[Graph], Graph]


class Step(NamedTuple):
    """One application of a pass, for looking at: the graphs before and after, what changed, and the seconds it took."""

    name: str
    before: Graph
    after: Graph
    changes: tuple[Change, ...]
    seconds: float

    def __repr__(self) -> str:
        a, b = len(self.before.nodes), len(self.after.nodes)
        lines = [f"{self.name}: {a} -> {b} nodes, {len(self.changes)} change{'' if len(self.changes) == 1 else 's'}"]
        counts: dict[str, int] = {}
        for c in self.changes:
            counts[c.rule] = counts.get(c.rule, 0) + 1
        lines += [f"  {n} x  {rule}" for rule, n in sorted(counts.items(), key=lambda item: -item[1])]
        return "\n".join(lines)


def default_passes(backend: str = "numpy") -> list[Pass]:
    """The passes of `mg.compile` for a backend, "numpy", "c" or "cuda", in order.

    Those for NumPy change no bit. Of those for C and CUDA, `hoist`, `expand` and `layout` may add up in another order,
    so that the last digits differ.

    For both, composite operations are taken apart and everything that can share a loop is put together.

    >>> [p.__name__ for p in mg.compiler.default_passes()]
    ['fold_constants', 'simplify', 'reduce_strength', 'eliminate_common_subexpressions', 'eliminate_dead_code']
    >>> [p.__name__ for p in mg.compiler.default_passes("c")][5:9]
    ['share_loops', 'hoist', 'expand', 'layout']
    >>> [p.__name__ for p in mg.compiler.default_passes("c")][12:]
    ['eliminate_common_subexpressions', 'eliminate_dead_code', 'fuse']
    """
    clean: list[Pass] = [
        fold_constants,
        simplify,
        reduce_strength,
        eliminate_common_subexpressions,
        eliminate_dead_code,
    ]
    if backend == "cuda":
        return [*clean, expand, layout, *clean, fuse]
    return [*clean, share_loops, hoist, expand, layout, *clean, fuse] if backend == "c" else clean


def optimize(graph: Graph, passes: Sequence[Pass]) -> tuple[Graph, list[Step]]:
    """Apply passes in order: the last graph, and one `Step` for each pass.

    Raises:
        ArgumentError: a pass returned something else than a Graph.

    >>> with mg.Graph() as g:
    ...     y = mg.sin(-(-mg.placeholder((2,), name="x")))
    >>> optimized, steps = mg.compiler.optimize(g, mg.compiler.default_passes())
    >>> print(optimized)
    graph(x: float32[2])
      %0 = sin(x)  float32[2]
      return %0
    """
    steps = []
    for p in passes:
        start = time.perf_counter()
        after = p(graph)
        name = getattr(p, "__name__", type(p).__name__)
        if not isinstance(after, Graph):
            raise ArgumentError(f"pass {name}: a pass returns a Graph", actual=type(after).__name__)
        steps.append(Step(name, graph, after, after.changes, time.perf_counter() - start))
        graph = after
    return graph, steps
