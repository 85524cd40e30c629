"""Where the time of a compiled function goes: each step with its time, its arithmetic, and the bytes that it moves.

The program is compiled, or written, a second time with a clock around every step, and run as often as asked; nothing
else differs. These are real calls, so the variables that the program assigns are held before and put back afterwards,
whatever happens: a profiled training step leaves parameters, the optimiser's state and generators as they were.

FLOPs are counted by the operations themselves (`Op.flops`): a product of matrices 2 m n k; a reduction one for each
element; an elementwise operation one for each element of its result, a tanh like an addition; operations that only move
or convert, none. Bytes are those that a step cannot avoid: each element that it reads or writes, counted once. What a
kernel keeps in registers costs none.

The roofline says how long a step takes at least on this machine, and `distance` how many times longer it takes. It is
the roofline of all threads and of the fastest cache that could hold the data, so small steps are far from it: they run
on one thread, and calling a function takes longer than their work. The clock adds some hundredths of a microsecond.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..errors import ArgumentError
from ..graph import Graph
from ..interrupt import held
from ..op import spec_of
from ..tensor import Tensor
from ..variable import Gradient
from . import toolchain
from .codegen import Code
from .loops import Views
from .passes.fuse import FUSED
from .program import OutOfRange
from .report import bar, columns, page, quantity, table
from .roofline import Roofline, roofline
from .run import Executable
from .schedule import nbytes
from .statements import CLOCK

MOVES = ("copy", "astype")  # elementwise operations without arithmetic
TABLE = {"embedding": 1, "take": 0, "take_along_axis": 0, "gather": 0}  # which input a gather takes elements out of
SHOWN = 24  # rows of the printed table
SHOWN_ON_PAGE = 100  # of the one in a notebook


# ------------------------------------------------------------------------------------------------------------ counting


def flops_of(n: Tensor) -> int:
    """The floating-point operations of a node. A kernel or a loop has those of its graph: every round of a scan, one
    round of a while loop, since nobody knows how many there will be; `cond` those of the costlier branch.

    >>> with mg.Graph() as g:
    ...     y = mg.placeholder((8, 4), name="x") @ mg.placeholder((4, 2), name="w")
    >>> mg.compiler.profile.flops_of(y)
    128
    """
    if n.op is None or not n.inputs:
        return 0
    attrs = n.attrs or {}
    nested = [sum(map(flops_of, g.operations)) for g in graphs_in(attrs.values())]
    if nested:
        total = max(nested) if n.op.name == "cond" else sum(nested)
        return total * attrs["length"] if n.op.name == "scan" else total
    if n.op.flops is not None:
        return int(n.op.flops(*[spec_of(x.value) for x in n.inputs], **attrs))
    if n.op.elementwise and not n.op.view and n.op.name not in MOVES:
        return int(n.size)
    return 0


def graphs_in(values: Iterable[Any]) -> list[Graph]:
    """The nested graphs among an operation's attributes."""
    found = []
    for v in values:
        if isinstance(v, Graph):
            found.append(v)
        elif isinstance(v, tuple):
            found += graphs_in(v)
    return found


def touched(x: Tensor, views: Views) -> tuple[Tensor, int]:
    """Whose memory an operand looks at, and how many bytes of it: an axis that is only repeated counts once."""
    view = views[x] if type(x.value) is not tuple else None
    if view is None:
        return x, nbytes(x)
    size = x.dtype.itemsize if x.size else 0
    for n, stride in zip(x.shape, view.strides, strict=True):
        size *= n if stride else 1
    return view.base, size


def bytes_read(operands: Iterable[Tensor], views: Views) -> int:
    """Bytes that must be read for these operands. Of what several of them look at, no byte counts twice."""
    distinct = {id(x): x for x in operands}.values()
    parts: dict[int, tuple[Tensor, int]] = {}
    for x in distinct:
        base, size = touched(x, views)
        parts[id(base)] = base, parts.get(id(base), (base, 0))[1] + size
    return sum(min(size, nbytes(base)) for base, size in parts.values())


def looks(n: Tensor, views: Views) -> bool:
    """Whether a node is nothing but a way of looking at another one's memory."""
    if n.op.name == "item":
        return True
    view = views[n] if n.op.view and len(n.inputs) == 1 and type(n.value) is not tuple else None
    return view is not None and view.base is not n


