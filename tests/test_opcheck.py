"""Tests of the test: one planted mistake for each check of `opcheck`, each found, and by that check."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.debug import OpCheckError, opcheck
from minigraph.errors import ArgumentError, ShapeError
from minigraph.op import OPS, Op, Spec

SQUARE = {
    "run": lambda xp, x: x * x,
    "infer": lambda x: Spec(x.shape, x.dtype, x.device),
    "vjp": (lambda F, g, y, x: g * 2 * x,),
    "saves": ("x",),
    "elementwise": True,
    "expression": "x * x",
    "latex": "{x}^2",
    "derivative": ("2 {x}",),
}
x = np.array([[0.5, -1.5, 2.0], [1.0, 0.25, -3.0]])


@pytest.fixture
def planted():
    """Makes an operation that squares, with some facts changed; forgets it afterwards."""
    made = []

    def plant(**changes):
        made.append(Op("planted", **{**SQUARE, **changes}))
        return made[-1]

    yield plant
    OPS.pop("planted", None)


def failures(op, *inputs, **attrs):
    report = opcheck(op, *(inputs or (x,)), raise_on_failure=False, **attrs)
    return [c.name for c in report.checks if not c.ok]


def test_a_right_operation_passes(planted):
    report = opcheck(planted(), x)
    assert report.ok
    assert bool(report)
    assert "✓ gradient" in repr(report)
    assert "✗" not in repr(report)


def test_a_wrong_one_raises_and_says_why(planted):
    op = planted(vjp=(lambda F, g, y, x: g * 3 * x,))
    with pytest.raises(OpCheckError, match="gradient of x at") as caught:
        opcheck(op, x)
    assert isinstance(caught.value, AssertionError)
    assert not caught.value.report.ok
    assert "✗ gradient" in str(caught.value)


def test_wrong_gradient(planted):
    assert "gradient" in failures(planted(vjp=(lambda F, g, y, x: g * 3 * x,)))


def test_gradient_wrong_in_one_element(planted):
    assert "gradient" in failures(planted(vjp=(lambda F, g, y, x: F.where(x == 0.25, g * x, g * 2 * x),)))


def test_gradient_of_a_broadcast_input(planted):
    op = planted(
        run=lambda xp, a, b: a * b,
        infer=lambda a, b: Spec(np.broadcast_shapes(a.shape, b.shape), np.result_type(a.dtype, b.dtype)),
        vjp=(lambda F, g, y, a, b: g * b, lambda F, g, y, a, b: g * a * 1.01),
        saves=("a", "b"), expression="a * b", latex="{a}{b}", derivative=("{b}", "{a}"),
    )  # fmt: skip
    report = opcheck(op, x, np.ones((2, 1)), raise_on_failure=False)
    assert "gradient of b" in report["gradient"].reasons[0]


def test_wrong_second_derivative(planted):
    op = planted(vjp=(lambda F, g, y, x: g * 2 * F.stop_gradient(x),))
    assert failures(op) == ["second derivative"]


def test_wrong_shape(planted):
    assert "infer agrees with run" in failures(planted(infer=lambda x: Spec((*x.shape, 1), x.dtype)))


def test_wrong_dtype(planted):
    assert "infer agrees with run" in failures(planted(infer=lambda x: Spec(x.shape, np.float64)), x.astype("f4"))


def test_dtype_wrong_for_another_precision(planted):
    """The sample is float64; that float32 would become float64 is seen all the same."""
    op = planted(run=lambda xp, x: xp.multiply(x, x, dtype=xp.float64), infer=lambda x: Spec(x.shape, x.dtype))
    assert "infer agrees with run" in failures(op)


def test_infer_accepts_what_run_refuses(planted):
    def run(xp, x):
        if x.dtype == np.float32:
            raise TypeError("no float32")
        return x * x

    assert "infer agrees with run" in failures(planted(run=run))


def test_another_numpy_spelling(planted):
    assert failures(planted(numpy=lambda x: x * x + 1e-3))[0] == "numpy= agrees with run"


def test_rule_that_differs_between_arrays_and_tensors(planted):
    op = planted(vjp=(lambda F, g, y, x: g * 2 * x if isinstance(x, np.ndarray) else g * x,))
    assert "arrays and tensors" in failures(op)


def test_gradient_of_the_wrong_shape(planted):
    op = planted(vjp=(lambda F, g, y, x: F.reshape(g * 2 * x, shape=(x.size,)),))
    assert "arrays and tensors" in failures(op)


def test_result_that_changes_between_calls(planted):
    calls = []

    def run(xp, x):
        calls.append(1)
        return x * x + len(calls)

    assert "static equals dynamic" in failures(planted(run=run))


def test_rule_that_branches_on_a_value(planted):
    op = planted(vjp=(lambda F, g, y, x: g * 2 * x if F.sum(x) > 0 or True else g,))
    assert failures(op) == ["static gradients"]


def test_value_read_but_not_saved(planted):
    report = opcheck(planted(saves=("y",)), x, raise_on_failure=False)
    assert not report["saved values"].ok
    assert "a rule reads x" in report["saved values"].reasons[0]


@pytest.mark.parametrize(
    "rule",
    [
        lambda F, g, y, x: F.multiply(g, x) * 2,
        lambda F, g, y, x: x * (g * 2),
        lambda F, g, y, x: g * 2 * F.reshape(F.reshape(x, shape=(x.size,)), shape=x.shape),
        lambda F, g, y, x: g * 2 * F.where(x > 0, x, x),
        lambda F, g, y, x: g * 2 * F.astype(x, dtype=g.dtype),
    ],
)
def test_no_way_to_read_a_value_unseen(planted, rule):
    assert failures(planted(vjp=(rule,), saves=())) == ["saved values"]


def test_shape_and_dtype_may_be_read_of_all(planted):
    op = planted(
        run=lambda xp, x: xp.sum(x), infer=lambda x: Spec((), x.dtype), saves=(), elementwise=False, expression=None,
        vjp=(lambda F, g, y, x: F.broadcast_to(g, shape=x.shape) * F.ones(x.shape, dtype=x.dtype),),
    )  # fmt: skip
    assert failures(op) == []


def test_value_saved_but_not_read(planted):
    report = opcheck(planted(saves=("x", "y"), derivative=()), x, raise_on_failure=False)
    assert report["saved values"].ok  # it is the default for an operation of a user
    assert "no rule reads y" in report["saved values"].note
    two = planted(
        run=lambda xp, a, b: a + b * b,
        infer=lambda a, b: Spec(a.shape, a.dtype),
        expression="a + b * b",
        saves=("a", "b"),
        vjp=(lambda F, g, y, a, b: g, lambda F, g, y, a, b: g * 2 * b),
        latex="",
        derivative=(),
    )
    report = opcheck(two, x, x, raise_on_failure=False)
    assert "a declared in saves" in report["saved values"].reasons[0]


def test_saves_of_a_name_that_does_not_exist(planted):
    assert "saved values" in failures(planted(saves=("x", "z")))


def test_numpy_call_on_the_strict_array(planted):
    op = planted(run=lambda xp, x: np.multiply(x, x))
    assert failures(op) == ["NumPy equals the CuPy stand-in"]


def test_numpy_constant_mixed_with_the_strict_array(planted):
    op = planted(run=lambda xp, x: x * x * np.ones(x.shape, x.dtype))
    assert failures(op) == ["NumPy equals the CuPy stand-in"]


def test_run_that_mutates(planted):
    def run(xp, x):
        x *= x
        return x + 0

    assert "inputs are not mutated" in failures(planted(run=run))


def test_rule_that_mutates(planted):
    def rule(F, g, y, x):
        if isinstance(g, np.ndarray):
            g *= 2
            return g * x
        return g * 2 * x

    assert "inputs are not mutated" in failures(planted(vjp=(rule,)))


def test_result_that_is_the_input(planted):
    op = planted(run=lambda xp, x: x, vjp=(lambda F, g, y, x: g,), saves=(), expression="x")
    assert failures(op) == ["no shared memory"]
    assert (
        failures(planted(run=lambda xp, x: x, vjp=(lambda F, g, y, x: g,), saves=(), expression="x", view=True)) == []
    )


def test_result_that_depends_on_the_memory_layout(planted):
    op = planted(run=lambda xp, x: xp.reshape(x.ravel(order="K"), x.shape) ** 2, elementwise=False)
    assert "any memory layout" in failures(op)


def test_run_that_fails_on_nothing(planted):
    op = planted(run=lambda xp, x: x * x if x.max() < 100 else x)
    assert failures(op) == ["zero-size and 0-d"]


def test_bad_input_that_is_accepted(planted):
    op = planted(samples=lambda rng: [((x,), {}), ("bad", (np.ones((2, 2)),), {}, ShapeError)])
    report = opcheck(op, raise_on_failure=False)
    assert [c.name for c in report.checks if not c.ok] == ["bad input"]
    assert "no ShapeError" in report["bad input"].reasons[0]


def test_bad_input_with_another_error(planted):
    def infer(x):
        if x.ndim != 2:
            raise ArgumentError("planted: x", expected="two axes", actual=f"{x!r}")
        return Spec(x.shape, x.dtype)

    def run(xp, x):
        if x.ndim != 2:
            raise ValueError("two axes")
        return x * x

    def samples(error):
        return lambda rng: [((x,), {}), ("bad", (np.ones(2),), {}, error)]

    facts = {"infer": infer, "run": run, "elementwise": False}
    assert failures_of_samples(planted(**facts, samples=samples(ArgumentError))) == []
    assert failures_of_samples(planted(**facts, samples=samples(ShapeError))) == ["bad input"]


def failures_of_samples(op):
    return [c.name for c in opcheck(op, raise_on_failure=False).checks if not c.ok]


def test_wrong_expression(planted):
    assert failures(planted(expression="x * x * 2")) == ["expression"]
    assert failures(planted(expression="x * z")) == ["expression"]


def test_wrong_formula(planted):
    assert failures(planted(latex="{z}^2")) == ["formula and flops"]
    assert failures(planted(derivative=("2 {x}", "0"))) == ["formula and flops"]
    assert failures(planted(flops=lambda x: -1)) == ["formula and flops"]


def test_rule_that_raises_is_reported_by_its_error(planted):
    def rule(F, g, y, x):
        raise KeyError("oops")

    report = opcheck(planted(vjp=(rule,)), x, raise_on_failure=False)
    assert "KeyError" in report["gradient"].reasons[0]


def test_checks_that_do_not_apply_say_so(planted):
    report = opcheck(planted(vjp=None), x)
    assert "- gradient" in repr(report)
    assert "not differentiable" in repr(report)


def test_operation_by_name_and_without_samples(planted):
    assert opcheck("matmul").ok
    with pytest.raises(ArgumentError, match="no operation"):
        opcheck("matmull")
    with pytest.raises(ArgumentError, match="nothing to check with"):
        opcheck(planted())


def test_the_door_for_users():
    @mg.op
    def swish(xp, x):
        return x / (1 + xp.exp(-x))

    try:
        swish.defvjp(lambda F, g, y, x: g * y)
        with pytest.raises(OpCheckError, match="✗ gradient"):
            opcheck(swish, mg.tensor([0.5, -1.0]))
        swish.defvjp(lambda F, g, y, x: g * (y + (1 - y) / (1 + F.exp(-x))))
        assert opcheck(swish, mg.tensor([0.5, -1.0])).ok
    finally:
        OPS.pop("swish")
