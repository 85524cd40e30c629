"""What could silently go wrong under tracing: each is right, or an error that names the line and the remedy."""

import random

import numpy as np
import pytest

import minigraph as mg
from minigraph.errors import TraceError

pytestmark = pytest.mark.usefixtures("each_backend")

x = mg.tensor([1.0, 2.0])
HERE = r"test_footguns.py:\d+ in "


def refused(f, *args, match):
    with pytest.raises(TraceError, match=match) as info:
        mg.compile(f)(*args)
    assert "remedy" in str(info.value)
    return str(info.value)


def test_branching_on_a_value():
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    text = refused(f, x, match="cannot become true or false(.|\n)*mg.cond(.|\n)*" + HERE + r"f: +if x.sum\(\) > 0")
    assert "made at" in text


def test_a_while_loop_on_a_value():
    def f(x):
        while x.max() < 10:
            x = x * 2
        return x

    refused(f, x, match="mg.while_loop")


@pytest.mark.parametrize(
    "leave", [float, int, lambda t: t.item(), lambda t: t.numpy(), lambda t: np.asarray(t), lambda t: t.tolist()]
)
def test_leaving_for_python_or_numpy(leave):
    refused(lambda x: x * leave(x.sum()), x, match="has no value yet")


def test_ranging_over_a_value():
    refused(lambda n: [x for _ in range(n)], mg.tensor(3), match="has no value yet")


def test_shapes_that_depend_on_data():
    refused(lambda x: x[x > 1].sum(), x, match="where")


class Box:
    """Something to hide a tensor in."""

    content = None


def test_a_symbolic_tensor_that_leaves_the_trace():
    box = Box()

    @mg.compile
    def f(x):
        box.content = x * 2
        return x

    f(x)
    with pytest.raises(TraceError, match=r"a trace that has ended(.|\n)*return it from the compiled function"):
        box.content + 1
    with pytest.raises(TraceError, match="has no value yet"):
        box.content.numpy()
    refused(lambda x: x + box.content, x, match="another trace")


def test_a_symbolic_tensor_that_leaves_a_branch():
    w = mg.Variable([1.0, 1.0])
    for leak in (lambda t: t, lambda t: t * 1.0, lambda t: w.read()):

        def f(x, leak=leak):
            box = []

            def branch(t):
                box.append(leak(t))
                return t * 2.0

            return mg.cond(x.sum() > 0, branch, lambda t: t, x) + box[0]

        refused(f, x, match="another trace")


def test_a_failed_trace_with_an_array_shows_what_was_built():
    a = np.ones(2, "float32")

    def f(x):
        return (x + a) @ mg.ones((5, 5))

    with pytest.raises(mg.errors.ShapeError) as info:
        mg.compile(f)(x)
    assert [n.op.name for n in info.value.partial_graph.operations] == ["add"]


def test_a_list_that_is_appended_to():
    losses = []
    refused(
        lambda x: losses.append(x.sum()), x, match=r"changes losses while it is traced(.|\n)*\[\] became something else"
    )


def test_a_number_in_the_closure_that_changes():
    scale = 2.0

    @mg.compile
    def f(x):
        return x * scale

    assert f(x).numpy().tolist() == [2.0, 4.0]
    scale = 3.0
    assert f(x).numpy().tolist() == [3.0, 6.0]
    assert f.traces[-1] == "scale changed from 2.0 to 3.0"


RATE = 1.0


def test_a_global_that_changes_also_in_a_function_called_by_name():
    global RATE
    RATE = 1.0

    def helper(x):
        return x * RATE

    f = mg.compile(lambda x: helper(x))
    assert f(x).numpy().tolist() == [1.0, 2.0]
    RATE = 10.0
    assert f(x).numpy().tolist() == [10.0, 20.0]
    assert "global RATE changed from 1.0 to 10.0" in f.traces[-1]


def test_a_tensor_in_the_closure_that_is_replaced():
    w = mg.tensor([1.0, 1.0])
    f = mg.compile(lambda x: x + w)
    f(x)
    w = mg.tensor([5.0, 5.0])
    assert f(x).numpy().tolist() == [6.0, 7.0]


def test_a_numpy_array_in_the_closure_that_is_written_to():
    a = np.ones(2, "float32")
    f = mg.compile(lambda x: x + a)
    assert f(x).numpy().tolist() == [2.0, 3.0]
    a[:] = 10
    assert f(x).numpy().tolist() == [11.0, 12.0]
    assert len(f.traces) == 1


