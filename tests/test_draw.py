"""Drawings: the picture is the graph, whatever is folded; names cannot do harm; the output is the same every time.

`faults` compares a picture with its graph, node by node and arrow by arrow; planted mistakes show that it sees.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph import draw, nn, optim
from minigraph.draw import dot, fold, layout, svg, words
from minigraph.draw.picture import KINDS, Picture

ROOT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"
f32 = np.float32


def first_graph():
    """y = tanh(w x) + x^2, with gradients."""
    x = mg.tensor(2.0, requires_grad=True, name="x")
    w = mg.tensor(0.5, requires_grad=True, name="w")
    with mg.record() as graph:
        y = mg.tanh(w * x) + x**2
    return graph, y, x, w


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.act = nn.Linear(width, width), nn.ReLU()
        self.scale = nn.Parameter(1.0)

    def forward(self, x):
        return x + self.act(self.inner(x)) * self.scale


class Tower(nn.Module):
    def __init__(self, blocks, width=4):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(blocks)])
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def recorded(model, shape=(5, 3), name="graph"):
    with mg.record(name) as graph:
        model(mg.tensor(np.ones(shape, f32), name="x"))
    return graph


def random_graph(size, seed, scopes=False):
    """A random program of unary and binary operations; optionally inside random nested scopes."""
    r = random.Random(seed)
    with mg.record() as graph:
        made = [mg.tensor(0.5, name="x"), mg.tensor(0.25, name="z")]
        open_scopes = []
        for _ in range(size):
            if scopes and r.random() < 0.15:
                open_scopes.append(mg.named_scope(r.choice("abcd")))
                open_scopes[-1].__enter__()
            op = r.choice([mg.sin, mg.cos, mg.tanh, mg.add, mg.multiply, mg.subtract])
            operands = [r.choice(made[-8:]) for _ in range(1 if op in (mg.sin, mg.cos, mg.tanh) else 2)]
            if len(operands) == 2 and r.random() < 0.2:
                operands[1] = r.choice([2.0, 3.0])
            made.append(op(*operands))
            if open_scopes and r.random() < 0.2:
                open_scopes.pop().__exit__()
        while open_scopes:
            open_scopes.pop().__exit__()
    return graph


def never(scope):
    return False


# -------------------------------------------------------------------------------------- the picture against the graph


def title(graph, node):
    """What the box of a node should be called, worked out anew."""
    if node.op is mg.OPS["read"]:
        return node.attrs["variable"].name
    if node.inputs or node.op not in (None, mg.OPS["input"]):
        return f"{node.name}: {node.op.name}" if node.name else node.op.name
    return node.name or words.value_text(node) or words.type_text(node)


def faults(graph, picture):
    """How a picture with nothing folded differs from its graph, in words."""
    wrong = []
    boxes = [b for b in picture.boxes if b.kind != "assign"]
    if [b.lines[0] for b in boxes] != [title(graph, n) for n in graph.nodes]:
        wrong.append("the boxes are not the nodes, in order")
        return wrong
    place = {id(n): k for k, n in enumerate(graph.nodes)}
    expected = Counter((place[id(x)], place[id(n)]) for n in graph.nodes for x in n.inputs)
    at = {id(b): k for k, b in enumerate(boxes)}
    data = [a for a in picture.arrows if a.kind == "data" and a.head.kind != "assign"]
    if Counter((at[id(a.tail)], at[id(a.head)]) for a in data) != expected:
        wrong.append("the arrows are not the inputs")
    for a in data:
        node = graph.nodes[at[id(a.head)]]
        names = dict(zip(words.input_names(node), node.inputs, strict=True)) if node.inputs else {}
        if a.label and names.get(a.label) is not graph.nodes[at[id(a.tail)]]:
            wrong.append(f"an arrow is called {a.label} and is another input")
    assigned = Counter((words.clean(cell.name), place[id(t)]) for cell, t in graph.assigns.items() if t is not None)
    drawn = Counter(
        (a.head.lines[0].removesuffix(" ←"), at[id(a.tail)]) for a in picture.arrows if a.head.kind == "assign"
    )
    if assigned != drawn:
        wrong.append("the assignments are not those of the graph")
    outputs = {id(n) for n in graph.outputs}
    if any((id(n) in outputs) != ("output" in " ".join(b.lines[1:])) for n, b in zip(graph.nodes, boxes, strict=True)):
        wrong.append("the outputs are not marked")
    return wrong


def training_step():
    w = mg.Variable([1.0, 2.0], requires_grad=True, name="w")

    @mg.compile
    def step(x):
        loss = ((w * x) ** 2).sum()
        w.grad = None
        loss.backward()
        w.assign(w - 0.1 * w.grad)
        return loss

    step(mg.tensor([1.0, 3.0]))
    return step


def test_every_node_is_there_once_with_its_arrows():
    graph, y, _, _ = first_graph()
    assert faults(graph, draw.picture(graph)) == []
    step = training_step()
    for g in (step.graph, step.optimized):
        assert faults(g, draw.picture(g)) == []
    history = draw.picture(y)
    assert Counter(b.lines[0] for b in history.boxes) == Counter(["x", "w", "2", "multiply", "tanh", "pow", "add"])
    assert len(history.arrows) == 7


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(0, 10**6), st.booleans())
def test_random_graphs_are_drawn_as_they_are(size, seed, scopes):
    graph = random_graph(size, seed, scopes)
    picture = draw.picture(graph, fold=never)
    assert faults(graph, picture) == []
    for b in picture.boxes:  # the frames around a box are the scopes of its operation
        if b.kind in ("op", "output"):
            labels = []
            frame = b.frame
            while frame is not None:
                labels.append(frame.label)
                frame = frame.parent
            node = graph.nodes[picture.boxes.index(b)]
            assert tuple(reversed(labels)) == (node.scope.path if node.scope else ())


def drop_an_arrow(picture):
    del picture.arrows[1]


def turn_an_arrow(picture):
    a = picture.arrows[0]
    a.tail, a.head = a.head, a.tail


def double_a_box(picture):
    picture.boxes.append(picture.boxes[-1])


def swap_names(picture):
    named = [a for a in picture.arrows if a.label]
    named[0].label, named[1].label = named[1].label, named[0].label


def forget_the_output(picture):
    for b in picture.boxes:
        b.lines = tuple(line for line in b.lines if line != "output")


@pytest.mark.parametrize("plant", [drop_an_arrow, turn_an_arrow, double_a_box, swap_names, forget_the_output])
def test_planted_mistakes_in_a_picture_are_found(plant):
    graph = first_graph()[0]
    picture = draw.picture(graph)
    plant(picture)
    assert faults(graph, picture)


def test_the_svg_is_the_picture():
    graph = first_graph()[0]
    picture = draw.picture(graph)
    root = ET.fromstring(draw.to_svg(graph))
    boxes = [g for g in root.iter(f"{SVG}g") if g.get("data-node")]
    assert [g.get("data-node") for g in boxes] == [b.id for b in picture.boxes]
    for g, b in zip(boxes, picture.boxes, strict=True):
        assert [t.text for t in g.iter(f"{SVG}text")] == list(b.lines)
        assert g.find(f"{SVG}title").text == b.details
    arrows = [(g.get("data-tail"), g.get("data-head")) for g in root.iter(f"{SVG}g") if g.get("data-tail")]
    assert arrows == [(a.tail.id, a.head.id) for a in picture.arrows if a.kind != "order"]
    assert root.get("role") == "img"
    assert root.get("aria-label") == "graph: 4 operations, 1 output."


def test_what_is_written_on_nodes():
    graph, _, _, _ = first_graph()
    lines = {b.lines[0]: b.lines for b in draw.picture(graph).boxes}
    assert lines["x"] == ("x", "float32[]", "2")  # no gradient yet is not a gradient of 0
    assert lines["tanh"] == ("tanh", "float32[]", "0.7616")
    assert lines["2"] == ("2",)
    assert lines["add"][-1] == "output"
    graph.outputs[0].backward(retain_graph=True)
    assert {b.lines[0]: b.lines for b in draw.picture(graph).boxes}["x"][-1] == "grad 4.21"
    assert {b.lines[0]: b.lines for b in draw.picture(graph, values=False).boxes}["x"] == ("x", "float32[]")


def test_operations_say_what_differs_from_the_ordinary():
    with mg.record() as graph:
        mg.sum(mg.ones((64, 10)), axis=0).reshape((5, 2))
    boxes = {b.lines[0]: b for b in draw.picture(graph).boxes}
    assert boxes["sum"].lines == ("sum", "axis=(0,)", "float32[10]")
    assert boxes["reshape"].lines[:3] == ("reshape", "shape=(5, 2)", "float32[5, 2]")
    assert "keepdims=False" in boxes["sum"].details
    assert "at test_draw.py" in boxes["sum"].details
    site = next(b for b in draw.picture(graph, show_sites=True).boxes if b.lines[0] == "sum").lines[-1]
    assert re.fullmatch(r"test_draw.py:\d+ in test_operations.*", site) or "…" in site


def test_a_name_that_was_given_to_a_result_is_seen():
    x = mg.tensor(2.0, requires_grad=True, name="x")
    with mg.record() as graph:
        h = mg.tanh(x)
        h.name = "hidden"
        y = h * h
    assert [b.lines[0] for b in draw.picture(y).boxes] == ["x", "hidden: tanh", "multiply"]
    assert draw.picture(y).boxes[1].details.startswith("operation hidden: tanh\n")
    assert draw.picture(h).name == "history of hidden"
    assert repr(h).endswith("op=tanh, name='hidden')")
    recorded = graph.node(h)
    recorded.name = "recorded"  # nodes of a recording are its own
    assert faults(graph, draw.picture(graph)) == []
    assert "recorded: tanh" in [b.lines[0] for b in draw.picture(graph).boxes]

    @mg.compile
    def f(x):
        h = mg.tanh(x)
        h.name = "<hidden>"
        return mg.sin(h)

    f(mg.tensor(0.5))
    assert "&lt;hidden&gt;: tanh</text>" in draw.to_svg(f.optimized)


def test_arrows_into_an_operation_with_several_inputs_are_named():
    with mg.record() as graph:
        mg.tensor(1.0, name="a") - mg.tensor(2.0, name="b") * mg.tensor(3.0, name="c")
    named = {(a.tail.lines[0], a.head.lines[0]): a.label for a in draw.picture(graph).arrows}
    assert named == {
        ("a", "subtract"): "x1",
        ("multiply", "subtract"): "x2",
        ("b", "multiply"): "",
        ("c", "multiply"): "",
    }


@pytest.mark.parametrize("direction", ["TB", "LR"])
def test_the_direction_is_kept(direction):
    graph = first_graph()[0]
    picture = draw.picture(graph, direction=direction)
    placed = layout.lay_out(picture)
    axis = 1 if direction == "TB" else 0
    for a in picture.arrows:
        assert placed.boxes[a.tail.id][axis] < placed.boxes[a.head.id][axis]


# ------------------------------------------------------------------------------------------------------------- folding


def covered(picture):
    """How many operations the boxes of a picture stand for."""
    total = 0
    for b in picture.boxes:
        if b.kind in ("op", "output"):
            total += 1
        elif b.kind == "fold":
            total += int(re.search(r"([\d,]+) operations?", " ".join(b.lines))[1].replace(",", ""))
    return total


def is_acyclic(picture):
    ahead = {id(b): 0 for b in picture.boxes}
    for a in picture.arrows:
        ahead[id(a.head)] += 1
    ready = [b for b in picture.boxes if not ahead[id(b)]]
    for b in ready:
        for a in picture.arrows:
            if a.tail is b:
                ahead[id(a.head)] -= 1
                if not ahead[id(a.head)]:
                    ready.append(a.head)
    return len(ready) == len(picture.boxes)


@settings(max_examples=25)
@given(st.integers(50, 700), st.integers(0, 10**6), st.booleans(), st.integers(10, 60))
def test_large_graphs_are_folded_until_they_fit(size, seed, scopes, limit):
    graph = random_graph(size, seed, scopes)
    picture = draw.picture(graph, limit=limit)
    assert len(picture.boxes) <= limit + 2  # and the two inputs, which are always there
    assert covered(picture) == len(graph.operations)
    assert is_acyclic(picture)


def test_a_cycle_would_be_noticed():
    picture = draw.picture(first_graph()[0])
    assert is_acyclic(picture)
    picture.arrow(picture.boxes[-1], picture.boxes[0])
    assert not is_acyclic(picture)


def test_levels_of_scopes_are_opened_by_number():
    graph = recorded(Tower(2))
    folded = draw.picture(graph, fold=0)
    assert [b.lines[0] for b in folded.boxes] == ["x", "Tower"]
    assert covered(folded) == len(graph.operations)
    assert "float32[5, 3] → float32[5, 2]" in folded.boxes[1].lines
    one = draw.picture(graph, fold=1)
    assert [b.lines[0] for b in one.boxes if b.kind == "fold"] == [
        "first: Linear", "blocks: ModuleList", "last: Linear",
    ]  # fmt: skip
    assert [f.label for f in one.frames] == ["Tower"]
    two = draw.picture(graph, fold=2)
    assert [b.lines[0] for b in two.boxes if b.kind == "fold"] == ["0: Block", "1: Block"]
    assert faults(graph, draw.picture(graph, fold=9)) == []


def test_scopes_are_folded_by_a_function():
    graph = recorded(Tower(2))
    picture = draw.picture(graph, fold=lambda scope: scope.kind == "Linear")
    assert Counter(b.lines[0] for b in picture.boxes if b.kind == "fold") == Counter(
        ["first: Linear", "inner: Linear", "inner: Linear", "last: Linear"]
    )
    assert covered(picture) == len(graph.operations)


def test_layers_alike_are_rolled_up_beside_the_first():
    graph = recorded(Tower(64))
    picture = draw.picture(graph)
    rolled = [b for b in picture.boxes if b.kind == "fold"]
    assert [b.lines[0] for b in rolled] == [f"1 … 63: Block  {words.TIMES}63"]
    assert "0: Block" in [f.label for f in picture.frames]
    assert covered(picture) == len(graph.operations)
    assert any("stack of cards" in note for note in picture.notes)


def test_the_steps_of_a_loop_are_rolled_up():
    cell = nn.Linear(4, 4)
    with mg.record() as graph:
        h = mg.ones((1, 4))
        for _ in range(100):
            h = mg.tanh(cell(h)) + 1.0
    picture = draw.picture(graph)
    (box,) = [b for b in picture.boxes if b.kind == "fold"]
    assert box.lines[0] == f"Linear, tanh, add  {words.TIMES}99"
    assert covered(picture) == len(graph.operations) == 300


def test_the_deepest_scopes_are_folded_first():
    with mg.record() as graph:
        y = mg.tensor(0.0, name="x")
        for k in range(6):
            with mg.named_scope(f"outer{k}"):
                for op in [mg.sin, mg.cos, mg.tanh, mg.sin, mg.sqrt, mg.negative][k:]:
                    y = op(y)
                with mg.named_scope("inner"):
                    for _ in range(k + 2):
                        y = y * y + 0.1
    picture = draw.picture(graph, limit=40)
    assert {b.lines[0] for b in picture.boxes if b.kind == "fold"} == {"inner"}
    assert {f.label for f in picture.frames} == {f"outer{k}" for k in range(6)}


def test_a_chain_is_folded_with_its_number():
    ops = [mg.sin, mg.cos, mg.tanh, mg.square]
    r = random.Random(1)
    with mg.record() as graph:
        y = mg.tensor(1.0, name="x")
        for _ in range(400):
            y = r.choice(ops)(y)
    picture = draw.picture(graph)
    assert covered(picture) == 400
    assert len(picture.boxes) < 60
    assert any("chain" in b.lines for b in picture.boxes)


def test_a_variable_that_is_used_twice_is_not_folded_away():
    shared = mg.Variable(2.0, name="shared")
    with mg.record() as graph:
        x = mg.tensor(1.0, name="x")
        with mg.named_scope("a"):
            x = x * shared
        with mg.named_scope("b"):
            x = x * shared
    picture = draw.picture(graph, fold=0)
    assert sorted(b.lines[0] for b in picture.boxes) == ["a", "b", "shared", "x"]
    assert len(picture.arrows) == 4
    alone = draw.picture(recorded(nn.Linear(3, 2)), fold=0)
    assert "1 operation, 2 variables" in alone.boxes[-1].lines


def test_variables_that_the_same_folded_boxes_use_share_a_box():
    several = [mg.Variable(np.ones(k, f32), name=f"v{k}") for k in range(1, 6)]
    with mg.record() as graph:
        y = mg.tensor(1.0, name="x")
        for scope in "ab":
            with mg.named_scope(scope):
                for v in several:
                    y = y + v.sum()
        y * several[0]
    picture = draw.picture(graph, fold=0)
    (shared,) = [b for b in picture.boxes if b.lines[0] == "4 variables"]
    assert shared.lines == ("4 variables", "v2 … v5", "14 elements")
    assert "v3: float32[3], 12 bytes" in shared.details
    drawn = sorted((a.tail.lines[0], a.head.lines[0]) for a in picture.arrows if a.kind == "data")
    assert drawn == [("4 variables", "a"), ("4 variables", "b"), ("a", "b"), ("b", "multiply"),
                     ("v1", "a"), ("v1", "b"), ("v1", "multiply"), ("x", "a")]  # fmt: skip
    assert is_acyclic(picture)
    only_a = draw.picture(graph, fold=lambda scope: scope.name == "a")
    assert [b.lines[0] for b in only_a.boxes if b.kind == "variable"] == [v.name for v in several]


def test_a_nameless_input_of_a_folded_box_is_seen():
    """An array of a recorded run is an input, with a name or without; numbers that the program writes down fold."""
    data = mg.tensor(np.ones((5, 3), f32))
    layer = nn.Linear(3, 3)
    with mg.record() as graph, mg.named_scope("net"):
        y = layer(data) * 2.0
    assert [(b.kind, b.lines[0]) for b in draw.picture(graph, fold=0).boxes] == [
        ("input", "float32[5, 3]"), ("fold", "net"),
    ]  # fmt: skip
    (arrow,) = [a for a in draw.picture(graph, fold=0).arrows if a.kind == "data"]
    assert arrow.tail.lines == ("float32[5, 3]",)
    assert "float32[5, 3] → float32[5, 3]" in draw.picture(graph, fold=0).boxes[1].lines
    assert [b.lines[0] for b in draw.picture(y, fold=0).boxes] == ["float32[5, 3]", "net"]
    whole = draw.picture(graph)
    assert faults(graph, whole) == []
    assert Counter(b.kind for b in whole.boxes) == Counter(input=1, variable=2, constant=1, op=1, output=1)
    with mg.record() as graph:
        h = mg.zeros((5, 3))
        for _ in range(1000):
            h = mg.tanh(layer(h) + mg.tensor(np.ones((5, 3), f32)))
    assert len(draw.picture(graph).boxes) < 10  # what the steps of a loop take is rolled up with them


def test_a_training_step_folds_into_forward_backward_and_update():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @mg.compile
    def step(x):
        with mg.named_scope("loss"):
            loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step(mg.ones((5, 3)))
    for graph in (step.graph, step.optimized):
        picture = draw.picture(graph, fold=0)
        found = {b.lines[0]: b for b in picture.boxes if b.kind == "fold"}
        assert list(found) == ["loss", "backward", "update: SGD"]
        assert covered(picture) == len(graph.operations) and is_acyclic(picture)
        data = {(a.tail.lines[0], a.head.lines[0]) for a in picture.arrows if a.kind == "data"}
        assert {("x", "loss"), ("x", "backward"), ("loss", "backward"), ("backward", "update: SGD")} <= data
        assert not [b for b in picture.boxes if b.kind == "assign"]  # they are in the folded boxes, which say so
        assert "assigns 4 gradients" in found["backward"].lines
        cells = [cell.name for cell in graph.assigns if cell.name and not cell.name.endswith(".grad")]
        assert f"assigns {len(cells)} variables" in found["update: SGD"].lines
        assert "assigns 0.weight\n" in found["update: SGD"].details + "\n"


def test_repeats_in_a_sequence():
    def groups(text):
        root = fold.Group("root", items=list(range(len(text))))
        nodes = [mg.sin(mg.tensor(0.0, requires_grad=True)) for _ in text]
        signatures = fold.Signatures(nodes, list(text))
        fold.roll_up(root, signatures)
        return [(len(g.members()), g.times) if isinstance(g, fold.Group) else text[g] for g in root.items]

    assert groups("a" * 12) == [(12, 12)]
    assert groups("xabababababy") == ["x", (10, 5), "y"]
    assert groups("abc" * 4 + "d") == [(12, 4), "d"]
    assert groups("abababa") == list("abababa")  # three times is not worth it
    assert groups("aaaa") == list("aaaa")  # nor is so little
    assert groups("") == []


def test_unfolded_large_graphs_are_possible():
    graph = random_graph(500, 3)
    assert len(draw.picture(graph, fold=never).boxes) == len(graph.nodes)


# ------------------------------------------------------------------------------------ histories, nested graphs, modules


def test_a_history_of_a_million_nodes_is_cut():
    y = x = mg.tensor(1.0, requires_grad=True, name="x")
    for _ in range(1_000_000):
        y = y * x
    picture = draw.picture(y)
    assert len(picture.boxes) < 10
    assert any("Only the last 2,000 nodes" in note for note in picture.notes)
    assert [b.kind for b in picture.boxes].count("earlier") == 1
    assert {b.lines[0] for b in picture.boxes} >= {"x", "…"}
    assert draw.repr_mimebundle(y)["text/plain"] == repr(y)


def test_a_freed_graph_says_so():
    graph, y, _, _ = first_graph()
    before = len(draw.picture(graph).arrows)
    y.backward()
    (box,) = draw.picture(y).boxes
    assert box.lines[0] == "add" and "graph freed" in box.lines
    assert len(draw.picture(graph).arrows) == before  # what was recorded stays


def test_nested_graphs_have_frames():
    @mg.compile
    def f(x):
        carry, ys = mg.scan(lambda c, e: (mg.sin(c) * e, c + e), x, mg.ones((10,)))
        return mg.cond(carry > 0, lambda a: a * 2.0, lambda a: -a, carry) + ys.sum()

    f(mg.tensor(1.0))
    picture = draw.picture(f.graph)
    assert [frame.label for frame in picture.frames] == ["body", "true_graph: true_fn", "false_graph: false_fn"]
    nested = [a for a in picture.arrows if a.kind == "nested"]
    assert [(a.tail.lines[0], a.into.label) for a in nested] == [
        ("scan", "body"), ("cond", "true_graph: true_fn"), ("cond", "false_graph: false_fn"),
    ]  # fmt: skip
    inside = [b.lines[0] for b in picture.boxes if b.frame is picture.frames[0]]
    assert inside == ["x0", "x1", "sin", "multiply", "add"]
    folded = draw.picture(f.graph, fold=0)
    assert folded.frames == []
    assert [b.lines[0] for b in folded.boxes if b.kind == "fold"] == [frame.label for frame in picture.frames]
    ET.fromstring(draw.to_svg(f.graph))


def test_a_module_is_a_tree():
    model = Tower(2)
    picture = draw.picture(model)
    assert picture.frames[0].label == f"Tower · {sum(p.size for p in model.parameters())} parameters"
    assert [f.label.partition(" ·")[0] for f in picture.frames[1:]] == ["blocks: ModuleList", "0: Block", "1: Block"]
    boxes = {b.lines[0]: b for b in picture.boxes}
    assert "weight float32[4, 3]" in boxes["first: Linear"].lines
    assert "16 parameters" in boxes["first: Linear"].lines
    assert [b.lines[0] for b in picture.boxes].count("scale float32[]") == 2
    assert all(a.kind == "order" for a in picture.arrows)
    assert "first.weight" not in boxes["first: Linear"].details
    assert [b.lines[0] for b in draw.picture(model, fold=0).boxes] == [
        "first: Linear",
        "blocks: ModuleList",
        "last: Linear",
    ]


def test_large_modules_show_one_of_many():
    picture = draw.picture(Tower(64))
    labels = [f.label for f in picture.frames]
    assert any(label.startswith(f"0 … 63: Block  {words.TIMES}64") for label in labels)
    assert len(picture.boxes) < 10
    wide = nn.Sequential(*[nn.Linear(k + 1, k + 2) for k in range(100)])
    boxes = draw.picture(wide).boxes
    assert boxes[-1].lines == ("and 40 more modules",)
    assert len(boxes) == 61


def test_a_picture_does_not_take_part_in_a_trace():
    """Looking at a module or a tensor while it is traced reads no variable."""
    layer = nn.BatchNorm1d(2)
    loose = mg.Variable(1.0, requires_grad=True, name="loose")
    before = loose * 2.0
    with mg.Graph() as graph:
        x = mg.placeholder((3, 2), name="x")
        shown = [draw.repr_mimebundle(thing)["text/html"] for thing in (layer, x * 2.0, before)]
    assert not graph.reads
    assert all("<svg" in html for html in shown)
    assert "loose" in shown[2]


def test_shared_frozen_and_buffer_are_marked():
    norm = nn.BatchNorm1d(3)
    norm.weight.requires_grad = False
    layer = nn.Linear(2, 2)
    picture = draw.picture(nn.Sequential(norm, layer, layer))
    lines = [line for b in picture.boxes for line in b.lines]
    assert "weight float32[3] (frozen)" in lines
    assert "running_mean float32[3] (buffer)" in lines
    assert "shared: is 1" in lines


# --------------------------------------------------------------------------------------------------- safety of names

HOSTILE = ['<script>alert(1)</script>', '"><svg onload=x>', "]];\n}\\N\\G", "&lt;&#0;&", "\x00\x1b\ud800", "\u202e",
           "a" * 500, "']]>", "</style>", "-->", "{x|<p>y}", "é漢字🙂", "%s {0}", "\\"]  # fmt: skip


def made_of(name):
    """A picture with a name in every place where a user's name can stand."""
    variable = mg.Variable(1.0, name=name)
    with mg.record(name) as graph, mg.named_scope(name, name):
        mg.tensor(1.0, name=name) - variable
    return draw.picture(graph, show_sites=True)


