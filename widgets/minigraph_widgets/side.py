"""Two views beside each other: the same run with two settings, two graphs of one function."""

from __future__ import annotations

from typing import Any

from minigraph.errors import ArgumentError

from .view import View


class SideBySide(View):
    """Shows views next to each other, on a narrow screen below each other. Players step together.

    Args:
        *views: what to show. labels: a heading for each.

    Raises:
        ArgumentError: fewer than two views, or not as many labels.

    >>> from minigraph_widgets import PropagationPlayer, SideBySide
    >>> relu, tanh = PropagationPlayer(mg.relu, -0.5), PropagationPlayer(mg.tanh, -0.5)
    >>> SideBySide(relu, tanh, labels=["relu", "tanh"])
    SideBySide: relu: 1 operation, 1 round, 4 steps: inputs, loss, backward, accumulate. ...
    """

    def __init__(self, *views: View, labels: list[str] | None = None):
        if len(views) < 2 or not all(isinstance(v, View) for v in views):
            raise ArgumentError("SideBySide: what is shown", expected="two views or more",
                                actual=", ".join(type(v).__name__ for v in views) or "nothing")  # fmt: skip
        names = [v.document["title"] for v in views] if labels is None else labels
        if len(names) != len(views):
            raise ArgumentError("SideBySide: labels", expected=f"{len(views)}, one for each view", actual=repr(labels))
        parts: list[dict[str, Any]] = [
            {"label": name, "document": v.document, "reader": v.reader(), "picture": v.picture}
            for name, v in zip(names, views, strict=True)
        ]
        document = {
            "kind": "side",
            "title": " and ".join(names),
            "what": " ".join(f"{name}: {v.document['what']}" for name, v in zip(names, views, strict=True)),
            "parts": parts,
        }
        super().__init__(document, "\n".join(v.picture for v in views))
