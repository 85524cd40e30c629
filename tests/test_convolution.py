"""Convolution and pooling in C against dynamic mode, which computes them in another way (columns and NumPy).

The operands are small whole numbers, whose sums are exact whatever their order is: results must be equal, not close.
Small numbers also tie often, which pooling has to decide as dynamic mode does.
"""

import os
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import blas, convolution
from minigraph.compiler.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None or blas.find() is None, reason="needs a C compiler and a BLAS")

# How an operand may lie in memory: what is stored, and how the function looks at it.
LAYOUTS = {
    "plain": (lambda a: a, lambda t: t),
    "channels last": (lambda a: a.transpose(0, 2, 3, 1).copy(), lambda t: mg.permute_dims(t, (0, 3, 1, 2))),
    "every second column": (lambda a: np.repeat(a, 2, axis=3), lambda t: t[:, :, :, ::2]),
    "channels backwards": (lambda a: a[:, ::-1].copy(), lambda t: t[:, ::-1]),
    "argument that is not contiguous": (lambda a: a.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), lambda t: t),
}


def whole(*shape, dtype="f4", seed=0):
    return np.random.default_rng((seed, *shape)).integers(-4, 5, shape).astype(dtype)


def run(function, *arrays, threads=1):
    """The results of a function in C with so many threads, and which of its operations have no C."""
    compiled = mg.compile(function, backend="c")
    with mock.patch.dict(os.environ, MINIGRAPH_THREADS=str(threads)), mock.patch.object(convolution, "WORTH", 0):
        results = compiled(*map(mg.Tensor, arrays))
        again = compiled(*map(mg.Tensor, arrays))  # scratch memory is not what it was the first time
    for first, second in zip(results, again, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    return [r.numpy() for r in results], [n.op.name for n in compiled.last.program.native.program.callbacks]


def compare(function, *arrays, threads=1, in_c=True):
    found, without = run(function, *arrays, threads=threads)
    assert in_c is None or bool(without) != in_c, without
    for y, expected in zip(found, function(*map(mg.Tensor, arrays)), strict=True):
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected.numpy())


def family(x, w, bias, g, *, looks=(lambda t: t,) * 3, **attrs):
    """All three convolutions of the family."""
    x, w, g = (look(t) for look, t in zip(looks, (x, w, g), strict=True))
    return (
        mg.conv2d(x, w, bias, **attrs),
        mg.conv2d(x, w, **attrs),
        mg.conv2d_input_grad(g, w, size=x.shape[2:], **attrs),
        mg.conv2d_weight_grad(x, g, kernel=w.shape[2:], **attrs),
    )


def pools(v, x, g, y, *, looks=(lambda t: t,) * 4, **attrs):
    """Both poolings and their gradients."""
    v, x, g, y = (look(t) for look, t in zip(looks, (v, x, g, y), strict=True))
    return (
        mg.max_pool2d(x, **attrs),
        mg.max_pool2d_grad(g, x, y, **attrs),
        mg.max_pool2d_pick(v, x, y, **attrs),
        mg.avg_pool2d(x, **attrs),
        mg.avg_pool2d_grad(g, size=x.shape[2:], **attrs),
    )


def stored(layouts, arrays):
    return [LAYOUTS[layout][0](a) for layout, a in zip(layouts, arrays, strict=True)]


def looks(layouts):
    return [LAYOUTS[layout][1] for layout in layouts]


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
sides = st.tuples(st.integers(0, 2), st.integers(0, 2))
layout = st.sampled_from(sorted(LAYOUTS))
channels = st.sampled_from([1, 2, 3, 4, 5, 8, 17, 33])  # fewer than a vector holds, as many, and more


