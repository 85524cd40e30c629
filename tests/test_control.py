"""cond, while_loop and scan: the same in both modes, with gradients of any order."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.errors import ArgumentError, ShapeError

pytestmark = pytest.mark.usefixtures("each_backend")

x64 = lambda *values: mg.tensor(np.array(values, dtype="float64"))  # noqa: E731


def both(f, *args, rtol=1e-12):
    """Value, gradient and Hessian, dynamic and static: checked equal, returned."""
    results = []
    for g in (f, mg.grad(f), mg.hessian(f)):
        dynamic, static = g(*args), mg.compile(g)(*args)
        np.testing.assert_allclose(static.numpy(), dynamic.numpy(), rtol=rtol, atol=1e-12)
        results.append(dynamic.numpy())
    return results


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cond(sign):
    f = lambda x: (mg.cond(x.sum() > 0, lambda x: x**3, lambda x: mg.sin(x), x) * x).sum()  # noqa: E731
    x = x64(0.5 * sign, 1.5 * sign)
    value, gradient, hessian = both(f, x)
    v = x.numpy()
    expected = v**4 if sign > 0 else np.sin(v) * v
    slope = 4 * v**3 if sign > 0 else np.cos(v) * v + np.sin(v)
    curve = 12 * v**2 if sign > 0 else 2 * np.cos(v) - np.sin(v) * v
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-12)
    np.testing.assert_allclose(hessian, np.diag(curve), rtol=1e-12, atol=1e-14)


def test_only_the_chosen_branch_runs():
    ran = []

    class Watch(mg.debug.Hook):
        def after(self, node, value):
            ran.append(node.op.name)

    f = mg.compile(lambda p, x: mg.cond(p, lambda x: mg.exp(x), lambda x: mg.log(x), x))
    assert f(mg.tensor(True), mg.tensor(0.0)).item() == 1.0
    with np.errstate(all="raise"):  # log(0) is never computed
        f(mg.tensor(True), mg.tensor(0.0))


def test_scan_is_a_recurrent_network():
    rng = np.random.default_rng(0)
    w, xs = mg.tensor(rng.normal(size=(3, 3)) * 0.5), mg.tensor(rng.normal(size=(6, 3)))

    def f(w):
        h, ys = mg.scan(
            lambda h, x: ((h2 := mg.tanh(w @ h + x)), {"h": h2, "s": h2.sum()}), mg.zeros(3, dtype="float64"), xs
        )
        return (ys["h"] ** 2).sum() + h.sum() + ys["s"][0]

    h, total, first = np.zeros(3), 0.0, None
    for x in xs.numpy():
        h = np.tanh(w.numpy() @ h + x)
        total, first = total + (h**2).sum(), h.sum() if first is None else first
    value, gradient, _ = both(f, w, rtol=1e-9)
    np.testing.assert_allclose(value, total + h.sum() + first, rtol=1e-12)
    eps = 1e-6
    d = np.zeros((3, 3))
    d[1, 2] = eps
    numeric = (f(mg.tensor(w.numpy() + d)).item() - f(mg.tensor(w.numpy() - d)).item()) / (2 * eps)
    assert gradient[1, 2] == pytest.approx(numeric, rel=1e-6)


def test_scan_in_reverse_and_by_length():
    xs = mg.arange(4)
    for f in (lambda xs: mg.scan(lambda c, x: (c + x, c), mg.tensor(0), xs, reverse=True),):
        for g in (f, mg.compile(f)):
            carry, ys = g(xs)
            assert carry.item() == 6 and ys.numpy().tolist() == [6, 5, 3, 0]
    powers = lambda x: mg.scan(lambda c, _: (c * x, c), mg.tensor(1.0), length=4)  # noqa: E731
    for g in (powers, mg.compile(powers)):
        assert g(mg.tensor(2.0))[1].numpy().tolist() == [1, 2, 4, 8]


def test_while_loop_whose_length_depends_on_the_data():
    def f(x):
        return mg.while_loop(
            lambda s: (s["x"] ** 2).sum() < 100.0,
            lambda s: {"x": s["x"] ** 2 * 1.1, "n": s["n"] + 1},
            {"x": x, "n": mg.tensor(0)},
        )

    x = x64(1.5, 1.2)
    assert f(x)["n"].item() == mg.compile(f)(x)["n"].item() > 1
    both(lambda x: f(x)["x"].sum(), x)


def test_loops_carry_the_variables_that_their_body_assigns():
    counter, generator = mg.Variable(0), mg.random.Generator(7)

    def f(x):
        def body(c, _):
            counter.assign(counter + 1)
            return c + generator.uniform(()), c

        return mg.scan(body, x, length=5)

    dynamic = f(mg.tensor(0.0))
    state = generator.state.numpy().copy()
    assert counter.item() == 5
    counter.assign(0)
    generator.state.assign(mg.random.Generator(7).state.read())
    static = mg.compile(f)(mg.tensor(0.0))
    np.testing.assert_array_equal(static[1].numpy(), dynamic[1].numpy())
    assert counter.item() == 5 and (generator.state.numpy() == state).all()


def test_variables_are_parameters_inside_a_scan():
    w = mg.Variable(0.5, dtype="float64", requires_grad=True, name="w")
    f = lambda x: mg.scan(lambda h, x: (mg.tanh(w * h + x), None), mg.tensor(0.0, dtype="float64"), x)[0]  # noqa: E731
    x = x64(0.1, 0.2, 0.3)
    f(x).backward()
    expected = w.grad.item()
    w.grad = None

    @mg.compile
    def step(x):
        loss = f(x)
        loss.backward()
        return loss

    step(x)
    assert w.grad.item() == pytest.approx(expected, rel=1e-12)


def test_nested_graphs_are_part_of_the_graph():
    f = mg.compile(lambda x: mg.cond(x > 0, lambda x: x * 2, lambda x: -x, x))
    f(mg.tensor(1.0))
    assert "cond(" in str(f.graph) and "where true_fn" in str(f.graph)
    node = next(n for n in f.graph.nodes if n.op and n.op.name == "cond")
    assert [n.op.name for n in node.attrs["true_graph"].operations] == ["multiply"]


@pytest.mark.parametrize(
    ("f", "error", "text"),
    [
        (lambda x: mg.cond(x.sum() > 0, lambda x: x, lambda x: x[:1], x), ShapeError, "same shapes"),
        (lambda x: mg.cond(x.sum() > 0, lambda x: x, lambda x: (x, x), x), ArgumentError, "same structure"),
        (lambda x: mg.cond(x > 0, lambda x: x, lambda x: x, x), ShapeError, r"single truth value(.|\n)*mg.any"),
        (
            lambda x: mg.while_loop(lambda x: x.sum() > 0, lambda x: x[:1], x),
            ShapeError,
            "shapes and dtypes it was given",
        ),
        (
            lambda x: mg.scan(lambda c, x: (c.astype("int64"), None), mg.tensor(0.0), x),
            ShapeError,
            "shapes and dtypes it was given",
        ),
        (lambda x: mg.scan(lambda c, x: c, mg.tensor(0.0), x), ArgumentError, "must return a pair"),
        (lambda x: mg.scan(lambda c, x: (c, x), mg.tensor(0.0)), ArgumentError, "how many steps"),
        (lambda x: mg.scan(lambda c, x: (c, x), mg.tensor(0.0), x, length=7), ShapeError, "must agree"),
    ],
)
def test_mistakes_are_explained(f, error, text):
    with pytest.raises(error, match=text):
        mg.compile(f)(mg.tensor([1.0, 2.0]))
