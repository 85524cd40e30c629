"""Operators and methods of tensors and variables: each is the function it is said to be, for every kind of operand."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph.errors import DTypeError, MutationError, ShapeError

A, B = np.array([[1.5, -2.0], [3.0, 0.5]], "f4"), np.array([[2.0, 4.0], [-1.0, 0.5]], "f4")
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
BITS = [operator.and_, operator.or_, operator.xor]


def same(t, expected):
    assert isinstance(t, mg.Tensor)
    expected = np.asarray(expected)
    assert t.shape == expected.shape
    assert t.dtype == expected.dtype
    np.testing.assert_allclose(t.numpy(), expected, rtol=1e-6)


def operands(b):
    """The same second operand as a tensor, a variable, an array and a NumPy scalar or a number where it is one."""
    yield mg.tensor(b)
    yield mg.Variable(b)
    yield b


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS, operator.matmul], ids=lambda op: op.__name__)
def test_binary_operators_on_every_kind_of_operand(op):
    for a in (mg.tensor(A), mg.Variable(A)):
        for b in operands(B):
            same(op(a, b), op(A, B))
            same(op(b, a), op(B, A))


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS], ids=lambda op: op.__name__)
@pytest.mark.parametrize("number", [2, 2.5, -1, True])
def test_numbers_are_weak(op, number):
    if isinstance(number, bool) and op is operator.sub:
        number = 3
    for a in (mg.tensor(A), mg.Variable(A)):
        same(op(a, number), op(A, number))
        same(op(number, a), op(number, A))
        assert op(a, number).dtype == (np.float32 if op in ARITHMETIC else np.bool_)
    k = np.array([3, 5, 7])
    same(op(mg.tensor(k), number), op(k, number))
    same(op(number, mg.tensor(k)), op(number, k))


def test_powers():
    x = np.abs(A)
    same(mg.tensor(x) ** 2, x**2)
    same(mg.tensor(x) ** mg.tensor(B), x**B)
    same(2 ** mg.tensor(B), 2**B)
    same(mg.tensor([3], dtype="int64") ** 2, np.array([9]))


@pytest.mark.parametrize("op", BITS, ids=lambda op: op.__name__)
def test_bits_and_booleans(op):
    a, b = np.array([True, True, False]), np.array([True, False, False])
    same(op(mg.tensor(a), mg.tensor(b)), op(a, b))
    same(op(mg.tensor(a), True), op(a, True))
    same(op(False, mg.tensor(a)), op(False, a))
    same(op(mg.tensor([12, 5]), 6), op(np.array([12, 5]), 6))
    same(~mg.tensor(a), ~a)
    same(~mg.tensor([5]), ~np.array([5]))


def test_unary_operators():
    for x in (mg.tensor(A), mg.Variable(A)):
        same(-x, -A)
        same(+x, A)
        same(abs(x), abs(A))


DTYPES = ["bool", "int8", "uint8", "int64", "float16", "float32", "float64"]


@given(
    st.sampled_from([*ARITHMETIC, *COMPARISONS]),
    st.sampled_from(DTYPES),
    st.sampled_from(["uint8", "int32", "float32", "float64"]),
)
def test_promotion_is_numpys(op, first, second):
    a, b = np.array([1, 1]).astype(first), np.array([1, 2]).astype(second)
    same(op(mg.tensor(a), mg.tensor(b)), op(a, b))


class Stranger:
    """A type that minigraph does not know, and that knows tensors."""

    def __radd__(self, other):
        return "stranger"

    def __rmatmul__(self, other):
        return "stranger"


def test_unknown_types_are_left_to_the_other_operand():
    x = mg.tensor(A)
    assert x + Stranger() == "stranger"
    assert x @ Stranger() == "stranger"
    for bad in ("a", None, [1, 2], {}):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + bad
        with pytest.raises(TypeError, match="unsupported operand"):
            bad - x
        assert (x == bad) is False
        assert (x != bad) is True
    with pytest.raises(TypeError):
        _ = x < "a"


def test_errors_of_operators_name_both_operands():
    with pytest.raises(ShapeError, match=r"add.*\n.*\n.*x1: float32\[2, 2\], x2: float32\[3\]") as caught:
        mg.tensor(A) + mg.zeros(3)
    assert "mg.tensor(A) + mg.zeros(3)" in str(caught.value)
    with pytest.raises(ShapeError, match="matmul"):
        mg.tensor(A) @ mg.zeros(3)


def test_in_place_operators_make_new_tensors():
    x = y = mg.tensor(A)
    x += 1.0
    x *= mg.tensor(B)
    same(x, (A + 1) * B)
    same(y, A)
    with pytest.raises(MutationError):
        y[0] = 1.0
    with pytest.raises(MutationError):
        y[0] += 1.0


def test_numpy_functions_take_tensors():
    x = mg.tensor(A, requires_grad=True)
    y = np.exp(x) * 2.0
    same(y.detach(), np.exp(A) * 2)
    assert y.requires_grad
    same(np.add(A, mg.tensor(B)), A + B)
    same(np.float32(2) * mg.tensor(B), 2 * B)
    np.testing.assert_array_equal(np.asarray(mg.tensor(A)), A)


def test_tensors_are_hashed_by_identity_and_compared_by_element():
    x = mg.tensor(A)
    assert {x: 1}[x] == 1
    assert len({x, mg.tensor(A)}) == 2
    same(x == mg.tensor(A), np.ones((2, 2), bool))
    assert 3.0 in x
    assert 7.0 not in x


METHODS = [
    "abs", "exp", "sin", "cos", "tanh", "sign", "floor", "ceil", "round", "square", "sum", "mean", "prod", "var", "std",
    "max", "min", "argmax", "argmin", "flatten", "squeeze", "argsort", "sort", "diagonal",
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_the_functions_of_their_name(name):
    for x in (mg.tensor(A), mg.Variable(A)):
        same(getattr(x, name)(), getattr(mg, name)(mg.tensor(A)).numpy())


def test_methods_with_arguments():
    x = mg.tensor(A)
    same(x.sum(axis=0), A.sum(0))
    same(x.mean(axis=1, keepdims=True), A.mean(1, keepdims=True))
    same(x.reshape(4), A.reshape(4))
    same(x.reshape(1, -1), A.reshape(1, -1))
    same(x.permute_dims(1, 0), A.T)
    same(x.permute_dims((1, 0)), A.T)
    same(x.T, A.T)
    same(x[None].mT, A.T[None])
    same(x.expand_dims(0), A[None])
    same(x.broadcast_to((3, 2, 2)), np.broadcast_to(A, (3, 2, 2)))
    same(x.clip(0.0, 1.0), A.clip(0, 1))
    same(x.astype(mg.float64), A.astype("f8"))
    same(x.take([1], axis=0), A[[1]])
    same((x > 0).any(), (A > 0).any())
    same((x > 0).all(axis=1), (A > 0).all(1))
    same(x.matmul(mg.tensor(B)), A @ B)
    same(x.trace(), np.trace(A))
    assert x.tolist() == A.tolist()
    assert mg.tensor(2).tolist() == 2
    assert mg.tensor(1.0).permute_dims().shape == ()


def test_methods_carry_gradients():
    mg.debug.gradcheck(lambda x: (x.T @ x).tanh().sum(axis=0), mg.tensor(A), order=2)
    mg.debug.gradcheck(lambda x: x.reshape(4)[1:].flip().exp(), mg.tensor(A), order=2)


def test_to_moves_and_converts():
    x = mg.tensor(A)
    assert x.to("cpu") is x
    assert x.to(x) is x or x.to(x).dtype == x.dtype
    assert x.to(mg.float64).dtype == x.to("float64").dtype == np.float64
    assert x.to(mg.zeros(1, dtype="float64")).dtype == np.float64
    assert mg.Variable(A).to(mg.float64).dtype == np.float64
    with pytest.raises(DTypeError):
        x.to("no such thing")


def test_operators_in_a_compiled_function():
    def f(x, y):
        return (x + 2 * y - y / 3.0) ** 2 @ x.T, x > y, -x % 2.0, (x[0] // 2.0).sum()

    for a, b in zip(mg.compile(f)(mg.tensor(A), mg.tensor(B)), f(mg.tensor(A), mg.tensor(B)), strict=True):
        same(a, b.numpy())
    with pytest.raises(TypeError):
        mg.compile(lambda x: x + "a")(mg.tensor(A))
