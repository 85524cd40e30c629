"""Gradient clipping: keep a step from being thrown far away by one large gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ArgumentError
from ..interrupt import held
from ..ops import clip, minimum, sqrt
from ..tensor import Tensor
from ..variable import Variable


def clip_grad_norm_(parameters: Iterable[Variable], max_norm: float) -> Tensor:
    """Scale all gradients together so that their joint 2-norm is at most `max_norm`; returns the norm before (0-d).

    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", 2013.

    >>> w = mg.nn.Parameter([3.0, 4.0])
    >>> (w * w).sum().backward()
    >>> mg.optim.clip_grad_norm_([w], 1.0)
    tensor(10., dtype=float32)
    >>> w.grad
    tensor([0.6, 0.8], dtype=float32)
    """
    if not max_norm > 0:
        raise ArgumentError("clip_grad_norm_: max_norm", expected="a number > 0", actual=f"{max_norm}")
    found = [(p, p.grad) for p in parameters if p.grad is not None]
    if not found:
        raise ArgumentError("clip_grad_norm_: no parameter has a gradient", remedy="call loss.backward() first")
    total = sqrt(sum((g * g).sum() for _, g in found))
    scale = minimum(max_norm / (total + 1e-6), 1.0)
    assign([(p, g * scale) for p, g in found])
    return total


def assign(gradients: Sequence[tuple[Variable, Tensor]]) -> None:
    """Give variables their new gradients: all of them, also when somebody presses Ctrl-C on the way."""
    with held():
        for p, g in gradients:
            p.grad = g


def clip_grad_value_(parameters: Iterable[Variable], clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value].

    >>> w = mg.nn.Parameter([3.0, -0.1])
    >>> (w * w).sum().backward()
    >>> mg.optim.clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([ 1. , -0.2], dtype=float32)
    """
    if not clip_value > 0:
        raise ArgumentError("clip_grad_value_: clip_value", expected="a number > 0", actual=f"{clip_value}")
    assign([(p, clip(g, -clip_value, clip_value)) for p in parameters if (g := p.grad) is not None])
