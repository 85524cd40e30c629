"""The pass explorer: what became of each node, which line computes which node, and what a pass is worth."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import default_passes, find_compiler
from minigraph.compiler.passes import expand
from minigraph.draw import layout
from minigraph.errors import ArgumentError, GraphError
from minigraph_widgets import PassExplorer
from minigraph_widgets.costs import planned
from minigraph_widgets.generated import generated
from minigraph_widgets.rewrites import Rewrites
from minigraph_widgets.view import to_json

BACKENDS = ["numpy", pytest.param("c", marks=pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler"))]


def training_step(backend):
    net = mg.nn.Sequential(mg.nn.Linear(8, 5), mg.nn.ReLU(), mg.nn.Linear(5, 3))
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)

    @mg.compile(backend=backend)
    def step(x, y):
        optimizer.zero_grad()
        loss = mg.nn.CrossEntropyLoss()(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return net, step, (mg.ones((4, 8)), mg.tensor(np.array([0, 1, 2, 0])))


@pytest.fixture(params=BACKENDS)
def trained(request):
    net, step, inputs = training_step(request.param)
    step(*inputs)
    return net, step


def followed(fn, *inputs, **options):
    """What the passes did to a function: {name of a pass: its `Rewrites`}, of passes that changed something."""
    compiled = mg.compile(fn, **{"backend": "numpy"} | options)
    compiled.trace(*inputs)
    return {s.name: Rewrites(s) for s in compiled.passes if s.changes}


def marked(r, side):
    nodes, marks = (r.old, r.before) if side == "before" else (r.new, r.after)
    return Counter((n.op.name if n.op else "constant", marks[id(n)]) for n in nodes if id(n) in marks)


# ------------------------------------------------------------------------------------------- what became of a node


def test_an_operand_takes_the_place_of_what_is_removed():
    r = followed(lambda x: mg.exp(x * 1.0), mg.ones(2))["simplify"]
    assert [(c.kind, c.rule, c.here) for c in r.rewrites] == [("removed", "x * 1 -> x", "x * 1 → x")]
    assert marked(r, "before") == {("multiply", "removed"): 1}
    assert marked(r, "after") == {}


def test_two_become_one():
    r = followed(lambda x: mg.exp(x) * mg.exp(x), mg.ones(2))["eliminate_common_subexpressions"]
    assert [(c.kind, len(c.before), len(c.after)) for c in r.rewrites] == [("merged", 1, 1)]
    assert marked(r, "before") == {("exp", "merged"): 1}
    assert marked(r, "after") == {("exp", "merged"): 1}
    assert r.rewrites[0].before[0] is not r.rewrites[0].after[0]


def test_constants_go_with_what_they_were_for():
    r = followed(lambda x: x * (mg.tensor(2.0) * 3.0), mg.ones(2))["fold_constants"]
    assert marked(r, "before") == {("constant", "removed"): 2, ("multiply", "rewritten"): 1}
    assert marked(r, "after") == {("constant", "rewritten"): 1}
    assert all(r.touched_before[id(n)] == [0] for n in r.old if id(n) in r.before)


def test_an_expansion_is_made_of_a_result_and_its_parts():
    r = followed(mg.mean, mg.ones(4), passes=[expand])["expand"]
    assert marked(r, "before") == {("mean", "rewritten"): 1}
    assert marked(r, "after") == {("divide", "rewritten"): 1, ("sum", "added"): 1, ("constant", "added"): 1}
    assert all(r.touched_after[id(n)] == [0] for n in r.new if id(n) in r.after)


def test_rules_that_fire_one_after_the_other_are_followed_to_nodes_that_are_there():
    r = followed(lambda x: mg.exp(mg.abs(mg.abs(x * 1.0)) * 1.0), mg.ones(2))["simplify"]
    assert len(r.rewrites) == 3
    old, new = {id(n) for n in r.step.before.nodes}, {id(n) for n in r.step.after.nodes}
    assert all({id(n) for n in c.before} <= old and {id(n) for n in c.after} <= new for c in r.rewrites)
    assert marked(r, "before") == {("multiply", "removed"): 2, ("abs", "removed"): 1}


def test_kernels_are_made_of_many():
    if find_compiler() is None:
        pytest.skip("needs a C compiler")
    r = followed(lambda x: mg.exp(x * 3.0) + 1.0, mg.ones(4), backend="c")["fuse"]
    assert [(c.kind, len(c.before), len(c.after)) for c in r.rewrites] == [("merged", 3, 1)]
    assert marked(r, "after") == {("fused", "merged"): 1}


WORDS = {
    "one": lambda y: y * 1.0,
    "twice": lambda y: mg.sin(y) + mg.sin(y),
    "exp": mg.exp,
    "negative": lambda y: -y,
    "mean": lambda y: y - mg.mean(y),
    "dead": lambda y: (mg.cos(y), y * 2.0)[1],
    "fold": lambda y: y + mg.tensor(2.0) * 3.0,
}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(WORDS)), st.integers(0, 3)), max_size=12)


def program(steps):
    def f(x):
        made = [x, x + 2.0]
        for what, k in steps:
            made.append(WORDS[what](made[-1 - k % len(made)]))
        return made[-1]

    return f


def left_over(r):
    """What stayed, once as counted before and once as counted after: operations and their types.

    Constants are counted, too, unless they have gone into kernels.
    """

    def counted(nodes):
        return Counter(
            (n.op.name, str(n.value)) if n.op else ("constant", str(n.value))
            for n in nodes
            if n.op or r.step.name != "fuse"
        )

    stayed = counted(n for n in r.step.before.nodes if id(n) not in r.before)
    return stayed, counted(n for n in r.step.after.nodes if r.was(n) is not None)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_what_is_not_marked_is_there_before_and_after(steps):
    backend = "c" if find_compiler() is not None else "numpy"
    compiled = mg.compile(program(steps), passes=default_passes(backend), backend="numpy")
    compiled.trace(mg.ones(3))
    for s in compiled.passes:
        before, after = left_over(Rewrites(s))
        assert before == after, s


def test_a_mark_too_few_is_found():
    r = followed(lambda x: mg.exp(x * 1.0), mg.ones(2))["simplify"]
    r.before.clear()
    before, after = left_over(r)
    assert before != after


def test_a_loop_and_its_body():
    def f(x, w):
        return mg.scan(lambda h, row: (mg.tanh(h + row @ w), None), mg.zeros(4), x)[0]

    explorer = PassExplorer(f, mg.ones((5, 3)), mg.ones((3, 4)))
    assert all(0 <= box < len(explorer.document["graphs"][p["before"]]["titles"])
               for p in explorer.document["passes"] for c in p["changes"] for box in c["before"])  # fmt: skip


# ------------------------------------------------------------------------------------------------------- documents


def test_the_document_agrees_with_the_passes(trained):
    _, step = trained
    document = PassExplorer(step).document
    graphs = document["graphs"]
    assert [p["name"] for p in document["passes"]] == [p.name for p in step.passes]
    for told, p in zip(document["passes"], step.passes, strict=True):
        assert graphs[told["before"]]["nodes"] == len(p.before.nodes)
        assert graphs[told["after"]]["nodes"] == len(p.after.nodes)
        rules = [document["texts"][c["rule"]] for c in told["changes"]]
        assert rules == [c.rule for c in p.changes]
    assert graphs[document["code"]["graph"]]["nodes"] == len(step.optimized.nodes)
    assert document["code"]["text"] == step.source
    assert document["costs"]["all"]["peak"] == step.memory.peak
    lines = {document["texts"][c["line"]] for p in document["passes"] for c in p["changes"] if c["line"] is not None}
    assert any("loss.backward()" in line for line in lines)


def test_a_graph_that_steps_have_in_common_is_drawn_once(trained):
    _, step = trained
    document = PassExplorer(step).document
    quiet = [p for p in document["passes"] if not p["changes"] and p["before"] == p["after"]]
    assert quiet
    assert len(document["graphs"]) <= 2 + len(document["passes"]) - len(quiet)
    assert len(to_json(document)) < 200_000


def test_the_same_bytes_again():
    code = (
        "import minigraph as mg; from minigraph_widgets import PassExplorer\n"
        "f = mg.compile(lambda x, w: mg.mean(mg.exp(x @ w * 1.0) + mg.exp(x @ w)))\n"
        "print(PassExplorer(f, mg.ones((2, 3)), mg.ones((3, 2))).fragment(False))"
    )
    found = []
    for seed in "12":
        env = os.environ | {"PYTHONHASHSEED": seed}
        found.append(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    assert found[0] == found[1]
    assert len(found[0]) > 1000


def test_names_are_text_and_nothing_else():
    evil = '<script>alert(1)</script>"&\\n'
    v = mg.Variable(mg.ones(3), name=evil)
    page = PassExplorer(lambda x: mg.sum(x * v * 1.0), mg.ones(3)).to_html()
    assert "<script>alert" not in page
    shapes = PassExplorer(lambda x: mg.sum(x * v * 1.0), mg.ones(3)).document["shapes"]
    assert any("&lt;script&gt;" in markup for _, markup in shapes)


@pytest.mark.parametrize("shape", [(0,), (0, 3), ()])
def test_arrays_without_elements(shape):
    explorer = PassExplorer(lambda x: mg.exp(x * 1.0) + float("nan"), mg.ones(shape))
    assert json.loads(to_json(explorer.document))["passes"]


def test_no_graphviz(monkeypatch):
    monkeypatch.setattr(layout, "command", lambda form: None)
    layout._positions.cache_clear()
    explorer = PassExplorer(lambda x: mg.exp(x * 1.0), mg.ones(3))
    layout._positions.cache_clear()
    graph = explorer.document["graphs"][0]
    assert graph["drawing"] is None
    assert "multiply" in graph["words"]
    assert any("no Graphviz" in note for note in graph["notes"])
    assert [c["kind"] for p in explorer.document["passes"] for c in p["changes"]][:1] == ["removed"]


def test_a_large_graph_is_folded():
    def f(x):
        for _ in range(400):
            x = mg.sin(x * 1.0)
        return x

    explorer = PassExplorer(mg.compile(f, backend="numpy"), mg.ones(2), limit=40)
    document = explorer.document
    assert document["graphs"][0]["nodes"] > 800
    assert all(len(g["titles"]) <= 60 for g in document["graphs"])
    simplify = document["passes"][1]
    assert len(simplify["changes"]) == 300
    assert simplify["number"] == 400


# ------------------------------------------------------------------------------------------------------ generated code


def misplaced(graph, language, text, links):
    """Links to lines that do not mention the operation that they are said to compute."""
    lines = text.splitlines()

    def mentioned(k):
        piece = "\n".join(lines[k.first : k.last + 1])
        inside = k.nodes[0].attrs.get("body")
        names = [k.nodes[0].op.name, *([n.op.name for n in inside.operations] if inside is not None else [])]
        return any(name in piece for name in names) or "DATA(p[" in piece

    return [k for k in links if k.nodes[0].inputs and not mentioned(k)]


def test_lines_compute_what_the_links_say(trained):
    _, step = trained
    found = generated(step)
    graph, language, text, links = found
    assert misplaced(*found) == []
    shifted = [k._replace(first=k.first + 1, last=k.last + 1) for k in links]
    assert misplaced(graph, language, text, shifted)
    linked = {id(n) for k in links for n in k.nodes}
    if language == "python":
        assert {id(n) for n in step.optimized.operations} <= linked
    else:
        calls = {id(s.node) for s in step.last.program.native.program.steps}
        assert calls <= linked


@pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
def test_lines_of_a_loop_belong_to_the_loop():
    f = mg.compile(lambda x: mg.scan(lambda h, row: (mg.tanh(h + row), h), mg.zeros(4), x)[0].sum(), backend="c")
    f(mg.ones((5, 4)))
    _, _, text, links = generated(f)
    lines = text.splitlines()
    inner = [k for k in links if k.owner is not None]
    assert {k.owner.op.name for k in inner} == {"scan"}
    assert any("tanh" in lines[k.first] for k in inner)


# --------------------------------------------------------------------------------------------------------------- costs


@pytest.mark.parametrize("backend", BACKENDS)
def test_costs_are_those_of_a_function_compiled_without_the_pass(backend):
    def f(x, w):
        return mg.mean(mg.exp(x @ w * 1.0) + mg.exp(x @ w * 1.0))

    inputs = mg.ones((4, 3)), mg.ones((3, 2))
    whole = mg.compile(f, backend=backend)
    whole.trace(*inputs)
    passes = default_passes(backend)
    for k in range(len(passes)):
        other = mg.compile(f, backend=backend, passes=[p for i, p in enumerate(passes) if i != k])
        other.trace(*inputs)
        found = planned(whole, {k})
        assert found["peak"] == other.memory.peak, passes[k]
        assert found["nodes"] == len(other.optimized.nodes), passes[k]


def test_a_name_means_all_passes_of_this_name(trained):
    _, step = trained
    explorer = PassExplorer(step)
    numbers = [k for k, p in enumerate(step.passes) if p.name == "simplify"]
    assert explorer.cost(["simplify"]) == explorer.cost(numbers)
    with pytest.raises(ArgumentError, match="no such pass"):
        explorer.cost(["simplfy"])


def test_time_is_measured_and_nothing_changes(trained):
    net, step = trained
    before = [p.numpy().copy() for p in net.parameters()]
    document = PassExplorer(step, time=True).document
    assert all("time" in row or row == document["costs"]["all"] for row in document["costs"]["alone"])
    assert any("time" in row for row in document["costs"]["alone"])
    assert all((p.numpy() == old).all() for p, old in zip(net.parameters(), before, strict=True))


def test_inputs_are_traced_and_not_run():
    net, step, inputs = training_step("numpy")
    before = [p.numpy().copy() for p in net.parameters()]
    PassExplorer(step, *inputs)
    assert all((p.numpy() == old).all() for p, old in zip(net.parameters(), before, strict=True))


def test_the_reader_asks_and_is_answered(trained):
    _, step = trained
    explorer, sent = PassExplorer(step), []
    explorer.send = sent.append
    explorer._answer(explorer, {"off": [1]}, [])
    assert sent[0]["off"] == [1]
    assert sent[0]["time"] > 0
    assert {k: sent[0][k] for k in ("nodes", "peak")} == {k: planned(step, {1})[k] for k in ("nodes", "peak")}
    explorer._answer(explorer, {"off": [99]}, [])
    assert "no such pass" in sent[1]["error"]
    explorer._answer(explorer, "something else", [])
    assert len(sent) == 2


def test_a_pass_that_needs_another_one():
    def first(graph):
        return mg.compiler.simplify(graph)

    def second(graph):
        if any(n.op.name == "multiply" for n in graph.operations):
            raise ValueError("it must be simplified first")
        return graph

    explorer = PassExplorer(mg.compile(lambda x: x * 1.0 + x, passes=[first, second]), mg.ones(2))
    assert explorer.document["costs"]["alone"][0] == {"error": "ValueError: it must be simplified first"}
    sent = []
    explorer.send = sent.append
    explorer._answer(explorer, {"off": [0]}, [])
    assert sent == [{"off": [0], "error": "ValueError: it must be simplified first"}]


def test_a_budget_is_a_pass_like_others():
    def f(x):
        for _ in range(30):
            x = mg.sin(x)
        return x.sum()

    compiled = mg.compile(mg.grad(f), backend="numpy", memory="40kB")
    explorer = PassExplorer(compiled, mg.ones(1024))
    assert explorer.document["passes"][-1]["name"] == compiled.passes[-1].name
    assert {c["kind"] for c in explorer.document["passes"][-1]["changes"]} == {"added"}
    assert explorer.cost([len(compiled.passes) - 1])["peak"] > 100_000 > compiled.memory.peak


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_that_teach():
    f = mg.compile(lambda x: x + 1.0)
    with pytest.raises(GraphError, match="has not been called yet") as error:
        PassExplorer(f)
    assert "PassExplorer(<lambda>, x, y)" in error.value.remedy
    with pytest.raises(ArgumentError, match="has no passes"):
        PassExplorer(3)
    with mg.Graph() as g:
        mg.exp(mg.placeholder((), name="x"))
    with pytest.raises(ArgumentError, match="has no passes"):
        PassExplorer(g)
    with pytest.raises(ArgumentError, match="direction"):
        PassExplorer(f, mg.ones(2), direction="up")
