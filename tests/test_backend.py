"""Devices and array modules: finding them, moving arrays, and what is said where there is no GPU."""

import pickle
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import minigraph as mg
from minigraph import backend
from minigraph.errors import DeviceError, DTypeError
from minigraph.op import OPS


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """The backends as they are right after the import; afterwards as they were, so that other tests keep theirs."""
    monkeypatch.setattr(backend, "backends", {"cpu": backend.backends["cpu"]})
    monkeypatch.setattr(backend, "only_numpy", True)
    return monkeypatch


class FakeError(Exception):
    pass


class FakeArray:
    """What a CuPy array is to the backend: a place and memory."""

    def __init__(self, array, index):
        self.array, self.device = array.copy(), SimpleNamespace(id=index)


def fake_cupy(count):
    """As much of CuPy as the backend uses; `count` is what the driver answers, or the error that it raises."""
    cupy = ModuleType("cupy")
    current = [0]

    class Device:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            current.append(self.index)

        def __exit__(self, *_):
            current.pop()

    def get_device_count():
        if isinstance(count, Exception):
            raise count
        return count

    cupy.waited = []
    stream = SimpleNamespace(synchronize=lambda: cupy.waited.append(current[-1]))
    cupy.ndarray = FakeArray
    cupy.array = lambda array: FakeArray(array, current[-1])
    cupy.asnumpy = lambda array: array.array.copy()
    cupy.cuda = SimpleNamespace(
        Device=Device,
        get_current_stream=lambda: stream,
        runtime=SimpleNamespace(getDeviceCount=get_device_count, CUDARuntimeError=FakeError),
    )
    return cupy


def refusal(name="cuda"):
    with pytest.raises(DeviceError) as caught:
        backend.device(name)
    assert backend.only_numpy and list(backend.backends) == ["cpu"]  # nothing half loaded
    return caught.value


# ------------------------------------------------------------------------------------------------------------- devices


def test_a_device_says_what_it_is():
    cpu, strict = backend.device("cpu"), backend.device("strict")
    assert (str(cpu), repr(cpu), cpu.kind, cpu.index) == ("cpu", 'device("cpu")', "cpu", 0)
    assert (str(strict), strict.kind) == ("strict", "strict")
    cuda = backend.Device("cuda", 1)
    assert (str(cuda), repr(cuda)) == ("cuda:1", 'device("cuda:1")')
    assert len({cpu, backend.Device("cpu"), strict, cuda, backend.Device("cuda")}) == 4
    assert pickle.loads(pickle.dumps(cuda)) == cuda
    with pytest.raises(AttributeError):
        cpu.kind = "cuda"


def test_the_cpu_is_one_object():
    assert backend.device("cpu") is backend.cpu
    assert backend.device(backend.cpu) is backend.cpu
    assert backend.device_of(np.zeros(3)) is backend.cpu
    assert backend.device_of(np.float32(1)) is backend.cpu


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cpu:0", "strict:1", "cuda:", "cuda:-1", "cuda:x", " cpu", 0, None])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(DeviceError, match="unknown name"):
        backend.device(name)


def test_a_device_made_by_hand_loads_its_backend(fresh):
    assert backend.device(backend.Device("strict")) == backend.Device("strict")
    assert "strict" in backend.backends and not backend.only_numpy
    with pytest.raises(DeviceError, match="unknown name"):
        backend.device(backend.Device("tpu"))


