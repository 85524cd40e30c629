"""Layout by Graphviz: where boxes stand and how arrows run.

Graphviz does what it is good at, and nothing else: it gets sizes and returns coordinates. It runs in a child process,
as the `dot` program where there is one, else through the libraries in pygraphviz' wheels. The child process is there
for three reasons: these libraries print warnings (about fonts) straight to the file descriptor that a notebook shows as
errors; a layout can take for ever, and a process can be ended; and a crash in C stays where it is.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from ..errors import MinigraphError
from .dot import write_dot
from .picture import Picture

TIME_LIMIT = 20.0  # seconds; a picture that takes longer is too large to be looked at
INSTALL = "pip install pygraphviz   (or install Graphviz, so that the program `dot` is found)"
CHILD = (
    "import sys, pygraphviz; graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode()); "
    "sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog='dot', args=' '.join(sys.argv[2:])))"
)
Point = tuple[float, float]


class LayoutError(MinigraphError, RuntimeError):
    """There is no Graphviz, or it did not succeed."""


class SlowLayoutError(LayoutError):
    """Graphviz did not succeed in time."""


@dataclass
class Layout:
    """Coordinates in points, y downwards, by the ids of the picture.

    Attributes:
        width, height: of the whole.
        boxes: centre of each box. frames: (left, top, right, bottom) of each frame.
        arrows: for each arrow that is drawn, its number, its Bezier points, and the tip of its head (None: no head).
    """

    width: float
    height: float
    boxes: dict[str, Point] = field(default_factory=dict)
    frames: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    arrows: dict[int, tuple[list[Point], Point | None]] = field(default_factory=dict)


def command(form: str) -> list[str] | None:
    """The command that reads DOT and writes `form`; None when there is no Graphviz."""
    options = ["-Gdpi=144"] if form == "png" else []  # twice the resolution of a screen
    if (program := shutil.which("dot")) is not None:
        return [program, f"-T{form}", *options]
    if sys.executable and importlib.util.find_spec("pygraphviz") is not None:
        return [sys.executable, "-P", "-c", CHILD, form, *options]
    return None


def graphviz(source: str, form: str, seconds: float = TIME_LIMIT) -> bytes:
    """Let Graphviz turn DOT into `form` ("json0", "png", "pdf").

    Raises:
        LayoutError: no Graphviz, or a failure. SlowLayoutError: no result within so many `seconds`.
    """
    run = command(form)
    if run is None:
        raise LayoutError("drawing: there is no Graphviz", expected="the program `dot`, or the package pygraphviz",
                          actual="neither is found", remedy=INSTALL)  # fmt: skip
    try:
        done = subprocess.run(run, input=source.encode(), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SlowLayoutError(
            f"drawing: the layout took longer than {seconds:g} s",
            actual=f"{source.count(' -> '):,} arrows",
            remedy="fold more, for example fold=1, or draw a part of the graph",
        ) from None
    except OSError as reason:
        raise LayoutError(f"drawing: Graphviz cannot be started: {reason.strerror}", remedy=INSTALL) from reason
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise LayoutError("drawing: Graphviz failed", actual=said[-1] if said else f"exit status {done.returncode}",
                          remedy=f"try another Graphviz: {INSTALL}")  # fmt: skip
    return done.stdout


@functools.lru_cache(maxsize=32)
def _positions(source: str, seconds: float) -> Any:
    """Graphviz' answer. Kept for a while: a notebook asks for the same picture more than once."""
    return json.loads(graphviz(source, "json0", seconds))


def lay_out(picture: Picture, seconds: float = TIME_LIMIT) -> Layout:
    """Where everything in a picture stands.

    Raises:
        LayoutError, SlowLayoutError: as for `graphviz`.
    """
    if not picture.boxes:
        return Layout(0.0, 0.0)
    found = _positions(write_dot(picture, full=False), seconds)
    left, bottom, right, top = map(float, found["bb"].split(","))
    names = {f"cluster_{f.id}": f.id for f in picture.frames}

    def point(text: str) -> Point:
        x, y = text.split(",")
        return round(float(x) - left, 1), round(top - float(y), 1)

    layout = Layout(round(right - left, 1), round(top - bottom, 1))
    for thing in found.get("objects", ()):
        if "pos" in thing:
            layout.boxes[thing["name"]] = point(thing["pos"])
        elif thing["name"] in names and "bb" in thing:
            x0, y0, x1, y1 = thing["bb"].split(",")
            layout.frames[names[thing["name"]]] = (*point(f"{x0},{y1}"), *point(f"{x1},{y0}"))
    for edge in found.get("edges", ()):
        number = int(edge["id"][1:])
        if "pos" not in edge or picture.arrows[number].kind == "order":
            continue
        points: list[Point] = []
        tip = None
        for word in edge["pos"].split():
            if word.startswith("e,"):
                tip = point(word[2:])
            elif not word.startswith("s,"):
                points.append(point(word))
        layout.arrows[number] = (points, tip)
    return layout
