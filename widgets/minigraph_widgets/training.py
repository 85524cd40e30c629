"""Training, watched while it runs: curves, time left, and the gradients, weights and activations of layers.

    with Training(total=1000) as view:
        for step in range(1000):
            view.log(step, loss=train_step(x, y))

`log` only puts numbers on a list. Some ten times a second the list is worked off and what is new goes to the browser;
that waits longer where it takes longer, so that it costs a few per cent of the time, whatever a step takes. A curve has
2000 points at most: when it gets more, each two become one, with their mean, and the smallest and largest value as a
band. What is not a number leaves a gap and a mark.

The output of the cell is written again from time to time and at the end, whatever ended it; so the last state is in the
saved notebook and needs no kernel.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import traitlets

import minigraph as mg
from minigraph.errors import ArgumentError
from minigraph.interrupt import held
from minigraph.tensor import Tensor

from .charts import COLOURS, DASHES, Drawing, Frame, linear, ticks
from .values import sample
from .view import View, carriers

POINTS = 2000  # of a curve
MARKS = 50  # that are kept of what is not a number; all are counted
PERIOD = 0.1  # seconds between two messages to the browser
FIRST, LONGEST = 1.0, 300.0  # seconds until the output is written again, at first and at most
SHARE = 0.02  # of the time, for messages and for looking at layers each
SAMPLES = 32  # of the layers that are kept
LAYERS = 40  # that are looked at
ELEMENTS = 10_000  # of an array that statistics look at
BINS = 16


def number(x: float) -> float | None:
    """Six digits, as JSON; None for what is not a number."""
    return float(f"{x:.6g}") if math.isfinite(x) else None


class Curve:
    """One metric. `points`: [step, mean, least, most] of `stride` values each, or [step, value].
    A point of which a value is not a number is a gap: [step, None]."""

    def __init__(self, name: str):
        self.name, self.stride = name, 1
        self.points: list[list[Any]] = []
        self.marks: list[list[Any]] = []  # [step, "nan" or "inf"]
        self.bad = 0  # how many values were not finite
        self.last: list[Any] = []
        self.rest: list[tuple[int, float]] = []  # values that do not make a point yet
        self.sent = 0  # points that the browser has; -1: it has others

    def add(self, steps: list[int], values: list[float]) -> None:
        """Take values in."""
        found = list(zip(steps, values, strict=True))
        for step, v in found:
            if not math.isfinite(v):
                self.bad += 1
                if len(self.marks) < MARKS:
                    self.marks.append([step, "nan" if math.isnan(v) else "inf"])
        self.last = [found[-1][0], number(found[-1][1])]
        self.rest += found
        whole = len(self.rest) // self.stride * self.stride
        self.points += [self.point(self.rest[k : k + self.stride]) for k in range(0, whole, self.stride)]
        self.rest = self.rest[whole:]
        while len(self.points) > POINTS:
            self.halve()

    def point(self, values: list[tuple[int, float]]) -> list[Any]:
        if len(values) == 1:
            return [values[0][0], number(values[0][1])]
        numbers = [v for _, v in values]
        if not all(map(math.isfinite, numbers)):
            return [values[-1][0], None]
        return [values[-1][0], *map(number, (sum(numbers) / len(numbers), min(numbers), max(numbers)))]

    def halve(self) -> None:
        """Make one point of each two."""
        odd = self.points.pop() if len(self.points) % 2 else None
        self.points = [merged(a, b) for a, b in zip(self.points[::2], self.points[1::2], strict=True)]
        if odd is not None:
            self.points.append(odd)
        self.stride *= 2
        self.sent = -1

    def shown(self, points: list[list[Any]]) -> dict[str, Any]:
        """The curve with these points, and what is not a point yet, as data."""
        more = [self.point(self.rest)] if self.rest else []
        return {"name": self.name, "stride": self.stride, "points": points, "rest": more, "marks": self.marks,
                "bad": self.bad, "last": self.last}  # fmt: skip


def merged(a: list[Any], b: list[Any]) -> list[Any]:
    """Two points as one."""
    if a[1] is None or b[1] is None:
        return [b[0], None]
    return [b[0], number((a[1] + b[1]) / 2), min(*a[1:], *b[1:]), max(*a[1:], *b[1:])]


class Training(View):
    """Shows a training run while it goes on: a context manager; log to it in each step.

    Args:
        total: the number of steps, for the time that is left; unless it is known. title: what stands above.

    Attributes:
        window: the steps that the reader has zoomed to, empty for all. sample: which look at the layers is shown.

    >>> from minigraph_widgets import Training
    >>> with Training(total=3) as view:
    ...     for step in range(3):
    ...         view.log(step, loss=1.0 / (step + 1), accuracy=step / 2)
    >>> view
    Training: 3 of 3 steps: loss 0.333333, accuracy 1.
    >>> view.document["series"][0]["points"]
    [[0, 1.0], [1, 0.5], [2, 0.333333]]
    """

    window = traitlets.List(traitlets.Float()).tag(sync=True, reader=True)
    sample = traitlets.Int(-1).tag(sync=True, reader=True)

    def __init__(self, total: int | None = None, title: str = "Training"):
        if total is not None and (not isinstance(total, int) or total < 1):
            raise ArgumentError("Training: total", expected="the number of steps, at least 1", actual=repr(total))
        self._total, self._title = total, title
        self._curves: dict[str, Curve] = {}
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._step, self._done, self._state = -1, 0, "running"
        self._start = self._end = perf_counter()
        self._due, self._save_due, self._save_after = self._start, self._start + FIRST, FIRST
        self._layers: list[Layer] = []
        self._looks: list[dict[str, Any]] = []
        self._thinned = 1  # of so many looks, one is kept
        self._looked = 0
        self._armed, self._every, self._look_due = False, 0, 0.0
        self._shown: Any = None  # whether the output that goes along carries the script; None: there is none
        super().__init__(self._document(), "")

    # ---------------------------------------------------------------------------------------------------- the user's
    def log(self, step: int, **metrics: Any) -> None:
        """Write down metrics of a step: numbers, or tensors and arrays with one element.

        Args:
            step: its number; it never goes back. **metrics: by name. What is called `val_loss` or `train_loss` is drawn
                together with `loss`.

        Raises:
            ArgumentError: the step goes back, or a metric is not a number.
        """
        if step < self._step:
            raise ArgumentError("Training.log: steps go forward", expected=f"at least {self._step}", actual=f"{step}",
                                remedy="count steps over all epochs, or start another Training")  # fmt: skip
        self._done += step > self._step
        self._step = step
        for name, v in metrics.items():
            if type(v) is Tensor:
                metrics[name] = v.value  # the number, without the history that made it; a GPU may still be at it
            elif type(v) is not float:
                metrics[name] = as_number(name, step, v)
        self._pending.append((step, metrics))
        if self._armed:
            self._look(step)
        elif self._every and (self._done + 1) % self._every == 0:
            self._armed = True
        if perf_counter() >= self._due:
            self._flush()

    def watch(self, model: Any, every: int | None = None) -> None:
        """Look at the layers of a model now and then: size of gradients, histograms of weights and activations.

        Call it before the first step. Activations are seen where the model runs dynamically, not inside of a compiled
        function; gradients are seen as they are when `log` is called.

        Args:
            model: a module. every: look each time after so many steps; unless given, as often as 2 % of the time
                allows.

        Raises:
            ArgumentError: `model` is no module, `every` is not positive.
        """
        if not isinstance(model, mg.nn.Module):
            raise ArgumentError("Training.watch: model", expected="a module", actual=type(model).__name__)
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ArgumentError("Training.watch: every", expected="a number of steps, at least 1", actual=repr(every))
        found = [(path or type(m).__name__, m) for path, m in model.named_modules() if not list(m.children())]
        self._layers = [Layer(path, m, self) for path, m in found[:LAYERS]]
        self._hidden = len(found) - len(self._layers)
        self._every, self._armed = every or 0, True

    def __enter__(self) -> Training:
        self._show()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with held():
            self._state = "ended" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed"
            if self._state == "failed":
                self._state += f": {kind.__name__}: {error}".partition("\n")[0]
            for layer in self._layers:
                layer.handle.remove()
            self._flush(save=True)

    # ------------------------------------------------------------------------------------------------------- the work
    def _flush(self, save: bool = False) -> None:
        """Work off the list, and tell the browser what is new."""
        with held():
            now = self._end = perf_counter()
            pending, self._pending = self._pending, []
            by_name: dict[str, tuple[list[int], list[float]]] = {}
            for step, metrics in pending:
                for name, v in metrics.items():
                    steps, values = by_name.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(v if type(v) is float else as_number(name, step, v))
            for name, (steps, values) in by_name.items():
                self._curves.setdefault(name, Curve(name)).add(steps, values)
            if save or now >= self._save_due:
                self._save()
                self._save_after = min(2 * self._save_after, LONGEST)
                self._save_due = now + self._save_after
            else:
                self.send(self._news())
            end = perf_counter()
            self._due = end + max(PERIOD, (end - now) / SHARE)
            if self._layers and not self._every and end >= self._look_due:
                self._armed = True

    def _news(self) -> dict[str, Any]:
        """What the browser does not have: new points; all of them, if they have been thinned out."""
        told = []
        for c in self._curves.values():
            told.append(c.shown(c.points[max(c.sent, 0) :]) | {"all": c.sent < 0})
            c.sent = len(c.points)
        return {**self._progress(), "series": told, "samples": self._looks[-1:], "count": len(self._looks)}

    def _save(self) -> None:
        """Bring document, picture and output up to date."""
        self.document = self._document()
        self.picture = static(self.document)
        for c in self._curves.values():
            c.sent = len(c.points)
        if self._shown is not None:
            from IPython.display import update_display

            update_display(self._bundle(), raw=True, display_id=self.name)

    def _show(self) -> None:
        """The output of the cell, where there are cells."""
        try:
            from IPython import get_ipython
        except ImportError:
            return
        if get_ipython() is None:
            return
        from IPython.display import display

        self._shown = carriers.is_here()
        display(self._bundle(), raw=True, display_id=self.name)

    def _bundle(self) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": super().fragment(self._shown)}

    def fragment(self, carry: bool) -> str:
        """The view as HTML, with everything that has been logged so far."""
        if self._pending:
            self._flush(save=True)
        return super().fragment(carry)

    def __repr__(self) -> str:
        if self._pending:
            self._flush(save=True)
        return super().__repr__()

    def _progress(self) -> dict[str, Any]:
        seconds = self._end - self._start
        running = self._state == "running"
        return {"what": self._what(), "done": self._done, "total": self._total, "state": self._state,
                "seconds": float(f"{seconds:.4g}") if running else int(seconds)}  # fmt: skip

    def _what(self) -> str:
        steps = f"{self._done:,} of {self._total:,} steps" if self._total else f"{self._done:,} steps"
        last = ", ".join(f"{c.name} {'not finite' if c.last[1] is None else f'{c.last[1]:g}'}"
                         for c in self._curves.values())  # fmt: skip
        how = "" if self._state in ("running", "ended") else f" ({self._state})"
        return f"{steps}{how}: {last}." if last else f"{steps}{how}: nothing is logged yet."

    def _document(self) -> dict[str, Any]:
        notes = []
        if self._layers and self._hidden > 0:
            notes.append(f"The first {LAYERS} layers are watched, and {self._hidden} more are not.")
        return {
            "kind": "training", "title": self._title, **self._progress(),
            "series": [c.shown(list(c.points)) for c in self._curves.values()],
            "layers": [[layer.path, layer.kind] for layer in self._layers],
            "samples": list(self._looks), "notes": notes,
        }  # fmt: skip

    def _look(self, step: int) -> None:
        """Look at the layers."""
        start = perf_counter()
        self._armed = False
        self._looked += 1
        if (self._looked - 1) % self._thinned == 0:
            self._looks.append({"step": step, "layers": [layer.look() for layer in self._layers]})
            if len(self._looks) > SAMPLES:
                self._looks = self._looks[::2]
                self._thinned *= 2
        end = perf_counter()
        spent = end - start + sum(layer.spent for layer in self._layers)
        self._look_due = end + spent / SHARE


def as_number(name: str, step: int, v: Any) -> float:
    """A metric as a float."""
    try:
        v = getattr(v, "value", v)  # of a variable
        return float(v.item() if hasattr(v, "item") else v)
    except (TypeError, ValueError) as error:
        shape = getattr(v, "shape", None)
        raise ArgumentError(
            f"Training.log: {name} in step {step}", expected="a number",
            actual=type(v).__name__ if shape is None else f"an array of shape {tuple(shape)}",
            remedy=f"log its mean: {name}={name}.mean()" if shape else "",
        ) from error  # fmt: skip


class Layer:
    """A module without modules below it: its output is looked at while it runs, its parameters afterwards."""

    def __init__(self, path: str, module: Any, view: Training):
        self.path, self.kind, self.view = path, type(module).__name__, view
        own = [p for _, p in module.named_parameters()]
        self.parameter = max(own, key=lambda p: p.size, default=None)
        self.activation: list[Any] | None = None
        self.spent = 0.0
        self.handle = module.register_forward_hook(self.seen)

    def seen(self, module: Any, args: Any, result: Any) -> None:
        """The module has run."""
        if not self.view._armed or not isinstance(result, Tensor) or result.is_symbolic:
            return
        start = perf_counter()
        self.activation = brief(result.value)
        self.spent = perf_counter() - start

    def look(self) -> dict[str, Any]:
        """Weights, gradients and activations in brief; what there is not is left out."""
        found: dict[str, Any] = {}
        if self.parameter is not None:
            found["weight"] = brief(self.parameter.value)
            if self.parameter.grad is not None:
                found["gradient"] = brief(self.parameter.grad.value)
        if self.activation is not None:
            found["activation"], self.activation = self.activation, None
        return {k: v for k, v in found.items() if v is not None}


def brief(array: Any) -> list[Any] | None:
    """[least, most, root of the mean square, share of zeros, how many are not finite, histogram] of a sample.

    >>> from minigraph_widgets.training import brief
    >>> brief(np.array([0.0, 3.0, -4.0, np.nan]))[:5]
    [-4.0, 3.0, 2.88675, 0.25, 1]
    """
    flat, _ = sample(array, ELEMENTS)
    if not flat.size or flat.dtype.kind != "f":
        return None
    flat = flat.astype(np.float64)
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return [None, None, None, 0.0, int(flat.size), []]
    lo, hi = float(finite.min()), float(finite.max())
    bins = np.histogram(finite, BINS, (lo, hi))[0].tolist() if math.isfinite(hi - lo) and hi > lo else []
    top = max(abs(lo), abs(hi)) or 1.0  # so that squares do not overflow
    rms = top * float(np.sqrt(np.mean((finite / top) ** 2)))
    zeros = float(np.mean(flat == 0))
    return [number(lo), number(hi), number(rms), number(zeros), int(flat.size - finite.size), bins]


# ------------------------------------------------------------------------------------------- where no script runs


def together(name: str) -> str:
    """What a metric is drawn with: `val_loss` and `train/loss` with `loss`."""
    for start in ("train", "val", "valid", "validation", "test"):
        for sign in "_/.":
            if name.startswith(start + sign):
                return name[len(start) + 1 :]
    return name


def static(doc: dict[str, Any]) -> str:
    """The curves, a chart for each group of metrics."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for c in doc["series"]:
        groups.setdefault(together(c["name"]), []).append(c)
    return "\n".join(chart(name, curves) for name, curves in groups.items())


