"""Elementwise operations against Python's own mathematics, NumPy's promotion and PyTorch's conventions.

What follows from the samples of each operation (shapes, both modes, gradients of order one and two) is in
test_all_ops.py; here stands what samples cannot say: accuracy, corners, conventions, errors.
"""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigraph as mg
from minigraph.debug import OpCheckError, opcheck
from minigraph.errors import ArgumentError, DTypeError, ShapeError
from minigraph.op import OPS, spec_of
from minigraph.ops import elementwise

inf, nan = math.inf, math.nan


def t(data, **options):
    return mg.tensor(np.asarray(data, "f8"), **options)


def gradient(fn, *points):
    """The gradients of the sum of fn at float64 points."""
    xs = [t(p, requires_grad=True) for p in points]
    fn(*xs).sum().backward()
    found = [x.grad.numpy() for x in xs]
    return found[0] if len(found) == 1 else found


# ----------------------------------------------------------------------------------------------------------- values

PYTHON = {
    "abs": abs, "acos": math.acos, "acosh": math.acosh, "asin": math.asin, "asinh": math.asinh, "atan": math.atan,
    "atanh": math.atanh, "ceil": math.ceil, "cos": math.cos, "cosh": math.cosh, "erf": math.erf, "exp": math.exp,
    "expm1": math.expm1, "floor": math.floor, "isfinite": math.isfinite, "isinf": math.isinf, "isnan": math.isnan,
    "log": math.log, "log10": math.log10, "log1p": math.log1p, "log2": math.log2, "negative": lambda x: -x,
    "positive": lambda x: x, "reciprocal": lambda x: 1 / x, "relu": lambda x: max(x, 0.0), "round": round,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "sign": lambda x: math.copysign(1, x),
    "silu": lambda x: x / (1 + math.exp(-x)), "sin": math.sin, "sinh": math.sinh,
    "softplus": lambda x: math.log(1 + math.exp(x)), "sqrt": math.sqrt, "square": lambda x: x**2, "tan": math.tan,
    "tanh": math.tanh, "trunc": math.trunc, "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "leaky_relu": lambda x: x if x > 0 else x / 100, "gelu": lambda x: x * (1 - math.erfc(x / math.sqrt(2)) / 2),
    "logical_not": lambda x: not x,
}  # fmt: skip
PYTHON_TWO = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b, "floor_divide": lambda a, b: a // b, "remainder": lambda a, b: a % b,
    "maximum": max, "minimum": min, "hypot": math.hypot, "atan2": math.atan2, "pow": lambda a, b: abs(a) ** b,
    "logaddexp": lambda a, b: math.log(math.exp(a) + math.exp(b)), "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b, "less": lambda a, b: a < b, "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b, "greater_equal": lambda a, b: a >= b, "logical_and": lambda a, b: bool(a and b),
    "logical_or": lambda a, b: bool(a or b), "logical_xor": lambda a, b: bool(a) != bool(b),
}  # fmt: skip
PYTHON_BITS = {
    "bitwise_and": lambda a, b: a & b, "bitwise_or": lambda a, b: a | b, "bitwise_xor": lambda a, b: a ^ b,
    "bitwise_left_shift": lambda a, b: a << b, "bitwise_right_shift": lambda a, b: a >> b,
}  # fmt: skip
DOMAIN = {"acosh": (1, 5), "acos": (-1, 1), "asin": (-1, 1), "atanh": (-0.99, 0.99), "log1p": (-0.99, 5)}
DOMAIN |= dict.fromkeys(("log", "log2", "log10", "sqrt"), (1e-3, 5))


def test_every_operation_has_a_reference():
    known = {*PYTHON, *PYTHON_TWO, *PYTHON_BITS, "bitwise_invert", "where", "clip", "astype", "gelu_tanh"}
    here = {n for n, op in OPS.items() if op.builtin and op.run.__module__ == elementwise.__name__}
    gradients = {"relu_grad"}  # an operation of gradients only, without a public function
    assert here == known | gradients
    assert here - gradients == set(elementwise.__all__)


