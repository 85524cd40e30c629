"""The memory plan: which buffer each result lives in, and from when to when.

A result lives from the operation that makes it to the last one that uses it, or a view of it. Two results whose lives
do not overlap may share memory. The plan places results in one arena, largest first, each at the lowest offset that is
free during its whole life (greedy by size; Y. Pisarchyk and J. Lee, "Efficient memory management for deep neural net
inference", 2020). An elementwise operation may also write over an input that ends there: it takes the input's place.

Peak and total are in bytes. `bound` is the largest sum of results alive at one time in this order: no plan uses less.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from ..graph import Graph
from ..op import Spec
from ..tensor import Tensor
from .schedule import nbytes

ALIGNMENT = 64  # bytes: a cache line


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

    >>> mg.compiler.memory.place([(0, 1, 64), (1, 2, 64), (2, 3, 64)])
    ([0, 64, 0], 128)
    """
    offsets = [0] * len(lives)
    placed: list[tuple[int, int, int, int]] = []  # start, end, offset, nbytes
    arena = 0
    for i in sorted(range(len(lives)), key=lambda i: (-lives[i][2], lives[i][0])):
        start, end, size = lives[i]
        size = -(-size // ALIGNMENT) * ALIGNMENT
        lowest = 0
        for _, _, at, taken in sorted((p for p in placed if p[0] <= end and start <= p[1]), key=lambda p: p[2]):
            if lowest + size <= at:
                break
            lowest = max(lowest, at + taken)
        placed.append((start, end, lowest, size))
        offsets[i] = lowest
        arena = max(arena, lowest + size)
    return offsets, arena


def peaks(buffers: Sequence[Buffer], arena: int, steps: int) -> tuple[int, int]:
    """The lower bound of a schedule (the most bytes alive at one time), and the peak of a plan: the arena and the most
    bytes outside it."""
    alive, outside = [0] * (steps + 2), [0] * (steps + 2)
    for b in buffers:
        for counts in (alive, outside) if b.offset is None else (alive,):
            counts[b.start] += b.nbytes
            counts[b.end + 1] -= b.nbytes
    return max(accumulate(alive), default=0), arena + max(accumulate(outside), default=0)


def owner_of(n: Tensor, owners: dict[int, Tensor]) -> Tensor:
    """The node whose memory `n` shares: itself, unless it is a view."""
    return owners.get(id(n), n)


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
    forever = {id(owner_of(n, owners)) for n in graph.roots()}
    ends: dict[int, int] = {}
    for i, n in enumerate(order):
        ends.setdefault(id(owner_of(n, owners)), i)
        for x in n.inputs:
            ends[id(owner_of(x, owners))] = i
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
    # the bytes of a result that takes another's place are that one's, until the step is done
    shifted = [b if b.in_place_of is None else b._replace(start=b.start + 1) for b in buffers]
    return MemoryPlan(buffers, arena, *peaks([b for b in shifted if b.start <= b.end], arena, last))
