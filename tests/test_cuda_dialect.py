"""CUDA C. Without a GPU the generated functions run in an emulation, on a CuPy that captures as the real one does.

Tests that ask for `cupy` run there and, where there is one, on a real GPU, too; those that ask for `emulated` look into
the emulation.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulated_cuda import COMPILER, EmulatedCuda, Refused, arrays_are_cupys, close
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import programs, run

import minigraph as mg
from benchmarks import gpu
from benchmarks.problems import mlp
from minigraph import backend
from minigraph.compiler import cuda_kernels, prepare
from minigraph.compiler.statements import FIRST
from minigraph.errors import BoundsError, DeviceError
from minigraph.op import OPS


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("emulated")


def installed(monkeypatch, folder):
    """A CuPy that computes on the CPU; the backends afterwards as they were."""
    if COMPILER is None:
        pytest.skip("there is no g++ to compile the emulation with")
    module = EmulatedCuda(folder)
    monkeypatch.setattr(backend, "backends", {"cpu": backend.backends["cpu"]})
    monkeypatch.setattr(backend, "only_numpy", True)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.delenv("MINIGRAPH_BACKEND", raising=False)
    arrays_are_cupys(monkeypatch)
    for op in OPS.values():  # what has been bound to this module must not outlive it
        monkeypatch.setattr(op, "_bound", dict(op._bound))
    return module


@pytest.fixture
def emulated(monkeypatch, folder):
    return installed(monkeypatch, folder)


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.cuda)])
def cupy(request, monkeypatch, folder):
    """CuPy: the emulation, or the real one."""
    if request.param == "emulated":
        return installed(monkeypatch, folder)
    module = pytest.importorskip("cupy", reason="CuPy is not installed")
    monkeypatch.delenv("MINIGRAPH_BACKEND", raising=False)
    try:
        backend.device("cuda")
    except DeviceError as error:
        pytest.skip(error.what)
    return module


def turned_round(cupy, backwards):
    """In which order the threads of the emulation run; those of a GPU run as they like."""
    if isinstance(cupy, EmulatedCuda):
        cupy.backwards = backwards


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def arrays(rng, *shapes):
    return [rng.standard_normal(s).astype("float32") for s in shapes]


def both(cupy, f, *given):
    """The compiled function, whose results on the GPU have been found to be those of dynamic mode on the CPU, and the
    same to the bit in whichever order threads run."""
    compiled = mg.compile(f)
    expected = f(*map(mg.tensor, given))
    there = [mg.tensor(x, device="cuda") for x in given]
    runs = []
    for backwards in (False, True):
        turned_round(cupy, backwards)
        found = compiled(*there)
        runs.append(found if isinstance(found, tuple) else (found,))
    assert compiled.backend == "cuda" and compiled._last().program.native.refusal is None
    for a, b, c in zip(*runs, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert str(a.device) == "cuda:0" and a.dtype == c.dtype and a.shape == c.shape
        close(a.numpy(), c.numpy(), a.dtype)
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    return compiled


def shapes_of(compiled):
    """The kinds of functions in a text, in order."""
    return re.findall(r"__global__ void __launch_bounds__\(\d+\) k\d+_(\w+?)_", compiled.source)


# ------------------------------------------------------------------------------------------------- the functions


def test_a_map(emulated, rng):
    f = both(emulated, lambda x, y: mg.tanh(x * y) + mg.exp(-x), *arrays(rng, (7, 300), (300,)))
    assert shapes_of(f) == ["map"] and len(emulated.launches) == 2
    assert "tanhf(" in f.source and "// tanh  test_cuda_dialect.py" in f.source
    assert emulated.options == [("--fmad=false",)]


def test_views_are_read_where_they_lie(cupy, rng):
    x, y = arrays(rng, (6, 5, 4), (4, 6))
    f = both(cupy, lambda x, y: mg.permute_dims(x, (2, 0, 1))[1:, ::-2] * y[1:, :3, None] + 1.0, x, y)
    assert shapes_of(f) == ["map"]


def test_a_map_larger_than_its_grid(cupy, rng, monkeypatch):
    monkeypatch.setattr(cuda_kernels, "BLOCKS", 2)
    f = both(cupy, lambda x: (mg.sqrt(mg.abs(x)), mg.sum(x * x)), *arrays(rng, (70, 300)))
    assert shapes_of(f) == ["map", "finish"] and "<<<2, 256>>>" in f.source


def test_indices_of_large_arrays(cupy, rng, monkeypatch):
    monkeypatch.setattr(cuda_kernels, "NEAR", 0)

    def f(x, y, i):
        z = mg.permute_dims(x, (1, 0, 2)) * y
        scattered = mg.grad(lambda t: mg.sum(mg.take(t, i, axis=0) * 2.0))(x)
        return z, mg.sum(z), mg.softmax(z), mg.sum(z, axis=(0, 1)), mg.max(z, axis=0), scattered

    compiled = both(cupy, f, *arrays(rng, (40, 30, 20), (30, 1, 1)), rng.integers(0, 40, 9))
    assert "for (long long" in compiled.source and "for (int i" not in compiled.source


@pytest.mark.parametrize("length", [1, 10, 33, 600])
def test_rows(cupy, rng, length):
    def f(x, y):
        return mg.softmax(x * y), mg.logsumexp(x, axis=1), mg.max(x - y, axis=1), mg.min(x, axis=-1, keepdims=True)

    compiled = both(cupy, f, *arrays(rng, (11, length), (length,)))
    if length > 1:
        assert set(shapes_of(compiled)) == {"rows"}
        assert ("one block for each row" in compiled.source) == (length > cuda_kernels.SHORT)


def test_more_rows_than_the_grid_has(cupy, rng, monkeypatch):
    monkeypatch.setattr(cuda_kernels, "BLOCKS", 1)
    both(cupy, lambda x: mg.softmax(x), *arrays(rng, (21, 40)))
    both(cupy, lambda x: mg.softmax(x), *arrays(rng, (3, 700)))


@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (100, 90), (30, 1000)])
def test_totals(cupy, rng, shape):
    def f(x):
        y = x * 1.5
        return (
            mg.sum(y),
            mg.max(y),
            mg.min(y),
            mg.mean(y * y) + 1.0,
            mg.any(y > 3.0),
            mg.all(y < 9.0),
            mg.prod(mg.cos(y * 0.01)),
        )

    compiled = both(cupy, f, *arrays(rng, shape))
    assert ("finish" in shapes_of(compiled)) == (np.prod(shape) > cuda_kernels.ENOUGH)


@pytest.mark.parametrize("rows", [1, 50, 700])
def test_columns(cupy, rng, rows):
    def f(x, y):
        return mg.sum(x * y, axis=0), mg.max(x, axis=0), mg.sum(mg.softmax(x) * y, axis=0), mg.any(x > 2.0, axis=0)

    compiled = both(cupy, f, *arrays(rng, (rows, 13), (13,)))
    assert ("finish" in shapes_of(compiled)) == (rows > cuda_kernels.FEW)


def test_sums_over_axes_apart(cupy, rng):
    both(
        cupy,
        lambda x: (mg.sum(x * 2.0, axis=(0, 2)), mg.sum(x + 1.0, axis=1), mg.var(x, axis=(0, 2))),
        *arrays(rng, (4, 6, 9)),
    )


def test_nan_is_passed_on(cupy, rng):
    x = arrays(rng, (40, 50))[0]
    x[3, 7] = np.nan

    def f(x):
        return (
            mg.max(x * 2.0),
            mg.min(x, axis=0),
            mg.max(x, axis=1),
            mg.maximum(x, 0.0),
            mg.where(x < 0, float("inf"), x),
        )

    both(cupy, f, x)


def test_sums_are_accurate(cupy):
    x = np.full((3, 40000), 0.1, "float32")
    compiled = mg.compile(lambda x: (mg.sum(x * 1.0), mg.sum(x * 1.0, axis=1), mg.sum(x.mT * 1.0, axis=0)))
    exact = 40000 * float(np.float32(0.1))
    for found, times in zip(compiled(mg.tensor(x, device="cuda")), (3, 1, 1), strict=True):
        np.testing.assert_allclose(found.numpy(), times * exact, rtol=2e-6)


@pytest.mark.parametrize("wide", [1, 8, 300])
def test_gathers_and_scatters(cupy, rng, wide):
    table, weights = arrays(rng, (20, wide), (40, wide))
    indices = rng.integers(-20, 20, 40)
    indices[:10] = 3  # meets itself

    def f(table, weights, indices):
        loss = lambda t: mg.sum(mg.take(t, indices, axis=0) * weights)  # noqa: E731
        return mg.take(table, indices, axis=0) + weights, mg.grad(loss)(table)

    compiled = both(cupy, f, table, weights, indices)
    assert {"scatter", "fill"} <= set(shapes_of(compiled))


def test_blocks_and_places(cupy, rng):
    x, y = arrays(rng, (6, 8), (6, 3))

    def f(x, y):
        loss = lambda x: mg.sum(mg.tanh(mg.concat([x[1:4, ::2], y[:3]], axis=1)))  # noqa: E731
        return mg.concat([x * 2.0, y], axis=1), mg.grad(loss)(x), mg.pad(y * 2.0, ((1, 0), (0, 2)))

    both(cupy, f, x, y)


DTYPES = ["float32", "float64", "int64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(cupy, rng, dtype):
    x, y = [(rng.standard_normal((9, 40)) * 20).astype(dtype) for _ in range(2)]

    def f(x, y):
        found = [mg.sum(x, axis=1), mg.sum(x, axis=0), mg.sum(x), mg.max(x, axis=1), mg.any(x, axis=0), mg.equal(x, y)]
        if dtype != "bool":
            found += [x * y, x // mg.maximum(y, mg.ones_like(y)), x % mg.maximum(y, mg.ones_like(y))]
        return tuple(found)

    both(cupy, f, x, y)


NAMES = sorted(n for n, op in OPS.items() if op.builtin and op.samples is not None and n not in ("to_device", "item"))


@pytest.mark.parametrize("names", [NAMES[i::10] for i in range(10)], ids=lambda names: f"{names[0]} and others")
def test_operations_of_the_catalogue(cupy, names):
    """Every sample of every operation: many in one program, as compiling takes long."""
    calls, given = [], []
    for name in names:
        for sample in OPS[name].samples(np.random.default_rng(0)):
            if sample[0] != "bad":
                calls.append((name, range(len(given), len(given) + len(sample[0])), sample[1]))
                given += map(np.asarray, sample[0])

    def f(*tensors):
        results = []
        for name, places, attrs in calls:
            y = OPS[name](*[tensors[i] for i in places], **attrs)
            several = len(y.value) if type(y.value) is tuple else None
            results += [y] if several is None else [OPS["item"](y, index=i) for i in range(several)]
        return tuple(results)

    compiled = mg.compile(f)
    with np.errstate(all="ignore"):
        expected = f(*map(mg.tensor, given))
        found = compiled(*[mg.tensor(x, device="cuda") for x in given])
    assert compiled.backend == "cuda"
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == b.dtype and a.shape == b.shape, f"result {k} of {names}"
        tolerance = 1e-12 if b.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"{k} of {names}")


@settings(max_examples=8)
@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=4), data=st.data())
def test_shapes_and_axes(folder, shape, data):
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1).map(lambda s: tuple(sorted(s))))
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")

    def f(x):
        centred = x - mg.mean(x, axis=axes, keepdims=True)
        return centred * 2.0, mg.sum(centred * centred, axis=axes), mg.max(centred)

    with pytest.MonkeyPatch.context() as patch:
        both(installed(patch, folder), f, x)


@settings(max_examples=8, deadline=None)
@given(programs)
def test_random_programs(folder, program):
    """Values and gradients of random programs; without the instructions that make tensors on the CPU themselves."""
    shapes, instructions, seed = program
    instructions = [i for i in instructions if i[0] not in ("constant", "scan")]
    rng = np.random.default_rng(seed)
    f = mg.value_and_grad(lambda *xs: run(instructions, xs), tuple(range(len(shapes))))

    def flat(*xs):
        value, gradients = f(*xs)
        return value, *gradients

    with pytest.MonkeyPatch.context() as patch:
        both(installed(patch, folder), flat, *[rng.uniform(-1, 1, shape).astype("float32") for shape in shapes])


# ----------------------------------------------------------------------------------------------------- whole steps


def train(device, compile=mg.compile, steps=5, labels=7):
    """A small network with everything: losses, parameters, and the compiled step."""
    rng = np.random.default_rng(0)
    first, last = (mg.nn.Linear(n, m, generator=mg.random.Generator(n)) for n, m in ((12, 40), (40, 7)))
    net = mg.nn.Sequential(first, mg.nn.LayerNorm(40), mg.nn.GELU(), last).to(device)
    optimizer = mg.optim.Adam(net.parameters(), lr=0.01)
    x = mg.tensor(rng.standard_normal((24, 12)).astype("float32"), device=device)
    y = mg.tensor(rng.integers(0, labels, 24), device=device)

    def step(x, y):
        loss = mg.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = compile(step)
    losses = [run(x, y) for _ in range(steps)]
    return [t.numpy() for t in (*losses, *net.parameters())], run, net, (x, y)


def test_training_with_adam(cupy):
    expected, *_ = train("cpu", lambda f: f)
    found, run, *_ = train("cuda")
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    native = run._last().program.native
    assert native.captured >= 3 and native.refusal is None
    if isinstance(cupy, EmulatedCuda):
        assert cupy.replays == 5 * native.captured
        assert cupy.captures == 2 * native.captured  # once more when the same inputs came again; then all stays at home
    assert "CuPy  matmul" in run.source and {"rows", "columns", "map"} <= set(shapes_of(run))


def test_a_step_is_the_same_from_run_to_run(cupy):
    first, *_ = train("cuda")
    turned_round(cupy, backwards=True)
    second, *_ = train("cuda")
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_who_holds_a_value_keeps_it(cupy):
    _, run, net, given = train("cuda")
    weight = next(iter(net.parameters()))
    held = weight.value
    before = held.get()
    run(*given)
    run(*given)
    np.testing.assert_array_equal(held.get(), before)
    assert not np.array_equal(weight.numpy(), before)


def test_a_variable_that_was_assigned_from_outside(cupy):
    w, b = mg.Variable(np.ones(3, "float32"), device="cuda"), mg.Variable(np.zeros(3, "float32"), device="cuda")

    @mg.compile
    def f(x):
        b.assign(b + w * x)
        return b + 0.0

    x = mg.tensor(np.ones(3, "float32"), device="cuda")
    assert f(x).tolist() == [1, 1, 1]
    w.assign(mg.tensor([1.0, 2.0, 3.0], device="cuda"))
    assert f(x).tolist() == [2, 3, 4]
    b.assign(mg.tensor([0.0, 0.0, 1.0], device="cuda"))
    assert f(x).tolist() == [1, 2, 4] and b.tolist() == [1, 2, 4]


def test_a_refused_index_changes_nothing(cupy):
    table = mg.Variable(np.arange(6, dtype="float32"), device="cuda")

    @mg.compile
    def f(i):
        y = mg.take(table, i)
        table.assign(table * 2.0)
        return y

    assert f(mg.tensor([1, -1], device="cuda")).tolist() == [1, 5]
    assert "if (*status) return" in f.source
    before = table.numpy()
    for _ in range(2):
        with pytest.raises(BoundsError, match="index 7 is out of range"):
            f(mg.tensor([7, 2], device="cuda"))
        np.testing.assert_array_equal(table.numpy(), before)
    assert f(mg.tensor([1, 2], device="cuda")).tolist() == [2, 4]


def test_inputs_that_come_again_are_read_where_they_are(emulated):
    f = mg.compile(lambda x, y: (mg.sum(x * y), x + y))
    x, *ys = [mg.tensor(np.full(300, i, "float32"), device="cuda") for i in range(1, 5)]
    native = None
    for _ in range(2):
        for y in [*ys, ys[-1], ys[-1], ys[0]]:
            total, both = f(x, y)
            assert total.item() == 300 * y[0].item() and both[7].item() == 1 + y[0].item()
            native = f._last().program.native
    assert native.table[FIRST] is x.value and native.table[FIRST + 1] is native.inputs[1]
    assert emulated.captures <= 4


def test_inputs_that_are_not_contiguous(cupy, rng):
    x = mg.tensor(arrays(rng, (5, 4))[0], device="cuda")
    f = mg.compile(lambda x: mg.tanh(x) * 2.0)
    close(f(x.mT).numpy(), np.tanh(x.numpy().T) * 2)
    close(f(mg.tensor(np.ones((4, 5), "float32"), device="cuda")).numpy(), np.tanh(np.ones((4, 5))) * 2)


def test_operations_that_cupy_runs(cupy, rng):
    def f(x):
        y = mg.sort(x * 2.0, axis=1)
        values, _ = mg.scan(lambda c, v: (c + v, c * 2.0), x[0], y)
        powers = (x.astype("int64") * 3) ** 5 - 1  # of integers: no CUDA C for a part of what is fused
        return y + 1.0, values, mg.cumulative_sum(x, axis=0), (x @ x.mT)[0], powers, x.astype("float16") * 2.0

    compiled = both(cupy, f, *arrays(rng, (6, 5)))
    assert "CuPy  sort" in compiled.source and "CuPy  fused" in compiled.source


def test_empty_arrays_and_matrices_with_batches(cupy, rng):
    def f(a, b, c):
        return a * 2.0, mg.sum(a, axis=0), mg.tanh(b @ c), b[0, 0] @ c[0, :, 0]

    both(cupy, f, *arrays(rng, (0, 3), (4, 2, 5), (4, 5, 3)))


def test_a_memory_budget(cupy, rng):
    x, w = arrays(rng, (32, 64), (64, 64))
    x, w = mg.tensor(x, device="cuda"), mg.tensor(w / 8, device="cuda")

    def deep(x):
        y = x
        for _ in range(8):
            y = mg.sin(mg.tanh(y @ w))
        return mg.sum(y)

    free, tight = mg.compile(mg.grad(deep)), mg.compile(mg.grad(deep), memory="90kB")
    expected = free(x).numpy()
    close(tight(x).numpy(), expected)
    assert tight.backend == "cuda" and tight.memory.peak <= 90_000 < free.memory.peak


def test_results_that_are_constants_or_inputs(cupy, rng):
    both(cupy, lambda x: (x, x.mT, x * 0.0 + 1.0, mg.grad(lambda x: mg.sum(x))(x)), *arrays(rng, (3, 4)))


def test_gradients_through_a_compiled_function(cupy, rng):
    x, w = [mg.tensor(a, device="cuda") for a in arrays(rng, (5, 4), (4, 3))]
    weight = mg.Variable(w, requires_grad=True)
    f = mg.compile(lambda x: mg.sum(mg.tanh(x @ weight)))
    f(x).backward()
    assert f.backend == "cuda"
    expected = mg.grad(lambda w: mg.sum(mg.tanh(mg.tensor(x.numpy()) @ w)))(mg.tensor(w.numpy()))
    close(weight.grad.numpy(), expected.numpy())


NETWORKS = {
    "convolution": lambda g: (
        mg.nn.Sequential(mg.nn.Conv2d(1, 3, 3, generator=g), mg.nn.BatchNorm2d(3), mg.nn.ReLU(), mg.nn.MaxPool2d(2)),
        (4, 1, 8, 8),
    ),
    "attention": lambda g: (mg.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, generator=g), (3, 6, 8)),
    "dropout": lambda g: (mg.nn.Sequential(mg.nn.RMSNorm(9), mg.nn.SiLU(), mg.nn.Dropout(0.5, generator=g)), (6, 9)),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_networks(cupy, make):
    def losses(device, compile):
        net, shape = make(mg.random.Generator(1))
        net = net.to(device)
        optimizer = mg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        x = mg.tensor(np.random.default_rng(0).standard_normal(shape).astype("float32"), device=device)

        @compile
        def step(x):
            loss = mg.mean(net(x) ** 2.0)
            optimizer.zero_grad()
            loss.backward()
            mg.optim.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            return loss

        return [step(x).numpy() for _ in range(3)] + [t.numpy() for t in (*net.parameters(), *net.buffers())]

    for a, b in zip(losses("cuda", mg.compile), losses("cpu", lambda f: f), strict=True):
        close(a, b, a.dtype)


DRAWS = {
    "uniform": lambda g, n: g.uniform((n,), low=-1.0, high=3.0),
    "uniform64": lambda g, n: g.uniform((n,), dtype="float64"),
    "bernoulli": lambda g, n: g.bernoulli(0.3, (n,)),
    "integers": lambda g, n: g.integers(-5, 100, (n,)),
    "normal": lambda g, n: g.normal((n,)),
    "normal64": lambda g, n: g.normal((n,), mean=2.0, dtype="float64"),
}


@pytest.mark.parametrize("n", [1, 7, 5000])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_random_numbers_are_those_of_the_cpu(cupy, draw, n):
    def drawn(device, compile):
        g = mg.random.Generator(3, device=device)
        f = compile(lambda: draw(g, n) * 1)
        return f, [f().numpy() for _ in range(2)]

    f, found = drawn("cuda", mg.compile)
    _, expected = drawn("cpu", lambda f: f)
    assert "CuPy" not in f.source.split("\n\n")[0].partition("\n")[2]  # nothing is left to it
    for a, b in zip(found, expected, strict=True):
        if draw in (DRAWS["normal"], DRAWS["normal64"]):  # logarithm, sine and cosine have last digits of their own
            close(a, b, a.dtype)
        else:
            np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------- CUDA graphs


def test_where_capturing_fails_launches_are_made_one_by_one(emulated):
    expected, *_ = train("cuda")
    emulated.refuse_capture = Refused("cudaErrorStreamCaptureUnsupported: not on this driver\nmore")
    emulated.replays = 0
    found, run, *_ = train("cuda")
    native = run._last().program.native
    assert native.refusal == "Refused: cudaErrorStreamCaptureUnsupported: not on this driver"
    assert native.captured == emulated.replays == 0
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_launch_needs_no_graph(emulated, rng):
    f = both(emulated, lambda x: mg.sqrt(mg.abs(x)), *arrays(rng, (3,)))
    assert f._last().program.native.captured == emulated.replays == 0


def test_nothing_else_is_called_while_launches_are_captured(emulated):
    """The emulation refuses it, as CuPy does: a call of it in the middle of a capture ends up as the reason."""
    stream = emulated.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            emulated.matmul(emulated.ones((2, 2)), emulated.ones((2, 2)))
    with pytest.raises(RuntimeError, match="legacy"):
        emulated.cuda.Stream().begin_capture()


def test_what_cannot_be_compiled_runs_by_cupy(emulated, monkeypatch):
    monkeypatch.setattr(prepare, "_noticed", set())
    emulated.edit = lambda text: text + "!"
    f = mg.compile(lambda x: mg.tanh(x) * 2.0)
    with pytest.warns(prepare.NoticeWarning, match="compiling for the GPU failed"):
        found = f(mg.tensor([1.0], device="cuda"))
    close(found.numpy(), np.tanh([1.0]) * 2)
    assert f.backend == "numpy"


def test_the_backend_is_chosen(emulated, monkeypatch):
    x = mg.tensor([1.0], device="cuda")
    assert mg.compile(lambda x: x + 1.0)(x).tolist() == [2.0] and emulated.launches
    f = mg.compile(lambda x: x + 1.0, backend="numpy")
    f(x)
    assert f.backend == "numpy"
    monkeypatch.setenv("MINIGRAPH_BACKEND", "numpy")
    f = mg.compile(lambda x: x + 1.0)
    f(x)
    assert f.backend == "numpy"


def test_the_program_explains_itself(emulated):
    _, run, *_ = train("cuda", steps=1)
    page = run.explain()
    native = run._last().program.native
    assert (
        repr(page).startswith("step(x: float32[24, 12], y: int64[24], from_cpu0: float32[]")
        and "on cuda:0" in page.head
    )
    assert sum(int(row[1]) for row in page["functions"].rows) == sum(
        len(s) for s in native.program.segments if type(s) is list
    )
    assert {row[0] for row in page["left to CuPy"].rows} == {"matmul"}
    assert f"{native.captured} captured" in page["CUDA graphs"].note
    assert "<table>" in page._repr_html_()
    native.refusal = "NotImplementedError: no"
    assert "capturing failed: NotImplementedError: no" in run.explain()["CUDA graphs"].note


def test_the_command_for_gpus_measures_it(emulated):
    problem, device = mlp(8, (5, 4, 3)), mg.device("cuda")
    speeds = gpu.measure(problem, device, rounds=1, seconds=0.001)
    assert all(isinstance(speeds[c.title], float) for c in gpu.CONTENDERS[:3])
    assert "functions on cuda:0: 4 rows of launches" in gpu.compiled_to(problem, device)


def test_a_program_is_timed_step_by_step(emulated, rng):
    f = mg.compile(lambda x: mg.tanh(x) * 2.0)
    x = mg.tensor(arrays(rng, (3, 4))[0], device="cuda")
    assert [row.name for row in f.profile(x, calls=2).rows] == ["tanh", "multiply"]


# ------------------------------------------------------------------------------------------- can the tests fail?

BUGS = {
    "a barrier too few": ("  __syncthreads();\n  x = warp_fold", "  x = warp_fold"),
    "a shuffle too few": ("int d = 16", "int d = 8"),
    "a block forgotten": ("z = threadIdx.x; z < 88", "z = threadIdx.x; z < 87"),
    "a chunk too short": ("chunk < 22", "chunk < 21"),
    "a stride": ("j += 32", "j += 64"),
}


@pytest.mark.parametrize(("old", "new"), BUGS.values(), ids=BUGS)
def test_planted_bugs_are_found(emulated, rng, old, new):
    def f(x):
        return mg.sum(x * x), mg.softmax(x), mg.sum(x * 2.0, axis=0)

    x = arrays(rng, (700, 43))[0]
    both(emulated, f, x)

    def edit(text):
        if old not in text:
            raise LookupError(old)
        return text.replace(old, new)

    emulated.edit = edit
    with pytest.raises(AssertionError):
        both(emulated, f, x)


# ------------------------------------------------------------------------------------------- the real compiler


def by_nvcc(text, folder):
    """What NVIDIA's compiler says, if it refuses the text."""
    source = folder / "text.cu"
    source.write_text(text)
    command = ["nvcc", "-std=c++17", "-fmad=false", "-ptx", "-o", str(folder / "text.ptx"), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True)
    return ended.stderr if ended.returncode else ""


