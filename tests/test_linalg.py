"""Products of tensors against plain loops: values, gradients of every order, shapes from Hypothesis, and bad input."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError

size = st.integers(0, 4)


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def loops_einsum(subscripts, *arrays):
    """Einstein's convention by its definition: a loop over every value of every index."""
    inputs, output = subscripts.split("->")
    groups = inputs.split(",")
    sizes = {k: n for g, a in zip(groups, arrays, strict=True) for k, n in zip(g, a.shape, strict=True)}
    result = np.zeros([sizes[k] for k in output])
    for values in itertools.product(*[range(n) for n in sizes.values()]):
        at = dict(zip(sizes, values, strict=True))
        product = 1.0
        for g, a in zip(groups, arrays, strict=True):
            product *= a[tuple(at[k] for k in g)]
        result[tuple(at[k] for k in output)] += product
    return result


# ---------------------------------------------------------------------------------------------------------- matmul


@given(
    size, size, size, st.sampled_from([((), ()), ((2,), ()), ((), (3,)), ((2, 1), (3,)), ((1,), (4,)), ((0,), (1,))])
)
def test_matmul_is_the_sum_over_the_inner_index(m, k, n, batch):
    x1, x2 = random(*batch[0], m, k), random(*batch[1], k, n)
    y = mg.matmul(mg.tensor(x1), mg.tensor(x2))
    expected = np.zeros((*np.broadcast_shapes(*batch), m, n))
    for i in range(k):
        expected = expected + x1[..., :, i, None] * x2[..., None, i, :]
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


@given(size, size, st.sampled_from([(), (2,), (3, 1)]))
def test_matmul_with_vectors(k, n, batch):
    vector, matrix = random(k), random(*batch, k, n)
    np.testing.assert_allclose(mg.matmul(vector, matrix).numpy(), (vector[:, None] * matrix).sum(-2), atol=1e-12)
    np.testing.assert_allclose(
        mg.matmul(matrix.swapaxes(-1, -2), vector).numpy(), (vector[:, None] * matrix).sum(-2), atol=1e-12
    )
    assert mg.matmul(vector, vector).shape == ()


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((4, 2, 3), (3, 2)),
     ((2, 3), (4, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3))],
)  # fmt: skip
def test_gradients_of_matmul(a, b):
    assert mg.debug.gradcheck(mg.matmul, random(*a), random(*b), order=2).ok


@pytest.mark.parametrize(
    "dtypes", [("f4", "f4", "f4"), ("f4", "f8", "f8"), ("i4", "i4", "i4"), ("i4", "f4", "f8"), ("f2", "f2", "f2")]
)
def test_matmul_promotes_like_numpy(dtypes):
    a, b, result = dtypes
    assert mg.matmul(mg.ones((2, 3), dtype=a), mg.ones((3, 2), dtype=b)).dtype == np.dtype(result)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((2, 3), (2, 3), "x1.shape[-1] == x2.shape[-2]"),
        ((), (3,), "0-d"),
        ((2, 3, 4), (5, 4, 2), "batch"),
        ((3,), (2,), "3 != 2"),
    ],
)
def test_matmul_explains_what_does_not_fit(a, b, words):
    with pytest.raises(ShapeError) as caught:
        mg.matmul(mg.ones(a), mg.ones(b))
    assert words in str(caught.value)
    assert "test_linalg.py" in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- linear


@given(st.lists(size, min_size=1, max_size=3), size, st.booleans())
def test_linear_is_matmul_and_bias(shape, out, with_bias):
    x, weight, bias = random(*shape), random(out, shape[-1]), random(out)
    y = mg.linear(x, weight, bias if with_bias else None)
    expected = (x[..., None, :] * weight).sum(-1) + (bias if with_bias else 0)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 2, 3), (0, 3), (2, 0)])
def test_gradients_of_linear(shape):
    weight, bias = random(2, shape[-1]), random(2)
    assert mg.debug.gradcheck(mg.linear, random(*shape), weight, bias, order=2).ok
    assert mg.debug.gradcheck(mg.linear, random(*shape), weight, order=2).ok


def test_linear_leaves_bias_and_input_alone():
    x, weight, bias = (mg.tensor(random(*s)) for s in [(4, 3), (2, 3), (2,)])
    before = [t.numpy().copy() for t in (x, weight, bias)]
    mg.linear(x, weight, bias)
    for t, b in zip((x, weight, bias), before, strict=True):
        np.testing.assert_array_equal(t.numpy(), b)


