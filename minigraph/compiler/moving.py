"""Statements that move elements: blocks of an array, running sums, places of extremes.

Each is a function of its own, with loops over the shapes at hand; equal ones are shared. What only puts blocks of one
shape into an array is better done in a kernel's loops (`Kernel.assembling`), and comes here where that is not possible.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor
from .expressions import c_type, literal
from .loops import Access, View, Views, selected, simple
from .render import merged
from .statements import Statement, writes


class Lines:
    """C in the making: lines with indentation, in loops that are opened and closed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def put(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    def open(self, head: str) -> None:
        self.put(f"{head} {{")
        self.depth += 1

    def close(self, count: int = 1) -> None:
        for _ in range(count):
            self.depth -= 1
            self.put("}")


def index(offset: int, parts: Sequence[tuple[str, int]]) -> str:
    """`3 + i * 4 + j`: an offset, and variables with their steps."""
    words = [str(offset)] if offset else []
    words += [name if step == 1 else f"{name} * {step}" for name, step in parts if step]
    return " + ".join(words) or "0"


def routine(n: Tensor, lines: Lines, inputs: Sequence[int] | None = None, **more: Any) -> Statement:
    """The statement that calls a function with these lines, with the memory of the inputs and the result."""
    inputs = range(len(n.inputs)) if inputs is None else inputs
    given = [f"const {c_type(n.inputs[i].dtype)} *restrict in{i}" for i in inputs]
    text = f"({', '.join([*given, f'{c_type(n.dtype)} *restrict out'])}) {{\n" + "\n".join(lines.lines) + "\n}\n"
    name = f"mg_{n.op.name}_{zlib.crc32(text.encode()):08x}"
    call = f"{name}({', '.join([*[f'{{in{i}}}' for i in inputs], '{out0}'])});"
    return Statement(call, {name: f"\nstatic void {name}{text}"}, **more)


def copied(lines: Lines, sizes: Sequence[int], source: str, read: View, target: View, convert: Any = str) -> None:
    """Loops that copy a block from memory that one view looks at to memory that another one does."""
    if not math.prod(sizes):
        return
    there, here = (Access(v.base, v.offset, v.strides) for v in (target, read))
    loops = [loop for loop in merged(range(len(sizes)), sizes, [there, here]) if loop.size > 1]
    for k, loop in enumerate(loops):
        lines.open(f"for (long i{k} = 0; i{k} < {loop.size}; i{k}++)")
    at = [index(a.offset, [(f"i{k}", a.steps[loop.axes[-1]]) for k, loop in enumerate(loops)]) for a in (there, here)]
    value = convert(f"{source}[{at[1]}]")
    lines.put(f"out[{at[0]}] = {value};")
    lines.close(len(loops))


def block(n: Tensor, key: Any) -> tuple[View, tuple[int, ...]]:
    """How to look at the part of a result that a basic key selects, and its shape."""
    whole = np.empty(n.shape, n.dtype)
    part = selected(whole, key.items)
    start = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0] if part.size else 0
    return View(n, start // n.dtype.itemsize, tuple([s // n.dtype.itemsize for s in part.strides])), part.shape


@writes("assemble", "place")
def assemble(n: Tensor, views: Views) -> Statement | None:
    """Blocks, each copied to where it belongs, and a constant elsewhere."""
    looks = [views[x] for x in n.inputs]
    if not simple(n) or not all(map(simple, n.inputs)) or None in looks:
        return None
    lines, attrs = Lines(), n.attrs or {}
    if sum(x.size for x in n.inputs) < n.size:
        lines.put(f"for (long z = 0; z < {n.size}; z++) out[z] = {literal(attrs.get('fill', 0), n.dtype)};")
    for i, (look, key) in enumerate(zip(looks, attrs.get("keys") or [attrs["key"]], strict=True)):
        target, sizes = block(n, key)
        assert look is not None
        copied(lines, sizes, f"in{i}", look, target)
    return routine(n, lines)
