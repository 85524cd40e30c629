"""Twins: the same network, data, loss and optimiser here and in PyTorch, trained side by side, must stay together.

A training run is where everything meets: forward, gradients, the optimiser's state, schedules, clipping, statistics of
batch norm. A mistake in one of them lets the two runs drift apart, so whole runs are compared, in both modes: the loss
of each step, and all parameters and buffers at the end. In float64 the two differ by rounding only, a few units in the
last place a step, of which an optimiser that divides by small numbers makes more: hence the tolerance. (A bias before
a batch norm has no effect, so its gradient is nothing but rounding, and Adam makes steps of it: there are none here.)
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph import nn, optim

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

STEPS = 30
TOLERANCE = {"rtol": 1e-8, "atol": 1e-10}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@dataclass
class Twins:
    """A network twice, with the same weights. `make(nn, dtype=...)` builds it from the layers of either library."""

    make: Callable[..., Any]
    inputs: np.ndarray
    labels: np.ndarray
    ours: Any = field(init=False)
    theirs: Any = field(init=False)

    def __post_init__(self) -> None:
        self.ours, self.theirs = self.make(nn, dtype=mg.float64), self.make(torch.nn, dtype=torch.float64)
        assert list(self.ours.state_dict()) == list(self.theirs.state_dict())
        theirs = self.theirs.state_dict()
        self.ours.load_state_dict({path: value.numpy().copy() for path, value in theirs.items()})

    def compare(self) -> None:
        """All parameters and buffers are the same."""
        theirs = self.theirs.state_dict()
        for path, value in self.ours.state_dict().items():
            np.testing.assert_allclose(value.numpy(), theirs[path].numpy(), err_msg=path, **TOLERANCE)


def mlp(layers, **kind):
    return layers.Sequential(
        layers.Linear(6, 16, **kind), layers.Tanh(), layers.Linear(16, 16, **kind), layers.ReLU(),
        layers.Linear(16, 4, **kind),
    )  # fmt: skip


def batch_norm_net(layers, **kind):
    return layers.Sequential(
        layers.Linear(6, 16, bias=False, **kind), layers.BatchNorm1d(16, **kind), layers.GELU(),
        layers.Linear(16, 8, bias=False, **kind), layers.BatchNorm1d(8, momentum=0.3, **kind),
        layers.Linear(8, 4, **kind),
    )  # fmt: skip


def conv_net(layers, **kind):
    return layers.Sequential(
        layers.Conv2d(2, 6, 3, padding=1, bias=False, **kind), layers.BatchNorm2d(6, **kind), layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Conv2d(6, 8, 3, stride=2, padding=1, **kind), layers.GroupNorm(2, 8, **kind), layers.SiLU(),
        layers.AvgPool2d(2), layers.Flatten(), layers.Linear(8, 4, **kind),
    )  # fmt: skip


def token_net(layers, **kind):
    return layers.Sequential(
        layers.Embedding(11, 8, padding_idx=0, **kind), layers.LayerNorm(8, **kind), layers.Flatten(),
        layers.Dropout(0.0), layers.Linear(40, 4, **kind),
    )  # fmt: skip


LABELS = np.random.default_rng(1).integers(0, 4, 24)
NETS = {
    "mlp": (mlp, normal(24, 6)),
    "batch norm": (batch_norm_net, normal(24, 6)),
    "convolutions": (conv_net, normal(24, 2, 8, 8)),
    "tokens": (token_net, np.random.default_rng(2).integers(0, 11, (24, 5))),
}
OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam, decay": ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"lr": 0.005, "alpha": 0.9}),
    "rmsprop, decay": ("RMSprop", {"lr": 0.005, "eps": 1e-6, "weight_decay": 0.1}),
}


def train(
    twins: Twins,
    ours: optim.Optimizer,
    theirs: Any,
    *,
    compiled: bool = False,
    steps: int = STEPS,
    clip: tuple[str, float] | None = None,
    schedules: tuple[Any, Any] | None = None,
    loss: tuple[Any, Any] = (nn.functional.cross_entropy, torch.nn.functional.cross_entropy),
) -> None:
    """Train both for some steps on half of the data at a time; the losses must be the same after each."""
    net, other = twins.ours, twins.theirs

    def step(x, y):
        ours.zero_grad()
        value = loss[0](net(x), y)
        value.backward()
        if clip is not None:
            getattr(optim, clip[0])(list(net.parameters()), clip[1])
        ours.step()
        return value

    run = mg.compile(step) if compiled else step
    half = len(twins.inputs) // 2
    for k in range(steps):
        part = slice(k % 2 * half, k % 2 * half + half)
        mine = run(mg.tensor(twins.inputs[part]), mg.tensor(twins.labels[part])).item()
        theirs.zero_grad()
        value = loss[1](other(torch.tensor(twins.inputs[part])), torch.tensor(twins.labels[part]))
        value.backward()
        if clip is not None:
            getattr(torch.nn.utils, clip[0])(other.parameters(), clip[1])
        theirs.step()
        np.testing.assert_allclose(mine, value.item(), err_msg=f"loss of step {k}", **TOLERANCE)
        if schedules is not None:
            for schedule in schedules:
                schedule.step()
            rates = [group.lr.item() for group in ours.groups], [group["lr"] for group in theirs.param_groups]
            np.testing.assert_allclose(*rates, rtol=1e-12, err_msg=f"rates of step {k}")
    twins.compare()


both_modes = pytest.mark.parametrize("compiled", [False, True], ids=["dynamic", "compiled"])


def make(net: str) -> Twins:
    torch.manual_seed(0)
    build, inputs = NETS[net]
    return Twins(build, inputs, LABELS)


def optimisers(twins: Twins, name: str, options: dict[str, Any]) -> tuple[optim.Optimizer, Any]:
    return (
        getattr(optim, name)(twins.ours.parameters(), **options),
        getattr(torch.optim, name)(twins.theirs.parameters(), **options),
    )


@both_modes
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_trains_as_pytorchs(name, compiled):
    twins = make("mlp")
    train(twins, *optimisers(twins, *OPTIMISERS[name]), compiled=compiled)


@both_modes
@pytest.mark.parametrize("net", [name for name in NETS if name != "mlp"])
def test_networks_train_as_pytorchs(net, compiled):
    twins = make(net)
    before = twins.ours.state_dict()
    train(twins, *optimisers(twins, "Adam", {"lr": 0.003}), compiled=compiled)
    for path, value in twins.ours.state_dict().items():  # the comparison is worth nothing if nothing moves
        assert (value.numpy() != before[path].numpy()).any() or "LayerNorm" in path, path
    twins.ours.eval(), twins.theirs.eval()
    evaluate = mg.compile(lambda x: twins.ours(x)) if compiled else twins.ours
    theirs = twins.theirs(torch.tensor(twins.inputs)).detach().numpy()
    np.testing.assert_allclose(evaluate(mg.tensor(twins.inputs)).numpy(), theirs, **TOLERANCE)
    train(twins, *optimisers(twins, "SGD", {"lr": 0.01}), compiled=compiled, steps=4)  # with the running statistics


@both_modes
@pytest.mark.parametrize("clip", [("clip_grad_norm_", 0.1), ("clip_grad_norm_", 1e3), ("clip_grad_value_", 0.02)])
def test_clipped_gradients_are_pytorchs(clip, compiled):
    twins = make("mlp")
    train(twins, *optimisers(twins, "SGD", {"lr": 0.5, "momentum": 0.9}), clip=clip, compiled=compiled)


def sequence(library, optimizer):
    return library.SequentialLR(
        optimizer,
        [
            library.LinearLR(optimizer, 0.1, total_iters=5),
            library.CosineAnnealingLR(optimizer, T_max=STEPS - 5, eta_min=1e-3),
        ],
        milestones=[5],
    )


SCHEDULES = {
    "StepLR": lambda library, o: library.StepLR(o, step_size=7, gamma=0.5),
    "ExponentialLR": lambda library, o: library.ExponentialLR(o, gamma=0.93),
    "LinearLR": lambda library, o: library.LinearLR(o, start_factor=0.2, end_factor=0.8, total_iters=12),
    "CosineAnnealingLR": lambda library, o: library.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.002),
    "LambdaLR": lambda library, o: library.LambdaLR(o, lambda step: 1 / (1 + 0.1 * step)),
    "SequentialLR": sequence,
}


@both_modes
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler:UserWarning")
def test_schedules_are_pytorchs(name, compiled):
    twins = make("mlp")
    ours, theirs = optimisers(twins, "AdamW", {"lr": 0.05})
    schedules = SCHEDULES[name](optim, ours), SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    train(twins, ours, theirs, schedules=schedules, compiled=compiled)


def test_every_optimiser_and_schedule_has_a_twin():
    found = {name for name in optim.__all__ if name[0].isupper()} - {"Optimizer", "Schedule"}
    assert found == {name for name, _ in OPTIMISERS.values()} | set(SCHEDULES)


@both_modes
@pytest.mark.parametrize("name", ["CosineAnnealingLR", "SequentialLR"])
@pytest.mark.filterwarnings("ignore:.*lr_scheduler:UserWarning")
def test_groups_with_their_own_rates(name, compiled):
    twins = make("mlp")
    ours, theirs = (
        library.AdamW([
            {"params": list(net[0].parameters()), "lr": 0.001},
            {"params": [*net[2].parameters(), *net[4].parameters()], "weight_decay": 0.3},
        ], lr=0.02)
        for library, net in ((optim, twins.ours), (torch.optim, twins.theirs))
    )  # fmt: skip
    schedules = SCHEDULES[name](optim, ours), SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    train(twins, ours, theirs, schedules=schedules, compiled=compiled)


@both_modes
def test_frozen_layers_stay(compiled):
    twins = make("batch norm")
    twins.ours[0].requires_grad_(False), twins.theirs[0].requires_grad_(False)
    before = twins.ours[0].weight.numpy()
    train(twins, *optimisers(twins, "Adam", {"lr": 0.01}), compiled=compiled)
    np.testing.assert_array_equal(twins.ours[0].weight.numpy(), before)


# -------------------------------------------------------------------------------------------------- planted bugs


class BiasedAdam(optim.Adam):
    """Adam that takes the number of the step as one too small: the correction of the first moments is wrong."""

    @staticmethod
    def numbers(F, lr, t, **options):
        return optim.Adam.numbers(F, lr, t + 1.0, **options)


class ForgetfulSGD(optim.SGD):
    """Momentum that multiplies the new gradient, too (1 - momentum), as in other libraries but not in PyTorch's."""

    @staticmethod
    def rule(F, p, g, m, *, lr, momentum, weight_decay, nesterov):
        m = m * momentum + g * (1 - momentum)
        return p - m * lr, m


