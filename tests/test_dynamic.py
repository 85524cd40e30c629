"""Define-by-run: any Python, graphs that are freed, memory that stays flat, chains of any length."""

import gc
import tracemalloc

import numpy as np
import pytest

import minigraph as mg


def test_any_python_control_flow_is_differentiated_as_it_ran():
    slope = 1.0

    def wander(x):
        nonlocal slope
        while x.item() < 500.0:
            factor = 1.5 if int(x.item()) % 2 else 2.5
            x, slope = x * factor + 1.0, slope * factor
        return x

    g = mg.grad(wander)(mg.tensor(12.0)).item()
    assert g == pytest.approx(slope, rel=1e-5) and slope != 1.0


def test_recursion_over_a_structure():
    def evaluate(tree, x):
        return x if tree == "x" else tree if isinstance(tree, float) else tree[0](*[evaluate(t, x) for t in tree[1:]])

    tree = (mg.add, (mg.multiply, "x", "x"), (mg.multiply, 3.0, "x"))
    assert mg.grad(lambda x: evaluate(tree, x))(mg.tensor(2.0)).item() == 7.0


def test_shapes_may_depend_on_data():
    x = mg.tensor([3.0, -1.0, 2.0, -5.0], requires_grad=True)
    positive = x[x > 0]
    assert positive.shape == (2,)
    (positive * positive).sum().backward()
    assert x.grad.numpy().tolist() == [6.0, 0.0, 4.0, 0.0]


def test_the_graph_is_freed_by_backward():
    x = mg.tensor(np.ones(1000, "float32"), requires_grad=True)
    y = mg.sin(x)
    z = y * y
    loss = z.sum()
    loss.backward()
    assert repr(z.inputs) == "<freed>"


def test_memory_is_flat_over_ten_thousand_steps():
    w = mg.Variable(np.zeros(10, "float32"), requires_grad=True)
    x = mg.tensor(np.ones(10, "float32"))

    def run(steps):
        for _ in range(steps):
            w.grad = None
            e = w * x - 1.0
            (e * e).sum().backward()
            w.assign(w.read().detach() - w.grad * 0.01)

    run(100)
    gc.collect()
    tracemalloc.start()
    run(100)
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    run(9_900)
    gc.collect()
    last = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert last - first < 20_000  # bytes; a kept graph would be megabytes


@pytest.mark.timeout(300)
def test_a_chain_of_a_million_nodes_builds_differentiates_and_is_freed():
    x = mg.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(1_000_000):
        y = y + x
    y.backward(mg.tensor([1.0]))
    assert x.grad.item() == 1_000_001.0
    y = x
    for _ in range(1_000_000):
        y = -y
    del y  # freed without recursion: a stack overflow would end the process
    gc.collect()


def test_a_tensor_read_from_a_variable_keeps_its_value():
    w = mg.Variable([1.0, 2.0])
    before = w.read()
    view = before.numpy()
    w.assign(mg.tensor([5.0, 6.0]))
    assert before.numpy().tolist() == [1.0, 2.0] == view.tolist() and w.numpy().tolist() == [5.0, 6.0]


def test_a_graph_uses_the_values_that_variables_had_when_it_ran():
    w = mg.Variable(2.0, requires_grad=True)
    x = mg.tensor(5.0, requires_grad=True)
    y = w * x
    w.assign(100.0)
    y.backward()
    assert x.grad.item() == 2.0


def test_arrays_are_copied_when_they_become_tensors():
    a = np.ones(3, "float32")
    t, sum_ = mg.tensor(a), mg.tensor([1.0, 1.0, 1.0]) + a
    a[:] = 7
    assert t.numpy().tolist() == [1, 1, 1] and sum_.numpy().tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 1


def test_threads_do_not_see_each_others_modes():
    import threading

    seen = {}
    x = mg.tensor(1.0, requires_grad=True)

    def other():
        seen["grad"] = (x * x).requires_grad

    with mg.no_grad():
        t = threading.Thread(target=other)
        t.start()
        t.join()
    assert seen["grad"] is True


