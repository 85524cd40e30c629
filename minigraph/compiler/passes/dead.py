"""Dead-code elimination: what no output and no assigned variable needs is not computed.

Tracing notes everything that a function computes, also what it throws away: gradients of inputs nobody asked for,
values that were only printed. One walk from the results backwards finds what is needed; the rest is dropped.
"""

from __future__ import annotations

from ...graph import Graph
from .change import Change


def eliminate_dead_code(graph: Graph) -> Graph:
    """Remove every node from which no result can be reached. Inputs stay: they are the graph's signature.

    >>> with mg.Graph() as g:
    ...     x = mg.placeholder((), name="x")
    ...     unused, y = mg.exp(x), x + 1.0
    >>> g.outputs = (y,)
    >>> len(g.operations), len(mg.compiler.eliminate_dead_code(g).operations)
    (2, 1)
    """
    needed: set[int] = set()
    stack = graph.roots()
    while stack:
        n = stack.pop()
        if id(n) not in needed:
            needed.add(id(n))
            stack.extend(n.inputs)
    needed.update(map(id, graph.inputs))
    changes = [Change("unused -> removed", (n,), ()) for n in graph.nodes if id(n) not in needed]
    return Graph(
        [n for n in graph.nodes if id(n) in needed],
        graph.inputs,
        graph.outputs,
        reads={cell: n for cell, n in graph.reads.items() if id(n) in needed},
        assigns=graph.assigns,
        name=graph.name,
        changes=changes,
    )
