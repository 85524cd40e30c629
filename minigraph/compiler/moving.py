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
from .loops import Access, View, Views, by_key, contiguous, selected, simple
from .render import merged
from .statements import OUT_OF_RANGE, Statement, writes


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


def routine(n: Tensor, lines: Lines, *, scratch: int = 0, fallible: bool = False) -> Statement:
    """The statement that calls a function with these lines, given the memory of the inputs and of the result."""
    parameters = [f"const {c_type(x.dtype)} *restrict in{i}" for i, x in enumerate(n.inputs)]
    parameters.append(f"{c_type(n.dtype)} *restrict out")
    given = [*[f"{{in{i}}}" for i in range(len(n.inputs))], "{out0}"]
    if scratch:
        parameters.append("char *scratch")
        given.append("arena + {scratch}")
    body = [*lines.lines, "  return bad;"] if fallible else lines.lines
    text = f"({', '.join(parameters)}) {{\n" + "\n".join(body) + "\n}\n"
    name = f"mg_{n.op.name}_{zlib.crc32(text.encode()):08x}"
    call = f"{name}({', '.join(given)})"
    call = f"if ({call}) status = {OUT_OF_RANGE};" if fallible else f"{call};"
    return Statement(call, {name: f"\nstatic {'int' if fallible else 'void'} {name}{text}"}, scratch, fallible)


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


# ------------------------------------------------------------------------------------------------------- along an axis


def along(n: Tensor, view: View, folded: Sequence[int]) -> list[Access]:
    """For an operation along some axes of its first input: how that is read, and how the result is written, which may
    lack those axes; with a step for each axis of the input."""
    x = n.inputs[0]
    order = [a for a in range(x.ndim) if n.size == x.size or a not in folded]
    steps = [0] * x.ndim
    for a, stride in zip(order, contiguous([x.shape[a] for a in order]), strict=True):
        steps[a] = stride
    return [Access(view.base, view.offset, view.strides), Access(n, 0, tuple(steps))]


def rows(lines: Lines, x: Tensor, accesses: Sequence[Access], folded: Sequence[int]) -> list[str]:
    """Open loops over the axes of an input that are not folded; where each access is then."""
    rest = [a for a in range(x.ndim) if a not in folded]
    loops = [loop for loop in merged(rest, x.shape, accesses) if loop.size != 1]
    for k, loop in enumerate(loops):
        lines.open(f"for (long i{k} = 0; i{k} < {loop.size}; i{k}++)")
    return [index(a.offset, [(f"i{k}", a.steps[loop.axes[-1]]) for k, loop in enumerate(loops)]) for a in accesses]


@writes("cumulative_sum")
def cumulative_sum(n: Tensor, views: Views) -> Statement | None:
    """A sum that is stored after each element: in the order of NumPy, and in its type."""
    x, view = n.inputs[0], views[n.inputs[0]]
    if not simple(n) or not simple(x) or view is None or not n.size:
        return None
    axis = n.attrs["axis"] % x.ndim
    accesses = along(n, view, [axis])
    lines, kind = Lines(), c_type(n.dtype)
    read, write = rows(lines, x, accesses, [axis])
    step, stride = (a.steps[axis] for a in accesses)
    lines.put(f"{kind} sum = in0[{read}];")
    lines.put(f"out[{write}] = sum;")
    lines.put(f"for (long k = 1; k < {x.shape[axis]}; k++)")
    lines.put(f"  out[{write} + k * {stride}] = sum = ({kind})(sum + ({kind})in0[{read} + k * {step}]);")
    lines.close(lines.depth - 1)
    return routine(n, lines)


@writes("argmax", "argmin")
def extreme(n: Tensor, views: Views) -> Statement | None:
    """The first place of the largest or smallest element; NaN is larger and smaller than all."""
    x, view = n.inputs[0], views[n.inputs[0]]
    if not simple(n) or not simple(x) or view is None or not x.size:
        return None
    axis = n.attrs.get("axis")
    folded = range(x.ndim) if axis is None else [axis % x.ndim]
    accesses = along(n, view, folded)
    lines, kind = Lines(), c_type(x.dtype)
    read, write = rows(lines, x, accesses, folded)
    places = [Access(view.base, 0, view.strides)]
    loops = [loop for loop in merged(folded, x.shape, places) if loop.size != 1]
    at = index(0, [(f"k{k}", view.strides[loop.axes[-1]]) for k, loop in enumerate(loops)])
    sign, word = (">", "max") if n.op.name == "argmax" else ("<", "min")
    floating = x.dtype.kind == "f"
    lines.put(f"{kind} best = in0[{read}];")
    lines.put(f"long count = 0;{' int nan = 0;' if floating else ''}")

    def each(body: Sequence[str], pragma: str = "") -> None:
        """The loops over what is folded, or a block if that is one element."""
        if not loops:
            lines.open("")
        for k, loop in enumerate(loops):
            if pragma and k == len(loops) - 1:
                lines.put(pragma)
            lines.open(f"for (long k{k} = 0; k{k} < {loop.size}; k{k}++)")
        lines.put(f"{kind} v = in0[{read} + {at}];")
        for line in body:
            lines.put(line)
        lines.close(max(len(loops), 1))

    # first the extreme, by vectors, then the first place where it is
    flag = " reduction(|:nan)" if floating else ""
    each([f"best = v {sign} best ? v : best;", *(["nan |= v != v;"] if floating else [])],
         f"#pragma omp simd reduction({word}:best){flag}")  # fmt: skip
    each([f"if ({'nan ? v != v : v == best' if floating else 'v == best'}) goto found;", "count++;"])
    lines.lines.append("found:")
    lines.put(f"out[{write}] = count;")
    lines.close(lines.depth - 1)
    return routine(n, lines)