def placed(picture):
    """Some layout, without Graphviz."""
    found = layout.Layout(500.0, 500.0)
    found.boxes = {b.id: (10.0 * k, 20.0 * k) for k, b in enumerate(picture.boxes)}
    found.frames = {f.id: (0.0, 0.0, 90.0, 90.0) for f in picture.frames}
    found.arrows = {
        k: ([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 9.0)], (3.0, 12.0)) for k in range(len(picture.arrows))
    }
    return found


def body_of_page(picture, where):
    page = svg.page(picture, svg.write_svg(picture, where))
    return re.search(r"<body>.*</body>", page, re.DOTALL)[0]


@settings(max_examples=150)
@given(st.one_of(st.text(min_size=1), st.sampled_from(HOSTILE)))
def test_names_do_not_get_into_the_markup(name):
    """The same elements and attributes as with a harmless name; and the name, cleaned, is there as text."""
    picture, harmless = made_of(name), made_of("harmless")
    for write in (svg.write_svg, body_of_page):
        found, expected = (ET.fromstring(write(p, placed(p))) for p in (picture, harmless))
        assert [(e.tag, sorted(e.keys())) for e in found.iter()] == [(e.tag, sorted(e.keys())) for e in expected.iter()]
    written = [t.text or "" for t in ET.fromstring(svg.write_svg(picture, placed(picture))).iter(f"{SVG}text")]
    assert words.shorten(words.clean(name)) in written


