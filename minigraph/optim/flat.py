"""Many variables in one array, changed in place without anybody noticing.

Updating parameters one by one costs several array operations each, most of it overhead. A `Flat` keeps the values of
many variables in one array, each variable's tensor being a view of its part, so that an optimiser needs a handful of
operations for all of them.

Tensors are immutable, so before the array is written to, `writable` asks whether anybody else could see it: somebody
who kept a tensor that was read from a variable, its array, or a view of it. CPython counts references, so the question
has an exact answer: more references than there were when only we had them. Then the array is copied first, the holder
keeps the old one, and a tensor keeps its value for ever after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

from .. import backend
from ..variable import Variable


class Flat:
    """The values of `variables` (of one dtype, on one device) in one array."""

    def __init__(self, variables: Sequence[Variable]):
        self.variables = list(variables)
        first = self.variables[0]._tensor
        self.dtype, self.device = first.dtype, first.device
        self.xp = backend.backends[self.device.kind].xp
        self.bounds = []
        at = 0
        for v in self.variables:
            self.bounds.append((at, at + v._tensor.size, v._tensor.shape))
            at += v._tensor.size
        self.size = at
        self.spread(self.collect())

    def collect(self) -> Any:
        """A new array with the current values."""
        return self.xp.concatenate([v._tensor.value.reshape(-1) for v in self.variables])

    def views(self, array: Any) -> list[Any]:
        """The part of each variable in a flat array."""
        return [array[a:b].reshape(shape) for a, b, shape in self.bounds]

    def spread(self, array: Any) -> None:
        """Make every variable a view of `array`, and note how many references there are when nobody else has one."""
        for v, view in zip(self.variables, self.views(array), strict=True):
            v.store(view)
        del v, view
        self.array = array
        self.tensors = [v._tensor for v in self.variables]
        self.parts = [t.value for t in self.tensors]
        del array
        self.alone = self.count()

    def count(self) -> tuple[int, int, int]:
        """References to the array, to the tensors, and to their views."""
        return getrefcount(self.array), sum(map(getrefcount, self.tensors)), sum(map(getrefcount, self.parts))

    def read(self) -> Any:
        """The flat array with the current values: collected again if a variable has been assigned meanwhile."""
        for v, t in zip(self.variables, self.tensors, strict=True):
            if v._tensor is not t:
                self.spread(self.collect())
                break
        return self.array

    def writable(self) -> Any:
        """Like `read`; and nobody but us can see the array, so it may be overwritten."""
        self.read()
        if self.count() != self.alone:
            self.spread(self.array.copy())
        return self.array
