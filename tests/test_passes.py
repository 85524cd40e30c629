"""Each pass by itself: what it changes, what it must leave alone, what it records."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import minigraph as mg
from minigraph.compiler import (
    eliminate_common_subexpressions,
    eliminate_dead_code,
    fold_constants,
    optimize,
    plan_memory,
    reduce_strength,
    schedule,
    simplify,
)
from minigraph.compiler.passes import algebra as rules
from minigraph.compiler.passes import strength
from minigraph.compiler.run import Executable

fuse_module = importlib.import_module("minigraph.compiler.passes.fuse")  # the package has a function of that name


def graph_of(f, *shapes, dtype="float32"):
    with mg.Graph() as g:
        y = f(*[mg.placeholder(s, dtype, name=f"x{i}") for i, s in enumerate(shapes)])
    g.outputs = tuple(y) if isinstance(y, tuple) else (y,)
    return g


def names(graph):
    return [n.op.name for n in graph.operations]


def corner_values(dtype):
    return np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-40, 3e38], dtype)


SAFE = {
    "remove_identity": lambda x: mg.stop_gradient(x) + 1.0,
    "multiply_by_one": lambda x: x * 1.0,
    "divide_by_one": lambda x: x / 1.0,
    "subtract_zero": lambda x: x - 0.0,
    "multiply_by_minus_one": lambda x: x * -1.0,
    "double_negative": lambda x: -(-x),  # noqa: B002
    "add_negative": lambda x: x + (-mg.sin(x)),
    "subtract_negative": lambda x: x - (-mg.sin(x)),
    "power_one": lambda x: x**1.0,
    "absolute_twice": lambda x: mg.abs(mg.abs(-x)),
    "extreme_of_same": lambda x: mg.maximum(x, x),
    "where_same": lambda x: mg.where(x > 0, x, x),
    "cast_to_same": lambda x: mg.astype(x, "float32") + mg.OPS["astype"](x, dtype=np.dtype("float32")),
    "shape_to_same": lambda x: mg.OPS["reshape"](x, shape=(9,)),
    "reshape_twice": lambda x: mg.OPS["reshape"](mg.OPS["reshape"](x, shape=(3, 3)), shape=(9, 1)),
    "permute_twice": lambda x: mg.permute_dims(mg.permute_dims(x.reshape(3, 3, 1), (1, 0, 2)), (2, 0, 1)),
    "transpose_twice": lambda x: mg.matrix_transpose(mg.matrix_transpose(x.reshape(3, 3))),
    "permute_to_same": lambda x: mg.OPS["permute_dims"](x.reshape(3, 3), axes=(0, 1)),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", SAFE)
def test_exact_rules_keep_every_bit(name):
    """NaN, infinities, signed zeros and denormals included; and the rule really fires."""
    g = graph_of(SAFE[name], (9,))
    after = simplify(g).check()
    assert getattr(rules, name).__doc__ in {c.rule for c in after.changes}
    x = corner_values("float32")
    before_value, after_value = (Executable(h)([x])[0] for h in (g, after))
    np.testing.assert_array_equal(after_value, before_value)  # NaN in the same places
    number = ~np.isnan(before_value)
    assert (np.signbit(before_value) == np.signbit(after_value))[number].all()


def test_every_exact_rule_has_a_case_above():
    others = {"add_integer_zero", "double_not", "reduce_nothing"}  # tested below, on other dtypes
    assert {rewrite.__name__ for _, rewrite in rules.EXACT} == set(SAFE) | others


def test_rules_on_integers_booleans_and_empty_axes():
    g = graph_of(lambda x: x + 0, (3,), dtype="int64")
    assert names(simplify(g)) == []
    g = graph_of(lambda x: mg.logical_not(mg.logical_not(x)), (3,), dtype="bool")
    assert names(eliminate_dead_code(simplify(g))) == []
    g = graph_of(lambda x: mg.OPS["sum"](x, axis=(), keepdims=False), (3,))
    assert names(simplify(g)) == []


def test_value_changing_rules_are_off_by_default():
    f = lambda x: (x + 0.0) * 0.0 + x / 3.0 + mg.log(mg.exp(x))  # noqa: E731
    g = graph_of(f, ())
    assert simplify(g).changes == ()
    changed = simplify(g, value_changing=True)
    assert {"x / c -> x * (1/c)", "log(exp(x)) -> x", "x * 0 -> 0"} <= {c.rule for c in changed.changes}
    assert np.isnan(Executable(g)([np.float32(np.nan)])[0])


def test_rules_do_not_fire_where_they_would_change_the_type():
    g = graph_of(lambda x: x * mg.ones((3, 1)) * 1.0, (3,))
    assert simplify(g).check().outputs[0].shape == (3, 3)
    g = graph_of(lambda x: x * mg.tensor(1.0, dtype="float64"), (3,))
    assert simplify(g).outputs[0].dtype == np.float64


# -------------------------------------------------------------------------------------------------- strength reduction

CHEAPER = {  # rule -> what it is for, the dtypes that it takes, and NumPy's word on it
    "square_by_product": (lambda x: x**2, "float32 float64 int8 int64 uint16", lambda x: np.power(x, x.dtype.type(2))),
    "cube_by_products": (lambda x: x**3.0, "float32 float64", lambda x: x * (x * x)),
    "fourth_power_by_products": (lambda x: x**4.0, "float32 float64", lambda x: np.square(np.square(x))),
    "inverse_by_division": (lambda x: x**-1.0, "float32 float64", np.reciprocal),
    "root_by_sqrt": (lambda x: mg.abs(x) ** 0.5, "float32 float64", lambda x: np.power(np.abs(x), x.dtype.type(0.5))),
    "divide_by_power_of_two": (lambda x: x / -0.125, "float32 float64", lambda x: x / x.dtype.type(-0.125)),
    "remainder_by_mask": (lambda x: x % 16, "int8 int32 int64 uint8 uint64", lambda x: x % x.dtype.type(16)),
    "floor_divide_by_shift": (lambda x: x // 16, "int8 int32 int64 uint8 uint64", lambda x: x // x.dtype.type(16)),
}
SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, 3e38, -3e38, 0.1, 5e-324, 1.7e308]


def bits(x):
    """The bits of an array; those of any NaN are the same."""
    x = np.where(np.isnan(x), np.nan, x).astype(x.dtype) if x.dtype.kind == "f" else x
    return x.tobytes()


def disagreements(name, x, backends=("numpy",)):
    """The backends whose result for an array is not NumPy's, bit by bit; and whether the rule was used at all."""
    f, _, reference = CHEAPER[name]
    with np.errstate(all="ignore"):
        want = bits(reference(x))
        found = []
        for backend in backends:
            compiled = mg.compile(f, passes=[reduce_strength], backend=backend)
            found += [backend] if bits(compiled(mg.tensor(x)).numpy()) != want else []
    assert {c.rule for c in compiled.passes[0].changes} == {getattr(strength, name).__doc__}
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CHEAPER)
def test_cheaper_operations_give_the_same_bits(name):
    """In both backends, for all special values and many random ones; all values of small integers."""
    rng = np.random.default_rng(0)
    for dtype in CHEAPER[name][1].split():
        if np.dtype(dtype).kind == "f":
            with np.errstate(all="ignore"):
                x = np.array(SPECIAL, "float64").astype(dtype)
                x = np.concatenate([x, (rng.normal(size=500) * 10.0 ** rng.integers(-40, 38, 500)).astype(dtype)])
        else:
            limits = np.iinfo(dtype)
            x = rng.integers(limits.min, limits.max, 256, dtype=dtype, endpoint=True)
            x[:5] = [0, 1, limits.max, limits.min, limits.max - 1]
        assert disagreements(name, x, ("numpy", "c")) == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.sampled_from(sorted(CHEAPER)), st.data())
