"""Short rows: many rows side by side, each in a lane of a vector.

A vector goes along a row, so a row of 10 classes fills little of one, and softmax calls exp on vectors that are half
empty. Where rows are short and many, the loops are turned: a block of rows is taken together, and for each column the
innermost loop goes over the rows of the block. What is one number for a row becomes an array with a place per lane:

    for each block of rows:  for j: for lane:  m[lane] = max(m[lane], x[j][lane])
                             for j: for lane:  e[j][lane] = exp(x[j][lane] - m[lane]);  s[lane] += e[j][lane]
                             for j: for lane:  y[j][lane] = e[j][lane] / s[lane]

Vectors cannot be read down a column, so a block is first copied to a tile that has its columns side by side, and what
is made is copied back. This pays only where a function is computed at each point. The phases are those of `render`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..tensor import Tensor
from .expressions import Writer, c_type, costly
from .loops import Access, Kernel, Member
from .render import KernelText, Loop

LANES = 64  # rows that are taken together
FEW = 32  # the longest row that is taken for short


def text_of(kernel: Kernel, outputs: Sequence[Tensor], writer: Writer, threads: int) -> KernelText:
    """The kernel as C is best written for it."""
    lanes = Lanes(kernel, outputs, writer, threads)
    return lanes if lanes.pays else KernelText(kernel, outputs, writer, threads)


class Lanes(KernelText):
    """Renders a kernel with rows, many at a time."""

    @property
    def pays(self) -> bool:
        """Whether rows are short and many, and a function is computed at each point; and nothing forbids it."""
        if not self.outer or not self.inner or self.outer[-1].size < LANES:
            return False
        if math.prod(loop.size for loop in self.inner) > FEW:
            return False
        if not any(m.role == "each" and costly(m.node) for m in self.members):
            return False
        axis = self.outer[-1].axes[-1]
        ends = [m for m in self.members if m.role == "end"]
        return not any(m.role == "blocks" for m in self.members) and not any(
            m.search is not None or m.place.steps[axis] or self.nan_aware(m.node) for m in ends
        )

    def open(self, loop: Loop, pragma: str = "") -> None:
        if loop is not self.outer[-1]:
            super().open(loop, pragma)
            return
        start, stop = ("from", "to") if loop is self.ranged else ("0", str(loop.size))
        self.put(f"for (long first = {start}; first < {stop}; first += {LANES}) {{")
        self.depth += 1
        self.put(f"long lanes = {LANES} < {stop} - first ? {LANES} : {stop} - first;")
        for m in self.members:
            if m.role == "row":
                k = self.number[id(m.node)]
                self.put(f"{c_type(m.node.dtype)} of_row{k}[{LANES}];")
                if self.nan_aware(m.node):
                    self.put(f"int of_row{k}_nan[{LANES}];")

        self.mark = len(self.lines), self.depth  # where the tiles are filled, once it is known what is read

    def plan(self) -> int:
        self.phases = super().plan()
        self.tiles: dict[tuple[int, Access], tuple[str, str]] = {}  # what is read down a column -> its tile, and whence
        self.results: dict[int, str] = {}  # what is written down a column -> its tile
        for m in self.members:
            if m.role == "each" and id(m.node) in self.outputs and self.across(m.place):
                self.results[id(m.node)] = f"new_{self.outputs[id(m.node)]}"
        return self.phases

    def across(self, access: Access) -> bool:
        """Whether neighbours among the rows do not lie side by side, at points of the rows."""
        step = access.steps[self.outer[-1].axes[-1]]
        return step not in (0, 1) and any(access.steps[loop.axes[-1]] for loop in self.inner)

    @property
    def in_tile(self) -> str:
        """The index of a point in a tile."""
        parts, step = [], LANES
        for loop in reversed(self.inner):
            parts.append(f"{loop.name} * {step}")
            step *= loop.size
        return " + ".join([*reversed(parts), "lane"])

    def load(self, access: Access, loops: Sequence[Loop]) -> str:
        text = super().load(access, loops)
        if "[" not in text or not self.across(access):
            return text
        key = id(access.base), access
        if key not in self.tiles:
            self.tiles[key] = f"tile{len(self.tiles)}", text
        return f"{self.tiles[key][0]}[{self.in_tile}]"

    def copied(self, lines: Sequence[str]) -> None:
        """Statements for each point of the block, row by row."""
        self.put("for (long lane = 0; lane < lanes; lane++) {")
        self.depth += 1
        self.put(f"long {self.outer[-1].name} = first + lane;")
        for loop in self.inner:
            self.open(loop)
        for line in lines:
            self.put(line)
        for _ in (*self.inner, None):
            self.close()

    def copy_tiles(self) -> None:
        """Copy the results of a block to where they belong; and, before its first phase, what it reads to tiles."""
        loops = [*self.outer, *self.inner]
        if self.results:
            places = {id(m.node): self.index(m.place, loops) for m in self.members if id(m.node) in self.results}
            self.copied(
                [f"{self.outputs[k]}[{places[k]}] = {name}[{self.in_tile}];" for k, name in self.results.items()]
            )
        rest, (start, depth) = self.lines, self.mark
        self.lines, self.depth, after = [], depth, self.depth
        size = LANES * math.prod(loop.size for loop in self.inner)
        for (_, access), (name, _) in self.tiles.items():
            self.put(f"{c_type(access.base.dtype)} {name}[{size}];")
        for key, name in self.results.items():
            self.put(f"{c_type(self.kernel.members[key].node.dtype)} {name}[{size}];")
        if self.tiles:
            self.copied([f"{name}[{self.in_tile}] = {text};" for name, text in self.tiles.values()])
        self.lines, self.depth = [*rest[:start], *self.lines, *rest[start:]], after

    def open_lanes(self, clauses: str = "") -> None:
        """The loop over the rows of a block."""
        self.put(f"#pragma omp simd{clauses}{' reduction(|:bad)' if self.checks else ''}")
        self.put("for (long lane = 0; lane < lanes; lane++) {")
        self.depth += 1
        self.put(f"long {self.outer[-1].name} = first + lane;")

    def keep_between_phases(self) -> list[str]:
        declared = super().keep_between_phases()
        for key, place in self.stashed.items():
            if place.startswith("row") or key in self.results:
                self.stashed[key] = f"{self.results.get(key) or place.split('[')[0]}[{self.in_tile}]"
        return [line.replace("];", f" * {LANES}];") for line in declared]

    def row_values(self, phase: int) -> None:
        rows = [m for m in self.members if m.role == "row" and self.level[id(m.node)] == phase]
        if rows:
            self.values_of(rows)
        if phase == self.phases:
            self.copy_tiles()

    def values_of(self, rows: Sequence[Member]) -> None:
        """Row values, and reductions that are complete."""
        known = dict(self.locals)
        self.open_lanes()
        for m in rows:
            k = self.number[id(m.node)]
            place = known[id(m.node)] = f"of_row{k}[lane]"
            if m.node.op.elementwise:
                self.compute(m, self.outer)
                self.put(f"{place} = {self.locals[id(m.node)]};")
            elif self.nan_aware(m.node):
                f = "f" if m.node.dtype.itemsize == 4 else ""
                self.put(f'{place} = of_row{k}_nan[lane] ? __builtin_nan{f}("") : {place};')
            self.locals[id(m.node)] = place
            if id(m.node) in self.outputs:
                self.put(f"{self.outputs[id(m.node)]}[{self.index(m.place, self.outer)}] = {place};")
        self.close()
        self.locals = known

    def loops_of(self, phase: int) -> None:
        reductions = [m for m in self.members if m.role == "row" and not m.node.op.elementwise
                      and self.level[id(m.node)] == phase + 1]  # fmt: skip
        ends = [m for m in self.members if m.role == "end" and self.level[id(m.node)] == phase]
        stores = [m for m in self.members if m.role == "each" and self.level[id(m.node)] == phase
                  and (id(m.node) in self.outputs or id(m.node) in self.stashed)]  # fmt: skip
        if not (reductions or ends or stores):
            return
        loops = [*self.outer, *self.inner]
        number = {id(m.node): self.number[id(m.node)] for m in self.members}
        if reductions:
            self.open_lanes()
            for m in reductions:
                k = number[id(m.node)]
                self.put(f"of_row{k}[lane] = {self.start(m.node)};")
                if self.nan_aware(m.node):
                    self.put(f"of_row{k}_nan[lane] = 0;")
            self.close()
        for loop in self.inner:
            self.open(loop)
        before = dict(self.locals)
        for m in ends:
            self.declare(m.node, f"p{number[id(m.node)]}", wide=False)
        self.open_lanes("".join(self.clause(m.node, f"p{number[id(m.node)]}") for m in ends))
        found = [self.value(m, loops) for m in stores]
        folded = [self.variable(m.operands[0], loops) for m in [*reductions, *ends]]
        for m, value in zip(stores, found, strict=True):  # after all reading: a result may lie where an operand lay
            if id(m.node) in self.results:
                self.put(f"{self.results[id(m.node)]}[{self.in_tile}] = {value};")
            elif id(m.node) in self.outputs:
                self.put(f"{self.outputs[id(m.node)]}[{self.index(m.place, loops)}] = {value};")
            else:
                self.put(f"{self.stashed[id(m.node)]} = {value};")
        for m, value in zip([*reductions, *ends], folded, strict=True):
            k = number[id(m.node)]
            if m.role == "end":
                self.accumulate(m._replace(role="row"), value, loops, blocked=True)
                continue
            self.put(f"{c_type(m.node.dtype)} s{k} = of_row{k}[lane];")
            if self.nan_aware(m.node):
                self.put(f"int s{k}_nan = of_row{k}_nan[lane];")
            self.accumulate(m, value, loops, blocked=False)
            self.put(f"of_row{k}[lane] = s{k};")
            if self.nan_aware(m.node):
                self.put(f"of_row{k}_nan[lane] = s{k}_nan;")
        self.close()
        for m in ends:
            k = number[id(m.node)]
            whole = f"{self.outputs.get(id(m.node))}[{self.index(m.place, loops)}]"
            self.combine(m.node, f"s{k}" if self.whole(m) else whole, f"p{k}")
        for _ in self.inner:
            self.close()
        self.locals = before
