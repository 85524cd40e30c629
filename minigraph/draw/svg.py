"""Pictures as SVG, and pages with them.

The drawing carries its style with it, so that it looks the same in a notebook, on a page and as a file. Colours are CSS
variables with a light and a dark set: the dark one is used when the system asks for it, unless the page says what it
is, as JupyterLab, Sphinx themes and VS Code do. Each shape has its light colours as attributes, too: programs that know
nothing of variables (Inkscape, TeX) ignore the rules and find those, where they would otherwise paint black. No script,
no ids that could clash with another picture's, nothing from the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from html import escape
from urllib.parse import quote

from .dot import DARK, FONT, LIGHT
from .layout import Layout, Point
from .picture import BODY, KINDS, LABEL, LEADING, TITLE, Arrow, Box, Frame, Picture
from .words import width

MARGIN = 8.0
FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
PAPER = {"paper": ("#ffffff", "#111111"), "line": ("#5c5c5c", "#b5b5b5"), "frame": ("#8a8a8a", "#8a8a8a"),
         "shade": ("#7f7f7f14", "#ffffff0f"), "ink": ("#3d3d3d", "#d6d6d6")}  # fmt: skip


def _variables(dark: bool, kinds: Iterable[str]) -> str:
    pairs = [f"--mg-{name}:{colours[dark]}" for name, colours in PAPER.items()]
    for kind in kinds:
        fill, line, ink = (DARK if dark else LIGHT)[kind]
        pairs.append(f"--mg-{kind}:{fill};--mg-{kind}-line:{line};--mg-{kind}-ink:{ink}")
    return ";".join(pairs)


def style(kinds: Iterable[str] = tuple(KINDS)) -> str:
    """The style sheet of a picture with these kinds of boxes; it touches nothing but `.minigraph` and its flat copy."""
    dark, light = _variables(True, kinds), _variables(False, kinds)
    declared = {
        "light": ('[data-jp-theme-light="true"]', '[data-theme="light"]', ".vscode-light"),
        "dark": ('[data-jp-theme-light="false"]', '[data-theme="dark"]', ".vscode-dark"),
    }
    themes = {name: ",".join(f"{root} .minigraph" for root in roots) for name, roots in declared.items()}
    rules = [
        f".minigraph{{{light}}}",
        f"@media (prefers-color-scheme:dark){{.minigraph{{{dark}}}}}",
        f"{themes['light']}{{{light}}}",
        f"{themes['dark']}{{{dark}}}",
        f".minigraph text{{font-family:{FONTS};stroke:none}}",
        ".minigraph .mg-paper{fill:var(--mg-paper);stroke:none}",
        ".minigraph .mg-arrow path{fill:none;stroke:var(--mg-line)}",
        ".minigraph .mg-arrow polygon{fill:var(--mg-line);stroke:none}",
        ".minigraph .mg-arrow text{fill:var(--mg-ink);stroke:var(--mg-paper);stroke-width:3px;paint-order:stroke}",
        ".minigraph .mg-frame rect{fill:var(--mg-shade);stroke:var(--mg-frame)}",
        ".minigraph .mg-frame text{fill:var(--mg-ink)}",
        ".minigraph .mg-box:hover{stroke-width:2.5px}",
        ".minigraph~.mg-flat{display:none}",
    ]
    for kind in kinds:
        rules.append(f".minigraph .mg-{kind}{{fill:var(--mg-{kind});stroke:var(--mg-{kind}-line)}}")
        rules.append(f".minigraph .mg-{kind} text{{fill:var(--mg-{kind}-ink)}}")
        rules.append(f".minigraph .mg-{kind} .mg-mark{{fill:none}}")
    return "".join(rules)


def write_svg(picture: Picture, layout: Layout) -> str:
    """The picture as a self-contained SVG document."""
    w, h = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    said = f'aria-label="{escape(picture.what)}"'
    view = f'width="{w:g}" height="{h:g}" viewBox="{-MARGIN:g} {-MARGIN:g} {w:g} {h:g}"'
    place = f'x="{-MARGIN:g}" y="{-MARGIN:g}" width="{w:g}" height="{h:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="minigraph" role="img" {said} {view}>',
        f"<style>{style(picture.kinds)}</style>",
        f'<rect class="mg-paper" {place} rx="6" fill="{PAPER["paper"][0]}"/>',
    ]
    for frame in picture.frames:
        if frame.id in layout.frames:
            parts.append("".join(_frame(frame, layout.frames[frame.id])))
    labels = place_labels(picture, layout)
    for number, (points, tip) in sorted(layout.arrows.items()):
        parts.append("".join(_arrow(picture.arrows[number], points, tip, labels.get(number))))
    for box in picture.boxes:
        parts.append("".join(_box(box, layout.boxes[box.id])))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")


def _frame(frame: Frame, corners: tuple[float, float, float, float]) -> Iterator[str]:
    x0, y0, x1, y1 = corners
    dash = ' stroke-dasharray="6 4"' if frame.kind == "graph" else ""
    yield f'<g class="mg-frame" data-frame="{frame.id}"><title>{escape(frame.details)}</title>'
    yield (f'<rect x="{_n(x0)}" y="{_n(y0)}" width="{_n(x1 - x0)}" height="{_n(y1 - y0)}" rx="8" fill="none" '
           f'stroke="{PAPER["frame"][0]}"{dash}/>')  # fmt: skip
    yield (f'<text x="{_n(x0 + 9)}" y="{_n(y0 + 5 + BODY)}" font-size="{BODY:g}" font-weight="600" '
           f'fill="{PAPER["ink"][0]}">{escape(frame.label)}</text></g>')  # fmt: skip


def _arrow(
    arrow: Arrow, points: list[Point], tip: Point | None, label: tuple[float, float, str] | None
) -> Iterator[str]:
    ends = f'data-tail="{arrow.tail.id}" data-head="{arrow.head.id}"'
    dots = ' stroke-dasharray="1.5 4" stroke-linecap="round"' if arrow.kind == "nested" else ""
    yield f'<g class="mg-arrow" {ends}><title>{escape(arrow.details)}</title>'
    curve = " ".join(f"{_n(x)},{_n(y)}" for x, y in points[1:])
    yield f'<path d="M{_n(points[0][0])},{_n(points[0][1])}C{curve}" fill="none" stroke="{PAPER["line"][0]}"{dots}/>'
    if tip is not None:
        x, y = points[-1]
        dx, dy = tip[0] - x, tip[1] - y
        length = math.hypot(dx, dy) or 1.0
        across = 3.2 / length
        corners = [tip, (x - dy * across, y + dx * across), (x + dy * across, y - dx * across)]
        text = " ".join(f"{_n(a)},{_n(b)}" for a, b in corners)
        yield f'<polygon points="{text}" fill="{PAPER["line"][0]}"/>'
    if label is not None:
        x, y, anchor = label
        yield (f'<text x="{_n(x)}" y="{_n(y)}" font-size="{LABEL:g}" text-anchor="{anchor}" '
               f'fill="{PAPER["ink"][0]}">{escape(arrow.label)}</text>')  # fmt: skip
    yield "</g>"


def place_labels(picture: Picture, layout: Layout) -> dict[int, tuple[float, float, str]]:
    """Where the name of each input stands: (x, y, anchor), beside its arrow, a little before the head.

    On the side that the arrow comes from, unless another label or a box is in the way; then on the other side, or
    further back.
    """
    boxes = [_rectangle(b, layout.boxes[b.id]) for b in picture.boxes]
    taken: list[tuple[float, float, float, float]] = []
    found: dict[int, tuple[float, float, str]] = {}
    for number, (points, _) in sorted(layout.arrows.items()):
        label = picture.arrows[number].label
        if not label:
            continue
        w, (dx, dy) = width(label, LABEL), (points[-1][0] - points[-4][0], points[-1][1] - points[-4][1])
        flat = abs(dx) > 1.5 * abs(dy)
        first = (dy > 0) if flat else (dx > 1)
        places = [(back, side) for back in (13, 22, 33, 46, 60) for side in (first, not first)]
        for back, side in [*places, places[0]]:  # the first one if all are taken
            x, y = _before_end(points, back + w / 2 if flat else back)
            if flat:  # above or below the arrow
                y += -7 if side else 7
                left, anchor = x - w / 2, "middle"
            else:  # to its left or right
                x += -4 if side else 4
                left, anchor = (x - w, "end") if side else (x, "start")
            area = (left, y - 0.5 * LABEL, left + w, y + 0.5 * LABEL)
            if not any(_overlap(area, other) for other in (*taken, *boxes)):
                break
        taken.append(area)
        found[number] = (x, y + 0.35 * LABEL, anchor)
    return found


def _before_end(points: list[Point], back: float) -> Point:
    """The point of the last Bezier curve that is about `back` points before its end."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = points[-4:]
    t = max(0.0, 1 - back / (math.hypot(x3 - x0, y3 - y0) or 1.0))
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
    return a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3


