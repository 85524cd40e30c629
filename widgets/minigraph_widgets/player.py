"""The propagation player: a run of one's own function, forwards and backwards, a node at a time.

`recording` writes down what happened; here it becomes a *film*. Each frame names a box of the drawing, what arrives
there, and along which arrows. Frames refer to values by number, and a value is a summary (`values`), so a film of
twenty training steps stays small and holds on to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
import traitlets

import minigraph as mg
from minigraph.draw import LayoutError, picture
from minigraph.draw.layout import TIME_LIMIT, lay_out
from minigraph.draw.picture import BODY, Box, Picture, layered_text
from minigraph.draw.svg import fragment, write_svg
from minigraph.draw.words import leaf_name, plural, width
from minigraph.errors import ArgumentError, GraphError
from minigraph.graph import Graph
from minigraph.op import argument_names
from minigraph.tensor import Tensor

from . import formulas
from .recording import Event, Run, argument_tensors, found_in, record
from .values import FEW, Summary, number, summary, to_numpy
from .view import View, to_json

PHASES = ("inputs", "forward", "loss", "backward", "accumulate", "update")
NOT_FINITE = ("nan", "inf", "-inf")
LIMIT = 150  # boxes in the drawing of a film
MAPS = (76.0, 36.0)  # room for two small heat maps in a box: a value and its gradient


class PropagationPlayer(View):
    """Plays a function forwards and backwards through its graph, node by node, with values and gradients.

    Args:
        fn: what to run: a function of tensors, a module, a compiled function, or a graph (which is replayed; a recorded
            one needs no inputs).
        *inputs: its arguments. Numbers and arrays become tensors that collect gradients; of a module's they do not.
        optimizer: with one, each round also updates the parameters. They are then really trained.
        rounds: so many training steps are recorded, to be scrubbed through.
        limit: the number of boxes to fold the drawing down to. direction: "TB" or "LR", as for `mg.draw.picture`.

    Without an optimiser nothing that exists changes: gradients that were there are put back.

    Attributes:
        step: the frame that is shown; assign it to go there. selected: the box that the reader has chosen, by title.
        playing: whether it plays.

    Raises:
        ArgumentError: `fn` cannot be run. GraphError: a later round has another graph than the first one.

    >>> from minigraph_widgets import PropagationPlayer
    >>> player = PropagationPlayer(lambda w, x: mg.tanh(w * x), 0.5, 2.0)
    >>> player
    PropagationPlayer: 2 operations, 1 round, 7 steps: inputs, forward, loss, backward, accumulate.
    >>> player.film[-1]["say"]
    'Accumulate: the gradient of x is 0.21.'
    """

    step = traitlets.Int(0).tag(sync=True, reader=True)
    playing = traitlets.Bool(False).tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True, reader=True)

    def __init__(
        self,
        fn: Any,
        *inputs: Any,
        optimizer: Any = None,
        rounds: int = 1,
        limit: int = LIMIT,
        direction: str = "TB",
    ):
        if not isinstance(rounds, int) or rounds < 1:
            raise ArgumentError("PropagationPlayer: rounds", expected="a positive number", actual=repr(rounds))
        runs = record_rounds(fn, inputs, optimizer, rounds)
        film = Film(runs, limit, direction)
        super().__init__(film.document(), film.static())

    @property
    def film(self) -> list[dict[str, Any]]:
        """All frames, each with what is said of it."""
        return self.document["frames"]


def record_rounds(fn: Any, inputs: Sequence[Any], optimizer: Any, rounds: int) -> list[Run]:
    """The runs of a film."""
    program, given = runnable(fn, inputs)
    module = isinstance(fn, mg.nn.Module)
    runs: list[Run] = []
    for _ in range(rounds):
        runs.append(record(program, argument_tensors(fn if callable(fn) else program, given, not module), optimizer))
        if runs[-1].error is not None:
            break
        if shape_of(runs[-1].graph) != shape_of(runs[0].graph):
            raise GraphError(f"PropagationPlayer: round {len(runs)} has another graph than the first one",
                             expected=plural(len(runs[0].graph.nodes), "node"),
                             actual=plural(len(runs[-1].graph.nodes), "node"),
                             remedy="play rounds of the same shape, or make one player for each")  # fmt: skip
    if not runs[0].graph.nodes and runs[0].error is not None:
        raise runs[0].error
    if not runs[0].graph.operations:
        raise ArgumentError(
            "PropagationPlayer: nothing was computed",
            expected="a function of tensors",
            actual=repr(fn),
            remedy="pass the function and its inputs: PropagationPlayer(f, x, y)",
        )
    return runs


def runnable(fn: Any, inputs: Sequence[Any]) -> tuple[Callable, Sequence[Any]]:
    """Something to call with tensors, operation by operation, and its arguments."""
    if isinstance(fn, Graph):
        if not inputs and not any(n.is_symbolic for n in fn.inputs):
            inputs = [Tensor(n.value, name=n.name) for n in fn.inputs]
        return fn, inputs
    if not callable(fn):
        raise ArgumentError("PropagationPlayer: this cannot be run", expected="a function, a module or a graph",
                            actual=type(fn).__name__)  # fmt: skip
    return getattr(fn, "fn", fn) if type(fn).__name__ == "Compiled" else fn, inputs


def shape_of(graph: Graph) -> list[Any]:
    """What two rounds must have in common to share a drawing."""
    return [(n.op.name if n.op else "", len(n.inputs)) for n in graph.nodes]


class Film:
    """Runs on their way to a document: boxes for nodes, numbers for values, frames for events."""

    def __init__(self, runs: Sequence[Run], limit: int, direction: str):
        self.runs, first = runs, runs[0]
        self.picture: Picture = picture(first.graph, limit=limit, direction=direction, values=False)  # type: ignore[arg-type]
        self.values: list[Summary] = []
        self.numbers: dict[str, int] = {}
        self.widest: dict[str, float] = {}
        self.mapped: set[str] = set()
        self.box_of = {id(n): box for box in self.picture.boxes for n in box.nodes}
        self.places = [{id(n): k for k, n in enumerate(run.graph.nodes)} for run in runs]
        self.frames: list[dict[str, Any]] = []
        self.rounds: list[int] = []
        self.draw_failure()
        for k, run in enumerate(runs):
            self.rounds.append(len(self.frames))
            self.tell(k, run)
        self.reserve()

    # ------------------------------------------------------------------------------------------------------ telling
    def value(self, v: Any) -> int:
        """The number of a value's summary; of several results, of the first one."""
        found = summary(v[0] if type(v) is tuple else v)
        key = to_json(found)
        if key not in self.numbers:
            self.numbers[key] = len(self.values)
            self.values.append(found)
        return self.numbers[key]

    def box(self, run: int, node: Tensor) -> Box | None:
        """The box of a node of some round: that of the node at the same place in the first one."""
        return self.box_of.get(id(self.runs[0].graph.nodes[self.places[run][id(node)]]))

    def name(self, run: int, node: Tensor) -> str:
        box = self.box(run, node)
        return box.lines[0] if box is not None else node.name or (node.op.name if node.op else "a value")

    def arrow(self, run: int, node: Tensor, index: int) -> list[Any] | None:
        """The arrow of an input: its two boxes, and which of the arrows between them it is."""
        head, tail = self.box(run, node), self.box(run, node.inputs[index])
        if head is None or tail is None or head is tail:
            return None
        earlier = sum(self.box(run, x) is tail for x in node.inputs[:index]) if head.kind != "fold" else 0
        return [tail.id, head.id, earlier]

    def add(self, phase: str, box: Box | None, what: str, say: str, **more: Any) -> None:
        """A frame; several events in the same folded box, one after the other, share one."""
        if box is None:
            return
        last = self.frames[-1] if self.frames else {}
        if box.kind == "fold" and last.get("box") == box.id and last["what"] == what and last["phase"] == phase:
            self.frames.pop()
        shown = {k: v for k, v in more.items() if v not in (None, [], "")}
        self.frames.append({"phase": phase, "box": box.id, "what": what, "say": say, **shown})

    def tell(self, k: int, run: Run) -> None:
        """The frames of one round."""
        leaves = [(n, self.box(k, n)) for n in run.graph.nodes if not n.inputs and not n.is_symbolic]
        start = [[box.id, self.value(n.value)] for n, box in leaves if box is not None and box.kind != "fold"]
        say = f"Round {k + 1}. " if len(self.runs) > 1 else ""
        say += "The inputs and variables have their values; nothing is computed yet."
        self.frames.append({"phase": "inputs", "box": "", "what": "start", "start": start, "say": say})
        arrived: dict[int, list[tuple[Any, Any]]] = {}
        order = self.backward_order(run)
        for number_, e in enumerate(run.events):
            if e.kind == "value":
                self.tell_value(k, run, e)
            elif e.kind == "gradient":
                self.tell_gradient(k, run, e, arrived.pop(id(e.node), []), order.get(number_, []), arrived)
            elif e.kind == "accumulate":
                self.tell_accumulation(k, e, arrived.pop(id(e.node), []))
            elif e.kind == "update":
                name = self.name(k, e.node)
                change = f"from {summary(e.before)['text']} to {summary(e.value)['text']}"
                self.add("update", self.box(k, e.node), "update", f"Update: {name} goes {change}.",
                         value=self.value(e.value), before=self.value(e.before))  # fmt: skip
        if run.error is not None:
            where = self.failed or self.picture.boxes[-1]
            self.add("forward", where, "error", f"{type(run.error).__name__}: {run.error}")

    @staticmethod
    def backward_order(run: Run) -> dict[int, list[Event]]:
        """By number of a gradient event: the rules that follow it, which are its node's."""
        found: dict[int, list[Event]] = {}
        current: list[Event] = []
        for k, e in enumerate(run.events):
            if e.kind == "gradient":
                current = found[k] = []
            elif e.kind == "rule":
                current.append(e)
        return found

    def tell_value(self, k: int, run: Run, e: Event) -> None:
        path = e.node.scope.path if e.node.scope is not None else ()
        phase = next((name for name in ("backward", "update") if name in path), "forward")
        if run.loss is not None and e.node is run.loss:
            phase = "loss"
        come = [a for i in range(len(e.node.inputs)) if (a := self.arrow(k, e.node, i)) is not None]
        said = summary(e.value[0] if type(e.value) is tuple else e.value)
        bad = sorted({"NaN" if "nan" in str(x) else "infinity" for x in said.get("numbers", ()) if x in NOT_FINITE})
        bad += [text for key, text in (("nan", "NaN"), ("inf", "infinity")) if said.get("stats", {}).get(key)]
        warning = f" It contains {bad[0]}." if bad else ""
        say = f"{phase.capitalize()}: {self.name(k, e.node)} is {said['text']}.{warning}"
        self.add(phase, self.box(k, e.node), "value", say, value=self.value(e.value), along=come,
                 formula=self.formula(k, e.node), bad=bool(bad) or None)  # fmt: skip

    def tell_gradient(
        self, k: int, run: Run, e: Event, met: list[tuple[Any, Any]], rules: list[Event],
        arrived: dict[int, list[tuple[Any, Any]]],
    ) -> None:  # fmt: skip
        name, g = self.name(k, e.node), summary(e.value)["text"]
        parts, products = [], []
        for r in rules:
            x = e.node.inputs[r.index]
            arrow = self.arrow(k, e.node, r.index)
            arrived.setdefault(id(x), []).append((arrow, r.value))
            parts.append({"along": arrow, "value": self.value(r.value), "to": self.name(k, x),
                          **self.derivative(k, e, r)})  # fmt: skip
            products.append(f"{summary(r.value)['text']} to {self.name(k, x)}")
        came = [{"along": a, "value": self.value(v)} for a, v in met]
        total = f", the sum of {' and '.join(summary(v)['text'] for _, v in met)}" if len(met) > 1 else ""
        note = f" ({run.seed_note})" if run.seed_note and not met else ""
        sends = f"; it sends {', '.join(products)}" if products else ""
        say = f"Backward: the gradient at {name} is {g}{total}{note}{sends}."
        self.add("backward", self.box(k, e.node), "gradient", say, value=self.value(e.value), came=came, parts=parts)

    def tell_accumulation(self, k: int, e: Event, met: list[tuple[Any, Any]]) -> None:
        name, g = self.name(k, e.node), summary(e.value)["text"]
        pieces = [summary(v)["text"] for _, v in met]
        if e.before is not None:
            pieces.append(f"{summary(e.before)['text']} from before")
        total = f": {' + '.join(pieces)}" if len(pieces) > 1 else ""
        self.add("accumulate", self.box(k, e.node), "accumulate", f"Accumulate: the gradient of {name} is {g}{total}.",
                 value=self.value(e.value), came=[{"along": a, "value": self.value(v)} for a, v in met])  # fmt: skip

    # ----------------------------------------------------------------------------------------------------- formulas
    def texts(self, k: int, node: Tensor, numbers: bool) -> list[str] | None:
        """What stands for each input in a formula: names, or numbers where all inputs are numbers."""
        found = []
        for name, x in zip(argument_names(node.op, len(node.inputs)), node.inputs, strict=True):
            single = type(x.value) is not tuple and x.shape == ()
            if numbers:
                if not single or x.is_symbolic:
                    return None
                found.append(formulas.in_brackets(number(to_numpy(x)[()])))
            elif x.inputs or type(x.value) is tuple:
                found.append(formulas.symbol(name))
            elif x.op is None and not x.name and not x.requires_grad:
                found.append(formulas.in_brackets(number(to_numpy(x)[()])) if single else formulas.symbol(name))
            else:
                found.append(formulas.symbol(leaf_name(x)))
        return found

    def formula(self, k: int, node: Tensor) -> list[str] | None:
        """The operation's formula, a line with names and, of numbers, one with numbers."""
        names, numbers = self.texts(k, node, False), self.texts(k, node, True)
        latex = formulas.formula(node.op, names, node.attrs) if names is not None else None
        if latex is None:
            return None
        lines = [latex]
        with_numbers = formulas.formula(node.op, numbers, node.attrs) if numbers is not None else None
        if with_numbers is not None and type(node.value) is not tuple and node.shape == ():
            lines.append(f"= {with_numbers} = {formulas.digits(number(to_numpy(node)[()]))}")
        return [formulas.mathml(line) for line in lines]

    def derivative(self, k: int, e: Event, rule: Event) -> dict[str, Any]:
        """The local derivative with respect to one input: formula, numbers where they are few, and the product."""
        node, x = e.node, e.node.inputs[rule.index]
        names = self.texts(k, node, False)
        symbolic = formulas.derivative(node.op, rule.index, names, node.attrs) if names is not None else None
        if symbolic is None or names is None:
            return {}
        if r"\bar y" in symbolic or not node.op.elementwise:
            return {"local": [formulas.mathml(rf"\bar{{{names[rule.index]}}} \leftarrow {symbolic}")]}
        lines = [rf"\frac{{\partial y}}{{\partial {names[rule.index]}}} = {symbolic}"]
        found: dict[str, Any] = {}
        if node.shape == x.shape and 0 < node.size <= FEW:
            local = self.local(node, rule.index)
            if node.shape == ():
                text, g, gx = (number(to_numpy(v)[()]) for v in (local, e.value, rule.value))
                numbers = self.texts(k, node, True)
                filled = formulas.derivative(node.op, rule.index, numbers, node.attrs) if numbers is not None else None
                if filled not in (None, symbolic, text):
                    lines.append(f"= {filled} = {formulas.digits(text)}")
                elif symbolic != text:
                    lines[0] += f" = {formulas.digits(text)}"
                product = rf"{formulas.in_brackets(text)} \cdot {formulas.in_brackets(g)} = {formulas.digits(gx)}"
                found["product"] = formulas.mathml(product)
            else:
                found["derivative"] = self.value(local)
        return {"local": [formulas.mathml(line) for line in lines], **found}

    @staticmethod
    def local(node: Tensor, index: int) -> Any:
        """The local derivative of an elementwise operation, element by element."""
        values = [mg.stop_gradient(Tensor(x.value)) for x in node.inputs]
        with np.errstate(all="ignore"):
            _, pull = mg.vjp(lambda v: node.op(*values[:index], v, *values[index + 1 :], **node.attrs), values[index])
            return pull(mg.ones(node.shape, dtype=node.dtype))[0]

    # ------------------------------------------------------------------------------------------------------ drawing
    def draw_failure(self) -> None:
        """Where a run ended in an error: a box for the operation that failed, after its inputs."""
        run = self.runs[-1]
        self.failed: Box | None = None
        if run.error is None or run.failed is None or len(self.runs) > 1:
            return
        node = run.failed
        message, whole = str(run.error).partition("\n")[0], f"{type(run.error).__name__}: {run.error}"
        self.failed = self.picture.box("op", [f"{node.op.name} failed", message], whole)
        for x in node.inputs:
            tail = self.box_of.get(id(found_in(run.graph, x)))
            if tail is not None:
                self.picture.arrow(tail, self.failed)

    def reserve(self) -> None:
        """Room in each box for the widest text that will stand in it, and for heat maps; the last texts stand there."""
        for f in self.frames:
            for box, v in f.get("start", [[f["box"], f["value"]]] if "value" in f else []):
                self.widest[box] = max(self.widest.get(box, 0.0), width(f"grad {self.values[v]['text']}", BODY))
                if self.values[v].get("map"):
                    self.mapped.add(box)
        last: dict[tuple[str, bool], str] = {}
        for f in self.frames:
            for box, v in f.get("start", [[f["box"], f["value"]]] if "value" in f else []):
                last[box, f["what"] in ("gradient", "accumulate")] = self.values[v]["text"]
        for box in self.picture.boxes:
            if box.id in self.widest and box.kind != "constant":  # its value is its title
                gradient = last.get((box.id, True))
                box.slots = (last.get((box.id, False), ""), f"grad {gradient}" if gradient is not None else "")
                w, h = MAPS if box.id in self.mapped else (0.0, 0.0)
                box.room = (max(self.widest[box.id], w), h)

    def static(self) -> str:
        """The drawing with the last values and gradients."""
        try:
            return fragment(self.picture, write_svg(self.picture, lay_out(self.picture, TIME_LIMIT)))
        except LayoutError as reason:
            why = f"{reason.what}. {reason.remedy or ''}"
            return f"<pre>{escape(layered_text(self.picture))}</pre><p>{escape(why)}</p>"

    def document(self) -> dict[str, Any]:
        run = self.runs[0]
        phases = [p for p in PHASES if any(f["phase"] == p for f in self.frames)]
        what = (f"{plural(len(run.graph.operations), 'operation')}, {plural(len(self.runs), 'round')}, "
                f"{plural(len(self.frames), 'step')}: {', '.join(phases)}.")  # fmt: skip
        error = self.runs[-1].error
        boxes = {
            b.id: {"title": b.lines[0], "kind": b.kind, "about": b.details, "leaf": all(not n.inputs for n in b.nodes)}
            for b in self.picture.boxes
        }
        return {
            "kind": "player",
            "title": f"Propagation through {run.graph.name}" if run.graph.name != "graph" else "Propagation",
            "what": what,
            "boxes": boxes,
            "frames": self.frames,
            "rounds": self.rounds,
            "values": self.values,
            "error": f"{type(error).__name__}: {error}" if error is not None else "",
            "notes": self.picture.notes,
        }
