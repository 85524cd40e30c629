"""Indexing against NumPy: keys from Hypothesis, gradients by finite differences, updates, sorting, and bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, basic_indices

import minigraph as mg
from minigraph.errors import ArgumentError, BoundsError, DTypeError, MutationError, ShapeError, TraceError
from minigraph.ops.index import Key, Slot, layout

shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def numbers(*shape):
    return np.random.default_rng((0, *shape)).standard_normal(shape)


def same(a, b):
    assert a.shape == np.shape(b)
    np.testing.assert_array_equal(a.numpy(), b)


@st.composite
def advanced_keys(draw, shape):
    """A NumPy key for an array of `shape`: integers, slices, None, `...` and integer arrays that broadcast together."""
    block = draw(array_shapes(min_dims=0, max_dims=2, min_side=0 if 0 in shape else 1, max_side=3))
    key, ellipsis = [], draw(st.booleans())
    for axis, n in enumerate(shape):
        if ellipsis and draw(st.integers(0, 3)) == 0:
            key.append(Ellipsis)
            remaining = shape[axis + draw(st.integers(0, len(shape) - axis)) :]
            ellipsis = False
            for m in remaining:
                key.append(draw(entries(m, block)))
            return tuple(key)
        if draw(st.integers(0, 5)) == 0:
            key.append(None)
        key.append(draw(entries(n, block)))
    return tuple(key)


def entries(n, block):
    choices = [st.slices(n)]
    if n:
        choices.append(st.integers(-n, n - 1))
        sub = st.sampled_from([block, block[-1:], (1,) * len(block)])
        choices.append(sub.flatmap(lambda s: arrays(np.int64, s, elements=st.integers(-n, n - 1))))
    elif 0 in block:
        choices.append(st.just(np.zeros(block, np.int64)))
    return st.one_of(choices)


def as_tensors(key):
    return tuple(mg.tensor(e) if isinstance(e, np.ndarray) else e for e in key)


# -------------------------------------------------------------------------------------------------------- reading


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), basic_indices(s, allow_newaxis=True, allow_ellipsis=True))))
def test_basic_keys_like_numpy(case):
    shape, key = case
    x = numbers(*shape)
    same(mg.tensor(x)[key], x[key])


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), advanced_keys(s))))
def test_advanced_keys_like_numpy(case):
    shape, key = case
    x = numbers(*shape)
    y = mg.tensor(x)[as_tensors(key)]
    same(y, x[key])
    items = [Slot(0) if isinstance(e, np.ndarray) else e for e in key]
    slots = itertools.count()
    items = tuple(Slot(next(slots)) if isinstance(e, np.ndarray) else e for e in key)
    indexes = [e.shape for e in key if isinstance(e, np.ndarray)]
    assert layout("index", shape, items, indexes)[0] == x[key].shape  # what a trace would infer


@given(
    array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3).flatmap(
        lambda s: st.tuples(st.just(s), advanced_keys(s))
    )
)
def test_gradients_of_any_key_by_finite_differences(case):
    shape, key = case
    mg.debug.gradcheck(lambda x: x[as_tensors(key)], mg.tensor(numbers(*shape)), order=2)


@given(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), st.data())
def test_masks_like_numpy(shape, data):
    x = numbers(*shape)
    mask = data.draw(arrays(bool, shape[: data.draw(st.integers(1, len(shape)))]))
    same(mg.tensor(x)[mg.tensor(mask)], x[mask])
    same(mg.tensor(x)[mask], x[mask])
    for a, b in zip(mg.nonzero(mask), np.nonzero(mask), strict=True):
        same(a, b)
    mg.debug.gradcheck(lambda t: t[mask], mg.tensor(x))


def test_masks_in_the_middle_of_a_key():
    x = numbers(2, 3, 4)
    mask = np.array([True, False, True])
    t, m = mg.tensor(x), mg.tensor(mask)
    same(t[:, m], x[:, mask])
    same(t[..., m, :], x[..., mask, :])
    same(t[0, m, 1:], x[0, mask, 1:])
    same(t[None, :, m, None], x[None, :, mask, None])


def test_everything_that_may_stand_in_a_key():
    x = numbers(4, 3)
    t = mg.tensor(x)
    same(t[[0, 2]], x[[0, 2]])
    same(t[[]], x[[]])
    same(t[range(2)], x[[0, 1]])
    same(t[[[0], [1]], [0, 2]], x[[[0], [1]], [0, 2]])
    same(t[np.int32(1)], x[1])
    same(t[np.array([1, 2], np.uint64)], x[[1, 2]])
    same(t[mg.tensor(1)], x[1])
    same(t[mg.Variable(1)], x[1])
    same(t[mg.tensor(1) : mg.tensor(3)], x[1:3])
    same(t[[True, False, True, False]], x[[0, 2]])
    same(t[:, -1], x[:, -1])
    same(mg.Variable(x)[1:], x[1:])
    same(t[()], x)
    assert [row.shape for row in t] == [(3,)] * 4


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (4, BoundsError, r"index 4 is out of range for axis 0, which has size 4"),
        ((slice(None), -4), BoundsError, r"index -4 is out of range for axis 1"),
        ((0, 0, 0), BoundsError, "at most 2"),
        ((..., ...), BoundsError, "only one"),
        (slice(None, None, 0), ArgumentError, "step 0"),
        (1.5, DTypeError, "integers"),
        ("a", DTypeError, "str 'a'"),
        (True, DTypeError, "at least one axis"),
        (slice(0.5, 2), DTypeError, "slice"),
        (np.array([0.5]), DTypeError, "integers"),
        (np.array([0, 9]), BoundsError, r"index 9 .* axis 0"),
        ((slice(None), np.array([[0, 1], [-7, 8]])), BoundsError, r"index -7 .* axis 1"),
        ((np.arange(4), np.arange(3)), ShapeError, r"rows\[:, None\]"),
        (np.ones(3, bool), ShapeError, r"mask of shape \(3,\)"),
        (np.ones((4, 4), bool), ShapeError, "mask"),
        ((0, np.ones((4, 3), bool)), ShapeError, "mask"),
    ],
)
def test_keys_explain(key, error, words):
    with pytest.raises(error, match=words) as caught:
        mg.zeros((4, 3))[key]
    assert "test_index.py" in str(caught.value)


def test_the_first_offending_index_is_named():
    x, i = mg.zeros((4, 3)), mg.tensor([[0, 1], [3, 7], [9, 0]])
    for call in (lambda: x[:, i], lambda: mg.take(x, i, axis=1), lambda: mg.scatter_add(1.0, i, shape=3)):
        with pytest.raises(BoundsError, match=r"indices(\[0\])?\[1, 0\] = 3"):
            call()
    compiled = mg.compile(lambda x, i: x[i])
    assert compiled(x, mg.tensor([1, 2])).shape == (2, 3)
    with pytest.raises(BoundsError, match=r"indices\[0\]\[1\] = 4"):
        compiled(x, mg.tensor([1, 4]))


def test_indexing_when_traced():
    x, i = numbers(4, 3), np.array([2, 0, 2])
    compiled = mg.compile(lambda x, i: (x[i], x[:, 1], x[1:, None], x[i, i], mg.take(x, i, axis=1)))
    for a, b in zip(compiled(mg.tensor(x), mg.tensor(i)), (x[i], x[:, 1], x[1:, None], x[i, i], x[:, i]), strict=True):
        same(a, b)
    g = mg.compile(mg.grad(lambda x, i: (x[i] ** 2).sum()))(mg.tensor(x), mg.tensor(i))
    same(g, 2 * x * np.array([[1], [0], [2], [0]]))
    for function in (lambda x: x[x > 0], lambda x: mg.nonzero(x)[0]):
        with pytest.raises(TraceError, match=r"mg\.where"):
            mg.compile(function)(mg.tensor(x))


def test_a_view_is_a_view_and_a_tensor_cannot_be_written_to():
    x = mg.tensor(numbers(4, 3))
    assert np.shares_memory(x[1:].value, x.value)
    assert not np.shares_memory(x[[1, 2]].value, x.value)
    with pytest.raises(MutationError, match=r"x\.at\[i\]\.set"):
        x[0] = 1.0


# ------------------------------------------------------------------------------------------------------------- take


@given(
    array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
    array_shapes(min_dims=0, max_dims=2, max_side=3),
    st.data(),
)
def test_take_like_numpy(shape, index_shape, data):
    x = numbers(*shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    i = data.draw(arrays(np.int64, index_shape, elements=st.integers(-n, n - 1)))
    same(mg.take(x, i, axis=axis), np.take(x, i, axis))
    mg.debug.gradcheck(lambda t: mg.take(t, i, axis=axis), mg.tensor(x), order=2)


@given(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), st.integers(0, 3), st.data())
def test_take_along_axis_like_numpy(shape, m, data):
    x = numbers(*shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    index_shape = [1 if data.draw(st.integers(0, 3)) == 0 else n for n in shape]
    index_shape[axis] = m
    i = data.draw(arrays(np.int64, index_shape, elements=st.integers(-shape[axis], shape[axis] - 1)))
    same(mg.take_along_axis(x, i, axis=axis), np.take_along_axis(x, i, axis))
    mg.debug.gradcheck(lambda t: mg.take_along_axis(t, i, axis=axis), mg.tensor(x), order=2)
    compiled = mg.compile(lambda t, i: mg.take_along_axis(t, i, axis=axis))
    same(compiled(mg.tensor(x), mg.tensor(i)), np.take_along_axis(x, i, axis))


def test_the_value_of_the_action_taken():
    q = mg.tensor(numbers(64, 2), requires_grad=True)
    actions = np.random.default_rng(0).integers(0, 2, 64)
    picked = mg.take_along_axis(q, mg.tensor(actions)[:, None], axis=1)
    same(picked[:, 0], q.numpy()[np.arange(64), actions])
    same(picked[:, 0], q[mg.arange(64), mg.tensor(actions)].numpy())
    picked.sum().backward()
    same(q.grad, np.eye(2)[actions])


def test_one_row_for_many_rows_of_indices_adds_up():
    """When `x` is stretched along another axis, one element is taken several times although each row has one index."""
    i = mg.tensor([[1], [1], [0]])
    g = mg.grad(lambda x: mg.take_along_axis(x, i, axis=1).sum())(mg.tensor([[1.0, 2.0]]))
    same(g, [[1.0, 2.0]])


def test_an_embedding_adds_the_gradients_of_equal_tokens():
    table = mg.tensor(numbers(5, 3), requires_grad=True)
    tokens = mg.tensor([[0, 2], [2, -1]])
    weight = numbers(2, 2, 3)
    (mg.take(table, tokens, axis=0) * mg.tensor(weight)).sum().backward()
    expected = np.zeros((5, 3))
    np.add.at(expected, tokens.numpy(), weight)
    np.testing.assert_allclose(table.grad.numpy(), expected)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: mg.take(x, [0, 4], axis=0), BoundsError, r"indices\[1\] = 4"),
        (lambda x: mg.take(x, [0]), ArgumentError, "1-d"),
        (lambda x: mg.take(x, [0.5], axis=0), DTypeError, "integer"),
        (lambda x: mg.take(x, [True], axis=0), DTypeError, "integer"),
        (lambda x: mg.take(x, [0], axis=2), BoundsError, "axis 2"),
        (lambda x: mg.take(mg.zeros((0, 3)), [0], axis=0), BoundsError, "axis is empty"),
        (lambda x: mg.take_along_axis(x, [[0], [1], [2], [3]], axis=1), BoundsError, r"indices\[3, 0\] = 3"),
        (lambda x: mg.take_along_axis(x, [0, 1, 0, 1], axis=1), ShapeError, r"labels\[:, None\]"),
        (lambda x: mg.take_along_axis(x, [[0], [1]], axis=1), ShapeError, "like"),
        (lambda x: mg.take_along_axis(x, [[0.5]], axis=1), DTypeError, "integer"),
        (lambda x: mg.scatter_add(x, [0, 1], shape=(2, 3)), ShapeError, "broadcast"),
        (lambda x: mg.scatter_add(x, [0, 1, 2, 5], shape=(5, 3)), BoundsError, r"\[3\] = 5"),
        (lambda x: mg.scatter_add(x > 0, [0, 1, 2, 3], shape=(5, 3)), DTypeError, "added"),
        (lambda x: mg.one_hot([0, 3], 3), BoundsError, r"indices\[1\] = 3"),
        (lambda x: mg.one_hot([[0], [-1]], 3), BoundsError, r"indices\[1, 0\] = -1"),
        (lambda x: mg.one_hot([0.5], 3), DTypeError, "integer"),
        (lambda x: mg.one_hot([0], -1), ArgumentError, "num_classes"),
        (lambda x: mg.topk(x, 4), ArgumentError, "0 to 3"),
        (lambda x: mg.sort(mg.tensor(1.0)), BoundsError, "0-d"),
        (lambda x: mg.nonzero(mg.tensor(1.0)), ShapeError, "0-d"),
    ],
)
def test_gathers_explain(call, error, words):
    with pytest.raises(error, match=words):
        call(mg.zeros((4, 3)))


@given(st.lists(st.integers(-4, 3), max_size=12), st.integers(0, 3), st.sampled_from(["f4", "f8", "i8", "i4"]))
def test_scatter_add_is_add_at(index, width, kind):
    i = np.array(index, np.int64)
    v = (10 * numbers(len(i), width)).astype(kind)
    expected = np.zeros((4, width), kind)
    np.add.at(expected, i, v)
    y = mg.scatter_add(v, i, shape=(4, width))
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6, atol=1e-5)


def test_scatter_add_broadcasts_its_values():
    same(mg.scatter_add(1.0, [0, 2, 0], shape=3), [2.0, 0.0, 1.0])
    same(mg.scatter_add(mg.tensor([1, 2]), [0, 2, 0], shape=(3, 2)), [[2, 4], [0, 0], [1, 2]])
    same(mg.scatter_add(1, [0, 1, 1], [2, 0, 0], shape=(2, 3)), [[0, 0, 1], [2, 0, 0]])


# ----------------------------------------------------------------------------------------------------------- x.at


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), advanced_keys(s))), st.sampled_from(["block", "scalar", "row"]))
def test_updates_like_numpy(case, form):
    shape, key = case
    x = numbers(*shape)
    block = x[key].shape
    v = {"block": numbers(*block), "scalar": np.array(2.5), "row": numbers(*block[-1:])}[form]
    selection = mg.tensor(x).at[as_tensors(key)]
    expected = x.copy()
    expected[key] = v
    same(selection.set(v), expected)
    expected = x.copy()
    np.add.at(expected, key, np.broadcast_to(v, block).copy())  # NumPy 2.4 adds a broadcast row too few times
    np.testing.assert_allclose(selection.add(v).numpy(), expected, atol=1e-12)
    places = np.arange(x.size).reshape(shape)[key]
    if len(np.unique(places)) == places.size:
        expected = x.copy()
        expected[key] *= v
        same(selection.multiply(v), expected)
    else:
        with pytest.raises(ArgumentError, match="named twice"):
            selection.multiply(v)


KEYS = [
    1,
    (slice(None, None, -2), 1),
    (..., None, slice(1, 3)),
    (np.array([2, 0, 2]),),
    (np.array([2, 0, 2]), np.array([1, 1, 1])),
    (slice(1, None), np.array([[0, 2], [2, 0]])),
    (np.array([0, 3]), slice(None)),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_updates_have_gradients(key):
    x = numbers(4, 3)
    block = x[key].shape
    for v in (numbers(*block), numbers(*block[-1:]), np.array(1.5)):
        for method in ("set", "add", "multiply"):
            if (
                method == "multiply"
                and np.unique(np.arange(12).reshape(4, 3)[key]).size < np.arange(12).reshape(4, 3)[key].size
            ):
                continue
            update = lambda x, v, m=method: getattr(x.at[as_tensors(key) if isinstance(key, tuple) else key], m)(v)  # noqa: E731
            mg.debug.gradcheck(update, mg.tensor(x), mg.tensor(v), order=2)
            same(mg.compile(update)(mg.tensor(x), mg.tensor(v)), update(mg.tensor(x), mg.tensor(v)).numpy())


def test_of_several_values_for_one_element_the_last_counts_and_gets_the_gradient():
    v = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = mg.zeros(3).at[[1, 0, 1]].set(v)
    same(y, [2.0, 3.0, 0.0])
    y.sum().backward()
    same(v.grad, [0.0, 1.0, 1.0])


def test_updates_with_masks():
    x = numbers(3, 4)
    t, mask = mg.tensor(x), x > 0
    same(t.at[mask].set(0.0), np.where(mask, 0, x))
    same(t.at[mg.tensor(mask)].add(1.0), np.where(mask, x + 1, x))
    same(t.at[mask].multiply(2.0), np.where(mask, 2 * x, x))
    same(t.at[np.array([True, False, True])].set(7.0), np.where([[True], [False], [True]], 7, x))
    same(t.at[mask].set(mg.arange(int(mask.sum()), dtype="float64")), _assigned(x, mask, np.arange(mask.sum())))
    one_value = mg.compile(lambda t: t.at[t > 0].set(0.0))  # the shape does not depend on the mask: traceable
    same(one_value(t), np.where(mask, 0, x))
    with pytest.raises(TraceError, match=r"mg\.where"):
        mg.compile(lambda t: t.at[t > 0].set(mg.zeros(3, dtype="float64")))(t)
    with pytest.raises(ShapeError, match="mask"):
        t.at[np.ones(4, bool)].set(0.0)


def _assigned(x, key, v):
    x = x.copy()
    x[key] = v
    return x


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: x.at[0].set([1.0, 2.0]), ShapeError, r"broadcasts to \(3,\)"),
        (lambda x: x.at[0].add(mg.zeros((2, 3))), ShapeError, "broadcasts"),
        (lambda x: x.at[0].multiply(mg.zeros(2)), ShapeError, "broadcasts"),
        (lambda x: x.at[4].set(0.0), BoundsError, "index 4"),
        (lambda x: x.at[[0, 4]].set(0.0), BoundsError, "index 4"),
        (lambda x: x.at[[0, 4]].add(0.0), BoundsError, "index 4"),
        (lambda x: x.astype(mg.int64).at[0].set(0.5), DTypeError, "int64"),
    ],
)
def test_updates_explain(call, error, words):
    x = mg.zeros((4, 3))
    with pytest.raises(error, match=words):
        call(x)
    same(x, np.zeros((4, 3)))


def test_updates_keep_the_dtype_of_the_tensor():
    x = mg.zeros(2)
    assert x.at[0].set(np.float64(0.1)).dtype == x.at[[0]].add(mg.tensor([1])).dtype == np.dtype("float32")


# ------------------------------------------------------------------------------------------------------ sort, labels


@given(
    arrays(np.float64, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5), elements=st.integers(-3, 3)),
    st.data(),
)
def test_sorting_like_numpy(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    same(mg.sort(x, axis=axis), np.sort(x, axis))
    same(mg.argsort(x, axis=axis), np.argsort(x, axis, kind="stable"))
    down = mg.argsort(x, axis=axis, descending=True)
    same(down, np.argsort(-x, axis, kind="stable"))  # equal elements keep their order
    same(mg.sort(x, axis=axis, descending=True), np.take_along_axis(x, down.numpy(), axis))
    k = data.draw(st.integers(0, x.shape[axis]))
    values, indices = mg.topk(x, k, axis=axis)
    same(values, np.take(-np.sort(-x, axis), range(k), axis))
    same(mg.take_along_axis(x, indices, axis=axis), values.numpy())


def test_sorting_has_gradients():
    x = mg.tensor(np.random.default_rng(0).permutation(12.0 * np.arange(12) / 12).reshape(3, 4))
    for fn in (
        lambda t: mg.sort(t) ** 2,
        lambda t: mg.sort(t, axis=0, descending=True) ** 2,
        lambda t: mg.topk(t, 2)[0] ** 2,
        lambda t: mg.topk(t, 2, axis=0, largest=False)[0] ** 2,
    ):
        mg.debug.gradcheck(fn, x, order=2)
        g = mg.vjp(fn, x)[1](fn(x))[0]
        same(mg.compile(lambda t, fn=fn: mg.vjp(fn, t)[1](fn(t))[0])(x), g.numpy())


@given(arrays(np.int64, array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4), elements=st.integers(0, 3)))
def test_one_hot_like_eye(labels):
    same(mg.one_hot(labels, 4), np.eye(4, dtype="f4")[labels])
    assert mg.one_hot(labels, 4, dtype=mg.int64).dtype == np.dtype("int64")
    same(mg.compile(lambda i: mg.one_hot(i, 4))(mg.tensor(labels)), np.eye(4, dtype="f4")[labels])


# -------------------------------------------------------------------------------------------------------- promises


def test_keys_are_values():
    a, b = Key((slice(1, 3), None, Slot(0))), Key((slice(1, 3), None, Slot(0)))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Key((slice(1, 4), None, Slot(0)))
    assert repr(Key((slice(None, None, -1), ..., 3, None, Slot(1)))) == "[::-1, ..., 3, None, indices[1]]"


def test_equal_selections_are_computed_once_in_a_compiled_function():
    compiled = mg.compile(lambda x: x[1:3] + x[1:3])
    compiled(mg.zeros(4))
    assert sum(n.op.name == "getitem" for n in compiled.passes[-1].after.operations) == 1


def test_a_planted_wrong_scatter_is_caught():
    """Assigning instead of adding loses gradients of repeated indices; the checks notice."""

    def run(xp, x, i):
        return x[i]

    def wrong(F, g, y, x, i):
        return F.set_at(F.zeros(x.shape, dtype=x.dtype), g, i, key=Key((Slot(0),)))

    planted = mg.Op("planted_gather", run, vjp=(wrong, None), saves=("i",))
    mg.debug.gradcheck(lambda x: planted(x, np.array([0, 2])), mg.tensor(numbers(3)))
    with pytest.raises(mg.debug.GradCheckError):
        mg.debug.gradcheck(lambda x: planted(x, np.array([0, 0])), mg.tensor(numbers(3)))


OPERATIONS = ["getitem", "place", "gather", "scatter_add", "take", "take_along_axis", "scatter_along_axis", "set_at",
              "fill_at", "is_last", "one_hot", "sort", "argsort"]  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_passes_the_family_of_tests(name):
    assert mg.debug.opcheck(name).ok
