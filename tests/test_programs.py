"""Random programs give the same values and gradients in every mode; planted mistakes are found."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from programs import programs, run
from random_programs import differences as between_all_ways
from random_programs import program, smallest

import minigraph as mg
from minigraph.compiler import default_passes, expressions, find_compiler
from minigraph.compiler.passes import algebra

# how many programs: the fast suite tries few, `MINIGRAPH_PROGRAMS=20000` takes hours
EXAMPLES = int(os.environ.get("MINIGRAPH_PROGRAMS", "150"))
quick = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def differences(given, passes=None):
    """What differs between modes for a program; an empty list if nothing does."""
    shapes, instructions, seed = given
    rng = np.random.default_rng(seed)
    inputs = [mg.tensor(rng.uniform(-1, 1, shape).astype("float32")) for shape in shapes]
    others = [mg.tensor(rng.uniform(-1, 1, shape).astype("float32")) for shape in shapes]
    f = mg.value_and_grad(lambda *xs: run(instructions, xs), tuple(range(len(shapes))))
    found = []
    plain, full = mg.compile(f, passes=()), mg.compile(f, passes=passes)
    for xs in (inputs, others):  # two calls: nothing of the first may stick
        value, gradient = f(*xs)
        for name, g in (("without passes", plain), ("with all passes", full)):
            v, d = g(*xs)
            for k, (a, b) in enumerate(zip([value, *gradient], [v, *d], strict=True)):
                if (
                    a.dtype != b.dtype
                    or a.shape != b.shape
                    or not np.allclose(a.numpy(), b.numpy(), rtol=2e-5, atol=2e-5)
                ):
                    found.append(f"{name}: result {k} is {b!r} instead of {a!r}")
    for g in (plain, full):
        g.graph.check()
        for step in g.passes:
            step.after.check()
    return found


@given(programs)
@quick
@example(([(3,)], [("over_four", 0), ("twice_negative", 1), ("scan", 0), ("cond", 1)], 0))
def test_random_programs_agree_in_every_mode(program):
    assert not differences(program)


@given(programs)
@settings(max_examples=max(10, EXAMPLES // 5), deadline=None, suppress_health_check=list(HealthCheck))
def test_random_programs_have_the_gradient_that_finite_differences_have(program):
    shapes, instructions, seed = program
    kinked = {"relu_shifted", "where", "abs", "maximum", "maximum_same", "cond", "up_and_down", "stop", "scan"}
    instructions = [i for i in instructions if i[0] not in kinked]
    rng = np.random.default_rng(seed)
    inputs = [mg.tensor(rng.uniform(-1, 1, shape)) for shape in shapes]
    f = lambda *xs: run(instructions, xs)  # noqa: E731
    gradient = mg.grad(f, tuple(range(len(inputs))))(*inputs)
    direction = [rng.normal(size=shape) for shape in shapes]
    eps = 1e-6
    up, down = (
        f(*[mg.tensor(x.numpy() + s * eps * d) for x, d in zip(inputs, direction, strict=True)]).item() for s in (1, -1)
    )
    along = sum(float((g.numpy() * d).sum()) for g, d in zip(gradient, direction, strict=True))
    assert (up - down) / (2 * eps) == pytest.approx(along, rel=1e-4, abs=1e-5)


PROBES = [
    (
        [(3,), (3, 3)],
        [("sin", 0), ("minus_negative", 0, 1), ("divide", 1, 0), ("multiply", 1, 2), ("matmul", 1, 1), ("add", 3, 4)],
        1,
    ),
    ([(3, 3)], [("transposed", 0), ("over_four", 1), ("subtract", 0, 1), ("sum_rows", 0), ("tanh", 2)], 2),
]


def test_a_planted_wrong_rewrite_is_found(monkeypatch):
    def wrong(n):
        """x - (-y) -> x - y"""
        a, b = n.inputs
        return algebra.made("subtract", a, b.inputs[0], like=n) if algebra.is_op(b, "negative") else None

    table = [entry for entry in algebra.EXACT if entry[1] is not algebra.subtract_negative]
    monkeypatch.setattr(algebra, "EXACT", [(("subtract",), wrong), *table])
    assert any(differences(p) for p in PROBES)


def test_a_planted_merge_that_ignores_attributes_is_found(monkeypatch):
    from minigraph.compiler.passes import common

    monkeypatch.setattr(common, "key", lambda n: (n.op, tuple(map(id, n.inputs))) if n.op and n.inputs else None)
    f = lambda x: mg.flip(x, axis=0) - mg.flip(x, axis=1)  # noqa: E731
    x = mg.tensor(np.arange(9.0).reshape(3, 3))
    assert not np.allclose(mg.compile(f)(x).numpy(), f(x).numpy())


def test_a_planted_wrong_gradient_is_found(monkeypatch):
    op = mg.OPS["sin"]
    monkeypatch.setattr(op, "vjp", (lambda F, g, y, x: g * F.sin(x),))
    x = mg.tensor([0.3, 0.5], dtype="float64")
    with pytest.raises(AssertionError):
        mg.debug.gradcheck(lambda x: mg.sin(x).sum(), x)


def test_a_buffer_reused_too_early_is_found(monkeypatch):
    from minigraph.compiler import memory

    original = memory.plan_memory

    def careless(graph, order, planned):
        plan = original(graph, order, planned)
        plan.buffers = tuple(b._replace(offset=0) if b.offset is not None else b for b in plan.buffers)
        return plan

    monkeypatch.setattr("minigraph.compiler.run.plan_memory", careless)
    assert any(differences(p) for p in PROBES)


def test_the_default_passes_are_the_ones_that_were_tested():
    assert [p.__name__ for p in default_passes()] == [
        "fold_constants", "simplify", "reduce_strength", "eliminate_common_subexpressions", "eliminate_dead_code",
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- all ways

CHUNK = 25  # programs that the C compiler gets at a time
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


def report(found, monkeypatch, flags):
    """What differs, for people: of the first program, the smallest part that still differs."""
    number = min(found)
    small = smallest(program(number), lambda p: bool(between_all_ways([p], monkeypatch, flags)))
    return f"{len(found)} programs differ: {sorted(found)}\n{found[number]}\nsmallest: {small}"


@needs_compiler
def test_random_programs_agree_in_all_ways_to_run_them(monkeypatch):
    """Dynamic mode, static mode without passes, the NumPy plan and C with all passes, for programs 0, 1, 2, ...

    Every tenth chunk is compiled as for users, the others with little optimisation, which is several times faster."""
    for first in range(0, EXAMPLES if EXAMPLES > 150 else CHUNK, CHUNK):
        flags = ("-O3",) if first // CHUNK % 10 == 9 else ("-O1",)
        found = between_all_ways([program(k) for k in range(first, first + CHUNK)], monkeypatch, flags)
        assert not found, report(found, monkeypatch, flags)


@needs_compiler
def test_a_planted_mistake_in_c_is_found(monkeypatch):
    """Operands exchanged in an expression."""
    few = [program(k) for k in range(6)]
    flags = ("-O0",)
    assert not between_all_ways(few, monkeypatch, flags, ways=("c",))
    write = expressions.Writer.__call__
    with monkeypatch.context() as planted:
        planted.setattr(expressions.Writer, "__call__", lambda self, n, operands: write(
            self, n, operands[::-1] if n.op.name == "divide" else operands))  # fmt: skip
        assert between_all_ways(few, monkeypatch, flags, ways=("c",))


@needs_compiler
def test_the_smallest_part_of_a_program_that_fails_is_found():
    p = program(3)
    wanted = p.instructions[len(p.instructions) // 2][0]
    small = smallest(p, lambda q: wanted in [name for name, _, _ in q.instructions])
    assert [name for name, _, _ in small.instructions if name != "same"] == [wanted]
