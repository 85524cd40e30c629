"""What every view is: a document, drawn by one script, live in a notebook and alone on a page.

A view is made in Python, once: its `document` is plain data, with nothing in it that could change or be freed, and a
static picture. What an output holds is HTML and nothing else: static picture, data, and a line of script. So it is the
same in a notebook, with a kernel or without one, in nbconvert, in Sphinx, and on a page of its own
(`save("view.html")`); where no script may run, the static picture stays. (A widget's own output says "model not found"
where there is no kernel, and pages of nbconvert fetch a widget manager from the network for it.)

Where there is a kernel, the view is a widget at the same time, which is never displayed: its model registers itself on
the page under the view's name (`live.js`), and the view connects to it. Then what the reader selects can be read back
in Python, and what is too large to be sent along is sent when it is asked for.

The script (`static/runtime.js`, built from `widgets/frontend`) is large compared with a document. It therefore travels
once: as the state of one hidden widget for all live views, and in the output of the first cell that shows a view.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from minigraph.interop.atomic import replacing

HERE = Path(__file__).parent


@functools.cache
def script() -> str:
    """The script that draws views, "" if it has not been built."""
    path = HERE / "static" / "runtime.js"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class Runtime(anywidget.AnyWidget):
    """Carries the script to the page, once for all views; shows nothing."""

    _esm = "export default {}"
    source = traitlets.Unicode().tag(sync=True)


_runtime: Runtime | None = None


def runtime() -> Runtime:
    """The carrier of the script in this kernel."""
    global _runtime
    if _runtime is None or _runtime.comm is None:
        _runtime = Runtime(source=script())
    return _runtime


class Carriers:
    """Which outputs of a notebook carry the script: the first view of the cell that came first.

    A cell that is run again carries it again. Where cells have no names (nbval, nbconvert), the first view of the
    kernel carries it.
    """

    def __init__(self) -> None:
        self.cell: Any = None
        self.execution: Any = None
        self.started = False

    def is_here(self) -> bool:
        """Whether the output that is being written has to carry the script."""
        cell, execution = _place()
        if not self.started or (cell is not None and cell == self.cell and execution != self.execution):
            self.started, self.cell, self.execution = True, cell, execution
            return True
        return False


carriers = Carriers()


def _place() -> tuple[Any, Any]:
    """(the cell's id, the number of the execution) of what the kernel is doing; (None, None) where nothing is known."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None, None
    shell = get_ipython()
    if shell is None or not hasattr(shell, "get_parent"):
        return None, None
    parent = shell.get_parent() or {}
    return parent.get("metadata", {}).get("cellId"), shell.execution_count


def to_json(value: Any) -> str:
    """JSON that may stand inside a script element: the same bytes for the same data."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src \
'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{margin:1rem;font:15px/1.45 system-ui,sans-serif;background:Canvas;\
color:CanvasText}}</style>
</head>
<body>
{body}
</body>
</html>
"""


alike: Counter[str] = Counter()  # how many views of this kernel show the same: their names differ by the number


class View(anywidget.AnyWidget):
    """Base of all views.

    A subclass calls `super().__init__(document=..., **traits)`. Traits that are tagged `sync=True, reader=True` are
    what the reader changes (a step, a selection); they are set in the browser and read in Python.

    Attributes:
        document: what there is to see: `kind`, `title`, `what` (a sentence) and what the kind needs.
        picture: the static picture as HTML; it stays where no script runs.
        name: of the view on a page; it follows from what the view shows.
    """

    _esm = HERE / "live.js"
    document = traitlets.Dict().tag(sync=True)
    picture = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)
    _runtime = traitlets.Unicode().tag(sync=True)

    def __init__(self, document: dict[str, Any], picture: str = "", **traits: Any):
        content = hashlib.sha256((to_json(document) + picture).encode()).hexdigest()[:12]
        alike[content] += 1
        name = f"mg-{content}" + (f"-{alike[content]}" if alike[content] > 1 else "")
        carrier = f"IPY_MODEL_{runtime().model_id}"
        super().__init__(document=document, picture=picture, name=name, _runtime=carrier, **traits)

    def reader(self) -> dict[str, Any]:
        """The traits that the reader changes, as they are."""
        return {name: getattr(self, name) for name in sorted(self.trait_names(reader=True))}

    def fragment(self, carry: bool) -> str:
        """The view as HTML: static picture, data and, if `carry`, the script."""
        data = to_json({"document": self.document, "reader": self.reader()})
        picture = self.picture or f"<p>{escape(self.document['what'])}</p>"
        parts = [
            f'<div class="mgw-view" data-view="{self.name}">',
            f'<div class="mgw-static">{picture}</div>',
            f'<script type="application/json">{data}</script></div>',
        ]
        if carry and script():
            parts.append(f"<script data-minigraph-runtime>{script()}</script>")
        parts.append(f'<script>(globalThis.minigraphViews??=[]).push("{self.name}")</script>')
        return "\n".join(parts)

    def to_html(self) -> str:
        """A page of its own, which needs neither a kernel nor a network."""
        return PAGE.format(title=escape(self.document["title"]), body=self.fragment(carry=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the view as a page of its own. The file appears whole or not at all.

        Raises:
            CheckpointError: the file cannot be written.
        """
        data = self.to_html().encode()
        with replacing(path, "save", lambda: len(data)) as temporary:
            Path(temporary).write_bytes(data)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return {"text/plain": repr(self), "text/html": self.fragment(carriers.is_here())}

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.document['what']}"