@st.composite
def convolutions(draw):
    """(arrays, layouts, attributes, threads) for `family`."""
    dtype, groups = draw(st.sampled_from(["f4", "f8"])), draw(st.integers(1, 3))
    c, o, kernel = draw(channels), groups * draw(channels), draw(pair)
    attrs = {"stride": draw(pair), "dilation": draw(pair), "padding": draw(st.tuples(sides, sides)), "groups": groups}
    size = [
        max(1, d * (k - 1) + 1 - sum(p)) + draw(st.integers(0, 9))
        for k, d, p in zip(kernel, attrs["dilation"], attrs["padding"], strict=True)
    ]
    x = whole(draw(st.integers(0, 3)), groups * c, *size, dtype=dtype)
    w = whole(o, c, *kernel, dtype=dtype, seed=1)
    g = whole(*mg.conv2d(x, w, **attrs).shape, dtype=dtype, seed=2)
    layouts = draw(st.tuples(layout, layout, layout))
    x, w, g = stored(layouts, (x, w, g))
    return (x, w, whole(o, dtype=dtype, seed=3), g), layouts, attrs, draw(st.integers(1, 3))


@settings(max_examples=25)
@given(convolutions())
def test_convolution_is_that_of_dynamic_mode(case):
    arrays, layouts, attrs, threads = case
    in_c = True if all(a.size for a in arrays) else None  # of arrays without elements, NumPy computes what has some
    compare(lambda *t: family(*t, looks=looks(layouts), **attrs), *arrays, threads=threads, in_c=in_c)


