"""The memory timeline: which value is where, and when.

Steps go from left to right, addresses from bottom to top, so a value is a rectangle: as wide as it lives, as high as it
is large. Where two rectangles lie beside each other at one height, memory is used again. The curve below is the sum of
what is alive at each step; no plan can do with less than its highest point.

Of a compiled function the plan is shown as it is, then what would be without one (every value kept), and what becomes
of it when values are dropped and computed again to keep within a budget. Of a function that is not compiled nothing is
planned: it is run, and arrays are watched as they come and go.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import traitlets

import minigraph as mg
from minigraph.compiler import Executable, MemoryPlan, optimize, plan_memory, schedule
from minigraph.compiler.memory import place
from minigraph.compiler.passes.rematerialize import bytes_of, native, rematerialize
from minigraph.compiler.profile import described
from minigraph.compiler.report import quantity
from minigraph.compiler.schedule import recomputed
from minigraph.errors import ArgumentError, GraphError
from minigraph.graph import Graph
from minigraph.op import spec_of
from minigraph.tensor import Tensor
from minigraph.trace import Compiled

from .charts import BLUE, GREEN, PURPLE, RED, Drawing, Frame, linear, ticks
from .view import HERE, View

ARENA, RESULT, OWN, VALUE, GRADIENT = range(5)  # where a value lies, or what it is: see `PLACES` in memory.ts
TRIED = (1 / 2, 3 / 4)  # of the peak: budgets that are tried where none is given
MANY = 2000  # nodes from which on no budget is tried unasked, as that would take long
SHOWN = 400  # rectangles where no script runs: the largest ones


class Life(NamedTuple):
    """A value in memory: from which step to which one, at which address, of how many bytes."""

    name: str
    type: str
    nbytes: int
    start: int
    end: int
    at: int
    place: int
    over: int = -1  # the number of the value in whose place it is written
    again: bool = False  # it is computed a second time
    stays: bool = False  # it is still there when the run ends


class Variant(NamedTuple):
    """One way to use memory: the steps (name, scope, line), the lives, and the figures of the plan."""

    name: str
    what: str
    steps: list[tuple[str, str, str]]
    lives: list[Life]
    arena: int
    peak: int

    @property
    def curve(self) -> list[int]:
        """Bytes alive at each step. What takes another one's place counts once that one has ended."""
        change = [0] * (len(self.steps) + 1)
        for b in self.lives:
            start = b.start + (b.over >= 0)
            if start <= b.end and start < len(self.steps):
                change[start] += b.nbytes
                change[min(b.end + 1, len(self.steps))] -= b.nbytes
        return list(accumulate(change[: len(self.steps)]))

    @property
    def top(self) -> int:
        """The highest address."""
        return max([self.arena, *[b.at + b.nbytes for b in self.lives]])


class MemoryTimeline(View):
    """Shows which value is where in memory, and when: lifetimes, sizes, reuse, the peak.

    Args:
        target: what `mg.compile` returned: its plan, beside what would be without one and within a budget. A graph,
            such as that of `mg.record()`: the plan that its order allows. Any other function: it is run, dynamically,
            and arrays are watched as they come and go, forward and backward.
        *inputs: arguments. A compiled function is traced for them, and not run; without them, the version used last is
            shown.
        memory: the budget, in bytes or as text ("64MB"). Unless given, a half and three quarters of the peak are tried.

    Attributes:
        variant: which way to use memory is shown, a number. step: the step that the reader points at. selected: the
            name of the chosen value.

    Raises:
        GraphError: the function has not been called yet, and no inputs are given.
        ArgumentError: `target` has no memory to look at, or there is no way to keep within the budget.

    >>> from minigraph_widgets import MemoryTimeline
    >>> f = mg.compile(lambda x: mg.tanh(mg.exp(x) @ mg.exp(x)).sum(), backend="numpy")
    >>> timeline = MemoryTimeline(f, mg.ones((16, 16)))
    >>> timeline
    MemoryTimeline: 4 results over 4 steps: peak 2.004 KiB, lower bound 2 KiB; each with a place of ...
    >>> [v["name"] for v in timeline.document["variants"]]
    ['planned', 'every value kept']
    """

    variant = traitlets.Int(0).tag(sync=True, reader=True)
    step = traitlets.Int(0).tag(sync=True, reader=True)
    selected = traitlets.Unicode("").tag(sync=True, reader=True)

    def __init__(self, target: Any, *inputs: Any, memory: int | str | None = None):
        name, variants, notes = looked_at(target, inputs, memory)
        first = variants[0]
        curve = first.curve
        super().__init__(document(name, variants, notes), static(first), step=curve.index(max(curve)) if curve else 0)


