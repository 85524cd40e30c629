"""A CuPy that computes on the CPU, for tests of what is written for a GPU.

Arrays and functions are those of the strict stand-in. Functions in CUDA C are compiled by g++, with a small emulation
of threads, warps and blocks (`cuda_emulation.h`), and run in place of launches. Streams capture as CuPy's do: launches
that are captured do not run before the graph is launched, cuBLAS is refused meanwhile, and so is everything that
allocates, which CuPy would let pass although a replay must not rely on it.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from minigraph.backend.strict import StrictArray
from minigraph.backend.strict import module as strict

HEADER = Path(__file__).with_name("cuda_emulation.h")
COMPILER = shutil.which("g++")
FLAGS = ["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-x", "c++"]


class Refused(RuntimeError):
    """What CuPy's CUDARuntimeError is."""


class CompileException(Exception):
    """What CuPy raises when its compiler refuses a text; not a RuntimeError."""


def compiled(text: str, folder: Path) -> ctypes.CDLL:
    """The functions of a text, each with a `launch_` of its own."""
    names = re.findall(r'extern "C" __global__ void __launch_bounds__\(\d+\) (\w+)', text)
    doors = [f'extern "C" int launch_{n}(int b, int t, void **a, int k, int r) '
             f"{{ return emulation::launch({n}, b, t, a, k, r); }}" for n in names]  # fmt: skip
    whole = "\n".join([f'#include "{HEADER}"', text, *doors])
    if "__builtin" in text:
        raise CompileException("the run-time compiler has no built-in functions of gcc")
    path = folder / f"{hashlib.sha256(whole.encode()).hexdigest()[:20]}.so"
    if not path.exists():
        ended = subprocess.run([COMPILER, *FLAGS, "-", "-o", str(path)], input=whole, capture_output=True, text=True)
        if ended.returncode:
            raise CompileException(ended.stderr)
    return ctypes.CDLL(str(path))


class EmulatedCuda(ModuleType):
    """The module.

    Attributes:
        launches: the names of the functions that have run, in order. captures, replays: how often graphs were made and
            launched.
        backwards: whether threads and blocks run from the last to the first.
        edit: a function of the CUDA text that plants a bug.
        refuse_capture: the error that capturing ends with, if any.
    """

    def __init__(self, folder: Path):
        super().__init__("cupy")
        self.folder, self.ndarray = folder, StrictArray
        self.launches: list[str] = []
        self.texts: list[str] = []
        self.options: list[tuple[str, ...]] = []
        self.captures, self.replays, self.backwards = 0, 0, False
        self.edit = lambda text: text
        self.refuse_capture: Exception | None = None
        self.stream = SimpleNamespace(capturing=None, synchronize=lambda: None)  # the current one
        self.asnumpy = lambda array: array.get()
        module = self

        class Device:
            def __init__(self, index):
                assert index == 0

            def __enter__(self):
                pass

            def __exit__(self, *_):
                pass

        class Stream:
            def __init__(self, non_blocking=False):
                self.non_blocking, self.capturing = non_blocking, None

            def __enter__(self):
                self.before, module.stream = module.stream, self
                return self

            def __exit__(self, *_):
                module.stream = self.before

            def begin_capture(self):
                if not self.non_blocking:
                    raise RuntimeError("cannot capture on the default (legacy) stream")
                self.capturing = []

            def end_capture(self):
                captured, self.capturing = self.capturing, None
                if module.refuse_capture is not None:
                    raise module.refuse_capture
                module.captures += 1
                return Graph(captured)

        class Graph:
            def __init__(self, calls):
                self.calls = calls

            def launch(self, stream=None):
                assert module.stream.capturing is None
                module.replays += 1
                for call in self.calls:
                    call()

        runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0, CUDARuntimeError=Refused)
        self.cuda = SimpleNamespace(
            Device=Device, Stream=Stream, get_current_stream=lambda: self.stream, runtime=runtime,
            compiler=SimpleNamespace(CompileException=CompileException),
        )  # fmt: skip

    def RawModule(self, *, code, options=()):  # noqa: N802  CuPy's name
        self.texts.append(code)
        self.options.append(options)
        library = compiled(self.edit(code), self.folder)

        def get_function(name):
            function = getattr(library, f"launch_{name}")

            def launch(grid, block, arguments):
                assert len(grid) == len(block) == 1 and 0 < block[0] <= 1024 and grid[0] > 0, (grid, block)
                assert all(isinstance(a, StrictArray) for a in arguments)

                def run():
                    places = (ctypes.c_void_p * len(arguments))(*[a._array.ctypes.data for a in arguments])
                    status = function(grid[0], block[0], places, len(arguments), int(self.backwards))
                    assert status == 0, f"{name}: {'threads wait for each other' if status == 1 else 'arguments'}"
                    self.launches.append(name)

                if self.stream.capturing is None:
                    run()
                else:
                    self.stream.capturing.append(run)

            return launch

        return SimpleNamespace(get_function=get_function)

    def __getattr__(self, name):
        if self.stream.capturing is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        return getattr(strict, name)


def set_array(self, array: np.ndarray) -> None:
    """CuPy's `set`, which copies from the CPU and is as strict."""
    assert isinstance(array, np.ndarray) and (array.shape, array.dtype) == (self.shape, self.dtype)
    self._array[...] = array


def arrays_are_cupys(monkeypatch) -> None:
    """Give the stand-in's arrays the attributes that CuPy's have besides."""
    monkeypatch.setattr(StrictArray, "device", property(lambda array: SimpleNamespace(id=0)), raising=False)
    monkeypatch.setattr(StrictArray, "set", set_array, raising=False)


def close(found, expected, dtype=np.float32) -> None:
    """Compare within some units in the last place of sums and functions."""
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
