"""Layout: in which order the numbers of a result lie in memory.

A transposed operand costs a matrix product nothing, since BLAS is told how it lies (`loops.Views`,
`statements.matmul`), and a kernel reads through any view. A transposed *result* that has to be in memory costs a copy.
So the product is asked for the result as it is needed:

    (a @ b).T -> b.T @ a.T      if nobody needs a @ b itself

What a loop reads in every round is laid out once, before it: see `hoist` in `loops`.
"""

from __future__ import annotations

from ...graph import Graph, substitute
from ...tensor import Tensor
from .algebra import is_op, made
from .change import Change


def layout(graph: Graph) -> Graph:
    """Compute matrix products in the order in which their results are needed.

    >>> f = mg.compile(lambda a, b: (a @ b).mT * 2.0, passes=[mg.compiler.passes.layout])
    >>> f(mg.ones((2, 3)), mg.ones((3, 4))).shape
    (4, 2)
    >>> f.passes[0].changes
    (matrix_transpose -> matmul   ((a @ b).T -> b.T @ a.T),)
    """
    changes: list[Change] = []
    kept = {id(t) for t in graph.roots()}
    alone = {id(n) for n in graph.nodes if is_op(n, "matmul") and len(graph.users(n)) == 1 and id(n) not in kept}
    given = {id(n) for n in graph.inputs}
    before = iter([n for n in graph.nodes if n.inputs and id(n) not in given])  # `visit` sees them in this order

    def visit(n: Tensor) -> Tensor:
        old = next(before)
        if not is_op(old, "matrix_transpose") or id(old.inputs[0]) not in alone:
            return n
        a, b = n.inputs[0].inputs
        if a.ndim < 2 or b.ndim < 2:
            return n
        y = made("matmul", *[made("matrix_transpose", x, like=n) for x in (b, a)], like=n)
        changes.append(Change("(a @ b).T -> b.T @ a.T", (old,), (y,)))
        return y

    result = substitute(graph, visit)
    result.changes = tuple(changes)
    return result