def test_a_recording_holds_everything_and_survives_backward():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with mg.record() as g:
        unused = mg.sin(mg.tensor(0.0))
        loss = (x * x).sum()
        loss.backward()
        with pytest.raises(mg.errors.GraphError, match="freed"):
            loss.backward()
    assert [n.op.name for n in g.operations] == ["sin", "multiply", "sum"]
    assert [g.node(t) for t in (unused, loss)] == list(g.outputs)
    assert g.nodes[-1].site.function == "test_a_recording_holds_everything_and_survives_backward"
    assert "multiply" in str(g) and not any(n.is_symbolic for n in g.nodes)
    assert float(g.replay([])[1].item()) == 5.0


def test_a_recording_survives_a_backward_after_it():
    w = mg.Variable([1.0, 2.0], requires_grad=True, name="w")
    with mg.record() as g:
        y = w * w
        loss = y.sum()
    program, arrows = str(g), g.to_dot().count("->")
    loss.backward()
    assert repr(loss.inputs) == repr(y.inputs) == "<freed>"  # the run is freed as ever
    assert str(g) == program and g.to_dot().count("->") == arrows
    assert [n.op.name for n in g.users(y)] == [n.op.name for n in g.users(g.node(y))] == ["sum"]
    assert g.users(g.reads[w]) == (g.node(y),) and g.node(y).inputs == (g.reads[w], g.reads[w])
    g.check()
    w.assign(mg.tensor([3.0, 4.0]))
    assert g().item() == 25.0 and g.run(outputs=y).tolist() == [9.0, 16.0]
    with pytest.raises(mg.errors.ArgumentError, match="not part of this graph"):
        g.node(mg.sin(w))


def test_backward_goes_once_through_what_was_recorded():
    x = mg.tensor(3.0, requires_grad=True)
    with mg.record():
        inside = x * x
        inside.backward()
    before = x * x
    with mg.record():
        before.backward()
    with mg.record():
        outer = x * x
        outer.backward()
        with mg.record(), pytest.raises(mg.errors.GraphError, match="freed"):
            outer.backward()
    kept = x * x
    with mg.record():
        kept.backward(retain_graph=True)
    kept.backward()
    for loss in (inside, before, outer, kept):
        with pytest.raises(mg.errors.GraphError, match="freed"):
            loss.backward()
    assert x.grad.item() == 5 * 6.0


def test_a_recording_inside_a_recording():
    x = mg.tensor(3.0, requires_grad=True, name="x")
    with mg.record() as outer:
        y = x * 2.0
        with mg.record() as inner:
            z = mg.sin(y)
        z.backward()
        _ = mg.exp(z)
    assert [n.op.name for n in inner.operations] == ["sin"]
    assert [n.op.name for n in outer.operations] == ["multiply", "sin", "exp"]
    assert outer.users(y) == (outer.node(z),) and outer.users(z) == outer.outputs


def test_a_recording_knows_what_became_of_a_variable():
    """A variable is read once; what is read after an assignment is what was assigned."""
    w, v = mg.Variable([1.0, 2.0], name="w"), mg.Variable(0.0, name="v")
    old = v.read()
    v.assign(5.0)
    with mg.record() as g:
        y = w * 2.0
        w.assign(y + 1.0)
        z = w * w
        w.assign(z - old)
        v.assign(7.0)
        u = v + 1.0
    assert list(g.reads) == [w] and set(g.assigns) == {w, v}
    assert [g.node(u)] == list(g.outputs)  # what is only assigned is not a result
    assert [x.op.name for x in g.node(z).inputs] == ["add", "add"]
    assert g.node(u).inputs[0].value == 7.0 and g.node(z) is g.assigns[w].inputs[0]
    assert g.assigns[w].inputs[1].value == 0.0  # read before it was assigned: the old value, for ever
    g.check()
    w.assign(mg.tensor([1.0, 2.0]))
    v.assign(1.0)
    assert g().item() == 8.0 and w.tolist() == [9.0, 25.0] and v.item() == 7.0


def test_a_recording_is_not_made_inside_a_checkpoint():
    """It would hide from the checkpoint which tensors are used, and their gradients would be lost."""
    w = mg.tensor(2.0, requires_grad=True)

    def f(x):
        with mg.record():
            return x * w

    with pytest.raises(mg.errors.TraceError, match=r"mg.record inside a checkpointed function(.|\n)*record outside"):
        mg.checkpoint(f)(mg.tensor(1.0))


def test_anomalies_of_python_integers_are_reported():
    with pytest.raises(mg.errors.DTypeError, match="does not fit int8"):
        mg.tensor([1], dtype="int8") + 1000
