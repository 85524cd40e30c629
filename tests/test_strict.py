"""The stand-in for CuPy: that it computes what NumPy computes, and that it refuses what CuPy refuses."""

import inspect
import types
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph.backend import strict
from minigraph.backend.strict import ABSENT, CONSTANTS, FUNCTIONS, METHODS, UFUNCS, StrictArray, table, words
from minigraph.backend.strict import module as xp


def array(*shape, dtype="float64"):
    return xp.asarray(np.arange(int(np.prod(shape))).reshape(shape).astype(dtype))


def same(got, expected):
    assert isinstance(got, StrictArray) and got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got.get(), expected)


# ------------------------------------------------------------------------------------------------- what is refused


A, N = array(2, 3), np.ones((2, 3))
NUMBERS = [1.0, 2.0, 3.0]

CONVERSIONS = {
    "asarray": lambda: np.asarray(A),
    "array": lambda: np.array(A),
    "array of arrays": lambda: np.array([A, A]),
    "NumPy ufunc": lambda: np.exp(A),
    "NumPy ufunc of two": lambda: np.add(A, A),
    "NumPy ufunc with out": lambda: np.exp(N, out=A),
    "NumPy ufunc method": lambda: np.add.reduce(A),
    "NumPy function": lambda: np.sum(A),
    "NumPy concatenate": lambda: np.concatenate([A, A]),
    "NumPy where": lambda: np.where(A, 1, 2),
    "NumPy linalg": lambda: np.linalg.norm(A),
    "assignment into a NumPy array": lambda: N.__setitem__(slice(None), A),
    "index": lambda: [1, 2, 3][xp.asarray(1)],
    "range": lambda: range(xp.asarray(3)),
    "slice": lambda: A[: xp.asarray(1)],
}
MIXTURES = {
    "x + numpy": lambda: A + N,
    "numpy + x": lambda: N + A,
    "x @ numpy": lambda: A @ N.T,
    "numpy @ x": lambda: N.T @ A,
    "x < numpy": lambda: A < N,
    "numpy == x": lambda: N == A,
    "x += numpy": lambda: array(2, 3).__iadd__(N),
    "x + 0-d numpy": lambda: A + np.array(1.0),
    "x + list": lambda: A + NUMBERS,
    "ufunc": lambda: xp.add(A, N),
    "ufunc of NumPy alone": lambda: xp.exp(N),
    "ufunc of a list": lambda: xp.exp([1.0]),
    "ufunc out": lambda: xp.exp(A, out=N),
    "function": lambda: xp.where(A > 0, A, N),
    "function of NumPy alone": lambda: xp.sum(N),
    "function of a list": lambda: xp.sum([1.0, 2.0]),
    "function of a number": lambda: xp.reshape(1.0, (1,)),
    "condition of a number": lambda: xp.where(True, A, A),
    "concatenate": lambda: xp.concatenate([A, N]),
    "concatenate lists": lambda: xp.concatenate([[1.0], [2.0]]),
    "stack": lambda: xp.stack((N, A)),
    "matmul": lambda: xp.matmul(A, N.T),
    "matmul with a number": lambda: xp.matmul(A, 2.0),
    "einsum": lambda: xp.einsum("ij,ij", A, N),
    "keyword": lambda: xp.take(A, indices=np.array([0])),
    "method": lambda: A.dot(N.T),
    "index": lambda: A[np.array([0, 1])],
    "index in a tuple": lambda: A[:, np.array([0, 1])],
    "mask": lambda: A[N > 0],
    "assigned index": lambda: array(2, 3).__setitem__(np.array([0]), 1.0),
    "assigned value": lambda: array(2, 3).__setitem__(0, N[0]),
    "assigned list": lambda: array(2, 3).__setitem__(0, [1.0, 2.0, 3.0]),
    "at, array": lambda: xp.add.at(N, A, A),
    "at, index": lambda: xp.add.at(array(3), np.array([0]), 1.0),
    "at, values": lambda: xp.add.at(array(3), xp.asarray([0]), np.ones(1)),
}
KEYWORDS = {
    "where": lambda: xp.sum(A, where=A > 0),
    "initial": lambda: xp.max(A, initial=0.0),
    "where of a method": lambda: A.sum(where=A > 0),
    "initial of a method": lambda: A.max(initial=0.0),
    "where of a ufunc": lambda: xp.exp(A, where=A > 0),
    "order of a ufunc": lambda: xp.exp(A, order="C"),
    "initial of reduce": lambda: xp.add.reduce(A, initial=1.0),
    "reduce's sixth argument": lambda: xp.add.reduce(A, 0, None, None, False, 1.0),
    "correction": lambda: xp.var(A, correction=1),
    "mean": lambda: xp.std(A, mean=A),
    "stable": lambda: xp.argsort(A, stable=True),
    "device": lambda: xp.zeros(3, device="cpu"),
    "like": lambda: xp.arange(3, like=A),
    "shape": lambda: xp.reshape(A, shape=(6,)),
    "min and max": lambda: xp.clip(A, min=0.0, max=1.0),
    "keepdims": lambda: xp.count_nonzero(A, keepdims=True),
    "take mode": lambda: xp.take(A, xp.asarray([0]), mode="clip"),
    "unique sorted": lambda: xp.unique(A, sorted=False),
    "subok": lambda: xp.broadcast_to(A, (2, 2, 3), subok=True),
    "einsum out": lambda: xp.einsum("ij->i", A, out=array(2)),
    "einsum order": lambda: xp.einsum("ij->i", A, order="C"),
    "missing": lambda: xp.take(A),
}