def nvrtc_libraries():
    """The run-time compiler that CuPy uses: it comes with `minigraph[cuda13]`, and needs no GPU."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    return [path for folder in folders for path in sorted(folder.glob("**/libnvrtc*.so*"))]


def by_nvrtc(text, folder):
    """The same of the run-time compiler, with the options that CuPy gives it."""
    *_, nvrtc = [
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in nvrtc_libraries()
    ]  # the built-in functions first
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"text.cu", 0, None, None) == 0
    options = [b"-std=c++17", b"--fmad=false", b"--device-as-default-execution-space", b"-arch=compute_80"]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    return log.value.decode() if failed else ""


@pytest.mark.parametrize(
    "refused_by",
    [
        pytest.param(by_nvcc, marks=pytest.mark.skipif(not shutil.which("nvcc"), reason="there is no nvcc")),
        pytest.param(by_nvrtc, marks=pytest.mark.skipif(not nvrtc_libraries(), reason="there is no NVRTC")),
    ],
)
def test_the_compilers_of_cuda_take_the_text(emulated, rng, tmp_path, refused_by):
    _, run, *_ = train("cuda", steps=1)
    x, i = arrays(rng, (700, 43))[0], np.arange(5)

    def f(x, i):
        y = x.astype("float64") // 0.5
        return mg.sum(x * x), mg.softmax(x), mg.max(x, axis=0), mg.any(x > 1.0), mg.take(x, i, axis=0) + float("inf"), y

    compiled = mg.compile(f)
    compiled(*[mg.tensor(v, device="cuda") for v in (x, i)])
    assert not refused_by(run.source, tmp_path) and not refused_by(compiled.source, tmp_path)
    assert "error" in refused_by(compiled.source.replace("gridDim", "gridDym"), tmp_path)
