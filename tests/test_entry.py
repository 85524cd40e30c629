"""The short way into a compiled function: it does what the general way does, or leaves the call to it."""

import contextlib
import itertools
import signal
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import entry, find_compiler

needs_c = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
BACKENDS = ["numpy", pytest.param("c", marks=needs_c)]

leaves = st.sampled_from([
    lambda: mg.tensor([1.0, 2.0]), lambda: mg.tensor([[1.0], [3.0]]), lambda: mg.tensor([1, 2]), lambda: 1.5,
    lambda: np.array([5.0, 6.0]), lambda: 3, lambda: "text", lambda: None, lambda: mg.tensor(np.arange(4.0)[::2]),
])  # fmt: skip
trees = st.recursive(
    leaves.map(lambda make: make()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "run", "x y", "é"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def doubled(*args, **kwargs):
    """A tree like its arguments: tensors and numbers doubled."""
    return mg.tree.map(lambda x: x if isinstance(x, str | int) else x * 2.0, (args, kwargs))


def plain(tree):
    """A tree with what can be compared in place of tensors and arrays."""
    leaves, structure = mg.tree.flatten(tree)
    return repr(structure), [
        (type(x), x) if isinstance(x, str | int) else (str(np.asarray(getattr(x, "value", x)).dtype), np.asarray(
            getattr(x, "value", x)).tolist()) for x in leaves
    ]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_tree_of_arguments_goes_in_and_comes_out(backend):
    short = 0

    @settings(max_examples=40 if backend == "numpy" else 15, deadline=None)
    @given(st.lists(trees, max_size=3), st.dictionaries(st.sampled_from(["k", "args", "mode"]), trees, max_size=2))
    def holds(args, kwargs):
        nonlocal short
        f = mg.compile(doubled, backend=backend)
        expected = plain(doubled(*args, **kwargs))
        for _ in range(4):
            assert plain(f(*args, **kwargs)) == expected
        if f.enter is not None:
            short += 1
            result = f.enter(tuple(args), kwargs)
            assert result is not entry.MISSED and plain(result) == expected

    holds()
    assert short > 5  # most go the short way


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_arguments_go_the_general_way(backend):
    def fn(x, options=(1, 2.0), *, flag=True, tree=None):
        y = x * options[1] if flag else x * options[0]
        return {"y": y if tree is None else y + tree["b"], "same": [x]}

    a, b = mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0])
    usual = ((a,), {"tree": {"a": b, "b": b}})
    strided = mg.tensor(np.arange(4, dtype="float32")[::2])
    variable = mg.Variable([1.0, 2.0])
    calls = [
        usual, ((b,), usual[1]), ((mg.tensor([1.0, 2.0, 3.0]),), {}), ((mg.tensor([1.0, 2.0], dtype="float64"),), {}),
        ((mg.tensor([1, 2]),), {}), ((a, (1, 5.0)), {}), ((a, [1, 5.0]), {}), ((a, (1, 5.0, 6)), {}), ((a,), {}),
        ((a,), {"flag": False}), ((a,), {"flag": 1}), ((a,), {"tree": {"b": b, "a": b}}), ((a,), {"tree": {"b": b}}),
        ((strided,), usual[1]), ((a.numpy(),), usual[1]), ((variable,), usual[1]), ((), {"x": a}), ((mg.sum(a),), {}),
    ]  # fmt: skip
    f = mg.compile(fn, backend=backend)
    warnings.simplefilter("ignore")  # it is traced often
    for args, kwargs in calls:
        for _ in range(3):
            f(*usual[0], **usual[1])
        assert f.enter is not None and f.enter(*usual) is not entry.MISSED
        assert plain(f(*args, **kwargs)) == plain(fn(*args, **kwargs)), (args, kwargs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_modes_and_the_version_used_last(backend):
    f = mg.compile(lambda x: mg.sin(x) * 2.0, backend=backend)
    x, w = mg.ones(3), mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for _ in range(3):
        f(x)
    enter = f.enter
    assert enter((x,), {}) is not entry.MISSED and enter((w,), {}) is entry.MISSED
    f(w).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * np.cos(w.numpy()), rtol=1e-6)
    assert enter((x.requires_grad_(),), {}) is entry.MISSED
    x = mg.ones(3)
    for _ in range(3):
        f(x)
    with mg.no_grad():
        assert enter((x,), {}) is entry.MISSED and not f(w).requires_grad
    f.trace(mg.ones(4))
    assert f.graph.inputs[0].shape == (4,)
    f(x)
    assert f.graph.inputs[0].shape == (3,)
    outer = mg.compile(lambda x: f(x) + 1.0, backend=backend)
    np.testing.assert_allclose(outer(x).numpy(), f(x).numpy() + 1)
    assert [n.op.name for n in outer.graph.operations].count("sin") == 1


