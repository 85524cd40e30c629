"""The ceilings of this machine, measured: how fast it multiplies, and how fast memory and caches deliver.

No step can be faster than its arithmetic at the highest rate, nor than its bytes at the rate of the memory that they
lie in: the roofline (S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model",
2009). The rate of arithmetic is that of a large matrix product by the BLAS in use, in float32 and in float64. The rate
of bytes is that of a triad, `a = b + s * c` (J. McCalpin's STREAM), on arrays that fit into each cache and on arrays
that fit into none, by all threads that programs use. Without a C compiler NumPy's addition takes the triad's place; it
takes longer to be called than to go through the smallest cache, so those ceilings are too low then.

A measurement takes part of a second. It is made once in a process and kept beside the compiled libraries, under a name
made of the processor, the number of threads and the BLAS.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import blas, toolchain
from .report import columns, quantity
from .threads import threads

SOURCE = """#include <stdint.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }

/* a = b + s * c, again and again, by each thread on arrays of its own; spent: the seconds that each took. */
void triad(float *memory, long size, long apart, long rounds, int threads, double *spent) {
  #pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    float *a = memory + t * apart, *b = a + size, *c = b + size;
    double start = now();
    for (long k = 0; k < rounds; k++) {
      #pragma omp simd
      for (long i = 0; i < size; i++) a[i] = b[i] + 0.5f * c[i];
      __asm__ volatile("" : : "r"(a) : "memory");
    }
    spent[t] = now() - start;
  }
}
""" + "".join(
    """
/* c = a @ b for square matrices, by BLAS, by each thread with matrices of its own. */
void product_DTYPE(void *blas, T *memory, long n, int threads, double *spent) {
  typedef void gemm(int, int, int, int64_t, int64_t, int64_t, T, const T *, int64_t, const T *, int64_t, T, T *,
                    int64_t);
  #pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    T *a = memory + t * 3 * n * n, *b = a + n * n, *c = b + n * n;
    double start = now();
    ((gemm *)blas)(101, 111, 111, n, n, n, 1, a, n, b, n, 0, c, n);
    spent[t] = now() - start;
  }
}
""".replace("DTYPE", dtype)
    .replace("T ", f"{kind} ")
    .replace("T,", f"{kind},")
    for dtype, kind in (("float32", "float"), ("float64", "double"))
)
PATIENCE = 0.08  # seconds for each ceiling, beyond the first run of what measures it
PRODUCT = 384  # rows and columns of the matrices that are multiplied
MOST = 1 << 26  # bytes that the triad in memory goes through at least, unless the last cache is larger than a third


class Level(NamedTuple):
    """A cache, or the memory: its name, the bytes that all threads together have of it, and bytes a second."""

    name: str
    capacity: float
    bandwidth: float


class Roofline(NamedTuple):
    """What this machine can do at most.

    Attributes:
        processor: its name. threads: how many threads worked together.
        single, double: floating-point operations a second, in float32 and float64.
        levels: the caches and, last, the memory, each with its bandwidth in bytes a second.
        tool: what measured the bandwidth, "C" or "NumPy". product: whose matrix product it was.
    """

    processor: str
    threads: int
    single: float
    double: float
    levels: tuple[Level, ...]
    tool: str
    product: str

    def level(self, nbytes: float) -> Level:
        """The fastest level that holds so many bytes.

        >>> mg.compiler.roofline().level(1 << 40).name
        'memory'
        """
        return next((level for level in self.levels if nbytes <= level.capacity), self.levels[-1])

    def peak(self, dtype: Any = "float32") -> float:
        """Floating-point operations a second in a dtype."""
        return self.double if np.dtype(dtype) == np.float64 else self.single

    def attainable(self, flops: float, nbytes: float, dtype: Any = "float32") -> float:
        """Floating-point operations a second that nothing with so many FLOPs and bytes exceeds: the roofline.

        >>> machine = mg.compiler.roofline()
        >>> machine.attainable(1e12, 8) == machine.single
        True
        """
        if not nbytes:
            return self.peak(dtype)
        return min(self.peak(dtype), flops / nbytes * self.level(nbytes).bandwidth)

    def seconds(self, flops: float, nbytes: float, dtype: Any = "float32") -> float:
        """The shortest time for so many FLOPs and bytes, in seconds. The bytes come from the fastest level that holds
        them.

        >>> machine = mg.compiler.roofline()
        >>> machine.seconds(0, 1e12) == 1e12 / machine.levels[-1].bandwidth
        True
        """
        return max(flops / self.peak(dtype), nbytes / self.level(nbytes).bandwidth)

    def __repr__(self) -> str:
        rows = [
            ("float32", quantity(self.single, "FLOP/s"), self.product),
            ("float64", quantity(self.double, "FLOP/s"), ""),
        ]
        for x in self.levels:
            held = "" if x.capacity == float("inf") else f"up to {quantity(x.capacity, 'B', 1024)}"
            rows.append((x.name, quantity(x.bandwidth, "B/s"), held))
        head = f"roofline of {self.processor}, {self.threads} thread{'s' * (self.threads != 1)}, bytes by {self.tool}"
        return "\n".join([head, *columns(rows, "<><")])


# ---------------------------------------------------------------------------------------------------------- measuring


def best(work: Callable[[np.ndarray], Any], count: int) -> np.ndarray:
    """The shortest time that each thread has taken in several runs of `work(spent)`. Each thread has its own clock, so
    that one which has to wait for a processor that is busy does not spoil the others' times."""
    spent = np.zeros(count)
    work(spent)
    found, end = np.full(count, np.inf), time.perf_counter() + PATIENCE
    while time.perf_counter() < end or not np.isfinite(found).all():
        work(spent)
        np.minimum(found, spent, out=found)
    return found


