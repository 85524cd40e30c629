"""What a profile and an explanation say is counted and derived here once more by other means; state is untouched."""

import importlib
import json
import os
import re
import signal
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import programs, run

import minigraph as mg
from minigraph.compiler import toolchain
from minigraph.compiler.explain import boundaries
from minigraph.compiler.report import columns, quantity

roofline = importlib.import_module("minigraph.compiler.roofline")
profiling = importlib.import_module("minigraph.compiler.profile")
explaining = importlib.import_module("minigraph.compiler.explain")

needs_c = pytest.mark.skipif(toolchain.find_compiler() is None, reason="there is no C compiler")
PACKAGE = os.path.dirname(mg.__file__) + os.sep
RNG = np.random.default_rng(0)


def floats(*shape):
    return mg.tensor(RNG.standard_normal(shape).astype("float32"))


def training(seed=0, **options):
    """A step that changes parameters, momenta, gradients, a generator and running statistics."""
    generator = mg.random.Generator(seed)
    net = mg.nn.Sequential(
        mg.nn.Linear(6, 8, generator=generator), mg.nn.BatchNorm1d(8), mg.nn.ReLU(),
        mg.nn.Linear(8, 3, generator=generator),
    )  # fmt: skip
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        h = net(x) + mg.nn.functional.dropout(mg.ones((4, 3)), 0.5, generator=generator)
        loss = mg.cross_entropy(h, y)
        loss.backward()
        optimizer.step()
        return loss

    data = np.random.default_rng(seed)
    x, y = mg.tensor(data.standard_normal((4, 6)).astype("float32")), mg.tensor(data.integers(0, 3, 4))
    return mg.compile(step, **options), x, y


def cells(compiled):
    return list(compiled.last.program.graph.assigns)


def shown(compiled):
    """The very tensors, and the numbers, that the variables of a program show."""
    found = [c.variable._grad if hasattr(c, "variable") else c._tensor for c in cells(compiled)]
    return found, [None if t is None else np.array(getattr(t, "value", t)) for t in found]


def unchanged(compiled, before):
    tensors, values = shown(compiled)
    return all(a is b for a, b in zip(tensors, before[0], strict=True)) and all(
        np.array_equal(a, b) if a is not None else b is None for a, b in zip(values, before[1], strict=True)
    )


# ------------------------------------------------------------------------------------------------------------- counting

COUNTS = {  # function, shapes -> FLOPs, bytes read, bytes written, by hand, for the NumPy plan and in C
    "product": (lambda a, b: a @ b, [(8, 4), (4, 2)], 2 * 8 * 4 * 2, 4 * (32 + 8), 4 * 16),
    "batch of products": (lambda a, b: a @ b, [(3, 8, 4), (4, 2)], 3 * 128, 4 * (96 + 8), 4 * 48),
    "product with itself": (lambda a: a @ mg.matrix_transpose(a), [(8, 4)], 2 * 8 * 4 * 8, 4 * 32, 4 * 64),
    "broadcast": (lambda a, b: a * b, [(8, 4), (4,)], 32, 4 * (32 + 4), 4 * 32),
    "the same twice": (lambda a: a * a, [(8, 4)], 32, 4 * 32, 4 * 32),
    "a broadcast view": (lambda a: mg.broadcast_to(a, (50, 4)) * 2.0, [(4,)], 200, 4 * 4, 4 * 200),
    "a slice": (lambda a: mg.exp(a[:2]), [(8, 4)], 8, 4 * 8, 4 * 8),
    "two overlapping slices": (lambda a: a[:6] + a[2:], [(8, 4)], 24, 4 * 32, 4 * 24),
    "sum of rows": (lambda a: a.sum(axis=1), [(8, 4)], 32, 4 * 32, 4 * 8),
}


@pytest.mark.parametrize("name", COUNTS)
def test_flops_and_bytes_are_those_counted_by_hand(name, each_backend):
    fn, shapes, flops, read, written = COUNTS[name]
    found = mg.compile(fn).profile(*[floats(*s) for s in shapes], calls=1)
    constant = 4 if name == "a broadcast view" and each_backend == "numpy" else 0  # in C, 2.0 is in the text
    assert (found.backend, found.flops) == (each_backend, flops)
    assert sum(r.read for r in found.rows) == read + constant
    assert sum(r.written for r in found.rows) == written
    assert found.nbytes == read + constant + written


