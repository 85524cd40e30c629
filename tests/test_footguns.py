"""What could silently go wrong under tracing: each is right, or an error that names the line and the remedy."""

import random

import numpy as np
import pytest

import minigraph as mg
from minigraph.errors import TraceError

x = mg.tensor([1.0, 2.0])
HERE = r"test_footguns.py:\d+ in "


def refused(f, *args, match):
    with pytest.raises(TraceError, match=match) as info:
        mg.compile(f)(*args)
    assert "remedy" in str(info.value)
    return str(info.value)


def test_branching_on_a_value():
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    text = refused(f, x, match="cannot become true or false(.|\n)*mg.cond(.|\n)*" + HERE + r"f: +if x.sum\(\) > 0")
    assert "made at" in text


def test_a_while_loop_on_a_value():
    def f(x):
        while x.max() < 10:
            x = x * 2
        return x

    refused(f, x, match="mg.while_loop")


@pytest.mark.parametrize(
    "leave", [float, int, lambda t: t.item(), lambda t: t.numpy(), lambda t: np.asarray(t), lambda t: t.tolist()]
)
def test_leaving_for_python_or_numpy(leave):
    refused(lambda x: x * leave(x.sum()), x, match="has no value yet")


def test_ranging_over_a_value():
    refused(lambda n: [x for _ in range(n)], mg.tensor(3), match="has no value yet")


def test_shapes_that_depend_on_data():
    refused(lambda x: x[x > 1].sum(), x, match="where")


class Box:
    """Something to hide a tensor in."""

    content = None


def test_a_symbolic_tensor_that_leaves_the_trace():
    box = Box()

    @mg.compile
    def f(x):
        box.content = x * 2
        return x

    f(x)
    with pytest.raises(TraceError, match=r"a trace that has ended(.|\n)*return it from the compiled function"):
        box.content + 1
    with pytest.raises(TraceError, match="has no value yet"):
        box.content.numpy()
    refused(lambda x: x + box.content, x, match="another trace")


def test_a_symbolic_tensor_that_leaves_a_branch():
    box, w = Box(), mg.Variable([1.0, 1.0])
    for leak in (lambda t: t, lambda t: t * 1.0, lambda t: w.read()):

        def f(x, leak=leak):
            def branch(t):
                box.content = leak(t)
                return t * 2.0

            return mg.cond(x.sum() > 0, branch, lambda t: t, x) + box.content

        refused(f, x, match="another trace")


def test_a_failed_trace_with_an_array_shows_what_was_built():
    a = np.ones(2, "float32")

    def f(x):
        return (x + a) @ mg.ones((5, 5))

    with pytest.raises(mg.errors.ShapeError) as info:
        mg.compile(f)(x)
    assert [n.op.name for n in info.value.partial_graph.operations] == ["add"]


def test_a_list_that_is_appended_to():
    losses = []
    refused(
        lambda x: losses.append(x.sum()), x, match=r"changes losses while it is traced(.|\n)*\[\] became something else"
    )


def test_a_number_in_the_closure_that_changes():
    scale = 2.0

    @mg.compile
    def f(x):
        return x * scale

    assert f(x).numpy().tolist() == [2.0, 4.0]
    scale = 3.0
    assert f(x).numpy().tolist() == [3.0, 6.0]
    assert f.traces[-1] == "scale changed from 2.0 to 3.0"


RATE = 1.0


def test_a_global_that_changes_also_in_a_function_called_by_name():
    global RATE
    RATE = 1.0

    def helper(x):
        return x * RATE

    f = mg.compile(lambda x: helper(x))
    assert f(x).numpy().tolist() == [1.0, 2.0]
    RATE = 10.0
    assert f(x).numpy().tolist() == [10.0, 20.0]
    assert "global RATE changed from 1.0 to 10.0" in f.traces[-1]


def test_a_tensor_in_the_closure_that_is_replaced():
    w = mg.tensor([1.0, 1.0])
    f = mg.compile(lambda x: x + w)
    f(x)
    w = mg.tensor([5.0, 5.0])
    assert f(x).numpy().tolist() == [6.0, 7.0]


def test_a_numpy_array_in_the_closure_that_is_written_to():
    a = np.ones(2, "float32")
    f = mg.compile(lambda x: x + a)
    assert f(x).numpy().tolist() == [2.0, 3.0]
    a[:] = 10
    assert f(x).numpy().tolist() == [11.0, 12.0]
    assert len(f.traces) == 1


