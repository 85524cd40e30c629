"""The models of the case studies, step by step beside PyTorch and JAX: the same weights, batches and losses.

A case study defines its model in its notebook, where a reader meets it. Cells that only define (tagged `define`) are
run here, so that what is tested and measured is what the notebook shows. Each module of this package is the twin of one
notebook and offers

    steps(peer, count=None) -> a function that trains one step on the next batch and returns its loss

for the peers `dynamic`, `static`, `torch`, `torch.compile` and `jax`: all start from the same weights and see the same
batches. `tests/test_studies.py` compares their losses, `python -m benchmarks.studies` their speed.
"""

import json
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[2] / "notebooks" / "case_studies"


def definitions(stem: str) -> dict[str, Any]:
    """The names that the cells tagged `define` of a case study define."""
    notebook = json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": stem}
    for number, cell in enumerate(notebook["cells"]):
        if "define" in cell["metadata"].get("tags", []):
            exec(compile("".join(cell["source"]), f"{stem}.ipynb, cell {number}", "exec"), namespace)
    return namespace
