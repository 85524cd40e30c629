"""Ctrl-C in mid-step: variables are as they were before the step, or as they are at its end, and a retry works.

Python delivers Ctrl-C between two instructions. So a real SIGINT is sent at every single line that minigraph runs
during a step, one line per attempt, and the state is looked at after each.
"""

import os
import signal
import sys
from itertools import count

import numpy as np
import pytest

import minigraph as mg

pytestmark = pytest.mark.usefixtures("each_backend")

PACKAGE = os.path.dirname(mg.__file__) + os.sep
X = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
Y = np.array([0, 1, 1, 0])


class Lines:
    """Counts the lines of minigraph that run, and presses Ctrl-C at number `at`."""

    def __init__(self, at=-1):
        self.at, self.count = at, 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith((PACKAGE, "<minigraph")):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)
        return self

    def __enter__(self):
        sys.settrace(self)
        return self

    def __exit__(self, *exc):
        sys.settrace(None)


@pytest.fixture(autouse=True)
def plain_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Training:
    """A small model with everything that changes: parameters, running statistics, dropout, two groups, moments."""

    def __init__(self, optimizer):
        generator = mg.random.Generator(0)
        self.generator = generator
        self.net = mg.nn.Sequential(
            mg.nn.Linear(3, 4, generator=generator),
            mg.nn.BatchNorm1d(4),
            mg.nn.ReLU(),
            mg.nn.Linear(4, 2, generator=generator),
        )
        first, last = list(self.net[0].parameters()), list(self.net[3].parameters())
        self.optimizer = optimizer([{"params": first}, {"params": last, "lr": 0.05}])

    def forward_backward(self):
        self.optimizer.zero_grad()
        h = self.net(X) + mg.nn.functional.dropout(mg.ones((4, 2)), 0.5, generator=self.generator)
        mg.cross_entropy(h, Y).backward()

    def step(self):
        self.forward_backward()
        self.optimizer.step()

    def state(self):
        found = {k: v.numpy().copy() for k, v in self.net.state_dict().items()}
        found["generator"] = self.generator.state.numpy().copy()
        for k, group in self.optimizer.state_dict().items():
            found |= {
                f"{k}.{p}": np.asarray(v)
                for p, v in zip(mg.tree.paths(group, k), mg.tree.flatten(group)[0], strict=True)
            }
        return found


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def every_line(action, look, before, after):
    """Interrupt `action` at each of its lines; the state must be one of the two. Returns how often it was each."""
    found = [0, 0]
    for at in count(1):
        training = look()
        try:
            with Lines(at) as lines:
                action(training)
        except KeyboardInterrupt:
            assert lines.count >= at
        else:
            assert lines.count < at, f"Ctrl-C at line {at} was lost"
            assert same(training.state(), after)
            return found
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        state = training.state()
        assert same(state, before) or same(state, after), f"half a step after Ctrl-C at line {at}"
        found[same(state, after)] += 1


