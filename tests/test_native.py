"""Compiled to C: the values of dynamic mode for every operation, and nothing else in the world changed."""

import gc
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph import nn, optim
from minigraph.compiler import find_compiler, memory, prepare, program, toolchain
from minigraph.errors import BoundsError, CompilerError
from minigraph.op import OPS
from minigraph.tensor import Tensor, bind

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
TOLERANCE = {"float16": 2e-3, "float32": 5e-6, "float64": 1e-12}


def c(fn, **options):
    return mg.compile(fn, backend="c", **options)


# --------------------------------------------------------------------------------------------------- every operation


def outputs(name, inputs, attrs):
    found = bind(OPS[name], *inputs, **attrs)
    if type(found.value) is not tuple:
        return [found]
    return [bind(OPS["item"], found, index=i) for i in range(len(found.value))]


def samples(name):
    """The good samples of an operation, with what dynamic mode makes of them."""
    for s in OPS[name].samples(np.random.default_rng(0)):
        if isinstance(s[0], str):
            continue
        inputs = [Tensor(np.asarray(a)) for a in s[0]]
        try:
            with np.errstate(all="ignore"):
                yield inputs, s[1], [t.numpy() for t in outputs(name, inputs, s[1])]
        except mg.errors.MinigraphError:
            continue


NAMES = sorted(name for name, op in OPS.items() if op.builtin and op.samples is not None)


@pytest.mark.parametrize("part", range(8))
def test_every_operation_gives_what_it_gives_in_dynamic_mode(part):
    jobs = [(name, *job) for name in NAMES[part::8] for job in samples(name)]
    given_ = [inputs for _, inputs, _, _ in jobs]
    together = c(lambda every: [outputs(name, x, attrs) for (name, _, attrs, _), x in zip(jobs, every, strict=True)])
    with np.errstate(all="ignore"):
        results = together(given_)
    assert together.backend == "c"
    for (name, inputs, attrs, expected), found in zip(jobs, results, strict=True):
        for a, b in zip(found, expected, strict=True):
            words = f"{name} {attrs} of {inputs}"
            assert a.dtype == b.dtype and a.shape == b.shape, words
            close = TOLERANCE.get(b.dtype.name, 0)
            np.testing.assert_allclose(a.numpy(), b, rtol=close, atol=close, err_msg=words)


# ------------------------------------------------------------------------------------------------------------- inputs


def f(x, w):
    return mg.tanh(x @ w).sum(axis=0) + x.sum(), mg.exp(x) * 2.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**16))
