"""The pass explorer: what the optimiser does to a graph, pass by pass, and what comes of it.

The pipeline is a row of steps. Each shows its graph before and after, with what it removed, added, merged and rewrote
(`rewrites`), and the rules that fired; the last one shows the generated code beside the graph it was made from, linked
both ways (`generated`). Any pass can be turned off, to see what it is worth (`costs`).

Most passes leave most graphs as they are, so a graph that several steps have in common is drawn once, and boxes that
several drawings have in common are kept once (`compact`), as are all texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import traitlets

import minigraph as mg
from minigraph.compiler import MemoryPlan, Step, plan_memory, schedule
from minigraph.compiler.report import quantity
from minigraph.draw import LayoutError, in_time
from minigraph.draw import picture as draw_picture
from minigraph.draw.layout import Layout, lay_out
from minigraph.draw.picture import Picture, layered_text
from minigraph.draw.svg import fragment, style, write_svg
from minigraph.errors import ArgumentError, GraphError, Site
from minigraph.graph import Graph
from minigraph.tensor import Tensor

from .compact import Shapes, compact
from .costs import measured, planned, table, tried
from .generated import generated
from .rewrites import KINDS, Rewrites, nested_graphs
from .view import View, to_json

LIMIT = 150  # boxes in the drawing of one graph
OVERVIEW = 24  # boxes where no script runs
LISTED = 300  # changes of a pass that are listed


class PassExplorer(View):
    """Shows the pipeline of a compiled function: each pass with its graphs and rules, the generated code, the costs.

    Args:
        compiled: what `mg.compile` returned, or a function, which is compiled.
        *inputs: arguments to compile for. The function is traced for them, and not run. Without them, the version used
            last is shown.
        time: also measure how long the function takes without each single pass. It really runs, with the arguments it
            was traced with; the variables that it assigns are afterwards as before.
        limit: the number of boxes to fold each drawing down to. direction: "TB" or "LR", as for `mg.draw.picture`.

    Attributes:
        step: the step that is shown: a number of a pass, or the number of passes for the generated code. Assign it.
        off: the numbers of the passes that the reader has turned off. selected: the title of the chosen box.

    Raises:
        GraphError: the function has not been called yet, and no inputs are given.
        ArgumentError: `compiled` is not a function.

    >>> from minigraph_widgets import PassExplorer
    >>> f = mg.compile(lambda x: -(-x) * 1.0 + mg.exp(x) + mg.exp(x), backend="numpy")
    >>> explorer = PassExplorer(f, mg.ones(3))
    >>> explorer
    PassExplorer: 5 passes, 3 of which changed something: 9 nodes became 4; then Python.
    >>> [(p["name"], [c["kind"] for c in p["changes"]]) for p in explorer.document["passes"][1:4]]
    [('simplify', ['removed', 'removed']), ('reduce_strength', []), ('eliminate_common_subexpressions', ['merged'])]
    >>> explorer.cost(["eliminate_common_subexpressions"])["nodes"]
    5
    """

    step = traitlets.Int(0).tag(sync=True, reader=True)
    off = traitlets.List(traitlets.Int()).tag(sync=True, reader=True)
    selected = traitlets.Unicode("").tag(sync=True, reader=True)

    def __init__(self, compiled: Any, *inputs: Any, time: bool = False, limit: int = LIMIT, direction: str = "TB"):
        self.compiled = compiled_function(compiled, inputs)
        pipeline = Pipeline(self.compiled, limit, direction, time)
        super().__init__(pipeline.document(), pipeline.static(), step=pipeline.first())
        self.on_msg(self._answer)

    def cost(self, off: Iterable[int | str], time: bool = False) -> dict[str, Any]:
        """What the function would be without these passes, by number or name: nodes, kernels, bytes.

        Args:
            off: the passes to leave out; a name means all passes of this name.
            time: also measure how many times as long it takes.

        Raises:
            ArgumentError: there is no such pass.
        """
        names = [p["name"] for p in self.document["passes"]]
        numbers: set[int] = set()
        for wanted in off:
            found = [k for k, name in enumerate(names) if wanted in (k, name)]
            if not found:
                raise ArgumentError("PassExplorer.cost: there is no such pass", expected=f"one of {', '.join(names)}",
                                    actual=repr(wanted))  # fmt: skip
            numbers.update(found)
        return (measured if time else planned)(self.compiled, numbers)

    def _answer(self, widget: Any, message: Any, buffers: Any) -> None:
        """The reader has turned passes off: how is the function without them?"""
        off = message.get("off") if isinstance(message, dict) else None
        if off is None:
            return
        self.send({"off": sorted(off), **tried(lambda: self.cost(off, time=True))})


def compiled_function(fn: Any, inputs: Sequence[Any]) -> Any:
    """A compiled function that has a version to look at."""
    if not callable(fn) or isinstance(fn, Graph):
        raise ArgumentError("PassExplorer: this has no passes", expected="what mg.compile returned, or a function",
                            actual=type(fn).__name__, remedy="f = mg.compile(function)")  # fmt: skip
    compiled = mg.compile(fn)
    if inputs:
        compiled.trace(*inputs)
    elif compiled.last is None:
        raise GraphError(
            f"PassExplorer: {compiled.name} has not been called yet, so there is no graph to optimise",
            expected="a compiled function that knows the shapes of its arguments",
            remedy=f"call it once, {compiled.name}(...), or give example inputs: PassExplorer({compiled.name}, x, y)",
        )
    return compiled


class Drawn:
    """A graph as it is drawn: where everything stands, and the box of each node."""

    def __init__(self, graph: Graph, limit: int, direction: str):
        self.graph = graph
        options = {"limit": limit, "direction": direction, "values": False}
        self.problem, self.layout = "", Layout(0.0, 0.0)
        self.picture: Picture
        try:
            self.picture, self.layout = in_time(graph, lay_out, **options)
        except LayoutError as reason:
            self.picture = draw_picture(graph, **options)  # type: ignore[arg-type]
            self.problem = f"{reason.what}. {reason.remedy or ''}".strip()
        self.boxes = {id(n): k for k, box in enumerate(self.picture.boxes) for n in box.nodes}
        for n in graph.nodes:
            for g in nested_graphs(n):
                self.own(g, self.boxes.get(id(n)))
        order = schedule(graph)
        self.plan: MemoryPlan = plan_memory(graph, order, {id(n) for n in order})

    def own(self, graph: Graph, box: int | None) -> None:
        """Where a graph inside of an operation is not drawn, its nodes belong to the box of the operation."""
        for n in graph.nodes:
            if box is not None:
                self.boxes.setdefault(id(n), box)
            for g in nested_graphs(n):
                self.own(g, box)

    def of(self, nodes: Iterable[Tensor]) -> list[int]:
        """The numbers of the boxes of nodes, each once, in order."""
        return list(dict.fromkeys(self.boxes[id(n)] for n in nodes if id(n) in self.boxes))


class Pipeline:
    """A compiled function on its way to a document."""

    def __init__(self, compiled: Any, limit: int, direction: str, time: bool):
        self.compiled, self.limit, self.direction, self.time = compiled, limit, direction, time
        self.steps: list[Step] = compiled.passes
        self.graphs: list[Drawn] = []
        self.numbers: dict[Any, int] = {}
        self.texts: dict[str, int] = {}
        self.graph(compiled.graph)
        self.passes = [self.tell(s) for s in self.steps]
        self.code = self.tell_code()

    # ------------------------------------------------------------------------------------------------------ telling
    def graph(self, graph: Graph) -> int:
        """The number of a graph; the same for graphs of the same nodes."""
        key = (*map(id, graph.nodes), None, *map(id, graph.outputs), None, *map(id, graph.assigns.values()))
        if key not in self.numbers:
            self.numbers[key] = len(self.graphs)
            self.graphs.append(Drawn(graph, self.limit, self.direction))
        return self.numbers[key]

    def text(self, text: str) -> int:
        """The number of a text, which may stand in several places."""
        return self.texts.setdefault(text, len(self.texts))

    def line(self, site: Site | None) -> int | None:
        """The user's line: where it is, and what it says."""
        if site is None or site.in_doctest:
            return None
        return self.text(f"{site}" + (f": {site.code}" if site.code else ""))

    def tell(self, step: Step) -> dict[str, Any]:
        """A pass: its graphs by number, marks by box, and changes."""
        before, after = self.graph(step.before), self.graph(step.after)
        told: dict[str, Any] = {"name": step.name, "before": before, "after": after, "marks": [{}, {}], "changes": []}
        if before == after and not step.changes:
            return told
        followed = Rewrites(step)
        old, new = self.graphs[before], self.graphs[after]
        for side, (drawn, marks, touched) in enumerate((
            (old, followed.before, followed.touched_before), (new, followed.after, followed.touched_after)
        )):  # fmt: skip
            nodes = followed.old if side == 0 else followed.new
            found: dict[int, dict[str, Any]] = {}
            for n in nodes:
                kind, numbers, box = marks.get(id(n)), touched.get(id(n), ()), drawn.boxes.get(id(n))
                if box is not None and (kind or numbers):
                    mark = found.setdefault(box, {"kind": "", "changes": []})
                    mark["kind"] = min((k for k in (mark["kind"], kind) if k), key=KINDS.index, default="")
                    mark["changes"] += [k for k in numbers if k not in mark["changes"] and k < LISTED]
            told["marks"][side] = {str(box): [m["kind"], *m["changes"]] for box, m in found.items()}
        for r in followed.rewrites[:LISTED]:
            site = next((n.site for n in (*r.before, *r.after) if n.site is not None), None)
            told["changes"].append({
                "kind": r.kind, "rule": self.text(r.rule), "before": old.of(r.before), "after": new.of(r.after),
                "here": r.here, "line": self.line(site),
            })  # fmt: skip
        told["number"] = len(step.changes)
        told["counts"] = {
            kind: sum(k == kind for k in (followed.before if kind != "added" else followed.after).values())
            for kind in KINDS
        }
        return told

    def tell_code(self) -> dict[str, Any]:
        graph, language, text, links = generated(self.compiled)
        number = self.graph(graph)
        drawn, found = self.graphs[number], []
        for link in links:
            nodes = [*link.nodes, *([] if link.owner is None else [link.owner])]
            node = next((n for n in nodes if id(n) in drawn.boxes), None)
            if node is None:
                continue
            found.append([link.first, link.last, drawn.boxes[id(node)], self.line(link.nodes[0].site)])
        unique = {to_json(x): x for x in found}
        return {"graph": number, "language": language, "text": text, "links": list(unique.values())}

    def quiet(self) -> set[int]:
        """The passes that changed nothing."""
        return {k for k, p in enumerate(self.passes) if not p["changes"] and p["before"] == p["after"]}

    def first(self) -> int:
        """The step to begin with: the first one that changed something."""
        return next((k for k in range(len(self.passes)) if k not in self.quiet()), len(self.passes))

    def tell_graph(self, d: Drawn, shapes: Shapes) -> dict[str, Any]:
        """A graph: its drawing, or words where it could not be drawn; how large it is; and what each box is."""
        drawing = compact(d.picture, d.layout, shapes) if not d.problem else None
        notes = [n for n in d.picture.notes if not n.startswith("Folded")]
        if len(notes) < len(d.picture.notes):
            notes.append(f"A stack of cards stands for several operations; more than limit={self.limit} opens them.")
        return {
            "drawing": drawing, "words": layered_text(d.picture) if d.problem else "",
            "nodes": len(d.graph.nodes), "bytes": d.plan.without_reuse, "peak": d.plan.peak,
            "titles": [self.text(b.lines[0]) for b in d.picture.boxes],
            "about": [self.text(b.details) for b in d.picture.boxes],
            "notes": [*notes, *([d.problem] if d.problem else [])],
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """What there is to see."""
        base, alone = table(self.compiled, self.quiet(), self.time)
        language = {"python": "Python", "c": "C", "cuda": "CUDA C"}[self.code["language"]]
        changed = len(self.passes) - len(self.quiet())
        first, last = self.graphs[0], self.graphs[self.code["graph"]]
        many = f"{len(self.passes)} pass{'' if len(self.passes) == 1 else 'es'}"
        what = (f"{many}, {changed} of which changed something: "
                f"{len(first.graph.nodes)} nodes became {len(last.graph.nodes)}; then {language}.")  # fmt: skip
        shapes = Shapes()
        graphs = [self.tell_graph(d, shapes) for d in self.graphs]
        return {
            "kind": "passes",
            "title": f"What the optimiser does to {self.compiled.name}",
            "what": what,
            "style": style(),
            "shapes": shapes.listed(),
            "graphs": graphs,
            "passes": self.passes,
            "code": self.code,
            "costs": {"all": base, "alone": alone},
            "texts": list(self.texts),
        }

    def static(self) -> str:
        """The passes as a table, and the last graph."""
        rows = []
        for p in self.passes:
            rules: dict[str, int] = {}
            for c in p["changes"]:
                rule = list(self.texts)[c["rule"]]
                rules[rule] = rules.get(rule, 0) + 1
            said = "; ".join(f"{n} x {rule}" for rule, n in rules.items()) or "nothing"
            a, b = (self.graphs[p[side]] for side in ("before", "after"))
            cells = [
                p["name"],
                f"{len(a.graph.nodes)} → {len(b.graph.nodes)}",
                quantity(b.plan.without_reuse, "B", 1024),
                said,
            ]
            rows.append("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
        head = "".join(f"<th>{h}</th>" for h in ("pass", "nodes", "bytes", "what it did"))
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>\n{self.overview()}"

    def overview(self) -> str:
        """The last graph as a small drawing."""
        graph = self.graphs[self.code["graph"]].graph
        try:
            return fragment(*in_time(graph, _svg, limit=OVERVIEW, direction=self.direction, values=False))
        except LayoutError:
            return f"<pre>{escape(layered_text(draw_picture(graph, limit=OVERVIEW, values=False)))}</pre>"


def _svg(drawn: Picture, seconds: float) -> str:
    return write_svg(drawn, lay_out(drawn, seconds))
