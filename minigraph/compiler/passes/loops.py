"""Loops: what a loop need not do in every round.

A round of a loop is small, and what it does one row at a time could often be done for all rounds at once, in one large
operation before the loop or behind it. And the backward loop of a `scan` computes again what the forward loop has
computed already. Two passes, each on the graph around the loops and on the loops' bodies together:

    share_loops   what the backward loop computes again -> kept by the forward loop, if it is worth more than its memory
    hoist         x[i] @ w in a round                  -> x @ w, before the loop
                  y[i] = a @ w, not used in the loop   -> a kept for all rounds, and one product behind the loop
                  total += a.T @ b in each round       -> a and b kept for all rounds, and one product behind the loop
                  total += a.sum(0)                    -> a kept for all rounds, and one sum behind the loop
                  the same result in each round        -> computed before the loop
                  h @ w.T in each round                -> w.T laid out once, before the loop

`share_loops` changes no value. `hoist` adds up in another order, so the last digits may differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph import Graph, copy_node
from ...op import OPS, spec_of
from ...tensor import Tensor
from ...variable import INPUT, leaf
from ..expressions import costly
from .algebra import is_op, made, simplify
from .change import Change
from .common import eliminate_common_subexpressions, exact
from .dead import eliminate_dead_code
from .fold import fold_constants

Finder = Callable[["Rebuilding"], Tensor]  # gives a node of the new graph
DEAR = 4  # operations of arithmetic on each element from which on a result is rather kept than computed again
FUNCTION = 10  # what exp, tanh and their like cost, in such operations


class Carry:
    """What a loop hands on: `start` is a node around the loop; `inside` and `out` are nodes of the body."""

    def __init__(self, start: Tensor, inside: Tensor, out: Tensor):
        self.start, self.inside, self.out = start, inside, out


class Stack:
    """A node of the body whose values of all rounds are kept."""

    def __init__(self, out: Tensor):
        self.out = out


class Kept(NamedTuple):
    """The values of a carry before each round."""

    carry: Carry


class Loop:
    """A `scan` taken apart, to be changed and put together again.

    Attributes:
        node: the scan as it was. body: its body, cleaned.
        carries, stacked: what it hands on, and what it keeps of all rounds; kept: whether it keeps the carries, too.
        elements, rest: (finder, node inside) for what it goes over, and for what is the same in all rounds.
        outcome: for each result of the old node, what it is now: a Carry, Stack or Kept, or a finder.
        swap: id of a node inside -> the node that takes its place.
    """

    def __init__(self, node: Tensor, used: set[int]):
        a, self.node = node.attrs, node
        self.body = body = cleaned(a["body"])
        carried, scanned = a["carried"], a["scanned"]
        self.length, self.reverse = a["length"], a["reverse"]
        outputs = len(body.outputs)
        self.carries = [
            Carry(x, inside, out)
            for x, inside, out in zip(node.inputs[:carried], body.inputs, body.outputs, strict=False)
        ]
        rest = carried + scanned
        self.elements: list[tuple[Finder, Tensor]] = [
            (given(x), inside) for x, inside in zip(node.inputs[carried:rest], body.inputs[carried:rest], strict=True)
        ]
        self.rest: list[tuple[Finder, Tensor]] = [
            (given(x), inside) for x, inside in zip(node.inputs[rest:], body.inputs[rest:], strict=True)
        ]
        self.stacked = [Stack(out) for out in body.outputs[carried:]]
        self.kept = a["history"] and any(outputs + k in used for k in range(carried))
        self.outcome: list[Any] = [*self.carries, *self.stacked]
        self.outcome += map(Kept, self.carries) if a["history"] else []
        self.used = used
        self.swap: dict[int, Tensor] = {}  # id of a node inside -> the node that takes its place
        self.changed = self.kept != a["history"]

    def stack(self, x: Tensor) -> Stack:
        """Keep a node's values of all rounds."""
        for known in self.stacked:
            if known.out is x:
                return known
        self.stacked.append(Stack(x))
        self.changed = True
        return self.stacked[-1]

    def all_rounds(self, x: Tensor) -> Finder:
        """The values of a node inside in all rounds, as one array."""
        for finder, inside in self.elements:
            if inside is x:
                return finder
        for carry in self.carries:
            if carry.inside is x and self.kept:
                return lambda now: now.result(self, Kept(carry))
        stack = self.stack(x)
        return lambda now: now.result(self, stack)

    def element(self, finder: Finder, inside: Tensor) -> None:
        """Let the loop go over a further array instead of computing `inside`."""
        new = leaf(INPUT, spec_of(inside.value), {"name": inside.name}, name=inside.name)
        self.elements.append((finder, new))
        self.swap[id(inside)] = new
        self.changed = True

    def build(self, now: Rebuilding) -> Tensor:
        """The loop as it is to be."""
        swapped = replaced(self.body, self.swap)
        outputs = [swapped(c.out) for c in self.carries] + [swapped(y.out) for y in self.stacked]
        order = reachable(outputs)
        ids = {id(n) for n in order}
        elements = [(f, x) for f, x in self.elements if id(x) in ids]
        rest = [(f, x) for f, x in self.rest if id(x) in ids]
        inside = [*[c.inside for c in self.carries], *[x for _, x in elements], *[x for _, x in rest]]
        given_ids = set(map(id, inside))
        body = Graph([*inside, *[n for n in order if id(n) not in given_ids]], inside, outputs, name=self.body.name)
        inputs = [now.new(c.start) for c in self.carries]
        inputs += [f(now) for f, _ in [*elements, *rest]]
        attrs: dict[str, Any] = {
            "body": body, "carried": len(self.carries), "scanned": len(elements), "length": self.length,
            "reverse": self.reverse, "history": self.kept,
        }  # fmt: skip
        node = copy_node(self.node, inputs, attrs=attrs)
        node.value = node.op.infer(*[spec_of(x.value) for x in inputs], **attrs)
        return node


