"""Operations that move, pick and count elements, in C: each against dynamic mode, which computes them by NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import loops, moving
from minigraph.compiler.toolchain import find_compiler
from minigraph.errors import BoundsError
from minigraph.op import OPS
from minigraph.ops.index import Key, parse
from minigraph.tensor import bind

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")

DTYPES = ["float32", "float64", "int64", "int8", "uint8", "bool"]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]
shapes = st.lists(st.integers(0, 5) | st.just(9), max_size=4).map(tuple)
full_shapes = st.lists(st.integers(1, 5) | st.just(9), min_size=1, max_size=3).map(tuple)
matrices = st.tuples(shapes.map(lambda s: s[:2]), st.integers(0, 6), st.integers(0, 6)).map(lambda t: (*t[0], *t[1:]))
seeds = st.integers(0, 2**32 - 1)
slow = settings(max_examples=12, deadline=None)  # each is a run of the C compiler


def values(shape, dtype, seed=0, *, special=True):
    """Numbers with ties; of floats some are NaN, infinite or zeros of either sign."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind != "f":
        return (x > 0) if dtype == "bool" else x.astype(dtype)
    found = np.asarray(x / 2, dtype)
    if special:
        found = np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), found).astype(dtype)
    return found


def same(f, *arrays, tolerance=0.0):
    """Two calls in C equal dynamic mode in shape, dtype and values, and nothing in them calls back into Python (but
    to have the indices checked with which nothing is picked)."""
    compiled = mg.compile(f, backend="c")
    given = [mg.tensor(a) for a in arrays]
    with np.errstate(invalid="ignore"):
        want, got = f(*given), (compiled(*given), compiled(*given))
    assert [n.op.name for n in compiled.last.program.native.program.callbacks if n.size] == []
    for found in got:
        for a, b in zip(*[x if isinstance(x, tuple) else (x,) for x in (want, found)], strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=tolerance, atol=tolerance)


def axis_of(data, shape, extra=0):
    n = len(shape) + extra
    return data.draw(st.integers(-n, n - 1), label="axis")


# --------------------------------------------------------------------------------------------------- blocks and views


@slow
@given(data=st.data(), shape=full_shapes, dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4), seed=seeds)
def test_concat(data, shape, dtypes, seed):
    axis = axis_of(data, shape)
    sizes = [data.draw(st.sampled_from([shape[axis], 0, 1, 4])) for _ in dtypes]
    if {"float32", "float64"} <= set(dtypes):
        dtypes = ["float32" for _ in dtypes]
    parts = [
        values((*shape[: axis % len(shape)], n, *shape[axis % len(shape) + 1 :]), t, seed + k)
        for k, (n, t) in enumerate(zip(sizes, dtypes, strict=True))
    ]
    same(lambda *p: (mg.concat(p, axis=axis), mg.concat([x * 2 for x in p], axis=axis) * 3), *parts)


@slow
@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), count=st.integers(1, 4), seed=seeds)
def test_stack_and_unstack(data, shape, dtype, count, seed):
    axis = axis_of(data, shape, 1)
    parts = [values(shape, dtype, seed + k) for k in range(count)]
    same(lambda *parts: mg.stack(list(parts), axis=axis), *parts)
    same(lambda x: mg.unstack(x, axis=axis), np.stack(parts, axis))


@slow
@given(data=st.data(), shape=full_shapes, dtype=st.sampled_from(DTYPES), seed=seeds)
def test_split_roll_tile_repeat_pad(data, shape, dtype, seed):
    x = values(shape, dtype, seed)
    axis = axis_of(data, shape)
    cut = data.draw(st.integers(0, shape[axis]))
    shift = data.draw(st.integers(-12, 12))
    times = tuple(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in shape]
    fill = {"f": -2.5, "b": True}.get(np.dtype(dtype).kind, 7)

    def all_of_them(x):
        return (
            *mg.split(x, [cut], axis),
            *[p * 2 for p in mg.split(x * 3, [cut], axis)],
            mg.roll(x, shift, axis),
            mg.roll(x, shift),
            mg.roll(x, tuple(range(shift, shift + len(shape))), tuple(range(len(shape)))),
            mg.tile(x, times),
            mg.repeat(x, len(times), axis=axis),
            mg.pad(x, widths),
            mg.pad(mg.flip(x), widths, constant_values=fill),
        )

    same(all_of_them, x)