@pytest.mark.parametrize("call", CONVERSIONS.values(), ids=CONVERSIONS)
def test_no_implicit_conversion(call):
    with pytest.raises(TypeError):
        call()


def test_the_refused_conversion_says_what_cupy_says():
    with pytest.raises(TypeError, match=r"Implicit conversion to a NumPy array is not allowed.*`\.get\(\)`"):
        np.asarray(A)


@pytest.mark.parametrize("call", MIXTURES.values(), ids=MIXTURES)
def test_no_mixed_operands(call):
    with pytest.raises(TypeError):
        call()
    assert A.get().tolist() == [[0, 1, 2], [3, 4, 5]] and (N == 1).all()


def test_the_refused_mixture_names_the_type():
    for call in (lambda: A + N, lambda: N + A, lambda: xp.add(A, N)):
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
            call()


@pytest.mark.parametrize("call", KEYWORDS.values(), ids=KEYWORDS)
def test_no_keyword_that_cupy_lacks(call):
    with pytest.raises(TypeError):
        call()


def test_the_refused_keyword_shows_the_parameters():
    with pytest.raises(TypeError, match=r"sum\(\) in CuPy: .*'where'.*keepdims=False"):
        xp.sum(A, where=A > 0)


@pytest.mark.parametrize("kind", ["quicksort", "mergesort", "heapsort"])
@pytest.mark.parametrize("function", [xp.sort, xp.argsort, StrictArray.argsort])
def test_sorts_are_stable_ones(function, kind):
    with pytest.raises(ValueError, match="'stable'"):
        function(A, kind=kind)
    function(A, kind="stable")


@pytest.mark.parametrize("name", [*sorted(ABSENT), "linalg.cond_", "lib.npyio", "random", "nothing"])
def test_no_function_that_cupy_lacks(name):
    with pytest.raises(AttributeError, match="CuPy has no function"):
        attrgetter(name)(xp)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("add", "int8"),
        ("add", "int16"),
        ("add", "bool"),
        ("add", "uint8"),
        ("subtract", "float32"),
        ("maximum", "float16"),
        ("minimum", "int16"),
        ("bitwise_or", "bool"),
    ],
)
def test_at_has_the_dtypes_of_atomic_additions(name, dtype):
    with pytest.raises(TypeError, match=rf"cupy.{name}.at only supports"):
        getattr(xp, name).at(array(3, dtype=dtype), xp.asarray([0]), array(1, dtype=dtype))


@pytest.mark.parametrize(
    ("name", "method"), [("multiply", "at"), ("maximum", "reduce"), ("subtract", "reduce"), ("minimum", "accumulate")]
)
def test_methods_that_only_some_ufuncs_have(name, method):
    with pytest.raises(NotImplementedError):
        getattr(getattr(xp, name), method)(array(3), xp.asarray([0]))


@pytest.mark.parametrize("name", ["reduceat", "resolve_dtypes", "identity", "signature"])
def test_methods_that_no_ufunc_has(name):
    with pytest.raises(AttributeError):
        getattr(xp.add, name)


@pytest.mark.parametrize("name", ["__index__", "__imatmul__", "__array_interface__", "to_device", "setflags", "resize"])
def test_members_that_no_array_has(name):
    assert not hasattr(A, name)


@pytest.mark.parametrize(
    "call", [lambda: hash(A), lambda: bool(A), lambda: float(A), lambda: len(array()), lambda: iter(array())]
)
def test_what_numpy_refuses_is_refused(call):
    with pytest.raises((TypeError, ValueError)):
        call()