def traffic(n: Tensor, views: Views, kernel: bool = False) -> tuple[int, int]:
    """The bytes that a node reads and writes. A view moves none; a kernel reads what its members look at outside of it,
    and has constant numbers in its text; a gather reads of its table at most what it takes out of it."""
    if looks(n, views):
        return 0, 0
    members, inside = ([n], views) if n.op is not FUSED else (n.attrs["body"].operations, Views())
    own = {id(m) for m in members}
    operands, tables = [], 0
    for m in members:
        if looks(m, inside):
            continue
        source = m.inputs[TABLE[m.op.name]] if m.op.name in TABLE else None
        if source is not None:
            tables += min(nbytes(m), nbytes(source))
        for x in m.inputs:
            in_text = kernel and x.op is None and not x.is_symbolic and x.size == 1
            if x is not source and not in_text and id(touched(x, inside)[0]) not in own:
                operands.append(x)
    return bytes_read(operands, inside) + tables, nbytes(n)


# ------------------------------------------------------------------------------------------------------------- timing


class kept:
    """Context manager: at its end, the variables that a graph assigns show again the very tensors they showed before.

    Holding those tensors is enough: whoever wants to write over an array asks first whether it is held. Ctrl-C has to
    wait meanwhile.
    """

    def __init__(self, graph: Graph):
        self.cells = list(graph.assigns)

    def __enter__(self) -> kept:
        self.values = [c.variable._grad if isinstance(c, Gradient) else c._tensor for c in self.cells]
        return self

    def __exit__(self, *exc: object) -> None:
        for cell, value in zip(self.cells, self.values, strict=True):
            if isinstance(cell, Gradient):
                cell.variable._grad = value
            else:
                cell._tensor = value


class Timed(Executable):
    """The NumPy program with a clock around every statement: `spent[i]` is the time of step i, in seconds."""

    def __init__(self, graph: Graph, clock: Callable[[], float]):
        super().__init__(graph)
        self.clock, self.spent = clock, [0.0] * len(self.order)

    @cached_property
    def code(self) -> Code:
        plain = Executable.code.func(self)  # type: ignore[attr-defined]
        first, text, lines, step = min(plain.lines, default=0), [], {}, -1

        def stop() -> None:
            if step >= 0:
                text.append(f"        _spent[{step}] = _clock() - _start")

        for number, line in enumerate(plain.source.splitlines(), 1):
            if number in plain.lines:
                stop()
                step += 1
                text.append("        _start = _clock()")
                lines[len(text) + 1] = plain.lines[number]
            elif number > first and step >= 0 and not line.startswith("        del "):
                stop()  # what is left copies results that were given away, and returns
                step = -1
                first = 1 << 60
            text.append(line)
        names = {**plain.names, "_clock": self.clock, "_spent": self.spent}
        return Code("\n".join(text) + "\n", names, lines, plain.buffers)


def time_numpy(executable: Executable, arrays: Sequence[Any], calls: int, waiting: held) -> np.ndarray:
    """Seconds of each step and, in the last column, of the whole, for each call: of all calls, or of those until
    somebody has pressed Ctrl-C. Assigns nothing."""
    graph = executable.graph
    device = next((n.device for n in executable.order if type(n.value) is not tuple), backend.cpu)

    def clock() -> float:
        if device.kind != "cpu":
            backend.synchronize(device)  # it works on while Python goes ahead
        return time.perf_counter()

    timed = Timed(graph, time.perf_counter if device.kind == "cpu" else clock)
    values = [*arrays, *[cell._tensor.value for cell in graph.reads]]
    times = np.empty((calls, len(timed.order) + 1))
    timed(values)
    for done, row in enumerate(times):
        if done and waiting.pressed:
            return times[:done]
        start = clock()
        timed(values)
        row[-1] = clock() - start
        row[:-1] = timed.spent
    return times


def time_native(native: Any, arrays: Sequence[Any], calls: int, waiting: held) -> np.ndarray:
    """The same for a program in C. It assigns the variables."""
    program = native.program
    library = toolchain.build(program.text(timed=True), openmp=program.parallel)
    timed = getattr(library, program.symbol)
    timed.argtypes, timed.restype = [ctypes.c_void_p], ctypes.c_int
    spent = np.zeros(len(program.steps))
    times = np.empty((calls, len(program.steps) + 1))
    with native.lock:
        untimed, native.function = native.function, timed
        native.table[CLOCK], native.waiting = spent.ctypes.data, waiting
        try:
            native.run(arrays)
            for done, row in enumerate(times):
                if done and waiting.pressed:
                    return times[:done]
                spent[:] = 0
                start = time.perf_counter()
                native.run(arrays)
                row[-1] = time.perf_counter() - start
                row[:-1] = spent * 1e-9
        finally:
            native.function = untimed
    return times