class Rebuilding:
    """A graph on its way from the old nodes to the new ones."""

    def __init__(self, graph: Graph, loops: dict[int, Loop]):
        self.loops = loops
        self.found: dict[int, Tensor] = {}
        self.order: dict[int, Tensor] = {}
        self.built: dict[int, Tensor] = {}  # id of a loop -> its new node
        self.items: dict[Any, Tensor] = {}
        for n in graph.nodes:
            if id(n) in loops:
                loop = loops[id(n)]
                self.built[id(loop)] = self.emit(loop.build(self))
                self.found[id(n)] = self.built[id(loop)]
            elif is_op(n, "item") and id(n.inputs[0]) in loops:
                if n.attrs["index"] in loops[id(n.inputs[0])].used:
                    self.found[id(n)] = self.result(loops[id(n.inputs[0])], n.attrs["index"])
            elif not n.inputs:
                self.found[id(n)] = self.emit(n)
            else:
                inputs = [self.found[id(x)] for x in n.inputs]
                same = all(a is b for a, b in zip(inputs, n.inputs, strict=True))
                self.found[id(n)] = self.emit(n if same else copy_node(n, inputs))

    def emit(self, t: Tensor) -> Tensor:
        """Enter a node, after what it needs."""
        todo = [(t, False)]
        while todo:
            n, ready = todo.pop()
            if id(n) in self.order:
                continue
            if ready:
                self.order[id(n)] = n
            else:
                todo.append((n, True))
                todo.extend((x, False) for x in n.inputs)
        return t

    def new(self, old: Tensor) -> Tensor:
        return self.found[id(old)]

    def result(self, loop: Loop, which: Any) -> Tensor:
        """A result of a loop: an index of the old node's results, or what it is now."""
        if isinstance(which, int):
            which = loop.outcome[which]
        if callable(which):
            found: Tensor = which(self)
            return self.emit(found)
        key = (id(loop), id(which.carry) if type(which) is Kept else id(which), type(which))
        if key not in self.items:
            results = [*loop.carries, *loop.stacked]
            index = len(results) + loop.carries.index(which.carry) if type(which) is Kept else results.index(which)
            node = self.built[id(loop)]
            item = copy_node(loop.node, [node], op=OPS["item"], attrs={"index": index})
            item.value = node.value[index]
            self.items[key] = self.emit(item)
        return self.items[key]


