"""The memory timeline against independent facts: sums by brute force, lives followed by hand, the plan."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import find_compiler
from minigraph_widgets import MemoryTimeline
from minigraph_widgets.memory import Life, Variant
from minigraph_widgets.view import to_json

BACKENDS = ["numpy", pytest.param("c", marks=pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler"))]
NAME, TYPE, NBYTES, START, END, AT, PLACE, OVER, AGAIN, STAYS = range(10)


def deep(x):
    y = x
    for _ in range(24):
        y = mg.sin(y)
    return y.sum()


def products(x):
    y = x
    for _ in range(24):
        y = mg.sin(y @ x)
    return y.sum()


def training():
    net = mg.nn.Sequential(mg.nn.Linear(8, 16), mg.nn.ReLU(), mg.nn.Linear(16, 3))
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = mg.nn.CrossEntropyLoss()(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, (mg.ones((4, 8)), mg.tensor([0, 1, 2, 0]))


def clashes(lives):
    """Pairs of values that are in the same bytes at the same time, unless one is written over the other."""
    found = []
    for i, a in enumerate(lives):
        for k, b in enumerate(lives[:i]):
            in_time = a[START] <= b[END] and b[START] <= a[END]
            in_space = a[AT] < b[AT] + b[NBYTES] and b[AT] < a[AT] + a[NBYTES]
            handed = a[OVER] == k and a[START] == b[END]
            if in_time and in_space and not handed:
                found.append((k, i))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_plan_is_shown_as_it_is(backend):
    step, batch = training()
    f = mg.compile(step, backend=backend)
    doc = MemoryTimeline(f, *batch).document
    planned, kept = doc["variants"][:2]
    plan = f.memory
    assert [planned["arena"], planned["peak"], planned["bound"]] == [plan.arena, plan.peak, plan.bound]
    assert [b[NBYTES] for b in planned["lives"]] == [b.nbytes for b in plan.buffers]
    assert [b[AT] for b in planned["lives"] if b[PLACE] == 0] == [
        b.offset for b in plan.buffers if b.offset is not None
    ]
    assert kept["peak"] == kept["bound"] == plan.without_reuse
    assert all(b[AT] >= plan.arena for b in planned["lives"] if b[PLACE] != 0)
    assert any(b[OVER] >= 0 for b in planned["lives"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_two_values_share_bytes_at_one_time(backend):
    step, batch = training()
    for v in MemoryTimeline(mg.compile(step, backend=backend), *batch).document["variants"]:
        assert clashes(v["lives"]) == []


def test_the_checker_of_clashes_sees_one():
    life = [0, 0, 64, 0, 3, 0, 0, -1, 0, 0]
    assert clashes([life, [0, 0, 8, 3, 4, 32, 0, -1, 0, 0]]) == [(0, 1)]
    assert clashes([life, [0, 0, 64, 3, 4, 0, 0, 0, 0, 0]]) == []


lives = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)), max_size=12)


@given(lives)
@settings(deadline=None)
def test_the_curve_is_the_sum_at_each_step(found):
    made = [Life("a", "", n, min(s, e), max(s, e), 0, 0) for s, e, n in found]
    v = Variant("", "", [("a", "", "")] * 10, made, 0, 0)
    assert v.curve == [sum(b.nbytes for b in made if b.start <= t <= b.end) for t in range(10)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_budget_is_kept_and_what_is_done_again_is_marked(backend):
    fn, x, budget = mg.grad(deep), mg.ones(1000), 60_000
    if backend == "c":
        fn, x, budget = mg.grad(products), mg.ones((32, 32)), 130_000
    doc = MemoryTimeline(mg.compile(fn, backend=backend), x, memory=budget).document
    planned, _, within = doc["variants"]
    assert planned["peak"] > budget >= within["peak"]
    assert not any(b[AGAIN] for b in planned["lives"])
    assert any(b[AGAIN] for b in within["lives"])
    twice = len(within["steps"]) - len(planned["steps"])
    assert twice > 0
    assert str(twice) in within["what"]
    other = MemoryTimeline(mg.compile(fn, backend=backend, memory=budget), x).document
    assert to_json(other["variants"]) == to_json(doc["variants"])


def test_without_a_budget_one_is_tried():
    doc = MemoryTimeline(mg.compile(mg.grad(deep), backend="numpy"), mg.ones(1000)).document
    assert [v["name"] for v in doc["variants"]][:2] == ["planned", "every value kept"]
    assert doc["variants"][2]["peak"] <= doc["variants"][0]["peak"] / 2


def test_a_dynamic_run_is_watched():
    def f(x):
        a = mg.exp(x)
        b = a + 1.0
        del a
        return mg.sin(b)

    doc = MemoryTimeline(f, mg.ones(1000)).document
    (run,) = doc["variants"]
    texts = doc["texts"]
    found = {texts[b[NAME]]: (b[START], b[END], b[STAYS]) for b in run["lives"]}
    assert found["exp"] == (0, 1, 0)  # freed between the second operation and the third
    assert found["add"][:2] == (1, 2)
    assert found["sin"] == (2, 2, 1)
    assert run["curve"] == [4000, 8000, 8000]


def test_a_dynamic_run_that_wants_gradients_keeps_what_backward_needs():
    w = mg.tensor(np.ones(1000), requires_grad=True)

    def f():
        loss = mg.sin(mg.exp(w)).sum()
        loss.backward()
        return w.grad

    doc = MemoryTimeline(f).document
    (run,) = doc["variants"]
    texts = doc["texts"]
    names = [texts[s[0]] for s in run["steps"]]
    assert names[:3] == ["exp", "sin", "sum"]
    assert names[3:] == ["backward of sum", "backward of sin", "backward of exp"]
    exp = next(b for b in run["lives"] if texts[b[NAME]] == "exp")
    assert exp[END] >= names.index("backward of sin")
    assert any(b[PLACE] == 4 and b[STAYS] for b in run["lives"])


def test_a_recorded_run_and_a_graph_by_hand():
    with mg.record() as g:
        mg.sin(mg.exp(mg.ones(10)))
    with mg.Graph() as h:
        mg.sin(mg.exp(mg.placeholder((10,))))
    for graph in (g, h):
        planned, kept = MemoryTimeline(graph).document["variants"]
        assert [b[NBYTES] for b in planned["lives"]] == [40, 40]
        assert kept["peak"] == 80


def test_names_are_escaped_and_the_same_twice():
    def evil(x):
        return mg.exp(x) * 2.0

    evil.__name__ = "</script><b>&"
    made = [MemoryTimeline(mg.compile(evil, backend="numpy"), mg.ones(3)) for _ in range(2)]
    pages = [re.sub(r"mg-[0-9a-f]{12}(-\d+)?", "", m.fragment(carry=False)) for m in made]
    assert pages[0] == pages[1]
    assert pages[0].count("</script>") == 2
    assert "<b>&" not in pages[0]


def test_zero_sizes_and_nothing_at_all():
    empty = MemoryTimeline(mg.compile(lambda x: mg.exp(x), backend="numpy"), mg.ones((0, 3)))
    assert empty.document["variants"][0]["curve"] == [0]
    nothing = MemoryTimeline(mg.compile(lambda x: x, backend="numpy"), mg.ones(3))
    assert nothing.document["variants"][0]["steps"] == []
    json.loads(to_json(nothing.document))


def test_a_large_plan_stays_small():
    def chain(x):
        for _ in range(5000):
            x = mg.sin(x)
        return x

    view = MemoryTimeline(mg.compile(chain, backend="numpy", passes=()), mg.ones(10))
    assert len(view.document["variants"][0]["lives"]) == 5000
    assert len(view.fragment(carry=False)) < 900_000
    assert view.picture.count("<rect") <= 400


def test_errors_teach():
    f = mg.compile(lambda x: x + 1.0, backend="numpy")
    with pytest.raises(mg.errors.GraphError, match="has not been called yet"):
        MemoryTimeline(f)
    with pytest.raises(mg.errors.ArgumentError, match="no memory to look at"):
        MemoryTimeline(3)
    with pytest.raises(mg.errors.ArgumentError, match="keeps to no budget"):
        MemoryTimeline(lambda x: x, mg.ones(2), memory="1MB")
    with pytest.raises(mg.errors.ArgumentError, match="budget"):
        MemoryTimeline(mg.compile(mg.grad(deep), backend="numpy"), mg.ones(1000), memory=10)
    with mg.record() as g:
        mg.exp(mg.ones(2))
    with pytest.raises(mg.errors.ArgumentError, match="shown as it is"):
        MemoryTimeline(g, memory=100)