def test_cheaper_operations_give_the_same_bits_for_any_array(name, data):
    dtype = data.draw(st.sampled_from(CHEAPER[name][1].split()))
    assert disagreements(name, data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=2)))) == []


def test_every_rule_of_strength_reduction_has_a_case_above():
    assert {rewrite.__name__ for _, rewrite in strength.RULES} == set(CHEAPER)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("root_by_sqrt", lambda n: rules.made("sqrt", n.inputs[0].inputs[0], like=n)),  # without abs: NaN below 0
        ("divide_by_power_of_two", lambda n: rules.made("multiply", *n.inputs, like=n)),
        (
            "remainder_by_mask",  # the mask itself instead of one less
            lambda n: rules.made("bitwise_and", *n.inputs, like=n),
        ),
    ],
)
def test_a_planted_wrong_rule_is_found(name, wrong, monkeypatch):
    wrong.__doc__ = getattr(strength, name).__doc__
    monkeypatch.setattr(strength, "RULES", [(strength_names(name), wrong)])
    x = np.array([-3.0, 5.0, -0.0], CHEAPER[name][1].split()[0])
    assert disagreements(name, x) == ["numpy"]


def strength_names(name):
    return next(names for names, rewrite in strength.RULES if rewrite.__name__ == name)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x**0.5,  # -inf, -0.0
        lambda x: (x + mg.abs(x)) ** 0.5,
        lambda x: (x * 1.5) ** 0.5,
        lambda x: x / 3.0,
        lambda x: x / 0.0,
        lambda x: x / np.inf,
        lambda x: x**2.5,
        lambda x: x**-2.0,
        lambda x: x ** mg.tensor([2.0, 3.0, 2.0]),
        lambda x: mg.exp(mg.log(x)),
        lambda x: x * 2.0,
        lambda x: x % 4.0,
        lambda x: x // 4.0,
        lambda x: x.astype("int64") % -4,
        lambda x: x.astype("int64") % 6,
        lambda x: x.astype("int64") // 1,
        lambda x: x.astype("int64") ** 3,
        lambda x: x.astype("float16") / 4.0,
    ],
)
def test_strength_is_kept_where_bits_could_change_or_nothing_is_gained(f):
    assert reduce_strength(graph_of(f, (3,))).changes == ()


