"""Why a compiled function is what it is: one page about a program and what the compiler decided, with the reasons.

Everything is read off the program and its passes. Only fusion is done once more, on the graph as it was before: for two
kernels that were not made one, the second's operations are offered to the first, and the one that it refuses says why.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from ..graph import Graph
from ..op import spec_of
from ..tensor import Tensor
from . import blas, toolchain
from .loops import (
    DTYPES,
    Kernel,
    Member,
    addressing,
    contiguous,
    elementwise,
    folded_axes,
    in_memory,
    is_view,
    reduces,
)
from .memory import MemoryPlan, peaks
from .moving import LONGEST
from .nested import NESTED
from .passes import optimize
from .passes.fuse import FUSED, MOST, Fusion, Unit, summary
from .profile import flops_of, graphs_in
from .program import NativeProgram, key_of
from .program import Step as ProgramStep
from .report import columns, page, quantity, table
from .schedule import nbytes, recomputed
from .statements import WRITERS
from .threads import WORTH

LONG = 48  # characters from which on a cell may take several lines
RULES = 3  # the most frequent rules of a pass that are named
ROLES = (
    "each: at every point; row: once for each row, which the inner loops in brackets go through; "
    "end: complete after all loops; after: made from those"
)


class Part(NamedTuple):
    """A section of the page: a title, a table, and a sentence below it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Boundary(NamedTuple):
    """Two neighbours among the kernels that were not made one.

    Attributes:
        first, second: their operations and their domain. reason: why they are not one.
        shared: the bytes of what the second reads and the first makes, or reads, too.
    """

    first: str
    second: str
    reason: str
    shared: int


class Explanation:
    """What `compiled.explain()` returns: one page, printed as text or shown in a notebook.

    Attributes:
        head: one sentence about the whole.
        parts: {title: `Part`}, in the order of the page.
    """

    def __init__(self, head: str, parts: Iterable[Part]):
        self.head, self.parts = head, {p.title: p for p in parts if p.rows or p.note}

    def __getitem__(self, title: str) -> Part:
        return self.parts[title]

    def __repr__(self) -> str:
        lines = [self.head]
        for p in self.parts.values():
            lines += ["", p.title]
            if p.rows:
                lines += columns([p.head, *p.rows] if any(p.head) else p.rows, "<" * len(p.head))
            if p.note:
                lines.append(f"  {p.note}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        found = [f"<p>{escape(self.head)}</p>"]
        for p in self.parts.values():
            if p.rows:
                long = [max(map(len, column)) > LONG for column in zip(*p.rows, strict=True)]
                found.append(table(p.head, p.rows, "".join("w" if x else "<" for x in long), caption=p.title))
            else:
                found.append(f"<h4>{escape(p.title)}</h4>")
            if p.note:
                found.append(f"<p>{escape(p.note)}</p>")
        return page(*found)


# ---------------------------------------------------------------------------------------------------------- the parts


def sizes(shape: Sequence[int]) -> str:
    """`64 x 10`"""
    return " x ".join(map(str, shape)) or "1"


def kind_of(n: Tensor) -> str:
    value = spec_of(n.value)
    return ", ".join(map(repr, value)) if type(value) is tuple else repr(value)


def counted(reasons: Iterable[str]) -> list[str]:
    """`3 x reason` for each reason, the most frequent first."""
    return [f"{k} x  {reason}" for reason, k in Counter(reasons).most_common()]


def passes_of(program: Any) -> Part:
    rows = []
    for s in program.steps:
        rules = counted(c.rule for c in s.changes)
        said = "; ".join(rules[:RULES]) + (f"; and {len(rules) - RULES} more rules" if len(rules) > RULES else "")
        nodes = f"{len(s.before.nodes)} -> {len(s.after.nodes)}"
        rows.append((s.name, nodes, str(len(s.changes)), quantity(s.seconds, "s"), said))
    return Part("passes", ("pass", "nodes", "changes", "time", "its most frequent rules"), tuple(rows),
                "" if rows else "none were asked for")  # fmt: skip


def kernels_of(program: NativeProgram) -> Part:
    """The kernels; those that call the same C function are one line."""
    found: dict[str, list[ProgramStep]] = {}
    for s in program.steps:
        if s.kind == "kernel":
            found.setdefault(program.name_of(s), []).append(s)
    rows = []
    for name, steps in found.items():
        text = steps[0].detail
        roles: dict[str, list[str]] = {}
        for m in text.members:
            roles.setdefault(m.role, []).append(m.node.op.name)
        members = "; ".join(f"{role}: {shortened(names)}" for role, names in roles.items())
        loops = [str(loop.size) for loop in text.outer]
        inner = " x ".join(str(loop.size) for loop in text.inner)
        nest = " > ".join([*loops, f"[{inner}]" if loops and inner else inner]).strip(" >") or "none"
        rows.append((name, str(len(steps)), sizes(text.kernel.axes), nest, members))
    head = ("function", "calls", "domain", "loops", "operations by role")
    return Part("kernels", head, tuple(rows), ROLES if rows else "")


def shortened(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) < 9 else [*names[:4], f"... {len(names) - 6} more", *names[-2:]])


