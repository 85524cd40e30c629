"""Differentiation against closed forms, finite differences, and itself in the other mode."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.errors import ArgumentError, DTypeError, GraphError, ShapeError

pytestmark = pytest.mark.usefixtures("each_backend")

f64 = lambda *shape, seed=0: mg.tensor(np.random.default_rng(seed).normal(size=shape))  # noqa: E731
MODES = [pytest.param(lambda f: f, id="dynamic"), pytest.param(mg.compile, id="static")]


def numeric(f, x, eps=1e-6):
    """Central differences of a scalar function of one float64 tensor."""
    x = x.numpy()
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = eps
        g[i] = (f(mg.tensor(x + d)).item() - f(mg.tensor(x - d)).item()) / (2 * eps)
    return g


def rosenbrock(x):
    return ((x[1:] - x[:-1] ** 2) ** 2 * 100 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("mode", MODES)
def test_gradient_of_rosenbrock_agrees_with_its_closed_form_and_finite_differences(mode):
    x = f64(5)
    v = x.numpy()
    closed = np.zeros(5)
    closed[:-1] += -400 * v[:-1] * (v[1:] - v[:-1] ** 2) - 2 * (1 - v[:-1])
    closed[1:] += 200 * (v[1:] - v[:-1] ** 2)
    found = mode(mg.grad(rosenbrock))(x).numpy()
    np.testing.assert_allclose(found, closed, rtol=1e-12)
    np.testing.assert_allclose(found, numeric(rosenbrock, x), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_hessian_of_rosenbrock(mode):
    x = f64(3, seed=1)
    a, b, _ = x.numpy()
    c = x.numpy()
    closed = np.array(
        [
            [1200 * a**2 - 400 * b + 2, -400 * a, 0],
            [-400 * a, 202 + 1200 * b**2 - 400 * c[2], -400 * b],
            [0, -400 * b, 200],
        ]
    )
    np.testing.assert_allclose(mode(mg.hessian(rosenbrock))(x).numpy(), closed, rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", range(1, 6))
def test_any_order_of_derivative_of_a_power(mode, order):
    f = lambda x: x**6  # noqa: E731
    for _ in range(order):
        f = mg.grad(f)
    expected = np.prod(range(7 - order, 7)) * 1.3 ** (6 - order)
    assert mode(f)(mg.tensor(1.3, dtype="float64")).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_nested_differentiation_does_not_confuse_its_levels(mode):
    # d/dx [x * d/dy (x + y)] = 1: an inner derivative must not see the outer variable as its own
    f = lambda x: x * mg.grad(lambda y: x + y)(mg.tensor(1.0))  # noqa: E731
    assert mode(mg.grad(f))(mg.tensor(3.0)).item() == 1.0
    g = lambda x: x * mg.grad(lambda y: x * y)(mg.tensor(1.0))  # noqa: E731
    assert mode(mg.grad(g))(mg.tensor(3.0)).item() == 6.0


@pytest.mark.parametrize("mode", MODES)
def test_jvp_and_vjp_agree_with_the_jacobian(mode):
    w = f64(4, 3)
    f = lambda x: mg.tanh(w @ x)  # noqa: E731
    x, v, c = f64(3, seed=1), f64(3, seed=2), f64(4, seed=3)
    jacobian = mode(mg.jacobian(f))(x).numpy()
    y, tangent = mode(lambda x, v: mg.jvp(f, (x,), (v,)))(x, v)
    np.testing.assert_allclose(y.numpy(), np.tanh(w.numpy() @ x.numpy()), rtol=1e-12)
    np.testing.assert_allclose(tangent.numpy(), jacobian @ v.numpy(), rtol=1e-12)
    y, back = mg.vjp(f, x)
    np.testing.assert_allclose(back(c)[0].numpy(), jacobian.T @ c.numpy(), rtol=1e-12)
    np.testing.assert_allclose(back(c)[0].numpy(), back(c)[0].numpy())  # may be called again
    closed = (1 - np.tanh(w.numpy() @ x.numpy()) ** 2)[:, None] * w.numpy()
    np.testing.assert_allclose(jacobian, closed, rtol=1e-12)


def test_jvp_nests_in_grad():
    x = mg.tensor(0.7, dtype="float64")
    second = mg.grad(lambda x: mg.jvp(mg.sin, (x,), (mg.tensor(1.0, dtype="float64"),))[1])(x)
    assert second.item() == pytest.approx(-np.sin(0.7), rel=1e-12)


def test_trees_of_arguments_give_trees_of_gradients():
    params = {"w": mg.tensor([1.0, 2.0]), "layers": [mg.tensor(3.0), (mg.tensor(4.0),)]}
    f = lambda p, k: (p["w"] ** 2).sum() * k + p["layers"][0] * p["layers"][1][0]  # noqa: E731
    value, g = mg.value_and_grad(f)(params, 2.0)
    assert value.item() == 22.0
    assert g["w"].numpy().tolist() == [4.0, 8.0] and g["layers"][0].item() == 4.0 and g["layers"][1][0].item() == 3.0
    both = mg.grad(f, (0, 1))(params, mg.tensor(2.0))
    assert both[1].item() == 5.0 and both[0]["w"].numpy().tolist() == [4.0, 8.0]


def test_has_aux_passes_something_along():
    (value, aux), g = mg.value_and_grad(lambda x: (x * x, {"twice": x * 2}), has_aux=True)(mg.tensor(3.0))
    assert (value.item(), aux["twice"].item(), g.item()) == (9.0, 6.0, 6.0)
    g, aux = mg.grad(lambda x: (x * x, "note"), has_aux=True)(mg.tensor(3.0))
    assert (g.item(), aux) == (6.0, "note")


def test_results_of_a_transform_do_not_carry_its_history():
    value, g = mg.value_and_grad(lambda x: (x * x).sum())(mg.tensor([1.0]))
    assert not value.requires_grad and not g.requires_grad


def test_a_gradient_penalty_reaches_the_parameters_it_depends_on():
    w = mg.tensor([2.0, 3.0], requires_grad=True)
    g = mg.grad(lambda x: (w * x * x).sum())(mg.tensor([1.0, 1.0]))  # 2 w x, a function of w
    (g * g).sum().backward()
    assert w.grad.numpy().tolist() == [16.0, 24.0]  # d/dw (2 w)^2


def test_gradients_that_meet_are_added_and_broadcasting_is_undone():
    x = mg.tensor([[1.0], [2.0]], requires_grad=True)
    b = mg.tensor([10.0, 20.0, 30.0], requires_grad=True)
    (x * b + x).sum().backward()
    assert x.grad.numpy().tolist() == [[63.0], [63.0]] and b.grad.numpy().tolist() == [3.0, 3.0, 3.0]


def test_mixed_dtypes_give_each_gradient_the_dtype_of_its_tensor():
    x = mg.tensor([1.0], dtype="float32", requires_grad=True)
    y = mg.tensor([2.0], dtype="float64", requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64


def test_gradients_accumulate_over_micro_batches_to_that_of_the_full_batch():
    x, w = f64(8, 3), mg.Variable(f64(3, seed=1), requires_grad=True)
    ((x @ w) ** 2).sum().backward()
    full = w.grad.numpy().copy()
    w.grad = None
    for k in range(0, 8, 2):
        ((x[k : k + 2] @ w) ** 2).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), full, rtol=1e-12)


def test_a_second_backward_is_an_error_that_says_what_to_do():
    x = mg.tensor([1.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(GraphError, match=r"freed by an earlier backward(.|\n)*retain_graph=True"):
        loss.backward()
    assert x.grad.item() == 2.0  # the first result is unharmed
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad.item() == 6.0


def test_integers_refuse_requires_grad():
    with pytest.raises(DTypeError, match=r"only floating-point tensors have gradients(.|\n)*int64"):
        mg.tensor([1, 2], requires_grad=True)
    with pytest.raises(DTypeError, match="argument 0 must be floating point"):
        mg.grad(lambda x: x)(mg.tensor(1))


def test_backward_from_a_non_scalar_or_from_nothing():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ShapeError, match=r"only a scalar(.|\n)*shape \(2,\)(.|\n)*loss.sum\(\)"):
        (x * x).backward()
    (x * x).backward(mg.tensor([1.0, 10.0]))
    assert x.grad.numpy().tolist() == [2.0, 40.0]
    with pytest.raises(ShapeError, match="same shape"):
        (x * x).backward(mg.tensor([1.0]))
    with pytest.raises(GraphError, match="nothing here requires a gradient"):
        mg.tensor(1.0).backward()


def test_grad_of_something_that_is_not_a_scalar():
    with pytest.raises(ShapeError, match=r"must return a scalar(.|\n)*jacobian"):
        mg.grad(lambda x: x)(mg.tensor([1.0]))
    with pytest.raises(DTypeError, match="has_aux=True"):
        mg.grad(lambda x: (x, 1))(mg.tensor(1.0))
    with pytest.raises(ArgumentError, match="argnums"):
        mg.grad(lambda x: x, 3)(mg.tensor(1.0))


def test_stop_gradient_and_no_grad():
    x = mg.tensor(3.0, requires_grad=True)
    y = x * mg.stop_gradient(x)
    y.backward()
    assert x.grad.item() == 3.0
    with mg.no_grad():
        z = x * x
        with mg.enable_grad():
            assert (x * x).requires_grad
    assert not z.requires_grad and z.op is None

    @mg.no_grad()
    def f(x):
        return x * x

    assert not f(x).requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_checkpoint_changes_neither_values_nor_gradients_of_any_order(mode):
    w = f64(3, 3)
    block = lambda x: mg.tanh(w @ mg.sin(x))  # noqa: E731
    f = lambda x: (block(block(x)) ** 2).sum()  # noqa: E731
    c = lambda x: (mg.checkpoint(block)(mg.checkpoint(block)(x)) ** 2).sum()  # noqa: E731
    x = f64(3, seed=4)
    assert mode(c)(x).item() == pytest.approx(mode(f)(x).item(), rel=1e-15)
    np.testing.assert_allclose(mode(mg.grad(c))(x).numpy(), mode(mg.grad(f))(x).numpy(), rtol=1e-14)
    np.testing.assert_allclose(mode(mg.hessian(c))(x).numpy(), mode(mg.hessian(f))(x).numpy(), rtol=1e-12)


def test_checkpoint_finds_parameters_that_the_function_closes_over():
    w = mg.Variable([2.0, 3.0], requires_grad=True)
    x = mg.tensor([1.0, 1.0], requires_grad=True)
    mg.checkpoint(lambda x: (w * w * x).sum())(x).backward()
    assert w.grad.numpy().tolist() == [4.0, 6.0] and x.grad.numpy().tolist() == [4.0, 9.0]


def test_checkpoint_draws_the_same_random_numbers_both_times():
    generator = mg.random.Generator(0)

    def noisy(x):
        return (x * generator.uniform((4,))).sum()

    x = mg.tensor([1.0, 1.0, 1.0, 1.0], requires_grad=True)
    y = mg.checkpoint(noisy)(x)
    after = generator.state.numpy().copy()
    y.backward()
    assert x.grad.numpy().sum() == pytest.approx(y.item(), rel=1e-6)
    assert (generator.state.numpy() == after).all()  # the replay did not advance the generator


def test_a_planted_wrong_rule_is_caught_by_finite_differences():
    wrong = mg.Op("wrong_square", run=lambda xp, x: x * x, infer=lambda x: x, vjp=(lambda F, g, y, x: 3 * g * x,))
    x = f64(3)
    f = lambda x: wrong(x).sum()  # noqa: E731
    assert not np.allclose(mg.grad(f)(x).numpy(), numeric(f, x), rtol=1e-4)
