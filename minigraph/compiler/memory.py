"""The memory plan: which buffer each result lives in, and from when to when.

A result lives from the operation that makes it to the last one that uses it, or a view of it. Two results whose lives
do not overlap may share memory. The plan places results in one arena, largest first, each at the lowest offset that is
free during its whole life (greedy by size; Y. Pisarchyk and J. Lee, "Efficient memory management for deep neural net
inference", 2020). An elementwise operation may also write over an input that ends there: it takes the input's place.

Peak and total are in bytes. `bound` is the largest sum of results alive at one time in this order: no plan uses less.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import accumulate
from typing import NamedTuple

from ..graph import Graph
from ..op import Spec
from ..tensor import Tensor
from .schedule import nbytes

ALIGNMENT = 64  # bytes: a cache line
MANY = 300  # others that are alive together with a result, on average, from which on comparing them takes long


class Buffer(NamedTuple):
    """One result's place: bytes [offset, offset + nbytes) of the arena during steps start to end. Offset None: the
    result is not in the arena (it is returned, assigned, or its operation allocates it)."""

    node: Tensor
    nbytes: int
    start: int
    end: int
    offset: int | None
    in_place_of: Tensor | None = None


class MemoryPlan:
    """Where results live. `buffers` in order of the schedule; `arena`: bytes of the arena; `without_reuse`: bytes if
    every result had its own place; `bound`: the lower bound for this schedule; `peak`: bytes in use at most, arena and
    results outside it together."""

    def __init__(self, buffers: Sequence[Buffer], arena: int, bound: int, peak: int):
        self.buffers, self.arena, self.bound, self.peak = tuple(buffers), arena, bound, peak
        self.without_reuse = sum(b.nbytes for b in buffers)

    def __repr__(self) -> str:
        head = f"memory plan: {len(self.buffers)} results, {self.without_reuse:,} bytes without reuse"
        lines = [f"{head}, peak {self.peak:,} bytes, lower bound {self.bound:,}, arena {self.arena:,}"]
        for b in self.buffers:
            place = "outside" if b.offset is None else f"@{b.offset}"
            note = " in place" if b.in_place_of is not None else ""
            lines.append(f"  step {b.start:>3} to {b.end:>3}  {b.nbytes:>10,} B  {place:>9}  {b.node.op.name}{note}")
        return "\n".join(lines)


def place(lives: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets in one arena for results with lives (first step, last step, bytes), and the size of the arena.

    The largest first; if that leaves holes, also the largest (bytes x steps) first, and the smaller arena is taken.
    Where so many results are alive together that comparing them all would take long, they are placed in the order in
    which they are made.

    >>> mg.compiler.memory.place([(0, 1, 64), (1, 2, 64), (2, 3, 64)])
    ([0, 64, 0], 128)
    """
    lives = [(start, end, -(-size // ALIGNMENT) * ALIGNMENT) for start, end, size in lives]
    if pairs(lives) > MANY * len(lives):
        return best_fit(lives)
    least = most_alive(lives)
    by_size = sorted(range(len(lives)), key=lambda i: (-lives[i][2], lives[i][0]))
    found = first_fit(lives, by_size)
    if found[1] > least:
        by_area = sorted(by_size, key=lambda i: -lives[i][2] * (lives[i][1] - lives[i][0] + 1))
        found = min(found, first_fit(lives, by_area), key=lambda f: f[1])
    return found


def pairs(lives: Sequence[tuple[int, int, int]]) -> int:
    """How many pairs of results are alive at the same time."""
    starts, ends = sorted(s for s, _, _ in lives), sorted(e for _, e, _ in lives)
    return sum(i - bisect_left(ends, s) for i, s in enumerate(starts))


def most_alive(lives: Iterable[tuple[int, int, int]]) -> int:
    """The most bytes alive at one time."""
    change: dict[int, int] = {}
    for start, end, size in lives:
        change[start] = change.get(start, 0) + size
        change[end + 1] = change.get(end + 1, 0) - size
    return max(accumulate(change[t] for t in sorted(change)), default=0)


def first_fit(lives: Sequence[tuple[int, int, int]], order: Iterable[int]) -> tuple[list[int], int]:
    """Place one result after another, each at the lowest offset that is free during its whole life."""
    offsets, arena = [0] * len(lives), 0
    parts = 1 + len(lives) // 400  # of the time: a short life is compared with those in its part only
    width = 1 + max([end for _, end, _ in lives], default=0) // parts
    placed: list[list[tuple[int, int, int, int]]] = [[] for _ in range(parts + 1)]  # by part, and all; in order of at
    for i in order:
        start, end, size = lives[i]
        lowest, first, last = 0, start // width, end // width
        near = placed[first if first == last else parts]
        for at, after, s, e in near if last - first != 1 else merge(placed[first], placed[last]):
            if s <= end and start <= e:
                if lowest + size <= at:
                    break
                lowest = max(lowest, after)
        for part in (*range(first, last + 1), parts):
            insort(placed[part], (lowest, lowest + size, start, end))
        offsets[i], arena = lowest, max(arena, lowest + size)
    return offsets, arena


def best_fit(lives: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Place results as they are made, each in the smallest hole where it fits, as `malloc` does."""
    offsets, arena = [0] * len(lives), 0
    ending = iter(sorted(range(len(lives)), key=lambda i: lives[i][1]))
    last = next(ending, None)
    holes: list[tuple[int, int]] = []  # from, to: in order, none touching the next
    for i in sorted(range(len(lives)), key=lambda i: (lives[i][0], -lives[i][2])):
        start, _, size = lives[i]
        while last is not None and lives[last][1] < start:
            low, high = offsets[last], offsets[last] + lives[last][2]
            at = bisect_left(holes, (low, high))
            if at < len(holes) and holes[at][0] == high:
                high = holes.pop(at)[1]
            if at and holes[at - 1][1] == low:
                at -= 1
                low = holes.pop(at)[0]
            if high > low:
                holes.insert(at, (low, high))
            last = next(ending, None)
        fitting = [(high - low, low) for low, high in holes if high - low >= size]
        if fitting:
            room, low = min(fitting)
            holes.remove((low, low + room))
            if room > size:
                insort(holes, (low + size, low + room))
        else:
            low = holes.pop()[0] if holes and holes[-1][1] == arena else arena
            arena = low + size
        offsets[i] = low
    return offsets, arena


def peaks(buffers: Sequence[Buffer], arena: int, steps: int) -> tuple[int, int]:
    """The lower bound of a schedule (the most bytes alive at one time), and the peak of a plan: the arena and the most
    bytes outside it. The bytes of a result that takes another's place are that one's, until the step is done."""
    alive, outside = [0] * (steps + 2), [0] * (steps + 2)
    shifted = [b if b.in_place_of is None else b._replace(start=b.start + 1) for b in buffers]
    for b in [b for b in shifted if b.start <= b.end]:
        for counts in (alive, outside) if b.offset is None else (alive,):
            counts[b.start] += b.nbytes
            counts[b.end + 1] -= b.nbytes
    return max(accumulate(alive), default=0), arena + max(accumulate(outside), default=0)


def owner_of(n: Tensor, owners: dict[int, Tensor]) -> Tensor:
    """The node whose memory `n` shares: itself, unless it is a view."""
    return owners.get(id(n), n)


def may_return_an_input(n: Tensor) -> bool:
    """Whether the result of an operation may be one of its operands, untouched: what runs a graph or a function of the
    user can do that (a loop without a round, a branch that changes nothing)."""
    attrs = (n.attrs or {}).values()
    return not n.op.builtin or n.op.name == "replayed" or any(isinstance(v, Graph) for v in attrs)


def plan_memory(graph: Graph, order: Sequence[Tensor], planned: set[int]) -> MemoryPlan:
    """Plan the memory of `graph` run in `order`. `planned`: ids of the nodes that can be computed into a given buffer.

    Args:
        graph: the graph; its outputs and assigned values are never placed in the arena, since they outlive the run.
        order: its operations, as `schedule` returns them.
        planned: nodes that an executor can write into the arena; the others are counted but allocated when they run.

    >>> with mg.Graph() as g:
    ...     y = mg.sin(mg.exp(mg.placeholder((256,), name="x")))
    >>> order = mg.compiler.schedule(g)
    >>> mg.compiler.plan_memory(g, order, {id(n) for n in order})
    memory plan: 2 results, 2,048 bytes without reuse, peak 2,048 bytes, lower bound 2,048, arena 1,024
      step   0 to   1       1,024 B         @0  exp
      step   1 to   2       1,024 B    outside  sin
    """
    owners: dict[int, Tensor] = {}
    for n in order:
        if n.op.view and n.inputs:
            owners[id(n)] = owner_of(n.inputs[0], owners)
    position = {id(n): i for i, n in enumerate(order)}
    holds: dict[int, set[int]] = {}  # id of a node -> ids of those whose memory its result may be, besides its own
    ends: dict[int, int] = {}
    for i, n in enumerate(order):
        own_key = id(owner_of(n, owners))
        ends.setdefault(own_key, i)
        for x in n.inputs:
            key = id(owner_of(x, owners))
            for used in (key, *holds.get(key, ())):
                ends[used] = i
            if own_key == id(n) and may_return_an_input(n):
                holds.setdefault(own_key, set()).update((key, *holds.get(key, ())))
    forever = {id(owner_of(n, owners)) for n in graph.roots()}
    forever |= {key for root in forever for key in holds.get(root, ())}
    last = len(order)
    taken_over: dict[int, Tensor] = {}  # id of a node -> the node whose place it takes
    chain_end: dict[int, int] = {}  # id of the first node of such a chain -> end of the chain
    first: dict[int, Tensor] = {}
    own = [n for n in order if id(n) not in owners]
    for n in own:
        key = id(n)
        first[key] = n
        end = last if key in forever else ends[key]
        chain_end[key] = end
        if key in forever or key not in planned or not n.op.elementwise:
            continue
        for x in n.inputs:
            o = owner_of(x, owners)
            same = o is x and type(x.value) is Spec and x.shape == n.shape and x.dtype == n.dtype
            if (
                same
                and id(o) in planned
                and id(o) not in forever
                and id(o) in position
                and ends[id(o)] == position[key]
            ):
                taken_over[key] = o
                root = first[key] = first[id(o)]
                chain_end[id(root)] = end
                break
    roots = [n for n in own if id(n) in planned and id(n) not in forever and first[id(n)] is n]
    found, arena = place([(position[id(n)], chain_end[id(n)], nbytes(n)) for n in roots])
    offsets = {id(n): offset for n, offset in zip(roots, found, strict=True)}
    buffers = []
    for n in own:
        key = id(n)
        end = last if key in forever else ends[key]
        offset = offsets.get(id(first[key])) if key in planned and key not in forever else None
        buffers.append(Buffer(n, nbytes(n), position[key], end, offset, taken_over.get(key)))
    return MemoryPlan(buffers, arena, *peaks(buffers, arena, last))