def statements_of(program: NativeProgram) -> Part:
    library = blas.find()
    rows = []
    for s in program.steps:
        if s.kind != "statement":
            continue
        n = s.node
        if n.op.name in NESTED:
            by = "a loop in C" if n.op.name in ("scan", "while_loop") else "a function in C"
        elif any("product" in name for name in s.detail.functions) and library is not None:
            by = " ".join(library.name.split()[:2])
        else:
            by = "C of our own"
        given = " @ ".join(sizes(x.shape) for x in n.inputs if in_memory(x))
        rows.append((n.op.name, given if n.op.name == "matmul" else kind_of(n), by, str(n.scope or "")))
    grouped = tuple((*row[:3], str(k), *row[3:]) for row, k in Counter(rows).items())
    return Part("products and other calls", ("operation", "sizes", "by", "calls", "where"), grouped)


def callbacks_of(program: NativeProgram) -> Part:
    rows = [(s.node.op.name, kind_of(s.node), why_no_c(s.node, program)) for s in program.steps if s.kind == "callback"]
    note = "" if rows else "everything is in C"
    return Part("not in C", ("operation", "result", "why it runs by its own code"), tuple(rows), note)


def why_no_c(n: Tensor, program: NativeProgram) -> str:
    """Why a node is called back."""
    members = [n]
    if n.op is FUSED:
        members = [m for m in n.attrs["body"].operations if not is_view(m)]
    for x in (y for m in members for y in (m, *m.inputs)):
        if type(x.value) is not tuple and x.dtype not in DTYPES:
            return f"there is no C for {x.dtype}"
    if n.op.name in NESTED:
        return why_no_body(n, program)
    if n.op.name == "matmul" and not program.products:
        return "NumPy's BLAS cannot be called from C"
    if n.op.name in ("sort", "argsort") and n.shape[n.attrs.get("axis", -1)] > LONGEST:
        return f"NumPy sorts rows of more than {LONGEST} elements faster"
    if n.op.name in WRITERS:
        return "C for it is there for other types and layouts only"
    if not all(m.op.builtin for m in members):
        return "it is the user's own, written in Python"
    if any(elementwise(m) for m in members):
        return "a function in its expression has no C for this type"
    return "its algorithm is no loop over an expression, and is left to NumPy"


def why_no_body(n: Tensor, program: NativeProgram) -> str:
    """Why a loop or branch is called back: the operation in one of its graphs that has no C, found by planning them."""
    for g in graphs_in((n.attrs or {}).values()):
        body, _ = optimize(g, program.passes)
        inner = NativeProgram(body, products=program.products, passes=program.passes)
        if inner.callbacks:
            first = inner.callbacks[0]
            return f"{first.op.name} in its body: {why_no_c(first, inner)}"
    return "its C is there for other types and layouts only"


# ------------------------------------------------------------------------------------------------------- not fused


