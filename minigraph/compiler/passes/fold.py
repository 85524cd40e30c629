"""Constant folding: what depends on constants only is computed once, now.

Numbers in the program, shapes that became numbers, and everything computed from them alone have the same value in every
call. A result that is much larger than what it is made of (`zeros((1000, 1000))`) stays an operation: storing it would
cost more than making it.
"""

from __future__ import annotations

from ...errors import MinigraphError
from ...graph import Graph, substitute
from ...op import Spec, common_device
from ...tensor import Tensor
from .change import Change

LARGEST_GROWTH = 1 << 16  # bytes that a folded result may have beyond those of its inputs


def fold_constants(graph: Graph) -> Graph:
    """Replace operations on constants by their value. Values are computed as the operation would compute them.

    >>> f = mg.compile(lambda x: x * (mg.tensor(2.0) * 3.0))
    >>> f(mg.tensor(1.0))
    tensor(6., dtype=float32)
    >>> f.passes[0]
    fold_constants: 5 -> 3 nodes, 1 change
      1 x  constant expression -> its value
    """
    changes: list[Change] = []

    def visit(n: Tensor) -> Tensor:
        if n.op.barrier or any(x.op is not None for x in n.inputs):
            return n
        value = n.value
        if n.is_symbolic:
            if type(value) is not Spec or value.nbytes > LARGEST_GROWTH + sum(x.nbytes for x in n.inputs):
                return n
            try:
                value = n.op.at(common_device(n.op, n.inputs))(*[x.value for x in n.inputs], **n.attrs)
            except (MinigraphError, ValueError, IndexError, ArithmeticError, TypeError):
                return n  # the program will raise it when, and if, it gets there
        elif type(value) is tuple or value.nbytes > LARGEST_GROWTH + sum(x.nbytes for x in n.inputs):
            return n
        new = Tensor(value, name=n.name)
        new.site, new.scope = n.site, n.scope
        changes.append(Change("constant expression -> its value", (n,), (new,)))
        return new

    result = substitute(graph, visit)
    used = {id(x) for n in result.nodes for x in n.inputs} | {id(n) for n in result.roots()}
    kept = [n for n in result.nodes if n.op is not None or id(n) in used]
    return Graph(
        kept,
        result.inputs,
        result.outputs,
        reads=result.reads,
        assigns=result.assigns,
        name=graph.name,
        changes=changes,
    )