@pytest.mark.parametrize("name", PYTHON)
def test_one_input_equals_python(name):
    low, high = DOMAIN.get(name, (-4, 4))
    x = np.random.default_rng(0).uniform(low, high, 50)
    expected = [PYTHON[name](v) for v in x.tolist()]
    np.testing.assert_allclose(getattr(mg, name)(mg.tensor(x)).numpy(), expected, rtol=2e-14, atol=1e-15)
    single = getattr(mg, name)(mg.tensor(x.astype("f4")))
    expected = [PYTHON[name](v) for v in x.astype("f4").tolist()]
    np.testing.assert_allclose(single.numpy(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", PYTHON_TWO)
def test_two_inputs_equal_python(name):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-4, 4, (2, 50))
    a[:5], b[:5] = b[:5], b[:5]  # some are equal
    first = np.abs(a) if name == "pow" else a
    expected = [PYTHON_TWO[name](v, w) for v, w in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_allclose(getattr(mg, name)(mg.tensor(first), mg.tensor(b)).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("name", PYTHON_BITS)
def test_bits_equal_python(name):
    a, b = np.random.default_rng(0).integers(0, 20, (2, 50))
    expected = [PYTHON_BITS[name](v, w) for v, w in zip(a.tolist(), b.tolist(), strict=True)]
    assert getattr(mg, name)(mg.tensor(a), mg.tensor(b)).numpy().tolist() == expected
    assert mg.bitwise_invert(mg.tensor(a)).numpy().tolist() == [~v for v in a.tolist()]


def test_gelu_tanh_is_near_gelu():
    x = t(np.linspace(-6, 6, 1001))
    assert np.abs(mg.gelu_tanh(x).numpy() - mg.gelu(x).numpy()).max() < 5e-4
    np.testing.assert_array_equal(mg.gelu(x, approximate="tanh").numpy(), mg.gelu_tanh(x).numpy())
    u = 1.5
    expected = u / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
    assert mg.gelu_tanh(t(u)).item() == pytest.approx(expected, rel=1e-15)


def test_erf_is_accurate_to_the_last_digits():
    x = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-300, 0, 2000), -np.logspace(-8, 0, 999), [5.9, 6, 6.1]])
    expected = np.array([math.erf(v) for v in x.tolist()])
    y = mg.erf(mg.tensor(x)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-15, atol=0)
    assert np.abs(y).max() == 1
    x = x[np.abs(x) > 1e-30].astype("f4")
    expected = np.array([math.erf(v) for v in x.tolist()])
    np.testing.assert_allclose(mg.erf(mg.tensor(x)).numpy(), expected, rtol=1.2e-7, atol=0)
    corners = mg.erf(t([inf, -inf, nan, 0.0, -0.0])).numpy()
    np.testing.assert_array_equal(corners, [1, -1, nan, 0, 0])
    assert np.signbit(corners[-1])