@both_modes
@pytest.mark.parametrize(
    ("wrong", "options"), [(BiasedAdam, {"lr": 0.01}), (ForgetfulSGD, {"lr": 0.05, "momentum": 0.9})]
)
def test_a_wrong_optimiser_is_caught(wrong, options, compiled):
    twins = make("mlp")
    _, theirs = optimisers(twins, wrong.__mro__[1].__name__, options)
    with pytest.raises(AssertionError, match=r"loss of step [12]\b"):
        train(twins, wrong(twins.ours.parameters(), **options), theirs, compiled=compiled)


def test_a_wrong_gradient_is_caught(monkeypatch):
    monkeypatch.setattr(mg.OPS["tanh"], "vjp", (lambda F, g, y, x: g * (1 - y * y) * 1.0001,))
    twins = make("mlp")
    with pytest.raises(AssertionError, match="loss of step"):
        train(twins, *optimisers(twins, "SGD", {"lr": 0.1}))


def test_forgotten_statistics_are_caught():
    twins = make("batch norm")
    twins.ours[1].momentum = 0.2
    with pytest.raises(AssertionError, match=r"1\.running_mean"):
        train(twins, *optimisers(twins, "SGD", {"lr": 0.1}))


# ------------------------------------------------------------------------------------------- functions of networks