@pytest.fixture(scope="module")
def hostile_dot():
    """All hostile names in one DOT text, and what Graphviz understands."""
    with mg.record('\\N " <b>') as graph:
        for name in HOSTILE:
            mg.sin(mg.tensor(1.0, name=name))
    text = draw.to_dot(graph, values=False)
    return graph, text, json.loads(layout.graphviz(text, "json0"))


def test_names_do_not_get_into_dot(hostile_dot):
    graph, _, found = hostile_dot
    assert len(found["objects"]) == len(graph.nodes)
    assert len(found["edges"]) == len(HOSTILE)
    assert {tuple(sorted(o)) for o in found["objects"]}  # nobody got an attribute of his own
    allowed = {"_gvid", "name", "color", "fillcolor", "fontcolor", "fontname", "fontsize", "height", "label", "margin",
               "pos", "rects", "shape", "style", "tooltip", "width", "peripheries"}  # fmt: skip
    assert set().union(*found["objects"]) <= allowed


def test_labels_of_dot_mean_the_names(hostile_dot):
    rendered = layout.graphviz(hostile_dot[1], "svg").decode()
    text = "".join(ET.fromstring(rendered).itertext()).replace("\xa0", " ")
    for name in HOSTILE:
        assert words.shorten(words.clean(name)).replace("\xa0", " ") in text


