"""Learning-rate schedules: how the rate changes from step to step, with PyTorch's names.

A schedule is a function of the step number alone, so resuming one needs only that number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, DTypeError
from ..interrupt import held
from ..ops.common import integer, shown
from ..variable import Variable
from .optimizer import Optimizer


class Schedule:
    """Base: after each `step()`, the rate of every group is its first rate times `factor(step number)`.

    Args:
        optimizer: whose learning rates to set. They are set at once, for step 0.

    >>> class Halving(mg.optim.Schedule):
    ...     def factor(self, step):
    ...         return 0.5**step
    >>> schedule = Halving(mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0))
    >>> schedule.step()
    >>> schedule
    Halving(step 1, lr=0.5)
    """

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(
                f"{type(self).__name__}: optimizer", expected="a mg.optim optimizer", actual=shown(optimizer)
            )
        self.optimizer = optimizer
        self.first = [group.lr.item() for group in optimizer.groups]
        self.steps = Variable(0, name="schedule.steps")
        self._set()

    def factor(self, step: int) -> float:
        """The rate at `step`, as a multiple of the first one."""
        raise NotImplementedError

    def rate(self, step: int, first: float) -> float:
        """The rate at `step` of a group whose first one is `first`."""
        return first * self.factor(step)

    def step(self) -> None:
        """Go to the next step. Call it outside of compiled functions: the rate is a variable, so they see it."""
        with held():
            self.steps.assign(self.steps + 1)
            self._set()

    def _set(self) -> None:
        step = int(self.steps.item())
        for group, first in zip(self.optimizer.groups, self.first, strict=True):
            group.lr.assign(float(self.rate(step, first)))

    @property
    def lr(self) -> float:
        """The current learning rate (of the first group)."""
        return self.optimizer.lr

    def state_dict(self) -> dict[str, Any]:
        """The step number and the first rates."""
        return {"steps": int(self.steps.item()), "first": list(self.first)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.first = [float(x) for x in state["first"]]
        self.steps.assign(int(state["steps"]))
        self._set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(step {self.steps.item()}, lr={self.lr:g})"


class LambdaLR(Schedule):
    """The rate is the first rate times `lr_lambda(step)`.

    >>> optimizer = mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0)
    >>> schedule = mg.optim.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    >>> schedule.step()
    >>> optimizer.lr
    0.5
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.lr_lambda(step)


class StepLR(Schedule):
    """The rate is multiplied by `gamma` every `step_size` steps.

    >>> optimizer = mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0)
    >>> schedule = mg.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(round(optimizer.lr, 3))
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        step_size = integer("StepLR", "step_size", step_size, 1)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.gamma ** (step // self.step_size)


class ExponentialLR(Schedule):
    """The rate is multiplied by `gamma` at every step.

    >>> optimizer = mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0)
    >>> schedule = mg.optim.ExponentialLR(optimizer, gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(round(optimizer.lr, 3))
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.gamma**step


class LinearLR(Schedule):
    """A warm-up: the factor goes in a straight line from `start_factor` to `end_factor` in `total_iters` steps.

    >>> optimizer = mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0)
    >>> schedule = mg.optim.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(round(optimizer.lr, 3))
    ...     schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ):
        total_iters = integer("LinearLR", "total_iters", total_iters, 1)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return (
            self.start_factor + (self.end_factor - self.start_factor) * min(step, self.total_iters) / self.total_iters
        )


class CosineAnnealingLR(Schedule):
    """Half a cosine from the first rate to `eta_min` in `T_max` steps, then `eta_min` (I. Loshchilov, F. Hutter, 2017).

    >>> optimizer = mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0)
    >>> schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(round(optimizer.lr, 3))
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.0, 0.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        T_max = integer("CosineAnnealingLR", "T_max", T_max, 1)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, step: int, first: float) -> float:
        high = (1 + math.cos(math.pi * min(step, self.T_max) / self.T_max)) / 2
        return self.eta_min + (first - self.eta_min) * high


class SequentialLR(Schedule):
    """Several schedules one after another: `schedules[k]` from step `milestones[k - 1]` on, counting from there.

    >>> optimizer = mg.optim.SGD([mg.nn.Parameter(0.0)], lr=1.0)
    >>> warm = mg.optim.LinearLR(optimizer, 0.5, total_iters=2)
    >>> schedule = mg.optim.SequentialLR(optimizer, [warm, mg.optim.ExponentialLR(optimizer, 0.5)], milestones=[2])
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, schedules: Sequence[Schedule], milestones: Sequence[int]):
        if len(schedules) != len(milestones) + 1 or list(milestones) != sorted(milestones):
            raise ArgumentError(
                "SequentialLR: one schedule more than milestones, in order",
                actual=f"{len(schedules)} schedules, {milestones}",
            )
        self.schedules, self.milestones = list(schedules), list(milestones)
        for group, first in zip(optimizer.groups, schedules[0].first, strict=True):
            group.lr.assign(float(first))
        super().__init__(optimizer)

    def rate(self, step: int, first: float) -> float:
        k = sum(step >= m for m in self.milestones)
        return self.schedules[k].rate(step - (self.milestones[k - 1] if k else 0), first)
