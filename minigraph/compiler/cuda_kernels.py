"""CUDA C for a kernel: what `render` writes as loops, spread over the threads of a GPU.

Expressions, operands, gathers and the order of phases are those of `render`; only the loops are others. A kernel
becomes one or more functions, each launched with a grid of blocks of threads:

    map      one thread for each point of the domain, in a loop that strides by the grid, for domains of any size
    rows     one warp (32 threads) or one block for each row: every phase goes over the row, its threads side by side,
             and what the phase reduces is put together with shuffles, so that each thread has it in the next phase
    columns  sums over the first axes: one thread for each element of the result and each chunk of what is added up
    scatter  additions at places that depend on values: one thread for all points that may meet at one place
    fill     zeros (or another value), where a function writes only a part of its result
    finish   the partial results of blocks and chunks, put together; and what is made from totals

Nothing is added atomically, so results do not depend on which thread is first. A thread adds up at most some hundred
numbers in their own type; partial sums are put together in double.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..tensor import Tensor
from .expressions import BUILTINS, LIBRARY, Writer, c_type, literal
from .loops import Access, Kernel, Member
from .render import KernelText, Loop, merged

WARP, THREADS = 32, 256  # threads that run in step, and threads of a block
BLOCKS = 4096  # the most blocks of a grid
ALONE = 1024  # threads of the block that works alone where the domain is small and everything is summed
SHORT = 256  # elements of a row up to which a warp does it alone
FEW = 128  # elements up to which a thread adds up a column alone
CHUNK = 256  # the most partial sums of a column; a thread adds up 32 elements or more
NEAR = 1 << 30  # elements up to which indices are ints, which GPUs divide faster than wider ones
ENOUGH = 1 << 14  # threads that keep a GPU busy

PRELUDE = """#ifdef __CUDACC_RTC__  // the run-time compiler has no headers
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INT64_MIN (-9223372036854775807LL - 1)
#else
#include <stdint.h>
#endif
__device__ inline float inff() { return __int_as_float(0x7f800000); }
__device__ inline double inf() { return __longlong_as_double(0x7ff0000000000000LL); }
"""
FOLD = "struct fold_{name} {{ template <class T> static __device__ T of(T a, T b) {{ return {of}; }} }};"
FOLDS = {
    name: FOLD.format(name=name, of=of)
    for name, of in {
        "sum": "a + b", "prod": "a * b", "any": "a | b", "all": "a & b",
        "max": "a > b || a != a ? a : b", "min": "a < b || a != a ? a : b",
    }.items()
}  # fmt: skip
WARP_FOLD = """
/* The values of the 32 threads of a warp, put together; every thread gets the same result. */
template <class F, class T> static __device__ T warp_fold(T x) {
  for (int d = 16; d; d /= 2) x = F::template of<T>(x, (T)__shfl_xor_sync(0xffffffffu, x, d));
  return x;
}"""
BLOCK_FOLD = """
/* The same for all threads of a block: first the warps by themselves, then what the warps have found. */
template <class F, class T> static __device__ T block_fold(T x, T start) {
  __shared__ T part[32];
  x = warp_fold<F>(x);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  __syncthreads();
  x = warp_fold<F>(threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : start);
  __syncthreads();  // nobody may write `part` again before all have read it
  return x;
}"""


def on_device(text: str) -> str:
    """C as CUDA C, which is C++: functions belong to the device, and there is one `copysign` for each type."""
    for c, cuda in (
        ("static inline", "static __device__ inline"),
        ("__builtin_", ""),
        ("copysign(0,", "copysign(0.0,"),
    ):
        text = text.replace(c, cuda)
    return text


class CudaWriter(Writer):
    """Expressions with the functions that CUDA brings: `expf`, `tanhf`, `erff`."""

    def function(self, name: str, dtype: Any) -> str:
        if dtype.kind == "f" and (name in BUILTINS or name in LIBRARY):
            return BUILTINS.get(name, name) + ("f" if dtype.itemsize == 4 else "")
        found = super().function(name, dtype)
        self.functions[found] = on_device(self.functions[found])
        return found

    def fold(self, name: str) -> str:
        self.functions.setdefault(f"fold_{name}", FOLDS[name])
        return f"fold_{name}"


class Launch(NamedTuple):
    """One function and how it is started.

    Attributes:
        shape: "map", "rows", "columns", "scatter", "fill", "finish" or "random" (see `cuda_random`).
        body: the text between the braces. parameters: (type, name) of each. checks: whether it may refuse an index.
        comments: a line for each operation in it.
    """

    shape: str
    parameters: tuple[tuple[str, str], ...]
    body: str
    blocks: int
    threads: int
    checks: bool
    comments: tuple[str, ...]


def wide(n: Tensor) -> str:
    """The type in which partial results of a reduction are put together."""
    return "double" if n.op.name == "sum" and n.dtype.kind == "f" else c_type(n.dtype)


def up(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def note(n: Tensor) -> str:
    """The operation, and the user's line."""
    return n.op.name if n.site is None else f"{n.op.name}  {n.site}"


