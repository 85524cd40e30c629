"""The generated C under AddressSanitizer and UBSan: no access outside of an array, no undefined arithmetic.

The sanitizer's library must be loaded before everything else, so each test runs its programs in a child process. The
arrays lie in memory of the sanitizer's own allocator, which surrounds them with guarded bytes.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigraph.compiler import toolchain

ROOT = Path(__file__).resolve().parent.parent
compiler = toolchain.find_compiler()


def runtime():
    """The sanitizer's library, or None if the compiler has none."""
    if compiler is None or sys.platform != "linux":
        return None
    done = subprocess.run([*compiler.command, "-print-file-name=libasan.so"], capture_output=True, text=True)
    path = Path(done.stdout.strip())
    return path if done.returncode == 0 and path.is_absolute() and path.exists() else None


pytestmark = pytest.mark.skipif(runtime() is None, reason="the C compiler has no AddressSanitizer")

SETUP = """
import functools
import numpy as np
import minigraph as mg
from minigraph import nn, optim
from minigraph.compiler import toolchain

build = toolchain.build
toolchain.build = lambda source, openmp=False: build(source, openmp=openmp, sanitize=True)


def c(f, *args):
    compiled = mg.compile(f, backend="c")
    for _ in range(2):
        compiled(*args)
    assert compiled.backend == "c"
    return compiled


def array(*shape):
    return mg.tensor(np.random.default_rng(0).normal(size=shape).astype("float32"))
"""


def run(code, tmp_path, **environment):
    """A Python program whose compiled functions are sanitized, in a process of its own."""
    found = {
        **os.environ, "LD_PRELOAD": str(runtime()), "ASAN_OPTIONS": "detect_leaks=0,abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1", "PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1",
        "MINIGRAPH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), **environment,
    }  # fmt: skip
    return subprocess.run([sys.executable, "-c", SETUP + code], capture_output=True, text=True, env=found)


PROGRAMS = {
    "training step": """
net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
optimizer = optim.Adam(net.parameters(), lr=0.05)
def step(x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss
c(step, array(6, 5), mg.tensor(np.array([0, 1, 2, 0, 1, 2])))
""",
    "convolution": """
def f(x, w):
    return mg.max_pool2d(mg.conv2d(x, w, padding=1), 2).sum() + mg.avg_pool2d(mg.conv2d(x, w, stride=2), 2).sum()
c(lambda x, w: mg.value_and_grad(f, (0, 1))(x, w), array(2, 3, 9, 9), array(5, 3, 3, 3))
""",
    "loops": """
def cell(h, x):
    h = mg.tanh(h @ mg.ones((4, 4)) + x)
    return h, h
def f(x):
    last, all_ = mg.scan(cell, mg.zeros((3, 4)), x)
    return mg.cond(last.sum() > 0, lambda t: t * 2.0, lambda t: -t, last).sum() + all_.sum()
c(lambda x: mg.value_and_grad(f)(x), array(5, 3, 4))
c(lambda x: mg.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, mg.sin(s[1])), (mg.tensor(0), x))[1], array(7))
""",
    "threads": """
def f(x, y):
    return (mg.exp(mg.tanh(x)) * y).sum(axis=0), mg.softmax(x, axis=-1), mg.tanh(x.mT)
assert "omp parallel" in c(f, array(301, 257), array(301, 257)).source
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_read_or_written_outside(name, tmp_path):
    done = run(PROGRAMS[name], tmp_path, MINIGRAPH_THREADS="2" if name == "threads" else "1")
    assert done.returncode == 0, done.stderr[-4000:]


def test_operations_stay_inside(tmp_path):
    """One sample of each operation, in one function."""
    code = """
from minigraph.op import OPS
from minigraph.tensor import Tensor, bind

def outputs(op, inputs, attrs):
    found = bind(op, *inputs, **attrs)
    if type(found.value) is not tuple:
        return [found]
    return [bind(OPS["item"], found, index=i) for i in range(len(found.value))]

jobs = []
for name, op in sorted(OPS.items()):
    if op.builtin and op.samples is not None:
        good = [s for s in op.samples(np.random.default_rng(0)) if not isinstance(s[0], str)]
        good = [s for s in good if all(np.asarray(a).size for a in s[0])]
        good.sort(key=lambda s: -max([np.asarray(a).ndim for a in s[0]], default=0))
        for arrays, attrs in good[:1]:
            inputs = [Tensor(np.asarray(a)) for a in arrays]
            try:
                outputs(op, inputs, attrs)
            except mg.errors.MinigraphError:
                continue
            jobs.append((op, inputs, attrs))
assert len(jobs) > 80, len(jobs)
with np.errstate(all="ignore"):
    c(lambda every: [outputs(op, x, attrs) for (op, _, attrs), x in zip(jobs, every)], [x for _, x, _ in jobs])
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]


PLANTED = """
change = {change}
plain = toolchain.build
toolchain.build = lambda source, openmp=False: plain(change(source), openmp=openmp)
c(lambda x: mg.exp(x) * 2.0, mg.tensor(np.ones((300, 1000), dtype="float32")[:, :1]))
"""


def test_a_planted_read_outside_is_found(tmp_path):
    change = 'lambda source: source.replace("for (long i = from; i < to;", "for (long i = from; i < to + 64;")'
    done = run(PLANTED.format(change=change), tmp_path)
    assert done.returncode != 0 and "AddressSanitizer: heap-buffer-overflow" in done.stderr, done.stderr[-2000:]
    done = run(PLANTED.format(change="lambda source: source"), tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
