"""Expansion: operations that are several steps of arithmetic become those steps.

In dynamic mode one fused operation is faster than its parts; a compiler that fuses by itself sees more in the parts.
The table `EXPANSIONS` says what each is made of. Run it before `fuse`. The results may differ from the operation's own
code in the last digits, where the order of the sums differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph import Graph, substitute
from ...op import Op, Spec
from ...tensor import Tensor, scalar
from ..loops import is_item
from .algebra import made
from .change import Change


def _check_run(xp: Any, x: Any, *, low: int, high: int) -> Any:
    return x


def _check_infer(x: Any, *, low: int, high: int) -> Any:
    return x


COPY = Op("copy", run=lambda xp, x: xp.array(x, copy=True), infer=lambda x: x, expression="x", elementwise=True)
IN_RANGE = Op(  # labels and indices that native code has to check, because a wrong one would read foreign memory
    "in_range", run=_check_run, infer=_check_infer, expression="in_range(x, low, high)", elementwise=True
)


def _assemble_run(xp: Any, *blocks: Any, shape: Sequence[int], keys: Sequence[Any], fill: float = 0) -> Any:
    y = xp.full(shape, fill, dtype=blocks[0].dtype)
    for block, key in zip(blocks, keys, strict=True):
        y[key.items] = block
    return y


def _assemble_infer(*blocks: Spec, shape: Sequence[int], keys: Sequence[Any], fill: float = 0) -> Spec:
    return Spec(shape, blocks[0].dtype, blocks[0].device)


# several blocks, each put where its key says, and a constant elsewhere: see `layout` and `rearrange`
ASSEMBLE = Op("assemble", run=_assemble_run, infer=_assemble_infer)


class Maker:
    """Makes nodes: `m.add(x, 1.0)` is a node of operation `add` in place of the one that is being expanded."""

    def __init__(self, like: Tensor):
        self.like = like

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        def make(*inputs: Any, **attrs: Any) -> Tensor:
            dtype = next((x.dtype for x in inputs if isinstance(x, Tensor)), None)
            lifted = [x if isinstance(x, Tensor) else scalar(x, dtype or np.dtype("f4")) for x in inputs]
            return made(name, *lifted, like=self.like, **attrs)

        return make


Expansion = Callable[..., Any]
EXPANSIONS: dict[str, Expansion] = {}


def expands(*names: str) -> Callable[[Expansion], Expansion]:
    def enter(f: Expansion) -> Expansion:
        for name in names:
            EXPANSIONS[name] = f
        return f

    return enter


def total(m: Maker, losses: Tensor, reduction: str) -> Tensor:
    """The sum or mean over all elements, or the elements."""
    if reduction == "none":
        return losses
    found = m.sum(losses, axis=tuple(range(losses.ndim)), keepdims=False)
    return m.divide(found, float(losses.size)) if reduction == "mean" else found


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front: None means all."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


@expands("linear")
def linear(m: Maker, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """linear(x, w, b) -> x @ w.T + b"""
    rows = x
    if x.ndim > 2:
        rows = m.reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
    y = m.matmul(rows, m.matrix_transpose(weight))
    if x.ndim > 2:
        y = m.reshape(y, shape=(*x.shape[:-1], weight.shape[0]))
    return y if bias is None else m.add(y, bias)


@expands("einsum")
def einsum(m: Maker, *operands: Tensor, subscripts: str) -> Tensor | None:
    """einsum(x, y) -> sums, permutations and matrix products"""
    dtype = m.like.dtype
    if dtype.kind != "f" or dtype.itemsize < 4 or len(operands) > 2:
        return None
    left, output = subscripts.split("->")
    known = [list(labels) for labels in left.split(",")]
    given = [x if x.dtype == dtype else m.astype(x, dtype=dtype) for x in operands]
    for k, labels in enumerate(known):  # an index that only one operand has, and the output lacks
        others = set(output).union(*known[:k], *known[k + 1 :])
        gone = tuple([d for d, label in enumerate(labels) if label not in others])
        if gone:
            given[k] = m.sum(given[k], axis=gone, keepdims=False)
            known[k] = [label for label in labels if label in others]
    if len(given) == 1:
        return arranged(m, given[0], known[0], list(output))
    a, b = known
    sizes = {label: n for x, labels in zip(given, known, strict=True) for label, n in zip(labels, x.shape, strict=True)}
    batch, folded = [i for i in a if i in b and i in output], [i for i in a if i in b and i not in output]
    rows, columns = [i for i in a if i not in b], [i for i in b if i not in a]
    if not folded:  # a product of elements: each operand with axes of size 1 where it lacks an index
        x, y = (
            m.reshape(arranged(m, x, labels, [i for i in output if i in labels]),
                      shape=tuple([sizes[i] if i in labels else 1 for i in output]))
            for x, labels in zip(given, known, strict=True)
        )  # fmt: skip
        return m.multiply(x, y)
    before = tuple([sizes[i] for i in batch])
    high, deep, wide = (math.prod(sizes[i] for i in labels) for labels in (rows, folded, columns))
    x = m.reshape(arranged(m, given[0], a, [*batch, *rows, *folded]), shape=(*before, high, deep))
    y = m.reshape(arranged(m, given[1], b, [*batch, *folded, *columns]), shape=(*before, deep, wide))
    shape = tuple([sizes[i] for i in [*batch, *rows, *columns]])
    return arranged(m, m.reshape(m.matmul(x, y), shape=shape), [*batch, *rows, *columns], list(output))


def arranged(m: Maker, x: Tensor, labels: list[str], wanted: list[str]) -> Tensor:
    """The axes of a tensor, each of which has a label, in another order."""
    return x if labels == wanted else m.permute_dims(x, axes=tuple([labels.index(i) for i in wanted]))


@expands("mean")
def mean(m: Maker, x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor | None:
    """mean(x) -> sum(x) / n"""
    if x.dtype.kind != "f":
        x = m.astype(x, dtype=m.like.dtype)
    axes = axes_of(axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes)
    return m.divide(m.sum(x, axis=axes, keepdims=keepdims), float(n))


@expands("var")
def var(m: Maker, x: Tensor, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor | None:
    """var(x) -> sum((x - mean)**2) / (n - correction)"""
    if x.dtype.kind != "f":
        return None
    axes = axes_of(axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes)
    if n - correction <= 0:
        return None
    centred = m.subtract(x, m.divide(m.sum(x, axis=axes, keepdims=True), float(n)))
    return m.divide(m.sum(m.multiply(centred, centred), axis=axes, keepdims=keepdims), float(n - correction))


@expands("std")
def std(m: Maker, x: Tensor, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor | None:
    """std(x) -> sqrt(var(x))"""
    squared = var(m, x, axis=axis, correction=correction, keepdims=keepdims)
    return None if squared is None else m.sqrt(squared)


@expands("logaddexp")
def logaddexp(m: Maker, a: Tensor, b: Tensor) -> Tensor:
    """logaddexp(a, b) -> where(a == b, a + log(2), maximum(a, b) + log1p(exp(-abs(a - b))))"""
    a, b = (x if x.dtype == m.like.dtype else m.astype(x, dtype=m.like.dtype) for x in (a, b))
    apart = m.add(m.maximum(a, b), m.log1p(m.exp(m.negative(m.abs(m.subtract(a, b))))))
    return m.where(m.equal(a, b), m.add(a, math.log(2)), apart)


@expands("softmax")
def softmax(m: Maker, x: Tensor, axis: int = -1) -> Tensor:
    """softmax(x) -> exp(x - max) / sum(exp(x - max))"""
    axes = (axis % x.ndim,)
    e = m.exp(m.subtract(x, m.max(x, axis=axes, keepdims=True)))
    return m.divide(e, m.sum(e, axis=axes, keepdims=True))


@expands("log_softmax")
def log_softmax(m: Maker, x: Tensor, axis: int = -1) -> Tensor:
    """log_softmax(x) -> (x - max) - log(sum(exp(x - max)))"""
    axes = (axis % x.ndim,)
    z = m.subtract(x, m.max(x, axis=axes, keepdims=True))
    return m.subtract(z, m.log(m.sum(m.exp(z), axis=axes, keepdims=True)))


@expands("logsumexp")
def logsumexp(m: Maker, x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """logsumexp(x) -> log(sum(exp(x - max))) + max, where max is 0 unless it is finite"""
    axes = axes_of(axis, x.ndim)
    top = m.max(x, axis=axes, keepdims=True)
    top = m.where(m.isfinite(top), top, scalar(0.0, x.dtype))
    found = m.add(m.log(m.sum(m.exp(m.subtract(x, top)), axis=axes, keepdims=True)), top)
    if keepdims:
        return found
    return m.reshape(found, shape=tuple(s for a, s in enumerate(x.shape) if a not in axes))


@expands("random_permutation")
def random_permutation(m: Maker, state: Tensor, n: int) -> Tensor:
    """random_permutation(n) -> argsort(random_bits(n))"""
    return m.argsort(m.random_bits(state, shape=(n,), dtype=np.dtype("uint64")), axis=0)


def class_numbers(labels: Tensor, classes: int) -> Tensor:
    """0, 1, ... to compare labels with, in a type that holds them all."""
    return Tensor(np.arange(classes, dtype=np.promote_types(labels.dtype, np.min_scalar_type(classes))))


@expands("cross_entropy")
def cross_entropy(m: Maker, logits: Tensor, labels: Tensor, reduction: str = "mean") -> tuple[Tensor, Tensor]:
    """cross_entropy(x, y) -> logsumexp(x) - x[y]"""
    n, classes = logits.shape
    column = m.reshape(m.in_range(labels, low=0, high=classes), shape=(n, 1))
    top = m.max(logits, axis=(1,), keepdims=True)
    normaliser = m.add(m.log(m.sum(m.exp(m.subtract(logits, top)), axis=(1,), keepdims=True)), top)
    chosen = m.equal(column, class_numbers(labels, classes))
    picked = m.sum(m.where(chosen, logits, scalar(0.0, logits.dtype)), axis=(1,), keepdims=True)
    losses = m.reshape(m.subtract(normaliser, picked), shape=(n,))
    return total(m, losses, reduction), m.reshape(normaliser, shape=(n,))


@expands("nll_loss")
def nll_loss(m: Maker, log_probabilities: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """nll_loss(x, y) -> -x[y]"""
    n, classes = log_probabilities.shape
    column = m.reshape(m.in_range(labels, low=0, high=classes), shape=(n, 1))
    chosen = m.equal(column, class_numbers(labels, classes))
    picked = m.sum(m.where(chosen, log_probabilities, scalar(0.0, log_probabilities.dtype)), axis=(1,), keepdims=False)
    return total(m, m.negative(picked), reduction)


@expands("binary_cross_entropy")
def binary_cross_entropy(m: Maker, p: Tensor, t: Tensor, reduction: str = "mean") -> Tensor:
    """binary_cross_entropy(p, t) -> mean(t * -log(p) + (1 - t) * -log1p(-p)), each logarithm at least -100"""
    facts = np.finfo(p.dtype)
    p = m.in_range(p, low=0, high=float(np.nextafter(p.dtype.type(1), 2)))
    yes = m.minimum(m.negative(m.log(m.maximum(p, facts.smallest_subnormal))), 100.0)
    no = m.negative(m.log1p(m.negative(m.minimum(p, 1 - facts.epsneg))))
    no = m.where(m.less(p, 1.0), no, scalar(100.0, p.dtype))
    return total(m, m.add(m.multiply(t, yes), m.multiply(m.subtract(1.0, t), no)), reduction)


@expands("mse_loss")
def mse_loss(m: Maker, a: Tensor, b: Tensor, reduction: str = "mean") -> Tensor:
    """mse_loss(a, b) -> mean((a - b)**2)"""
    e = m.subtract(a, b)
    return total(m, m.multiply(e, e), reduction)


@expands("l1_loss")
def l1_loss(m: Maker, a: Tensor, b: Tensor, reduction: str = "mean") -> Tensor:
    """l1_loss(a, b) -> mean(abs(a - b))"""
    return total(m, m.abs(m.subtract(a, b)), reduction)


@expands("huber_loss")
def huber_loss(m: Maker, a: Tensor, b: Tensor, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """huber_loss(a, b) -> mean(c * (e - c / 2)), e = a - b, c = clip(e, -delta, delta)"""
    e = m.subtract(a, b)
    c = m.maximum(m.minimum(e, delta), -delta)
    return total(m, m.multiply(c, m.subtract(e, m.multiply(c, 0.5))), reduction)


@expands("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(m: Maker, x: Tensor, t: Tensor, reduction: str = "mean") -> Tensor:
    """binary_cross_entropy_with_logits(x, t) -> mean(max(x, 0) - x * t + log1p(exp(-abs(x))))"""
    likely = m.subtract(m.maximum(x, 0.0), m.multiply(x, t))
    return total(m, m.add(likely, m.log1p(m.exp(m.negative(m.abs(x))))), reduction)


def expand(graph: Graph) -> Graph:
    """Replace composite operations by the arithmetic that they consist of.

    >>> f = mg.compile(lambda x: mg.mean(x), passes=[mg.compiler.passes.expand])
    >>> f(mg.tensor([1.0, 3.0]))
    tensor(2., dtype=float32)
    >>> f.passes[0].changes
    (mean -> divide   (mean(x) -> sum(x) / n),)
    """
    changes: list[Change] = []
    several: dict[int, Sequence[Tensor]] = {}

    def visit(n: Tensor) -> Tensor:
        if is_item(n) and id(n.inputs[0]) in several:
            return several[id(n.inputs[0])][n.attrs["index"]]
        rule = EXPANSIONS.get(n.op.name)
        mixed = {x.dtype for x in n.inputs if type(x.value) is not tuple and x.dtype.kind == "f"}
        if rule is None or len(mixed) > 1 or n.device.kind != "cpu":
            return n
        new = rule(Maker(n), *n.inputs, **n.attrs)
        if new is None:
            return n
        changes.append(Change(str(rule.__doc__), (n,), new if isinstance(new, tuple) else (new,)))
        if isinstance(new, tuple):
            several[id(n)] = new
            return n  # nothing uses it any more; the next elimination of dead code removes it
        return new

    result = substitute(graph, visit)
    result.changes = tuple(changes)
    return result