@given(st.text())
def test_clean_text_is_xml_and_stays_in_its_direction(text):
    cleaned = words.clean(text)
    assert (ET.fromstring(f"<a>{svg.escape(cleaned)}</a>").text or "") == cleaned
    assert len(cleaned) == len(text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\n]", cleaned)
    assert len(words.shorten(cleaned)) <= words.LONGEST


# ---------------------------------------------------------------------------------------------------- always the same

PROGRAM = """
import numpy as np, minigraph as mg
from minigraph import draw, nn
mg.random.seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
with mg.record() as g:
    y = model(mg.tensor(np.ones((2, 3), "float32"), name="x"))
for thing in (g, y, model):
    for text in draw.repr_mimebundle(thing).values():
        print(text)
    print(draw.to_dot(thing, fold=1))
"""


def test_the_same_program_gives_the_same_bytes_in_every_process():
    outputs = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, check=True)
        assert done.stderr == b""  # not a word from fontconfig or Graphviz
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert b"0x" not in outputs[0]


def test_nothing_is_printed(capfd):
    draw.to_svg(first_graph()[0])
    layout.graphviz(draw.to_dot(first_graph()[0]), "png")
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------------------ representation


def test_what_a_notebook_gets():
    graph, y, _, _ = first_graph()
    for thing in (graph, y, Tower(1)):
        bundle = thing._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
        assert bundle["text/plain"] == repr(thing)
        assert bundle["text/html"].startswith('<div class="minigraph-picture"')
        assert "0x" not in bundle["text/html"]
        assert not re.search(r"<script|https?%?3?A?://(?!www\.w3\.org/2000/svg)|\bid=", bundle["text/html"])
    assert "tensor(4.7615943" in y._repr_mimebundle_()["text/html"]


