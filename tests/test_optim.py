"""Optimisers against their formulas written a second time, tensors that keep their values, and resuming."""

import numpy as np
import pytest

import minigraph as mg
from minigraph import data, nn, optim

pytestmark = pytest.mark.usefixtures("each_backend")

GRADIENTS = np.random.default_rng(0).normal(size=(12, 3, 4))


def sgd(p, gs, lr=0.1, momentum=0.9, decay=0.01, nesterov=False):
    m = np.zeros_like(p)
    for g in gs:
        g = g + decay * p
        m = momentum * m + g
        p = p - lr * (g + momentum * m if nesterov else m)
    return p


def adam(p, gs, lr=0.1, b1=0.9, b2=0.99, eps=1e-8, decay=0.01, decoupled=False):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gs, 1):
        if decoupled:
            p = p - lr * decay * p
        else:
            g = g + decay * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def rmsprop(p, gs, lr=0.1, alpha=0.9, eps=1e-8):
    s = np.zeros_like(p)
    for g in gs:
        s = alpha * s + (1 - alpha) * g**2
        p = p - lr * g / (np.sqrt(s) + eps)
    return p


CASES = {
    "sgd": (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01), sgd),
    "nesterov": (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        lambda p, gs: sgd(p, gs, nesterov=True),
    ),
    "plain": (lambda p: optim.SGD(p, lr=0.1), lambda p, gs: sgd(p, gs, momentum=0.0, decay=0.0)),
    "adam": (lambda p: optim.Adam(p, lr=0.1, betas=(0.9, 0.99), weight_decay=0.01), adam),
    "adamw": (
        lambda p: optim.AdamW(p, lr=0.1, betas=(0.9, 0.99), weight_decay=0.01),
        lambda p, gs: adam(p, gs, decoupled=True),
    ),
    "rmsprop": (lambda p: optim.RMSprop(p, lr=0.1, alpha=0.9), rmsprop),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("name", CASES)
def test_an_optimiser_follows_its_formula(name, compiled):
    make, formula = CASES[name]
    start = np.random.default_rng(1).normal(size=(3, 4))
    w, other = nn.Parameter(start), nn.Parameter(np.ones(2))
    optimizer = make([w, other])

    def step(g):
        optimizer.zero_grad()
        ((w * g).sum() + other.sum()).backward()
        optimizer.step()

    f = mg.compile(step) if compiled else step
    for g in GRADIENTS:
        f(mg.tensor(g))
    np.testing.assert_allclose(w.numpy(), formula(start, GRADIENTS), rtol=1e-9)


@pytest.mark.parametrize("look", [lambda w: w.read(), lambda w: w.numpy(), lambda w: w.read().T, lambda w: w.read()[0]])
def test_what_was_read_before_a_step_keeps_its_value(look):
    w, v = nn.Parameter(np.ones((2, 3))), nn.Parameter(np.ones(2))
    optimizer = optim.SGD([w, v], lr=0.5, momentum=0.9)
    for _ in range(3):
        (w.sum() + v.sum()).backward()
        held = look(w)
        before = np.array(held)
        optimizer.step()
        optimizer.zero_grad()
        np.testing.assert_array_equal(np.array(held), before)
        assert (w.numpy() != 1.0).all()


def test_without_the_count_of_references_it_would_not_keep_it(monkeypatch):
    from minigraph.optim.flat import Flat

    monkeypatch.setattr(Flat, "holders", lambda self: self.alone)
    w = nn.Parameter(np.ones(3))
    optimizer = optim.SGD([w], lr=0.5)
    w.sum().backward()
    optimizer.step()
    held = w.numpy()
    before = held.copy()
    optimizer.step()
    assert (held != before).any()


def test_values_assigned_between_steps_are_seen():
    w = nn.Parameter([1.0, 1.0])
    optimizer = optim.SGD([w], lr=1.0)
    w.grad = mg.tensor([1.0, 1.0])
    optimizer.step()
    w.assign(mg.tensor([10.0, 20.0]))
    optimizer.step()
    assert w.tolist() == [9.0, 19.0]


def test_parameters_without_a_gradient_stay():
    w, v = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.Adam([w, v], lr=0.1)
    w.grad = mg.tensor([1.0])
    optimizer.step()
    assert v.item() == 1.0 and w.item() < 1.0


def run(steps, path=None, resume=None):
    """Losses of a training run with dropout and shuffling, saved after `steps` steps or continued from a file."""
    mg.random.seed(3)
    digits = data.datasets.digits(flat=True)
    x, y = (a.numpy()[:128] for a in digits)
    net = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))
    optimizer = optim.AdamW(net.parameters(), lr=0.01)
    loader = data.DataLoader(data.TensorDataset(x, y), batch_size=32, shuffle=True, seed=1)
    generator = mg.random.default_generator
    parts = {"net": net, "optimizer": optimizer, "loader": loader, "generator": generator}
    if resume:
        for name, state in mg.load_checkpoint(resume).items():
            parts[name].load_state_dict(state)
    losses = []
    while len(losses) < steps:
        for a, b in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(a), b)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    if path:
        mg.save_checkpoint(path, **{name: part.state_dict() for name, part in parts.items()})
    return losses


def test_training_resumes_bit_for_bit(tmp_path):
    pytest.importorskip("sklearn")
    whole = run(11)
    path = tmp_path / "run.safetensors"
    first = run(6, path=path)
    assert first + run(5, resume=path) == whole