# ----------------------------------------------------------------------------------------------- what is looked at


def looked_at(target: Any, inputs: Sequence[Any], memory: int | str | None) -> tuple[str, list[Variant], list[str]]:
    """The name of a target, the ways in which it uses or could use memory, and what else is to be said."""
    if isinstance(target, Graph):
        if memory is not None or inputs:
            raise ArgumentError("MemoryTimeline: a graph is shown as it is", expected="no inputs, and no budget",
                                remedy="MemoryTimeline(mg.compile(fn), x, memory=...)")  # fmt: skip
        order = schedule(target) if any(n.is_symbolic for n in target.operations) else list(target.operations)
        plan = plan_memory(target, order, {id(n) for n in order})
        planned = of_plan("planned", "each value lives from its operation to its last use", order, plan)
        return target.name, [planned, kept(planned)], []
    if isinstance(target, Compiled):
        return of_compiled(target, inputs, memory)
    if not callable(target):
        raise ArgumentError("MemoryTimeline: this has no memory to look at", actual=type(target).__name__,
                            expected="a compiled function, a graph, or a function and its inputs")  # fmt: skip
    if memory is not None:
        raise ArgumentError("MemoryTimeline: a function that is not compiled keeps to no budget",
                            remedy="MemoryTimeline(mg.compile(fn), *inputs, memory=...)")  # fmt: skip
    name = getattr(target, "__name__", type(target).__name__)
    return name, [watched(target, inputs)], ["Inputs, parameters and numbers are not counted; views have no memory."]


def of_compiled(compiled: Any, inputs: Sequence[Any], memory: int | str | None) -> tuple[str, list[Variant], list[str]]:
    """The plan of a compiled function, every value kept, and the plan within a budget."""
    if inputs:
        compiled.trace(*inputs)
    elif compiled.last is None:
        raise GraphError(
            f"MemoryTimeline: {compiled.name} has not been called yet, so there is no plan",
            expected="a compiled function that knows the shapes of its arguments",
            remedy=f"call it once, {compiled.name}(...), or give example inputs: MemoryTimeline({compiled.name}, x, y)",
        )
    program, notes = compiled.last.program, []
    running = program.native.program if program.native is not None else program.executable
    if program.budget is None:
        planned = of_program("planned", running)
        within = None
        if memory is not None:
            within = of_budget(program, bytes_of(memory))
        elif len(program.graph.nodes) <= MANY:
            within = next((v for part in TRIED if (v := tried(program, int(part * planned.peak))) is not None), None)
        if within is None:
            few = len(program.graph.nodes) <= MANY
            notes.append("Nothing that could be computed again would bring the peak down to three quarters." if few
                         else "Give memory=... to see a plan within a budget.")  # fmt: skip
    else:
        planned = of_program("planned", planned_again(program, []))
        if memory is None:
            within = of_program(f"within {quantity(program.budget, 'B', 1024)}", running)
        else:
            within = of_budget(program, bytes_of(memory))
    return compiled.name, [planned, kept(planned), *([within] if within is not None else [])], notes


def planned_again(program: Any, more: Sequence[Any]) -> Any:
    """The plan of a program with further passes; nothing is compiled or run."""
    graph = program.parts.back if program.backend == "cuda" else program.traced
    found, _ = optimize(graph, [*program.passes, *more])
    return Executable(found) if program.backend == "numpy" else native(found, program.backend)


def of_budget(program: Any, budget: int) -> Variant:
    """The plan within a budget.

    Raises:
        ArgumentError: there is none.
    """
    found = planned_again(program, [rematerialize(budget, backend=program.backend)])
    return of_program(f"within {quantity(budget, 'B', 1024)}", found)


def tried(program: Any, budget: int) -> Variant | None:
    """The plan within a budget, None where there is none."""
    try:
        return of_budget(program, budget)
    except ArgumentError:
        return None


def of_program(name: str, program: Any) -> Variant:
    """The plan of a program: a `NativeProgram` or an `Executable`."""
    nodes = [s.node for s in program.steps] if hasattr(program, "steps") else program.order
    twice = sum(map(recomputed, nodes))
    what = "one arena; a place is used again once its value is not needed"
    if twice:
        what = f"values are dropped, and {twice} step{'s' * (twice != 1)} done again when they are needed"
    return of_plan(name, what, nodes, program.memory, results_outside=hasattr(program, "steps"))


