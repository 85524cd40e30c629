"""Many variables in one array, changed in place without anybody noticing.

Updating parameters one by one costs several array operations each, most of it overhead. A `Flat` keeps the values of
many variables in one array, each variable's tensor being a view of its part, so that an optimiser needs a handful of
operations for all of them.

Tensors are immutable, so before the arrays are written to, `writable` asks whether anybody else could see them:
somebody who kept a tensor that was read from a variable, its array, or a view of it. CPython counts references, so the
question has an exact answer: there are more references than those that a `Flat` itself accounts for. Then the arrays
are copied first, the holder keeps the old ones, and a tensor keeps its value for ever after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any

from .. import backend
from ..variable import Variable

_current = attrgetter("_tensor")


class Flat:
    """The values of several rows of variables, each row in one array.

    The rows have the same shapes, column by column, and all variables one dtype and one device: the parameters, and
    each kind of state that an optimiser has for them.
    """

    def __init__(self, rows: Sequence[Sequence[Variable]]):
        self.rows = [list(row) for row in rows]
        self.variables = [v for row in self.rows for v in row]
        first = self.variables[0]._tensor
        self.dtype, self.device = first.dtype, first.device
        self.xp = backend.backends[self.device.kind].xp
        self.bounds = []
        at = 0
        for v in self.rows[0]:
            self.bounds.append((at, at + v._tensor.size, v._tensor.shape))
            at += v._tensor.size
        self.size = at
        one, of_view = references(self.xp)
        self.alone = len(self.rows) * (one + 1) + len(self.variables) * (one + 2 + one + 1 + of_view)
        self.spread(self.collect())

    def collect(self) -> list[Any]:
        """New arrays with the current values."""
        return [self.xp.concatenate([v._tensor.value.reshape(-1) for v in row]) for row in self.rows]

    def views(self, array: Any) -> list[Any]:
        """The part of each variable in a flat array."""
        return [array[a:b].reshape(shape) for a, b, shape in self.bounds]

    def spread(self, arrays: list[Any]) -> None:
        """Make every variable a view of its row's array."""
        views = [view for array in arrays for view in self.views(array)]
        for v, view in zip(self.variables, views, strict=True):
            v.store(view)
        self.arrays = arrays
        self.tensors = [v._tensor for v in self.variables]
        self.watched = [*arrays, *self.tensors, *views]

    def holders(self) -> int:
        """References to the arrays, the tensors and their views.

        `alone` is what they add up to when nobody else has any: an array is held by `arrays`, `watched` and its views;
        a tensor by its variable, `tensors` and `watched`; a view by its tensor and `watched`.
        """
        return sum(map(getrefcount, self.watched))

    def writable(self) -> list[Any]:
        """The arrays with the current values, which nobody but us can see, so that they may be overwritten."""
        if not all(map(is_, map(_current, self.variables), self.tensors)):  # some have been assigned meanwhile
            self.spread(self.collect())
        elif self.holders() != self.alone:
            self.spread([array.copy() for array in self.arrays])
        return self.arrays


@cache
def references(xp: Any) -> tuple[int, int]:
    """How an interpreter and an array module count: for an object in one list, and for each view of an array."""
    array = xp.zeros(4)
    before = getrefcount(array)
    views = [array[k : k + 1].reshape(()) for k in range(4)]
    of_view = (getrefcount(array) - before) // len(views)
    return sum(map(getrefcount, [object(), object()])) // 2, of_view
