"""What a pass did at one place of the graph."""

from __future__ import annotations

from typing import NamedTuple

from ...tensor import Tensor


class Change(NamedTuple):
    """One rewrite: `before` was replaced by `after` (empty: removed), because of `rule`."""

    rule: str
    before: tuple[Tensor, ...]
    after: tuple[Tensor, ...]

    def __repr__(self) -> str:
        old = ", ".join(n.op.name if n.op else "constant" for n in self.before)
        new = ", ".join(n.op.name if n.op else "constant" for n in self.after) or "nothing"
        return f"{old} -> {new}   ({self.rule})"