def test_folding_computes_what_depends_on_constants_only():
    g = graph_of(lambda x: x + mg.exp(mg.tensor(2.0)) * 3.0, ())
    after = fold_constants(g).check()
    assert names(after) == ["add"] and len(after.changes) == 2
    assert Executable(after)([np.float32(1)])[0] == Executable(g)([np.float32(1)])[0]


def test_folding_leaves_large_results_alone():
    g = graph_of(lambda x: x + mg.broadcast_to(mg.tensor(1.0), (1000, 1000)), ())
    assert "broadcast_to" in names(fold_constants(g))


def test_common_subexpressions_are_merged_but_not_what_differs():
    g = graph_of(lambda x: mg.sin(x) + mg.sin(x) + x.sum(axis=0) + x.sum(axis=1), (3, 3))
    after = eliminate_common_subexpressions(g).check()
    assert names(after).count("sin") == 1 and names(after).count("sum") == 2
    g = graph_of(lambda x: mg.checkpoint(mg.sin)(x) + mg.checkpoint(mg.sin)(x), (3,))
    assert names(eliminate_common_subexpressions(g)).count("recompute") == 2  # computing twice is its purpose


def test_dead_code_goes_and_effects_stay():
    v = mg.Variable(1.0, name="v")

    def f(x):
        mg.exp(x)
        v.assign(v + 1.0)
        return mg.sin(x)

    g = graph_of(f, ())
    after = eliminate_dead_code(g).check()
    assert names(after) == ["add", "sin"] and [c.before[0].op.name for c in after.changes] == ["exp"]
    assert len(after.inputs) == 1


def test_a_pass_of_ones_own():
    def no_sine(graph):
        """Replace sin(x) by x."""
        return mg.compiler.substitute(graph, lambda n: n.inputs[0] if n.op.name == "sin" else n)

    f = mg.compile(lambda x: mg.sin(x) + 1.0, passes=[no_sine])
    assert f(mg.tensor(2.0)).item() == 3.0 and f.passes[0].name == "no_sine"
    with pytest.raises(mg.errors.ArgumentError, match="a pass returns a Graph"):
        mg.compile(lambda x: x + 1.0, passes=[lambda graph: None])(mg.tensor(1.0))