def of_plan(name: str, what: str, nodes: Sequence[Tensor], plan: MemoryPlan, results_outside: bool = True) -> Variant:
    """A memory plan as lives. What lies outside of the arena is put above it, each value where there is room.

    `results_outside`: all that lies outside of the arena is a result; else only what lives longer than the last step.
    """
    outside = [b for b in plan.buffers if b.offset is None]
    found, _ = place([(b.start, b.end, b.nbytes) for b in outside])
    above = {id(b): plan.arena + at for b, at in zip(outside, found, strict=True)}
    last: dict[int, int] = {}  # of each node, its latest life
    lives: list[Life] = []
    for b in plan.buffers:
        where = ARENA if b.offset is not None else RESULT if results_outside or b.end >= len(nodes) else OWN
        over = last.get(id(b.in_place_of), -1) if b.in_place_of is not None else -1
        last[id(b.node)] = len(lives)
        at = b.offset if b.offset is not None else above[id(b)]
        lives.append(Life(
            described(b.node)[0], type_of(b.node), b.nbytes, b.start, min(b.end, len(nodes) - 1), at, where, over,
            recomputed(b.node), where == RESULT,
        ))  # fmt: skip
    return Variant(name, what, [step_of(n) for n in nodes], lives, plan.arena, plan.peak)


def kept(planned: Variant) -> Variant:
    """The same without any plan: each value has a place of its own, to the end."""
    lives, at = [], 0
    for b in planned.lives:
        lives.append(b._replace(at=at, place=OWN, over=-1, end=len(planned.steps) - 1, stays=True))
        at += b.nbytes
    return Variant("every value kept", "each value has a place of its own, to the end", planned.steps, lives, 0, at)


def step_of(node: Tensor) -> tuple[str, str, str]:
    """The name of a step, its scope, and the user's line."""
    site = node.site  # what `mg.grad` adds has the line that called the function, which may be one of ours
    line = (
        ""
        if site is None or site.in_doctest or site.file.startswith(str(HERE))
        else f"{site}" + (f": {site.code}" if site.code else "")
    )
    return described(node)[0], str(node.scope or ""), line


def type_of(node: Tensor) -> str:
    value = spec_of(node.value)
    return ", ".join(map(repr, value)) if type(value) is tuple else repr(value)


# ------------------------------------------------------------------------------------------------- a dynamic run


