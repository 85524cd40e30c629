"""How long it takes until a compiled step runs: cold, from the cache on disk, and for graphs of growing size.

The first call of a step traces it, applies the passes, plans, writes the C and has it compiled; a process that finds
the library in the cache does all but the last. A compiler whose time grows faster than its input is of no use for large
models, so the second table divides by the number of nodes: its rows must not grow.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import minigraph as mg
from minigraph.compiler import default_passes, optimize
from minigraph.compiler.program import NativeProgram
from minigraph.graph import Graph
from minigraph.op import Spec
from minigraph.trace import trace

from .harness import Contender, Setting, Worker
from .problems import WORKLOADS
from .report import row

COLD, CACHED, MICROSECONDS = 1.0, 0.1, 60.0  # what must be reached: seconds, seconds, microseconds for each node
SIZES = (1_000, 10_000, 100_000)
STAGES = ("trace", "passes", "plan")
PATIENCE = 2.0  # seconds: a larger graph is not tried after one that took longer
REPEATS = 3


def first_calls(workloads: Sequence[str], repeats: int) -> dict[str, tuple[float, float]]:
    """Seconds of the first call in a new process, (cold, from the cache): the shortest of some."""
    found = {}
    for workload in workloads:
        seconds: list[tuple[float, float]] = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as cache:
                calls = [first_call(workload, cache) for _ in ("cold", "cached")]
            seconds.append((calls[0], calls[1]))
        cold, cached = zip(*seconds, strict=True)
        found[workload] = (min(cold), min(cached))
    return found


def first_call(workload: str, cache: str) -> float:
    setting = Setting("c", 2)
    worker = Worker(Contender("", "minigraph", ("c",)), setting, workload, 300.0, {"MINIGRAPH_CACHE": cache})
    worker.close()
    seconds: float = worker.facts["first_call_seconds"]
    return seconds


def deep(rounds: int) -> Callable[..., Any]:
    """The gradients of a deep network, in so many layers of plain operations."""

    def loss(x: Any, w: Any, b: Any) -> Any:
        for _ in range(rounds):
            x = mg.tanh(x @ w + b)
        return mg.sum(x * x)

    return mg.grad(loss, (1, 2))


def stages(rounds: int) -> dict[str, float]:
    """Seconds of each stage from a function to its C text, and the number of nodes that were traced."""
    specs = [Spec(shape, "float32") for shape in ((8, 16), (16, 16), (16,))]
    clock, marks = time.perf_counter, [time.perf_counter()]
    graph: Graph = trace(deep(rounds), specs, "deep", [False, True, True])[0]
    marks.append(clock())
    optimized, _ = optimize(graph, default_passes("c"))
    marks.append(clock())
    source = NativeProgram(optimized, products=True, threads=2, passes=default_passes("c")).source
    marks.append(clock())
    seconds = [after - before for before, after in pairwise(marks)]
    return {"nodes": len(graph.nodes), "characters": len(source), **dict(zip(STAGES, seconds, strict=True))}


def growth(sizes: Sequence[int]) -> list[dict[str, float]]:
    """The stages for graphs of about so many nodes; the list ends early if that takes too long."""
    each = stages(100)["nodes"] / 100
    found: list[dict[str, float]] = []
    for size in sizes:
        if not found or sum(found[-1][stage] for stage in STAGES) < PATIENCE:
            found.append(stages(round(size / each)))
    return found


def marked(value: float, limit: float, text: str) -> str:
    return f"{text}{'' if value <= limit else ' (missed)'}"


def appendix(workloads: Sequence[str], quick: bool) -> tuple[str, dict[str, Any]]:
    """Both tables in Markdown, and their numbers."""
    calls = first_calls(workloads, 1 if quick else REPEATS)
    sizes = SIZES[:1] if quick else SIZES
    grown = growth(sizes)
    lines = [
        f"The first call of a step in C: cold (must be below {COLD:g} s), and from the cache ({CACHED:g} s).",
        "",
        row(["workload", "cold", "from the cache"]),
        row(["---", "---:", "---:"]),
    ]
    for workload, (cold, cached) in calls.items():
        cells = marked(cold, COLD, f"{cold:.2f} s"), marked(cached, CACHED, f"{cached:.3f} s")
        lines.append(row([WORKLOADS[workload].title, *cells]))
    lines += [
        "",
        "The gradients of networks of growing depth, until their C text stands. Microseconds for each node:",
        f"together below {MICROSECONDS:g} at any size.",
        "",
        row(["nodes", "trace", "passes", "plan and text", "together"]),
        row(["---:", "---:", "---:", "---:", "---:"]),
    ]
    for found in grown:
        times = [found[stage] / found["nodes"] * 1e6 for stage in STAGES]
        total = marked(sum(times), MICROSECONDS, f"{sum(times):.1f}")
        lines.append(row([f"{found['nodes']:,}", *[f"{t:.1f}" for t in times], total]))
    lines += [row([f"{size:,}", "", "", "", "not tried (missed)"]) for size in sizes[len(grown) :]]
    return "\n".join(lines), {"first_calls": calls, "growth": grown}