def test_erf_equals_mpmath():
    mpmath = pytest.importorskip("mpmath")
    x = np.random.default_rng(1).uniform(-6, 6, 300)
    with mpmath.workdps(30):
        expected = [float(mpmath.erf(v)) for v in x.tolist()]
    np.testing.assert_allclose(mg.erf(mg.tensor(x)).numpy(), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_sigmoid_and_softplus_keep_their_digits_and_never_overflow(dtype):
    unit = np.finfo(dtype)
    x = np.array([-700, -88, -50, -14, -9, -1, -1e-3, 0, 0.5, 3, 10, 11.5, 12, 40, 90, 700, 6e4], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with np.errstate(under="ignore"):
            s, p = mg.sigmoid(mg.tensor(x)).numpy(), mg.softplus(mg.tensor(x)).numpy()
    exact_s = [math.exp(v) / (1 + math.exp(v)) if v < 0 else 1 / (1 + math.exp(-v)) for v in x.tolist()]
    exact_p = [max(v, 0) + math.log1p(math.exp(-abs(v))) for v in x.tolist()]
    np.testing.assert_allclose(s, exact_s, rtol=4 * unit.eps, atol=2 * float(unit.smallest_subnormal))
    np.testing.assert_allclose(p, exact_p, rtol=4 * unit.eps, atol=2 * float(unit.smallest_subnormal))
    for fn, at_inf, at_minus in ((mg.sigmoid, 1, 0), (mg.softplus, inf, 0)):
        np.testing.assert_array_equal(fn(t([inf, -inf, nan])).numpy(), [at_inf, at_minus, nan])


def test_activations_pass_nan_on():
    for name in ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "sigmoid", "softplus", "tanh", "erf"):
        assert math.isnan(getattr(mg, name)(t(nan)).item()), name
    assert mg.elu(t(-1e9)).item() == -1
    assert mg.elu(t(1e9)).item() == 1e9


@pytest.mark.parametrize("exponent", [-1, 0, 1, 2, 3, 4, 5, 1.5, -2.5])
def test_powers_written_as_numbers_equal_powers_given_as_tensors(exponent):
    x = np.array([-2.0, -0.0, 0.0, 0.7, 3.0, inf, -inf, nan])
    with np.errstate(all="ignore"):
        fast, slow = (mg.tensor(x) ** exponent).numpy(), mg.pow(mg.tensor(x), np.full(8, float(exponent))).numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-15)
    np.testing.assert_array_equal(np.signbit(fast)[:-1], np.signbit(slow)[:-1])


def test_rounding_leaves_integers_alone():
    x = mg.tensor([1, -2])
    for fn in (mg.floor, mg.ceil, mg.round, mg.trunc):
        assert fn(x) is x
    assert mg.round(t([0.5, 1.5, 2.5, -0.5])).numpy().tolist() == [0, 2, 2, -0.0]


# -------------------------------------------------------------------------------------- shapes, dtypes, operands

DTYPES = ["?", "i1", "u1", "i4", "i8", "f2", "f4", "f8"]
BINARY = [n for n in (*PYTHON_TWO, *PYTHON_BITS) if n != "bitwise_left_shift"]


def numpy_function(name):
    return {"pow": np.power, "bitwise_right_shift": np.right_shift, "atan2": np.arctan2}.get(name) or getattr(np, name)


@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=3),
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    name=st.sampled_from(BINARY),
)
def test_broadcasting_and_promotion_are_those_of_numpy(shapes, dtypes, name):
    a, b = (np.ones(s, d) for s, d in zip(shapes.input_shapes, dtypes, strict=True))
    try:
        expected = np.asarray(numpy_function(name)(a, b))
    except TypeError:
        with pytest.raises(DTypeError):
            getattr(mg, name)(mg.tensor(a), mg.tensor(b))
        with pytest.raises(DTypeError):
            OPS[name].infer(spec_of(a), spec_of(b))
        return
    y = getattr(mg, name)(mg.tensor(a), mg.tensor(b))
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(y.numpy(), expected)
    inferred = OPS[name].infer(spec_of(a), spec_of(b))
    assert (inferred.shape, inferred.dtype) == (expected.shape, expected.dtype)


@given(hnp.arrays("f8", hnp.array_shapes(min_dims=0, min_side=0), elements=st.floats(width=64)))
def test_any_float_at_all_gives_what_numpy_gives(x):
    with np.errstate(all="ignore"):
        for name in ("abs", "exp", "sqrt", "tanh", "floor", "isfinite", "negative", "sign"):
            np.testing.assert_array_equal(getattr(mg, name)(mg.tensor(x)).numpy(), getattr(np, name)(x))
        np.testing.assert_array_equal(mg.relu(mg.tensor(x)).numpy(), np.maximum(x, 0))
        np.testing.assert_array_equal(mg.clip(mg.tensor(x), -1.0, 1.0).numpy(), np.clip(x, -1, 1))


