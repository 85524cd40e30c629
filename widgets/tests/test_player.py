"""What the player says of a run, against the engine's own gradients and numbers worked out by hand."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.errors import ArgumentError, GraphError
from minigraph_widgets import PropagationPlayer
from minigraph_widgets.recording import argument_tensors, record
from minigraph_widgets.values import SAMPLE, SIDE, statistics, summary


def film_of(fn, *inputs, **options):
    return PropagationPlayer(fn, *inputs, **options).document


def told(document, what):
    """The frames of a kind: (title of the box, text of the value)."""
    return [
        (document["boxes"][f["box"]]["title"], document["values"][f["value"]]["text"])
        for f in document["frames"]
        if f["what"] == what
    ]


def test_every_number_of_a_small_run():
    d = film_of(lambda w, x, b: mg.tanh(w * x + b) ** 2 + x, 0.5, 2.0, -1.5)
    assert told(d, "value") == [
        ("multiply", "1"),
        ("add", "-0.5"),
        ("tanh", "-0.4621"),
        ("pow", "0.2136"),
        ("add", "2.214"),
    ]
    # by hand: d/du tanh(u)^2 = 2 tanh(u) (1 - tanh(u)^2) at u = -0.5
    g = 2 * np.tanh(-0.5) * (1 - np.tanh(-0.5) ** 2)
    assert told(d, "accumulate") == [("w", f"{2 * g:.4g}"), ("x", f"{0.5 * g + 1:.4g}"), ("b", f"{g:.4g}")]
    assert [f["phase"] for f in d["frames"]].count("loss") == 1


def test_where_paths_meet_the_parts_add_up():
    d = film_of(lambda x: x * x + x * 3.0, 2.0)
    (leaf,) = [f for f in d["frames"] if f["what"] == "accumulate"]
    parts = [float(d["values"][c["value"]]["text"]) for c in leaf["came"]]
    assert sorted(parts) == [2.0, 2.0, 3.0]
    assert sum(parts) == float(d["values"][leaf["value"]]["text"]) == 7.0
    arrows = [tuple(c["along"]) for c in leaf["came"]]
    assert len(set(arrows)) == 3  # each along an arrow of its own, x * x along two


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), st.integers(0, 2**16))
def test_local_derivative_times_what_arrives_is_what_is_sent(numbers, seed):
    """Along a random chain of scalar operations, by the engine's own gradients."""
    rng = np.random.default_rng(seed)
    steps = [mg.tanh, mg.sin, lambda v: v * 0.7, lambda v: v + 1.0, mg.sigmoid, lambda v: v**2]
    chosen = rng.integers(0, len(steps), 4)

    def f(a, b, c):
        v = a * b
        for k in chosen:
            v = steps[k](v)
        return v * c

    run = record(f, argument_tensors(f, numbers, True))
    wanted = mg.grad(f, argnums=(0, 1, 2))(*[mg.tensor(v) for v in numbers])
    found = {e.node.name: e.value for e in run.events if e.kind == "accumulate"}
    for name, g in zip("abc", wanted, strict=True):
        np.testing.assert_allclose(found[name], g.numpy(), rtol=1e-6)
    sums = {}
    for e in run.events:
        if e.kind == "rule":
            x = e.node.inputs[e.index]
            sums[id(x)] = sums.get(id(x), 0) + e.value
        elif e.kind == "gradient" and id(e.node) in sums:
            np.testing.assert_allclose(e.value, sums[id(e.node)], rtol=1e-6)


def test_no_gradient_yet_is_not_zero():
    d = film_of(lambda x, n: (x * n).sum(), np.zeros(3, "f4"), np.arange(3))
    boxes = {v["title"]: k for k, v in d["boxes"].items()}
    assert not any(f["box"] == boxes["n"] and f["what"] in ("gradient", "accumulate") for f in d["frames"])
    assert ("x", "[0, 1, 2]") in told(d, "accumulate")


def test_without_an_optimiser_nothing_changes():
    model = mg.nn.Linear(2, 1)
    before = model.weight.numpy().copy()
    model.weight.grad = mg.ones((1, 2))
    film_of(model, np.ones((4, 2), "f4"))
    np.testing.assert_array_equal(model.weight.grad.numpy(), np.ones((1, 2)))
    np.testing.assert_array_equal(model.weight.numpy(), before)
    assert model.bias.grad is None


def test_rounds_train_as_a_loop_does():
    def setup():
        model = mg.nn.Linear(2, 1)
        model.load_state_dict({"weight": np.array([[0.5, -1.0]], "f4"), "bias": np.array([0.25], "f4")})
        return model, mg.optim.SGD(model.parameters(), lr=0.1)

    x = np.array([[1.0, 2.0], [0.5, -1.0]], "f4")
    model, optimizer = setup()
    d = film_of(lambda x: (model(x) ** 2).mean(), mg.tensor(x), optimizer=optimizer, rounds=3)
    other, twin = setup()
    for _ in range(3):
        twin.zero_grad()
        (other(mg.tensor(x)) ** 2).mean().backward()
        twin.step()
    np.testing.assert_array_equal(model.weight.numpy(), other.weight.numpy())
    last = [f for f in d["frames"] if f["what"] == "update" and d["boxes"][f["box"]]["title"] == "weight"][-1]
    assert d["values"][last["value"]]["text"] == summary(other.weight.numpy())["text"]
    assert len(d["rounds"]) == 3 and {f["phase"] for f in d["frames"]} >= {"update", "loss", "accumulate"}


