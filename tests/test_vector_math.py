"""Functions that are polynomials in C: none is further from the exact value than it says, wherever that is finite."""

import math
from unittest import mock

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler import vector_math
from minigraph.compiler.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")

NAMES = sorted(vector_math.FUNCTIONS)
EXACT = {name: getattr(np, name) for name in NAMES if name != "erf"} | {"erf": np.vectorize(math.erf, otypes=["f8"])}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3.4028235e38, -3.4028235e38, 1, -1], "f4")


def sample(step):
    """Every `step`th of the finite floats, by bit pattern: as many in each octave; with infinities and NaN."""
    bits = np.arange(0, 0x7F800000, step, dtype="u4")
    return np.concatenate([bits.view("f4"), (bits | np.uint32(1 << 31)).view("f4"), SPECIAL])


def in_c(name, x):
    return mg.compile(getattr(mg, name), backend="c")(mg.Tensor(x)).numpy()


def check(name, x):
    found = in_c(name, x)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype("f8"))
        rounded = exact.astype("f4")
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    zero = rounded == 0
    np.testing.assert_array_equal(np.signbit(found[zero & (x == 0)]), np.signbit(rounded[zero & (x == 0)]))
    ulps = abs(found[finite] - exact[finite]) / np.spacing(abs(rounded[finite])).astype("f8")
    worst = ulps.argmax()
    stated = vector_math.FUNCTIONS[name]["float32"].ulp
    assert ulps[worst] <= stated, f"{name}({x[finite][worst]!r}) is {ulps[worst]:.2f} ulp off, not {stated}"


@pytest.mark.parametrize("name", NAMES)
def test_no_error_is_larger_than_stated(name):
    check(name, sample(1_009))


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "exp"])
def test_every_length_gives_what_vectors_give(name):
    x = np.linspace(-9, 9, 70, dtype="f4")
    whole = in_c(name, x)
    for n in (1, 2, 3, 7, 15, 17, 33, 63):
        np.testing.assert_array_equal(in_c(name, x[:n]), whole[:n])


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("exp", "0.166665181517601", "0.166675181517601"),
        ("sin", "-0.1666666716337204", "-0.1666676716337204"),
        ("cos", "0.041666582226753235", "0.041667582226753235"),
        ("tan", "-0.0013884913641959429", "-0.0013894913641959429"),
    ],
)
def test_a_wrong_coefficient_is_found(name, right, wrong):
    known = vector_math.FUNCTIONS[name]["float32"]
    assert any(right in text for text in known.texts.values())
    planted = known._replace(texts={key: text.replace(right, wrong) for key, text in known.texts.items()})
    with (
        mock.patch.dict(vector_math.FUNCTIONS[name], float32=planted),
        pytest.raises(AssertionError, match="ulp off"),
    ):
        check(name, sample(100_003))