# ------------------------------------------------------------------------------------------------- what it computes


def test_numbers_and_numpy_scalars_are_operands():
    x = array(3, dtype="float32")
    n = x.get()
    for scalar in (2, 2.0, True, np.float32(2), np.int64(2), np.float64(2)):
        same(x * scalar, n * scalar)
        same(scalar * x, scalar * n)
        same(xp.maximum(x, scalar), np.maximum(n, scalar))
    same(2**x, 2**n)
    same(np.float32(1) - x, np.float32(1) - n)


def test_results_without_axes_are_arrays():
    x = array(2, 3)
    for y in (x.sum(), xp.max(x), x[1, 2], xp.dot(x[0], x[1]), x[0] @ x[1], xp.add.reduce(x[0]), xp.asarray(3.0) + 1):
        assert isinstance(y, StrictArray) and y.shape == ()
    assert isinstance(next(iter(x[0])), StrictArray)


def test_explicit_conversions():
    x = array(2, 3)
    assert isinstance(x.get(), np.ndarray) and x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (x[1, 2].item(), float(x[1, 2]), int(x[1, 2]), bool(x[0, 0]), len(x)) == (5.0, 5.0, 5, False, 2)
    copy = x.get()
    copy[:] = 9
    assert x[0, 0].item() == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1:], lambda x: x.T, lambda x: x.reshape(6), lambda x: xp.transpose(x), lambda x: x[1, 2],
        lambda x: x[None, ..., ::2], lambda x: xp.broadcast_to(x, (2, 2, 3)), lambda x: x.reshape(6)[2:][1:],
        lambda x: xp.lib.stride_tricks.as_strided(x, (2,), (8,)), lambda x: x.view("int64"),
    ],
)  # fmt: skip
def test_views_share_memory_and_name_their_owner(view):
    x = xp.zeros((2, 3))
    assert x.base is None
    y = view(x)
    assert y.base is not None and y.base.shape == (2, 3) and xp.shares_memory(x, y)
    x[...] = 7.0
    assert set(np.unique(y.view("float64").get())) == {7.0}
    assert (y + 0).base is None and not xp.shares_memory(x, y + 0)


def test_assignment():
    x, n = array(4, 3), array(4, 3).get()
    i = np.array([0, 2])
    x[xp.asarray(i)], n[i] = 5.0, 5.0
    x[1, 1], n[1, 1] = xp.asarray(8.0), 8.0
    x[:, 2], n[:, 2] = xp.zeros(4), 0.0
    x[x > 7], n[n > 7] = np.float64(-1), -1
    same(x, n)


def test_in_place_operators_keep_the_array():
    x = y = array(3)
    x += 1
    x *= xp.asarray(2.0)
    assert x is y and x.tolist() == [2, 4, 6]
    x = y = array(2, 2)
    x @= xp.eye(2)  # CuPy has no in-place product: a new array under the old name
    assert x is not y


def test_out():
    x, y = array(3), xp.zeros(3)
    assert xp.add(x, 1.0, out=y) is y and xp.add(x, 1.0, y) is y and y.tolist() == [1, 2, 3]
    total = xp.zeros(())
    assert xp.sum(x, out=total) is total and total.item() == 3
    assert xp.matmul(x, x, out=total) is total and total.item() == 5