def test_a_picture_with_options_draws_itself_too(monkeypatch):
    graph = recorded(Tower(2))
    bundle = draw.picture(graph, fold=0)._repr_mimebundle_()
    assert re.findall(r'data-node="(n\d+)"', bundle["text/html"]) == ["n0", "n1"]
    assert bundle["text/html"] == svg.fragment(draw.picture(graph, fold=0), draw.to_svg(graph, fold=0))
    assert bundle["text/plain"] == repr(draw.picture(graph, fold=0)) == draw.layered_text(draw.picture(graph, fold=0))
    monkeypatch.setattr(layout, "command", lambda form: None)
    layout._positions.cache_clear()
    words_only = draw.picture(graph, fold=0)._repr_mimebundle_()["text/html"]
    assert "pip install pygraphviz" in words_only and "fold=..." in words_only


class Sanitized(HTMLParser):
    """What JupyterLab leaves of the output of a notebook that it does not trust: without SVG elements and style sheets,
    but with the texts in them. (Its `Sanitizer`, which calls the npm package sanitize-html, lists what may stay.)"""

    def __init__(self, html):
        super().__init__()
        self.images, self.seen, self.styles, self.sheet = [], "", [], False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.sheet = tag == "style"
        if tag == "div":
            self.styles.append(dict(attributes).get("style", ""))
        elif tag == "img":
            self.images.append(dict(attributes))

    def handle_endtag(self, tag):
        self.sheet = False
        if tag == "div":
            self.styles.pop()

    def handle_data(self, data):
        if not self.sheet and "font-size:0" not in self.styles:
            self.seen += data