def test_check_finds_a_broken_graph():
    g = graph_of(lambda x: mg.sin(x).sum(), (3,))
    bad = mg.Graph(list(reversed(g.nodes)), g.inputs, g.outputs)
    with pytest.raises(mg.errors.GraphError, match="does not come before it"):
        bad.check()
    g.outputs[0].value = mg.Spec((7,), "float32")
    with pytest.raises(mg.errors.GraphError, match="another type than its inputs say"):
        g.check()


# ---------------------------------------------------------------------------------------------- schedule and memory


def chain(n, size=1000):
    def f(x):
        for k in range(n):
            x = mg.sin(x) if k % 2 else mg.matrix_transpose(mg.tanh(x))
        return x.sum()

    return graph_of(f, (size, size))


def plan_of(graph):
    order = schedule(graph)
    return order, plan_memory(graph, order, {id(n) for n in order})


def test_a_schedule_is_a_topological_order_of_everything():
    g = optimize(chain(10), mg.compiler.default_passes())[0]
    order = schedule(g)
    operations = {id(n) for n in g.operations}
    seen = {id(n) for n in g.nodes if id(n) not in operations}
    for n in order:
        assert all(id(x) in seen or not x.inputs for x in n.inputs)
        seen.add(id(n))
    assert len(order) == len(g.operations)


def test_a_long_chain_lives_in_place():
    _, plan = plan_of(chain(30, 10))
    assert plan.arena <= 2 * 448 and plan.without_reuse > 20 * 400  # 400 bytes, rounded up to whole cache lines
    assert plan.bound <= plan.peak


def test_buffers_that_are_alive_together_never_overlap():
    f = lambda x: mg.value_and_grad(lambda x: (mg.tanh(mg.sin(x) * mg.exp(x * 0.1)) ** 2).sum())(x)  # noqa: E731
    g = optimize(graph_of(f, (7, 5)), mg.compiler.default_passes())[0]
    _, plan = plan_of(g)
    placed = [b for b in plan.buffers if b.offset is not None]
    assert len(placed) > 5
    for i, a in enumerate(placed):
        for b in placed[i + 1 :]:
            overlap_in_time = a.start < b.end and b.start < a.end
            overlap_in_space = a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
            assert not (overlap_in_time and overlap_in_space), (a, b)


def test_outputs_and_assigned_values_are_never_in_the_arena():
    v = mg.Variable(np.zeros(3, "float32"))

    def f(x):
        v.assign(mg.sin(x))
        return mg.cos(x)

    g = graph_of(f, (3,))
    _, plan = plan_of(g)
    assert all(b.offset is None for b in plan.buffers)


def test_views_keep_their_owner_alive():
    g = graph_of(lambda x: mg.matrix_transpose(mg.sin(x)) + mg.exp(mg.cos(x)) * 2.0, (4, 4))
    x = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    np.testing.assert_allclose(Executable(g)([x])[0], np.sin(x).T + np.exp(np.cos(x)) * 2, rtol=1e-6)