def test_numbers_give_way_to_tensors():
    x = mg.tensor([1.0])
    for y in (mg.add(x, 1), mg.multiply(2.0, x), mg.maximum(x, 0), mg.where(x > 0, x, 0), mg.clip(x, 0, 1), x**2):
        assert y.dtype == mg.float32
    assert mg.add(mg.tensor([1]), 1).dtype == mg.int64
    assert mg.where(mg.tensor([True]), 1.0, 0.0).dtype == mg.float32
    assert mg.add(x, np.float64(1)).dtype == mg.float64


def test_arrays_variables_and_numbers_are_operands():
    v = mg.Variable([1.0, 2.0], requires_grad=True)
    for y in (mg.add(v, np.ones(2, "f4")), mg.add(1, v), mg.add(np.ones(2, "f4"), v)):
        assert y.numpy().tolist() == [2, 3]
    assert mg.exp(0.0).item() == 1
    mg.exp(v).sum().backward()
    np.testing.assert_allclose(v.grad.numpy(), np.exp([1, 2]), rtol=1e-6)


def test_astype():
    x = t([1.5, -1.5, 0.0], requires_grad=True)
    assert mg.astype(x, "float64") is x
    y = mg.astype(x, mg.float32)
    assert y.dtype == mg.float32
    assert y.requires_grad
    (y * 3).sum().backward()
    assert x.grad.dtype == mg.float64
    assert x.grad.numpy().tolist() == [3, 3, 3]
    for dtype, expected in (("int32", [1, -1, 0]), ("bool", [True, True, False])):
        z = mg.astype(x, dtype)
        assert z.numpy().tolist() == expected
        assert not z.requires_grad
        assert not mg.astype(z, "float64").requires_grad
    for bad in ("complex64", object, "f16", "no such dtype", "U3", 7):
        with pytest.raises(DTypeError, match="float32"):
            mg.astype(x, bad)


def test_clip():
    x = t([-2.0, 0.5, 2.0])
    assert mg.clip(x, 0, 1).numpy().tolist() == [0, 0.5, 1]
    assert mg.clip(x, max=1).numpy().tolist() == [-2, 0.5, 1]
    assert mg.clip(x, 0).numpy().tolist() == [0, 0.5, 2]
    assert mg.clip(x) is x
    assert mg.clip(x, t([0.0, 1.0, 3.0]), 2.5).numpy().tolist() == [0, 1, 2.5]
    assert mg.clip(x, 1, 0).numpy().tolist() == [0, 0, 0]
    counts = mg.clip(mg.tensor([-5, 0, 5]), max=2)
    assert counts.numpy().tolist() == [-5, 0, 2]
    assert counts.dtype == mg.int64
    assert mg.clip(mg.tensor(np.array([3, 200], "u1")), 10, None).numpy().tolist() == [10, 200]
    assert math.isnan(mg.clip(t(nan), 0, 1).item())
    with pytest.raises(DTypeError, match="uint8"):
        mg.clip(mg.tensor(np.array([3], "u1")), max=300)
    with pytest.raises(DTypeError, match="clip"):
        mg.clip(mg.tensor([True]), 0, 1)


# --------------------------------------------------------------------------------------- gradients where it is hard