def test_linear_promotes_a_wider_bias():
    y = mg.linear(mg.ones((2, 3)), mg.ones((4, 3)), mg.full((4,), 1e-12, dtype="f8"))
    assert y.dtype == np.float64
    assert y.numpy()[0, 0] == 3 + 1e-12


def test_linear_computes_no_gradient_that_nobody_wants():
    seen = []

    class Watch(mg.debug.Hook):
        def after_backward(self, node, index, g):
            seen.append((node.op.name, index))

    weight, bias = (mg.tensor(random(*s), requires_grad=True) for s in [(2, 3), (2,)])
    with mg.debug.hooks(Watch()):
        mg.linear(random(4, 3), weight, bias).sum().backward()
    assert ("linear", 0) not in seen
    assert {("linear", 1), ("linear", 2)} <= set(seen)


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 3), (3, 2), (2,)),
        ((4, 3), (2, 3), (3,)),
        ((4, 3), (2, 3), (1,)),
        ((4, 3), (2, 3), (4, 2)),
        ((4, 3), (3,), (3,)),
        ((), (2, 3), (2,)),
    ],
)
def test_linear_refuses_what_does_not_fit(shapes):
    with pytest.raises(ShapeError, match="linear"):
        mg.linear(*[mg.ones(s) for s in shapes])


# ---------------------------------------------------------------------------------------------------------- einsum


@st.composite
def einsums(draw):
    """Subscripts with shapes: up to three operands over a few indices, repeated ones and summed ones included."""
    sizes = {k: draw(st.integers(0, 3)) for k in "abcd"}
    groups = draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(groups)))
    output = "".join(draw(st.permutations(draw(st.lists(st.sampled_from(used), unique=True)) if used else [])))
    return f"{','.join(groups)}->{output}", [tuple(sizes[k] for k in g) for g in groups]


@given(einsums())
def test_einsum_is_its_definition(case):
    subscripts, shapes = case
    arrays = [random(*s, seed=i) for i, s in enumerate(shapes)]
    np.testing.assert_allclose(mg.einsum(subscripts, *arrays).numpy(), loops_einsum(subscripts, *arrays), atol=1e-10)


@given(einsums())
def test_gradients_of_einsum(case):
    subscripts, shapes = case
    arrays = [random(*s, seed=i) for i, s in enumerate(shapes)]
    assert mg.debug.gradcheck(lambda *x: mg.einsum(subscripts, *x), *arrays).ok


@pytest.mark.parametrize(
    ("subscripts", "shapes", "plain"),
    [
        ("ij,jk", [(2, 3), (3, 4)], "ij,jk->ik"),
        ("ba", [(2, 3)], "ba->ab"),
        ("ii", [(3, 3)], "ii->"),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)], "aij,ajk->aik"),
        ("i...", [(3, 2)], "ia->ai"),
        ("...,...->...", [(2, 3), (2, 3)], "ab,ab->ab"),
        (" i j -> j i ", [(2, 3)], "ij->ji"),
        ("iij->ij", [(2, 2, 3)], "iij->ij"),
        ("iii->i", [(2, 2, 2)], "iii->i"),
    ],
)
def test_einsum_spellings(subscripts, shapes, plain):
    arrays = [random(*s, seed=i) for i, s in enumerate(shapes)]
    np.testing.assert_allclose(mg.einsum(subscripts, *arrays).numpy(), loops_einsum(plain, *arrays), atol=1e-12)
    assert mg.debug.gradcheck(lambda *x: mg.einsum(subscripts, *x), *arrays, order=2).ok


def test_axes_under_an_ellipsis_broadcast():
    a, b = random(4, 1, 2), random(3, 2)
    y = mg.einsum("...i,...i->...", a, b)
    np.testing.assert_allclose(y.numpy(), (a * b).sum(-1))
    assert mg.debug.gradcheck(lambda a, b: mg.einsum("...i,...i->...", a, b), a, b, order=2).ok


@pytest.mark.parametrize(
    ("subscripts", "shapes", "error"),
    [
        ("ij,jk->ik", [(2, 3), (4, 2)], ShapeError),
        ("ij->i", [(2,)], ShapeError),
        ("ij,jk->ik", [(2, 3)], ArgumentError),
        ("ij->k", [(2, 3)], ArgumentError),
        ("ij->ii", [(2, 3)], ArgumentError),
        ("i1->i", [(2, 3)], ArgumentError),
        ("ii->i", [(2, 3)], ShapeError),
        ("...i->i", [(2, 3)], ArgumentError),
        ("...i,...i->...", [(2, 3), (4, 3)], ShapeError),
    ],
)
def test_einsum_explains_bad_subscripts(subscripts, shapes, error):
    with pytest.raises(error, match="einsum"):
        mg.einsum(subscripts, *[mg.ones(s) for s in shapes])