def timed(work: Callable[[], Any]) -> Callable[[np.ndarray], None]:
    """Python code, timed from outside."""

    def run(spent: np.ndarray) -> None:
        start = time.perf_counter()
        work()
        spent[0] = time.perf_counter() - start

    return run


def products(dtype: str, count: int, tool: Any) -> float:
    """FLOPs a second of matrix products: one by each of `count` threads, or one by NumPy with its threads."""
    n, library = PRODUCT, blas.find()
    if tool is None or library is None:
        a, out = np.full((n, n), 0.5, dtype), np.empty((n, n), dtype)
        return float(2 * n**3 / best(timed(lambda: np.dot(a, a, out=out)), 1)[0])
    memory = np.full((count, 3, n, n), 0.5, dtype)
    get, put = (
        ctypes.CFUNCTYPE(ctypes.c_int)(library.threads),
        ctypes.CFUNCTYPE(None, ctypes.c_int)(library.set_threads),
    )
    function, address = getattr(tool, f"product_{dtype}"), library.sgemm if dtype == "float32" else library.dgemm
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_void_p]
    before = get()
    put(1)  # as in our programs, where BLAS uses the thread that calls it
    try:
        spent = best(lambda spent: function(address, memory.ctypes.data, n, count, spent.ctypes.data), count)
    finally:
        put(before)
    return float((2 * n**3 / spent).sum())


def caches() -> list[tuple[str, int]]:
    """Name and bytes of the caches that hold data, for one processor each; what is usual, where the system is silent.

    A cache that many processors share counts as a whole: one of them may have all of it.
    """
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = [(folder / name).read_text().strip() for name in ("type", "level", "size")]
        except OSError:
            continue
        if kind != "Instruction" and re.fullmatch(r"\d+K", size):
            found[f"L{level}"] = int(size[:-1]) << 10
    return sorted(found.items()) or [("L1", 32 << 10), ("L2", 1 << 20)]


