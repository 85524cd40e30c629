"""Both modes refuse the same inputs: what dynamic mode computes, static mode must not refuse, and the other way round.

In dynamic mode an array library decides what runs, in static mode `infer` does, and an array library is generous: it
broadcasts a single label against a batch, and takes integers where a gradient needs floats. So every operation of the
catalogue is called with its own samples after small changes (another dtype, an axis more, less, shorter or empty), with
values and with placeholders, through the raw operation and through the public function.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph import ops
from minigraph.debug.opcheck import parts, read_sample
from minigraph.errors import BoundsError, MinigraphError
from minigraph.op import OPS, Op, spec_of
from minigraph.tensor import Tensor, bind

DTYPES = ("f2", "f4", "f8", "i8", "i4", "u1", "b1")
SAMPLED = sorted(name for name, op in OPS.items() if op.builtin and op.samples is not None)


def changed(arrays: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The arrays, and what becomes of them when one of them is changed a little."""
    yield arrays
    for k, a in enumerate(arrays):
        others = [a.astype(dtype) for dtype in DTYPES]
        others += [a[None], a[..., None], np.zeros((), a.dtype)]
        for axis, n in enumerate(a.shape):
            others += [a.take(range(m), axis) for m in {0, 1, n - 1} if 0 <= m < n]
            others.append(np.concatenate([a, a], axis))
        for other in others:
            yield [*arrays[:k], other, *arrays[k + 1 :]]


def outcome(call: Callable[..., Any], *inputs: Any, **attrs: Any) -> Any:
    """The shapes and dtypes of the results, or the error."""
    try:
        result = call(*inputs, **attrs)
    except Exception as error:
        return error
    return [
        [(tuple(v.shape), np.dtype(v.dtype)) for v in parts(t.value)] if isinstance(t, Tensor) else t
        for t in parts(result)
    ]


def disagreements(call: Callable[..., Any], op: Op) -> list[str]:
    """The calls whose outcome depends on the mode. Wrong *values* (labels, indices) can only be found when it runs."""
    found = []
    for sample in map(read_sample, op.samples(np.random.default_rng(0))):
        for arrays in changed(list(sample.arrays)):
            with np.errstate(all="ignore"):
                dynamic = outcome(call, *map(Tensor, arrays), **sample.attrs)
            with mg.Graph():
                inputs = [mg.placeholder(a.shape, a.dtype) for a in arrays]
                static = outcome(call, *inputs, **sample.attrs)
            if isinstance(dynamic, BoundsError):
                continue
            if isinstance(dynamic, Exception) or isinstance(static, Exception):
                same = type(dynamic) is type(static) and isinstance(dynamic, MinigraphError)
                same = same and dynamic.what == static.what
            else:
                same = dynamic == static
            if not same:
                shown = ", ".join(repr(spec_of(a)) for a in arrays)
                found.append(f"{shown} {sample.attrs}\n  dynamic: {dynamic}\n  static: {static}")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLED)
def test_an_operation_refuses_the_same_in_both_modes(name):
    assert not disagreements(OPS[name], OPS[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in SAMPLED if hasattr(ops, name)])
def test_a_public_function_refuses_the_same_in_both_modes(name):
    function = getattr(ops, name)
    if name in ("concat", "stack"):  # they take a list
        assert not disagreements(lambda *tensors, **attrs: function(tensors, **attrs), OPS[name])
    else:
        assert not disagreements(function, OPS[name])


def half(xp, x):
    return x / 2


def half_infer(x):
    if x.dtype.kind != "f":
        raise mg.errors.DTypeError("half: x must be floating point", expected="float32", actual=f"{x!r}")
    return x


@pytest.fixture
def planted():
    """An operation whose `infer` is stricter than NumPy."""
    yield mg.op(half, infer=half_infer, samples=lambda rng: iter([((rng.standard_normal(3),), {})]))
    del OPS["half"]


def test_a_function_that_forgets_to_check_is_found(planted):
    assert not disagreements(planted, planted)
    careless = disagreements(lambda x: bind(planted, x), planted)
    assert len(careless) == 4  # the integers and the booleans


def test_a_shape_that_depends_on_values_is_refused_in_static_mode_only():
    x = mg.tensor([0, 3, 0, 4])
    assert [place.tolist() for place in parts(OPS["nonzero"](x).value)] == [[1, 3]]
    with mg.Graph(), pytest.raises(mg.errors.TraceError, match="depends on values"):
        OPS["nonzero"](mg.placeholder((4,), mg.int64))


def test_an_operation_made_by_exec_has_no_module():
    names = {"__name__": None}
    exec("def twice(xp, x):\n    return x * 2\n", names)
    assert names["twice"].__module__ is None
    twice = mg.op(names["twice"])
    assert twice(3.0).item() == 6.0 and not twice.builtin
    del OPS["twice"]
