"""Layout: in which order the numbers of a result lie in memory.

A transposed operand costs a matrix product nothing, since BLAS is told how it lies (`loops.Views`,
`statements.matmul`), and a kernel reads through any view. A transposed *result* that has to be in memory costs a copy.
So the product is asked for the result as it is needed:

    (a @ b).T -> b.T @ a.T                             if nobody needs a @ b itself
    place(a, i) + place(b, j) -> assemble(a, b)        if the blocks have one shape and do not overlap

The second is what the gradients of slices are made of, such as those of the gates of an LSTM.

What a loop reads in every round is laid out once, before it: see `hoist` in `loops`.
"""

from __future__ import annotations

import numpy as np

from ...graph import Graph, substitute
from ...tensor import Tensor
from .algebra import is_op, made
from .change import Change

LARGEST = 1 << 22  # elements of a result up to which it is looked at which blocks overlap


def pieces(n: Tensor) -> list[Tensor]:
    """The `place` nodes that a sum consists of, in order."""
    return [n] if is_op(n, "place") else [p for x in n.inputs for p in pieces(x)]


def assembled(graph: Graph) -> set[int]:
    """Ids of the largest sums of blocks that do not overlap."""
    kept = {id(t) for t in graph.roots()}
    sums: dict[int, tuple[np.ndarray, tuple[int, ...]]] = {}  # what is taken, and the shape of each block
    largest: set[int] = set()
    for n in graph.operations:
        if is_op(n, "place") and n.size <= LARGEST and n.device.kind == "cpu":
            taken = np.zeros(n.shape, bool)
            taken[n.attrs["key"].items] = True
            sums[id(n)] = taken, n.inputs[0].shape
        elif is_op(n, "add") and all(
            id(x) in sums and id(x) not in kept and len(graph.users(x)) == 1 for x in n.inputs
        ):
            (a, block), (b, other) = [sums[id(x)] for x in n.inputs]
            if block == other and n.inputs[0] is not n.inputs[1] and a.shape == b.shape and not (a & b).any():
                sums[id(n)] = a | b, block
                largest = (largest - {id(x) for x in n.inputs}) | {id(n)}
    return largest


def layout(graph: Graph) -> Graph:
    """Compute matrix products in the order in which their results are needed, and blocks where they belong.

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

    whole = assembled(graph)

    def visit(n: Tensor) -> Tensor:
        old = next(before)
        if id(old) in whole:
            blocks = pieces(n)
            y = made("assemble", *[p.inputs[0] for p in blocks], like=n, shape=n.shape,
                     keys=tuple([p.attrs["key"] for p in blocks]))  # fmt: skip
            changes.append(Change("place(a, i) + place(b, j) -> assemble(a, b)", (old,), (y,)))
            return y
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
