"""Reductions against plain Python over the elements, and the conventions for ties, zeros and nothing."""

import itertools
import math
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigraph as mg
from minigraph.debug import OpCheckError, gradcheck, opcheck
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from minigraph.op import OPS, spec_of
from minigraph.ops import reduction

inf, nan = math.inf, math.nan


def t(data, **options):
    return mg.tensor(np.asarray(data, "f8"), **options)


def gradient(fn, point):
    x = t(point, requires_grad=True)
    fn(x).sum().backward()
    return x.grad.numpy()


def fold(x, axis, keepdims, function):
    """The reduction by its definition: `function` of the list of elements, for each place of the result."""
    folded = range(x.ndim) if axis is None else [a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)]
    sizes = [1 if a in folded else n for a, n in enumerate(x.shape)]
    result = np.empty(sizes, object)
    for place in np.ndindex(*sizes):
        lines = [range(n) if a in folded else (place[a],) for a, n in enumerate(x.shape)]
        result[place] = function([x[i].item() for i in itertools.product(*lines)])
    return result if keepdims else result.reshape([n for a, n in enumerate(x.shape) if a not in folded])


PYTHON = {
    "sum": math.fsum, "prod": math.prod, "mean": statistics.fmean, "max": max, "min": min, "any": any, "all": all,
    "var": statistics.pvariance, "std": statistics.pstdev,
}  # fmt: skip
NEEDS_ELEMENTS = {"mean", "max", "min", "var", "std"}


def test_every_operation_has_a_reference():
    here = {n for n, op in OPS.items() if op.builtin and op.run.__module__ == reduction.__name__}
    assert here == {*PYTHON, "argmax", "argmin", "cumulative_sum"} == set(reduction.__all__)


@st.composite
def reductions(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    if not shape or draw(st.booleans()):
        axis = None
    else:
        axis = tuple(draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True)))
        axis = tuple(a - len(shape) * draw(st.booleans()) for a in axis)
        axis = axis[0] if len(axis) == 1 and draw(st.booleans()) else axis
    return draw(hnp.arrays("f8", shape, elements=st.floats(-9, 9))), axis, draw(st.booleans())


@given(case=reductions(), name=st.sampled_from(sorted(PYTHON)))
def test_reductions_equal_python(case, name):
    x, axis, keepdims = case
    function = getattr(mg, name)
    folded = range(x.ndim) if axis is None else [a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)]
    if name in NEEDS_ELEMENTS and 0 in [x.shape[a] for a in folded]:
        with pytest.raises(ShapeError, match=name):
            function(mg.tensor(x), axis, keepdims=keepdims)
        return
    y = function(mg.tensor(x), axis, keepdims=keepdims)
    expected = fold(x, axis, keepdims, PYTHON[name])
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.numpy(), expected.astype(y.dtype), rtol=1e-12, atol=1e-12)
    inferred = OPS[name].infer(spec_of(x), axis=axis, keepdims=keepdims)
    assert (inferred.shape, inferred.dtype) == (y.shape, y.dtype)


@pytest.mark.parametrize("name", ["sum", "prod"])
def test_small_integers_add_up_in_large_ones(name):
    for dtype, expected in (("?", "i8"), ("i1", "i8"), ("i4", "i8"), ("i8", "i8"), ("u1", "u8"), ("u4", "u8")):
        assert getattr(mg, name)(mg.tensor(np.ones(3, dtype))).dtype == expected
    assert mg.sum(mg.tensor(np.full(300, 100, "i1"))).item() == 30000
    assert mg.sum(mg.tensor([1, 2]), dtype="float32").dtype == mg.float32
    for dtype in ("f2", "f4", "f8"):
        assert getattr(mg, name)(mg.tensor(np.ones(3, dtype))).dtype == dtype


def test_means_of_integers_and_of_half_precision():
    hits = mg.tensor([True, False, True, True])
    assert hits.mean().item() == 0.75
    assert hits.mean().dtype == mg.float64
    assert mg.mean(mg.tensor([1, 2])).item() == 1.5
    many = np.full(100_000, 2, "f2")  # their sum is not a float16
    assert mg.mean(mg.tensor(many)).item() == 2
    assert mg.mean(mg.tensor(many)).dtype == mg.float16
    assert mg.var(mg.tensor(many)).item() == 0


