"""How tensors and variables print: short, in NumPy's notation, and never with an error.

A representation is what a person reads in a notebook cell, a debugger or an error message, perhaps while something is
already wrong. So it shows the values and what the values alone do not say (dtype, device, whether gradients are
collected, which operation made it), it summarises large arrays, and it can be asked of anything, half-built objects
included.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend
from .op import Spec
from .variable import INPUT, READ

__all__ = ["tensor_repr", "variable_repr"]


def _array_text(value: Any, indent: int) -> str:
    """The elements in NumPy's notation; lines after the first are indented."""
    array = np.asarray(backend.backend_of(value).to_numpy(value))
    if not array.size and array.ndim != 1:
        return "[]"
    return np.array2string(array, separator=", ", prefix=" " * indent)


def _facts(t: Any, value: Any) -> list[str]:
    """What follows the elements: shape where they do not show it, dtype, device."""
    facts = []
    if 0 in value.shape and len(value.shape) > 1:
        facts.append(f"shape={tuple(value.shape)}")
    facts.append(f"dtype={value.dtype.name}")
    if t.device.kind != "cpu":
        facts.append(f"device='{t.device}'")
    return facts


def _types(value: Any) -> str:
    """`float32[64, 10]` of an array or Spec; of several, in parentheses."""
    if type(value) is tuple:
        return f"({', '.join(map(_types, value))})"
    return f"{value.dtype.name}[{', '.join(map(str, value.shape))}]"


def _broken(kind: str, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"<{kind} that cannot be shown: {type(error).__name__}: {reason}>"


def tensor_repr(t: Any) -> str:
    """The representation of a tensor.

    >>> mg.tensor([[1.0, 2.0]], requires_grad=True)
    tensor([[1., 2.]], dtype=float32, requires_grad=True)
    """
    try:
        return _tensor_repr(t)
    except Exception as error:  # a representation is also made of broken objects, to find out what is wrong with them
        return _broken("tensor", error)


def _tensor_repr(t: Any) -> str:
    value = t.value
    made = [f"op={t.op.name}"] if t.op is not None and t.op not in (INPUT, READ) else []
    name = [f"name={t.name!r}"] if t.name else []
    if type(value) is tuple:
        word = "symbolic" if t.is_symbolic else "results"
        return f"{word}({', '.join([_types(value), *made, *name])})"
    if type(value) is Spec:
        device = [f"device='{value.device}'"] if value.device.kind != "cpu" else []
        return f"symbolic({', '.join([_types(value), *device, *made, *name])})"
    collects = ["requires_grad=True"] if t.requires_grad and not made else []
    return f"tensor({', '.join([_array_text(value, 7), *_facts(t, value), *collects, *made, *name])})"


def variable_repr(v: Any) -> str:
    """The representation of a variable, under the name of its class.

    >>> mg.Variable([1.0, 2.0], name="b")
    Variable([1., 2.], dtype=float32, name='b')
    """
    try:
        return _variable_repr(v)
    except Exception as error:
        return _broken(type(v).__name__, error)


def _variable_repr(v: Any) -> str:
    kind, value = type(v).__name__, v.value
    name = [f"name={v.name!r}"] if v.name else []
    if type(value) is Spec:
        return f"{kind}({', '.join(['symbolic', _types(value), *name])})"
    return f"{kind}({', '.join([_array_text(value, len(kind) + 1), *_facts(v, value), *name])})"
