"""What tensors and variables print."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minigraph as mg


def test_tensors_print_in_numpys_notation():
    assert repr(mg.tensor([[1.0, 2.0]])) == "tensor([[1., 2.]], dtype=float32)"
    assert repr(mg.tensor(3)) == "tensor(3, dtype=int64)"
    assert repr(mg.tensor(0.5)) == "tensor(0.5, dtype=float32)"
    assert repr(mg.tensor([True])) == "tensor([ True], dtype=bool)"
    assert repr(mg.tensor([[1, 2], [3, 4]])) == "tensor([[1, 2],\n        [3, 4]], dtype=int64)"
    assert repr(mg.tensor([1.0], requires_grad=True)) == "tensor([1.], dtype=float32, requires_grad=True)"
    assert repr(mg.tensor([1.0], name="w")) == "tensor([1.], dtype=float32, name='w')"


def test_empty_tensors_show_their_shape():
    assert repr(mg.zeros(0)) == "tensor([], dtype=float32)"
    assert repr(mg.zeros((2, 0, 3))) == "tensor([], shape=(2, 0, 3), dtype=float32)"


def test_tensors_with_history_name_their_operation():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    assert repr(y) == "tensor([1., 4.], dtype=float32, op=multiply)"
    y.sum().backward()
    assert repr(y) == "tensor([1., 4.], dtype=float32, op=multiply)"  # also when its graph has been freed
    assert repr(x) == "tensor([1., 2.], dtype=float32, requires_grad=True)"
    assert repr(mg.split(x, 2)[0]) == "tensor([1.], dtype=float32, op=item)"


def test_symbolic_tensors_show_their_type():
    with mg.Graph():
        x, w = mg.placeholder((64, 128), name="x"), mg.placeholder((128, 10))
        y = x @ w
        parts = mg.split(y, 2)[0].inputs[0]
    assert repr(x) == "symbolic(float32[64, 128], name='x')"
    assert repr(y) == "symbolic(float32[64, 10], op=matmul)"
    assert repr(parts) == "symbolic((float32[32, 10], float32[32, 10]), op=split)"


def test_large_tensors_are_summarised():
    text = repr(mg.arange(100_000))
    assert text == "tensor([    0,     1,     2, ..., 99997, 99998, 99999], dtype=int64)"
    assert len(repr(mg.zeros((500, 500, 5)))) < 5000


def test_numpys_print_options_count():
    with np.printoptions(precision=2):
        assert repr(mg.tensor([1 / 3])) == "tensor([0.33], dtype=float32)"


def test_variables_print_under_their_class():
    assert repr(mg.Variable(1, name="counter")) == "Variable(1, dtype=int64, name='counter')"
    assert repr(mg.Variable([1.0, 2.0])) == "Variable([1., 2.], dtype=float32)"

    class Weight(mg.Variable):
        pass

    assert repr(Weight([[1.0], [2.0]], name="w")) == "Weight([[1.],\n        [2.]], dtype=float32, name='w')"
    v = mg.Variable([1.0], name="v")
    with mg.Graph():
        assert repr(v) == "Variable(symbolic, float32[1], name='v')"


@given(
    arrays(
        st.sampled_from([np.dtype(c) for c in ("bool", "int8", "uint64", "float16", "float32", "float64")]),
        array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    )
)
def test_anything_prints_as_numpy_would(array):
    text = repr(mg.tensor(array))
    if array.size:
        assert "".join(text.split()).startswith("".join(f"tensor({np.array2string(array, separator=', ')}".split()))
    assert f"dtype={array.dtype}" in text


@pytest.mark.parametrize("damage", ["value", "op"])
def test_a_broken_tensor_prints_what_is_wrong(damage):
    x = mg.tensor([1.0]) * 1.0
    setattr(x, damage, object())
    text = repr(x)
    assert text.startswith("<tensor that cannot be shown: ")
    assert "\n" not in text
    half_built = object.__new__(mg.Tensor)
    assert "cannot be shown" in repr(half_built)
    assert "cannot be shown" in repr(object.__new__(mg.Variable))
    gc.collect()
