"""Moving elements around, against NumPy: values, gradients by finite differences, both modes, and bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, broadcastable_shapes

import minigraph as mg
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError

shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def numbers(shape, kind="f8"):
    return (
        np.arange(1, 1 + int(np.prod(shape)), dtype=kind).reshape(shape) * 0.5 if kind == "f8" else np.ones(shape, kind)
    )


def agrees(fn, reference, *arrays, gradient=True):
    """`fn` on tensors gives what `reference` gives on arrays; its gradient is right to second order, in both modes."""
    tensors = [mg.tensor(a) for a in arrays]
    expected = reference(*arrays)
    for y in (fn(*tensors), mg.compile(fn)(*tensors)):
        results, wanted = (y, expected) if isinstance(y, tuple) else ((y,), (expected,))
        assert len(results) == len(wanted)
        for a, b in zip(results, wanted, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a.numpy(), b)
    if gradient:
        mg.debug.gradcheck(fn, *tensors, order=2)


# ------------------------------------------------------------------------------------------------------------ reshape


@given(shapes, st.data())
def test_reshape_like_numpy(shape, data):
    x = numbers(shape)
    new = data.draw(st.permutations(shape))
    if new and x.size:
        new[data.draw(st.integers(0, len(new) - 1))] = -1
    np.testing.assert_array_equal(mg.reshape(x, new).numpy(), x.reshape(new))


def test_reshape_forms():
    x = mg.tensor(np.arange(6.0))
    assert x.reshape(2, 3).shape == x.reshape((2, 3)).shape == x.reshape([2, -1]).shape == (2, 3)
    assert mg.reshape(x, 6).shape == x.reshape(-1).shape == (6,)
    assert mg.reshape(x, mg.tensor([3, 2])).shape == (3, 2)
    assert mg.tensor(1.0).reshape(1, 1).reshape(()).shape == ()
    assert mg.zeros((0, 3)).reshape(-1, 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        ((4,), ShapeError, "6 elements"),
        ((4, -1), ShapeError, "multiple of 4"),
        ((-1, -1), ShapeError, "at most one -1"),
        ((-2, 3), ShapeError, "negative"),
        ((2.0, 3), DTypeError, "integers"),
        ("ab", DTypeError, "integers"),
        ((0, -1), ShapeError, "0 elements"),
    ],
)
def test_reshape_explains(shape, error, words):
    with pytest.raises(error, match=words) as caught:
        mg.reshape(mg.zeros((2, 3)), shape)
    assert "test_shape.py" in str(caught.value)


@given(shapes)
def test_flatten_merges_axes(shape):
    x = numbers(shape)
    np.testing.assert_array_equal(mg.flatten(x).numpy(), x.ravel())
    if len(shape) > 1:
        assert mg.flatten(x, 1).shape == (shape[0], int(np.prod(shape[1:])))
        assert mg.flatten(x, 0, -2).shape == (int(np.prod(shape[:-1])), shape[-1])


# -------------------------------------------------------------------------------------------------------------- axes


@given(shapes, st.data())
def test_permutations_like_numpy(shape, data):
    x = numbers(shape)
    axes = data.draw(st.permutations(range(len(shape))))
    signed = [a - len(shape) if data.draw(st.booleans()) else a for a in axes]
    np.testing.assert_array_equal(mg.permute_dims(x, signed).numpy(), np.transpose(x, axes))
    if shape:
        a, b = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
        np.testing.assert_array_equal(mg.moveaxis(x, a, b).numpy(), np.moveaxis(x, a, b))
        np.testing.assert_array_equal(mg.swapaxes(x, a, b).numpy(), np.swapaxes(x, a, b))


def test_moveaxis_of_several():
    x = numbers((2, 3, 4, 5))
    agrees(lambda t: mg.moveaxis(t, (0, -1), (2, 0)), lambda a: np.moveaxis(a, (0, -1), (2, 0)), x, gradient=False)


def test_matrix_transpose_exchanges_the_last_two():
    x = numbers((2, 3, 4))
    agrees(mg.matrix_transpose, lambda a: a.swapaxes(-1, -2), x)
    assert mg.tensor(x).mT.shape == (2, 4, 3)
    assert mg.tensor(x[0]).T.shape == (4, 3)
    with pytest.raises(ShapeError, match="mT"):
        _ = mg.tensor(x).T
    with pytest.raises(ShapeError, match="two axes"):
        mg.matrix_transpose(mg.zeros(3))


@given(shapes, st.data())
def test_expand_and_squeeze_undo_each_other(shape, data):
    x = numbers(shape)
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    y = mg.expand_dims(x, axis)
    np.testing.assert_array_equal(y.numpy(), np.expand_dims(x, axis))
    np.testing.assert_array_equal(mg.squeeze(y, axis).numpy(), x)
    np.testing.assert_array_equal(mg.squeeze(y).numpy(), np.squeeze(x))


def test_expand_and_squeeze_several():
    x = numbers((2, 3))
    agrees(lambda t: mg.expand_dims(t, (0, -1)), lambda a: np.expand_dims(a, (0, -1)), x)
    agrees(lambda t: mg.squeeze(t, (0, -1)), lambda a: np.squeeze(a, (0, -1)), x[None, :, :, None])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: mg.permute_dims(x, (0, 0)), ShapeError, "named twice"),
        (lambda x: mg.permute_dims(x, (0,)), ShapeError, "permutation of"),
        (lambda x: mg.permute_dims(x, (0, 2)), BoundsError, "-2 to 1"),
        (lambda x: mg.moveaxis(x, (0, 1), 0), ShapeError, "as many"),
        (lambda x: mg.swapaxes(x, 0, 2), BoundsError, "axis2"),
        (lambda x: mg.expand_dims(x, 3), BoundsError, "axis 3"),
        (lambda x: mg.expand_dims(x, 1.5), DTypeError, "integer"),
        (lambda x: mg.squeeze(x, 0), ShapeError, "size 2"),
        (lambda x: mg.squeeze(x, 2), BoundsError, "axis 2"),
        (lambda x: mg.flatten(x, 1, 0), ArgumentError, "start_axis"),
        (lambda x: mg.flip(x, axis=2), BoundsError, "axis 2"),
        (lambda x: mg.roll(x, (1, 2), 0), ShapeError, "one shift"),
    ],
)
def test_axes_explain(call, error, words):
    with pytest.raises(error, match=words):
        call(mg.zeros((2, 3)))


# ---------------------------------------------------------------------------------------------------------- broadcast


@given(st.data())
def test_broadcast_to_like_numpy(data):
    shape = data.draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    small = data.draw(broadcastable_shapes(shape, min_dims=0, max_dims=len(shape), min_side=0, max_side=3))
    x = numbers(small)
    try:
        expected = np.broadcast_to(x, shape)
    except ValueError:
        with pytest.raises(ShapeError):
            mg.broadcast_to(x, shape)
        return
    y = mg.broadcast_to(x, shape)
    np.testing.assert_array_equal(y.numpy(), expected)
    x = x[..., ::-1] if x.ndim else x  # not contiguous
    np.testing.assert_array_equal(mg.broadcast_to(mg.Tensor(x), shape).numpy(), np.broadcast_to(x, shape))


def test_broadcast_is_a_view_that_cannot_be_written_to():
    x = mg.tensor(np.ones(3))
    y = mg.broadcast_to(x, (4, 3))
    assert np.shares_memory(x.value, y.value)
    assert not y.value.flags.writeable
    agrees(lambda t: mg.broadcast_to(t, (4, 2, 3)), lambda a: np.broadcast_to(a, (4, 2, 3)), numbers((2, 1)))


def test_broadcast_arrays():
    agrees(
        lambda a, b: mg.broadcast_arrays(a, b),
        lambda a, b: tuple(np.broadcast_arrays(a, b)),
        numbers((3, 1)),
        numbers((2,)),
    )
    with pytest.raises(ShapeError, match=r"arrays\[1\]"):
        mg.broadcast_arrays(mg.zeros(2), mg.zeros(3))


# ------------------------------------------------------------------------------------------------------- join and cut


@given(st.data())
def test_concat_and_split_undo_each_other(data):
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    parts = []
    for i, n in enumerate(sizes):
        s = list(shape)
        s[axis] = n
        parts.append(numbers(s) + 100 * i)
    joined = mg.concat([mg.tensor(p) for p in parts], axis=axis)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(parts, axis))
    for a, b in zip(mg.split(joined, list(np.cumsum(sizes)[:-1]), axis=axis), parts, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


@given(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), st.integers(1, 3), st.data())
def test_stack_and_unstack_undo_each_other(shape, n, data):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = [numbers(shape) + 100 * i for i in range(n)]
    joined = mg.stack(parts, axis=axis)
    np.testing.assert_array_equal(joined.numpy(), np.stack(parts, axis))
    for a, b in zip(mg.unstack(joined, axis=axis), parts, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


def test_joining_and_cutting_have_gradients():
    x, y = numbers((2, 3)), numbers((2, 2)) - 3
    agrees(lambda a, b: mg.concat([a, b], axis=1), lambda a, b: np.concatenate([a, b], 1), x, y)
    agrees(lambda a, b: mg.concat([a, b], axis=None), lambda a, b: np.concatenate([a, b], None), x, y)
    agrees(lambda a, b: mg.stack([a, b, a], axis=-1), lambda a, b: np.stack([a, b, a], -1), x, x + 1)
    agrees(lambda a: mg.split(a, 3, axis=1), lambda a: tuple(np.split(a, 3, 1)), x)
    agrees(lambda a: mg.unstack(a, axis=1), lambda a: tuple(a.T), x)
    agrees(lambda a: mg.split(a, [1, 1, 2], axis=1)[2], lambda a: a[:, 1:2], x)  # the other parts get no gradient


def test_joining_promotes_dtypes():
    a, b = mg.tensor([1, 2]), mg.tensor([0.5], dtype="float32")
    assert mg.concat([a, b]).dtype == np.result_type("i8", "f4")
    assert mg.concat([b, mg.tensor([True])]).dtype == np.dtype("float32")
    assert mg.stack([mg.tensor(1, dtype="int32"), 2.5]).dtype == np.result_type("i4", 2.5)
    x = mg.tensor([0.5], dtype="float32", requires_grad=True)
    mg.concat([a, x]).sum().backward()
    assert x.grad.dtype == np.dtype("float32")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: mg.concat([]), ArgumentError, "at least one"),
        (lambda x: mg.stack([]), ArgumentError, "at least one"),
        (lambda x: mg.concat(x), DTypeError, "list of tensors"),
        (lambda x: mg.concat([x, mg.zeros((2, 2))]), ShapeError, r"arrays\[1\]"),
        (lambda x: mg.concat([x, mg.zeros(3)]), ShapeError, r"arrays\[1\]"),
        (lambda x: mg.concat([x, x], axis=2), BoundsError, "axis 2"),
        (lambda x: mg.concat([mg.tensor(1.0), mg.tensor(2.0)]), ShapeError, "stack"),
        (lambda x: mg.stack([x, mg.zeros((2, 2))]), ShapeError, "concat"),
        (lambda x: mg.split(x, 2, axis=1), ShapeError, "divides the size 3"),
        (lambda x: mg.split(x, 0), ShapeError, "divides"),
        (lambda x: mg.split(x, [2, 1]), ShapeError, "in order"),
        (lambda x: mg.split(x, [3]), ShapeError, "0 to 2"),
        (lambda x: mg.unstack(mg.tensor(1.0)), BoundsError, "0-d"),
    ],
)
def test_joining_explains(call, error, words):
    with pytest.raises(error, match=words):
        call(mg.zeros((2, 3)))


# --------------------------------------------------------------------------------------------------------- rearrange


@given(shapes, st.data())
def test_flip_roll_tile_repeat_like_numpy(shape, data):
    x = numbers(shape)
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True)) if shape else []
    np.testing.assert_array_equal(mg.flip(x, axis=tuple(axes)).numpy(), np.flip(x, tuple(axes)))
    np.testing.assert_array_equal(mg.flip(x).numpy(), np.flip(x))
    shift = data.draw(st.integers(-5, 5))
    np.testing.assert_array_equal(mg.roll(x, shift).numpy(), np.roll(x, shift))
    for axis in axes:
        np.testing.assert_array_equal(mg.roll(x, shift, axis).numpy(), np.roll(x, shift, axis))
        times = data.draw(st.integers(0, 3))
        np.testing.assert_array_equal(mg.repeat(x, times, axis=axis).numpy(), np.repeat(x, times, axis))
        each = data.draw(st.lists(st.integers(0, 3), min_size=shape[axis], max_size=shape[axis]))
        np.testing.assert_array_equal(mg.repeat(x, each, axis=axis).numpy(), np.repeat(x, each, axis))
    tiles = tuple(data.draw(st.lists(st.integers(0, 2), max_size=4)))
    np.testing.assert_array_equal(mg.tile(x, tiles).numpy(), np.tile(x, tiles))


def test_rearranging_has_gradients():
    x = numbers((2, 3))
    agrees(lambda t: mg.roll(t, (1, -2), (0, 1)), lambda a: np.roll(a, (1, -2), (0, 1)), x)
    agrees(lambda t: mg.roll(t, 4), lambda a: np.roll(a, 4), x)
    agrees(lambda t: mg.tile(t, (2, 1, 2)), lambda a: np.tile(a, (2, 1, 2)), x)
    agrees(lambda t: mg.tile(t, 2), lambda a: np.tile(a, 2), x)
    agrees(lambda t: mg.repeat(t, 3, axis=-1), lambda a: np.repeat(a, 3, -1), x)
    agrees(lambda t: mg.repeat(t, 2), lambda a: np.repeat(a, 2), x)
    agrees(lambda t: mg.repeat(t, [0, 2, 1], axis=1), lambda a: np.repeat(a, [0, 2, 1], 1), x)


@given(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), st.data())
def test_pad_like_numpy(shape, data):
    x = numbers(shape)
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in shape]
    np.testing.assert_array_equal(mg.pad(x, widths).numpy(), np.pad(x, widths) if shape else x)
    if shape:
        expected = np.pad(x, widths[0], constant_values=-1.5)
        np.testing.assert_array_equal(mg.pad(x, widths[0], constant_values=-1.5).numpy(), expected)


def test_pad_gradient_and_errors():
    agrees(
        lambda t: mg.pad(t, ((1, 0), (2, 3)), constant_values=7.0),
        lambda a: np.pad(a, ((1, 0), (2, 3)), constant_values=7),
        numbers((2, 3)),
    )
    with pytest.raises(ShapeError, match="2 such pairs"):
        mg.pad(mg.zeros((2, 3)), ((1, 1), (1, 1), (1, 1)))
    with pytest.raises(ArgumentError, match="negative"):
        mg.pad(mg.zeros((2, 3)), -1)
    with pytest.raises(DTypeError, match="integers"):
        mg.pad(mg.zeros((2, 3)), 0.5)
    with pytest.raises(DTypeError, match=r"int64"):
        mg.pad(mg.tensor([1]), 1, constant_values=0.5)


@given(array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4), st.integers(-5, 5))
def test_triangles_like_numpy(shape, k):
    x = numbers(shape)
    np.testing.assert_array_equal(mg.tril(x, k=k).numpy(), np.tril(x, k))
    np.testing.assert_array_equal(mg.triu(x, k=k).numpy(), np.triu(x, k))


def test_triangles_need_a_matrix():
    for function in (mg.tril, mg.triu):
        with pytest.raises(ShapeError, match="two axes"):
            function(mg.zeros(3))


# ----------------------------------------------------------------------------------------------------------- promises


def test_views_share_memory_and_nothing_writes_to_it():
    x = mg.tensor(numbers((4, 6)))
    before = x.numpy().copy()
    views = [x.reshape(24), x.T, x[1:3], x[None], mg.flip(x), mg.expand_dims(x, 0), *mg.split(x, 2), *mg.unstack(x)]
    for v in views:
        assert np.shares_memory(v.value, x.value)
        v.at[...].set(0.0)
    np.testing.assert_array_equal(x.numpy(), before)


def test_a_planted_wrong_rule_is_caught():
    """`gradcheck` and `opcheck` would notice if joining gave back the parts in the wrong order."""

    def wrong(F, needs, g, y, *arrays, axis=0):
        return [g[1:2], g[0:1]]

    swapped = mg.Op("swapped_concat", lambda xp, a, b, *, axis=0: xp.concatenate([a, b], axis=axis), vjp=wrong)
    with pytest.raises(mg.debug.OpCheckError, match="gradient"):
        mg.debug.opcheck(swapped, mg.tensor([1.0]), mg.tensor([2.0]))
    with pytest.raises(mg.debug.GradCheckError):
        mg.debug.gradcheck(lambda a, b: swapped(a, b) * mg.tensor([1.0, 5.0]), mg.tensor([1.0]), mg.tensor([2.0]))


OPERATIONS = [
    "reshape", "permute_dims", "matrix_transpose", "expand_dims", "squeeze", "broadcast_to", "concat", "stack", "split",
    "unstack", "flip", "roll", "tile", "repeat", "pad", "tril", "triu",
]  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_passes_the_family_of_tests(name):
    assert mg.debug.opcheck(name).ok
