"""Devices and array modules: finding them, moving arrays, and what is said where there is no GPU."""

import pickle
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minigraph import backend
from minigraph.errors import DeviceError, DTypeError


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
