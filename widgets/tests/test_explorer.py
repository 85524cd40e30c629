"""The graph explorer's document against the graph it is about."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigraph as mg
from minigraph.errors import ArgumentError
from minigraph_widgets import GraphExplorer
from minigraph_widgets.explorer import AT_ONCE, compare
from minigraph_widgets.view import to_json


class Block(mg.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = mg.nn.Linear(width, 2 * width), mg.nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(mg.nn.functional.gelu(self.up(x)))


class Net(mg.nn.Module):
    def __init__(self, depth=3, width=4):
        super().__init__()
        self.blocks = mg.nn.Sequential(*[Block(width) for _ in range(depth)])
        self.head = mg.nn.Linear(width, 2)

    def forward(self, x):
        return mg.cross_entropy(self.head(self.blocks(x)), mg.tensor([0, 1]))


X = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)


def facts(view, graph=0):
    """The facts as dictionaries, texts in place of their numbers."""
    doc = view.document
    words = {"op", "path", "type", "name", "scope", "dtype", "device", "site", "formula", "doc"}
    found = []
    for k, *values in doc["graphs"][graph]["nodes"]:
        f = dict(zip(doc["keys"][k], values, strict=True))
        found.append({k: doc["texts"][v] if k in words else v for k, v in f.items()})
    return found


def leaves_of(group):
    return [n for item in group["items"] for n in (leaves_of(item) if isinstance(item, dict) else [item])]


def groups_of(group, path=""):
    for item in group["items"]:
        if isinstance(item, dict):
            yield f"{path}{item['name']}/", item
            yield from groups_of(item, f"{path}{item['name']}/")


def test_every_node_is_told_once_and_stands_once_in_the_tree():
    net = Net()
    view = GraphExplorer(net, X)
    told = facts(view)
    with mg.record() as graph:
        net(mg.tensor(X))
    assert [f["op"] for f in told if f["kind"] == "op"] == [n.op.name for n in graph.operations]
    tree = view.document["graphs"][0]["tree"]
    assert sorted(leaves_of(tree)) == list(range(len(told)))
    paths = [f["path"] for f in told]
    assert len(set(paths)) == len(paths)
    assert dict(groups_of(tree))["Net/blocks/1/up/"]["kind"] == "Linear"


def test_arrows_are_those_of_the_graph():
    told = facts(GraphExplorer(lambda a, b: mg.exp(a * b) + a, 2.0, 3.0))
    by_op = {f["op"]: f for f in told}
    names = [f["op"] for f in told]
    assert [names[k] for k in by_op["multiply"]["inputs"]] == ["a", "b"]
    assert [names[k] for k in by_op["add"]["inputs"]] == ["exp", "a"]
    assert names.index("a") in by_op["multiply"]["inputs"]


def test_values_gradients_and_costs():
    view = GraphExplorer(lambda x: (mg.tanh(x) ** 2).sum(), np.array([0.5, -1.0], "float32"))
    told = {f["op"]: f for f in facts(view)}
    values = view.document["values"]
    y = np.tanh(np.array([0.5, -1.0], "float32"))
    assert values[told["tanh"]["value"]]["numbers"] == [f"{v:.4g}" for v in y]
    assert told["tanh"]["norm"] == pytest.approx(np.linalg.norm(2 * y), rel=1e-3)
    assert (told["tanh"]["bytes"], told["tanh"]["dtype"], told["tanh"]["device"]) == (8, "float32", "cpu")
    assert "gradient" in told["x"]
    assert "<math" in told["tanh"]["formula"]
    assert told["tanh"]["doc"].startswith("The hyperbolic tangent")


def test_the_line_that_made_a_node():
    view = GraphExplorer(
        lambda x: mg.sinh(x),  # this line
        1.0,
    )
    (node,) = [f for f in facts(view) if f["op"] == "sinh"]
    text, first, at = node["code"]
    lines = view.document["texts"][text].split("\n")
    assert lines[at].endswith("# this line")
    assert node["site"].startswith(f"test_explorer.py:{first + at}")


def test_graphs_of_branches_and_loops_are_told_too():
    def f(x):
        x = mg.cond(x > 0, lambda v: v * 2, lambda v: mg.exp(v), x)
        return mg.while_loop(lambda v: v < 10.0, lambda v: v * 2, x)

    view = GraphExplorer(mg.compile(f), mg.tensor(1.0))
    nested = {f["op"]: dict(f["nested"]) for f in facts(view) if "nested" in f}
    assert set(nested) == {"cond", "while_loop"}
    inside = [[f["op"] for f in facts(view, k) if f["kind"] == "op"] for k in nested["cond"].values()]
    assert sorted(inside) == [["exp"], ["multiply"]]


def test_repeated_layers_are_rolled_up_and_long_stretches_cut():
    tree = GraphExplorer(Net(depth=12), X).document["graphs"][0]["tree"]
    assert max(item.get("times", 1) for _, item in groups_of(tree)) >= 10

    def chain(x):
        for k in range(1000):
            x = (mg.tanh, mg.sin, mg.exp)[k * k % 7 % 3](x)
        return x

    tree = GraphExplorer(chain, 0.1).document["graphs"][0]["tree"]
    assert all(len(g["items"]) <= AT_ONCE for g in [tree, *(g for _, g in groups_of(tree))])
    assert sorted(leaves_of(tree)) == list(range(1001))


def test_a_run_that_fails_shows_how_far_it_came():
    view = GraphExplorer(lambda x: mg.tanh(x) @ mg.ones((5, 2)), np.ones((4, 3), "float32"))
    last = facts(view)[-1]
    assert (last["op"], last["kind"]) == ("matmul failed", "error")
    assert [facts(view)[k]["op"] for k in last["inputs"]] == ["tanh"]
    assert "inner sizes differ" in last["doc"]
    assert view.document["error"].startswith("ShapeError")


def test_what_can_be_shown():
    f = mg.compile(lambda x: (mg.exp(x) + mg.exp(x)) * 1)
    f(mg.tensor(2.0))
    assert [n["op"] for n in facts(GraphExplorer(f)) if n["kind"] == "op"] == [
        "exp", "exp", "add", "multiply",
    ]  # fmt: skip
    assert len([n for n in facts(GraphExplorer(f, optimized=True)) if n["kind"] == "op"]) == 2
    y = mg.tanh(mg.tensor(1.0, requires_grad=True))
    assert facts(GraphExplorer(y))[0]["op"] == "tanh"
    with mg.record() as graph:
        mg.tanh(y)
    assert GraphExplorer(graph).document["graphs"][0]["nodes"]
    both = compare(lambda x: mg.tanh(x) * 2.0, mg.compile(lambda x: mg.tanh(x) * 2.0), mg.tensor(1.0))
    assert [p["label"] for p in both.document["parts"]] == ["dynamic", "static"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GraphExplorer(3), ("what is shown", "int")),
        (lambda: GraphExplorer(mg.compile(mg.tanh)), ("no graph yet", "GraphExplorer(f, x, y)")),
        (lambda: GraphExplorer(mg.tensor(1.0), times=True), ("times", "Profile")),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ArgumentError) as error:
        call()
    assert all(w in str(error.value) for w in words)


def test_an_error_before_the_first_operation_is_raised():
    with pytest.raises(ZeroDivisionError):
        GraphExplorer(lambda x: 1 / 0, 1.0)


def test_selection_by_name():
    view = GraphExplorer(Net(), X)
    path = next(f["path"] for f in facts(view) if f["op"] == "gelu")
    view.selected = path
    assert view.node.op.name == "gelu"
    view.selected = "Net/blocks/"
    assert view.node is None


def test_times_are_told_only_on_demand():
    def f(x):
        return mg.tanh(x).sum()

    assert all("seconds" not in n for n in facts(GraphExplorer(f, X)))
    timed = [n for n in facts(GraphExplorer(f, X, times=True)) if n["kind"] == "op"]
    assert len(timed) == 2
    assert all(n["seconds"] > 0 for n in timed)
    calls = iter(range(100))
    fickle = GraphExplorer(lambda x: mg.tanh(x) if next(calls) % 2 else mg.tanh(mg.tanh(x)), 1.0, times=True)
    assert "something else" in fickle.document["notes"][0]


def test_the_same_view_is_the_same_bytes_and_names_are_data():
    net = Net()
    assert to_json(GraphExplorer(net, X).document) == to_json(GraphExplorer(net, X).document)
    evil = '</script><img src=x onerror="alert(1)">{}|\\N'
    view = GraphExplorer(lambda x: mg.tanh(x), mg.tensor(1.0, name=evil))
    html = view.to_html()
    assert "<img src=x" not in html
    assert any(f["op"] == evil for f in facts(view))


def test_odd_values():
    view = GraphExplorer(lambda x: mg.tanh(x), np.zeros((0, 3), "float32"))
    assert view.document["values"][facts(view)[0]["value"]]["text"] == "empty"
    view = GraphExplorer(lambda x: mg.log(x), np.array([-1.0, 0.0, 1.0], "float32"))
    json.dumps(view.document, allow_nan=False)
    assert facts(view)[1]["norm"] == "inf"


def test_ten_thousand_operations_tell_extremes_only():
    def f(x):
        for _ in range(5000):
            x = mg.tanh(x) + 0.1
        return x

    view = GraphExplorer(f, np.linspace(0, 1, 100, dtype="float32"))
    told = facts(view)
    assert len(told) == 10_001
    shown = view.document["values"][told[0]["value"]]
    assert set(shown) == {"text", "type"}
    assert shown["text"] == f"0 to {np.tanh(1):.4g}"
    assert len(to_json(view.document)) < 300 * len(told)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["tanh", "add", "push", "pop"]), st.integers(0, 9)), max_size=60))
def test_any_nesting_of_scopes_is_a_tree(program):
    def f(x):
        values, scopes = [x], []
        for what, k in program:
            if what == "push":
                scopes.append(mg.named_scope(f"s{k % 3}"))
                scopes[-1].__enter__()
            elif what == "pop" and scopes:
                scopes.pop().__exit__(None, None, None)
            elif what == "tanh":
                values.append(mg.tanh(values[k % len(values)]))
            else:
                values.append(values[k % len(values)] + values[-1])
        while scopes:
            scopes.pop().__exit__(None, None, None)
        return mg.sin(values[-1])

    view = GraphExplorer(f, 0.5)
    told = facts(view)
    tree = view.document["graphs"][0]["tree"]
    assert sorted(leaves_of(tree)) == list(range(len(told)))
    operations = [k for k in leaves_of(tree) if told[k]["kind"] == "op"]
    assert operations == sorted(operations)  # groups are contiguous stretches, so folded drawings have no cycle


def test_a_module_shown_directly_was_called_by_the_line_that_shows_it():
    view, line = GraphExplorer(mg.nn.Linear(4, 2), X), sys._getframe().f_lineno
    assert next(n for n in facts(view) if n["op"] == "linear")["site"].startswith(f"test_explorer.py:{line} ")
