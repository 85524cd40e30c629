"""How many threads share large loops and products, and from which size on.

There is one pool of threads in a native program: OpenMP's. While it runs, BLAS is told to use the thread that calls it,
because two pools that wait actively take the processors from each other. Small work stays on one thread: starting the
others takes some microseconds.
"""

from __future__ import annotations

import os

WORTH = 40_000  # nanoseconds of work from which on it is shared


def threads() -> int:
    """How many threads a large loop is shared between: `MINIGRAPH_THREADS`, or the processors that we may use."""
    chosen = os.environ.get("MINIGRAPH_THREADS")
    if chosen is not None:
        return max(1, int(chosen))
    affinity = getattr(os, "sched_getaffinity", None)
    return min(8, len(affinity(0)) if affinity is not None else os.cpu_count() or 1)
