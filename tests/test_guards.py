"""The guards of a compiled function, written as one expression: what they say is what comparing one by one says."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph import guards
from minigraph.guards import Attribute, Cell, Entry, Guard, Watch, snapshot

numbers = st.sampled_from([0, 1, 2, True, False, 0.0, -0.0, 1.0, math.nan, 10**20, "a", "1", b"a", None])
values = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.sets(st.integers(0, 3), max_size=3)
    ),
    max_leaves=6,
)


def same(a, b):
    """Whether two values are the same down to types, signs of zero and the order of dictionaries: for reference."""
    return repr(a) == repr(b) and type(a) is type(b)


def anew(value):
    """An equal value made of other objects."""
    if isinstance(value, dict):
        return {anew(k): anew(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)([anew(x) for x in value])
    return eval(repr(value), {"nan": math.nan}) if isinstance(value, float | int) else value


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from("pqrst"), values, min_size=1), st.data())
def test_a_watch_notices_a_change_and_nothing_but_a_change(world, data):
    watch = Watch([Guard(f"the {key}", Entry(world, key), snapshot(world[key])) for key in world])
    before = copy.deepcopy(world)
    assert watch.holds() and watch.change() is None
    for _ in range(3):
        key = data.draw(st.sampled_from(sorted(before)))
        kind = data.draw(st.sampled_from(["replace", "same", "empty", "inside"]))
        inside = world.get(key)
        if kind == "replace":
            world[key] = data.draw(values)
        elif kind == "same":
            world[key] = anew(before[key])
        elif kind == "empty":
            world.pop(key, None)
        elif isinstance(inside, list):
            inside[:] = data.draw(st.lists(values, max_size=3))
        elif isinstance(inside, dict):
            inside[data.draw(st.sampled_from("abc"))] = data.draw(values)
        elif isinstance(inside, set):
            inside ^= {1}
        expected = all(k in world and same(before[k], world[k]) for k in before)
        if watch.holds():
            assert expected
        assert (watch.change() is None) is expected
        assert watch.holds() or not expected  # equal objects do not send it the long way again and again


def test_each_way_of_looking_notices():
    held, owner = 1.5, type("Owner", (), {})()
    owner.flag = True

    def function():
        return held

    (cell,) = function.__closure__
    array = np.zeros(3)
    watch = Watch([
        Guard("held", Cell(cell), 1.5), Guard("owner.flag", Attribute(owner, "flag"), True),
        Guard("array", array.tobytes, array.tobytes()), Guard("size", lambda: len(array), 3),
        Guard("missing", Entry({}, "key"), guards.MISSING),
    ])  # fmt: skip
    assert watch.holds()
    held = 2.5
    assert watch.change() == "held changed from 1.5 to 2.5"
    del held
    assert watch.change() == "held changed from 1.5 to nothing"
    held = 1.5
    owner.flag = False
    assert watch.change() == "owner.flag changed from True to False"
    owner.flag = True
    array[1] = 7
    assert not watch.holds() and watch.change().startswith("array changed")
    array[1] = 0
    assert watch.change() is None and watch.holds()


def test_what_a_description_contains_is_not_run():
    world = {"a\nb'\0\ud800": 1}
    (key,) = world
    watch = Watch([Guard(key, Entry(world, key), 1)])
    assert watch.holds()
    world[key] = 2
    assert not watch.holds() and watch.change().endswith("changed from 1 to 2")


@pytest.mark.parametrize("forgotten", ["inside", "conditions"])
def test_a_watch_that_forgets_is_found(monkeypatch, forgotten):
    """Planted: what is in containers is not looked at; nothing is looked at."""
    monkeypatch.setattr(*((guards, "inside") if forgotten == "inside" else (Watch, "conditions")), lambda *args: ())
    with pytest.raises(AssertionError):
        test_a_watch_notices_a_change_and_nothing_but_a_change()


def test_a_hundred_guards_are_one_function():
    net = mg.nn.Sequential(*[mg.nn.Linear(3, 3) for _ in range(10)])
    f = mg.compile(lambda x: net(x).sum())
    x = mg.ones((2, 3))
    f(x), f(x)
    watch = f.last.watch
    assert len(watch.guards) > 50 and watch.source.count("['training'] is True") == 11 and watch.holds()
    net[3].training = False
    assert not watch.holds()
    f(x)
    assert f.traces[-1] == "Linear.training changed from True to False"
