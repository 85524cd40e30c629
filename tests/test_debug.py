"""gradcheck, anomaly mode and hooks; each finds a planted mistake and leaves a right program alone."""

import gc

import numpy as np
import pytest

import minigraph as mg
from minigraph.debug import GradCheckError, Hook, MemoryMeter, Printer, Timer, detect_anomaly, gradcheck, hooks
from minigraph.errors import ArgumentError, NumericalError
from minigraph.op import OPS, Op


@pytest.fixture
def planted():
    yield lambda rule: Op("planted", lambda xp, x: x * x * x, vjp=(rule,), saves=("x",))
    OPS.pop("planted", None)


# ------------------------------------------------------------------------------------------------------ gradcheck


def test_gradcheck_agrees_with_right_rules():
    report = gradcheck(lambda x, y: mg.sin(x) * mg.exp(y).sum(), np.ones((2, 3)), np.ones(4), order=2)
    assert report.ok
    assert "✓" in repr(report)


def test_gradcheck_names_input_element_and_both_numbers(planted):
    op = planted(lambda F, g, y, x: F.where(x == 2, g, g * 3 * x * x))
    report = gradcheck(lambda a, b: op(a) + op(b), np.array([0.5, 1.0]), np.array([1.0, 2.0]), raise_on_failure=False)
    wrong = [c for c in report.comparisons if not c.ok]
    assert [(c.name, c.place) for c in wrong] == [("[1]", "[1]")]
    assert wrong[0].numeric == pytest.approx(12 * wrong[0].analytic)
    with pytest.raises(GradCheckError, match="✗"):
        gradcheck(op, np.array([2.0]))


def test_gradcheck_of_order_two_sees_a_gradient_that_is_cut_off(planted):
    op = planted(lambda F, g, y, x: g * 3 * F.stop_gradient(x * x))
    assert gradcheck(op, np.array([0.5])).ok
    assert not gradcheck(op, np.array([0.5]), order=2, raise_on_failure=False).ok


def test_gradcheck_of_large_inputs_takes_directions(planted):
    wrong = planted(lambda F, g, y, x: g * 3.001 * x * x)
    x = np.random.default_rng(0).standard_normal((40, 40))
    report = gradcheck(wrong, x, raise_on_failure=False)
    assert not report.ok
    assert "direction" in report.comparisons[0].place
    assert gradcheck(lambda x: x**3, x, order=2).ok


def test_gradcheck_takes_trees_and_converts_to_float64():
    seen = []

    def fn(parameters, labels):
        seen.append(parameters["w"].dtype)
        return {"a": parameters["w"] * labels, "b": [parameters["b"] ** 2]}

    report = gradcheck(fn, {"w": mg.tensor([1.0, 2.0]), "b": 3.0}, mg.tensor([1, 0]))
    assert [c.name for c in report.comparisons] == ['[0]["w"]', '[0]["b"]']
    assert set(seen) == {np.dtype("f8")}


def test_gradcheck_refuses_what_has_no_gradient():
    with pytest.raises(ArgumentError, match="nothing to differentiate"):
        gradcheck(lambda x: x, mg.tensor([1]))
    with pytest.raises(ArgumentError, match="order"):
        gradcheck(lambda x: x, mg.tensor([1.0]), order=3)


def test_gradcheck_sees_nan(planted):
    op = planted(lambda F, g, y, x: g * np.nan)
    assert not gradcheck(op, np.array([1.0]), raise_on_failure=False).ok


# ------------------------------------------------------------------------------------------------------- anomaly


def test_anomaly_names_the_operation_and_the_line_forward():
    def program(x):
        y = x * 2.0
        z = mg.log(y)  # the culprit
        return z * 0.0

    with pytest.raises(NumericalError) as caught, detect_anomaly():
        program(mg.tensor([1.0, -1.0], name="activations"))
    error = caught.value
    assert error.what == "log made the first NaN"
    assert error.site.code.endswith("# the culprit")
    assert "test_debug.py" in str(error)
    assert "from -2 to 2" in str(error)