def _rectangle(box: Box, centre: Point) -> tuple[float, float, float, float]:
    (x, y), (w, h) = centre, box.size
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _box(box: Box, centre: Point) -> Iterator[str]:
    fill, line, ink = LIGHT[box.kind]
    (x, y), (w, h) = centre, box.size
    yield f'<g class="mg-box mg-{box.kind}" data-node="{box.id}" fill="{fill}" stroke="{line}">'
    yield f"<title>{escape(box.details)}</title>"
    yield from _outline(box.kind, x - w / 2, y - h / 2, w, h)
    yield f'<g fill="{ink}" stroke="none" text-anchor="middle">'
    top = y - (box.tall + box.room[1]) / 2
    if box.kind == "fold":  # the text is in the middle of the front card
        x, top = x - 3, top + 3
    for k, text in enumerate((*box.lines, *box.slots)):
        size = BODY if k else TITLE
        top += size * LEADING
        more = "" if k else ' font-weight="600"'
        if k >= len(box.lines):
            more = ' class="mg-slot"'
        yield f'<text x="{_n(x)}" y="{_n(top - 0.33 * size)}" font-size="{size:g}"{more}>{escape(text)}</text>'
    if box.room[1]:
        w, h = box.room
        place = f'x="{_n(x - w / 2)}" y="{_n(top + 2)}" width="{_n(w)}" height="{_n(h - 2)}"'
        yield f'<rect class="mg-room" {place} fill="none"/>'
    yield "</g></g>"


