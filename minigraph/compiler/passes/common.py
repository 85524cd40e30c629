"""Common-subexpression elimination: what is computed twice from the same things is computed once.

Nodes are visited in order with their inputs already merged, so two operations are equal exactly when their operation,
attributes and inputs are: one look-up in a table (value numbering; J. Cocke, "Global common subexpression elimination",
1970). Operations marked as barriers, such as a checkpoint's second forward pass, are meant to be done twice, and so is
what `rematerialize` computes again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Graph, substitute
from ...tensor import Tensor
from ..schedule import recomputed
from .change import Change


def exact(value: Any) -> Any:
    """A key that tells apart what `==` does not: 1, 1.0 and True; 0.0 and -0.0."""
    if isinstance(value, tuple):
        return tuple(map(exact, value))
    return (type(value), repr(value)) if isinstance(value, float) else (type(value), value)


def key(n: Tensor) -> Any:
    """Equal for nodes that certainly have the same value; None for a node that must stay by itself."""
    if n.op is None:
        v = n.value
        if n.is_symbolic or type(v) is tuple or v.nbytes > 4096 or not isinstance(v, np.ndarray | np.generic):
            return None
        return (v.dtype, v.shape, v.tobytes())
    if n.op.barrier or not n.inputs or recomputed(n):
        return None
    attrs = tuple([(k, exact(v)) for k, v in sorted(n.attrs.items())])
    try:
        hash(attrs)
    except TypeError:  # metadata of a user's operation that cannot be compared
        return None
    return (n.op, tuple([id(x) for x in n.inputs]), attrs)


def eliminate_common_subexpressions(graph: Graph) -> Graph:
    """Merge operations that are equal in operation, attributes and inputs; and equal small constants.

    >>> f = mg.compile(lambda x: mg.sin(x) + mg.sin(x), passes=[mg.compiler.eliminate_common_subexpressions])
    >>> _ = f(mg.tensor(1.0))
    >>> f.passes[0].changes
    (sin -> sin   (equal expressions -> one),)
    """
    table: dict[Any, Tensor] = {}
    changes: list[Change] = []

    def visit(n: Tensor) -> Tensor:
        k = key(n)
        if k is None:
            return n
        first = table.setdefault(k, n)
        if first is not n and n.op is not None:
            changes.append(Change("equal expressions -> one", (n,), (first,)))
        return first

    result = substitute(graph, visit, constants=True)
    result.changes = tuple(changes)
    return result
