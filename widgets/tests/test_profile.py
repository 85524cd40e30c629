"""The profile against counts by hand, and against the engine's own."""

import json

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler import Profile as Measured
from minigraph_widgets import Profile
from minigraph_widgets.charts import linear, logarithmic, powers, ticks
from minigraph_widgets.view import to_json


def f(x, w):
    return mg.tanh(x @ w)


@pytest.fixture(scope="module")
def view():
    return Profile(mg.compile(f), mg.ones((8, 4)), mg.ones((4, 2)), calls=3)


def test_counts_are_those_of_the_formulas(view):
    product, tanh = view.document["rows"]
    assert (product["flops"], product["read"], product["written"]) == (2 * 8 * 4 * 2, 4 * (32 + 8), 4 * 16)
    assert (tanh["flops"], tanh["read"] + tanh["written"]) == (16, 4 * 2 * 16)


def test_times_are_those_that_were_measured(view):
    for row, r in zip(view.document["rows"], view.profile.rows, strict=True):
        assert row["best"] == pytest.approx(r.best, rel=1e-3)
        assert row["least"] == pytest.approx(r.least, rel=1e-3)
    machine = view.document["machine"]
    assert machine["levels"][-1][1] is None
    assert machine["single"] == pytest.approx(view.profile.roofline.single, rel=1e-3)


def test_a_profile_that_was_measured_before_is_shown_the_same_twice(view):
    a, b = Profile(view.profile), Profile(view.profile)
    assert to_json(a.document) == to_json(b.document)
    assert a.picture == b.picture


def test_without_inputs_the_last_ones_are_used():
    g = mg.compile(f)
    g(mg.ones((3, 4)), mg.ones((4, 5)))
    assert Profile(g, calls=2).document["rows"][0]["flops"] == 2 * 3 * 4 * 5


def test_variables_are_as_before():
    counter = mg.Variable(np.zeros(3), name="counter")

    def step():
        counter.assign(counter + 1.0)
        return counter * 2.0

    g = mg.compile(step, backend="numpy")
    g()
    Profile(g, calls=4)
    assert counter.numpy().tolist() == [1.0, 1.0, 1.0]


def test_float64_has_its_own_ceiling():
    doc = Profile(mg.compile(f), mg.ones((8, 4), dtype="float64"), mg.ones((4, 2), dtype="float64"), calls=2).document
    assert all(r["double"] for r in doc["rows"])


def test_names_are_escaped(view):
    row = view.profile.rows[0]._replace(name="</script><b>x")
    evil = Profile(Measured("<i>f", "numpy", [row], np.ones((2, 2)), view.profile.roofline))
    page = evil.fragment(carry=False)
    assert page.count("</script>") == 2
    assert "<b>x" not in page
    assert "<i>f" not in page


def test_no_steps_no_arithmetic_and_no_ceilings(view):
    nothing = Profile(Measured("f", "numpy", [], np.ones((1, 1)), view.profile.roofline))
    assert "nothing is computed" in nothing.document["what"]
    moves = view.profile.rows[0]._replace(flops=0, read=0, written=0, least=None)
    flat = Profile(Measured("f", "numpy", [moves], np.ones((1, 2)), None))
    assert flat.document["machine"] is None
    assert "<svg" not in flat.picture
    json.loads(to_json(flat.document))


def test_ten_thousand_steps_are_cut_to_the_longest(view):
    row = view.profile.rows[0]
    rows = [row._replace(number=k, best=1e-6 * (k + 1)) for k in range(10_000)]
    doc = Profile(Measured("f", "numpy", rows, np.ones((1, 10_001)), view.profile.roofline)).document
    assert len(doc["rows"]) == 1000
    assert doc["rows"][0]["number"] == 9000
    assert "1,000 longest of 10,000" in doc["notes"][0]
    assert len(to_json(doc)) < 500_000


def test_errors_teach():
    with pytest.raises(mg.errors.GraphError, match="has not been called yet"):
        Profile(mg.compile(f))
    with pytest.raises(mg.errors.ArgumentError, match="no steps to time"):
        Profile(3)
    with pytest.raises(mg.errors.ArgumentError, match="calls"):
        Profile(mg.compile(f), mg.ones((8, 4)), mg.ones((4, 2)), calls=0)


@pytest.mark.parametrize(("lo", "hi"), [(0, 1), (-3, 7), (1e-9, 2e-9), (0, 1e12), (99.5, 100.5)])
def test_ticks_are_even_and_inside(lo, hi):
    found = ticks(lo, hi)
    steps = np.diff(found)
    assert 3 <= len(found) <= 9
    assert np.allclose(steps, steps[0])
    assert lo - 1e-12 <= found[0]
    assert found[-1] <= hi * (1 + 1e-9)


def test_scales_map_ends_to_ends():
    assert [linear((2, 4), (10, 0))(v) for v in (2, 3, 4)] == [10, 5, 0]
    assert logarithmic((1, 100), (0, 10))(10) == pytest.approx(5)
    assert powers(3, 50) == [10]
