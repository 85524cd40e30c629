"""What `compiled.explain()` says of a program on a GPU: its launches, what is left to CuPy and why, its CUDA graphs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..op import spec_of
from ..tensor import Tensor
from .cuda_program import Call, CudaProgram
from .explain import Part, kind_of, memory_of, passes_of, variables_of
from .loops import DTYPES, addressing, elementwise, reduces
from .nested import NESTED

SHAPES = (
    "map: a thread for each point; rows: a warp or a block for each row; columns: a thread for each column and chunk; "
    "scatter: a thread for all points that may meet; finish: partial results put together; "
    "random: a thread for eight words"
)


def launches_of(program: CudaProgram) -> Part:
    """The functions and their grids; those that are launched in the same way are one line."""
    starts = [s for segment in program.segments if not isinstance(segment, Call) for s in segment]
    counted = Counter((s.name, f"{s.blocks} x {s.threads}") for s in starts)
    rows = tuple((name, str(times), grid) for (name, grid), times in counted.items())
    return Part("functions", ("function", "launches", "blocks x threads"), rows, SHAPES if rows else "")


def calls_of(program: CudaProgram) -> Part:
    rows = Counter((c.node.op.name, kind_of(c.node), why(c.node)) for c in program.segments if isinstance(c, Call))
    found = tuple((name, kind, str(times), reason) for (name, kind, reason), times in rows.items())
    return Part("left to CuPy", ("operation", "result", "calls", "why"), found, "" if found else "everything is CUDA C")


def why(n: Tensor) -> str:
    """Why an operation is left to CuPy."""
    if n.op.name == "matmul":
        return "matrix products are cuBLAS's"
    if n.op.name in NESTED:
        return "loops and branches run from Python"
    other = [x.dtype for x in (n, *n.inputs) if type(x.value) is not tuple and spec_of(x.value).dtype not in DTYPES]
    if other:
        return f"there is no CUDA C for {other[0]}"
    if elementwise(n) or reduces(n) or addressing(n) is not None:
        return "its expression, or how its operands lie, has no CUDA C"
    return "it is neither elementwise nor a reduction"


def graphs_of(native: Any) -> Part:
    """What is replayed, as far as it has run."""
    rows = [len(s) for s in native.program.segments if not isinstance(s, Call)]
    alone = sum(n == 1 for n in rows)
    said = [f"{len(rows)} rows of launches, {sum(rows)} launches in all"]
    if alone:
        said.append(f"{alone} of one launch, which needs no graph")
    said.append(f"{native.captured} captured" if native.refusal is None else f"capturing failed: {native.refusal}")
    return Part("CUDA graphs", (), (), "; ".join(said))


def cuda_parts(program: Any) -> list[Part]:
    """The parts of the page."""
    native = program.native
    return [
        passes_of(program), launches_of(native.program), calls_of(native.program), graphs_of(native),
        memory_of(program), variables_of(native.program),
    ]  # fmt: skip