@pytest.mark.parametrize("name", ["x", "a & b", "<b>", '"', "'", "50%", "#1", "größe", "文", "a  b", "%23"])
def test_a_notebook_that_is_not_trusted_shows_an_image(name):
    with mg.record() as graph:
        mg.tanh(nn.Linear(2, 1)(mg.tensor([[1.0, 2.0]], name=name)))
    html = draw.repr_mimebundle(graph)["text/html"]
    live = ET.fromstring(re.search(r"<svg.*</svg>", html, re.DOTALL)[0])
    left = Sanitized(html)
    assert left.seen.strip() == ""
    (shown,) = left.images
    assert shown["alt"] == live.get("aria-label")
    start, _, source = shown["src"].partition(",")
    assert start == "data:image/svg+xml;charset=utf-8"
    assert not re.search('[#<>"\\n]', source)  # what would end a URL, or change in it
    flat = ET.fromstring(unquote(source))
    assert [e.text for e in flat.iter(f"{SVG}text")] == [e.text for e in live.iter(f"{SVG}text")]
    assert flat.get("viewBox") == live.get("viewBox")
    shapes = [[e.tag for e in root.iter() if e.tag not in (f"{SVG}title", f"{SVG}style")] for root in (flat, live)]
    assert shapes[0] == shapes[1]
    assert len(source) < 0.5 * len(html)


def test_text_that_would_be_left_over_is_noticed():
    html = draw.repr_mimebundle(first_graph()[0])["text/html"]
    assert Sanitized(html.replace("font-size:0", "")).seen.strip()


def test_without_graphviz_there_are_words_and_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(layout, "command", lambda form: None)
    layout._positions.cache_clear()
    graph, y, _, _ = first_graph()
    html = graph._repr_mimebundle_()["text/html"]
    assert "pip install pygraphviz" in html
    assert re.search(r"0  input: w {2}float32\[\] {2}0.5", html)
    layers = [int(n) for n in re.findall(r"^ +(\d+)  ", html, re.MULTILINE)]
    assert layers == [0, 1, 2, 3]
    assert "<svg" not in html
    assert "pip install" in y._repr_mimebundle_()["text/html"]
    assert draw.to_dot(graph).startswith("digraph")
    with pytest.raises(draw.LayoutError, match="there is no Graphviz"):
        graph.save(tmp_path / "x.svg")
    assert list(tmp_path.iterdir()) == []


def test_no_program_and_no_package_is_no_graphviz(monkeypatch):
    monkeypatch.setattr(layout.shutil, "which", lambda name: None)
    monkeypatch.setattr(layout.importlib.util, "find_spec", lambda name: None)
    assert layout.command("json0") is None


def test_a_program_is_preferred_to_the_package(monkeypatch):
    monkeypatch.setattr(layout.shutil, "which", lambda name: f"/somewhere/{name}")
    assert layout.command("json0") == ["/somewhere/dot", "-Tjson0"]
    assert layout.command("png") == ["/somewhere/dot", "-Tpng", "-Gdpi=144"]