LONGEST = 256  # elements of a row, from which on NumPy, which sorts by vectors, is faster even when it is called back
MERGE = """for (long width = 1; width < {n}; width *= 2) {{
  for (long low = 0; low < {n}; low += 2 * width) {{
    long middle = low + width < {n} ? low + width : {n}, high = middle + width < {n} ? middle + width : {n};
    for (long k = low, a = low, b = middle; k < high; k++) {{
      int second = a == middle || (b < high && ({before}));
      there[k] = here[second ? b : a];
      b += second, a += !second;
    }}
  }}
  struct item *other = here;
  here = there, there = other;
}}"""


@writes("sort", "argsort")
def sort(n: Tensor, views: Views) -> Statement | None:
    """Each row sorted by merging, which keeps the order of equal elements; NaN counts as the largest."""
    x, view = n.inputs[0], views[n.inputs[0]]
    if not simple(n) or not simple(x) or view is None or not n.size:
        return None
    axis = n.attrs.get("axis", -1) % x.ndim
    size = x.shape[axis]
    if size > LONGEST:
        return None
    accesses = along(n, view, [axis])
    lines, kind = Lines(), c_type(x.dtype)
    item = f"struct item {{ {kind} value; {'int32_t at; ' if n.op.name == 'argsort' else ''}}};"
    lines.put(item)
    lines.put(f"struct item *here = (struct item *)scratch, *there = here + {size};")
    read, write = rows(lines, x, accesses, [axis])
    step, stride = (a.steps[axis] for a in accesses)
    fill, found = ("{ v, k }", "at") if n.op.name == "argsort" else ("{ v }", "value")
    lines.put(f"for (long k = 0; k < {size}; k++) {{")
    lines.put(f"  {kind} v = in0[{read} + k * {step}];")
    lines.put(f"  here[k] = (struct item){fill};")
    lines.put("}")
    first, second = "here[a].value", "here[b].value"  # the second goes first only if it has to
    large, small = (second, first) if n.attrs.get("descending") else (first, second)
    nan = f" | (({large} != {large}) & ({small} == {small}))" if x.dtype.kind == "f" else ""
    for line in MERGE.format(n=size, before=f"({large} > {small}){nan}").splitlines():
        lines.put(line)
    lines.put(f"for (long k = 0; k < {size}; k++) out[{write} + k * {stride}] = here[k].{found};")
    lines.close(lines.depth - 1)
    return routine(n, lines, scratch=2 * size * 16)


# ----------------------------------------------------------------------------------------------------------- x.at[key]


@writes("set_at", "fill_at")
def put(n: Tensor, views: Views) -> Statement | None:
    """A copy with some elements replaced, one after the other: of several values for one element the last counts."""
    key = n.attrs["key"]
    values = [n.inputs[1]] if n.op.name == "set_at" else []
    indices = n.inputs[1 + len(values) :]
    looks = [views[t] for t in n.inputs]
    if not simple(n) or not all(map(simple, n.inputs)) or None in looks or n.attrs.get("distinct"):
        return None
    lines = Lines()
    if indices:
        lines.put("int bad = 0;")
    copied(lines, n.shape, "in0", looks[0], View(n, 0, contiguous(n.shape)))  # type: ignore[arg-type]
    block_axes = max([i.ndim for i in indices], default=0)
    axes, first = by_key(n.shape, key.items, len(indices), block_axes)
    zeros = [np.zeros(i.shape, np.int8) for i in indices]
    shape = np.broadcast_to(np.int8(0), n.shape)[key.fill(zeros)].shape if n.size else ()
    if n.size and math.prod(shape):
        names = [f"i{d}" for d in range(len(shape))]
        for name, size in zip(names, shape, strict=True):
            lines.open(f"for (long {name} = 0; {name} < {size}; {name}++)")

        def at(k: int, runs: Sequence[str]) -> str:
            """Where input k is read, its axes aligned at the last one."""
            look, t = looks[k], n.inputs[k]
            assert look is not None
            parts = zip(reversed(runs), reversed(t.shape), reversed(look.strides))  # noqa: B905
            return f"in{k}[{index(look.offset, [(run, stride) for run, size, stride in parts if size != 1])}]"

        offset, parts = 0, []
        for size, stride, axis in zip(n.shape, contiguous(n.shape), axes, strict=True):
            offset += axis.start * stride
            if axis.kind == "domain":
                parts.append((names[axis.k], stride * axis.step))
            elif axis.kind == "index":
                k = axis.k + len(values)
                lines.put(f"long x{k} = {at(k, names[first : first + block_axes])};")
                if n.inputs[k].dtype.kind != "u":
                    lines.put(f"x{k} += x{k} < 0 ? {size} : 0;")
                lines.put(f"if ((unsigned long)x{k} >= {size}UL) bad = 1, x{k} = 0;")
                parts.append((f"x{k}", stride))
        value = at(1, names) if values else literal(n.attrs["value"], n.dtype)
        lines.put(f"out[{index(offset, parts)}] = {value};")
        lines.close(len(shape))
    return routine(n, lines, fallible=bool(indices))
