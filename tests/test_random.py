"""Random numbers: their distributions, that streams repeat and never overlap, static mode, saving, and bad input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import minigraph as mg
from minigraph.errors import ArgumentError, CheckpointError, DTypeError, ShapeError

Generator = mg.random.Generator
N = 200_000


def generator(seed=0):
    return Generator(seed)


def kolmogorov_smirnov(sample, cdf):
    """The probability that a sample of `cdf` deviates from it as much as this one (asymptotic; A. Kolmogorov, 1933)."""
    x = np.sort(np.asarray(sample, "f8").ravel())
    n = len(x)
    p = cdf(x)
    d = max(np.max(p - np.arange(n) / n), np.max(np.arange(1, n + 1) / n - p))
    t = d * math.sqrt(n)
    return 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * t * t) for k in range(1, 101))


normal_cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


# ------------------------------------------------------------------------------------------------------ distributions


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_uniform_is_uniform(dtype, seed):
    u = generator(seed).uniform(N, dtype=dtype).numpy()
    assert u.dtype == dtype
    assert u.min() >= 0
    assert u.max() < 1
    assert kolmogorov_smirnov(u, lambda x: x) > 1e-3
    assert abs(u.mean() - 0.5) < 4 / math.sqrt(12 * N)
    assert abs(u.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / N)
    bits = (u.astype("f8") * 2**24).astype("u4")  # no bit is stuck
    for k in range(24):
        assert abs(np.mean((bits >> k) & 1) - 0.5) < 4 * 0.5 / math.sqrt(N)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1])
def test_normal_is_normal(dtype, seed):
    z = generator(seed).normal(N, dtype=dtype).numpy()
    assert z.dtype == dtype
    assert np.isfinite(z).all()
    assert kolmogorov_smirnov(z, normal_cdf) > 1e-3
    assert abs(z.mean()) < 4 / math.sqrt(N)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / N)
    assert abs(np.mean(z**3)) < 4 * math.sqrt(15 / N)
    assert abs(np.mean(z**4) - 3) < 4 * math.sqrt(96 / N)
    assert np.abs(z).max() > 4  # tails
    half = len(z) // 2
    assert abs(np.mean(z[:half] * z[half:])) < 4 / math.sqrt(half)  # both numbers of a pair


def test_the_test_of_normality_can_fail():
    u = generator().uniform(N).numpy()
    assert kolmogorov_smirnov(math.sqrt(12) * (u - 0.5), normal_cdf) < 1e-9
    assert kolmogorov_smirnov(u**1.02, lambda x: x) < 1e-3


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_has_its_probability(p):
    mask = generator().bernoulli(p, (N // 10, 10))
    assert mask.dtype == np.bool_
    assert mask.shape == (N // 10, 10)
    assert abs(mask.numpy().mean() - p) <= 4 * math.sqrt(p * (1 - p) / N)


def test_bernoulli_with_a_tensor_of_probabilities():
    p = mg.tensor([0.0, 0.2, 1.0])
    mask = generator().bernoulli(p, (N // 10, 3)).numpy().mean(axis=0)
    assert mask[0] == 0
    assert abs(mask[1] - 0.2) < 0.02
    assert mask[2] == 1
    assert generator().bernoulli(p).shape == (3,)


@given(st.integers(-(2**40), 2**40), st.integers(1, 50), st.integers(0, 2**64 - 1))
def test_integers_are_in_range(low, width, seed):
    k = generator(seed).integers(low, low + width, 100)
    assert k.dtype == np.int64
    assert low <= k.numpy().min()
    assert k.numpy().max() < low + width


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-3, 4), (10, 20)])
def test_integers_are_equally_likely(low, high):
    counts = np.bincount(generator().integers(low, high, N).numpy() - low, minlength=high - low)
    expected = N / (high - low)
    chi2 = np.sum((counts - expected) ** 2 / expected)
    assert chi2 < (high - low) + 5 * math.sqrt(2 * (high - low))


def test_integers_of_every_width():
    g = generator()
    assert set(g.integers(3, shape=100).numpy().tolist()) == {0, 1, 2}
    assert set(g.integers(1, 3, 100, endpoint=True).numpy().tolist()) == {1, 2, 3}
    everything = g.integers(-(2**63), 2**63, 1000).numpy()
    assert everything.min() < -(2**62)
    assert everything.max() > 2**62
    small = g.integers(-128, 128, 5000, dtype="int8")
    assert small.dtype == np.int8
    assert len(np.unique(small.numpy())) == 256
    assert g.integers(2**64 - 5, 2**64, 100, dtype="uint64").numpy().min() >= 2**64 - 5


def test_permutations_are_permutations_and_equally_likely():
    g = generator()
    for n in (0, 1, 2, 1000):
        assert sorted(g.permutation(n).tolist()) == list(range(n))
    counts = {}
    for _ in range(6000):
        key = tuple(g.permutation(3).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6
    assert all(abs(c - 1000) < 150 for c in counts.values())
    x = mg.tensor(np.arange(20).reshape(10, 2))
    shuffled = g.permutation(x).numpy()
    assert sorted(shuffled[:, 0].tolist()) == x.numpy()[:, 0].tolist()
    np.testing.assert_array_equal(shuffled[:, 1], shuffled[:, 0] + 1)


def test_choice():
    g = generator()
    assert set(g.choice(4, 200).tolist()) == {0, 1, 2, 3}
    assert sorted(g.choice(6, 6, replace=False).tolist()) == [0, 1, 2, 3, 4, 5]
    assert set(g.choice(mg.tensor([5, 7]), (10, 10)).numpy().ravel().tolist()) == {5, 7}
    picks = np.bincount(g.choice(3, N, p=[0.1, 0.0, 0.9]).numpy(), minlength=3) / N
    np.testing.assert_allclose(picks, [0.1, 0, 0.9], atol=0.01)
    assert g.choice(3, ()).shape == ()


@given(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), st.sampled_from(["float16", "float32", "float64"]))
def test_any_shape_and_dtype(shape, dtype):
    g = generator()
    for draw in (g.uniform, g.normal):
        x = draw(shape, dtype=dtype)
        assert x.shape == shape
        assert x.dtype == dtype
        assert np.isfinite(x.numpy()).all()


def test_location_and_scale():
    u = generator().uniform(N, -3, 5).numpy()
    assert -3 <= u.min() < -2.99
    assert 4.99 < u.max() <= 5
    z = generator().normal(N, 10.0, 2.0).numpy()
    assert abs(z.mean() - 10) < 0.05
    assert abs(z.std() - 2) < 0.05


def test_gradients_flow_through_location_and_scale():
    mean, std = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor(0.5, requires_grad=True)
    x = generator().normal((3, 2), mean, std)
    x.sum().backward()
    np.testing.assert_array_equal(mean.grad.numpy(), [3.0, 3.0])
    unit = generator().normal((3, 2)).numpy()
    np.testing.assert_allclose(std.grad.numpy(), unit.sum(), rtol=1e-5)
    np.testing.assert_allclose(x.numpy(), mean.numpy() + 0.5 * unit, rtol=1e-6)
    low = mg.tensor(-1.0, requires_grad=True)
    generator().uniform(5, low, 1.0).sum().backward()
    np.testing.assert_allclose(low.grad.numpy(), 5 - generator().uniform(5).numpy().sum(), rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------- streams


def test_a_seed_repeats_and_draws_differ():
    a, b = generator(7), generator(7)
    first = a.normal(1000).numpy()
    np.testing.assert_array_equal(first, b.normal(1000).numpy())
    second = a.normal(1000).numpy()
    assert not np.isin(second, first).any()
    np.testing.assert_array_equal(second, b.normal(1000).numpy())
    b.seed(7)
    np.testing.assert_array_equal(first, b.normal(1000).numpy())
    assert not np.isin(generator(8).normal(1000).numpy(), first).any()
    assert Generator().normal(3).tolist() != Generator().normal(3).tolist()


def test_no_number_is_used_twice():
    """Whatever is drawn, in whatever sizes: the words behind the draws are consecutive parts of one stream."""
    g = generator(3)
    whole = set()
    total = 0
    for n in (1, 2, 3, 7, 8, 9, 100, 5):
        words = g.uniform(n, dtype="float64").numpy()
        total += n
        whole.update(words.tolist())
        g.bernoulli(0.5, n), g.normal(n), g.permutation(n), g.integers(0, 9, n)
    assert len(whole) == total


def test_streams_of_spawned_generators_differ():
    parent = generator(0)
    children = parent.spawn(4) + parent.spawn(4)
    draws = [g.uniform(500, dtype="float64").numpy() for g in (*children, parent, generator(1))]
    assert len(np.unique(np.concatenate(draws))) == sum(map(len, draws))
    again = generator(0).spawn(4)
    np.testing.assert_array_equal(again[2].uniform(500, dtype="float64").numpy(), draws[2])


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    draws = np.stack([generator(s).normal(5000).numpy() for s in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(5000)


def test_known_answer():
    """The words are those of NumPy's Philox, which adds one to its counter before each block."""
    expected = np.random.Philox(key=42, counter=2**256 - 1).random_raw(4) >> np.uint64(11)
    u = generator(42).uniform(4, dtype="float64").numpy()
    np.testing.assert_array_equal(u * 2.0**53, expected.astype("f8"))


