"""What is moved out of loops: the same values and gradients as loops that do everything in every round."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.passes import hoist, loops, share_loops
from minigraph.compiler.passes.dead import eliminate_dead_code

T, B, N, H = 5, 3, 4, 6


def array(*shape, seed=0, dtype="float64"):
    return mg.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


W, U, BIAS = array(H, N, seed=1), array(H, H, seed=2), array(H, seed=3)
X, H0 = array(T, B, N, seed=4), array(B, H, seed=5)


def rnn(x, w, u, b, h):
    def cell(h, x):
        h = mg.tanh(x @ w.T + h @ u.T + b)
        return h, h

    last, all_ = mg.scan(cell, h, x)
    return (last**2).sum() + mg.sin(all_).sum()


def gated(x, w, u, b, h):
    def cell(state, x):
        h, c = state
        z = x @ w.T + h @ u.T + b
        c = mg.sigmoid(z) * c + mg.sigmoid(-z) * mg.tanh(z * 2.0)
        h = mg.sigmoid(z + 1.0) * mg.tanh(c)
        return (h, c), (h, c.sum(axis=1))

    (h, c), (hs, cs) = mg.scan(cell, (h, mg.zeros_like(h)), x, reverse=True)
    return (h * c).sum() + (hs**2).sum() + cs.sum()


def totals(x, w, u, b, h):
    def cell(state, x):
        total, rows, h = state
        h = mg.tanh(x @ w.T + h)
        return (total + x.T @ h, rows + h.sum(axis=0, keepdims=True), h), mg.exp(x) @ w.T

    (total, rows, h), ys = mg.scan(cell, (mg.ones((N, H), dtype=mg.float64), mg.zeros((1, H), dtype=mg.float64), h), x)
    return (total @ u).sum() * rows.sum() + (ys**2).sum() + (h * mg.exp(b)).sum()


def fixed(x, w, u, b, h):
    return mg.scan(lambda h, x: (mg.tanh(h @ mg.exp(u) + (x * mg.cos(b[:N])) @ w.T), None), h, x)[0].sum()


PROGRAMS = {f.__name__: f for f in (rnn, gated, totals, fixed)}
ARGUMENTS = (X, W, U, BIAS, H0)
EVERY = tuple(range(5))


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.parametrize("passes", [
    [eliminate_dead_code, share_loops], [eliminate_dead_code, hoist], [eliminate_dead_code, share_loops, hoist],
], ids=["share", "hoist", "both"])  # fmt: skip
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_those_of_dynamic_mode(name, passes, backend):
    f = PROGRAMS[name]
    value, gradients = mg.value_and_grad(f, argnums=EVERY)(*ARGUMENTS)
    compiled = mg.compile(lambda *a: mg.value_and_grad(f, argnums=EVERY)(*a), passes=passes, backend=backend)
    for _ in range(2):
        found, new = compiled(*ARGUMENTS)
        assert found.item() == pytest.approx(value.item(), rel=1e-12)
        for a, b in zip(new, gradients, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
    compiled.optimized.check()


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivatives_too(name):
    f = PROGRAMS[name]
    second = lambda *a: mg.grad(lambda u: (mg.grad(f, argnums=2)(a[0], a[1], u, a[3], a[4]) ** 2).sum())(a[2])  # noqa: E731
    passes = [eliminate_dead_code, share_loops, hoist]
    found = mg.compile(second, passes=passes, backend="numpy")(*ARGUMENTS)
    np.testing.assert_allclose(found.numpy(), second(*ARGUMENTS).numpy(), rtol=1e-8, atol=1e-10)


def rules(f, *passes):
    compiled = mg.compile(f, passes=[eliminate_dead_code, *passes], backend="numpy")
    compiled(*ARGUMENTS)
    loops = [n for n in compiled.optimized.operations if n.op.name == "scan"]
    return {c.rule.split(" ->")[0] for s in compiled.passes[1:] for c in s.changes}, [n.attrs["body"] for n in loops]


def names(body):
    return [n.op.name for n in body.operations]


def test_which_rule_fires():
    assert rules(rnn, hoist)[0] == {"x[i] @ w", "h @ w.T"}
    assert rules(fixed, hoist)[0] == {"the same in each round", "h @ w.T"}
    found, (body,) = rules(totals, hoist)
    assert found == {"x[i] @ w", "total += a.T @ b", "total += sum(a)", "y[i] = a @ w"}
    assert "matmul" not in names(body) and "sum" not in names(body)


def test_a_backward_loop_computes_nothing_again():
    gradient = lambda *a: mg.grad(gated, argnums=EVERY)(*a)  # noqa: E731
    found, (_, back) = rules(gradient, share_loops)
    assert found == {"computed again by the backward loop"}
    assert not {"tanh", "sigmoid"} & set(names(back))
    _, (forward, back) = rules(gradient, share_loops, hoist)
    assert names(back).count("matmul") == 1 and names(forward).count("matmul") == 1  # what hands the gradient on, and h


def test_kept_carries_that_nobody_reads_are_not_kept():
    compiled = mg.compile(lambda x, w, u, b, h: rnn(x, w, u, b, h), passes=[eliminate_dead_code, share_loops])
    w = mg.Variable(W, requires_grad=True)
    compiled(X, w, U, BIAS, H0)
    (loop,) = [n for n in compiled.optimized.operations if n.op.name == "scan"]
    assert not loop.attrs["history"]


def test_a_total_that_is_looked_at_on_the_way_stays():
    def f(x, w, u, b, h):
        return mg.scan(lambda s, x: (s + x.T @ x, s.sum()), mg.zeros((N, N), dtype=mg.float64), x)[1].sum()

    found, (body,) = rules(f, hoist)
    assert not found and "matmul" in names(body)


def test_a_planted_mistake_is_seen(monkeypatch):
    """A backward loop that takes what it needs from the wrong round."""
    right = loops.kept_by
    monkeypatch.setattr(loops, "kept_by", lambda loop, stack: lambda now: loops.made(
        "roll", right(loop, stack)(now), like=loop.node, shift=(1,), axis=(0,)))  # fmt: skip
    with pytest.raises(AssertionError):
        test_values_and_gradients_are_those_of_dynamic_mode("gated", [eliminate_dead_code, share_loops], "numpy")
