"""Convolution and pooling against loops, SciPy and (where it is installed) PyTorch; ties; bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph.errors import ArgumentError, DTypeError, ShapeError


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def loops_conv2d(x, weight, bias, stride, padding, dilation, groups):
    """Convolution by its definition."""
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    (n, _, h, w), (o, per_group, kh, kw) = x.shape, weight.shape
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, o, oh, ow))
    for b, k, i, j in np.ndindex(y.shape):
        first = k // (o // groups) * per_group
        for c, u, v in np.ndindex(per_group, kh, kw):
            y[b, k, i, j] += x[b, first + c, i * sh + u * dh, j * sw + v * dw] * weight[k, c, u, v]
        y[b, k, i, j] += bias[k]
    return y


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 2))
    channels, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride, dilation = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = [
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 3))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    x = random(draw(st.integers(0, 2)), channels, *size)
    weight = random(out, channels // groups, *kernel, seed=1)
    return (
        x,
        weight,
        random(out, seed=2),
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    )


@given(convolutions())
def test_conv2d_is_its_definition(case):
    x, weight, bias, attrs = case
    y = mg.conv2d(x, weight, bias, **attrs)
    expected = loops_conv2d(x, weight, bias, **attrs)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-10)


@given(convolutions())
def test_gradients_of_conv2d(case):
    x, weight, bias, attrs = case
    assert mg.debug.gradcheck(lambda *t: mg.conv2d(*t, **attrs), x, weight, bias).ok


def test_conv2d_differentiates_to_order_three():
    """Each rule is spelled with the other two operations, so this visits every one of them from every side."""
    x, weight = random(1, 2, 4, 4), random(2, 2, 2, 2)

    def curvature(x, weight):
        def energy(x):
            return (mg.conv2d(x, weight, stride=2, padding=1) ** 3).sum()

        return mg.grad(lambda x: (mg.grad(energy)(x) ** 2).sum())(x)

    assert mg.debug.gradcheck(curvature, x, weight).ok


def test_conv2d_against_scipy():
    signal = pytest.importorskip("scipy.signal")
    x, weight = random(2, 3, 6, 7), random(4, 3, 3, 2)
    y = mg.conv2d(x, weight).numpy()
    for n, o in np.ndindex(2, 4):
        expected = sum(signal.correlate2d(x[n, c], weight[o, c], mode="valid") for c in range(3))
        np.testing.assert_allclose(y[n, o], expected, atol=1e-12)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_keeps_the_size(kernel, dilation):
    x, weight = random(2, 1, 7, 8), random(3, 1, *kernel)
    y = mg.conv2d(x, weight, padding="same", dilation=dilation)
    assert y.shape == (2, 3, 7, 8)
    total = [dilation * (k - 1) for k in kernel]
    padded = np.pad(x, ((0, 0), (0, 0), *[(t // 2, t - t // 2) for t in total]))
    np.testing.assert_allclose(y.numpy(), mg.conv2d(padded, weight, dilation=dilation).numpy(), atol=1e-12)
    np.testing.assert_allclose(mg.conv2d(x, weight, padding="valid").numpy(), mg.conv2d(x, weight).numpy())


@pytest.mark.parametrize("padding", [0, 2, "same", (1, 2)])
def test_conv1d(padding):
    x, weight, bias = random(2, 3, 8), random(4, 3, 3), random(4)
    y = mg.conv1d(x, weight, bias, padding=padding).numpy()
    left, right = {"same": (1, 1), 0: (0, 0), 2: (2, 2)}.get(padding, padding)
    for n, o in np.ndindex(2, 4):
        padded = np.pad(x[n], ((0, 0), (left, right)))
        expected = sum(np.correlate(padded[c], weight[o, c], "valid") for c in range(3)) + bias[o]
        np.testing.assert_allclose(y[n, o], expected, atol=1e-12)
    assert mg.debug.gradcheck(lambda *t: mg.conv1d(*t, padding=padding), x, weight, bias).ok


def test_conv1d_strides_and_dilates():
    x, weight = random(1, 1, 9), random(1, 1, 3)
    expected = [np.dot(x[0, 0, i : i + 5 : 2], weight[0, 0]) for i in range(0, 5, 2)]
    np.testing.assert_allclose(mg.conv1d(x, weight, stride=2, dilation=2).numpy()[0, 0], expected, atol=1e-12)


CHANNELS_LAST = random(2, 6, 6, 3).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("x", [CHANNELS_LAST, random(2, 3, 12, 6)[:, :, ::2], random(2, 3, 6, 6)[:, ::-1]])
def test_any_memory_layout_gives_the_same_convolution(x):
    weight = random(4, 3, 3, 3)
    np.testing.assert_array_equal(mg.conv2d(mg.Tensor(x), weight).numpy(), mg.conv2d(x.copy(order="C"), weight).numpy())


@pytest.mark.parametrize(
    ("shapes", "attrs", "error", "words"),
    [
        (((1, 3, 4, 4), (2, 2, 3, 3)), {}, ShapeError, "channels"),
        (((1, 4, 4), (2, 4, 3, 3)), {}, ShapeError, "4 axes"),
        (((1, 2, 2, 2), (2, 2, 3, 3)), {}, ShapeError, "larger"),
        (((1, 2, 2, 4), (2, 2, 2, 2)), {"dilation": 2}, ShapeError, "larger"),
        (((1, 2, 4, 4), (2, 2, 3)), {}, ShapeError, "four axes"),
        (((1, 2, 4, 4), (3, 1, 3, 3)), {"groups": 2}, ShapeError, "groups"),
        (((1, 2, 4, 4), (3, 2, 3, 3), (2,)), {}, ShapeError, "bias"),
        (((1, 2, 4, 4), (3, 2, 3, 3)), {"padding": -1}, ArgumentError, "padding"),
        (((1, 2, 4, 4), (3, 2, 3, 3)), {"padding": "full"}, ArgumentError, "padding"),
        (((1, 2, 4, 4), (3, 2, 3, 3)), {"padding": "same", "stride": 2}, ArgumentError, "stride"),
        (((1, 2, 4, 4), (3, 2, 3, 3)), {"stride": (1, 2, 3)}, ArgumentError, "pair"),
        (((1, 2, 4, 4), (3, 2, 3, 3)), {"stride": 0.5}, DTypeError, "integer"),
        (((1, 2, 4, 4), (3, 2, 3, 3)), {"groups": 0}, ArgumentError, "groups"),
    ],
)
def test_conv2d_explains_bad_input(shapes, attrs, error, words):
    with pytest.raises(error) as caught:
        mg.conv2d(*[mg.ones(s) for s in shapes], **attrs)
    assert words in str(caught.value)
    assert "conv2d" in str(caught.value)


# ------------------------------------------------------------------------------------------------------- pooling


def loops_pool(x, kernel, stride, padding, reduce, fill):
    x = np.pad(x, ((0, 0), (0, 0), *[(p, p) for p in padding]), constant_values=fill)
    oh, ow = ((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True))
    y = np.zeros((*x.shape[:2], oh, ow))
    for n, c, i, j in np.ndindex(y.shape):
        top, left = i * stride[0], j * stride[1]
        y[n, c, i, j] = reduce(x[n, c, top : top + kernel[0], left : left + kernel[1]])
    return y


pools = st.tuples(
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans()
)


@given(pools)
def test_pooling_is_its_definition(case):
    kernel, stride, pad = case
    padding = (kernel[0] // 2, kernel[1] // 2) if pad else (0, 0)
    x = random(2, 2, 5, 4)
    for function, reduce, fill in ((mg.max_pool2d, np.max, -np.inf), (mg.avg_pool2d, np.mean, 0.0)):
        y = function(x, kernel, stride=stride, padding=padding)
        np.testing.assert_allclose(y.numpy(), loops_pool(x, kernel, stride, padding, reduce, fill), atol=1e-12)
        assert mg.debug.gradcheck(lambda x: function(x, kernel, stride=stride, padding=padding), x, order=2).ok  # noqa: B023


def test_pooling_moves_by_its_kernel():
    assert mg.max_pool2d(mg.ones((1, 1, 6, 6)), (2, 3)).shape == (1, 1, 3, 2)
    assert mg.avg_pool2d(mg.ones((1, 1, 6, 6)), 4).shape == (1, 1, 1, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_first_of_equal_maxima_gets_the_gradient(stride):
    x = np.zeros((1, 1, 4, 4))
    g = mg.grad(lambda x: mg.max_pool2d(x, 2, stride=stride).sum())(mg.tensor(x)).numpy()[0, 0]
    expected = np.zeros((4, 4))
    for i in range(0, 3, stride):
        for j in range(0, 3, stride):
            expected[i, j] += 1
    np.testing.assert_array_equal(g, expected)


def test_padding_is_never_the_maximum():
    x = np.full((1, 1, 3, 3), -5.0)
    np.testing.assert_array_equal(mg.max_pool2d(x, 3, stride=1, padding=1).numpy(), x)


def test_adaptive_avg_pool2d():
    x = random(2, 3, 4, 6)
    np.testing.assert_allclose(mg.adaptive_avg_pool2d(x).numpy(), x.mean((2, 3), keepdims=True))
    np.testing.assert_allclose(mg.adaptive_avg_pool2d(x, (2, 3)).numpy(), x.reshape(2, 3, 2, 2, 3, 2).mean((3, 5)))
    with pytest.raises(ArgumentError, match="divides"):
        mg.adaptive_avg_pool2d(x, 4)


@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_pooling_explains_bad_input(pool):
    function = getattr(mg, pool)
    with pytest.raises(ShapeError, match="larger"):
        function(mg.ones((1, 1, 2, 2)), 3)
    with pytest.raises(ShapeError, match="4 axes"):
        function(mg.ones((2, 2)), 2)
    with pytest.raises(ArgumentError, match="padding"):
        function(mg.ones((1, 1, 4, 4)), 2, padding=2)
    with pytest.raises(ArgumentError, match="kernel"):
        function(mg.ones((1, 1, 4, 4)), 0)
    with pytest.raises(DTypeError, match="floating"):
        function(mg.ones((1, 1, 4, 4), dtype="i4"), 2)


# -------------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize(
    "attrs", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (2, 1)}, {"groups": 3, "stride": (2, 1)}]
)
def test_conv2d_against_pytorch(attrs):
    torch = pytest.importorskip("torch")
    arrays = random(2, 3, 7, 6), random(6, 3 // attrs.get("groups", 1), 3, 3), random(6)
    ours = [mg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = mg.conv2d(*ours, **attrs), torch.conv2d(*theirs, **attrs)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), atol=1e-12)
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-10)


def test_pooling_against_pytorch():
    torch = pytest.importorskip("torch")
    x = np.round(random(2, 3, 7, 8) * 2)  # with ties
    for name in ("max_pool2d", "avg_pool2d"):
        ours, theirs = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y = getattr(mg, name)(ours, 3, stride=2, padding=1)
        expected = getattr(torch.nn.functional, name)(theirs, 3, stride=2, padding=1)
        np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), atol=1e-12)
        weights = random(*y.shape)
        (y * weights).sum().backward()
        (expected * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), atol=1e-12)