def boundaries(graph: Graph) -> list[Boundary]:
    """For the graph before fusion: each two kernels of which one reads the other, or which follow each other, and why
    they are not one.

    >>> with mg.Graph() as g:
    ...     x = mg.placeholder((4, 8), name="x")
    ...     y = mg.exp(x - x.sum())
    >>> mg.compiler.explain.boundaries(g)[0].reason
    'sum is complete only when all loops of the first are done'
    """
    fusion = Fusion(graph)
    fusion.assign()
    units = [u for u in fusion.units if not u.gone]
    reads = {u: read_by(fusion, u) for u in units}
    needs = {u: {fusion.where[key] for key in reads[u] if key in fusion.where} - {u} for u in units}
    kernels = [u for u in units if u.kernel is not None]
    pairs = dict.fromkeys(pairwise(kernels))
    pairs |= dict.fromkeys((a, b) for b in kernels for a in needs[b] if a.kernel is not None)
    found = []
    for a, b in sorted(pairs, key=lambda p: (p[1].position, p[0].position)):
        both = [x for key, x in reads[b].items() if fusion.where.get(key) is a or (key in reads[a] and x.size > 1)]
        found.append(Boundary(named(a), named(b), reason(fusion, units, needs, a, b), sum(map(nbytes, both))))
    return found


def named(u: Unit) -> str:
    assert u.kernel is not None
    return f"{summary([m.node for m in u.kernel.members.values()])} ({sizes(u.kernel.axes)})"


def read_by(fusion: Fusion, u: Unit) -> dict[int, Tensor]:
    """What is in memory when a unit reads it, by id. Numbers in the text do not count."""
    return {key: b for key, b in fusion.reads(u).items() if not (b.op is None and b.size == 1)}


def reason(fusion: Fusion, units: Sequence[Unit], needs: dict[Unit, set[Unit]], early: Unit, late: Unit) -> str:
    """Why two kernels are not one."""
    assert early.kernel is not None
    assert late.kernel is not None
    after: dict[Unit, Unit] = {}  # what needs the first, directly or not -> through which unit
    for u in units[bisect_left(units, early.position + 1, key=at) : bisect_left(units, late.position, key=at)]:
        through = next((after[v] for v in needs[u] if v in after), u if early in needs[u] else None)
        if through is not None:
            after[u] = through
    between = [after[v] for v in needs[late] if v in after]
    if between:
        return f"{described(min(between, key=at))}, lies between them"
    together = len(early.kernel.members) + len(late.kernel.members)
    if together > MOST:
        return f"too many operations for one kernel: {together}, at most {MOST}"
    both = Kernel(fusion.views)
    for m in [*early.kernel.members.values(), *late.kernel.members.values()]:
        if not both.accepts(m.node):
            return obstacle(both, m.node)
    if early.first_use < late.position:
        user = units[bisect_left(units, early.first_use, key=at)]
        return f"{described(user)}, needs the first and comes before the second"
    if early in needs[late]:
        return "the second had loops of its own before it came to read the first"
    return "they read nothing in common"


def at(u: Unit) -> int:
    return u.position


def described(u: Unit) -> str:
    """What a unit is, for a sentence about two others."""
    if u.kernel is not None or u.node is None:
        return f"another kernel, {named(u)}"
    name = u.node.op.name
    return f"{name}, {'a library call' if name == 'matmul' else 'which has a function of its own'}"