def test_a_broken_object_is_still_represented():
    graph = first_graph()[0]
    graph.nodes = (*graph.nodes, "not a node")
    assert "It cannot be drawn: AttributeError" in draw.repr_mimebundle(graph)["text/html"]
    assert "It cannot be drawn: ArgumentError" in draw.repr_mimebundle("a string")["text/html"]
    with pytest.raises(AttributeError):
        draw.to_svg(graph)


def child(code):
    return lambda form: [sys.executable, "-c", code]


def test_a_layout_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(layout, "command", child("import time; time.sleep(600)"))
    start = time.monotonic()
    with pytest.raises(draw.SlowLayoutError, match=r"took longer than 0\.2 s") as caught:
        layout.graphviz("digraph {}", "json0", 0.2)
    assert time.monotonic() - start < 60
    assert "fold" in caught.value.remedy


def test_a_failure_of_graphviz_is_told_and_not_printed(monkeypatch, capfd):
    monkeypatch.setattr(layout, "command", child("import sys; print('out of ink', file=sys.stderr); sys.exit(3)"))
    with pytest.raises(draw.LayoutError, match="out of ink"):
        layout.graphviz("digraph {}", "json0")
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(layout, "command", lambda form: ["/no/such/program"])
    with pytest.raises(draw.LayoutError, match="cannot be started"):
        layout.graphviz("digraph {}", "json0")


def test_what_is_too_slow_is_folded_further():
    graph = random_graph(280, 5)
    tried = []

    def slow(picture, seconds):
        tried.append(len(picture.boxes))
        if len(tried) < 3:
            raise draw.SlowLayoutError("slow")
        return "done"

    assert draw.in_time(graph, slow)[1] == "done"
    assert tried[0] > 250
    assert tried[1] <= 102
    assert tried[2] <= 32
    tried.clear()
    with pytest.raises(draw.SlowLayoutError):
        draw.in_time(graph, slow, fold=never)  # the user's own choice is not changed
    assert len(tried) == 1


def test_nothing_at_all_can_be_drawn():
    root = ET.fromstring(draw.to_svg(mg.Graph()))
    assert root.get("aria-label") == "graph: 0 operations."


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("ending", "start"),
    [
        ("svg", b"<svg"),
        ("html", b"<!doctype html>"),
        ("dot", b"digraph"),
        ("png", b"\x89PNG"),
        ("pdf", b"%PDF"),
        ("SVG", b"<svg"),
    ],
)
def test_files_of_every_format(tmp_path, ending, start):
    first_graph()[0].save(tmp_path / f"picture.{ending}")
    assert (tmp_path / f"picture.{ending}").read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [f"picture.{ending}"]


@pytest.mark.parametrize("name", ["picture", "picture.jpeg", "picture.svg.gz", ".svg"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(mg.errors.ArgumentError, match=r"\.svg, \.html, \.dot, \.png, \.pdf"):
        first_graph()[0].save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "x.svg"
    target.write_text("before")
    monkeypatch.setattr(layout, "command", lambda form: None)
    layout._positions.cache_clear()
    with pytest.raises(draw.LayoutError):
        first_graph()[0].save(target)
    assert target.read_text() == "before"
    with pytest.raises(mg.errors.CheckpointError, match="no folder"):
        first_graph()[0].save(tmp_path / "nowhere" / "x.dot")


def test_a_page_needs_nothing_else():
    html = draw.to_html(recorded(Tower(1)), fold=1)
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)
    assert "default-src 'none'" in html
    for word in ("input", "folded operations", "Tower"):
        assert word in html.partition("<ul>")[2] or word in html


@pytest.mark.parametrize(
    ("options", "message"),
    [({"direction": "up"}, "direction"), ({"fold": -1}, "fold"), ({"fold": "all"}, "fold"), ({"limit": 0}, "limit")],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(mg.errors.ArgumentError, match=message):
        draw.picture(first_graph()[0], **options)


@pytest.mark.parametrize("thing", [3, "graph", None, mg.Variable(1.0), np.ones(3), mg.compile(mg.sin)])
def test_what_cannot_be_drawn(thing):
    with pytest.raises(mg.errors.ArgumentError, match="a Graph, a Tensor or a Module"):
        draw.to_dot(thing)


# -------------------------------------------------------------------------------------------------------- how it looks


def luminance(colour):
    r, g, b = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """The contrast ratio of two colours (WCAG 2.2)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "dark"), [(dot.LIGHT, False), (dot.DARK, True)], ids=["light", "dark"])
def test_text_and_borders_can_be_seen(theme, dark):
    paper = svg.PAPER["paper"][dark]
    assert set(theme) == set(KINDS)
    for kind, (fill, line, ink) in theme.items():
        assert contrast(ink, fill) >= 7, kind
        assert contrast(line, paper) >= 3, kind
        assert contrast(line, fill) >= 3, kind
    assert contrast(svg.PAPER["ink"][dark], paper) >= 7
    assert contrast(svg.PAPER["line"][dark], paper) >= 4.5
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_kinds_differ_in_shape_as_well_as_in_colour():
    shapes = {kind: "".join(svg._outline(kind, 0, 0, 80, 30)) for kind in KINDS}
    assert len(set(shapes.values())) == len(KINDS)
    assert len(set(dot.SHAPES.values())) == len(KINDS)


def test_every_shape_has_a_colour_with_and_without_css():
    """No `fill` means black: each shape has one as an attribute, its own or inherited, and by a rule of the style."""
    graph = training_step().graph
    root = ET.fromstring(draw.to_svg(graph))
    parents = {c: p for p in root.iter() for c in p}
    rules = root.find(f"{SVG}style").text
    shapes = [e for e in root.iter() if e.tag.removeprefix(SVG) in ("rect", "path", "polygon", "text")]
    assert len(shapes) > 50
    for e in shapes:
        above, fill = e, None
        classes = []
        while above is not None:
            fill = fill or above.get("fill")
            classes += (above.get("class") or "").split()
            above = parents.get(above)
        assert fill is not None, ET.tostring(e)
        assert any(f".{c}" in rules and re.search(rf"\.{c}[^{{}}]*{{fill:", rules) for c in classes if c != "minigraph")
    used = set(re.findall(r"var\((--[\w-]+)\)", rules))
    for theme in re.findall(r"\.minigraph\{(--[^}]*)\}", rules):
        assert used <= set(re.findall(r"(--[\w-]+):", theme))
    assert len(re.findall(r"\.minigraph\{(--[^}]*)\}", rules)) == 4  # default, dark system, declared light and dark


def test_the_style_stays_inside():
    for rule in re.findall(r"(?:^|[}{])([^{}@]+)\{", svg.style()):
        assert all(".minigraph" in selector for selector in rule.split(",")), rule


def test_texts_are_measured_wide_enough():
    """The table of widths against the widest of the fonts a browser may take."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    for weight, bold in (("normal", False), ("bold", True)):
        font = FT2Font(font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight)))
        font.set_size(100, 72)
        for text in [
            "multiply",
            "float32[64, 10]",
            "matrix_transpose",
            "in_features=128, out_features=64",
            "Wm%@",
            "grad 4.762",
        ]:
            font.set_text(text)
            real = font.get_width_height()[0] / 64
            assert real * 0.98 <= words.width(text, 100, bold) <= real * 1.35


