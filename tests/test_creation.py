"""Tensors from nothing against NumPy, their default dtypes, moving between devices, and bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import minigraph as mg
from minigraph.errors import ArgumentError, DeviceError, DTypeError, ShapeError

shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
dtypes = st.sampled_from(["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])


def same(t, expected):
    assert isinstance(t, mg.Tensor)
    assert t.op is None
    assert t.dtype == expected.dtype
    assert t.shape == expected.shape
    np.testing.assert_array_equal(t.numpy(), expected)


@given(shapes, dtypes)
def test_zeros_ones_full_like_numpy(shape, dtype):
    same(mg.zeros(shape, dtype=dtype), np.zeros(shape, dtype))
    same(mg.ones(shape, dtype=dtype), np.ones(shape, dtype))
    same(mg.full(shape, 1, dtype=dtype), np.ones(shape, dtype))
    like = mg.zeros(shape, dtype=dtype)
    same(mg.zeros_like(like), np.zeros(shape, dtype))
    same(mg.ones_like(like), np.ones(shape, dtype))
    same(mg.full_like(like, 1), np.ones(shape, dtype))
    same(mg.ones_like(like, dtype="float64"), np.ones(shape))


def test_default_dtypes_are_those_of_tensor():
    assert mg.zeros(2).dtype == mg.ones(()).dtype == mg.linspace(0, 1, 3).dtype == mg.eye(2).dtype == np.float32
    assert mg.full(2, 1).dtype == mg.arange(3).dtype == mg.arange(0, 6, 2).dtype == np.int64
    assert mg.full(2, 1.0).dtype == mg.arange(3.0).dtype == mg.arange(0, 1, 0.5).dtype == np.float32
    assert mg.full(2, True).dtype == np.bool_
    assert mg.full(2, np.float64(1)).dtype == np.float64


def test_shapes_may_be_numbers_lists_and_tensors():
    assert (
        mg.zeros(3).shape == mg.zeros([3]).shape == mg.zeros(np.int64(3)).shape == mg.zeros(mg.tensor(3)).shape == (3,)
    )
    assert mg.ones((mg.tensor(2), 3)).shape == (2, 3)


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-3, 3).filter(bool), st.integers(0, 7))
def test_ranges_like_numpy(start, stop, step, num):
    same(mg.arange(start, stop, step), np.arange(start, stop, step))
    same(mg.arange(start, stop, step / 2, dtype="float64"), np.arange(start, stop, step / 2))
    same(mg.linspace(start, stop, num, dtype="float64"), np.linspace(start, stop, num))
    same(mg.linspace(start, stop, num, endpoint=False), np.linspace(start, stop, num, endpoint=False).astype("f4"))


@given(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 4)), st.integers(-5, 5), dtypes)
def test_eye_like_numpy(rows, columns, k, dtype):
    same(mg.eye(rows, columns, k=k, dtype=dtype), np.eye(rows, columns, k=k, dtype=dtype))


@given(st.lists(st.integers(0, 3), max_size=3), st.sampled_from(["xy", "ij"]))
def test_meshgrid_like_numpy(sizes, indexing):
    axes = [np.arange(n) * 0.5 for n in sizes]
    expected = np.meshgrid(*axes, indexing=indexing) if axes else []
    for a, b in zip(mg.meshgrid(*axes, indexing=indexing), expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


def test_meshgrid_and_full_carry_gradients():
    mg.debug.gradcheck(
        lambda x, y: mg.meshgrid(x, y)[0] * mg.meshgrid(x, y)[1], mg.arange(3.0), mg.arange(2.0), order=2
    )
    mg.debug.gradcheck(lambda x: mg.full((2, 2), x) ** 2, mg.tensor(3.0), order=2)


def test_creation_when_traced():
    compiled = mg.compile(lambda x: x + mg.ones_like(x) + mg.arange(3.0) + mg.full(3, x[0]) + mg.zeros(x.shape))
    np.testing.assert_array_equal(compiled(mg.tensor([1.0, 2.0, 3.0])).numpy(), [3.0, 5.0, 7.0])


def test_dlpack_shares_memory():
    array = np.arange(3.0)
    t = mg.from_dlpack(array)
    assert np.shares_memory(t.value, array)
    assert np.shares_memory(np.from_dlpack(t), array)
    assert mg.from_dlpack(t) is t


def test_to_device_of_the_same_device_is_the_tensor():
    x = mg.tensor([1.0], requires_grad=True)
    assert x.to("cpu") is x
    assert mg.to_device(x, mg.device("cpu")) is x


def test_tensors_travel_and_their_gradients_travel_back():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x.to("strict") ** 2).to("cpu")
    assert y.device == mg.device("cpu")
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 4.0])
    assert x.grad.device == mg.device("cpu")
    g = mg.grad(mg.grad(lambda v: (v.to("strict") ** 3).to("cpu")))(mg.tensor(2.0))
    assert g.item() == 12.0
    there = x.detach().to("strict")
    assert "device='strict'" in repr(there)
    assert there.numpy().tolist() == there.tolist() == [1.0, 2.0]
    assert mg.zeros_like(there).device == mg.ones(2, device="strict").device == there.device
    with pytest.raises(DeviceError, match="to"):
        there + x


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mg.zeros((-1, 2)), ShapeError, "negative"),
        (lambda: mg.ones(1.5), DTypeError, "integers"),
        (lambda: mg.zeros("3"), DTypeError, "integers"),
        (lambda: mg.zeros(2, dtype="no such"), DTypeError, "not a dtype"),
        (lambda: mg.zeros(2, dtype=complex), DTypeError, "complex"),
        (lambda: mg.zeros(2, dtype=object), DTypeError, "object"),
        (lambda: mg.full(2, "a"), DTypeError, "number"),
        (lambda: mg.full(2, 300, dtype="uint8"), DTypeError, "300"),
        (lambda: mg.full(2, mg.zeros(2)), ShapeError, "broadcast_to"),
        (lambda: mg.arange(0, 1, 0), ArgumentError, "step"),
        (lambda: mg.arange("a"), DTypeError, "numbers"),
        (lambda: mg.arange(float("inf")), ArgumentError, "inf"),
        (lambda: mg.linspace(0, 1, -1), ArgumentError, "num"),
        (lambda: mg.linspace(0, 1, 1.5), DTypeError, "num"),
        (lambda: mg.eye(-1), ShapeError, "negative"),
        (lambda: mg.meshgrid(mg.zeros((2, 2))), ShapeError, "1-d"),
        (lambda: mg.meshgrid(mg.zeros(2), indexing="ab"), ArgumentError, "indexing"),
        (lambda: mg.from_dlpack([1]), DTypeError, "mg.tensor"),
        (lambda: mg.from_dlpack(np.zeros(2, complex)), DTypeError, "complex"),
    ],
)
def test_bad_input_explains(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_creation.py" in str(caught.value)


def test_no_such_device():
    with pytest.raises(DeviceError, match="cpu"):
        mg.zeros(2, device="no such device")