def test_a_donated_input_is_overwritten_and_no_other():
    g = graph_of(lambda p, g, m: ((m2 := m * 0.9 + g), p - m2 * 0.1), (4,), (4,), (4,))
    run = Executable(g, donate=[2, 0])
    p, d, m = np.ones(4, "float32"), np.full(4, 2.0, "float32"), np.ones(4, "float32")
    new_m, new_p = run([p, d, m])
    assert new_m is m and new_p is p and d.tolist() == [2.0] * 4
    np.testing.assert_allclose(m, 2.9, rtol=1e-6)
    np.testing.assert_allclose(p, 0.71, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------- layout


def slices_added(x, *keys):
    """A sum of functions of slices, whose gradient is a sum of blocks."""
    return sum((mg.sin(x[key] * (k + 1.0)).sum() for k, key in enumerate(keys)), mg.tensor(0.0))


WHERE = {
    "gates": [np.s_[:, :2], np.s_[:, 2:4], np.s_[:, 4:6], np.s_[:, 6:]],
    "holes": [np.s_[1:3, :2], np.s_[1:3, 4:6]],
    "steps": [np.s_[::2, ::-1], np.s_[1::2, ::-1]],
    "overlap": [np.s_[:, :4], np.s_[:, 2:6]],
    "shapes": [np.s_[:, :2], np.s_[:, 2:]],
    "rows": [np.s_[0], np.s_[1], np.s_[-1]],
}


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.parametrize("name", WHERE)
def test_blocks_are_put_where_they_belong(name, backend):
    from minigraph.compiler.passes import layout

    x = mg.tensor(np.random.default_rng(0).normal(size=(4, 8)))
    gradient = mg.grad(lambda x: slices_added(x, *WHERE[name]))
    clean = mg.compiler.default_passes()
    for passes in ([*clean, layout, *clean], mg.compiler.default_passes("c")):
        compiled = mg.compile(gradient, passes=passes, backend=backend)
        np.testing.assert_allclose(compiled(x).numpy(), gradient(x).numpy(), rtol=1e-12)
    compiled = mg.compile(gradient, passes=[*clean, layout, *clean], backend=backend)
    compiled(x)
    found = [n.op.name for n in compiled.optimized.operations]
    assert ("assemble" in found) == (name not in ("overlap", "shapes"))
    assert name in ("overlap", "shapes") or not {"place", "add"} & set(found)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_transposed_products_are_computed_as_they_are_needed(backend):
    from minigraph.compiler.passes import layout

    a, b = (mg.tensor(np.random.default_rng(k).normal(size=s)) for k, s in enumerate([(3, 4), (4, 5)]))
    once = mg.compile(lambda a, b: (a @ b).mT, passes=[layout], backend=backend)
    np.testing.assert_allclose(once(a, b).numpy(), (a.numpy() @ b.numpy()).T)
    assert [n.op.name for n in once.optimized.operations][-1] == "matmul"
    twice = mg.compile(lambda a, b: ((a @ b).mT, a @ b), passes=mg.compiler.default_passes("c"), backend=backend)
    assert [n.op.name for n in (twice(a, b), twice.optimized)[1].operations].count("matmul") == 1


# --------------------------------------------------------------------------------------------------------------- fuse


def network(activation, width=32, rows=200):
    """A training step's gradients: two products with a function between them."""
    x, t = mg.ones((rows, 4)) * 0.3, mg.ones((rows, 3))
    a, b = (mg.tensor(np.random.default_rng(k).normal(size=s)) for k, s in enumerate([(4, width), (width, 3)]))

    def loss(a, b):
        return ((activation(x.astype("float64") @ a) @ b - t) ** 2).sum()

    return mg.grad(loss, (0, 1)), (a, b)


def native_program(f, *arguments):
    graph, steps = optimize(mg.compile(f).trace(*arguments), mg.compiler.default_passes("c"))
    return mg.compiler.NativeProgram(graph, products=True), steps[-1]


def large_results(program, nbytes):
    """What kernels store that is of this size."""
    return sum(b.nbytes == nbytes and b.node.op.name != "matmul" for b in program.memory.buffers)


@pytest.mark.parametrize("activation", [mg.tanh, mg.sigmoid])
def test_a_cheap_derivative_is_computed_where_it_is_needed(activation, monkeypatch):
    """The backward pass needs 1 - y * y or y * (1 - y), and y is in memory anyway."""
    f, arguments = network(activation)
    program, fused = native_program(f, *arguments)
    assert "cheap -> computed again where it is needed, not stored" in {c.rule for c in fused.changes}
    assert large_results(program, 8 * 200 * 32) == 2  # y, and the gradient of what it is computed from
    want = [g.numpy() for g in f(*arguments)]
    for found, g in zip(mg.compile(f, backend="c")(*arguments), want, strict=True):
        np.testing.assert_allclose(found.numpy(), g, rtol=1e-11)
    monkeypatch.setattr(fuse_module.Fusion, "compute_again", lambda self: None)
    before, _ = native_program(f, *arguments)
    assert large_results(before, 8 * 200 * 32) == 3
    assert before.memory.peak - program.memory.peak >= 8 * 200 * 32


def test_what_is_computed_again_is_cheap_and_makes_nothing_wait_longer():
    w = mg.tensor(np.random.default_rng(0).normal(size=(32, 32)))
    rule = "cheap -> computed again where it is needed, not stored"

    def rules(f):
        return {c.rule for c in native_program(f, w)[1].changes}

    assert rule in rules(lambda x: ((y := mg.tanh(x @ x)) @ y) * (y * 2.0 + 1.0))
    assert rule not in rules(lambda x: ((y := mg.exp(mg.tanh(x @ x) + 1.0)) @ y) * y)  # dear
    mask = native_program(lambda x: mg.where((m := (x @ w @ x) > 0), (x @ x @ x), m.astype("float64") @ x), w)[1]
    assert "greater" not in [c.before[0].op.name for c in mask.changes if c.rule == rule]  # a product reads it, too


def test_a_value_that_is_computed_again_is_stored_once_if_a_product_needs_it():
    f = lambda x: (((y := mg.tanh(x @ x)) * y) @ x) * (y * y)  # noqa: E731
    x = mg.tensor(np.random.default_rng(0).normal(size=(16, 16)))
    np.testing.assert_allclose(mg.compile(f, backend="c")(x).numpy(), f(x).numpy(), rtol=1e-11)


def test_nothing_loose_is_left_behind_the_last_pass():
    """Neither constants that went into kernels, nor operations that nobody needs; in kernels, too."""
    f, arguments = network(mg.tanh)
    for graph in (native_program(f, *arguments)[0].graph, optimize(
        graph_of(lambda x: (mg.exp(x) * 2.0, x * 3.0 + 1.0)[1], (4, 4)), [mg.compiler.fuse])[0]):  # fmt: skip
        bodies = [n.attrs["body"] for n in graph.operations if n.op.name == "fused"]
        assert bodies
        for g in (graph, *bodies):
            assert eliminate_dead_code(g).changes == ()


def test_kernels_write_over_what_they_were_the_last_to_read():
    """Point by point only, and never over what a later phase of the same row reads once more."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(16, 16)))
    cases = {
        "each": (lambda x: mg.tanh(x @ x) @ x, True),
        "rows": (lambda x: mg.softmax(x @ x, axis=-1) @ x, True),
        "turned": (lambda x: ((y := x @ x) + y.mT) @ x, False),
        "again": (
            lambda x: (
                ((q := (y := x @ x) / mg.exp(y).sum(axis=1, keepdims=True)) @ x)
                + ((y * 2.0) / (q * q).sum(axis=1, keepdims=True)) @ x
            ),
            None,
        ),
        "needed later": (lambda x: mg.tanh(y := x @ x) @ y, False),
        "of another type": (lambda x: (x @ x).astype("int64").astype("float64") @ x, True),
        "gathered": (lambda x: mg.take(x @ x, mg.arange(15, -1, -1), axis=0) @ x, False),
    }
    for name, (f, expected) in cases.items():
        program, _ = native_program(f, x)
        taken = [b for b in program.memory.buffers if b.in_place_of is not None]
        assert expected is None or bool(taken) == expected, name
        np.testing.assert_allclose(mg.compile(f, backend="c")(x).numpy(), f(x).numpy(), rtol=1e-10, err_msg=name)


def test_a_variable_is_not_written_over_while_a_later_phase_reads_it():
    """`w * 2` is cheap, so the last phase computes it again, from the old value, after a phase has made the new one."""

    def f(w):
        s = (w + 1.0).sum(axis=1, keepdims=True)
        new = w / s
        found = (w * 2.0) / (new * new).sum(axis=1, keepdims=True)
        w.assign(new)
        return found

    values = np.random.default_rng(0).uniform(1, 2, (5, 8))
    one, other = mg.Variable(values), mg.Variable(values)
    np.testing.assert_allclose(mg.compile(lambda: f(one), backend="c")().numpy(), f(other).numpy(), rtol=1e-12)
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)
