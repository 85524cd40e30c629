"""Modules as pictures: the tree of a model, with kinds, parameter shapes and counts.

A module with children is a frame around them; one without is a box that lists its parameters. No arrows: what flows
where is decided by `forward`, and shown by the graph of a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby, pairwise
from textwrap import wrap
from typing import Any

from ..op import ROOT, Scope
from ..variable import spec
from .picture import Box, Fold, Frame, Picture
from .words import LONGEST, TIMES, clean, plural

TOWER = 60  # boxes, as they stand one below the other
ALIKE = 4  # so many neighbours alike are shown once
DEEPEST = 40
LINES = 8  # variables that are listed in one box


@dataclass(eq=False)
class Part:
    """A module in the tree."""

    module: Any
    scope: Scope
    depth: int
    first_path: str = ""  # where it was met before, if it is shared
    children: list[Part] = field(default_factory=list)
    closed: bool = False
    last: Part | None = None  # the last of the neighbours that this one stands for
    times: int = 1
    left_out: int = 0  # children that are not shown
    facts: tuple = ()

    @property
    def name(self) -> str:
        one = f"{self.scope.name} … {self.last.scope.name}" if self.last else self.scope.name
        kind = type(self.module).__name__
        return (f"{one}: {kind}" if self.depth else kind) + (f"  {TIMES}{self.times}" if self.times > 1 else "")

    def walk(self) -> list[Part]:
        """This part and those below it that are to be seen."""
        found = [self]
        if not self.closed:
            for c in self.children:
                found += c.walk()
        return found

    @property
    def boxes(self) -> int:
        """How many boxes the tree takes."""
        return sum(1 for p in self.walk() if p.closed or not p.children or p.module._variables)


def tree(module: Any) -> Part:
    """The tree of a module. A module that occurs again is a part without children."""
    seen: dict[int, str] = {id(module): "the whole"}

    def build(m: Any, scope: Scope, depth: int) -> Part:
        part = Part(m, scope, depth)
        for name, child in m.named_children() if depth < DEEPEST else ():
            below = Scope(scope, str(name), type(child).__name__)
            if id(child) in seen:
                part.children.append(Part(child, below, depth + 1, first_path=seen[id(child)]))
            else:
                seen[id(child)] = str(below)
                part.children.append(build(child, below, depth + 1))
        own = tuple((name, type(v).__name__, repr(spec(v))) for name, v in m._variables.items())
        part.facts = (type(m).__name__, m.extra_repr(), own, tuple(c.facts for c in part.children))
        return part

    return build(module, ROOT, 0)


def roll_up(part: Part) -> None:
    """Let the first of several neighbours alike stand for all of them; leave out what is too much for one picture."""
    new: list[Part] = []
    for _, run in groupby(part.children, key=lambda c: id(c) if c.first_path else c.facts):
        alike = list(run)
        if len(alike) >= ALIKE:
            alike[0].times, alike[0].last = len(alike), alike[-1]
            del alike[1:]
        new += alike
    part.children, part.left_out = new[:TOWER], len(new[TOWER:])
    for c in part.children:
        roll_up(c)


def draw_module(picture: Picture, module: Any, *, fold: Fold, limit: int) -> None:
    """Put a module into an empty picture."""
    root = tree(module)
    if callable(fold):
        for p in root.walk():
            p.closed = bool(p.children) and bool(p.depth) and bool(fold(p.scope))
    elif fold is not None:
        for p in root.walk():
            p.closed = bool(p.children) and p.depth >= max(fold, 0) + 1
    elif root.boxes > (room := min(limit, TOWER)):
        roll_up(root)
        deepest = max(p.depth for p in root.walk())
        for depth in range(deepest, 0, -1):
            if root.boxes <= room:
                break
            for p in root.walk():
                p.closed = p.closed or (p.depth == depth and bool(p.children))
    before: list[Box] = []
    draw_part(picture, root, None, before)
    for above, below in pairwise(before):
        picture.arrow(above, below, kind="order")
    total = sum(spec(v).size for v in module.parameters())
    picture.what = clean(f"{type(module).__name__}: {plural(sum(1 for _ in module.modules()), 'module')}, "
                         f"{plural(total, 'parameter')}.")  # fmt: skip


def draw_part(picture: Picture, part: Part, frame: Frame | None, drawn: list[Box]) -> None:
    m = part.module
    count = sum(spec(v).size for v in m.parameters())
    counted = plural(count, "parameter") + (" each" if part.times > 1 else "") if count else ""
    extra = m.extra_repr()
    path = str(part.scope)
    said = [f"{path}: {type(m).__name__}({extra})" if path else f"{type(m).__name__}({extra})", counted,
            "training" if m.training else "evaluation"]  # fmt: skip
    said += [f"{name}  {spec(v)!r}" for name, v in list(m.named_variables())[:40]]
    tooltip = "\n".join(clean(s) for s in said if s)
    if part.first_path:
        drawn.append(picture.box("module", [part.name, f"shared: is {part.first_path}"], tooltip, frame))
    elif part.closed:
        inside = plural(sum(1 for _ in m.modules()) - 1, "module") + " inside"
        drawn.append(picture.box("fold", [part.name, inside, counted], tooltip, frame))
    elif part.children:
        label = part.name + (f" · {counted}" if counted else "")
        inner = picture.frame(label, tooltip, "module", frame)
        if m._variables:
            drawn.append(picture.box("variable", variable_lines(m), tooltip, inner))
        for c in part.children:
            draw_part(picture, c, inner, drawn)
        if part.left_out:
            drawn.append(picture.box("fold", [f"and {plural(part.left_out, 'more module')}"], tooltip, inner))
    else:
        settings = wrap(clean(extra), LONGEST)[:4]
        lines = [part.name, *settings, *variable_lines(m), counted if m._variables else ""]
        drawn.append(picture.box("module", lines, tooltip, frame))


def variable_lines(module: Any) -> list[str]:
    """`weight float32[10, 64]` for each parameter and buffer of the module itself."""
    from ..nn.module import Parameter

    lines = []
    for name, v in module._variables.items():
        note = " (buffer)" if not isinstance(v, Parameter) else "" if v.requires_grad else " (frozen)"
        lines.append(f"{name} {spec(v)!r}{note}")
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more"]