@slow
@given(shape=matrices, dtype=st.sampled_from(DTYPES), k=st.integers(-7, 7), seed=seeds)
def test_triangles(shape, dtype, k, seed):
    same(lambda x: (mg.tril(x, k=k), mg.triu(x, k=k)), values(shape, dtype, seed))


@slow
@given(shape=shapes, dtype=st.sampled_from(DTYPES), offset=st.integers(-4, 4), seed=seeds)
def test_diagonals(shape, dtype, offset, seed):
    x = values((*shape, 3), dtype, seed)
    wide = (3 - offset, 5) if offset < 0 else (3, 5 + offset)
    same(lambda x: (mg.diag_embed(x, offset=offset), mg.diag_embed(x, offset=offset, shape=wide)), x)


def test_numbers_without_axes_are_moved_too():
    x = np.float32(3)
    same(lambda x: (mg.stack([x, x]), mg.tile(x, 3), mg.tile(x, ()), mg.pad(x, ())), x)
    same(lambda x: mg.concat([mg.reshape(x, (1,)), mg.zeros((2,))]), x)


def test_a_block_too_few_is_noticed(monkeypatch):
    """Planted: the last block of a statement is not copied."""
    copied = moving.copied
    monkeypatch.setattr(moving, "copied", lambda lines, sizes, source, *rest: source == "in0" and copied(
        lines, sizes, source, *rest))  # fmt: skip
    with pytest.raises(AssertionError):
        same(lambda a, b: mg.concat([a, b]), np.ones((2, 3), "f4"), np.full((1, 3), 7, "f4"))


# -------------------------------------------------------------------------------------------------- labels and losses


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8"])
@pytest.mark.parametrize("classes", [3, 300])
def test_labels_of_narrow_types(dtype, classes):
    labels = np.array([2, 0, 1, 2], dtype)
    x = values((4, classes), "float32", special=False)
    same(lambda y: (mg.one_hot(y, classes), mg.one_hot(mg.reshape(y, (2, 1, 2)), classes, dtype="bool")), labels)
    ways = ("mean", "sum", "none")
    same(lambda x, y: tuple(mg.nll_loss(x, y, reduction=r) for r in ways), x, labels, tolerance=1e-6)
    same(lambda x, y: tuple(mg.cross_entropy(x, y, reduction=r) for r in ways), x, labels, tolerance=1e-6)