def test_what_a_name_in_the_closure_stands_for_is_replaced():
    """By another object of the same kind: an array, a variable, a module, a function."""
    for first, second, use in [
        (np.ones(2, "float32"), np.full(2, 5, "float32"), lambda x, a: x + a),
        (mg.Variable([1.0, 1.0]), mg.Variable([5.0, 5.0]), lambda x, a: x + a),
        (mg.nn.Linear(2, 2), mg.nn.Linear(2, 2), lambda x, a: a(x)),
        (lambda t: t * 2.0, lambda t: t * 3.0, lambda x, a: a(x)),
        ([mg.Variable([1.0, 1.0]), 2.0], [mg.Variable([1.0, 1.0]), 3.0], lambda x, a: x * a[0] * a[1]),
        ({"w": mg.tensor([1.0, 2.0])}, {"w": mg.tensor([2.0, 1.0])}, lambda x, a: x * a["w"]),
        (0.0, -0.0, lambda x, a: 1.0 / (x * a)),
    ]:
        a = first
        f = mg.compile(lambda x, use=use: use(x, a))  # noqa: B023 - that is what is tested
        for a in (first, second, first):
            with np.errstate(divide="ignore"):
                np.testing.assert_array_equal(f(x).numpy(), use(x, a).numpy())
        assert len(f.traces) == 2, f.traces


def test_what_a_number_taken_from_an_array_or_a_property_was_made_of():
    import collections
    import functools

    class Scaled:
        base = 1.0

        @property
        def scale(self):
            return self.base * 2.0

    scaled, array, long = Scaled(), np.array([1.0, 2.0], "float32"), [1.0] * 100
    ordered, given = collections.OrderedDict(a=1.0), [1.0]
    for f, change in [
        (lambda t: t * scaled.scale, lambda: setattr(scaled, "base", 5.0)),
        (lambda t: t * float(array[0]), lambda: array.__setitem__(0, 7.0)),
        (lambda t: t * (array * 2), lambda: array.__setitem__(1, 9.0)),
        (lambda t: t * long[80], lambda: long.__setitem__(80, 3.0)),
        (lambda t: t * ordered["a"], lambda: ordered.update(a=4.0)),
        (functools.partial(lambda t, k: t * k[0], k=given), lambda: given.__setitem__(0, 6.0)),
    ]:
        compiled = mg.compile(f)
        before = compiled(x).tolist()
        assert before == f(x).tolist() == compiled(x).tolist() and len(compiled.traces) == 1
        change()
        assert compiled(x).tolist() == f(x).tolist() != before


def test_what_a_container_in_the_closure_holds_is_replaced():
    held = {"layers": [mg.nn.Linear(2, 2)], "scale": 1.0}
    f = mg.compile(lambda x: held["layers"][0](x) * held["scale"])
    for change in (lambda: None, lambda: held.update(scale=4.0), lambda: held["layers"].insert(0, mg.nn.Linear(2, 2))):
        change()
        np.testing.assert_allclose(f(x).numpy(), (held["layers"][0](x) * held["scale"]).numpy(), rtol=1e-6)
    assert len(f.traces) == 3


class Settings:
    scale = 2.0

    def __init__(self):
        self.inner = Box()
        self.inner.scale, self.inner.weight = 3.0, mg.tensor([1.0, 1.0])

    def apply(self, x):
        return x * self.inner.scale * self.inner.weight


settings = Settings()


def test_what_is_behind_a_chain_of_attributes_changes(monkeypatch):
    """Of an object, of its class, of a module, and in a method that is called."""
    import types

    monkeypatch.setattr(Settings, "scale", 2.0)  # both are as they were for whoever comes next
    monkeypatch.setitem(globals(), "settings", Settings())
    module = types.ModuleType("configuration")
    module.shift = 1.0
    f = mg.compile(lambda x: settings.apply(x) * settings.scale * Settings.scale + module.shift)

    def expected():
        return x.numpy() * settings.inner.scale * settings.inner.weight.numpy() * Settings.scale**2 + module.shift

    changes = [
        lambda: None,
        lambda: setattr(settings.inner, "scale", 5.0),
        lambda: setattr(settings.inner, "weight", mg.tensor([2.0, 3.0])),
        lambda: setattr(module, "shift", 10.0),
        lambda: setattr(Settings, "scale", 7.0),
        lambda: setattr(settings, "inner", Settings().inner),
    ]
    for change in changes:
        change()
        np.testing.assert_allclose(f(x).numpy(), expected())
    assert len(f.traces) == len(changes)
    assert "inner.scale changed from 3.0 to 5.0" in f.traces[1]
    assert "module.shift changed from 1.0 to 10.0" in f.traces[3]
    settings.unrelated = Box()  # nobody looks there
    f(x)
    assert len(f.traces) == len(changes)


