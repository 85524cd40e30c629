"""Every operation of the catalogue is held to its word: the whole family of tests follows from its samples."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler import program  # noqa: F401  enters the operations that only the compiler makes
from minigraph.op import OPS

# What the family cannot hold to its word; each of these has tests of its own.
WITHOUT_SAMPLES = {
    "input", "read",  # leaves: nothing runs
    "identity", "stop_gradient",  # of differentiation itself: the values say nothing about the gradient
    "item", "call", "recompute", "checkpoint", "cond", "while_loop", "scan", "replayed",  # made of graphs
    "nonzero",  # the shape of its result depends on values
    "assemble", "copy", "fused", "in_range",  # made by the compiler
}  # fmt: skip
BUILTIN = sorted(name for name, op in OPS.items() if op.builtin)


@pytest.mark.parametrize("name", [name for name in BUILTIN if OPS[name].samples])
def test_operation(name):
    report = mg.debug.opcheck(name)
    assert report.ok


@pytest.mark.parametrize("name", BUILTIN)
def test_operation_has_samples(name):
    assert (OPS[name].samples is not None) != (name in WITHOUT_SAMPLES)


@pytest.mark.parametrize("name", [name for name in BUILTIN if OPS[name].vjp is not None and OPS[name].samples])
def test_samples_reach_the_corners(name):
    """An operation with gradients is tested with float64 inputs (finite differences) and with nothing in them."""
    samples = [s for s in OPS[name].samples(np.random.default_rng(0)) if not isinstance(s[0], str)]
    arrays = [np.asarray(a) for s in samples for a in s[0]]
    assert any(a.dtype == np.float64 and a.size for a in arrays)
    if not OPS[name].elementwise:  # those are reshaped to nothing by opcheck itself
        assert any(a.size == 0 for a in arrays)
