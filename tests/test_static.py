"""Static mode through both doors: traced functions, training steps, define-then-run graphs, and what they show."""

import gc
import linecache
import threading
import time
import warnings

import numpy as np
import pytest

import minigraph as mg
from minigraph import nn, optim
from minigraph.errors import ArgumentError, DTypeError, GraphError, ShapeError, TraceError

pytestmark = pytest.mark.usefixtures("each_backend")


def data(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def test_a_pure_function_gives_the_same_bits():
    f = lambda x, w: (mg.tanh(x @ w) * 2.0 + x.sum(axis=1, keepdims=True)).mean()  # noqa: E731
    x, w = data(5, 3), data(3, 4, seed=1)
    compiled = mg.compile(f)
    for _ in range(3):
        assert compiled(x, w).item() == f(x, w).item()
    assert compiled.traces == ["it had not been called before"]


def test_arguments_may_be_trees_arrays_and_floats():
    def f(params, scale, *, shift):
        return {"y": params["w"][0] * scale + shift, "n": 3}

    compiled = mg.compile(f)
    out = compiled({"w": [np.ones(2, "float32")]}, 2.5, shift=mg.tensor(1.0))
    assert out["y"].numpy().tolist() == [3.5, 3.5] and out["n"] == 3
    assert compiled({"w": [np.ones(2, "float32")]}, 4.0, shift=mg.tensor(1.0))["y"].numpy().tolist() == [5.0, 5.0]
    assert len(compiled.traces) == 1  # another float is not another trace, nor is it baked in
    assert compiled.graph.signature() == 'params["w"][0]: float32[2], scale: float64[], shift: float32[]'


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_python_float_argument_is_as_weak_as_it_is_in_dynamic_mode(dtype):
    x = mg.tensor(np.ones(2), dtype=dtype)
    f = lambda x, a: x * (a * 3.0) + a  # noqa: E731
    compiled = mg.compile(f)
    assert compiled(x, 0.1).dtype == f(x, 0.1).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(compiled(x, 0.1).numpy(), f(x, 0.1).numpy())
    assert type(mg.compile(lambda a: a * 2.0)(1.5)) is float


def build(seed, optimizer):
    mg.random.seed(seed)
    first = nn.Linear(6, 16, bias=False)  # batch norm would subtract it: its gradient is rounding, which Adam scales up
    net = nn.Sequential(first, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 3))
    opt = {
        "sgd": lambda: optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3),
        "nesterov": lambda: optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True),
        "adam": lambda: optim.Adam(net.parameters(), lr=0.01),
        "adamw": lambda: optim.AdamW(net.parameters(), lr=0.01),
        "rmsprop": lambda: optim.RMSprop(net.parameters(), lr=0.01),
    }[optimizer]()

    def step(x, y):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optim.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        return loss

    return net, opt, step


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw", "rmsprop"])
def test_a_whole_training_step_compiles_unchanged(optimizer):
    """Forward, backward, clipping, update, dropout masks, batch statistics and gradients: all equal after six steps."""
    x = data(32, 6)
    y = mg.tensor(np.random.default_rng(1).integers(0, 3, 32))
    net, opt, step = build(0, optimizer)
    losses = [step(x, y).item() for _ in range(6)]
    state, gradients = net.state_dict(), [p.grad.numpy() for p in net.parameters()]
    other, other_opt, other_step = build(0, optimizer)
    compiled = mg.compile(other_step)
    assert [compiled(x, y).item() for _ in range(6)] == pytest.approx(losses, rel=1e-6)
    assert len(compiled.traces) == 1
    for path, value in other.state_dict().items():
        np.testing.assert_allclose(value.numpy(), state[path].numpy(), rtol=1e-5, atol=1e-6, err_msg=path)
    for p, g in zip(other.parameters(), gradients, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-4, atol=1e-6)
    assert other_opt.groups[0].steps.item() == 6
    opt.lr = other_opt.lr = 0.5  # the rate is a variable: no new trace, and it is seen
    for _ in range(2):
        found = []
        for f in (step, compiled):
            mg.random.seed(5)  # both draw from the default generator
            found.append(f(x, y).item())
        assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert len(compiled.traces) == 1