def test_an_attribute_of_an_object_that_changes():
    class Config:
        def __init__(self):
            self.scale, self.names = 2.0, ["a"]

    config = Config()
    f = mg.compile(lambda x: x * config.scale * len(config.names))
    assert f(x).numpy().tolist() == [2.0, 4.0]
    config.scale = 5.0
    assert f(x).numpy().tolist() == [5.0, 10.0]
    config.names.append("b")
    assert f(x).numpy().tolist() == [10.0, 20.0]


def test_an_attribute_of_a_module_that_changes():
    class Scale(mg.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2.0

        def forward(self, x):
            return x * self.factor

    m = Scale()
    f = mg.compile(lambda x: m(x))
    assert f(x).numpy().tolist() == [2.0, 4.0]
    m.factor = 3.0
    assert f(x).numpy().tolist() == [3.0, 6.0]


def test_a_python_value_changed_from_inside():
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return x

    refused(f, x, match="changes count while it is traced(.|\n)*0 became 1(.|\n)*mg.Variable")


def test_numpy_random_numbers():
    refused(lambda x: x + float(np.random.normal()), x, match="np.random, which would be frozen(.|\n)*mg.random")  # noqa: NPY002
    rng = np.random.default_rng(0)
    refused(lambda x: x + rng.normal(size=2), x, match="random numbers from rng")
    refused(lambda x: x + random.random(), x, match="random numbers from random")


def test_minigraph_random_numbers_are_not_frozen():
    f = mg.compile(lambda x: x + mg.random.uniform((2,)))
    assert (f(x).numpy() != f(x).numpy()).all()
    mg.random.seed(3)
    a = [f(x).numpy().tolist() for _ in range(3)]
    mg.random.seed(3)
    assert a == [(x + mg.random.uniform((2,))).numpy().tolist() for _ in range(3)]


def test_a_captured_tensor_that_collects_gradients():
    w = mg.tensor([1.0, 1.0], requires_grad=True)

    def f(x):
        (x * w).sum().backward()
        return x

    refused(f, x, match="mg.Variable|nn.Parameter")
    assert w.grad is None


def test_backward_inside_leaves_gradients_as_dynamic_mode_does():
    w = mg.Variable([1.0, 1.0], requires_grad=True, name="w")

    def f(x):
        (x * w).sum().backward()
        return x

    compiled = mg.compile(f)
    compiled(x)
    assert w.grad.numpy().tolist() == [1.0, 2.0]
    compiled(x)  # accumulates: now there is a gradient to begin with
    assert w.grad.numpy().tolist() == [2.0, 4.0]
    assert "w.grad is None changed" in compiled.traces[-1]


def test_a_second_backward_inside_a_trace():
    w = mg.Variable([1.0, 1.0], requires_grad=True)

    def f(x):
        loss = (x * w).sum()
        loss.backward()
        loss.backward()

    with pytest.raises(mg.errors.GraphError, match="freed by an earlier backward"):
        mg.compile(f)(x)


def test_integers_are_part_of_the_signature_and_one_is_not_true():
    f = mg.compile(lambda x, n: x * n if n is not True else -x)
    assert f(x, 1).numpy().tolist() == [1.0, 2.0]
    assert f(x, True).numpy().tolist() == [-1.0, -2.0]
    assert f(x, 3).numpy().tolist() == [3.0, 6.0]


def test_minus_zero_is_not_zero():
    f = mg.compile(lambda x: (x * 0.0, x * -0.0))
    a, b = f(mg.tensor([1.0]))
    assert not np.signbit(a.numpy())[0] and np.signbit(b.numpy())[0]


def test_assigning_a_tensor_element():
    def f(x):
        x[0] = 1.0
        return x

    with pytest.raises(mg.errors.MutationError, match=r"x.at\[i\].set\(v\)"):
        mg.compile(f)(x)


def test_unhashable_and_unknown_arguments():
    with pytest.raises(mg.errors.ArgumentError, match=r"argument s is not a tensor(.|\n)*set"):
        mg.compile(lambda s: 1)({1, 2})
    with pytest.raises(mg.errors.ArgumentError, match="argument a is not an array of numbers"):
        mg.compile(lambda a: 1)(np.array(["a"]))
    with pytest.raises(mg.errors.ArgumentError, match="static_argnames"):
        mg.compile(lambda a: 1, static_argnames="b")


def test_static_arguments():
    f = mg.compile(lambda x, p: x * 2 if p > 0.5 else x, static_argnames="p")
    assert f(x, 0.9).numpy().tolist() == [2.0, 4.0] and f(x, 0.1).numpy().tolist() == [1.0, 2.0]


def test_gradients_switched_off_are_another_version():
    w = mg.Variable([1.0, 1.0], requires_grad=True)
    f = mg.compile(lambda x: (x * w).sum())
    with mg.no_grad():
        assert not f(x).requires_grad
    assert f(x).requires_grad