def _outline(kind: str, x: float, y: float, w: float, h: float) -> Iterator[str]:
    """The shape of each kind of box."""

    def rect(dx: float, dy: float, w: float, h: float, rx: float, more: str = "") -> str:
        return f'<rect x="{_n(x + dx)}" y="{_n(y + dy)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(rx)}"{more}/>'

    if kind == "input":
        yield rect(0, 0, w, h, min(h / 2, 16), ' stroke-width="1.6"')
    elif kind in ("variable", "assign"):
        c = 7.0
        corners = [(c, 0), (w - c, 0), (w, c), (w, h - c), (w - c, h), (c, h), (0, h - c), (0, c)]
        text = " ".join(f"{_n(x + a)},{_n(y + b)}" for a, b in corners)
        yield f'<polygon points="{text}"' + (' stroke-dasharray="5 3"' if kind == "assign" else "") + "/>"
    elif kind == "constant":
        yield rect(0, 0, w, h, 0, ' stroke-dasharray="3 2.5"')
    elif kind == "output":
        yield rect(0, 0, w, h, 7)
        yield rect(3, 3, w - 6, h - 6, 5, ' class="mg-mark" fill="none"')
    elif kind == "fold":
        for step in (6, 3, 0):
            yield rect(step, 6 - step, w - 6, h - 6, 4)
    elif kind == "module":
        yield rect(0, 0, w, h, 2)
        yield f'<path class="mg-mark" d="M{_n(x + 4)},{_n(y)}V{_n(y + h)}" fill="none"/>'
    elif kind == "earlier":
        yield rect(0, 0, w, h, 5, ' stroke-dasharray="1.5 3"')
    else:
        yield rect(0, 0, w, h, 7)


# ----------------------------------------------------------------------------------------------------------- pages


def fragment(picture: Picture, svg: str, text: str = "") -> str:
    """The picture for a notebook's output: scrolls where it is wider than the cell; notes below, text above.

    JupyterLab shows outputs of a notebook that it does not trust yet, one fresh from a repository for instance, without
    SVG elements and styles; only the texts in them stay. The picture is therefore there twice. Where the SVG lives, its
    style hides the image that follows it; where it does not, the image is what is seen, and the texts have size 0.
    """
    above = f'<pre class="minigraph-text">{escape(text)}</pre>\n' if text else ""
    below = "".join(f"\n<p>{escape(note)}</p>" for note in picture.notes)
    twice = f'<div style="font-size:0">\n{svg}{image(picture, svg)}\n</div>'
    return f'<div class="minigraph-picture" style="overflow:auto;max-width:100%">\n{above}{twice}</div>{below}'


def image(picture: Picture, svg: str) -> str:
    """The picture as an image element: the light colours that shapes have as attributes, and no tooltips.

    Without the style sheet and all that only it needs, this is a third of the SVG.
    """
    flat = re.sub(r"<style>.*?</style>|<title>.*?</title>|\n", "", svg, flags=re.DOTALL)
    flat = re.sub(r' (?:class|role|aria-label|data-\w+)="[^"]*"', "", flat)
    flat = flat.replace("<svg ", f'<svg font-family="{FONT}" ', 1)
    source = quote(flat.replace('"', "'"), safe=" '=/:;,()[]*")
    return f'<img class="mg-flat" alt="{escape(picture.what)}" src="data:image/svg+xml;charset=utf-8,{source}">'


def page(picture: Picture, svg: str) -> str:
    """A page of its own: the picture, what it shows, and what its shapes mean. Needs no script and no network."""
    title = escape(picture.name)
    rows = "".join(f"<li>{_swatch(kind)} {KINDS[kind]}</li>" for kind in picture.kinds)
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in picture.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root{{color-scheme:light dark}}
body{{margin:1.5rem;font:15px/1.5 {FONTS};background:#ffffff;color:#222222}}
figure{{margin:0;overflow:auto}}
ul{{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.4rem 1.4rem}}
li svg{{vertical-align:middle}}
@media (prefers-color-scheme:dark){{body{{background:#111111;color:#e4e4e4}}}}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{escape(picture.what)} Rest the pointer on a node to read everything about it.</p>
{notes}<figure>
{svg}</figure>
<ul>{rows}</ul>
</body>
</html>
"""


def _swatch(kind: str) -> str:
    fill, line, _ = LIGHT[kind]
    shape = "".join(_outline(kind, 1, 1, 30, 18))
    inside = f'<g class="mg-{kind}" fill="{fill}" stroke="{line}">{shape}</g>'
    return f'<svg class="minigraph" width="32" height="20" viewBox="0 0 32 20" aria-hidden="true">{inside}</svg>'
