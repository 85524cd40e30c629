"""What became of each node in a pass.

A pass returns a graph and a list of changes. Nodes that nothing touched are the same objects before and after. A node
of which only an input was replaced is a copy that shares its operation, value, attributes and line with the original:
its *twin*. What a change names may be neither before nor after, where several rules fired one after the other; it is
followed to the nodes that are. What is gone with no change of its own goes with the change that used it, and what is
new belongs to the change whose result it leads to.

Each change is of one kind: `removed` (the operand takes its place, or nothing), `merged` (several became one),
`rewritten` (something else stands there), `added` (there is a copy).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from minigraph.compiler import Change, Step
from minigraph.draw.words import leaf_name, value_text
from minigraph.graph import Graph
from minigraph.tensor import Tensor

KINDS = ("merged", "rewritten", "removed", "added")  # the first is shown where several are in one box
INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@", "pow": "**"}


class Rewrite(NamedTuple):
    """One change: its kind, its rule, and the nodes before and after that it is about."""

    kind: str
    rule: str
    before: tuple[Tensor, ...]
    after: tuple[Tensor, ...]
    here: str  # the expressions at this place


def nested_graphs(n: Tensor) -> list[Graph]:
    """The graphs that an operation runs."""
    return [v for v in (n.attrs or {}).values() if isinstance(v, Graph)]


def all_nodes(graph: Graph) -> Iterator[Tensor]:
    """The nodes of a graph and of the graphs inside of it."""
    for n in graph.nodes:
        yield n
        for g in nested_graphs(n):
            yield from all_nodes(g)


def likeness(n: Tensor) -> tuple[int, ...]:
    """Equal for a node and its copies on other inputs."""
    return id(n.op), id(n.value), id(n.attrs), id(n.site)


def by_likeness(nodes: Iterable[Tensor]) -> dict[tuple[int, ...], list[Tensor]]:
    found: dict[tuple[int, ...], list[Tensor]] = {}
    for n in nodes:
        found.setdefault(likeness(n), []).append(n)
    return found


def expression(n: Tensor, depth: int = 2) -> str:
    """A node as it is written in a program; below so many operations only the operation's name.

    >>> from minigraph_widgets.rewrites import expression
    >>> with mg.Graph():
    ...     x = mg.placeholder((2, 2), name="x")
    ...     y = mg.exp((x @ x) * 2.0)
    >>> expression(y), expression(y.inputs[0]), expression(y, 1)
    ('exp(… * 2)', '(x @ x) * 2', 'exp(…)')
    """
    if n.op is None or not n.inputs:
        return (value_text(n) if n.op is None and not n.name else "") or leaf_name(n)
    if depth == 0:
        return "…"
    name = n.name or n.op.name
    parts = [expression(x, depth - 1) for x in n.inputs]
    if name in INFIX and len(parts) == 2:
        texts = [f"({p})" if x.op is not None and x.op.name in INFIX and p != "…" else p
                 for p, x in zip(parts, n.inputs, strict=True)]  # fmt: skip
        return f" {INFIX[name]} ".join(texts)
    shown = [*parts[:4], "…"] if len(parts) > 4 else parts
    return f"{name}({', '.join(shown)})"


class Rewrites:
    """A pass, node by node.

    Attributes:
        rewrites: the changes, in order.
        before, after: {id of a node: its kind}, of nodes that did not stay as they were.
        touched_before, touched_after: {id of a node: numbers of the changes that are about it}.
    """

    def __init__(self, step: Step):
        self.step = step
        self.old, self.new = list(all_nodes(step.before)), list(all_nodes(step.after))
        self.in_old, self.in_new = {id(n): n for n in self.old}, {id(n): n for n in self.new}
        self.origin = self.twins()
        self.stays = {id(n) for n in self.origin.values()} | (self.in_old.keys() & self.in_new.keys())
        self.made_by: dict[int, tuple[Tensor, ...]] = {}  # id of a node that a change made -> what it was made from
        self.made_into: dict[int, tuple[Tensor, ...]] = {}
        for c in step.changes:
            for n in c.after:
                self.made_by.setdefault(id(n), c.before)
            for n in c.before:
                self.made_into.setdefault(id(n), c.after)
        self.old_alike, self.new_alike = by_likeness(self.old), by_likeness(self.new)
        self.position = {id(n): k for k, n in enumerate(self.old)}
        self.rewrites: list[Rewrite] = []
        self.before: dict[int, str] = {}
        self.after: dict[int, str] = {}
        self.touched_before: dict[int, list[int]] = {}
        self.touched_after: dict[int, list[int]] = {}
        for c in step.changes:
            self.follow(c)
        self.rest()

    def twins(self) -> dict[int, Tensor]:
        """{id of a new node: the old node that it is a copy of}."""
        waiting = by_likeness(n for n in self.old if id(n) not in self.in_new and n.op is not None)
        found = {}
        for n in self.new:
            alike = waiting.get(likeness(n))
            if alike and id(n) not in self.in_old:
                found[id(n)] = alike.pop(0) if len(alike) > 1 else alike[0]
        return found

    # ---------------------------------------------------------------------------------------------------- following
    def back(self, n: Tensor) -> list[Tensor]:
        """The old nodes that stand behind what a change found."""
        seen: set[int] = set()
        while id(n) not in self.in_old and id(n) not in seen:
            seen.add(id(n))
            if id(n) in self.made_by:
                before = self.made_by[id(n)]
                if len(before) != 1:
                    return [y for x in before for y in self.back(x)]
                n = before[0]
            else:
                return self.old_alike.get(likeness(n), [])[:1]
        return [n] if id(n) in self.in_old else []

    def forth(self, n: Tensor) -> list[Tensor]:
        """The new nodes that stand for what a change made."""
        seen: set[int] = set()
        while id(n) not in self.in_new and id(n) not in seen:
            seen.add(id(n))
            if id(n) in self.made_into:
                after = self.made_into[id(n)]
                if len(after) != 1:
                    return [y for x in after for y in self.forth(x)]
                n = after[0]
            else:
                return self.new_alike.get(likeness(n), [])[:1]
        return [n] if id(n) in self.in_new else []

    def was(self, n: Tensor) -> Tensor | None:
        """The old node that a new one is, or is a copy of; None if it is really new."""
        return self.in_old.get(id(n), self.origin.get(id(n)))

    def leads_to(self, start: Tensor, end: Tensor) -> bool:
        """Whether `end` is computed from `start`."""
        first, seen, todo = self.position[id(start)], set(), [end]
        while todo:
            n = todo.pop()
            if n is start:
                return True
            if id(n) not in seen and self.position.get(id(n), -1) > first:
                seen.add(id(n))
                todo += n.inputs
        return False

    def kind(self, c: Change, old: Sequence[Tensor], new: Sequence[Tensor]) -> str:
        if not c.after:
            return "removed"
        if len(old) > 1:
            return "merged"
        was = [x for n in new if (x := self.was(n)) is not None]
        if old and new and all(likeness(n) == likeness(old[0]) for n in new):
            return "added" if self.stays_beside(old[0], new) else "rewritten"  # a copy of it; or it has moved
        if not old or not new or len(was) < len(new):
            return "rewritten"
        return "removed" if all(self.leads_to(x, old[0]) for x in was) else "merged"

    def stays_beside(self, old: Tensor, new: Sequence[Tensor]) -> bool:
        """Whether an old node is still there, beside these new ones."""
        others = [n for n in self.new_alike.get(likeness(old), []) if not any(n is x for x in new)]
        return any(self.was(n) is old for n in others)

    def follow(self, c: Change) -> None:
        old = list({id(x): x for n in c.before for x in self.back(n)}.values())
        new = list({id(x): x for n in c.after for x in self.forth(n)}.values())
        kind, number = self.kind(c, old, new), len(self.rewrites)
        here = expression(c.before[0]) if len(c.before) == 1 else ""
        if here and c.after:
            here += " → " + ", ".join(expression(n) for n in c.after[:2])
        self.rewrites.append(Rewrite(kind, c.rule, tuple(old), tuple(new), here))
        for n in old:
            self.touched_before.setdefault(id(n), []).append(number)
            if kind != "added":
                self.before.setdefault(id(n), kind)
        for n in new:
            self.touched_after.setdefault(id(n), []).append(number)
            really_new = self.was(n) is None
            if kind == "merged" or kind == "added" or (kind == "rewritten" and really_new):
                self.after.setdefault(id(n), kind)

    def rest(self) -> None:
        """What is gone, or new, with no change of its own."""
        users: dict[int, list[Tensor]] = {}
        for n in self.old:
            for x in n.inputs:
                users.setdefault(id(x), []).append(n)
        for n in reversed(self.old):
            if id(n) not in self.stays and id(n) not in self.before:
                self.before[id(n)] = "removed"
                near = numbers(users.get(id(n), ()), self.touched_before) or numbers(n.inputs, self.touched_before)
                self.touched_before.setdefault(id(n), []).extend(near)
        made: dict[int, set[int]] = {}
        for n in reversed(self.new):
            if self.was(n) is None:
                own = self.touched_after.setdefault(id(n), [])
                own += sorted(made.get(id(n), set()) - {*own})
                for x in n.inputs:
                    made.setdefault(id(x), set()).update(own)
        inside = {id(x) for n in self.step.after.nodes for g in nested_graphs(n) for x in all_nodes(g)}
        for n in self.new:
            if self.was(n) is None and id(n) not in self.after and id(n) not in inside:
                self.after[id(n)] = "added"
                if not self.touched_after[id(n)]:  # a part of what a change made
                    self.touched_after[id(n)] = numbers(n.inputs, self.touched_after)


def numbers(nodes: Iterable[Tensor], touched: dict[int, list[int]]) -> list[int]:
    """The changes that are about any of these nodes."""
    return sorted({k for n in nodes for k in touched.get(id(n), ())})
