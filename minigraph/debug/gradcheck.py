"""Gradients against finite differences.

The one independent witness of a gradient is the function itself, evaluated nearby: (f(x + e) - f(x - e)) / 2e in
float64 agrees with the derivative to nine digits or so. `gradcheck` compares every element of small inputs, and
random directions of large ones. Because a gradient is computed by functions that can be differentiated again, order
two is the same check applied to the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import tree as pytree
from ..errors import ArgumentError, MinigraphError
from ..op import Operand, modified
from ..tensor import Tensor, lift

__all__ = ["GradCheckError", "GradReport", "gradcheck"]

SMALL = 200  # inputs with at most this many elements are checked element by element


class GradCheckError(MinigraphError, AssertionError):
    """A gradient that finite differences contradict; the report is in `.report`."""

    report: GradReport


@dataclass
class Comparison:
    """What was found for one input: the place where analytic and numeric derivative differ most."""

    name: str
    checked: str
    place: str
    analytic: float
    numeric: float
    ok: bool

    def __str__(self) -> str:
        sign = "✓" if self.ok else "✗"
        return (
            f"{sign} {self.name:<12} {self.checked:<14} {self.place:<16} {self.analytic:>14.6g} {self.numeric:>14.6g}"
        )


@dataclass
class GradReport:
    """The comparisons of a `gradcheck`, one for each floating-point input; `ok` if all agree."""

    order: int
    comparisons: list[Comparison] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(c.ok for c in self.comparisons)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        head = f"  {'input':<12} {'checked':<14} {'worst at':<16} {'analytic':>14} {'numeric':>14}"
        title = f"gradcheck, order {self.order}: " + ("all agree" if self.ok else "they differ")
        return "\n".join([title, head, *map(str, self.comparisons)])


def gradcheck(
    fn: Callable,
    *inputs: Any,
    order: int = 1,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    directions: int = 3,
    seed: int = 0,
    raise_on_failure: bool = True,
) -> GradReport:
    """Compare the gradients of `fn` at `inputs` with central finite differences, in float64.

    The results of `fn` are weighted with random numbers and added, so that one backward pass sees every wrong element.

    Args:
        fn: takes the inputs, returns a tensor or a tree of tensors. It must not round to float32 itself.
        inputs: tensors, arrays, numbers or trees of them. Floating-point ones are converted to float64 and checked.
        order: 1 checks the gradient; 2 checks the gradient of the gradient, too.
        eps: the step, relative to elements larger than 1.
        rtol, atol: they agree if |analytic - numeric| <= atol + rtol * the larger of the two.
        directions: number of random directions for inputs with more than 200 elements.
        seed: of the random weights and directions.

    Returns:
        a `GradReport`, which prints as a table and is true if all is well.

    Raises:
        GradCheckError: they differ (unless `raise_on_failure=False`).

    >>> mg.debug.gradcheck(lambda x: mg.sin(x) * x, mg.tensor([0.5, 1.0]), order=2).ok
    True
    """
    if order not in (1, 2):
        raise ArgumentError("gradcheck: order", expected="1 or 2", actual=f"{order!r}")
    rng = np.random.default_rng(seed)
    leaves, structure = pytree.flatten(inputs)
    names = [p.removeprefix("inputs") for p in structure.paths("inputs")]
    points, spots = [], []
    constants: list[Any] = list(leaves)
    for i, x in enumerate(leaves):
        if isinstance(x, Operand | np.ndarray | np.floating | float):
            array = np.asarray(lift(x).numpy())
            if array.dtype.kind == "f":
                points.append(array.astype("f8"))
                spots.append(i)
            else:
                constants[i] = lift(x)
    if not points:
        raise ArgumentError("gradcheck: nothing to differentiate", expected="at least one floating-point input",
                            actual=f"{len(leaves)} inputs, none of them floating point")  # fmt: skip

    def flat(*tensors: Any) -> list[Tensor]:
        filled = list(constants)
        for i, t in zip(spots, tensors, strict=True):
            filled[i] = t
        results = pytree.flatten(fn(*pytree.unflatten(structure, filled)))[0]
        return [y for y in map(lift, results) if y.dtype.kind == "f"]

    report = GradReport(order)
    options = (rng, eps, rtol, atol, directions)
    report.comparisons += compare(flat, points, [names[i] for i in spots], *options)
    if order == 2 and report.ok:
        weights = [rng.standard_normal(y.shape) for y in evaluate(flat, points)]
        labels = [f"2nd {names[i]}" for i in spots] + [f"2nd g{k}" for k in range(len(weights))]
        report.comparisons += compare(gradient_of(flat, len(points)), [*points, *weights], labels, *options)
    if raise_on_failure and not report.ok:
        error = GradCheckError(repr(report), remedy="analytic is what the rules give, numeric what the values say")
        error.report = report
        raise error
    return report


def gradient_of(flat: Callable[..., list[Tensor]], n: int) -> Callable[..., list[Tensor]]:
    """The function (inputs, weights of the results) -> gradients of the inputs."""

    def gradient(*args: Tensor) -> list[Tensor]:
        from ..autodiff import vjp

        _, back = vjp(flat, *args[:n])
        return list(back(list(args[n:])))

    return gradient


def evaluate(flat: Callable[..., list[Tensor]], points: list[np.ndarray]) -> list[np.ndarray]:
    with modified(grad=True), np.errstate(all="ignore"):  # a gradient is a function, too, and needs its graph
        return [np.asarray(y.numpy()) for y in flat(*[Tensor(p) for p in points])]


def compare(
    flat: Callable[..., list[Tensor]],
    points: list[np.ndarray],
    names: list[str],
    rng: np.random.Generator,
    eps: float,
    rtol: float,
    atol: float,
    directions: int,
) -> list[Comparison]:
    """Analytic and numeric derivative of the weighted sum of the results of `flat`, for each input."""
    from ..autodiff import vjp

    results, back = vjp(flat, *[Tensor(p) for p in points])
    weights = [rng.standard_normal(y.shape) for y in results]
    gradients = [np.asarray(g.numpy()) for g in back([Tensor(w) for w in weights])]

    def slope(k: int, step: np.ndarray) -> float:
        sides = []
        for sign in (1.0, -1.0):
            moved = list(points)
            moved[k] = points[k] + sign * step
            sides.append(evaluate(flat, moved))
        with np.errstate(all="ignore"):
            # each result's difference first, then the sum: a large result does not drown the digits of a small one
            parts = [np.sum(w * np.where(p == m, 0.0, p - m)) for w, p, m in zip(weights, *sides, strict=True)]
        return float(np.sum(parts)) / 2

    found = []
    for k, (x, g, name) in enumerate(zip(points, gradients, names, strict=True)):
        pairs: list[tuple[str, float, float]] = []
        if x.size <= SMALL:
            for index in np.ndindex(x.shape):
                size = eps * max(1.0, abs(float(x[index])))
                step = np.zeros_like(x)
                step[index] = size
                pairs.append((str(list(index)) if index else "", float(g[index]), slope(k, step) / size))
            checked = f"{x.size} element{'s' if x.size != 1 else ''}"
        else:
            for number in range(directions):
                v = rng.standard_normal(x.shape)
                v /= np.sqrt(np.mean(v * v) * x.size)
                pairs.append((f"direction {number}", float(np.sum(v * g)), slope(k, eps * v) / eps))
            checked = f"{directions} directions"
        found.append(worst(name, checked, pairs, rtol, atol))
    return found


def worst(name: str, checked: str, pairs: list[tuple[str, float, float]], rtol: float, atol: float) -> Comparison:
    """The comparison that comes out worst, in units of what is tolerated."""
    place, analytic, numeric, excess = "", 0.0, 0.0, 0.0
    for where, a, n in pairs:
        error = abs(a - n) / (atol + rtol * max(abs(a), abs(n)))
        if not error <= excess:  # also when it is NaN
            place, analytic, numeric, excess = where, a, n, error
            if error != error:
                break
    return Comparison(name, checked, place, analytic, numeric, excess <= 1)
