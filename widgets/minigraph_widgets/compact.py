"""Many drawings in little room: what `minigraph.draw` has laid out as plain data, from which the page draws it.

Drawings of one program before and after a pass have most of their boxes in common, at other places. A box is therefore
kept once, as markup around the point (0, 0), and each drawing says which box stands where, in whole points.
"""

from __future__ import annotations

import re
from typing import Any

from minigraph.draw.layout import Layout
from minigraph.draw.picture import Box, Picture
from minigraph.draw.svg import MARGIN, place_labels, write_svg

BOX = re.compile(r'<g class="mg-box ([\w-]+)"[^>]*>(.*)</g>\s*</svg>', re.DOTALL)


class Shapes:
    """Boxes without a place, each once."""

    def __init__(self) -> None:
        self.markup: dict[tuple[str, str], int] = {}
        self.known: dict[Any, int] = {}

    def __call__(self, box: Box) -> int:
        """The number of a box's shape."""
        key = (box.kind, box.lines, box.slots, box.room)
        if key not in self.known:
            alone = write_svg(Picture("", boxes=[box]), Layout(0.0, 0.0, boxes={box.id: (0.0, 0.0)}))
            found = BOX.search(re.sub(r"<title>.*?</title>", "", alone, flags=re.DOTALL))
            assert found is not None, alone
            bare = re.sub(r' (?:fill|stroke)="[^"]*"', "", found[2])  # the style sheet says it
            self.known[key] = self.markup.setdefault((found[1], bare), len(self.markup))
        return self.known[key]

    def listed(self) -> list[list[str]]:
        """[class, markup] of each shape."""
        return [list(key) for key in self.markup]


def compact(picture: Picture, layout: Layout, shapes: Shapes) -> dict[str, Any]:
    """A drawing: its size, boxes [shape, x, y], arrows [tail, head, path, tip, label], frames [rectangle, label, kind].

    Arrows name boxes by number. A label is [x, y, anchor, text]; null where there is none.

    >>> from minigraph_widgets.compact import Shapes, compact
    >>> from minigraph.draw.layout import lay_out
    >>> with mg.Graph() as g:
    ...     x = mg.placeholder((), name="x")
    ...     y = mg.exp(x) + mg.exp(x)
    >>> picture, shapes = mg.draw.picture(g), Shapes()
    >>> found = compact(picture, lay_out(picture), shapes)
    >>> len(picture.boxes), len(shapes.listed()), [a[:2] for a in found["arrows"]]
    (4, 3, [[0, 1], [0, 2], [1, 3], [2, 3]])
    """
    number = {id(b): k for k, b in enumerate(picture.boxes)}
    labels = place_labels(picture, layout)
    boxes = [[shapes(b), *map(round, layout.boxes[b.id])] for b in picture.boxes]
    arrows = []
    for k, (points, tip) in sorted(layout.arrows.items()):
        arrow = picture.arrows[k]
        path = " ".join(f"{round(x)},{round(y)}" for x, y in points)
        drawn: list[Any] = [number[id(arrow.tail)], number[id(arrow.head)], f"M{path.replace(' ', 'C', 1)}"]
        drawn.append(None if tip is None else [round(tip[0], 1), round(tip[1], 1)])
        if k in labels:
            x, y, anchor = labels[k]
            drawn.append([round(x), round(y), anchor, arrow.label])
        arrows.append(drawn)
    frames = [[*map(round, layout.frames[f.id]), f.label, f.kind] for f in picture.frames if f.id in layout.frames]
    margin = round(MARGIN)
    size = [-margin, -margin, round(layout.width) + 2 * margin, round(layout.height) + 2 * margin]
    return {"size": size, "boxes": boxes, "arrows": arrows, "frames": frames}