def trained(backend="c"):
    """A step that changes several variables, well warmed up: (step, variables), all of which hold the step's number."""
    cells = [mg.Variable(np.zeros(5), name=f"v{i}") for i in range(4)]

    @lambda fn: mg.compile(fn, backend=backend)
    def step(x):
        for cell in cells:
            cell.assign(cell + x)
        return cells[0] * 1.0

    one = mg.ones(5)
    for _ in range(3):
        step(one)
    assert backend == "numpy" or step.last.program.native.at_home()
    return step, cells, one


@needs_c
@pytest.mark.parametrize("in_c", [True, False])
def test_what_a_caller_holds_stays(monkeypatch, in_c):
    monkeypatch.setattr(entry, "COUNTABLE", in_c and entry.COUNTABLE)
    step, cells, one = trained()
    results, held = [], []
    for k in range(4, 12):
        results.append(step(one))
        if k % 3 == 0:
            held.append((k, cells[k % 4].read(), cells[1].value))
    assert [r.numpy().tolist() for r in results] == [[float(k)] * 5 for k in range(4, 12)]
    for k, tensor, array in held:
        assert (tensor.numpy() == k).all() and (array == k).all()
    cells[2].assign(np.zeros(5))
    step(one)
    assert [c.numpy()[0] for c in cells] == [12, 12, 1, 12]
    assert (one.numpy() == 1).all()


@needs_c
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_arguments_that_are_not_contiguous_and_arrays_from_outside(backend):
    table = np.arange(3.0)
    f = mg.compile(lambda x: x * 2.0 + table, backend=backend)
    x = mg.tensor(np.arange(6.0).reshape(3, 2).T)
    for _ in range(4):
        np.testing.assert_array_equal(f(x).numpy(), x.numpy() * 2 + table)
    table[1] = 100.0
    np.testing.assert_array_equal(f(x).numpy(), x.numpy() * 2 + table)
    assert len(f.traces) == 1


@needs_c
def test_an_error_changes_nothing_and_names_the_cause():
    w = mg.Variable(np.zeros(3))

    @mg.compile
    def step(i):
        w.assign(w + 1.0)
        return mg.take(w, i, axis=0)

    for _ in range(3):
        step(mg.tensor([0, 2]))
    with pytest.raises(IndexError):
        step(mg.tensor([0, 7]))
    assert w.numpy().tolist() == [3.0] * 3
    assert step(mg.tensor([1, 2])).tolist() == [4.0, 4.0]


def lines_of(action, act):
    """Run `action` again and again, and `act` once in each run: before the first line of the package, the second, ...

    Goes on after each run in the caller's loop.
    """
    package = mg.__file__.removesuffix("__init__.py")
    seen = set()
    for k in itertools.count(1):
        lines = itertools.count(1)

        def tell(frame, event, argument, k=k, lines=lines):
            if not frame.f_code.co_filename.startswith((package, "<minigraph")):
                return None
            if event == "line" and next(lines) == k:
                sys.settrace(None)
                seen.add(frame.f_code.co_name)
                act()
                sys.settrace(tell)
            return tell

        sys.settrace(tell)
        try:
            action()
        finally:
            sys.settrace(None)
        yield
        if next(lines) <= k:
            assert {"enter", "step"} <= seen
            return