SIZES = st.integers(1, 5)
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])


def compare(function: str, *arrays: Any, ours: dict | None = None, seed: int = 0, **options: Any) -> None:
    """A function of `nn.functional` and its gradients are those of PyTorch's function of the same name."""
    mine = [mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = getattr(nn.functional, function)(*mine, **(options if ours is None else ours))
    expected = getattr(torch.nn.functional, function)(*theirs, **options)
    assert y.shape == tuple(expected.shape) and y.dtype == mg.float64
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = normal(*y.shape, seed=seed)
    y.backward(mg.tensor(g)), expected.backward(torch.tensor(g))
    for a, b in zip(mine, theirs, strict=True):
        if b.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-11)


@given(
    st.integers(1, 6), st.integers(1, 6), st.lists(SIZES, max_size=2), REDUCTIONS,
    st.sampled_from([0.0, 0.1, 1.0]), st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_cross_entropy(n, classes, more, reduction, smoothing, weighted, ignoring, seed):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((n, classes, *more))
    labels = rng.integers(0, classes, (n, *more))
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    if ignoring:
        labels = np.where(rng.random(labels.shape) < 0.3, -100, labels)
        labels.flat[0] = 0  # the mean of nothing is NaN in both
        options["ignore_index"] = -100
    weight = rng.uniform(0.1, 2.0, classes) if weighted else None
    x, t = mg.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    y = nn.functional.cross_entropy(x, mg.tensor(labels), weight, **options)
    theirs = None if weight is None else torch.tensor(weight)
    expected = torch.nn.functional.cross_entropy(t, torch.tensor(labels), theirs, **options)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = normal(*y.shape, seed=seed)
    y.backward(mg.tensor(g)), expected.backward(torch.tensor(g))
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-11)