def obstacle(kernel: Kernel, n: Tensor) -> str:
    """Why a kernel does not accept a node; the counterpart of `Kernel.accepts`."""
    name = n.op.name
    rows = kernel.reduced is not None
    if elementwise(n):
        for role in ("each", "row") if rows else ("each",):
            runs = kernel.along(n, n.shape, role)
            if runs is not None:
                return (
                    unreadable(kernel, n, runs) or f"{name} is made once for each row, from what there is at each point"
                )
        inside = [m for x in n.inputs if (m := maker(kernel, x)) is not None]
        if n.size == 1 and inside:
            return f"{inside[0].node.op.name} is not a total, so {name} cannot be made from it after the loops"
        return f"different loops: {sizes(kernel.axes)}, and {sizes([s for s in n.shape if s != 1])} for {name}"
    if reduces(n):
        x = n.inputs[0]
        runs = kernel.along(x, x.shape, "each")
        if runs is None:
            return f"different loops: {sizes(kernel.axes)}, and {sizes([s for s in x.shape if s != 1])} for {name}"
        hidden = unreadable(kernel, n, runs)
        if hidden is not None:
            return hidden
        made = maker(kernel, x)
        if made is not None and made.role != "each":
            return f"{made.node.op.name} must be complete before {name} can reduce it"
        return f"{name} folds axis {', '.join(map(str, sorted(folded_axes(n))))}, and the first has rows along others"
    how = addressing(n)
    if how is not None or name in ("place", "assemble"):
        shape = n.inputs[0].shape if how is None else n.shape if how.values is None else n.inputs[how.values].shape
        runs = kernel.along(n, shape, "each")
        if runs is None:
            return f"different loops: {sizes(kernel.axes)}, and {sizes([s for s in shape if s != 1])} for {name}"
        hidden = None if how is not None else unreadable(kernel, n, runs)
        if hidden is not None:
            return hidden
        return f"{name} reads at places that only values tell, so what it reads must be complete first"
    return f"{name} is not computed in loops"


def maker(kernel: Kernel, x: Tensor) -> Member | None:
    """The member of the kernel that makes what `x` looks at."""
    look = kernel.views.look(x)
    return None if look is None else kernel.members.get(id(look[0]))


def unreadable(kernel: Kernel, n: Tensor, runs: Sequence[int | None]) -> str | None:
    """Which operand keeps a node out of the loops along whose axes it would run."""
    for x in n.inputs:
        view = kernel.views[x]
        if view is None:
            return f"the operand {x.op.name if x.op is not None else 'constant'} of {n.op.name} is no view of memory"
        if kernel.access(x, runs) is not None:
            continue
        made = kernel.members[id(view.base)]
        if made.role in ("end", "after", "blocks"):
            return f"{made.node.op.name} is complete only when all loops of the first are done"
        return f"{n.op.name} reads {made.node.op.name} in another order than the loops make it"
    return None


def boundaries_of(program: Any) -> Part:
    step = next((s for s in reversed(program.steps) if s.name == "fuse"), None)
    if step is None:
        return Part(
            "not fused", (), (), "the pass `fuse` is not among the passes: every operation is a kernel of its own"
        )
    every = boundaries(step.before)
    groups: dict[tuple[str, str], list[Boundary]] = {}
    for b in every:
        if b.shared:
            groups.setdefault((b.first, b.reason.partition(":")[0]), []).append(b)
    rows = []
    for (first, why), found in sorted(groups.items(), key=lambda item: -sum(b.shared for b in item[1])):
        seconds = Counter(b.second for b in found)
        second = next(iter(seconds)) if len(seconds) == 1 else f"{len(found)} kernels"
        reasons = {b.reason for b in found}
        said = next(iter(reasons)) if len(reasons) == 1 else f"{why} each"
        rows.append((first, second, quantity(sum(b.shared for b in found), "B", 1024), said))
    apart = sum(not b.shared for b in every)
    note = f"{apart} more follow each other and have nothing in common" if apart else ""
    head = ("kernel", "and the kernel", "shared", "why they are not one")
    return Part("not fused", head, tuple(rows), note or ("" if rows else "there are not two kernels"))


# ----------------------------------------------------------------------------------------------- memory and variables


def memory_of(program: Any) -> Part:
    plan: MemoryPlan = program.memory
    inside = [b for b in plan.buffers if b.offset is not None]
    last = max([b.end for b in plan.buffers], default=0)
    own = [b if b.in_place_of is None else b._replace(start=b.start + 1) for b in inside]  # see `plan_memory`
    least = peaks([b for b in own if b.start <= b.end], 0, last)[0]
    said = f"{len(inside)} results share it, of which {quantity(least, 'B', 1024)} are alive at one time"
    rows = [
        ("results", plan.without_reuse, f"all {len(plan.buffers)} of them, if each had a place of its own"),
        ("lower bound", plan.bound, "the most that is alive at one time, in this order"),
        ("peak", plan.peak, "the arena, and what lies outside of it: outputs, and what variables become"),
        ("arena", plan.arena, said if inside else "nothing lies in it"),
    ]
    if program.budget is not None:
        twice = [n for n in program.graph.nodes if recomputed(n)]
        work = quantity(sum(map(flops_of, twice)), "FLOP")
        said = f"what the peak may be; for it, {len(twice)} operations are done again: {work}"
        rows.append(("budget", program.budget, said))
    return Part("memory", ("", "bytes", ""), tuple((what, quantity(n, "B", 1024), why) for what, n, why in rows))


