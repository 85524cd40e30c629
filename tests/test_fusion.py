"""What becomes one kernel, in how many loops, and what must not; with the values of NumPy, computed by formula."""

import re

import numpy as np
import pytest
from random_programs import differences, program

import minigraph as mg
from minigraph import nn, optim
from minigraph.compiler import find_compiler, loops

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
X = np.random.default_rng(0).normal(size=(6, 70)).astype("float32")
W = np.random.default_rng(1).normal(size=(70, 9)).astype("float32")
LABELS = np.array([0, 69, 3, 3, 12, 40])


def compiled(f, *arrays, want=None):
    """A function in C that has run; its results are compared with those wanted."""
    fast = mg.compile(f, backend="c")
    found = fast(*map(mg.tensor, arrays))
    if want is not None:
        np.testing.assert_allclose(found.numpy(), want, rtol=2e-5, atol=2e-5)
    return fast


def steps(fast):
    return fast.last.program.native.program.steps


def kinds(fast):
    return [s.kind if s.kind != "statement" else s.node.op.name for s in steps(fast)]


def phases(step):
    """How many inner loops go over a row."""
    return len(re.findall(r"for \(long j ", step.detail.text))


def shifted(x):
    e = np.exp(x.astype("float64") - x.max(axis=1, keepdims=True))
    return e, e.sum(axis=1, keepdims=True)


def test_a_chain_is_one_kernel():
    def f(x):
        return mg.tanh(x * 2.0 + 1.0) * mg.sin(-x)

    fast = compiled(f, X, want=np.tanh(X * 2 + 1) * np.sin(-X))
    assert kinds(fast) == ["kernel"] and "for (long j" not in steps(fast)[0].detail.text


E_, S_ = shifted(X)
D_ = X - X.mean(axis=1, keepdims=True)
ROWS = {
    "softmax": (lambda x: mg.softmax(x), E_ / S_),
    "logsumexp": (lambda x: mg.logsumexp(x, axis=1), np.log(S_[:, 0]) + X.max(axis=1)),
    "layer norm": (
        lambda x: nn.functional.layer_norm(x, (70,), eps=1e-5),
        D_ / np.sqrt((D_**2).mean(axis=1, keepdims=True) + 1e-5),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_one_kernel(name):
    f, want = ROWS[name]
    assert kinds(compiled(f, X, want=want)) == ["kernel"]


def test_softmax_has_three_loops_and_a_quotient_two():
    """As `render` and the notebook of the compiler say."""
    assert phases(steps(compiled(ROWS["softmax"][0], X))[0]) == 3
    quotient = compiled(lambda x: x / x.sum(axis=1, keepdims=True), X, want=X / X.sum(axis=1, keepdims=True))
    assert phases(steps(quotient)[0]) == 2


def test_a_product_with_bias_and_activation_is_a_product_and_a_kernel():
    fast = compiled(lambda x, w: mg.tanh(x @ w + 0.5), X, W, want=np.tanh(X.astype("float64") @ W + 0.5))
    assert kinds(fast) == ["matmul", "kernel"]


def test_a_reduction_takes_its_producers_and_consumers_along():
    fast = compiled(lambda x: mg.sqrt((mg.sin(x) * x).sum() ** 2 + 1.0), X,
                    want=np.sqrt((np.sin(X) * X).sum(dtype="float64") ** 2 + 1))  # fmt: skip
    assert kinds(fast) == ["kernel"]


def test_what_needs_a_total_at_every_point_stands_apart():
    for f, want in [
        (lambda x: x - x.sum(axis=0), X - X.sum(axis=0)),
        (lambda x: mg.flip(mg.sin(x), axis=1) * mg.sin(x), np.sin(X)[:, ::-1] * np.sin(X)),
    ]:
        assert kinds(compiled(f, X, want=want)) == ["kernel", "kernel"]


def test_a_wrong_role_is_found(monkeypatch):
    """Planted: a kernel uses what is complete only when all its loops are done."""
    access = loops.Kernel.access

    def careless(self, x, runs):
        hidden = {k: m for k, m in self.members.items() if m.role in ("end", "after")}
        self.members = {k: m for k, m in self.members.items() if k not in hidden}
        found = access(self, x, runs)
        self.members |= hidden
        return found

    def f(x):
        return x - x.sum(axis=0)

    monkeypatch.setattr(loops.Kernel, "access", careless)
    with pytest.raises(KeyError):  # the renderer has no number for it inside of the loops
        compiled(f, X, want=X - X.sum(axis=0))


def test_a_wrong_index_is_found(monkeypatch):
    """Planted: what is read along the last axis is read along it backwards."""

    def f(x, w):
        return x * w

    compiled(f, X, X[0], want=X * X[0])
    access = loops.Kernel.access
    monkeypatch.setattr(loops.Kernel, "access", lambda self, x, runs: (
        a if (a := access(self, x, runs)) is None or x.ndim != 1
        else a._replace(offset=a.offset + x.size - 1, steps=tuple([-s for s in a.steps]))))  # fmt: skip
    with pytest.raises(AssertionError):
        compiled(f, X, X[0], want=X * X[0])


def test_cross_entropy_checks_labels_and_then_is_one_kernel_for_the_rows():
    e, s = shifted(X)
    want = -np.log(e / s)[np.arange(6), LABELS].mean()
    fast = compiled(lambda x, y: mg.cross_entropy(x, y), X, LABELS, want=want)
    assert [k for k in kinds(fast) if k != "kernel"] == [] and len(steps(fast)) <= 3


def test_the_updates_of_all_parameters_are_few_kernels():
    """A kernel has one domain, so parameters of different shapes have a kernel each, and no parameter has two."""
    net = nn.Sequential(nn.Linear(70, 9), nn.Linear(9, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.05)

    def step(x):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()

    fast = compiled(step, X)
    assert 1 <= sum(s.kind == "kernel" and "update" in str(s.node.scope) for s in steps(fast)) <= 5


def test_what_is_computed_again_may_have_readers_that_are_gone(monkeypatch):
    """A random program that could not be compiled once: all that a reader made was computed again itself."""
    assert differences([program(2973)], monkeypatch, ("-O1",)) == {}
