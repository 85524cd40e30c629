"""One module for each framework, written the way its users write a training step.

A peer's module has one function for each family of workloads it takes part in, named after the family::

    def mlp(problem: Classification, mode: str) -> Step: ...

It may prepare whatever it likes (weights, optimiser state, compiled functions) and returns ``step``: a function
without arguments that does one whole training step (forward, backward, update) and returns the loss as a Python float,
so that no work is left pending when the clock stops. ``mode`` is one of the variants that the table's contender lists,
for example "dynamic" and "static", or "plain" and "fused"; a function returns None for a mode that would change
nothing. A peer without a function for a family sits that workload out.
"""

from collections.abc import Callable

Step = Callable[[], float]