def test_the_same_numbers_on_every_device():
    here, there = generator(3), Generator(3, device="strict")
    for draw in (
        lambda g, **k: g.uniform((3, 5), -1, 1, **k),
        lambda g, **k: g.normal(7, dtype="float64", **k),
        lambda g, **k: g.bernoulli(0.3, 50, **k),
        lambda g, **k: g.integers(-5, 50, 20, **k),
        lambda g, **k: g.permutation(20, **k),
    ):
        x, y = draw(here), draw(there)
        assert (x.device.kind, y.device.kind) == ("cpu", "strict")
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6)
    assert here.uniform(2, device="strict").tolist() == there.uniform(2).tolist()  # a generator here, numbers there
    assert here.to("strict").uniform(2).tolist() == there.to("cpu").uniform(2).tolist()


def test_the_default_generator_is_behind_the_functions():
    mg.random.seed(5)
    a = (
        mg.random.normal((2, 2)),
        mg.random.uniform(3),
        mg.random.integers(10),
        mg.random.bernoulli(0.5, 4),
        mg.random.permutation(5),
    )
    mg.random.default_generator.seed(5)
    g = mg.random.default_generator
    b = g.normal((2, 2)), g.uniform(3), g.integers(10), g.bernoulli(0.5, 4), g.permutation(5)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_saving_resumes_exactly():
    g = generator(1)
    g.normal(17)
    saved = g.state_dict()
    expected = g.normal(5).numpy(), g.uniform(5).numpy()
    h = generator(99)
    h.load_state_dict(saved)
    np.testing.assert_array_equal(h.normal(5).numpy(), expected[0])
    np.testing.assert_array_equal(h.uniform(5).numpy(), expected[1])
    h.load_state_dict({"state": saved["state"].numpy()})
    np.testing.assert_array_equal(h.normal(5).numpy(), expected[0])
    for bad in ({}, {"state": mg.zeros(2)}, {"state": mg.zeros(3, dtype="uint64")}, 5):
        with pytest.raises(CheckpointError, match="state"):
            h.load_state_dict(bad)


