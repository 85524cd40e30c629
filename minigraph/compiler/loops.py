"""Loop nests: which operations can share their loops, and where in memory each step of a loop reads and writes.

A kernel computes several operations in one nest of loops over one shape, its domain, so that what one operation makes
the next uses at once, from a register. Every member has one of these roles:

    each   computed at every point of the domain (elementwise operations)
    row    computed once for every row, a row being the points that share the axes that are not reduced: the sum of
           each row and what is made from it. Points of a later pass over the same row may use it (softmax, layer norm).
    end    complete only when all loops are done (the sum over a batch, a total): nothing in the loops may use it
    blocks complete then, too: results of the domain's shape, each stored as one block of a larger array
    after  computed once when all loops are done, from totals (a mean from a sum)

Views (transpose, slice, broadcast, reshape) cost nothing here: they are ways of reading the array they look at. `View`
says how, and NumPy itself works it out: the view operations run on an array of the right shape that is never touched,
and the strides of the result are the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..op import Spec
from ..tensor import Tensor

REDUCTIONS = ("sum", "max", "min", "prod", "all", "any")
DTYPES = {
    np.dtype(name)
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
}


class View(NamedTuple):
    """How a node looks at the memory of `base`: element (i, j, ...) is element `offset + i * strides[0] + ...`."""

    base: Tensor
    offset: int
    strides: tuple[int, ...]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of an array in C order."""
    strides, step = [], 1
    for n in shape[::-1]:
        strides.append(step)
        step *= n
    return tuple(strides[::-1])


def in_memory(t: Tensor) -> bool:
    """Whether a node has one result, on this machine."""
    value = t.value
    return type(value) is np.ndarray or (type(value) is not tuple and t.device.kind == "cpu")


def simple(t: Tensor) -> bool:
    """Whether a node has one result, of a type that loops can hold."""
    return in_memory(t) and t.value.dtype in DTYPES


def is_view(t: Tensor) -> bool:
    """Whether a node may be nothing but a way of looking at its one input."""
    return t.op is not None and t.op.view and len(t.inputs) == 1


def is_item(t: Tensor) -> bool:
    """Whether a node picks one of several results of an operation, which is in memory by itself."""
    return t.op is not None and t.op.name == "item" and not is_view(t.inputs[0])


