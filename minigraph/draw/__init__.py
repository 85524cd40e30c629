"""Drawing: graphs, tensors with a history, and modules as pictures.

A drawing is made in three steps, one file each. What there is to see becomes a *picture* of boxes, arrows and frames
(`flow.py` for graphs, `structure.py` for modules, `fold.py` for what is too large); Graphviz decides where they stand
(`layout.py`); and we draw them (`svg.py`). Graphviz only gets sizes and returns coordinates: names, fonts, colours and
themes stay on this side, which is what makes a picture the same everywhere, safe, and fit for a dark notebook.

Objects draw themselves in notebooks by `repr_mimebundle`, and so does a `picture` made with other options. The other
functions are for files and pages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import ArgumentError
from ..graph import Graph
from ..interop.atomic import replacing
from ..tensor import Tensor
from .dot import write_dot
from .flow import HISTORY, draw_graph, history
from .fold import LIMIT
from .layout import TIME_LIMIT, LayoutError, SlowLayoutError, graphviz, lay_out
from .picture import Fold, Picture, layered_text
from .structure import draw_module
from .svg import fragment, page, write_svg
from .words import clean

__all__ = ["LayoutError", "SlowLayoutError", "picture", "repr_mimebundle", "save", "to_dot", "to_html", "to_svg"]

FORMATS = (".svg", ".html", ".dot", ".png", ".pdf")
T = TypeVar("T")


def picture(
    obj: Any,
    *,
    fold: Fold = None,
    limit: int = LIMIT,
    direction: Literal["TB", "LR"] = "TB",
    show_sites: bool = False,
    values: bool | None = None,
) -> Picture:
    """What a drawing of `obj` consists of: boxes, arrows and frames, not yet laid out. A notebook shows it.

    Args:
        obj: a graph, a tensor (its history is drawn), or a module (its structure is drawn).
        fold: how much is open. None: everything, if it fits into `limit` boxes; otherwise what repeats is rolled up and
            the deepest scopes are folded. A number: so many levels of scopes are open, 0 for none. A function: whether
            a scope, with `.path` and `.kind`, is folded.
        limit: the number of boxes to fold down to when `fold` is None.
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
    >>> draw.picture(g)
    graph: 1 operation, 1 output.
       0  input: x  float32[]  0
       1  output: tanh  float32[]  0  output
    """
    from ..nn.module import Module

    if direction not in ("TB", "LR"):
        raise ArgumentError(
            "drawing: direction", expected="'TB' (top to bottom) or 'LR' (left to right)", actual=repr(direction)
        )
    if not (fold is None or callable(fold) or (isinstance(fold, int) and fold >= 0)):
        raise ArgumentError("drawing: fold", expected="None, a number of open levels, or a function of a scope",
                            actual=repr(fold))  # fmt: skip
    if not (isinstance(limit, int) and limit > 0):
        raise ArgumentError("drawing: limit", expected="a positive number of boxes", actual=repr(limit))
    if isinstance(obj, Graph):
        drawn = Picture(clean(obj.name), direction=direction)
        draw_graph(drawn, obj, fold=fold, limit=limit, values=values, show_sites=show_sites)
    elif isinstance(obj, Tensor):
        graph, whole = history(obj)
        drawn = Picture(clean(graph.name), direction=direction)
        draw_graph(drawn, graph, fold=fold, limit=limit, values=values, show_sites=show_sites, cut=not whole)
        if not whole:
            drawn.notes.append(f"Only the last {HISTORY:,} nodes of the history are drawn; there are more before them.")
    elif isinstance(obj, Module):
        drawn = Picture(type(obj).__name__, direction=direction)
        draw_module(drawn, obj, fold=fold, limit=limit)
    else:
        raise ArgumentError("drawing: this cannot be drawn", expected="a Graph, a Tensor or a Module",
                            actual=type(obj).__name__,
                            remedy="draw f.graph of a compiled function f, and v.read() of a variable v")  # fmt: skip
    return drawn


def in_time(obj: Any, work: Callable[[Picture, float], T], **options: Any) -> tuple[Picture, T]:
    """The picture of `obj` and the result of `work(picture, seconds)`, a layout.

    There are graphs of a few hundred boxes on which Graphviz despairs. Where the folding is ours to choose, such a one
    is folded further.
    """
    if options.get("fold") is None:
        wanted = options.get("limit", LIMIT)
        for limit, seconds in ((wanted, 0.5 * TIME_LIMIT), (min(wanted, LIMIT // 3), 0.2 * TIME_LIMIT)):
            drawn = picture(obj, **{**options, "limit": limit})
            try:
                return drawn, work(drawn, seconds)
            except SlowLayoutError:
                continue
        options["limit"] = min(wanted, LIMIT // 10)
    drawn = picture(obj, **options)
    return drawn, work(drawn, TIME_LIMIT)


def _svg(drawn: Picture, seconds: float) -> str:
    return write_svg(drawn, lay_out(drawn, seconds))


def to_dot(obj: Any, **options: Any) -> str:
    """The drawing of a graph, tensor or module in Graphviz' DOT language, with labels and colours. Needs no Graphviz.

    Args:
        obj: what to draw. options: as for `picture`.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> print(draw.to_dot(x * x))
    digraph "history of multiply" {
    ...
      n0 -> n1 [weight=4, tooltip="x → multiply&#10;float32[]"];
      n0 -> n1 [weight=4, tooltip="x → multiply&#10;float32[]"];
    }
    """
    return write_dot(picture(obj, **options))


def to_svg(obj: Any, **options: Any) -> str:
    """The drawing as an SVG document: self-contained, light and dark, with everything known of a node in its tooltip.

    Args:
        obj: what to draw. options: as for `picture`.

    Raises:
        LayoutError: there is no Graphviz, or it fails. SlowLayoutError: the layout takes too long.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> svg = draw.to_svg(x * x, direction="LR")
    >>> svg.count('class="mg-box'), svg.count('class="mg-arrow"')
    (2, 2)
    """
    return in_time(obj, _svg, **options)[1]


def to_html(obj: Any, **options: Any) -> str:
    """The drawing as a page of its own, with a legend. It needs no script and no network.

    Args:
        obj: what to draw. options: as for `picture`.

    Raises:
        LayoutError: there is no Graphviz, or it fails. SlowLayoutError: the layout takes too long.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> draw.to_html(x * x).startswith("<!doctype html>")
    True
    """
    return page(*in_time(obj, _svg, **options))


def save(obj: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Draw into a file: "x.svg", "x.html", "x.dot", "x.png" or "x.pdf". The file appears whole or not at all.

    Args:
        obj: what to draw. path: where to; the ending decides on the format. options: as for `picture`.

    Raises:
        ArgumentError: another ending. CheckpointError: the file cannot be written.
        LayoutError: there is no Graphviz, or it fails. SlowLayoutError: the layout takes too long.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> draw.save(x * x, "square.svg")
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ArgumentError("save: the format of a drawing", expected=f"a file name that ends in {', '.join(FORMATS)}",
                            actual=repr(Path(path).name))  # fmt: skip
    if ending in (".png", ".pdf"):
        _, data = in_time(obj, lambda drawn, seconds: graphviz(write_dot(drawn), ending[1:], seconds), **options)
    else:
        data = {".svg": to_svg, ".html": to_html, ".dot": to_dot}[ending](obj, **options).encode()
    with replacing(path, "save", lambda: len(data)) as temporary:
        Path(temporary).write_bytes(data)


def _plain(obj: Any) -> str:
    try:
        return repr(obj)
    except Exception as error:
        return f"<{type(obj).__name__} that cannot be shown: {type(error).__name__}>"


def repr_mimebundle(obj: Any) -> dict[str, str]:
    """What a notebook shows of a graph, tensor, module or picture: the drawing, and the text for where none can be.

    It never raises: without Graphviz, or when the layout fails, the drawing is replaced by words and one sentence that
    says why.

    >>> from minigraph import draw
    >>> x = mg.tensor(3.0, requires_grad=True, name="x")
    >>> sorted(draw.repr_mimebundle(x * x))
    ['text/html', 'text/plain']
    """
    plain = _plain(obj)
    try:
        try:
            drawn, svg = (obj, _svg(obj, TIME_LIMIT)) if isinstance(obj, Picture) else in_time(obj, _svg)
            html = fragment(drawn, svg, plain if isinstance(obj, Tensor) else "")
        except LayoutError as reason:
            why = f"This is the picture in words. {reason.what}" + (f"; {reason.remedy}" if reason.remedy else "")
            drawn = obj if isinstance(obj, Picture) else picture(obj)
            html = f"<pre>{escape(layered_text(drawn))}</pre>\n<p>{escape(why)}</p>"
    except Exception as error:  # a representation is asked of broken objects, too, to find out what is wrong with them
        line = str(error).partition("\n")[0]
        html = f"<pre>{escape(plain)}</pre>\n<p>{escape(f'It cannot be drawn: {type(error).__name__}: {line}')}</p>"
    return {"text/plain": plain, "text/html": html}