@st.composite
def poolings(draw):
    """(arrays, layouts, attributes, threads) for `pools`."""
    dtype, kernel = draw(st.sampled_from(["f4", "f8"])), draw(pair)
    pads = tuple(draw(st.tuples(st.integers(0, k // 2), st.integers(0, k // 2))) for k in kernel)
    attrs = {"kernel": kernel, "stride": draw(st.one_of(pair, st.just(kernel))), "padding": pads}
    size = [max(1, k - sum(p)) + draw(st.integers(0, 9)) for k, p in zip(kernel, pads, strict=True)]
    shape = draw(st.integers(0, 3)), draw(st.integers(1, 4)), *size
    x, v = whole(*shape, dtype=dtype), whole(*shape, dtype=dtype, seed=1)
    if x.size and draw(st.booleans()):
        x.flat[draw(st.integers(0, x.size - 1))] = np.nan
    y = mg.max_pool2d(x, **attrs).numpy()
    g = whole(*y.shape, dtype=dtype, seed=2) * (kernel[0] * kernel[1])  # its shares are whole numbers again
    layouts = draw(st.tuples(layout, layout, layout, layout))
    return stored(layouts, (v, x, g, y)), layouts, attrs, draw(st.integers(1, 3))


@settings(max_examples=25)
@given(poolings())
def test_pooling_is_that_of_dynamic_mode(case):
    arrays, layouts, attrs, threads = case
    compare(lambda *t: pools(*t, looks=looks(layouts), **attrs), *arrays, threads=threads)


# --- bugs that these comparisons find ---------------------------------------------------------------------------------

HARD = {"stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (2, 2), "groups": 2}


def check_convolutions(per_group, threads=2):
    x, w = whole(3, 2 * per_group, 9, 8), whole(2 * per_group + 2, per_group, 3, 2, seed=1)
    g = whole(*mg.conv2d(x, w, **HARD).shape, seed=2)
    compare(lambda *t: family(*t, **HARD), x, w, whole(len(w), seed=3), g, threads=threads)


def check_pools(stride, threads=2):
    attrs = {"kernel": (3, 2), "stride": stride, "padding": ((1, 0), (1, 1))}
    x = whole(3, 4, 9, 8)
    x[0, 0, 0, 0] = np.nan
    y = mg.max_pool2d(x, **attrs).numpy()
    compare(lambda *t: pools(*t, **attrs), x[::-1].copy(), x, 6 * whole(*y.shape, seed=2), y, threads=threads)


def check_vectors():
    check_convolutions(per_group=5)


def check_loops():
    check_convolutions(per_group=1)


def check_windows_apart():
    check_pools(stride=(3, 3))


def check_windows_that_overlap():
    check_pools(stride=(2, 1))


CHECKS = [check_vectors, check_loops, check_windows_apart, check_windows_that_overlap]


@pytest.mark.parametrize("check", CHECKS)
def test_hard_cases(check):
    check()


@pytest.mark.parametrize(
    ("check", "template", "right", "wrong"),
    [
        (check_vectors, "FORWARD", "DH * ROW, KW, DW", "ROW, KW, DW"),
        (check_vectors, "FORWARD", "bias + at * BIAS", "bias + o * BIAS"),
        (check_vectors, "INPUT_GRAD", "memset(own, 0, PH * PW", "memset(own, 0, 0 * PW"),
        (check_vectors, "INPUT_GRAD", "(TOP + i) * PW", "i * PW"),
        (check_vectors, "WEIGHT_GRAD", "thread < THREADS", "thread < 1"),
        (check_vectors, "WEIGHT_GRAD", "OH, SH * ROW, OW, SW, m,", "OH, ROW, OW, SW, m,"),
        (check_loops, "LOOPS_FORWARD", "o / OG * CG", "0 * CG"),
        (check_loops, "LOOPS_INPUT_GRAD", "q - b * DW", "q - b"),
        (check_loops, "LOOPS_WEIGHT_GRAD", "a * DH * ROW", "a * ROW"),
        (check_windows_apart, "MAX_POOL", "nan |= v != v", "nan |= 0"),
        (check_windows_apart, "MAX_POOL_GRAD", "left = hit ? 0 : left", "left = left"),
        (check_windows_that_overlap, "MAX_POOL_GRAD", "left[j] = hit ? 0 : left[j]", "left[j] = left[j]"),
        (check_windows_apart, "MAX_POOL_PICK", "free ^= hit", "free ^= 0"),
        (check_windows_apart, "AVG_POOL", "sum / (KH * KW)", "sum / (KW * KW)"),
        (check_windows_that_overlap, "AVG_POOL_GRAD", "to[j * SW + b] +=", "to[j * SW + b] ="),
    ],
)
def test_a_planted_bug_is_found(check, template, right, wrong):
    text = getattr(convolution, template)
    assert right in text
    with (
        mock.patch.object(convolution, template, text.replace(right, wrong)),
        pytest.raises(AssertionError, match="Arrays are not equal"),
    ):
        check()


# --- rounding, threads, types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_group", [1, 8])
def test_sums_are_as_accurate_as_their_length_allows(per_group):
    """Against float64, with the usual bound for a sum of n products: n * epsilon * the sum of their sizes."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((4, per_group, 12, 12)), rng.standard_normal((per_group, per_group, 3, 3))
    g = rng.standard_normal((4, per_group, 10, 10))
    arrays = [x, w, np.zeros(per_group), g]
    found, _ = run(family, *[a.astype("f4") for a in arrays])
    exact, sizes = family(*arrays), family(*[abs(a) for a in arrays])
    for y, z, size, length in zip(found, exact, sizes, (9 * per_group, 9 * per_group, 9 * per_group, 400), strict=True):
        assert (abs(y - z.numpy()) <= (length + 3) * 2.0**-24 * size.numpy()).all()


def test_the_number_of_threads_changes_no_bit_of_a_convolution():
    """Each image has one thread; only the gradient of the kernels adds what several have found."""
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal(shape).astype("f4") for shape in ((5, 8, 9, 9), (8, 8, 3, 3), (8,), (5, 8, 7, 7))]
    (*one, of_kernels), _ = run(family, *arrays, threads=1)
    for threads in (2, 3):
        (*several, of_kernels_too), _ = run(family, *arrays, threads=threads)
        for a, b in zip(one, several, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(of_kernels_too, of_kernels, rtol=1e-5, atol=1e-4)


def test_not_a_number_and_infinity_reach_what_they_should():
    """A zero in the padding or in a place of a vector that is not used must meet neither."""
    x = whole(2, 5, 6, 6)
    x[0, 0, 0, 0], x[1, 1, 5, 5] = np.nan, np.inf
    w = abs(whole(6, 5, 2, 2, seed=1)) + 1
    g = abs(whole(2, 6, 7, 7, seed=2)) + 1
    compare(lambda *t: family(*t, padding=1), x, w, whole(6, seed=3), g)


def test_other_types_run_by_their_own_code():
    x, w, g = whole(2, 4, 5, 5), whole(4, 4, 2, 2, dtype="f8", seed=1), whole(2, 4, 4, 4, seed=2)
    compare(lambda *t: family(*t), x, w, whole(4, seed=3), g, in_c=False)
    compare(lambda x, w: (mg.conv2d(x, w),), x.astype("f2"), w.astype("f2"), in_c=False)