def test_gradients_at_kinks_are_the_documented_ones():
    assert gradient(mg.abs, [-2.0, 0.0, 2.0]).tolist() == [-1, 0, 1]
    assert gradient(mg.relu, [-2.0, 0.0, 2.0]).tolist() == [0, 0, 1]
    assert gradient(lambda x: mg.leaky_relu(x, 0.1), [-2.0, 0.0, 2.0]).tolist() == [0.1, 0.1, 1]
    assert gradient(lambda x: mg.elu(x, 0.5), [0.0, 2.0]).tolist() == [0.5, 1]
    a, b = gradient(mg.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert (a.tolist(), b.tolist()) == ([0, 0.5, 1], [1, 0.5, 0])
    a, b = gradient(mg.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert (a.tolist(), b.tolist()) == ([1, 0.5, 0], [0, 0.5, 1])
    assert gradient(lambda x: mg.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]).tolist() == [0, 1, 1, 1, 0]
    with np.errstate(divide="ignore"):
        assert gradient(mg.sqrt, [0.0, 4.0]).tolist() == [inf, 0.25]
    x, y = gradient(mg.hypot, [0.0, 3.0], [0.0, 4.0])
    assert (x.tolist(), y.tolist()) == ([0, 0.6], [0, 0.8])


def test_gradients_at_kinks_are_pytorchs():
    torch = pytest.importorskip("torch")
    x = np.array([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])
    y = np.array([-2.0, 1.0, 0.0, 0.0, 1.0, -3.0])
    pairs = [
        (mg.abs, torch.abs), (mg.relu, torch.relu), (lambda v: mg.clip(v, -1, 1), lambda v: torch.clamp(v, -1, 1)),
        (mg.leaky_relu, torch.nn.functional.leaky_relu), (mg.elu, torch.nn.functional.elu), (mg.square, torch.square),
        (mg.softplus, torch.nn.functional.softplus), (mg.silu, torch.nn.functional.silu),
        (mg.gelu, torch.nn.functional.gelu), (mg.sigmoid, torch.sigmoid), (mg.tanh, torch.tanh), (mg.erf, torch.erf),
        (lambda v: mg.gelu(v, "tanh"), lambda v: torch.nn.functional.gelu(v, approximate="tanh")),
    ]  # fmt: skip
    for ours, theirs in pairs:
        v = torch.tensor(x, requires_grad=True)
        theirs(v).sum().backward()
        np.testing.assert_allclose(gradient(ours, x), v.grad.numpy(), rtol=1e-12, atol=1e-15)
    for ours, theirs in ((mg.maximum, torch.maximum), (mg.minimum, torch.minimum), (mg.remainder, torch.remainder)):
        second = y + 0.1 * (theirs is torch.remainder)
        v, w = torch.tensor(x, requires_grad=True), torch.tensor(second, requires_grad=True)
        theirs(v, w).sum().backward()
        for found, expected in zip(gradient(ours, x, second), (v.grad, w.grad), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("x", [-2.0, 0.0, 1.5, inf])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_gradient_of_integer_powers_at_any_base(x, n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradient(lambda v: v**n, x)
    assert found == (n * x ** (n - 1) if n else 0)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_derivative_of_a_power_at_zero(n):
    f = lambda v: v**n  # noqa: E731
    for order in range(1, n + 2):
        f = mg.grad(f)
        assert f(t(0.0)).item() == (math.factorial(n) if order == n else 0)


def test_gradient_by_the_exponent():
    with np.errstate(all="ignore"):
        _, by_exponent = gradient(mg.pow, [2.0, 0.0, 0.0, -2.0], [3.0, 2.0, 0.0, 2.0])
    np.testing.assert_allclose(by_exponent, [8 * math.log(2), 0, 0, nan])


def test_where_lets_nothing_leak_from_the_branch_not_taken():
    x = t([0.0, 4.0], requires_grad=True)
    with np.errstate(all="ignore"):
        y = mg.where(x > 0, mg.log(mg.where(x > 0, x, 1.0)), 0.0)
        y.sum().backward()
    assert x.grad.numpy().tolist() == [0, 0.25]
    g = np.array([nan, inf, 1.0])  # what arrives for the other branch must not matter either
    for take in (True, False):
        a, b = t([1.0, 2, 3], requires_grad=True), t([4.0, 5, 6], requires_grad=True)
        mg.where(mg.tensor([take] * 3), a, b).backward(mg.tensor(g))
        taken, other = (a, b) if take else (b, a)
        np.testing.assert_array_equal(taken.grad.numpy(), g)
        np.testing.assert_array_equal(other.grad.numpy(), [0, 0, 0])


def test_logaddexp_of_nothing():
    y = mg.logaddexp(t([-inf, -inf, 1000.0]), t([-inf, 0.0, 1000.0]))
    np.testing.assert_allclose(y.numpy(), [-inf, 0, 1000 + math.log(2)])
    with np.errstate(all="ignore"):
        a, b = gradient(mg.logaddexp, [-inf, -inf, 1000.0], [-inf, 0.0, 1000.0])
    np.testing.assert_allclose(a, [0, 0, 0.5])
    np.testing.assert_allclose(b, [0, 1, 0.5])


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "trunc", "sign"])
def test_steps_carry_no_gradient(name):
    x = t([1.5], requires_grad=True)
    assert not getattr(mg, name)(x).requires_grad
    assert gradient(lambda v: v * getattr(mg, name)(v), [1.5]) == getattr(mg, name)(x).item()


def test_gradients_of_mixed_dtypes_have_the_dtype_of_their_input():
    a = mg.tensor(np.ones(3, "f4"), requires_grad=True)
    b = mg.tensor(np.ones((2, 1), "f8"), requires_grad=True)
    (a * b / mg.tensor([1, 2, 4])).sum().backward()
    assert (a.grad.dtype, a.grad.shape) == (mg.float32, (3,))
    assert (b.grad.dtype, b.grad.shape) == (mg.float64, (2, 1))
    assert a.grad.numpy().tolist() == [2, 1, 0.5]


# ---------------------------------------------------------------------------------------------------------- errors


def test_errors_name_what_is_wrong():
    x = t([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"multiply: shapes cannot be broadcast(.|\n)*x2: float64\[3\]"):
        mg.multiply(x, t([1.0, 2, 3]))
    with pytest.raises(DTypeError, match="subtract"):
        mg.subtract(mg.tensor([True]), mg.tensor([False]))
    with pytest.raises(DTypeError, match="bitwise_and"):
        mg.bitwise_and(x, 1)
    with pytest.raises(DTypeError, match="condition"):
        mg.where(x, x, x)
    with pytest.raises(DTypeError, match=r"sigmoid: x must be floating point(.|\n)*astype"):
        mg.sigmoid(mg.tensor([1]))
    with pytest.raises(ArgumentError, match=r"pow(.|\n)*element -1(.|\n)*astype"):
        mg.pow(mg.tensor([2, 3]), mg.tensor([1, -1]))
    with pytest.raises(ArgumentError, match="tanh"):
        mg.gelu(x, approximate="fast")
    with pytest.raises(DTypeError):
        mg.add("a", x)


def test_errors_are_the_same_when_traced():
    with pytest.raises(DTypeError, match="condition"):
        mg.compile(lambda x: mg.where(x, x, x))(t([1.0]))
    with pytest.raises(DTypeError, match="sigmoid"):
        mg.compile(mg.sigmoid)(mg.tensor([1]))


# --------------------------------------------------------------------------------------------- tests of the tests

WRONG = {
    "sin": lambda F, g, y, x: g * F.sin(x),
    "relu": lambda F, g, y, x: g,
    "sqrt": lambda F, g, y, x: g / y,
    "gelu": lambda F, g, y, x: g * F.gelu(x),
    "sigmoid": lambda F, g, y, x: F.stop_gradient(g * y) * (1 - y) if type(y) is mg.Tensor else g * y * (1 - y),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_planted_wrong_rule_is_caught(name, monkeypatch):
    monkeypatch.setattr(OPS[name], "vjp", (WRONG[name],))
    with pytest.raises(OpCheckError, match=r"✗ (second derivative|gradient)"):
        opcheck(name)


def test_a_planted_wrong_expression_is_caught(monkeypatch):
    monkeypatch.setattr(OPS["silu"], "expression", "x / (1 + exp(x))")
    with pytest.raises(OpCheckError, match="expression"):
        opcheck("silu")
