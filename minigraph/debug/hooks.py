"""Watching a program from outside: the hook protocol, and three small watchers.

Every view of a running program (a printer, a timer, anomaly mode, a stepper in a notebook) is an object with the same
four methods, called around each node of the forward and of the backward pass. An operation never knows that it is
watched.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ..op import ORDINARY, mode, modified, spec_of

__all__ = ["Hook", "MemoryMeter", "Printer", "Timer", "hooks"]


class Hook:
    """What a watcher may override; each method does nothing. A node is a `Tensor`: it has `op`, `inputs` and `attrs`.

    >>> class Count(mg.debug.Hook):
    ...     total = 0
    ...     def after(self, node, value):
    ...         self.total += 1
    >>> count = Count()
    >>> with mg.debug.hooks(count):
    ...     _ = mg.tensor(2.0) * 3.0 + 1.0
    >>> count.total
    2
    """

    def before(self, node: Any) -> None:
        """The node is about to be computed: it has inputs, and no value yet."""

    def after(self, node: Any, value: Any) -> None:
        """The node has been computed; `value` is its array, or tuple of arrays."""

    def before_backward(self, node: Any, g: Any) -> None:
        """Backward has reached the node; `g` is the gradient with respect to its result."""

    def after_backward(self, node: Any, index: int, g: Any) -> None:
        """The rule for input number `index` has given `g` (already un-broadcast to that input's shape)."""


class hooks(modified):
    """Context manager: these hooks watch, in addition to those that already do.

    >>> with mg.debug.hooks(mg.debug.Printer()):
    ...     y = mg.tensor([1.0, 2.0]) * 2.0
    multiply(float32[2], float32[]) -> float32[2]
    """

    def __init__(self, *watchers: Hook):
        self.watchers = watchers
        super().__init__()

    def __enter__(self) -> Any:
        self.changes = {"hooks": (mode.get() or ORDINARY).hooks + self.watchers}
        return super().__enter__()


class Printer(Hook):
    """Prints one line for each node and, in the backward pass, for each gradient.

    Args:
        write: what to do with a line; `print`, unless it is given.
    """

    def __init__(self, write: Callable[[str], Any] | None = None):
        self.write = write or (lambda line: print(line, file=sys.stdout))

    def after(self, node: Any, value: Any) -> None:
        inputs = ", ".join(repr(spec_of(x.value)) for x in node.inputs)
        scope = f"{node.scope}: " if node.scope else ""
        self.write(f"{scope}{node.op.name}({inputs}) -> {spec_of(value)!r}")

    def after_backward(self, node: Any, index: int, g: Any) -> None:
        self.write(f"backward {node.op.name} -> gradient of input {index}: {spec_of(getattr(g, 'value', g))!r}")


class Timer(Hook):
    """Time spent in each operation, forward and backward, in seconds. Its repr is the table, slowest first.

    On a GPU this is the time to launch the work, not the time that it takes.

    >>> timer = mg.debug.Timer()
    >>> with mg.debug.hooks(timer):
    ...     _ = mg.tensor(2.0) * 3.0
    >>> timer.calls["multiply"]
    1
    """

    def __init__(self) -> None:
        self.forward: dict[str, float] = {}
        self.backward: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._starts: list[float] = []
        self._since = 0.0

    def before(self, node: Any) -> None:
        self._starts.append(perf_counter())

    def after(self, node: Any, value: Any) -> None:
        name = node.op.name
        self.forward[name] = self.forward.get(name, 0.0) + perf_counter() - self._starts.pop()
        self.calls[name] = self.calls.get(name, 0) + 1

    def before_backward(self, node: Any, g: Any) -> None:
        self._since = perf_counter()

    def after_backward(self, node: Any, index: int, g: Any) -> None:
        now, name = perf_counter(), node.op.name
        self.backward[name] = self.backward.get(name, 0.0) + now - self._since
        self._since = now

    def __repr__(self) -> str:
        def total(name: str) -> float:
            return self.forward.get(name, 0.0) + self.backward.get(name, 0.0)

        names = sorted(self.forward.keys() | self.backward.keys(), key=total, reverse=True)
        width = max([len("operation"), *map(len, names)])
        lines = [f"{'operation':<{width}}  {'calls':>7}  {'forward':>10}  {'backward':>10}"]
        for name in names:
            forward, backward = (f"{1000 * d.get(name, 0.0):7.3f} ms" for d in (self.forward, self.backward))
            lines.append(f"{name:<{width}}  {self.calls.get(name, 0):>7}  {forward:>10}  {backward:>10}")
        return "\n".join(lines)


class MemoryMeter(Hook):
    """Bytes of the values that nodes hold: `current` now, `peak` at most. Views hold nothing of their own.

    >>> meter = mg.debug.MemoryMeter()
    >>> with mg.debug.hooks(meter):
    ...     y = mg.exp(mg.zeros(1000))
    >>> meter.peak >= 4000
    True
    """

    def __init__(self) -> None:
        self.current = self.peak = 0
        self._held: dict[int, Any] = {}

    def after(self, node: Any, value: Any) -> None:
        for array in value if type(value) is tuple else (value,):
            if getattr(array, "base", None) is not None or id(array) in self._held:
                continue
            try:
                self._held[id(array)] = weakref.ref(array, self._releaser(id(array), array.nbytes))
            except TypeError:  # a NumPy scalar: nothing to hold
                continue
            self.current += array.nbytes
            self.peak = max(self.peak, self.current)

    def _releaser(self, key: int, size: int) -> Callable[[Any], None]:
        def release(_: Any) -> None:
            self.current -= size
            self._held.pop(key, None)

        return release

    def __repr__(self) -> str:
        return f"MemoryMeter(current={self.current / 1e6:.3f} MB, peak={self.peak / 1e6:.3f} MB)"
