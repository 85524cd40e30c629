"""The statistics: medians of per-round ratios.

Two programs that ran seconds apart on a shared machine cannot be compared by their times: the machine was faster for
one. Within a round, which is short, both meet the same machine. So each round gives a ratio, and the median of the
ratios is reported with the lowest and the highest.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Speed relative to the base: above 1 is faster than it."""

    median: float
    low: float
    high: float


def speed(base: Sequence[float], other: Sequence[float]) -> Ratio:
    """Compare the times of a step in the same rounds; both in seconds.

    >>> speed([4.0, 8.0, 4.0], [2.0, 2.0, 2.0])
    Ratio(median=2.0, low=2.0, high=4.0)
    """
    ratios = [b / o for b, o in zip(base, other, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def losses_difference(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The larger relative difference of the first and the last loss (steps 1 and 5); infinite for a loss that is NaN.

    >>> losses_difference([2.0, 1.9, 1.5], [2.0, 7.0, 1.875])
    0.25
    """
    differences = [abs(actual[i] - expected[i]) / abs(expected[i]) for i in (0, -1)]
    return max(math.inf if math.isnan(d) else d for d in differences)