def bandwidth(size: int, count: int, tool: Any) -> float:
    """Bytes a second of triads, `count` threads with `size` bytes each; of NumPy's addition, where there is no C."""
    n = max(64, size // 12 // 16 * 16)
    apart = 3 * n + 1024  # so that the arrays of two threads do not meet in a cache line
    memory = np.ones(apart * count + 16, "float32")
    memory = memory[-memory.ctypes.data % 64 // 4 :]
    if tool is None:
        a, b, c = memory[:n], memory[n : 2 * n], memory[2 * n : 3 * n]
        return float(12 * n / best(timed(lambda: np.add(b, c, out=a)), 1)[0])
    rounds = max(1, (1 << 20) // (12 * n))  # so that reading the clock does not count
    tool.triad.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 3, ctypes.c_int, ctypes.c_void_p]
    spent = best(lambda spent: tool.triad(memory.ctypes.data, n, apart, rounds, count, spent.ctypes.data), count)
    return float((12 * n * rounds / spent).sum())


def measure(count: int) -> Roofline:
    """Measure all ceilings for `count` threads."""
    tool = toolchain.build(SOURCE, openmp=count > 1) if toolchain.find_compiler() is not None else None
    known, workers, library = caches(), count if tool is not None else 1, blas.find()
    own = [(name, size) for name, size in known if name in ("L1", "L2")]
    levels = [Level(name, float(size * workers), bandwidth(size // 2, workers, tool)) for name, size in own]
    last = known[-1][1]
    if len(known) > len(own):
        levels.append(Level(known[-1][0], float(last), bandwidth(last // 3 // workers, workers, tool)))
    levels.append(Level("memory", float("inf"), bandwidth(max(MOST, 3 * last) // workers, workers, tool)))
    for i in reversed(range(len(levels) - 1)):  # a cache is not slower than what lies behind it: then we were disturbed
        levels[i] = levels[i]._replace(bandwidth=max(levels[i].bandwidth, levels[i + 1].bandwidth))
    product = "NumPy's BLAS" if library is None else " ".join(library.name.split()[:2])
    single, double = [products(dtype, count, tool) for dtype in ("float32", "float64")]
    by = "NumPy" if tool is None else "C"
    return Roofline(name_of_processor(), workers, single, double, tuple(levels), by, product)


def name_of_processor() -> str:
    """What the processor calls itself."""
    found = re.search(r"^model name\s*:\s*(.+)$", toolchain.processor(), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


# -------------------------------------------------------------------------------------------------------- remembering


def kept_at(count: int) -> Path | None:
    """The file that remembers the ceilings of this machine, or None on a system where we keep no files."""
    if sys.platform == "win32":
        return None
    library = blas.find()
    what = "\0".join(
        [toolchain.processor(), str(count), library.name if library else "", SOURCE, str(toolchain.find_compiler())]
    )
    return toolchain.cache_directory() / f"roofline-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def recall(path: Path | None) -> Roofline | None:
    """What an earlier process has measured, unless the file is missing, not ours, or not whole."""
    if path is None or not toolchain.trusted(path):
        return None
    try:
        found = Roofline(**json.loads(path.read_text(encoding="utf-8")))
        levels = tuple(Level(*x) for x in found.levels)
        sound = all(x > 0 for x in (found.single, found.double, *[level.bandwidth for level in levels]))
    except (ValueError, TypeError):
        return None
    return found._replace(levels=levels) if sound and levels else None


def remember(path: Path | None, found: Roofline) -> None:
    """Write the file; it appears under its name when it is complete."""
    if path is None:
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="roofline-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(found._asdict(), file)
    os.replace(name, path)


@cache
def _known(count: int) -> list[Roofline]:
    """The ceilings in use in this process, in a list so that a new measurement can replace them."""
    path = kept_at(count)
    found = recall(path)
    if found is None:
        found = measure(count)
        remember(path, found)
    return [found]


def roofline(*, again: bool = False) -> Roofline:
    """The ceilings of this machine: FLOPs a second, and bytes a second of memory and caches.

    The first call on a machine takes part of a second; its result is kept on disk, beside the compiled libraries. On a
    machine that is busy with something else the ceilings come out too low; measure again when it is quiet.

    Args:
        again: measure, whatever is known already.

    >>> machine = mg.compiler.roofline()
    >>> machine.levels[0].bandwidth > 0 and machine.single > 0
    True
    >>> machine is mg.compiler.roofline()
    True
    """
    count = threads()
    if again:
        found = measure(count)
        remember(kept_at(count), found)
        _known(count)[0] = found
    return _known(count)[0]
