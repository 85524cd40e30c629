"""Which lines of the generated code compute which nodes.

The generators know it: `Code.lines` of a Python function has the node of each line, and a C program is a list of steps,
each of which is one stretch of the text. Kernels are functions; steps that compute the same on other memory share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from minigraph.compiler import NativeProgram
from minigraph.compiler.statements import FIRST
from minigraph.graph import Graph
from minigraph.tensor import Tensor

ENTRY = re.compile(r"p\[(\d+)\]")


class Link(NamedTuple):
    """Lines of the code, the first and the last one, counted from 0; and the nodes they are about.

    `owner`: the operation that runs the graph in which these nodes are, if it is one inside of another.
    """

    first: int
    last: int
    nodes: tuple[Tensor, ...]
    owner: Tensor | None = None


def generated(compiled: Any) -> tuple[Graph, str, str, list[Link]]:
    """The graph that was turned into code, the language, the text, and the links between the two.

    >>> from minigraph_widgets.generated import generated
    >>> f = mg.compile(lambda x: mg.exp(x) * 2.0, backend="numpy")
    >>> _ = f(mg.ones(3))
    >>> graph, language, text, links = generated(f)
    >>> language, [(text.splitlines()[k.first].split(",")[0].strip(), k.nodes[0].op.name) for k in links]
    ('python', [('exp(x', 'exp'), ('t1 = multiply(m0', 'multiply')])
    """
    program = compiled.last.program
    if program.backend == "numpy":
        code = program.executable.code
        return (
            program.executable.graph,
            "python",
            code.source,
            [Link(k - 1, k - 1, (n,)) for k, n in code.lines.items()],
        )
    text: str = program.source
    if program.backend == "c":
        native, lines = program.native.program, Text(text)
        links = [*kernels(native, lines), *links_of(native, lines)]
        return native.graph, "c", text, sorted(links, key=lambda link: link[:2])
    return program.graph, "cuda", text, []


class Text:
    """A text in which pieces are looked up by their place."""

    def __init__(self, text: str):
        self.text = text

    def lines(self, start: int, length: int) -> tuple[int, int]:
        """The first and the last line of a piece."""
        first = self.text.count("\n", 0, start)
        return first, first + self.text.count("\n", start, start + length)

    def find(self, piece: str, start: int = 0) -> int:
        """Where a piece begins; -1 if it is not there."""
        return self.text.find(piece, start)


def links_of(program: NativeProgram, text: Text, owner: Tensor | None = None) -> Iterator[Link]:
    """The links of a program, and of the programs inside of it."""
    body = program.statements()
    at = text.find("int run(char **p) {") if owner is None else -1
    at = text.find(f"int {program.symbol}(char **p) {{") if at < 0 else at
    known = {FIRST + i: n for i, n in enumerate(program.arguments)}
    known |= {program.first_root + i: n for i, n in enumerate(program.roots)}
    known |= {program.first_constant + i: n for i, n in enumerate(program.constants)}
    steps, declared = iter(program.steps), len(program.declarations())
    for number, piece in enumerate(body):
        at = text.find(piece, at)
        if number < declared:
            found = ENTRY.search(piece)
            if found is not None and int(found[1]) in known:
                yield Link(*text.lines(at, len(piece)), (known[int(found[1])],), owner)
        elif (step := next(steps, None)) is not None:
            yield Link(*text.lines(at, len(piece)), (step.node,), owner)
        at += len(piece)
    for n, inner in inside(program):
        yield from links_of(inner, text, owner or n)


def inside(program: NativeProgram) -> list[tuple[Tensor, NativeProgram]]:
    """The operations of a program that run graphs in C, and the programs of these graphs."""
    found = [(n, program.bodies.get(id(g))) for n in program.order for g in (n.attrs or {}).values()]
    return [(n, p) for n, p in found if p is not None]


def kernels(program: NativeProgram, text: Text) -> Iterator[Link]:
    """The functions of kernels: a comment for each operation, and the loops for all of them."""
    users: dict[str, list[tuple[Any, Tensor | None]]] = {}
    todo: list[tuple[NativeProgram, Tensor | None]] = [(program, None)]
    for p, owner in todo:  # grows while it is walked
        for s in p.steps:
            if s.kind == "kernel":
                users.setdefault(s.detail.text, []).append((s, owner))
        todo += [(inner, owner or n) for n, inner in inside(p)]
    for body, steps in users.items():
        comment = program.comments[body]
        function = f"{comment}\nstatic __attribute__((noinline)) void {program.kernels[body]}{body}".rstrip()
        first, last = text.lines(text.find(function), len(function))
        many = comment.count("\n") + 1
        for s, owner in steps:
            for k in range(many):
                yield Link(first + k, first + k, (s.detail.members[k].node, s.node), owner)
            yield Link(first + many, last, (s.node,), owner)