def given(x: Tensor) -> Finder:
    """The finder of a node around the loop."""

    def find(now: Rebuilding) -> Tensor:
        return now.new(x)

    find.node = x  # type: ignore[attr-defined]
    return find


def cleaned(body: Graph) -> Graph:
    """A body without what is computed twice or never."""
    for p in (fold_constants, simplify, eliminate_common_subexpressions, eliminate_dead_code):
        body = p(body)
    return body


def reachable(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The nodes that some nodes need, in an order in which they can be computed."""
    order: dict[int, Tensor] = {}
    todo = [(x, False) for x in reversed(outputs)]
    while todo:
        n, ready = todo.pop()
        if id(n) in order:
            continue
        if ready or not n.inputs:
            order[id(n)] = n
        else:
            todo.append((n, True))
            todo.extend((x, False) for x in n.inputs)
    return list(order.values())


def replaced(body: Graph, swap: dict[int, Tensor]) -> Callable[[Tensor], Tensor]:
    """The nodes of a body after some have been replaced."""
    found = dict(swap)
    for n in body.nodes:
        if id(n) in found:
            continue
        if not n.inputs:
            found[id(n)] = n
            continue
        inputs = [found[id(x)] for x in n.inputs]
        same = all(a is b for a, b in zip(inputs, n.inputs, strict=True))
        found[id(n)] = n if same else copy_node(n, inputs)
    return lambda t: found[id(t)]


def rebuilt(graph: Graph, loops: dict[int, Loop], changes: Sequence[Change]) -> Graph:
    """The graph with its loops as they are now."""
    if not any(loop.changed for loop in loops.values()):
        return graph if not graph.changes else Graph(
            graph.nodes, graph.inputs, graph.outputs, reads=graph.reads, assigns=graph.assigns, name=graph.name
        )  # fmt: skip
    now = Rebuilding(graph, loops)
    outputs = [now.new(t) for t in graph.outputs]
    assigns = {cell: None if t is None else now.new(t) for cell, t in graph.assigns.items()}
    return Graph(
        now.order.values(), graph.inputs, outputs, reads=graph.reads, assigns=assigns, name=graph.name, changes=changes
    )


def loops_of(graph: Graph) -> dict[int, Loop]:
    """The loops of a graph, by the ids of their nodes."""
    found = {}
    kept = {id(t) for t in graph.roots()}
    for n in graph.nodes:
        if is_op(n, "scan") and n.attrs["length"]:
            used = {u.attrs["index"] for u in graph.users(n) if graph.users(u) or id(u) in kept}
            found[id(n)] = Loop(n, used)
    return found


# ------------------------------------------------------------------------------------------- what is computed again


def key(n: Tensor, known: dict[int, int]) -> Any:
    """Equal for nodes of two bodies that have the same value in the same round; None for what has to stay."""
    if n.op is None:
        v = n.value
        if n.is_symbolic or type(v) is tuple or not isinstance(v, np.ndarray | np.generic):
            return None
        return (v.dtype, v.shape, v.tobytes()) if v.nbytes <= 4096 else id(v)
    if n.op.barrier or not n.inputs or type(n.value) is tuple or any(id(x) not in known for x in n.inputs):
        return None
    attrs = tuple([(k, exact(v)) for k, v in sorted(n.attrs.items())])
    try:
        hash(attrs)
    except TypeError:
        return None
    return (n.op, tuple([known[id(x)] for x in n.inputs]), attrs)


def partner(later: Loop, loops: dict[int, Loop]) -> tuple[Loop, dict[int, Tensor]] | None:
    """The forward loop whose kept carries a loop goes over, and which nodes inside of the two are the same."""
    sources = [(getattr(f, "node", None), inside) for f, inside in later.elements]
    for x, _ in sources:
        if x is None or not is_op(x, "item") or id(x.inputs[0]) not in loops:
            continue
        first = loops[id(x.inputs[0])]
        if first is later or first.length != later.length:
            continue
        same: dict[int, Tensor] = {}
        over = {id(getattr(f, "node", None)): inside for f, inside in first.elements}
        constant = {id(getattr(f, "node", None)): inside for f, inside in first.rest}
        for y, inside in sources:
            if y is not None and is_op(y, "item") and y.inputs[0] is first.node:
                kept = first.outcome[y.attrs["index"]]
                if type(kept) is Kept:
                    same[id(inside)] = kept.carry.inside
            elif id(y) in over:
                same[id(inside)] = over[id(y)]
        for f, inside in later.rest:
            if id(getattr(f, "node", None)) in constant:
                same[id(inside)] = constant[id(getattr(f, "node", None))]
        if same:
            return first, same
    return None


def kept_by(loop: Loop, stack: Stack) -> Finder:
    """The finder of what a loop keeps."""
    return lambda now: now.result(loop, stack)


def effort(n: Tensor) -> float:
    """Operations of arithmetic for each element of a node, with what it is made from down to the inputs of the body."""
    total, seen, todo = 0.0, set(), [n]
    while todo:
        x = todo.pop()
        if id(x) in seen or not x.inputs:
            continue
        seen.add(id(x))
        if x.op.flops is not None:
            total += x.op.flops(*[spec_of(y.value) for y in x.inputs], **x.attrs)
        elif not x.op.view:
            total += x.size * (FUNCTION if costly(x) else 1)
        todo += x.inputs
    return total / max(n.size, 1)


def share_loops(graph: Graph) -> Graph:
    """Let forward loops keep what their backward loops would compute again; and drop kept carries that nobody reads.

    >>> step = lambda h, _: (mg.tanh(h @ h), None)
    >>> f = mg.compile(mg.grad(lambda h: mg.scan(step, h, length=3)[0].sum()),
    ...                passes=[mg.compiler.eliminate_dead_code, mg.compiler.passes.share_loops])
    >>> _ = f(mg.ones((2, 2)))
    >>> sorted({c.rule for c in f.passes[1].changes})
    ['computed again by the backward loop -> kept by the forward loop']
    """
    loops, changes = loops_of(graph), []
    for later in loops.values():
        found = partner(later, loops)
        if found is None:
            continue
        first, same = found
        known = {id(n): i for i, n in enumerate(first.body.nodes)}
        table = {k: n for n in first.body.nodes if (k := key(n, known)) is not None}
        twin = dict(same)
        mine = {i: known[id(n)] for i, n in same.items()}
        for n in later.body.nodes:
            k = key(n, mine) if id(n) not in twin else None
            if k is not None and k in table:
                twin[id(n)] = table[k]
                mine[id(n)] = known[id(table[k])]
        outputs = {id(t) for t in later.body.outputs}
        needed: dict[int, Tensor] = {}
        for n in later.body.nodes:
            if id(n) not in twin or not n.inputs:
                continue
            if id(n) in outputs or any(id(u) not in twin for u in later.body.users(n)):
                while n.op.view and id(n.inputs[0]) in twin and n.inputs[0].inputs:
                    n = n.inputs[0]
                if not n.op.view:
                    needed[id(n)] = n
        for n in needed.values():
            if effort(n) < DEAR:
                continue
            stack = first.stack(twin[id(n)])
            later.element(kept_by(first, stack), n)
            changes.append(
                Change("computed again by the backward loop -> kept by the forward loop", (n,), (twin[id(n)],))
            )
    return rebuilt(graph, loops, changes)


# --------------------------------------------------------------------------------------- what is done for all rounds


def rows(x: Tensor, like: Tensor) -> Tensor:
    """(rounds, n, k) as (rounds * n, k)."""
    return made("reshape", x, like=like, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def hoist(graph: Graph) -> Graph:
    """Do for all rounds of a loop at once, before or behind it, what need not be done in every round.

    >>> f = mg.compile(lambda x, w: mg.scan(lambda h, x: (mg.tanh(h + x @ w), None), mg.zeros((2, 4)), x)[0],
    ...                passes=[mg.compiler.passes.hoist])
    >>> _ = f(mg.ones((5, 2, 3)), mg.ones((3, 4)))
    >>> f.passes[0].changes
    (matmul -> matmul   (x[i] @ w -> x @ w, before the loop),)
    """
    loops, changes = loops_of(graph), []
    for loop in loops.values():
        changes += Hoisting(loop).changes
    return rebuilt(graph, loops, changes)


class Hoisting:
    """One loop, and what can be moved out of it."""

    def __init__(self, loop: Loop):
        self.loop = loop
        self.changes: list[Change] = []
        # nodes inside that are the same in every round, and how they are found around the loop
        self.fixed: dict[int, Finder] = {id(x): f for f, x in loop.rest}
        for n in loop.body.nodes:
            if n.op is None and not n.is_symbolic:
                self.fixed[id(n)] = self.constant(n)
            elif n.inputs and all(id(x) in self.fixed for x in n.inputs) and not n.op.barrier:
                self.fixed[id(n)] = self.outside(n)
        self.over = {id(x): f for f, x in loop.elements}
        self.invariants()
        self.products_of_elements()
        self.products_behind()
        self.totals()
        self.turned_weights()

    def note(self, rule: str, n: Tensor) -> None:
        self.changes.append(Change(rule, (n,), (n,)))

    def constant(self, n: Tensor) -> Finder:
        return lambda now: now.emit(n)

    def outside(self, n: Tensor) -> Finder:
        """A node of the body, computed around the loop."""
        made_already: dict[int, Tensor] = {}

        def find(now: Rebuilding) -> Tensor:
            if id(now) not in made_already:
                made_already[id(now)] = now.emit(copy_node(n, [self.fixed[id(x)](now) for x in n.inputs]))
            return made_already[id(now)]

        return find

    def invariants(self) -> None:
        """What is the same in each round: computed before the loop."""
        for n in self.loop.body.nodes:
            if id(n) not in self.fixed or not n.inputs or n.op.view or type(n.value) is tuple:
                continue
            if any(id(u) not in self.fixed for u in self.loop.body.users(n)):
                self.before(n, self.fixed[id(n)])
                self.note("the same in each round -> before the loop", n)

    def before(self, n: Tensor, finder: Finder) -> None:
        """Let the loop be given a node that is the same in each round."""
        new = leaf(INPUT, spec_of(n.value), {"name": None})
        self.loop.rest.append((finder, new))
        self.loop.swap[id(n)] = new
        self.loop.changed = True

    def turned_weights(self) -> None:
        """h @ w.T -> w.T laid out once, before the loop. BLAS reads the rows of its right operand fastest."""
        for n in reachable([c.out for c in self.loop.carries] + [y.out for y in self.loop.stacked]):
            w = n.inputs[1] if self.is_product(n) else None
            if w is None or not is_op(w, "matrix_transpose") or id(w) not in self.fixed or id(w) in self.loop.swap:
                continue
            if all(id(x) in self.fixed for x in n.inputs) or id(n) in self.loop.swap:
                continue
            self.before(w, self.laid_out(w))
            self.note("h @ w.T -> w.T laid out once, before the loop", w)

    def laid_out(self, w: Tensor) -> Finder:
        return lambda now: now.emit(made("copy", self.fixed[id(w)](now), like=w))

    def is_product(self, n: Tensor) -> bool:
        return is_op(n, "matmul") and n.inputs[0].ndim == n.inputs[1].ndim == 2 and n.dtype.kind == "f"

    def products_of_elements(self) -> None:
        """x[i] @ w -> x @ w, before the loop."""
        for n in self.loop.body.nodes:
            if not self.is_product(n) or id(n.inputs[0]) not in self.over or id(n.inputs[1]) not in self.fixed:
                continue
            x, w = self.over[id(n.inputs[0])], self.fixed[id(n.inputs[1])]
            self.loop.element(self.together(n, x, w), n)
            self.note("x[i] @ w -> x @ w, before the loop", n)

    def together(self, n: Tensor, x: Finder, w: Finder) -> Finder:
        """The product of all rounds."""
        shape = (self.loop.length, *n.shape)

        def find(now: Rebuilding) -> Tensor:
            product = made("matmul", rows(x(now), n), w(now), like=n)
            return made("reshape", product, like=n, shape=shape)

        return find

    def products_behind(self) -> None:
        """y[i] = a @ w -> a kept, and one product behind the loop."""
        loop = self.loop
        outputs = [c.out for c in loop.carries] + [y.out for y in loop.stacked]
        for stack in list(loop.stacked):
            y = stack.out
            alone = self.is_product(y) and not loop.body.users(y) and sum(o is y for o in outputs) == 1
            if not alone or id(y.inputs[1]) not in self.fixed or id(y.inputs[0]) in self.fixed or id(y) in loop.swap:
                continue
            loop.outcome[loop.outcome.index(stack)] = self.together(
                y, loop.all_rounds(y.inputs[0]), self.fixed[id(y.inputs[1])]
            )
            loop.stacked.remove(stack)
            loop.changed = True
            self.note("y[i] = a @ w -> a kept, and one product behind the loop", y)

    def totals(self) -> None:
        """total += ... in each round -> one operation behind the loop."""
        loop = self.loop
        for carry in list(loop.carries):
            inside, out = carry.inside, carry.out
            users = loop.body.users(inside)
            if not is_op(out, "add") or len(users) != 1 or users[0] is not out or loop.body.users(out):
                continue
            if loop.kept and any(o == Kept(carry) for i, o in enumerate(loop.outcome) if i in loop.used):
                continue
            part = out.inputs[1] if out.inputs[0] is inside else out.inputs[0]
            if part.shape != out.shape or part.dtype != out.dtype:
                continue
            behind = self.total(part)
            if behind is not None:
                self.finish(carry, *behind)

    def total(self, part: Tensor) -> tuple[str, Finder] | None:
        """What is added in each round, for all rounds."""
        loop, turned = self.loop, is_op(part, "matrix_transpose")
        product = part.inputs[0] if turned else part
        if self.is_product(product) and is_op(product.inputs[0], "matrix_transpose"):
            a, b = loop.all_rounds(product.inputs[0].inputs[0]), loop.all_rounds(product.inputs[1])

            def find(now: Rebuilding) -> Tensor:
                left, right = (b, a) if turned else (a, b)  # (a.T @ b).T is b.T @ a
                turned_left = made("matrix_transpose", rows(left(now), part), like=part)
                return made("matmul", turned_left, rows(right(now), part), like=part)

            return "total += a.T @ b -> one product behind the loop", find
        if is_op(part, "sum") and part.inputs[0].dtype == part.dtype:
            x, axis = part.inputs[0], part.attrs["axis"]
            every = loop.all_rounds(x)
            axes = range(x.ndim) if axis is None else [a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)]
            outer = (0, *[a + 1 for a in axes])
            keep = part.attrs["keepdims"]

            def add_up(now: Rebuilding) -> Tensor:
                y = made("sum", every(now), like=part, axis=outer, keepdims=keep)
                return made("reshape", y, like=part, shape=part.shape) if keep else y

            return "total += sum(a) -> one sum behind the loop", add_up
        return None

    def finish(self, carry: Carry, rule: str, finder: Finder) -> None:
        """Take a total out of the carries."""
        loop, start = self.loop, carry.start
        empty = start.op is None and not start.is_symbolic and not np.any(start.value)

        def find(now: Rebuilding) -> Tensor:
            y = now.emit(finder(now))
            return y if empty else made("add", now.new(start), y, like=carry.out)

        loop.outcome[loop.outcome.index(carry)] = find
        loop.carries.remove(carry)
        loop.changed = True
        self.note(rule, carry.out)
