"""Folding: which operations get a box of their own, and which share one.

Operations form a tree: the scopes of module calls, in the order in which they were entered. A scope is a *contiguous*
stretch of the graph's topological order (a module that is called twice gives two), and that has a consequence worth
having: if contiguous stretches become single boxes, all arrows still point forwards, whatever is folded. So the
folded picture of an acyclic graph is acyclic.

Without instructions, graphs that fit are left alone. In a larger one, stretches that repeat (sixty-four layers alike,
the thousand steps of a loop) become one box that says how often, beside the first of them; then scopes are folded, the
deepest first, until the graph fits; then chains, where each operation has one input and one user; and what is still too
large is cut into equal parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ..op import ROOT, Scope
from ..tensor import Tensor
from .words import type_text

LIMIT = 300  # boxes: what Graphviz lays out at once and a person still finds the way in
DEEPEST = 40  # scopes below this depth belong to the last one that counts
LONGEST_PERIOD = 64  # items in the stretch whose repetition is looked for
REPEATS = 4  # how often it must occur to be rolled up,
WORTH = 10  # and how many operations it must have in all


@dataclass(eq=False)
class Group:
    """A stretch of the graph: items are numbers of operations and further groups.

    Attributes:
        what: "scope", "repeat" (times > 1), "chain", "part" or "root".
        closed: drawn as one box.
    """

    what: str
    name: str = ""
    kind: str = ""
    scope: Scope | None = None
    depth: int = -1
    items: list[int | Group] = field(default_factory=list)
    closed: bool = False
    times: int = 1

    def members(self) -> list[int]:
        """The numbers of all operations inside, in order."""
        found: list[int] = []
        for item in self.items:
            if isinstance(item, Group):
                found += item.members()
            else:
                found.append(item)
        return found

    def open_groups(self) -> list[Group]:
        """This group and the open ones below it."""
        found = [self]
        for item in self.items:
            if isinstance(item, Group) and not item.closed:
                found += item.open_groups()
        return found


def scope_tree(operations: Sequence[Tensor]) -> Group:
    """The operations, by number, in the tree of their scopes."""
    root = Group("root")
    stack = [root]
    chains: dict[int, list[Scope]] = {}
    for number, node in enumerate(operations):
        chain = chains.get(id(node.scope))
        if chain is None:
            chain, scope = [], node.scope
            while scope is not None and scope is not ROOT and scope.name:
                chain.append(scope)
                scope = scope.parent
            chain = chains[id(node.scope)] = chain[::-1][:DEEPEST]
        common = 0
        while common < min(len(chain), len(stack) - 1) and stack[common + 1].scope is chain[common]:
            common += 1
        del stack[common + 1 :]
        for scope in chain[common:]:
            group = Group("scope", scope.name, scope.kind, scope, len(stack) - 1)
            stack[-1].items.append(group)
            stack.append(group)
        stack[-1].items.append(number)
    return root


def close_by(root: Group, fold: int | Callable[[Scope], bool]) -> None:
    """Close the scopes that the user wants closed: those below a depth, or those a function names."""
    for group in root.open_groups():
        if group.scope is not None:
            group.closed = bool(fold(group.scope)) if callable(fold) else group.depth >= fold


def close_until_it_fits(
    root: Group, operations: Sequence[Tensor], count: Callable[[Group, bool], int], limit: int = LIMIT
) -> bool:
    """Fold as described at the top until `count(root, crowded)`, the number of boxes, is at most `limit`.

    Returns whether it stays crowded: so large that variables and constants have to be left out, too.
    """
    if count(root, False) <= limit:
        return False
    signatures = Signatures(operations, [type_text(n) for n in operations])
    deepest = max(g.depth for g in root.open_groups())
    for depth in range(deepest + 1, -1, -1):  # nothing is closed at first: only what repeats is rolled up
        for group in root.open_groups():
            if group.depth == depth and group.scope is not None:
                group.closed = True
        roll_up_all(root, signatures)
        if count(root, False) <= limit:
            return False
    roll_up_all(root, Signatures(operations, [""] * len(operations)))  # also what repeats with other shapes
    if count(root, False) <= limit:
        return False
    for group in root.open_groups():
        join_chains(group, operations)
    parts = max(limit // 2, 1)
    if count(root, True) > limit and len(root.items) > parts:
        cuts = [round(k * len(root.items) / parts) for k in range(parts + 1)]
        root.items = [Group("part", items=root.items[a:b], closed=True) for a, b in pairwise(cuts)]
    return True


class Signatures:
    """A number for each item; equal numbers mean: the same operations with results of the same types, in this order."""

    def __init__(self, operations: Sequence[Tensor], types: Sequence[str]):
        self.known: dict[tuple, int] = {}
        names = [n.op.name if n.op else "" for n in operations]
        self.of_operation = [self.number(facts) for facts in zip(names, types, strict=True)]
        self.of_group: dict[int, int] = {}

    def number(self, facts: tuple) -> int:
        return self.known.setdefault(facts, len(self.known) + 1)

    def __getitem__(self, item: int | Group) -> int:
        if not isinstance(item, Group):
            return self.of_operation[item]
        if id(item) not in self.of_group:
            self.of_group[id(item)] = self.number((item.kind, item.times, *[self[x] for x in item.items]))
        return self.of_group[id(item)]


def roll_up_all(root: Group, signatures: Signatures) -> None:
    """`roll_up` for a group and the open groups in it, the outermost first."""
    todo = [root]
    while todo:
        group = todo.pop()
        roll_up(group, signatures)
        todo += [x for x in group.items if isinstance(x, Group) and not x.closed]


def roll_up(group: Group, signatures: Signatures) -> None:
    """Replace stretches of items that repeat by one group each. Where they are open scopes, the first one stays open,
    as an example of the others."""
    items = group.items
    n = len(items)
    if n < REPEATS:
        return
    s = np.array([signatures[x] for x in items])
    covered, period = np.zeros(n, int), np.zeros(n, int)  # by the best repetition that starts at each place
    for p in range(1, min(LONGEST_PERIOD, n // REPEATS) + 1):
        places = np.arange(n - p)
        ends = np.minimum.accumulate(np.where(s[:-p] == s[p:], n - p, places)[::-1])[::-1]
        lengths = ((ends - places) // p + 1) * p  # of whole periods
        better = (lengths >= REPEATS * p) & (lengths > covered[: n - p])
        covered[: n - p][better], period[: n - p][better] = lengths[better], p
    new: list[int | Group] = []
    i = 0
    while i < n:
        end, p = i + int(covered[i]), int(period[i])
        if sum(len(x.members()) if isinstance(x, Group) else 1 for x in items[i:end]) < WORTH:
            new.append(items[i])
            i += 1
            continue
        if any(isinstance(x, Group) and not x.closed for x in items[i : i + p]):
            new += items[i : i + p]
            i += p
        first = items[i]
        kind = first.kind if p == 1 and isinstance(first, Group) else ""
        new.append(
            Group("repeat", "", kind, depth=group.depth + 1, items=items[i:end], closed=True, times=(end - i) // p)
        )
        i = end
    group.items = new


def join_chains(group: Group, operations: Sequence[Tensor]) -> None:
    """Replace chains of items, each the only user of the one before and using nothing else, by one group each.

    A chain stands where its last item stood: everything that it needs has come by then.
    """
    place = {id(node): number for number, node in enumerate(operations)}
    owner: dict[int, int] = {}
    for k, item in enumerate(group.items):
        for number in item.members() if isinstance(item, Group) else [item]:
            owner[number] = k
    before: list[set[int]] = [set() for _ in group.items]
    after: list[set[int]] = [set() for _ in group.items]
    for number, node in enumerate(operations):
        b = owner.get(number, -1)
        for x in node.inputs:
            if id(x) in place:
                a = owner.get(place[id(x)], -1)
                if a != b:
                    if a >= 0:
                        after[a].add(b)
                    if b >= 0:
                        before[b].add(a)
    follows = [-1] * len(group.items)
    for k, item in enumerate(group.items):
        if len(after[k]) == 1 and not (isinstance(item, Group) and not item.closed):
            (j,) = after[k]
            other = group.items[j] if j >= 0 else None
            if j >= 0 and before[j] == {k} and not (isinstance(other, Group) and not other.closed):
                follows[k] = j
    started = set(follows)
    joined: dict[int, Group] = {}
    gone: set[int] = set()
    for k in range(len(group.items)):
        if k in started or follows[k] < 0:
            continue
        chain = [k]
        while follows[chain[-1]] >= 0:
            chain.append(follows[chain[-1]])
        if len(chain) >= 3:
            joined[chain[-1]] = Group(
                "chain", depth=group.depth + 1, items=[group.items[x] for x in chain], closed=True
            )
            gone.update(chain)
    group.items = [joined.get(k, item) for k, item in enumerate(group.items) if k in joined or k not in gone]
