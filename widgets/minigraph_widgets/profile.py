"""The profile: where the time of a compiled function goes, and how far each step is from what this machine can do.

The engine measures (`compiled.profile()`): time, floating-point operations and bytes of each step, and the ceilings of
the machine. Here it becomes a table that can be sorted, beside a roofline (S. Williams, A. Waterman and D. Patterson,
2009): each step is a point, as far to the right as it computes much for each byte, and as high as it computes fast. No
point can be above the roof. How far it is below tells what is to be gained, and whether by moving less or by computing
faster.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import traitlets

import minigraph as mg
from minigraph.compiler import Profile as Measured
from minigraph.compiler import Roofline
from minigraph.compiler.profile import Row, profile
from minigraph.compiler.report import quantity
from minigraph.errors import ArgumentError, GraphError
from minigraph.op import spec_of
from minigraph.trace import Compiled

from .charts import BLUE, COLOURS, DASHES, RED, Drawing, Frame, logarithmic, powers
from .costs import arrays_of
from .values import rounded
from .view import HERE, View

MOST = 1000  # steps that are listed: the longest
KINDS = ("kernel", "statement", "callback", "call")


class Profile(View):
    """Shows the steps of a compiled function by time, FLOPs, bytes and arithmetic intensity, and on the roofline.

    Args:
        compiled: what `mg.compile` returned, a function (which is compiled), or what `compiled.profile()` returned.
        *inputs: arguments. Without them, those with which the version used last was traced.
        calls: how many calls are timed. The function really runs; the variables that it assigns are afterwards as they
            were before.

    Attributes:
        profile: the measured `minigraph.compiler.Profile`, for programs.
        selected: the number of the chosen step in the order of execution, or -1. sort: the column in order.

    Raises:
        GraphError: the function has not been called yet, and no inputs are given.
        ArgumentError: `compiled` is neither; `calls` is not a positive number.

    >>> from minigraph_widgets import Profile
    >>> view = Profile(mg.compile(lambda x, w: mg.tanh(x @ w)), mg.ones((8, 4)), mg.ones((4, 2)), calls=3)
    >>> [(r["name"], r["flops"], r["read"] + r["written"]) for r in view.document["rows"]]
    [('matmul', 128, 224), ('tanh', 16, 128)]
    >>> view
    Profile: 2 steps in ..., 144 FLOP, 352 B; the longest is ...
    """

    selected = traitlets.Int(-1).tag(sync=True, reader=True)
    sort = traitlets.Unicode("best").tag(sync=True, reader=True)

    def __init__(self, compiled: Any, *inputs: Any, calls: int = 100):
        self.profile = measured(compiled, inputs, calls)
        super().__init__(document(self.profile), static(self.profile))


def measured(compiled: Any, inputs: Any, calls: int) -> Measured:
    """The profile to be shown."""
    if isinstance(compiled, Measured):
        return compiled
    if not callable(compiled):
        raise ArgumentError("Profile: this has no steps to time", actual=type(compiled).__name__,
                            expected="a compiled function, or what compiled.profile() returned")  # fmt: skip
    function: Compiled = mg.compile(compiled)
    if inputs:
        return function.profile(*inputs, calls=calls)
    if function.last is None:
        raise GraphError(
            f"Profile: {function.name} has not been called yet, so there is nothing to time",
            remedy=f"call it once, {function.name}(...), or give example inputs: Profile({function.name}, x, y)",
        )
    return profile(function.last.program, arrays_of(function), calls)


def document(p: Measured) -> dict[str, Any]:
    """What there is to see; times and rates in four digits."""
    shown = sorted(sorted(p.rows, key=lambda r: -r.best)[:MOST], key=lambda r: r.number)
    longest = max(p.rows, key=lambda r: r.best, default=None)
    many = f"{len(p.rows)} step{'s' * (len(p.rows) != 1)}"
    what = (f"{many} in {quantity(p.best, 's')}, {quantity(p.flops, 'FLOP')}, {quantity(p.nbytes, 'B')}; "
            + ("nothing is computed." if longest is None else
               f"the longest is {longest.name}, {100 * longest.share:.0f} % of the steps' time."))  # fmt: skip
    notes = []
    if len(shown) < len(p.rows):
        notes.append(f"The {len(shown):,} longest of {len(p.rows):,} steps are listed.")
    if p.roofline is None:
        notes.append("The ceilings of this device are not known, so there is no roofline.")
    return {
        "kind": "profile", "title": f"Profile of {p.name}", "what": what, "notes": notes,
        "language": p.backend, "calls": p.calls, "rows": [told(r) for r in shown],
        "best": rounded(p.best), "median": rounded(p.median), "outside": rounded(p.outside),
        "machine": None if p.roofline is None else machine(p.roofline),
    }  # fmt: skip


def told(r: Row) -> dict[str, Any]:
    site = r.node.site
    line = ""
    if site is not None and not site.in_doctest and not site.file.startswith(str(HERE)):
        line = f"{site}: {site.code}" if site.code else str(site)
    return {
        "number": r.number, "name": r.name, "kind": r.kind, "result": r.result, "scope": str(r.node.scope or ""),
        "line": line, "members": list(r.members),
        "best": rounded(r.best), "median": rounded(r.median), "share": rounded(r.share), "flops": r.flops,
        "read": r.read, "written": r.written, "least": None if r.least is None else rounded(r.least),
        "double": is_double(r),
    }  # fmt: skip


def is_double(r: Row) -> bool:
    """Whether a step computes in float64, for which the ceiling is lower."""
    spec = spec_of(r.node.value)
    return any(s.dtype == np.float64 for s in (spec if type(spec) is tuple else (spec,)))


def machine(m: Roofline) -> dict[str, Any]:
    levels = [[x.name, None if x.capacity == float("inf") else x.capacity, rounded(x.bandwidth)] for x in m.levels]
    return {"processor": m.processor, "threads": m.threads, "single": rounded(m.single), "double": rounded(m.double),
            "levels": levels, "tool": m.tool, "product": m.product}  # fmt: skip


# ------------------------------------------------------------------------------------------- where no script runs


def static(p: Measured) -> str:
    """The roofline, and the table that the engine prints."""
    points = [r for r in p.rows if r.flops and r.nbytes and r.best > 0]
    table = p._repr_html_()
    return table if p.roofline is None or not points else roofline_svg(p.roofline, points) + "\n" + table


def roofline_svg(m: Roofline, points: list[Row]) -> str:
    d = Drawing(900, 440, f"roofline of {m.processor}")
    f = Frame(100, 40, 880, 380)
    at = [r.flops / r.nbytes for r in points]
    speeds = [r.flops / r.best for r in points]
    ridge = m.single / m.levels[-1].bandwidth
    xs = (min(*at, ridge) / 3, max(*at, ridge) * 5)
    ys = (min(*speeds, m.double) / 3, m.single * 2)
    x, y = logarithmic(xs, (f.left, f.right)), logarithmic(ys, (f.bottom, f.top))
    rate: Callable[[float], str] = lambda v: quantity(v, "FLOP/s")  # noqa: E731
    d.y_axis(f, y, powers(*ys), rate, "floating-point operations a second")
    d.x_axis(f, x, powers(*xs), lambda v: f"{v:g}", "floating-point operations for each byte")
    for k, level in enumerate(m.levels):
        start, knee = max(xs[0], ys[0] / level.bandwidth), min(m.single / level.bandwidth, xs[1])
        if start < knee:
            line = [(x(start), y(start * level.bandwidth)), (x(knee), y(min(knee * level.bandwidth, m.single)))]
            d.path(line, COLOURS[k % 6], stroke_width=2, stroke_dasharray=DASHES[k % 6])
            d.text(line[0][0] + 6, max(line[0][1] - 4, f.top + 16), f"{level.name} {quantity(level.bandwidth, 'B/s')}")
    first = max(xs[0], m.single / m.levels[0].bandwidth)
    d.line(x(first), y(m.single), f.right, y(m.single), BLUE, stroke_width=2)
    d.text(f.right, y(m.single) - 6, f"{rate(m.single)} in float32", "end")
    for r, i, v in zip(points, at, speeds, strict=True):
        d.add("circle", title=f"{r.name}: {rate(v)}", cx=x(i), cy=y(v), r=4 + 10 * r.share**0.5, fill=RED,
              fill_opacity=0.55, stroke=RED)  # fmt: skip
    for r, i, v in sorted(zip(points, at, speeds, strict=True), key=lambda t: -t[0].best)[:5]:
        d.text(x(i) + 12, y(v) + 4.5, escape(r.name) if len(r.name) < 24 else f"{r.name[:22]}…")
    return d.svg()
