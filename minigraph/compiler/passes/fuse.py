"""Fusion: operations that can share a nest of loops become one node, a kernel.

Reading and writing memory costs more than arithmetic. `tanh(a * b + c)` as three operations goes through memory three
times; as one loop, once. The pass walks through the operations and gives each one to the kernel that makes what it
needs, if `loops.Kernel` finds that it can run in the same loops:

    elementwise after elementwise                    -> one loop
    elementwise around the reduction of a row        -> one loop over the rows (softmax, layer norm, cross-entropy)
    reduction of what a kernel computes              -> an accumulator in the kernel's loop (bias gradient, loss)
    operations that read the same array              -> one loop, which reads it once (the moments of Adam)
    two kernels that an operation needs both         -> one kernel, if nothing in between needs the first

Views (transpose, slice, broadcast, reshape) move into the kernels that read through them. A kernel is a node of
operation `fused` whose attribute `body` is the graph of what it computes, so it can be drawn, printed and run node by
node like any other. No value changes: the order of operations on each element stays what it was.

What a kernel would store although it is cheap is computed again by the kernels that read it: `1 - y * y`, the factor of
tanh's gradient, is a matter of two operations on `y`, which waits in memory for the backward pass anyway. That is done
where it moves no more bytes than storing would, and where no more bytes wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...graph import Graph, copy_node
from ...op import OPS, Op, spec_of
from ...tensor import Tensor, sequence
from ...variable import INPUT, leaf
from ..expressions import costly
from ..loops import Kernel, Views, elementwise, is_item, is_view
from ..schedule import nbytes
from .change import Change
from .dead import eliminate_dead_code

MOST = 256  # operations in one kernel: beyond, compilers take long and registers spill
CHEAP = 8  # operations on each element that may be done again instead of storing their result


def _run(xp: Any, *arrays: Any, body: Graph) -> Any:
    found = {id(n): a for n, a in zip(body.inputs, arrays, strict=True)}
    for n in body.nodes:
        if n.inputs:
            found[id(n)] = n.op.on(xp)(*[found[id(x)] for x in n.inputs], **n.attrs)
        elif id(n) not in found:
            found[id(n)] = n.value
    results = tuple([found[id(t)] for t in body.outputs])
    return results if len(results) > 1 else results[0]


def _infer(*specs: Any, body: Graph) -> Any:
    found = tuple([spec_of(t.value) for t in body.outputs])
    return found if len(found) > 1 else found[0]


FUSED = Op("fused", run=_run, infer=_infer)


class Unit:
    """A position in the order of execution: a kernel, or an operation by itself.

    Attributes:
        users: the units that need a result of it, some of which may have been merged into others since.
        into: the unit that it has been merged into.
    """

    def __init__(self, position: int, kernel: Kernel | None, node: Tensor | None = None):
        self.position, self.kernel, self.node = position, kernel, node
        self.users: set[Unit] = set()
        self.into: Unit | None = None

    @property
    def gone(self) -> bool:
        return self.into is not None

    def current(self) -> Unit:
        """The unit that does now what this one was to do."""
        unit = self
        while unit.into is not None:
            unit = unit.into
        return unit

    @property
    def first_use(self) -> int:
        """The earliest position, other than its own, that needs a result of it."""
        self.users = {u.current() for u in self.users} - {self}
        return min([u.position for u in self.users], default=1 << 60)


class Fusion:
    """The state of one run of the pass."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.again: list[tuple[Tensor, list[Unit]]] = []  # what is not stored, and the units that compute it again
        self.views = Views()
        self.units: list[Unit] = []
        self.where: dict[int, Unit] = {}  # id of what is in memory -> the unit that makes it
        self.reader: dict[int, Unit] = {}  # id of what is in memory -> the kernel that read it last

    def base(self, x: Tensor) -> Tensor:
        """What is in memory when `x` is read."""
        if not is_view(x):
            return x
        look = self.views.look(x)
        return x if look is None or self.views[x] is None else look[0]

    def assign(self) -> None:
        """Give each operation its unit."""
        for n in self.graph.operations:
            if is_view(n):
                if is_item(n) and id(n.inputs[0]) in self.where:
                    self.where[id(n)] = self.where[id(n.inputs[0])]
                    continue
                if self.views[n] is not None or (type(n.value) is tuple and self.views.look(n) is not None):
                    continue
            self.place(n)
        self.compute_again()

    def place(self, n: Tensor) -> None:
        bases = [self.base(x) for x in n.inputs]
        makers = [self.where[id(b)] for b in bases if id(b) in self.where]
        latest = max(makers, key=lambda u: u.position, default=None)
        after = latest.position if latest is not None else -1
        candidates = [latest] if latest is not None and latest.kernel is not None else []
        candidates += [u for b in bases if (u := self.reader.get(id(b))) is not None and u.position > after]
        chosen = None
        for unit in dict.fromkeys(candidates):
            assert unit.kernel is not None
            if not unit.gone and len(unit.kernel.members) < MOST and unit.kernel.accepts(n):
                chosen = unit
                break
        if chosen is None:
            kernel = Kernel(self.views)
            chosen = Unit(len(self.units), kernel if kernel.accepts(n) else None, n)
            self.units.append(chosen)
        self.where[id(n)] = chosen
        for b in bases:
            maker = self.where.get(id(b))
            if maker is not None and maker is not chosen:
                if self.merge(maker, chosen):
                    chosen = maker
                else:
                    maker.users.add(chosen)
            if chosen.kernel is not None:
                self.reader[id(b)] = chosen

    def merge(self, early: Unit, late: Unit) -> bool:
        """Move all operations of a kernel to a later one, if nothing in between needs them and they fit there."""
        if early.gone or early.kernel is None or late.kernel is None or early.first_use < late.position:
            return False
        together = len(early.kernel.members) + len(late.kernel.members)
        if early.kernel.axes != late.kernel.axes or together > MOST:
            return False
        both = early.kernel.copy()
        for m in late.kernel.members.values():
            if not both.accepts(m.node):
                return False
        for m in late.kernel.members.values():
            self.where[id(m.node)] = early
            for a in m.operands:
                if self.reader.get(id(a.base)) is late:
                    self.reader[id(a.base)] = early
        early.kernel, late.into = both, early
        early.users |= late.users
        self.units[early.position], self.units[late.position] = late, early
        early.position, late.position = late.position, early.position
        return True

    # ---------------------------------------------------------------------------------------------- computing again
    def reads(self, unit: Unit) -> dict[int, Tensor]:
        """What is in memory when a unit reads it, by id."""
        if unit.kernel is None:
            assert unit.node is not None
            bases = [self.base(x) for x in unit.node.inputs]
        else:
            inside = unit.kernel.members
            bases = [a.base for m in inside.values() for a in m.operands if id(a.base) not in inside]
        return {id(b): b for b in bases}

    def compute_again(self) -> None:
        """Let kernels compute cheap values again instead of reading them."""
        self.kept = {id(self.base(t)) for t in self.graph.roots()}
        self.changing = {id(n) for cell, n in self.graph.reads.items() if cell in self.graph.assigns}
        self.readers: dict[int, set[Unit]] = {}
        for unit in self.units:
            if not unit.gone:
                self.note_reads(unit)
        for unit in self.units:
            if unit.gone or unit.kernel is None:
                continue
            for m in list(unit.kernel.members.values()):
                if m.role != "each" or id(m.node) not in self.readers or id(m.node) in self.kept:
                    continue
                recipe = self.recipe(m.node)
                users = sorted(self.readers[id(m.node)], key=lambda u: u.position)
                kernels = None if recipe is None else self.with_recipe(m.node, *recipe, users)
                if kernels is None:
                    continue
                for u, kernel in zip(users, kernels, strict=True):
                    u.kernel = kernel
                    self.note_reads(u)
                del self.readers[id(m.node)]
                self.again.append((m.node, users))

    def note_reads(self, unit: Unit) -> None:
        for key in self.reads(unit):
            self.readers.setdefault(key, set()).add(unit)

    def recipe(self, n: Tensor) -> tuple[list[Tensor], list[Tensor]] | None:
        """The operations that make `n` from what is in memory, in order, and what they read; None if they are dear."""
        operations: dict[int, Tensor] = {}
        given: dict[int, Tensor] = {}
        todo = [n]
        while todo:
            x = todo.pop()
            if not elementwise(x) or costly(x) or x.op.barrier or x.op.name in ("in_range", "copy"):
                return None
            operations.pop(id(x), None)  # what is met once more is needed earlier, too
            operations[id(x)] = x
            if len(operations) > CHEAP:
                return None
            for b in map(self.base, x.inputs):
                maker = self.where.get(id(b))
                if maker is None or maker.kernel is None or id(b) in self.readers or id(b) in self.kept:
                    given[id(b)] = b
                else:
                    todo.append(b)
        return list(operations.values())[::-1], list(given.values())

    def with_recipe(
        self, n: Tensor, operations: Sequence[Tensor], given: Sequence[Tensor], users: Sequence[Unit]
    ) -> list[Kernel] | None:
        """The kernels of `users`, computing `n` by themselves; None if one of them cannot, or if it would not pay.

        It pays if no more bytes are moved, and if what has to wait for the last user, since it is to be read there now,
        is no more than `n`, which would have waited. A variable that is assigned must not wait: its new value is
        written over it.
        """
        readers = [self.readers.get(id(b), set()) for b in given]
        waiting = 0
        for b, units in zip(given, readers, strict=True):
            if id(b) not in self.kept and max([u.position for u in units], default=-1) < users[-1].position:
                if id(b) in self.changing:
                    return None
                waiting += nbytes(b) if b.inputs else 0
        kernels, moved = [], 0
        for user in users:
            if user.kernel is None or len(user.kernel.members) + len(operations) > MOST:
                return None
            moved += sum(
                nbytes(b) for b, units in zip(given, readers, strict=True)
                if user not in units and (b.op is not None or b.size > 1)
            )  # fmt: skip
            kernel = Kernel(self.views)
            if not all(map(kernel.accepts, [*operations, *[m.node for m in user.kernel.members.values()]])):
                return None
            if (kernel.axes, kernel.reduced) != (user.kernel.axes, user.kernel.reduced):
                return None
            kernels.append(kernel)
        return kernels if waiting <= nbytes(n) and moved <= nbytes(n) * (1 + len(users)) else None

    # ------------------------------------------------------------------------------------------------- the new graph
    def needed(self) -> set[int]:
        """Ids of what is read from memory, and of the results."""
        found = {id(self.base(t)) for t in self.graph.roots()}
        for unit in self.units:
            if not unit.gone:
                found.update(self.reads(unit))
        return found

    def rebuild(self) -> Graph:
        needed, changes = self.needed(), []
        new: dict[int, Tensor] = {id(n): n for n in self.graph.nodes if not n.inputs}
        order: dict[int, Tensor] = {id(n): n for n in (*self.graph.inputs, *self.graph.reads.values())}
        made: dict[Unit, Tensor] = {}

        def now(x: Tensor) -> Tensor:
            """The node of the new graph for `x`, whose base has been computed."""
            if id(x) in new:
                order.setdefault(id(new[id(x)]), new[id(x)])
            else:
                inputs = [now(y) for y in x.inputs]
                same = all(a is b for a, b in zip(inputs, x.inputs, strict=True))
                new[id(x)] = x if same else copy_node(x, inputs)
                order[id(new[id(x)])] = new[id(x)]
            return new[id(x)]

        for unit in self.units:
            if unit.gone:
                continue
            if unit.kernel is None:
                assert unit.node is not None
                now(unit.node)
                continue
            outputs = [
                m.node for key, m in unit.kernel.members.items() if key in needed and self.where[key] is unit
            ]  # what is computed again in other units is stored here, if anywhere
            members = [m.node for m in unit.kernel.leading_to(outputs)]
            if len(members) < 2:
                for n in members:
                    now(n)
                continue
            given, body = body_of(self.graph.name, members, outputs)
            fused = made_fused([now(x) for x in given], body, outputs)
            order[id(fused)] = made[unit] = fused
            changes.append(Change(f"{summary(members)} -> one kernel", tuple(members), (fused,)))
            for i, n in enumerate(outputs):
                new[id(n)] = item_of(fused, i, n) if len(outputs) > 1 else fused
                order[id(new[id(n)])] = new[id(n)]
        rule = "cheap -> computed again where it is needed, not stored"
        for n, users in self.again:  # a reader may be gone by now: all that it made is computed again, too
            changes.append(Change(rule, (n,), tuple([made[u] for u in users if u in made])))
        result = Graph(
            [],
            self.graph.inputs,
            [now(t) for t in self.graph.outputs],
            reads=self.graph.reads,
            assigns={cell: None if t is None else now(t) for cell, t in self.graph.assigns.items()},
            name=self.graph.name,
            changes=changes,
        )
        result.nodes = tuple(order.values())
        return result


