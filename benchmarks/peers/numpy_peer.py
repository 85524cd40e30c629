"""NumPy alone: only the matrix products, to show how much of a ratio is the BLAS library and not the framework."""

from ..problems import Products
from . import Step


def products(problem: Products, mode: str) -> Step:
    pairs = problem.pairs

    def step() -> float:
        for a, b in pairs:
            c = a @ b
        return float(c[0, 0])

    return step