class CudaKernel:
    """A kernel as CUDA C: `launches`, in order, and the scratch memory (name -> bytes) that they share.

    It has what `program` asks of a `KernelText`: `given`, `outputs`, `members`, `level`, `checks`.
    """

    split = ranged = None  # which are matters of threads of a CPU

    def __init__(self, kernel: Kernel, outputs: Sequence[Tensor], writer: CudaWriter):
        self.kernel, self.writer = kernel, writer
        self.members = list(kernel.members.values())
        self.outputs = {id(n): f"out{i}" for i, n in enumerate(outputs)}
        self.number = {id(m.node): i for i, m in enumerate(self.members)}
        self.names: dict[int, str] = {}
        self.given: list[Tensor] = []
        self.types = {name: c_type(n.dtype) for n, name in zip(outputs, self.outputs.values(), strict=True)}
        self.scratch: dict[str, int] = {}
        self.launches: list[Launch] = []
        self.rows: list[Tensor] = []
        self.checks = any(m.node.op.name == "in_range" or m.search is not None for m in self.members)
        everything = KernelText(kernel, outputs, writer)
        self.phases, self.level = everything.plan(), everything.level
        self.last_phases = everything.last_phases
        self.render()

    def pointer(self, base: Tensor) -> str:
        """The name of an array in memory: a result, a value of each row, or something given."""
        if id(base) in self.outputs:
            return self.outputs[id(base)]
        if id(base) not in self.names:
            if id(base) in self.kernel.members:
                name = self.scratch_for(f"row{self.number[id(base)]}", base.size, c_type(base.dtype), base.nbytes)
            else:
                name = f"in{len(self.given)}"
                self.given.append(base)
                self.types[name] = f"const {c_type(base.dtype)}"
            self.names[id(base)] = name
        return self.names[id(base)]

    def scratch_for(self, name: str, size: int, kind: str, nbytes: int = 0) -> str:
        self.scratch[name] = nbytes or size * 8
        self.types[name] = kind
        return name

    def column(self, m: Member) -> bool:
        """Whether a reduction keeps an axis, or adds at places that depend on values: a function of its own."""
        if m.role != "end":
            return False
        return bool(m.search.indices) if m.search is not None else m.node.size != 1

    def leading_to(self, targets: Sequence[Member], known: Iterable[int]) -> dict[int, Member]:
        """The members that these are made of, without those whose values are known."""
        stop, found = set(known), {id(m.node): m for m in targets}
        todo = list(targets)
        while todo:
            for a in todo.pop().operands:
                m = self.kernel.members.get(id(a.base))
                if m is not None and id(a.base) not in stop and id(a.base) not in found:
                    found[id(a.base)] = m
                    todo.append(m)
        return {key: m for key, m in self.kernel.members.items() if key in found}

    def render(self) -> None:
        wanted = [self.kernel.members[key] for key in self.outputs]
        columns = [m for m in wanted if self.column(m)]
        first = [m for m in wanted if not self.column(m)]
        stored = {id(m.node) for m in first if m.role in ("each", "row")}
        of_rows = {id(m.node): m for m in self.members if m.role == "row"}
        known = stored | of_rows.keys()
        read = {id(a.base) for m in columns for x in self.leading_to([m], known).values() for a in x.operands}
        rows = [m for key, m in of_rows.items() if key in read - stored]  # they are kept in memory for the columns
        self.rows = [m.node for m in rows]
        for m in wanted:
            fill = self.start_of(m)
            if fill is not None:
                self.fill(m.node, fill)
        if first or rows:
            self.launches += Points(self, [*first, *rows]).render()
        for m in columns:
            self.launches += Column(self, m, known).render()

    def start_of(self, m: Member) -> str | None:
        """What a result holds before anything is stored in it, if it must hold something."""
        if KernelText.sparse(m):
            return literal((m.node.attrs or {}).get("fill", 0), m.node.dtype)
        return "0" if m.role == "end" and m.search is not None else None

    def fill(self, n: Tensor, value: str) -> None:
        size, out = n.size, self.outputs[id(n)]
        body = [f"  {stride('int' if size < NEAR else 'long long', 'z', size)} {out}[z] = {value};"]
        self.launches.append(
            Launch("fill", ((self.types[out], out),), "\n".join(body), blocks_for(size), THREADS, False, (note(n),))
        )