KEYS = [
    0, -1, (1, 2), (slice(None), 1), Ellipsis, (Ellipsis, 0), None, (None, 1, None), (0, Ellipsis, 2), (),
    slice(None, None, -1), [1, 0], (slice(1), [0, 2]),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indices_as_in_numpy(key):
    n = np.arange(24.0).reshape(2, 3, 4)
    same(xp.asarray(n)[key], n[key])


@given(st.data())
def test_integer_arrays_as_indices_wrap_around(data):
    n = np.arange(24.0).reshape(2, 3, 4)
    x = xp.asarray(n)
    i, j = [np.array(data.draw(st.lists(st.integers(-9, 9), min_size=2, max_size=2))) for _ in range(2)]
    k, m = xp.asarray(i), xp.asarray(j)
    same(x[k], n[i % 2])
    same(x[..., k], n[..., i % 4])
    same(x[:, k, m], n[:, i % 3, j % 4])
    same(x[k, :, m], n[i % 2, :, j % 4])
    same(x[None, 1, k], n[None, 1, i % 3])
    same(x[x > 5], n[n > 5])
    same(x[x[..., 0] > 5, k[:1]], n[n[..., 0] > 5, i[:1] % 4])
    same(xp.take(x, k, axis=1), n.take(i % 3, axis=1))
    same(x.take(k), n.take(i % 24))
    same(xp.take_along_axis(x[0, 0], k, axis=0), n[0, 0][i % 4])
    x[0, 0, k] = -1.0
    n[0, 0, i % 4] = -1.0
    xp.put_along_axis(x[1, 1], m, -2.0, axis=0)
    n[1, 1, j % 4] = -2.0
    xp.add.at(x, (k, 0), 1.0)
    np.add.at(n, (i % 2, 0), 1.0)
    same(x, n)


@pytest.mark.parametrize("key", [2, (0, 3), (0, 0, 0), (Ellipsis, Ellipsis)])
def test_wrong_indices_raise_as_in_numpy(key):
    with pytest.raises(IndexError):
        A[key]
    with pytest.raises(IndexError):
        xp.zeros((0, 3))[xp.asarray([0])]


@pytest.mark.parametrize("name", sorted(strict.AT))
def test_at_adds_repeatedly(name):
    x, i, v = array(4, dtype="int32"), xp.asarray([1, 1, 3]), xp.asarray(np.array([2, 5, -1], "int32"))
    n = x.get()
    getattr(xp, name).at(x, i, v)
    getattr(np, name).at(n, i.get(), v.get())
    same(x, n)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # outside the domain both give the same NaN
@pytest.mark.parametrize("name", sorted(UFUNCS))
def test_every_ufunc_computes_what_numpy_computes(name):
    f, g = getattr(xp, name), getattr(np, name)
    for dtype in ("float64", "int64", "bool"):
        inputs = [np.arange(1, 4).astype(dtype)] * g.nin
        try:
            expected = g(*inputs)
        except TypeError:
            with pytest.raises(TypeError):
                f(*map(xp.asarray, inputs))
            continue
        got = f(*map(xp.asarray, inputs))
        for a, b in zip(got, expected, strict=True) if g.nout > 1 else [(got, expected)]:
            same(a, b)


SQUARE = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
ARGUMENTS = {
    "zeros": ((2, 3),), "ones": ((2, 3),), "empty": ((0, 3),), "full": ((2,), 5.0), "full_like": (SQUARE, 5.0),
    "empty_like": (SQUARE[:0],), "arange": (5,), "linspace": (0.0, 1.0, 5), "eye": (3,), "identity": (3,), "tri": (3,),
    "meshgrid": (SQUARE[0], SQUARE[1]), "astype": (SQUARE, "int32"), "reshape": (SQUARE, (9,)),
    "swapaxes": (SQUARE, 0, 1), "moveaxis": (SQUARE, 0, 1), "rollaxis": (SQUARE, 1), "expand_dims": (SQUARE, 0),
    "broadcast_to": (SQUARE, (2, 3, 3)), "broadcast_arrays": (SQUARE, SQUARE[0]), "split": (SQUARE, 3),
    "array_split": (SQUARE, 2), "roll": (SQUARE, 1), "tile": (SQUARE, 2), "repeat": (SQUARE, 2), "pad": (SQUARE, 1),
    "lib.stride_tricks.as_strided": (SQUARE, (2,), (8,)), "lib.stride_tricks.sliding_window_view": (SQUARE, 2, 0),
    "where": (SQUARE > 1, SQUARE, 0.0), "clip": (SQUARE, 1.0, 2.0), "copyto": (SQUARE.copy(), SQUARE),
    "take": (SQUARE, np.array([0, 2])), "take_along_axis": (SQUARE, np.array([[0, 2]]), 1),
    "put_along_axis": (SQUARE.copy(), np.array([[0, 2]]), 1.0, 1), "searchsorted": (np.arange(4.0), SQUARE),
    "partition": (SQUARE, 1), "argpartition": (SQUARE[1], 1), "bincount": (np.array([0, 2, 2]),),
    "digitize": (SQUARE, np.arange(4.0)), "einsum": ("ij,jk->ik", SQUARE, SQUARE), "linalg.matrix_power": (SQUARE, 3),
    "squeeze": (SQUARE[:1],), "result_type": ("float32", "int64"), "shape": (SQUARE,), "ndim": (SQUARE,),
    **dict.fromkeys(words("concatenate concat stack hstack vstack"), ([SQUARE, SQUARE],)),
    **dict.fromkeys(
        words("matmul dot vdot tensordot inner outer kron isclose allclose array_equal linalg.solve"), (SQUARE, SQUARE),
    ),
    **dict.fromkeys(words("may_share_memory shares_memory"), (SQUARE, SQUARE.copy())),
}  # fmt: skip


def moved(x):
    return xp.asarray(x) if isinstance(x, np.ndarray) else [moved(v) for v in x] if isinstance(x, list) else x


def back(x):
    if isinstance(x, tuple | list):
        return [back(v) for v in x]
    return x.get() if isinstance(x, StrictArray) else x


@pytest.mark.parametrize("name", sorted(table(FUNCTIONS)))
def test_every_function_computes_what_numpy_computes(name):
    arguments = ARGUMENTS.get(name, (SQUARE,))
    f, g = attrgetter(name)(xp), attrgetter(name)(np)
    expected, got = g(*arguments), f(*map(moved, arguments))
    flat = expected if isinstance(expected, tuple | list) and name != "shape" else [expected]
    for x, y in zip(flat, back(got) if flat is expected else [back(got)], strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
    if isinstance(expected, np.ndarray | np.floating):
        assert isinstance(got, StrictArray)  # NumPy gives nothing of its own away


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_constants_are_numpys(name):
    assert getattr(xp, name) is getattr(np, name)


def test_the_module_says_what_it_is():
    assert repr(xp) == "<module 'strict', a stand-in for CuPy>" and xp.linalg.__name__ == "strict.linalg"
    assert xp.asarray(A) is A and xp.asarray(A, "float32").dtype == np.float32 and xp.array(A) is not A
    assert isinstance(xp.asnumpy(A), np.ndarray) and repr(xp.asarray(1.0)) == "strict array(1.)"


# --------------------------------------------------------------------------------------------------------- in an op


def stand_in_report(operation, monkeypatch):
    """What `opcheck` says about the stand-in, also on a machine with a GPU."""
    monkeypatch.setattr(mg.debug.opcheck.__globals__["backend"], "backends", dict(mg.backend.backends))
    monkeypatch.setattr(mg.backend, "only_numpy", mg.backend.only_numpy)
    monkeypatch.setitem(mg.debug.opcheck.__globals__, "gpu_or_stand_in", lambda: mg.device("strict"))
    report = mg.debug.opcheck(operation, np.linspace(0.5, 2.0, 6).reshape(2, 3), raise_on_failure=False)
    return next(check for check in report.checks if check.name == "NumPy equals the CuPy stand-in")


PLANTED = {
    "right": (lambda xp, x: xp.exp(x), ""),
    "a NumPy function": (lambda xp, x: np.exp(x), "numpy.exp called"),
    "a conversion": (lambda xp, x: xp.exp(xp.asarray(np.asarray(x))), "Implicit conversion"),
    "a NumPy operand": (lambda xp, x: xp.exp(x + np.zeros(x.shape)), "Unsupported type"),
    "a keyword": (lambda xp, x: xp.exp(x) + 0 * xp.sum(x, where=x > 9), "'where'"),
    "an unknown function": (lambda xp, x: xp.exp(x) + 0 * xp.spacing(x), "CuPy has no function 'spacing'"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_mistake_in_an_op_is_caught(kind, monkeypatch):
    run, complaint = PLANTED[kind]
    planted = mg.op(types.FunctionType(run.__code__, {"np": np, "__name__": __name__}, "planted"))
    planted.defvjp(lambda F, g, y, x: g * y)
    check = stand_in_report(planted, monkeypatch)
    assert check.ok == (kind == "right")
    assert complaint in "".join(check.reasons)


# ----------------------------------------------------------------------------------------------------- against CuPy


def fits(ours, theirs):
    """Whether each call that one signature takes is a call that the other takes."""
    if any(p.kind is p.VAR_KEYWORD for p in theirs.values()):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    a, b = [[p.name for p in s.values() if p.kind in positional] for s in (ours, theirs)]
    return a == b[: len(a)] and set(ours) <= set(theirs)


def test_the_stand_in_offers_nothing_that_cupy_lacks():
    """Needs CuPy, but no GPU: that imports without one."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    for name, ours in table(FUNCTIONS).items():
        assert fits(ours.parameters, inspect.signature(attrgetter(name)(cupy)).parameters), name
    for name in UFUNCS:
        assert isinstance(getattr(cupy, name), cupy.ufunc), name
    for name in [*CONSTANTS, "array", "asarray", "asnumpy", "from_dlpack"]:
        assert hasattr(cupy, name), name
    for name in [*table(METHODS), *(n for n in dir(StrictArray) if n not in ("__slots__", "__weakref__", "_array"))]:
        assert hasattr(cupy.ndarray, name) or name in dir(type), name
    assert not [name for name in ABSENT if hasattr(cupy, name)]
    for name in strict.AT:
        assert hasattr(getattr(cupy, name), "at")
