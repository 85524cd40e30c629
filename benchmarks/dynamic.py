"""The table of dynamic mode: ``python -m benchmarks.dynamic`` (``--quick`` for a fast look, ``--readme`` to publish).

Dynamic mode is what everybody uses first, and it is a program in Python over NumPy: can it keep up with PyTorch's eager
mode? On small networks the arithmetic takes a fraction of a step, the rest is the framework's own work.
"""

import sys

from .command import run
from .harness import Contender
from .report import Table

MINIGRAPH = Contender("minigraph dynamic", "minigraph", ("dynamic",))
TABLE = Table(
    name="dynamic",
    contenders=(
        Contender("PyTorch eager", "torch", ("plain", "fused")),
        MINIGRAPH,
        Contender("JAX jit", "jax", ("jit",)),
        Contender("HIPS autograd", "autograd", ("plain",)),
        Contender("MyGrad", "mygrad", ("plain",)),
    ),
    ours=MINIGRAPH,
    targets={"mlp64": 2.2, "mlp1024": None, "qnet": 3.5, "chain": 1.5},
    memory_target=1 / 3,
    products=("products64", "products1024"),
)

if __name__ == "__main__":
    sys.exit(run(TABLE))