def test_inputs_may_lie_in_memory_as_they_like(rows, columns, seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(2 * columns + 1, 3 * rows + 2)).astype("float32")
    raw = np.zeros(4 * rows * columns + 3, "uint8")
    crooked = raw[3:].view("float32").reshape(rows, columns)
    crooked[...] = rng.normal(size=(rows, columns))
    layouts = [base[: 2 * columns : 2, : 3 * rows : 3].T, base[2 * columns : 0 : -2, 1 : 3 * rows : 3].T, crooked]
    compiled, w = c(f), mg.tensor(rng.normal(size=(columns, 2)).astype("float32"))
    for array in layouts:
        x = Tensor(array)
        before = array.copy()
        for a, b in zip(compiled(x, w), f(x, w), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(array, before)


def test_one_array_may_be_given_twice_and_belong_to_a_variable():
    w = mg.Variable(np.arange(6, dtype="float32").reshape(2, 3), name="w")

    def step(a, b):
        w.assign(w + a * b)
        return a + w

    compiled, expected = c(step), w.numpy().copy()
    for _ in range(3):
        a = w.read()
        new = expected + expected * expected
        np.testing.assert_array_equal(compiled(a, a).numpy(), expected + new)
        np.testing.assert_array_equal(a.numpy(), expected)  # a tensor keeps its value
        expected = new
        np.testing.assert_array_equal(w.numpy(), expected)


# -------------------------------------------------------------------------------------------------------------- state


def test_outputs_are_fresh():
    compiled = c(lambda x: (x * 2.0, x + 1.0))
    for size in (3, 1 << 17):  # the memory of large ones is used again when nobody holds it any more
        kept = []
        for k in range(6):
            kept.append(compiled(mg.full((size,), float(k)))[0])
            compiled(mg.zeros(size))
        for k, y in enumerate(kept):
            assert (y.numpy() == 2.0 * k).all()
        views = [compiled(mg.full((size,), float(k)))[0].numpy()[1:] for k in range(4)]
        gc.collect()
        compiled(mg.zeros(size))
        assert [v[0] for v in views] == [0.0, 2.0, 4.0, 6.0]


def test_tensors_read_from_a_variable_keep_their_value():
    w = mg.Variable(np.zeros(4, "float32"))
    step = c(lambda: w.assign(w + 1.0))
    seen = []
    for _ in range(5):
        seen.append(w.read())
        step()
    assert [t.numpy()[0] for t in seen] == [0, 1, 2, 3, 4]
    held = w.numpy()
    step()
    assert held[0] == 5 and w.numpy()[0] == 6


def trainer(seed=0):
    mg.random.seed(seed)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = optim.Adam(net.parameters(), lr=0.05)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def state():
        found = {k: v.numpy().copy() for k, v in net.state_dict().items()}
        return found | {f"{k} grad": p.grad.numpy().copy() for k, p in net.named_parameters() if p.grad is not None}

    return net, step, state


X = mg.tensor(np.random.default_rng(0).normal(size=(6, 5)).astype("float32"))
Y = mg.tensor(np.array([0, 1, 2, 0, 1, 2]))


def equal(a, b, tolerance=0.0):
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_allclose(a[k], b[k], rtol=tolerance, atol=tolerance, err_msg=k)


def test_assignments_from_outside_and_dynamic_steps_in_between():
    net, step, state = trainer()
    other, reference, expected = trainer()
    compiled = c(step)
    for k in range(8):
        a, b = (compiled if k % 3 else step)(X, Y), reference(X, Y)
        assert a.item() == pytest.approx(b.item(), rel=1e-5)
        if k == 4:
            for n in (net, other):
                n[0].weight.assign(n[0].weight.numpy() * 0.5)
        equal(state(), expected(), 2e-5)
    assert len(compiled.traces) == 1


def test_two_compiled_functions_over_the_same_variables():
    net, step, state = trainer()
    _, reference, expected = trainer()
    first, second, loss = c(step), c(lambda x, y: step(x, y) * 1.0), c(lambda x: net(x).sum())
    for k in range(6):
        (first if k % 2 else second)(X, Y)
        reference(X, Y)
        assert loss(X).item() == pytest.approx(net(X).sum().item(), rel=1e-4)
    equal(state(), expected(), 2e-5)


def test_the_old_value_of_a_variable_may_be_returned():
    w, v = mg.Variable(np.zeros((2, 3))), mg.Variable(np.zeros((2, 3)))

    def step():
        old = w.read()
        w.assign(old + 1.0)
        v.assign(old)
        return old, old.mT, old[0]

    compiled = c(step)
    for k in range(4):
        for t in compiled():
            assert (t.numpy() == k).all()
        assert (w.numpy() == k + 1).all() and (v.numpy() == k).all()


def test_variables_may_be_exchanged():
    a, b = mg.Variable(np.full(3, 1.0)), mg.Variable(np.full(3, 2.0))

    def swap():
        x, y = a.read(), b.read()
        a.assign(y)
        b.assign(x)

    compiled = c(swap)
    for k in range(4):
        compiled()
        assert (a.numpy()[0], b.numpy()[0]) == ((2.0, 1.0) if k % 2 == 0 else (1.0, 2.0))


def test_a_label_out_of_range_changes_nothing():
    _, step, state = trainer()
    compiled = c(step)
    compiled(X, Y), compiled(X, Y)
    before = state()
    for wrong in (3, -1, 1 << 40):
        with pytest.raises(BoundsError, match="cross_entropy"):
            compiled(X, mg.tensor(np.array([0, 1, 2, 0, 1, wrong])))
        equal(state(), before)
    compiled(X, Y)
    assert len(compiled.traces) == 1


def test_an_error_in_python_that_c_calls_changes_nothing():
    @mg.op
    def fragile(xp, x):
        if float(x.sum()) > 100:
            raise ValueError("too much")
        return x * 1.0

    w = mg.Variable(np.ones(3))

    def step(x):
        w.assign(w + x)
        return fragile(x) + w

    compiled = c(step)
    compiled(mg.ones(3, dtype=mg.float64)), compiled(mg.ones(3, dtype=mg.float64))
    with pytest.raises(Exception, match="too much"):
        compiled(mg.full((3,), 50.0, dtype=mg.float64))
    np.testing.assert_array_equal(w.numpy(), 3.0)
    np.testing.assert_array_equal(compiled(mg.ones(3, dtype=mg.float64)).numpy(), 5.0)


def test_gradients_are_cleared():
    net = nn.Linear(5, 3)

    def step(x):
        net(x).sum().backward()
        net.zero_grad()

    c(step)(X)
    assert all(p.grad is None for p in net.parameters())


def test_several_threads_may_call_one_function():
    w = mg.Variable(np.zeros(1000))
    step, g = c(lambda: w.assign(w + 1.0)), c(lambda x: mg.tanh(x) * 2.0)
    errors = []

    def work(k):
        x = mg.full((1000,), float(k))
        for _ in range(50):
            step()
            if not np.array_equal(g(x).numpy(), first[k]):
                errors.append(k)

    first = {k: g(mg.full((1000,), float(k))).numpy().copy() for k in range(4)}
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors and (w.numpy() == 200).all()


def test_a_compiler_that_fails_leaves_numpy_and_one_notice(monkeypatch):
    def fails(*args, **options):
        raise CompilerError("the C compiler refuses the generated code")

    monkeypatch.setattr(toolchain, "build", fails)
    monkeypatch.setattr(prepare, "_noticed", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [c(lambda x: mg.tanh(x) @ x)(mg.ones((2, 2))) for _ in range(3)]
    assert len(caught) == 1 and "runs on NumPy" in str(caught[0].message)
    assert str(caught[0].filename) == __file__
    np.testing.assert_allclose(results[0].numpy(), np.tanh(1) * 2 * np.ones((2, 2)), rtol=1e-6)


def test_a_user_s_names_do_not_collide():
    for name in ("run", "main", "memcpy", "double", "p", "arena", "exp"):
        made = {}
        exec(f"def {name}(arena, p, y): return (arena + p) * y", made)
        assert c(made[name])(mg.ones(2), mg.ones(2), mg.ones(2)).tolist() == [2.0, 2.0]
        assert c(made[name]).fn.__name__ == name


# ------------------------------------------------------------------------------------------------------- planted bugs


def chain(x):
    """Results of one size that live one after the other and beside each other."""
    kept = []
    for k in range(6):
        x = mg.tanh(x @ x.mT + float(k)) @ x
        kept.append(x.sum())
    return sum(kept, mg.tensor(0.0)) + x.sum()


def test_a_buffer_that_is_reused_too_early_is_seen(monkeypatch):
    x = mg.tensor(np.random.default_rng(0).normal(size=(4, 4)).astype("float32") * 0.3)
    expected = chain(x).item()
    assert c(chain)(x).item() == pytest.approx(expected, rel=1e-5)
    right = memory.place
    for module in (memory, program):
        monkeypatch.setattr(module, "place", lambda lives: ([0] * len(lives), right(lives)[1]))
    assert c(chain)(x).item() != pytest.approx(expected, rel=1e-3)


def test_a_variable_written_before_its_last_reader_is_seen(monkeypatch):
    def check():
        w = mg.Variable(np.random.default_rng(0).normal(size=(4, 4)))
        v = mg.Variable(w.numpy().copy())

        def step(w=w):
            old = w.read()
            w.assign(old * 2.0 + old.mT)  # each element needs another one's old value

        compiled = c(step)
        for _ in range(3):
            compiled(), step(v)
        return np.allclose(w.numpy(), v.numpy())

    assert check()
    monkeypatch.setattr(program.NativeProgram, "same_point", lambda *args: True)
    assert not check()