# -------------------------------------------------------------------------------------------------------- the profile


class Row(NamedTuple):
    """One step of the program.

    Attributes:
        number: its place in the order of execution. node: what it computes; a kernel is a node `fused`.
        kind: "kernel" (a loop nest in C), "statement" (a library call or loop in C), "callback" (the operation's own
            code, called from C), or "call" (a line of the NumPy program).
        name: what it does, for reading: the operations of a kernel. members: the names of all of them.
        best, median: seconds. share: the part of the sum of all steps' best times.
        flops, read, written: floating-point operations, bytes.
        least: seconds that this machine needs at least; None where its ceilings are not known, on other devices.
    """

    number: int
    node: Tensor
    kind: str
    name: str
    members: tuple[str, ...]
    best: float
    median: float
    share: float
    flops: int
    read: int
    written: int
    least: float | None

    @property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity: FLOPs for each byte; None for a step that moves none."""
        return self.flops / self.nbytes if self.nbytes else None

    @property
    def distance(self) -> float | None:
        """How many times longer the step takes than the roofline allows; None for a step without work."""
        return self.best / self.least if self.least else None

    @property
    def result(self) -> str:
        """The type of what it computes."""
        value = spec_of(self.node.value)
        return ", ".join(map(repr, value)) if type(value) is tuple else repr(value)


class Profile:
    """What `compiled.profile()` returns; prints as a table, the longest steps first.

    Attributes:
        rows: one `Row` for each step, in the order of execution.
        name, backend, calls: of what function, in "c" or "numpy", over how many calls.
        best, median: seconds of the whole call.
        roofline: the ceilings of this machine; None for a program on another device.
    """

    def __init__(self, name: str, backend: str, rows: Sequence[Row], times: np.ndarray, machine: Roofline | None):
        self.name, self.backend, self.rows, self.calls = name, backend, tuple(rows), len(times)
        self.best, self.median = float(times[:, -1].min()), float(np.median(times[:, -1]))
        self.roofline = machine

    @property
    def flops(self) -> int:
        """Floating-point operations of all steps."""
        return sum(r.flops for r in self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that all steps move."""
        return sum(r.nbytes for r in self.rows)

    @property
    def least(self) -> float | None:
        """Seconds that this machine needs at least for all steps, one after another."""
        known = [r.least for r in self.rows if r.least is not None]
        return sum(known) if len(known) == len(self.rows) else None

    @property
    def outside(self) -> float:
        """Seconds of the best call that are not in any step: calling the function, and copies at its end. The steps'
        best times may come from different calls, so this is at least 0, and an estimate."""
        return max(0.0, self.best - sum(r.best for r in self.rows))

    def widest(self) -> list[Row]:
        """The rows, the longest first."""
        return sorted(self.rows, key=lambda r: (-r.best, r.number))

    def remaining(self, first: int) -> tuple[float, str]:
        """The share and the time of all rows but the longest ones."""
        rest = self.widest()[first:]
        return sum(r.share for r in rest), quantity(sum(r.best for r in rest), "s")

    HEAD = ("share", "best", "median", "FLOPs", "bytes", "FLOP/B", "roofline", "kind", "step")

    def texts(self, r: Row) -> list[str]:
        """The cells of a row, after its share."""
        return [
            quantity(r.best, "s"), quantity(r.median, "s"), quantity(r.flops, ""), quantity(r.nbytes, "B"),
            "" if r.intensity is None else f"{r.intensity:.2f}", times_longer(r.distance), r.kind,
        ]  # fmt: skip

    def totals(self) -> list[str]:
        """The cells of the last line: the whole call."""
        intensity = f"{self.flops / self.nbytes:.2f}" if self.nbytes else ""
        distance = self.best / self.least if self.least else None
        return [quantity(self.best, "s"), quantity(self.median, "s"), quantity(self.flops, ""),
                quantity(self.nbytes, "B"), intensity, times_longer(distance), "", "the whole call"]  # fmt: skip

    @property
    def head(self) -> str:
        """One line about everything."""
        language = {"c": "C", "numpy": "NumPy"}[self.backend]
        return f"{self.name} in {language}: {len(self.rows)} steps, {self.calls} calls"

    @property
    def foot(self) -> str:
        """What the columns mean, and what lies outside of the steps."""
        machine = self.roofline
        if machine is None:
            return "roofline: not known for this device"
        levels = ", ".join(f"{level.name} {quantity(level.bandwidth, 'B/s')}" for level in machine.levels)
        return (
            f"outside of the steps: {quantity(self.outside, 's')}; roofline: times longer than it takes at "
            f"{quantity(machine.single, 'FLOP/s')}, {levels} ({machine.processor}, {machine.threads} "
            f"thread{'s' * (machine.threads != 1)})"
        )

    def __repr__(self) -> str:
        rows = self.widest()
        lines = [list(self.HEAD)]
        for r in rows[:SHOWN]:
            where = f"{r.name}  {r.result}" + (f"  {r.node.scope}" if r.node.scope else "")
            lines.append([f"{100 * r.share:.1f} %", *self.texts(r), where])
        if len(rows) > SHOWN:
            share, spent = self.remaining(SHOWN)
            lines.append([f"{100 * share:.1f} %", spent, *[""] * 6, f"... {len(rows) - SHOWN} more"])
        lines.append(["", *self.totals()])
        return "\n".join([self.head, *columns(lines, ">>>>>>><<"), self.foot])

    def _repr_html_(self) -> str:
        longest = max([r.share for r in self.rows], default=1.0) or 1.0
        rows = []
        for r in self.widest()[:SHOWN_ON_PAGE]:
            scope = f' <span class="mg-scope">{escape(str(r.node.scope))}</span>' if r.node.scope else ""
            said = escape(", ".join(r.members))
            step = (
                f'<span title="{said}">{escape(r.name)}</span> <span class="mg-scope">{escape(r.result)}</span>{scope}'
            )
            rows.append([bar(r.share, longest), *self.texts(r), step])
        if len(self.rows) > SHOWN_ON_PAGE:
            share, spent = self.remaining(SHOWN_ON_PAGE)
            rows.append(
                [bar(share, max(share, longest)), spent, *[""] * 6, f"... {len(self.rows) - SHOWN_ON_PAGE} more"]
            )
        whole = table(self.HEAD, rows, "b>>>>>><h", caption=self.head, foot=["", *self.totals()])
        return page(whole, f"<p>{escape(self.foot)}</p>")