def test_dynamic_and_static_steps_may_be_mixed():
    x, y = data(16, 6), mg.tensor(np.random.default_rng(1).integers(0, 3, 16))
    _, _, step = build(0, "adam")
    reference = [step(x, y).item() for _ in range(6)]
    _, _, step = build(0, "adam")
    compiled = mg.compile(step)
    mixed = [(compiled if i % 2 else step)(x, y).item() for i in range(6)]
    assert mixed == pytest.approx(reference, rel=1e-6)
    assert len(compiled.traces) == 1


def test_evaluation_mode_is_part_of_what_is_compiled():
    mg.random.seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    predict = mg.compile(lambda x: net(x))
    x = data(3, 4)
    a, b = predict(x).numpy(), predict(x).numpy()
    assert (a != b).any()  # fresh masks
    net.eval()
    with mg.no_grad():
        np.testing.assert_array_equal(predict(x).numpy(), net(x).numpy())
    assert any("training changed from True to False" in reason or "switched off" in reason for reason in predict.traces)


def test_gradients_flow_through_a_compiled_function():
    w = mg.Variable(data(3), requires_grad=True)
    f = mg.compile(lambda x: (mg.sin(x) * w).sum())
    x = mg.tensor([0.1, 0.2, 0.3], requires_grad=True)
    f(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(x.numpy()) * w.numpy(), rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), np.sin(x.numpy()), rtol=1e-6)
    np.testing.assert_allclose(mg.grad(mg.grad(mg.compile(lambda x: x**4)))(mg.tensor(2.0)).item(), 48.0)


def test_variables_are_read_and_assigned_at_every_call():
    counter = mg.Variable(0, name="counter")

    @mg.compile
    def count(x):
        counter.assign(counter + 1)
        return x * counter

    assert [count(mg.tensor(10)).item() for _ in range(3)] == [10, 20, 30] and counter.item() == 3
    counter.assign(100)
    assert count(mg.tensor(1)).item() == 101
    assert list(count.graph.reads) == [counter] and list(count.graph.assigns) == [counter]


def test_outputs_are_fresh_and_inputs_are_never_written():
    f = mg.compile(lambda x: (x + 1.0, x))
    x = data(4)
    keep = x.numpy().copy()
    a, same = f(x)
    first = a.numpy().copy()
    f(data(4, seed=9))
    assert (a.numpy() == first).all() and (x.numpy() == keep).all() and (same.numpy() == keep).all()


def test_two_threads_may_call_one_compiled_function():
    f = mg.compile(lambda x: (mg.exp(mg.sin(x) * 2.0) + x).sum())
    inputs = [data(2000, seed=s) for s in range(8)]
    expected = [f(x).item() for x in inputs]
    wrong = []

    def work(k):
        for _ in range(200):
            if f(inputs[k]).item() != expected[k]:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_an_interrupt_leaves_variables_at_a_step_boundary():
    w, v = mg.Variable(1.0, name="w"), mg.Variable(1.0, name="v")

    @mg.compile
    def step(x):
        w.assign(w * 2.0)
        v.assign(v * mg.exp(x))
        return w + v

    step(mg.tensor(0.0))

    class Interrupt(mg.debug.Hook):
        def before(self, node):
            if node.op.name == "exp":
                raise KeyboardInterrupt

    with mg.debug.hooks(Interrupt()), pytest.raises(KeyboardInterrupt):
        step(mg.tensor(0.0))
    assert (w.item(), v.item()) == (2.0, 1.0)
    step(mg.tensor(0.0))
    assert (w.item(), v.item()) == (4.0, 1.0)


def test_hooks_see_every_node_of_a_compiled_run():
    f = mg.compile(lambda x: mg.sin(x) * 2.0)
    expected = f(data(3))
    seen = []

    class Watch(mg.debug.Hook):
        def after(self, node, value):
            seen.append((node.op.name, value.shape))

    with mg.debug.hooks(Watch()):
        result = f(data(3))
    assert seen == [("sin", (3,)), ("multiply", (3,))]
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-6)


