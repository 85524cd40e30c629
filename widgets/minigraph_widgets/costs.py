"""What a compiled function would be without some of its passes.

The graph that was traced is compiled once more with the passes that remain. How many operations and kernels it has and
how much memory it needs follows from the plan, without running anything. Time is measured only on request: both
programs take turns in short bursts, of which the best of each counts, so that a busy machine does not decide; and the
variables are afterwards as before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from minigraph.compiler import NativeProgram, Program, default_passes, optimize
from minigraph.compiler.profile import kept
from minigraph.interrupt import held

BURSTS, SECONDS = 30, 0.005  # bursts of each program, and how long one lasts
MANY = 2000  # nodes from which on it would take long to try every pass

Facts = dict[str, Any]


def passes_of(compiled: Any) -> list[Any]:
    """The passes that a compiled function went through, a memory budget aside."""
    chosen = compiled.chosen_passes
    return list(default_passes(compiled.backend) if chosen is None else chosen)


def without(compiled: Any, off: Collection[int]) -> tuple[list[Any], int | None]:
    """The passes that remain, and the memory budget that remains: the pass after all others keeps within it."""
    every = passes_of(compiled)
    budget = None if len(every) in off else compiled.budget
    return [p for k, p in enumerate(every) if k not in off], budget


def facts(program: Any) -> Facts:
    """How many nodes and kernels a program has, how many calls it makes, and the bytes it needs.

    `program`: what runs, a `NativeProgram` or an `Executable`.
    """
    found: Facts = {"nodes": len(program.graph.nodes), "peak": program.memory.peak, "arena": program.memory.arena}
    if isinstance(program, NativeProgram):
        kinds = Counter(s.kind for s in program.steps)
        return found | {"kernels": kinds["kernel"], "calls": kinds["statement"] + kinds["callback"]}
    return found | {"kernels": 0, "calls": len(program.order)}


def planned(compiled: Any, off: Collection[int]) -> Facts:
    """The facts of a function without the passes of these numbers; nothing is compiled or run."""
    passes, budget = without(compiled, off)
    program = compiled.last.program
    if program.backend != "c" or budget is not None:
        return running(Program(program.traced, passes, program.backend, budget))
    graph, _ = optimize(program.traced, passes)
    native = program.native.program
    return facts(NativeProgram(graph, products=native.products, threads=native.threads, passes=passes))


def running(program: Any) -> Facts:
    """The facts of a `Program`."""
    if program.backend == "cuda":
        return {"nodes": len(program.graph.nodes)}
    return facts(program.executable if program.native is None else program.native.program)


def arrays_of(compiled: Any) -> list[Any]:
    """The arrays with which the version used last was traced."""
    version = compiled.last
    leaves = [version.leaves[i] for i in version.slots]
    return [np.float64(x) if isinstance(x, float) else getattr(x, "value", x) for x in leaves] + version.arrays


def measured(compiled: Any, off: Collection[int]) -> Facts:
    """The facts of a function without the passes of these numbers, and `time`: how many times as long it takes."""
    passes, budget = without(compiled, off)
    program = compiled.last.program
    other = Program(program.traced, passes, program.backend, budget)
    arrays = arrays_of(compiled)
    with held(), kept(program.graph):
        ratio = compared(lambda: program.run(arrays), lambda: other.run(arrays))
    return running(other) | {"time": round(ratio, 2)}


def compared(first: Callable[[], Any], second: Callable[[], Any]) -> float:
    """How many times as long the second function takes."""
    slower = max(_seconds(f, 2) for f in (first, second))  # also gets both going
    calls = max(1, int(SECONDS / max(slower, 1e-7)))
    best = [float("inf"), float("inf")]
    for _ in range(BURSTS):
        best = [min(b, _seconds(f, calls)) for b, f in zip(best, (first, second), strict=True)]
    return best[1] / best[0]


def _seconds(f: Callable[[], Any], calls: int) -> float:
    f()  # a program whose variables another one has assigned moves in first
    start = time.perf_counter()
    for _ in range(calls):
        f()
    return (time.perf_counter() - start) / calls


def table(compiled: Any, quiet: Collection[int], time: bool) -> tuple[Facts, list[Facts]]:
    """The facts as they are, and without each single pass; of a large graph only the first, unless time is asked for.

    Passes in `quiet` changed nothing: nor does their absence.
    """
    take = measured if time else planned
    base = running(compiled.last.program)
    if len(compiled.graph.nodes) > MANY and not time:
        return base, []
    return base, [base if k in quiet else tried(partial(take, compiled, {k})) for k in range(len(compiled.passes))]


def tried(take: Callable[[], Facts]) -> Facts:
    """Facts, or the error: passes may rely on each other, and may be anybody's; without one there may be no program."""
    try:
        return take()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


__all__ = ["arrays_of", "compared", "facts", "measured", "passes_of", "planned", "table", "tried"]
