"""The two namespaces a gradient rule is written over.

A rule such as `lambda F, g, y, x: g * F.cos(x)` is written once. `F` has the names of the public functions either way:
`array_functions` computes them on plain arrays (nothing is recorded), `tensor_functions` on tensors, as part of a
graph.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import backend
from .op import OPS


class ArrayFunctions:
    """Every operation of the catalogue on the arrays of one module, under its public name; and the array creators."""

    def __init__(self, xp: Any):
        self.xp = xp
        self.zeros, self.ones, self.full, self.arange = xp.zeros, xp.ones, xp.full, xp.arange

    def __getattr__(self, name: str) -> Any:
        try:
            op = OPS[name]
        except KeyError:
            raise AttributeError(f"no operation is called {name!r}") from None
        run = op.on(self.xp)
        if op.builtin:  # catalogue operations are never replaced, so the next look-up can be direct
            setattr(self, name, run)
        return run

    def __repr__(self) -> str:
        return f"<operations on {self.xp.__name__} arrays>"


class TensorFunctions:
    """The public functions, on tensors; operations that a user defined are found by their name, too. What creates
    tensors (`zeros`, `arange`) creates them on one device."""

    def __init__(self, device: backend.Device):
        self.device = device

    def __getattr__(self, name: str) -> Any:
        from . import ops

        if name in CREATORS:
            return partial(getattr(ops, name), device=self.device)
        found = getattr(ops, name, None)
        if found is None and name not in OPS:
            raise AttributeError(f"no operation is called {name!r}")
        return OPS[name] if found is None else found

    def __repr__(self) -> str:
        return f"<operations on tensors, {self.device}>"


CREATORS = ("arange", "eye", "full", "linspace", "ones", "zeros")
numpy_functions = ArrayFunctions(np)
_others: dict[Any, ArrayFunctions] = {}
_tensor_functions: dict[backend.Device, TensorFunctions] = {}


def tensor_functions(device: backend.Device) -> TensorFunctions:
    """The namespace for tensors on a device."""
    if device not in _tensor_functions:
        _tensor_functions[device] = TensorFunctions(device)
    return _tensor_functions[device]


def array_functions(value: Any) -> ArrayFunctions:
    """The namespace for arrays like `value`."""
    if backend.only_numpy:
        return numpy_functions
    xp = backend.backend_of(value[0] if type(value) is tuple else value).xp
    if xp is np:
        return numpy_functions
    if xp not in _others:
        _others[xp] = ArrayFunctions(xp)
    return _others[xp]