def test_a_retrace_says_why():
    f = mg.compile(lambda x, n=2: x * n)
    f(data(3))
    f(data(4))
    f(data(4), n=5)
    f(mg.tensor([1, 2]), n=5)
    assert f.traces[1] == "argument x: float32[3] became float32[4]"
    assert 'has "n" in addition' in f.traces[2] and "argument x: float32[4] became int64[2]" in f.traces[3]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(10, 20):
            f(data(4), n=n)
    assert any("traced 8 times" in str(w.message) for w in caught)


def test_a_retrace_is_explained_by_the_newest_version_that_is_as_near():
    f = mg.compile(lambda x: x * 2)
    for n in (3, 4, 5):
        f(data(n))
    assert f.traces[2] == "argument x: float32[4] became float32[5]"
    scale = 1.0
    g = mg.compile(lambda x: x * scale)
    g(data(3))
    scale = 2.0
    g(data(3))
    scale = 3.0
    g(data(3))
    assert g.traces[2] == "scale changed from 2.0 to 3.0"
    scale = 4.0
    g(data(4))
    scale = 5.0
    g(data(3))  # the version for three elements is now newer than the one for four
    g(data(5))
    assert g.traces[-1] == "argument x: float32[3] became float32[5]"


def test_threads_that_meet_at_a_first_call_trace_once():
    @mg.compile
    def f(x):
        time.sleep(0.05)  # long enough for the others to arrive
        return x * 2.0

    results = []

    def work():
        results.append(f(data(3)).numpy().tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(f.traces) == 1 and all(r == results[0] for r in results) and len(results) == 4


def test_everything_is_on_show():
    w = mg.tensor([1.0, 2.0], name="w")
    f = mg.compile(lambda x: mg.sin(x * w) + mg.sin(x * w) * 1.0, backend="numpy")
    with pytest.raises(GraphError, match="has not been called yet"):
        _ = f.graph
    f(data(2))
    assert [s.name for s in f.passes] == [
        "fold_constants",
        "simplify",
        "reduce_strength",
        "eliminate_common_subexpressions",
        "eliminate_dead_code",
    ]
    assert all(s.after is t.before for s, t in zip(f.passes, f.passes[1:], strict=False))
    assert {c.rule for s in f.passes for c in s.changes} >= {"x * 1 -> x", "equal expressions -> one"}
    assert len(f.optimized.operations) == 3 < len(f.graph.operations)
    assert "sin(" in f.source and "test_static.py" in f.source
    assert f.memory.peak >= f.memory.bound > 0 and "memory plan" in repr(f.memory)
    assert f.captured == [w] or (len(f.captured) == 1 and f.captured[0].name == "w")
    assert "sin" in str(f.graph) and "return" in str(f.graph)
    f.graph.check()
    f.optimized.check()


def test_a_training_step_is_in_three_parts_forward_backward_and_update():
    """Each node says so by its scope, and below it which layer it belongs to: that is what drawings fold by."""
    _, _, step = build(0, "adam")
    compiled = mg.compile(step)
    compiled(data(8, 6), mg.tensor(np.zeros(8, "int64")))
    paths = [(n.scope.path if n.scope else (), n.op.name) for n in compiled.graph.operations]
    first = [path[0] for path, _ in paths if path]
    assert list(dict.fromkeys(first)) == ["Sequential", "backward", "update"]
    assert [k for k in first if k == "Sequential"] == first[: first.count("Sequential")]  # one stretch each
    assert first[-first.count("update") :] == ["update"] * first.count("update")
    layers = [path[1:] for path, _ in paths if path[:1] == ("backward",)]
    assert [path for path in dict.fromkeys(layers) if path] == [("Sequential", str(k)) for k in (4, 3, 2, 1, 0)]
    forward = {path: {s.kind} for path, s in ((n.scope.path, n.scope) for n in compiled.graph.operations if n.scope)}
    assert forward["backward", "Sequential", "4"] == forward["Sequential", "4"] == {"Linear"}
    assert forward["update",] == {"Adam"} and forward["backward",] == {"backward"}
    assert (("backward", "Sequential", "4"), "matmul") in paths and (("Sequential", "4"), "linear") in paths


def test_the_scope_of_a_gradient_starts_where_backward_is_called():
    layer = nn.Linear(2, 1)

    @mg.compile
    def f(x):
        with mg.named_scope("model"):
            loss = layer(x).sum()
            loss.backward()
        with mg.named_scope("penalty"):
            slope = mg.grad(mg.grad(lambda t: mg.sin(t)))(x[0, 0])
        return loss, slope

    f(data(3, 2))
    found = list(dict.fromkeys(str(n.scope) for n in f.graph.operations))
    assert [s for s in found if "backward" in s] == [
        "model.backward",
        "model.backward.Linear",
        "penalty.backward",
        "penalty.backward.backward",
    ]


def test_a_backward_walk_that_fails_leaves_no_scope_behind():
    @mg.op
    def broken(xp, x):
        return x * 1

    broken.defvjp(lambda F, g, y, x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mg.compile(lambda x: mg.grad(lambda t: broken(t).sum())(x))(data(2))
    with mg.record() as g:
        mg.sin(data(2))
    assert g.nodes[-1].scope is None


def test_gradients_inside_a_loop_belong_to_the_loop():
    cell = nn.Linear(2, 2)

    @mg.compile
    def f(x):
        with mg.named_scope("loop"):
            last, _ = mg.scan(lambda c, t: (mg.tanh(cell(c) + t), None), mg.zeros((2,)), x)
        last.sum().backward()
        return last

    f(data(3, 2))
    (node,) = [n for n in f.graph.operations if n.op.name == "scan" and n.scope.path[0] == "backward"]
    assert str(node.scope) == "backward.loop"
    inside = {str(n.scope) for n in node.attrs["body"].operations}
    assert {"loop.Linear", "backward.loop", "backward.loop.Linear"} <= inside
    assert not any("backward" in s[len("backward") :] for s in inside)


def test_generated_code_is_forgotten_with_its_program():
    """Its text is kept for tracebacks as long as it can run, and no longer."""
    gc.collect()
    before = set(linecache.cache)
    f = mg.compile(lambda x: mg.cond(x.sum() > 0, lambda x: x * 3.0, lambda x: -x, mg.sin(x) * 2.0), backend="numpy")
    f(data(3))
    f(data(4))
    made = {file for file in set(linecache.cache) - before if file.startswith("<minigraph")}
    assert len(made) >= 4  # two versions, each with a branch that was taken
    assert any("sin" in linecache.getline(file, i) for file in made for i in range(20))
    del f
    gc.collect()
    assert not made & set(linecache.cache)


# ------------------------------------------------------------------------------------------------ define, then run


def test_a_graph_is_defined_and_then_run():
    w = mg.Variable([1.0, 2.0], name="w")
    with mg.Graph(name="line") as g:
        x = mg.placeholder((2,), name="x")
        y = mg.placeholder((), name="y")
        z = (x * w).sum() + y
        w.assign(w + x)
    assert g.run({x: np.ones(2, "float32"), "y": 10.0}, z).item() == 13.0
    assert w.numpy().tolist() == [2.0, 3.0]
    a, b = g.run({x: mg.tensor([1.0, 0.0]), y: 0.0}, (z, x))
    assert a.item() == 2.0 and b.numpy().tolist() == [1.0, 0.0]
    assert g(mg.tensor([0.0, 0.0]), mg.tensor(5.0)).item() == 5.0  # replayed on tensors
    for feeds, error, text in [
        ({x: np.ones(2, "float32")}, ArgumentError, "nothing is fed to y"),
        ({x: np.ones(3, "float32"), y: 0.0}, ShapeError, r"expected +\(2,\)"),
        ({x: np.ones(2, "int64"), y: 0.0}, DTypeError, "float32(.|\n)*int64"),
        ({"q": 1.0}, ArgumentError, "'q' is not a placeholder"),
    ]:
        with pytest.raises(error, match=text):
            g.run(feeds, z)


def test_a_defined_graph_can_hold_gradients():
    with mg.Graph() as g:
        x = mg.placeholder((3,), name="x")
        dx = mg.grad(lambda x: (x**3).sum())(x)
    np.testing.assert_allclose(g.run({x: np.array([1.0, 2.0, 3.0], "float32")}, dx).numpy(), [3.0, 12.0, 27.0])


def test_what_is_only_assigned_is_not_an_output():
    w = mg.Variable(1.0, name="w")
    with mg.Graph() as g:
        x = mg.placeholder((), name="x")
        w.assign(x * 2.0)
        w.assign(w + 1.0)
        y = -x
    assert g.outputs == (y,) and g.run({"x": 3.0}).item() == -3.0 and w.item() == 7.0


def test_a_numpy_array_in_a_defined_graph_is_a_constant():
    a = np.ones(2, "float32")
    with mg.Graph() as g:
        mg.placeholder((2,), name="x") + a
    a[:] = 100
    assert g.run({"x": np.array([1.0, 2.0], "float32")}).tolist() == [2.0, 3.0]


def test_operations_and_constants_of_a_part_of_a_graph():
    """An input of a part may have a history outside of it, or be a constant elsewhere; in the part it is an input."""
    with mg.Graph() as g:
        x = mg.placeholder((), name="x")
        two = mg.tensor(2.0)
        y = mg.sin(x)
        z = y * two
    part = mg.Graph([y, two, z], [y, two], [z])
    assert g.operations == (y, z) and part.operations == (z,) and g.constants == (two,) and part.constants == ()
    assert part(mg.tensor(3.0), mg.tensor(4.0)).item() == 12.0


def test_a_placeholder_needs_a_graph():
    with pytest.raises(GraphError, match="no graph is being built"):
        mg.placeholder((2,))


def test_errors_while_running_name_the_users_line():
    @mg.compile
    def f(x, i):
        return mg.take(x, i)  # the line

    f(data(3), mg.tensor([0]))
    with pytest.raises(IndexError, match=r"test_static.py:\d+ in f: +return mg.take\(x, i\)"):
        f(data(3), mg.tensor([7]))


def test_a_failed_trace_shows_what_was_built():
    @mg.compile
    def f(x):
        return mg.sin(x) @ mg.ones((5, 5))

    with pytest.raises(ShapeError) as info:
        f(data(3))
    assert [n.op.name for n in info.value.partial_graph.operations] == ["sin"]


def test_trace_error_inside_nested_graph_is_not_swallowed():
    with pytest.raises(TraceError):
        mg.compile(lambda x: mg.cond(x > 0, lambda x: x if x > 1 else -x, lambda x: x, x))(mg.tensor(1.0))


def test_a_training_step_runs_on_another_device_in_both_modes():
    """On the stand-in for a GPU, which refuses NumPy arrays among its own; the generator stays on the CPU."""
    x, y = data(32, 6), mg.tensor(np.random.default_rng(1).integers(0, 3, 32))
    found = []
    for device in ("cpu", "strict"):
        for mode in (lambda f: f, mg.compile):
            net, _, step = build(0, "adamw")
            net.to(device)
            f = mode(step)
            found.append([f(x.to(device), y.to(device)).item() for _ in range(4)])
    for losses in found[1:]:
        assert losses == pytest.approx(found[0], rel=1e-5)


def test_mixing_devices_is_an_error_while_tracing_and_names_both():
    x, y = data(3), data(3, seed=1).to("strict")
    for f in (lambda x: x + y, mg.compile(lambda x: x + y)):
        with pytest.raises(
            mg.errors.DeviceError, match=r"float32\[3\] on cpu(.|\n)*float32\[3\] on strict(.|\n)*\.to\("
        ):
            f(x)
