"""The table of static mode: ``python -m benchmarks.static`` (``--quick`` for a fast look, ``--readme`` to publish).

Here the whole training step, update included, is one generated function. The rows go from steps that are all overhead
(a Q-network, a thousand additions of 16 numbers) to steps that are all arithmetic (LeNet, LSTM, GPT), where what counts
is fusion, memory traffic and the library of matrix products. The same table has the program in NumPy, which is what
runs where there is no C compiler. Below it stand how far each step is from the limits of the machine, and the seconds
it takes to compile.
"""

import sys
from typing import Any

from . import compiling, limits
from .command import run
from .harness import Contender
from .report import Results, Table


def appendix(results: Results, quick: bool) -> tuple[str, dict[str, Any]]:
    """The further tables, and their numbers."""
    distances, found = limits.appendix(results, quick)
    times, measured = compiling.appendix(list(results), quick)
    return f"{distances}\n\n{times}", {"limits": found, **measured}


MINIGRAPH = Contender("minigraph C", "minigraph", ("c",))
PLAN = Contender("minigraph NumPy", "minigraph", ("numpy",))
TABLE = Table(
    name="static",
    contenders=(
        Contender("PyTorch eager", "torch", ("plain", "fused")),
        MINIGRAPH,
        PLAN,
        Contender("torch.compile", "torch", ("compile",)),
        Contender("JAX jit", "jax", ("jit",)),
        Contender("HIPS autograd", "autograd", ("plain",)),
    ),
    ours=MINIGRAPH,
    targets={
        "mlp64": 6.0,
        "mlp1024": 2.2,
        "qnet": 20.0,
        "elementwise1k": 7.0,
        "elementwise4m": 8.0,
        "lenet": 0.9,
        "lstm": 1.0,
        "lstm_by_hand": 3.0,
        "gpt": 2.2,
        "chain": 150.0,
    },
    memory_target=1 / 3,
    products=("products64", "products1024"),
    other_targets={PLAN.title: {"mlp64": 3.0, "qnet": 5.0}},
    appendix=appendix,
)

if __name__ == "__main__":
    sys.exit(run(TABLE))
