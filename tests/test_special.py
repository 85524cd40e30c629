"""Softmax, its relatives and the losses: against their definitions, the corners where those overflow, and PyTorch."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigraph as mg
from minigraph.debug import OpCheckError, opcheck
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from minigraph.op import OPS
from minigraph.ops import special

inf, nan = math.inf, math.nan
finite = hnp.arrays("f8", hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-30, 30))


def t(data, **options):
    return mg.tensor(np.asarray(data, "f8"), **options)


def gradient(fn, *points):
    xs = [t(p, requires_grad=True) for p in points]
    fn(*xs).sum().backward()
    found = [x.grad.numpy() for x in xs]
    return found[0] if len(found) == 1 else found


def test_every_public_name_is_tested_here():
    losses = {"cross_entropy", "huber_loss", "mse_loss", "binary_cross_entropy_with_logits"}
    assert set(special.__all__) == losses | {"softmax", "log_softmax", "logsumexp"}


# -------------------------------------------------------------------------------------------------------- softmax


@given(finite, st.integers(-3, 2), st.sampled_from([0.0, 1e3, -1e5]))
def test_softmax_family_by_definition_at_any_height(x, axis, height):
    axis = axis % x.ndim - (x.ndim if axis < 0 else 0)
    e = np.vectorize(math.exp)(x)
    total = np.sum(e, axis, keepdims=True)
    high = mg.tensor(x + height)
    close = {"rtol": 1e-9, "atol": 1e-9 + 1e-13 * abs(height)}
    np.testing.assert_allclose(mg.softmax(high, axis).numpy(), e / total, **close)
    np.testing.assert_allclose(mg.log_softmax(high, axis).numpy(), np.log(e / total), **close)
    np.testing.assert_allclose(mg.logsumexp(high, axis, keepdims=True).numpy(), np.log(total) + height, **close)
    assert mg.logsumexp(high).item() == pytest.approx(math.log(e.sum()) + height, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 32, 33, 200])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_short_and_long_rows_agree_with_the_plain_spelling(classes, dtype):
    x = (3 * np.random.default_rng(0).standard_normal((5, classes))).astype(dtype)
    for name in ("softmax", "log_softmax"):
        op, eps = OPS[name], np.finfo(dtype).eps
        for a in (x, np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2]):
            np.testing.assert_allclose(op.numpy(a, axis=1), op.run(np, a, axis=1), rtol=20 * eps, atol=1e-6)


def test_infinite_rows():
    x = t([[-inf, -inf], [0.0, -inf], [inf, 0.0], [nan, 0.0]])
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_array_equal(mg.logsumexp(x, axis=1).numpy(), [-inf, 0, inf, nan])
        np.testing.assert_array_equal(mg.softmax(x).numpy(), [[nan, nan], [1, 0], [nan, nan], [nan, nan]])
        np.testing.assert_array_equal(mg.log_softmax(x).numpy()[1], [0, -inf])
    with np.errstate(invalid="raise", over="raise", divide="ignore"):
        found = gradient(lambda v: mg.logsumexp(v, axis=1), [[-inf, -inf], [0.0, -inf], [2.0, 2.0]])
        np.testing.assert_allclose(found, [[0, 0], [1, 0], [0.5, 0.5]], rtol=1e-15)
        assert gradient(lambda v: mg.softmax(v)[1], [0.0, -inf]).tolist() == [0, 0]
        mg.softmax(t([1e300, -1e300, 0.0]))


def test_hessian_of_logsumexp_is_the_covariance_of_softmax():
    x = t([0.3, -1.0, 2.0])
    p = mg.softmax(x).numpy()
    np.testing.assert_allclose(mg.grad(mg.logsumexp)(x).numpy(), p, rtol=1e-14)
    np.testing.assert_allclose(mg.hessian(mg.logsumexp)(x).numpy(), np.diag(p) - np.outer(p, p), rtol=1e-12)
    np.testing.assert_allclose(mg.jacobian(mg.softmax)(x).numpy(), np.diag(p) - np.outer(p, p), rtol=1e-12)


def test_softmax_errors():
    for name in ("softmax", "log_softmax"):
        function = getattr(mg, name)
        with pytest.raises(DTypeError, match=rf"{name}: x must be floating point(.|\n)*int64"):
            function(mg.tensor([1, 2]))
        with pytest.raises(BoundsError, match="axis 1"):
            function(t([1.0]), axis=1)
        with pytest.raises(ShapeError, match=r"empty(.|\n)*float32\[2, 0\]"):
            function(mg.zeros((2, 0)))
        assert function(mg.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(ShapeError, match="logsumexp"):
        mg.logsumexp(mg.zeros((0,)))
    with pytest.raises(DTypeError, match="logsumexp"):
        mg.logsumexp(mg.tensor([True]))


# --------------------------------------------------------------------------------------------------- cross-entropy


def naive(logits, labels):
    """The losses by the definition, in Python."""
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    return [math.log(sum(math.exp(v) for v in row)) - row[k] for row, k in rows]


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 99), st.sampled_from(["u1", "i4", "i8", "u8"]))
def test_cross_entropy_by_definition(n, classes, seed, dtype):
    rng = np.random.default_rng(seed)
    logits, labels = 4 * rng.standard_normal((n, classes)), rng.integers(0, classes, n).astype(dtype)
    x = mg.tensor(logits, requires_grad=True)
    losses = mg.cross_entropy(x, mg.tensor(labels), reduction="none")
    np.testing.assert_allclose(losses.numpy(), naive(logits, labels), atol=1e-12)
    total = mg.cross_entropy(x, mg.tensor(labels), reduction="sum")
    assert total.item() == pytest.approx(sum(naive(logits, labels)), abs=1e-11)
    mean = mg.cross_entropy(x, mg.tensor(labels))
    assert mean.item() == pytest.approx(sum(naive(logits, labels)) / n, abs=1e-11)
    mean.backward()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p[np.arange(n), labels.astype(int)] -= 1
    np.testing.assert_allclose(x.grad.numpy(), p / n, atol=1e-14)


def test_cross_entropy_far_from_zero():
    logits = t([[1000.0, 0.0], [1000.0, 1000.0], [0.0, -inf]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = mg.cross_entropy(logits, mg.tensor([1, 0, 0]), reduction="none")
    np.testing.assert_allclose(losses.numpy(), [1000, math.log(2), 0])


def test_second_derivative_of_cross_entropy():
    logits, labels = t([[0.3, -1.0, 2.0]]), mg.tensor([2])
    p = mg.softmax(logits).numpy()[0]
    found = mg.hessian(lambda x: mg.cross_entropy(x, labels))(logits).numpy().reshape(3, 3)
    np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), rtol=1e-12)
    derivative, q = (lambda x: mg.cross_entropy(x, labels)), p[0]
    for expected in (q, q * (1 - q), q * (1 - q) * (1 - 2 * q)):  # of order one, two, three by the first logit

        def derivative(x, f=derivative):
            return mg.grad(f)(x)[0, 0]

        assert derivative(logits).item() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_with_classes_on_the_second_axis_and_without_a_batch():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 5, 3, 4)), rng.integers(0, 5, (2, 3, 4))
    flat = np.moveaxis(logits, 1, -1).reshape(-1, 5)
    losses = mg.cross_entropy(mg.tensor(logits), mg.tensor(labels), reduction="none")
    assert losses.shape == labels.shape
    np.testing.assert_allclose(losses.numpy().ravel(), naive(flat, labels.ravel()), atol=1e-13)
    one = mg.cross_entropy(mg.tensor(logits[0, :, 0, 0]), mg.tensor(labels[0, 0, 0]), reduction="none")
    assert one.shape == ()
    assert one.item() == pytest.approx(losses.numpy()[0, 0, 0], abs=1e-14)


def test_a_label_that_is_not_a_class_is_named():
    logits = mg.zeros((4, 3))
    cases = [([0, 3, 1, -1], "label 3 at position 1 .2 labels"), ([0, 1, 2, -1], "label -1 at position 3$")]
    for labels, message in cases:
        for dtype in ("i1", "i4", "i8"):
            y = mg.tensor(np.array(labels, dtype))
            for call in (mg.cross_entropy, mg.compile(mg.cross_entropy)):
                with pytest.raises(BoundsError, match=rf"(?m)labels from 0 to 2(.|\n)*{message}") as caught:
                    call(logits, y)
                assert isinstance(caught.value, IndexError)
    wide = mg.zeros((1, 200))
    with pytest.raises(BoundsError, match="label -100"):
        mg.cross_entropy(wide, mg.tensor(np.array([-100], "i1")))
    with pytest.raises(BoundsError, match="label 250"):
        mg.cross_entropy(wide, mg.tensor(np.array([250], "u1")))


def test_cross_entropy_errors():
    logits, labels = mg.zeros((4, 3)), mg.tensor([0, 1, 2, 0])
    with pytest.raises(DTypeError, match=r"labels must be integers(.|\n)*float32\[4\]"):
        mg.cross_entropy(logits, labels.astype(mg.float32))
    with pytest.raises(DTypeError, match="logits must be floating point"):
        mg.cross_entropy(logits.astype(mg.int32), labels)
    with pytest.raises(ShapeError, match=r"float32\[4, 3\](.|\n)*int64\[3\]"):
        mg.cross_entropy(logits, labels[:3])
    with pytest.raises(ShapeError, match="one-hot"):
        mg.cross_entropy(logits, mg.zeros((4, 3), dtype=mg.int64))
    with pytest.raises(ShapeError, match="do not fit"):
        mg.cross_entropy(mg.zeros(()), labels)
    with pytest.raises(ShapeError, match="batch is empty"):
        mg.cross_entropy(logits[:0], labels[:0])
    with pytest.raises(ShapeError, match="no classes"):
        mg.cross_entropy(logits[:, :0], labels)
    with pytest.raises(ArgumentError, match='"mean", "sum" or "none"'):
        mg.cross_entropy(logits, labels, reduction="average")
    assert mg.cross_entropy(logits[:0], labels[:0], reduction="sum").item() == 0
    assert mg.cross_entropy(logits[:0], labels[:0], reduction="none").shape == (0,)


# ---------------------------------------------------------------------------------------------------- other losses


def log1pexp(x):
    return math.log(1 + math.exp(x))


BY_ELEMENT = {
    "mse_loss": lambda p, q: (p - q) ** 2,
    "huber_loss": lambda p, q: (p - q) ** 2 / 2 if abs(p - q) <= 1 else abs(p - q) - 0.5,
    "binary_cross_entropy_with_logits": lambda x, q: q * log1pexp(-x) + (1 - q) * log1pexp(x),
}


@pytest.mark.parametrize("name", BY_ELEMENT)
@given(hnp.arrays("f8", st.tuples(st.just(2), st.integers(1, 4), st.integers(1, 3)), elements=st.floats(-4, 4)))
def test_losses_by_definition(name, both):
    prediction, target = both
    function = getattr(mg, name)
    expected = np.vectorize(BY_ELEMENT[name])(prediction, target)
    found = function(mg.tensor(prediction), mg.tensor(target), reduction="none").numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert function(mg.tensor(prediction), mg.tensor(target)).item() == pytest.approx(expected.mean(), abs=1e-12)
    total = function(mg.tensor(prediction), mg.tensor(target), reduction="sum").item()
    assert total == pytest.approx(expected.sum(), abs=1e-11)


def test_losses_equal_pytorchs():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(0)
    x, q = rng.standard_normal((2, 4, 3)) * 2
    x[0], q[0] = [1.5, 0.0, -1.5], 0.0
    labels = np.array([0, 2, 1, 1])
    for reduction in ("mean", "sum", "none"):
        kind = {"reduction": reduction}
        cases = [
            (lambda a, b: mg.mse_loss(a, b, **kind), lambda a, b: functional.mse_loss(a, b, **kind)),  # noqa: B023
            (lambda a, b: mg.huber_loss(a, b, 1.5, **kind),  # noqa: B023
             lambda a, b: functional.huber_loss(a, b, delta=1.5, **kind)),  # noqa: B023
            (lambda a, b: mg.binary_cross_entropy_with_logits(a, mg.sigmoid(b), **kind),  # noqa: B023
             lambda a, b: functional.binary_cross_entropy_with_logits(a, torch.sigmoid(b), **kind)),  # noqa: B023
            (lambda a, b: mg.cross_entropy(a * b, mg.tensor(labels), **kind),  # noqa: B023
             lambda a, b: functional.cross_entropy(a * b, torch.tensor(labels), **kind)),  # noqa: B023
        ]  # fmt: skip
        for ours, theirs in cases:
            a, b = torch.tensor(x, requires_grad=True), torch.tensor(q, requires_grad=True)
            y = theirs(a, b)
            y.sum().backward()
            np.testing.assert_allclose(ours(t(x), t(q)).numpy(), y.detach().numpy(), rtol=1e-12, atol=1e-13)
            for found, expected in zip(gradient(ours, x, q), (a.grad, b.grad), strict=True):
                np.testing.assert_allclose(found, expected.numpy(), rtol=1e-10, atol=1e-13)


def test_huber_is_linear_beyond_delta_and_bce_does_not_overflow():
    a, b = gradient(lambda p, q: mg.huber_loss(p, q, 2.0, reduction="sum"), [5.0, -5.0, 1.0], [0.0, 0.0, 0.0])
    assert a.tolist() == [2, -2, 1]
    assert b.tolist() == [-2, 2, -1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = mg.binary_cross_entropy_with_logits(t([1e4, -1e4]), t([0.0, 0.0]), reduction="none")
    assert y.numpy().tolist() == [1e4, 0]


@pytest.mark.parametrize("name", BY_ELEMENT)
def test_loss_errors(name):
    function = getattr(mg, name)
    first = "logits" if name.startswith("binary") else "prediction"
    with pytest.raises(ShapeError, match=rf"{first}: float64\[3\], target: float64\[3, 1\](.|\n)*broadcast_to"):
        function(t([1.0, 2, 3]), t([[1.0], [2], [3]]))
    with pytest.raises(DTypeError, match="target must be floating point"):
        function(t([1.0]), mg.tensor([1]))
    with pytest.raises(ShapeError, match="batch is empty"):
        function(mg.zeros((0,)), mg.zeros((0,)))
    with pytest.raises(ArgumentError, match="reduction"):
        function(t([1.0]), t([1.0]), reduction="batchmean")
    assert function(t([1.0]), mg.tensor(np.ones(1, "f4"))).dtype == mg.float64
    assert function(1.0, mg.tensor(1.0)).dtype == mg.float32


def test_delta_must_be_positive():
    for delta in (0, -1.0, nan):
        with pytest.raises(ArgumentError, match="delta"):
            mg.huber_loss(t([1.0]), t([1.0]), delta)


# ----------------------------------------------------------------------------------------------- tests of the tests


def planted_cross_entropy(F, needs, g, y, logits, labels, reduction="mean"):
    found = special._cross_entropy_grad(F, needs, g, y, logits, labels, reduction)
    return [found[0] * 1.001, None]


WRONG = {
    "softmax": (lambda F, g, y, x, axis=-1: y * g * (1 - y),),
    "log_softmax": (lambda F, g, y, x, axis=-1: g - F.exp(y),),
    "huber_loss": lambda F, needs, g, y, a, b, **attrs: [g * (a - b), g * (b - a)],
    "cross_entropy": planted_cross_entropy,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_planted_wrong_rule_is_caught(name, monkeypatch):
    monkeypatch.setattr(OPS[name], "vjp", WRONG[name])
    report = opcheck(name, raise_on_failure=False)
    assert not report["gradient"].ok
    with pytest.raises(OpCheckError):
        opcheck(name)
