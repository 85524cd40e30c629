"""Anomaly mode: stop at the operation that made the first NaN or infinity, and name the user's line.

A NaN in the loss says nothing about where it came from. Anomaly mode is a hook that looks at every value as it is
computed, forward and backward, and raises at the first bad one, while the line that made it is still known. Infinities
that come in from outside are left alone (masks are made of them); a NaN never is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..errors import NumericalError
from ..op import ORDINARY, Spec, argument_names, mode, modified, spec_of
from .hooks import Hook

__all__ = ["detect_anomaly"]


def bad(value: Any) -> tuple[bool, bool]:
    """Whether an array (tensor, tuple) holds NaNs, and whether it holds infinities."""
    if type(value) is tuple or type(value) is list:
        found = [bad(v) for v in value if v is not None]
        return any(n for n, _ in found), any(i for _, i in found)
    value = getattr(value, "value", value)
    if type(value) is Spec or value.dtype.kind != "f":
        return False, False
    xp = backend.backend_of(value).xp
    with backend.on(backend.device_of(value)):
        if bool(xp.isfinite(value).all()):
            return False, False
        return bool(xp.isnan(value).any()), bool(xp.isinf(value).any())


def what(nan: bool) -> str:
    return "NaN" if nan else "infinity"


def values(node: Any) -> str:
    """The inputs of a node and the range of their values."""
    lines = []
    for name, x in zip(argument_names(node.op, len(node.inputs)), node.inputs, strict=True):
        value = x.value
        text = f"{name}: {spec_of(value)!r}" + (f" ({x.name})" if x.name else "")
        if type(value) is not tuple and value.size and value.dtype.kind in "iuf":
            text += f", from {value.min():.6g} to {value.max():.6g}"
        lines.append(text)
    return "\n".join(lines)


class Watch(Hook):
    """The hook behind `detect_anomaly`."""

    def __init__(self) -> None:
        self.rule_of: Any = None  # in a backward that builds a graph, the forward node whose rule is running

    def after(self, node: Any, value: Any) -> None:
        nan, infinite = bad(value)
        if not nan and not infinite:
            return
        if self.rule_of is not None:
            raise self.in_backward(self.rule_of, nan, f"in {node.op.name}, part of its gradient rule", node.inputs)
        given = [bad(x.value) for x in node.inputs]
        if nan and any(n for n, _ in given):
            index = next(i for i, (n, _) in enumerate(given) if n)
            raise NumericalError(
                f"{node.op.name}: {argument_names(node.op, len(node.inputs))[index]} already holds a NaN",
                expected="finite numbers", actual=values(node), site=node.site,
                remedy="the NaN comes from outside (data, parameters, or computed before anomaly mode): check it there",
            )  # fmt: skip
        if not nan and any(i for _, i in given):
            return
        raise NumericalError(
            f"{node.op.name} made the first {what(nan)}",
            expected="finite numbers",
            actual=values(node),
            remedy=REMEDIES.get(node.op.name, ""),
            site=node.site,
        )

    def before_backward(self, node: Any, g: Any) -> None:
        nan, infinite = bad(g)
        if nan or infinite:
            raise NumericalError(
                f"backward: the gradient at the result of {node.op.name} holds the first {what(nan)}",
                expected="finite numbers",
                actual=f"a sum of finite gradients, or the one given to backward, is not; {spec_of(node.value)!r}",
                site=node.site,
            )
        self.rule_of = node

    def after_backward(self, node: Any, index: int, g: Any) -> None:
        if index == max(i for i, x in enumerate(node.inputs) if x.requires_grad):
            self.rule_of = None
        nan, infinite = bad(g)
        if nan or infinite:
            name = argument_names(node.op, len(node.inputs))[index]
            raise self.in_backward(node, nan, f"the gradient of {name}", node.inputs)

    def in_backward(self, node: Any, nan: bool, where: str, inputs: Any) -> NumericalError:
        self.rule_of = None
        return NumericalError(f"backward: the rule of {node.op.name} made the first {what(nan)}: {where}",
                              expected="finite gradients", actual=values(node) if inputs else "",
                              remedy=REMEDIES.get(node.op.name, ""), site=node.site)  # fmt: skip


REMEDIES = {
    "log": "its argument must be positive: mg.log(x + small), mg.log1p, or mg.log_softmax for probabilities",
    "sqrt": "its slope at 0 is infinite: mg.sqrt(x + small)",
    "divide": "the divisor is 0 somewhere: add a small number, or choose with mg.where before dividing, not after",
    "exp": "its argument is too large: subtract the maximum first (mg.logsumexp, mg.softmax do)",
    "pow": "a negative number to a fractional power is NaN, and the slope at 0 may be infinite",
}


class detect_anomaly(modified):
    """Context manager: raise at the first NaN or infinity, forward or backward, naming the operation and your line.

    Slow (every value is looked at): switch it on when something has gone wrong. The forward pass must run inside it, so
    that the lines are known.

    Raises:
        NumericalError: at the operation that made the first NaN or infinity.

    >>> with mg.debug.detect_anomaly():
    ...     mg.log(mg.tensor([1.0, -1.0]))
    Traceback (most recent call last):
    minigraph.errors.NumericalError: log made the first NaN
    ...
    """

    def __enter__(self) -> Any:
        self.changes = {"sites": True, "hooks": (*(mode.get() or ORDINARY).hooks, Watch())}
        self.quiet = np.errstate(all="ignore")  # our error replaces NumPy's warnings
        self.quiet.__enter__()
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.quiet.__exit__(*exc)  # type: ignore[arg-type]
