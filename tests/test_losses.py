"""Losses: the same values and gradients as PyTorch's, every reduction, and errors that name what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph import nn
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError

F = nn.functional
rng = np.random.default_rng(0)
LOGITS, LABELS = 3 * rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
A, B = rng.standard_normal((5, 3)), 2 * rng.standard_normal((5, 3))
P, T = rng.uniform(0.05, 0.95, (5, 3)), rng.uniform(0, 1, (5, 3))
LOGP = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))

LOSSES = [
    ("MSELoss", {}, A, B),
    ("L1Loss", {}, A, B),
    ("HuberLoss", {"delta": 0.7}, A, B),
    ("SmoothL1Loss", {"beta": 0.5}, A, B),
    ("SmoothL1Loss", {"beta": 0.0}, A, B),
    ("CrossEntropyLoss", {}, LOGITS, LABELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, LOGITS, LABELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, rng.standard_normal((2, 4, 3)), rng.integers(0, 4, (2, 3))),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, rng.standard_normal(4), np.array(2)),
    ("NLLLoss", {}, LOGP, LABELS),
    ("BCEWithLogitsLoss", {}, 5 * A, T),
    ("BCELoss", {}, P, T),
    ("BCELoss", {}, np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])),
]
NAMES = [f"{name}{k}" for k, (name, *_) in enumerate(LOSSES)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options", "a", "b"), LOSSES, ids=NAMES)
def test_values_and_gradients_are_pytorchs(name, options, a, b, reduction):
    torch = pytest.importorskip("torch")
    both = [mg.tensor(x, requires_grad=x.dtype.kind == "f") for x in (a, b)]
    theirs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in (a, b)]
    y = getattr(nn, name)(reduction=reduction, **options)(*both)
    ty = getattr(torch.nn, name)(reduction=reduction, **options)(*theirs)
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    extreme = name == "BCELoss" and a.ndim == 1  # PyTorch clamps the gradient of the target, too, but elsewhere
    seed = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(mg.tensor(seed)), ty.backward(torch.tensor(seed))
    for x, t in list(zip(both, theirs, strict=True))[: 1 if extreme else 2]:
        if t.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("name", "options", "a", "b"), LOSSES, ids=NAMES)
def test_compiled_losses_compute_the_same(name, options, a, b):
    loss = getattr(nn, name)(**options)
    x, y = mg.tensor(a), mg.tensor(b)
    np.testing.assert_allclose(mg.compile(loss)(x, y).numpy(), loss(x, y).numpy(), rtol=1e-12)
    static = mg.compile(mg.grad(lambda x, y: loss(x, y)))
    np.testing.assert_allclose(static(x, y).numpy(), mg.grad(lambda x, y: loss(x, y))(x, y).numpy(), rtol=1e-12)


@pytest.mark.parametrize(("name", "options", "a", "b"), LOSSES[:12], ids=NAMES[:12])
def test_losses_have_second_derivatives(name, options, a, b):
    loss = getattr(nn, name)(**options)
    report = mg.debug.gradcheck(lambda x: loss(x, mg.tensor(b)), mg.tensor(a), order=2)
    assert report.ok


@given(st.integers(1, 5), st.integers(1, 6), st.floats(0.0, 1.0), st.sampled_from(["mean", "sum", "none"]))
def test_cross_entropy_by_its_formula(n, classes, smoothing, reduction):
    r = np.random.default_rng(n * 10 + classes)
    logits, labels = 4 * r.standard_normal((n, classes)), r.integers(0, classes, n)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    each = -(target * logp).sum(1)
    expected = {"mean": each.mean, "sum": each.sum, "none": lambda: each}[reduction]()
    y = F.cross_entropy(mg.tensor(logits), mg.tensor(labels), reduction=reduction, label_smoothing=smoothing)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_cross_entropy_is_log_softmax_and_nll():
    x, y = mg.tensor(LOGITS), mg.tensor(LABELS)
    np.testing.assert_allclose(F.nll_loss(F.log_softmax(x), y).numpy(), F.cross_entropy(x, y).numpy(), rtol=1e-12)


def test_smooth_l1_is_huber_over_its_width():
    x, y = mg.tensor(A), mg.tensor(B)
    np.testing.assert_allclose(F.smooth_l1_loss(x, y, 0.5).numpy(), F.huber_loss(x, y, 0.5).numpy() / 0.5)


x, y = mg.tensor(LOGITS), mg.tensor(LABELS)
a, b = mg.tensor(A), mg.tensor(B)
REFUSED = [
    (lambda: F.cross_entropy(x, y + 1), BoundsError, r"0 to 3(.|\n)*4 at position"),
    (lambda: F.cross_entropy(x, -1 - y), BoundsError, r"at position 0 \(6 labels"),
    (lambda: F.cross_entropy(x, y.astype("float32")), DTypeError, "integer"),
    (lambda: F.cross_entropy(x, y[:3]), ShapeError, r"\(n,\)"),
    (lambda: F.cross_entropy(x[:0], y[:0]), ShapeError, "batch is empty"),
    (lambda: F.cross_entropy(x, y, label_smoothing=1.5), ArgumentError, "0 to 1"),
    (lambda: F.cross_entropy(x, y, reduction="median"), ArgumentError, '"mean", "sum" or "none"'),
    (lambda: F.nll_loss(x, y + 1), BoundsError, r"0 to 3"),
    (lambda: F.nll_loss(x, -1 - y), BoundsError, r"\(6 are wrong\)"),
    (lambda: F.nll_loss(x[:0], y[:0]), ShapeError, "empty"),
    (lambda: F.nll_loss(x, y, reduction="median"), ArgumentError, "reduction"),
    (lambda: F.nll_loss(x, x), DTypeError, "integer"),
    (lambda: F.mse_loss(a, b[:, :1]), ShapeError, "different shapes"),
    (lambda: F.l1_loss(a, b[0]), ShapeError, "different shapes"),
    (lambda: F.l1_loss(a[:0], b[:0]), ShapeError, "empty"),
    (lambda: F.l1_loss(a, b > 0), DTypeError, "floating point"),
    (lambda: F.smooth_l1_loss(a, b, -1.0), ArgumentError, "beta"),
    (lambda: F.huber_loss(a, b, 0.0), ArgumentError, "delta"),
    (lambda: F.binary_cross_entropy(a, b), BoundsError, "0 <= p <= 1(.|\n)*with_logits"),
    (lambda: F.binary_cross_entropy(mg.tensor(P), b[:2]), ShapeError, "different shapes"),
    (lambda: F.binary_cross_entropy_with_logits(a, b > 0), DTypeError, "floating point"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=-0.1), ArgumentError, "label_smoothing"),
    (lambda: nn.MSELoss("average"), ArgumentError, "MSELoss: reduction"),
    (lambda: nn.HuberLoss(delta=-1), ArgumentError, "delta"),
    (lambda: nn.SmoothL1Loss(beta=-1), ArgumentError, "beta"),
]


@pytest.mark.parametrize(("mistake", "error", "words"), REFUSED)
def test_losses_refuse_what_does_not_fit(mistake, error, words):
    with pytest.raises(error, match=words):
        mistake()


@pytest.mark.parametrize("wrong", [LABELS + 1, -1 - LABELS])
def test_wrong_labels_are_refused_in_compiled_functions_too(wrong):
    for loss, data in ((F.cross_entropy, x), (F.nll_loss, x)):
        with pytest.raises(BoundsError):
            mg.compile(lambda x, y, loss=loss: loss(x, y))(data, mg.tensor(wrong))


def test_certain_and_wrong_predictions_stay_finite():
    confident = mg.tensor([[1000.0, -1000.0]], requires_grad=True)
    F.cross_entropy(confident, mg.tensor([1])).backward()
    assert confident.grad.tolist() == [[1.0, -1.0]]
    p = mg.tensor([0.0, 1.0], requires_grad=True)
    F.binary_cross_entropy(p, mg.tensor([1.0, 0.0])).backward()
    assert np.isfinite(p.grad.numpy()).all()
