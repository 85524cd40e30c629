"""The graph explorer: a whole graph as a tree that is opened piece by piece.

Python sends facts, not a drawing: for each node its operation, its inputs and what is known of it, and the tree of
scopes that they belong to, with stretches that repeat rolled up. The front end lays out only what is open, one level at
a time, so ten thousand operations open at once, and folding needs no kernel.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import traitlets

import minigraph as mg
from minigraph.compiler.profile import flops_of
from minigraph.draw import repr_mimebundle
from minigraph.draw.flow import history
from minigraph.draw.fold import Group, Signatures, roll_up_all, scope_tree
from minigraph.draw.words import attribute_texts, leaf_name, plain_text, plural
from minigraph.errors import ArgumentError, Site
from minigraph.graph import Graph, input_names, type_text
from minigraph.op import ROOT
from minigraph.tensor import Tensor
from minigraph.variable import READ

from . import formulas
from .recording import Run, argument_tensors, copied, found_in, record
from .values import number, rounded, sample, summary, to_numpy, type_of
from .view import View

AT_ONCE = 120  # children of a group that are laid out together; more are cut into parts
CROWD = 1500  # nodes of a recording; of more, values are told by their extremes only
DEEP = 8  # graphs within graphs
RUNS = 5  # of a function, for its times
AROUND, LONGEST = 3, 160  # lines of source around the user's own, and characters of a line


class GraphExplorer(View):
    """Shows a graph folded by module; opens, searches and colours it; tells everything of a node.

    Args:
        graph: a graph, a compiled function (its traced graph; `optimized=True`: what the passes made of it), a tensor
            (its history), or a function or module, which is run on `inputs`, with values and gradients.
        *inputs: arguments for a function.
        optimized: show the optimised graph of a compiled function.
        times: run a function several times more, to colour operations by their time forwards (the least of all runs).

    Attributes:
        selected: path of the node or group ("encoder/") that the reader has chosen; assign it to choose another.
        node: the node of the graph that is selected, None for a group.
        colour: what boxes are coloured by: "kind", "scope", "dtype", "device", "bytes", "flops", "norm", "seconds".
        unfolded: paths of the groups that are open; None: as many as fit at first.

    Raises:
        ArgumentError: there is no graph to be seen.

    >>> from minigraph_widgets import GraphExplorer
    >>> explorer = GraphExplorer(mg.nn.Linear(3, 2), np.ones((4, 3), "float32"))
    >>> explorer
    GraphExplorer: 1 operation, 1 input, 2 variables.
    >>> explorer.selected = "Linear.linear"
    >>> explorer.node.shape
    (4, 2)
    """

    selected = traitlets.Unicode("").tag(sync=True, reader=True)
    colour = traitlets.Unicode("kind").tag(sync=True, reader=True)
    unfolded = traitlets.List(traitlets.Unicode(), None, allow_none=True).tag(sync=True, reader=True)

    def __init__(self, graph: Any, *inputs: Any, optimized: bool = False, times: bool = False):
        shown, run = find_graph(graph, inputs, optimized)
        if times and run is None:
            raise ArgumentError(
                "GraphExplorer: times",
                expected="a function or module with inputs, which can be run",
                actual=type(graph).__name__,
                remedy="Profile(compiled) times a compiled function",
            )
        notes = []
        facts = Facts(run)
        if times and run is not None and run.error is None:
            facts.seconds = measured(graph, inputs, run)
            if not facts.seconds:
                notes.append("No times: the function does something else each time it runs.")
        facts.add(shown)
        self._nodes = facts.paths
        parts = [plural(len(shown.operations), "operation")]
        for count, word in ((len(facts.graphs[0]["inputs"]), "input"), (len(shown.reads), "variable")):
            parts += [plural(count, word)] if count else []
        document = {
            "kind": "explorer",
            "title": f"Graph: {shown.name}" if shown.name != "graph" else "Graph",
            "what": ", ".join(parts) + ".",
            "graphs": facts.graphs,
            "keys": [list(k) for k in facts.keys],
            "texts": list(facts.texts),
            "values": facts.values,
            "notes": notes,
            "error": "" if run is None or run.error is None else f"{type(run.error).__name__}: {run.error}",
        }
        super().__init__(document, repr_mimebundle(shown)["text/html"])

    @property
    def node(self) -> Tensor | None:
        """The selected node."""
        return self._nodes.get(self.selected)


def find_graph(obj: Any, inputs: Sequence[Any], optimized: bool) -> tuple[Graph, Run | None]:
    """The graph that somebody wants to see and, where it was run for that, its run."""
    if isinstance(obj, Graph):
        return obj, None
    if isinstance(obj, Tensor):
        return history(obj, limit=1_000_000)[0], None
    if type(obj).__name__ == "Compiled":
        if obj.last is None and inputs:
            obj(*inputs)
        if obj.last is None:
            raise ArgumentError("GraphExplorer: the function has no graph yet", actual=repr(obj),
                                expected="a compiled function that has been called, or inputs to call it with",
                                remedy="GraphExplorer(f, x, y)")  # fmt: skip
        return (obj.optimized if optimized else obj.graph), None
    if not callable(obj):
        raise ArgumentError("GraphExplorer: what is shown", actual=type(obj).__name__,
                            expected="a graph, a compiled function, a tensor, or a function with inputs")  # fmt: skip
    run = record(obj, argument_tensors(obj, inputs, not isinstance(obj, mg.nn.Module)))
    if not run.graph.nodes and run.error is not None:
        raise run.error
    return run.graph, run


class Clock(mg.debug.Hook):
    """Times every operation that runs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def before(self, node: Any) -> None:
        self.started = perf_counter()

    def after(self, node: Any, value: Any) -> None:
        self.seconds.append(perf_counter() - self.started)


