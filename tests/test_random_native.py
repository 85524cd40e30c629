"""Random numbers drawn in C: those of dynamic mode to the bit; normal ones to the last digits of log, sin and cos."""

import os
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph import nn
from minigraph.compiler import blas, randomness
from minigraph.compiler.toolchain import find_compiler
from minigraph.op import OPS
from minigraph.tensor import bind

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")

WORD = 2**64 - 1
shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple) | st.integers(0, 3000).map(lambda n: (n,))
words = st.integers(0, WORD) | st.sampled_from([0, 1, WORD, WORD - 1, 1 << 32])


def generator(key, counter=0):
    g = mg.random.Generator(0)
    g.load_state_dict({"state": np.array([key, counter], "u8")})
    return g


def exact(g, shape):
    """One draw of every kind whose numbers are exact."""
    return (
        g.uniform(shape),
        g.uniform(shape, -3.5, 0.1),
        g.uniform(shape, dtype="float64"),
        g.bernoulli(0.3, shape),
        g.bernoulli(0.0, shape),
        g.bernoulli(1.0, shape),
        g.integers(-3, 5, shape),
        g.integers(0, 200, shape, dtype="uint8"),
        g.integers(-(2**63), 2**63, shape),
        g.integers(0, 2**64 - 1, shape, dtype="uint64"),
    )


def normal(g, shape):
    return g.normal(shape), g.normal(shape, -1.0, 2.5), g.normal(shape, dtype="float64")


def compare(draws, shape, key, counter, tolerance=0.0, threads=1):
    """Two calls in C and two in dynamic mode, from the same state."""
    g, h = generator(key, counter), generator(key, counter)
    compiled = mg.compile(lambda: draws(g, shape), backend="c")
    with mock.patch.dict(os.environ, MINIGRAPH_THREADS=str(threads)), mock.patch.object(randomness, "WORTH", 0):
        found = [*compiled(), *compiled()]
    assert compiled.last.program.native.program.callbacks == []
    for a, b in zip(found, [*draws(h, shape), *draws(h, shape)], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(g.state.numpy(), h.state.numpy())


@settings(max_examples=12, deadline=None)
@given(shape=shapes, key=words, counter=words)
def test_the_numbers_are_those_of_dynamic_mode(shape, key, counter):
    compare(exact, shape, key, counter)


@settings(max_examples=8, deadline=None)
@given(shape=shapes, key=words, counter=words)
def test_normal_numbers_are_those_of_dynamic_mode(shape, key, counter):
    compare(normal, shape, key, counter, tolerance=4e-6)


@pytest.mark.parametrize("size", [511, 512, 513, 1024, 1025, 5000])
def test_several_threads_draw_the_same(size):
    compare(exact, (size,), 5, 7, threads=3)
    compare(normal, (size,), 5, 7, tolerance=4e-6, threads=3)


def test_the_state_may_lie_anywhere():
    states = mg.tensor(np.array([[1, 2, 3], [WORD, 5, 6]], "u8"))

    def draw(s):
        for state in (s[:, 1], s[:, 0], mg.flip(s[:, 2]), s[0, 1:]):
            yield bind(OPS["random_bits"], state, shape=(21,), dtype=np.dtype("u4"))
            yield bind(OPS["random_bits"], state, shape=(21,), dtype=np.dtype("u8"))
            yield bind(OPS["random_advance"], state, steps=3)

    compiled = mg.compile(lambda s: tuple(draw(s)), backend="c")
    for a, b in zip(compiled(states), draw(states), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert compiled.last.program.native.program.callbacks == []


def test_calls_differ_and_seeds_repeat():
    g = mg.random.Generator(3)
    compiled = mg.compile(lambda: (g.uniform((50,)), g.uniform((50,))), backend="c")
    first, second = compiled(), compiled()
    values = np.concatenate([t.numpy() for t in (*first, *second)])
    assert len(np.unique(values)) > 190
    g.seed(3)
    for a, b in zip(first, compiled(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.skipif(blas.find() is None, reason="needs a BLAS for the products")
def test_a_training_step_with_dropout_is_all_c():
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.normal(size=(32, 8)).astype("f4")), mg.tensor(rng.integers(0, 3, 32))

    def made():
        mg.random.seed(11)
        model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 3), nn.Dropout(0.1))
        optimizer = mg.optim.SGD(model.parameters(), 0.1)

        def step(x, y):
            optimizer.zero_grad()
            loss = mg.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    plain = made()
    expected = [plain(x, y).item() for _ in range(5)]
    step = mg.compile(made(), backend="c")
    np.testing.assert_allclose([step(x, y).item() for _ in range(5)], expected, rtol=1e-4)
    assert len(set(expected)) == 5
    said = step.explain()["not in C"]
    assert said.rows == () and said.note == "everything is in C"


def test_what_c_has_no_type_for_is_called_back():
    g, h = mg.random.Generator(3), mg.random.Generator(3)
    compiled = mg.compile(lambda: (g.uniform((9,), dtype="float16"), g.normal((9,), dtype="float16")), backend="c")
    for a, b in zip(compiled(), (h.uniform((9,), dtype="float16"), h.normal((9,), dtype="float16")), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert [row[0] for row in compiled.explain()["not in C"].rows] == ["random_uniform", "random_normal"]


@pytest.mark.parametrize(
    ("draws", "template", "right", "wrong"),
    [
        (exact, "WORDS", "round < 10", "round < 9"),
        (exact, "WORDS", "c1 = c0 < state[step]", "c1 = 0"),
        (exact, "WORDS", "first + n;", "first + n - 8;"),
        (exact, "WORDS", "k0 += ", "k1 += "),
        (exact, "EACH", "state, step, at *", "state, step, 8 + at *"),
        (exact, "WORD64", "(uint64_t)w[2 * i + 1] << 32", "(uint64_t)w[2 * i] << 32"),
        (normal, "NORMAL", "({half} + at) *", "(1 + {half} + at) *"),
        (normal, "NORMAL", "angle[i]) * {std}", "angle[i]) * 1"),
        (normal, "NORMAL", "{sin}(angle[i])", "{cos}(angle[i])"),
    ],
)
def test_a_planted_bug_is_found(draws, template, right, wrong):
    text = getattr(randomness, template)
    assert right in text
    with mock.patch.object(randomness, template, text.replace(right, wrong)), pytest.raises(AssertionError):
        compare(draws, (700,), 3, WORD - 2, tolerance=4e-6 if draws is normal else 0.0)