def times_longer(distance: float | None) -> str:
    """A distance in words. Beyond a thousand, work is not what the step takes its time for."""
    return "" if distance is None else f"{distance:.1f}x" if distance < 999 else ">999x"


def described(n: Tensor) -> tuple[str, tuple[str, ...]]:
    """What a step does, and the names of its operations."""
    if n.op is not FUSED:
        return n.op.name, (n.op.name,)
    views = Views()
    members = tuple(m.op.name for m in n.attrs["body"].operations if not looks(m, views))
    short = members if len(members) < 7 else (*members[:2], f"... {len(members) - 4} more", *members[-2:])
    return ", ".join(short), members


def profile(program: Any, arrays: Sequence[Any], calls: int = 100) -> Profile:
    """Profile a `Program` on the arrays of its inputs: what `compiled.profile` does.

    Raises:
        ArgumentError: `calls` is not a positive number.
    """
    if not isinstance(calls, int) or calls < 1:
        raise ArgumentError("profile: calls", expected="a positive number of calls", actual=repr(calls))
    views, language = Views(), "numpy"
    with held() as waiting, kept(program.graph):
        if program.backend == "c":
            try:
                times, language = time_native(program.native, arrays, calls, waiting), "c"
                steps = [(s.kind, s.node) for s in program.native.program.steps]
            except OutOfRange:  # C has no words for it; NumPy has
                pass
        if language == "numpy":
            executable = program.executable
            times = time_numpy(executable, arrays, calls, waiting)
            steps = [("call", n) for n in executable.order]
    local = all(type(n.value) is tuple or n.device.kind == "cpu" for _, n in steps)
    machine = roofline() if local else None
    best, median = times.min(axis=0), np.median(times, axis=0)
    whole = float(best[:-1].sum()) or 1.0
    rows = []
    for i, (kind, n) in enumerate(steps):
        flops, (read, written) = flops_of(n), traffic(n, views, kind == "kernel")
        first = n.value[0] if type(n.value) is tuple else n
        least = None if machine is None else machine.seconds(flops, read + written, first.dtype)
        name, members = described(n)
        rows.append(Row(i, n, kind, name, members, float(best[i]), float(median[i]), float(best[i]) / whole, flops,
                        read, written, least))  # fmt: skip
    return Profile(program.graph.name, language, rows, times, machine)