def blocks_for(points: int) -> int:
    return max(1, min(up(points, THREADS), BLOCKS))


def stride(kind: str, name: str, size: int) -> str:
    """The head of a loop in which the threads of the grid share the points."""
    wide = "" if kind == "int" else f"({kind})"
    return (
        f"for ({kind} {name} = {wide}blockIdx.x * blockDim.x + threadIdx.x; {name} < {size}; "
        f"{name} += {wide}blockDim.x * gridDim.x)"
    )


class Piece(KernelText):
    """The text of one function of a kernel."""

    writer: CudaWriter

    def __init__(self, whole: CudaKernel, members: dict[int, Member]):
        part = whole.kernel.copy()
        part.members = members
        kept = whole.outputs.keys() | {id(n) for n in whole.rows}
        super().__init__(part, [m.node for key, m in members.items() if key in kept], whole.writer)
        self.of, self.outputs = whole, whole.outputs
        self.used: dict[str, None] = {}  # the names of its parameters
        self.open_names: set[str] = set()
        self.plan()
        self.number = whole.number
        accesses = [a for m in self.members for a in (*m.operands, m.place, *m.blocks)]
        accesses += [m.search.start for m in self.members if m.search is not None]
        reach = max([a.offset + sum(abs(s) * (n - 1) for s, n in zip(a.steps, part.axes, strict=True))
                     for a in accesses], default=0)  # fmt: skip
        self.integer = "int" if max(reach, math.prod(part.axes)) < NEAR else "long long"

    def put(self, line: str, n: Tensor | None = None) -> None:
        super().put(line if n is None else f"{line}  // {note(n)}")

    def pointer(self, base: Tensor) -> str:
        name = self.of.pointer(base)
        self.used[name] = None
        return name

    def launch(self, shape: str, blocks: int, threads: int) -> Launch:
        lines = list(self.lines)
        if self.checks:
            lines = ["  int bad = 0;", *lines, "  if (bad) atomicOr(status, 1);"]
        parameters = [(self.of.types[name], name) for name in self.used]
        comments = tuple(note(m.node) for m in self.members)
        return Launch(shape, tuple(parameters), "\n".join(lines), blocks, threads, self.checks, comments)

    def enter(self, head: str) -> None:
        self.put(f"{head} {{")
        self.depth += 1

    def decode(self, loops: Sequence[Loop], point: str) -> None:
        """The index of each loop at a point, the last one running fastest."""
        parts, below = [], 1
        for i, loop in reversed(list(enumerate(loops))):
            if loop.size > 1:
                index = point if below == 1 else f"{point} / {below}"
                parts.append(f"{loop.name} = {index}{f' % {loop.size}' if any(x.size > 1 for x in loops[:i]) else ''}")
            below *= loop.size
        if parts:
            self.put(f"const {self.integer} {', '.join(reversed(parts))};")

    def over(self, loops: Sequence[Loop], head: Any) -> None:
        """Open one loop over all points of some loops; `head(name, size)` is its text."""
        if len(loops) == 1:
            self.enter(head(loops[0].name, loops[0].size))
        else:
            name = "at" if "at" not in self.open_names else "at2"
            self.open_names.add(name)
            self.enter(head(name, math.prod(loop.size for loop in loops)))
            self.decode(loops, name)

    def fold_into(self, m: Member, target: str, value: str) -> None:
        """One more value for a reduction."""
        n, source = m.node, m.operands[0].base.dtype
        if n.op.name in ("any", "all"):
            value = f"({value} != 0)"
        elif source != n.dtype:
            value = f"(({c_type(n.dtype)}){value})"
        sign = {"sum": "+=", "prod": "*=", "any": "|=", "all": "&="}.get(n.op.name)
        fold = f"{target} = {self.writer.fold(n.op.name)}::of<{c_type(n.dtype)}>({target}, {value});"
        self.put(fold if sign is None else f"{target} {sign} {value};", n)

    def together(self, n: Tensor, name: str, scope: str = "block") -> str:
        """The values that the threads of a warp or a block have, put together."""
        self.writer.functions.setdefault("warp_fold", WARP_FOLD)
        fold, kind = self.writer.fold(n.op.name), wide(n)
        if scope == "warp":
            return f"warp_fold<{fold}, {kind}>({name})"
        self.writer.functions.setdefault("block_fold", BLOCK_FOLD)
        return f"block_fold<{fold}, {kind}>({name}, {self.start(n)})"

    def narrow(self, n: Tensor, text: str) -> str:
        """What has been put together, in the type of the result."""
        return text if wide(n) == c_type(n.dtype) else f"({c_type(n.dtype)}){text}"