OPTIMIZERS = {
    "SGD": lambda p: mg.optim.SGD(p, lr=0.1, momentum=0.9),
    "AdamW": lambda p: mg.optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_at_every_line_of_optimizer_step(name):
    def fresh():
        t = Training(OPTIMIZERS[name])
        t.step()  # moments are not zero any more, the rule is compiled, the arrays are flat
        t.forward_backward()
        return t

    t = fresh()
    before = t.state()
    t.optimizer.step()
    found = every_line(lambda t: t.optimizer.step(), fresh, before, t.state())
    assert min(found) > 0  # it was stopped on both sides


def test_at_every_line_of_a_compiled_step():
    """Forward, running statistics, dropout's generator, backward and both groups: all of it, or nothing."""
    t = Training(OPTIMIZERS["AdamW"])
    compiled = mg.compile(t.step)
    compiled()
    compiled()  # gradients exist now: this is the version that goes on
    cells = [*t.net.parameters(), *t.net.buffers(), t.generator.state]
    cells += [c for g in t.optimizer.groups for c in [g.lr, g.steps, *[v for vs in g.state.values() for v in vs]]]
    start = [c.numpy().copy() for c in cells]

    def fresh():
        compiled()  # the same lines each time: an interrupted run gives its buffers up, and the next one makes new ones
        for c, value in zip(cells, start, strict=True):
            c.assign(value)
        return t

    before = fresh().state()
    compiled()
    after = t.state()
    found = every_line(lambda t: compiled(), fresh, before, after)
    assert min(found) > 0
    fresh()
    compiled()  # and a retry gives what an undisturbed step gives
    assert same(t.state(), after)
    assert len(compiled.traces) <= 2


def test_at_every_line_of_backward():
    """The gradients of all parameters arrive, or none."""

    class Case:
        def __init__(self):
            self.w = [mg.nn.Parameter(np.full(2, i + 1.0)) for i in range(3)]
            self.loss = (self.w[0] * self.w[1] * self.w[2]).sum()

        def state(self):
            return {str(i): np.zeros(2) if w.grad is None else w.grad.numpy() for i, w in enumerate(self.w)}

    case = Case()
    before = case.state()
    case.loss.backward()
    every_line(lambda c: c.loss.backward(), Case, before, case.state())


def test_at_every_line_of_loading():
    def fresh():
        return Training(OPTIMIZERS["SGD"])

    trained = fresh()
    trained.step()
    model, before, after = trained.net.state_dict(), fresh().state(), fresh()
    after.net.load_state_dict(model)
    assert min(every_line(lambda t: t.net.load_state_dict(model), fresh, before, after.state())) > 0


def gradients(t):
    found = {}
    for k, p in enumerate(t.net.parameters()):
        found[str(k)] = np.zeros(0) if p.grad is None else p.grad.numpy()
        found[f"device {k}"] = np.array(str(p.device))
    return found


@pytest.mark.parametrize("action", [
    lambda t: mg.optim.clip_grad_norm_(t.net.parameters(), 0.01),
    lambda t: mg.optim.clip_grad_value_(t.net.parameters(), 0.001),
    lambda t: t.net.zero_grad(), lambda t: t.optimizer.zero_grad(), lambda t: t.net.to("strict"),
], ids=["norm", "value", "module", "optimizer", "to"])  # fmt: skip
def test_at_every_line_of_what_changes_all_gradients(action):
    def fresh():
        t = Training(OPTIMIZERS["SGD"])
        t.forward_backward()
        t.state = lambda: gradients(t)
        return t

    t = fresh()
    before = t.state()
    action(t)
    assert min(every_line(action, fresh, before, t.state())) > 0


class Stop:
    """A hook that presses Ctrl-C at the n-th operation, forward or backward."""

    def __init__(self, event, n):
        self.event, self.n = event, n

    def __getattr__(self, name):
        def told(*args):
            if name == self.event:
                self.n -= 1
                if self.n == 0:
                    raise KeyboardInterrupt

        return told


@pytest.mark.parametrize("event", ["before", "after", "before_backward", "after_backward"])
@pytest.mark.parametrize("static", [False, True])
def test_from_a_hook(event, static):
    """A hook stops the step in the middle of forward or backward: no parameter or moment moves, and a retry works."""
    t, undisturbed = Training(OPTIMIZERS["AdamW"]), Training(OPTIMIZERS["AdamW"])
    t.net.eval(), undisturbed.net.eval()  # in dynamic mode the statistics of a batch are assigned on the way
    t.generator.seed(3), undisturbed.generator.seed(3)
    step, other = (mg.compile(t.step), mg.compile(undisturbed.step)) if static else (t.step, undisturbed.step)
    step(), other()
    assert same(t.state(), undisturbed.state())
    state = t.state()
    with pytest.raises(KeyboardInterrupt), mg.debug.hooks(Stop(event if not static else event.split("_")[0], 5)):
        step()
    if not static:
        t.generator.state.assign(state["generator"])  # dropout had drawn before the interrupt, as in any program
    assert same(t.state(), state)
    step(), other()
    assert same(t.state(), undisturbed.state())


def test_a_thread_is_never_interrupted_and_may_step():
    import threading

    t, errors = Training(OPTIMIZERS["SGD"]), []

    def work():
        try:
            t.step()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_other_handlers_are_called_at_the_end_of_the_block():
    from minigraph.interrupt import held

    seen = []
    signal.signal(signal.SIGINT, lambda *args: seen.append("mine"))
    with held():
        signal.raise_signal(signal.SIGINT)
        seen.append("inside")
    assert seen == ["inside", "mine"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
