"""From a graph to something that runs: passes, schedule, memory plan, code.

`optimize` applies the passes, each a named function `Graph -> Graph` that keeps what it changed. `Executable` schedules
the result, plans its memory, writes a Python function as text and calls it. Each stage can be called by itself and its
result looked at.
"""

from ..graph import substitute
from .explain import Explanation
from .memory import MemoryPlan, plan_memory
from .passes import (
    Change,
    Step,
    default_passes,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    fold_constants,
    fuse,
    optimize,
    reduce_strength,
    simplify,
)
from .passes.rematerialize import rematerialize
from .prepare import Program
from .profile import Profile
from .program import NativeProgram
from .roofline import Roofline, roofline
from .run import Executable
from .schedule import schedule
from .toolchain import find_compiler

__all__ = [
    "Change", "Executable", "Explanation", "MemoryPlan", "NativeProgram", "Profile", "Program", "Roofline", "Step",
    "default_passes", "eliminate_common_subexpressions", "eliminate_dead_code", "find_compiler", "fold_constants",
    "fuse", "optimize", "plan_memory", "reduce_strength", "roofline", "schedule", "simplify", "substitute",
]  # fmt: skip