class Points(Piece):
    """The function that goes over all points, or over all rows, of a kernel; and the one that puts totals together."""

    def __init__(self, whole: CudaKernel, targets: Sequence[Member]):
        super().__init__(whole, whole.leading_to(targets, ()))
        self.targets = {id(m.node) for m in targets}
        self.totals = [m for m in self.members if self.whole(m)]
        self.length = math.prod(loop.size for loop in self.inner)
        self.by_row = self.kernel.reduced is not None
        points, rows = math.prod(self.kernel.axes), math.prod(loop.size for loop in self.outer)
        self.scope = "block" if self.by_row and self.length > SHORT else "warp"
        if self.by_row:
            self.blocks = max(1, min(rows if self.scope == "block" else up(rows, THREADS // WARP), BLOCKS))
            self.threads = THREADS
        elif self.totals and points <= ENOUGH:
            self.blocks, self.threads = 1, ALONE if points > THREADS else THREADS
        else:
            self.blocks, self.threads = blocks_for(points), THREADS

    def stored(self, m: Member) -> bool:
        return id(m.node) in self.targets

    def render(self) -> list[Launch]:  # type: ignore[override]  # several functions instead of one text
        phases = 1 + max(
            [self.level[id(m.node)] for m in self.members if m.role in ("each", "end", "blocks")], default=0
        )
        for m in self.members:
            later = any(self.used_in(u) > self.level[id(m.node)] for u in self.members
                        if any(a.base is m.node for a in u.operands))  # fmt: skip
            if m.role == "each" and later and self.stored(m):
                self.stashed[id(m.node)] = f"{self.pointer(m.node)}[{self.index(m.place, [*self.outer, *self.inner])}]"
        for m in self.totals:
            self.put(f"{c_type(m.node.dtype)} p{self.number[id(m.node)]} = {self.start(m.node)};")
        if self.by_row:
            self.rows(phases)
        else:
            self.phase = 0
            self.over(self.inner, lambda name, size: stride(self.integer, name, size))
            self.point(0, [])
            self.close()
        self.locals = {}
        return self.end()

    def rows(self, phases: int) -> None:
        """One row after another, and over each one once for every phase."""
        if self.scope == "warp":
            self.put("const int lane = threadIdx.x % 32;  // one warp for each row")
            first, step, lanes = "(blockIdx.x * blockDim.x + threadIdx.x) / 32", "gridDim.x * (blockDim.x / 32)", "32"
        else:
            self.put("const int lane = threadIdx.x;  // one block for each row")
            first, step, lanes = "blockIdx.x", "gridDim.x", "blockDim.x"
        self.over(
            self.outer, lambda name, size: f"for ({self.integer} {name} = {first}; {name} < {size}; {name} += {step})"
        )
        before = dict(self.locals)
        for phase in range(phases):
            self.phase = phase
            self.row_values(phase)
            reductions = [m for m in self.members if m.role == "row" and not m.node.op.elementwise
                          and self.level[id(m.node)] == phase + 1]  # fmt: skip
            if not reductions and not self.anything(phase):
                continue
            for m in reductions:
                self.put(f"{c_type(m.node.dtype)} p{self.number[id(m.node)]} = {self.start(m.node)};")
            names, known = set(self.open_names), dict(self.locals)
            self.over(
                self.inner,
                lambda name, size: f"for ({self.integer} {name} = lane; {name} < {size}; {name} += {lanes})",
            )
            self.point(phase, reductions)
            self.close()
            self.open_names, self.locals = names, known
            for m in reductions:
                k = self.number[id(m.node)]
                text = self.together(m.node, f"p{k}", self.scope)
                self.put(f"const {c_type(m.node.dtype)} r{k} = {self.narrow(m.node, text)};", m.node)
                self.locals[id(m.node)] = f"r{k}"
        self.row_values(phases)
        self.locals = before
        self.close()

    def row_values(self, phase: int) -> None:
        for m in self.members:
            if m.role == "row" and self.level[id(m.node)] == phase:
                if m.node.op.elementwise:
                    self.compute(m, self.outer)
                if self.stored(m):
                    place = f"{self.pointer(m.node)}[{self.index(m.place, self.outer)}]"
                    self.put(f"if (lane == 0) {place} = {self.locals[id(m.node)]};")

    def at_points(self, phase: int) -> tuple[list[Member], list[Member]]:
        """What is stored, and what is added up, at the points of a phase."""
        here = [m for m in self.members if self.level[id(m.node)] == phase]
        placed = [m for m in here if m.role == "end" and m.search is not None]
        return [m for m in here if m.role in ("each", "blocks") and self.stored(m)] + placed, [
            m for m in here if self.whole(m)
        ]

    def anything(self, phase: int) -> bool:
        return any(self.at_points(phase))

    def point(self, phase: int, reductions: Sequence[Member]) -> None:
        """What happens at one point: reading and computing, then storing, then adding up."""
        loops = [*self.outer, *self.inner]
        self.locals |= {key: text for key, text in self.stashed.items() if self.level[key] < phase}
        stores, totals = self.at_points(phase)
        found: list[tuple[str, str]] = []
        for m in stores:
            out = self.pointer(m.node)
            if m.role == "each":
                found.append((f"{out}[{self.index(m.place, loops)}]", self.value(m, loops)))
            elif m.role == "blocks":
                found += [(f"{out}[{self.index(block, loops)}]", self.variable(a, loops))
                          for block, a in zip(m.blocks, m.operands, strict=True)]  # fmt: skip
            else:
                assert m.search is not None
                found.append((f"{out}[{self.index(m.search.start, loops)}]", self.variable(m.operands[0], loops)))
        folded = [(m, self.variable(m.operands[0], loops)) for m in [*reductions, *totals]]
        for place, value in found:
            self.put(f"{place} = {value};")
        for m, value in folded:
            self.fold_into(m, f"p{self.number[id(m.node)]}", value)

    def end(self) -> list[Launch]:
        """After the points: totals. A block that works alone has them; several leave theirs to a second function."""
        shape = "rows" if self.by_row else "map"
        if not self.totals:
            return [self.launch(shape, self.blocks, self.threads)]
        if self.blocks == 1:
            for m in self.totals:
                k = self.number[id(m.node)]
                text = self.narrow(m.node, self.together(m.node, f"p{k}"))
                self.put(f"const {c_type(m.node.dtype)} t{k} = {text};", m.node)
                self.locals[id(m.node)] = f"t{k}"
            self.after()
            return [self.launch(shape, self.blocks, self.threads)]
        second = Totals(self.of, self.members, self.targets, self.blocks)
        for m in self.totals:
            k, n = self.number[id(m.node)], m.node
            part = self.of.scratch_for(f"part{k}", self.blocks, wide(n))
            self.used[part] = None
            self.put(f"const {wide(n)} b{k} = {self.together(n, f'p{k}')};", n)
            self.put(f"if (threadIdx.x == 0) {part}[blockIdx.x] = b{k};")
        return [self.launch(shape, self.blocks, self.threads), second.render()]

    def after(self) -> None:
        """What is made from totals, and storing it."""
        for m in self.members:
            if m.role == "after":
                self.compute(m, [])
        for m in self.members:
            if (self.whole(m) or m.role == "after") and self.stored(m):
                self.put(f"if (threadIdx.x == 0) {self.pointer(m.node)}[0] = {self.locals[id(m.node)]};")


class Totals(Piece):
    """The function that puts the totals of the blocks together: one block, in a fixed order."""

    def __init__(self, whole: CudaKernel, members: Sequence[Member], targets: set[int], blocks: int):
        kept = {id(m.node): m for m in members if m.role in ("end", "after") and m.search is None}
        super().__init__(whole, kept)
        self.checks, self.targets, self.parts = False, targets, blocks

    def render(self) -> Launch:  # type: ignore[override]
        for m in self.members:
            if m.role != "end":
                continue
            n, k = m.node, self.number[id(m.node)]
            self.used[f"part{k}"] = None
            self.put(f"{wide(n)} s{k} = {self.start(n)};")
            fold = f"{self.writer.fold(n.op.name)}::of<{wide(n)}>(s{k}, part{k}[z])"
            self.put(f"for (int z = threadIdx.x; z < {self.parts}; z += blockDim.x) s{k} = {fold};")
            self.put(f"const {c_type(n.dtype)} t{k} = {self.narrow(n, self.together(n, f's{k}'))};", n)
            self.locals[id(n)] = f"t{k}"
        for m in self.members:
            if m.role == "after":
                self.compute(m, [])
        for m in self.members:
            if id(m.node) in self.targets:
                self.put(f"if (threadIdx.x == 0) {self.pointer(m.node)}[0] = {self.locals[id(m.node)]};")
        return self.launch("finish", 1, THREADS)


class Column(Piece):
    """The functions of a reduction over the first axes, or of a scatter at places that depend on values.

    The axes that the result keeps are shared out among threads: along them, no two points meet. The others are gone
    through one after another: by chunks, whose sums are put together by a second function; for a scatter, by stripes:
    each thread adds what belongs to every so-many-th place, and passes over the rest.
    """

    def __init__(self, whole: CudaKernel, m: Member, known: Iterable[int]):
        super().__init__(whole, whole.leading_to([m], known))
        self.m = m
        steps = m.place.steps if m.search is None else m.search.start.steps
        axes = range(len(self.kernel.axes))
        accesses: list[Access] = [a for x in self.members for a in x.operands]
        accesses.append(m.place if m.search is None else m.search.start)
        self.outer = merged([a for a in axes if steps[a]], self.kernel.axes, accesses)
        self.inner = merged([a for a in axes if not steps[a]], self.kernel.axes, accesses)
        for i, loop in enumerate([*self.outer, *self.inner]):
            loop.name = "ijklmnop"[i] if i < 8 else f"i{i}"
        self.kept = math.prod(loop.size for loop in self.outer)
        self.folded = math.prod(loop.size for loop in self.inner)

    def render(self) -> list[Launch]:  # type: ignore[override]
        self.phase = 0
        return self.sums() if self.m.search is None else [self.scatter()]

    def threads_of(self, parts: int, name: str) -> None:
        """Open the loop over what the threads share: elements of the result, and parts of what is added up."""
        if parts == 1:
            self.over(self.outer, lambda name, size: stride(self.integer, name, size))
            return
        self.enter(stride(self.integer, "thread", self.kept * parts))
        self.put(f"const {self.integer} {name} = thread / {self.kept};")
        if len(self.outer) == 1:
            self.put(f"const {self.integer} {self.outer[0].name} = thread % {self.kept};")
        elif self.outer:
            self.put(f"const {self.integer} at = thread % {self.kept};")
            self.open_names.add("at")
            self.decode(self.outer, "at")

    def sums(self) -> list[Launch]:
        m, n, k = self.m, self.m.node, self.number[id(self.m.node)]
        loops = [*self.outer, *self.inner]
        parts = max(1, min(up(self.folded, 32), CHUNK, ENOUGH * 4 // max(self.kept, 1))) if self.folded > FEW else 1
        each = up(self.folded, parts)
        parts = max(1, up(self.folded, max(each, 1)))
        self.threads_of(parts, "chunk")
        self.put(f"{c_type(n.dtype)} p{k} = {self.start(n)};")
        if parts > 1:
            stop = f"from + {each} < {self.folded} ? from + {each} : {self.folded}"
            self.put(f"const {self.integer} from = chunk * {each}, to = {stop};")
        first, last = ("from", "to") if parts > 1 else ("0", str(self.folded))
        self.over(self.inner, lambda name, size: f"for ({self.integer} {name} = {first}; {name} < {last}; {name}++)")
        value = self.variable(m.operands[0], loops)
        self.fold_into(m, f"p{k}", value)
        self.close()
        place = self.index(m.place, self.outer)
        if parts == 1:
            self.put(f"{self.pointer(n)}[{place}] = p{k};")
            self.close()
            return [self.launch("columns", blocks_for(self.kept), THREADS)]
        part = self.of.scratch_for(f"part{k}", self.kept * parts, wide(n))
        self.used[part] = None
        self.put(f"{part}[thread] = p{k};")
        self.close()
        main = self.launch("columns", blocks_for(self.kept * parts), THREADS)
        out, kind = self.of.pointer(n), wide(n)
        fold = f"{self.writer.fold(n.op.name)}::of<{kind}>(s, {part}[chunk * {self.kept} + z])"
        lines = [
            f"  {stride(self.integer, 'z', self.kept)} {{",
            f"    {kind} s = {self.start(n)};",
            f"    for (int chunk = 0; chunk < {parts}; chunk++) s = {fold};",
            f"    {out}[z] = {self.narrow(n, 's')};  // {note(n)}",
            "  }",
        ]
        parameters = ((f"const {kind}", part), (self.of.types[out], out))
        finish = Launch("finish", parameters, "\n".join(lines), blocks_for(self.kept), THREADS, False, (note(n),))
        return [main, finish]

    def scatter(self) -> Launch:
        m = self.m
        assert m.search is not None
        loops = [*self.outer, *self.inner]
        stripes = max(1, min(64, ENOUGH // max(self.kept, 1)))
        self.threads_of(stripes, "stripe")
        self.over(self.inner, lambda name, size: f"for ({self.integer} {name} = 0; {name} < {size}; {name}++)")
        indices = {i for i, _, _ in m.search.indices}
        operands = [self.operand(a, loops) if i in indices else "" for i, a in enumerate(m.operands)]
        place = self.find(m, operands, loops)
        if stripes > 1:
            self.put(f"if (x{self.reads - 1} % {stripes} != stripe) continue;  // by the last index")
        value = self.variable(m.operands[0], loops)
        self.put(f"{self.pointer(m.node)}[{place}] += {value};", m.node)
        self.close()
        self.close()
        return self.launch("scatter", blocks_for(self.kept * stripes), THREADS)
