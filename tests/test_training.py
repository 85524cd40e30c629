"""Whole training runs, end to end, in dynamic mode and compiled: they need no more memory with time, go on from a
checkpoint as if nothing had happened, and do the same with small batches as with large ones."""

import gc
import tracemalloc

import numpy as np
import pytest

import minigraph as mg
from minigraph import data, nn, optim
from minigraph.compiler.toolchain import find_compiler

MODES = ["dynamic", "numpy", "c"]
X = np.random.default_rng(0).standard_normal((96, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 96)


@pytest.fixture(params=MODES)
def run(request):
    """What to do with a step: nothing in dynamic mode, else compile it for NumPy or to C."""
    if request.param == "dynamic":
        return lambda step: step
    if request.param == "c" and find_compiler() is None:
        pytest.skip("there is no C compiler")
    return lambda step: mg.compile(step, backend=request.param)


class Trainer:
    """Everything that a training run consists of, and that a checkpoint has to hold."""

    def __init__(self, run):
        mg.random.seed(3)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        self.optimizer = optim.AdamW(self.net.parameters(), lr=0.02)
        warm, cool = optim.LinearLR(self.optimizer, 0.1, total_iters=4), optim.ExponentialLR(self.optimizer, 0.9)
        self.schedule = optim.SequentialLR(self.optimizer, [warm, cool], milestones=[4])
        self.loader = data.DataLoader(data.TensorDataset(X, Y), batch_size=32, shuffle=True, seed=1)
        self.parts = {
            "net": self.net, "optimizer": self.optimizer, "schedule": self.schedule, "loader": self.loader,
            "generator": mg.random.default_generator,
        }  # fmt: skip
        self.step = run(self._step)

    def _step(self, x, y):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(x), y)
        loss.backward()
        optim.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        return loss

    def train(self, steps):
        losses = []
        while len(losses) < steps:
            for x, y in self.loader:
                losses.append(self.step(x, y).item())
                self.schedule.step()
                if len(losses) == steps:
                    break
        return losses

    def save(self, path, without=()):
        states = {name: part.state_dict() for name, part in self.parts.items() if name not in without}
        mg.save_checkpoint(path, **states)

    def load(self, path):
        for name, state in mg.load_checkpoint(path).items():
            self.parts[name].load_state_dict(state)

    def weights(self):
        return {path: t.numpy() for path, t in self.net.state_dict().items()}


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_run_goes_on_from_a_checkpoint_to_the_last_bit(run, stop, tmp_path):
    whole = Trainer(run)
    expected = whole.train(11)
    first = Trainer(run)
    losses = first.train(stop)
    first.save(tmp_path / "run.safetensors")
    second = Trainer(run)
    mg.random.seed(99)  # whatever has happened in the new process
    second.load(tmp_path / "run.safetensors")
    assert losses + second.train(11 - stop) == expected
    for path, value in whole.weights().items():
        np.testing.assert_array_equal(second.weights()[path], value, err_msg=path)


@pytest.mark.parametrize("forgotten", ["net", "optimizer", "schedule", "loader", "generator"])
def test_every_part_of_a_checkpoint_is_needed(forgotten, tmp_path):
    def as_it_is(step):
        return step

    expected = Trainer(as_it_is).train(11)
    first = Trainer(as_it_is)
    losses = first.train(7)
    first.save(tmp_path / "run.safetensors", without=[forgotten])
    second = Trainer(as_it_is)
    second.load(tmp_path / "run.safetensors")
    assert losses + second.train(4) != expected


def test_a_checkpoint_of_one_mode_goes_on_in_another(tmp_path):
    expected = Trainer(lambda step: step).train(11)
    first = Trainer(lambda step: step)
    first.train(5)
    first.save(tmp_path / "run.safetensors")
    second = Trainer(lambda step: mg.compile(step, backend="numpy"))
    second.load(tmp_path / "run.safetensors")
    np.testing.assert_allclose(second.train(6), expected[5:], rtol=1e-5)


def test_memory_is_flat_over_ten_thousand_steps(run):
    """After a hundred steps, ten thousand more leave nothing behind: neither memory nor objects."""
    mg.random.seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    x, y = mg.tensor(X[:8, :4]), mg.tensor(Y[:8] % 2)

    def one(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = run(one)

    def after(steps):
        for _ in range(steps):
            step(x, y)
        gc.collect()
        return len(gc.get_objects())

    after(100)
    tracemalloc.start()
    try:
        objects = after(100)
        memory = tracemalloc.get_traced_memory()[0]
        assert after(10_000) - objects < 100
        assert tracemalloc.get_traced_memory()[0] - memory < 50_000  # bytes; one kept graph for each step: megabytes
    finally:
        tracemalloc.stop()


def test_a_leak_would_be_seen():
    """The measure above, on a loop that keeps every loss and with it every graph."""
    w, kept = mg.Variable(np.zeros(8, "float32"), requires_grad=True), []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            kept.append((w * w).sum())
        assert tracemalloc.get_traced_memory()[0] - before > 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("make", [
    lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9),
    lambda parameters: optim.Adam(parameters, lr=0.01),
], ids=["sgd", "adam"])  # fmt: skip
def test_accumulation_over_micro_batches_is_the_full_batch(run, make, reduction):
    x, y, size = mg.tensor(X.astype("float64")), mg.tensor(Y), 16
    losses = {}
    weights = {}
    for parts in (1, len(X) // size):
        net = nn.Sequential(
            nn.Linear(6, 16, dtype=mg.float64, generator=mg.random.Generator(1)), nn.Tanh(),
            nn.Linear(16, 3, dtype=mg.float64, generator=mg.random.Generator(2)),
        )  # fmt: skip
        optimizer = make(net.parameters())
        rows = len(X) // parts
        share = 1 / parts if reduction == "mean" else 1.0

        def accumulate(x, y, net=net, share=share):
            loss = nn.functional.cross_entropy(net(x), y, reduction=reduction) * share
            loss.backward()
            return loss

        def update(optimizer=optimizer):
            optimizer.step()
            optimizer.zero_grad()

        accumulate, update = run(accumulate), run(update)
        losses[parts] = []
        for _ in range(5):
            found = [accumulate(x[k : k + rows], y[k : k + rows]).item() for k in range(0, len(X), rows)]
            losses[parts].append(sum(found))
            update()
        weights[parts] = [p.numpy() for p in net.parameters()]
    one, many = losses
    np.testing.assert_allclose(losses[many], losses[one], rtol=1e-9)
    for a, b in zip(weights[many], weights[one], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


def test_all_micro_batches_in_one_compiled_step(run):
    """The loop over the micro-batches may stand inside the step."""
    x, y = mg.tensor(X), mg.tensor(Y)
    grads = []
    for parts in (1, 4):
        net = nn.Linear(6, 3, generator=mg.random.Generator(1))

        def step(x, y, net=net, parts=parts):
            net.zero_grad()
            rows = len(X) // parts
            for k in range(parts):
                part = slice(k * rows, (k + 1) * rows)
                (nn.functional.cross_entropy(net(x[part]), y[part]) / parts).backward()

        run(step)(x, y)
        grads.append(net.weight.grad.numpy())
    np.testing.assert_allclose(grads[1], grads[0], rtol=1e-4, atol=1e-6)