@both_modes
def test_training_with_class_weights_and_padding(compiled):
    twins = make("mlp")
    twins.labels = np.where(np.arange(24) % 5 == 0, -1, twins.labels)
    options = {"ignore_index": -1, "label_smoothing": 0.1}
    weight = np.array([0.5, 1.0, 2.0, 4.0])
    loss = nn.CrossEntropyLoss(weight, **options), torch.nn.CrossEntropyLoss(torch.tensor(weight), **options)
    assert list(loss[0].state_dict()) == list(loss[1].state_dict()) == ["weight"]
    train(twins, *optimisers(twins, "Adam", {"lr": 0.01}), compiled=compiled, loss=loss)


@given(st.lists(SIZES, max_size=3), REDUCTIONS, st.floats(0.1, 3.0), st.integers(0, 99))
def test_regression_losses(shape, reduction, width, seed):
    a, b = 2 * normal(*shape, seed=seed), normal(*shape, seed=seed + 100)
    compare("mse_loss", a, b, reduction=reduction)
    compare("l1_loss", a, b, reduction=reduction)
    compare("huber_loss", a, b, delta=width, reduction=reduction)
    compare("smooth_l1_loss", a, b, beta=width, reduction=reduction)


@given(st.lists(SIZES, max_size=3), REDUCTIONS, st.integers(0, 99))
def test_binary_losses(shape, reduction, seed):
    rng = np.random.default_rng(seed)
    target, logits = rng.uniform(0, 1, shape), 4 * rng.standard_normal(shape)
    target, logits = np.asarray(target), np.asarray(logits)
    compare("binary_cross_entropy_with_logits", logits, target, reduction=reduction)
    compare("binary_cross_entropy", np.asarray(1 / (1 + np.exp(-logits))), target, reduction=reduction)


@given(st.integers(1, 6), st.integers(1, 6), REDUCTIONS, st.integers(0, 99))
def test_nll_loss(n, classes, reduction, seed):
    labels = np.random.default_rng(seed).integers(0, classes, n)
    compare("nll_loss", normal(n, classes, seed=seed), labels, reduction=reduction)


@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(0, 99))
def test_activations_and_softmax(shape, seed):
    x = 3 * normal(*shape, seed=seed)
    for name in ("relu", "sigmoid", "tanh", "softplus", "silu", "gelu", "leaky_relu", "elu"):
        compare(name, x)
    for name in ("softmax", "log_softmax"):
        for axis in range(len(shape)):
            compare(name, x, ours={"axis": axis}, dim=axis)


@given(st.integers(1, 3), st.integers(1, 2), SIZES, SIZES, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2))
def test_convolution_and_pooling(n, channels, height, width, kernel, stride, padding):
    height, width = height + kernel, width + kernel
    x, w, b = normal(n, channels, height, width), normal(3, channels, kernel, kernel, seed=1), normal(3, seed=2)
    compare("conv2d", x, w, b, stride=stride, padding=padding)
    pad = min(padding, kernel // 2)
    compare("max_pool2d", x, ours={"kernel": kernel, "stride": stride, "padding": pad}, kernel_size=kernel,
            stride=stride, padding=pad)  # fmt: skip
    compare("avg_pool2d", x, ours={"kernel": kernel, "stride": stride, "padding": pad}, kernel_size=kernel,
            stride=stride, padding=pad)  # fmt: skip


@given(st.integers(1, 4), st.integers(1, 3), SIZES, st.integers(0, 99))
def test_normalisation(n, groups, size, seed):
    x = normal(n, 2 * groups, size + 1, seed=seed)
    weight, bias = normal(2 * groups, seed=seed + 1), normal(2 * groups, seed=seed + 2)
    compare("layer_norm", x, ours={"normalized_shape": x.shape[1:]}, normalized_shape=x.shape[1:])
    compare("group_norm", x, ours={"num_groups": groups}, num_groups=groups)
    mine = nn.functional.batch_norm(x, None, None, mg.tensor(weight), mg.tensor(bias), training=True)
    theirs = torch.nn.functional.batch_norm(torch.tensor(x), None, None, torch.tensor(weight), torch.tensor(bias), True)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-11)


def test_dropout_in_evaluation_is_nothing():
    twins = make("tokens")
    dropping = copy.deepcopy(twins.ours)
    dropping[3].p = 0.5
    dropping.eval(), twins.theirs.eval()
    x = NETS["tokens"][1]
    np.testing.assert_allclose(dropping(mg.tensor(x)).numpy(), twins.theirs(torch.tensor(x)).detach().numpy())