def test_an_argument_has_the_name_of_a_global():
    """Which is another thing, and may change."""
    global RATE
    f = mg.compile(lambda RATE: RATE * 2.0)
    f(x)
    RATE = 5.0
    f(x)
    assert len(f.traces) == 1


def test_a_global_that_a_compiled_helper_uses():
    global RATE
    RATE = 1.0
    helper = mg.compile(lambda x: x * RATE)
    f = mg.compile(lambda x: helper(x))
    assert f(x).tolist() == [1.0, 2.0]
    RATE = 3.0
    assert f(x).tolist() == [3.0, 6.0]


def test_a_static_argument_that_changes_inside():
    box = Box()
    box.scale = 2.0
    f = mg.compile(lambda x, box: x * box.scale)
    assert f(x, box).tolist() == [2.0, 4.0]
    box.scale = 3.0
    assert f(x, box).tolist() == [3.0, 6.0]


def test_a_mutable_default():
    def remember(x, seen=[]):  # noqa: B006
        seen.append(1)
        return x * len(seen)

    refused(remember, x, match="changes the default of seen")

    def scaled(x, by=[2.0], *, shift={"a": 1.0}):  # noqa: B006
        return x * by[0] + shift["a"]

    f = mg.compile(scaled)
    assert f(x).tolist() == [3.0, 5.0]
    scaled.__defaults__[0][0], scaled.__kwdefaults__["shift"]["a"] = 3.0, 0.0
    assert f(x).tolist() == [3.0, 6.0]