@needs_c
def test_a_kernel_counts_its_members_and_what_leaves_its_registers():
    def f(x, w, b):
        h = mg.relu(x @ w + b)
        return h, h.sum(axis=0)

    found = mg.compile(f, backend="c").profile(floats(16, 8), floats(8, 4), floats(4), calls=1)
    product, kernel = found.rows
    assert (product.kind, product.flops, product.nbytes) == ("statement", 2 * 16 * 8 * 4, 4 * (128 + 32 + 64))
    assert (kernel.kind, kernel.members) == ("kernel", ("add", "relu", "sum"))
    assert (kernel.flops, kernel.read, kernel.written) == (3 * 64, 4 * (64 + 4), 4 * (64 + 4))
    assert kernel.intensity == 192 / 544


@needs_c
def test_a_gather_reads_what_it_takes():
    table, places = floats(1000, 4), mg.tensor([1, 5, 5])
    found = mg.compile(lambda t, i: mg.embedding(i, t), backend="c").profile(table, places, calls=1)
    assert (found.flops, found.rows[-1].read) == (0, 4 * 12 + 8 * 3)


def test_loops_count_every_round_and_branches_the_costlier_one(each_backend):
    x = floats(5, 3)
    found = mg.compile(lambda x: mg.scan(lambda c, t: (mg.tanh(c * t), c), mg.zeros(3), x)[0]).profile(x, calls=1)
    assert next(r.flops for r in found.rows if r.name == "scan") == 5 * (3 + 3)
    branch = mg.compile(lambda x: mg.cond(x.sum() > 0, lambda t: mg.sin(t), lambda t: mg.sin(t) * t, x))
    assert next(r.flops for r in branch.profile(x, calls=1).rows if r.name == "cond") == 30


def by_hand(graph):
    """The FLOPs of the operations used here, from the shapes only."""
    total = 0
    for n in graph.operations:
        match n.op.name:
            case "matmul":
                total += 2 * n.inputs[0].shape[0] * n.inputs[0].shape[1] * n.inputs[1].shape[1]
            case "sum":
                total += int(np.prod(n.inputs[0].shape))
            case "add" | "multiply" | "tanh":
                total += int(np.prod(n.shape))
            case other:
                assert other in ("matrix_transpose", "broadcast_to", "reshape")
    return total


def counts_agree(fn, *arguments, backend):
    compiled = mg.compile(fn, backend=backend)
    found = compiled.profile(*arguments, calls=1)
    return found.flops == by_hand(compiled.graph)


@settings(max_examples=8)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_the_sum_of_all_steps_is_the_sum_of_all_operations(m, k, n):
    def f(x, w, b):
        return (mg.tanh(x @ w + b) * b).sum()

    for backend in ("numpy", "c") if toolchain.find_compiler() else ("numpy",):
        assert counts_agree(f, floats(m, k), floats(k, n), floats(n), backend=backend)


def test_a_planted_miscount_is_found(monkeypatch):
    given = floats(3, 4), floats(4, 5)
    assert counts_agree(lambda x, w: x @ w, *given, backend="numpy")
    monkeypatch.setattr(mg.OPS["matmul"], "flops", lambda a, b: a.size * b.shape[1])  # forgets the additions
    assert not counts_agree(lambda x, w: x @ w, *given, backend="numpy")


def test_planted_bytes_are_found(monkeypatch, each_backend):
    monkeypatch.setattr(profiling, "touched", lambda x, views: (x, x.size * x.dtype.itemsize))
    with pytest.raises(AssertionError):
        test_flops_and_bytes_are_those_counted_by_hand("a broadcast view", each_backend)


# ------------------------------------------------------------------------------------------------------------ structure


def structure_is_right(compiled, found):
    native = compiled.last.program.native
    if native is not None:
        nodes = [s.node for s in native.program.steps]
        timed = native.program.text(timed=True)
        marks = [int(i) for i in re.findall(r"spent\[(\d+)\] \+=", timed)]
        assert sorted(marks) == list(range(len(nodes)))
    else:
        nodes = compiled.last.program.executable.order
    assert len(nodes) == len(found.rows)
    assert all(a is r.node for a, r in zip(nodes, found.rows, strict=True))
    assert [r.number for r in found.rows] == list(range(len(nodes)))
    assert all(0 <= r.best <= r.median for r in found.rows)
    assert all(r.flops >= 0 and r.read >= 0 and r.written >= 0 for r in found.rows)
    assert found.rows == () or abs(sum(r.share for r in found.rows) - 1) < 1e-6
    assert sorted(found.widest()) == list(found.rows) or len(found.rows) < 2
    assert 0 < found.best <= found.median
    assert found.outside >= 0