def test_anomaly_names_the_forward_line_of_a_rule():
    def program(x):
        y = mg.sqrt(x)  # slope 1/0 at 0
        loss = y.sum()
        loss.backward()

    with pytest.raises(NumericalError) as caught, detect_anomaly():
        program(mg.tensor([0.0, 4.0], requires_grad=True))
    error = caught.value
    assert "backward: the rule of sqrt made the first infinity" in error.what
    assert error.site.code.endswith("# slope 1/0 at 0")


def test_anomaly_names_the_forward_line_when_gradients_are_graphs():
    with pytest.raises(NumericalError) as caught, detect_anomaly():
        mg.grad(lambda x: mg.grad(lambda x: mg.sqrt(x))(x))(mg.tensor(0.0))
    assert "rule of sqrt" in str(caught.value)


def test_anomaly_tells_a_nan_from_outside():
    x = mg.tensor([1.0, float("nan")], name="batch")
    with pytest.raises(NumericalError, match="multiply: x1 already holds a NaN") as caught, detect_anomaly():
        x * 2.0
    assert "batch" in str(caught.value)


def test_anomaly_leaves_infinite_masks_alone():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with detect_anomaly():
        y = mg.where(mg.tensor([True, False]), x, -np.inf)
        loss = mg.exp(y).sum()
        loss.backward()
    assert x.grad.numpy()[1] == 0


def test_anomaly_sees_infinities_being_made():
    with pytest.raises(NumericalError, match="exp made the first infinity"), detect_anomaly():
        mg.exp(mg.tensor(1000.0))


def test_anomaly_sees_the_gradient_that_backward_was_given():
    x = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(NumericalError, match="gradient at the result of multiply"), detect_anomaly():
        (x * 2.0).backward(gradient=mg.tensor([np.inf]))


def test_anomaly_is_off_outside():
    with np.errstate(all="ignore"):
        with detect_anomaly():
            mg.tensor(1.0) * 2.0
        assert np.isnan(mg.log(mg.tensor(-1.0)).item())


# --------------------------------------------------------------------------------------------------------- hooks


class Record(Hook):
    def __init__(self):
        self.events = []

    def before(self, node):
        self.events.append(("before", node.op.name))

    def after(self, node, value):
        self.events.append(("after", node.op.name, value.shape))

    def before_backward(self, node, g):
        self.events.append(("before_backward", node.op.name, g.shape))

    def after_backward(self, node, index, g):
        self.events.append(("after_backward", node.op.name, index, g.shape))


def test_hooks_see_forward_and_backward_in_order():
    record = Record()
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with hooks(record):
        y = mg.sin(x)
        y.backward(gradient=mg.ones(2))
    mg.sin(x)
    assert record.events == [
        ("before", "sin"), ("after", "sin", (2,)), ("before_backward", "sin", (2,)), ("after_backward", "sin", 0, (2,)),
    ]  # fmt: skip


def test_hooks_nest_and_end():
    outer, inner = Record(), Record()
    with hooks(outer):
        mg.sin(mg.tensor(1.0))
        with hooks(inner):
            mg.cos(mg.tensor(1.0))
    assert [e[1] for e in outer.events] == ["sin", "sin", "cos", "cos"]
    assert [e[1] for e in inner.events] == ["cos", "cos"]


def test_printer_prints_nodes_and_gradients():
    lines = []
    x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    with hooks(Printer(lines.append)):
        mg.exp(x).sum().backward()
    assert lines[0] == "exp(float32[1, 2]) -> float32[1, 2]"
    assert lines[-1] == "backward exp -> gradient of input 0: float32[1, 2]"


def test_timer_counts_and_prints_a_table():
    timer = Timer()
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with hooks(timer):
        for _ in range(3):
            mg.exp(x).sum().backward()
    assert timer.calls["exp"] == 3
    assert timer.forward["exp"] > 0
    assert timer.backward["exp"] > 0
    assert repr(timer).splitlines()[0].split() == ["operation", "calls", "forward", "backward"]


def test_memory_meter_counts_what_is_alive():
    meter = MemoryMeter()
    with hooks(meter):
        y = mg.exp(mg.zeros(1000))
        held = meter.current
        z = mg.reshape(y, (10, 100))  # a view: no bytes of its own
        assert meter.current == held
        del y, z
        gc.collect()
    assert held >= 4000
    assert meter.current <= held - 4000
    assert meter.peak >= held
