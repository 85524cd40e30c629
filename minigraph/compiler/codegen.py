"""Code: a graph as the text of a straight-line Python function.

One statement for each operation, in the order of the schedule, commented with the result's type and the user's line.
What can be computed into a buffer of the plan is (`add(x, w, out=m3)`); everything else is allocated by its operation.
The functions called are the operations' own `run`, so static mode computes what dynamic mode computes.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Graph
from ..op import spec_of
from ..tensor import Tensor
from .memory import MemoryPlan

HEAD = 2  # lines before the first statement: `def make(...)` and `def run(...)`


class Code:
    """Generated code: its text, the names it refers to, and which node each line computes."""

    def __init__(
        self, source: str, names: dict[str, Any], lines: dict[int, Tensor], buffers: list[tuple[str, Tensor, int]]
    ):
        self.source, self.names, self.lines, self.buffers = source, names, lines, buffers
        self.file = ""  # the name under which the text is known to tracebacks and debuggers


def identifier(name: str | None, fallback: str, taken: set[str]) -> str:
    """A Python name that resembles `name` and is not taken."""
    text = re.sub(r"\W+", "_", name or fallback).strip("_") or fallback
    if text[0].isdigit():
        text = f"{fallback}_{text}"
    if keyword.iskeyword(text):
        text += "_"
    unique, k = text, 2
    while unique in taken:
        unique, k = f"{text}_{k}", k + 1
    taken.add(unique)
    return unique


def literal(value: Any) -> str | None:
    """An attribute as source text, or None if it has to be passed by name."""
    if value is None or type(value) in (bool, int, str):
        return repr(value)
    if type(value) is float and np.isfinite(value):
        return repr(value)
    if type(value) is tuple and all(literal(v) is not None for v in value):
        return repr(value)
    return None


def generate(
    graph: Graph,
    order: Sequence[Tensor],
    plan: MemoryPlan,
    call: Callable[[Tensor], Any],
    into: Callable[[Tensor], Any],
    donated: dict[int, Tensor],
) -> Code:
    """Write the function.

    Args:
        graph, order, plan: what to compute, in which order, where.
        call: node -> `function(*arrays, **attrs)` that computes it.
        into: node -> `function(*arrays, **attrs, out=buffer)` that computes it into a buffer, or None.
        donated: {id of a result: the input whose array it may overwrite}.
    """
    taken = {"make", "run"}
    names: dict[str, Any] = {}
    variable: dict[int, str] = {}
    parameters = []
    for i, n in enumerate([*graph.inputs, *graph.reads.values()]):
        variable[id(n)] = identifier(n.name, f"x{i}", taken)
        parameters.append(variable[id(n)])
    for n in graph.constants:
        if id(n) not in variable:
            variable[id(n)] = identifier(n.name, f"c{len(names)}", taken)
            names[variable[id(n)]] = n.value
    offsets = {id(b.node): b.offset for b in plan.buffers if b.offset is not None} if plan else {}
    functions: dict[Any, str] = {}

    def function_name(f: Any, hint: str) -> str:
        if id(f) not in functions:
            functions[id(f)] = identifier(hint, "f", taken)
            names[functions[id(f)]] = f
        return functions[id(f)]

    last_use: dict[int, int] = {}
    for i, n in enumerate(order):
        for x in n.inputs:
            last_use[id(x)] = i
    kept = {id(n) for n in graph.roots()}
    body: list[str] = []
    lines: dict[int, Tensor] = {}
    buffers: list[tuple[str, Tensor, int]] = []  # the parameters of `make`: name, node, offset in the arena
    for i, n in enumerate(order):
        arguments = [variable[id(x)] for x in n.inputs]
        target = donated.get(id(n))
        if target is not None and (last_use.get(id(target), -1) > i or into(n) is None):
            target = None  # somebody reads the old array later: it is copied at the end
        writer = into(n) if target is not None or id(n) in offsets else None
        result = variable[id(target)] if target is not None else identifier(None, f"{'m' if writer else 't'}{i}", taken)
        variable[id(n)] = result
        for k, v in (n.attrs or {}).items():
            text = literal(v)
            if text is None:
                text = identifier(f"{n.op.name}_{k}", "a", taken)
                names[text] = v
            arguments.append(f"{k}={text}")
        if writer is None:
            statement = f"{result} = {function_name(call(n), n.op.name)}({', '.join(arguments)})"
        else:
            arguments.append(f"out={result}")
            if target is None:
                buffers.append((result, n, offsets[id(n)]))
            statement = f"{function_name(writer, n.op.name)}({', '.join(arguments)})"
        lines[len(body) + HEAD + 1] = n
        place = f"  {n.site}" if n.site else ""
        body.append(f"        {statement}  # {spec_of(n.value)!r}{place}")
        dead = [
            variable[id(x)] for x in dict.fromkeys(n.inputs)
            if last_use[id(x)] == i and id(x) not in kept and x.inputs and id(x) not in offsets
        ]  # fmt: skip
        if dead:
            body.append(f"        del {', '.join(dead)}")
    for n in graph.roots():
        if id(n) in donated and variable[id(n)] != variable[id(donated[id(n)])]:
            body.append(f"        {variable[id(donated[id(n)])]}[...] = {variable[id(n)]}")
    results = ", ".join(variable[id(n)] for n in graph.roots())
    body.append(f"        return [{results}]")
    head = [f"def make({', '.join(name for name, _, _ in buffers)}):", f"    def run({', '.join(parameters)}):"]
    return Code("\n".join([*head, *body, "    return run\n"]), names, lines, buffers)