def test_a_counter_in_a_submodule_or_a_class():
    class Counting(mg.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    net = mg.nn.Sequential(Counting())
    refused(lambda x: net(x), x, match=r"Counting.calls while it is traced(.|\n)*0 became 1")

    class State:
        count = 0

    def f(x):
        State.count += 1
        return x

    refused(f, x, match="State.count")


def test_a_tensor_on_a_module_that_is_replaced():
    class Scale(mg.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = mg.tensor([1.0, 1.0])

        def forward(self, x):
            return x * self.factor

    m = mg.nn.Sequential(Scale())
    f = mg.compile(lambda x: m(x))
    f(x)
    m[0].factor = mg.tensor([3.0, 4.0])
    assert f(x).tolist() == [3.0, 8.0]


def test_functions_that_do_not_run_to_their_end():
    def generate(x):
        yield x

    async def wait(x):
        return x

    for f in (generate, wait):
        with pytest.raises(mg.errors.ArgumentError, match="generator or coroutine"):
            mg.compile(f)


def test_a_compiled_function_inside_a_checkpoint():
    """What it reads gets its gradient, and what it assigns is not assigned twice."""
    w, n = mg.Variable([1.0, 1.0], requires_grad=True), mg.Variable(0.0)

    def f(x):
        n.assign(n + 1.0)
        return (x * w).sum() * n

    found = []
    for g in (f, mg.checkpoint(mg.compile(f)), mg.compile(mg.checkpoint(mg.compile(f)))):
        w.grad = None
        n.assign(0.0)
        t = mg.tensor([1.0, 2.0], requires_grad=True)
        loss = g(t)
        n.assign(50.0)
        loss.backward()
        found.append((loss.item(), t.grad.tolist(), w.grad.tolist(), n.item()))
    assert found == [(3.0, [1.0, 1.0], [1.0, 2.0], 50.0)] * 3


def test_a_compiled_function_inside_a_recording():
    n = mg.Variable(1.0, name="n")
    f = mg.compile(lambda x: n.assign(n + x))
    with mg.record() as g:
        f(mg.tensor(2.0))
        y = n * 2.0
    assert [node.op.name for node in g.operations] == ["call", "item", "multiply"]
    assert g.node(y).inputs[0] is g.assigns[n] and list(g.reads) == [n] and n.item() == 3.0
    assert g().item() == 10.0 and n.item() == 5.0


def test_an_attribute_of_an_object_that_changes():
    class Config:
        def __init__(self):
            self.scale, self.names = 2.0, ["a"]

    config = Config()
    f = mg.compile(lambda x: x * config.scale * len(config.names))
    assert f(x).numpy().tolist() == [2.0, 4.0]
    config.scale = 5.0
    assert f(x).numpy().tolist() == [5.0, 10.0]
    config.names.append("b")
    assert f(x).numpy().tolist() == [10.0, 20.0]


def test_an_attribute_of_a_module_that_changes():
    class Scale(mg.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2.0

        def forward(self, x):
            return x * self.factor

    m = Scale()
    f = mg.compile(lambda x: m(x))
    assert f(x).numpy().tolist() == [2.0, 4.0]
    m.factor = 3.0
    assert f(x).numpy().tolist() == [3.0, 6.0]


def test_a_python_value_changed_from_inside():
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return x

    refused(f, x, match="changes count while it is traced(.|\n)*0 became 1(.|\n)*mg.Variable")


def test_numpy_random_numbers():
    for _ in range(2):  # every other normal number was drawn with the one before
        refused(lambda x: x + float(np.random.normal()), x, match="np.random, which would be frozen(.|\n)*mg.random")  # noqa: NPY002
    rng = np.random.default_rng(0)
    refused(lambda x: x + rng.normal(size=2), x, match="random numbers from rng")
    refused(lambda x: x + random.random(), x, match="random numbers from random")


def test_minigraph_random_numbers_are_not_frozen():
    f = mg.compile(lambda x: x + mg.random.uniform((2,)))
    assert (f(x).numpy() != f(x).numpy()).all()
    mg.random.seed(3)
    a = [f(x).numpy().tolist() for _ in range(3)]
    mg.random.seed(3)
    assert a == [(x + mg.random.uniform((2,))).numpy().tolist() for _ in range(3)]


def test_a_captured_tensor_that_collects_gradients():
    w = mg.tensor([1.0, 1.0], requires_grad=True)

    def f(x):
        (x * w).sum().backward()
        return x

    refused(f, x, match="mg.Variable|nn.Parameter")
    assert w.grad is None


def test_backward_inside_leaves_gradients_as_dynamic_mode_does():
    w = mg.Variable([1.0, 1.0], requires_grad=True, name="w")

    def f(x):
        (x * w).sum().backward()
        return x

    compiled = mg.compile(f)
    compiled(x)
    assert w.grad.numpy().tolist() == [1.0, 2.0]
    compiled(x)  # accumulates: now there is a gradient to begin with
    assert w.grad.numpy().tolist() == [2.0, 4.0]
    assert "w.grad is None changed" in compiled.traces[-1]


def test_a_second_backward_inside_a_trace():
    w = mg.Variable([1.0, 1.0], requires_grad=True)

    def f(x):
        loss = (x * w).sum()
        loss.backward()
        loss.backward()

    with pytest.raises(mg.errors.GraphError, match="freed by an earlier backward"):
        mg.compile(f)(x)


def test_integers_are_part_of_the_signature_and_one_is_not_true():
    f = mg.compile(lambda x, n: x * n if n is not True else -x)
    assert f(x, 1).numpy().tolist() == [1.0, 2.0]
    assert f(x, True).numpy().tolist() == [-1.0, -2.0]
    assert f(x, 3).numpy().tolist() == [3.0, 6.0]


def test_minus_zero_is_not_zero():
    f = mg.compile(lambda x: (x * 0.0, x * -0.0))
    a, b = f(mg.tensor([1.0]))
    assert not np.signbit(a.numpy())[0] and np.signbit(b.numpy())[0]


def test_assigning_a_tensor_element():
    def f(x):
        x[0] = 1.0
        return x

    with pytest.raises(mg.errors.MutationError, match=r"x.at\[i\].set\(v\)"):
        mg.compile(f)(x)


def test_unhashable_and_unknown_arguments():
    with pytest.raises(mg.errors.ArgumentError, match=r"argument s is not a tensor(.|\n)*set"):
        mg.compile(lambda s: 1)({1, 2})
    with pytest.raises(mg.errors.ArgumentError, match="argument a is not an array of numbers"):
        mg.compile(lambda a: 1)(np.array(["a"]))
    with pytest.raises(mg.errors.ArgumentError, match="static_argnames"):
        mg.compile(lambda a: 1, static_argnames="b")


def test_static_arguments():
    f = mg.compile(lambda x, p: x * 2 if p > 0.5 else x, static_argnames="p")
    assert f(x, 0.9).numpy().tolist() == [2.0, 4.0] and f(x, 0.1).numpy().tolist() == [1.0, 2.0]


def test_gradients_switched_off_are_another_version():
    w = mg.Variable([1.0, 1.0], requires_grad=True)
    f = mg.compile(lambda x: (x * w).sum())
    with mg.no_grad():
        assert not f(x).requires_grad
    assert f(x).requires_grad


def test_stop_gradient_inside_is_seen_by_gradients_from_outside():
    """The optimiser of programs removes it, as it changes no value; what is differentiated is the graph before that."""
    unused = mg.Variable(7.0)

    def f(x):
        unused * 0.0  # read, and dropped by the optimiser
        return x * mg.stop_gradient(x) * 1.0

    for g in (f, mg.compile(f), mg.compile(f, passes=())):
        assert mg.grad(g)(mg.tensor(3.0)).item() == 3.0


def test_no_gradient_flows_through_an_assignment():
    """A variable holds a value, not a history: the same in both modes, and inside a checkpoint."""
    n = mg.Variable(1.0)

    def f(x):
        n.assign(x * 2.0)
        return n * x

    for g in (f, mg.compile(f), mg.checkpoint(f), mg.compile(mg.checkpoint(f))):
        t = mg.tensor(3.0, requires_grad=True)
        y = g(t)
        y.backward()
        assert (y.item(), t.grad.item()) == (18.0, 6.0)


def test_two_training_steps_in_one_function():
    """After an update, a parameter is a new leaf, which collects its own gradient."""

    def build():
        mg.random.seed(0)
        net = mg.nn.Linear(2, 1)
        optimizer = mg.optim.Adam(net.parameters(), lr=0.1)

        def steps(x):
            for _ in range(3):
                optimizer.zero_grad()
                loss = (net(x) ** 2).sum()
                loss.backward()
                optimizer.step()
            return loss, (net(x) ** 2).sum()

        return net, steps

    net, steps = build()
    expected = [t.item() for _ in range(2) for t in steps(x)]
    other, steps = build()
    steps = mg.compile(steps)
    assert [t.item() for _ in range(2) for t in steps(x)] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(other.weight.numpy(), net.weight.numpy(), rtol=1e-5)
    np.testing.assert_allclose(other.weight.grad.numpy(), net.weight.grad.numpy(), rtol=1e-4)


def test_a_trainable_variable_collects_gradients_after_it_was_assigned():
    w = mg.Variable(3.0, requires_grad=True, name="w")

    def f(x):
        w.assign(w * 2.0)
        (w * w * x).sum().backward()
        return mg.grad(lambda t: (t * w).sum())(x)

    for g in (f, mg.compile(f)):
        w.assign(3.0)
        w.grad = None
        assert g(x).tolist() == [6.0, 6.0] and w.grad.item() == 36.0 and w.item() == 6.0


def test_a_trainable_variable_that_is_assigned_where_its_gradient_would_be_lost():
    w = mg.Variable(3.0, requires_grad=True, name="w")

    def f(x):
        w.assign(w.read() * 2.0)
        return w * x

    with pytest.raises(TraceError, match="assigned in a checkpointed function"):
        mg.checkpoint(f)(mg.tensor(1.0))
    refused(lambda x: mg.cond(x.sum() > 0, f, f, x), x, match="a result depends on a variable that collects gradients")
    assert w.item() == 3.0


def test_a_variable_that_is_frozen_afterwards_or_inside():
    w, v = mg.Variable(3.0, requires_grad=True, name="w"), mg.Variable(2.0, requires_grad=True)

    @mg.compile
    def f(x):
        (w * v * x).sum().backward()

    f(x)
    assert w.grad.item() == 6.0
    w.requires_grad, w.grad, v.grad = False, None, None
    f(x)
    assert w.grad is None and v.grad.item() == 9.0 and "w.requires_grad changed from True to False" in f.traces[-1]
    w.requires_grad = True
    f(x)
    assert w.grad.item() == 6.0

    def toggle(x):
        w.requires_grad = False
        return w * x

    refused(toggle, x, match=r"w.requires_grad is set inside(.|\n)*stop_gradient")
    assert w.requires_grad


def test_a_static_minus_zero():
    f = mg.compile(lambda x, s: x * s, static_argnames="s")
    assert [bool(np.signbit(f(x, s).numpy()).all()) for s in (0.0, -0.0, 0.0)] == [False, True, False]


def test_a_python_float_is_as_weak_inside_a_nested_graph():
    def f(x, s):
        return (
            mg.cond(x.sum() > 0, lambda t: t * s, lambda t: -t * s, x),
            mg.checkpoint(lambda t: t * s)(x),
            mg.scan(lambda c, t: (c * s + t, c * s), mg.tensor(0.0), x),
            mg.while_loop(lambda c: c.sum() < 100, lambda c: c * s, x),
        )

    expected, found = mg.tree.flatten(f(x, 2.0))[0], mg.tree.flatten(mg.compile(f)(x, 2.0))[0]
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a.numpy(), b.numpy())