def variables_of(program: NativeProgram) -> Part:
    """Which variables are written where they are, and which are copied at the end."""
    outputs = len(program.graph.outputs)
    cells = [cell for cell, t in program.graph.assigns.items() if t is not None]
    copied = dict(program.copies)
    names = [*[f"output {k}" for k in range(outputs)], *[c.name or "variable" for c in cells]]
    rows: dict[tuple[str, str], list[str]] = {}
    for k, name in enumerate(names):
        how = ("copied at the end", why_copied(program, k, copied[k])) if k in copied else ("written in place", "")
        rows.setdefault(how, []).append(name)
    cleared = [cell.name for cell, t in program.graph.assigns.items() if t is None]
    found = [(how, str(len(who)), shortened(who), why) for (how, why), who in rows.items()]
    if cleared:
        found.append(("set to None", str(len(cleared)), shortened(cleared), ""))
    return Part("outputs and variables", ("how", "number", "which", "why"), tuple(found))


def why_copied(program: NativeProgram, k: int, root: Tensor) -> str:
    """Why result number `k` is not computed where it belongs; the counterpart of `NativeProgram.place_results`."""
    view, key = program.views[root], key_of(program.base(root))
    writer = {key: i for i, s in enumerate(program.steps) for key in s.writes}
    if key not in writer:
        return "it is given to the function as it is"
    if view is None or view.offset or view.strides != contiguous(root.shape) or root.size != view.base.size:
        return "it is a part of a result, or in another order"
    if any(key_of(program.base(other)) == key for other in program.roots[:k]):
        return "the same result has another place, too"
    at = writer[key]
    late = [s for s in program.steps[at:] if s.fallible]
    if late:
        return f"{late[-1].node.op.name} can still fail, and then nothing must have changed"
    return "its old value is still read when the new one is written"


def threads_of(program: NativeProgram) -> Part:
    shared: list[tuple[str, str]] = []
    alone: list[tuple[str, str]] = []
    for s in program.steps:
        if s.kind == "callback":
            continue
        name = program.name_of(s) if s.kind == "kernel" else s.node.op.name
        if s.kind == "kernel":
            done = s.detail.split is not None
            why = f"its outermost loop of {s.detail.split.size} is divided" if done else why_alone(s, program)
        else:
            done = any("#pragma omp parallel" in text for text in (s.detail.text, *s.detail.functions.values()))
            few = f"estimated at less than {WORTH // 1000} µs, or few rows"
            why = "its rows, images, products or numbers are divided" if done else few
        (shared if done else alone).append((name, why))
    rows = [(str(program.threads), str(k), name, why) for (name, why), k in Counter(shared).items()]
    reasons: dict[str, list[str]] = {}
    for name, why in alone:
        reasons.setdefault(why, []).append(name)
    rows += [("1", str(len(names)), shortened(list(dict.fromkeys(names))), why) for why, names in reasons.items()]
    note = f"{program.threads} threads at most; work is shared from {WORTH // 1000} µs by estimate"
    return Part("threads", ("threads", "steps", "which", "why"), tuple(rows), note)


def why_alone(s: ProgramStep, program: NativeProgram) -> str:
    """Why a kernel stays on one thread; the counterpart of `KernelText.shared_loop`."""
    text = s.detail
    if program.threads == 1:
        return "there is one thread only"
    if any(m.role == "after" or (m.role == "end" and m.search is not None) for m in text.members):
        return "parts would have to wait for each other: it makes something from its own totals, or scatters"
    if any(map(text.sparse, text.members)):
        return "parts would have to wait for each other: what no block covers is filled before any is written"
    loops = text.outer or (text.inner if text.kernel.reduced is None else [])
    if not loops or loops[0].size < 16:
        return "its outermost loop has fewer than 16 rounds"
    return f"estimated at less than {WORTH // 1000} µs"


