"""Short rows side by side in the lanes of vectors: the same results, chosen where it pays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph import nn
from minigraph.compiler import find_compiler
from minigraph.compiler.lanes import FEW, LANES, Lanes

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")

CASES = {
    "softmax": lambda x: mg.softmax(x, axis=-1),
    "of columns": lambda x: mg.softmax(x, axis=0),
    "log-softmax": lambda x: mg.log_softmax(x, axis=-1) * 2.0,
    "norm": lambda x: x * mg.exp(-x.mean(axis=-1, keepdims=True)) / (x * x).sum(axis=-1, keepdims=True),
    "rows and totals": lambda x: ((y := mg.softmax(x, axis=-1)), y.sum(axis=0), (y * x).sum(), mg.exp(x).max(axis=-1)),
    "maximum of all": lambda x: (mg.softmax(x, axis=-1), mg.exp(x).max()),
    "kept": lambda x: mg.sin(x) / (mg.sin(x) ** 2).sum(axis=-1, keepdims=True),
}


def same(f, x, **tolerance):
    found, want = mg.compile(f, backend="c")(x), f(x)
    for a, b in zip(*[t if isinstance(t, tuple) else (t,) for t in (found, want)], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), **tolerance)


def is_in_lanes(f, *arguments):
    graph, _ = mg.compiler.optimize(mg.compile(f).trace(*arguments), mg.compiler.default_passes("c"))
    program = mg.compiler.NativeProgram(graph, products=True)
    return any(isinstance(s.detail, Lanes) for s in program.steps if s.kind == "kernel")


@pytest.mark.parametrize("name", CASES)
@given(st.integers(LANES, 3 * LANES), st.integers(2, FEW), st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_blocks_of_rows_give_the_same_as_row_by_row(name, rows, columns, seed):
    x = mg.tensor(np.random.default_rng(seed).normal(size=(rows, columns)))
    same(CASES[name], x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(65, 3), (2, 3, 64, 5), (70, 2, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_axes(shape, dtype):
    x = mg.tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))
    assert is_in_lanes(CASES["softmax"], x) == (shape != (70, 2, 4) or shape[0] * shape[1] >= LANES)
    for axis in (-1, (1, 2) if len(shape) == 3 else -1):
        same(lambda x: mg.exp(x) / mg.exp(x).sum(axis=axis, keepdims=True), x, rtol=1e-5)  # noqa: B023


def test_nan_and_infinity_stay_in_their_rows():
    x = np.random.default_rng(0).normal(size=(100, 4))
    x[3, 1], x[70, 2], x[71, 0] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        same(CASES["softmax"], mg.tensor(x), rtol=1e-12)


@pytest.mark.parametrize("rows", [64, 100, 20_000])
def test_cross_entropy_and_its_gradient(rows):
    """With labels, and with the bias gradient, which is added up over all rows in the same loops; by threads, too."""
    rng = np.random.default_rng(0)
    x, bias, y = mg.tensor(rng.normal(size=(rows, 10))), mg.tensor(rng.normal(size=10)), rng.integers(0, 10, rows)
    f = mg.value_and_grad(lambda b, x, y: nn.functional.cross_entropy(x + b, y))
    assert is_in_lanes(f, bias, x, mg.tensor(y))
    loss, gradient = mg.compile(f, backend="c")(bias, x, mg.tensor(y))
    want_loss, want_gradient = f(bias, x, mg.tensor(y))
    np.testing.assert_allclose(loss.item(), want_loss.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient.numpy(), want_gradient.numpy(), rtol=1e-9, atol=1e-13)
    with pytest.raises(mg.errors.MinigraphError, match="10"):
        mg.compile(f, backend="c")(bias, x, mg.tensor(np.where(np.arange(rows) == 3, 10, y)))


def test_only_short_rows_with_a_function_are_put_into_lanes():
    few, many, long = (mg.ones(s) for s in [(8, 10), (100, 10), (100, 100)])
    assert is_in_lanes(CASES["softmax"], many)
    assert not is_in_lanes(CASES["softmax"], few) and not is_in_lanes(CASES["softmax"], long)
    assert not is_in_lanes(lambda x: x / x.sum(axis=-1, keepdims=True), many)


def test_a_lane_that_is_forgotten_is_found(monkeypatch):
    """The last rows, which do not fill a block."""
    original = Lanes.open

    def careless(self, loop, pragma=""):
        original(self, loop, pragma)
        self.lines = [line.replace("stop - first;", "0;") for line in self.lines]
        if loop is self.outer[-1]:
            self.put(f"if (lanes < {LANES}) continue;")

    monkeypatch.setattr(Lanes, "open", careless)
    x = mg.tensor(np.random.default_rng(0).normal(size=(LANES + 7, 5)))
    with pytest.raises(AssertionError):
        same(CASES["softmax"], x, rtol=1e-10)