def measured(fn: Any, inputs: Sequence[Any], run: Run) -> dict[int, float]:
    """Seconds of every operation of a run, the least of some more runs; nothing if these are other operations."""
    nodes = [e.node for e in run.events if e.kind == "value"]
    runs = []
    for _ in range(RUNS):
        with mg.no_grad(), mg.debug.hooks(clock := Clock()):
            fn(*argument_tensors(fn, inputs, False))
        runs.append(clock.seconds)
    if any(len(r) != len(nodes) for r in runs):
        return {}
    return {id(n): float(f"{min(each):.3g}") for n, *each in zip(nodes, *runs, strict=True)}


class Facts:
    """Graphs on their way to a document. Texts are told once, and referred to by number."""

    def __init__(self, run: Run | None):
        self.run = run
        self.graphs: list[dict[str, Any]] = []
        self.texts: dict[str, int] = {}
        self.values: list[Any] = []
        self.known: dict[str, int] = {}
        self.keys: dict[tuple[str, ...], int] = {}
        self.paths: dict[str, Tensor] = {}
        self.same: dict[str, int] = {}  # how many nodes have had a path: the others get a number
        self.gradients: dict[int, Any] = {}
        self.seconds: dict[int, float] = {}
        for e in run.events if run is not None else ():
            if e.kind in ("gradient", "accumulate"):
                self.gradients[id(e.node)] = e.value

    def text(self, words: str) -> int:
        return self.texts.setdefault(words, len(self.texts))

    def value(self, v: Any, crowded: bool) -> int:
        """Number of the summary of a value. Equal ones are told once."""
        found = (extremes if crowded else summary)(v[0] if type(v) is tuple else v)
        known = self.known.setdefault(repr(found), len(self.values))
        if known == len(self.values):
            self.values.append(dict(found))
        return known

    def packed(self, fact: dict[str, Any]) -> list[Any]:
        """A fact as a list: which keys it has, and what they hold. There are a few sets of keys, and many facts."""
        return [self.keys.setdefault(tuple(fact), len(self.keys)), *fact.values()]

    def add(self, graph: Graph, depth: int = 0) -> int:
        """Put a graph, and those nested in it, into the document; its number."""
        number_ = len(self.graphs)
        given = {id(n) for n in graph.inputs}
        operations = [n for n in graph.operations if id(n) not in given]
        computed = {id(n) for n in operations}
        leaves = [n for n in graph.nodes if n.op in (None, READ) or (not n.inputs and id(n) not in computed)]
        leaves = [n for n in dict.fromkeys([*graph.inputs, *leaves]) if not is_plain(n, given)]
        order = {id(n): k for k, n in enumerate([*operations, *leaves])}
        found: dict[str, Any] = {"name": graph.name, "nodes": [], "tree": None, "outputs": [], "inputs": []}
        self.graphs.append(found)
        crowded = len(order) > CROWD
        for n in [*operations, *leaves]:
            found["nodes"].append(self.packed(self.fact(graph, n, order, given, crowded, depth)))
        found["outputs"] = sorted({order[id(n)] for n in graph.outputs if id(n) in order})
        found["inputs"] = [order[id(n)] for n in leaves if n.op is not READ]
        found["tree"] = self.tree(operations, leaves, order)
        if depth == 0 and self.run is not None and self.run.failed is not None:
            self.add_failure(found, order)
        return number_

    def fact(
        self, graph: Graph, n: Tensor, order: dict[int, int], given: set[int], crowded: bool, depth: int
    ) -> dict[str, Any]:
        """What is told of one node. Nothing is told that is not known."""
        leaf = id(n) in given or n.op in (None, READ)
        name = leaf_name(n, next((k for k, x in enumerate(graph.inputs) if x is n), None)) if leaf else n.op.name
        kind = "variable" if n.op is READ else "input" if leaf else "op"
        scope = str(n.scope) if n.scope is not None and n.scope is not ROOT else ""
        path = ".".join(filter(None, [scope, n.name or name]))
        count = self.same[path] = self.same.get(path, 0) + 1
        if count > 1:
            path = f"{path}#{count}"
        self.paths[path] = n
        found: dict[str, Any] = {
            "op": self.text(name),
            "kind": kind,
            "path": self.text(path),
            "type": self.text(type_text(n)),
        }
        if n.name and not leaf:
            found["name"] = self.text(n.name)
        if scope:
            found["scope"] = self.text(scope)
        if type(n.value) is not tuple:
            found |= {"bytes": n.nbytes, "dtype": self.text(n.dtype.name), "device": self.text(str(n.device))}
        if n.site is not None and not n.site.in_doctest:
            found["site"] = self.text(str(n.site))
            if (around := excerpt(n.site)) is not None:
                found["code"] = [self.text(around[0]), *around[1:]]
        if not leaf:
            names = input_names(n) if n.inputs else []
            found["inputs"] = [order[id(x)] for x in n.inputs if id(x) in order]
            found["as"] = [self.text(a) for a, x in zip(names, n.inputs, strict=True) if id(x) in order]
            constants = [f"{a} = {plain_value(x)}" for a, x in zip(names, n.inputs, strict=True) if id(x) not in order]
            said = constants + [a for k, a in zip(n.attrs or {}, attribute_texts(n), strict=True)]
            if said:
                found["attrs"] = [self.text(a) for a in said]
            found["flops"] = int(flops_of(n))
            if (latex := formulas.formula(n.op, [formulas.symbol(a) for a in names], n.attrs)) is not None:
                found["formula"] = self.text(formulas.mathml(latex))
            if doc := (getattr(mg, n.op.name, None) or n.op.run).__doc__:
                found["doc"] = self.text(inspect.cleandoc(doc))
            if depth < DEEP:
                nested = [[k, self.add(v, depth + 1)] for k, v in (n.attrs or {}).items() if isinstance(v, Graph)]
                if nested:
                    found["nested"] = nested
        if id(n) in self.seconds:
            found["seconds"] = self.seconds[id(n)]
        if not n.is_symbolic:
            found["value"] = self.value(n.value, crowded)
        if id(n) in self.gradients:
            g = self.gradients[id(n)]
            found["gradient"] = self.value(g, crowded)
            found["norm"] = rounded(np.linalg.norm(to_numpy(copied(g)).astype(np.float64)))
        return found

    def tree(self, operations: Sequence[Tensor], leaves: Sequence[Tensor], order: dict[int, int]) -> dict[str, Any]:
        """The tree of scopes; repeated stretches are groups of their own, and large ones are cut into parts."""
        root = scope_tree(operations)
        roll_up_all(root, Signatures(operations, [type_text(n) for n in operations]))
        ways: dict[int, list[Group]] = {}
        todo: list[tuple[Group, list[Group]]] = [(root, [])]
        while todo:
            group, way = todo.pop()
            for item in group.items:
                if isinstance(item, Group):
                    todo.append((item, [*way, item]))
                else:
                    ways[item] = way
        users: dict[int, list[int]] = {}
        for k, n in enumerate(operations):
            for x in n.inputs:
                users.setdefault(id(x), []).append(k)
        for n in leaves:  # a variable stands in the innermost group that has all its users, an input comes from outside
            paths = [ways[k] for k in users.get(id(n), [])]
            home = root
            for level in zip(*paths, strict=False) if n.op is READ else ():
                if any(g is not level[0] for g in level):
                    break
                home = level[0]
            home.items.insert(0, order[id(n)])
        return self.group(root)

    def group(self, group: Group) -> dict[str, Any]:
        items: list[Any] = [self.group(x) if isinstance(x, Group) else x for x in group.items]
        while len(items) > AT_ONCE:
            step = max(AT_ONCE // 4, -(-len(items) // AT_ONCE))
            items = [
                {"name": f"part {k // step + 1}", "kind": "part", "items": items[k : k + step]}
                for k in range(0, len(items), step)
            ]
        found: dict[str, Any] = {"name": group.name or group.what, "kind": group.kind or group.what, "items": items}
        if group.times > 1:
            found["times"] = group.times
        return found

    def add_failure(self, found: dict[str, Any], order: dict[int, int]) -> None:
        """The operation that raised the error that ended the run."""
        assert self.run is not None
        failed = self.run.failed
        assert failed is not None
        nodes = [found_in(self.run.graph, x) for x in failed.inputs]
        error = str(self.run.error)
        found["nodes"].append(self.packed({
            "op": self.text(f"{failed.op.name} failed"), "kind": "error", "path": self.text(f"{failed.op.name} failed"),
            "type": self.text(error.partition("\n")[0]), "inputs": [order[id(n)] for n in nodes if id(n) in order],
            "as": [], "doc": self.text(error),
        }))  # fmt: skip
        found["tree"]["items"].append(len(found["nodes"]) - 1)


def extremes(value: Any) -> dict[str, Any]:
    """A summary of a value by its extremes only: where there are very many."""
    flat, _ = sample(value, CROWD)
    found = {"text": "empty", "type": type_of(getattr(value, "value", value))}
    if flat.size and flat.dtype.kind in "biuf":
        lo, hi = flat.min(), flat.max()
        found["text"] = number(lo) if flat.size == 1 else f"{number(lo)} to {number(hi)}"
    return found


def excerpt(site: Site) -> tuple[str, int, int] | None:
    """(the lines around the user's line, the number of the first of them, which of them it is), if they are known."""
    lines = linecache.getlines(site.file)
    at = site.line - 1
    if not 0 <= at < len(lines):
        return None
    first = max(0, at - AROUND)
    shown = [line.rstrip()[:LONGEST] for line in lines[first : at + AROUND + 1]]
    return "\n".join(shown), first + 1, at - first


def is_plain(n: Tensor, given: set[int]) -> bool:
    """Whether a leaf is a constant without a name: it is told at its users, and has no box."""
    return n.op is None and id(n) not in given and not n.name and not n.requires_grad and n.ndim == 0


def plain_value(x: Tensor) -> str:
    """A constant as it stands beside the name of an argument."""
    if type(x.value) is not tuple and not x.is_symbolic and x.shape == ():
        return number(to_numpy(x)[()])
    return plain_text(x)


def compare(a: Any, b: Any, *inputs: Any, labels: Sequence[str] = ("dynamic", "static")) -> View:
    """Two graphs beside each other: by default a function as it runs, and its compiled form.

    >>> from minigraph_widgets.explorer import compare
    >>> f = lambda x: mg.tanh(x) * 2.0
    >>> compare(f, mg.compile(f), mg.tensor(1.0)).document["title"]
    'dynamic and static'
    """
    from .side import SideBySide

    return SideBySide(GraphExplorer(a, *inputs), GraphExplorer(b, *inputs), labels=list(labels))