class Views:
    """The views of a graph: `views[node]`, None where a node cannot be read as a view of something."""

    def __init__(self) -> None:
        self.known: dict[int, View | None] = {}
        self.kept: list[Tensor] = []  # so that ids stay unique
        self.looks: dict[int, tuple[Tensor, Any]] = {}  # id -> base, and the view of an untouched array of its shape

    def look(self, t: Tensor) -> tuple[Tensor, Any] | None:
        """The node whose memory `t` shares, and an array without content that looks at it as `t` does."""
        if id(t) in self.looks:
            return self.looks[id(t)]
        self.kept.append(t)
        if not is_view(t):
            if not in_memory(t):
                return None
            found: Any = (t, np.empty(t.shape, t.dtype))
        else:
            source = t.inputs[0]
            if is_item(t):
                found = (t, np.empty(t.shape, t.dtype)) if in_memory(t) else None
            else:
                under = self.look(source)
                if under is None or under[0].device.kind != "cpu":
                    return None
                found = None
                try:
                    if t.op.name == "reshape":
                        array: Any = np.reshape(under[1], t.shape, copy=False)
                    elif t.op.name == "getitem":
                        array = selected(under[1], t.attrs["key"].items)
                    else:
                        array = t.op.numpy(under[1], **(t.attrs or {}))
                    first = array[0] if isinstance(array, tuple | list) else array
                    if not first.size or np.may_share_memory(first, self.looks[id(under[0])][1]):
                        found = (under[0], array)
                except (ValueError, AttributeError):
                    found = None
        if found is not None:
            self.looks[id(t)] = found
        return found

    def __getitem__(self, t: Tensor) -> View | None:
        if id(t) not in self.known:
            self.known[id(t)] = None
            if not is_view(t) and in_memory(t):
                self.known[id(t)] = View(t, 0, contiguous(t.shape))
                self.kept.append(t)
                return self.known[id(t)]
            look = self.look(t)
            if look is not None and isinstance(look[1], np.ndarray):
                base, array = look
                origin = self.looks[id(base)][1]
                size = array.dtype.itemsize
                start = array.__array_interface__["data"][0] - origin.__array_interface__["data"][0]
                if array.size and (start % size or any(s % size for s in array.strides)):
                    return None
                offset = start // size if array.size else 0
                self.known[id(t)] = View(base, offset, tuple(s // size for s in array.strides))
            self.kept.append(t)
        return self.known[id(t)]


def selected(array: np.ndarray, items: tuple[Any, ...]) -> np.ndarray:
    """`array[items]` as a view, also where NumPy would give a number."""
    block = array[items]
    return block if isinstance(block, np.ndarray) else array[(*items, ...)]


class Access(NamedTuple):
    """Reading or writing in a loop: element `offset + sum(i * step)` of `base`; a step for each axis of the domain."""

    base: Tensor
    offset: int
    steps: tuple[int, ...]


class Search(NamedTuple):
    """Memory whose place depends on values: element `start + sum(operand * stride)` for the operands that are indices.

    `indices`: (which operand, stride, size of the axis that it indexes).
    """

    start: Access
    indices: tuple[tuple[int, int, int], ...]


class Member(NamedTuple):
    """An operation in a kernel: its role, where its result lies, and where its operands do.

    `search`: for a gather, where in its table it reads; for a scatter, where in its result it adds.
    `blocks`: for each operand, where it is stored.
    """

    node: Tensor
    role: str
    place: Access
    operands: tuple[Access, ...]
    search: Search | None = None
    blocks: tuple[Access, ...] = ()


def elementwise(n: Tensor) -> bool:
    """Whether a node is computed point by point from an expression."""
    return (
        n.op is not None
        and n.op.elementwise
        and n.op.expression is not None
        and (not n.op.view or n.op.name == "copy")
        and simple(n)
        and all(simple(x) for x in n.inputs)
    )


def reduces(n: Tensor) -> bool:
    """Whether a node folds axes of its one input."""
    return n.op is not None and n.op.name in REDUCTIONS and simple(n) and simple(n.inputs[0])


class Axis(NamedTuple):
    """How a gather or scatter finds its place along an axis of the table: at an index, which operand `k` tells
    ("index"); along axis `k` of the domain, from `start` on, `step` at a time ("domain"); or at `start` ("fixed")."""

    kind: str
    k: int
    start: int = 0
    step: int = 1


class Addressing(NamedTuple):
    """How a gather or scatter finds its place. `first` and `last` tell which axes of the domain the indices have."""

    table: int | None  # which operand is the table; None for a scatter, whose result it is
    values: int | None  # which operand is scattered
    axes: tuple[Axis, ...]
    first: int
    last: int


def addressing(n: Tensor) -> Addressing | None:
    """The addressing of a gather or scatter, None for other operations."""
    if n.op is None or not n.inputs:
        return None
    attrs = n.attrs or {}
    match n.op.name:
        case "embedding":
            k = n.inputs[0].ndim
            return Addressing(1, None, (Axis("index", 0), Axis("domain", k)), 0, k)
        case "take" if n.inputs[0].ndim:
            x, k = n.inputs[0], n.inputs[1].ndim
            axis = attrs.get("axis", 0) % x.ndim
            axes = [Axis("index", 1) if d == axis else Axis("domain", d if d < axis else d - 1 + k)
                    for d in range(x.ndim)]  # fmt: skip
            return Addressing(0, None, tuple(axes), axis, axis + k)
        case "take_along_axis" | "scatter_along_axis":
            ndim, gather = n.ndim, n.op.name == "take_along_axis"
            axis = attrs["axis"] % ndim
            axes = [Axis("index", 1) if d == axis else Axis("domain", d) for d in range(ndim)]
            return Addressing(0 if gather else None, None if gather else 0, tuple(axes), 0, ndim)
        case "gather" | "scatter_add":
            table = n.inputs[0] if n.op.name == "gather" else n
            block = max([x.ndim for x in n.inputs[1:]], default=0)
            key = attrs.get("key")
            axes, place = by_key(table.shape, None if key is None else key.items, len(n.inputs) - 1, block)
            gather = n.op.name == "gather"
            return Addressing(0 if gather else None, None if gather else 0, tuple(axes), place, place + block)
    return None


def by_key(shape: Sequence[int], items: Sequence[Any] | None, slots: int, block: int) -> tuple[list[Axis], int]:
    """The addressing of what a key with index tensors selects from a table, and where their `block` axes stand in it:
    by NumPy's rules, as in `ops/index.py`. Without a key the tensors index the first axes."""
    if items is None:
        places = [Axis("index", d + 1) for d in range(slots)]
        return [*places, *[Axis("domain", block + d - slots) for d in range(slots, len(shape))]], 0
    rest = len(shape) - sum(e is not None and e is not Ellipsis for e in items)
    axes: list[Axis] = []
    count, place, state = 0, 0, "none yet"  # axes of the result so far; where the block is
    for e in items if Ellipsis in items else (*items, Ellipsis):
        if e is None:
            count += 1
        elif e is Ellipsis:
            axes += [Axis("domain", count + d) for d in range(rest)]
            count += rest
        elif isinstance(e, slice):
            start, _, step = e.indices(shape[len(axes)])
            axes.append(Axis("domain", count, start, step))
            count += 1
        else:
            if state == "none yet":
                place, state = count, "open"
            elif state == "closed":
                place, state = 0, "apart"
            axes.append(Axis("fixed", 0, e % shape[len(axes)]) if isinstance(e, int) else Axis("index", e.k + 1))
            continue
        state = "closed" if state == "open" else state
    return [a._replace(k=a.k + block) if a.kind == "domain" and a.k >= place else a for a in axes], place


class Kernel:
    """Operations that share a nest of loops.

    Attributes:
        axes: the sizes of the domain, without axes of size 1.
        reduced: the axes (positions in `axes`) that the rows consist of; None while there are no rows.
        members: {id of a node: Member}, in the order in which they were added.
    """

    def __init__(self, views: Views):
        self.views = views
        self.axes: tuple[int, ...] = ()
        self.reduced: frozenset[int] | None = None
        self.members: dict[int, Member] = {}

    def copy(self) -> Kernel:
        """The same kernel, to be added to."""
        other = Kernel(self.views)
        other.axes, other.reduced, other.members = self.axes, self.reduced, dict(self.members)
        return other

    def accepts(self, n: Tensor) -> bool:
        """Take `n` as a member if it fits; False, and nothing changed, if it does not."""
        if elementwise(n):
            member = self.point_by_point(n)
        elif reduces(n):
            member = self.reduction(n)
        else:
            member = self.searching(n)
        if member is None:
            return False
        self.members[id(n)] = member
        return True

    def leading_to(self, outputs: Sequence[Tensor]) -> list[Member]:
        """The members that these are made of, in order: all of them, unless something is no longer asked for."""
        found: set[int] = set()
        todo = [id(n) for n in outputs]
        while todo:
            key = todo.pop()
            if key in self.members and key not in found:
                found.add(key)
                todo += [id(a.base) for a in self.members[key].operands]
        return [m for key, m in self.members.items() if key in found]

    def along(self, n: Tensor, shape: Sequence[int], role: str) -> list[int | None] | None:
        """For each axis of `shape`, the axis of the domain that it runs along (None: size 1)."""
        mine: Sequence[int] = range(len(self.axes))
        if role == "row":
            assert self.reduced is not None
            mine = [a for a in mine if a not in self.reduced]
        if [self.axes[a] for a in mine] != [s for s in shape if s != 1]:
            return None
        rest = iter(mine)
        return [None if s == 1 else next(rest) for s in shape]

    def access(self, x: Tensor, runs: Sequence[int | None]) -> Access | None:
        """How `x` is read when its axes, aligned at the last one, run along the given axes of the domain."""
        view = self.views[x]
        if view is None:
            return None
        steps = [0] * len(self.axes)
        for size, stride, axis in zip(reversed(x.shape), reversed(view.strides), reversed(runs)):  # noqa: B905
            if size != 1 and axis is not None:
                steps[axis] += stride
        found = Access(view.base, view.offset, tuple(steps))
        made = self.members.get(id(view.base))
        if made is not None and (made.role in ("end", "after", "blocks") or made.place[1:] != found[1:]):
            return None  # it is not there yet when the loop is at this point
        return found

    def operands(self, n: Tensor, runs: Sequence[int | None]) -> tuple[Access, ...] | None:
        found = []
        for x in n.inputs:
            a = self.access(x, runs)
            if a is None:
                return None
            found.append(a)
        return tuple(found)

    def place(self, n: Tensor, runs: Sequence[int | None]) -> Access:
        steps = [0] * len(self.axes)
        for stride, axis in zip(contiguous(n.shape), runs, strict=True):
            if axis is not None:
                steps[axis] = stride
        return Access(n, 0, tuple(steps))

    def point_by_point(self, n: Tensor) -> Member | None:
        if not self.members:
            self.axes = tuple(s for s in n.shape if s != 1)
        for role in ("each", "row") if self.reduced else ("each",):
            runs = self.along(n, n.shape, role)
            if runs is None:
                continue
            operands = self.operands(n, runs)
            if operands is None:
                continue
            if role == "row" and any(
                (m := self.members.get(id(a.base))) is not None and m.role == "each" for a in operands
            ):
                continue
            return Member(n, role, self.place(n, runs), operands)
        return self.afterwards(n) if n.size == 1 and self.axes else None

    def afterwards(self, n: Tensor) -> Member | None:
        """A number made from totals of this kernel and from numbers outside."""
        operands = []
        for x in n.inputs:
            view = self.views[x]
            if view is None or x.size != 1:
                return None
            made = self.members.get(id(view.base))
            total = made is not None and made.role == "end" and made.search is None and made.node.size == 1
            if made is not None and not (made.role == "after" or total):
                return None
            operands.append(Access(view.base, view.offset, (0,) * len(self.axes)))
        if not any(id(a.base) in self.members for a in operands):
            return None
        return Member(n, "after", Access(n, 0, (0,) * len(self.axes)), tuple(operands))

    def reduction(self, n: Tensor) -> Member | None:
        x = n.inputs[0]
        folded = folded_axes(n)
        if not self.members:
            self.axes = tuple(s for s in x.shape if s != 1)
        runs = self.along(x, x.shape, "each")
        if runs is None:
            return None
        over = frozenset(a for i, a in enumerate(runs) if i in folded and a is not None)
        source = self.access(x, runs)
        if source is None:
            return None
        made = self.members.get(id(source.base))
        if made is not None and made.role != "each":
            return None
        last = len(self.axes) - 1
        whole = len(over) == len(self.axes)
        if (self.reduced is None and last in over and not whole) or over == self.reduced:
            role = "row"
        elif whole or (over and last not in over):
            role = "end"
        elif not over:  # axes of size 1 only
            role = "each"
        else:
            return None
        if role == "row":
            self.reduced = over
        kept = [None if i in folded else a for i, a in enumerate(runs)]
        if len(kept) != n.ndim:
            kept = [a for i, a in enumerate(runs) if i not in folded]
        return Member(n, role, self.place(n, kept), (source,))

    def searching(self, n: Tensor) -> Member | None:
        """A gather (at each point of its result) or a scatter (at each point of its values)."""
        if n.op is not None and n.op.name == "place":
            return self.placing(n)
        if n.op is not None and n.op.name == "assemble":
            return self.assembling(n)
        how = addressing(n)
        if how is None or not simple(n) or not all(simple(x) for x in n.inputs):
            return None
        domain = n.shape if how.values is None else n.inputs[how.values].shape
        table = n if how.table is None else n.inputs[how.table]
        if not n.size or not table.size:
            return None
        if not self.members:
            self.axes = tuple(s for s in domain if s != 1)
        runs = self.along(n, domain, "each")
        if runs is None:
            return None
        if how.table is None:
            view = View(n, 0, contiguous(n.shape))
        else:
            found = self.views[table]
            if found is None or id(found.base) in self.members:
                return None
            view = found
        offset, steps, indices = view.offset, [0] * len(self.axes), []
        operands = [i for i in range(len(n.inputs)) if i != how.table]
        for size, stride, axis in zip(table.shape, view.strides, how.axes, strict=True):
            offset += axis.start * stride
            if axis.kind == "index":
                indices.append((operands.index(axis.k), stride, size))
            elif axis.kind == "domain" and size != 1 and (run := runs[axis.k]) is not None:
                steps[run] += stride * axis.step
        accesses = []
        for i in operands:
            at = runs if i == how.values else runs[how.first : how.last]
            a = self.access(n.inputs[i], at)
            if a is None:
                return None
            accesses.append(a)
        search = Search(Access(view.base, offset, tuple(steps)), tuple(indices))
        if how.values is not None:
            return Member(n, "end", Access(n, 0, (0,) * len(self.axes)), tuple(accesses), search)
        return Member(n, "each", self.place(n, runs), tuple(accesses), search)

    def placing(self, n: Tensor) -> Member | None:
        """Values put into a block of zeros: a scatter whose places are known."""
        x = n.inputs[0]
        if not simple(n) or not simple(x) or not x.size:
            return None
        if not self.members:
            self.axes = tuple(s for s in x.shape if s != 1)
        runs = self.along(x, x.shape, "each")
        source = None if runs is None else self.access(x, runs)
        if runs is None or source is None:
            return None
        search = Search(self.block(n, n.attrs["key"], runs), ())
        return Member(n, "end", Access(n, 0, (0,) * len(self.axes)), (source,), search)

    def assembling(self, n: Tensor) -> Member | None:
        """Blocks of one shape, each put where it belongs."""
        x = n.inputs[0]
        if not simple(n) or not all(map(simple, n.inputs)) or not x.size or any(b.shape != x.shape for b in n.inputs):
            return None
        if not self.members:
            self.axes = tuple(s for s in x.shape if s != 1)
        runs = self.along(x, x.shape, "each")
        operands = None if runs is None else self.operands(n, runs)
        if runs is None or operands is None:
            return None
        places = tuple([self.block(n, key, runs) for key in n.attrs["keys"]])
        return Member(n, "blocks", Access(n, 0, (0,) * len(self.axes)), operands, None, places)

    def block(self, n: Tensor, key: Any, runs: Sequence[int | None]) -> Access:
        """Where a block of a result is stored, at the points of the domain."""
        whole = np.empty(n.shape, n.dtype)
        part = selected(whole, key.items)
        start = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        steps = [0] * len(self.axes)
        for stride, axis in zip(part.strides, runs, strict=True):
            if axis is not None:
                steps[axis] += stride // n.dtype.itemsize
        return Access(n, start // n.dtype.itemsize, tuple(steps))

    @property
    def size(self) -> int:
        """Points of the domain."""
        return math.prod(self.axes)


def folded_axes(n: Tensor) -> frozenset[int]:
    """The axes that a reduction folds, counted from the front."""
    axis, ndim = (n.attrs or {}).get("axis"), n.inputs[0].ndim
    if axis is None:
        return frozenset(range(ndim))
    return frozenset(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


def spec(n: Tensor) -> Spec:
    """Shape and dtype of a node, whether it has a value or not."""
    v = n.value
    return v if type(v) is Spec else Spec(v.shape, v.dtype)
