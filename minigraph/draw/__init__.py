"""Drawing: graphs, tensors with a history, and modules as pictures.

A drawing is made in three steps, one file each. What there is to see becomes a *picture* of boxes, arrows and frames
(`flow.py` for graphs, `structure.py` for modules, `fold.py` for what is too large); Graphviz decides where they stand
(`layout.py`); and we draw them (`svg.py`). Graphviz only gets sizes and returns coordinates: names, fonts, colours and
themes stay on this side, which is what makes a picture the same everywhere, safe, and fit for a dark notebook.

Objects draw themselves in notebooks by `repr_mimebundle`. The functions here are for everything else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from ..errors import ArgumentError
from ..graph import Graph
from ..interop.atomic import replacing
from ..tensor import Tensor
from .dot import write_dot
from .flow import HISTORY, draw_graph, history
from .layout import LayoutError, graphviz
from .picture import Fold, Picture, layered_text
from .structure import draw_module
from .svg import fragment, page, write_svg

__all__ = ["LayoutError", "picture", "repr_mimebundle", "save", "to_dot", "to_html", "to_svg"]

FORMATS = (".svg", ".html", ".dot", ".png", ".pdf")


def picture(
    obj: Any,
    *,
    fold: Fold = None,
    direction: Literal["TB", "LR"] = "TB",
    show_sites: bool = False,
    values: bool | None = None,
) -> Picture:
    """What a drawing of `obj` consists of: boxes, arrows and frames, not yet laid out.

    Args:
        obj: a graph, a tensor (its history is drawn), or a module (its structure is drawn).
        fold: how much of the scopes is open. None: everything, if it fits into some 300 boxes; otherwise the deepest
            scopes are folded first. A number: so many levels of scopes are open, 0 for none. A function: whether a
            scope, with `.path` and `.kind`, is folded.
        direction: "TB", from top to bottom, or "LR", from left to right.
        show_sites: write the line of your program on each operation.
        values: write small values (and gradients of leaves) on the nodes; by default for small graphs of small values.

    Raises:
        ArgumentError: `obj` cannot be drawn, or an option makes no sense.

    >>> from minigraph import draw
    >>> with mg.record() as g:
    ...     y = mg.tanh(mg.tensor(0.0, name="x"))
    >>> [box.lines for box in draw.picture(g).boxes]
    [('x', 'float32[]', '0'), ('tanh', 'float32[]', '0', 'output')]
    """
    from ..nn.module import Module

    if direction not in ("TB", "LR"):
        raise ArgumentError("drawing: direction", expected="'TB' (top to bottom) or 'LR' (left to right)", actual=repr(direction))
    if not (fold is None or callable(fold) or (isinstance(fold, int) and fold >= 0)):
        raise ArgumentError("drawing: fold", expected="None, the number of levels that stay open, or a function of a scope",
                            actual=repr(fold))  # fmt: skip
    options: dict[str, Any] = {"fold": fold, "values": values, "show_sites": show_sites}
    if isinstance(obj, Graph):
        drawn = Picture(str(obj.name), direction=direction)
        draw_graph(drawn, obj, **options)
    elif isinstance(obj, Tensor):
        graph, whole = history(obj)
        drawn = Picture(str(obj.name or "history"), direction=direction)
        draw_graph(drawn, graph, **options, cut=not whole)
        if not whole:
            drawn.notes.append(f"Only the last {HISTORY:,} nodes of the history are drawn; there are more before them.")
    elif isinstance(obj, Module):
        drawn = Picture(type(obj).__name__, direction=direction)
        draw_module(drawn, obj, fold=fold)
    else:
        raise ArgumentError("drawing: this cannot be drawn", expected="a Graph, a Tensor or a Module", actual=type(obj).__name__,
                            remedy="draw compiled.graph for a compiled function, variable.read() for a variable")  # fmt: skip
    return drawn


def to_dot(obj: Any, **options: Any) -> str:
    """The drawing of a graph, tensor or module in Graphviz' DOT language, with labels and colours. Needs no Graphviz.

    Args:
        obj: what to draw. options: as for `picture`.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> print(draw.to_dot(x * x))
    digraph "history" {
    ...
      n0 -> n1 [tooltip="x → multiply&#10;float32[]"];
      n0 -> n1 [tooltip="x → multiply&#10;float32[]"];
    }
    """
    return write_dot(picture(obj, **options))


def to_svg(obj: Any, **options: Any) -> str:
    """The drawing as an SVG document: self-contained, light and dark, with everything known of a node in its tooltip.

    Args:
        obj: what to draw. options: as for `picture`.

    Raises:
        LayoutError: there is no Graphviz, or the layout takes too long.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> svg = draw.to_svg(x * x, direction="LR")
    >>> svg.count('class="mg-box'), svg.count('class="mg-arrow"')
    (2, 2)
    """
    return write_svg(picture(obj, **options))


def to_html(obj: Any, **options: Any) -> str:
    """The drawing as a page of its own, with a legend. It needs no script and no network.

    Args:
        obj: what to draw. options: as for `picture`.

    Raises:
        LayoutError: there is no Graphviz, or the layout takes too long.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> draw.to_html(x * x).startswith("<!doctype html>")
    True
    """
    return page(picture(obj, **options))


def save(obj: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Draw into a file: "x.svg", "x.html", "x.dot", "x.png" or "x.pdf". The file appears whole or not at all.

    Args:
        obj: what to draw. path: where to; the ending decides on the format. options: as for `picture`.

    Raises:
        ArgumentError: another ending. LayoutError: there is no Graphviz, or the layout takes too long.
        CheckpointError: the file cannot be written.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> draw.save(x * x, "square.svg")
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ArgumentError("save: the format of a drawing", expected=f"a file name that ends in {', '.join(FORMATS)}",
                            actual=repr(Path(path).name))  # fmt: skip
    what = picture(obj, **options)
    if ending == ".svg":
        data = write_svg(what).encode()
    elif ending == ".html":
        data = page(what).encode()
    elif ending == ".dot":
        data = write_dot(what).encode()
    else:
        source = write_dot(what)
        if ending == ".png":  # twice the resolution of a screen
            source = source.replace("graph [", "graph [dpi=144, ", 1)
        data = graphviz(source, ending[1:])
    with replacing(path, "save", lambda: len(data)) as temporary:
        Path(temporary).write_bytes(data)


def repr_mimebundle(obj: Any) -> dict[str, str]:
    """What a notebook shows of a graph, tensor or module: the drawing, and the text for where nothing can be drawn.

    It never raises: without Graphviz, or when the layout fails, the drawing is replaced by words and one sentence that
    says why.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> sorted(draw.repr_mimebundle(x * x))
    ['text/html', 'text/plain']
    """
    from html import escape

    plain = repr(obj)
    try:
        drawn = picture(obj)
        try:
            html = fragment(drawn, plain if isinstance(obj, Tensor) else "")
        except LayoutError as reason:
            why = f"This is the picture in words. {reason.what}" + (f"; {reason.remedy}" if reason.remedy else "")
            html = f"<pre>{escape(layered_text(drawn))}</pre>\n<p>{escape(why)}</p>"
    except Exception as error:  # a representation is asked of broken objects, too, to find out what is wrong with them
        line = str(error).partition("\n")[0]
        html = f"<pre>{escape(plain)}</pre>\n<p>{escape(f'It cannot be drawn: {type(error).__name__}: {line}')}</p>"
    return {"text/plain": plain, "text/html": html}