def test_a_step_that_calls_backward_itself():
    model = mg.nn.Linear(2, 1)

    def step(x):
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    d = film_of(step, mg.tensor(np.ones((3, 2), "f4")))
    assert [title for title, _ in told(d, "accumulate")] == ["weight", "bias"]


def test_a_graph_a_module_and_a_compiled_function_play():
    with mg.record() as g:
        mg.tanh(mg.tensor(0.5, requires_grad=True, name="x") * 2.0)
    assert told(film_of(g), "accumulate")
    with mg.Graph() as defined:
        mg.sin(mg.placeholder((), name="x")) + 1.0
    assert [t for t, _ in told(film_of(defined, 0.5), "value")] == ["sin", "add"]
    compiled = mg.compile(lambda x: mg.sin(x) * x)
    assert [t for t, _ in told(film_of(compiled, 0.5), "accumulate")] == ["x"]


def test_a_run_that_fails_is_shown_up_to_there():
    d = film_of(lambda x: mg.matmul(mg.tanh(x), mg.ones((3, 2))), np.ones((2, 2), "f4"))
    assert d["error"].startswith("ShapeError: matmul: inner sizes differ")
    assert d["frames"][-1]["what"] == "error"
    assert d["boxes"][d["frames"][-1]["box"]]["title"] == "matmul failed"
    assert [t for t, _ in told(d, "value")] == ["tanh"]


def test_nan_and_empty_arrays_are_said():
    d = film_of(lambda x: mg.log(x), np.array(-1.0, "f4"))
    assert "contains NaN" in next(f["say"] for f in d["frames"] if f["what"] == "value")
    d = film_of(lambda x: (x * 2.0).sum(), np.zeros((0, 3), "f4"))
    assert ("multiply", "empty") in told(d, "value")


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: PropagationPlayer(3.0), ArgumentError, "cannot be run"),
        (lambda: PropagationPlayer(lambda x: x, 1.0), ArgumentError, "nothing was computed"),
        (lambda: PropagationPlayer(lambda x: x * 2, 1.0, rounds=0), ArgumentError, "rounds"),
        (lambda: PropagationPlayer(growing(), 1.0, rounds=2), GraphError, "round 2 has another graph"),
    ],
)
def test_bad_input(make, error, says):
    with pytest.raises(error, match=says):
        make()


def growing():
    calls = []

    def f(x):
        calls.append(1)
        for _ in calls:
            x = x * 2.0
        return x

    return f


def test_an_error_before_the_first_operation_is_the_users():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        PropagationPlayer(f, 1.0)


def test_names_cannot_inject_anything(saved):
    evil = '</script><img src=x onerror="document.title=1">"&<b>{0}%\\u2028'
    player = PropagationPlayer(lambda x: mg.tanh(x), mg.tensor(0.5, name=evil, requires_grad=True))
    html = player.to_html()
    assert "<img src=x" not in re.sub(r'src="data:[^"]*"', "", html)
    page = saved(player)
    page.locator(".mgw-player").focus()
    page.keyboard.press("End")
    assert evil[:9] in page.locator(".mgw-status").inner_text()
    assert page.title() == "Propagation"
    assert page.locator("img[src=x]").count() == 0


def test_the_same_run_gives_the_same_bytes():
    def make():
        return PropagationPlayer(lambda w, x: mg.tanh(w * x), 0.5, np.arange(24.0, dtype="f4").reshape(4, 6))

    a, b = make(), make()
    assert json.dumps(a.document) == json.dumps(b.document)
    assert a.fragment(False).replace(a.name, "") == b.fragment(False).replace(b.name, "")
    assert b.name == f"{a.name}-2" or a.name.rpartition("-")[0] == b.name.rpartition("-")[0]


# --------------------------------------------------------------------------------------------------------- summaries


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32), min_size=7, max_size=60))
def test_statistics_are_those_of_numpy(numbers):
    a = np.array(numbers, "f4")
    found, finite = statistics(a), a[np.isfinite(a)].astype("f8")
    assert found["nan"] == np.isnan(a).sum() and found["inf"] == np.isinf(a).sum() and found["zero"] == (a == 0).sum()
    if finite.size:
        np.testing.assert_allclose(float(found["min"]), finite.min(), rtol=1e-3)
        np.testing.assert_allclose(float(found["mean"]), finite.mean(), rtol=1e-3, atol=1e-3 * abs(finite).max())
    json.dumps(summary(a), allow_nan=False)


def test_a_large_array_is_sampled_and_never_copied():
    a = np.broadcast_to(np.float32(2.0), (30_000, 10_000))  # 1.2 GB, if somebody copied it
    found = summary(a)
    assert found["stats"]["sampled"] <= SAMPLE < found["stats"]["size"] == a.size
    assert max(found["map"]["size"]) <= SIDE
    assert len(json.dumps(found)) < 2000


def test_a_player_takes_up_little():
    model = mg.nn.Sequential(mg.nn.Linear(64, 128), mg.nn.ReLU(), mg.nn.Linear(128, 10))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 64)).astype("f4"), rng.integers(0, 10, 64)
    player = PropagationPlayer(lambda x, y: mg.nn.functional.cross_entropy(model(x), y), mg.tensor(x), mg.tensor(y))
    assert len(player.fragment(False)) < 80_000
