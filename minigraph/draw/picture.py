"""What a picture consists of: boxes, arrows between them, and frames around them.

This is the middle between the things that can be drawn (`flow.py` for graphs, `structure.py` for modules) and the ways
of writing a picture down (`dot.py`, `svg.py`, and words where there is no Graphviz). Everything is in a fixed order and
named by its place in it, so the same object gives the same bytes in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..op import Scope
from .words import clean, clean_lines, plural, shorten, width

TITLE, BODY, LABEL = 13.0, 11.0, 9.5  # font sizes in points, of boxes and of arrows
LEADING = 1.3  # height of a line, relative to its font size

# Each kind of box has a colour and, for those who do not see it, a shape or a border of its own (svg.py, dot.py).
KINDS = {
    "input": "input",
    "variable": "variable",
    "constant": "constant",
    "op": "operation",
    "output": "output",
    "fold": "folded operations",
    "assign": "variable assigned",
    "module": "module",
    "earlier": "history not drawn",
}

Fold = int | Callable[[Scope], bool] | None


@dataclass(eq=False)
class Frame:
    """A rectangle around what belongs together: an open scope, a nested graph, a module."""

    id: str
    label: str
    details: str
    kind: str  # "scope", "graph" or "module"
    parent: Frame | None

    @property
    def label_size(self) -> tuple[float, float]:
        return width(self.label, BODY, bold=True) + 8, BODY * LEADING + 4


@dataclass(eq=False)
class Box:
    """A node of the picture. The first line is its title.

    Attributes:
        nodes: the nodes of a graph that it stands for. Arrows into it are in the order of their inputs.
        slots: more lines, which a view that steps through a run fills with other texts; it reserves their widest one.
        room: width and height in points that are kept free below the lines, for what such a view draws there.
    """

    id: str
    kind: str
    lines: tuple[str, ...]
    details: str
    frame: Frame | None = None
    nodes: tuple[Any, ...] = ()
    slots: tuple[str, ...] = ()
    room: tuple[float, float] = (0.0, 0.0)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points, with room for the text and the border."""
        lines = (*self.lines, *self.slots)
        sizes = [width(line, BODY if i else TITLE, bold=not i) for i, line in enumerate(lines)] + [self.room[0]]
        tall = self.tall + self.room[1]
        more = {"input": 10.0, "output": 6.0, "fold": 8.0, "variable": 6.0, "assign": 6.0}.get(self.kind, 0.0)
        return max(36.0, max(sizes) + 18 + more), tall + 10 + (more if self.kind in ("output", "fold") else 0)

    @property
    def tall(self) -> float:
        """The height of all lines in points."""
        return LEADING * (TITLE + BODY * (len(self.lines) + len(self.slots) - 1))


@dataclass(eq=False)
class Arrow:
    """From box to box: data, the way to a nested graph ("nested"), or only an order of layout ("order", not drawn)."""

    tail: Box
    head: Box
    label: str = ""
    details: str = ""
    kind: str = "data"
    into: Frame | None = None  # the frame at whose border the arrow ends


@dataclass(eq=False, repr=False)
class Picture:
    """A whole picture. A notebook draws it; printed, it is in words.

    Attributes:
        name: of what is drawn. what: a sentence about it, for those who cannot see the picture.
        notes: sentences that stand under the picture: what is folded or left out.
        direction: "TB", top to bottom, or "LR", left to right.
    """

    name: str
    what: str = ""
    direction: str = "TB"
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def box(self, kind: str, lines: Any, details: str, frame: Frame | None = None) -> Box:
        """Add a box; texts are cleaned and shortened here."""
        shown = tuple(shorten(clean(line)) for line in lines if line)
        self.boxes.append(Box(f"n{len(self.boxes)}", kind, shown or ("",), clean_lines(details), frame))
        return self.boxes[-1]

    def frame(self, label: str, details: str, kind: str, parent: Frame | None) -> Frame:
        """Add a frame."""
        self.frames.append(Frame(f"c{len(self.frames)}", shorten(clean(label), 64), clean_lines(details), kind, parent))
        return self.frames[-1]

    def arrow(self, tail: Box, head: Box, label: str = "", details: str = "", **more: Any) -> None:
        """Add an arrow."""
        self.arrows.append(Arrow(tail, head, shorten(clean(label), 16), clean_lines(details), **more))

    def __repr__(self) -> str:
        return layered_text(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from . import repr_mimebundle

        return repr_mimebundle(self)

    @property
    def kinds(self) -> list[str]:
        """The kinds of boxes in it, in the order of `KINDS`."""
        found = {b.kind for b in self.boxes}
        return [k for k in KINDS if k in found]


def layered_text(picture: Picture, limit: int = 80) -> str:
    """A picture in words for where there is no Graphviz: boxes by their distance from the beginning.

    Args:
        limit: how many lines at most.
    """
    depth = {id(b): 0 for b in picture.boxes}
    flowing = [a for a in picture.arrows if a.kind == "data"]
    into: dict[int, list[Arrow]] = {}
    missing = {id(b): 0 for b in picture.boxes}
    for a in flowing:
        into.setdefault(id(a.tail), []).append(a)
        missing[id(a.head)] += 1
    ready = [b for b in picture.boxes if not missing[id(b)]]
    for b in ready:  # grows while it is walked
        for a in into.get(id(b), ()):
            depth[id(a.head)] = max(depth[id(a.head)], depth[id(b)] + 1)
            missing[id(a.head)] -= 1
            if not missing[id(a.head)]:
                ready.append(a.head)
    lines: list[str] = []
    by_depth: dict[int, list[Box]] = {}
    for b in picture.boxes:
        by_depth.setdefault(depth[id(b)], []).append(b)
    for layer in sorted(by_depth):
        for k, b in enumerate(by_depth[layer]):
            lines.append(f"{layer if not k else '':>4}  {KINDS[b.kind]}: " + "  ".join(b.lines))
    if len(lines) > limit:
        lines[limit:] = [f"      ... and {plural(len(lines) - limit, 'more line')}"]
    return "\n".join([picture.what, *lines, *picture.notes])