def body_of(name: str, members: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[list[Tensor], Graph]:
    """What a kernel is given, and the graph of what it computes: its operations and the views they read through."""
    inside = {id(n) for n in members}
    given: dict[int, Tensor] = {}
    found: dict[int, Tensor] = {}
    order: dict[int, Tensor] = {}

    def inner(x: Tensor) -> Tensor:
        if id(x) in found:
            return found[id(x)]
        if x.op is None and not x.is_symbolic:
            new = x
        elif id(x) in inside or (is_view(x) and not is_item(x)):
            new = copy_node(x, [inner(y) for y in x.inputs])
        else:
            given[id(x)] = x
            new = leaf(INPUT, spec_of(x.value), {"name": x.name}, name=x.name)
        found[id(x)] = order[id(new)] = new
        return new

    for n in members:
        inner(n)
    inputs = [found[key] for key in given]
    return list(given.values()), Graph(order.values(), inputs, [found[id(n)] for n in outputs], name=name)


def made_fused(inputs: Sequence[Tensor], body: Graph, outputs: Sequence[Tensor]) -> Tensor:
    node = copy_node(outputs[-1], inputs, op=FUSED, attrs={"body": body})
    node.value = _infer(body=body)
    node.name = None
    scopes = {str(n.scope): n.scope for n in body.nodes if n.op is not None and n.inputs}
    node.scope = next(iter(scopes.values())) if len(scopes) == 1 else common_scope(list(scopes.values()))
    return node


def common_scope(scopes: Sequence[Any]) -> Any:
    """The innermost scope that contains all of them."""
    chains = []
    for s in scopes:
        chain = []
        while s is not None:
            chain.append(s)
            s = s.parent
        chains.append(chain[::-1])
    shared = None
    for level in zip(*chains, strict=False):
        if any(s is not level[0] for s in level):
            break
        shared = level[0]
    return shared


def item_of(node: Tensor, index: int, like: Tensor) -> Tensor:
    t = copy_node(like, [node], op=OPS["item"], attrs={"index": index})
    t.seq = sequence()
    return t


def summary(members: Sequence[Tensor]) -> str:
    """`multiply, add, tanh`, with the middle left out when there are many."""
    names = [n.op.name for n in members]
    return ", ".join(names if len(names) < 8 else [*names[:4], f"... {len(names) - 6} more", *names[-2:]])


def fuse(graph: Graph) -> Graph:
    """Put operations that can share their loops into kernels: nodes of operation `fused`.

    >>> f = mg.compile(lambda x: mg.tanh(x * 2.0) + 1.0, passes=[mg.compiler.fuse])
    >>> f(mg.tensor(0.0))
    tensor(1., dtype=float32)
    >>> f.passes[0].changes
    (multiply, tanh, add -> fused   (multiply, tanh, add -> one kernel),)
    """
    clean = eliminate_dead_code(graph)
    fusion = Fusion(clean)
    fusion.assign()
    fused = fusion.rebuild()
    fused.changes = (*clean.changes, *fused.changes)
    return fused