def test_correction():
    x = [1.0, 2.0, 4.0, 8.0]
    assert mg.var(t(x), correction=1).item() == pytest.approx(statistics.variance(x), rel=1e-15)
    assert mg.std(t(x), correction=1).item() == pytest.approx(statistics.stdev(x), rel=1e-15)
    assert t(x).var(correction=0.5).item() == pytest.approx(statistics.pvariance(x) * 4 / 3.5, rel=1e-15)
    for fn in (mg.var, mg.std):
        with pytest.raises(ShapeError, match="correction=1"):
            fn(t([[1.0], [2.0]]), axis=1, correction=1)
        with pytest.raises(DTypeError, match="astype"):
            fn(mg.tensor([1, 2]))
        assert fn(mg.zeros((0, 3)), axis=1).shape == (0,)


def test_nan_is_an_extreme_and_the_first_of_equals_is_found():
    x = t([1.0, nan, 3.0])
    assert math.isnan(mg.max(x).item())
    assert math.isnan(mg.min(x).item())
    assert mg.argmax(x).item() == 1
    assert mg.argmax(t([[2.0, 3.0], [3.0, 0.0]])).item() == 1
    assert mg.argmin(t([[2.0, 0.0, 0.0]]), axis=1, keepdims=True).numpy().tolist() == [[1]]
    assert mg.argmax(t([[2.0, 3.0], [3.0, 0.0]]), axis=-1).numpy().tolist() == [1, 0]
    assert mg.max(mg.tensor([True, False])).dtype == mg.bool
    assert mg.max(mg.tensor([3, 5])).item() == 5


def test_any_and_all_of_nothing_and_of_numbers():
    assert mg.all(mg.zeros((0,))).item() is True
    assert mg.any(mg.zeros((0,))).item() is False
    assert mg.any(t([0.0, nan])).item() is True
    assert mg.all(mg.tensor([1, 2, 0])).item() is False


@given(hnp.arrays("f8", hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-9, 9)), st.integers(0, 2))
def test_cumulative_sum_is_a_product_with_a_triangle(x, axis):
    axis %= x.ndim
    triangle = np.tri(x.shape[axis])
    expected = np.moveaxis(np.tensordot(triangle, x, (1, axis)), 0, axis)
    y = mg.cumulative_sum(mg.tensor(x), axis)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)
    longer = mg.cumulative_sum(mg.tensor(x), axis - x.ndim, include_initial=True).numpy()
    assert longer.shape[axis] == x.shape[axis] + 1
    np.testing.assert_array_equal(np.take(longer, 0, axis), 0)
    np.testing.assert_array_equal(np.delete(longer, 0, axis), y.numpy())


def test_gradient_of_cumulative_sum():
    weights = t([1.0, 10, 100])
    assert gradient(lambda x: mg.cumulative_sum(x) * weights, [1.0, 2, 3]).tolist() == [111, 110, 100]
    shifted = gradient(lambda x: mg.cumulative_sum(x, include_initial=True)[:3] * weights, [1.0, 2, 3])
    assert shifted.tolist() == [110, 100, 0]
    with pytest.raises(ArgumentError, match="which axis"):
        mg.cumulative_sum(t([[1.0]]))
    assert mg.cumulative_sum(mg.tensor(np.array([100, 100], "i1"))).numpy().tolist() == [100, 200]


# -------------------------------------------------------------------------------------------------------- gradients


def test_equal_extremes_share_the_gradient():
    x = [[1.0, 5, 5], [7, 7, 7]]
    assert gradient(lambda x: mg.max(x, axis=1), x).tolist() == [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]
    assert gradient(mg.max, x).tolist() == [[0, 0, 0], [1 / 3, 1 / 3, 1 / 3]]
    assert gradient(lambda x: mg.min(x, axis=(0, 1), keepdims=True), x).tolist() == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("zeros", [(), (2,), (0, 4), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_gradient_of_a_product_is_the_product_of_the_others(n, zeros):
    x = np.array([2.0, -0.5, 3.0, 1.5, -2.0])[:n]
    x[[z for z in zeros if z < n]] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradient(mg.prod, x)
        second = mg.hessian(mg.prod)(t(x)).numpy()
    others = [math.prod(v for j, v in enumerate(x) if j != i) for i in range(n)]
    np.testing.assert_allclose(found, others, rtol=1e-14)
    for i, j in itertools.product(range(n), repeat=2):
        expected = 0 if i == j else math.prod(v for k, v in enumerate(x) if k not in (i, j))
        assert second[i, j] == pytest.approx(expected, abs=1e-14)


def test_gradient_of_a_product_over_axes():
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 3))
    x[0, 1], x[1, 0, 0, 0] = 0, 0
    for axis in ((1, 3), (0,), (2, 0), None):
        for keepdims in (False, True):
            gradcheck(lambda v: mg.prod(v, axis=axis, keepdims=keepdims), t(x), order=1)  # noqa: B023
    assert gradient(lambda v: mg.prod(v, axis=1), np.ones((2, 0))).shape == (2, 0)