def test_every_scheduled_step_appears_once(each_backend):
    step, x, y = training()
    found = step.profile(x, y, calls=3)
    assert (found.backend, found.calls, found.name) == (each_backend, 3, "step")
    structure_is_right(step, found)


@settings(max_examples=15)
@given(programs)
def test_any_program_can_be_profiled_and_explained(program):
    shapes, instructions, seed = program
    rng = np.random.default_rng(seed)
    inputs = [mg.tensor(rng.uniform(-1, 1, s).astype("float32")) for s in shapes]
    for backend in ("numpy", "c") if toolchain.find_compiler() else ("numpy",):
        compiled = mg.compile(lambda *values: run(instructions, values), backend=backend)
        structure_is_right(compiled, compiled.profile(*inputs, calls=1))
        said = compiled.explain()
        assert all(b.reason and b.shared >= 0 for b in boundaries(before_fusion(compiled)))
        well_formed(said._repr_html_())


def test_the_timed_numpy_program_computes_the_same(monkeypatch):
    step, x, y = training(backend="numpy")
    step.trace(x, y)
    executable = step.last.program.executable
    arrays = [x.value, y.value, *[c._tensor.value for c in executable.graph.reads]]
    timed = profiling.Timed(executable.graph, lambda: 0.0)
    for a, b in zip(timed(arrays), executable(arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    ticks = iter(range(10_000))
    timed = profiling.Timed(executable.graph, lambda: next(ticks))
    timed(arrays)
    assert timed.spent == [1] * len(executable.order)


def test_clocks_belong_to_their_steps():
    """A step that takes long must be the one that is said to."""

    @mg.op
    def slow_step(xp, x):
        signal.sigtimedwait([], 0.02) if hasattr(signal, "sigtimedwait") else None
        return x + 1

    found = mg.compile(lambda x: mg.sin(slow_step(mg.cos(x))), backend="numpy").profile(floats(4), calls=2)
    assert found.widest()[0].name == "slow_step"


def test_nothing_to_do(each_backend):
    found = mg.compile(lambda x: x).profile(floats(3), calls=1)
    assert (found.rows, found.flops, found.nbytes, found.least) == ((), 0, 0, 0)
    assert "0 steps" in repr(found)
    well_formed(found._repr_html_())


def test_arguments_by_name_and_floats():
    f = mg.compile(lambda x, scale: x * scale)
    assert f.profile(floats(3), scale=2.0, calls=1).rows[-1].name == "multiply"


@pytest.mark.parametrize("calls", [0, -1, 1.5])
def test_calls_are_a_positive_number(calls):
    with pytest.raises(mg.errors.ArgumentError, match="positive number"):
        mg.compile(lambda x: x + 1).profile(floats(3), calls=calls)


def test_not_inside_of_another_trace():
    f = mg.compile(lambda x: x + 1)
    with pytest.raises(mg.errors.TraceError, match="outermost"):
        mg.compile(lambda x: f.profile(x))(floats(3))


def test_another_device_has_no_roofline():
    x = floats(3).to("strict")
    found = mg.compile(lambda x: mg.tanh(x * 2.0)).profile(x, calls=1)
    assert found.backend == "numpy"
    assert found.roofline is None
    assert {r.least for r in found.rows} == {None}
    assert "not known" in repr(found)


# ---------------------------------------------------------------------------------------------------------------- state


def test_variables_are_as_they_were(each_backend):
    profiled, x, y = training()
    plain, _, _ = training()
    for _ in range(3):
        assert profiled(x, y).item() == plain(x, y).item()
    before = shown(profiled)
    profiled.profile(x, y, calls=5)
    assert unchanged(profiled, before)
    for _ in range(3):  # and training goes on as if nothing had been
        assert profiled(x, y).item() == plain(x, y).item()
    for a, b in zip(shown(profiled)[1], shown(plain)[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_also_before_the_first_call(each_backend):
    profiled, x, y = training()
    plain, _, _ = training()
    profiled.profile(x, y, calls=2)
    assert profiled(x, y).item() == plain(x, y).item()


def test_variables_are_as_they_were_after_an_error(each_backend):
    step, x, y = training()
    step(x, y)
    before = shown(step)
    with pytest.raises(mg.errors.MinigraphError):
        step.profile(x, mg.tensor([0, 1, 2, 7]), calls=2)
    assert unchanged(step, before)


def test_variables_are_as_they_were_after_an_error_in_a_later_call(each_backend):
    counter, calls = mg.Variable(0.0, name="counter"), []

    @mg.op
    def fails_at_third(xp, x):
        calls.append(None)
        if len(calls) == 3:
            raise OverflowError("enough")
        return x + 1

    def step(x):
        counter.assign(counter + 1.0)
        return fails_at_third(x)

    compiled = mg.compile(step)
    compiled.trace(floats(2))
    calls.clear()
    with pytest.raises(mg.errors.MinigraphError, match="enough"):
        compiled.profile(floats(2), calls=10)
    assert counter.item() == 0.0
    assert len(calls) > 2  # not the first one


class Press:
    """Presses Ctrl-C at line number `at` of those that minigraph runs."""

    def __init__(self, at):
        self.at, self.count = at, 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith((PACKAGE, "<minigraph")):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)
        return self


def test_variables_are_as_they_were_after_ctrl_c_anywhere(each_backend):
    weight = mg.Variable(np.ones(3, "float32"), name="weight", requires_grad=True)

    def step(x):
        weight.grad = None
        loss = (weight * x).sum()
        loss.backward()
        weight.assign(weight - weight.grad * 0.1)
        return loss

    compiled, x, handler = mg.compile(step), floats(3), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        compiled(x)
        compiled.profile(x, calls=2)
        before = shown(compiled)
        at, interrupted = 1, 0
        while True:
            press = Press(at)
            sys.settrace(press)
            try:
                compiled.profile(x, calls=2)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.settrace(None)
            assert unchanged(compiled, before), f"a variable changed by Ctrl-C at line {at}"
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if press.count < at:
                break
            at += 7
    finally:
        signal.signal(signal.SIGINT, handler)
    assert interrupted > 20


def test_a_planted_leak_is_found(monkeypatch):
    monkeypatch.setattr(profiling.kept, "__exit__", lambda *args: None)
    step, x, y = training(backend="c" if toolchain.find_compiler() else "numpy")
    step(x, y)
    before = shown(step)
    step.profile(x, y, calls=1)
    assert unchanged(step, before) is (toolchain.find_compiler() is None)  # the NumPy program assigns nothing


# ------------------------------------------------------------------------------------------------------------- pictures


def well_formed(html):
    """The page as a tree; no script, nothing from the network, no ids."""
    tree = ET.fromstring(html.replace("&nbsp;", " "))
    assert not [e for e in tree.iter() if e.tag in ("script", "link", "img", "iframe") or "id" in e.attrib]
    assert not [a for e in tree.iter() for a in e.attrib if a.startswith("on")]
    assert "http" not in html
    return tree


def masked(text):
    """The text with all numbers, units and the padding of columns masked, lines in any order."""
    number = re.compile(r">?\d+([.]\d+)?( [nµmkMGT]?(s|B|FLOP)\S*|x| %| [kMG])?")
    return sorted(re.sub(r"[ ]+", " ", number.sub("#", line)).strip() for line in text.splitlines())


def test_profiles_print_as_tables(each_backend):
    f = mg.compile(lambda x, w: mg.tanh(x @ w))
    found = [f.profile(floats(8, 4), floats(4, 2), calls=2) for _ in range(2)]
    assert masked(repr(found[0])) == masked(repr(found[1]))
    lines = repr(found[0]).splitlines()
    language = {"c": "C", "numpy": "NumPy"}[each_backend]
    assert lines[0] == f"<lambda> in {language}: 2 steps, 2 calls"
    assert lines[1].split() == ["share", "best", "median", "FLOPs", "bytes", "FLOP/B", "roofline", "kind", "step"]
    assert [r.best for r in found[0].widest()] == sorted([r.best for r in found[0].rows], reverse=True)
    assert lines[4].endswith("the whole call")
    assert re.search(r"144\s+352 B\s+0.41", lines[4])
    assert "L1" in lines[5]


def test_long_profiles_are_cut():
    def f(x):
        for _ in range(140):
            x = mg.sin(x)
        return x

    found = mg.compile(f, backend="numpy").profile(floats(3), calls=1)
    assert len(repr(found).splitlines()) == 2 + profiling.SHOWN + 3
    assert f"... {140 - profiling.SHOWN} more" in repr(found)
    lines = well_formed(found._repr_html_()).findall(".//tbody/tr")
    assert len(lines) == profiling.SHOWN_ON_PAGE + 1
    assert lines[-1][-1].text == f"... {140 - profiling.SHOWN_ON_PAGE} more"


def test_pages_are_well_formed_and_escape_names(each_backend):
    cell = mg.Variable(np.zeros(3, "float32"), name="<script>alert(1)</script>&\"'")

    def g(x):
        cell.assign(cell + x)
        return mg.tanh(x)

    g.__name__ = '<b onclick="x">&'
    compiled = mg.compile(g)
    found = compiled.profile(floats(3), calls=1)
    tree = well_formed(found._repr_html_())
    assert tree.find(".//caption").text.startswith('<b onclick="x">&')
    assert len(tree.findall(".//tbody/tr")) == len(found.rows)
    assert tree.find(".//tfoot") is not None
    well_formed(compiled.explain()._repr_html_())


def test_colours_have_a_dark_set():
    style = well_formed(mg.compile(lambda x: x + 1).profile(floats(2), calls=1)._repr_html_()).find("style").text
    assert "prefers-color-scheme:dark" in style
    assert '[data-jp-theme-light="false"]' in style
    used = set(re.findall(r"var\((--mg-\w+)\)", style))
    for colours in re.findall(r"\.minigraph-report\{((?:--mg[^}]*))\}", style):
        assert used <= set(re.findall(r"(--mg-\w+):", colours))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0, "B", "0 B"), (999, "B", "999 B"), (1000, "B", "1.00 kB"), (12_345_678, "FLOP", "12.3 MFLOP"), (5, "", "5"),
     (999.7, "B", "1.00 kB"), (1e-9, "s", "1.00 ns"), (0.0125, "s", "12.5 ms"), (75.0, "s", "75.0 s"),
     (0, "s", "0.00 ns"),     (1e15, "B/s", "1000 TB/s"), (1.5e9, "s", "1500000000 s")],
)  # fmt: skip
def test_numbers_with_units(value, unit, text):
    assert quantity(value, unit) == text