@pytest.mark.parametrize("direction", ["TB", "LR"])
def test_labels_on_arrows_keep_apart(direction):
    """From each other, and from boxes."""
    with mg.record() as graph:
        a, b = mg.tensor(1.0, name="a"), mg.tensor(2.0, name="b")
        (a - b) / mg.pow(a, nn.Linear(1, 1)(b.reshape((1, 1))))
    picture = draw.picture(graph, direction=direction)
    found = layout.lay_out(picture)
    places = svg.place_labels(picture, found)
    assert len(places) == 9
    areas = [svg._rectangle(b, found.boxes[b.id]) for b in picture.boxes]
    for number, (x, y, anchor) in places.items():
        w = words.width(picture.arrows[number].label, svg.LABEL)
        left = {"end": x - w, "middle": x - w / 2, "start": x}[anchor]
        areas.append((left, y - 0.8 * svg.LABEL, left + w, y))
    assert not [(p, q) for k, p in enumerate(areas) for q in areas[:k] if svg._overlap(p, q)]


def test_frames_stand_one_below_the_other():
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(5)])
    picture = draw.picture(recorded(model))
    found = layout.lay_out(picture)
    layers = [found.frames[f.id] for f in picture.frames[1:]]
    assert all(above[3] <= below[1] for above, below in pairwise(layers))
    assert found.width < 2.5 * max(right - left for left, _, right, _ in layers)


@pytest.fixture(scope="module")
def browser():
    """Chromium, where this machine has it."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=flags)
        yield chromium
        chromium.close()


LOOK = """() => [...document.querySelectorAll('.mg-box')].map(g => {
  const area = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const shapes = [...g.children].filter(e => !['title', 'g'].includes(e.tagName));
  return {kind: g.getAttribute('class'), fills: shapes.map(e => getComputedStyle(e).fill),
          ink: [...g.querySelectorAll('text')].map(e => getComputedStyle(e).fill),
          area: area(shapes.filter(e => getComputedStyle(e).fill != 'none').at(-1)),
          texts: [...g.querySelectorAll('text')].map(area)};
})"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("declared", ["", 'data-jp-theme-light="false"', 'data-jp-theme-light="true"'])
def test_what_a_browser_shows(browser, theme, declared):
    """Nothing is painted black, texts lie inside their boxes, and the theme is the declared one, else the system's."""
    step = training_step()
    bodies = [
        draw.repr_mimebundle(x)["text/html"] for x in (step.graph, recorded(Tower(64)), Tower(2), first_graph()[0])
    ]
    page = browser.new_page(color_scheme=theme)
    page.set_content(f"<body {declared}>{''.join(bodies)}</body>")
    boxes = page.evaluate(LOOK)
    paper = page.evaluate("() => getComputedStyle(document.querySelector('.mg-paper')).fill")
    page.close()
    dark = "false" in declared or (not declared and theme == "dark")
    assert paper == ("rgb(17, 17, 17)" if dark else "rgb(255, 255, 255)")
    assert len(boxes) > 50
    for b in boxes:
        kind = re.search(r"mg-(?!box)(\w+)", b["kind"])[1]
        colours = (dot.DARK if dark else dot.LIGHT)[kind]
        fill, ink = (f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:], 16)})" for c in (colours[0], colours[2]))
        assert set(b["fills"]) <= {fill, "none"}
        assert set(b["ink"]) == {ink}
        left, top, right, bottom = b["area"]
        for x0, y0, x1, y1 in b["texts"]:
            assert left <= x0 and x1 <= right and top - 1 <= y0 and y1 <= bottom + 1, b


def test_a_browser_shows_the_picture_once(browser):
    """Live where SVG may be; as an image where it was taken out, also beside another output that is live."""
    html = draw.repr_mimebundle(first_graph()[0])["text/html"]
    page = browser.new_page(color_scheme="light")
    page.set_content(f"<section>{html}</section><section>{html}</section>")
    page.evaluate("() => document.querySelector('section:last-child svg').replaceWith('its texts')")
    seen = page.evaluate("""() => [...document.querySelectorAll('section')].map(s => ['svg', 'img'].map(
        kind => s.querySelector(kind)?.getBoundingClientRect()).map(r => r ? r.width * r.height : 0))""")
    real = page.evaluate("() => [...document.querySelectorAll('img')].map(e => e.naturalWidth)")
    page.close()
    (live, hidden), (none, image) = seen
    assert live > 10_000 and hidden == 0
    assert none == 0 and image == pytest.approx(live, rel=0.02)
    assert min(real) > 100  # it could be read


def test_the_words_of_a_picture():
    picture = Picture("p", "What it is.")
    for _ in range(200):
        picture.box("op", ["sin"], "sin")
    text = draw.layered_text(picture)
    assert text.startswith("What it is.")
    assert "and 120 more lines" in text