@pytest.mark.parametrize("f", [lambda x, y: mg.one_hot(y, 3), lambda x, y: mg.nll_loss(x, y)])
@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_out_of_range_are_refused(f, wrong):
    x, good, bad = mg.zeros((2, 3)), mg.tensor([0, 2]), mg.tensor([0, wrong])
    compiled = mg.compile(f, backend="c")
    compiled(x, good)
    for g in (f, compiled):
        with pytest.raises(BoundsError, match=str(wrong)):
            g(x, bad)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy(dtype):
    eps = np.finfo(dtype).eps
    p = np.array([0.0, 1.0, 0.5, 1e-30, 1 - eps, eps, np.nan, 0.3], dtype)
    t = np.array([0.0, 1.0, 0.3, 1.0, 0.0, 1.0, 0.5, 0.7], dtype)
    for a, b in ((p, t), (p, 1 - t)):
        same(lambda p, t: (mg.binary_cross_entropy(p, t, reduction="none"), mg.binary_cross_entropy(p[:6], t[:6])),
             a, b, tolerance=1e-6)  # fmt: skip
    compiled = mg.compile(lambda p: mg.binary_cross_entropy(p, mg.tensor(t[:1])), backend="c")
    compiled(mg.tensor(p[1:2]))
    for wrong in (np.nextafter(np.dtype(dtype).type(1), 2), -eps):
        with pytest.raises(BoundsError):
            compiled(mg.tensor(np.array([wrong], dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logaddexp_at_the_ends(dtype):
    ends = np.array([-np.inf, -1000, -1.5, -0.0, 0.0, 1e-10, 2, 3, 1000, np.inf, np.nan], dtype)
    same(mg.logaddexp, ends[:, None], ends, tolerance=2e-6 if dtype == "float32" else 1e-13)


@slow
@given(shape=full_shapes, keepdims=st.booleans(), correction=st.sampled_from([0, 1]), seed=seeds)
def test_standard_deviation(shape, keepdims, correction, seed):
    x = values((*shape, 2), "float64", seed, special=False)
    wanted = [axis for axis in (None, -1, (0, -1)) if np.ones(x.shape).sum(axis).size < x.size - correction]
    same(lambda x: tuple(mg.std(x, axis, correction=correction, keepdims=keepdims) for axis in wanted), x,
         tolerance=1e-13)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- places


@st.composite
def keys(draw, most=4):
    """A shape, and what may stand between the brackets behind an array of that shape."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=most)))
    blocks = draw(st.sampled_from([[()], [(3,)], [(1, 3), (2, 1), (3,)], [(2, 0)]]))
    items, some = [], False
    for n in shape[: draw(st.integers(1, len(shape)))]:
        if draw(st.integers(0, 5)) == 0:
            items.append(None)
        kind = draw(st.sampled_from(["slots", "slots", "slice", "number"]))
        if kind == "slots":
            block = draw(st.sampled_from(blocks))
            items.append(np.array(draw(st.lists(st.integers(-n, n - 1), min_size=int(np.prod(block)),
                                                max_size=int(np.prod(block)))), "i8").reshape(block))  # fmt: skip
            some = True
        elif kind == "slice":
            end = st.none() | st.integers(-n - 1, n + 1)
            items.append(slice(draw(end), draw(end), draw(st.sampled_from([None, 1, 2, -1, -2]))))
        else:
            items.append(draw(st.integers(-n, n - 1)))
    if not some:
        items = [np.array([0, -1, 0])]
    if draw(st.booleans()):
        items.append(Ellipsis)
    return shape, items


def keyed(f, shape, items, dtype="float64", seed=0):
    """`same` for a function of an array, the values for a part of it, and the part's key."""
    indices = [e for e in items if isinstance(e, np.ndarray)]
    block = values(np.zeros(shape)[tuple(items)].shape, dtype, seed + 1, special=False)

    def full(x, v, *given):
        rest = iter(given)
        return f(x, v, tuple(next(rest) if isinstance(e, np.ndarray) else e for e in items))

    same(full, values(shape, dtype, seed, special=False), block, *indices)


@slow
@given(given=keys(), dtype=st.sampled_from(["float32", "int64"]), seed=seeds)
def test_gather_and_scatter(given, dtype, seed):
    keyed(lambda x, v, key: (x[key], mg.flip(x)[key] * 2, x.at[key].add(v)), *given, dtype, seed)


@slow
@given(given=keys())
def test_gradients_of_gather_and_scatter(given):
    keyed(
        lambda x, v, key: mg.grad(lambda x, v: (x[key] * v).sum() + (x.at[key].add(v) ** 2).sum(), (0, 1))(x, v), *given
    )


def test_a_wrong_rule_for_where_the_block_stands_is_noticed(monkeypatch):
    """Planted: index tensors apart from each other put their axes where the first one stands, not in front."""
    by_key = loops.by_key

    def wrong(shape, items, slots, block):
        axes, _ = by_key(shape, items, slots, block)
        first = next(k for k, e in enumerate(items) if not isinstance(e, slice))
        return axes, first

    items = [slice(None), np.array([0, 1]), slice(None), np.array([1, 1])]
    keyed(lambda x, v, key: x[key], (2, 2, 2, 2), items)
    monkeypatch.setattr(loops, "by_key", wrong)
    with pytest.raises(AssertionError):
        keyed(lambda x, v, key: x[key], (2, 2, 2, 2), items)


@pytest.mark.parametrize("wrong", [-4, 3])
def test_indices_out_of_range_are_refused(wrong):
    x = mg.tensor(values((2, 3, 4), "float32", special=False))
    for f in (lambda x, i: x[:, i, 1:], lambda x, i: x.at[:, i].add(1.0)):
        compiled = mg.compile(f, backend="c")
        compiled(x, mg.tensor([0, -3]))
        for g in (f, compiled):
            with pytest.raises(BoundsError, match=str(wrong)):
                g(x, mg.tensor([0, wrong]))


def test_nothing_is_computed_of_nothing():
    none = np.zeros((0, 3), "f4")
    same(lambda x: (mg.softmax(x), mg.sort(x), mg.argmax(x, axis=1), x @ mg.ones((3, 2))), none)
    same(lambda x: x.T @ x, none)
    same(lambda x, i: (mg.take(x, i, axis=0), mg.embedding(i, mg.ones((2, 2)))), none, np.zeros((0, 2), "i8"))
    compiled = mg.compile(lambda x, i: x[:, i], backend="c")
    with pytest.raises(BoundsError):  # no element, but a wrong index
        compiled(mg.tensor(none), mg.tensor([3]))


@slow
@given(given=keys(), dtype=st.sampled_from(["float32", "int64", "bool"]), seed=seeds)
def test_set_at_and_fill_at(given, dtype, seed):
    op = OPS["fill_at"]

    def both(x, v, key):
        items, indices = parse(x, key)
        zero = np.dtype(dtype).type(0).item()
        return (
            x.at[key].set(v),
            x.mT.at[...].set(x.mT) if x.ndim > 1 else x,
            bind(op, x, *indices, key=Key(items), value=zero),
        )

    keyed(both, *given, dtype, seed)


@slow
@given(given=keys(), dtype=st.sampled_from(["float32", "int64"]))
def test_set_at_with_slices_and_what_is_broadcast(given, dtype):
    shape, items = given
    key = tuple(e if e is None or isinstance(e, slice) or e is Ellipsis else 0 for e in items)
    same(lambda x: (x.at[key].set(3), mg.flip(x).at[key].set(x[key] * 2)), values(shape, dtype))


def test_of_several_values_for_one_element_the_last_counts():
    v, i = values((5,), "float32", special=False), np.array([1, 0, 1, -2, 1])
    same(lambda v, i: mg.zeros(3).at[i].set(v), v, i)
    compiled = mg.compile(lambda v, i: mg.zeros(3).at[i].set(v), backend="c")
    with pytest.raises(BoundsError, match="3"):
        compiled(mg.tensor(v), mg.tensor([0, 1, 2, 3, 0]))


# ------------------------------------------------------------------------------------------------------ along an axis


@slow
@given(data=st.data(), shape=full_shapes, dtype=st.sampled_from(DTYPES), seed=seeds)
def test_along_an_axis(data, shape, dtype, seed):
    axis = axis_of(data, shape)

    def all_of_them(x):
        found = []
        for y in (x, mg.flip(x), mg.permute_dims(x, tuple(range(x.ndim))[::-1])):
            found += [mg.cumulative_sum(y, axis), mg.argmax(y, axis), mg.argmin(y, axis, keepdims=True), mg.argmax(y)]
            found += [mg.argsort(y, axis=axis, descending=d) for d in (False, True)]
            found += [mg.sort(y, axis=axis, descending=d) for d in (False, True)]
        return tuple(found)

    same(all_of_them, values(shape, dtype, seed))


@pytest.mark.parametrize("n", [1, 2, 3, 31, 64, 100, 256])
def test_long_rows_are_sorted(n):
    x = np.random.default_rng(n).integers(0, n // 2 + 1, (2, n)).astype("f4")
    x[0, ::7] = np.nan
    same(lambda x: (mg.sort(x), mg.argsort(x), mg.argsort(x, descending=True), mg.topk(x, min(n, 3))[0]), x)


@pytest.mark.parametrize(("text", "wrong"), [("a == middle", "b < high"), ("width *= 2", "width *= 4")])
def test_a_wrong_merge_is_noticed(text, wrong, monkeypatch):
    """Planted: the second half goes first, or a round is left out."""
    x = np.random.default_rng(0).integers(0, 9, 40)
    monkeypatch.setattr(moving, "MERGE", moving.MERGE.replace(text, wrong))
    with pytest.raises(AssertionError):
        same(lambda x: mg.sort(x), x)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64"])
def test_functions_of_reals_of_integers(dtype):
    x, y = values((3, 4), dtype, 1), values((3, 4), dtype, 2)
    same(lambda x, y: (mg.abs(x), mg.floor(x), mg.ceil(x), mg.trunc(x), mg.maximum(x, y), mg.minimum(x, y)), x, y)


def test_a_permutation_is_that_of_dynamic_mode():
    g, h = mg.random.Generator(3), mg.random.Generator(3)
    compiled = mg.compile(lambda: g.permutation(50), backend="c")
    for _ in range(2):
        np.testing.assert_array_equal(compiled().numpy(), h.permutation(50).numpy())
    assert compiled.last.program.native.program.callbacks == []


# ------------------------------------------------------------------------------------------------------------- einsum


@slow
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]), seed=seeds)
def test_einsum(data, dtype, seed):
    letters = st.lists(st.sampled_from("abcd"), max_size=4, unique=True)
    left, right = data.draw(letters), data.draw(letters)
    every = sorted({*left, *right})
    output = data.draw(st.permutations(data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []))
    sizes = {label: data.draw(st.integers(0, 4)) for label in every}
    x, y = (values(tuple(sizes[i] for i in labels), dtype, seed + k, special=False)
            for k, labels in enumerate((left, right)))  # fmt: skip
    both, one = f"{''.join(left)},{''.join(right)}->{''.join(output)}", [i for i in output if i in left]
    small = 1e-5 if dtype == "float32" else 1e-13
    same(lambda x, y: (mg.einsum(both, x, y), mg.einsum(f"{''.join(left)}->{''.join(one)}", x)), x, y, tolerance=small)


def test_attention_by_einsum_and_its_gradients_never_call_back():
    q, k = (values((2, 3, 2, 4), "float32", seed, special=False) for seed in (1, 2))
    score = lambda q, k: (mg.softmax(mg.einsum("bthd,bshd->bhts", q, k)) ** 2).sum()  # noqa: E731
    same(lambda q, k: mg.grad(score, (0, 1))(q, k), q, k, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_means_of_integers(dtype):
    x = values((3, 4), dtype)
    same(lambda x: (mg.mean(x), mg.mean(x, 0), mg.mean(x, 1, keepdims=True)), x, tolerance=1e-7)


# ------------------------------------------------------------------------------------------------------- explanations


def test_explain_says_why_blocks_and_long_rows_stand_apart():
    joined = mg.compile(lambda x, y: mg.concat([x * 2, y])[1:4] * x, backend="c")
    joined(mg.ones((3, 4)), mg.ones((3, 4)))
    assert "assemble is complete only when all loops of the first are done" in str(joined.explain())
    assert "everything is in C" in str(joined.explain())
    long = mg.compile(lambda x: mg.sort(x), backend="c")
    long(mg.ones((moving.LONGEST + 1,)))
    assert f"NumPy sorts rows of more than {moving.LONGEST} elements faster" in str(long.explain())