@pytest.fixture
def handler():
    before = signal.getsignal(signal.SIGINT)
    yield lambda f: signal.signal(signal.SIGINT, f)
    signal.signal(signal.SIGINT, before)


@needs_c
def test_ctrl_c_at_every_line_of_the_short_way(handler):
    step, cells, one = trained()
    handler(signal.default_int_handler)
    found, number = set(), 3

    def action():
        with contextlib.suppress(KeyboardInterrupt):
            step(one)

    for _ in lines_of(action, lambda: signal.raise_signal(signal.SIGINT)):
        (value,) = {float(x) for c in cells for x in c.numpy()}
        found.add(value - number)
        number = value
    assert found == {0.0, 1.0}


@needs_c
def test_a_handler_may_call_the_function_that_it_interrupts(handler):
    step, cells, one = trained()
    calls = 3

    def nested():
        nonlocal calls
        other = mg.full((5,), 1.0)
        result = step(other)
        calls += 1
        del other, result

    def action():
        nonlocal calls
        step(one)
        calls += 1

    for _ in lines_of(action, nested):
        assert {float(x) for c in cells for x in c.numpy()} == {float(calls)}


@needs_c
@pytest.mark.skipif(not entry.COUNTABLE, reason="references are counted before the C is called")
def test_what_a_handler_keeps_in_the_middle_of_a_call_stays():
    step, cells, one = trained()
    kept = []

    def keep():
        kept.append((cells[0].read(), cells[1].value, cells[0].numpy().copy(), cells[1].numpy().copy()))

    for k, _ in enumerate(lines_of(lambda: step(one), keep), 4):
        tensor, array, *values = kept.pop() if kept else (cells[0], cells[1].numpy(), k, k)
        assert (tensor.numpy() == values[0]).all() and (array == values[1]).all()
        assert {float(x) for c in cells for x in c.numpy()} == {float(k)}


@needs_c
def test_a_count_before_the_last_moment_is_found(monkeypatch):
    """Planted: references are counted by Python, after which a handler may still run."""
    monkeypatch.setattr(entry, "COUNTABLE", False)
    with pytest.raises(AssertionError):
        test_what_a_handler_keeps_in_the_middle_of_a_call_stays()


@needs_c
def test_the_count_is_of_references():
    objects = [object() for _ in range(3)]
    addresses = list(map(id, objects))
    before = entry.references(addresses)
    another = objects[1]
    assert entry.references(addresses) == before + 1
    del another
    assert entry.references(addresses) == before


@needs_c
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
def test_a_timer_that_calls_the_function_again_and_again():
    step, cells, one = trained()
    ticks = 0

    def tick(*arguments):
        nonlocal ticks
        with contextlib.suppress(mg.errors.GraphError):  # in the middle of the general way it is refused
            step(mg.ones(5))
            ticks += 1

    before = signal.signal(signal.SIGALRM, tick)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        for _ in range(20_000):
            step(one)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ticks > 100
    assert {float(x) for c in cells for x in c.numpy()} == {float(3 + 20_000 + ticks)}


@needs_c
def test_an_operation_without_c_cannot_call_the_function_around_it():
    holder = []

    @mg.op
    def outside(xp, x):
        return holder[0](mg.tensor(x)).numpy() if holder else x

    f = mg.compile(lambda x: outside(x * 2.0) + 1.0, backend="c")
    x = mg.ones(3)
    assert f(x).tolist() == [3.0] * 3 and "outside" in [m.op.name for m in f.last.program.native.program.callbacks]
    holder.append(f)
    with pytest.raises(mg.errors.GraphError, match="inside of its own call"):
        f(x)
    holder.clear()
    assert f(x).tolist() == [3.0] * 3


@needs_c
def test_threads_step_in_turn():
    step, cells, one = trained()

    def work():
        for _ in range(500):
            step(one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {float(x) for c in cells for x in c.numpy()} == {2003.0}
