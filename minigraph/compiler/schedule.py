"""The order in which operations run.

Any topological order computes the same values; they differ in how much memory is alive at a time. The order in which
the program was written is kept, with one improvement: an operation whose result is smaller than the inputs it uses up
(the update of a parameter, which ends the life of a gradient) runs as soon as it can.
"""

from __future__ import annotations

from ..graph import Graph
from ..op import ROOT, Scope, Spec
from ..tensor import Tensor


def again(scope: Scope | None) -> Scope:
    """The scope of what is computed a second time: a scope of that name, below its own."""
    return scope if scope is not None and scope.kind == "again" else (scope or ROOT).child("again", "again")


def recomputed(n: Tensor) -> bool:
    """Whether a node is computed a second time, to save memory (`passes/rematerialize.py`)."""
    return n.scope is not None and n.scope.kind == "again"


def nbytes(t: Tensor) -> int:
    """Bytes of a node's value (of all of them, for a node with several results)."""
    v = t.value
    return sum(x.nbytes for x in v) if type(v) is tuple else v.nbytes if type(v) is Spec else getattr(v, "nbytes", 0)


def schedule(graph: Graph) -> list[Tensor]:
    """The operations of a graph in the order in which they are to run. A graph in which something is computed again
    keeps its order.

    >>> with mg.Graph() as g:
    ...     y = mg.sin(mg.placeholder((2,)))
    >>> [n.op.name for n in mg.compiler.schedule(g)]
    ['sin']
    """
    pending = list(graph.operations)
    if any(map(recomputed, pending)):
        return pending
    waiting = {id(n): len({id(x) for x in n.inputs}) for n in pending}
    computed = {id(n) for n in pending}
    for n in pending:
        waiting[id(n)] = len({id(x) for x in n.inputs if id(x) in computed})
    uses = {id(n): len(graph.users(n)) for n in graph.nodes}
    kept = {id(n) for n in graph.roots()}
    order: list[Tensor] = []
    done: set[int] = set()

    def frees(n: Tensor) -> bool:
        """Whether running `n` now lowers the memory in use."""
        ends = sum(nbytes(x) for x in {id(x): x for x in n.inputs}.values()
                   if uses[id(x)] == 1 and id(x) in computed and id(x) not in kept)  # fmt: skip
        return ends >= nbytes(n) > 0

    def perform(n: Tensor) -> None:
        todo = [n]
        while todo:
            n = todo.pop()
            if id(n) in done:
                continue
            done.add(id(n))
            order.append(n)
            for x in {id(x): x for x in n.inputs}.values():
                uses[id(x)] -= 1
            early = []
            for user in graph.users(n):
                waiting[id(user)] -= 1
                if waiting[id(user)] == 0 and id(user) not in done and frees(user):
                    early.append(user)
            todo.extend(reversed(early))

    for n in pending:
        if id(n) not in done:
            perform(n)
    return order
