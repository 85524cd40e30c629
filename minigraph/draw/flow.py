"""Graphs as pictures: operations, what they use, and where data flows.

A node of the graph becomes one box, or disappears into the box of a folded stretch (`fold.py`). Constants and variables
stand in the frame where they are used, and fold with it when nothing else uses them; inputs always stay to be seen.
Nested graphs, such as the body of a `scan`, stand in a frame beside the operation that runs them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..graph import Graph, input_names
from ..tensor import FREED, Tensor
from ..variable import READ, Gradient, Variable
from .fold import Group, close_by, close_until_it_fits, scope_tree
from .picture import Box, Fold, Frame, Picture
from .words import (
    LONGEST,
    SMALL,
    TIMES,
    clean,
    details,
    leaf_name,
    notable_attributes,
    plural,
    size_text,
    type_text,
    value_text,
)

HISTORY = 2000  # nodes of a tensor's history that are looked at
TEACHING = 30  # up to so many nodes, values are shown without being asked for
CROWD = 20  # where there is no room, more variables or constants than this are left out
ALIKE = 3  # so many variables that the same folded boxes use share a box
# operations whose inputs need no names on their arrows
SYMMETRIC = {
    "add", "multiply", "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or", "logical_xor",
    "bitwise_and", "bitwise_or", "bitwise_xor", "hypot", "logaddexp", "concat", "stack",
}  # fmt: skip


def history(tensor: Tensor, limit: int = HISTORY) -> tuple[Graph, bool]:
    """The graph of the operations that made a tensor, the most recent `limit` of them; and whether that is all.

    Where the history is cut, tensors become inputs of the graph.
    """
    found: dict[int, Tensor] = {}
    queue = [(-tensor.seq, 0, tensor)]
    queued = {id(tensor)}
    while queue and len(found) < limit:
        _, _, node = heapq.heappop(queue)  # the youngest first: creation order is a topological order
        found[id(node)] = node
        for x in node.inputs:
            if id(x) not in queued:
                queued.add(id(x))
                heapq.heappush(queue, (-x.seq, len(queued), x))
    rest = [x for _, _, x in sorted(queue, key=lambda entry: entry[:2], reverse=True)]
    nodes = [*rest, *reversed(found.values())]
    cut = [x for x in rest if x.inputs]
    name = f"history of {tensor.name or (tensor.op.name if tensor.op else 'a tensor')}"
    reads = {n.attrs["variable"]: n for n in nodes if n.op is READ and n.attrs and "variable" in n.attrs}
    return Graph(nodes, cut, [tensor], reads=reads, name=name), not cut


def draw_graph(
    picture: Picture, graph: Graph, *, fold: Fold, limit: int, values: bool | None, show_sites: bool, cut: bool = False
) -> None:
    """Put a graph into an empty picture."""
    count = len(graph.operations)
    Flow(picture, graph, None, fold=fold, values=values, show_sites=show_sites, limit=limit, cut=cut).draw()
    parts = [plural(count, "operation")]
    for things, word in ((graph.inputs, "input"), (graph.reads, "variable"), (graph.outputs, "output")):
        if things and not (cut and word == "input"):
            parts.append(plural(len(things), word))
    picture.what = clean(f"{graph.name}: {', '.join(parts)}.")
    folded = [b for b in picture.boxes if b.kind == "fold"]
    if folded:
        cards = f"what is drawn as a stack of cards ({len(folded):,} in all) stands for several operations"
        picture.notes.insert(0, f"Folded: {cards}; fold=... opens more or less.")


class Flow:
    """One graph on its way into a picture."""

    def __init__(
        self, picture: Picture, graph: Graph, frame: Frame | None, *, fold: Fold, values: bool | None, show_sites: bool,
        limit: int, cut: bool = False, depth: int = 0,
    ):  # fmt: skip
        self.picture, self.graph, self.frame, self.fold, self.show_sites = picture, graph, frame, fold, show_sites
        self.limit, self.cut, self.depth = limit, cut, depth
        self.inputs = {id(n): k for k, n in enumerate(graph.inputs)}
        self.operations = [n for n in graph.operations if id(n) not in self.inputs]
        self.numbers = {id(n): k for k, n in enumerate(self.operations)}
        self.leaves = [n for n in graph.nodes if id(n) not in self.numbers]
        self.outputs: dict[int, list[int]] = {}
        for k, n in enumerate(graph.outputs):
            self.outputs.setdefault(id(n), []).append(k)
        self.users: dict[int, list[int]] = {id(n): [] for n in graph.nodes}  # by number, once for each use
        for k, n in enumerate(self.operations):
            for x in n.inputs:
                self.users.setdefault(id(x), []).append(k)
        self.is_recorded = not any(n.is_symbolic for n in self.operations)
        self.values = self.are_values_small() if values is None else values
        self.boxes: dict[int, Box] = {}  # by id of node; also operations in folded boxes, and leaves that share one
        self.groups: dict[int, Group | None] = {}  # by number of operation: the closed group that it is in
        self.frames: dict[int, Frame | None] = {}  # by id of open group
        self.hidden: dict[int, Group] = {}  # by id of leaf: the closed group that hides it
        self.folded_leaves: dict[int, list[Tensor]] = {}  # by id of closed group: the leaves it hides

    def are_values_small(self) -> bool:
        """True for teaching examples: few nodes, each with a value that can be written down."""
        small = [type(n.value) is not tuple and not n.is_symbolic and n.size <= SMALL for n in self.operations]
        return len(self.graph.nodes) <= TEACHING and all(small)

    # ---------------------------------------------------------------------------------------------------- folding
    def closed_groups(self, root: Group) -> dict[int, Group | None]:
        """For each operation the closed group that hides it, or None."""
        found: dict[int, Group | None] = {}
        for group in root.open_groups():
            for item in group.items:
                if not isinstance(item, Group):
                    found[item] = None
                elif item.closed:
                    found.update(dict.fromkeys(item.members(), item))
        return found

    def hidden_in(self, leaf: Tensor, groups: dict[int, Group | None]) -> Group | None:
        """The closed group that holds all users of a constant or variable; None for what is always shown."""
        kind = self.leaf_kind(leaf)
        if id(leaf) in self.outputs or not (kind in ("variable", "constant") or self.is_nameless(leaf)):
            return None
        homes = {id(groups[k]): groups[k] for k in self.users[id(leaf)]}
        home = next(iter(homes.values())) if len(homes) == 1 else None
        if home is not None and home.what == "scope" and kind == "input":
            return None  # what goes into a module is to be seen; what each of a thousand steps takes is not
        return home

    def shown_leaves(self, groups: dict[int, Group | None], crowded: bool) -> list[list[Tensor]]:
        """The inputs, variables and constants that get a box: those that are not folded away with all their users and,
        where it is crowded, not more than a few variables and constants.

        Variables that the same folded boxes use, and nothing else, are listed together: they share a box.
        """
        together: dict[Any, list[Tensor]] = {}
        for n in self.leaves:
            if self.hidden_in(n, groups) is None:
                users = frozenset(id(groups[k]) if groups[k] else 0 for k in self.users[id(n)])
                alike = n.op is READ and users and 0 not in users and id(n) not in self.outputs
                together.setdefault(users if alike else id(n), []).append(n)
        shown: list[list[Tensor]] = []
        for leaves in together.values():
            shown += [leaves] if len(leaves) >= ALIKE else [[n] for n in leaves]
        if not crowded:
            return shown
        numbers = Counter(self.leaf_kind(leaves[0]) for leaves in shown)
        return [x for x in shown if id(x[0]) in self.inputs or numbers[self.leaf_kind(x[0])] <= CROWD]

    def assigned(self, groups: dict[int, Group | None], crowded: bool) -> list[tuple[Any, Tensor]]:
        """(variable, node) for each assignment that gets a box: of a node that is not folded away."""
        found = [(cell, t) for cell, t in self.graph.assigns.items() if t is not None]
        shown = [(cell, t) for cell, t in found if groups.get(self.numbers.get(id(t), -1)) is None]
        return shown if len(shown) <= CROWD or not crowded else []

    def count(self, root: Group, crowded: bool = False) -> int:
        """How many boxes the picture would have."""
        groups = self.closed_groups(root)
        operations = len({id(g) for g in groups.values() if g}) + sum(g is None for g in groups.values())
        return operations + len(self.shown_leaves(groups, crowded)) + len(self.assigned(groups, crowded))

    def nested(self, node: Tensor) -> list[tuple[str, Graph]]:
        return [(k, v) for k, v in (node.attrs or {}).items() if isinstance(v, Graph)]

    # ---------------------------------------------------------------------------------------------------- drawing
    def draw(self) -> None:
        root = scope_tree(self.operations)
        crowded = False
        if self.fold is not None:
            close_by(root, self.fold if callable(self.fold) else max(self.fold - self.depth, 0))
        elif self.count(root) > self.limit:
            crowded = close_until_it_fits(root, self.operations, self.count, self.limit)
        self.groups = self.closed_groups(root)
        for n in self.leaves:
            if (hiding := self.hidden_in(n, self.groups)) is not None:
                self.hidden[id(n)] = hiding
                self.folded_leaves.setdefault(id(hiding), []).append(n)
        shown = {id(n): leaves for leaves in self.shown_leaves(self.groups, crowded) for n in leaves}
        room = self.limit - self.count(root, crowded)
        self.frames = {id(root): self.frame}
        places = self.places(root)
        self.open_frames(root)
        for n in self.graph.nodes:
            if id(n) in self.boxes:
                continue
            k = self.numbers.get(id(n))
            if k is None:
                if (leaves := shown.get(id(n))) is not None:
                    box = self.draw_leaf(n, places) if len(leaves) == 1 else self.draw_variables(leaves, places)
                    self.boxes.update({id(x): box for x in leaves})
            elif (group := self.groups[k]) is not None:
                box = self.draw_folded(group, self.frames[id(places[k])])
                for m in group.members():
                    self.boxes[id(self.operations[m])] = box
            else:
                self.boxes[id(n)] = self.draw_operation(n, self.frames[id(places[k])])
        for n in self.graph.nodes:
            if id(n) in self.boxes:
                self.boxes[id(n)].nodes += (n,)
        self.draw_arrows()
        self.keep_frames_apart()
        self.draw_assigns(crowded)
        self.draw_nested(room)
        if crowded:
            self.note_what_is_missing()

    def note_what_is_missing(self) -> None:
        missing = [n for n in self.leaves if id(n) not in self.boxes and id(n) not in self.hidden]
        parts = [plural(k, kind) for kind, k in sorted(Counter(self.leaf_kind(n) for n in missing).items())]
        if not self.assigned(self.groups, True) and (hidden := self.assigned(self.groups, False)):
            parts.append(plural(len(hidden), "assignment"))
        if parts:
            self.picture.notes.append(
                f"To leave room, {' and '.join(parts)} are not drawn; the boxes that use them say so."
            )

    def places(self, root: Group) -> dict[int, Group]:
        """The open group in which each operation, or the closed group that hides it, stands."""
        found: dict[int, Group] = {}
        for group in root.open_groups():
            for item in group.items:
                for number in item.members() if isinstance(item, Group) and item.closed else [item]:
                    if not isinstance(number, Group):
                        found[number] = group
        return found

    def open_frames(self, root: Group) -> None:
        for group in root.open_groups():
            for item in group.items:
                if isinstance(item, Group) and not item.closed:
                    text = titled(item.name, item.kind)
                    said = f"{item.scope} ({item.kind})\n{plural(len(item.members()), 'operation')}"
                    self.frames[id(item)] = self.picture.frame(text, said, "scope", self.frames[id(group)])

    def leaf_kind(self, node: Tensor) -> str:
        if id(node) in self.inputs:
            return "earlier" if self.cut else "input"
        if node.op is READ:
            return "variable"
        return "input" if not self.is_nameless(node) or self.is_given(node) else "constant"

    def is_nameless(self, leaf: Tensor) -> bool:
        """Whether nothing is known of a tensor but its value."""
        return leaf.op is None and not (leaf.name or leaf.requires_grad or id(leaf) in self.inputs)

    def is_given(self, leaf: Tensor) -> bool:
        """Whether a nameless tensor is an input of a recorded run: an array, not a number that the program wrote down.

        (A static graph lists its inputs; its other arrays are constants.)
        """
        return self.is_recorded and bool(leaf.ndim)

    def draw_leaf(self, node: Tensor, places: dict[int, Group]) -> Box:
        """A box for an input, variable or constant."""
        kind = self.leaf_kind(node)
        frame = self.frame
        if kind in ("variable", "constant") and self.users[id(node)]:
            frame = self.common_frame([self.frames[id(places[k])] for k in self.users[id(node)]])
        value, types = value_text(node), type_text(node)
        shown = value if self.values else ""
        if self.is_nameless(node):
            lines = [value or types, types if value and node.ndim else ""]
            heading = f"{kind} {value or types}"
        elif kind == "earlier":
            lines = ["…", types]
            heading = "earlier history, which is not drawn"
        else:
            name = leaf_name(node, self.inputs.get(id(node)))
            lines, heading = [name, types, shown, self.gradient_text(node)], f"{kind} {name}"
        return self.picture.box(kind, [*lines, self.output_text(node)], details(node, heading), frame)

    def draw_variables(self, variables: Sequence[Tensor], places: dict[int, Group]) -> Box:
        """One box for several variables with the same users."""
        frame = self.common_frame([self.frames[id(places[k])] for n in variables for k in self.users[id(n)]])
        title = plural(len(variables), "variable")
        names = [leaf_name(n) for n in variables]
        lines = [title, f"{names[0]} … {names[-1]}", plural(sum(n.size for n in variables), "element")]
        said = [f"{name}: {size_text(n)}" for name, n in zip(names[:20], variables, strict=False)]
        return self.picture.box("variable", lines, "\n".join(clean(s) for s in [title, *said]), frame)

    def common_frame(self, frames: Sequence[Frame | None]) -> Frame | None:
        """The innermost frame around all of these."""

        paths = [around(f) for f in dict.fromkeys(frames)]
        common = self.frame
        for level in zip(*paths, strict=False):
            if any(f is not level[0] for f in level):
                break
            common = level[0]
        return common

    def gradient_text(self, node: Tensor) -> str:
        """`grad 4.762` of a leaf that has collected one; nothing otherwise, as no gradient is not a gradient of 0."""
        if not self.values:
            return ""
        gradient = (node.attrs or {}).get("variable", node)._grad  # as it is: under a trace, `.grad` would be a reading
        text = value_text(gradient if gradient is None or isinstance(gradient, Tensor) else Tensor(gradient))
        return f"grad {text}" if text else ""

    def output_text(self, *nodes: Tensor) -> str:
        """`output 0`, of nodes that are outputs of the graph; `output` where it has only one."""
        places = sorted(k for n in nodes for k in self.outputs.get(id(n), ()))
        if not places or len(self.graph.outputs) == 1:
            return "output" if places else ""
        numbers = ", ".join(map(str, places[:4])) + (", …" if len(places) > 4 else "")
        return f"output{'s' if len(places) > 1 else ''} {numbers}"

    def draw_operation(self, node: Tensor, frame: Frame | None) -> Box:
        name = self.operation_name(node)
        title = titled(node.name, name) if node.name else name
        lines = [title, notable_attributes(node), type_text(node), value_text(node) if self.values else ""]
        if node.inputs is FREED:
            lines.append("graph freed")
        if self.show_sites and node.site is not None:
            lines.append(str(node.site))
        output = self.output_text(node)
        return self.picture.box(
            "output" if output else "op", [*lines, output], details(node, f"operation {title}"), frame
        )

    def operation_name(self, node: Tensor) -> str:
        return node.op.name if node.op else "operation"

    def draw_folded(self, group: Group, frame: Frame | None) -> Box:
        """One box for a stretch of operations: what it is, how much is in it, what goes in and what comes out."""
        members = group.members()
        nodes, inside = [self.operations[k] for k in members], set(members)
        come: dict[int, Tensor] = {}
        for n in nodes:
            for x in n.inputs:
                if self.numbers.get(id(x), -1) not in inside and self.hidden.get(id(x)) is not group:
                    come.setdefault(id(x), x)
        used = {id(n) for n in nodes if any(k not in inside for k in self.users[id(n)])}
        go = [n for n in nodes if id(n) in used] + [n for n in nodes if id(n) in self.outputs and id(n) not in used]
        data = [x for x in come.values() if id(x) in self.numbers or self.leaf_kind(x) in ("input", "earlier")]
        title, kind = self.folded_title(group)
        often = Counter(map(self.operation_name, nodes)).most_common()
        variables = [n for n in self.folded_leaves.get(id(group), ()) if n.op is READ]
        counted = plural(len(nodes), "operation") + (f", {plural(len(variables), 'variable')}" if variables else "")
        flow = [few(data), f"→ {few(go)}"] if data and go else [few(go)]
        lines = [title, kind, counted, *(flow if len(" ".join(flow)) > LONGEST else [" ".join(flow)])]
        said = [title, kind, counted]
        said += [f"{verb} {few(list(what), 12)}" for verb, what in (("takes", come.values()), ("gives", go)) if what]
        said.append(", ".join(f"{number} {name}" for name, number in often[:20]))
        said += [f"{leaf_name(n)}: {size_text(n)}" for n in variables[:20]]
        if group.scope is not None:
            said.insert(1, f"in {group.scope}")
        last = [self.output_text(*go)]
        held = set(map(id, nodes))
        cells = [cell for cell, t in self.graph.assigns.items() if id(t) in held]
        for word, cell_type in (("variable", Variable), ("gradient", Gradient)):
            number = sum(isinstance(cell, cell_type) for cell in cells)
            last += [f"assigns {plural(number, word)}"] * bool(number)
        said += [f"assigns {clean(cell.name or 'variable')}" for cell in cells[:20]]
        return self.picture.box("fold", [*lines, *last], "\n".join(clean(s) for s in said if s), frame)

    def folded_title(self, group: Group) -> tuple[str, str]:
        """The two first lines of a folded box."""
        if group.what == "scope":
            return titled(group.name, group.kind), ""
        period = group.items[: len(group.items) // group.times] if group.what == "repeat" else group.items
        names = [self.item_name(x) for x in period]
        text = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        if group.what == "repeat":
            first, last = group.items[0], group.items[-1]
            if len(period) == 1 and isinstance(first, Group) and isinstance(last, Group) and first.name != last.name:
                text = f"{first.name} … {last.name}"
            return f"{titled(text, group.kind)}  {TIMES}{group.times}", ""
        return text, "chain" if group.what == "chain" else "part of the graph"

    def item_name(self, item: int | Group) -> str:
        if not isinstance(item, Group):
            return self.operation_name(self.operations[item])
        return item.name or self.folded_title(item)[0]

    # ----------------------------------------------------------------------------------------------------- arrows
    def draw_arrows(self) -> None:
        drawn: set[tuple[int, int]] = set()
        for k, n in enumerate(self.operations):
            head = self.boxes[id(n)]
            folded = self.groups[k] is not None
            if n.inputs is FREED or not n.inputs:
                continue
            names = input_names(n)
            named = len(n.inputs) > 1 and n.op.name not in SYMMETRIC
            for name, x in zip(names, n.inputs, strict=True):
                tail = self.boxes.get(id(x))
                if tail is None or tail is head:  # folded away together
                    continue
                if folded and (id(tail), id(head)) in drawn:
                    continue
                drawn.add((id(tail), id(head)))
                said = f"{tail.lines[0]} → {head.lines[0]}" + (f", as {name}" if named and not folded else "")
                self.picture.arrow(tail, head, name if named and not folded else "", f"{said}\n{clean(type_text(x))}")

    def keep_frames_apart(self) -> None:
        """Put variables and constants below what flows into their frame, so that frames stand one after the other.

        Otherwise they would begin beside the frame before, and the picture would grow sideways at every layer.
        """
        last: dict[int, Box] = {}  # the last box outside of each frame with an arrow into it
        for a in self.picture.arrows:
            if a.tail.kind in ("variable", "constant"):
                continue
            outside = set(map(id, around(a.tail.frame)))
            for f in around(a.head.frame):
                if id(f) not in outside and (id(f) not in last or int(last[id(f)].id[1:]) < int(a.tail.id[1:])):
                    last[id(f)] = a.tail
        for b in self.picture.boxes:
            if b.kind in ("variable", "constant") and b.frame is not None and id(b.frame) in last:
                self.picture.arrow(last[id(b.frame)], b, kind="order")

    def draw_assigns(self, crowded: bool) -> None:
        """A box for each variable that the graph assigns, after the node whose value it gets."""
        cleared = sum(t is None for t in self.graph.assigns.values())
        if cleared:
            self.picture.notes.append(f"The graph also clears {plural(cleared, 'gradient')}.")
        for cell, t in self.assigned(self.groups, crowded):
            name = clean(cell.name or "variable")
            box = self.picture.box(
                "assign", [f"{name} ←", type_text(t)], f"variable {name} is assigned\n{size_text(t)}", self.frame
            )
            if (tail := self.boxes.get(id(t))) is not None:
                self.picture.arrow(tail, box, "", f"{tail.lines[0]} → {name}\n{clean(type_text(t))}")

    def draw_nested(self, room: int) -> None:
        """The graphs that operations run, each in a frame beside its operation; one box each where it is too much."""
        found = [
            (n, key, g) for k, n in enumerate(self.operations) if self.groups[k] is None for key, g in self.nested(n)
        ]
        total = sum(whole_size(g) for _, _, g in found)
        is_open = total <= room if self.fold is None else callable(self.fold) or self.fold > self.depth
        for n, key, g in found:
            box = self.boxes[id(n)]
            label = key if g.name in (key, "<lambda>") else f"{key}: {g.name}"
            said = f"{key} of {box.lines[0]}: graph {g.name}\n{clean(g.signature())}"
            if is_open and g.nodes:
                frame = self.picture.frame(label, clean(said), "graph", box.frame)
                first = len(self.picture.boxes)
                Flow(self.picture, g, frame, fold=self.fold, values=False, show_sites=self.show_sites, limit=room,
                     depth=self.depth + 1).draw()  # fmt: skip
                self.picture.arrow(box, self.picture.boxes[first], "", clean(said), kind="nested", into=frame)
            else:
                lines = [label, plural(len(g.operations), "operation"), f"{few(g.inputs)} → {few(g.outputs)}"]
                inner = self.picture.box("fold", lines, clean(said), box.frame)
                self.picture.arrow(box, inner, "", clean(said), kind="nested")


def titled(name: str, kind: str) -> str:
    """`layers.0: Linear`, or only the name where the kind says no more."""
    return name if kind in ("", "scope", name) else f"{name}: {kind}"


def around(frame: Frame | None) -> list[Frame]:
    """The frames around a place, the outermost first."""
    found: list[Frame] = []
    while frame is not None:
        found.append(frame)
        frame = frame.parent
    return found[::-1]


def whole_size(graph: Graph) -> int:
    """The number of nodes of a graph and of all graphs nested in it."""
    total, todo = 0, [graph]
    while todo:
        g = todo.pop()
        total += len(g.nodes)
        todo += [v for n in g.nodes for v in (n.attrs or {}).values() if isinstance(v, Graph)]
    return total


def few(tensors: Sequence[Tensor], limit: int = 1) -> str:
    """The types of a few tensors."""
    text = ", ".join(type_text(t) for t in tensors[:limit])
    return text + (f", +{len(tensors) - limit}" if len(tensors) > limit else "")
