"""The process that holds one training step and times it when asked.

``python -m benchmarks.worker torch fused mlp64`` builds the step, runs it five times and answers with one line of JSON:
seconds to import, to the first step and within it, and the five losses. From then on every line on standard input is a
number of seconds; the worker repeats the step for that long and answers with the median time of a step and its peak
memory so far. It ends with its input. Between two bursts it waits for input and takes no processor time, so that many
workers can share a machine and be measured in turn.
"""

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKED_STEPS = 5


def build(peer: str, mode: str, workload: str) -> tuple[Callable[[], float] | None, dict[str, Any]]:
    """The step, and what is known of it before it is timed; None if the peer does not offer this workload or mode."""
    begin = time.perf_counter()
    module = importlib.import_module(f"{__package__}.peers.{peer}_peer")
    imported = time.perf_counter()
    from .problems import WORKLOADS

    family = getattr(module, WORKLOADS[workload].family, None)
    step: Callable[[], float] | None = family(WORKLOADS[workload].make(), mode) if family else None
    if step is None:
        return None, {"offered": False}
    built = time.perf_counter()
    losses = [step()]
    first = time.perf_counter()
    losses += [step() for _ in range(CHECKED_STEPS - 1)]
    return step, {
        "offered": True,
        "import_seconds": imported - begin,
        "first_step_seconds": first - imported,
        "first_call_seconds": first - built,
        "losses": losses,
    }


def burst(step: Callable[[], float], seconds: float) -> dict[str, Any]:
    """Repeat the step for so many seconds, three times at least; a few interrupted steps do not move the median."""
    clock = time.perf_counter
    times: list[float] = []
    end = clock() + seconds
    while len(times) < 3 or clock() < end:
        begin = clock()
        step()
        times.append(clock() - begin)
    return {"seconds": statistics.median(times), "steps": len(times), "peak_memory": peak_memory()}


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes.

    Linux's ``ru_maxrss`` starts at the size of the *parent*, which ``exec`` hands on, so its own record is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(peer: str, mode: str, workload: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error, and cannot be taken for an answer
    step, facts = build(peer, mode, workload)
    print(json.dumps(facts), file=answers, flush=True)
    if step is None:
        return
    for line in sys.stdin:
        print(json.dumps(burst(step, float(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
