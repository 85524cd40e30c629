"""Loops and branches in C: operations whose attribute is a graph call that graph's own function.

The body of a loop becomes a C function like the whole program, with a table of addresses of its own. Each round gets
its addresses from the loop: element i of what the loop goes over, place i of what it stacks, and a carry. Nothing is
copied from round to round. The carry lies in two buffers by turns, or, where all carries are kept for the backward
pass, in the array that keeps them; the last round writes straight into the result.

    operation                    in C
    scan                         for (...) body(table)
    while_loop                   while (condition(table), flag) body(table)
    cond                         flag ? one branch : the other
    call, recompute              the function, called

If anything in a body has no C, the whole operation runs by its own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..graph import Graph
from ..op import Spec, spec_of
from ..tensor import Tensor
from .expressions import c_type
from .memory import ALIGNMENT
from .statements import CALLBACK, FAILED, FIRST, Statement

if TYPE_CHECKING:
    from .program import NativeProgram

PATIENCE = """#include <time.h>
/* Between two rounds of a loop: about every tenth of a second, ask Python whether somebody has pressed Ctrl-C. */
static int impatient(char **p, long *last) {{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  long now = t.tv_sec * 10 + t.tv_nsec / 100000000, before = *last;
  *last = now;
  return before && before != now && ((int (*)(int))p[{callback}])({pressed});
}}
"""
PRESSED = -1  # what Python is asked by that call

Writer = Callable[["Parts", Tensor], Sequence[str] | None]


def rounded(nbytes: int) -> int:
    """Bytes up to the next cache line."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def moved(base: str, index: str, nbytes: int) -> str:
    """The address of an element of an array."""
    return f"{base} + {index} * {nbytes}L" if nbytes else base


class Parts:
    """What the statement of an operation with nested graphs is put together from.

    Attributes:
        fallible: whether some body may refuse its indices.
        given, results: the addresses of the inputs and results, as C text of type `char *`.
        scratch: bytes that have been asked for.
    """

    def __init__(self, program: NativeProgram, n: Tensor):
        self.program, self.fallible, self.scratch = program, False, 0
        self.constants: list[Tensor] = []
        self.given = []
        self.offsets = []
        for i, x in enumerate(n.inputs):
            view = program.views[x]
            assert view is not None
            self.offsets.append(view.offset)
            self.given.append(moved(f"{{at{i}}}", str(view.offset), x.dtype.itemsize if view.offset else 0))
        count = len(n.value) if type(n.value) is tuple else 1
        self.results = [f"{{to{i}}}" for i in range(count)]

    def memory(self, nbytes: int) -> str:
        """Scratch memory."""
        at, self.scratch = self.scratch, self.scratch + rounded(nbytes)
        return f"arena + {{scratch}} + {at}" if at else "arena + {scratch}"

    def body(self, graph: Graph, arguments: Sequence[Any]) -> NativeProgram | None:
        """The program of a nested graph, None if a part of it has no C."""
        same = [(x.shape, x.dtype) for x in graph.inputs] == [(x.shape, x.dtype) for x in arguments]
        made = self.program.inner(graph) if same else None
        if made is not None:
            self.fallible |= made.fallible
        return made

    def table(self, body: NativeProgram, name: str, lines: list[str]) -> None:
        """Declare a body's table, with everything in it but arguments and results."""
        size = body.first_constant + len(body.constants)
        lines.append(f"char *{name}[{size}] = {{{{{self.memory(body.arena)}, p[1], p[2], p[3], p[4], p[5], p[6]}}}};")
        for i, constant in enumerate(body.constants):
            self.constants.append(constant)
            at = len(self.given) + len(self.constants) - 1
            lines.append(f"{name}[{body.first_constant + i}] = {{at{at}}};")


def call(parts: Parts, n: Tensor) -> list[str] | None:
    """A graph as a function that is called once."""
    body = parts.body(n.attrs["graph"], n.inputs)
    if body is None:
        return None
    lines: list[str] = []
    parts.table(body, "q", lines)
    lines += [f"q[{FIRST + i}] = {x};" for i, x in enumerate(parts.given)]
    lines += [f"q[{body.first_root + i}] = {x};" for i, x in enumerate(parts.results)]
    return [*lines, f"status = {body.symbol}(q);"]


def cond(parts: Parts, n: Tensor) -> list[str] | None:
    """One of two functions, chosen when the program runs."""
    lines: list[str] = []
    calls = []
    for graph, name in ((n.attrs["true_graph"], "yes"), (n.attrs["false_graph"], "no")):
        body = parts.body(graph, n.inputs[1:])
        if body is None:
            return None
        parts.table(body, name, lines)
        lines += [f"{name}[{FIRST + i}] = {x};" for i, x in enumerate(parts.given[1:])]
        lines += [f"{name}[{body.first_root + i}] = {x};" for i, x in enumerate(parts.results)]
        calls.append(f"{body.symbol}({name})")
    return [*lines, f"status = *({{in0}} + {parts.offsets[0]}) != 0 ? {calls[0]} : {calls[1]};"]


