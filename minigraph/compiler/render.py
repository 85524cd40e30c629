"""C for a kernel: loops around expressions.

A kernel without rows is one nest of loops. A kernel with rows goes over its rows, and over each row once for every
phase: what a phase reduces, the next one uses. Softmax has three:

    for each row:  phase 0  m = max(m, x[j])
                   phase 1  e[j] = exp(x[j] - m);  s += e[j]
                   phase 2  y[j] = e[j] / s

Axes along which all arrays are laid out in step are merged, so that inner loops are long. Sums of floats are kept in
several partial sums, one for each lane of a vector, over blocks of at most `BLOCK` elements, which are added up in
double: more accurate than NumPy's pairwise sums. The pragma `omp simd` (it needs no threads) allows exactly this
reordering, and nothing else is reordered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..tensor import Tensor
from .expressions import Writer, c_type, cast, costly, literal
from .loops import Access, Kernel, Member
from .threads import WORTH

BLOCK = 1024  # elements that are summed in their own type before the sum goes to double
ANY_SIZE = 64  # elements from which on a loop is told its size: shorter ones are unrolled by the compiler
SCRATCH = 4096  # the longest row whose intermediate values are kept on the stack


class Loop:
    """An axis of the rendered nest: its size, its variable, and how far each access moves along it."""

    def __init__(self, size: int, axes: Sequence[int]):
        self.size, self.axes, self.name = size, tuple(axes), ""


def merged(order: Sequence[int], sizes: Sequence[int], accesses: Sequence[Access]) -> list[Loop]:
    """Loops for the axes in `order`, neighbours made one where every access allows it."""
    loops: list[Loop] = []
    for axis in order:
        if loops:
            above = loops[-1].axes[-1]
            if all(a.steps[above] == a.steps[axis] * sizes[axis] for a in accesses):
                loops[-1] = Loop(loops[-1].size * sizes[axis], (*loops[-1].axes, axis))
                continue
        loops.append(Loop(sizes[axis], (axis,)))
    return loops


class KernelText:
    """Renders one kernel as a C function.

    Args:
        kernel: what to render.
        outputs: the members whose results are stored.
        writer: for expressions; collects the functions that they need.

    After `render`: `text` is the function's parameters and body, `given` the arrays that it reads, in the order of the
    parameters, followed by the outputs. `split` is the outermost loop if the work is worth sharing. `ranged` is the
    loop whose range the function is told by two more parameters: the one that is split, or the only one of a kernel
    without reductions, so that one text serves arrays of any size (the update of all parameters, above all).
    """

    text: str

    def __init__(self, kernel: Kernel, outputs: Sequence[Tensor], writer: Writer, threads: int = 1):
        self.kernel, self.writer = kernel, writer
        self.outputs = {id(n): f"out{i}" for i, n in enumerate(outputs)}
        self.given: list[Tensor] = []
        self.names: dict[int, str] = {}
        self.members = list(kernel.members.values())
        self.lines: list[str] = []
        self.depth = 1
        self.reads = 0
        self.checks = any(m.node.op.name == "in_range" or m.search is not None for m in self.members)
        self.locals: dict[int, str] = {}  # what is in a C variable at the moment
        accesses = [a for m in self.members for a in m.operands]
        accesses += [m.place for m in self.members if id(m.node) in self.outputs and not self.scatters(m)]
        accesses += [m.search.start for m in self.members if m.search is not None]
        accesses += [block for m in self.members for block in m.blocks]
        reduced = kernel.reduced or frozenset()
        axes = range(len(kernel.axes))
        self.outer = merged([a for a in axes if a not in reduced], kernel.axes, accesses)
        self.inner = merged([a for a in axes if a in reduced], kernel.axes, accesses)
        if kernel.reduced is None:
            self.outer, self.inner = [], self.outer
        for i, loop in enumerate([*self.outer, *self.inner]):
            loop.name = "ijklmnop"[i] if i < 8 else f"i{i}"
        self.split = self.shared_loop() if threads > 1 else None
        alone = len(self.inner) == 1 and not self.outer and self.inner[0].size >= ANY_SIZE
        plain = all(m.role == "each" and m.search is None for m in self.members)
        self.ranged = self.split or (self.inner[0] if alone and plain else None)

    def shared_loop(self) -> Loop | None:
        """The outermost loop, if the work is worth several threads and can be done in parts."""
        if any(m.role == "after" or (m.role == "end" and m.search is not None) for m in self.members):
            return None
        if any(self.sparse(m) for m in self.members):
            return None  # nobody may write before all is zero
        points = math.prod(self.kernel.axes)
        arithmetic = sum(0.7 if costly(m.node) else 0.1 for m in self.members if m.role in ("each", "end"))
        traffic = sum(b.base.dtype.itemsize for b in {id(a.base): a for m in self.members for a in m.operands
                      if id(a.base) not in self.kernel.members and any(a.steps)}.values())  # fmt: skip
        traffic += sum(m.node.dtype.itemsize for m in self.members if id(m.node) in self.outputs and m.role == "each")
        loops = self.outer or (self.inner if self.kernel.reduced is None else [])
        if not loops or loops[0].size < 16 or points * max(arithmetic, 0.08 * traffic) < WORTH:
            return None
        return loops[0]

    @staticmethod
    def sparse(m: Member) -> bool:
        """Whether the blocks of a result leave something that has to be zero."""
        return m.role == "blocks" and sum(x.size for x in m.node.inputs) < m.node.size

    # ---------------------------------------------------------------------------------------------------- small parts
    def put(self, line: str, n: Tensor | None = None) -> None:
        """Add a line; `n`: what it computes, for dialects that say so in a comment."""
        self.lines.append("  " * self.depth + line)

    def open(self, loop: Loop, pragma: str = "") -> None:
        if pragma:
            self.put(f"#pragma omp simd{pragma if pragma != ' ' else ''}")
        start, stop = ("from", "to") if loop is self.ranged else ("0", str(loop.size))
        self.put(f"for (long {loop.name} = {start}; {loop.name} < {stop}; {loop.name}++) {{")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.put("}")

    def index(self, access: Access, loops: Sequence[Loop]) -> str:
        """`i * 64 + j`"""
        parts = [str(access.offset)] if access.offset else []
        for loop in loops:
            step = access.steps[loop.axes[-1]]
            if step and loop.size > 1:
                parts.append(loop.name if step == 1 else f"{loop.name} * {step}")
        return " + ".join(parts) or "0"

    def pointer(self, base: Tensor) -> str:
        if id(base) not in self.names:
            self.names[id(base)] = f"in{len(self.given)}"
            self.given.append(base)
        return self.names[id(base)]

    def load(self, access: Access, loops: Sequence[Loop]) -> str:
        base = access.base
        if base.op is None and not base.is_symbolic and base.value.size == 1:
            return literal(base.value.item(), base.dtype)
        return f"{self.pointer(base)}[{self.index(access, loops)}]"

    def operand(self, access: Access, loops: Sequence[Loop]) -> str:
        """An operand's C: a variable, or a look at memory."""
        made = self.kernel.members.get(id(access.base))
        if made is None:
            return self.load(access, loops)
        if id(access.base) not in self.locals:
            self.compute(made, loops)
        return self.locals[id(access.base)]

    def variable(self, access: Access, loops: Sequence[Loop]) -> str:
        """An operand, read now."""
        text = self.operand(access, loops)
        if "[" in text:
            self.put(f"{c_type(access.base.dtype)} f{self.reads} = {text};")
            text, self.reads = f"f{self.reads}", self.reads + 1
        return text

    def compute(self, m: Member, loops: Sequence[Loop]) -> None:
        """Put the result of an elementwise member into a variable; first what it needs."""
        todo = [m]
        while todo:  # without recursion: chains are long
            now = todo[-1]
            needs = [
                self.kernel.members[id(a.base)]
                for a in now.operands
                if id(a.base) in self.kernel.members and id(a.base) not in self.locals
            ]
            if needs:
                todo.extend(needs)
                continue
            todo.pop()
            if id(now.node) in self.locals:
                continue
            n = now.node
            stored = self.stashed.get(id(n))
            if stored is not None and self.phase > self.level[id(n)]:
                self.locals[id(n)] = stored
                continue
            if now.search is not None:
                place = self.find(now, [self.operand(a, loops) for a in now.operands], loops)
                text = f"{self.pointer(now.search.start.base)}[{place}]"
            else:
                text = self.expression(n, [self.operand(a, loops) for a in now.operands])
            name = f"t{self.number[id(n)]}"
            self.put(f"{c_type(n.dtype)} {name} = {text};", n)
            self.locals[id(n)] = name

    def indices(self, m: Member, loops: Sequence[Loop]) -> list[str]:
        return [self.operand(a, loops) for a in m.operands]

    def find(self, m: Member, operands: Sequence[str], loops: Sequence[Loop]) -> str:
        """The index of a gather or scatter as C. Indices are checked; wrong ones become 0 and set `bad`."""
        assert m.search is not None
        parts = [self.index(m.search.start, loops)]
        for i, stride, size in m.search.indices:
            name = f"x{self.reads}"
            self.reads += 1
            self.put(f"long {name} = {operands[i]};")
            if m.operands[i].base.dtype.kind != "u":
                self.put(f"{name} = {name} < 0 ? {name} + {size} : {name};")
            self.put(f"bad |= (unsigned long){name} >= {size}UL;")
            self.put(f"{name} = (unsigned long){name} >= {size}UL ? 0 : {name};")
            parts.append(name if stride == 1 else f"{name} * {stride}")
        return " + ".join(p for p in parts if p != "0") or "0"

    def scatters(self, m: Member) -> bool:
        return m.search is not None and m.role == "end"

    # --------------------------------------------------------------------------------------------------------- phases
    def plan(self) -> int:
        """In which phase each member is first computed; the number of phases."""
        self.number = {id(m.node): i for i, m in enumerate(self.members)}
        self.level: dict[int, int] = {}  # each, end: its phase; row: the phase from which on it is known
        self.stashed: dict[int, str] = {}
        self.phase = 0
        for m in self.members:
            levels = [self.level[id(a.base)] for a in m.operands if id(a.base) in self.level]
            level = max(levels, default=0)
            reduction = m.role == "row" and not m.node.op.elementwise
            self.level[id(m.node)] = level + 1 if reduction else level
        shown = ("each", "end", "blocks")
        return 1 + max([self.level[id(m.node)] for m in self.members if m.role in shown], default=0)

    def keep_between_phases(self) -> list[str]:
        """Decide which values of a row are kept for later phases; declarations of their arrays."""
        length = math.prod(loop.size for loop in self.inner)
        declared = []
        for m in self.members:
            if m.role != "each":
                continue
            later = any(
                self.used_in(u) > self.level[id(m.node)]
                for u in self.members
                if any(a.base is m.node for a in u.operands)
            )
            if not later:
                continue
            if id(m.node) in self.outputs:
                self.stashed[id(m.node)] = (
                    f"{self.outputs[id(m.node)]}[{self.index(m.place, [*self.outer, *self.inner])}]"
                )
            elif length <= SCRATCH and self.worth_keeping(m):
                name = f"row{self.number[id(m.node)]}"
                declared.append(f"{c_type(m.node.dtype)} {name}[{max(length, 1)}];")
                place, step = [], 1
                for loop in reversed(self.inner):
                    place.append(loop.name if step == 1 else f"{loop.name} * {step}")
                    step *= loop.size
                self.stashed[id(m.node)] = f"{name}[{' + '.join(reversed(place)) or '0'}]"
        return declared

    def used_in(self, m: Member) -> int:
        """The phase in which a member reads its operands."""
        level = self.level[id(m.node)]
        return level - 1 if m.role == "row" and not m.node.op.elementwise else level

    def last_phases(self) -> dict[int, int]:
        """For each member, the last phase in which it is computed: what is cheap is computed again in later phases."""
        last: dict[int, int] = {}
        for m in reversed(self.members):
            phase = last[id(m.node)] = max(self.used_in(m), last.get(id(m.node), 0))
            for a in m.operands:
                made = self.kernel.members.get(id(a.base))
                if made is not None and made.role == "each" and id(made.node) not in self.stashed:
                    last[id(made.node)] = max(phase, last.get(id(made.node), 0))
        return last

    def worth_keeping(self, m: Member) -> bool:
        """Whether some function in what it is made of, within its phase, is dearer than memory."""
        todo = [m]
        while todo:
            now = todo.pop()
            if costly(now.node):
                return True
            todo += [
                inner
                for a in now.operands
                if (inner := self.kernel.members.get(id(a.base))) is not None
                and inner.role == "each" and id(inner.node) not in self.stashed
            ]  # fmt: skip
        return False

    # --------------------------------------------------------------------------------------------------------- render
    def render(self) -> str:
        phases = self.plan()
        declared = self.keep_between_phases() if phases > 1 else []
        ends = [m for m in self.members if m.role == "end"]
        for m in ends:
            self.start_end(m)
        for m in self.members:
            if self.sparse(m):
                out = self.outputs[id(m.node)]
                fill = literal((m.node.attrs or {}).get("fill", 0), m.node.dtype)
                self.put(f"for (long z = 0; z < {m.node.size}; z++) {out}[z] = {fill};")
        for loop in self.outer:
            self.open(loop)
        for line in declared:
            self.put(line)
        rows = dict(self.locals)
        for phase in range(phases):
            self.phase = phase
            self.row_values(phase)
            self.loops_of(phase)
        self.row_values(phases)
        self.locals = rows
        for _ in self.outer:
            self.close()
        for m in ends:
            if self.whole(m):
                k = self.number[id(m.node)]
                self.put(f"{c_type(m.node.dtype)} t{k} = {self.finished(m.node, f's{k}')};")
                self.locals[id(m.node)] = f"t{k}"
        for m in self.members:
            if m.role == "after":
                self.compute(m, [])
        for m in self.members:
            if (self.whole(m) or m.role == "after") and id(m.node) in self.outputs:
                self.put(f"{self.outputs[id(m.node)]}[0] = {self.locals[id(m.node)]};")
        parameters = [f"const {c_type(b.dtype)} *{self.names[id(b)]}" for b in self.given]
        types = {id(m.node): c_type(m.node.dtype) for m in self.members}
        parameters += [f"{types[key]} *{name}" for key, name in self.outputs.items()]
        if self.checks:
            parameters.append("int *status")
            self.lines.insert(0, "  int bad = 0;")
            self.lines.append("  __atomic_fetch_or(status, bad, __ATOMIC_RELAXED);")
        if self.ranged is not None:
            parameters += ["long from", "long to"]
        return f"({', '.join(parameters)}) {{\n" + "\n".join(self.lines) + "\n}\n"

    def row_values(self, phase: int) -> None:
        """What is made from the reductions of a row, once for each row."""
        for m in self.members:
            if m.role == "row" and self.level[id(m.node)] == phase:
                if m.node.op.elementwise:
                    self.compute(m, self.outer)
                if id(m.node) in self.outputs:
                    self.put(
                        f"{self.outputs[id(m.node)]}[{self.index(m.place, self.outer)}] = {self.locals[id(m.node)]};"
                    )

    def loops_of(self, phase: int) -> None:
        """One pass over the inner loops: reductions, stores, and what they need."""
        reductions = [m for m in self.members if m.role == "row" and not m.node.op.elementwise
                      and self.level[id(m.node)] == phase + 1]  # fmt: skip
        ends = [m for m in self.members if m.role == "end" and self.level[id(m.node)] == phase]
        stores = [m for m in self.members if m.role == "each" and self.level[id(m.node)] == phase
                  and (id(m.node) in self.outputs or id(m.node) in self.stashed)]  # fmt: skip
        assembled = [m for m in self.members if m.role == "blocks" and self.level[id(m.node)] == phase]
        if not (reductions or ends or stores or assembled):
            return
        loops = [*self.outer, *self.inner]
        blocked = self.blocked(reductions + [m for m in ends if self.whole(m)]) and not any(map(self.scatters, ends))
        accumulators = [*reductions, *[m for m in ends if self.whole(m)]]
        for m in reductions:
            self.declare(m.node, f"s{self.number[id(m.node)]}", wide=blocked)
        for loop in self.inner[:-1]:
            self.open(loop)
        before = dict(self.locals)
        last = self.inner[-1] if self.inner else None
        if last is not None and blocked:
            first, end = ("from", "to") if last is self.split else ("0", str(last.size))
            self.put(f"for (long b = {first}; b < {end}; b += {BLOCK}) {{")
            self.depth += 1
            self.put(f"long stop = b + {BLOCK} < {end} ? b + {BLOCK} : {end};")
        clauses = ""
        for m in accumulators:
            k = self.number[id(m.node)]
            if blocked or self.whole(m):
                self.declare(m.node, f"p{k}", wide=False)
            clauses += self.clause(m.node, f"p{k}" if blocked or self.whole(m) else f"s{k}")
        if self.checks:
            clauses += " reduction(|:bad)"
        if last is not None:
            if any(
                m.search.indices for m in ends if m.search is not None
            ):  # two points may add to one place: one after the other
                self.open(last)
            elif blocked:
                self.put(f"#pragma omp simd{clauses}")
                self.put(f"for (long {last.name} = b; {last.name} < stop; {last.name}++) {{")
                self.depth += 1
            else:
                self.open(last, clauses or " ")
        found = [self.value(m, loops) for m in stores]
        blocks = [(m, block, self.variable(a, loops)) for m in assembled
                  for block, a in zip(m.blocks, m.operands, strict=True)]  # fmt: skip
        added = [m for m in ends if self.scatters(m)]
        ends = [m for m in ends if not self.scatters(m)]
        sums = [(m, self.variable(m.operands[0], loops), self.find(m, self.indices(m, loops), loops)) for m in added]
        folded = [self.variable(m.operands[0], loops) for m in [*reductions, *ends]]
        for m, value in zip(stores, found, strict=True):  # after all reading: a result may lie where an operand lay
            if id(m.node) in self.outputs:
                self.put(f"{self.outputs[id(m.node)]}[{self.index(m.place, loops)}] = {value};")
            else:
                self.put(f"{self.stashed[id(m.node)]} = {value};")
        for m, block, value in blocks:
            self.put(f"{self.outputs[id(m.node)]}[{self.index(block, loops)}] = {value};")
        for m, value, place in sums:
            self.put(f"{self.outputs[id(m.node)]}[{place}] += {value};")
        for m, value in zip([*reductions, *ends], folded, strict=True):
            self.accumulate(m, value, loops, blocked)
        if last is not None:
            self.close()
        for m in accumulators:
            k = self.number[id(m.node)]
            if blocked or self.whole(m):
                self.combine(m.node, f"s{k}", f"p{k}")
        if last is not None and blocked:
            self.close()
        for _ in self.inner[:-1]:
            self.close()
        self.locals = before
        for m in reductions:
            k = self.number[id(m.node)]
            if blocked or self.nan_aware(m.node):
                self.put(f"{c_type(m.node.dtype)} r{k} = {self.finished(m.node, f's{k}')};")
                self.locals[id(m.node)] = f"r{k}"
            else:
                self.locals[id(m.node)] = f"s{k}"

    def value(self, m: Member, loops: Sequence[Loop]) -> str:
        if id(m.node) not in self.locals:
            self.compute(m, loops)
        return self.locals[id(m.node)]

    def expression(self, n: Tensor, operands: Sequence[str]) -> str:
        if n.op.elementwise:
            return self.writer(n, operands)
        kind = n.inputs[0].dtype  # a reduction over axes of size 1
        return f"({operands[0]} != 0)" if n.op.name in ("any", "all") else cast(operands[0], kind, n.dtype)

    # ----------------------------------------------------------------------------------------------------- reductions
    def whole(self, m: Member) -> bool:
        """Whether an `end` reduction is over everything, so that it is kept in a variable."""
        return m.role == "end" and m.search is None and m.node.size == 1

    def blocked(self, reductions: Sequence[Member]) -> bool:
        """Whether sums are long enough to be kept in blocks."""
        floats = [m for m in reductions if m.node.op.name == "sum" and m.node.dtype.kind == "f"]
        if not floats or not self.inner:
            return False
        return self.inner[-1].size > BLOCK or len(self.inner) > 1 or any(m.role == "end" for m in floats)

    def nan_aware(self, n: Tensor) -> bool:
        return n.op.name in ("max", "min") and n.dtype.kind == "f"

    def declare(self, n: Tensor, name: str, *, wide: bool) -> None:
        kind = "double" if wide and n.op.name == "sum" and n.dtype.kind == "f" else c_type(n.dtype)
        self.put(f"{kind} {name} = {self.start(n)};" + (f" int {name}_nan = 0;" if self.nan_aware(n) else ""))

    def start(self, n: Tensor) -> str:
        """The neutral element."""
        if n.op.name not in ("max", "min"):
            return "1" if n.op.name in ("prod", "all") else "0"
        lowest = n.op.name == "max"
        if n.dtype.kind == "f":
            return literal(-np.inf if lowest else np.inf, n.dtype)
        if n.dtype.kind == "b":
            return "0" if lowest else "1"
        return literal(np.iinfo(n.dtype).min if lowest else np.iinfo(n.dtype).max, n.dtype)

    def clause(self, n: Tensor, name: str) -> str:
        sign = {"sum": "+", "prod": "*", "max": "max", "min": "min", "any": "|", "all": "&"}[n.op.name]
        return f" reduction({sign}:{name})" + (f" reduction(|:{name}_nan)" if self.nan_aware(n) else "")

    def accumulate(self, m: Member, value: str, loops: Sequence[Loop], blocked: bool) -> None:
        n, k = m.node, self.number[id(m.node)]
        source = m.operands[0].base.dtype
        if n.op.name in ("any", "all"):
            value = f"({value} != 0)"
        elif source != n.dtype:
            value = f"(({c_type(n.dtype)}){value})"
        if m.role == "end" and not self.whole(m):
            target = f"{self.outputs[id(n)]}[{self.index(m.place, loops)}]"
        else:
            target = f"p{k}" if blocked or self.whole(m) else f"s{k}"
        match n.op.name:
            case "sum":
                self.put(f"{target} += {value};")
            case "prod":
                self.put(f"{target} *= {value};")
            case "any":
                self.put(f"{target} |= {value};")
            case "all":
                self.put(f"{target} &= {value};")
            case _:
                sign = ">" if n.op.name == "max" else "<"
                self.put(f"{c_type(n.dtype)} v{k} = {value};")
                if m.role == "end" and not self.whole(m):
                    self.put(combination(n, target, f"v{k}"))
                else:
                    self.put(f"{target} = v{k} {sign} {target} ? v{k} : {target};")
                    if self.nan_aware(n):
                        self.put(f"{target}_nan |= v{k} != v{k};")

    def combine(self, n: Tensor, into: str, part: str) -> None:
        """Add a partial result to the result."""
        self.put(combination(n, into, part))
        if self.nan_aware(n):
            self.put(f"{into}_nan |= {part}_nan;")

    def finished(self, n: Tensor, name: str) -> str:
        if self.nan_aware(n):
            f = "f" if n.dtype.itemsize == 4 else ""
            return f'{name}_nan ? __builtin_nan{f}("") : {name}'
        return f"({c_type(n.dtype)}){name}" if n.op.name == "sum" and n.dtype.kind == "f" else name

    def start_end(self, m: Member) -> None:
        """Before the loops: the variable, or the zeros, in which an `end` reduction is gathered."""
        if self.whole(m):
            self.declare(m.node, f"s{self.number[id(m.node)]}", wide=True)
            return
        out = self.outputs[id(m.node)]
        self.put(f"for (long z = 0; z < {m.node.size}; z++) {out}[z] = {self.start(m.node)};")


def combination(n: Tensor, into: str, part: str) -> str:
    """C that adds a partial result of a reduction to another."""
    sign = {"sum": "+=", "prod": "*=", "any": "|=", "all": "&="}.get(n.op.name)
    if sign is not None:
        return f"{into} {sign} {part};"
    nan = f" || {part} != {part}" if n.dtype.kind == "f" else ""
    return f"{into} = ({part} {'>' if n.op.name == 'max' else '<'} {into}{nan}) ? {part} : {into};"
