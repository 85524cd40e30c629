"""From a graph to something that runs on arrays, with its variables: the last step of `mg.compile` and `Graph.run`.

A program has a backend. "c" turns the whole graph into one C function; "cuda" into functions of a GPU; "numpy" into a
Python function that calls NumPy (or CuPy, where the arrays are). Unless it is chosen, C is taken where there is a
compiler and everything is on the CPU, and CUDA where everything is on one GPU. If that cannot be had, for whatever
reason, the program says so once and runs on NumPy or CuPy: slower, and right.

Whoever watches (hooks, anomaly mode) sees the graph run node by node, whatever the backend.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ..errors import ArgumentError, CompilerError, user_site
from ..graph import Graph
from ..interrupt import held
from ..op import mode
from .passes import default_passes, eliminate_dead_code, optimize
from .passes.rematerialize import rematerialize
from .program import OutOfRange
from .run import Executable

BACKENDS = ("c", "cuda", "numpy")


class NoticeWarning(UserWarning):
    """Something works, but not in the way that was to be expected."""


_noticed: set[str] = set()


def notice(text: str) -> None:
    """Tell the user once in a process, at the line that asked for it."""
    if text in _noticed:
        return
    _noticed.add(text)
    site = user_site()
    if site is None:
        warnings.warn(text, NoticeWarning, stacklevel=2)
    else:
        warnings.warn_explicit(text, NoticeWarning, site.file, site.line)


def on_cpu(graph: Graph) -> bool:
    return all(type(n.value) is tuple or n.device.kind == "cpu" for n in graph.nodes)


def choose(backend: str | None, graph: Graph) -> str:
    """The backend for a graph: as asked for, as the environment variable MINIGRAPH_BACKEND says, or C or CUDA, where
    possible.

    Raises:
        ArgumentError: there is no such backend.
    """
    wanted = backend or os.environ.get("MINIGRAPH_BACKEND") or None
    if wanted is not None and wanted not in BACKENDS:
        raise ArgumentError("compile: backend", expected='"c", "cuda" or "numpy"', actual=repr(wanted))
    if not on_cpu(graph):
        from .cuda_program import gpu_of

        return "cuda" if wanted in (None, "cuda") and gpu_of(graph) is not None else "numpy"
    if wanted == "numpy":
        return "numpy"
    from .toolchain import find_compiler

    if find_compiler() is None:
        notice("no C compiler was found, so compiled functions run on NumPy: the same results, several times slower. "
               "A compiler comes with the system (gcc, clang), or from pip: pip install ziglang")  # fmt: skip
        return "numpy"
    return "c"


class Program:
    """A graph, made ready to run: optimised by the passes, planned, and turned into code.

    Attributes:
        traced, graph: before and after the passes. steps: what each pass did.
        backend: "c", "cuda" or "numpy".
        native: the program in C or CUDA C; None with the backend "numpy".
        budget: the bytes that intermediate results and results may take; None if nobody said.
        executable: the program in NumPy, which also runs node by node.
    """

    def __init__(
        self,
        graph: Graph,
        passes: Sequence[Any] | None = None,
        backend: str | None = None,
        budget: int | None = None,
    ):
        self.traced, self.chosen_passes, self.budget = graph, passes, budget
        self.backend = choose(backend, graph)
        self.native: Any = None
        self.prepare()
        if self.backend == "c":
            from .native import Native

            try:
                self.native = Native(self.graph, self.passes)
            except CompilerError as error:
                notice(f"{graph.name}: the C compiler failed, so it runs on NumPy. {error}")
                self.backend = "numpy"
                self.prepare()
        elif self.backend == "cuda":
            from .cuda import Cuda

            try:
                self.native = Cuda(self.graph, self.parts)
            except CompilerError as error:
                notice(f"{graph.name}: compiling for the GPU failed, so CuPy runs it step by step. {error}")
                self.backend = "numpy"
                self.prepare()

    def prepare(self) -> None:
        self.passes = default_passes(self.backend) if self.chosen_passes is None else self.chosen_passes
        within = [] if self.budget is None else [rematerialize(self.budget, backend=self.backend)]
        graph = self.traced
        if self.backend == "cuda":
            from .cuda_program import split

            self.parts = split(graph)
            graph = self.parts.back
        self.graph, self.steps = optimize(graph, [*self.passes, *within])

    @cached_property
    def executable(self) -> Executable:
        if self.native is None or (self.chosen_passes is not None and self.backend != "cuda"):
            return Executable(self.graph)
        return Executable(optimize(self.traced, default_passes("numpy"))[0])

    @property
    def source(self) -> str:
        """The generated code."""
        return self.native.program.source if self.native is not None else self.executable.source

    @property
    def memory(self) -> Any:
        """The memory plan."""
        return self.native.program.memory if self.native is not None else self.executable.memory

    @cached_property
    def closed(self) -> tuple[Graph, list[Any]]:
        """The graph with the variables it reads as further inputs, and those it assigns as further outputs; and the
        variables it reads.

        It is the traced graph, to be differentiated: in the optimised one, `stop_gradient(x)` has become `x`.
        """
        g = eliminate_dead_code(self.traced)
        closed = Graph(g.nodes, [*g.inputs, *g.reads.values()], g.roots(), name=g.name)
        program = Program(closed, self.chosen_passes, self.backend, self.budget)
        closed._programs["backend"] = self.backend
        closed._programs["executable"] = program.executable if program.native is None else program.run
        return closed, list(g.reads)

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Run on the arrays of the inputs; read and assign the variables. Returns the arrays of the outputs.

        Variables are assigned after everything has been computed: an error or an interrupt leaves all of them as they
        were.
        """
        now = mode.get()
        watched = now is not None and now.hooks
        if self.native is not None and not watched:
            try:
                return self.native(arrays)
            except OutOfRange:
                pass  # nothing has changed yet; the program in NumPy says what it is
        executable = self.executable
        values = [*arrays, *[cell._tensor.value for cell in executable.graph.reads]]
        results = executable.debug(values, now.hooks) if now is not None and now.hooks else executable(values)
        n = len(executable.graph.outputs)
        self.store(results[n:])
        return results[:n]

    def store(self, arrays: Sequence[Any]) -> None:
        """Assign the variables. An interrupt between two of them waits until all are assigned."""
        if self.executable.assigned or self.executable.cleared:
            with held():
                for cell, array in zip(self.executable.assigned, arrays, strict=True):
                    cell.store(array)
                for cell in self.executable.cleared:
                    cell.store(None)