@given(st.floats(1e-3, 1e14))
def test_numbers_with_units_are_near(value):
    number, _, unit = quantity(value, "B").partition(" ")
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit.removesuffix("B")]
    assert abs(float(number) * factor - value) <= max(0.006 * value, 0.005)


def test_columns():
    assert columns([("a", "10"), ("bcd", "2")], "<>", "") == ["a    10", "bcd   2"]


# ------------------------------------------------------------------------------------------------------------- roofline


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Measurements that take no time, and a cache of their own."""
    monkeypatch.setattr(roofline, "PATIENCE", 0.0)
    monkeypatch.setattr(roofline, "MOST", 1 << 16)
    monkeypatch.setattr(roofline, "caches", lambda: [("L1", 1 << 12), ("L2", 1 << 14), ("L3", 1 << 15)])
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path / "cache"))
    roofline._known.cache_clear()
    yield tmp_path / "cache"
    roofline._known.cache_clear()


MACHINE = roofline.Roofline(
    "a machine", 2, 100.0, 50.0,
    (roofline.Level("L1", 10.0, 40.0), roofline.Level("L2", 100.0, 20.0), roofline.Level("memory", float("inf"), 10.0)),
    "C", "a BLAS",
)  # fmt: skip


def test_what_is_attainable():
    assert MACHINE.attainable(1000, 1) == 100  # arithmetic is the limit
    assert MACHINE.attainable(1000, 1, "float64") == 50
    assert MACHINE.attainable(5, 10) == 20  # half a FLOP for each byte, from L1
    assert MACHINE.attainable(50, 100) == 10  # from L2
    assert MACHINE.attainable(500, 1000) == 5  # from memory
    assert MACHINE.attainable(0, 1000) == 0
    assert MACHINE.attainable(0, 0) == 100
    assert MACHINE.seconds(1000, 1000) == 100
    assert MACHINE.seconds(100, 1000, "float64") == 100
    assert MACHINE.seconds(10_000, 1000, "float64") == 200
    assert [MACHINE.level(n).name for n in (0, 10, 11, 100, 101)] == ["L1", "L1", "L2", "L2", "memory"]


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_no_rate_exceeds_the_ceilings(flops, nbytes):
    found = MACHINE.attainable(flops, nbytes)
    assert found <= MACHINE.single
    assert nbytes == 0 or found <= 40 * (flops / nbytes) * (1 + 1e-9)
    if flops and nbytes and found:
        assert MACHINE.seconds(flops, nbytes) == pytest.approx(max(flops / MACHINE.single, flops / found), rel=1e-6)


def sound(found):
    names = [level.name for level in found.levels]
    assert names == ["L1", "L2", "L3", "memory"]
    assert found.levels[-1].capacity == float("inf")
    speeds = [level.bandwidth for level in found.levels]
    assert min(speeds) > 0
    assert speeds == sorted(speeds, reverse=True)
    assert found.single > 0
    assert found.double > 0
    assert [line.split()[0] for line in repr(found).splitlines()[1:]] == ["float32", "float64", *names]
    return True


@pytest.mark.parametrize("threads", ["1", "2"])
def test_ceilings_are_measured_and_remembered(quick, monkeypatch, threads):
    monkeypatch.setenv("MINIGRAPH_THREADS", threads)
    found = mg.compiler.roofline()
    assert sound(found)
    assert found.threads == (int(threads) if found.tool == "C" else 1)
    assert mg.compiler.roofline() is found
    roofline._known.cache_clear()  # another process
    monkeypatch.setattr(roofline, "measure", None)
    assert mg.compiler.roofline() == found


def test_another_number_of_threads_is_another_roofline(quick, monkeypatch):
    monkeypatch.setenv("MINIGRAPH_THREADS", "1")
    one = mg.compiler.roofline()
    monkeypatch.setenv("MINIGRAPH_THREADS", "2")
    assert mg.compiler.roofline() is not one
    assert len(list(quick.glob("roofline-*.json"))) == 2


def test_again_replaces_what_is_remembered(quick, monkeypatch):
    mg.compiler.roofline()
    monkeypatch.setattr(roofline, "measure", lambda count: MACHINE)
    assert mg.compiler.roofline() != MACHINE
    assert mg.compiler.roofline(again=True) == MACHINE
    roofline._known.cache_clear()
    assert mg.compiler.roofline() == MACHINE


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", json.dumps(MACHINE._asdict() | {"single": 0}), json.dumps(MACHINE._asdict() | {"levels": []}),
     json.dumps(MACHINE._asdict() | {"more": 1}), json.dumps(MACHINE._asdict() | {"single": "fast"})],
)  # fmt: skip
def test_a_broken_file_is_measured_again(quick, monkeypatch, text):
    mg.compiler.roofline()
    (file,) = quick.glob("roofline-*.json")
    file.write_text(text)
    roofline._known.cache_clear()
    monkeypatch.setattr(roofline, "measure", lambda count: MACHINE)
    assert mg.compiler.roofline() == MACHINE


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is kept there")
def test_a_file_that_others_may_write_is_not_believed(quick, monkeypatch):
    true = mg.compiler.roofline()
    (file,) = quick.glob("roofline-*.json")
    file.write_text(json.dumps(MACHINE._asdict()))
    file.chmod(0o666)
    roofline._known.cache_clear()
    assert mg.compiler.roofline() != MACHINE
    assert true != MACHINE


def test_a_home_that_cannot_be_written(quick, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path / "file" / "below"))  # below a file nothing can be made
    assert sound(mg.compiler.roofline())
    assert not (tmp_path / "cache").exists()


def test_without_a_compiler_numpy_measures(quick, monkeypatch):
    monkeypatch.setattr(toolchain, "find_compiler", lambda: None)
    found = mg.compiler.roofline()
    assert found.tool == "NumPy"
    assert sound(found)


@needs_c
def test_what_is_measured_computes_what_it_says():
    tool = toolchain.build(roofline.SOURCE)
    memory, spent = np.arange(3 * 64, dtype="float32"), np.zeros(1)
    a, b, c = memory.reshape(3, 64).copy()
    roofline.bandwidth(1 << 12, 1, tool)  # declares the arguments
    tool.triad(memory.ctypes.data, 64, 0, 1, 1, spent.ctypes.data)
    np.testing.assert_array_equal(memory[:64], b + 0.5 * c)
    assert not np.array_equal(memory[:64], a)
    assert spent[0] > 0


def test_caches_of_a_machine_are_in_order():
    found = roofline.caches()
    assert [size for _, size in found] == sorted(size for _, size in found)
    assert found[0][1] >= 1 << 12


# ------------------------------------------------------------------------------------------------------------ explained


def before_fusion(compiled):
    """The graph that the pass `fuse` gets, or would get."""
    graph = compiled.graph
    for p in mg.compiler.default_passes("c")[:-1]:
        graph = p(graph)
    return graph


def reasons(fn, *shapes):
    compiled = mg.compile(fn, backend="numpy")
    compiled.trace(*[mg.tensor(np.ones(s, "float32")) for s in shapes])
    return [b.reason for b in boundaries(before_fusion(compiled))]


def needed_early(x, w, product_first):
    h = mg.sin(x)
    s = h.sum(axis=1)  # in the rows of the first kernel
    product = h @ w if product_first else None
    late = mg.cos(mg.sort(w[:, 0]))
    return (h @ w if product is None else product), s * late


@pytest.mark.parametrize(
    ("fn", "shapes", "words"),
    [
        (lambda x: mg.exp(x - x.sum()), [(4, 8)], "sum is complete only when all loops of the first are done"),
        (lambda x, w: mg.sin(mg.sin(x) @ w), [(4, 4), (4, 4)], "matmul, a library call, lies between them"),
        (lambda x: mg.sin(mg.sort(mg.cos(x))), [(4,)], "sort, which has a function of its own, lies between them"),
        (lambda x, w: needed_early(x, w, True), [(4, 4), (4, 2)], "matmul, a library call, needs the first and comes"),
        (lambda x, w: needed_early(x, w, False), [(4, 4), (4, 2)], "the second had loops of its own before"),
        (lambda x: (mg.sin(x), mg.sin(x[:2])), [(4, 8)], "different loops: 4 x 8, and 2 x 8 for sin"),
        (lambda x, y: (mg.sin(x), mg.cos(y)), [(4,), (4,)], "they read nothing in common"),
        (lambda x: mg.sin(x) + mg.matrix_transpose(mg.sin(x)), [(4, 4)], "add reads sin in another order"),
        (lambda x: (x.sum(axis=1), x.sum(axis=0) * mg.sin(x).sum(axis=0)), [(3, 4)], "different loops"),
    ],
    ids=[
        "total",
        "library",
        "by itself",
        "needed early",
        "own loops",
        "loops",
        "nothing in common",
        "order",
        "rows and columns",
    ],
)
def test_reasons_why_kernels_are_not_one(fn, shapes, words):
    found = reasons(fn, *shapes)
    assert any(r.startswith(words) for r in found), found


def test_a_kernel_has_room_for_so_many(monkeypatch):
    def f(x):
        for _ in range(12):
            x = mg.sin(x)
        return x

    assert reasons(f, (5,)) == []
    monkeypatch.setattr(importlib.import_module("minigraph.compiler.passes.fuse"), "MOST", 8)
    monkeypatch.setattr(explaining, "MOST", 8)
    assert reasons(f, (5,)) == ["too many operations for one kernel: 12, at most 8"]


@needs_c
def test_an_explanation_says_what_the_program_is():
    step, x, y = training(backend="c")
    step(x, y)
    said, native = step.explain(), step.last.program.native
    steps = native.program.steps
    assert list(said.parts) == ["passes", "kernels", "products and other calls", "not in C", "not fused", "memory",
                                "outputs and variables", "threads", "build"]  # fmt: skip
    for row, p in zip(said["passes"].rows, step.passes, strict=True):
        assert row[:3] == (p.name, f"{len(p.before.nodes)} -> {len(p.after.nodes)}", str(len(p.changes)))
    assert sum(int(row[1]) for row in said["kernels"].rows) == sum(s.kind == "kernel" for s in steps)
    assert all(row[0] in step.source for row in said["kernels"].rows)
    assert sum(int(row[3]) for row in said["products and other calls"].rows) == sum(
        s.kind == "statement" for s in steps
    )
    assert {row[0] for row in said["not in C"].rows} == {s.node.op.name for s in steps if s.kind == "callback"}
    sizes = {row[0]: row[1] for row in said["memory"].rows}
    assert sizes["arena"] == quantity(step.memory.arena, "B", 1024)
    assert sizes["lower bound"] == quantity(step.memory.bound, "B", 1024)
    number = sum(int(row[1]) for row in said["outputs and variables"].rows)
    assert number == len(step.last.program.graph.outputs) + len(cells(step))
    assert sum(int(row[1]) for row in said["threads"].rows) == sum(s.kind != "callback" for s in steps)
    assert dict(said["build"].rows)["compiler"].endswith(toolchain.find_compiler().version)
    assert "is one C function" in said.head
    assert all(title in repr(said) for title in said.parts)
    tree = well_formed(said._repr_html_())
    assert len(tree.findall(".//table")) == sum(bool(p.rows) for p in said.parts.values())


@needs_c
def test_explanations_are_stable():
    def one():
        step, x, y = training(backend="c")
        step(x, y)
        return step.explain()

    one()  # compiles; from now on it is in the cache
    assert masked(repr(one())) == masked(repr(one()))


def explained(fn, *arguments, **options):
    compiled = mg.compile(fn, backend="c", **options)
    compiled(*arguments)
    return compiled.explain()


@needs_c
def test_why_something_is_not_in_c():
    @mg.op
    def mine(xp, x):
        return x + 1

    rows = explained(lambda x: (mine(x), mg.einsum("i,i,i->i", x, x, x)), floats(4))["not in C"].rows
    assert {row[0]: row[2] for row in rows} == {
        "mine": "it is the user's own, written in Python",
        "einsum": "its algorithm is no loop over an expression, and is left to NumPy",
    }
    rows = explained(lambda x: mg.sin(x), mg.tensor(np.ones(3, "float16")))["not in C"].rows
    assert rows[0][2] == "there is no C for float16"
    assert explained(lambda x: mg.sin(x), floats(3))["not in C"].note == "everything is in C"
    (row,) = explained(lambda x: mg.scan(lambda c, t: (c + mine(t), c), mg.zeros(2), x)[0], floats(3, 2))[
        "not in C"
    ].rows
    assert (row[0], row[2]) == ("scan", "mine in its body: it is the user's own, written in Python")


@needs_c
def test_why_results_are_copied():
    kept, other = mg.Variable(np.zeros(4, "float32"), name="kept"), mg.Variable(np.zeros(4, "float32"), name="other")

    def f(x):
        kept.assign(x)
        y = mg.sin(x)
        other.assign(y)
        return y, mg.cos(x)

    rows = {name: (how, why) for how, _, which, why in explained(f, floats(4))["outputs and variables"].rows
            for name in which.split(", ")}  # fmt: skip
    assert rows == {
        "kept": ("copied at the end", "it is given to the function as it is"),
        "other": ("copied at the end", "the same result has another place, too"),
        "output 0": ("written in place", ""),
        "output 1": ("written in place", ""),
    }

    def fallible(x, i):
        kept.assign(kept * 2.0)
        return x[i]

    rows = explained(fallible, floats(4), mg.tensor([1, 2]))["outputs and variables"].rows
    assert any(row[2] == "kept" and ("can still fail" in row[3] or row[0] == "written in place") for row in rows)


@needs_c
def test_why_threads(monkeypatch):
    x = floats(1 << 20)
    monkeypatch.setenv("MINIGRAPH_THREADS", "2")
    (row,) = explained(lambda x: mg.exp(x), x)["threads"].rows
    assert (row[0], row[3]) == ("2", "its outermost loop of 1048576 is divided")
    (row,) = explained(lambda x: mg.exp(x), floats(64))["threads"].rows
    assert (row[0], row[3]) == ("1", "estimated at less than 40 µs")
    (row,) = explained(lambda x: mg.exp(x), floats(8))["threads"].rows
    assert row[3] == "its outermost loop has fewer than 16 rounds"
    monkeypatch.setenv("MINIGRAPH_THREADS", "1")
    (row,) = explained(lambda x: mg.exp(x), x)["threads"].rows
    assert row[3] == "there is one thread only"


@needs_c
def test_whether_it_was_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path / "cache"))
    libraries = [dict(explained(lambda x: mg.sin(x) * 3.0, floats(4))["build"].rows)["library"] for _ in range(2)]
    assert libraries[0].startswith("compiled in")
    assert libraries[1].startswith("found in the cache in")


@needs_c
def test_without_fusion():
    said = explained(lambda x: mg.sin(x) * 3.0, floats(4), passes=())
    assert "not among the passes" in said["not fused"].note
    assert said["passes"].note == "none were asked for"
    assert len(said["kernels"].rows) == 2


@pytest.mark.parametrize("wanted", ["numpy", None])
def test_why_numpy(monkeypatch, wanted):
    monkeypatch.setenv("MINIGRAPH_BACKEND", "numpy")
    compiled = mg.compile(lambda x: mg.sin(x) * 3.0, backend=wanted)
    compiled(floats(4))
    said = compiled.explain()
    assert ("asked for" if wanted else "MINIGRAPH_BACKEND") in said["not in C"].note
    assert (
        sum(int(row[0]) for row in said["operations"].rows if row[1] != "written over an operand that ends there") == 2
    )
    monkeypatch.delenv("MINIGRAPH_BACKEND")
    monkeypatch.setattr(toolchain, "find_compiler", lambda: None)
    if wanted is None:
        assert compiled.explain()["not in C"].note == "no C compiler was found"


def test_why_numpy_on_another_device():
    compiled = mg.compile(lambda x: mg.sin(x))
    compiled(floats(4).to("strict"))
    assert compiled.explain()["not in C"].note == "it computes on strict"


def test_only_what_has_been_called_can_be_explained():
    with pytest.raises(mg.errors.GraphError, match="has not been called"):
        mg.compile(lambda x: x).explain()


def test_traces_are_told():
    f = mg.compile(lambda x: x * 2.0)
    f(floats(3))
    assert "traced" not in f.explain().head
    f(floats(4))
    assert "traced 2 times, the last time because argument x: float32[3] became float32[4]" in f.explain().head


def test_the_cache_folder_is_where_the_libraries_are():
    path = roofline.kept_at(1)
    assert path is None or path.parent == Path(toolchain.cache_directory())