def test_import_loads_numpy_only():
    program = (
        "import sys; from minigraph import backend\n"
        "assert not {'cupy', 'minigraph.backend.cuda', 'minigraph.backend.strict'} & set(sys.modules)\n"
        "assert backend.only_numpy and list(backend.backends) == ['cpu']\n"
        "backend.device('cpu'); assert backend.only_numpy\n"
        "backend.device('strict'); assert not backend.only_numpy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -------------------------------------------------------------------------------------------------------------- arrays


def test_the_backend_of_an_array():
    strict = backend.transfer(np.zeros(2), backend.device("strict"))
    assert backend.backend_of(np.zeros(2)).xp is np
    assert backend.backend_of(np.float64(2)).kind == "cpu"
    assert backend.backend_of(strict).kind == "strict"
    assert backend.device_of(strict) == backend.device("strict")


@pytest.mark.parametrize("function", [backend.backend_of, backend.device_of])
@pytest.mark.parametrize("value", [1.0, [1.0], "x", None])
def test_what_is_no_array_has_no_backend(function, value, fresh):
    with pytest.raises(DTypeError, match="not an array"):
        function(value)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_transfer_there_and_back(shape, dtype):
    strict = backend.device("strict")
    array = np.arange(6)[: int(np.prod(shape))].reshape(shape).astype(dtype)
    there = backend.transfer(array, strict)
    back = backend.transfer(there, backend.cpu)
    assert there.shape == shape and there.dtype == array.dtype
    assert backend.transfer(array, backend.cpu) is array and backend.transfer(there, strict) is there
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


def test_transfer_shares_no_memory():
    array = np.zeros(3)
    there = backend.transfer(array, backend.device("strict"))
    array[:] = 1
    back = backend.transfer(there, backend.cpu)
    back[:] = 2
    assert there.tolist() == [0, 0, 0]


def test_transfer_of_a_transposed_view_and_of_a_scalar():
    strict = backend.device("strict")
    array = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(backend.transfer(array.T, strict).get(), array.T)
    assert backend.transfer(np.float32(2), strict).dtype == np.float32


def test_synchronize_takes_a_name_or_a_device():
    for name in ("cpu", "strict", backend.cpu):
        backend.synchronize(name)


# ---------------------------------------------------------------------------------------------------- without a GPU


def test_without_cupy(fresh):
    fresh.setitem(sys.modules, "cupy", None)
    error = refusal()
    assert error.what == "device: CuPy is not installed" and "minigraph[cuda13]" in error.remedy
    assert "\n" not in error.actual


def test_cupy_that_does_not_load(fresh, tmp_path):
    (tmp_path / "cupy.py").write_text('raise ImportError("""\n=======\nlibnvrtc.so.13: no such file\nLong story.""")')
    fresh.delitem(sys.modules, "cupy", raising=False)
    fresh.syspath_prepend(tmp_path)
    error = refusal()
    assert "installed but cannot be loaded" in error.what and error.actual == "libnvrtc.so.13: no such file"


def test_cupy_without_a_driver(fresh):
    fresh.setitem(sys.modules, "cupy", fake_cupy(FakeError("cudaErrorInsufficientDriver: too old\nmore")))
    error = refusal()
    assert "no usable NVIDIA GPU" in error.what and error.actual == "cudaErrorInsufficientDriver: too old"
    assert 'device("cpu")' in error.remedy


def test_cupy_with_a_driver_and_no_gpu(fresh):
    fresh.setitem(sys.modules, "cupy", fake_cupy(0))
    assert "no NVIDIA GPU" in refusal().what


def test_a_gpu_that_is_not_there(fresh):
    fresh.setitem(sys.modules, "cupy", fake_cupy(2))
    with pytest.raises(DeviceError, match="no GPU number 2") as caught:
        backend.device("cuda:2")
    assert caught.value.expected == "0 to 1"


def test_arrays_go_to_the_gpu_that_was_named(fresh):
    cupy = fake_cupy(2)
    fresh.setitem(sys.modules, "cupy", cupy)
    first, second = backend.device("cuda"), backend.device("cuda:1")
    assert not backend.only_numpy and (first.index, second.index) == (0, 1)
    a, b = backend.transfer(np.arange(3), first), backend.transfer(np.arange(3), second)
    assert [backend.device_of(x) for x in (a, b)] == [first, second]
    moved = backend.transfer(a, second)
    assert backend.device_of(moved) == second and moved is not a and backend.transfer(a, first) is a
    np.testing.assert_array_equal(backend.transfer(moved, backend.cpu), np.arange(3))
    backend.synchronize("cuda:1")
    assert cupy.waited == [1]


def test_a_cupy_array_is_known_before_a_device_was_asked_for(fresh):
    fresh.setitem(sys.modules, "cupy", fake_cupy(1))
    fresh.setattr(FakeArray, "__module__", "cupy")
    assert backend.device_of(FakeArray(np.zeros(1), 0)) == backend.Device("cuda", 0)
    assert not backend.only_numpy


# ---------------------------------------------------------------------------------------------- several GPUs


class Placed(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on one of several GPUs, as strict as can be: it works only while its GPU is the current one."""

    def __init__(self, array, gpus):
        self.array, self.gpus, self.device = np.asarray(array), gpus, SimpleNamespace(id=gpus.current[-1])

    def open(self):
        if self.device.id != self.gpus.current[-1]:
            raise RuntimeError(f"an array of GPU {self.device.id} while GPU {self.gpus.current[-1]} is the current one")
        return self.array

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return self.gpus.call(getattr(ufunc, method), *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} called on a GPU's array")

    def __getitem__(self, key):
        return self.gpus.call(lambda array: array[key], self)

    def __setitem__(self, key, value):
        self.gpus.call(lambda array, new: array.__setitem__(key, new), self, value)

    def __getattr__(self, name):
        found = getattr(self.array, name)
        if name in ("shape", "dtype", "ndim", "size", "nbytes", "item", "tolist"):  # the last two copy to the CPU
            return found
        if not callable(found):
            return self.gpus.call(getattr, self, name)
        return lambda *args, **kwargs: self.gpus.call(getattr(self.open(), name), *args, **kwargs)

    def __bool__(self):
        return bool(self.array)


class TwoGPUs(ModuleType):
    """A CuPy on two GPUs: NumPy's functions on `Placed` arrays."""

    def __init__(self):
        super().__init__("cupy")
        self.current = [0]
        self.ndarray, self.nan, self.inf = Placed, np.nan, np.inf
        self.asnumpy = lambda x: x.array.copy()
        runtime = SimpleNamespace(
            getDeviceCount=lambda: 2, getDevice=lambda: self.current[-1], CUDARuntimeError=FakeError
        )
        self.cuda = SimpleNamespace(Device=self.device, runtime=runtime)

    @contextmanager
    def device(self, index):
        self.current.append(index)
        yield
        self.current.pop()

    def call(self, function, *args, **kwargs):
        def opened(x):
            if type(x) in (tuple, list):
                return type(x)([opened(v) for v in x])
            return x.open() if isinstance(x, Placed) else x

        result = function(*map(opened, args), **{name: opened(x) for name, x in kwargs.items()})
        return Placed(result, self) if isinstance(result, np.ndarray | np.generic) else result

    def __getattr__(self, name):
        return partial(self.call, getattr(np, name))


@pytest.fixture
def gpus(fresh):
    module = TwoGPUs()
    fresh.setitem(sys.modules, "cupy", module)
    fresh.setenv("MINIGRAPH_BACKEND", "numpy")  # functions in CUDA C: see test_cuda_dialect.py
    for op in OPS.values():  # what has been bound to this module must not outlive it
        fresh.setattr(op, "_bound", dict(op._bound))
    return module


def train(device, compiled):
    """Losses and weights of a small network that is trained on a device."""
    rng = np.random.default_rng(0)
    first, second = (mg.nn.Linear(n, m, generator=mg.random.Generator(n)) for n, m in ((4, 8), (8, 3)))
    net = mg.nn.Sequential(first, mg.nn.BatchNorm1d(8), mg.nn.Tanh(), second).to(device)
    x = mg.tensor(rng.standard_normal((16, 4)).astype("float32"), device=device)
    y = mg.tensor(rng.integers(0, 3, 16), device=device)
    optimizer = mg.optim.Adam(net.parameters(), lr=0.05, weight_decay=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = mg.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        mg.optim.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    run = mg.compile(step) if compiled else step
    losses = [run(x, y) for _ in range(3)]
    assert all(str(t.device) == str(device) for t in (*losses, *net.parameters(), *net.buffers()))
    return [t.numpy() for t in (*losses, *net.parameters(), *net.buffers())]


@pytest.mark.parametrize("compiled", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("current", [0, 1])
def test_training_takes_place_on_the_gpu_that_was_named(gpus, device, compiled, current):
    expected = train("cpu", compiled)
    with gpus.device(current):
        found = train(device, compiled)
        assert gpus.current == [0, current]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_gradients_flow_between_two_gpus(gpus):
    x = mg.tensor([1.0, 2.0], device="cuda:1", requires_grad=True)
    w = mg.tensor([3.0, 4.0], device="cuda:0", requires_grad=True)
    for factor in (1, 2):
        ((x * x).to("cuda:0") * w).sum().backward()
        assert x.grad.tolist() == [6.0 * factor, 16.0 * factor] and w.grad.tolist() == [1.0 * factor, 4.0 * factor]
    assert [str(t.grad.device) for t in (x, w)] == ["cuda:1", "cuda:0"]
    with pytest.raises(DeviceError, match="different devices"):
        x * w


def test_other_ways_to_compute_on_the_second_gpu(gpus):
    x = mg.tensor([1.0, 2.0], device="cuda:1")
    np.testing.assert_allclose(mg.hessian(lambda x: (x * x * x).sum())(x).numpy(), [[6.0, 0.0], [0.0, 12.0]])
    np.testing.assert_allclose(mg.jacobian(lambda x: x * x)(x).numpy(), [[2.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(mg.jvp(lambda x: x * x, (x,), (x,))[1].numpy(), [2.0, 8.0])
    copy = mg.tensor(x.value)
    assert copy.device == x.device and copy.value is not x.value
    with mg.debug.detect_anomaly():
        assert (x * 2.0).tolist() == [2.0, 4.0]
    assert "2." in repr(x)
    assert gpus.current == [0]


def test_an_operation_that_forgets_the_device_is_found(gpus):
    x = mg.tensor([1.0, 2.0], device="cuda:1")
    with pytest.raises(RuntimeError, match="while GPU 0 is the current one"):
        OPS["sin"].on(gpus)(x.value)
    assert OPS["sin"].at(x.device)(x.value).device.id == 1


# ------------------------------------------------------------------------------------------------------- with a GPU


@pytest.fixture
def cuda():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        return backend.device("cuda")
    except DeviceError as error:
        pytest.skip(error.what)


@pytest.mark.cuda
def test_a_real_gpu(cuda):
    array = np.arange(6, dtype="float32").reshape(2, 3)
    there = backend.transfer(array.T, cuda)
    assert backend.device_of(there) == cuda and backend.backend_of(there).kind == "cuda"
    assert isinstance(there, backend.backends["cuda"].xp.ndarray) and there.dtype == array.dtype
    np.testing.assert_array_equal(backend.transfer(there * 2, backend.cpu), array.T * 2)
    backend.synchronize("cuda")
    with pytest.raises(TypeError):
        np.asarray(there)


@pytest.mark.cuda
@pytest.mark.parametrize("compiled", [False, True], ids=["dynamic", "static"])
def test_training_on_a_real_gpu(cuda, compiled):
    for a, b in zip(train("cpu", compiled), train(cuda, compiled), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_random_numbers_of_a_real_gpu_are_those_of_the_cpu(cuda):
    for draw in (lambda g, d: g.uniform((1000,), device=d), lambda g, d: g.bernoulli(0.3, (1000,), device=d),
                 lambda g, d: g.integers(0, 100, (1000,), device=d)):  # fmt: skip
        here, there = (draw(mg.random.Generator(5), device) for device in ("cpu", cuda))
        assert there.device == cuda
        np.testing.assert_array_equal(here.numpy(), there.numpy())