# ---------------------------------------------------------------------------------------------------------- the whole


def build_of(native: Any) -> Part:
    compiler = toolchain.find_compiler()
    library = native.library
    lines = len(native.program.source.splitlines())
    rows = [
        ("compiler", "" if compiler is None else f"{' '.join(compiler.command)}: {compiler.version}"),
        (
            "flags",
            ""
            if compiler is None
            else " ".join([*compiler.flags, *(compiler.openmp if native.program.parallel else ())]),
        ),
        ("source", f"{lines} lines of C, {len(native.program.kernels)} kernel functions"),
        ("library", f"{'found in the cache' if library.cached else 'compiled'} in {quantity(library.seconds, 's')}"),
    ]
    return Part("build", ("", ""), tuple(rows))


def why_numpy(program: Any, wanted: str | None) -> str:
    """Why a program does not run in C."""
    if wanted == "numpy":
        return 'backend="numpy" was asked for'
    elsewhere = next(
        (n.device for n in program.traced.nodes if type(n.value) is not tuple and n.device.kind != "cpu"), None
    )
    if elsewhere is not None:
        return f"it computes on {elsewhere}"
    if wanted is None and os.environ.get("MINIGRAPH_BACKEND") == "numpy":
        return "the environment variable MINIGRAPH_BACKEND says so"
    if toolchain.find_compiler() is None:
        return "no C compiler was found"
    return "the C compiler refused the text"


def numpy_parts(program: Any, wanted: str | None) -> list[Part]:
    executable = program.executable
    plan = executable.memory
    why = why_numpy(program, wanted)
    calls = Counter("computed into a buffer of the plan" if b.offset is not None else "allocated by its operation"
                    for b in plan.buffers)  # fmt: skip
    calls["only a view"] = len(executable.order) - len(plan.buffers)
    over = [b for b in plan.buffers if b.in_place_of is not None]
    calls["written over an operand that ends there"] = len(over)
    rows = tuple((str(k), how) for how, k in calls.items() if k)
    assigned = shortened([c.name or "variable" for c in executable.assigned])
    found = [
        Part("not in C", (), (), why),
        Part("operations", ("number", "how"), rows, "each is one line of Python that calls NumPy; nothing is fused"),
        memory_of(program),
    ]
    if assigned:
        found.append(Part("outputs and variables", (), (), f"assigned when everything has been computed: {assigned}"))
    return found


def explain(program: Any, wanted: str | None = None, reasons: Sequence[str] = ()) -> Explanation:
    """Explain a `Program`: what `compiled.explain` does.

    Args:
        wanted: the backend that was asked for.
        reasons: why its function has been traced, each time.
    """
    g: Graph = program.graph
    given = ", ".join(f"{x.name or 'input'}: {spec_of(x.value)!r}" for x in g.inputs)
    times = f"; traced {len(reasons)} times, the last time because {reasons[-1]}" if len(reasons) > 1 else ""
    if program.native is None:
        head = f"{g.name}({given}) runs in NumPy: {len(program.executable.order)} operations{times}"
        return Explanation(head, [passes_of(program), *numpy_parts(program, wanted)])
    if program.backend == "cuda":
        from .cuda_explain import cuda_parts

        functions = len(program.native.program.kernels)
        head = f"{g.name}({given}) is {functions} functions on {program.native.device}{times}"
        return Explanation(head, cuda_parts(program))
    native: NativeProgram = program.native.program
    kinds = Counter(s.kind for s in native.steps)
    head = (f"{g.name}({given}) is one C function: {kinds['kernel']} kernels, {kinds['statement']} other calls, "
            f"{kinds['callback']} called back{times}")  # fmt: skip
    return Explanation(head, [
        passes_of(program), kernels_of(native), statements_of(native), callbacks_of(native), boundaries_of(program),
        memory_of(program), variables_of(native), threads_of(native), build_of(program.native),
    ])  # fmt: skip