def test_einsum_wants_its_subscripts_first():
    with pytest.raises(DTypeError, match="subscripts come first"):
        mg.einsum(mg.ones((2, 2)), "ij->ji")


# ---------------------------------------------------------------------------------------------------------- others


@pytest.mark.parametrize("axes", [0, 1, 2, ([0], [2]), ([1, 0], [0, 1]), ([-1], [0])])
def test_tensordot(axes):
    a, b = random(2, 3), random(3, 2, 2)
    if axes == 2:
        b = random(2, 3, 4)
    np.testing.assert_allclose(mg.tensordot(a, b, axes).numpy(), np.tensordot(a, b, axes), atol=1e-12)
    assert mg.debug.gradcheck(lambda a, b: mg.tensordot(a, b, axes), a, b, order=2).ok


def test_tensordot_refuses_axes_that_do_not_pair():
    with pytest.raises(ShapeError, match="pair"):
        mg.tensordot(mg.ones((2, 3)), mg.ones((2, 3)), ([1], [0]))
    with pytest.raises(ArgumentError, match="axes"):
        mg.tensordot(mg.ones((2, 3)), mg.ones((2, 3)), 3)


@pytest.mark.parametrize("axis", [-1, -2])
def test_vecdot(axis):
    a, b = random(2, 3, 3), random(3, 3)
    np.testing.assert_allclose(mg.vecdot(a, b, axis=axis).numpy(), (a * b).sum(axis), atol=1e-12)
    with pytest.raises(ShapeError, match="lengths"):
        mg.vecdot(mg.ones(3), mg.ones(1))
    with pytest.raises(BoundsError):
        mg.vecdot(mg.ones(3), mg.ones(3), axis=-2)


def test_outer():
    a, b = random(2), random(3)
    np.testing.assert_allclose(mg.outer(a, b).numpy(), a[:, None] * b)
    with pytest.raises(ShapeError, match="outer"):
        mg.outer(mg.ones((2, 2)), mg.ones(2))


@pytest.mark.parametrize("offset", [-3, -1, 0, 1, 2])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (2, 4, 3), (0, 2, 2)])
def test_diagonal_and_trace(shape, offset):
    x = random(*shape)
    np.testing.assert_array_equal(mg.diagonal(x, offset=offset).numpy(), np.diagonal(x, offset, -2, -1))
    np.testing.assert_allclose(mg.ops.trace(x, offset=offset).numpy(), np.trace(x, offset, -2, -1))
    assert mg.debug.gradcheck(lambda x: mg.diagonal(x, offset=offset) ** 2, x, order=2).ok


def test_diag_embed_is_the_transpose_of_diagonal():
    for offset in (-2, 0, 1):
        x, v = random(3, 4), random(max(0, np.diagonal(random(3, 4), offset).size))
        m = mg.diag_embed(v, offset=offset, shape=(3, 4))
        assert math.isclose(float((m * x).sum()), float((mg.diagonal(x, offset=offset) * v).sum()), abs_tol=1e-12)


@pytest.mark.parametrize("ord", [1, 2, 3, 0.5, math.inf])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_vector_norm(ord, axis):
    x = random(3, 4)
    if isinstance(axis, int):
        expected = np.linalg.norm(x, ord, axis)
    else:
        expected = np.linalg.norm(x.ravel(), ord)
    np.testing.assert_allclose(mg.vector_norm(x, axis=axis, ord=ord).numpy(), expected)
    assert mg.vector_norm(x, axis=axis, ord=ord, keepdims=True).ndim == 2
    assert mg.debug.gradcheck(lambda x: mg.vector_norm(x, axis=axis, ord=ord), x, order=2).ok


@pytest.mark.parametrize("ord", [1, 2, 3])
def test_the_norm_of_nothing_has_gradient_zero(ord):
    g = mg.grad(lambda x: mg.vector_norm(x, ord=ord))(mg.zeros(3))
    np.testing.assert_array_equal(g.numpy(), np.zeros(3))


def test_vector_norm_refuses():
    with pytest.raises(ArgumentError, match="ord"):
        mg.vector_norm(mg.ones(3), ord=0)
    with pytest.raises(DTypeError, match="floating"):
        mg.vector_norm(mg.tensor([1, 2]))