def test_standard_deviation_of_equal_numbers_has_gradient_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradient(lambda x: mg.std(x, axis=1), [[2.0, 2.0], [1.0, 3.0]]).tolist() == [[0, 0], [-0.5, 0.5]]


def test_gradients_equal_pytorchs():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((3, 4))
    x[1, 2] = x[1].max()
    pairs = [
        (lambda v: mg.var(v, axis=1, correction=1), lambda v: torch.var(v, 1)),
        (lambda v: mg.std(v, axis=0), lambda v: torch.std(v, 0, correction=0)),
        (lambda v: mg.max(v, axis=1), lambda v: torch.amax(v, 1)),
        (lambda v: mg.min(v, axis=(0, 1)), lambda v: torch.amin(v, (0, 1))),
        (lambda v: mg.prod(v, axis=0), lambda v: torch.prod(v, 0)),
        (lambda v: mg.cumulative_sum(v, 1), lambda v: torch.cumsum(v, 1)),
        (mg.mean, torch.mean),
    ]
    for ours, theirs in pairs:
        v = torch.tensor(x, requires_grad=True)
        weights = np.random.default_rng(1).standard_normal(ours(t(x)).shape)
        (theirs(v) * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(gradient(lambda v: ours(v) * t(weights), x), v.grad.numpy(), rtol=1e-12, atol=1e-14)  # noqa: B023


def test_a_mean_is_one_node():
    with mg.record() as g:
        mg.mean(t([1.0, 2.0]), axis=0)
    assert [n.op.name for n in g.nodes if n.op is not None] == ["mean"]
    assert g.nodes[-1].attrs["axis"] is None  # all axes, however they were written


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", [*PYTHON, "argmax", "argmin"])
def test_axes_that_do_not_exist(name):
    with pytest.raises(BoundsError, match=rf"{name}: axis 2 does not exist(.|\n)*-2 to 1"):
        getattr(mg, name)(t([[1.0]]), axis=2)
    with pytest.raises(BoundsError, match="0-d"):
        getattr(mg, name)(t(1.0), axis=0)
    with pytest.raises(DTypeError, match="integer"):
        getattr(mg, name)(t([[1.0]]), axis="rows")
    if not name.startswith("arg"):
        with pytest.raises(ShapeError, match="twice"):
            getattr(mg, name)(t([[1.0]]), axis=(0, -2))


@pytest.mark.parametrize("name", ["mean", "max", "min", "argmax", "argmin", "var", "std"])
def test_of_nothing(name):
    function = getattr(mg, name)
    message = rf"{name}(.|\n)*elements?(.|\n)*\(?0, 3\)?|{name}(.|\n)*float32\[0, 3\]"
    for call in (function, mg.compile(lambda x: function(x, axis=0))):
        with pytest.raises(ShapeError, match=message):
            call(mg.zeros((0, 3)))


# ----------------------------------------------------------------------------------------------- tests of the tests


def not_divided(F, g, y, x, axis=None, keepdims=False):
    return F.broadcast_to(reduction.spread(F, g, x, axis, keepdims), shape=x.shape)


def without_g(F, g, y, x, axis=None, keepdims=False):
    return F.astype(x == reduction.spread(F, y, x, axis, keepdims), dtype=x.dtype)


WRONG = {
    "mean": not_divided,
    "max": without_g,
    "prod": lambda F, g, y, x, axis=None, keepdims=False: reduction.spread(F, g * y, x, axis, keepdims) / x,
    "cumulative_sum": lambda F, g, y, x, axis: F.cumulative_sum(g, axis=axis),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_planted_wrong_rule_is_caught(name, monkeypatch):
    monkeypatch.setattr(OPS[name], "vjp", (WRONG[name],))
    monkeypatch.setattr(OPS[name], "saves", ("x", "y"))
    report = opcheck(name, raise_on_failure=False)
    assert not report["gradient"].ok
    with pytest.raises(OpCheckError):
        opcheck(name)