def scan(parts: Parts, n: Tensor) -> list[str] | None:
    """A loop over the first axis of some inputs."""
    a = n.attrs
    length, carried, scanned = a["length"], a["carried"], a["scanned"]
    rest = carried + scanned
    elements = [Spec(x.shape[1:], x.dtype) for x in n.inputs[carried:rest]]
    body = parts.body(a["body"], [*n.inputs[:carried], *elements, *n.inputs[rest:]])
    if body is None or not length:
        return None
    outputs = [spec_of(t.value).nbytes for t in a["body"].outputs]
    lines: list[str] = []
    parts.table(body, "q", lines)
    lines += [f"q[{FIRST + i}] = {parts.given[i]};" for i in range(rest, len(parts.given))]
    kept = parts.results[len(outputs) :]  # for each carry, the array that keeps all of them
    order = f"{length - 1}L - s" if a["reverse"] else "s"
    lines.append("long last = 0;")
    lines.append(f"for (long s = 0; s < {length} && !status; s++) {{{{")
    lines.append(f"  long i = {order};")
    ahead = "(i - 1)" if a["reverse"] else "(i + 1)"
    start = []
    for k in range(carried):
        size = outputs[k]
        if kept:
            start.append(
                f"memcpy({moved(kept[k], str(length - 1 if a['reverse'] else 0), size)}, {parts.given[k]}, {size});"
            )
            here, there = moved(kept[k], "i", size), moved(kept[k], ahead, size)
        else:
            two = [parts.memory(size), parts.memory(size)]
            here = f"s == 0 ? {parts.given[k]} : s & 1 ? {two[0]} : {two[1]}"
            there = f"s & 1 ? {two[1]} : {two[0]}"
        lines.append(f"  q[{FIRST + k}] = {here};")
        lines.append(f"  q[{body.first_root + k}] = s == {length - 1} ? {parts.results[k]} : {there};")
    for k in range(carried, rest):
        lines.append(f"  q[{FIRST + k}] = {moved(parts.given[k], 'i', spec_of(n.inputs[k].value).nbytes // length)};")
    for k in range(carried, len(outputs)):
        lines.append(f"  q[{body.first_root + k}] = {moved(parts.results[k], 'i', outputs[k])};")
    return [
        *start,
        *lines,
        f"  status = {body.symbol}(q);",
        f"  if (!status && impatient(p, &last)) status = {FAILED};",
        "}}",
    ]


def while_loop(parts: Parts, n: Tensor) -> list[str] | None:
    """A loop that asks each time whether to go on."""
    a = n.attrs
    condition, body = parts.body(a["condition"], n.inputs), parts.body(a["body"], n.inputs)
    if condition is None or body is None:
        return None
    carried, flag = a["carried"], a["condition"].outputs[0]
    sizes = [spec_of(x.value).nbytes for x in n.inputs[:carried]]
    lines: list[str] = []
    parts.table(condition, "c", lines)
    parts.table(body, "q", lines)
    answer = parts.memory(spec_of(flag.value).nbytes)
    lines.append(f"c[{condition.first_root}] = {answer};")
    for i, x in enumerate(parts.given):
        lines.append(f"c[{FIRST + i}] = q[{FIRST + i}] = {x};")
    lines += ["long last = 0;", "for (long s = 0;; s++) {{"]
    lines.append(f"  status = {condition.symbol}(c);")
    lines.append(f"  if (status || !*({c_type(flag.dtype)} *)c[{condition.first_root}]) break;")
    for k, size in enumerate(sizes):
        two = [parts.memory(size), parts.memory(size)]
        lines.append(f"  q[{body.first_root + k}] = s & 1 ? {two[1]} : {two[0]};")
    lines.append(f"  status = {body.symbol}(q);")
    lines.append(f"  if (!status && impatient(p, &last)) status = {FAILED};")
    lines.append("  if (status) break;")
    for k in range(carried):
        lines.append(f"  c[{FIRST + k}] = q[{FIRST + k}] = q[{body.first_root + k}];")
    lines.append("}}")
    lines += [
        f"memcpy({r}, q[{FIRST + k}], {size});" for k, (r, size) in enumerate(zip(parts.results, sizes, strict=True))
    ]
    return lines


NESTED: dict[str, Writer] = {"scan": scan, "while_loop": while_loop, "cond": cond, "call": call, "recompute": call}


def nested(program: NativeProgram, n: Tensor) -> tuple[Statement, bool, list[Tensor]] | None:
    """The statement of an operation with nested graphs; whether it can fail; the constants that its bodies need."""
    parts = Parts(program, n)
    lines = NESTED[n.op.name](parts, n)
    if lines is None:
        return None
    loops = n.op.name in ("scan", "while_loop")
    functions = {"impatient": PATIENCE.format(callback=CALLBACK, pressed=PRESSED)} if loops else {}
    text = "{{\n" + "\n".join(f"    {line}" for line in lines) + "\n  }}"
    return Statement(text, functions, parts.scratch), parts.fallible or loops, parts.constants
