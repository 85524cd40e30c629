"""Pictures in the DOT language, which Graphviz reads.

There are two versions of the same graph. The *bare* one is for layout: boxes with sizes and no text at all, so that no
name ever meets a parser and no font of this machine decides where things stand. The *full* one, with labels, colours
and shapes, is for people and programs that want DOT, and for PNG and PDF, which Graphviz draws itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .picture import BODY, LABEL, TITLE, Arrow, Box, Frame, Picture
from .words import width

FONT = "Helvetica,Arial,sans-serif"
# Fill, line, text. The colour-blind, too, tell the hues apart (after Okabe and Ito); shapes and borders say the same.
LIGHT = {
    "input": ("#dcebf8", "#2470a8", "#10293d"),
    "variable": ("#fbe6d0", "#b8631b", "#43230a"),
    "assign": ("#fbe6d0", "#b8631b", "#43230a"),
    "constant": ("#f0f0f0", "#737373", "#2b2b2b"),
    "op": ("#fffdf2", "#6b6550", "#1f1f1c"),
    "output": ("#daf0e6", "#13795b", "#07301f"),
    "fold": ("#ede4f5", "#7a4f9e", "#2d1840"),
    "module": ("#eef3f7", "#516b80", "#1b2730"),
    "earlier": ("#ffffff", "#8a8a8a", "#4a4a4a"),
}
DARK = {
    "input": ("#12344d", "#6fb7ea", "#e3f1fc"),
    "variable": ("#4a2c10", "#f0a35e", "#fdebd9"),
    "assign": ("#4a2c10", "#f0a35e", "#fdebd9"),
    "constant": ("#303030", "#a8a8a8", "#ededed"),
    "op": ("#2b2a24", "#bdb699", "#f7f4e6"),
    "output": ("#0e3d2d", "#5fd0a7", "#dcf7ec"),
    "fold": ("#382548", "#c49ee6", "#f3e9fb"),
    "module": ("#22303a", "#9ab6cb", "#e6eff5"),
    "earlier": ("#1c1c1c", "#9a9a9a", "#d0d0d0"),
}
SHAPES = {
    "input": 'shape=box, style="rounded,filled,bold"',
    "variable": "shape=octagon, style=filled",
    "assign": 'shape=octagon, style="filled,dashed"',
    "constant": 'shape=box, style="filled,dashed"',
    "op": 'shape=box, style="rounded,filled"',
    "output": 'shape=box, style="rounded,filled", peripheries=2',
    "fold": "shape=box3d, style=filled",
    "module": "shape=component, style=filled",
    "earlier": 'shape=box, style="filled,dotted"',
}


def quoted(text: str, times: int = 2) -> str:
    """A DOT string that means exactly this text.

    Graphviz reads `\\N` and the like as instructions, and entities as characters. It does so `times` / 2 times: once in
    labels, twice in tooltips.
    """
    text = text.replace("&", "&amp;").replace("\\", "\\" * times).replace('"', "&quot;").replace("\n", "&#10;")
    return f'"{text}"'


def html(text: str) -> str:
    """The text inside an HTML-like label."""
    return escape(text).replace("\\", "\\\\")


def write_dot(picture: Picture, *, full: bool = True) -> str:
    """The picture in DOT: with everything, or bare for layout."""
    return "\n".join(_lines(picture, full)) + "\n"


def _lines(picture: Picture, full: bool) -> Iterator[str]:
    yield f"digraph {quoted(picture.name) if full else ''} {{"
    look = f', fontname="{FONT}", bgcolor="white"' if full else ""
    apart = 0.36
    if picture.direction == "LR":  # the names on arrows lie along them
        apart = max([apart, *((width(a.label, LABEL) + 20) / 72 for a in picture.arrows if a.label)])
    yield f"  graph [rankdir={picture.direction}, compound=true, nodesep=0.22, ranksep={apart:.2f}, pad=0.1{look}];"
    yield '  node [shape=box, margin=0, label=""' + (f', fontname="{FONT}", fontsize={TITLE:g}' if full else "") + "];"
    yield (
        "  edge [arrowsize=0.6"
        + (f', fontname="{FONT}", fontsize={LABEL:g}, color="#555555", fontcolor="#555555"' if full else "")
        + "];"
    )
    children: dict[int, list[Frame]] = {}
    boxes: dict[int, list[Box]] = {}
    for f in picture.frames:
        children.setdefault(id(f.parent), []).append(f)
    for b in picture.boxes:
        boxes.setdefault(id(b.frame), []).append(b)
    firsts = {id(b): f"n{k}" for k, b in enumerate(picture.boxes)}

    def inside(frame: Frame | None, indent: str) -> Iterator[str]:
        for b in boxes.get(id(frame), ()):
            yield indent + _box(b, full)
        for f in children.get(id(frame), ()):
            yield f"{indent}subgraph cluster_{f.id} {{"
            w, h = f.label_size
            if full:
                dash = "dashed" if f.kind == "graph" else "rounded"
                yield (f'{indent}  graph [label={quoted(f.label)}, labeljust=l, fontsize={BODY:g}, style="{dash}", '
                       f'color="#8a8a8a", tooltip={quoted(f.details, 4)}];')  # fmt: skip
            else:  # room for the label, without the label
                size = f'FIXEDSIZE="TRUE" WIDTH="{w:.0f}" HEIGHT="{h:.0f}"'
                table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" {size}>'
                yield f"{indent}  graph [labeljust=l, label=<{table}<TR><TD></TD></TR></TABLE>>];"
            yield from inside(f, indent + "  ")
            yield f"{indent}}}"

    yield from inside(None, "  ")
    for k, a in enumerate(picture.arrows):
        yield f"  {firsts[id(a.tail)]} -> {firsts[id(a.head)]} [{_arrow(a, k, full)}];"
    yield "}"


def _box(box: Box, full: bool) -> str:
    w, h = box.size
    size = f"width={w / 72:.3f}, height={h / 72:.3f}"
    if not full:
        return f"{box.id} [{size}];"
    fill, line, ink = LIGHT[box.kind]
    label = f"<B>{html(box.lines[0])}</B>"
    for text in box.lines[1:]:
        label += f'<BR/><FONT POINT-SIZE="{BODY:g}">{html(text)}</FONT>'
    return (f'{box.id} [{size}, {SHAPES[box.kind]}, fillcolor="{fill}", color="{line}", fontcolor="{ink}", '
            f"tooltip={quoted(box.details, 4)}, label=<{label}>];")  # fmt: skip


def _arrow(arrow: Arrow, number: int, full: bool) -> str:
    parts = [] if full else [f"id=e{number}"]
    if arrow.tail.kind not in ("variable", "constant"):
        parts.append("weight=4")  # the flow of data runs straight; what joins it comes from the side
    if arrow.kind == "order":
        parts.append("style=invis")
    if arrow.kind == "nested":
        parts.append("arrowhead=none, style=dotted" if full else "arrowhead=none")
        if arrow.into is not None:
            parts.append(f"lhead=cluster_{arrow.into.id}")
    if full and arrow.label:
        parts.append(f"headlabel={quoted(arrow.label)}, labeldistance=1.6")
    if full and arrow.details:
        parts.append(f"tooltip={quoted(arrow.details, 4)}")
    return ", ".join(parts)