class Watch(mg.debug.Hook):
    """Follows the arrays of a run: when each is made, and when nothing holds it any more."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, str]] = []
        self.lives: list[Life] = []
        self.ends: dict[int, int] = {}  # by number of a life
        self.held: dict[int, Any] = {}  # by id of an array that is there: a weak reference
        self.given: dict[int, Any] = {}  # the same of arrays that the run uses and has not made

    def before(self, node: Any) -> None:
        self.steps.append((node.op.name, str(node.scope or ""), ""))
        for x in node.inputs:
            for array in map(owner, x.value if type(x.value) is tuple else (x.value,)):
                key = id(array)
                if isinstance(array, np.ndarray) and key not in self.held and key not in self.given:
                    self.given[key] = weakref.ref(array, self.forget(key))

    def forget(self, key: int) -> Callable[[Any], None]:
        """What to do when the array that was known by `key` is gone."""

        def gone(_: Any) -> None:
            self.given.pop(key)

        return gone

    def after(self, node: Any, value: Any) -> None:
        for array in value if type(value) is tuple else (value,):
            self.follow(array, node.op.name, VALUE)

    def before_backward(self, node: Any, g: Any) -> None:
        self.steps.append((f"backward of {node.op.name}", str(node.scope or ""), ""))

    def after_backward(self, node: Any, index: int, g: Any) -> None:
        self.follow(getattr(g, "value", g), f"gradient by {node.op.name}", GRADIENT)

    def follow(self, array: Any, name: str, kind: int) -> None:
        """An array has come: unless it is known, or a view of a known one, its life begins."""
        array = owner(array)
        if not isinstance(array, np.ndarray) or not array.nbytes or id(array) in self.held or id(array) in self.given:
            return  # a NumPy scalar, or known
        number, now = len(self.lives), len(self.steps) - 1
        self.held[id(array)] = weakref.ref(array, self.freed(id(array), number))
        self.lives.append(Life(name, repr(spec_of(array)), int(array.nbytes), now, now, 0, kind))

    def freed(self, key: int, number: int) -> Callable[[Any], None]:
        def end(_: Any) -> None:
            del self.held[key]
            self.ends[number] = len(self.steps) - 1

        return end


def owner(array: Any) -> Any:
    """The array whose memory another one looks at: itself, unless it is a view."""
    while isinstance(base := getattr(array, "base", None), np.ndarray):
        array = base
    return array


def watched(fn: Callable, inputs: Sequence[Any]) -> Variant:
    """Run a function and follow its arrays. They get addresses as `malloc` would give them."""
    watch = Watch()
    with mg.debug.hooks(watch):
        result = fn(*inputs)
    last = len(watch.steps) - 1
    found = [b._replace(end=watch.ends.get(k, last), stays=k not in watch.ends) for k, b in enumerate(watch.lives)]
    del result  # until here what it returned is there
    offsets, arena = place([(b.start, b.end, b.nbytes) for b in found])
    lives = [b._replace(at=at) for b, at in zip(found, offsets, strict=True)]
    run = Variant("as it ran", "each array from when it was made to when nothing held it any more", watch.steps, lives,
                  0, arena)  # fmt: skip
    return run._replace(peak=max(run.curve, default=0))


# ---------------------------------------------------------------------------------------------- what there is to see


def document(name: str, variants: Sequence[Variant], notes: Sequence[str]) -> dict[str, Any]:
    first = variants[0]
    bound, each = max(first.curve, default=0), sum(b.nbytes for b in first.lives)
    what = (f"{len(first.lives)} result{'s' * (len(first.lives) != 1)} over {len(first.steps)} "
            f"step{'s' * (len(first.steps) != 1)}: peak {quantity(first.peak, 'B', 1024)}, ")  # fmt: skip
    what += "" if first.name == "as it ran" else f"lower bound {quantity(bound, 'B', 1024)}; "
    what += f"each with a place of its own, {quantity(each, 'B', 1024)}."
    texts: dict[str, int] = {}

    def text(t: str) -> int:
        return texts.setdefault(t, len(texts))

    told = [
        {
            "name": v.name, "what": v.what, "arena": v.arena, "peak": v.peak, "top": v.top, "curve": v.curve,
            "bound": max(v.curve, default=0),
            "steps": [[text(part) for part in s] for s in v.steps],
            "lives": [[text(b.name), text(b.type), b.nbytes, b.start, b.end, b.at, b.place, b.over, int(b.again),
                       int(b.stays)] for b in v.lives],
        }
        for v in variants
    ]  # fmt: skip
    return {
        "kind": "memory", "title": f"The memory of {name}", "what": what, "variants": told, "notes": list(notes),
        "texts": list(texts),
    }  # fmt: skip


def static(v: Variant) -> str:
    """The chart of one variant, where no script runs."""
    d = Drawing(900, 480, f"{v.name}: {v.what}")
    chart, below = Frame(90, 30, 890, 300), Frame(90, 350, 890, 430)
    x = linear((0, max(len(v.steps), 1)), (chart.left, chart.right))
    y = linear((0, max(v.top, 1)), (chart.bottom, chart.top))

    def size(n: float) -> str:
        return quantity(n, "B", 1024)

    d.y_axis(chart, y, ticks(0, v.top, 4), size, f"address ({v.name}: {v.what})")
    taken = {b.over for b in v.lives}
    for k, b in sorted(sorted(enumerate(v.lives), key=lambda p: -p[1].nbytes)[:SHOWN]):
        left, right = x(b.start + (b.over >= 0) / 2), x(b.end + (0.5 if k in taken else 1))
        high = max(y(b.at) - y(b.at + b.nbytes), 1.0)
        colour = GREEN if b.again else (BLUE, RED, PURPLE, BLUE, RED)[b.place]
        title = f"{b.name} {b.type}, {size(b.nbytes)}, steps {b.start + 1} to {b.end + 1}"
        d.add("rect", title=title, x=left, y=y(b.at + b.nbytes), width=max(right - left, 1.0), height=high,
              fill=colour, fill_opacity=0.3, stroke=colour, stroke_dasharray="" if b.over < 0 else "4 2")  # fmt: skip
        if high > 15 and right - left > 8 * len(b.name) + 8:
            d.text(left + 4, y(b.at + b.nbytes / 2) + 4.5, b.name)
    d.line(chart.left, y(v.arena), chart.right, y(v.arena), stroke_dasharray="8 4")
    curve = v.curve
    most = max(curve, default=0)
    up = linear((0, max(most, 1)), (below.bottom, below.top))
    d.y_axis(below, up, ticks(0, most, 2), size, f"bytes alive, at most {size(most)}")
    steps = [(x(k + side), up(n)) for k, n in enumerate(curve) for side in (0, 1)]
    d.path([(x(0), up(0)), *steps, (x(len(curve)), up(0))], BLUE, fill=BLUE, fill_opacity=0.25)
    d.x_axis(below, x, [t for t in ticks(0, len(v.steps), 8) if t == int(t)], lambda t: f"{t:.0f}", "steps done")
    return d.svg()
