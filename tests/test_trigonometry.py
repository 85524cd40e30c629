"""sin, cos and tan in C where reducing the argument is hard: near multiples of pi/2, up to the largest float."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import vector_math
from minigraph.compiler.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")

NAMES = ["sin", "cos", "tan"]
# The float that is nearest to a multiple of pi/2, 1.6e-9 away (J.-M. Muller, "Elementary Functions", 2016, table 11.1)
NEAREST = np.float32(16367173 * 2.0**72)


def neighbours(x):
    """Floats, and the next ones on both sides."""
    x = np.asarray(x, "f4")
    return np.concatenate([np.nextafter(x, np.float32(-np.inf)), x, np.nextafter(x, np.float32(np.inf))])


def hard():
    """Floats next to multiples of pi/2, and at the limits between the ways of reduction."""
    few = np.arange(-50_000, 50_001)
    many = np.unique(np.logspace(5, 22, 50_000).round())
    limits = [sign * 2.0 ** (k + 23) for k in (26, 27, 28, 53, 79, 104) for sign in (-1, 1)]
    found = np.concatenate([neighbours(few * (math.pi / 2)), neighbours(many * (math.pi / 2)), neighbours(limits)])
    return np.concatenate([found, [NEAREST, -NEAREST]]).astype("f4")


def check(name, x):
    found = mg.compile(getattr(mg, name), backend="c")(mg.Tensor(x)).numpy()
    exact = getattr(np, name)(x.astype("f8"))
    ulps = abs(found - exact) / np.spacing(abs(exact.astype("f4"))).astype("f8")
    worst = ulps.argmax()
    stated = vector_math.FUNCTIONS[name]["float32"].ulp
    assert ulps[worst] <= stated, f"{name}({x[worst]!r}) is {ulps[worst]:.2f} ulp off, not {stated}"


@pytest.mark.parametrize("name", NAMES)
def test_next_to_multiples_of_a_quarter_turn(name):
    check(name, hard())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_floats_from_the_first_limit_on(name, seed):
    bits = np.random.default_rng(seed).integers(0x58800000, 0x7F800000, 100_000, dtype="u4")
    check(name, bits.view("f4"))


def test_nearest_float_to_a_multiple():
    """The reduced argument from 200 bits of pi/2, by whole numbers alone."""
    digits = "3243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89"
    pi, bits = int(digits, 16), 4 * (len(digits) - 1)
    turns, left = divmod(16367173 << 72 + 1 + bits, pi)
    distance = min(left, pi - left) / pi * (math.pi / 2)
    assert 1e-9 < distance < 2e-9
    found = mg.compile(lambda x: (mg.sin(x), mg.cos(x)), backend="c")(mg.Tensor(NEAREST))
    assert min(abs(t.item()) for t in found) == pytest.approx(distance, rel=2**-23)
    assert turns > 0


def test_float64_is_the_library():
    x = np.linspace(-1e6, 1e6, 1001)
    for name in NAMES:
        found = mg.compile(getattr(mg, name), backend="c")(mg.Tensor(x)).numpy()
        np.testing.assert_allclose(found, getattr(np, name)(x), rtol=1e-14, atol=1e-15)


def test_sine_and_cosine_of_one_argument_reduce_it_once():
    source = mg.compile(lambda x: mg.sin(x) * mg.cos(x), backend="c")
    source(mg.Tensor(np.ones(100, "f4")))
    text = source.last.program.native.program.source
    assert text.count("double mg_turn_f32(") == 1 and "__builtin_sin" not in text


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("6.123233995736766e-17", "6.123233995736766e-16"),
        ("size < 1125899906842624.0 ? left", "size < 4503599627370496.0 ? left"),
        ("__builtin_fma(d, left, -high)", "0.0"),
        ("__builtin_fma(d, more,", "__builtin_fma(d, 0.0,"),
    ],
)
def test_a_planted_bug_in_the_reduction_is_found(right, wrong):
    known = vector_math.FUNCTIONS["sin"]["float32"]
    assert right in known.texts["mg_turn_f32"]
    planted = known._replace(texts=known.texts | {"mg_turn_f32": known.texts["mg_turn_f32"].replace(right, wrong)})
    with mock.patch.dict(vector_math.FUNCTIONS["sin"], float32=planted), pytest.raises(AssertionError, match="ulp off"):
        check("sin", hard())