# -------------------------------------------------------------------------------------------------------- static mode


def test_numbers_are_not_frozen_into_a_compiled_function():
    g, h = generator(4), generator(4)

    def draw():
        return g.normal(3), g.bernoulli(0.5, 3), g.integers(0, 100, 3), g.permutation(4), g.uniform((2, 2))

    compiled = mg.compile(draw)
    for _ in range(3):
        static = compiled()
        dynamic = h.normal(3), h.bernoulli(0.5, 3), h.integers(0, 100, 3), h.permutation(4), h.uniform((2, 2))
        for a, b in zip(static, dynamic, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(g.state.numpy(), h.state.numpy())
    assert g.state in compiled.graph.reads
    assert g.state in compiled.graph.assigns


def test_a_recomputed_mask_is_the_same_mask():
    g = generator(6)
    x = mg.tensor(np.ones(100), requires_grad=True)

    def drop(x):
        return x * g.bernoulli(0.5, x.shape)

    kept = mg.checkpoint(drop)(x)
    before = g.state.numpy().copy()
    kept.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), kept.numpy())
    np.testing.assert_array_equal(g.state.numpy(), before)


def test_a_recording_shows_the_draw():
    with mg.record() as graph:
        generator(0).normal(3)
    assert [n.op.name for n in graph.operations] == ["random_normal", "random_advance"]


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda g: g.normal((2, -1)), ShapeError, "negative"),
        (lambda g: g.normal(1.5), DTypeError, "integers"),
        (lambda g: g.normal(2, std=-1), ArgumentError, "std"),
        (lambda g: g.normal(2, mean=float("nan")), ArgumentError, "finite"),
        (lambda g: g.normal(2, mean="0"), DTypeError, "number"),
        (lambda g: g.normal(2, dtype="int64"), DTypeError, "integers"),
        (lambda g: g.uniform(2, 1, 1), ArgumentError, "low < high"),
        (lambda g: g.uniform(2, 0, float("inf")), ArgumentError, "finite"),
        (lambda g: g.integers(0), ArgumentError, "low=0, high=0"),
        (lambda g: g.integers(5, 5), ArgumentError, "low=5, high=5"),
        (lambda g: g.integers(0.5, 2), DTypeError, "integers"),
        (lambda g: g.integers(0, 300, dtype="uint8"), DTypeError, "0 to 299"),
        (lambda g: g.integers(0, 3, dtype="float32"), DTypeError, "float32"),
        (lambda g: g.bernoulli(1.5), ArgumentError, "0 to 1"),
        (lambda g: g.bernoulli(True), DTypeError, "number"),
        (lambda g: g.permutation(-1), ArgumentError, "0 or more"),
        (lambda g: g.permutation(0.5), DTypeError, "number or a tensor"),
        (lambda g: g.choice(3, 4, replace=False), ArgumentError, "at most 3"),
        (lambda g: g.choice(0, 1), ArgumentError, "candidate"),
        (lambda g: g.choice(3, 1, p=[0.5, 0.5]), ShapeError, "each candidate"),
        (lambda g: g.choice(2, 1, p=[0.5, 0.6, 0.1][:2], replace=False), ArgumentError, "with p"),
        (lambda g: g.spawn(-1), ShapeError, "negative"),
        (lambda g: g.seed(-1), ArgumentError, "2\\*\\*64"),
        (lambda g: g.seed(2**64), ArgumentError, "2\\*\\*64"),
        (lambda g: g.seed(1.5), DTypeError, "integer"),
        (lambda g: g.seed("1"), DTypeError, "integer"),
        (lambda g: g.seed(True), DTypeError, "integer"),
        (lambda g: Generator(mg.tensor(1)), DTypeError, "integer"),
    ],
)
def test_bad_input_explains_and_changes_nothing(call, error, words):
    g = generator(0)
    with pytest.raises(error, match=words) as caught:
        call(g)
    assert "test_random.py" in str(caught.value)
    assert repr(g) == "Generator(seed=0, counter=0)"


OPERATIONS = ["random_bits", "random_uniform", "random_normal", "random_bernoulli", "random_integers",
              "random_permutation", "random_advance"]  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_passes_the_family_of_tests(name):
    assert mg.debug.opcheck(name).ok  # includes: the same numbers on the CuPy stand-in