def chart(name: str, curves: list[dict[str, Any]]) -> str:
    d = Drawing(900, 300, f"{name} by step")
    f = Frame(80, 30, 880, 240)
    points = {c["name"]: [*c["points"], *c["rest"]] for c in curves}
    values = [v for p in points.values() for point in p for v in point[1:] if v is not None]
    steps = [point[0] for p in points.values() for point in p]
    ys, xs = (min(values, default=0), max(values, default=1)), (min(steps, default=0), max(steps, default=1))
    x, y = linear(xs, (f.left, f.right)), linear(ys, (f.bottom, f.top))
    d.y_axis(f, y, ticks(*ys, 4), lambda v: f"{v:.4g}", name)
    d.x_axis(f, x, [t for t in ticks(*xs, 8) if t == int(t)], lambda v: f"{v:,.0f}", "step")
    for k, c in enumerate(curves):
        colour, dash = COLOURS[k % 6], DASHES[k % 6]
        for run in runs(points[c["name"]]):
            d.path([(x(p[0]), y(p[1])) for p in run], colour, stroke_width=2, stroke_dasharray=dash)
            if len(run) == 1:
                d.add("circle", cx=x(run[0][0]), cy=y(run[0][1]), r=3, fill=colour)
        for step, kind in c["marks"]:
            d.text(x(step), f.top + 14, "\N{MULTIPLICATION SIGN}", "middle", font_weight="700")
            d.add("line", title=f"{c['name']} is {kind} in step {step}", x1=x(step), y1=f.top, x2=x(step),
                  y2=f.bottom, stroke="currentColor", stroke_dasharray="1 4")  # fmt: skip
        if len(curves) > 1:
            d.line(f.left + 150 * k, f.bottom + 36, f.left + 150 * k + 30, f.bottom + 36, colour, stroke_width=2,
                   stroke_dasharray=dash)  # fmt: skip
            d.text(f.left + 150 * k + 36, f.bottom + 41, c["name"])
    return d.svg()


def runs(points: list[list[Any]]) -> list[list[list[Any]]]:
    """The points between gaps."""
    found: list[list[list[Any]]] = [[]]
    for p in points:
        if p[1] is None:
            found.append([])
        else:
            found[-1].append(p)
    return [r for r in found if r]
