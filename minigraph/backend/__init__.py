"""Array modules and devices: where values live, and which library computes on them.

An operation's `run(xp, ...)` is written once, for any array module with NumPy's names. A `Backend` is what the engine
has to know about such a module beside that: which arrays are its own, how to move them, how to draw random bits. There
are three: NumPy ("cpu"), CuPy ("cuda"), and a stand-in that runs on the CPU and refuses what CuPy refuses ("strict"),
so that machines without a GPU can test that code for one keeps its arrays apart.

CuPy is imported when a CUDA device is asked for, not before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..errors import DeviceError, DTypeError
from .philox import random_bits

__all__ = [
    "Backend",
    "Device",
    "backend_of",
    "backends",
    "cpu",
    "device",
    "device_of",
    "on",
    "random_bits",
    "synchronize",
    "transfer",
]


class Device(NamedTuple):
    """A place for values: a kind and a number.

    >>> mg.device("cpu")
    device("cpu")
    """

    kind: str
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a device

    def __str__(self) -> str:
        return self.kind if self.kind != "cuda" else f"{self.kind}:{self.index}"

    def __repr__(self) -> str:
        return f'device("{self}")'


class Backend(NamedTuple):
    """An array module. `xp`: the module; `array_types`: its arrays; `device_of(array)`; `to_numpy(array)`;
    `from_numpy(array, device)`: a copy on the device; `synchronize(device)`: wait until it has computed everything;
    `current(device)`: a context in which the module computes on the device."""

    kind: str
    xp: Any
    array_types: tuple[type, ...]
    device_of: Callable[[Any], Device]
    to_numpy: Callable[[Any], np.ndarray]
    from_numpy: Callable[[np.ndarray, Device], Any]
    synchronize: Callable[[Device], None]
    current: Callable[[Device], AbstractContextManager[Any]]


HERE = nullcontext()  # for modules that have one device
NUMPY = (np.ndarray, np.generic)
cpu = Device("cpu")
backends: dict[str, Backend] = {
    "cpu": Backend("cpu", np, NUMPY, lambda a: cpu, np.asarray, lambda a, d: a, lambda d: None, lambda d: HERE)
}
only_numpy = True  # until another backend is used for the first time; lets `bind` skip looking for the array module


def _load(kind: str) -> Backend:
    """Import a backend when it is asked for the first time."""
    global only_numpy
    if kind not in backends:
        if kind == "strict":
            from .strict import make_backend
        else:
            from .cuda import make_backend
        backends[kind] = make_backend()
        only_numpy = False
    return backends[kind]


def device(name: Any) -> Device:
    """A device by its name: "cpu", "cuda", "cuda:1" (or "strict", the stand-in for tests); a Device stays itself.

    Raises:
        DeviceError: there is no such device here; the message says what to install.

    >>> mg.device("cpu") == mg.tensor(1.0).device
    True
    """
    if isinstance(name, Device):
        if name.kind in backends:
            return name
        name = str(name)  # made by hand or read from a file: its backend is not loaded yet
    match = re.fullmatch(r"(cpu|cuda|strict)(?::(\d+))?", name) if isinstance(name, str) else None
    if match is None or (match[2] and match[1] != "cuda"):
        raise DeviceError("device: unknown name", expected='"cpu", "cuda" or "cuda:<number>"', actual=repr(name))
    if match[1] == "cpu":
        return cpu
    found = Device(match[1], int(match[2] or 0))
    _load(match[1])
    if match[1] == "cuda":
        from .cuda import check

        check(found.index)
    return found


def backend_of(value: Any) -> Backend:
    """The backend whose array `value` is.

    Raises:
        DTypeError: it is not an array.
    """
    if isinstance(value, NUMPY):
        return backends["cpu"]
    for b in backends.values():
        if isinstance(value, b.array_types):
            return b
    if type(value).__module__.split(".")[0] == "cupy":
        return _load("cuda")
    raise DTypeError("not an array", expected="a NumPy or CuPy array", actual=f"{type(value).__name__}")


def device_of(value: Any) -> Device:
    """The device on which an array lives.

    Raises:
        DTypeError: it is not an array.
    """
    if isinstance(value, NUMPY):
        return cpu
    return backend_of(value).device_of(value)


def transfer(array: Any, to: Device) -> Any:
    """The array on another device (the same object if it is there already)."""
    source = backend_of(array)
    if source.device_of(array) == to:
        return array
    return _load(to.kind).from_numpy(source.to_numpy(array), to)


def on(where: Device) -> AbstractContextManager[Any]:
    """A context in which arrays are computed on a device.

    CuPy computes on the *current* device, wherever the operands are, so whatever works on arrays of a second GPU has to
    make that one the current one first. Elsewhere the context does nothing.
    """
    return HERE if where.kind == "cpu" else backends[where.kind].current(where)


def synchronize(where: Any = "cpu") -> None:
    """Wait until a device has finished everything it was told to do; needed around timing on a GPU."""
    d = device(where)
    _load(d.kind).synchronize(d)
